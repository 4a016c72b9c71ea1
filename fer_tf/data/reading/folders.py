"""Folders of pictures: splits and classes by the names of the folders, links and broken files told apart."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import re
import shlex
import stat
import time
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fer_tf.artifacts import atomic_path, cached_crops, left_out_list, write_text
from fer_tf.data.dataset import SPLIT_DTYPE, Dataset
from fer_tf.data.names import emotion_of, is_number, merge_names, merged_text, names_of_numbers, split_of
from fer_tf.data.reading.checks import MAX_ROWS, check_class_names
from fer_tf.errors import InputError
from fer_tf.faces.detection import DETECT_SIDE
from fer_tf.faces.kinds import is_hidden, is_meant_as_picture, skipped_kinds
from fer_tf.faces.pictures import MAX_IMAGE_BYTES, Picture, decode_picture, say_first_frames
from fer_tf.faces.policy import NUM_SAMPLED, CropPolicy, decide
from fer_tf.task import IMAGE_SIZE, SPLITS
from fer_tf.text import listed, quantity, shown, shown_path

logger = logging.getLogger(__name__)

# Folders that systems and programs leave behind, beside those that begin with a dot; compared without case.
_SYSTEM_FOLDERS = (
    "@eadir", "#recycle", "$recycle.bin", "__macosx", "__pycache__", "lost+found", "system volume information",
)  # fmt: skip
_NEVER_READ = ("/proc", "/sys", "/dev")  # a file there may be endless, or a device
_MAX_DEPTH = 20  # folders below one another
_MAX_ENTRIES = 4 * MAX_ROWS  # files and folders of a tree
_OPENED_AS = 2  # changes when pictures are opened in another way, so that crops kept from before are made anew
_PROGRESS_SECONDS = 5.0  # between two lines of the log
_NUM_NAMED = 10  # pictures that a message names
_NUM_SHOWN = 3  # files that a line of the log shows for each reason
_TOLD_SHARE = 0.01  # a larger part that is left out is a warning
# File names of published sets that begin with the person: CK+ S005_001_00000011.png, JAFFE KA.AN1.39.tiff.
_KNOWN_SUBJECTS = (
    re.compile(r"(?:^|/)(S\d{3})_\d{3}_\d{8}[^/]*$", re.ASCII),
    re.compile(r"(?:^|/)([A-Z]{2})\.(?:AN|DI|FE|HA|NE|SA|SU)\d\.\d+[^/]*$", re.ASCII),
)

Parts = tuple[str, ...]  # names of the folders down to a file, and the file's own


def read_folder(
    root: Path,
    name: str,
    faces: str | CropPolicy = "auto",
    *,
    class_names: Sequence[str] | None = None,
    subjects: str | None = None,
    skip_broken: bool = False,
) -> Dataset:
    """Read the pictures below a folder, each made a 48x48 grey crop; their contents say what is one.

    Args:
        root: a folder with a folder for each split and in it one for each class, or with class folders alone.
        name: what messages call it.
        faces: how pictures become crops: `auto`, `detect`, `whole`, or a policy that was recorded.
        class_names: names of classes that are only numbers, as for `names.names_of_numbers`.
        subjects: a regular expression that finds the person in a picture's path.
        skip_broken: True to leave out files that cannot be read.

    Returns:
        The crops. `left_out` counts what was not read by reason; pictures in which no face is found are left out.

    Raises:
        InputError: if a picture cannot be read, most pictures show no face, or anything else is not as expected.
    """
    found = _walk(root, name)
    layout = arrange(found.pictures)
    _check_splits(layout, name)
    if not layout.rows and not found.broken:
        raise InputError(_nothing_text(layout, name))
    rows = sorted(layout.rows)  # by path
    class_names_, class_of = _classes(rows, class_names, name)
    subject_of = _subject_finder(subjects)
    _say_layout(found, layout, class_of, name)

    broken = dict(found.broken)
    digest = hashlib.sha256()
    for relative, _, _ in rows:
        try:
            data = _read(root / relative)
        except (InputError, OSError) as error:
            broken[relative] = _reason(error, root / relative)
            continue
        digest.update(os.fsencode(relative) + f"\0{len(data)}\0".encode() + data)
    rows = [row for row in rows if row[0] not in broken]
    policy = faces if isinstance(faces, CropPolicy) else decide(faces, _sample(root, rows) if faces == "auto" else [])
    if policy.faces == "detect":
        logger.info("%s: faces are looked for in each picture (%s)", name, policy.reason)
    crops = _crops(root, name, rows, policy, digest.hexdigest())
    broken |= crops.broken
    if broken and not skip_broken:
        raise InputError(_broken_text(broken, root, name, len(rows) + len(broken) - len(crops.broken)))
    is_sound = np.array([row[0] not in crops.broken for row in rows], bool)
    if not is_sound.any():
        raise InputError(f"{name}: none of its {quantity(len(broken), 'picture')} can be read; download it again")
    paths = [relative for relative, _, _ in rows]
    _check_found(crops.found[is_sound], [path for path, sound in zip(paths, is_sound, strict=True) if sound], name)

    left_out: dict[str, list[str]] = {
        "that cannot be read": sorted(broken),
        "in which no face is found": [paths[row] for row in np.flatnonzero(is_sound & ~crops.found)],
        **layout.left_out,
        f"that are no pictures: {skipped_kinds([Path(other) for other in found.others])}": found.others,
    }
    left_out = {reason: files for reason, files in left_out.items() if files}
    keep = is_sound & crops.found
    _say_left_out(left_out, int(keep.sum()), name)
    kept = [row for row, is_kept in zip(rows, keep, strict=True) if is_kept]
    class_names_ = tuple(own for own in class_names_ if own in {class_of[folder] for _, _, folder in kept})
    check_class_names(class_names_, name)
    people = np.array([subject_of(relative) for relative, _, _ in kept], object)
    if subjects is not None and not any(people):
        raise InputError(
            f"{name}: --subjects {shown(subjects)} is found in no path, such as {shown(kept[0][0])}; expected a "
            "regular expression whose first group is the person"
        )
    return Dataset(
        labels=np.array([class_names_.index(class_of[folder]) for _, _, folder in kept], np.int64),
        split=np.array([split for _, split, _ in kept], SPLIT_DTYPE),
        class_names=class_names_,
        images=crops.images[keep],
        sha256=digest.hexdigest(),
        originals=crops.originals,
        crop={**policy.to_dict(), "num_without_face": int(np.sum(is_sound & ~crops.found))},
        files=np.array([relative for relative, _, _ in kept], object),
        subjects=people if any(people) else None,
        unsplit=layout.unsplit,
        left_out={reason: len(files) for reason, files in left_out.items()},
    )


# --- Names of folders -> splits and classes ---


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the folders of a tree mean.

    Attributes:
        rows: (relative path, split, class folder) of each picture.
        split_folders: split -> names of its folders.
        left_out: reason -> relative paths of the pictures that are not read.
        unsplit: True if no folder names a split; all rows are called train.
    """

    rows: list[tuple[str, str, str]]
    split_folders: dict[str, list[str]]
    left_out: dict[str, list[str]]
    unsplit: bool


def arrange(pictures: Sequence[Parts]) -> Layout:
    """Tell splits and classes by the names of folders.

    Args:
        pictures: for each picture the names of the folders down to it, and its own.

    Returns:
        Each picture is in `rows` or in `left_out`, once. Folders of splits stand at the top (train/happy/1.png), or
        below every class (happy/train/1.png), or nowhere (happy/1.png). A single folder around all of them is no
        class, unless it is named after an emotion. Folders below a class belong to it.
    """
    depth = 0
    while len(tops := {parts[depth] for parts in pictures if len(parts) > depth + 1}) == 1:
        if split_of(*tops) or emotion_of(*tops) or all(len(parts) <= depth + 2 for parts in pictures):
            break
        depth += 1
    rows: list[tuple[str, str, str]] = []
    folders: dict[str, set[str]] = {}
    left_out: dict[str, list[str]] = {}
    inner = [parts[depth:] for parts in pictures]
    has_splits = any(len(parts) > 1 and split_of(parts[0]) for parts in inner)
    below = [len(parts) > 2 and split_of(parts[1]) is not None for parts in inner if len(parts) > 1]
    split_below = not has_splits and bool(below) and 2 * sum(below) >= len(below)
    for whole, parts in zip(pictures, inner, strict=True):
        relative = "/".join(whole)
        split, folder = "train", "".join(parts[:1])
        if has_splits:
            if len(parts) < 2 or not (split_name := split_of(parts[0])):
                left_out.setdefault("in no folder of a split", []).append(relative)
                continue
            split, folder = split_name, parts[1]
            parts = parts[1:]
        elif split_below and len(parts) > 1:
            if len(parts) == 2 or not (split_name := split_of(parts[1])):
                left_out.setdefault("in no folder of a split", []).append(relative)
                continue
            split = split_name
        if len(parts) < 2:
            left_out.setdefault("in no folder of a class", []).append(relative)
            continue
        if has_splits:
            folders.setdefault(split, set()).add(whole[depth])
        rows.append((relative, split, folder))
    if "validation" not in {split for _, split, _ in rows}:
        rows = [
            (relative, "validation" if split == "test" and _is_public_test(relative) else split, folder)
            for relative, split, folder in rows
        ]
    split_folders = {split: sorted(folders[split]) for split in SPLITS if split in folders}
    return Layout(rows, split_folders, left_out, unsplit=not has_splits and not split_below)


def _is_public_test(relative: str) -> bool:
    return relative.rpartition("/")[2].lower().startswith("publictest")


def _check_splits(layout: Layout, name: str) -> None:
    for split, folders in layout.split_folders.items():
        if len(folders) > 1:
            raise InputError(
                f"{name}: {' and '.join(shown_path(folder) + '/' for folder in folders)} are both the {split} split; "
                "keep one, or move their pictures together"
            )


def _classes(
    rows: Sequence[tuple[str, str, str]], class_names: Sequence[str] | None, name: str
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the class names, and the class of each class folder."""
    by_split = sorted(rows, key=lambda row: SPLITS.index(row[1]))  # the spelling in train stays
    folders = list(dict.fromkeys(folder for _, _, folder in by_split))
    numbers = [folder for folder in folders if is_number(folder)]
    if class_names is not None and not numbers:
        logger.info("%s: no class folder is only a number, so --class-names changes nothing", name)
    name_of = names_of_numbers(numbers, class_names, name) if numbers else {}
    merged, class_of = merge_names(name_of.get(folder, folder) for folder in folders)
    check_class_names(merged, name)
    return merged, {folder: class_of[name_of.get(folder, folder)] for folder in folders}


def _subject_finder(pattern: str | None):  # type: ignore[no-untyped-def]
    """Return a function that finds the person in a relative path; it returns "" where nothing tells."""
    if pattern is None:
        patterns: Sequence[re.Pattern[str]] = _KNOWN_SUBJECTS
    else:
        try:
            patterns = [re.compile(pattern)]
        except re.error as error:
            raise InputError(f"--subjects {shown(pattern)}: no regular expression ({error}); mend it") from None

    def find(relative: str) -> str:
        for known in patterns:
            if match := known.search(relative):
                return (match[1] if known.groups else match[0]) or ""
        return ""

    return find


# --- What is said ---


def _nothing_text(layout: Layout, name: str) -> str:
    expected = "expected train/, [validation/,] test/ with one folder of images (PNG, JPEG or another format) per class"
    if layout.left_out:
        reason, files = next(iter(layout.left_out.items()))
        return f"{name}: {quantity(len(files), 'picture')} {reason}, such as {shown(files[0])}; {expected}"
    return f"{name}: a folder without images; {expected}"


def _say_layout(found: _Found, layout: Layout, class_of: Mapping[str, str], name: str) -> None:
    """Log what the names of the folders mean where it is not plain."""
    if merged := merged_text(class_of):
        logger.info("%s: %s", name, merged)
    with_pictures = {parts[:end] for parts in found.pictures for end in range(1, len(parts))}
    empty = ["/".join(parts) for parts in found.folders if parts not in with_pictures]
    if empty:
        some = ", ".join(shown(text) for text in empty[:_NUM_NAMED]) + (", ..." if len(empty) > _NUM_NAMED else "")
        logger.info("%s: folders without pictures are no classes: %s", name, some)
    beside = Counter(
        path.partition("/")[0] for path in layout.left_out.get("in no folder of a split", ()) if "/" in path
    )
    if beside and layout.split_folders:
        neighbours = listed([f"{shown(folder)} ({quantity(count, 'picture')})" for folder, count in beside.items()])
        logger.warning(
            "%s: not read beside %s: %s; name a folder train, validation or test to have it read",
            name,
            listed([f"{folder}/" for folders in layout.split_folders.values() for folder in folders]),
            neighbours,
        )


def _say_left_out(left_out: Mapping[str, Sequence[str]], num_read: int, name: str) -> None:
    """Log how many files were left out for which reason; above 1 % it is a warning."""
    if not left_out:
        return
    total = sum(map(len, left_out.values()))
    texts = []
    for reason, files in left_out.items():
        some = ", ".join(map(shown, files[:_NUM_SHOWN])) + (", ..." if len(files) > _NUM_SHOWN else "")
        texts.append(f"{len(files):,} {reason} ({some})")
    all_files = num_read + total
    level = logging.WARNING if total > _TOLD_SHARE * all_files else logging.INFO
    logger.log(level, "%s: left out %s of %s files: %s", name, f"{total:,}", f"{all_files:,}", ", ".join(texts))


def _broken_text(broken: Mapping[str, str], root: Path, name: str, total: int) -> str:
    """Name broken files: a single one with its reason; of more the first ten, and a file with all."""
    go_on = "or leave out what cannot be read with --skip-broken"
    if len(broken) == 1:
        ((relative, reason),) = broken.items()
        return f"{shown_path(root / relative)}: {reason}, {go_on}"
    texts = [f"{shown_path(relative)} ({broken[relative].partition(';')[0]})" for relative in sorted(broken)]
    some = ", ".join(texts[:_NUM_NAMED]) + (f" and {len(texts) - _NUM_NAMED:,} more" if len(texts) > _NUM_NAMED else "")
    whole_list = ""
    key = hashlib.sha256("\n".join([str(root.resolve()), *texts]).encode(errors="backslashreplace")).hexdigest()
    with contextlib.suppress(InputError, OSError):  # without it the message still says what is wrong
        path = left_out_list(key)
        write_text(path, "".join(f"{shown_path(relative)}\t{broken[relative]}\n" for relative in sorted(broken)))
        whole_list = f"; all are listed in {shlex.quote(str(path))}"
    return (
        f"{name}: {len(broken):,} of {quantity(total, 'file')} cannot be read: {some}{whole_list}; replace or remove "
        f"them, {go_on}"
    )


def _reason(error: InputError | OSError, path: Path) -> str:
    """What is wrong with a file, without its path."""
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or error}); make it readable, or remove it"
    return str(error).removeprefix(f"{shown_path(path)}: ")


# --- Pictures ---


def _read(file: Path) -> bytes:
    if file.stat().st_size > MAX_IMAGE_BYTES:
        raise InputError(f"{shown_path(file)}: larger than {MAX_IMAGE_BYTES >> 20} MiB; give a smaller picture")
    return file.read_bytes()


def _picture(file: Path, min_side: int = DETECT_SIDE) -> Picture:
    return decode_picture(_read(file), shown_path(file), min_side=min_side)


def _sample(root: Path, files: Sequence[tuple[str, str, str]]) -> list[Image.Image]:
    """Pictures spread evenly over the sorted files; broken ones are left out."""
    pictures = []
    for row in np.linspace(0, len(files) - 1, min(NUM_SAMPLED, len(files)), dtype=int):
        with contextlib.suppress(InputError, OSError):
            pictures.append(_picture(root / files[row][0]).image)
    return pictures


@dataclasses.dataclass(frozen=True)
class _Crops:
    """Crops uint8 (n, 48, 48); bool (n,) where a face was found; files by size and colour; reasons of broken files."""

    images: np.ndarray
    found: np.ndarray
    originals: dict[str, int]
    broken: dict[str, str]


def _crops(root: Path, name: str, files: Sequence[tuple[str, str, str]], policy: CropPolicy, sha256: str) -> _Crops:
    """Crop each picture, or take the crops that an earlier call kept."""
    key = f"{sha256}{_OPENED_AS}{sorted(policy.to_dict().items())}"
    cache = cached_crops(hashlib.sha256(key.encode()).hexdigest())
    if policy.faces == "detect" and cache.is_file():
        with contextlib.suppress(ValueError, KeyError, OSError, zipfile.BadZipFile), np.load(cache) as kept:
            if len(kept["images"]) == len(files):
                numbers, reasons = (json.loads(str(kept[key])) for key in ("originals", "broken"))
                logger.info("%s: crops of an earlier call, from %s", name, cache)
                return _Crops(kept["images"], kept["found"], numbers, reasons)
    images = np.zeros((len(files), IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    found = np.zeros(len(files), bool)
    originals: Counter[str] = Counter()
    broken: dict[str, str] = {}
    several: list[str] = []
    told = time.monotonic()
    for row, (relative, _, _) in enumerate(files):
        try:
            picture = _picture(root / relative, policy.detect_side)
        except (InputError, OSError) as error:
            broken[relative] = _reason(error, root / relative)
            continue
        width, height = picture.size
        originals[f"{width}x{height} {'grey' if picture.image.mode == 'L' else 'colour'}"] += 1
        if picture.is_first_of_several:
            several.append(relative)
        crop = policy.crop(picture)
        if crop is not None:
            images[row], found[row] = crop, True
        if time.monotonic() - told > _PROGRESS_SECONDS:
            told = time.monotonic()
            logger.info("reading %s: %s of %s images", name, f"{row + 1:,}", f"{len(files):,}")
    say_first_frames(several)
    by_number = dict(originals.most_common())
    if policy.faces == "detect":
        with contextlib.suppress(InputError), atomic_path(cache) as temporary:  # a full disk costs the next call time
            np.savez_compressed(
                temporary,
                images=images,
                found=found,
                originals=np.array(json.dumps(by_number)),
                broken=np.array(json.dumps(broken)),
            )
    return _Crops(images, found, by_number, broken)


def _check_found(found: np.ndarray, names: Sequence[str], name: str) -> None:
    """Refuse a set of which most pictures show no face."""
    without = [text for text, is_found in zip(names, found, strict=True) if not is_found]
    if len(without) > len(names) / 2:
        some = ", ".join(shown(text) for text in without[:_NUM_NAMED])
        more = f" and {len(without) - _NUM_NAMED:,} more" if len(without) > _NUM_NAMED else ""
        raise InputError(
            f"{name}: no face is found in {len(without):,} of {len(names):,} pictures ({some}{more}); if each picture "
            "shows one face and nothing else, load them with --faces whole"
        )


# --- The tree of files ---


@dataclasses.dataclass
class _Found:
    """What stands below a folder, hidden and system names left out.

    Attributes:
        pictures: parts of the path of each file that claims to be a picture.
        folders: parts of the path of each folder.
        others: relative paths of other files inside folders; those beside the folders are not counted.
        broken: relative path -> reason, of what is no regular file.
    """

    pictures: list[Parts] = dataclasses.field(default_factory=list)
    folders: list[Parts] = dataclasses.field(default_factory=list)
    others: list[str] = dataclasses.field(default_factory=list)
    broken: dict[str, str] = dataclasses.field(default_factory=dict)


def _walk(root: Path, name: str) -> _Found:
    """List the files below a folder. Links are followed to regular files, never to folders or devices."""
    found = _Found()
    waiting: list[Parts] = [()]
    num_entries = 0
    while waiting:
        parts = waiting.pop()
        try:
            with os.scandir(root.joinpath(*parts)) as scanned:
                entries = sorted((entry for entry in scanned if not _is_left_behind(entry)), key=lambda e: e.name)
        except OSError as error:
            if not parts:
                raise
            found.broken["/".join(parts)] = f"a folder that cannot be read ({error.strerror}); make it readable"
            continue
        num_entries += len(entries)
        if num_entries > _MAX_ENTRIES:
            raise InputError(f"{name}: more than {_MAX_ENTRIES:,} files; give a smaller folder")
        for entry in entries:
            path = (*parts, entry.name)
            if entry.is_dir(follow_symlinks=False):
                found.folders.append(path)
                if len(path) > _MAX_DEPTH:
                    raise InputError(f"{name}: more than {_MAX_DEPTH} folders below one another, at {shown(path[0])}")
                waiting.append(path)
            elif problem := _problem(entry):
                found.broken["/".join(path)] = problem
            elif is_meant_as_picture(entry):
                found.pictures.append(path)
            elif parts:
                found.others.append("/".join(path))
        if len(found.pictures) > MAX_ROWS:
            raise InputError(f"{name}: more than {MAX_ROWS:,} images; give a smaller folder")
    found.pictures.sort()
    found.others.sort()
    return found


def _is_left_behind(entry: os.DirEntry[str]) -> bool:
    """Return True for hidden names and the folders of systems, which nobody means as data."""
    return is_hidden(entry.name) or entry.name.casefold() in _SYSTEM_FOLDERS


def _problem(entry: os.DirEntry[str]) -> str | None:
    """Say why a directory entry is no file to read; None for a regular file or a link to one."""
    if not entry.is_symlink():
        return _kind_problem(entry.stat(follow_symlinks=False).st_mode)
    try:
        first = os.path.join(os.path.dirname(entry.path), os.readlink(entry.path))
        target = os.path.realpath(entry.path, strict=True)
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return "a symbolic link to nothing; fetch its target, or remove it"
    except OSError as error:
        looped = "that leads to itself" if isinstance(error, OSError) and _is_loop(error) else f"({error.strerror})"
        return f"a symbolic link {looped}; remove it"
    for path in (os.path.normpath(os.path.abspath(first)), target):
        if any(path == root or path.startswith(root + "/") for root in _NEVER_READ):
            return "a symbolic link into /proc, /sys or /dev; remove it"
    if stat.S_ISDIR(mode):
        return "a symbolic link to a folder; put the folder itself in its place"
    problem = _kind_problem(mode)
    return f"a symbolic link to {problem}" if problem else None


def _is_loop(error: OSError) -> bool:
    import errno

    return error.errno == errno.ELOOP


def _kind_problem(mode: int) -> str | None:
    if stat.S_ISREG(mode):
        return None
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    return f"{kinds.get(stat.S_IFMT(mode), 'no regular file')}, not a file; remove it"
