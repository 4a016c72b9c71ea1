"""Makes 48x48 crops of a data set's pictures with one policy, sets broken ones apart, and keeps the crops on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fer_tf.artifacts import atomic_path, cached_crops
from fer_tf.data.reading.left_out import NUM_NAMED
from fer_tf.data.reading.opening import File, open_pictures, reason
from fer_tf.errors import InputError
from fer_tf.faces.detection import DETECT_SIDE
from fer_tf.faces.pictures import MAX_IMAGE_BYTES, decode_picture, say_first_frames
from fer_tf.faces.policy import NUM_SAMPLED, CropPolicy, decide
from fer_tf.task import IMAGE_SIZE
from fer_tf.text import shown

logger = logging.getLogger(__name__)

_OPENED_AS = 3  # raise this if pictures are opened in another way, so that kept crops are made anew
_PROGRESS_SECONDS = 5.0  # between two lines of the log

ReadPicture = Callable[[int], bytes]  # the file of a row; raises InputError or OSError if it cannot be read


@dataclasses.dataclass(frozen=True)
class Crops:
    """The crops of a data set's pictures.

    Attributes:
        images: uint8 (n, 48, 48); zeros where there is no crop.
        found: bool (n,), False if the picture is broken or shows no face.
        originals: number of pictures by size and colour.
        broken: row -> why the picture cannot be read.
        policy: how the pictures became crops.
        sha256: digest of the names and bytes of all files that can be read.
    """

    images: np.ndarray
    found: np.ndarray
    originals: dict[str, int]
    broken: dict[int, str]
    policy: CropPolicy
    sha256: str

    @property
    def is_sound(self) -> np.ndarray:
        """Bool (n,), False if the picture is broken."""
        return np.array([row not in self.broken for row in range(len(self.images))], bool)


def crop_pictures(names: Sequence[str], read: ReadPicture, faces: str | CropPolicy, name: str) -> Crops:
    """Open and crop the pictures of a data set, or load the crops that an earlier call kept.

    Args:
        names: names of the pictures, for messages and for the digest.
        read: returns the file of a row.
        faces: `auto`, `detect`, `whole`, or a recorded policy.
        name: name of the data set in messages.
    """
    policy = faces if isinstance(faces, CropPolicy) else decide(faces, _sample(names, read) if faces == "auto" else [])
    if policy.faces != "detect":
        return _crop(names, read, policy, name)
    logger.info("%s: looking for faces in each picture (%s)", name, policy.reason)
    digest = hashlib.sha256()
    unreadable: dict[int, str] = {}
    for row, data in _files(names, read, unreadable):
        _count(digest, names[row], data)
    key = f"{digest.hexdigest()}{_OPENED_AS}{sorted(unreadable)}{sorted(policy.to_dict().items())}"
    cache = cached_crops(hashlib.sha256(key.encode()).hexdigest())
    if kept := _kept(cache, len(names), unreadable, policy, digest.hexdigest()):
        logger.info("%s: using the crops of an earlier call, from %s", name, cache)
        return kept
    crops = _crop(names, read, policy, name)
    if crops.sha256 == digest.hexdigest():  # otherwise the files changed meanwhile
        with contextlib.suppress(InputError), atomic_path(cache) as temporary:  # a full disk: crop again next time
            texts = {"originals": crops.originals, "broken": crops.broken}
            np.savez_compressed(
                temporary,
                images=crops.images,
                found=crops.found,
                **{key: np.array(json.dumps(value)) for key, value in texts.items()},  # type: ignore[arg-type]
            )
    return crops


def check_found(crops: Crops, names: Sequence[str], name: str) -> None:
    """Refuse a data set if most of its readable pictures show no face."""
    is_sound = crops.is_sound
    without = [names[row] for row in np.flatnonzero(is_sound & ~crops.found).tolist()]
    if len(without) > is_sound.sum() / 2:
        some = ", ".join(shown(text) for text in without[:NUM_NAMED])
        more = f" and {len(without) - NUM_NAMED:,} more" if len(without) > NUM_NAMED else ""
        raise InputError(
            f"{name}: no face is found in {len(without):,} of {is_sound.sum():,} pictures ({some}{more}); if each "
            "picture shows one face and nothing else, load them with --faces whole"
        )


def read_file(path: Path) -> bytes:
    """Return the bytes of a picture's file.

    Raises:
        InputError: if the file is too large.
        OSError: if the file cannot be read.
    """
    if path.stat().st_size > MAX_IMAGE_BYTES:
        raise InputError(f"larger than {MAX_IMAGE_BYTES >> 20} MiB; give a smaller picture")
    return path.read_bytes()


def _crop(names: Sequence[str], read: ReadPicture, policy: CropPolicy, name: str) -> Crops:
    """Crop each picture; read every file once."""
    images = np.zeros((len(names), IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    found = np.zeros(len(names), bool)
    originals: Counter[str] = Counter()
    broken: dict[int, str] = {}
    several: list[str] = []
    digest = hashlib.sha256()
    told = time.monotonic()

    def files() -> Iterator[File]:
        for row, data in _files(names, read, broken):
            _count(digest, names[row], data)
            yield row, names[row], data

    for row, opened in open_pictures(files(), len(names), policy):
        if opened.broken:
            broken[row] = opened.broken
            continue
        originals[opened.kind] += 1
        if opened.is_first_of_several:
            several.append(names[row])
        if opened.crop is not None:
            images[row], found[row] = opened.crop, True
        if time.monotonic() - told > _PROGRESS_SECONDS:
            told = time.monotonic()
            logger.info("reading %s: %s of %s images", name, f"{row + 1:,}", f"{len(names):,}")
    say_first_frames(several)
    return Crops(images, found, dict(originals.most_common()), broken, policy, digest.hexdigest())


def _files(names: Sequence[str], read: ReadPicture, broken: dict[int, str]) -> Iterator[tuple[int, bytes]]:
    """Each row whose file can be read, with the file; the other rows get a reason in `broken`."""
    for row, name in enumerate(names):
        try:
            data = read(row)
        except (InputError, OSError) as error:
            broken[row] = reason(error, name)
        else:
            yield row, data


def _count(digest: hashlib._Hash, name: str, data: bytes) -> None:
    digest.update(os.fsencode(name) + f"\0{len(data)}\0".encode() + data)


def _sample(names: Sequence[str], read: ReadPicture) -> list[Image.Image]:
    """Pictures from evenly spaced rows, without the broken ones."""
    pictures = []
    for row in np.linspace(0, len(names) - 1, min(NUM_SAMPLED, len(names)), dtype=int).tolist():
        with contextlib.suppress(InputError, OSError):
            pictures.append(decode_picture(read(row), names[row], min_side=DETECT_SIDE).image)
    return pictures


def _kept(cache: Path, num_pictures: int, unreadable: dict[int, str], policy: CropPolicy, sha256: str) -> Crops | None:
    """Return the crops that an earlier call kept, if they exist and are complete."""
    if not cache.is_file():
        return None
    with contextlib.suppress(ValueError, KeyError, OSError, zipfile.BadZipFile), np.load(cache) as arrays:
        if len(arrays["images"]) == num_pictures:
            originals, broken = (json.loads(str(arrays[key])) for key in ("originals", "broken"))
            broken = {int(row): reason for row, reason in broken.items()} | unreadable
            return Crops(arrays["images"], arrays["found"], originals, broken, policy, sha256)
    return None
