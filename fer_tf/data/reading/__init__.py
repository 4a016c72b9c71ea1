"""Readers of data sets, one module a format: `tables` (csv), `folders` and `npz`; `archives` unpacks files.

To add a format, write a module here with a function that takes the path and its name in messages and returns a
`Dataset`. It trusts nothing: it checks sizes before it reads (`checks`), writes nothing to disk, and raises one
`InputError` that names the file and the row. Then call it in `read` below, which tells the formats apart.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

from fer_tf.data.dataset import Dataset
from fer_tf.data.reading import archives
from fer_tf.data.reading.folders import read_folder
from fer_tf.data.reading.npz import read_npz
from fer_tf.data.reading.tables import read_csv
from fer_tf.errors import InputError
from fer_tf.faces.policy import CropPolicy
from fer_tf.text import shown


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
        skip_broken: True to go on without pictures that cannot be read.

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
        start = file.read(6)
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    suffix = path.suffix.lower()
    if not start:
        raise InputError(f"{name}: empty file; download it again")
    if start.startswith(b"PK"):
        with archives.open_zip(path, name) as archive:
            is_npz = any(member.endswith(".npy") for member in archive.namelist())
            dataset = read_npz(archive, name) if is_npz else read_csv(archives.zip_chunks(archive, name), name)
    elif start.startswith(b"\x1f\x8b"):
        dataset = read_csv(archives.gzip_chunks(path, name), name)
    elif start == b"\xfd7zXZ\0":
        dataset = read_csv(archives.xz_chunks(path, name), name)
    elif suffix in (".gz", ".xz", ".zip", ".npz"):
        raise InputError(
            f"{name}: not a {suffix} file, it begins with {shown(start)}; download it again, or rename it to .csv if "
            "it is plain text"
        )
    else:
        dataset = read_csv(archives.plain_chunks(path), name)
    return dataclasses.replace(dataset, sha256=sha256)
