"""Tables of paths and labels: one picture in each row, with split and person if there are columns for them."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fer_tf.data.dataset import Dataset
from fer_tf.data.names import merged_text, plain_name, split_of
from fer_tf.data.reading.assembly import Row, assemble, name_classes, split_and_class
from fer_tf.data.reading.checks import MAX_CLASS_NAME
from fer_tf.data.reading.columns import label_of
from fer_tf.data.reading.crops import crop_pictures, read_file
from fer_tf.data.reading.left_out import broken_text, leaves_enough, unknown_name
from fer_tf.data.reading.people import subject_finder
from fer_tf.data.reading.rows import UNKNOWN_LABEL, UNKNOWN_SPLIT, BrokenRow, Fields, Table
from fer_tf.data.reading.tree import listed_file_problem
from fer_tf.errors import InputError
from fer_tf.faces.policy import CropPolicy
from fer_tf.text import quantity, shown, shown_path

logger = logging.getLogger(__name__)

_MAX_SHOWN = 100  # characters of a path in a message
_UNREADABLE = "that cannot be read"


def read_path_table(
    table: Table,
    root: Path,
    name: str,
    faces: str | CropPolicy = "auto",
    *,
    class_names: Sequence[str] | None = None,
    subjects: str | None = None,
    skip_broken: bool = False,
) -> Dataset:
    """Read the pictures that a table names as 48x48 grey crops, in the order of the rows.

    Args:
        table: a table with a column of paths.
        root: the table's folder, from which relative paths start.
        name: name of the table in messages.
        faces: as for `folders.read_folder`.
        class_names: names for labels that are only numbers, as for `names.names_of_numbers`.
        subjects: name of the column of people, or a regular expression that finds the person in a path. If None, a
            column with a usual name is used, or the file names of CK+ and JAFFE.
        skip_broken: True to leave out rows that cannot be read.

    Returns:
        The crops. Without a column of splits, the data is `unsplit`. `left_out` counts rows by reason.

    Raises:
        InputError: if a row or its picture cannot be read, or anything else is not as expected.
    """
    columns = table.columns
    if not columns.names:
        logger.info("%s: no header row: %s", name, columns.text())
    by_column = columns.subject if subjects is None else columns.named(subjects)
    subject_of = subject_finder(subjects if by_column is None else None)
    rows: list[Row] = []
    numbers: list[int] = []  # row numbers in the file
    people: list[str] = []
    broken: dict[int, str] = {}
    left_out: dict[str, list[str]] = {}
    unknown: list[str] = []  # reasons of rows whose split is unknown
    for number, fields in table.rows():
        try:
            path, split, label = _row(fields, table)
        except BrokenRow as error:
            broken[number] = str(error)
            left_out.setdefault(error.kind, []).append(f"row {number}")
            if error.kind == UNKNOWN_SPLIT:
                unknown.append(str(error))
            continue
        assert not isinstance(fields, BrokenRow)
        rows.append((path, split, label))
        numbers.append(number)
        people.append(subject_of(path) if by_column is None else fields[by_column].decode("utf-8", "replace").strip())
    if not rows and not broken:
        raise InputError(f"{name}: a header but no rows; expected one row per image")
    if not rows:
        common = unknown_name(unknown, len(broken))
        raise InputError(broken_text(_by_row(broken), name, len(broken), unit="row", can_skip=False, common=common))
    if subjects is not None and not any(people):
        raise InputError(
            f"{name}: --subjects {shown(subjects)} names no column and matches no path, such as {shown(rows[0][0])}; "
            f"expected one of {', '.join(map(shown, columns.names[:10])) or 'its columns'}, or a regular expression"
        )
    names, class_of = name_classes(rows, class_names, name)
    if merged := merged_text(class_of):
        logger.info("%s: %s", name, merged)

    paths = [_as_found(root, path) for path, _, _ in rows]
    rows = [(path, split, label) for path, (_, split, label) in zip(paths, rows, strict=True)]
    _check_there(root, paths, name)

    def read(place: int) -> bytes:
        if problem := listed_file_problem(root, paths[place]):
            raise InputError(problem)
        return read_file(root / paths[place])

    crops = crop_pictures(paths, read, faces, name)
    unreadable = {f"row {numbers[place]}: {_shortened(paths[place])}": reason for place, reason in crops.broken.items()}
    if (broken or unreadable) and not skip_broken:
        kept = split_and_class(rows, class_of, np.flatnonzero(crops.found).tolist())
        lost = split_and_class(rows, class_of, crops.broken)
        told = [(number, f"row {number}", reason) for number, reason in broken.items()]
        told += [(numbers[place], *told_of) for place, told_of in zip(crops.broken, unreadable.items(), strict=True)]
        reasons = {own: reason for _, own, reason in sorted(told)}
        can_skip = leaves_enough(kept, lost, unsplit=columns.split is None)
        total = len(rows) + len(broken)
        common = unknown_name(unknown, total)
        raise InputError(broken_text(reasons, name, total, unit="row", can_skip=can_skip, common=common))
    left_out = {_UNREADABLE: list(unreadable), **left_out}
    is_unsplit = columns.split is None
    return assemble(rows, crops, left_out, people, class_of, names, name, unsplit=is_unsplit, unit="row")


def _row(fields: Fields | BrokenRow, table: Table) -> Row:
    """Return path, split and label of a row, in the table's spelling."""
    if isinstance(fields, BrokenRow):
        raise fields
    columns = table.columns
    assert columns.path is not None
    try:
        path = fields[columns.path].decode().strip()
        text = plain_name(fields[columns.label].decode())
    except UnicodeDecodeError as error:
        raise BrokenRow("that are not csv", f"not UTF-8 ({error}); save the table as UTF-8") from error
    if "://" in path:
        raise BrokenRow("without a file", f"{shown(path)} is an address; download the picture and give its path")
    if not path or "\0" in path:
        raise BrokenRow("without a file", f"path {shown(path)}; expected the path of a picture")
    if not text:
        raise BrokenRow("without a label", "no label; add it, or remove the row")
    if not text.isprintable() or len(text) > MAX_CLASS_NAME:
        expected = f"expected 1 to {MAX_CLASS_NAME} printable characters"
        raise BrokenRow(UNKNOWN_LABEL, f"label {shown(text)}; {expected}")
    number = label_of(text)
    split: str | None = "train"
    if columns.split is not None:
        spelling = fields[columns.split][:100].decode("utf-8", "replace").strip()
        split = split_of(spelling)
        if split is None:
            expected = "expected train, validation or test, or Training, PublicTest or PrivateTest"
            raise BrokenRow(UNKNOWN_SPLIT, f"split {shown(spelling)}; {expected}")
    assert split is not None
    return path, split, str(number) if isinstance(number, int) else text


def _by_row(broken: dict[int, str]) -> dict[str, str]:
    return {f"row {number}": reason for number, reason in sorted(broken.items())}


def _shortened(path: str) -> str:
    return path if len(path) <= _MAX_SHOWN else f"{path[: _MAX_SHOWN // 2]}...{path[-_MAX_SHOWN // 2 :]}"


def _as_found(root: Path, path: str) -> str:
    """Return a path in this system's form.

    Tables from Windows separate folders by a backslash; those from macOS may hold letters in another Unicode form.
    """
    if os.path.lexists(root / path):
        return path
    plain = path.replace("\\", "/") if os.sep == "/" else path
    forms = [plain, *(unicodedata.normalize(form, plain) for form in ("NFC", "NFD"))]
    return next((form for form in forms if os.path.lexists(root / form)), plain)


def _check_there(root: Path, paths: Sequence[str], name: str) -> None:
    """Refuse a table if none of its files is there: the table is in the wrong folder."""
    if any(os.path.lexists(root / path) for path in paths):
        return
    one = shown_path(root / _shortened(paths[0]))
    raise InputError(
        f"{name}: none of its {quantity(len(paths), 'picture')} is there, such as {one}; paths start at the table's "
        "folder: move the table, or mend its paths"
    )
