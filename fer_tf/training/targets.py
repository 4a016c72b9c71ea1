"""Training targets and class balance: class weights, logit adjustment, label smoothing, distillation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fer_tf.config import Config, parse_fold
from fer_tf.data.dataset import Dataset
from fer_tf.data.folds import fold_numbers, images_digest
from fer_tf.errors import InputError


def class_weights(labels: np.ndarray, num_classes: int, kind: str) -> np.ndarray:
    """Weight of each class in the loss.

    Args:
        labels: int (n,), labels of the training images.
        num_classes: length of the result.
        kind: `balanced` (n / (classes x count), scikit-learn's), `sqrt` (its square root), `none` (1).

    Returns:
        float32 (num_classes,); a class without an image weighs 0 under `balanced` and `sqrt`.
    """
    if kind == "none":
        return np.ones(num_classes, np.float32)
    count = np.bincount(labels, minlength=num_classes)
    balanced = np.where(count > 0, len(labels) / (num_classes * np.maximum(count, 1)), 0.0)
    return (np.sqrt(balanced) if kind == "sqrt" else balanced).astype(np.float32)


def logit_offset(labels: np.ndarray, num_classes: int, strength: float) -> np.ndarray | None:
    """Offset of the training logits (Menon et al., Long-tail learning via logit adjustment, 2021).

    Args:
        labels: int (n,), labels of the training images.
        num_classes: length of the result.
        strength: factor of the log class shares; 0: no adjustment.

    Returns:
        float32 (num_classes,), at most 0; None without adjustment.
    """
    if not strength:
        return None
    share = np.maximum(np.bincount(labels, minlength=num_classes), 1) / len(labels)
    return (strength * np.log(share)).astype(np.float32)


def one_hot(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """One-hot labels: float32 (n, num_classes)."""
    return np.eye(num_classes, dtype=np.float32)[labels]


def soft_targets(
    config: Config,
    labels: np.ndarray,
    num_classes: int,
    teacher_probabilities: np.ndarray | None = None,
    votes: np.ndarray | None = None,
) -> np.ndarray:
    """Target distribution of each training image, before mixup and cutmix.

    Args:
        config: only label_smoothing, distillation_weight and distillation_temperature are used.
        labels: int (n,).
        num_classes: number of columns of the result.
        teacher_probabilities: float (n, num_classes), the teachers' mean probabilities; None without teachers.
        votes: float (n, num_classes), shares of the votes on each image, which replace one-hot labels; None without
            votes.

    Returns:
        float32 (n, num_classes), each row summing to 1.
    """
    targets = one_hot(labels, num_classes) if votes is None else votes
    if config.label_smoothing:
        targets = targets * (1 - config.label_smoothing) + config.label_smoothing / num_classes
    if teacher_probabilities is not None:
        targets = taught(config, targets, teacher_probabilities)
    return targets.astype(np.float32)


def taught(config: Config, targets: np.ndarray, teacher_probabilities: np.ndarray) -> np.ndarray:
    """Mix the teachers' probabilities, at the temperature of the settings, into the targets.

    Args:
        config: only distillation_weight and distillation_temperature are used.
        targets: float (n, classes), each row summing to 1.
        teacher_probabilities: float (n, classes), of the same images.

    Returns:
        float (n, classes), each row summing to 1.
    """
    soft = np.maximum(teacher_probabilities, 1e-7) ** (1 / config.distillation_temperature)
    soft /= soft.sum(axis=1, keepdims=True)
    return (1 - config.distillation_weight) * targets + config.distillation_weight * soft


def taught_rows(teachers: Sequence[tuple[str, Mapping[str, Any]]], train: Dataset) -> np.ndarray:
    """Choose the training images that each teacher scores: all, or for models of folds the images they have not seen.

    Args:
        teachers: path and metadata of each teacher.
        train: the training images, decoded.

    Returns:
        bool (teachers, n). With models of K folds, each column has exactly one True.

    Raises:
        InputError: if models of folds and others are mixed, a fold is missing or there twice, or a model was trained on
            other images.
    """
    cuts = [(path, _cut_of(path, metadata)) for path, metadata in teachers]
    of_folds = [(path, cut) for path, cut in cuts if cut]
    if not of_folds:
        return np.ones((len(teachers), len(train)), bool)
    whole = [path for path, cut in cuts if not cut]
    if whole:
        raise InputError(
            f"teacher {whole[0]} has seen all training images, {of_folds[0][0]} was trained by --fold: give models of "
            "one kind"
        )
    first, cut = of_folds[0]
    of_number: dict[int, str] = {}
    for path, other in of_folds:
        if (other.num_folds, other.seed) != (cut.num_folds, cut.seed):
            raise InputError(
                f"teachers {first} ({cut}) and {path} ({other}): expected models of one cut, with the same number of "
                "folds and the same seed"
            )
        if other.number in of_number:
            raise InputError(
                f"teachers {of_number[other.number]} and {path} are both of {other}: give one of each fold"
            )
        of_number[other.number] = path
    missing = [f"{number}/{cut.num_folds}" for number in range(1, cut.num_folds + 1) if number not in of_number]
    if missing:
        raise InputError(
            f"no teacher of fold {', '.join(missing)}: give the models of all {cut.num_folds} folds, or train what is "
            f"missing by --fold {missing[0]}"
        )
    assert train.images is not None
    folds = fold_numbers(train, cut.num_folds, cut.seed)
    rows = np.array([folds == other.number for _, other in of_folds])
    for (path, metadata), is_unseen in zip(teachers, rows, strict=True):
        if images_digest(train.images[~is_unseen]) != metadata.get("train_sha256"):
            raise InputError(
                f"teacher {path} was not trained on the other folds of these training images: give the same data, "
                "--classes, --limit and --drop-copies to all models"
            )
    return rows


class _Cut(NamedTuple):
    """The fold that was left out in a model's training."""

    number: int
    num_folds: int
    seed: int

    def __str__(self) -> str:
        return f"fold {self.number}/{self.num_folds}, seed {self.seed}"


def _cut_of(path: str, metadata: Mapping[str, Any]) -> _Cut | None:
    """Return the cut of a model that was trained with --fold; None for another model."""
    config = metadata.get("config")
    if not isinstance(config, dict) or not config.get("fold"):
        return None
    fold = config["fold"]
    seed = config.get("seed")
    if not isinstance(fold, str) or type(seed) is not int or seed < 0:
        raise InputError(f"teacher {path}: its fold {fold!r} and seed {seed!r} cannot be read; train it again")
    return _Cut(*parse_fold(fold), seed)
