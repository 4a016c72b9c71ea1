"""Selective accuracy: how often the answers are right if a model answers only with a high score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fer_tf.text import percent

TARGET_ACCURACY = 0.9
_NUM_POINTS = 100  # points of the curve in metrics.json


def selective_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Measure the accuracy for each share of answered images, the highest scores first.

    The area is the mean accuracy over all shares. It is one minus the area under the risk-coverage curve (Geifman and
    El-Yaniv 2017, arXiv 1705.08500). Images with equal scores are answered together.

    Args:
        labels: int (n,), in [0, C); at least one.
        probabilities: float (n, C).

    Returns:
        `curve`: up to 100 objects, by rising share, with `share` (of answered images), and their `accuracy` and lowest
        `score`; `area`, in [0, 1]; `score_for_90`: the lowest score for which 90 % of the images with this score or
        more are right, or None; `share_for_90`: the share of these images among all images.

    Example:
        >>> found = selective_accuracy(np.array([0, 0]), np.array([[0.9, 0.1], [0.4, 0.6]]))
        >>> found["score_for_90"], found["share_for_90"], found["area"]
        (0.9, 0.5, 0.75)
    """
    scores = np.asarray(probabilities).max(axis=1)
    right = np.asarray(probabilities).argmax(axis=1) == labels
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], right[order]
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))  # the last image of each score
    answered = last + 1
    accuracy = np.cumsum(right)[last] / answered
    share = answered / len(scores)
    good = np.flatnonzero(accuracy >= TARGET_ACCURACY)
    best = good[-1] if len(good) else None
    chosen = np.unique(np.searchsorted(share, np.linspace(1 / _NUM_POINTS, 1, _NUM_POINTS) - 1e-9))
    return {
        "curve": [
            {"share": float(share[i]), "accuracy": float(accuracy[i]), "score": float(scores[last[i]])} for i in chosen
        ],
        "area": float(np.sum(accuracy * np.diff(answered, prepend=0)) / len(scores)),
        "score_for_90": None if best is None else float(scores[last[best]]),
        "share_for_90": None if best is None else float(share[best]),
    }


def selective_in_words(found: Mapping[str, Any]) -> str:
    """Say in a sentence at which score 90 % of the answers are right.

    Args:
        found: as returned by `selective_accuracy`.
    """
    if found["score_for_90"] is None:
        return "There is no score above which 90 % of the answers are right."
    return (
        f"Of the images with a score of {found['score_for_90']:.2f} or more, 90 % are right; these are "
        f"{percent(found['share_for_90'])} of the images."
    )
