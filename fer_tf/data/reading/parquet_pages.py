"""Sizes of the pages of a Parquet column, from the pages' own headers: they tell how much memory a reader needs."""

from __future__ import annotations

import dataclasses
from typing import BinaryIO

_HEADER_BYTES = (1 << 10, 1 << 16, 1 << 20)  # read for one header; the next size if the header is longer
_MAX_PAGES = 1_000_000
_MAX_DEPTH = 8  # structs inside one another
_DELTA_BYTE_ARRAY = 7  # each value may repeat the start of the previous one
_DICTIONARY_PAGE = 2
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12


@dataclasses.dataclass
class PageSizes:
    """Unpacked sizes of the pages of columns, in bytes.

    Attributes:
        largest: size of the largest page.
        largest_value: upper bound on the size of a value that is stored once and may be used in many rows.
        largest_mean: mean size of a value in a page, the largest of all pages.
    """

    largest: int = 0
    largest_value: int = 0
    largest_mean: int = 0

    def update(self, other: PageSizes) -> None:
        """Count the pages of another column."""
        self.largest = max(self.largest, other.largest)
        self.largest_value = max(self.largest_value, other.largest_value)
        self.largest_mean = max(self.largest_mean, other.largest_mean)


def page_sizes(file: BinaryIO, start: int, length: int) -> PageSizes:
    """Read the headers of a column's pages.

    The footer of a file also gives the sizes of its columns, but it may be wrong.

    Args:
        file: the Parquet file.
        start: position of the column's first page.
        length: length of all pages of the column, headers included.

    Raises:
        ValueError: if a header is damaged, or there are too many pages.
    """
    sizes = PageSizes()
    at, num_pages = start, 0
    while at < start + length:
        header, header_length = _header(file, at)
        unpacked, packed = header.get(2), header.get(3)
        if not isinstance(unpacked, int) or not isinstance(packed, int) or unpacked < 0 or packed < 0:
            raise ValueError("a page without a size")
        about = header.get(5) or header.get(8)
        about = about if isinstance(about, dict) else {}
        encoding, num_values = about.get(2 if 5 in header else 4), about.get(1)
        may_repeat = header.get(1) == _DICTIONARY_PAGE or encoding == _DELTA_BYTE_ARRAY
        mean = unpacked // max(num_values, 1) if isinstance(num_values, int) else 0
        sizes.update(PageSizes(unpacked, unpacked if may_repeat else 0, mean))
        at += header_length + packed
        num_pages += 1
        if num_pages > _MAX_PAGES:
            raise ValueError(f"more than {_MAX_PAGES:,} pages in a column")
    return sizes


def _header(file: BinaryIO, at: int) -> tuple[dict[int, object], int]:
    """Return the fields of a page's header by their numbers, and its length."""
    for size in _HEADER_BYTES:
        file.seek(at)
        data = file.read(size)
        try:
            return _struct(data, 0, 0)
        except IndexError:
            if len(data) < size:
                break
    raise ValueError("a page whose header does not end")


# --- Thrift's compact protocol: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md ---


def _struct(data: bytes, at: int, depth: int) -> tuple[dict[int, object], int]:
    fields: dict[int, object] = {}
    number = 0
    while (byte := data[at]) != 0:
        at += 1
        if byte >> 4:
            number += byte >> 4
        else:
            number, at = _zigzag(data, at)
        fields[number], at = _value(data, at, byte & 15, depth)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[object, int]:
    """Return a whole number or a struct, None for any other type, and the position after it."""
    if depth > _MAX_DEPTH:
        raise ValueError("a page's header is too deep")
    if kind in (_TRUE, _FALSE):
        return None, at
    if kind in (_BYTE, _DOUBLE):
        end = at + (1 if kind == _BYTE else 8)
    elif kind < _DOUBLE:
        return _zigzag(data, at)
    elif kind == _BINARY:
        length, at = _varint(data, at)
        end = at + length
    elif kind in (_LIST, _SET):
        length, inner, at = data[at] >> 4, data[at] & 15, at + 1
        if length == 15:
            length, at = _varint(data, at)
        if length > len(data) - at:  # each element takes a byte or more
            raise IndexError
        for _ in range(length):
            at = at + 1 if inner in (_TRUE, _FALSE) else _value(data, at, inner, depth + 1)[1]
        end = at
    elif kind == _STRUCT:
        return _struct(data, at, depth + 1)
    else:
        raise ValueError("no header of a page")
    if end > len(data):
        raise IndexError
    return None, end


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a page's header holds no number")


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at
