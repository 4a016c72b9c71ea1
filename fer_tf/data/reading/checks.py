"""Bounds and checks that several readers share."""

from __future__ import annotations

from collections.abc import Sequence

from fer_tf.errors import InputError
from fer_tf.task import IMAGE_SIZE
from fer_tf.text import shown

MAX_ROWS = 500_000  # 14 times FER-2013; 1.15 GB when decoded
MAX_CSV_BYTES = 8 << 30  # unpacked; FER-2013 has 0.3 GB, and would have 6.5 GB at 224x224 pixels
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
            raise InputError(f"{where}: class {shown(name)} is there twice; expected different names")


def check_csv_size(size: int, name: str) -> None:
    """Refuse a csv of more unpacked bytes than `MAX_CSV_BYTES`."""
    if size > MAX_CSV_BYTES:
        raise InputError(
            f"{name}: more than {MAX_CSV_BYTES >> 20:,} MiB of csv; use folders of images or a .npz for so many faces"
        )
