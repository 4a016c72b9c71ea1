"""Files of a data set: tells their format apart and unpacks archives within bounds, never to disk."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from fer_tf.data.dataset import Dataset
from fer_tf.data.reading.npz import ZIP_ERRORS, read_npz
from fer_tf.data.reading.tables import MAX_CSV_BYTES, read_csv, too_large
from fer_tf.errors import InputError
from fer_tf.text import shown

CSV_NAMES = ("fer2013.csv", "icml_face_data.csv", "train.csv")  # of several in a .zip the first of these is meant
_CHUNK = 1 << 20  # bytes read or unpacked at a time
_XZ_MEMORY = 256 << 20  # bytes; `xz -9` needs 65 MiB, a crafted header may ask for 4 GiB


def read_file(path: Path, name: str) -> Dataset:
    with open(path, "rb") as file:
        magic = file.read(6)
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    suffix = path.suffix.lower()
    if not magic:
        raise InputError(f"{name}: empty file; download it again")
    if magic.startswith(b"PK"):
        dataset = _read_zip(path, name)
    elif magic.startswith(b"\x1f\x8b"):
        dataset = read_csv(_gzip_chunks(path, name), name)
    elif magic == b"\xfd7zXZ\0":
        dataset = read_csv(_xz_chunks(path, name), name)
    elif suffix in (".gz", ".xz", ".zip", ".npz"):
        raise InputError(
            f"{name}: not a {suffix} file, it begins with {shown(magic)}; download it again, or rename it to .csv if "
            "it is plain text"
        )
    else:
        dataset = read_csv(_plain_chunks(path), name)
    return dataclasses.replace(dataset, sha256=sha256)


def _plain_chunks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _gzip_chunks(path: Path, name: str) -> Iterator[bytes]:
    try:
        with gzip.open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(name, error) from error


def _xz_chunks(path: Path, name: str) -> Iterator[bytes]:
    """Unpacks .xz under a memory bound, which `lzma.open` does not take; several streams may follow one another."""
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


def _zip_chunks(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> Iterator[bytes]:
    try:
        with archive.open(member) as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except ZIP_ERRORS as error:
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> InputError:
    return InputError(f"{name}: truncated or damaged ({' '.join(str(error).split())[:100]}); download it again")


def _read_zip(path: Path, name: str) -> Dataset:
    try:
        archive = zipfile.ZipFile(path)
    except ZIP_ERRORS as error:
        raise _damaged(name, error) from error
    with archive:
        members = archive.infolist()
        for member in members:
            _check_member(member, name)
        if any(member.filename.endswith(".npy") for member in members):
            return read_npz(archive, name)
        # macOS adds members that begin with a dot
        files = [member for member in members if not PurePosixPath(member.filename).name.startswith(".")]
        found = [member for member in files if member.filename.lower().endswith(".csv")]
        if not found:
            held = ", ".join(shown(member.filename) for member in members[:5]) or "nothing"
            raise InputError(
                f"{name}: no .csv in this zip, it holds {held}; unpack a zip of images and give the folder"
            )
        if len(found) > 1:
            for wanted in CSV_NAMES:
                named = [member for member in found if PurePosixPath(member.filename).name.lower() == wanted]
                if named:
                    found = named
                    break
        if len(found) > 1:
            held = ", ".join(shown(member.filename) for member in found[:5])
            raise InputError(f"{name}: {len(found)} csv files in this zip ({held}); unpack it and name the one to read")
        if found[0].file_size > MAX_CSV_BYTES:
            raise InputError(too_large(name))
        return read_csv(_zip_chunks(archive, found[0], name), name)


def _check_member(member: zipfile.ZipInfo, name: str) -> None:
    """Refuses what a sound archive of data never holds, although nothing of it is ever written to disk."""
    parts = PurePosixPath(member.filename.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or (parts.parts and parts.parts[0].endswith(":")):
        raise InputError(f"{name}: its member {shown(member.filename)} climbs out of the archive; do not use this file")
    if member.flag_bits & 1:
        raise InputError(f"{name}: encrypted; unpack it with its password and give the csv")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{name}: packed by an unusual method; unpack it and give the csv")
