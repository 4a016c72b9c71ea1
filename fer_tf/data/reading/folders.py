"""Folders of pictures: a folder for each split, in it a folder for each class."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np

from fer_tf.data.dataset import SPLIT_DTYPE, Dataset
from fer_tf.data.reading.checks import MAX_ROWS, check_class_names
from fer_tf.errors import InputError
from fer_tf.faces.crops import to_grey48
from fer_tf.faces.pictures import IMAGE_FORMATS, MAX_IMAGE_BYTES, decode_image
from fer_tf.task import EMOTIONS, IMAGE_SIZE, canonical_emotion
from fer_tf.text import shown, shown_path

logger = logging.getLogger(__name__)

SPLIT_OF_FOLDER = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "publictest": "validation",
    "test": "test",
    "testing": "test",
    "privatetest": "test",
}
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_PROGRESS_SECONDS = 5.0  # between two lines of the log


def read_folder(root: Path, name: str) -> Dataset:
    """Read the PNG and JPEG files below a folder, each made a 48x48 grey crop.

    Args:
        root: a folder that holds folders named after splits, as in `SPLIT_OF_FOLDER`.
        name: what messages call it.
    """
    files, folders = _list_images(root, name)
    if not files:
        raise InputError(
            f"{name}: a folder without images; expected train/, [validation/,] test/ with one folder of PNG or JPEG "
            "images per class"
        )
    emotions = {folder: canonical_emotion(folder) for folder in folders}
    if all(emotions.values()):
        class_names = tuple(emotion for emotion in EMOTIONS if emotion in emotions.values())
        class_of = {folder: str(emotion) for folder, emotion in emotions.items()}
    else:
        class_names = tuple(sorted(folders))
        class_of = {folder: folder for folder in folders}
    check_class_names(class_names, name)
    images = np.empty((len(files), IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    digest = hashlib.sha256()
    originals: Counter[str] = Counter()
    told = time.monotonic()
    for row, (relative, _, _) in enumerate(files):
        file, file_name = root / relative, shown_path(root / relative)
        if file.stat().st_size > MAX_IMAGE_BYTES:
            raise InputError(f"{file_name}: larger than {MAX_IMAGE_BYTES >> 20} MiB; give a smaller picture")
        data = file.read_bytes()
        digest.update(os.fsencode(relative) + f"\0{len(data)}\0".encode() + data)
        picture = decode_image(data, file_name, formats=IMAGE_FORMATS)
        originals[f"{picture.width}x{picture.height} {'grey' if picture.mode == 'L' else 'colour'}"] += 1
        images[row] = to_grey48(picture)
        if time.monotonic() - told > _PROGRESS_SECONDS:
            told = time.monotonic()
            logger.info("reading %s: %s of %s images", name, f"{row + 1:,}", f"{len(files):,}")
    return Dataset(
        labels=np.array([class_names.index(class_of[folder]) for _, _, folder in files], np.int64),
        split=np.array([split for _, split, _ in files], SPLIT_DTYPE),
        class_names=class_names,
        images=images,
        sha256=digest.hexdigest(),
        originals=dict(originals.most_common()),
    )


def _list_images(root: Path, name: str) -> tuple[list[tuple[str, str, str]], set[str]]:
    """Return (relative path, split, class folder) of each image, sorted, and the names of all class folders."""
    splits: dict[str, str] = {}
    for entry in _entries(root):
        split = SPLIT_OF_FOLDER.get(entry.name.lower())
        if split and entry.is_dir():
            if split in splits:
                raise InputError(f"{name}: {splits[split]}/ and {entry.name}/ are both the {split} split; keep one")
            splits[split] = entry.name
    files: list[tuple[str, str, str]] = []
    folders: set[str] = set()
    skipped: list[str] = []
    for split, split_folder in splits.items():
        for entry in _entries(root / split_folder):
            if not entry.is_dir():
                skipped.append(f"{split_folder}/{entry.name}")
                continue
            folders.add(entry.name)
            for file in _entries(Path(entry.path)):
                relative = f"{split_folder}/{entry.name}/{file.name}"
                if not file.is_file() or not file.name.lower().endswith(IMAGE_SUFFIXES):
                    skipped.append(relative)
                    continue
                public = split == "test" and "validation" not in splits and file.name.lower().startswith("publictest")
                files.append((relative, "validation" if public else split, entry.name))
            if len(files) > MAX_ROWS:
                raise InputError(f"{name}: more than {MAX_ROWS:,} images; give a smaller folder")
    if skipped:
        logger.warning(
            "%s: %d files or folders that are not PNG or JPEG images in a class folder are left out, such as %s",
            name,
            len(skipped),
            shown(skipped[0]),
        )
    return sorted(files), folders


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Entries of a folder without the hidden files that desktops leave behind; symbolic links are refused."""
    with os.scandir(folder) as found:
        entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_symlink():
            raise InputError(f"{shown_path(entry.path)}: a symbolic link; put the files themselves into the folder")
    return [entry for entry in entries if entry.name.lower() not in ("thumbs.db", "desktop.ini")]
