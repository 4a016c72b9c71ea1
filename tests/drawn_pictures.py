"""A drawn photograph in which OpenCV's cascade finds two faces, and the places of the faces."""

import numpy as np
from PIL import Image

from fer_tf.data.synthetic import draw_faces

FACE_BOXES = ((60, 130, 216, 216), (390, 160, 168, 168))  # left, top, width, height


def photograph(*, num_faces: int = 2) -> Image.Image:
    """RGB, 640x480 pixels: a happy and a neutral face of `draw_faces` before a wall that darkens downwards."""
    wall = np.broadcast_to(np.linspace(200, 120, 480)[:, None], (480, 640)).astype(np.uint8)
    picture = Image.merge("RGB", [Image.fromarray(wall)] * 3)
    for (left, top, side, _), face in zip(FACE_BOXES[:num_faces], draw_faces(np.array([3, 6]), 1), strict=False):
        picture.paste(Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC), (left, top))
    return picture


def overlap(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    """Intersection over union of two boxes."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(0, width) * max(0, height)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)
