"""Opens untrusted picture files: limits their size, turns them upright, makes them grey or RGB."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import io
import logging
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, JpegImagePlugin

from fer_tf.errors import InputError
from fer_tf.faces.kinds import kind_of
from fer_tf.install import install_hint
from fer_tf.text import printable

MAX_JPEG_PIXELS = 16_384 * 12_288  # of the largest phone camera; a JPEG can be decoded at 1/2, 1/4 or 1/8
MAX_IMAGE_PIXELS = 8_192 * 6_144  # of a 50-megapixel camera; the limit for decoded pixels
MAX_IMAGE_BYTES = 256 << 20  # of the file
MAX_JPEG_SCANS = 200  # encoders write about ten; each needs a pass over the picture, so thousands are an attack
MIN_SIDE = 3_584  # least longer side of a decoded JPEG, pixels, unless the caller gives another
_DECODED_PIXEL_BYTES = 4  # Pillow's pixels of RGB, RGBA, CMYK and 32 bits
# While a progressive JPEG is decoded, all its coefficients are in memory, 16 bits each, whatever the result's size.
_MAX_COEFFICIENT_BYTES = 640 << 20
_NUM_NAMED = 5  # files that a message names
_ORIENTATION_TAG = 0x0112  # EXIF 2.32, 4.6.4 A: which sides of the scene are row 0 and column 0
_SUBFILE_TAG, _DNG_TAG = 0x00FE, 0xC612  # TIFF 6.0 (bit 0 marks a reduced copy of another picture); DNG 1.7
_JPEG_MARKER = re.compile(rb"\xff[^\0\xd0-\xd7\xff]")  # inside a scan, 00 and restarts do not end it
_UPRIGHT = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        image: upright, of mode L (8-bit grey) or RGB, without EXIF or other metadata.
        size: width and height of the upright picture, pixels; `image` is smaller if a large JPEG was decoded at a part
            of its size.
        is_first_of_several: True for the first frame of an animation or the first page of a TIFF.
        jpeg: the bytes of the file, if `image` is smaller than the picture.
    """

    image: Image.Image
    size: tuple[int, int]
    is_first_of_several: bool = False
    jpeg: bytes | None = dataclasses.field(default=None, repr=False)

    def detailed(self, min_side: int) -> Image.Image:
        """Return the image with at least `min_side` pixels on its longer side, if the file has as many."""
        if self.jpeg is None or max(self.image.size) >= min_side:
            return self.image
        return decode_image(self.jpeg, "the picture", min_side=min_side)


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """Open an untrusted picture file, upright, as grey or RGB.

    Args:
        path: a JPEG, PNG, BMP, WEBP, GIF, TIFF, AVIF or HEIC file; the contents decide, not the name.

    Returns:
        The image of `read_picture`.

    Raises:
        InputError: as `read_picture`.
    """
    return read_picture(path).image


def read_picture(path: str | os.PathLike[str], *, min_side: int = MIN_SIDE) -> Picture:
    """Read an untrusted picture file.

    Args:
        path: a picture file; its contents decide the format, not its name.
        min_side: as for `decode_picture`.

    Returns:
        The picture, as `decode_picture` describes it.

    Raises:
        InputError: if the file is missing, broken, too large, or not a picture.
    """
    path = Path(path)
    try:
        if not os.path.isfile(path):  # Path.is_file would raise for a name that the system refuses
            raise InputError(f"no image file at {path}: give the path of a picture, such as a JPEG or PNG file")
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise InputError(f"{path}: larger than {MAX_IMAGE_BYTES >> 20} MiB; give a smaller picture")
        data = path.read_bytes()
    except OSError as error:  # an InputError, so that the caller can skip this picture
        raise InputError(f"{path}: cannot be read ({error.strerror}); make it readable, or remove it") from error
    return decode_picture(data, str(path), min_side=min_side)


def as_picture(photo: str | os.PathLike[str] | Image.Image | np.ndarray, *, min_side: int = MIN_SIDE) -> Picture:
    """Return an upright picture of mode L or RGB.

    Args:
        photo: a path, a PIL image, or a uint8 array (height, width), (height, width, 1) or RGB (height, width, 3) with
            values in [0, 255].
        min_side: as for `decode_picture`.

    Raises:
        InputError: if a file cannot be read, an array has another type or shape, or `photo` is another kind of object.
    """
    if isinstance(photo, (str, os.PathLike)):
        return read_picture(photo, min_side=min_side)
    if isinstance(photo, Image.Image):
        if 0 in photo.size:
            raise InputError("the picture has no pixels: expected at least one row and one column")
        image = _upright(grey_or_rgb(photo), _orientation(photo))
        return Picture(image, image.size)
    if not isinstance(photo, np.ndarray):
        raise InputError(f"photo is {type(photo).__name__}: expected a path, a PIL image or a uint8 array")
    if photo.dtype != np.uint8 or photo.ndim not in (2, 3) or photo.shape[2:] not in ((), (1,), (3,)) or not photo.size:
        raise InputError(
            f"photo of type {photo.dtype} and shape {photo.shape}: expected uint8 (height, width) or RGB "
            "(height, width, 3)"
        )
    image = Image.fromarray(photo[:, :, 0] if photo.shape[2:] == (1,) else photo)
    return Picture(image, image.size)


def decode_image(data: bytes, name: str, *, min_side: int = MIN_SIDE) -> Image.Image:
    """Decode the bytes of an untrusted picture: the image of `decode_picture`.

    Args:
        data: the contents of a picture file.
        name: what error messages call it.
        min_side: as for `decode_picture`.

    Raises:
        InputError: as `decode_picture`.
    """
    return decode_picture(data, name, min_side=min_side).image


def decode_picture(data: bytes, name: str, *, min_side: int = MIN_SIDE) -> Picture:
    """Decode the bytes of an untrusted picture.

    The EXIF orientation is applied. Transparent parts become white, as in viewers. 16-bit grey keeps its high byte.
    Palettes, CMYK and other colour models become RGB. An animation gives its first frame. A JPEG is decoded at a half,
    a quarter or an eighth of its size if this leaves `min_side` pixels, or if `MAX_IMAGE_PIXELS` requires it.

    Args:
        data: the contents of a picture file.
        name: what error messages call it.
        min_side: least longer side of a decoded JPEG, pixels.

    Returns:
        The picture, with an image of mode L (8-bit grey) or RGB.

    Raises:
        InputError: if the bytes are not a picture, or a broken one; if a JPEG has more than `MAX_JPEG_PIXELS` or
            another picture more than `MAX_IMAGE_PIXELS`; or if a HEIC picture needs pillow-heif, which is missing.
    """
    kind = kind_of(data[:256])
    if kind is None or kind == "video":
        raise InputError(
            f"{name}: not a JPEG, PNG, BMP, WEBP, GIF, TIFF, AVIF or HEIC picture; convert it, or remove it"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about large pictures (our limits are tighter) and odd EXIF
            image = _open(data, kind)
            width, height = image.size
            if isinstance(image, JpegImagePlugin.JpegImageFile):
                _prepare_jpeg(image, data, name, min_side)
            elif width * height > MAX_IMAGE_PIXELS:
                raise InputError(
                    f"{name}: {kind} of {width:,}x{height:,} pixels would take "
                    f"{width * height * _DECODED_PIXEL_BYTES / 1e6:,.0f} MB, more than the "
                    f"{MAX_IMAGE_PIXELS * _DECODED_PIXEL_BYTES / 1e6:.0f} MB allowed; scale it down, or save it as JPEG"
                )
            is_first = kind != "HEIF" and bool(getattr(image, "is_animated", False))
            image.load()
            if kind != "JPEG":
                width, height = image.size  # read after loading, because loading turns a TIFF upright
            orientation = _orientation(image)
            upright = _upright(grey_or_rgb(image), orientation)
    except InputError:
        raise
    except Image.DecompressionBombError:
        pixels = MAX_IMAGE_PIXELS // 10**6
        raise InputError(f"{name}: {kind} of more than {pixels} million pixels; scale the picture down") from None
    except Exception as error:  # Pillow's decoders raise almost any type on crafted bytes
        reason = printable(" ".join(str(error).split()))[:200] or type(error).__name__
        if "truncated" in reason:
            reason = "the file ends before the picture does"
        if isinstance(error, Image.UnidentifiedImageError):
            reason = f"{kind} by its first bytes, but Pillow cannot open it"
        raise InputError(f"{name}: a broken picture ({reason}); replace or remove it") from error
    upright.info = {}  # else Pillow would write its comment or profile into a copy
    size = (height, width) if orientation >= 5 else (width, height)
    return Picture(upright, size, is_first, data if upright.size != size else None)


def say_first_frames(names: Sequence[str]) -> None:
    """Log once for all files that only the first of several frames or pages was used."""
    if names:
        some = ", ".join(printable(name) for name in names[:_NUM_NAMED])
        more = f" and {len(names) - _NUM_NAMED:,} more" if len(names) > _NUM_NAMED else ""
        _log.warning("%s%s: several frames or pages; only the first is used", some, more)


def _open(data: bytes, kind: str) -> Image.Image:
    """Open a picture without decoding it."""
    if kind == "JPEG":  # Image.open would open some as MPO
        return JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    if kind == "HEIF":
        try:
            from pillow_heif import HeifImageFile
        except ImportError:
            # one line for a whole folder
            raise InputError(f"HEIC pictures need the package pillow-heif: {install_hint('heif')}") from None
        return HeifImageFile(io.BytesIO(data))
    if kind == "TIFF":
        _silence_tiff()
    image = Image.open(io.BytesIO(data), formats=(kind,))
    if kind == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        if _DNG_TAG in tags or int(tags.get(_SUBFILE_TAG, 0)) & 1:
            raise ValueError("a camera's raw file, in which only the preview comes first: save it as JPEG")
    return image


@functools.cache
def _silence_tiff() -> None:
    """Keep libtiff's and Pillow's messages about broken files off stderr: our own error reports them."""
    logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)
    with contextlib.suppress(OSError, AttributeError):  # if libtiff is built into Pillow, its lines stay
        ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)


def _prepare_jpeg(image: JpegImagePlugin.JpegImageFile, data: bytes, name: str, min_side: int) -> None:
    """Refuse a JPEG that needs too much time or memory; choose the part of its size at which to decode it."""
    width, height = image.size
    num_pixels = width * height
    if num_pixels > MAX_JPEG_PIXELS:
        raise InputError(f"{name}: more than {MAX_JPEG_PIXELS // 10**6} million pixels; scale the picture down")
    max_scans = min(MAX_JPEG_SCANS, MAX_JPEG_SCANS * MAX_IMAGE_PIXELS // num_pixels)
    if _num_scans(data, max_scans) > max_scans:
        raise ValueError(f"more than {max_scans} JPEG scans")
    if "progressive" in image.info:
        samples = [h * v for _, h, v, _ in image.layer]
        bytes_ = 2 * num_pixels * sum(samples) // max(samples)
        if bytes_ > _MAX_COEFFICIENT_BYTES:
            raise InputError(
                f"{name}: progressive JPEG of {width:,}x{height:,} pixels would take {bytes_ / 1e6:,.0f} MB; scale it "
                "down, or save it as a JPEG that is not progressive"
            )
    part = 1
    while part < 8 and (max(width, height) >= 2 * part * min_side or num_pixels > MAX_IMAGE_PIXELS * part**2):
        part *= 2
    if part > 1:
        image.draft(image.mode, (max(1, width // part), max(1, height // part)))


def _num_scans(data: bytes, enough: int) -> int:
    """Count the scans of a JPEG up to its end, because phones append other data, such as a video.

    Args:
        data: a JPEG.
        enough: counting stops beyond this number.
    """
    found, at = 0, 2
    while found <= enough and (marker := _JPEG_MARKER.search(data, at)):
        code, at = data[marker.start() + 1], marker.end()
        if code == 0xD9:  # the end of the picture
            break
        found += code == 0xDA
        if code >= 0xC0 and code != 0xD8:
            at += int.from_bytes(data[at : at + 2], "big")  # the segment, or the head of the scan
    return found


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF: show the picture as it is stored, as viewers do
        return 1
    return orientation if orientation in _UPRIGHT else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def grey_or_rgb(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to L (8-bit grey) or RGB, with transparent parts white."""
    if image.mode.startswith("I"):  # 16-bit grey, which some versions of Pillow would clip at 255
        return Image.fromarray((np.asarray(image).clip(0, 0xFFFF) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        colours = image if image.mode == "RGBA" else image.convert("RGBA")  # a conversion would copy it
        opaque = Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours)
        return opaque.convert("L" if image.mode in ("L", "LA", "La") else "RGB")
    return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
