"""Cuts a face out of a picture and shrinks it to 48x48 grey pixels; every picture for the network comes this way."""

from __future__ import annotations

import numpy as np
from PIL import Image

from fer_tf.errors import InputError
from fer_tf.faces.pictures import grey_or_rgb
from fer_tf.task import IMAGE_SIZE

Box = tuple[int, int, int, int]  # left, top, width, height in pixels

# Side of the network's crop, divided by the mean of the width and height of YuNet's box. Measured with
# version 0.1's .tflite on the 3,475 of 3,589 PublicTest faces that YuNet finds after enlarging them to 144 pixels (edge
# pixels are repeated beyond the picture). 0.90: 66.2 %, 1.00: 67.7, 1.05: 67.9, 1.10: 67.6, 1.15: 67.9, 1.20: 67.5,
# 1.30: 66.8, 1.40: 66.2. Turning the eyes level gains less than the noise at 1.1 and needs another resampling.
CROP_FACTOR = 1.1


def to_grey48(image: Image.Image | np.ndarray) -> np.ndarray:
    """Return the 48x48 grey crop of a picture of one face.

    Grey is ITU-R BT.601 luma, 0.299 R + 0.587 G + 0.114 B, as Pillow's `convert("L")` rounds it. A picture that is not
    square is cut to its largest centred square, because stretching would change the expression. Pillow's bilinear
    filter resizes the square; it is antialiased, because its support grows with the reduction. The pixels of a 48x48
    grey picture are returned unchanged.

    Args:
        image: a picture of any size; as an array uint8 (height, width), (height, width, 1) or RGB (height, width, 3),
            values in [0, 255].

    Returns:
        uint8 (48, 48), values in [0, 255].

    Raises:
        InputError: if an array has another shape or type, the picture has no pixels, or the object is of another kind.
    """
    if not isinstance(image, (np.ndarray, Image.Image)):
        raise InputError(f"image is {type(image).__name__}: expected a PIL image or a uint8 array")
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,)):
            raise InputError(
                f"image of type {image.dtype} and shape {image.shape}: expected uint8 (height, width), "
                "(height, width, 1) or RGB (height, width, 3)"
            )
        if image.size:  # Pillow cannot hold an empty image; empty ones are refused below
            image = Image.fromarray(image[:, :, 0] if image.shape[2:] == (1,) else image)
    if 0 in (image.shape[:2] if isinstance(image, np.ndarray) else image.size):
        raise InputError("the picture has no pixels: expected at least one row and one column")
    assert isinstance(image, Image.Image)
    grey = image if image.mode == "L" else grey_or_rgb(image).convert("L")
    side = min(grey.size)
    left, top = (grey.width - side) // 2, (grey.height - side) // 2
    square = grey.crop((left, top, left + side, top + side))
    if side != IMAGE_SIZE:
        square = square.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
    return np.array(square, dtype=np.uint8)


def crop_area(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the square around a box, moved into the picture.

    Args:
        box: the detector's box.
        size: width and height of the picture.

    Returns:
        (left, top, right, bottom), as `Image.crop` takes it.
    """
    left, top, width, height = box
    side = min(round(CROP_FACTOR * (width + height) / 2), *size)
    x = min(max(round(left + (width - side) / 2), 0), size[0] - side)
    y = min(max(round(top + (height - side) / 2), 0), size[1] - side)
    return x, y, x + side, y + side


def scaled(box: Box, size: tuple[int, int], new_size: tuple[int, int]) -> Box:
    """Return the same box in a picture of another size.

    Args:
        box: a box in a picture of `size`, pixels.
        size: width and height.
        new_size: width and height of the enlarged or reduced picture.
    """
    if size == new_size:
        return box
    x, y = new_size[0] / size[0], new_size[1] / size[1]
    left, top, right, bottom = box[0] * x, box[1] * y, (box[0] + box[2]) * x, (box[1] + box[3]) * y
    return round(left), round(top), round(right) - round(left), round(bottom) - round(top)
