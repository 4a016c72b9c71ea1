"""Data sets: reading, choosing rows, audit, augmentation, preprocessing, and the pipelines that feed training."""
