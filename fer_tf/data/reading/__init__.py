"""Readers of data sets, one module a format: `tables` (of pixels), `path_tables`, `folders`, `parquet`, `hub`, `npz`.

To add a format, write a module here with a function that takes the path and its name in messages and returns a
`Dataset`. The function must trust nothing: check sizes before reading (`checks`), write nothing to disk, and raise one
`InputError` that names the file and the row. Then call it in `read` below, which tells the formats apart. `archives`
unpacks files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.util
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fer_tf.data.dataset import Dataset
from fer_tf.data.reading import archives
from fer_tf.data.reading.folders import arrange, read_folder
from fer_tf.data.reading.npz import read_npz
from fer_tf.data.reading.path_tables import read_path_table
from fer_tf.data.reading.rows import Table
from fer_tf.data.reading.tables import read_pixel_table
from fer_tf.data.reading.tree import Found, Parts, walk
from fer_tf.errors import InputError
from fer_tf.faces.policy import CropPolicy
from fer_tf.install import install_hint
from fer_tf.text import quantity, shown, shown_path

_OTHER_KINDS = {  # first bytes of files that people mistake for a csv; letters in any case
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
    """Read a data set in any format; the file's contents decide the format, not its name.

    Args:
        path: a file or a folder.
        name: name to use in messages.
        faces: how the pictures of a folder or of a table of paths become crops; the other formats hold crops.
        class_names: names of classes that are only numbers, as for `names.names_of_numbers`.
        subjects: where to find the person that a picture shows, as for `load_dataset`.
        skip_broken: True to leave out pictures and rows that cannot be read.

    Returns:
        The rows, with `sha256`.

    Raises:
        InputError: if the format is not known, or the data is not as expected.
    """
    options: dict[str, Any] = {"class_names": class_names, "subjects": subjects, "skip_broken": skip_broken}
    if path.is_dir():
        found = walk(path, name)
        if found.parquet and _is_parquet(path, found, name):
            return _read_parquet(path, found.parquet, name, faces, **options)
        return read_folder(path, found, name, faces, **options)
    if not path.is_file():
        if path.exists():
            raise InputError(
                f"{name}: neither a regular file nor a folder; give a csv, a .npz, a .parquet or a folder of images"
            )
        raise InputError(f"{name}: no such file or folder; give the path of fer2013.csv, a .npz or a folder of images")
    with open(path, "rb") as file:
        start = file.read(64)
        if start.startswith(b"PAR1"):
            return _read_parquet(path, [], name, faces, **options)
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if not start:
        raise InputError(f"{name}: empty file; download it again")
    if start.startswith(b"PK"):
        with archives.open_zip(path, name) as archive:
            if any(member.endswith(".npy") for member in archive.namelist()):
                dataset = read_npz(archive, name)
            else:
                dataset = _read_table(archives.zip_chunks(archive, name), None, name, faces, options)
    else:
        open_chunks = _unpacked(path, name, start)
        chunks = open_chunks()
        head = next(chunks, b"")
        is_tar = archives.is_tar(head)
        chunks = archives.tar_chunks(open_chunks, name) if is_tar else itertools.chain([head], chunks)
        dataset = _read_table(chunks, None if is_tar else path.parent, name, faces, options)
    if dataset.sha256:  # the digest of the pictures that a table names
        sha256 = hashlib.sha256(f"{sha256}{dataset.sha256}".encode()).hexdigest()
    return dataclasses.replace(dataset, sha256=sha256)


def read_object(source: Any, faces: str | CropPolicy = "auto", **options: Any) -> Dataset:
    """Read an object of the package `datasets`.

    Args:
        source: a `datasets.Dataset` or `DatasetDict`.
        faces: as for `read`.
        options: as for `read`.

    Raises:
        InputError: if the object has another type, or the data is not as expected.
    """
    with _needs_pyarrow("a data set of Hugging Face"):
        from fer_tf.data.reading.hub import read_hub
    return read_hub(source, faces, **options)


def _read_parquet(path: Path, files: Sequence[Parts], name: str, *arguments: Any, **options: Any) -> Dataset:
    with _needs_pyarrow(f"{name}: Parquet"):
        from fer_tf.data.reading.parquet import read_parquet
    return read_parquet(path, files, name, *arguments, **options)


@contextlib.contextmanager
def _needs_pyarrow(what: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(f"to read {what}, install pyarrow: {install_hint('parquet', 'pyarrow')}") from error


def _is_parquet(root: Path, found: Found, name: str) -> bool:
    """Return True if the folder's Parquet files are the data set, False if its pictures are.

    Raises:
        InputError: if both may be the data set.
    """
    if not arrange(found.pictures).rows:
        return True
    if importlib.util.find_spec("pyarrow") is None:
        return False
    from fer_tf.data.reading.parquet import holds_pictures

    held = [parts for parts in found.parquet if holds_pictures(root.joinpath(*parts))]
    if not held:
        return False
    folder = shown_path("/".join(held[0][:-1]) or held[0][-1])
    raise InputError(
        f"{name}: {quantity(len(held), 'Parquet file')} with pictures and {quantity(len(found.pictures), 'picture')} "
        f"in folders; give one of the two, such as {name}/{folder}"
    )


def _read_table(
    chunks: Iterator[bytes], root: Path | None, name: str, faces: str | CropPolicy, options: dict[str, Any]
) -> Dataset:
    """Read a table of pixels or of paths; relative paths start at `root`, which is None inside an archive."""
    table = Table(chunks, name)
    if table.columns.path is None:
        return read_pixel_table(table, name, **options)
    if root is None:
        raise InputError(f"{name}: a table of paths inside an archive; unpack it and give the table")
    return read_path_table(table, root, name, faces, **options)


def _unpacked(path: Path, name: str, start: bytes) -> Callable[[], Iterator[bytes]]:
    """Return a function that yields the unpacked bytes of a file; the first bytes tell how it is packed."""
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
