"""The csv format of FER-2013 and its variants."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator

import numpy as np

from fer_tf.data.dataset import SPLIT_DTYPE, Dataset
from fer_tf.data.names import EIGHT_EMOTIONS, emotion_of, split_of
from fer_tf.data.reading.checks import MAX_ROWS, NUM_PIXELS
from fer_tf.errors import InputError
from fer_tf.task import EMOTIONS, IMAGE_SIZE, NUM_CLASSES
from fer_tf.text import shown

logger = logging.getLogger(__name__)

MAX_CSV_BYTES = 1 << 30  # unpacked; FER-2013 has 0.3 GB
MAX_ROW_BYTES = 64 << 10  # a row of FER-2013 has at most 9,240
SPLIT_OF_USAGE = {b"Training": "train", b"PublicTest": "validation", b"PrivateTest": "test"}
LABEL_OF_EMOTION = {str(label).encode(): label for label in range(len(EIGHT_EMOTIONS))}  # 7 as in ckextended.csv
_SEPARATORS = (b",", b";", b"\t")


def read_csv(chunks: Iterator[bytes], name: str) -> Dataset:
    """Read a csv: columns emotion, pixels and (optionally) Usage in any order, others ignored; one row per image.

    An emotion is a number of FER-2013 (7: contempt) or a name. Commas, semicolons or tabs separate the columns.

    Args:
        chunks: the unpacked bytes of the file, in pieces of any size.
        name: what messages call the file; they count its lines from 1.
    """
    lines = _lines(chunks, name)
    first = next(lines, b"")
    separator = max(_SEPARATORS, key=first[:MAX_ROW_BYTES].count)
    header = _header(first, name, separator)
    emotion, pixels, usage = header.index("emotion"), header.index("pixels"), None
    if "usage" in header:
        usage = header.index("usage")
    else:
        logger.info("%s has no Usage column: every row is taken as Training", name)
    labels: list[int] = []
    splits: list[str] = []
    faces: list[str] = []
    for row, line in enumerate(lines, start=2):
        where = f"{name}: row {row}"
        if row > MAX_ROWS + 1:
            raise InputError(f"{name}: more than {MAX_ROWS:,} rows; give a smaller file")
        if not line.strip():
            continue
        fields = _fields(line, where, separator)
        if len(fields) != len(header):
            raise InputError(f"{where} has {len(fields)} columns; expected {len(header)} as in row 1")
        text = fields[emotion].strip()
        label = LABEL_OF_EMOTION.get(text)
        if label is None and (found := emotion_of(text[:100].decode("utf-8", "replace"))):
            label = EIGHT_EMOTIONS.index(found)
        if label is None:
            raise InputError(
                f"{where}: emotion {shown(fields[emotion])}; expected a number from 0 to 6, 7 (contempt) or a name"
            )
        split = "train" if usage is None else SPLIT_OF_USAGE.get(fields[usage].strip())
        if split is None and usage is not None:
            split = split_of(fields[usage][:100].decode("utf-8", "replace"))
        if split is None:
            assert usage is not None
            raise InputError(
                f"{where}: Usage {shown(fields[usage])}; "
                "expected Training, PublicTest or PrivateTest, or train, validation or test"
            )
        labels.append(label)
        splits.append(split)
        faces.append(_checked_pixels(fields[pixels], where))
    if not labels:
        raise InputError(f"{name}: a header and no rows; expected one row per image")
    return Dataset(
        labels=np.array(labels, np.int64),
        split=np.array(splits, SPLIT_DTYPE),
        class_names=EIGHT_EMOTIONS if max(labels) >= NUM_CLASSES else EMOTIONS,
        pixels=np.array(faces, object),
    )


def _lines(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """Lines without their ends; at most a chunk and a line are in memory at a time."""
    size, rest = 0, b""
    for chunk in chunks:
        size += len(chunk)
        check_csv_size(size, name)
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        if len(rest) > MAX_ROW_BYTES:
            break  # not a row: the caller refuses it below, and no more of it is read
    if rest:
        yield rest


def check_csv_size(size: int, name: str) -> None:
    """Refuse a csv of more unpacked bytes than `MAX_CSV_BYTES`."""
    if size > MAX_CSV_BYTES:
        raise InputError(
            f"{name}: more than {MAX_CSV_BYTES >> 20:,} MiB of csv; use folders of images or a .npz for so many faces"
        )


def _header(line: bytes, name: str, separator: bytes) -> list[str]:
    """Column names of row 1, without blanks and in lower case."""
    if not line.strip():
        raise InputError(f"{name}: row 1 is empty; expected the header emotion,pixels,Usage")
    if line[257:262] == b"ustar":
        raise InputError(f"{name}: a tar archive; unpack it and give the csv inside")
    if line.startswith((b"\xff\xfe", b"\xfe\xff")) or (
        b"\0" in line and b"emotion" in line.replace(b"\0", b"")[:200].lower()
    ):
        raise InputError(f"{name}: UTF-16 text; save it as UTF-8")
    if b"\0" in line:
        raise InputError(f"{name}: binary data, not a csv; give fer2013.csv, a .npz or a folder of images")
    line = line.removeprefix(b"\xef\xbb\xbf")
    fields = _fields(line, f"{name}: row 1", separator)
    header = [field.decode("utf-8", "replace").strip().lower() for field in fields]
    for column in ("emotion", "pixels", "usage"):
        if column not in header and column != "usage":
            raise InputError(
                f"{name}: not a FER-2013 csv, row 1 has no column {column}: {shown(line)}; "
                "expected emotion,pixels,Usage separated by commas, semicolons or tabs"
            )
        if header.count(column) > 1:
            raise InputError(f"{name}: row 1 has the column {column} twice; remove one")
    return header


def _fields(line: bytes, where: str, separator: bytes) -> list[bytes]:
    """Columns of one line; a quoted field ends in its line, since no column of FER-2013 holds a line end."""
    if len(line) > MAX_ROW_BYTES:
        raise InputError(f"{where} is longer than {MAX_ROW_BYTES:,} bytes: not a csv with one image per row")
    if b'"' not in line:
        return line.split(separator)
    try:
        (fields,) = csv.reader(
            [line.decode().rstrip("\r")], delimiter=separator.decode(), strict=True, skipinitialspace=True
        )
    except (csv.Error, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{where} is no csv: {error}; expected one image per row, in UTF-8") from error
    return [field.encode() for field in fields]


def _checked_pixels(field: bytes, where: str) -> str:
    """Pixel string of one row, its values separated by single blanks."""
    field = field.strip()
    if _is_canonical(field):
        return field.decode("ascii")
    values = field.split(b" ")
    values = [value for value in values if value]
    for position, value in enumerate(values, start=1):
        # check the length first: int() of thousands of digits is slow
        if not value.isdigit() or len(value) > 9 or int(value) > 255:
            raise InputError(f"{where}: pixel {position} is {shown(value)}; expected a whole number from 0 to 255")
    if len(values) != NUM_PIXELS:
        raise InputError(
            f"{where} has {len(values):,} pixel values; expected {NUM_PIXELS:,} ({IMAGE_SIZE}x{IMAGE_SIZE})"
        )
    return " ".join(str(int(value)) for value in values)


def _is_canonical(field: bytes) -> bool:
    """True for exactly 2304 values of at most three digits, none above 255, with single blanks between them.

    Works on all bytes of a row at once, which is about 50 times faster than value by value.
    """
    code = np.frombuffer(field, np.uint8)
    blank = code == ord(" ")
    digit = (code ^ ord("0")) < 10  # '0'..'9' are 0x30..0x39
    num_blanks = np.count_nonzero(blank)
    if num_blanks != NUM_PIXELS - 1 or num_blanks + np.count_nonzero(digit) != len(code):
        return False
    if not digit[0] or not digit[-1] or (blank[1:] & blank[:-1]).any():
        return False
    three = digit[:-2] & digit[1:-1] & digit[2:]
    if (three[:-1] & three[1:]).any():  # four digits in a row
        return False
    hundreds, tens, ones = code[:-2], code[1:-1], code[2:]
    above = (hundreds > ord("2")) | (
        (hundreds == ord("2")) & ((tens > ord("5")) | ((tens == ord("5")) & (ones > ord("5"))))
    )
    return not (three & above).any()
