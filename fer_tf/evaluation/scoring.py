"""Figures of one model on one split of a data set, in the form of metrics.json, and as text."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from fer_tf.data.dataset import Dataset


def score_split(
    probabilities: np.ndarray,
    part: Dataset,
    split: str,
    *,
    train_hashes: Sequence[str] | None = None,
    temperature: float | None = None,
    seed: int = 0,
    missing: Sequence[str] = (),
    thresholds: Mapping[float, float] | None = None,
) -> dict[str, Any]:
    """Compute all figures of one model on one split, in the form of metrics.json.

    Args:
        probabilities: float (n, C), for `part`'s images, in the same order.
        part: the decoded rows of the split.
        split: the name of the split.
        train_hashes: `data.audit.image_hashes` of the training images. If given, images without a duplicate in the
            training data are also scored separately.
        temperature: the temperature that is folded into the model.
        seed: seed of the intervals.
        missing: classes without an image in the whole data set, as for `evaluate`.
        thresholds: thresholds of the model's prediction sets, from `read_thresholds`.

    Returns:
        The result of `evaluation.evaluate`. For the selection split of a model with a temperature also
        `calibration_check`, which needs SciPy. For the test split of a model with thresholds also `prediction_sets`,
        from `measure_prediction_sets`; the other splits fitted the thresholds or the model.
    """
    from fer_tf.data.audit import among
    from fer_tf.evaluation.calibration import calibration_check, undo_temperature
    from fer_tf.evaluation.conformal import measure_prediction_sets
    from fer_tf.evaluation.metrics import evaluate
    from fer_tf.task import SELECTION_SPLIT

    assert part.images is not None
    has_duplicate = None
    if train_hashes is not None and split != "train":
        has_duplicate = among(part.images, train_hashes)
    result = evaluate(
        part.labels,
        probabilities,
        part.class_names,
        seed=seed,
        has_duplicate=has_duplicate,
        temperature=temperature,
        missing=missing,
    )
    has_scipy = importlib.util.find_spec("scipy") is not None
    if temperature is not None and split == SELECTION_SPLIT and len(part) >= 4 and has_scipy:
        result["calibration_check"] = calibration_check(
            part.labels, undo_temperature(probabilities, temperature), seed=seed
        )
    if thresholds and split == "test":
        result["prediction_sets"] = measure_prediction_sets(
            part.labels, probabilities, thresholds, part.class_names, seed=seed
        )
    return result


def format_split(result: dict[str, Any], part: Dataset, split: str, model_name: str) -> str:
    """Format one model's figures on one split, under a heading with both names.

    Args:
        result: as returned by `score_split`.
        part: the rows of the split.
        split: the name of the split.
        model_name: the model's name in the heading.
    """
    from fer_tf.evaluation.summary import format_calibration, format_report
    from fer_tf.task import split_title

    kind = "synthetic faces" if part.synthetic else part.source
    heading = f"{model_name} on {split_title(split)}: {len(part):,} images, {kind}"
    text = f"{heading}\n{'=' * len(heading)}\n\n{format_report(result)}"
    if "calibration_check" in result:
        text += "\n" + format_calibration(result["calibration_check"])
    return text
