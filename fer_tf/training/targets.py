"""Training targets and what balances the classes: class weights, logit adjustment, label smoothing, distillation."""

from __future__ import annotations

import numpy as np

from fer_tf.config import Config


def class_weights(labels: np.ndarray, num_classes: int, kind: str) -> np.ndarray:
    """Weight of each class in the loss.

    Args:
        labels: int (n,), of the training images.
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
        labels: int (n,), of the training images.
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
        config: label_smoothing, distillation_weight and distillation_temperature are read.
        labels: int (n,).
        num_classes: number of columns of the result.
        teacher_probabilities: float (n, num_classes), the teachers' mean probabilities; None without teachers.
        votes: float (n, num_classes), shares of the votes on each image, which take the place of one-hot labels; None
            without votes.

    Returns:
        float32 (n, num_classes), each row summing to 1.
    """
    targets = one_hot(labels, num_classes) if votes is None else votes
    if config.label_smoothing:
        targets = targets * (1 - config.label_smoothing) + config.label_smoothing / num_classes
    if teacher_probabilities is not None:
        soft = np.maximum(teacher_probabilities, 1e-7) ** (1 / config.distillation_temperature)
        soft /= soft.sum(axis=1, keepdims=True)
        targets = (1 - config.distillation_weight) * targets + config.distillation_weight * soft
    return targets.astype(np.float32)
