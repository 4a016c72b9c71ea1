"""Opens and unpacks files piece by piece, within size limits and without writing to disk."""

from __future__ import annotations

import bz2
import gzip
import itertools
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from fer_tf.data.reading.checks import check_csv_size
from fer_tf.errors import InputError
from fer_tf.text import shown

CSV_NAMES = ("fer2013.csv", "icml_face_data.csv", "train.csv")  # of several csv files, read the first of these
_CHUNK = 1 << 20  # bytes read or unpacked at a time
_TAR_BLOCK, _TAR_MEMBERS = 512, 100_000
_XZ_MEMORY = 256 << 20  # bytes; `xz -9` needs 65 MiB, a crafted header may ask for 4 GiB
_ZIP_ERRORS = (  # zipfile raises these on crafted archives
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    ValueError,
)


def plain_chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file."""
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def gzip_chunks(path: Path, name: str) -> Iterator[bytes]:
    """The unpacked bytes of a .gz."""
    try:
        with gzip.open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(name, error) from error


def bz2_chunks(path: Path, name: str) -> Iterator[bytes]:
    """The unpacked bytes of a .bz2."""
    try:
        with bz2.open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except (EOFError, OSError, ValueError) as error:
        raise _damaged(name, error) from error


def xz_chunks(path: Path, name: str) -> Iterator[bytes]:
    """The unpacked bytes of a .xz with one or more streams, with a memory limit, which `lzma.open` does not offer."""
    try:
        with open(path, "rb") as file:
            data = file.read(_CHUNK)
            while data:
                stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
                while not stream.eof:
                    if stream.needs_input and not data:
                        raise EOFError("the file ends before the stream does")
                    yield stream.decompress(data, max_length=_CHUNK)
                    data = file.read(_CHUNK) if stream.needs_input else b""
                data = (stream.unused_data or file.read(_CHUNK)).lstrip(b"\0")  # streams may be padded
    except (EOFError, lzma.LZMAError) as error:
        raise _damaged(name, error) from error


def open_zip(path: Path, name: str) -> zipfile.ZipFile:
    """Open a .zip or .npz and check each member's name, encryption and method."""
    try:
        archive = zipfile.ZipFile(path)
    except _ZIP_ERRORS as error:
        raise _damaged(name, error) from error
    try:
        for member in archive.infolist():
            _check_member(member, name)
    except InputError:
        archive.close()
        raise
    return archive


def zip_chunks(archive: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    """The unpacked bytes of the csv in a .zip."""
    members = {member.filename: member for member in archive.infolist()}
    member = members[_choose_csv(list(members), name, "zip")]
    check_csv_size(member.file_size, name)
    try:
        with archive.open(member) as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except _ZIP_ERRORS as error:
        raise _damaged(name, error) from error


def is_tar(start: bytes) -> bool:
    """Return True for the first bytes of a tar of any kind since 1988."""
    return start[257:262] == b"ustar"


def tar_chunks(open_chunks: Callable[[], Iterator[bytes]], name: str) -> Iterator[bytes]:
    """The bytes of the csv in a tar, read in order and never written to disk.

    Args:
        open_chunks: returns the unpacked bytes of the tar from the beginning, at each call.
        name: name to use in messages.
    """
    members = []
    for member, is_file, data in _tar_members(open_chunks(), name):
        if member.rpartition("/")[2].lower() == CSV_NAMES[0] and is_file:
            yield from data  # the first name in CSV_NAMES wins: read no further
            return
        members.append(member if is_file else "")
    chosen = _choose_csv([member for member in members if member], name, "tar")
    for place, (_, _, data) in enumerate(_tar_members(open_chunks(), name)):
        if place == members.index(chosen):
            yield from data
            return


def _tar_members(chunks: Iterator[bytes], name: str) -> Iterator[tuple[str, bool, Iterator[bytes]]]:
    """Name of each member, True for a regular file, and its bytes; bytes that the caller does not take are skipped.

    The module `tarfile` would load a crafted header of any length into memory.
    """
    rest, total = b"", 0

    def take(size: int) -> Iterator[bytes]:
        nonlocal rest, total
        while size > 0:
            if not rest:
                rest = next(chunks, b"")
                total += len(rest)
                check_csv_size(total, name)
                if not rest:
                    raise _damaged(name, EOFError("the file ends before the archive does"))
            piece, rest = rest[:size], rest[size:]
            size -= len(piece)
            yield piece

    num_members = 0
    while any(header := b"".join(take(_TAR_BLOCK))):
        unsigned = sum(header[:148]) + 8 * ord(" ") + sum(header[156:])  # the checksum's own bytes are taken as blanks
        if _octal(header[148:156]) != unsigned or (size := _octal(header[124:136])) is None:
            raise _damaged(name, ValueError("a header of the archive is wrong"))
        prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
        parts = [part for part in (prefix, header[:100].split(b"\0")[0]) if part]
        member = b"/".join(parts).decode("utf-8", "replace")
        _check_name(member, name)
        num_members += 1
        if num_members > _TAR_MEMBERS:
            raise InputError(f"{name}: more than {_TAR_MEMBERS:,} files in this tar; unpack it and give the folder")
        is_file = header[156:157] in (b"0", b"\0")
        data = take(size)
        yield member, is_file, data
        for _ in itertools.chain(data, take(-size % _TAR_BLOCK)):
            pass


def _octal(field: bytes) -> int | None:
    """Return a number of a tar's header; None if it is not an octal number."""
    digits = field.strip(b" \0")
    return int(digits, 8) if digits and not digits.strip(b"01234567") else None


def _check_member(member: zipfile.ZipInfo, name: str) -> None:
    """Refuse members that no sound archive of data holds, although no member is ever written to disk."""
    _check_name(member.filename, name)
    if member.flag_bits & 1:
        raise InputError(f"{name}: encrypted; unpack it with its password and give the csv")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{name}: packed by an unusual method; unpack it and give the csv")


def _check_name(member: str, name: str) -> None:
    parts = PurePosixPath(member.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or (parts.parts and parts.parts[0].endswith(":")):
        raise InputError(f"{name}: its member {shown(member)} climbs out of the archive; do not use this file")


def _choose_csv(members: Sequence[str], name: str, kind: str) -> str:
    """Return the csv to read: the only one, or else the one that comes first in `CSV_NAMES`."""
    # macOS adds members that begin with a dot
    visible = [member for member in members if not PurePosixPath(member).name.startswith(".")]
    found = [member for member in visible if member.lower().endswith(".csv")]
    if "[Content_Types].xml" in members:
        raise InputError(f"{name}: a spreadsheet or document; save its table as csv")
    if not found:
        held = ", ".join(map(shown, members[:5])) or "nothing"
        raise InputError(
            f"{name}: no .csv in this {kind}, it holds {held}; unpack a {kind} of images and give the folder"
        )
    if len(found) > 1:
        for wanted in CSV_NAMES:
            named = [member for member in found if PurePosixPath(member).name.lower() == wanted]
            if named:
                found = named
                break
    if len(found) > 1:
        held = ", ".join(map(shown, found[:5]))
        raise InputError(f"{name}: {len(found)} csv files in this {kind} ({held}); unpack it and name the one to read")
    return found[0]


def _damaged(name: str, error: Exception) -> InputError:
    return InputError(f"{name}: truncated or damaged ({' '.join(str(error).split())[:100]}); download it again")
