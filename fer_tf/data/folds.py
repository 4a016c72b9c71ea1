"""Folds of the training images, for cross-fitting: a model trained without one fold may teach the images in it."""

from __future__ import annotations

import hashlib
import logging

import numpy as np

from fer_tf.config import parse_fold
from fer_tf.data.audit import image_hashes
from fer_tf.data.dataset import Dataset
from fer_tf.data.splits import row_groups
from fer_tf.errors import InputError

logger = logging.getLogger(__name__)


def fold_numbers(train: Dataset, num_folds: int, seed: int) -> np.ndarray:
    """Assign each training image to a fold, stratified; copies of an image and a person's pictures share a fold.

    Args:
        train: decoded images; all rows are used.
        num_folds: at least 2.
        seed: seed of the random assignment.

    Returns:
        int (n,), from 1 to `num_folds`; the same rows in the same order give the same folds.
    """
    members, place = np.unique(row_groups(train), return_inverse=True)
    counts = np.zeros((len(members), train.num_classes), np.int64)
    np.add.at(counts, (place, train.labels), 1)
    total = np.maximum(counts.sum(axis=0), 1)
    order = np.random.default_rng(seed).permutation(len(members))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]  # small groups fill the gaps of large ones
    fold_of_group = np.zeros(len(members), np.int64)
    filled = np.zeros((num_folds, train.num_classes), np.int64)
    for group in order.tolist():
        # Choose the fold with the smallest share of the group's classes; in a tie, the one with the fewest images.
        share = filled @ (counts[group] / total)
        fold = int(np.lexsort((filled.sum(axis=1), share))[0])
        filled[fold] += counts[group]
        fold_of_group[group] = fold + 1
    return fold_of_group[place]


def without_fold(dataset: Dataset, fold: str, seed: int) -> Dataset:
    """Return the data without the training images of one fold.

    Args:
        dataset: decoded images.
        fold: `k/K`, as in `Config.fold`.
        seed: seed of the random assignment.

    Raises:
        InputError: if a class would have no training image left.
    """
    number, num_folds = parse_fold(fold)
    rows = np.flatnonzero(dataset.split == "train")
    out = rows[fold_numbers(dataset.take("train"), num_folds, seed) == number]
    kept = dataset.rows(np.setdiff1d(np.arange(len(dataset)), out))
    for name, before, after in zip(dataset.class_names, dataset.counts("train"), kept.counts("train"), strict=True):
        if before and not after:
            raise InputError(
                f"fold {fold} holds all {before} training images of {name}; every class needs images in the other "
                "folds: add images of this class"
            )
    logger.info("fold %s: left out %s of %s training images", fold, f"{len(out):,}", f"{len(rows):,}")
    return kept


def images_digest(images: np.ndarray) -> str:
    """Return a fingerprint of a set of images: the SHA-256 over the sorted SHA-256 values of the different images.

    Args:
        images: uint8 (n, 48, 48).
    """
    return hashlib.sha256("\n".join(sorted(set(image_hashes(images)))).encode()).hexdigest()
