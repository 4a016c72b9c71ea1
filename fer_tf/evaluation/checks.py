"""Argument checks and the bootstrap's interval, which every metric uses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fer_tf.errors import InputError

NUM_RESAMPLES = 2000


def checked(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Check both arrays; return int64 labels (n,) and float64 probabilities (n, C) whose rows sum to one."""
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    if probabilities.ndim != 2 or not np.issubdtype(probabilities.dtype, np.floating):
        raise InputError(
            f"probabilities are {probabilities.dtype} {probabilities.shape}; expected floats (images, classes)"
        )
    num_images, num_classes = probabilities.shape
    if class_names is not None and len(class_names) != num_classes:
        raise InputError(
            f"the model gives {num_classes} probabilities, the data has {len(class_names)} classes"
            f" ({', '.join(class_names)}): evaluate it on data with its own classes"
        )
    if num_classes < 2:
        raise InputError(f"probabilities have {num_classes} columns; expected at least 2 classes")
    if labels.ndim != 1 or not (np.issubdtype(labels.dtype, np.integer) or not labels.size):
        raise InputError(f"labels are {labels.dtype} {labels.shape}; expected integers (images,)")
    if len(labels) != num_images:
        raise InputError(f"{len(labels)} labels but {num_images} rows of probabilities; expected one row per label")
    if not num_images:
        raise InputError("the split is empty: there is no image to evaluate; choose another split or other data")
    if labels.min() < 0 or labels.max() >= num_classes:
        outside = labels.min() if labels.min() < 0 else labels.max()
        raise InputError(
            f"label {outside} is outside 0 to {num_classes - 1}: the data has other classes than the model"
        )
    probabilities = probabilities.astype(np.float64)
    bad = ~np.isfinite(probabilities).all(axis=1)
    if bad.any():
        raise InputError(
            f"{bad.sum()} of {num_images} rows of probabilities hold NaN or infinity (first: image {bad.argmax()});"
            " the model is broken: train or export it again"
        )
    sums = probabilities.sum(axis=1)
    # An 8-bit softmax rounds each class to a multiple of 1/256.
    bad = (np.abs(sums - 1) > 1e-3 + num_classes / 512) | (probabilities < 0).any(axis=1)
    if bad.any():
        first = bad.argmax()
        raise InputError(
            f"{bad.sum()} of {num_images} rows are not probabilities (first: image {first}, sum {sums[first]:.4f},"
            f" smallest {probabilities[first].min():.4f}); expected values from 0 to 1 that sum to 1, not logits"
        )
    return labels.astype(np.int64), probabilities / sums[:, None]


def percentile_interval(values: np.ndarray) -> list[float]:
    """Return the 95 % interval of bootstrapped values."""
    return [float(bound) for bound in np.quantile(values, (0.025, 0.975))]
