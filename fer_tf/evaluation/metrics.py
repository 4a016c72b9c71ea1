"""Labels and probabilities -> accuracy, F1, confusion matrix and their intervals.

The same functions score Keras and LiteRT results. Rows of every confusion matrix are the true class, columns the
predicted one; every class of `class_names` has its row, present in the split or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fer_tf.errors import InputError
from fer_tf.evaluation.calibration import calibration_metrics, undo_temperature
from fer_tf.evaluation.checks import NUM_RESAMPLES, checked, percentile_interval


def evaluate(
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    *,
    seed: int = 0,
    has_twin: np.ndarray | None = None,
    temperature: float | None = None,
) -> dict[str, Any]:
    """Measures one model on one split.

    Precision, recall and F1 with an empty denominator count as 0 (scikit-learn's `zero_division=0`); balanced accuracy
    is the mean recall of the classes that the split holds.

    Args:
        labels: int (n,), true class of each image, in [0, C).
        probabilities: float (n, C), each row sums to one.
        class_names: C names.
        seed: of the bootstrap.
        has_twin: bool (n,), True where the same pixels stand in the training data.
        temperature: that is folded into the model already.

    Returns:
        A dict that JSON can hold: `num_images`, `loss` (cross-entropy, as `model.evaluate` on TensorFlow takes it from
        the logits; Keras on JAX clips probabilities at 1e-7), `accuracy`, `macro_f1`,
        `balanced_accuracy`, `top2_accuracy`, `roc_auc_macro` (None if a class is absent), `accuracy_interval` and
        `macro_f1_interval` (95 %), `per_class` (list of dicts), `confusion_matrix` (counts), `confusion_shares` (of the
        row), `calibration` (see `calibration_metrics`). With `has_twin` also `num_with_twin` and `without_twin`, the
        same figures for the images without a twin (None if there is none). With `temperature` also that and
        `calibration_before`, the calibration of the same logits before they were divided by it.

    Raises:
        InputError: if the arrays do not fit together, hold no image, or the rows are no probabilities.
    """
    labels, probabilities = checked(labels, probabilities, class_names)
    result = _measure(labels, probabilities, class_names, seed)
    if has_twin is not None:
        twins = np.asarray(has_twin)
        if twins.shape != labels.shape or twins.dtype != bool:
            raise InputError(f"has_twin is {twins.dtype} {twins.shape}; expected bool {labels.shape}, one per image")
        single = ~twins
        result["num_with_twin"] = int(twins.sum())
        result["without_twin"] = (
            _measure(labels[single], probabilities[single], class_names, seed) if single.any() else None
        )
    if temperature is not None:
        result["temperature"] = temperature
        result["calibration_before"] = calibration_metrics(labels, undo_temperature(probabilities, temperature))
    return result


def most_confident_errors(labels: np.ndarray, probabilities: np.ndarray, *, count: int) -> np.ndarray:
    """Indices of the wrongly classified images with the highest scores.

    Args:
        labels: int (n,), in [0, C).
        probabilities: float (n, C).
        count: how many at most.

    Returns:
        int (at most `count`,), the most confident first.
    """
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    confidence = probabilities.max(axis=1)[wrong]
    return wrong[np.argsort(-confidence, kind="stable")][:count]


def _measure(labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str], seed: int) -> dict[str, Any]:
    num_images, num_classes = probabilities.shape
    predicted = probabilities.argmax(axis=1)
    matrix = np.bincount(labels * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)
    support = matrix.sum(axis=1)
    true_positives = np.diagonal(matrix)
    precision = true_positives / np.maximum(matrix.sum(axis=0), 1)
    recall = true_positives / np.maximum(support, 1)
    f1 = _f1(true_positives, support, matrix.sum(axis=0))
    top2 = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    roc_auc = _roc_auc(labels, probabilities)
    accuracy_interval, macro_f1_interval = _bootstrap(matrix, seed)
    calibration = calibration_metrics(labels, probabilities)
    return {
        "num_images": num_images,
        "loss": calibration["nll"],
        "accuracy": float(true_positives.sum() / num_images),
        "accuracy_interval": accuracy_interval,
        "macro_f1": float(f1.mean()),
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
            for c in range(num_classes)
        ],
        "confusion_matrix": matrix.tolist(),
        "confusion_shares": (matrix / np.maximum(support, 1)[:, None]).tolist(),
        "calibration": calibration,
    }


def _f1(true_positives: np.ndarray, support: np.ndarray, num_predicted: np.ndarray) -> np.ndarray:
    return 2 * true_positives / np.maximum(support + num_predicted, 1)


def _roc_auc(labels: np.ndarray, probabilities: np.ndarray) -> list[float | None]:
    """Area under the one-vs-rest curve per class; None where the split holds no image of the class, or no other."""
    from sklearn.metrics import roc_auc_score

    areas: list[float | None] = []
    for c in range(probabilities.shape[1]):
        positive = labels == c
        defined = positive.any() and not positive.all()
        areas.append(float(roc_auc_score(positive, probabilities[:, c])) if defined else None)
    return areas


def _bootstrap(matrix: np.ndarray, seed: int) -> tuple[list[float], list[float]]:
    """95 % percentile intervals of accuracy and macro-F1.

    Images of one cell of the matrix are alike to both figures, so drawing images with replacement is drawing cells from
    a multinomial distribution.
    """
    num_images, num_classes = matrix.sum(), len(matrix)
    true, predicted = np.nonzero(matrix)
    cells = matrix[true, predicted]
    drawn = np.random.default_rng(seed).multinomial(num_images, cells / num_images, size=NUM_RESAMPLES)
    eye = np.eye(num_classes, dtype=np.int64)
    hits = drawn @ (eye[true] * (true == predicted)[:, None])  # (resamples, classes)
    f1 = _f1(hits, drawn @ eye[true], drawn @ eye[predicted])
    return percentile_interval(hits.sum(axis=1) / num_images), percentile_interval(f1.mean(axis=1))
