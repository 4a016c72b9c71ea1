"""Text and figures of a run, and of runs side by side."""
