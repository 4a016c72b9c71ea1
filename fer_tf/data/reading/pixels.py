"""Pixel strings -> faces: squares of any size, with blanks or commas, brackets, and whole numbers written as floats."""

from __future__ import annotations

import math
import re

import numpy as np

from fer_tf.data.reading.checks import NUM_PIXELS
from fer_tf.errors import InputError
from fer_tf.faces.crops import to_grey48
from fer_tf.task import IMAGE_SIZE
from fer_tf.text import shown

MIN_SIDE, MAX_SIDE = 8, 1024  # pixels of a square
_TO_BLANKS = bytes.maketrans(b"[],", b"   ")
_FLOAT_ENDS = re.compile(rb"\.0*(?=\s|$)")  # of 12. and 12.0
_INTEGERS, _NUMBERS = b"0123456789 \t\r\n", b"0123456789+-.eE \t\r\n"


def parse_pixels(field: bytes) -> tuple[int, str | np.ndarray]:
    """Read the pixels of one row.

    Args:
        field: the pixels of a square, whole numbers from 0 to 255.

    Returns:
        The square's side. Then the values separated by single blanks if the side is 48; else the square resized by
        `to_grey48`, uint8 (48, 48).

    Raises:
        InputError: if the field is anything else; the message names the pixel, but not the file or the row.
    """
    field = field.strip()
    if _is_canonical(field):
        return IMAGE_SIZE, field.decode("ascii")
    values = _values(field)
    side = side_of(len(values))
    if side is None:
        raise InputError(_number_text(len(values)))
    if side == IMAGE_SIZE:
        return side, " ".join(map(str, values.tolist()))
    return side, to_grey48(values.astype(np.uint8).reshape(side, side))


def side_of(num_pixels: int) -> int | None:
    """Return the side of a square with this many pixels; None if there is no such square of a usual size."""
    side = math.isqrt(num_pixels)
    return side if side * side == num_pixels and MIN_SIDE <= side <= MAX_SIDE else None


def looks_like_pixels(field: bytes) -> bool:
    """Return True for a long list of numbers, valid or not."""
    plain = field.translate(_TO_BLANKS)
    return not plain.translate(None, _NUMBERS) and len(plain.split()) >= MIN_SIDE * MIN_SIDE


def _values(field: bytes) -> np.ndarray:
    """Return the values in [0, 255]: int64 (n,)."""
    plain = field.translate(_TO_BLANKS)
    if b"." in plain:
        plain = _FLOAT_ENDS.sub(b"", plain)
    if not plain.translate(None, _INTEGERS):
        values = np.fromstring(plain, np.int64, sep=" ")  # larger numbers become the largest int64
        if not len(values) or values.max() <= 255:
            return values
    if plain.translate(None, _NUMBERS):
        raise InputError(_value_text(field))
    try:
        numbers = np.array(list(map(float, plain.split())))
    except ValueError:
        raise InputError(_value_text(field)) from None
    if len(numbers) and (((numbers < 0) | (numbers > 255)).any() or (numbers % 1).any()):
        raise InputError(_value_text(field))
    return numbers.astype(np.int64)


def _value_text(field: bytes) -> str:
    """Say which value is not a pixel."""
    values = field.translate(_TO_BLANKS).split()
    for position, value in enumerate(values, start=1):
        text = value.decode("utf-8", "backslashreplace")
        if text.strip(".") == "":
            return (
                f"pixel {position} is {shown(text)}: the list was shortened when the table was written; expected every "
                "value"
            )
        number = _number(text)
        if number is None or not 0 <= number <= 255 or number % 1:
            is_part = number is not None and 0 < number < 1
            hint = ", not divided by 255" if is_part else ""
            return f"pixel {position} is {shown(text)}; expected a whole number from 0 to 255{hint}"
    return "no pixels; expected whole numbers from 0 to 255"


def _number(text: str) -> float | None:
    if len(text) > 40 or not re.fullmatch(r"[0-9.eE+-]+", text):
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _number_text(num_pixels: int) -> str:
    """Say why this number of pixels is not a face."""
    side = math.isqrt(num_pixels // 3)
    usual = f"expected {NUM_PIXELS:,} ({IMAGE_SIZE}x{IMAGE_SIZE}) or another square"
    if num_pixels and 3 * side * side == num_pixels and side >= MIN_SIDE:
        return f"{num_pixels:,} pixel values, as {side}x{side} in colour has; expected grey: one value for each pixel"
    if math.isqrt(num_pixels) ** 2 == num_pixels and num_pixels:
        return f"{num_pixels:,} pixel values; expected a square of {MIN_SIDE} to {MAX_SIDE} pixels a side"
    return f"{num_pixels:,} pixel values; {usual}"


def _is_canonical(field: bytes) -> bool:
    """True for exactly 2304 values of at most three digits, none above 255, with single blanks between them.

    All bytes of a row are checked at once, which is about 50 times faster than value by value.
    """
    code = np.frombuffer(field, np.uint8)
    blank = code == ord(" ")
    digit = (code ^ ord("0")) < 10  # '0'..'9' are 0x30..0x39
    num_blanks = np.count_nonzero(blank)
    if num_blanks != NUM_PIXELS - 1 or num_blanks + np.count_nonzero(digit) != len(code):
        return False
    if not digit[0] or not digit[-1] or (blank[1:] & blank[:-1]).any():
        return False
    three = digit[:-2] & digit[1:-1] & digit[2:]
    if (three[:-1] & three[1:]).any():  # four digits in a row
        return False
    hundreds, tens, ones = code[:-2], code[1:-1], code[2:]
    above = (hundreds > ord("2")) | (
        (hundreds == ord("2")) & ((tens > ord("5")) | ((tens == ord("5")) & (ones > ord("5"))))
    )
    return not (three & above).any()
