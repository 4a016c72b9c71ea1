"""Labels and probabilities -> the figures of one model on one split: accuracy, F1, confusion matrix, intervals.

To add a metric, compute it in `_measure`, and show it in `summary.format_summary` and `report/sections/results.py`. The
rows of a confusion matrix are the true class, the columns the predicted class; every class of `class_names` has a row,
even without an image in the split.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np

from fer_tf.errors import InputError
from fer_tf.evaluation.calibration import calibration_metrics, undo_temperature
from fer_tf.evaluation.checks import NUM_RESAMPLES, checked, percentile_interval
from fer_tf.evaluation.selective import selective_accuracy


def evaluate(
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    *,
    seed: int = 0,
    has_duplicate: np.ndarray | None = None,
    temperature: float | None = None,
    missing: Sequence[str] = (),
) -> dict[str, Any]:
    """Measure one model on one split.

    Precision, recall and F1 with a zero denominator count as 0 (scikit-learn's `zero_division=0`); balanced accuracy is
    the mean recall of the classes in the split.

    Args:
        labels: int (n,), true class of each image, in [0, C).
        probabilities: float (n, C), each row sums to one.
        class_names: C names.
        seed: seed of the bootstrap.
        has_duplicate: bool (n,), True if the training data contains the same pixels.
        temperature: the temperature that is already folded into the model.
        missing: classes without an image in the whole data set; macro-F1 is the mean over the other classes.

    Returns:
        A dict that JSON can hold: `num_images`, `loss` (cross-entropy of the unclipped probabilities, like
        `model.evaluate` on TensorFlow; Keras on JAX clips them at 1e-7), `accuracy`, `macro_f1`,
        `balanced_accuracy`, `top2_accuracy`, `roc_auc_macro` (None if a class is absent, or without scikit-learn),
        `accuracy_interval` and `macro_f1_interval` (95 %), `per_class` (list of dicts), `confusion_matrix` (counts),
        `confusion_shares` (of the row), `calibration` (see `calibration_metrics`), `selective` (see
        `selective_accuracy`). With `has_duplicate` also `num_with_twin` (the number of duplicates) and `without_twin`
        (the same figures for the other images; None if there are none). With `temperature` also `temperature` itself
        and `calibration_before`, the calibration without it. With `missing` also `missing_classes`, their names.

    Raises:
        InputError: if the arrays do not match, there is no image, or the rows are not probabilities.
    """
    labels, probabilities = checked(labels, probabilities, class_names)
    result = _measure(labels, probabilities, class_names, seed, missing)
    if has_duplicate is not None:
        duplicate = np.asarray(has_duplicate)
        if duplicate.shape != labels.shape or duplicate.dtype != bool:
            raise InputError(
                f"has_duplicate is {duplicate.dtype} {duplicate.shape}; expected bool {labels.shape}, one per image"
            )
        rest = ~duplicate
        result["num_with_twin"] = int(duplicate.sum())
        result["without_twin"] = (
            _measure(labels[rest], probabilities[rest], class_names, seed, missing) if rest.any() else None
        )
    if temperature is not None:
        result["temperature"] = temperature
        result["calibration_before"] = calibration_metrics(labels, undo_temperature(probabilities, temperature))
    return result


def most_confident_errors(labels: np.ndarray, probabilities: np.ndarray, *, count: int) -> np.ndarray:
    """Find the wrongly classified images with the highest scores.

    Args:
        labels: int (n,), in [0, C).
        probabilities: float (n, C).
        count: largest number of images.

    Returns:
        Indices, int (at most `count`,), the most confident first.
    """
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    confidence = probabilities.max(axis=1)[wrong]
    return wrong[np.argsort(-confidence, kind="stable")][:count]


def _measure(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str], seed: int, missing: Sequence[str]
) -> dict[str, Any]:
    """Compute every figure of a split; the keys are the figures' names in metrics.json."""
    num_images, num_classes = probabilities.shape
    predicted, classes = probabilities.argmax(axis=1), range(num_classes)
    matrix = np.bincount(labels * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)
    support, named, hits = matrix.sum(axis=1), matrix.sum(axis=0), np.diag(matrix)
    precision, recall = hits / np.maximum(named, 1), hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(support + named, 1)
    top2 = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    roc_auc = _roc_auc(labels, probabilities)
    counted = np.array([name not in missing for name in class_names])
    accuracy_interval, macro_f1_interval = _bootstrap(matrix, seed, counted)
    calibration = calibration_metrics(labels, probabilities)
    return {
        "num_images": num_images,
        "loss": calibration["nll"],
        "accuracy": float(np.trace(matrix) / num_images),
        "accuracy_interval": accuracy_interval,
        "macro_f1": float(f1[counted].mean()),
        "macro_f1_interval": macro_f1_interval,
        "balanced_accuracy": float(recall[support > 0].mean()),
        "top2_accuracy": float(np.mean((top2 == labels[:, None]).any(axis=1))),
        "roc_auc_macro": None if None in roc_auc else float(np.mean([area for area in roc_auc if area is not None])),
        "per_class": [
            {
                "name": str(class_names[c]),
                "precision": float(precision[c]),
                "recall": float(recall[c]),
                "f1": float(f1[c]),
                "roc_auc": roc_auc[c],
                "support": int(support[c]),
            }
            for c in classes
        ],
        "confusion_matrix": matrix.tolist(),
        "confusion_shares": (matrix / np.maximum(support, 1)[:, None]).tolist(),
        "calibration": calibration,
        "selective": selective_accuracy(labels, probabilities),
        **({"missing_classes": list(missing)} if missing else {}),
    }


def _roc_auc(labels: np.ndarray, probabilities: np.ndarray) -> list[float | None]:
    """Area under each class's one-vs-rest curve; None if all or no images have the class, or without scikit-learn."""
    if importlib.util.find_spec("sklearn") is None:
        return [None] * probabilities.shape[1]
    from sklearn.metrics import roc_auc_score

    areas: list[float | None] = []
    for c in range(probabilities.shape[1]):
        positive = labels == c
        defined = positive.any() and not positive.all()
        areas.append(float(roc_auc_score(positive, probabilities[:, c])) if defined else None)
    return areas


def _bootstrap(matrix: np.ndarray, seed: int, counted: np.ndarray) -> tuple[list[float], list[float]]:
    """95 % bootstrap intervals of accuracy and of macro-F1, the mean over the `counted` classes, bool (classes,).

    Both figures depend only on the matrix. Drawing its cells from a multinomial distribution is therefore the same as
    drawing images with replacement, and much faster.
    """
    num_images, num_classes = matrix.sum(), len(matrix)
    true, predicted = np.nonzero(matrix)
    cells = matrix[true, predicted]
    drawn = np.random.default_rng(seed).multinomial(num_images, cells / num_images, size=NUM_RESAMPLES)
    eye = np.eye(num_classes, dtype=np.int64)
    hits = drawn @ (eye[true] * (true == predicted)[:, None])  # (resamples, classes)
    f1 = 2 * hits / np.maximum(drawn @ eye[true] + drawn @ eye[predicted], 1)
    return percentile_interval(hits.sum(axis=1) / num_images), percentile_interval(f1[:, counted].mean(axis=1))
