"""The published forms of FER-2013 (csv, plain or packed; folders; .npz) -> checked Datasets, and the .npz form back.

Nothing here trusts its input: sizes are bounded before anything is read or unpacked, nothing is unpacked to disk, and
whatever is wrong with a file is one `InputError` that names file and row (the line of a csv, counted from 1).
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import hashlib
import io
import logging
import lzma
import os
import struct
import sys
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from fer_tf.artifacts import atomic_path
from fer_tf.data.dataset import IMAGE_SIZE, SPLITS, Dataset
from fer_tf.errors import InputError
from fer_tf.faces import IMAGE_FORMATS, MAX_IMAGE_BYTES, decode_image, to_grey48
from fer_tf.labels import EMOTIONS, canonical_emotion

logger = logging.getLogger(__name__)

MAX_ROWS = 500_000  # 14 times FER-2013; decoded 1.15 GB
MAX_CSV_BYTES = 1 << 30  # unpacked; FER-2013 has 0.3 GB
MAX_ROW_BYTES = 64 << 10  # a row of FER-2013 has at most 9,240
MAX_CLASSES = 1000
MAX_CLASS_NAME = 100  # characters

NUM_PIXELS = IMAGE_SIZE * IMAGE_SIZE
SPLIT_OF_USAGE = {b"Training": "train", b"PublicTest": "validation", b"PrivateTest": "test"}
LABEL_OF_EMOTION = {str(label).encode(): label for label in range(len(EMOTIONS))}
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
CSV_NAMES = ("fer2013.csv", "icml_face_data.csv", "train.csv")  # of several in a .zip the first of these is meant
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
NPZ_MEMBERS = {  # most bytes of each array
    "images": MAX_ROWS * NUM_PIXELS,
    "labels": MAX_ROWS * 8,
    "split": MAX_ROWS * 4 * max(map(len, SPLITS)),
    "class_names": MAX_CLASSES * 4 * MAX_CLASS_NAME,
}

_EXPECTED_FOLDERS = "expected train/, [validation/,] test/ with one folder of PNG or JPEG images per class"
_SPLIT_DTYPE = f"<U{max(map(len, SPLITS))}"
_CHUNK = 1 << 20  # bytes read or unpacked at a time
_XZ_MEMORY = 256 << 20  # bytes; `xz -9` needs 65 MiB, a crafted header may ask for 4 GiB
_NPY_HEADER = 16 << 10  # most bytes of a .npy header that NumPy itself accepts, with room
_PROGRESS_SECONDS = 5.0
# what zipfile lets through on crafted archives
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    ValueError,
)


def load_dataset(
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    seed: int = 0,
    validation_fraction: float = 0.1,
    training: bool = True,
) -> Dataset:
    """Reads and checks a data set in any of the published forms, told apart by their contents.

    These are `fer2013.csv` (emotion,pixels,Usage), `icml_face_data.csv` (the same columns in another order, blanks in
    their names) and the challenge's `train.csv` (no Usage: every row is Training), each plain or in a .gz, .xz or .zip;
    folders `train/`, `validation/`, `test/` with a sub-folder of PNG or JPEG images per class; and the .npz of
    `save_npz`. In a `test/` folder without a `validation/` beside it, files named `PublicTest*` are validation.

    A csv has FER-2013's seven classes. Folders named after emotions, in any case and with the usual synonyms, have
    those classes of the seven that are there, in FER-2013's order; other folders have their own names, sorted. Where
    no row is validation, a stratified random part of train becomes it.

    Args:
        path: a file or a folder.
        classes: the classes to keep, renumbered in this order; all if None.
        seed: of the random cut of a validation split.
        validation_fraction: part of each class's training rows that such a cut takes, in (0, 1).
        training: whether the data will be trained on: every class then needs a training row, and a validation split is
            cut where there is none. Without it a file that holds only a test split can be scored.

    Returns:
        The faces as pixel strings (from a csv) or uint8 images (from the rest), in the order of the file or of the
        sorted relative paths. `sha256` is that of the file's bytes, or of the folder's sorted paths and bytes.

    Raises:
        InputError: if anything about the input is not as expected.
    """
    if not 0 < validation_fraction < 1:
        raise InputError(f"validation_fraction {validation_fraction}: expected a number between 0 and 1")
    path = Path(path)
    name = _shown_path(path)
    if path.is_dir():
        dataset = _read_folder(path, name)
    elif path.is_file():
        dataset = _read_file(path, name)
    elif path.exists():
        raise InputError(f"{name}: neither a regular file nor a folder; give a csv, a .npz or a folder of images")
    else:
        raise InputError(f"{name}: no such file or folder; give the path of fer2013.csv, a .npz or a folder of images")
    dataset = dataclasses.replace(dataset, source=path.resolve().name)
    if classes is not None:
        dataset = _selected(dataset, classes)
    if len(dataset) == 0:
        raise InputError(f"{name}: no row of the classes {', '.join(dataset.class_names)}; name others in --classes")
    if training:
        _check_training_rows(dataset, name)
        if not dataset.has("validation"):
            dataset = _with_validation(dataset, name, seed, validation_fraction)
    if not dataset.has("test"):
        logger.info("%s has no test split: test figures are skipped", dataset.source)
    counts = ", ".join(f"{dataset.counts(split).sum():,} {split}" for split in SPLITS)
    logger.info("%s: %s images of %d classes", dataset.source, counts, dataset.num_classes)
    return dataset


def save_npz(dataset: Dataset, path: str | os.PathLike[str]) -> None:
    """Writes a data set as one .npz that `load_dataset` and plain `np.load` read; the same data give the same bytes.

    Args:
        dataset: faces as images or as pixel strings, which are decoded here.
        path: the file to write, whole or not at all.
    """
    arrays = {
        "images": dataset.decoded().images,
        "labels": dataset.labels.astype(np.int64),
        "split": dataset.split.astype(_SPLIT_DTYPE),
        "class_names": np.array(dataset.class_names),
        "synthetic": np.array(dataset.synthetic),
    }
    with atomic_path(Path(path)) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for member, array in arrays.items():
            # np.savez would stamp the time of day into the archive, and with it into every sha256 of the data
            with archive.open(zipfile.ZipInfo(f"{member}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


# What is common to all forms


def _shown(text: str | bytes) -> str:
    """A piece of foreign text for an error message: quoted, escaped, short."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _shown_path(path: Path | str) -> str:
    return str(path) if str(path).isprintable() else ascii(str(path))


def _check_class_names(names: Sequence[str], where: str) -> None:
    if not 2 <= len(names) <= MAX_CLASSES:
        found = f" ({_shown(names[0])})" if len(names) == 1 else ""
        raise InputError(f"{where}: {len(names)} classes{found}; expected at least two, at most {MAX_CLASSES}")
    for name in names:
        if not name.strip() or not name.isprintable() or len(name) > MAX_CLASS_NAME:
            raise InputError(
                f"{where}: class name {_shown(name)}; expected 1 to {MAX_CLASS_NAME} printable characters: rename it"
            )
        if names.count(name) > 1:
            raise InputError(f"{where}: class {_shown(name)} stands twice; expected different names")


def _selected(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    """The rows of some classes; emotions may be named by their synonyms."""
    wanted = []
    for name in (given.strip() for given in classes):
        emotion = canonical_emotion(name)
        wanted.append(emotion if name not in dataset.class_names and emotion in dataset.class_names else name)
    if len(wanted) < 2:
        raise InputError(
            f"classes {', '.join(wanted) or 'none'}: expected at least two of {', '.join(dataset.class_names)}"
        )
    return dataset.select([str(name) for name in wanted])


def _check_training_rows(dataset: Dataset, name: str) -> None:
    counts = dataset.counts("train")
    if not counts.any():
        present = [split for split in SPLITS if dataset.has(split)]
        raise InputError(f"{name}: no training rows, only {' and '.join(present)}; expected some with Usage Training")
    missing = [name for name, count in zip(dataset.class_names, counts, strict=True) if not count]
    if missing:
        rest = ",".join(name for name, count in zip(dataset.class_names, counts, strict=True) if count)
        raise InputError(
            f"{name}: no training row of {', '.join(missing)}; every class needs one: add some, or keep the others "
            f"with --classes {rest}"
        )


def _with_validation(dataset: Dataset, name: str, seed: int, fraction: float) -> Dataset:
    """Moves a random part of each class's training rows to validation; each class keeps at least one."""
    random = np.random.default_rng(seed)
    split = dataset.split.astype(_SPLIT_DTYPE)  # a copy
    for label in range(dataset.num_classes):
        rows = np.flatnonzero((dataset.split == "train") & (dataset.labels == label))
        part = min(max(1, round(len(rows) * fraction)), len(rows) - 1)
        split[random.permutation(rows)[:part]] = "validation"
    cut = int(np.count_nonzero(split == "validation"))
    if not cut:
        raise InputError(
            f"{name}: one training row per class leaves none for validation; add rows, or a validation split"
        )
    logger.info(
        "%s has no validation split: %s of its %s training rows, stratified, seed %d, become one",
        dataset.source,
        f"{cut:,}",
        f"{dataset.counts('train').sum():,}",
        seed,
    )
    return dataclasses.replace(dataset, split=split)


# Files


def _read_file(path: Path, name: str) -> Dataset:
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
        dataset = _read_csv(_gzip_chunks(path, name), name)
    elif magic == b"\xfd7zXZ\0":
        dataset = _read_csv(_xz_chunks(path, name), name)
    elif suffix in (".gz", ".xz", ".zip", ".npz"):
        raise InputError(
            f"{name}: not a {suffix} file, it begins with {_shown(magic)}; download it again, or rename it to .csv if "
            "it is plain text"
        )
    else:
        dataset = _read_csv(_plain_chunks(path), name)
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
    except _ZIP_ERRORS as error:
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> InputError:
    return InputError(f"{name}: truncated or damaged ({' '.join(str(error).split())[:100]}); download it again")


def _read_zip(path: Path, name: str) -> Dataset:
    try:
        archive = zipfile.ZipFile(path)
    except _ZIP_ERRORS as error:
        raise _damaged(name, error) from error
    with archive:
        members = archive.infolist()
        for member in members:
            _check_member(member, name)
        if any(member.filename.endswith(".npy") for member in members):
            return _read_npz(archive, name)
        # macOS adds members that begin with a dot
        files = [member for member in members if not PurePosixPath(member.filename).name.startswith(".")]
        found = [member for member in files if member.filename.lower().endswith(".csv")]
        if not found:
            held = ", ".join(_shown(member.filename) for member in members[:5]) or "nothing"
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
            held = ", ".join(_shown(member.filename) for member in found[:5])
            raise InputError(f"{name}: {len(found)} csv files in this zip ({held}); unpack it and name the one to read")
        if found[0].file_size > MAX_CSV_BYTES:
            raise InputError(_too_large(name))
        return _read_csv(_zip_chunks(archive, found[0], name), name)


def _check_member(member: zipfile.ZipInfo, name: str) -> None:
    """Refuses what a sound archive of data never holds, although nothing of it is ever written to disk."""
    parts = PurePosixPath(member.filename.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or (parts.parts and parts.parts[0].endswith(":")):
        raise InputError(
            f"{name}: its member {_shown(member.filename)} climbs out of the archive; do not use this file"
        )
    if member.flag_bits & 1:
        raise InputError(f"{name}: encrypted; unpack it with its password and give the csv")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{name}: packed by an unusual method; unpack it and give the csv")


# The csv forms


def _read_csv(chunks: Iterator[bytes], name: str) -> Dataset:
    lines = _lines(chunks, name)
    header = _header(next(lines, b""), name)
    emotion, pixels, usage = header.index("emotion"), header.index("pixels"), None
    if "usage" in header:
        usage = header.index("usage")
    else:
        logger.info("%s has no Usage column: every row is taken as Training", name)
    labels: list[int] = []
    splits: list[str] = []
    faces: list[str] = []
    for row, line in enumerate(lines, start=2):
        where = f"{name}: row {row}"
        if row > MAX_ROWS + 1:
            raise InputError(f"{name}: more than {MAX_ROWS:,} rows; give a smaller file")
        if not line.strip():
            continue
        fields = _fields(line, where)
        if len(fields) != len(header):
            raise InputError(f"{where} has {len(fields)} columns; expected {len(header)} as in row 1")
        label = LABEL_OF_EMOTION.get(fields[emotion].strip())
        if label is None:
            raise InputError(f"{where}: emotion {_shown(fields[emotion])}; expected a whole number from 0 to 6")
        split = "train" if usage is None else SPLIT_OF_USAGE.get(fields[usage].strip())
        if split is None:
            assert usage is not None
            raise InputError(f"{where}: Usage {_shown(fields[usage])}; expected Training, PublicTest or PrivateTest")
        labels.append(label)
        splits.append(split)
        faces.append(_checked_pixels(fields[pixels], where))
    if not labels:
        raise InputError(f"{name}: a header and no rows; expected one row per image")
    return Dataset(
        labels=np.array(labels, np.int64),
        split=np.array(splits, _SPLIT_DTYPE),
        class_names=EMOTIONS,
        pixels=np.array(faces, object),
    )


def _lines(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """Lines without their ends; no more than a chunk and a line are in memory at a time."""
    size, rest = 0, b""
    for chunk in chunks:
        size += len(chunk)
        if size > MAX_CSV_BYTES:
            raise InputError(_too_large(name))
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        if len(rest) > MAX_ROW_BYTES:
            break  # not a row: the last line below is refused, and nothing more of it is read
    if rest:
        yield rest


def _too_large(name: str) -> str:
    return f"{name}: more than {MAX_CSV_BYTES >> 20:,} MiB of csv; use folders of images or a .npz for so many faces"


def _header(line: bytes, name: str) -> list[str]:
    """Column names of row 1, without blanks and in lower case."""
    if not line.strip():
        raise InputError(f"{name}: row 1 is empty; expected the header emotion,pixels,Usage")
    if line[257:262] == b"ustar":
        raise InputError(f"{name}: a tar archive; unpack it and give the csv inside")
    if line.startswith((b"\xff\xfe", b"\xfe\xff")) or (
        b"\0" in line and b"emotion" in line.replace(b"\0", b"")[:200].lower()
    ):
        raise InputError(f"{name}: UTF-16 text; save it as UTF-8")
    if b"\0" in line:
        raise InputError(f"{name}: binary data, not a csv; give fer2013.csv, a .npz or a folder of images")
    line = line.removeprefix(b"\xef\xbb\xbf")
    fields = _fields(line, f"{name}: row 1")
    header = [field.decode("utf-8", "replace").strip().lower() for field in fields]
    for column in ("emotion", "pixels", "usage"):
        if column not in header and column != "usage":
            raise InputError(
                f"{name}: not a FER-2013 csv, row 1 has no column {column}: {_shown(line)}; "
                "expected emotion,pixels,Usage separated by commas"
            )
        if header.count(column) > 1:
            raise InputError(f"{name}: row 1 has the column {column} twice; remove one")
    return header


def _fields(line: bytes, where: str) -> list[bytes]:
    """The columns of one line. A quoted field cannot go on in the next line: no column of FER-2013 needs that."""
    if len(line) > MAX_ROW_BYTES:
        raise InputError(f"{where} is longer than {MAX_ROW_BYTES:,} bytes: not a csv with one image per row")
    if b'"' not in line:
        return line.split(b",")
    try:
        (fields,) = csv.reader([line.decode().rstrip("\r")], strict=True, skipinitialspace=True)
    except (csv.Error, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{where} is no csv: {error}; expected one image per row, in UTF-8") from error
    return [field.encode() for field in fields]


def _checked_pixels(field: bytes, where: str) -> str:
    """The pixel string of one row, its values separated by single blanks."""
    field = field.strip()
    if _is_canonical(field):
        return field.decode("ascii")
    values = field.split(b" ")
    values = [value for value in values if value]
    for position, value in enumerate(values, start=1):
        # the length first: int() of a number of thousands of digits is slow
        if not value.isdigit() or len(value) > 9 or int(value) > 255:
            raise InputError(f"{where}: pixel {position} is {_shown(value)}; expected a whole number from 0 to 255")
    if len(values) != NUM_PIXELS:
        raise InputError(
            f"{where} has {len(values):,} pixel values; expected {NUM_PIXELS:,} ({IMAGE_SIZE}x{IMAGE_SIZE})"
        )
    return " ".join(str(int(value)) for value in values)


def _is_canonical(field: bytes) -> bool:
    """Whether these are exactly 2304 values of at most three digits, none above 255, with single blanks between them.

    Works on whole rows of bytes at once: some 50 times faster than value by value.
    """
    code = np.frombuffer(field, np.uint8)
    blank = code == ord(" ")
    digit = (code ^ ord("0")) < 10  # '0'..'9' are 0x30..0x39
    num_blanks = np.count_nonzero(blank)
    if num_blanks != NUM_PIXELS - 1 or num_blanks + np.count_nonzero(digit) != len(code):
        return False
    if not digit[0] or not digit[-1] or (blank[1:] & blank[:-1]).any():
        return False
    three = digit[:-2] & digit[1:-1] & digit[2:]
    if (three[:-1] & three[1:]).any():  # four digits in a row
        return False
    hundreds, tens, ones = code[:-2], code[1:-1], code[2:]
    above = (hundreds > ord("2")) | (
        (hundreds == ord("2")) & ((tens > ord("5")) | ((tens == ord("5")) & (ones > ord("5"))))
    )
    return not (three & above).any()


# Folders


def _read_folder(root: Path, name: str) -> Dataset:
    files, folders = _list_images(root, name)
    if not files:
        raise InputError(f"{name}: a folder without images; {_EXPECTED_FOLDERS}")
    emotions = {folder: canonical_emotion(folder) for folder in folders}
    if all(emotions.values()):
        class_names = tuple(emotion for emotion in EMOTIONS if emotion in emotions.values())
        class_of = {folder: str(emotion) for folder, emotion in emotions.items()}
    else:
        class_names = tuple(sorted(folders))
        class_of = {folder: folder for folder in folders}
    _check_class_names(class_names, name)
    images = np.empty((len(files), IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    digest = hashlib.sha256()
    originals: Counter[str] = Counter()
    told = time.monotonic()
    for row, (relative, _, _) in enumerate(files):
        file, file_name = root / relative, _shown_path(root / relative)
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
        split=np.array([split for _, split, _ in files], _SPLIT_DTYPE),
        class_names=class_names,
        images=images,
        sha256=digest.hexdigest(),
        originals=dict(originals.most_common()),
    )


def _list_images(root: Path, name: str) -> tuple[list[tuple[str, str, str]], set[str]]:
    """(relative path, split, class folder) of each image, sorted, and the names of all class folders."""
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
            _shown(skipped[0]),
        )
    return sorted(files), folders


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, without the hidden files that desktops leave behind; symbolic links are refused."""
    with os.scandir(folder) as found:
        entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_symlink():
            raise InputError(f"{_shown_path(entry.path)}: a symbolic link; put the files themselves into the folder")
    return [entry for entry in entries if entry.name.lower() not in ("thumbs.db", "desktop.ini")]


# .npz


def _read_npz(archive: zipfile.ZipFile, name: str) -> Dataset:
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
    _check_class_names(class_names, name)
    _check_values(~np.isin(split, SPLITS), split, f"{name}: split", f"one of {', '.join(SPLITS)}")
    _check_values((labels < 0) | (labels >= len(class_names)), labels, f"{name}: label", f"0 to {len(class_names) - 1}")
    synthetic = False
    if "synthetic.npy" in held:
        synthetic = bool(_read_array(archive, held["synthetic.npy"], 8, f"{name}: synthetic").any())
    return Dataset(
        labels=labels.astype(np.int64),
        split=split.astype(_SPLIT_DTYPE),
        class_names=class_names,
        images=np.ascontiguousarray(images),
        synthetic=synthetic,
    )


def _check_values(wrong: np.ndarray, values: np.ndarray, what: str, expected: str) -> None:
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(f"{what} of image {row} is {_shown(str(values[row]))}; expected {expected}")


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most_bytes: int, where: str) -> np.ndarray:
    """One .npy of an archive; its size is checked against the bound and its own header before memory is taken."""
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
        # NumPy keeps any 32 bits for a character; made into a str, what is none raises SystemError.
        if dtype.kind == "U" and size and array.view(f"{dtype.byteorder}u4").max() > sys.maxunicode:
            raise ValueError("text with characters that do not exist")
        return array
    except Exception as error:  # NumPy parses the header as Python literals and raises almost any type
        reason = " ".join(str(error).split())[:150]
        raise InputError(f"{where} is no sound array ({reason}); write the file again with `fer-tf prepare`") from error
