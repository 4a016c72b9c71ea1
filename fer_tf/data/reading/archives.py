"""Opens and unpacks files piece by piece, within bounds and never to disk."""

from __future__ import annotations

import gzip
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from fer_tf.data.reading.tables import check_csv_size
from fer_tf.errors import InputError
from fer_tf.text import shown

CSV_NAMES = ("fer2013.csv", "icml_face_data.csv", "train.csv")  # of several in a .zip the first of these is meant
_CHUNK = 1 << 20  # bytes read or unpacked at a time
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


def xz_chunks(path: Path, name: str) -> Iterator[bytes]:
    """The unpacked bytes of a .xz of one or several streams, under a memory bound, which `lzma.open` does not take."""
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
    """The unpacked bytes of the one csv in a .zip."""
    member = _find_csv(archive, name)
    check_csv_size(member.file_size, name)
    try:
        with archive.open(member) as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except _ZIP_ERRORS as error:
        raise _damaged(name, error) from error


def _check_member(member: zipfile.ZipInfo, name: str) -> None:
    """Refuse what a sound archive of data never holds, although no member is ever written to disk."""
    parts = PurePosixPath(member.filename.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or (parts.parts and parts.parts[0].endswith(":")):
        raise InputError(f"{name}: its member {shown(member.filename)} climbs out of the archive; do not use this file")
    if member.flag_bits & 1:
        raise InputError(f"{name}: encrypted; unpack it with its password and give the csv")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{name}: packed by an unusual method; unpack it and give the csv")


def _find_csv(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    members = archive.infolist()
    # macOS adds members that begin with a dot
    visible = [member for member in members if not PurePosixPath(member.filename).name.startswith(".")]
    found = [member for member in visible if member.filename.lower().endswith(".csv")]
    if not found:
        held = ", ".join(shown(member.filename) for member in members[:5]) or "nothing"
        raise InputError(f"{name}: no .csv in this zip, it holds {held}; unpack a zip of images and give the folder")
    if len(found) > 1:
        for wanted in CSV_NAMES:
            named = [member for member in found if PurePosixPath(member.filename).name.lower() == wanted]
            if named:
                found = named
                break
    if len(found) > 1:
        held = ", ".join(shown(member.filename) for member in found[:5])
        raise InputError(f"{name}: {len(found)} csv files in this zip ({held}); unpack it and name the one to read")
    return found[0]


def _damaged(name: str, error: Exception) -> InputError:
    return InputError(f"{name}: truncated or damaged ({' '.join(str(error).split())[:100]}); download it again")
