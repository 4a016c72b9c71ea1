"""Finds the faces in a photograph; needs OpenCV (extra `faces`)."""

from __future__ import annotations

import dataclasses
import os
import threading
from typing import Any

import numpy as np
from PIL import Image

from fer_tf.errors import InputError
from fer_tf.faces.crops import Box, crop_area, to_grey48

MAX_CROP_SIDE = 64  # pixels: a picture of at most this width and height is a face crop already
# Finds as many faces as haarcascade_frontalface_default.xml, with 1 false alarm instead of 17 in 27 pictures.
_CASCADE = "haarcascade_frontalface_alt2.xml"
_SEARCH_SIDE = 1024  # pixels: larger pictures are reduced to it, so their smallest faces are not found
_SMALLEST_FACE = 32  # pixels, in the reduced picture
# Border of repeated edge pixels, as a part of the shorter side: with it 73 % instead of 61 % of the faces that fill a
# picture are found.
_BORDER = 0.1
_SCALE_STEP = 1.1  # ratio of successive face sizes that are searched
_MIN_NEIGHBOURS = 3  # overlapping hits that count as a face
_thread = threading.local()  # holds a cascade for each thread, since two threads cannot share one


@dataclasses.dataclass(frozen=True)
class Face:
    """One face of a picture.

    Attributes:
        box: left, top, width and height in pixels of the upright picture.
        crop: uint8 (48, 48), grey, as the network sees it.
    """

    box: Box
    crop: np.ndarray


def find_faces(image: Image.Image, *, detect: bool = True) -> list[Face]:
    """Find the faces of a picture, the largest first.

    A picture of at most 64x64 pixels is taken as a face crop.

    Args:
        image: an upright picture, as `open_image` returns it.
        detect: False to take a picture of any size as a crop of one face.

    Returns:
        The faces; an empty list if the detector finds none.

    Raises:
        InputError: if the detector is needed and the `faces` extra is not installed.
    """
    if not detect or max(image.size) <= MAX_CROP_SIDE:
        side = min(image.size)
        return [Face(((image.width - side) // 2, (image.height - side) // 2, side, side), to_grey48(image))]
    return [Face(box, to_grey48(image.crop(crop_area(box, image.size)))) for box in detect_faces(image)]


def detect_faces(image: Image.Image) -> list[Box]:
    """Find frontal faces with OpenCV's Haar cascade (Viola and Jones, 2001), the largest first.

    Args:
        image: an upright picture.

    Returns:
        (left, top, width, height) of each face, in pixels, within the picture.

    Raises:
        InputError: if the `faces` extra is not installed.
    """
    reduction = max(1.0, max(image.size) / _SEARCH_SIDE)
    grey = image.convert("L")
    if reduction > 1:
        reduced = (max(1, round(image.width / reduction)), max(1, round(image.height / reduction)))
        grey = grey.resize(reduced, Image.Resampling.BOX)
    border = round(min(grey.size) * _BORDER)
    found = _cascade().detectMultiScale(
        np.pad(np.asarray(grey), border, mode="edge"),
        scaleFactor=_SCALE_STEP,
        minNeighbors=_MIN_NEIGHBOURS,
        minSize=(_SMALLEST_FACE, _SMALLEST_FACE),
    )
    boxes = []
    for x, y, width, height in found:
        left, top = max(0, round((x - border) * reduction)), max(0, round((y - border) * reduction))
        right = min(image.width, round((x - border + width) * reduction))
        bottom = min(image.height, round((y - border + height) * reduction))
        boxes.append((left, top, right - left, bottom - top))
    return sorted(boxes, key=lambda box: (-box[2] * box[3], box))


def _cascade() -> Any:
    if not hasattr(_thread, "cascade"):
        mend = "pip install 'fer_tf[faces]', or take each picture as one face by --no-detect"
        try:
            import cv2
        except ImportError:
            raise InputError(f"finding faces in a picture needs OpenCV: {mend}") from None
        if not hasattr(cv2, "CascadeClassifier"):  # OpenCV 5 ships neither the class nor the file
            raise InputError(f"finding faces needs OpenCV 4, this is {cv2.__version__}: {mend}")
        cascade = cv2.CascadeClassifier(os.path.join(os.path.dirname(cv2.__file__), "data", _CASCADE))
        if cascade.empty():
            raise InputError(f"this OpenCV {cv2.__version__} comes without {_CASCADE}: {mend}")
        _thread.cascade = cascade
    return _thread.cascade
