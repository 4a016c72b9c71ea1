"""Reads from a video file's own structure what OpenCV does not tell: whether it counts frames, and hides some."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import BinaryIO

_MOST_HEADER_BYTES = 64 << 20  # of an MP4's index: some hours of video; a longer one is not looked into


@dataclasses.dataclass(frozen=True)
class Container:
    """What the structure of a video file says.

    Attributes:
        counts_frames: True if the file stores its number of frames (AVI, MP4 and its relatives).
        is_avi: True for an AVI, whose frames have no times of their own.
        shown_seconds: how much of the video track an MP4 shows; 0 if it shows all or does not say.
        ends_early: True if the last bytes, which the format demands, are missing.
    """

    counts_frames: bool = False
    is_avi: bool = False
    shown_seconds: float = 0.0
    ends_early: bool = False


def read_container(path: str | os.PathLike[str]) -> Container:
    """Read the structure of a video file; a file that cannot be read or understood says nothing."""
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
    except (OSError, ValueError, IndexError):
        pass
    return Container()


def _shown_seconds(file: BinaryIO) -> float:
    """Length of the part of the video track that an MP4's edit list shows (ISO 14496-12, 8.6.6); 0 if it has none."""
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
