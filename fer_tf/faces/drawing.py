"""Draws boxes and labels on a copy of a picture."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from fer_tf.faces.crops import Box

_BOX_COLOUR, _TEXT_COLOUR = (255, 210, 0), (0, 0, 0)


def draw_faces(image: Image.Image, faces: Sequence[tuple[Box, str]]) -> Image.Image:
    """Return a copy of a picture with a box and a label on each face.

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
        # Above the box, or inside it if there is no room above; never beyond the right or left edge.
        x = max(0, min(left, picture.width - text_width))
        y = top - text_height if top >= text_height else top
        draw.rectangle((x, y, x + text_width, y + text_height), fill=_BOX_COLOUR)
        draw.text((x + line, y + line), label, fill=_TEXT_COLOUR, font=font)
    return picture
