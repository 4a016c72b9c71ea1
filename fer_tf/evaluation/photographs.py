"""Accuracy on photographs that are corrupted before detection and cropping."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from fer_tf.evaluation.robustness import NUM_STRENGTHS, STRENGTHS, corrupt, right_answers, summarize
from fer_tf.faces import find_faces
from fer_tf.faces.crops import Box
from fer_tf.text import percent

_SURROUNDINGS = 3  # side of the cut-out part of the photograph, divided by the side of the face


@dataclasses.dataclass(frozen=True)
class LabelledFace:
    """A face with known place and class.

    Attributes:
        photograph: uint8 RGB (_SURROUNDINGS * side, same, 3); the face fills the square of `side` pixels in the middle.
        side: side of the face, pixels.
        label: class of the face.
    """

    photograph: np.ndarray
    side: int
    label: int


def cut_out(photograph: np.ndarray, box: Box, label: int) -> LabelledFace:
    """Cut a face with its surroundings out of a photograph; beyond the photograph, repeat its edge.

    Args:
        photograph: uint8 RGB (height, width, 3).
        box: left, top, width and height of the square that the face fills, pixels.
        label: class of the face.
    """
    left, top, side, _ = box
    margin = side * (_SURROUNDINGS - 1) // 2
    padded = np.pad(photograph, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    return LabelledFace(padded[top : top + side + 2 * margin, left : left + side + 2 * margin], side, label)


def measure_photographs(
    predict: Callable[[np.ndarray], np.ndarray],
    faces: Sequence[LabelledFace],
    *,
    seed: int = 0,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Measure detection and accuracy on photographs that are corrupted before face detection.

    A face that is not found counts as a wrong answer.

    Args:
        predict: takes uint8 (n, 48, 48), returns probabilities (n, C).
        faces: faces from `cut_out`.
        seed: seed of the corruptions and of the bootstrap.
        on_progress: called with the number of photographs searched since the last call; `NUM_COPIES` for each face.

    Returns:
        The result of `measure_corruptions`; also `found_clean` (share of faces found without corruption), and for each
        of `kinds` the five shares of faces `found`.

    Raises:
        InputError: if the detector is not installed.
    """
    labels = np.array([face.label for face in faces])

    def answers(kind: str = "", strength: int = 0) -> tuple[np.ndarray, np.ndarray]:
        crops = []
        for place, face in enumerate(faces):  # one photograph at a time: the copies of all would fill the memory
            photograph = face.photograph
            if kind:
                photograph = corrupt(photograph[None], kind, strength, seed=seed + place, face_side=face.side)[0]
            crops.append(_crop(photograph, face.side))
            if on_progress:
                on_progress(1)
        return _answers(predict, crops, labels)

    clean, found_clean = answers()
    right = np.zeros((1, len(STRENGTHS), NUM_STRENGTHS, len(faces)), bool)
    found = np.zeros(right.shape[1:])
    for row, kind in enumerate(STRENGTHS):
        for column in range(NUM_STRENGTHS):
            right[0, row, column], found[row, column] = answers(kind, column + 1)
    result = summarize(clean[None], right, seed=seed)
    result["found_clean"] = float(found_clean.mean())
    for kind, row in zip(STRENGTHS, found.mean(axis=2), strict=True):
        result["kinds"][kind]["found"] = [float(share) for share in row]
    return result


def format_found(result: dict[str, Any]) -> str:
    """Format the shares of faces found by `measure_photographs` as a table of kinds and strengths."""
    width = max(len(kind) for kind in result["kinds"])
    strengths = "".join(f"{strength:>7}" for strength in range(1, NUM_STRENGTHS + 1))
    lines = [f"Faces found, in %: {percent(result['found_clean'])} without corruption", "", " " * width + strengths]
    for kind, row in result["kinds"].items():
        lines.append(f"{kind:<{width}}" + "".join(f"{100 * share:7.1f}" for share in row["found"]))
    return "\n".join([*lines, ""])


def _answers(
    predict: Callable[[np.ndarray], np.ndarray], crops: Sequence[np.ndarray | None], labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return 1 for each face that is found and classified right, and True for each face that is found (has a crop)."""
    found = np.array([crop is not None for crop in crops])
    right = np.zeros(len(crops))
    if found.any():
        right[found] = right_answers(predict, np.stack([crop for crop in crops if crop is not None]), labels[found])
    return right, found


def _crop(photograph: np.ndarray, side: int) -> np.ndarray | None:
    """Return the crop of the largest face whose middle is in the middle square, uint8 (48, 48)."""
    low, high = (len(photograph) - side) / 2, (len(photograph) + side) / 2
    for face in find_faces(Image.fromarray(photograph), mode="detect"):
        left, top, width, height = face.box
        if low <= left + width / 2 <= high and low <= top + height / 2 <= high:
            return face.crop
    return None
