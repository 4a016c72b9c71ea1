"""Stage 1: published formats -> checked arrays -> model input."""
