"""The .npz format, which `fer-tf prepare` writes."""

from __future__ import annotations

import io
import os
import sys
import zipfile
from pathlib import Path

import numpy as np

from fer_tf.artifacts import atomic_path
from fer_tf.data.dataset import SPLIT_DTYPE, Dataset
from fer_tf.data.reading.checks import MAX_CLASS_NAME, MAX_CLASSES, MAX_ROWS, NUM_PIXELS, check_class_names
from fer_tf.errors import InputError
from fer_tf.task import IMAGE_SIZE, SPLITS
from fer_tf.text import shown

NPZ_MEMBERS = {  # largest size of each array, bytes
    "images": MAX_ROWS * NUM_PIXELS,
    "labels": MAX_ROWS * 8,
    "split": MAX_ROWS * 4 * max(map(len, SPLITS)),
    "class_names": MAX_CLASSES * 4 * MAX_CLASS_NAME,
}
_NPY_HEADER = 16 << 10  # bytes; more than the longest .npy header that NumPy accepts


def save_npz(dataset: Dataset, path: str | os.PathLike[str]) -> None:
    """Write a data set as one .npz for `load_dataset` and plain `np.load`; equal data give equal bytes.

    Args:
        dataset: faces as images or as pixel strings, which are decoded.
        path: the file to write; after an error the previous file is unchanged.

    Raises:
        InputError: if the file cannot be written, or the data has targets beside its labels: a .npz cannot hold them.
    """
    if dataset.targets is not None:
        raise InputError("a .npz holds labels, not distributions of votes: write it with --labels-as majority")
    arrays = {
        "images": dataset.decoded().images,
        "labels": dataset.labels.astype(np.int64),
        "split": dataset.split.astype(SPLIT_DTYPE),
        "class_names": np.array(dataset.class_names),
        "synthetic": np.array(dataset.synthetic),
    }
    with atomic_path(Path(path)) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for member, array in arrays.items():
            # np.savez writes the time of day into the archive, so the sha256 of equal data would differ
            with archive.open(zipfile.ZipInfo(f"{member}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def read_npz(archive: zipfile.ZipFile, name: str) -> Dataset:
    """Read images, labels, split, class_names and, if present, synthetic from an opened .npz."""
    held = {member.filename: member for member in archive.infolist()}
    for member in NPZ_MEMBERS:
        if f"{member}.npy" not in held:
            raise InputError(
                f"{name}: no array {member} in this .npz; expected {', '.join(NPZ_MEMBERS)} as `fer-tf prepare` writes"
            )
    arrays = {
        member: _read_array(archive, held[f"{member}.npy"], most_bytes, f"{name}: {member}")
        for member, most_bytes in NPZ_MEMBERS.items()
    }
    images, labels, split, names = (arrays[member] for member in NPZ_MEMBERS)
    count = len(images) if images.ndim else 0
    if images.dtype != np.uint8 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE) or not 0 < count <= MAX_ROWS:
        raise InputError(
            f"{name}: images of type {images.dtype} and shape {images.shape}; expected uint8 "
            f"(n, {IMAGE_SIZE}, {IMAGE_SIZE}), n from 1 to {MAX_ROWS:,}"
        )
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise InputError(f"{name}: labels of type {labels.dtype} and shape {labels.shape}; expected int64 ({count},)")
    if split.dtype.kind != "U" or split.shape != (count,):
        raise InputError(f"{name}: split of type {split.dtype} and shape {split.shape}; expected text ({count},)")
    if names.dtype.kind != "U" or names.ndim != 1:
        raise InputError(f"{name}: class_names of type {names.dtype} and shape {names.shape}; expected text (classes,)")
    class_names = tuple(names.tolist())
    check_class_names(class_names, name)
    _check_values(~np.isin(split, SPLITS), split, f"{name}: split", f"one of {', '.join(SPLITS)}")
    _check_values((labels < 0) | (labels >= len(class_names)), labels, f"{name}: label", f"0 to {len(class_names) - 1}")
    synthetic = False
    if "synthetic.npy" in held:
        synthetic = bool(_read_array(archive, held["synthetic.npy"], 8, f"{name}: synthetic").any())
    return Dataset(
        labels=labels.astype(np.int64),
        split=split.astype(SPLIT_DTYPE),
        class_names=class_names,
        images=np.ascontiguousarray(images),
        synthetic=synthetic,
    )


def _check_values(wrong: np.ndarray, values: np.ndarray, what: str, expected: str) -> None:
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(f"{what} of image {row} is {shown(str(values[row]))}; expected {expected}")


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most_bytes: int, where: str) -> np.ndarray:
    """Read one .npy of an archive; check its size against the limit and its header before allocating memory."""
    if member.file_size > most_bytes + _NPY_HEADER:
        raise InputError(f"{where} has {member.file_size:,} bytes; expected at most {most_bytes:,}")
    try:
        with archive.open(member) as file:
            start = io.BytesIO(file.read(_NPY_HEADER))
        version = np.lib.format.read_magic(start)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version} of the .npy format")
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(start)
        size = dtype.itemsize
        for length in shape:
            size *= length  # Python's integers do not overflow
        if dtype.hasobject or min(shape, default=0) < 0 or size != member.file_size - start.tell():
            raise ValueError(f"type {dtype} and shape {shape} do not fit {member.file_size:,} bytes")
        with archive.open(member) as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
        # NumPy accepts any 32 bits as a character; Python's str raises SystemError if they are not one.
        if dtype.kind == "U" and size and array.view(f"{dtype.byteorder}u4").max() > sys.maxunicode:
            raise ValueError("text with characters that do not exist")
        return array
    except Exception as error:  # NumPy parses the header as Python literals and raises almost any type
        reason = " ".join(str(error).split())[:150]
        raise InputError(f"{where} is not a sound array ({reason}); write it again with `fer-tf prepare`") from error
