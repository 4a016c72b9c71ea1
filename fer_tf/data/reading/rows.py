"""Text of a table -> rows of fields: encodings, line ends, separators, quotes; a broken row gets a reason."""

from __future__ import annotations

import codecs
import contextlib
import csv
import itertools
import re
from collections import deque
from collections.abc import Iterator, Sequence

from fer_tf.data.reading.checks import MAX_ROWS, check_csv_size
from fer_tf.data.reading.columns import find_columns, guess_columns, is_data
from fer_tf.errors import InputError
from fer_tf.text import quantity, shown

MAX_ROW_BYTES = 8 << 20  # a row of FER-2013 has at most 9,240; a row of 1024x1024 pixels has 4 MiB
_HEAD_BYTES = 64 << 10  # the part that shows encoding and line ends
_SEPARATORS = (b",", b";", b"\t")

UNKNOWN_LABEL, UNKNOWN_SPLIT = "whose label is unknown", "whose split is unknown"  # kinds of broken rows

Fields = list[bytes]


class BrokenRow(InputError):
    """An error in one row; the message names neither file nor number, and `kind` groups rows with the same error."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Table:
    """Rows of a csv, read piece by piece.

    Attributes:
        columns: which column holds what.
    """

    def __init__(self, chunks: Iterator[bytes], name: str) -> None:
        """Read the header.

        Args:
            chunks: the unpacked bytes of the file, in pieces of any size.
            name: name of the file in messages.

        Raises:
            InputError: if the first rows are not rows of a table.
        """
        self._name = name
        self._lines = _lines(_utf8(chunks, name), name)
        self._waiting: deque[bytes] = deque()
        self._number = 0  # number of the last line read
        header = self._next() or b""
        self._check_text(header)
        unquoted = re.sub(rb'"[^"]*"|\[[^\]]*\]', b"", header[:MAX_ROW_BYTES])
        self._separator = max(_SEPARATORS, key=unquoted.count)
        try:
            fields = self._fields(header)
        except BrokenRow as error:
            raise InputError(f"{name}: row 1: {error}") from error
        if is_data(fields):
            self.columns = guess_columns(fields, name)
            self._push_back([header])
            return
        first: Fields = []
        if (line := self._next()) is not None:
            try:
                first = self._fields(line)
            except BrokenRow:
                first = []  # reported with the other broken rows
            self._push_back([line])
        self.columns = find_columns(fields, first, name)

    def rows(self) -> Iterator[tuple[int, Fields | BrokenRow]]:
        """The number of each row's first line, from 1, and the row's fields, one for each column.

        Raises:
            InputError: if there are more than `MAX_ROWS` rows, or a row is longer than `MAX_ROW_BYTES`.
        """
        num_columns = self.columns.num
        num_rows = 0
        while (line := self._next()) is not None:
            if not line or line.isspace():
                continue
            num_rows += 1
            if num_rows > MAX_ROWS:
                raise InputError(f"{self._name}: more than {MAX_ROWS:,} rows; give a smaller file")
            number = self._number
            try:
                fields = self._quoted_row(line) if b'"' in line else self._fields(line)
                while len(fields) > num_columns and not fields[-1].strip():
                    fields.pop()
                if len(fields) != num_columns:
                    reason = f"{quantity(len(fields), 'column')}; expected {num_columns} as in row 1"
                    raise BrokenRow("with other columns than row 1", reason)
            except BrokenRow as error:
                yield number, error
            else:
                yield number, fields

    def _next(self) -> bytes | None:
        line = self._waiting.popleft() if self._waiting else next(self._lines, None)
        self._number += line is not None
        return line

    def _push_back(self, lines: Sequence[bytes]) -> None:
        self._waiting.extendleft(reversed(lines))
        self._number -= len(lines)

    def _quoted_row(self, line: bytes) -> Fields:
        """Fields of a row whose quoted text may continue in the next lines, such as a list that NumPy wrapped."""
        if line.count(b'"') % 2 == 0:
            return self._fields(line)
        lines, size = [line], len(line)
        while (more := self._next()) is not None:
            lines.append(more)
            size += len(more) + 1
            is_closed = more.count(b'"') % 2 == 1
            if size > MAX_ROW_BYTES or (not is_closed and self._is_row(more)):
                break  # `more` is a new row: the quote before it was never closed
            if is_closed:
                with contextlib.suppress(BrokenRow):
                    fields = self._fields(b"\n".join(lines))
                    if len(fields) == self.columns.num:
                        return fields
                break
        self._push_back(lines[1:])
        return self._fields(line)

    def _is_row(self, line: bytes) -> bool:
        try:
            return len(self._fields(line)) == self.columns.num
        except BrokenRow:
            return False

    def _fields(self, line: bytes) -> Fields:
        if len(line) > MAX_ROW_BYTES:
            raise InputError(
                f"{self._name}: row {self._number} is longer than {MAX_ROW_BYTES:,} bytes: not a csv with one image "
                "per row"
            )
        if b'"' not in line:
            return line.split(self._separator)
        limit = csv.field_size_limit(MAX_ROW_BYTES)
        try:
            text = [line.decode().rstrip("\r")]
            (fields,) = csv.reader(text, delimiter=self._separator.decode(), strict=True, skipinitialspace=True)
        except (csv.Error, UnicodeDecodeError, ValueError) as error:
            reason = f"not a csv ({shown(str(error))[1:-1]}); expected one image per row, in UTF-8"
            raise BrokenRow("that are not csv", reason) from error
        finally:
            csv.field_size_limit(limit)
        return [field.encode() for field in fields]

    def _check_text(self, header: bytes) -> None:
        if not header.strip():
            raise InputError(f"{self._name}: row 1 is empty; expected the header emotion,pixels,Usage")
        if b"\0" in header:
            raise InputError(f"{self._name}: binary data, not a csv; give fer2013.csv, a .npz or a folder of images")


def _utf8(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """The same text in UTF-8, without a byte-order mark, with a line feed after each line."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= _HEAD_BYTES:
            break
    encoding = _encoding(head)
    chunks = itertools.chain([head], chunks)
    if encoding is not None:
        chunks = _decoded(chunks, encoding, name)
        head = next(chunks, b"")
        chunks = itertools.chain([head], chunks)
    is_old_mac = b"\n" not in head and b"\r" in head.rstrip(b"\r")
    for number, chunk in enumerate(chunks):
        if number == 0:
            chunk = chunk.removeprefix(codecs.BOM_UTF8)
        yield chunk.replace(b"\r", b"\n") if is_old_mac else chunk


def _encoding(head: bytes) -> str | None:
    """Return the encoding of text that is not in UTF-8, if its first bytes show it."""
    for mark, encoding in ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32")):
        if head.startswith(mark):
            return encoding
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    start = head[:16]
    if len(start) == 16 and not any(start[1::2]) and all(start[::2]):
        return "utf-16-le"
    if len(start) == 16 and not any(start[::2]) and all(start[1::2]):
        return "utf-16-be"
    return None


def _decoded(chunks: Iterator[bytes], encoding: str, name: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for chunk in chunks:
            yield decoder.decode(chunk).encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeError as error:
        raise InputError(f"{name}: damaged {encoding.upper()} text ({shown(str(error))}); save it as UTF-8") from error


def _lines(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """Lines without their ends; at most a chunk and a line are in memory at a time."""
    size, rest = 0, b""
    for chunk in chunks:
        size += len(chunk)
        check_csv_size(size, name)
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        if len(rest) > MAX_ROW_BYTES:
            break  # too long for a row: read no more, the caller refuses it
    if rest:
        yield rest
