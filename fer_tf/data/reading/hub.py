"""Reads objects of the package `datasets` without importing it: a `Dataset`, or a `DatasetDict` of the splits."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from fer_tf.data.dataset import Dataset
from fer_tf.data.names import split_of
from fer_tf.data.reading.arrow_rows import part_of, read_pieces
from fer_tf.errors import InputError
from fer_tf.faces.policy import CropPolicy
from fer_tf.task import SPLITS
from fer_tf.text import listed, quantity, shown

logger = logging.getLogger(__name__)

_BATCH = 256  # rows at a time


class HubDataset(Protocol):
    """The parts of a `datasets.Dataset` that we use."""

    @property
    def features(self) -> Any:
        """Columns and their meaning."""

    def with_format(self, type: str) -> Any:
        """Return the same rows in another form."""

    def __len__(self) -> int:
        """Return the number of rows."""


class HubPiece:
    """The rows of a `datasets.Dataset`; see `arrow_rows.Piece`."""

    def __init__(self, rows: HubDataset, name: str, split: str | None) -> None:
        """Take the rows unchanged; they may be chosen, shuffled or mapped.

        Args:
            rows: a `datasets.Dataset`.
            name: the data set's name in the names of rows.
            split: the split in this name, or None.
        """
        self.name, self.split = name, split
        self.schema: pa.Schema = rows.features.arrow_schema
        self.num_rows = len(rows)
        self._rows = rows.with_format("arrow")

    def values(self, column: str) -> Iterator[pa.Array]:
        """Yield all values of a column."""
        return self.pictures(column, 0)

    def pictures(self, column: str, start: int) -> Iterator[pa.Array]:
        """Yield the values of a column from a row on, a few at a time."""
        top, part = (column, "") if column in self.schema.names else column.rsplit(".", 1)
        rows = self._rows.select_columns([top])
        for first in range(start, self.num_rows, _BATCH):
            table = rows[first : min(first + _BATCH, self.num_rows)]
            for chunk in table[top].chunks:
                # An extension type, such as that of arrays, keeps its values in its storage.
                array = getattr(chunk, "storage", chunk)
                yield part_of(array, part) if part else array

    def part_end(self, row: int) -> int:
        """Return the row after this one: in an object, a broken row affects no other row."""
        return row + 1


def read_hub(
    source: HubDataset | Mapping[str, HubDataset],
    faces: str | CropPolicy = "auto",
    *,
    class_names: Sequence[str] | None = None,
    subjects: str | None = None,
    skip_broken: bool = False,
) -> Dataset:
    """Read the pictures of a `datasets.Dataset`, or of a `DatasetDict`.

    Args:
        source: the object.
        faces: as for `folders.read_folder`.
        class_names: as for `arrow_rows.read_pieces`.
        subjects: as for `arrow_rows.read_pieces`.
        skip_broken: True to leave out rows that cannot be read.

    Returns:
        The crops. If rows name files in place of pictures, as in sets made from local folders, the files are opened.

    Raises:
        InputError: if the object has another type, a row cannot be read, or the data is not as expected.
    """
    parts = dict(source) if isinstance(source, Mapping) else {"": source}
    for rows in parts.values():
        if not all(hasattr(rows, member) for member in ("with_format", "features")):
            raise InputError(
                f"data of the type {type(rows).__name__}; expected the path of a file or a folder, or a "
                "datasets.Dataset or DatasetDict"
            )
        if not hasattr(rows, "__len__"):
            raise InputError(f"a {type(rows).__name__} is streamed; load it with streaming=False")
    if not parts:
        raise InputError("a DatasetDict without splits; expected train, validation or test")
    name = _name_of(next(iter(parts.values())))
    pieces = _pieces(parts, name)
    options: dict[str, Any] = {"class_names": class_names, "subjects": subjects, "skip_broken": skip_broken}
    dataset = read_pieces(pieces, name, faces, follow_paths=True, **options)
    return dataclasses.replace(dataset, source=name)


def _pieces(parts: Mapping[str, HubDataset], name: str) -> list[HubPiece]:
    """Return the parts to read, in the order of the splits."""
    if list(parts) == [""]:
        (rows,) = parts.values()
        return [HubPiece(rows, name, split_of(str(getattr(rows, "split", None) or "")))]
    known = {key: split for key in parts if (split := split_of(str(key)))}
    for split in SPLITS:
        keys = [key for key, own in known.items() if own == split]
        if len(keys) > 1:
            raise InputError(f"{name}: {listed(list(map(shown, keys)))} are both the {split} split; keep one")
    if known and (others := [key for key in parts if key not in known]):
        num_rows = sum(len(parts[key]) for key in others)
        some = ", ".join(map(shown, others))
        logger.warning(
            "%s: left out, because they are not splits: %s (%s); name a part train, validation or test to have it read",
            name,
            some,
            quantity(num_rows, "row"),
        )
    order = sorted(known or parts, key=lambda key: SPLITS.index(known[key]) if known else 0)
    return [HubPiece(parts[key], key, known.get(key)) for key in order]


def _name_of(rows: Any) -> str:
    name = getattr(getattr(rows, "info", None), "dataset_name", None) or getattr(rows, "builder_name", None)
    return str(name or "dataset")
