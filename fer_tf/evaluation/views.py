"""Test-time augmentation: the mean of a model's probabilities over several views of an image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

TTA_SHIFT = 2  # pixels of 48


def tta_views(images: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the views of test-time augmentation: the image and four shifted copies, each also mirrored.

    Args:
        images: uint8 (n, height, width).

    Yields:
        Ten arrays like `images`, the unchanged one first. Shifts repeat the pixels of the edge.
    """
    height, width = images.shape[1:]
    padded = np.pad(images, ((0, 0), (TTA_SHIFT, TTA_SHIFT), (TTA_SHIFT, TTA_SHIFT)), mode="edge")
    for down, right in ((0, 0), (TTA_SHIFT, 0), (-TTA_SHIFT, 0), (0, TTA_SHIFT), (0, -TTA_SHIFT)):
        top, left = TTA_SHIFT - down, TTA_SHIFT - right
        view = padded[:, top : top + height, left : left + width]
        yield view
        yield view[:, :, ::-1]
