"""Photos and image files -> 48x48 grey crops, one way for training folders and prediction; the faces in photos."""

from __future__ import annotations

import dataclasses
import io
import os
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fer_tf.data.dataset import IMAGE_SIZE
from fer_tf.errors import InputError

IMAGE_FORMATS = ("PNG", "JPEG")  # what a training folder may hold
PHOTO_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")  # what can be opened for prediction
MAX_IMAGE_PIXELS = 50_000_000  # a 50-megapixel camera; checked from the header, before anything is decoded
MAX_IMAGE_BYTES = 256 << 20  # 50 million RGBA pixels that do not compress take 200 MB
MAX_JPEG_SCANS = 200  # encoders write about ten; each costs a pass over the picture, so thousands are an attack

_ORIENTATION_TAG = 0x0112  # EXIF 2.32, 4.6.4 A: where row 0 and column 0 of the stored image belong
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(path: str | os.PathLike[str], *, formats: tuple[str, ...] = PHOTO_FORMATS) -> Image.Image:
    """Opens a picture that nobody has checked, upright and in one of two modes.

    Args:
        path: an image file.
        formats: Pillow's names of the formats to accept; the file's contents decide, not its name.

    Returns:
        The decoded image, as `decode_image` describes it.

    Raises:
        InputError: if the file is missing, no picture in these formats, broken, or larger than the bounds.
    """
    path = Path(path)
    try:
        if not os.path.isfile(path):  # unlike Path's, false for a name that the system refuses
            raise InputError(f"no image file at {path}: give the path of a {_either(formats)} file")
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise InputError(f"{path}: larger than {MAX_IMAGE_BYTES >> 20} MiB; give a smaller picture")
        data = path.read_bytes()
    except OSError as error:  # an InputError, so that the other pictures of a folder are still read
        raise InputError(f"{path}: cannot be read ({error.strerror}); make it readable, or remove it") from error
    return decode_image(data, str(path), formats=formats)


def decode_image(data: bytes, name: str, *, formats: tuple[str, ...] = PHOTO_FORMATS) -> Image.Image:
    """Decodes the bytes of a picture that nobody has checked.

    The EXIF orientation is applied. Transparent parts are laid over white, as viewers show them. 16-bit grey keeps its
    high byte. Palettes, CMYK and other colour models become RGB. Of an animation the first frame is taken.

    Args:
        data: the contents of an image file.
        name: what error messages call it.
        formats: Pillow's names of the formats to accept.

    Returns:
        An image of mode L (8-bit grey) or RGB.

    Raises:
        InputError: if these are no picture in these formats, a broken one, or one of more than `MAX_IMAGE_PIXELS`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, for which the bound below is tighter; of odd EXIF
            image = Image.open(io.BytesIO(data), formats=formats)
            width, height = image.size
            if image.format == "JPEG" and data.count(b"\xff\xda") > MAX_JPEG_SCANS:
                raise ValueError(f"more than {MAX_JPEG_SCANS} JPEG scans")
            if width * height <= MAX_IMAGE_PIXELS:
                image.load()
                return _upright(_grey_or_rgb(image), _orientation(image))
    except Image.DecompressionBombError:
        pass
    except Image.UnidentifiedImageError:
        raise InputError(f"{name}: not a {_either(formats)} picture; convert it, or remove it") from None
    except Exception as error:  # Pillow's decoders raise almost any type on crafted bytes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{name}: a broken picture ({reason}); replace or remove it") from error
    raise InputError(f"{name}: more than {MAX_IMAGE_PIXELS // 10**6} million pixels; scale the picture down")


def _either(formats: tuple[str, ...]) -> str:
    return f"{', '.join(formats[:-1])} or {formats[-1]}" if len(formats) > 1 else formats[0]


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF beside sound pixels: viewers show such a picture as it is stored
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _grey_or_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion would clip at 255 in some versions
        return Image.fromarray((np.asarray(image).clip(0, 0xFFFF) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("L" if image.mode in ("L", "LA", "La") else "RGB")
    return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")


def to_grey48(image: Image.Image | np.ndarray) -> np.ndarray:
    """The 48x48 grey crop of a picture of one face: the only way from a file's or photo's pixels to the network's.

    Grey is ITU-R BT.601 luma, 0.299 R + 0.587 G + 0.114 B, as Pillow's `convert("L")` rounds it. Of a picture that is
    not square the largest centred square is kept: stretching would change the geometry that expressions consist of.
    The square is resized by Pillow's bilinear filter, which is antialiased: its support grows with the reduction.
    48x48 grey comes back unchanged, pixel by pixel.

    Args:
        image: a picture of any size; as an array uint8 (height, width), (height, width, 1) or RGB (height, width, 3),
            values in [0, 255].

    Returns:
        uint8 (48, 48), values in [0, 255].

    Raises:
        InputError: for an array of another shape or type, a picture without pixels, or something else.
    """
    if not isinstance(image, (np.ndarray, Image.Image)):
        raise InputError(f"image is {type(image).__name__}: expected a PIL image or a uint8 array")
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,)):
            raise InputError(
                f"image of type {image.dtype} and shape {image.shape}: expected uint8 (height, width), "
                "(height, width, 1) or RGB (height, width, 3)"
            )
        if image.size:  # Pillow cannot hold an empty one: refused below
            image = Image.fromarray(image[:, :, 0] if image.shape[2:] == (1,) else image)
    if 0 in (image.shape[:2] if isinstance(image, np.ndarray) else image.size):
        raise InputError("the picture has no pixels: expected at least one row and one column")
    assert isinstance(image, Image.Image)
    grey = image if image.mode == "L" else _grey_or_rgb(image).convert("L")
    side = min(grey.size)
    left, top = (grey.width - side) // 2, (grey.height - side) // 2
    square = grey.crop((left, top, left + side, top + side))
    if side != IMAGE_SIZE:
        square = square.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
    return np.array(square, dtype=np.uint8)


# --- finding the faces of a photograph (extra `faces`) ----------------------------------------------------------------

MAX_CROP_SIDE = 64  # a picture of at most this width and height is a face crop already
# Side of the crop that the network sees, in sides of the detector's box. Measured on FER-2013's PublicTest faces,
# enlarged to 144 pixels: the detector's box is 0.96 of the published crop (median of 909 found), centred within 1 %;
# and a classifier trained on the published crops is right most often on what was found at 1.04 (0.80: 56.8 %,
# 0.95: 62.8 %, 1.00: 62.9 %, 1.04: 63.4 %, 1.08: 62.8 %, 1.12: 61.8 %, 1.40: 55.1 %, of 1519 found).
CROP_MARGIN = 1.04

_CASCADE = "haarcascade_frontalface_alt2.xml"  # finds as many as _default, invents fewer: 1 against 17 in 27 pictures
_SEARCH_SIDE = 1024  # pixels: larger pictures are reduced to it; the smallest face that is found scales along
_SMALLEST_FACE = 32  # pixels, in the reduced picture
_BORDER = 0.1  # of the shorter side, edge pixels repeated: finds 73 % instead of 61 % of the faces that fill a picture
_SCALE_STEP = 1.1  # between the sizes that are searched
_MIN_NEIGHBOURS = 3  # overlapping hits that make a face
_BOX_COLOUR, _TEXT_COLOUR = (255, 210, 0), (0, 0, 0)
_thread = threading.local()  # a cascade may be used by one thread at a time


@dataclasses.dataclass(frozen=True)
class Face:
    """One face of a picture.

    Attributes:
        box: left, top, width and height in pixels of the upright picture.
        crop: uint8 (48, 48), grey: what the network sees.
    """

    box: tuple[int, int, int, int]
    crop: np.ndarray


def find_faces(image: Image.Image, *, detect: bool = True) -> list[Face]:
    """The faces of a picture, the largest first.

    A picture of at most 64x64 pixels is a face crop already.

    Args:
        image: an upright picture, as `open_image` returns it.
        detect: False takes any picture as a crop of one face.

    Returns:
        The faces; an empty list if the detector finds none.

    Raises:
        InputError: if the detector is needed and the `faces` extra is not installed.
    """
    if not detect or max(image.size) <= MAX_CROP_SIDE:
        side = min(image.size)
        return [Face(((image.width - side) // 2, (image.height - side) // 2, side, side), to_grey48(image))]
    return [Face(box, to_grey48(image.crop(_crop_area(box, image.size)))) for box in detect_faces(image)]


def detect_faces(image: Image.Image) -> list[tuple[int, int, int, int]]:
    """The detector's boxes, the largest first; OpenCV's Haar cascade for frontal faces (Viola and Jones, 2001).

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


def _crop_area(box: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The square around a box, with its margin, moved into the picture: (left, top, right, bottom)."""
    left, top, width, height = box
    side = min(round(max(width, height) * CROP_MARGIN), *size)
    x = min(max(round(left + (width - side) / 2), 0), size[0] - side)
    y = min(max(round(top + (height - side) / 2), 0), size[1] - side)
    return x, y, x + side, y + side


def draw_faces(image: Image.Image, faces: Sequence[tuple[tuple[int, int, int, int], str]]) -> Image.Image:
    """A copy of a picture with a box and a label on each face.

    Args:
        image: the upright picture.
        faces: (box, label) pairs; a box is (left, top, width, height) in pixels.

    Returns:
        An RGB image of the same size.
    """
    picture = image.convert("RGB")
    draw = ImageDraw.Draw(picture)
    line = max(1, round(min(picture.size) / 250))
    for (left, top, width, height), label in faces:
        draw.rectangle((left, top, left + width - 1, top + height - 1), outline=_BOX_COLOUR, width=line)
        font = ImageFont.load_default(max(10.0, width / 10))
        _, _, right, bottom = draw.textbbox((0, 0), label, font=font)
        text_width, text_height = right + 2 * line, bottom + 2 * line
        # Above the face; inside its box where there is no room above. Never over the right or left edge.
        x = max(0, min(left, picture.width - text_width))
        y = top - text_height if top >= text_height else top
        draw.rectangle((x, y, x + text_width, y + text_height), fill=_BOX_COLOUR)
        draw.text((x + line, y + line), label, fill=_TEXT_COLOUR, font=font)
    return picture
