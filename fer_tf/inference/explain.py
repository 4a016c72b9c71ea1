"""Occlusion sensitivity: shows where a model's score depends on the picture, with calls of the model only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fer_tf.errors import InputError
from fer_tf.task import IMAGE_SIZE

PATCH = 12  # pixels; a side of the covered square
STEP = 3  # pixels between neighbouring squares
_BLUR, _MARGIN = 8, 16  # pixels


def occlusion_map(
    predict: Callable[[np.ndarray], np.ndarray], crop: np.ndarray, *, label: int | None = None
) -> np.ndarray:
    """Measure how much the score of a class falls when parts of a face are covered (Zeiler & Fergus 2014).

    A square of blurred pixels slides over the crop. A pixel's value is the mean fall of the score over all squares that
    cover it.

    The map says which parts of this picture this model's score depends on. It does not say why, nor that these parts
    show the emotion, nor that the answer is right: the map of a wrong answer looks just as sensible. The model never
    saw covered faces, so a part of the fall may come from the cover itself. Parts that matter only together stay dark,
    because only one square is covered at a time. Squares of another size give another map, and details smaller than a
    square cannot be told apart. Do not read a person's feelings from the map.

    Args:
        predict: takes uint8 (n, 48, 48), returns probabilities (n, classes).
        crop: uint8 (48, 48), grey.
        label: the class whose score is followed; the predicted class if None.

    Returns:
        float64 (48, 48), the mean fall of the score in [-1, 1]; positive where covering lowers the score.

    Raises:
        InputError: if the crop has another shape or type, or the model does not have the label.
    """
    if not isinstance(crop, np.ndarray) or crop.dtype != np.uint8 or crop.shape != (IMAGE_SIZE, IMAGE_SIZE):
        received = f"{crop.dtype} {crop.shape}" if isinstance(crop, np.ndarray) else type(crop).__name__
        raise InputError(f"crop is {received}: expected uint8 ({IMAGE_SIZE}, {IMAGE_SIZE})")
    # Squares reach beyond the edge, so that each pixel lies in equally many of them.
    starts = range(STEP - PATCH, IMAGE_SIZE, STEP)
    masks = np.zeros((len(starts) ** 2, IMAGE_SIZE, IMAGE_SIZE), bool)
    for place, (top, left) in enumerate((top, left) for top in starts for left in starts):
        masks[place, max(top, 0) : top + PATCH, max(left, 0) : left + PATCH] = True
    probabilities = predict(np.concatenate([crop[None], np.where(masks, baseline(crop), crop)]))
    if label is None:
        label = int(probabilities[0].argmax())
    if not 0 <= label < probabilities.shape[1]:
        raise InputError(f"label {label}: expected 0 to {probabilities.shape[1] - 1}")
    fall = probabilities[0, label] - probabilities[1:, label].astype(np.float64)
    return np.tensordot(fall, masks, axes=1) / masks.sum(axis=0)


def baseline(crop: np.ndarray) -> np.ndarray:
    """Return the cover for parts of a crop: the crop itself, blurred until no feature is left.

    The edges of a plain grey square would look like features; the blurred crop keeps the local brightness.

    Args:
        crop: uint8 (48, 48).

    Returns:
        uint8 (48, 48).
    """
    from PIL import Image, ImageFilter

    padded = np.pad(crop, _MARGIN, mode="edge")
    blurred = np.asarray(Image.fromarray(padded).filter(ImageFilter.GaussianBlur(_BLUR)), dtype=np.uint8)
    return blurred[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


def deletion_scores(
    predict: Callable[[np.ndarray], np.ndarray],
    crop: np.ndarray,
    order: np.ndarray,
    *,
    label: int,
    num_steps: int = 16,
) -> np.ndarray:
    """Cover a face bit by bit in a given order and follow the score (the deletion test of Petsiuk et al. 2018).

    Args:
        predict: takes uint8 (n, 48, 48), returns probabilities (n, classes).
        crop: uint8 (48, 48).
        order: float (48, 48); pixels with larger values are covered first.
        label: the class whose score is followed.
        num_steps: number of equal steps until the whole crop is covered.

    Returns:
        float64 (num_steps + 1,): the score of the crop, from no pixel to all pixels covered.
    """
    ranks = np.empty(order.size, np.int64)
    ranks[np.argsort(-order, axis=None, kind="stable")] = np.arange(order.size)
    limits = np.linspace(0, order.size, num_steps + 1).round().astype(int)
    masks = ranks.reshape(order.shape) < limits[:, None, None]
    return predict(np.where(masks, baseline(crop), crop))[:, label].astype(np.float64)
