"""Opens untrusted picture files: bounds their size, turns them upright, makes them grey or RGB."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from fer_tf.errors import InputError

IMAGE_FORMATS = ("PNG", "JPEG")  # of a training folder
PHOTO_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")  # of prediction
MAX_IMAGE_PIXELS = 50_000_000  # a 50-megapixel camera; the header is checked before anything is decoded
MAX_IMAGE_BYTES = 256 << 20  # 50 million RGBA pixels that do not compress take 200 MB
MAX_JPEG_SCANS = 200  # encoders write about ten; each costs a pass over the picture, so thousands of them are an attack
_ORIENTATION_TAG = 0x0112  # EXIF 2.32, 4.6.4 A: the sides of the scene that row 0 and column 0 of the image show
_UPRIGHT = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(path: str | os.PathLike[str], *, formats: tuple[str, ...] = PHOTO_FORMATS) -> Image.Image:
    """Open an untrusted picture file, upright, as grey or RGB.

    Args:
        path: an image file.
        formats: Pillow's names of the formats to accept; the file's contents decide, not its name.

    Returns:
        The decoded image, as `decode_image` describes it.

    Raises:
        InputError: if the file is missing, not a picture in these formats, broken, or too large.
    """
    path = Path(path)
    try:
        if not os.path.isfile(path):  # Path.is_file raises for a name that the system refuses
            raise InputError(f"no image file at {path}: give the path of a {_either(formats)} file")
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise InputError(f"{path}: larger than {MAX_IMAGE_BYTES >> 20} MiB; give a smaller picture")
        data = path.read_bytes()
    except OSError as error:  # an InputError, so that the caller can skip this picture
        raise InputError(f"{path}: cannot be read ({error.strerror}); make it readable, or remove it") from error
    return decode_image(data, str(path), formats=formats)


def as_picture(photo: str | os.PathLike[str] | Image.Image | np.ndarray) -> Image.Image:
    """Return an upright picture of mode L or RGB.

    Args:
        photo: a path, a PIL image, or a uint8 array (height, width), (height, width, 1) or RGB (height, width, 3) with
            values in [0, 255].

    Raises:
        InputError: if a file cannot be read, an array has another type or shape, or it is something else.
    """
    if isinstance(photo, (str, os.PathLike)):
        return open_image(photo)
    if isinstance(photo, Image.Image):
        if 0 in photo.size:
            raise InputError("the picture has no pixels: expected at least one row and one column")
        return _upright(grey_or_rgb(photo), _orientation(photo))
    if not isinstance(photo, np.ndarray):
        raise InputError(f"photo is {type(photo).__name__}: expected a path, a PIL image or a uint8 array")
    if photo.dtype != np.uint8 or photo.ndim not in (2, 3) or photo.shape[2:] not in ((), (1,), (3,)) or not photo.size:
        raise InputError(
            f"photo of type {photo.dtype} and shape {photo.shape}: expected uint8 (height, width) or RGB "
            "(height, width, 3)"
        )
    return Image.fromarray(photo[:, :, 0] if photo.shape[2:] == (1,) else photo)


def decode_image(data: bytes, name: str, *, formats: tuple[str, ...] = PHOTO_FORMATS) -> Image.Image:
    """Decode the bytes of an untrusted picture.

    The EXIF orientation is applied. Transparent parts become white, as in viewers. 16-bit grey keeps its high byte.
    Palettes, CMYK and other colour models become RGB. An animation gives its first frame.

    Args:
        data: the contents of an image file.
        name: what error messages call it.
        formats: Pillow's names of the formats to accept.

    Returns:
        An image of mode L (8-bit grey) or RGB.

    Raises:
        InputError: if the bytes are not a picture in these formats, or a broken one, or one of more than
            `MAX_IMAGE_PIXELS`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about large pictures (our bound below is tighter) and odd EXIF
            image = Image.open(io.BytesIO(data), formats=formats)
            width, height = image.size
            if image.format == "JPEG" and data.count(b"\xff\xda") > MAX_JPEG_SCANS:
                raise ValueError(f"more than {MAX_JPEG_SCANS} JPEG scans")
            if width * height <= MAX_IMAGE_PIXELS:
                image.load()
                return _upright(grey_or_rgb(image), _orientation(image))
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
    except Exception:  # damaged EXIF: show the picture as it is stored, as viewers do
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def grey_or_rgb(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to L (8-bit grey) or RGB, with transparent parts white."""
    if image.mode.startswith("I"):  # 16-bit grey; some versions of Pillow would clip it at 255
        return Image.fromarray((np.asarray(image).clip(0, 0xFFFF) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("L" if image.mode in ("L", "LA", "La") else "RGB")
    return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
