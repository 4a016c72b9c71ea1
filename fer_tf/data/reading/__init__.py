"""Readers of data sets, one module a format: `tables` (csv), `folders` and `npz`; `archives` unpacks files.

To add a format, write a module here with a function that takes the path and its name in messages and returns a
`Dataset`. It trusts nothing: it checks sizes before it reads (`checks`), writes nothing to disk, and raises one
`InputError` that names the file and the row. Then call it in `read` below, which tells the formats apart.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fer_tf.data.dataset import Dataset
from fer_tf.data.reading import archives
from fer_tf.data.reading.folders import read_folder
from fer_tf.data.reading.npz import read_npz
from fer_tf.data.reading.tables import read_csv
from fer_tf.errors import InputError
from fer_tf.faces.policy import CropPolicy
from fer_tf.text import shown

_OTHER_KINDS = {  # first bytes of files that people give for a csv; letters in any case
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive; unpack it and give the csv or the folder inside",
    b"Rar!": "a RAR archive; unpack it and give the csv or the folder inside",
    b"\x28\xb5\x2f\xfd": "packed by zstd; unpack it and give the csv inside",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself; fetch it with git lfs pull",
    b"<!DOCTYPE": "a web page, not a csv; download the file itself, which may need you to sign in",
    b"<html": "a web page, not a csv; download the file itself, which may need you to sign in",
}


def read(
    path: Path,
    name: str,
    faces: str | CropPolicy = "auto",
    *,
    class_names: Sequence[str] | None = None,
    subjects: str | None = None,
    skip_broken: bool = False,
) -> Dataset:
    """Read a data set in any format; the contents of a file decide, not its name.

    Args:
        path: a file or a folder.
        name: what messages call it.
        faces: how the pictures of a folder become crops; the other formats hold crops.
        class_names: names of classes that are only numbers, as for `names.names_of_numbers`.
        subjects: tells which person a picture shows, as for `load_dataset`.
        skip_broken: True to go on without pictures and rows that cannot be read.

    Returns:
        Its rows, with `sha256`.

    Raises:
        InputError: if it is in none of the formats, or anything about it is not as expected.
    """
    if path.is_dir():
        return read_folder(path, name, faces, class_names=class_names, subjects=subjects, skip_broken=skip_broken)
    if not path.is_file():
        if path.exists():
            raise InputError(f"{name}: neither a regular file nor a folder; give a csv, a .npz or a folder of images")
        raise InputError(f"{name}: no such file or folder; give the path of fer2013.csv, a .npz or a folder of images")
    with open(path, "rb") as file:
        start = file.read(64)
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if not start:
        raise InputError(f"{name}: empty file; download it again")
    options: dict[str, Any] = {"class_names": class_names, "subjects": subjects, "skip_broken": skip_broken}
    if start.startswith(b"PK"):
        with archives.open_zip(path, name) as archive:
            if any(member.endswith(".npy") for member in archive.namelist()):
                dataset = read_npz(archive, name)
            else:
                dataset = read_csv(archives.zip_chunks(archive, name), name, **options)
    else:
        open_chunks = _unpacked(path, name, start)
        chunks = open_chunks()
        head = next(chunks, b"")
        chunks = archives.tar_chunks(open_chunks, name) if archives.is_tar(head) else itertools.chain([head], chunks)
        dataset = read_csv(chunks, name, **options)
    return dataclasses.replace(dataset, sha256=sha256)


def _unpacked(path: Path, name: str, start: bytes) -> Callable[[], Iterator[bytes]]:
    """Return a function that begins with the unpacked bytes of a file, told by its first bytes."""
    suffix = path.suffix.lower()
    if start.startswith(b"\x1f\x8b"):
        return lambda: archives.gzip_chunks(path, name)
    if start.startswith(b"\xfd7zXZ\0"):
        return lambda: archives.xz_chunks(path, name)
    if start.startswith(b"BZh"):
        return lambda: archives.bz2_chunks(path, name)
    for known, text in _OTHER_KINDS.items():
        if start.lower().startswith(known.lower()):
            raise InputError(f"{name}: {text}")
    if suffix in (".gz", ".xz", ".bz2", ".zip", ".npz"):
        raise InputError(
            f"{name}: not a {suffix} file, it begins with {shown(start[:6])}; download it again, or rename it to .csv "
            "if it is plain text"
        )
    return lambda: archives.plain_chunks(path)
