"""Chooses rows: some classes, a validation split out of train, at most some images of each split."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np

from fer_tf.data.dataset import SPLIT_DTYPE, Dataset
from fer_tf.errors import InputError
from fer_tf.task import SPLITS, canonical_emotion

logger = logging.getLogger(__name__)


def select_classes(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    """Return the rows of some classes, renumbered in the order given; synonyms of emotions are understood."""
    wanted = []
    for name in (given.strip() for given in classes):
        emotion = canonical_emotion(name)
        wanted.append(emotion if name not in dataset.class_names and emotion in dataset.class_names else name)
    if len(wanted) < 2:
        raise InputError(
            f"classes {', '.join(wanted) or 'none'}: expected at least two of {', '.join(dataset.class_names)}"
        )
    return dataset.select([str(name) for name in wanted])


def check_training_rows(dataset: Dataset, name: str) -> None:
    """Refuse a data set in which a class has no training row."""
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


def with_validation(dataset: Dataset, name: str, seed: int, fraction: float) -> Dataset:
    """Move a random part of each class's training rows to validation; each class keeps at least one."""
    random = np.random.default_rng(seed)
    split = dataset.split.astype(SPLIT_DTYPE)  # a copy
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


def limited(dataset: Dataset, limit: int, seed: int) -> np.ndarray:
    """Row numbers of about `limit` random images of each split: classes in their proportions, at least one of each."""
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
