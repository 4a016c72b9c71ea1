"""The policy that turns a data set's pictures into crops: chosen once for the whole set, recorded, and used again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from fer_tf.errors import InputError
from fer_tf.faces.crops import CROP_FACTOR, to_grey48
from fer_tf.faces.detection import DETECT_SIDE, FACE_MODES, MIN_FACE_SCORE, MIN_FACE_SIZE, Face, find_faces
from fer_tf.faces.pictures import Picture
from fer_tf.task import MAX_CROP_SIDE

DETECTOR = "YuNet 2023mar"
NUM_SAMPLED = 200  # pictures in the sample that decides
_FULL_SIDE = 0.6  # a face fills a picture if it spans this part of the shorter side
_FULL_SHARE = 0.8  # the set counts as crops if faces fill this part of the sampled pictures


@dataclasses.dataclass(frozen=True)
class CropPolicy:
    """One rule for cropping every picture of a data set.

    Attributes:
        faces: `whole` takes each picture as a crop; `detect` takes the largest, most central face of a picture of more
            than 64 pixels.
        reason: the reason for `faces`, in words.
        detector: name of the detector; None if none is needed.
        factor: side of the crop, divided by the mean side of the detector's box.
        detect_side: for the detector, larger pictures are reduced to this longer side, pixels.
        min_score: least score of the detector, in [0, 1].
        min_size: smallest side of a face, pixels.
    """

    faces: str
    reason: str
    detector: str | None = None
    factor: float = CROP_FACTOR
    detect_side: int = DETECT_SIDE
    min_score: float = MIN_FACE_SCORE
    min_size: int = MIN_FACE_SIZE

    def crop(self, picture: Image.Image | Picture) -> np.ndarray | None:
        """Return the crop of a picture, uint8 (48, 48); None if no face is found.

        Args:
            picture: as for `find_faces`.

        Raises:
            InputError: if the detector is needed but the `faces` extra is not installed.
        """
        if self.faces == "whole":
            return to_grey48(picture.image if isinstance(picture, Picture) else picture)
        found = find_faces(picture, detect_side=self.detect_side, min_score=self.min_score, min_size=self.min_size)
        return most_prominent(found, picture.size).crop if found else None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CropPolicy:
        """Return the policy that `to_dict` described.

        Raises:
            InputError: if the values are not such a description, or describe another detector or crop.
        """
        try:
            policy = cls(**values)
        except TypeError as error:
            raise InputError(f"the recorded crop is not a policy of fer_tf ({error}): load the data anew") from error
        if policy.factor != CROP_FACTOR or policy.detector not in (None, DETECTOR) or policy.faces not in FACE_MODES:
            raise InputError(
                f"the data was cropped by {policy.detector} with the factor {policy.factor}: this fer_tf has "
                f"{DETECTOR} and {CROP_FACTOR}; use the fer_tf that recorded it"
            )
        return policy


def decide(faces: str, pictures: Sequence[Image.Image]) -> CropPolicy:
    """Decide how the pictures of a data set become crops.

    Args:
        faces: `auto` to decide by the pictures, else `whole` or `detect`.
        pictures: a sample of the set.

    Returns:
        With `auto`, `whole` if every picture has at most 64 pixels a side, or if the largest face spans 60 % of the
        shorter side or more in 80 % of the pictures; `detect` otherwise.

    Raises:
        InputError: if `faces` has another value, or the detector is needed but not installed.
    """
    if faces not in FACE_MODES:
        raise InputError(f"faces {faces!r}: expected one of {', '.join(FACE_MODES)}")
    if faces != "auto":
        return CropPolicy(faces, "as asked for", None if faces == "whole" else DETECTOR)
    if all(max(picture.size) <= MAX_CROP_SIDE for picture in pictures):
        return CropPolicy(
            "whole", f"all of {len(pictures)} sampled pictures have at most {MAX_CROP_SIDE} pixels a side"
        )
    spans = [_span(picture) for picture in pictures]
    num_full = sum(span >= _FULL_SIDE for span in spans)
    words = f"a face spans {_FULL_SIDE:.0%} of the side or more in {num_full} of {len(pictures)} sampled pictures"
    if num_full >= _FULL_SHARE * len(pictures):
        return CropPolicy("whole", words)
    return CropPolicy("detect", words, DETECTOR)


def _span(picture: Image.Image) -> float:
    """Mean side of the most prominent face, as a part of the picture's shorter side; 1 for a crop."""
    if max(picture.size) <= MAX_CROP_SIDE:
        return 1.0
    found = find_faces(picture)
    if not found:
        return 0.0
    _, _, width, height = most_prominent(found, picture.size).box
    return (width + height) / 2 / min(picture.size)


def most_prominent(found: Sequence[Face], size: tuple[int, int]) -> Face:
    """Return the largest, most central face; the area counts less if the face is farther from the picture's centre.

    Args:
        found: at least one face.
        size: width and height of the picture.
    """

    def prominence(face: Face) -> float:
        left, top, width, height = face.box
        off_centre = np.hypot((left + width / 2) / size[0] - 0.5, (top + height / 2) / size[1] - 0.5)
        return width * height * (1 - off_centre)

    return max(found, key=prominence)
