"""From (labels, probabilities) to metrics, intervals, calibration and comparison; NumPy and scikit-learn only.

The same functions score Keras and LiteRT results. Rows of every confusion matrix are the true class, columns the
predicted one; every class of `class_names` has its row, present in the split or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fer_tf.errors import InputError

SELECTION_SPLIT = "validation"  # chooses checkpoint, temperature and early stopping

NUM_RESAMPLES = 2000
NUM_BINS = 15  # as Guo et al. (2017)
TINY = float(np.finfo(np.float32).tiny)  # a float32 softmax underflows to 0; its logarithm must stay finite
TEMPERATURE_BOUNDS = (0.05, 20.0)
TTA_SHIFT = 2  # pixels of 48
CONFUSIONS_NAMED = 3


def split_title(split: str) -> str:
    """Name of a split as it stands beside its figures: the one that selected the model says so."""
    return f"{split} (selection split)" if split == SELECTION_SPLIT else split


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
    labels, probabilities = _checked(labels, probabilities, class_names)
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


def calibration_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Says how far the scores can be read as probabilities.

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
    labels, probabilities = _checked(labels, probabilities, None)
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
    """Finds the temperature with the highest likelihood (Guo et al. 2017, arXiv 1706.04599).

    Log-probabilities serve as logits: they differ by a constant per image, which softmax removes.

    Args:
        labels: int (n,), in [0, C); of the validation split only.
        probabilities: float (n, C).

    Returns:
        T in [0.05, 20]; logits are to be divided by it. Above 1 the model was too sure.
    """
    from scipy.optimize import minimize_scalar

    labels, probabilities = _checked(labels, probabilities, None)
    logits = _log(probabilities)
    found = minimize_scalar(
        lambda log_t: _nll(labels, logits / np.exp(log_t)), bounds=np.log(TEMPERATURE_BOUNDS), method="bounded"
    )
    # The minimiser never tries T = 1 itself; a tie keeps the model as it is.
    return float(np.exp(found.x)) if found.fun < _nll(labels, logits) else 1.0


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Gives the probabilities of the same logits divided by `temperature`.

    Args:
        probabilities: float (n, C).
        temperature: above 0.

    Returns:
        float64 (n, C); the order of the classes in a row stays.
    """
    _check_temperature(temperature)
    return np.exp(_log_softmax(_log(probabilities) / temperature))


def undo_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Gives the probabilities as they were before `apply_temperature`, or before the same was folded into a model."""
    _check_temperature(temperature)
    return apply_temperature(probabilities, 1 / temperature)


def calibration_check(labels: np.ndarray, probabilities: np.ndarray, *, seed: int = 0) -> dict[str, Any]:
    """Tests temperature scaling on images that did not choose it: fitted on one half, measured on the other, both ways.

    The calibration error is set against that of a perfectly calibrated model with the same scores: its labels are drawn
    from the predicted probabilities. Below the band is no fault.

    Args:
        labels: int (n,), in [0, C); of the validation split.
        probabilities: float (n, C), before temperature scaling.
        seed: of the halves and of the simulation.

    Returns:
        `halves`: for each half `num_images`, `temperature` (fitted on the other half), `ece_before`, `ece_after`,
        `band` (95 % of the simulated errors), `inside_band` (not above it), `nll_before`, `nll_after`; `passed`:
        neither half lies above its band and the likelihood over both is no worse.
    """
    labels, probabilities = _checked(labels, probabilities, None)
    if len(labels) < 4:
        raise InputError(f"calibration_check got {len(labels)} images; expected at least 4 to make two halves")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # taking every other image keeps the class shares
    first, second = np.sort(order[::2]), np.sort(order[1::2])
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


def place_in_band(half: Mapping[str, Any]) -> str:
    """Where one half's calibration error lies after scaling: inside, below or above its band."""
    low, high = half["band"]
    return "above" if half["ece_after"] > high else "below" if half["ece_after"] < low else "inside"


def calibration_verdict(check: Mapping[str, Any]) -> str:
    """One sentence on whether the check is passed, and if not, why.

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


def compare(
    labels: np.ndarray, probabilities_a: np.ndarray, probabilities_b: np.ndarray, *, seed: int = 0
) -> dict[str, Any]:
    """Compares two models on the same images.

    Args:
        labels: int (n,), in [0, C).
        probabilities_a: float (n, C), of the first model.
        probabilities_b: float (n, C), of the second model.
        seed: of the bootstrap.

    Returns:
        `num_images`, `accuracy_a`, `accuracy_b`, `difference` (a - b), `difference_interval` (95 %, paired bootstrap),
        `only_a` and `only_b` (images that one model alone gets right), `p_value` (McNemar's exact two-sided test),
        `agreement` (share of images with the same predicted class).
    """
    from scipy.stats import binomtest

    labels, probabilities_a = _checked(labels, probabilities_a, None)
    labels, probabilities_b = _checked(labels, probabilities_b, None)
    if probabilities_a.shape != probabilities_b.shape:
        classes = probabilities_a.shape[1], probabilities_b.shape[1]
        raise InputError(f"the two models have {classes[0]} and {classes[1]} classes; expected the same classes")
    top_a, top_b = probabilities_a.argmax(axis=1), probabilities_b.argmax(axis=1)
    right_a, right_b = top_a == labels, top_b == labels
    num_images = len(labels)
    only_a, only_b = int(np.sum(right_a & ~right_b)), int(np.sum(right_b & ~right_a))
    # Resampling images with replacement only changes how often each of these three outcomes is drawn.
    shares = np.array([only_a, only_b, num_images - only_a - only_b]) / num_images
    drawn = np.random.default_rng(seed).multinomial(num_images, shares, size=NUM_RESAMPLES)
    return {
        "num_images": num_images,
        "accuracy_a": float(right_a.mean()),
        "accuracy_b": float(right_b.mean()),
        "difference": (only_a - only_b) / num_images,
        "difference_interval": _interval((drawn[:, 0] - drawn[:, 1]) / num_images),
        "only_a": only_a,
        "only_b": only_b,
        "p_value": float(binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0,
        "agreement": float(np.mean(top_a == top_b)),
    }


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


def tta_views(images: np.ndarray) -> Iterator[np.ndarray]:
    """The views whose probabilities test-time augmentation averages: as it is and shifted four ways, each mirrored too.

    Args:
        images: uint8 (n, height, width).

    Yields:
        Ten arrays like `images`; a shift repeats the edge pixels.
    """
    height, width = images.shape[1:]
    padded = np.pad(images, ((0, 0), (TTA_SHIFT, TTA_SHIFT), (TTA_SHIFT, TTA_SHIFT)), mode="edge")
    for down, right in ((0, 0), (TTA_SHIFT, 0), (-TTA_SHIFT, 0), (0, TTA_SHIFT), (0, -TTA_SHIFT)):
        top, left = TTA_SHIFT - down, TTA_SHIFT - right
        view = padded[:, top : top + height, left : left + width]
        yield view
        yield view[:, :, ::-1]


def majority_baseline(train_labels: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy of always answering the most frequent training class.

    Args:
        train_labels: int (m,).
        labels: int (n,), of the split to be scored.
    """
    if not len(train_labels) or not len(labels):
        raise InputError(f"a baseline got {len(train_labels)} training and {len(labels)} test labels; expected some")
    return float(np.mean(labels == np.bincount(train_labels).argmax()))


def linear_baseline(
    train_images: np.ndarray, train_labels: np.ndarray, images: np.ndarray, labels: np.ndarray
) -> float:
    """Accuracy of a linear model on the pixels (multinomial logistic regression, L2).

    Args:
        train_images: uint8 (m, height, width).
        train_labels: int (m,), at least two classes.
        images: uint8 (n, height, width), the split to be scored.
        labels: int (n,).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(train_labels)) < 2:
        raise InputError("a linear baseline got training labels of one class; expected at least two")
    # Strongly regularised, for 2,304 pixels fit some thousand images by heart; a finer tolerance gains nothing.
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, tol=1e-2, max_iter=200))
    model.fit(train_images.reshape(len(train_images), -1).astype(np.float32), train_labels)
    return float(model.score(images.reshape(len(images), -1).astype(np.float32), labels))


def format_report(result: dict[str, Any]) -> str:
    """Text of what `evaluate` found: per-class table, figures with their intervals, confusion matrix, plain words.

    Args:
        result: as returned by `evaluate`.
    """
    names = [row["name"] for row in result["per_class"]]
    lines = [_class_table(result), "", format_summary(result), ""]
    lines += ["Confusion matrix, images (rows: true class, columns: predicted class)", ""]
    lines += [_matrix(result["confusion_matrix"], names, "{:d}"), ""]
    lines += ["The same in % of the row", ""]
    lines += [_matrix(100 * np.array(result["confusion_shares"]), names, "{:.1f}"), ""]
    lines += _in_words(result, names)
    if "without_twin" in result:
        twins, rest = result["num_with_twin"], result["without_twin"]
        lines += ["", f"Images whose exact pixels also stand in the training data: {twins} of {result['num_images']}."]
        if rest is None:
            lines.append("No image is without such a twin.")
        elif twins:
            lines += [f"Without them ({rest['num_images']} images):", "", _class_table(rest), "", format_summary(rest)]
    return "\n".join(lines) + "\n"


def format_summary(result: dict[str, Any]) -> str:
    """The figures over all classes, one a line.

    Args:
        result: as returned by `evaluate`, or its `without_twin`.
    """
    calibration = result["calibration"]

    def interval(key: str) -> str:
        low, high = result[f"{key}_interval"]
        return f"  95 % interval {low:.4f} to {high:.4f}"

    lines = [
        f"accuracy           {result['accuracy']:.4f}" + interval("accuracy"),
        f"macro-F1           {result['macro_f1']:.4f}" + interval("macro_f1"),
        f"balanced accuracy  {result['balanced_accuracy']:.4f}",
        f"top-2 accuracy     {result['top2_accuracy']:.4f}",
        f"loss               {result['loss']:.4f}  cross-entropy",
        f"Brier score        {calibration['brier']:.4f}",
        f"calibration error  {calibration['ece']:.4f}  {calibration['num_bins']} bins;"
        f" debiased root mean square {calibration['rms_error_debiased']:.4f}",
    ]
    if "calibration_before" in result:
        before = result["calibration_before"]
        lines.append(
            f"without temperature scaling (T = {result['temperature']:.3f}): calibration error {before['ece']:.4f},"
            f" negative log-likelihood {before['nll']:.4f} instead of {calibration['nll']:.4f}"
        )
    return "\n".join(lines)


def format_comparison(comparison: dict[str, Any], name_a: str, name_b: str) -> str:
    """Text of what `compare` found.

    Args:
        comparison: as returned by `compare`.
        name_a: of the first model.
        name_b: of the second model.
    """
    low, high = comparison["difference_interval"]
    p_value = comparison["p_value"]
    verdict = (
        "The difference is larger than chance explains (5 % level)."
        if p_value < 0.05
        else "The difference is within what chance explains (5 % level)."
    )
    test = "McNemar's exact test"
    width = max(len(name_a), len(name_b), len(test))
    return "\n".join(
        [
            f"Compared on the same {comparison['num_images']} images",
            "",
            f"{name_a:<{width}}  accuracy {comparison['accuracy_a']:.4f}, alone right on {comparison['only_a']} images",
            f"{name_b:<{width}}  accuracy {comparison['accuracy_b']:.4f}, alone right on {comparison['only_b']} images",
            f"{'difference':<{width}}  {comparison['difference']:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}"
            " (paired bootstrap)",
            f"{'same answer':<{width}}  {100 * comparison['agreement']:.2f} % of the images",
            f"{test:<{width}}  p = {p_value:.3g}",
            "",
            verdict,
            "",
        ]
    )


def format_calibration(check: dict[str, Any]) -> str:
    """Text of what `calibration_check` found.

    Args:
        check: as returned by `calibration_check`.
    """
    lines = ["Temperature fitted on one half of the split, measured on the other"]
    for number, half in enumerate(check["halves"], start=1):
        low, high = half["band"]
        lines += [
            f"Half {number} ({half['num_images']} images), temperature {half['temperature']:.3f}:",
            f"  calibration error        {half['ece_before']:.4f} -> {half['ece_after']:.4f};"
            f" a perfectly calibrated model: {low:.4f} to {high:.4f} ({place_in_band(half)})",
            f"  negative log-likelihood  {half['nll_before']:.4f} -> {half['nll_after']:.4f}",
        ]
    return "\n".join([*lines, calibration_verdict(check)]) + "\n"


def _checked(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Labels as int64 (n,) and probabilities as float64 (n, C) with rows that sum to one exactly."""
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
            f"{bad.sum()} of {num_images} rows are no probabilities (first: image {first}, sum {sums[first]:.4f},"
            f" smallest {probabilities[first].min():.4f}); expected values from 0 to 1 that sum to 1, not logits"
        )
    return labels.astype(np.int64), probabilities / sums[:, None]


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < np.inf:
        raise InputError(f"temperature is {temperature}; expected a number above 0")


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
    return _interval(hits.sum(axis=1) / num_images), _interval(f1.mean(axis=1))


def _interval(values: np.ndarray) -> list[float]:
    return [float(bound) for bound in np.quantile(values, (0.025, 0.975))]


def _bin_index(confidence: np.ndarray) -> np.ndarray:
    """Bins (0, 1/15], (1/15, 2/15], ...: the upper edge belongs to its bin."""
    return np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)


def _simulated_ece(confidence: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Calibration errors (resamples,) of models whose top class is right with just the probability that they give."""
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


def _class_table(result: dict[str, Any]) -> str:
    width = max(len("macro average"), *(len(row["name"]) for row in result["per_class"]))
    lines = [f"{'':<{width}}  precision  recall      F1  ROC-AUC  support"]
    for row in result["per_class"]:
        area = "-" if row["roc_auc"] is None else f"{row['roc_auc']:.3f}"
        lines.append(
            f"{row['name']:<{width}}  {row['precision']:9.3f}  {row['recall']:6.3f}  {row['f1']:6.3f}"
            f"  {area:>7}  {row['support']:7d}"
        )
    mean = {key: np.mean([row[key] for row in result["per_class"]]) for key in ("precision", "recall")}
    area = "-" if result["roc_auc_macro"] is None else f"{result['roc_auc_macro']:.3f}"
    lines.append(
        f"{'macro average':<{width}}  {mean['precision']:9.3f}  {mean['recall']:6.3f}  {result['macro_f1']:6.3f}"
        f"  {area:>7}  {result['num_images']:7d}"
    )
    return "\n".join(lines)


def _matrix(matrix: Sequence[Sequence[float]] | np.ndarray, names: list[str], form: str) -> str:
    cells = [[form.format(value) for value in row] for row in matrix]
    first = max(len(name) for name in names)
    widths = [max(len(name), *(len(row[c]) for row in cells)) for c, name in enumerate(names)]
    lines = [" " * first + "".join(f"  {name:>{w}}" for name, w in zip(names, widths, strict=True))]
    for name, row in zip(names, cells, strict=True):
        lines.append(f"{name:<{first}}" + "".join(f"  {cell:>{w}}" for cell, w in zip(row, widths, strict=True)))
    return "\n".join(lines)


def _in_words(result: dict[str, Any], names: list[str]) -> list[str]:
    matrix, shares = np.array(result["confusion_matrix"]), np.array(result["confusion_shares"])
    wrong = np.where(np.eye(len(names), dtype=bool), 0.0, shares)
    lines = []
    for cell in np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS_NAMED]:
        true, predicted = divmod(int(cell), len(names))
        if matrix[true, predicted] and true != predicted:
            lines.append(
                f"{names[true]} is taken for {names[predicted]} in {100 * shares[true, predicted]:.1f} % of its images"
                f" ({matrix[true, predicted]} of {matrix[true].sum()})."
            )
    never = [name for name, column in zip(names, matrix.sum(axis=0), strict=True) if not column]
    absent = [name for name, row in zip(names, matrix.sum(axis=1), strict=True) if not row]
    if never:
        lines.append(f"Never predicted: {', '.join(never)}.")
    if absent:
        lines.append(f"Without an image in this split: {', '.join(absent)} (their scores count as 0).")
    return lines or ["No image is misclassified."]
