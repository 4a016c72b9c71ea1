"""Prediction sets by split conformal prediction: enough classes to contain the label with a given coverage.

Thresholds are fitted on labelled images that did not train the model. The guarantee holds for images from the same
distribution; it does not cover other data, such as photographs from another source.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fer_tf.errors import InputError
from fer_tf.evaluation.checks import NUM_RESAMPLES, percentile_interval
from fer_tf.text import interval, number, percent

COVERAGES = (0.8, 0.9, 0.95)  # a model has thresholds for these
# On FER-2013, LAC gives the smallest sets, and at equal coverage it covers the classes as evenly: docs/trust.md.
METHOD = "lac"


def lac_scores(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return LAC's scores, one minus the probability of the label (Sadinle et al. 2019, arXiv 1609.00451).

    Args:
        labels: int (n,), in [0, C).
        probabilities: float (n, C).

    Returns:
        float64 (n,), in [0, 1]; low if the model gave the label a high probability.
    """
    return 1 - np.asarray(probabilities, np.float64)[np.arange(len(labels)), labels]


def lac_sets(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """Return the classes whose LAC score is at most `threshold`, and always the most likely class.

    Args:
        probabilities: float (n, C).
        threshold: from `conformal_quantile`.

    Returns:
        bool (n, C).
    """
    return _with_top(1 - np.asarray(probabilities, np.float64) <= threshold, probabilities)


def aps_scores(labels: np.ndarray, probabilities: np.ndarray, uniform: np.ndarray | float = 0.0) -> np.ndarray:
    """Return APS's scores: the probability of all classes down to the label (Romano et al. 2020, arXiv 2006.02544).

    Args:
        labels: int (n,), in [0, C).
        probabilities: float (n, C).
        uniform: float (n,), random numbers in [0, 1): the share of the label's own probability to leave out. 0 gives
            the deterministic form, with larger sets that are the same at each call.

    Returns:
        float64 (n,), in [0, 1].
    """
    return _aps_scores(probabilities, np.asarray(uniform))[np.arange(len(labels)), labels]


def aps_sets(probabilities: np.ndarray, threshold: float, uniform: np.ndarray | float = 0.0) -> np.ndarray:
    """Return the classes whose APS score is at most `threshold`, and always the most likely class.

    Args:
        probabilities: float (n, C).
        threshold: from `conformal_quantile`.
        uniform: as for `aps_scores`, but new draws.

    Returns:
        bool (n, C).
    """
    return _with_top(_aps_scores(probabilities, np.asarray(uniform)) <= threshold, probabilities)


def conformal_quantile(scores: np.ndarray, coverage: float) -> float:
    """Return the ceil((n + 1) coverage)-th smallest score; infinity if there are fewer.

    A new score from the same distribution is at most this value with a probability of at least `coverage`. If no scores
    are equal, the probability is below `coverage` + 1 / (n + 1) (Vovk et al. 2005; Lei et al. 2018, arXiv 1604.04173).

    Args:
        scores: float (n,).
        coverage: in (0, 1), 1 - alpha.

    Raises:
        InputError: if `coverage` is out of range or there are no scores.

    Example:
        >>> conformal_quantile(np.arange(1, 20), 0.9)
        18.0
    """
    if not 0 < coverage < 1:
        raise InputError(f"coverage {coverage:g}: expected a number between 0 and 1")
    if not len(scores):
        raise InputError("no images to fit prediction sets on: expected at least one")
    place = math.ceil(round((len(scores) + 1) * coverage, 9))  # 20 x 0.9 must not become 18.000000000000004
    return float(np.sort(scores)[place - 1]) if place <= len(scores) else math.inf


def fit_prediction_sets(
    labels: np.ndarray, probabilities: np.ndarray, has_duplicate: np.ndarray | None = None
) -> dict[str, Any] | None:
    """Fit the thresholds for a model's metadata.

    Args:
        labels: int (n,), from the validation split.
        probabilities: float (n, C), from the finished model.
        has_duplicate: bool (n,), True if the training data contains the same pixels; these images are left out, because
            the model has seen them.

    Returns:
        `method`, `num_images`, and `thresholds`: the coverage as text -> the threshold, at most 1. None if no images
        remain.
    """
    keep = np.ones(len(labels), bool) if has_duplicate is None else ~np.asarray(has_duplicate, bool)
    if not keep.any():
        return None
    scores = lac_scores(np.asarray(labels)[keep], np.asarray(probabilities)[keep])
    # No score is above 1, so a threshold of 1 includes every class, like infinity, which JSON cannot hold.
    thresholds = {f"{coverage:g}": min(conformal_quantile(scores, coverage), 1.0) for coverage in COVERAGES}
    return {"method": METHOD, "num_images": int(keep.sum()), "thresholds": thresholds}


def read_threshold(metadata: Mapping[str, Any], coverage: float) -> float:
    """Return a model's threshold for a coverage.

    Args:
        metadata: the model's metadata.
        coverage: one of `COVERAGES`.

    Raises:
        InputError: if the coverage is not one of these, or the model has no threshold for it.
    """
    if coverage not in COVERAGES:
        raise InputError(f"coverage {coverage:g}: expected one of {', '.join(map(str, COVERAGES))}")
    sets = metadata.get("prediction_sets")
    if sets is None:
        raise InputError(
            "this model has no thresholds for prediction sets: export it again with "
            "`fer-tf export_tflite --run DIR --data PATH --output FILE`"
        )
    thresholds = sets.get("thresholds") if isinstance(sets, Mapping) and sets.get("method") == METHOD else None
    threshold = thresholds.get(f"{coverage:g}") if isinstance(thresholds, Mapping) else None
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
        raise InputError(
            f"this model's metadata holds no threshold in [0, 1] for coverage {coverage:g}: export it again"
        )
    return float(threshold)


def read_thresholds(metadata: Mapping[str, Any]) -> dict[float, float]:
    """Return all thresholds of a model: the coverage -> the threshold; empty for a model without thresholds.

    Args:
        metadata: the model's metadata.

    Raises:
        InputError: if the metadata holds a threshold that is not valid.
    """
    if metadata.get("prediction_sets") is None:
        return {}
    return {coverage: read_threshold(metadata, coverage) for coverage in COVERAGES}


def measure_prediction_sets(
    labels: np.ndarray,
    probabilities: np.ndarray,
    thresholds: Mapping[float, float],
    class_names: Sequence[str],
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure a model's prediction sets on images that did not fit its thresholds.

    Args:
        labels: int (n,), in [0, C).
        probabilities: float (n, C).
        thresholds: from `read_thresholds`.
        class_names: C names.
        seed: seed of the bootstrap.

    Returns:
        The requested coverage, as text -> the result of `set_figures`, and `coverage_interval` (95 %).

    Example:
        >>> probabilities = np.array([[0.6, 0.4], [0.9, 0.1]])
        >>> found = measure_prediction_sets(np.array([1, 0]), probabilities, {0.9: 0.7}, ["sad", "neutral"])
        >>> found["0.9"]["coverage"], found["0.9"]["mean_size"]
        (1.0, 1.5)
    """
    measured = {}
    for coverage, threshold in thresholds.items():
        found = set_figures(labels, lac_sets(probabilities, threshold), class_names)
        # Resampling the images means resampling the number of hits.
        drawn = np.random.default_rng(seed).binomial(len(labels), found["coverage"], NUM_RESAMPLES) / len(labels)
        measured[f"{coverage:g}"] = {**found, "coverage_interval": percentile_interval(drawn)}
    return measured


def sets_in_words(coverage: str, found: Mapping[str, Any]) -> str:
    """Say in a sentence how often the sets for one coverage contain the label, and how large they are.

    Args:
        coverage: the requested coverage, as text.
        found: the result of `measure_prediction_sets` for this coverage.
    """
    low, high = (100 * bound for bound in found["coverage_interval"])
    return (
        f"Prediction sets for {percent(float(coverage), 0)} hold the label of {percent(found['coverage'])} of the "
        f"images (95 % interval {interval([low, high], '.1f')}), with {number(found['mean_size'], '.2f')} classes on "
        "average."
    )


def prediction_set(emotions: Sequence[tuple[str, float]], threshold: float) -> tuple[str, ...]:
    """Return the names in one face's prediction set, the most likely first.

    Args:
        emotions: (class name, score) pairs, the most likely first.
        threshold: from `read_threshold`.

    Example:
        >>> prediction_set([("sad", 0.5), ("neutral", 0.4), ("fear", 0.1)], 0.7)
        ('sad', 'neutral')
    """
    return tuple(name for place, (name, score) in enumerate(emotions) if place == 0 or 1 - score <= threshold)


def set_figures(labels: np.ndarray, sets: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """Return coverage and mean size of prediction sets, over all images and by class.

    Args:
        labels: int (n,), in [0, C).
        sets: bool (n, C).
        class_names: C names.

    Returns:
        `coverage`, `mean_size`, and `per_class`: a list of `name`, `num_images`, `coverage` and `mean_size`, the last
        two None for a class without images.
    """
    held, sizes = sets[np.arange(len(labels)), labels], sets.sum(axis=1)
    per_class = []
    for label, name in enumerate(class_names):
        rows = labels == label
        found = [float(values[rows].mean()) if rows.any() else None for values in (held, sizes)]
        per_class.append(
            {"name": name, "num_images": int(rows.sum()), **dict(zip(("coverage", "mean_size"), found, strict=True))}
        )
    return {"coverage": float(held.mean()), "mean_size": float(sizes.mean()), "per_class": per_class}


def _with_top(sets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Add each row's most likely class, so that no set is empty; this can only raise the coverage."""
    sets[np.arange(len(sets)), np.argmax(probabilities, axis=1)] = True
    return sets


def _aps_scores(probabilities: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Return APS's score of every class, float64 (n, C)."""
    probabilities = np.asarray(probabilities, np.float64)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ordered = np.take_along_axis(probabilities, order, axis=1)
    scores = np.empty_like(ordered)
    down_to = np.minimum(np.cumsum(ordered, axis=1), 1.0)
    np.put_along_axis(scores, order, down_to - uniform.reshape(-1, 1) * ordered, axis=1)
    return scores
