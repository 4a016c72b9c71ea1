"""Calibration: how well scores agree with frequencies; temperature scaling and its check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fer_tf.errors import InputError
from fer_tf.evaluation.checks import NUM_RESAMPLES, checked

NUM_BINS = 15  # as in Guo et al. (2017)
TINY = float(np.finfo(np.float32).tiny)  # replaces 0, the underflow of a float32 softmax, to keep the log finite
TEMPERATURE_BOUNDS = (0.05, 20.0)


def calibration_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Measure how well the scores agree with the frequency of right answers.

    Args:
        labels: int (n,), in [0, C).
        probabilities: float (n, C).

    Returns:
        `ece`: expected calibration error of the predicted class over `num_bins` bins of equal width (Naeini et al.
        2015; Guo et al. 2017, arXiv 1706.04599). Biased upwards: a perfect model scores above 0 on a finite split.
        `rms_error_debiased`: root mean square calibration error over the same bins, less its expected sampling noise
        (Kumar et al. 2019, arXiv 1909.10155; a bin of one image counts as 0, a negative sum as 0).
        `brier`: mean over images of the squared error summed over classes, in [0, 2] (Brier 1950).
        `nll`: negative log-likelihood.
        `bins`: for each bin `lower`, `upper`, `count`, mean `confidence`, `accuracy` (the last two None if empty).
    """
    labels, probabilities = checked(labels, probabilities, None)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    index = _bin_index(confidence)
    count = np.bincount(index, minlength=NUM_BINS)
    filled = np.maximum(count, 1)
    mean_confidence = np.bincount(index, confidence, NUM_BINS) / filled
    accuracy = np.bincount(index, correct, NUM_BINS) / filled
    share = count / len(labels)
    gap = accuracy - mean_confidence
    noise = accuracy * (1 - accuracy) / np.maximum(count - 1, 1)
    square = np.sum(share * np.where(count > 1, gap**2 - noise, 0.0))
    one_hot = np.eye(probabilities.shape[1])[labels]
    return {
        "num_bins": NUM_BINS,
        "ece": float(np.sum(share * np.abs(gap))),
        "rms_error_debiased": float(np.sqrt(max(square, 0.0))),
        "brier": float(np.mean(np.sum((probabilities - one_hot) ** 2, axis=1))),
        "nll": _nll(labels, _log(probabilities)),
        "bins": [
            {
                "lower": b / NUM_BINS,
                "upper": (b + 1) / NUM_BINS,
                "count": int(count[b]),
                "confidence": float(mean_confidence[b]) if count[b] else None,
                "accuracy": float(accuracy[b]) if count[b] else None,
            }
            for b in range(NUM_BINS)
        ],
    }


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Find the temperature with the highest likelihood (Guo et al. 2017, arXiv 1706.04599).

    Log-probabilities replace the logits: they differ by a constant per image, which softmax removes.

    Args:
        labels: int (n,), in [0, C), from the validation split only.
        probabilities: float (n, C).

    Returns:
        T in [0.05, 20], the divisor of the logits. If T is above 1, the model was overconfident.
    """
    from scipy.optimize import minimize_scalar

    labels, probabilities = checked(labels, probabilities, None)
    logits = _log(probabilities)
    found = minimize_scalar(
        lambda log_t: _nll(labels, logits / np.exp(log_t)), bounds=np.log(TEMPERATURE_BOUNDS), method="bounded"
    )
    # The minimiser does not try T = 1 itself. Keep 1 unless T is better.
    return float(np.exp(found.x)) if found.fun < _nll(labels, logits) else 1.0


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities that result if the logits are divided by `temperature`.

    Args:
        probabilities: float (n, C).
        temperature: above 0.

    Returns:
        float64 (n, C); each row keeps the order of its classes.
    """
    _check_temperature(temperature)
    return np.exp(_log_softmax(_log(probabilities) / temperature))


def undo_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities before `apply_temperature`, or before the temperature was folded into the model."""
    _check_temperature(temperature)
    return apply_temperature(probabilities, 1 / temperature)


def calibration_check(labels: np.ndarray, probabilities: np.ndarray, *, seed: int = 0) -> dict[str, Any]:
    """Test temperature scaling on images that did not choose it: fit on each half, measure on the other.

    The calibration error is compared with the band of a perfectly calibrated model with the same scores, simulated by
    labels drawn from the predicted probabilities. An error below the band is not a fault.

    Args:
        labels: int (n,), in [0, C), from the validation split.
        probabilities: float (n, C), before temperature scaling.
        seed: seed of the split into halves and of the simulation.

    Returns:
        `halves`: for each half `num_images`, `temperature` (fitted on the other half), `ece_before`, `ece_after`,
        `band` (95 % of the simulated errors), `inside_band` (False if above it), `nll_before`, `nll_after`. `passed`:
        True if neither half is above its band and the likelihood over both halves has not become worse.
    """
    labels, probabilities = checked(labels, probabilities, None)
    if len(labels) < 4:
        raise InputError(f"calibration_check got {len(labels)} images; expected at least 4 to make two halves")
    rng = np.random.default_rng(seed)
    first, second = stratified_halves(labels, rng)
    halves = []
    for fit, held_out in ((first, second), (second, first)):
        temperature = fit_temperature(labels[fit], probabilities[fit])
        scaled = apply_temperature(probabilities[held_out], temperature)
        before = calibration_metrics(labels[held_out], probabilities[held_out])
        after = calibration_metrics(labels[held_out], scaled)
        low, high = np.quantile(_simulated_ece(scaled.max(axis=1), rng), (0.025, 0.975))
        halves.append(
            {
                "num_images": len(held_out),
                "temperature": temperature,
                "ece_before": before["ece"],
                "ece_after": after["ece"],
                "band": [float(low), float(high)],
                "inside_band": bool(after["ece"] <= high),
                "nll_before": before["nll"],
                "nll_after": after["nll"],
            }
        )
    gain = sum(half["num_images"] * (half["nll_before"] - half["nll_after"]) for half in halves)
    return {"halves": halves, "passed": all(half["inside_band"] for half in halves) and gain >= 0}


def stratified_halves(labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of two random halves with equal class shares, each in rising order: two int arrays."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # the halves take every other image
    return np.sort(order[::2]), np.sort(order[1::2])


def place_in_band(half: Mapping[str, Any]) -> str:
    """Say if one half's calibration error after scaling is `inside`, `below` or `above` its band."""
    low, high = half["band"]
    return "above" if half["ece_after"] > high else "below" if half["ece_after"] < low else "inside"


def calibration_verdict(check: Mapping[str, Any]) -> str:
    """Say in one sentence whether the check passed, or why not.

    Args:
        check: as returned by `calibration_check`.
    """
    halves = check["halves"]
    sizes = [half["num_images"] for half in halves]
    before, after = (np.average([half[key] for half in halves], weights=sizes) for key in ("nll_before", "nll_after"))
    likelihood = f"negative log-likelihood over both halves {before:.4f} before, {after:.4f} after"
    if check["passed"]:
        return f"Passed: neither calibration error lies above its band, and the likelihood is no worse ({likelihood})."
    above = [number for number, half in enumerate(halves, start=1) if not half["inside_band"]]
    faults = []
    if len(above) == 1:
        faults.append(f"the calibration error of half {above[0]} lies above its band")
    elif above:
        faults.append("the calibration errors of both halves lie above their bands")
    if after > before:
        faults.append(f"the likelihood is worse ({likelihood})")
    return f"Not passed: {' and '.join(faults)}."


def calibration_meaning(check: Mapping[str, Any]) -> str:
    """Say what the check means for the reader of a score.

    Args:
        check: as returned by `calibration_check`.
    """
    error = f"{100 * max(half['ece_after'] for half in check['halves']):.1f} points"
    if not all(half["inside_band"] for half in check["halves"]):
        return (
            "What it means: even on images like these, a score is not an exact share of right answers. It is off by "
            f"{error} on average in the worse half, more than chance explains."
        )
    return (
        "What it means: on images like these, a score can be read as a share: about 70 % of the images with a score "
        f"near 0.7 are right (off by {error} on average in the worse half, which chance explains)"
        + ("." if check["passed"] else "; the temperature does not make the scores better.")
    )


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < np.inf:
        raise InputError(f"temperature is {temperature}; expected a number above 0")


def _bin_index(confidence: np.ndarray) -> np.ndarray:
    """Number of each score's bin: (0, 1/15], (1/15, 2/15], ...; each bin includes its upper edge."""
    return np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)


def _simulated_ece(confidence: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Calibration errors (resamples,) of simulated models that are right exactly as often as their scores say."""
    index = _bin_index(confidence)
    expected = np.bincount(index, confidence, NUM_BINS)
    errors = np.empty(NUM_RESAMPLES)
    for i in range(NUM_RESAMPLES):
        right = rng.random(len(confidence)) < confidence
        errors[i] = np.abs(np.bincount(index, right, NUM_BINS) - expected).sum() / len(confidence)
    return errors


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), TINY))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _nll(labels: np.ndarray, logits: np.ndarray) -> float:
    return -float(_log_softmax(logits)[np.arange(len(labels)), labels].mean())
