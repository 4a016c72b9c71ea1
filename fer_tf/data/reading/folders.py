"""Folders of pictures: a folder for each split, in it a folder for each class."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fer_tf.artifacts import atomic_path, cached_crops
from fer_tf.data.dataset import SPLIT_DTYPE, Dataset
from fer_tf.data.reading.checks import MAX_ROWS, check_class_names
from fer_tf.errors import InputError
from fer_tf.faces.kinds import is_hidden, is_meant_as_picture, skipped_kinds
from fer_tf.faces.pictures import DETECT_SIDES, MAX_IMAGE_BYTES, MIN_SIDE, Picture, decode_picture, say_first_frames
from fer_tf.faces.policy import NUM_SAMPLED, CropPolicy, decide
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
_OPENED_AS = 2  # changes when pictures are opened in another way, so that crops kept from before are made anew
_PROGRESS_SECONDS = 5.0  # between two lines of the log
_NUM_NAMED = 10  # pictures that a message names


def read_folder(root: Path, name: str, faces: str | CropPolicy = "auto") -> Dataset:
    """Read the pictures below a folder, each made a 48x48 grey crop; their contents say what is one.

    Args:
        root: a folder that holds folders named after splits, as in `SPLIT_OF_FOLDER`.
        name: what messages call it.
        faces: how pictures become crops: `auto`, `detect`, `whole`, or a policy that was recorded.

    Returns:
        The crops. Pictures in which no face is found are left out; `crop` says how many.

    Raises:
        InputError: if a picture cannot be read, most pictures show no face, or anything else is not as expected.
    """
    files, folders = _list_images(root, name)
    if not files:
        raise InputError(
            f"{name}: a folder without images; expected train/, [validation/,] test/ with one folder of images (PNG, "
            "JPEG or another format) per class"
        )
    emotions = {folder: canonical_emotion(folder) for folder in folders}
    if all(emotions.values()):
        class_names = tuple(emotion for emotion in EMOTIONS if emotion in emotions.values())
        class_of = {folder: str(emotion) for folder, emotion in emotions.items()}
    else:
        class_names = tuple(sorted(folders))
        class_of = {folder: folder for folder in folders}
    check_class_names(class_names, name)
    digest = hashlib.sha256()
    for relative, _, _ in files:
        data = _read(root, relative)
        digest.update(os.fsencode(relative) + f"\0{len(data)}\0".encode() + data)
    policy = faces if isinstance(faces, CropPolicy) else decide(faces, _sample(root, files) if faces == "auto" else [])
    if policy.faces == "detect":
        logger.info("%s: faces are looked for in each picture (%s)", name, policy.reason)
    images, found, originals = _crops(root, name, files, policy, digest.hexdigest())
    _check_found(found, [relative for relative, _, _ in files], name)
    return Dataset(
        labels=np.array([class_names.index(class_of[folder]) for _, _, folder in files], np.int64)[found],
        split=np.array([split for _, split, _ in files], SPLIT_DTYPE)[found],
        class_names=class_names,
        images=images[found],
        sha256=digest.hexdigest(),
        originals=originals,
        crop={**policy.to_dict(), "num_without_face": int(np.sum(~found))},
    )


def _read(root: Path, relative: str) -> bytes:
    file = root / relative
    if file.stat().st_size > MAX_IMAGE_BYTES:
        raise InputError(f"{shown_path(file)}: larger than {MAX_IMAGE_BYTES >> 20} MiB; give a smaller picture")
    return file.read_bytes()


def _picture(root: Path, relative: str, min_side: int = MIN_SIDE) -> Picture:
    return decode_picture(_read(root, relative), shown_path(root / relative), min_side=min_side)


def _sample(root: Path, files: Sequence[tuple[str, str, str]]) -> list[Image.Image]:
    """Pictures spread evenly over the sorted files."""
    rows = np.linspace(0, len(files) - 1, min(NUM_SAMPLED, len(files)), dtype=int)
    return [_picture(root, files[row][0]).image for row in rows]


def _crops(
    root: Path, name: str, files: Sequence[tuple[str, str, str]], policy: CropPolicy, sha256: str
) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Crop each picture, or take the crops that an earlier call kept.

    Returns:
        uint8 (n, 48, 48), bool (n,) that tells where a face was found, and the number of files by size and colour.
    """
    key = f"{sha256}{_OPENED_AS}{sorted(policy.to_dict().items())}"
    cache = cached_crops(hashlib.sha256(key.encode()).hexdigest())
    if policy.faces == "detect" and cache.is_file():
        with contextlib.suppress(ValueError, KeyError, OSError, zipfile.BadZipFile), np.load(cache) as kept:
            if len(kept["images"]) == len(files):
                logger.info("%s: crops of an earlier call, from %s", name, cache)
                return kept["images"], kept["found"], json.loads(str(kept["originals"]))
    images = np.zeros((len(files), IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    found = np.zeros(len(files), bool)
    originals: Counter[str] = Counter()
    several: list[str] = []
    told = time.monotonic()
    for row, (relative, _, _) in enumerate(files):
        picture = _picture(root, relative, round(DETECT_SIDES * policy.detect_side))
        width, height = picture.size
        originals[f"{width}x{height} {'grey' if picture.image.mode == 'L' else 'colour'}"] += 1
        if picture.is_first_of_several:
            several.append(relative)
        crop = policy.crop(picture.image, picture.size)
        if crop is not None:
            images[row], found[row] = crop, True
        if time.monotonic() - told > _PROGRESS_SECONDS:
            told = time.monotonic()
            logger.info("reading %s: %s of %s images", name, f"{row + 1:,}", f"{len(files):,}")
    say_first_frames(several)
    by_number = dict(originals.most_common())
    if policy.faces == "detect":
        with contextlib.suppress(InputError), atomic_path(cache) as temporary:  # a full disk costs the next call time
            np.savez_compressed(temporary, images=images, found=found, originals=np.array(json.dumps(by_number)))
    return images, found, by_number


def _check_found(found: np.ndarray, names: Sequence[str], name: str) -> None:
    """Say which pictures show no face; refuse a set of which most show none."""
    without = [text for text, is_found in zip(names, found, strict=True) if not is_found]
    if not without:
        return
    some = ", ".join(shown(text) for text in without[:_NUM_NAMED])
    more = f" and {len(without) - _NUM_NAMED:,} more" if len(without) > _NUM_NAMED else ""
    if len(without) > len(names) / 2:
        raise InputError(
            f"{name}: no face is found in {len(without):,} of {len(names):,} pictures ({some}{more}); if each picture "
            "shows one face and nothing else, load them with --faces whole"
        )
    logger.warning("%s: left out %d pictures in which no face is found: %s%s", name, len(without), some, more)


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
                if not file.is_file() or not is_meant_as_picture(file):
                    skipped.append(relative)
                    continue
                public = split == "test" and "validation" not in splits and file.name.lower().startswith("publictest")
                files.append((relative, "validation" if public else split, entry.name))
            if len(files) > MAX_ROWS:
                raise InputError(f"{name}: more than {MAX_ROWS:,} images; give a smaller folder")
    if skipped:
        logger.warning(
            "%s: %d files or folders that are no images in a class folder are left out (%s), such as %s",
            name,
            len(skipped),
            skipped_kinds([root / relative for relative in skipped]),
            shown(skipped[0]),
        )
    return sorted(files), folders


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Entries of a folder without the hidden files that desktops leave behind; symbolic links are refused."""
    with os.scandir(folder) as found:
        entries = sorted((entry for entry in found if not is_hidden(entry.name)), key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_symlink():
            raise InputError(f"{shown_path(entry.path)}: a symbolic link; put the files themselves into the folder")
    return entries
