"""Comparison of two models on the same images: paired difference and McNemar's test."""

from __future__ import annotations

from typing import Any

import numpy as np

from fer_tf.errors import InputError
from fer_tf.evaluation.checks import NUM_RESAMPLES, checked, percentile_interval


def compare(
    labels: np.ndarray, probabilities_a: np.ndarray, probabilities_b: np.ndarray, *, seed: int = 0
) -> dict[str, Any]:
    """Compare two models on the same images.

    Args:
        labels: int (n,), in [0, C).
        probabilities_a: float (n, C), from the first model.
        probabilities_b: float (n, C), from the second model.
        seed: seed of the bootstrap.

    Returns:
        `num_images`, `accuracy_a`, `accuracy_b`, `difference` (a - b), `difference_interval` (95 %, paired bootstrap),
        `only_a` and `only_b` (images that only this model gets right), `p_value` (McNemar's exact two-sided test),
        `agreement` (share of images with the same predicted class).
    """
    labels, probabilities_a = checked(labels, probabilities_a, None)
    labels, probabilities_b = checked(labels, probabilities_b, None)
    if probabilities_a.shape != probabilities_b.shape:
        classes = probabilities_a.shape[1], probabilities_b.shape[1]
        raise InputError(f"the two models have {classes[0]} and {classes[1]} classes; expected the same classes")
    return compare_answers(labels, probabilities_a.argmax(axis=1), probabilities_b.argmax(axis=1), seed=seed)


def compare_answers(
    labels: np.ndarray, answers_a: np.ndarray, answers_b: np.ndarray, *, seed: int = 0
) -> dict[str, Any]:
    """Compare two models' answers on the same images.

    Args:
        labels: int (n,).
        answers_a: int (n,), the first model's class of each image; -1 for a class that no label has.
        answers_b: int (n,), the second model's classes.
        seed: seed of the bootstrap.

    Returns:
        The same dict as `compare`.
    """
    from scipy.stats import binomtest

    right_a, right_b = answers_a == labels, answers_b == labels
    num_images = len(labels)
    only_a, only_b = int(np.sum(right_a & ~right_b)), int(np.sum(right_b & ~right_a))
    # An image has one of three outcomes, so a bootstrap over images is a multinomial draw of their counts.
    shares = np.array([only_a, only_b, num_images - only_a - only_b]) / num_images
    drawn = np.random.default_rng(seed).multinomial(num_images, shares, size=NUM_RESAMPLES)
    return {
        "num_images": num_images,
        "accuracy_a": float(right_a.mean()),
        "accuracy_b": float(right_b.mean()),
        "difference": (only_a - only_b) / num_images,
        "difference_interval": percentile_interval((drawn[:, 0] - drawn[:, 1]) / num_images),
        "only_a": only_a,
        "only_b": only_b,
        "p_value": float(binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0,
        "agreement": float(np.mean(answers_a == answers_b)),
    }
