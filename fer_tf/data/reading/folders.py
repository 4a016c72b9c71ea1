"""Folders of pictures: the names of the folders give splits and classes."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fer_tf.data.dataset import Dataset
from fer_tf.data.names import emotion_of, merged_text, split_of
from fer_tf.data.reading.assembly import assemble, name_classes, split_and_class
from fer_tf.data.reading.crops import crop_pictures, read_file
from fer_tf.data.reading.left_out import NUM_NAMED, broken_text, leaves_enough
from fer_tf.data.reading.people import subject_finder
from fer_tf.data.reading.tree import Found, Parts
from fer_tf.errors import InputError
from fer_tf.faces.kinds import skipped_kinds
from fer_tf.faces.policy import CropPolicy
from fer_tf.task import SPLITS
from fer_tf.text import listed, quantity, shown, shown_path

logger = logging.getLogger(__name__)


def read_folder(
    root: Path,
    found: Found,
    name: str,
    faces: str | CropPolicy = "auto",
    *,
    class_names: Sequence[str] | None = None,
    subjects: str | None = None,
    skip_broken: bool = False,
) -> Dataset:
    """Read the pictures below a folder as 48x48 grey crops; a file's contents decide if it is a picture.

    Args:
        root: a folder of split folders with class folders in them, or of class folders alone.
        found: the result of `tree.walk` for the folder.
        name: name of the data set in messages.
        faces: how pictures become crops: `auto`, `detect`, `whole`, or a recorded policy.
        class_names: names for classes that are only numbers, as for `names.names_of_numbers`.
        subjects: a regular expression that finds the person in a picture's path.
        skip_broken: True to leave out files that cannot be read.

    Returns:
        The crops. `left_out` counts the files that were not read, by reason, and the pictures without a face.

    Raises:
        InputError: if a picture cannot be read, most pictures show no face, or anything else is not as expected.
    """
    layout = arrange(found.pictures)
    _check_splits(layout, name)
    if not layout.rows and not found.broken:
        raise InputError(_nothing_text(layout, name))
    rows = sorted(layout.rows)  # by path
    names, class_of = name_classes(rows, class_names, name)
    subject_of = subject_finder(subjects)
    _say_layout(found, layout, class_of, name)

    paths = [relative for relative, _, _ in rows]
    crops = crop_pictures(paths, lambda row: read_file(root / paths[row]), faces, name)
    broken = dict(sorted((found.broken | {paths[row]: reason for row, reason in crops.broken.items()}).items()))
    if broken and not skip_broken:
        kept = split_and_class(rows, class_of, np.flatnonzero(crops.found).tolist())
        lost = [*split_and_class(rows, class_of, crops.broken), *_lost_links(found, class_of)]
        can_skip = leaves_enough(kept, lost, unsplit=layout.unsplit)
        one = shown_path(root / next(iter(broken)))
        total = len(rows) + len(found.broken)
        raise InputError(broken_text(broken, name, total, one=one, can_skip=can_skip))
    people = [subject_of(relative) for relative in paths]
    if subjects is not None and not any(people):
        raise InputError(
            f"{name}: --subjects {shown(subjects)} matches no path, such as {shown(paths[0])}; expected a "
            "regular expression whose first group is the person"
        )
    left_out = {
        "that cannot be read": list(broken),
        **layout.left_out,
        f"that are not pictures: {skipped_kinds([Path(other) for other in found.others])}": found.others,
    }
    return assemble(rows, crops, left_out, people, class_of, names, name, unsplit=layout.unsplit)


# --- Names of folders -> splits and classes ---


@dataclasses.dataclass(frozen=True)
class Layout:
    """The splits and classes that the folders of a tree mean.

    Attributes:
        rows: (relative path, split, class folder) of each picture.
        split_folders: split -> names of its folders.
        left_out: reason -> relative paths of the pictures that are not read.
        unsplit: True if no folder names a split; all rows are then called train.
    """

    rows: list[tuple[str, str, str]]
    split_folders: dict[str, list[str]]
    left_out: dict[str, list[str]]
    unsplit: bool


def arrange(pictures: Sequence[Parts]) -> Layout:
    """Find splits and classes by the names of folders.

    Args:
        pictures: for each picture, the names of the folders down to it, and the file's name.

    Returns:
        Each picture is in `rows` or in `left_out`, once. Split folders are at the top (train/happy/1.png), or below
        every class (happy/train/1.png), or missing (happy/1.png). A single folder around all others is not a class,
        unless its name is an emotion. Folders below a class belong to this class.
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


def _lost_links(found: Found, class_of: Mapping[str, str]) -> set[tuple[str, str]]:
    """Return the split and the class of entries that are not regular files, as far as their folders tell."""
    lost = [
        (*path.split("/"), *([""] if reason.startswith("a folder") else [])) for path, reason in found.broken.items()
    ]
    rows = arrange([*found.pictures, *lost]).rows
    return {(split, class_of.get(folder, folder)) for path, split, folder in rows if path.rstrip("/") in found.broken}


# --- What is said ---


def _nothing_text(layout: Layout, name: str) -> str:
    expected = "expected train/, [validation/,] test/ with one folder of images (PNG, JPEG or another format) per class"
    if layout.left_out:
        reason, files = next(iter(layout.left_out.items()))
        return f"{name}: {quantity(len(files), 'picture')} {reason}, such as {shown(files[0])}; {expected}"
    return f"{name}: a folder without images; {expected}"


def _say_layout(found: Found, layout: Layout, class_of: Mapping[str, str], name: str) -> None:
    """Log the meaning of the folders' names if it is not obvious."""
    if merged := merged_text(class_of):
        logger.info("%s: %s", name, merged)
    with_pictures = {parts[:end] for parts in found.pictures for end in range(1, len(parts))}
    empty = ["/".join(parts) for parts in found.folders if parts not in with_pictures]
    if empty:
        some = ", ".join(shown(text) for text in empty[:NUM_NAMED]) + (", ..." if len(empty) > NUM_NAMED else "")
        logger.info("%s: folders without pictures are not classes: %s", name, some)
    beside = Counter(
        path.partition("/")[0] for path in layout.left_out.get("in no folder of a split", ()) if "/" in path
    )
    if beside and layout.split_folders:
        neighbours = listed([f"{shown(folder)} ({quantity(count, 'picture')})" for folder, count in beside.items()])
        logger.warning(
            "%s: read only %s, not %s; name a folder train, validation or test to have it read",
            name,
            listed([f"{folder}/" for folders in layout.split_folders.values() for folder in folders]),
            neighbours,
        )
