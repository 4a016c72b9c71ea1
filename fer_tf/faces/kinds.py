"""Tells pictures from videos by the first bytes of a file, not by its name."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from pathlib import Path

from PIL import Image

# Pillow's names of the formats that we read. An MPO, which phones write, is a JPEG followed by more pictures.
PICTURE_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "AVIF", "HEIF")
PICTURE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif",
)  # fmt: skip
LEFT_BEHIND = ("thumbs.db", "desktop.ini")  # desktops leave these behind; left out silently, like names with a dot
_HEAD_BYTES = 256  # enough for the brands of an ISO media file
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AUDIO_AND_RAW_BRANDS = {b"M4A ", b"M4B ", b"M4P ", b"crx "}  # crx: Canon's raw pictures
_BMP_HEADER_BYTES = (12, 16, 40, 52, 56, 64, 108, 124)
_VIDEO_STARTS = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"FLV\x01",
    b"0&\xb2u\x8ef\xcf\x11",  # ASF: Windows Media
    b"\0\0\x01\xba",  # MPEG
    b"\0\0\x01\xb3",
)
_TRANSPORT_PACKETS = ((0, 188), (4, 192))  # .ts and .m2ts: start and length of MPEG's packets, which begin with a G
_QUICKTIME_ATOMS = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")  # first box of a .mov without `ftyp`


def kind_of(head: bytes) -> str | None:
    """Return the kind of a file.

    Args:
        head: the file's first 256 bytes, or all bytes of a shorter file.

    Returns:
        One of `PICTURE_FORMATS`, or `video`, or None for anything else.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADER_BYTES:
        return "BMP"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return None if head[8:10] == b"CR" else "TIFF"  # CR: Canon's raw pictures
    if head.startswith(b"RIFF"):
        return {b"WEBP": "WEBP", b"AVI ": "video"}.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _kind_of_iso_media(head)
    if any(head[at : at + 1] == head[at + step : at + step + 1] == b"G" for at, step in _TRANSPORT_PACKETS):
        return "video"
    return "video" if head.startswith(_VIDEO_STARTS) or head[4:8] in _QUICKTIME_ATOMS else None


def _kind_of_iso_media(head: bytes) -> str | None:
    size = int.from_bytes(head[:4], "big")
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head)), 4))}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    if brands & _HEIF_BRANDS:
        return "HEIF"
    return None if head[8:12] in _AUDIO_AND_RAW_BRANDS else "video"


def file_kind(path: str | os.PathLike[str]) -> str | None:
    """Return the kind of a file, as `kind_of` does; None if it is not a file or cannot be read."""
    try:
        if not os.path.isfile(path):  # opening a pipe would wait forever
            return None
        with open(path, "rb") as file:
            return kind_of(file.read(_HEAD_BYTES))
    except OSError:
        return None


def is_animation(path: str | os.PathLike[str]) -> bool:
    """Return True for a GIF of several frames, without decoding it."""
    if file_kind(path) != "GIF":
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about large pictures
            with Image.open(path, formats=("GIF",)) as image:
                return bool(getattr(image, "is_animated", False))
    except Exception:  # a broken GIF: opening it as a picture says what is wrong
        return False


def is_meant_as_picture(path: str | os.PathLike[str]) -> bool:
    """Return True if a file in a folder is a picture or has the name of one.

    A text named face.jpg counts: opening it reports what is wrong, which is better than leaving it out.
    """
    kind = file_kind(path)
    return kind in PICTURE_FORMATS or (kind is None and os.fspath(path).lower().endswith(PICTURE_SUFFIXES))


def is_hidden(name: str) -> bool:
    """Return True if a file or folder with this name is left out silently."""
    return name.startswith(".") or name.lower() in LEFT_BEHIND


def skipped_kinds(paths: list[Path]) -> str:
    """Count files and folders by their kind, the most frequent first: 3 .txt, 1 .pdf, 1 folder."""
    kinds = Counter("folder" if path.is_dir() else path.suffix.lower() or "without a suffix" for path in paths)
    return ", ".join(f"{number:,} {kind}" for kind, number in kinds.most_common())
