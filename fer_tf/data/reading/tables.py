"""Tables of one face a row: the csv of FER-2013 and its variants."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from fer_tf.data.dataset import SPLIT_DTYPE, Dataset
from fer_tf.data.names import EIGHT_EMOTIONS, merge_names, names_of_numbers, split_of
from fer_tf.data.reading.columns import Columns, label_of
from fer_tf.data.reading.left_out import broken_text, leaves_enough, say_left_out, unknown_name
from fer_tf.data.reading.pixels import parse_pixels
from fer_tf.data.reading.rows import UNKNOWN_LABEL, UNKNOWN_SPLIT, BrokenRow, Fields, Table
from fer_tf.errors import InputError
from fer_tf.task import EMOTIONS, IMAGE_SIZE, NUM_CLASSES
from fer_tf.text import shown

logger = logging.getLogger(__name__)

MAX_TEXT_BYTES = 1 << 30  # for pixel strings in memory; FER-2013 has 0.3 GB
_NUM_TRIED = 1000  # if this many rows are broken and none is sound, give up
_PROGRESS_SECONDS = 5.0  # between two lines of the log
_SPLIT_OF_USAGE = {b"Training": "train", b"PublicTest": "validation", b"PrivateTest": "test"}
_RAFDB_NUMBERS = set(range(1, 8))


def read_pixel_table(
    table: Table,
    name: str,
    *,
    class_names: Sequence[str] | None = None,
    subjects: str | None = None,
    skip_broken: bool = False,
) -> Dataset:
    """Read a table of pixels: a label, the pixels and (optionally) the split of one face in each row.

    Columns are known by their usual names (`columns`); other columns are ignored. A label is a number of FER-2013 (7:
    contempt) or the name of an emotion. The pixels form a square of any size, equal in all rows. Commas, semicolons or
    tabs separate the columns.

    Args:
        table: a table with columns of pixels.
        name: name of the table in messages, which count its lines from 1.
        class_names: names for labels that are numbers, as for `names.names_of_numbers`; FER-2013's names if None.
        subjects: name of the column of people.
        skip_broken: True to leave out rows that cannot be read.

    Returns:
        The faces: pixel strings if the faces are 48x48, else images. `left_out` counts rows by reason.

    Raises:
        InputError: if a row cannot be read, or anything else is not as expected.
    """
    columns = table.columns
    if not columns.names:
        logger.info("%s: no header row: %s", name, columns.text())
    if columns.split is None:
        logger.info("%s has no Usage column: every row is taken as Training", name)
    subject = columns.subject
    if subjects is not None and (subject := columns.named(subjects)) is None:
        some = ", ".join(map(shown, columns.names[:10]))
        raise InputError(f"{name}: --subjects {shown(subjects)} is not a column; expected one of {some}")
    found = _Rows(numbers_are_known=class_names is None)
    told = time.monotonic()
    for row, fields in table.rows():
        found.add(row, fields, columns, subject)
        if len(found.broken) == _NUM_TRIED and not found.labels:
            raise InputError(f"{name}: none of its first {_NUM_TRIED:,} rows can be read: {found.first_broken()}")
        if found.text_bytes > MAX_TEXT_BYTES:
            raise InputError(
                f"{name}: more than {MAX_TEXT_BYTES >> 20:,} MiB of pixels; use folders of images or a .npz instead"
            )
        if time.monotonic() - told > _PROGRESS_SECONDS:
            told = time.monotonic()
            logger.info("reading %s: %s rows", name, f"{len(found.labels):,}")
    if not found.labels and not found.broken:
        raise InputError(f"{name}: a header but no rows; expected one row per image")
    keep = found.of_the_usual_size()
    _check_broken(found, keep, name, skip_broken)
    kept = np.flatnonzero(keep)
    labels, names = _classes([found.labels[row] for row in kept], class_names, name)
    side = found.sides[kept[0]]
    people = np.array([found.subjects[row] for row in kept], object) if subject is not None else None
    faces = [found.faces[row] for row in kept]
    say_left_out(found.left_out, len(kept), name, "row")
    return Dataset(
        labels=labels,
        split=np.array(found.splits, SPLIT_DTYPE)[kept],
        class_names=names,
        pixels=np.array(faces, object) if side == IMAGE_SIZE else None,
        images=None if side == IMAGE_SIZE else np.stack(faces),
        originals={} if side == IMAGE_SIZE else {f"{side}x{side} grey": len(kept)},
        subjects=people,
        left_out={reason: len(rows) for reason, rows in found.left_out.items()},
    )


class _Rows:
    """The rows read so far; each is in `labels` and the other lists, or in `broken`."""

    def __init__(self, numbers_are_known: bool) -> None:
        self.numbers: list[int] = []  # row numbers in the file
        self.labels: list[int | str] = []
        self.splits: list[str] = []
        self.faces: list[str | np.ndarray] = []
        self.sides: list[int] = []
        self.subjects: list[str] = []
        self.broken: dict[int, str] = {}
        self.left_out: dict[str, list[str]] = {}
        self.unknown: list[str] = []  # reasons of rows whose split or label is unknown
        self.lost: set[tuple[str, int | str]] = set()  # split and label of broken rows, if known
        self.text_bytes = 0
        self._numbers_are_known = numbers_are_known
        self._label_of: dict[bytes, int | str] = {str(label).encode(): label for label in range(len(EIGHT_EMOTIONS))}
        self._split_of: dict[bytes, str] = dict(_SPLIT_OF_USAGE)

    def add(self, row: int, fields: Fields | BrokenRow, columns: Columns, subject: int | None) -> None:
        """Read one row; keep a broken row with its reason."""
        try:
            if isinstance(fields, BrokenRow):
                raise fields
            label = self._label(fields[columns.label])
            split = "train" if columns.split is None else self._split(fields[columns.split])
            pixels = columns.pixels
            field = fields[pixels[0]] if len(pixels) == 1 else b" ".join([fields[place] for place in pixels])
            try:
                side, face = parse_pixels(field)
            except InputError as error:
                self.lost.add((split, label))
                raise BrokenRow("whose pixels cannot be read", str(error)) from error
        except BrokenRow as error:
            self._leave_out(row, error)
            return
        self.numbers.append(row)
        self.labels.append(label)
        self.splits.append(split)
        self.faces.append(face)
        self.sides.append(side)
        if isinstance(face, str):
            self.text_bytes += len(face)
        if subject is not None:
            self.subjects.append(fields[subject].decode("utf-8", "replace").strip())

    def of_the_usual_size(self) -> np.ndarray:
        """Leave out cut-off rows, whose square has another size than most; return bool (n,), True if kept."""
        sides = np.array(self.sides)
        if not len(sides):
            return sides.astype(bool)
        usual = Counter(self.sides).most_common(1)[0][0]
        for place in np.flatnonzero(sides != usual):
            side = self.sides[place]
            self.lost.add((self.splits[place], self.labels[place]))
            reason = f"{side * side:,} pixel values; expected {usual * usual:,} ({usual}x{usual}) as in most rows"
            self._leave_out(self.numbers[place], BrokenRow("whose pixels cannot be read", reason))
        return sides == usual

    def first_broken(self) -> str:
        row, reason = next(iter(self.broken.items()))
        return f"row {row}: {reason}"

    def _leave_out(self, row: int, error: BrokenRow) -> None:
        self.broken[row] = str(error)
        self.left_out.setdefault(error.kind, []).append(f"row {row}")
        if error.kind in (UNKNOWN_LABEL, UNKNOWN_SPLIT):
            self.unknown.append(str(error))

    def _label(self, text: bytes) -> int | str:
        text = text.strip()
        label = self._label_of.get(text)
        if not text:
            raise BrokenRow("without a label", "no label; add it, or remove the row")
        if label is None:
            label = label_of(text[:100].decode("utf-8", "replace"))
            if label is None or (isinstance(label, int) and self._numbers_are_known and label >= len(EIGHT_EMOTIONS)):
                raise BrokenRow(
                    UNKNOWN_LABEL,
                    f"emotion {shown(text)}; expected a number from 0 to 6, 7 (contempt) or a name",
                )
            self._label_of[text] = label
        return label

    def _split(self, text: bytes) -> str:
        text = text.strip()
        split = self._split_of.get(text) or split_of(text[:100].decode("utf-8", "replace"))
        if split is None:
            raise BrokenRow(
                UNKNOWN_SPLIT,
                f"Usage {shown(text)}; expected Training, PublicTest or PrivateTest, or train, validation or test",
            )
        self._split_of[text] = split
        return split


def _check_broken(found: _Rows, keep: np.ndarray, name: str, skip_broken: bool) -> None:
    """Refuse a table with broken rows, unless they may be left out and other rows remain."""
    if not found.broken or (skip_broken and keep.any()):
        return
    kept = [(found.splits[row], found.labels[row]) for row in np.flatnonzero(keep)]
    reasons = {f"row {row}": reason for row, reason in sorted(found.broken.items())}
    total = len(found.broken.keys() | set(found.numbers))
    can_skip = not skip_broken and leaves_enough(kept, found.lost)
    common = unknown_name(found.unknown, total)
    raise InputError(broken_text(reasons, name, total, unit="row", can_skip=can_skip, common=common))


def _classes(
    labels: Sequence[int | str], class_names: Sequence[str] | None, name: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the labels as indices into the class names, and the class names."""
    numbers = {label for label in labels if isinstance(label, int)}
    if class_names is None and numbers != _RAFDB_NUMBERS:
        indices = [label if isinstance(label, int) else EIGHT_EMOTIONS.index(label) for label in labels]
        return np.array(indices, np.int64), EIGHT_EMOTIONS if max(indices) >= NUM_CLASSES else EMOTIONS
    if not numbers:
        logger.info("%s: no label is a number, so --class-names changes nothing", name)
        return _classes(labels, None, name)
    name_of = names_of_numbers(map(str, numbers), class_names, name)
    spelt = [name_of[str(label)] if isinstance(label, int) else label for label in labels]
    names, class_of = merge_names(sorted(set(spelt)))
    return np.array([names.index(class_of[text]) for text in spelt], np.int64), names
