"""Draws boxes and labels on a copy of a picture."""

from __future__ import annotations

import dataclasses
import statistics
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw, PngImagePlugin

from fer_tf.faces.colours import EMOTION_COLOURS, ORANGE, OTHER_COLOURS
from fer_tf.faces.crops import Box
from fer_tf.faces.fonts import font_for, without_lost_letters
from fer_tf.task import EMOTIONS, canonical_emotion

_FAINT = 0.65  # share of white in the colour of an uncertain label
_LINE_SHARE = 1 / 300  # thickness of a line, as a share of the picture's shorter side
_LETTER_SHARES = (1 / 45, 1 / 22)  # least and most height of the letters, as such shares
_LETTER_OF_FACE = 0.2  # height of the letters, as a share of the median face's width
_MIN_LETTER = 11.0  # pixels; smaller letters cannot be read
_MAP_SCALE, _MAP_LETTERS = 8, 20  # pixels for each pixel of the crop; height of the letters
_MAP_STRENGTH = 0.8
_MARK = b"fer_tf: annotated copy"  # in the files that we write, so that we never read them as photographs
_MARK_WITHIN = 4096  # bytes from the start of the file


@dataclasses.dataclass(frozen=True)
class Mark:
    """A face to draw.

    Attributes:
        box: left, top, width and height in pixels.
        text: text of the label.
        emotion: the class that gives the colour.
        is_faint: True to draw the label pale, because the answer is uncertain.
    """

    box: Box
    text: str
    emotion: str = ""
    is_faint: bool = False


def draw_faces(image: Image.Image, marks: Sequence[Mark]) -> Image.Image:
    """Return a copy of a picture with a box and a label on each face.

    Lines and letters grow with the picture. If possible, a label covers no other face and no other label.

    Args:
        image: the upright picture.
        marks: the faces.

    Returns:
        An RGB image of the same size, without metadata.
    """
    picture = image.convert("RGB")
    picture.info = {}
    if not marks:
        return picture
    draw = ImageDraw.Draw(picture)
    line = max(1, round(min(picture.size) * _LINE_SHARE))
    height = letter_height(picture.size, [mark.box for mark in marks])
    for mark in marks:
        left, top, width, tall = mark.box
        draw.rectangle((left, top, left + width - 1, top + tall - 1), outline=_colour(mark), width=line)
    texts = [_drawable(mark.text, height, picture.width - 4 * line) for mark in marks]
    sizes = []
    for text, font in texts:
        left, top, right, bottom = font.getbbox(text)
        sizes.append((round(right - left) + 4 * line, round(bottom - top) + 4 * line))
    places = place_labels(picture.size, [mark.box for mark in marks], sizes)
    for mark, (text, font), place in zip(marks, texts, places, strict=True):
        colour = _colour(mark)
        _join(draw, mark.box, place, colour, line)
        left, top, right, bottom = place
        draw.rectangle((left, top, right - 1, bottom - 1), fill=colour)
        x, y, _, _ = font.getbbox(text)
        draw.text((left + 2 * line - x, top + 2 * line - y), text, fill=_text_colour(colour), font=font)
    return picture


def draw_map(crop: np.ndarray, values: np.ndarray, text: str) -> Image.Image:
    """Draw a map over a face: on the left the crop, on the right the crop with high values in orange.

    Args:
        crop: uint8 (48, 48), grey.
        values: float (48, 48); values of 0 or below stay grey, the highest value is orange.
        text: one line below the pictures.

    Returns:
        An RGB image with 8 pixels a side for each pixel of the crop.
    """
    side = crop.shape[0] * _MAP_SCALE
    face = Image.fromarray(crop).resize((side, side), Image.Resampling.BICUBIC).convert("RGB")
    positive = np.clip(values, 0, None)
    share = np.rint(255 * _MAP_STRENGTH * positive / max(positive.max(), 1e-9)).astype(np.uint8)
    mask = Image.fromarray(share).resize((side, side), Image.Resampling.BICUBIC)
    with_map = Image.composite(Image.new("RGB", face.size, ORANGE), face, mask)
    text, font = _drawable(text, _MAP_LETTERS, 2 * side - 2 * _MAP_LETTERS)
    picture = Image.new("RGB", (2 * side + _MAP_SCALE, side + 2 * _MAP_LETTERS), "white")
    picture.paste(face, (0, 0))
    picture.paste(with_map, (side + _MAP_SCALE, 0))
    ImageDraw.Draw(picture).text((_MAP_LETTERS, side + _MAP_LETTERS // 2), text, fill=(0, 0, 0), font=font)
    return picture


def letter_height(size: tuple[int, int], boxes: Sequence[Box]) -> float:
    """Return the height of letters in a picture, pixels.

    Args:
        size: width and height of the picture.
        boxes: boxes of the faces, at least one.
    """
    least, most = (min(size) * share for share in _LETTER_SHARES)
    wanted = _LETTER_OF_FACE * statistics.median(width for _, _, width, _ in boxes)
    return max(_MIN_LETTER, min(max(wanted, least), most))


def place_labels(
    size: tuple[int, int], boxes: Sequence[Box], labels: Sequence[tuple[int, int]]
) -> list[tuple[int, int, int, int]]:
    """Choose the places of the labels.

    Args:
        size: width and height of the picture.
        boxes: boxes of the faces.
        labels: width and height of the label of each face.

    Returns:
        For each face, left, top, right and bottom of the label: the place nearest to the face, inside the picture, that
        covers no other face and no earlier label; if there is no such place, the one that covers least.
    """
    areas = [(left, top, left + width, top + height) for left, top, width, height in boxes]
    placed: list[tuple[int, int, int, int]] = []
    for index, (area, label) in enumerate(zip(areas, labels, strict=True)):
        others = [*areas[:index], *areas[index + 1 :], *placed]

        def cost(place: tuple[int, int, int, int], others: list[Any] = others, own: Any = area) -> float:
            return 100 * sum(_overlap(place, other) for other in others) + _overlap(place, own)

        best, least = None, float("inf")
        for place in _places(size, area, label):
            if (costs := cost(place)) < least:
                best, least = place, costs
            if not least:
                break
        assert best is not None
        placed.append(best)
    return placed


def _places(
    size: tuple[int, int], area: tuple[int, int, int, int], label: tuple[int, int]
) -> Iterator[tuple[int, int, int, int]]:
    """Places for a label, the best first: at the edges of the face, then inside it, then farther away."""
    left, top, right, bottom = area
    width, height = label
    columns = (left, right - width, (left + right - width) // 2)
    corners = [(x, y) for y in (top - height, bottom) for x in columns]
    corners += [(x, y) for x in (right, left - width) for y in (top, bottom - height, (top + bottom - height) // 2)]
    corners += [(x, y) for y in (bottom - height, top) for x in columns]
    for step in range(1, 8):
        away = step * height
        corners += [(x, y) for y in (top - height - away, bottom + away) for x in (*columns, right, left - width)]
        corners += [(x, y) for x in (right + away, left - width - away) for y in (top, bottom - height)]
    for x, y in corners:
        x, y = max(0, min(x, size[0] - width)), max(0, min(y, size[1] - height))
        yield x, y, x + width, y + height


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> int:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height)


def _join(
    draw: ImageDraw.ImageDraw, box: Box, place: tuple[int, int, int, int], colour: tuple[int, int, int], line: int
) -> None:
    """Draw a line from a label to its face if they do not touch."""
    area = (box[0], box[1], box[0] + box[2], box[1] + box[3])
    grown = (area[0] - 1, area[1] - 1, area[2] + 1, area[3] + 1)
    if _overlap(place, grown):
        return
    centre = ((place[0] + place[2]) // 2, (place[1] + place[3]) // 2)
    nearest = (min(max(centre[0], area[0]), area[2] - 1), min(max(centre[1], area[1]), area[3] - 1))
    draw.line((*centre, *nearest), fill=colour, width=line)


def _drawable(text: str, height: float, width: float) -> tuple[str, Any]:
    """Return a text and a font that has its letters, smaller if the text is wider than the picture.

    A note replaces letters that no font has.
    """
    text = without_lost_letters(text)
    font = font_for(text, height)
    assert font is not None
    if (length := font.getlength(text)) > width:
        font = font_for(text, max(1.0, height * width / length))
    return text, font


def _colour(mark: Mark) -> tuple[int, int, int]:
    emotion = canonical_emotion(mark.emotion)
    if emotion in EMOTIONS:
        colour = EMOTION_COLOURS[EMOTIONS.index(emotion)]
    else:
        colour = OTHER_COLOURS[zlib.crc32(mark.emotion.encode()) % len(OTHER_COLOURS)]
    share = _FAINT if mark.is_faint else 0.0
    red, green, blue = (round(value + (255 - value) * share) for value in ImageColor.getrgb(colour)[:3])
    return red, green, blue


def _text_colour(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return black or white, whichever has the better contrast (WCAG 2.2, relative luminance)."""
    linear = [(x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4) for x in (value / 255 for value in colour)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else (255, 255, 255)


def save_annotated(picture: Image.Image, path: Path) -> None:
    """Write an annotated picture without metadata, except for the mark that `is_annotated` looks for."""
    if path.suffix.lower() == ".png":
        information = PngImagePlugin.PngInfo()
        information.add_text("Comment", _MARK.decode())
        picture.save(path, pnginfo=information)
    else:
        picture.save(path, quality=90, comment=_MARK)


def is_annotated(path: Path) -> bool:
    """Return True if `save_annotated` wrote a file."""
    try:
        with open(path, "rb") as file:
            return _MARK in file.read(_MARK_WITHIN)
    except OSError:
        return False
