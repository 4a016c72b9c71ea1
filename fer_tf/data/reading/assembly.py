"""Rows with crops -> a data set; shared by folders, tables of paths and Arrow rows."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from fer_tf.data.dataset import SPLIT_DTYPE, Dataset
from fer_tf.data.names import is_number, merge_names, names_of_numbers
from fer_tf.data.reading.checks import check_class_names
from fer_tf.data.reading.crops import Crops, check_found
from fer_tf.data.reading.left_out import say_left_out
from fer_tf.errors import InputError
from fer_tf.task import SPLITS
from fer_tf.text import quantity

logger = logging.getLogger(__name__)

Row = tuple[str, str, str]  # path, split, and class as the source spells it


def name_classes(
    rows: Sequence[Row], class_names: Sequence[str] | None, name: str
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the class names, and the class of each spelling.

    Args:
        rows: all pictures.
        class_names: names for classes that are only numbers, as for `names.names_of_numbers`.
        name: name of the data set in messages.

    Raises:
        InputError: if numbers have no names, there are too few or too many classes, or a class has an odd name.
    """
    by_split = sorted(rows, key=lambda row: SPLITS.index(row[1]))  # the spelling in train wins
    spellings = list(dict.fromkeys(spelling for _, _, spelling in by_split))
    numbers = [spelling for spelling in spellings if is_number(spelling)]
    if len(numbers) == len(spellings) == 1:
        check_class_names(numbers, name)  # new names would not help if the number of classes is wrong
    if class_names is not None and not numbers:
        logger.info("%s: no class is a number alone, so --class-names changes nothing", name)
    name_of = names_of_numbers(numbers, class_names, name) if numbers else {}
    merged, class_of = merge_names(name_of.get(spelling, spelling) for spelling in spellings)
    check_class_names(merged, name)
    return merged, {spelling: class_of[name_of.get(spelling, spelling)] for spelling in spellings}


def split_and_class(rows: Sequence[Row], class_of: Mapping[str, str], places: Iterable[int]) -> list[tuple[str, str]]:
    """Return the split and the class of each of some rows."""
    return [(rows[place][1], class_of[rows[place][2]]) for place in places]


def assemble(
    rows: Sequence[Row],
    crops: Crops,
    left_out: Mapping[str, Sequence[str]],
    people: Sequence[str],
    class_of: Mapping[str, str],
    class_names: Sequence[str],
    name: str,
    *,
    unsplit: bool,
    unit: str = "file",
) -> Dataset:
    """Make a data set of the rows whose picture gave a crop.

    Args:
        rows: all pictures.
        crops: the crops of these pictures.
        left_out: reason -> names of files or rows that were left out for other reasons than a missing face.
        people: the person of each row, or "".
        class_of: the class of each spelling.
        class_names: all classes; classes without a remaining picture are dropped.
        name: name of the data set in messages.
        unsplit: True if the source has no splits.
        unit: the word for one item in messages, such as "picture".

    Raises:
        InputError: if no picture can be read, most show no face, or fewer than two classes are left.
    """
    if not crops.is_sound.any():
        raise InputError(f"{name}: none of its {quantity(len(rows), 'picture')} can be read; download it again")
    paths = [path for path, _, _ in rows]
    check_found(crops, paths, name)
    faceless = np.flatnonzero(crops.is_sound & ~crops.found).tolist()
    left_out = {**left_out, "in which no face is found": [paths[place] for place in faceless]}
    left_out = {reason: files for reason, files in left_out.items() if files}
    say_left_out(left_out, int(crops.found.sum()), name, unit)
    kept = np.flatnonzero(crops.found).tolist()
    labels = [class_of[rows[place][2]] for place in kept]
    present = set(labels)
    class_names = tuple(own for own in class_names if own in present)
    check_class_names(class_names, name)
    persons = np.array([people[place] for place in kept], object)
    return Dataset(
        labels=np.array([class_names.index(label) for label in labels], np.int64),
        split=np.array([rows[place][1] for place in kept], SPLIT_DTYPE),
        class_names=class_names,
        images=crops.images if len(kept) == len(rows) else crops.images[crops.found],  # avoid a copy if possible
        sha256=crops.sha256,
        originals=crops.originals,
        crop={**crops.policy.to_dict(), "num_without_face": len(faceless)},
        files=np.array([paths[place] for place in kept], object),
        subjects=persons if any(persons) else None,
        unsplit=unsplit,
        left_out={reason: len(files) for reason, files in left_out.items()},
    )
