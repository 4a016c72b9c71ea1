"""Test-time augmentation: the views of an image whose probabilities are averaged."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

TTA_SHIFT = 2  # pixels of 48


def tta_views(images: np.ndarray) -> Iterator[np.ndarray]:
    """The views whose probabilities test-time augmentation averages: as it is and shifted four ways, each mirrored too.

    Args:
        images: uint8 (n, height, width).

    Yields:
        Ten arrays like `images`; a shift repeats the edge pixels.
    """
    height, width = images.shape[1:]
    padded = np.pad(images, ((0, 0), (TTA_SHIFT, TTA_SHIFT), (TTA_SHIFT, TTA_SHIFT)), mode="edge")
    for down, right in ((0, 0), (TTA_SHIFT, 0), (-TTA_SHIFT, 0), (0, TTA_SHIFT), (0, -TTA_SHIFT)):
        top, left = TTA_SHIFT - down, TTA_SHIFT - right
        view = padded[:, top : top + height, left : left + width]
        yield view
        yield view[:, :, ::-1]
