"""Finds a font with all letters of a text: Pillow's own font, or one of the system."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import ImageFont

_FONT_FOLDERS = (
    "~/.fonts", "~/.local/share/fonts", "/usr/local/share/fonts", "/usr/share/fonts", "~/Library/Fonts",
    "/Library/Fonts", "/System/Library/Fonts", "C:/Windows/Fonts",
)  # fmt: skip
_FONT_SUFFIXES = (".ttf", ".otf", ".ttc")
_NO_CHARACTERS = "\uffff\ufdd0\u0378\U0003fffd"  # fonts show these as a missing letter, or as nothing
_PLACEHOLDERS = "lastresort"  # a font that draws a frame for every letter
_SAMPLE_SIZE = 24
_NO_FONT = "(no font)"
_log = logging.getLogger(__name__)
_said: set[str] = set()


def font_for(text: str, size: float) -> ImageFont.FreeTypeFont | None:
    """Return a font that has every letter of a text.

    Args:
        text: of any script.
        size: pixels.

    Returns:
        Pillow's own font if it has the letters, else a font of the system. None if no font has them; this is logged
        once.
    """
    if text.isascii():
        return _own_font(size)
    path = font_file(text)
    return _font(path, size) if path else None


def without_lost_letters(text: str) -> str:
    """Return a text that can be drawn: the note `(no font)` replaces letters that no font has."""
    if text.isascii() or font_file(text):
        return text
    return f"{_NO_FONT} {''.join(letter for letter in text if letter.isascii()).strip()}".rstrip()


def font_file(text: str) -> str | None:
    """Return the path of a system font that has every letter of a text, or None."""
    letters = frozenset(letter for letter in text if not letter.isspace())
    path = _font_with(letters)
    if path is None and "".join(sorted(letters)) not in _said:
        _said.add("".join(sorted(letters)))
        _log.warning("no font of this system has all letters of %s: install one for its script", ascii(text))
    return path


@functools.lru_cache(maxsize=64)
def _font_with(letters: frozenset[str]) -> str | None:
    for path in _font_files():
        if has_letters(path, letters):
            return path
    return None


def has_letters(path: str, letters: Iterable[str]) -> bool:
    """Return True if a font file has all of these letters."""
    try:
        font = _font(path, _SAMPLE_SIZE)
        missing = {b"", *(_shape(font, letter) for letter in _NO_CHARACTERS)}
        return all(_shape(font, letter) not in missing for letter in letters)
    except (OSError, ValueError, UnicodeError):  # a font that Pillow cannot read
        return False


def _shape(font: ImageFont.FreeTypeFont, letter: str) -> bytes:
    mask = font.getmask(letter)
    return bytes(mask) if any(mask) else b""


def _font_files() -> Iterator[str]:
    """Return font files, sans serif and regular ones first."""
    folders = [Path(folder).expanduser() for folder in _FONT_FOLDERS]
    if sys.platform != "win32" and "XDG_DATA_HOME" in os.environ:
        folders.insert(0, Path(os.environ["XDG_DATA_HOME"]) / "fonts")
    if (found := importlib.util.find_spec("matplotlib")) and found.submodule_search_locations:
        folders.append(Path(found.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf")
    files = {str(path) for folder in folders if folder.is_dir() for path in folder.rglob("*")}
    fonts = [path for path in files if path.lower().endswith(_FONT_SUFFIXES) and _PLACEHOLDERS not in path.lower()]
    words = ("bold", "italic", "oblique", "mono", "light", "condensed", "serif", "display")
    yield from sorted(fonts, key=lambda path: (sum(word in Path(path).name.lower() for word in words), path))


@functools.lru_cache(maxsize=64)
def _own_font(size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


@functools.lru_cache(maxsize=64)
def _font(path: str, size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)
