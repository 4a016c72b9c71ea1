"""Bounds and checks that several readers share."""

from __future__ import annotations

from collections.abc import Sequence

from fer_tf.errors import InputError
from fer_tf.task import IMAGE_SIZE
from fer_tf.text import shown

MAX_ROWS = 500_000  # 14 times FER-2013; decoded 1.15 GB
MAX_CLASSES = 1000
MAX_CLASS_NAME = 100  # characters
NUM_PIXELS = IMAGE_SIZE * IMAGE_SIZE


def check_class_names(names: Sequence[str], where: str) -> None:
    """Refuse too few or too many classes, and names that are empty, long, unprintable or repeated."""
    if not 2 <= len(names) <= MAX_CLASSES:
        found = f" ({shown(names[0])})" if len(names) == 1 else ""
        raise InputError(f"{where}: {len(names)} classes{found}; expected at least two, at most {MAX_CLASSES}")
    for name in names:
        if not name.strip() or not name.isprintable() or len(name) > MAX_CLASS_NAME:
            raise InputError(
                f"{where}: class name {shown(name)}; expected 1 to {MAX_CLASS_NAME} printable characters: rename it"
            )
        if names.count(name) > 1:
            raise InputError(f"{where}: class {shown(name)} stands twice; expected different names")
