"""Chooses rows: picks classes, cuts validation and test out of train, and limits the images of each split."""

from __future__ import annotations

import dataclasses
import logging
import shlex
from collections.abc import Sequence

import numpy as np

from fer_tf.data.dataset import SPLIT_DTYPE, Dataset
from fer_tf.data.names import find_class
from fer_tf.errors import InputError
from fer_tf.task import SPLITS
from fer_tf.text import shown

logger = logging.getLogger(__name__)


def select_classes(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    """Return the rows of some classes, renumbered in the given order; any spelling of a class is understood."""
    wanted = [find_class(name, dataset.class_names) or name.strip() for name in classes]
    if len(wanted) < 2:
        raise InputError(
            f"classes {', '.join(wanted) or 'none'}: expected at least two of {', '.join(dataset.class_names)}"
        )
    return dataset.select(wanted)


def check_training_rows(dataset: Dataset, name: str) -> None:
    """Refuse a data set in which a class has no training row; propose only classes that leave rows in every split."""
    counts = dataset.counts("train")
    present = [split for split in SPLITS if dataset.has(split)]
    if not counts.any():
        raise InputError(
            f"{name}: no training rows, only {' and '.join(present)}; expected some with Usage Training, or in train/"
        )
    missing = [name for name, count in zip(dataset.class_names, counts, strict=True) if not count]
    if missing:
        rest = [name for name, count in zip(dataset.class_names, counts, strict=True) if count]
        is_sound = len(rest) >= 2 and not any("," in name for name in rest)
        if is_sound:
            kept = dataset.select(rest)
            is_sound = all(kept.has(split) for split in present)
            is_sound &= kept.has("validation") or bool(kept.counts("train").min() > 1)  # validation is cut from train
        listed = ",".join(rest)
        flag = f"--classes={shlex.quote(listed)}" if listed.startswith("-") else f"--classes {shlex.quote(listed)}"
        advice = f", or keep the others with {flag}" if is_sound else ""
        raise InputError(f"{name}: no training row of {', '.join(missing)}; every class needs one: add some{advice}")


def with_cut(dataset: Dataset, name: str, seed: int, fraction: float, *, by_rows: bool = False) -> Dataset:
    """Make a part of the training rows validation; if the data names no splits, make another part test.

    Args:
        dataset: with training rows of each class and without validation rows.
        name: the data's name in messages.
        seed: seed of the random draw.
        fraction: part of each class's rows that a split gets, in (0, 1).
        by_rows: True to cut row by row, as version 0.1 did.

    Returns:
        The same rows. Copies of an image are in one split, and so are the pictures of one person. Every class keeps a
        training row. A class with too few pictures gets none in test or in validation.

    Raises:
        InputError: if no training row can be moved to validation.
    """
    groups = np.arange(len(dataset)) if by_rows else row_groups(dataset)
    split, cut = _cut(dataset, groups, seed, fraction)
    if not cut["validation"] and not by_rows:
        split, cut = _cut(dataset, np.arange(len(dataset)), seed, fraction)
        if cut["validation"]:
            logger.warning(
                "%s: too few different images or people for a cut between them: splits share images or people", name
            )
    if not cut["validation"]:
        raise InputError(
            f"{name}: one training row per class leaves none for validation; add rows, or a validation split"
        )
    total = int(dataset.counts("train").sum())
    if dataset.unsplit:
        taken = " and ".join(f"{count:,} {part}" for part, count in cut.items())
        logger.info(
            "%s names no splits: of its %s images %s, stratified, seed %d", dataset.source, f"{total:,}", taken, seed
        )
    else:
        logger.info(
            "%s has no validation split: %s of its %s training rows, stratified, seed %d, become one",
            dataset.source,
            f"{cut['validation']:,}",
            f"{total:,}",
            seed,
        )
    for part, count in cut.items():
        held = np.bincount(dataset.labels[split == part], minlength=dataset.num_classes)
        if count and not held.all():
            missing = [own for own, number in zip(dataset.class_names, held, strict=True) if not number]
            logger.warning("%s: %s: too few images or people for one in %s", name, ", ".join(missing), part)
    if not by_rows:
        _say_whether_people_are_apart(dataset)
    return dataclasses.replace(dataset, split=split, unsplit=False)


def _cut(dataset: Dataset, groups: np.ndarray, seed: int, fraction: float) -> tuple[np.ndarray, dict[str, int]]:
    """Return the split of each row after a cut between groups, and the number of rows in each new split."""
    random = np.random.default_rng(seed)
    total = int(dataset.counts("train").sum())
    split, cut = dataset.split.astype(SPLIT_DTYPE), {}  # a copy
    for part in ("validation", "test") if dataset.unsplit else ("validation",):
        train = np.flatnonzero(split == "train")
        # Test gets as many rows as validation, from the remaining rows.
        share = min(fraction * total / len(train), 0.5) if part == "test" else fraction
        rows = train[_draw(dataset.labels[train], groups[train], dataset.num_classes, share, random)]
        split[rows] = part
        cut[part] = len(rows)
    return split, cut


def _say_whether_people_are_apart(dataset: Dataset) -> None:
    """Log how many people were told apart; log nothing for drawn faces."""
    if dataset.synthetic:
        return
    known = [] if dataset.subjects is None else [subject for subject in dataset.subjects if subject]
    if not known:
        hint = "; --subjects PATTERN tells people apart by the files' paths" if dataset.files is not None else ""
        logger.info("%s: one person may be in several splits%s", dataset.source, hint)
        return
    logger.info("%s: %s people, each in one split", dataset.source, f"{len(set(known)):,}")
    if len(known) < len(dataset):
        logger.warning(
            "%s: the person of %s images is unknown: one person may be in several splits",
            dataset.source,
            f"{len(dataset) - len(known):,}",
        )


def warn_of_shared_people(dataset: Dataset) -> None:
    """Warn if one person is in several of the splits that the source itself names."""
    if dataset.subjects is None or dataset.unsplit:
        return
    splits_of: dict[str, set[str]] = {}
    for subject, split in zip(dataset.subjects, dataset.split, strict=True):
        if subject:
            splits_of.setdefault(subject, set()).add(str(split))
    shared = sorted(subject for subject, splits in splits_of.items() if len(splits) > 1)
    if shared:
        some = ", ".join(map(shown, shared[:3])) + (", ..." if len(shared) > 3 else "")
        logger.warning(
            "%s: %s of %s people are in several of its splits (%s): the test figures are too good for new people",
            dataset.source,
            f"{len(shared):,}",
            f"{len(splits_of):,}",
            some,
        )


def row_groups(dataset: Dataset) -> np.ndarray:
    """Number the groups of rows that stay together, int (n,): copies of an image, and pictures of one person."""
    root = list(range(len(dataset)))

    def find(row: int) -> int:
        while root[row] != row:
            root[row] = root[root[row]]
            row = root[row]
        return row

    first: dict[object, int] = {}
    faces = dataset.images if dataset.images is not None else dataset.pixels
    assert faces is not None
    for row, face in enumerate(faces):
        keys: list[object] = [face if isinstance(face, str) else face.tobytes()]
        if dataset.subjects is not None and dataset.subjects[row]:
            keys.append((dataset.subjects[row],))
        for key in keys:
            a, b = find(first.setdefault(key, row)), find(row)
            root[max(a, b)] = min(a, b)
    return np.array([find(row) for row in range(len(dataset))])


def _draw(
    labels: np.ndarray, groups: np.ndarray, num_classes: int, fraction: float, random: np.random.Generator
) -> np.ndarray:
    """Draw about a fraction of each class, in whole groups; each class keeps at least one row.

    Args:
        labels: int (n,).
        groups: int (n,); rows with the same number stay together.
        num_classes: number of classes.
        fraction: in (0, 1).
        random: the source of the draw.

    Returns:
        Positions in `labels`.
    """
    members, sizes = np.unique(groups, return_counts=True)
    if len(members) == len(labels):
        drawn = []
        for label in range(num_classes):
            rows = np.flatnonzero(labels == label)
            part = min(max(1, round(len(rows) * fraction)), len(rows) - 1)
            drawn.append(random.permutation(rows)[: max(part, 0)])
        return np.concatenate(drawn)
    place = np.searchsorted(members, groups)
    counts = np.zeros((len(members), num_classes), np.int64)
    np.add.at(counts, (place, labels), 1)
    total = counts.sum(axis=0)
    wanted, scale = fraction * total, np.maximum(total, 1)
    taken = np.zeros(num_classes, np.int64)
    is_drawn = np.zeros(len(members), bool)
    order = random.permutation(len(members))

    def distance(found: np.ndarray) -> float:
        return float(np.square((found - wanted) / scale).sum())

    def leaves_each_class_a_row(found: np.ndarray) -> bool:
        return bool(np.all((found < total) | (total == 0)))

    for group in order.tolist():
        found = taken + counts[group]
        if distance(found) < distance(taken) and leaves_each_class_a_row(found):
            taken, is_drawn[group] = found, True
    for label in np.flatnonzero((taken == 0) & (total > 0)).tolist():  # a class without a row gets its smallest group
        holders = sorted(order[counts[order, label] > 0].tolist(), key=lambda group: sizes[group])
        holders = [group for group in holders if leaves_each_class_a_row(taken + counts[group])]
        if holders and not taken[label]:
            taken, is_drawn[holders[0]] = taken + counts[holders[0]], True
    return np.flatnonzero(is_drawn[place])


def limited(dataset: Dataset, limit: int, seed: int) -> np.ndarray:
    """Row numbers of about `limit` random images of each split, in the classes' proportions, at least one per class."""
    rng = np.random.default_rng(seed)
    kept = []
    for split in SPLITS:
        rows = np.flatnonzero(dataset.split == split)
        share = min(1.0, limit / max(len(rows), 1))
        for label in range(dataset.num_classes):
            of_class = rows[dataset.labels[rows] == label]
            count = min(len(of_class), max(1, round(share * len(of_class))))
            kept.append(rng.permutation(of_class)[:count])
    return np.sort(np.concatenate(kept))
