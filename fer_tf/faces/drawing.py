"""Draws boxes and labels on a copy of a picture."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from fer_tf.faces.crops import Box

_BOX_COLOUR, _TEXT_COLOUR = (255, 210, 0), (0, 0, 0)
_SMALLEST_LETTERS, _LETTERS_PER_SIDE = 12, 40  # pixels; the picture's shorter side holds so many heights of a letter
_NUM_MOVES = 3  # places further away that are tried in each direction, in heights of a label


def draw_faces(image: Image.Image, faces: Sequence[tuple[Box, str]]) -> Image.Image:
    """Return a copy of a picture with a box and a label on each face.

    Lines and letters grow with the picture. A label covers no other face and no other label where one of
    the places of `place_label` is free.

    Args:
        image: the upright picture.
        faces: (box, label) pairs; a box is (left, top, width, height) in pixels.

    Returns:
        An RGB image of the same size.
    """
    picture = image.convert("RGB")
    draw = ImageDraw.Draw(picture)
    line = max(1, round(min(picture.size) / 250))
    letters = max(_SMALLEST_LETTERS, round(min(picture.size) / _LETTERS_PER_SIDE))
    for (left, top, width, height), _ in faces:
        draw.rectangle((left, top, left + width - 1, top + height - 1), outline=_BOX_COLOUR, width=line)
    boxes = [box for box, _ in faces]
    labels: list[Box] = []
    for number, (box, label) in enumerate(faces):
        font = _font(letters)
        length = draw.textlength(label, font=font) + 2 * line
        if length > picture.width:  # smaller letters are better than a label that is cut off
            font = _font(max(1, int(letters * picture.width / length)))
        _, _, right, bottom = draw.textbbox((0, 0), label, font=font)
        size = (round(right) + 2 * line, round(bottom) + 2 * line)
        x, y = place_label(box, size, picture.size, [*boxes[:number], *boxes[number + 1 :], *labels])
        labels.append((x, y, *size))
        draw.rectangle((x, y, x + size[0] - 1, y + size[1] - 1), fill=_BOX_COLOUR)
        draw.text((x + line, y + line), label, fill=_TEXT_COLOUR, font=font)
    return picture


def place_label(box: Box, size: tuple[int, int], picture: tuple[int, int], taken: Sequence[Box]) -> tuple[int, int]:
    """Return the left and top of a label: above, below, inside or beside its box, or moved, inside the picture.

    Args:
        box: the face that the label belongs to.
        size: width and height of the label, pixels.
        picture: width and height of the picture, pixels.
        taken: other faces and labels; the place that covers least of them is chosen, and the first of equal ones.
    """
    left, top, width, height = box
    places = [(left, top - size[1]), (left, top + height), (left, top), (left, top + height - size[1])]
    places += [(left + width, top), (left - size[0], top), (left + width - size[0], top - size[1])]
    for move in range(1, _NUM_MOVES + 1):
        places += [(left, top - (1 + move) * size[1]), (left, top + height + move * size[1])]
    inside = [(max(0, min(x, picture[0] - size[0])), max(0, min(y, picture[1] - size[1]))) for x, y in places]
    return min(inside, key=lambda place: sum(_overlap((*place, *size), other) for other in taken))


def _overlap(one: Box, other: Box) -> int:
    """Number of pixels that two rectangles share."""
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return max(0, across) * max(0, down)


@functools.lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
