"""Arrow rows with encoded pictures -> a data set; shared by Parquet files and objects of `datasets`."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fer_tf.data.dataset import Dataset
from fer_tf.data.names import merged_text, plain_name, split_of
from fer_tf.data.reading.assembly import Row, assemble, name_classes, split_and_class
from fer_tf.data.reading.checks import MAX_CLASS_NAME, MAX_CLASSES, MAX_ROWS
from fer_tf.data.reading.columns import label_of, usual_column
from fer_tf.data.reading.crops import crop_pictures, read_file
from fer_tf.data.reading.left_out import broken_text, leaves_enough, unknown_name
from fer_tf.data.reading.people import subject_finder
from fer_tf.data.reading.rows import UNKNOWN_LABEL, UNKNOWN_SPLIT, BrokenRow
from fer_tf.data.reading.tree import file_problem
from fer_tf.errors import InputError
from fer_tf.faces.pictures import MAX_IMAGE_BYTES
from fer_tf.faces.policy import CropPolicy
from fer_tf.text import shown

logger = logging.getLogger(__name__)

_TEXT_BYTES = 4000  # longer labels, paths and so on are cut off
_PICTURES = ("image", "img", "picture", "photo", "face", "pixels")  # of several columns, read the first of these
_EXPECTED = (
    "expected a column of pictures (a struct of bytes and path, or the bytes of picture files) and one of labels"
)
_SPLIT_EXPECTED = "expected train, validation or test, or Training, PublicTest or PrivateTest"


class Piece(Protocol):
    """Rows of one schema: a Parquet file, or a split of a `datasets.DatasetDict`.

    Attributes:
        name: the piece's name in messages and in the names of its rows.
        split: the split in the piece's name, or None.
        schema: the columns' schema, with Hugging Face's metadata.
        num_rows: the claimed number of rows.
    """

    name: str
    split: str | None
    schema: pa.Schema
    num_rows: int

    def values(self, column: str) -> Iterator[pa.Array]:
        """Yield all values of a column, or of a struct's part `column.part`."""

    def pictures(self, column: str, start: int) -> Iterator[pa.Array]:
        """Yield the values from a row on, a few at a time."""

    def part_end(self, row: int) -> int:
        """Return the first row that can still be read if this one cannot be unpacked."""


@dataclasses.dataclass(frozen=True)
class _Roles:
    """Columns by their content; `pictures` and `path` may be parts of a struct."""

    pictures: str
    path: str | None
    label: str
    label_names: tuple[str, ...] | None
    split: str | None
    split_names: tuple[str, ...] | None
    subject: str | None


def read_pieces(
    pieces: Sequence[Piece],
    name: str,
    faces: str | CropPolicy = "auto",
    *,
    class_names: Sequence[str] | None = None,
    subjects: str | None = None,
    skip_broken: bool = False,
    follow_paths: bool = False,
) -> Dataset:
    """Read the pictures of all rows as 48x48 grey crops.

    Args:
        pieces: pieces with the same kinds of columns, in order.
        name: name of the data set in messages.
        faces: as for `folders.read_folder`.
        class_names: names for labels that are only numbers, as for `names.names_of_numbers`; not needed if the schema
            names the numbers (`ClassLabel`).
        subjects: name of the column of people, or a regular expression that finds the person in a picture's path.
        skip_broken: True to leave out rows that cannot be read.
        follow_paths: True to open the file that a row names in place of a picture.

    Returns:
        The crops. A row's name is its piece and its number in the piece, from 0. Rows with the label -1, the Hub's sign
        for "none", are left out.

    Raises:
        InputError: if a row cannot be read, or anything else is not as expected.
    """
    total = sum(piece.num_rows for piece in pieces)
    if total > MAX_ROWS:
        raise InputError(f"{name}: {total:,} rows; expected at most {MAX_ROWS:,}: give fewer files")
    wheres = [name if len(pieces) == 1 else f"{name}: {piece.name}" for piece in pieces]
    roles = [_find_roles(piece.schema, subjects, where) for piece, where in zip(pieces, wheres, strict=True)]
    found = _Rows(subjects)
    for piece, own, where in zip(pieces, roles, wheres, strict=True):
        found.add(piece, own, where)
    if not found.rows:
        if found.broken:
            raise InputError(broken_text(found.broken, name, len(found.broken), unit="row", can_skip=False))
        unlabelled = f" with a label; {len(found.unlabelled):,} have -1, which means none" if found.unlabelled else ""
        raise InputError(f"{name}: no rows{unlabelled}; give a file that has rows")
    if subjects is not None and not any(found.people):
        columns = ", ".join(map(shown, pieces[0].schema.names[:10]))
        raise InputError(
            f"{name}: --subjects {shown(subjects)} names no column and matches no path; expected one of {columns}, "
            "or a regular expression whose first group is the person"
        )
    names, class_of = name_classes(found.rows, class_names, name)
    if merged := merged_text(class_of):
        logger.info("%s: %s", name, merged)

    paths = [path for path, _, _ in found.rows]
    read = _Pictures(pieces, roles, found, follow_paths)
    crops = crop_pictures(paths, read, faces, name)
    unreadable = {paths[place]: reason for place, reason in sorted(crops.broken.items())}
    if (found.broken or unreadable) and not skip_broken:
        kept = split_and_class(found.rows, class_of, np.flatnonzero(crops.found).tolist())
        lost = split_and_class(found.rows, class_of, crops.broken)
        reasons = {**found.broken, **unreadable}
        num_rows = len(found.rows) + len(found.broken)
        can_skip = leaves_enough(kept, lost, unsplit=not found.names_splits)
        common = unknown_name(found.unknown, num_rows)
        raise InputError(broken_text(reasons, name, num_rows, unit="row", can_skip=can_skip, common=common))
    left_out = {
        "that cannot be read": list(unreadable),
        **found.left_out,
        "without a label (-1)": found.unlabelled,
    }
    dataset = assemble(
        found.rows, crops, left_out, found.people, class_of, names, name, unsplit=not found.names_splits, unit="row"
    )
    # The digest of the crops covers names and pictures, but not labels and splits, which are in other columns.
    digest = hashlib.sha256(crops.sha256.encode())
    for row in found.rows:
        digest.update("\0".join(row).encode("utf-8", "backslashreplace") + b"\n")
    return dataclasses.replace(dataset, sha256=digest.hexdigest())


class _Rows:
    """Labels, splits and people of the rows so far; a row is in `rows`, in `broken` or in `unlabelled`."""

    def __init__(self, subjects: str | None) -> None:
        self.rows: list[Row] = []
        self.people: list[str] = []
        self.places: list[tuple[int, int]] = []  # piece, and row in the piece
        self.files: list[str] = []  # the path beside each picture, unchanged
        self.broken: dict[str, str] = {}
        self.left_out: dict[str, list[str]] = {}
        self.unknown: list[str] = []  # reasons of rows whose split is unknown
        self.unlabelled: list[str] = []
        self.names_splits = False
        self._subjects = subjects
        self._num_pieces = 0

    def add(self, piece: Piece, roles: _Roles, where: str) -> None:
        """Read the small columns of a piece."""
        labels = _texts(piece, roles.label)
        splits = self._splits(piece, roles, where)
        people = [""] * len(labels) if roles.subject is None else _texts(piece, roles.subject)
        files = [""] * len(labels) if roles.path is None else _texts(piece, roles.path)
        if not len(labels) == len(splits) == len(people) == len(files) == piece.num_rows:
            raise InputError(f"{where}: its columns have different lengths; download it again")
        subject_of = subject_finder(self._subjects if roles.subject is None else None)
        for row in range(len(labels)):
            key = f"{piece.name}:{row}"
            try:
                label = _label(labels[row], roles.label_names)
                split = _split(splits[row])
            except BrokenRow as error:
                self.broken[key] = str(error)
                self.left_out.setdefault(error.kind, []).append(key)
                if error.kind == UNKNOWN_SPLIT:
                    self.unknown.append(str(error))
                continue
            if label is None:
                self.unlabelled.append(key)
                continue
            self.rows.append((key, split, label))
            self.places.append((self._num_pieces, row))
            self.files.append(files[row] or "")
            self.people.append(subject_of(files[row] or "") if roles.subject is None else (people[row] or "").strip())
        self._num_pieces += 1

    def _splits(self, piece: Piece, roles: _Roles, where: str) -> list[str | None]:
        """The split of each row as the data spells it: from a column that names splits, else from the piece."""
        if roles.split is not None:
            splits = _texts(piece, roles.split)
            if roles.split_names is not None:
                names = dict(enumerate(roles.split_names))
                splits = [names.get(int(text)) if text and text.isdecimal() else None for text in splits]
            found = dict.fromkeys(split for split in splits if split)
            if any(map(split_of, found)):
                self.names_splits = True
                return splits
            some = ", ".join(map(shown, list(found)[:3]))
            logger.info("%s: column %s names no splits (%s)", where, shown(roles.split), some)
        self.names_splits |= piece.split is not None
        return [piece.split or "train"] * piece.num_rows


class _Pictures:
    """Returns the encoded picture of a row; fast if rows are requested in order."""

    def __init__(self, pieces: Sequence[Piece], roles: Sequence[_Roles], found: _Rows, follow_paths: bool) -> None:
        self._pieces = pieces
        self._roles = roles
        self._found = found
        self._follow_paths = follow_paths
        self._piece = -1
        self._start = 0  # row of the first value of `_batch`
        self._batch: pa.Array = []
        self._batches: Iterator[pa.Array] = iter(())
        self._broken: dict[tuple[int, int], str] = {}  # piece and row -> why it cannot be unpacked

    def __call__(self, place: int) -> bytes:
        piece, row = self._found.places[place]
        value = self._value(piece, row)
        if not value.is_valid:
            return self._from_file(place)
        buffer = value.as_buffer()
        if buffer.size > MAX_IMAGE_BYTES:
            raise InputError(f"larger than {MAX_IMAGE_BYTES >> 20} MiB; give a smaller picture")
        return buffer.to_pybytes()

    def _value(self, piece: int, row: int) -> pa.Scalar:
        if piece != self._piece or not 0 <= row - self._start < len(self._batch):
            self._go_to(piece, row)
        return self._batch[row - self._start]

    def _go_to(self, piece: int, row: int) -> None:
        if (reason := self._broken.get((piece, row))) is not None:
            raise InputError(reason)
        end = self._start + len(self._batch)  # the next batch begins here
        ahead = piece == self._piece and end <= row < self._pieces[piece].part_end(max(end - 1, 0))
        try:
            if not ahead and not (piece == self._piece and row == end):
                self._batches = self._pieces[piece].pictures(self._roles[piece].pictures, row)
                self._piece, end = piece, row
            self._start, self._batch = end, []
            while not row < self._start + len(self._batch):
                self._start += len(self._batch)
                self._batch = next(self._batches)
        except StopIteration:
            self._piece = -1
            raise InputError("is not there: the file has fewer pictures than rows; download it again") from None
        except InputError as error:
            self._piece = -1
            lost = range(row, self._pieces[piece].part_end(row))
            self._broken.update({(piece, other): str(error) for other in lost})  # reported without another attempt
            raise

    def _from_file(self, place: int) -> bytes:
        path = self._found.files[place]
        if not path:
            raise InputError("holds no picture; remove it")
        if not self._follow_paths:
            raise InputError(f"holds no picture, only the path {shown(path)}; write the pictures into the file")
        if problem := file_problem(path):
            raise InputError(f"its file {shown(path)} is {problem}")
        return read_file(Path(path))


# --- Columns ---


def _find_roles(schema: pa.Schema, subjects: str | None, where: str) -> _Roles:
    """Find out what each column holds, from Hugging Face's metadata, its type and its name."""
    seen = ", ".join(f"{shown(field.name)} ({str(field.type)[:40]})" for field in list(schema)[:10]) or "nothing"
    twice = [name for name in schema.names if schema.names.count(name) > 1]
    if twice:
        raise InputError(f"{where}: the column {shown(twice[0])} is there twice; remove one")
    features = _features(schema)
    pictures = [
        field.name
        for field in schema
        if _is_binary(field.type) or (pa.types.is_struct(field.type) and _part(field.type, "bytes"))
    ]
    named = [name for name in pictures if features.get(name, {}).get("_type") == "Image"] or pictures
    if len(named) > 1:
        named = [name for wanted in _PICTURES for name in named if name.lower() == wanted][:1] or named
    if len(named) != 1:
        raise InputError(f"{where}: {len(named) or 'no'} columns of pictures: it has {seen}; {_EXPECTED}")
    (image,) = named
    image_type = schema.field(image).type
    is_struct = pa.types.is_struct(image_type)
    others = [field.name for field in schema if field.name != image and _is_small(field.type)]
    labels = [name for name in others if features.get(name, {}).get("_type") == "ClassLabel"]
    label = usual_column(labels, "label") or usual_column(others, "label") or (labels[0] if len(labels) == 1 else None)
    if label is None:
        raise InputError(f"{where}: no column of labels: it has {seen}; {_EXPECTED}")
    others.remove(label)
    split = usual_column(others, "split")
    return _Roles(
        pictures=f"{image}.bytes" if is_struct else image,
        path=f"{image}.path" if is_struct and _part(image_type, "path") else None,
        label=label,
        label_names=_class_label(features.get(label, {}), f"{where}: column {shown(label)}"),
        split=split,
        split_names=_class_label(features.get(split, {}), f"{where}: column {shown(split)}") if split else None,
        subject=subjects if subjects in others else (usual_column(others, "subject") if subjects is None else None),
    )


def _features(schema: pa.Schema) -> Mapping[str, Mapping[str, Any]]:
    """Return Hugging Face's metadata of each column; empty if there is none or it has another form."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    if not isinstance(features, dict):
        return {}
    return {name: feature for name, feature in features.items() if isinstance(feature, dict)}


def _class_label(feature: Mapping[str, Any], where: str) -> tuple[str, ...] | None:
    """Return the names of a ClassLabel by its numbers; None for another feature."""
    names = feature.get("names")
    if feature.get("_type") != "ClassLabel" or names is None:
        return None
    if isinstance(names, dict) and set(names) == set(map(str, range(len(names)))):
        names = [names[str(number)] for number in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) > MAX_CLASSES:
        raise InputError(f"{where}: its class names are not a list of at most {MAX_CLASSES} names; mend the metadata")
    return tuple(names) or None


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _part(kind: pa.StructType, name: str) -> bool:
    """Return True if a struct has this part and the part is bytes or text."""
    index = kind.get_field_index(name)
    return index >= 0 and (_is_binary(kind.field(index).type) or (name == "path" and _is_text(kind.field(index).type)))


def _is_small(kind: pa.DataType) -> bool:
    """Return True for the types of labels, splits and people."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return _is_text(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


# --- Values ---


def part_of(array: pa.StructArray, part: str) -> pa.Array:
    """Return a part of structs; it is null for a null struct."""
    index = array.type.get_field_index(part)
    return array.flatten()[index] if array.null_count else array.field(index)


def _texts(piece: Piece, column: str) -> list[str | None]:
    """Return the values of a small column as text; None for a missing value."""
    return list(itertools.chain.from_iterable(map(_texts_of, piece.values(column))))


def _texts_of(array: pa.Array) -> list[str | None]:
    if pa.types.is_dictionary(array.type):
        values = _texts_of(array.dictionary)
        return [None if index is None else values[index] for index in array.indices.to_pylist()]
    if not (_is_text(array.type) or _is_binary(array.type)):
        return [None if value is None or value != value else str(value) for value in array.to_pylist()]
    cut = pc.binary_slice(array.cast(pa.large_binary()), 0, _TEXT_BYTES)  # it may not be UTF-8
    return [None if value is None else value.decode("utf-8", "replace") for value in cut.to_pylist()]


def _label(text: str | None, names: Sequence[str] | None) -> str | None:
    """Return the class as the data spells it; None for a label that means none.

    Args:
        text: the value of the column.
        names: the names of a ClassLabel, by number.
    """
    if names is not None and text is not None:
        number = label_of(text)
        if text.strip() in ("-1", "-1.0"):
            return None
        if not isinstance(number, int) or number >= len(names):
            raise BrokenRow(UNKNOWN_LABEL, f"label {shown(text)}; expected a number from 0 to {len(names) - 1}")
        text = names[number]
    text = plain_name(text or "")
    if not text or not text.isprintable() or len(text) > MAX_CLASS_NAME:
        raise BrokenRow(UNKNOWN_LABEL, f"label {shown(text)}; expected 1 to {MAX_CLASS_NAME} printable characters")
    number = label_of(text)
    return str(number) if isinstance(number, int) else text


def _split(text: str | None) -> str:
    split = split_of(text[:100]) if text else None
    if split is None:
        raise BrokenRow(UNKNOWN_SPLIT, f"split {shown(text or '')}; {_SPLIT_EXPECTED}")
    return split
