"""Reads facts that OpenCV does not report: whether a video file stores its number of frames, and hides some."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import BinaryIO

_MOST_ASF_HEADER_BYTES = 1 << 20
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_MATROSKA_LEVELS = (b"\x18S\x80g", b"\x1fC\xb6u")  # Segment and Cluster
_MOST_ELEMENTS = 1_000_000  # three hours of a recording; limits the time for a crafted file
_MOST_HEADER_BYTES = 64 << 20  # an MP4's index for some hours of video; longer ones are not read


@dataclasses.dataclass(frozen=True)
class Container:
    """Facts from the structure of a video file.

    Attributes:
        counts_frames: True if the file stores its number of frames (AVI, MP4 and its relatives).
        is_avi: True for an AVI, which stores no times of frames.
        shown_seconds: the part of the video track that an MP4 shows; 0 if it shows all or does not say.
        ends_early: True if the file is shorter than its structure says.
    """

    counts_frames: bool = False
    is_avi: bool = False
    shown_seconds: float = 0.0
    ends_early: bool = False


def read_container(path: str | os.PathLike[str]) -> Container:
    """Read the structure of a video file; if it cannot be read or understood, return the defaults."""
    try:
        with open(path, "rb") as file:
            start = file.read(128)
            if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
                return Container(counts_frames=True, is_avi=True)
            if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
                return Container(counts_frames=True, shown_seconds=_shown_seconds(file))
            if start[:4] == b"GIF8":
                file.seek(-1, os.SEEK_END)
                return Container(ends_early=file.read(1) not in b";\0")  # some writers pad the file with zeros
            if start[:4] == b"\x1aE\xdf\xa3":
                return Container(ends_early=_is_cut_matroska(file))
            if start[:8] == b"0&\xb2u\x8ef\xcf\x11":
                return Container(ends_early=_is_cut_asf(file))
            for packet_size, sync in ((188, 0), (192, 4)):  # MPEG-TS is a sequence of packets
                if start[sync : sync + 1] == b"G" and _byte_at(file, packet_size + sync) == b"G":
                    return Container(ends_early=file.seek(0, os.SEEK_END) % packet_size != 0)
    except (OSError, ValueError, IndexError):
        pass
    return Container()


def _byte_at(file: BinaryIO, position: int) -> bytes:
    file.seek(position)
    return file.read(1)


def _is_cut_asf(file: BinaryIO) -> bool:
    """Compare the length of a Windows Media file with the one in its File Properties Object (ASF, 3.2)."""
    file.seek(0)
    head = file.read(_MOST_ASF_HEADER_BYTES)
    at = head.find(_ASF_FILE_PROPERTIES)
    return at >= 0 and int.from_bytes(head[at + 40 : at + 48], "little") > file.seek(0, os.SEEK_END)


def _is_cut_matroska(file: BinaryIO) -> bool:
    """Return True if an element of a Matroska or WebM file reaches beyond the file's end (RFC 8794, 6).

    Browsers record segments and clusters of unknown size, so the elements inside these are checked.
    """
    position, end = 0, file.seek(0, os.SEEK_END)
    for _ in range(_MOST_ELEMENTS):
        if position >= end:
            break
        file.seek(position)
        head = file.read(12)
        id_length = size_at = 9 - head[0].bit_length()
        if id_length > 4:  # not an element: the file is damaged, and reading its frames will show it
            return False
        if size_at >= len(head):
            return True
        size_length = 9 - head[size_at].bit_length()
        if size_length > 8:
            return False
        bits = 7 * size_length
        size = int.from_bytes(head[size_at : size_at + size_length]) & (1 << bits) - 1
        position += id_length + size_length
        if size == (1 << bits) - 1:  # unknown size: read the elements inside
            if head[:id_length] not in _MATROSKA_LEVELS:
                return False
        else:
            position += size
    return position > end


def _shown_seconds(file: BinaryIO) -> float:
    """Length of the part of the video track that an MP4's edit list shows (ISO 14496-12, 8.6.6); 0 without a list."""
    index = _find_index(file)
    movie = _child(index, b"mvhd")
    timescale = int.from_bytes(movie[20:24] if movie[:1] == b"\1" else movie[12:16])
    for kind, track in _boxes(index):
        media = _child(track, b"mdia") if kind == b"trak" else b""
        if _child(media, b"hdlr")[8:12] != b"vide":
            continue
        edits = _child(_child(track, b"edts"), b"elst")
        size = 8 if edits[:1] == b"\1" else 4
        shown = 0
        for number in range(int.from_bytes(edits[4:8])):
            entry = edits[8 + number * (2 * size + 4) :][: 2 * size]
            if len(entry) < 2 * size:
                break
            if entry[size:] != b"\xff" * size:  # -1: an empty edit delays the video
                shown += int.from_bytes(entry[:size])
        return shown / timescale if timescale else 0.0
    return 0.0


def _find_index(file: BinaryIO) -> bytes:
    """Contents of an MP4's box `moov`; empty if there is none."""
    position, end = 0, file.seek(0, os.SEEK_END)
    while position + 8 <= end:
        file.seek(position)
        head = file.read(16)
        size, skip = int.from_bytes(head[:4]), 8
        if size == 1:
            size, skip = int.from_bytes(head[8:]), 16
        if head[4:8] == b"moov" and size <= _MOST_HEADER_BYTES:
            file.seek(position + skip)
            return file.read(size - skip)
        if size < skip:
            break
        position += size
    return b""


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position + 8 <= len(data):
        size = int.from_bytes(data[position : position + 4])
        if size < 8:
            return
        yield data[position + 4 : position + 8], data[position + 8 : position + size]
        position += size


def _child(data: bytes, kind: bytes) -> bytes:
    return next((contents for name, contents in _boxes(data) if name == kind), b"")
