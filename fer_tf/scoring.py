"""Scores a finished model on a data set: classes matched, copies told apart, views averaged."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer_tf.artifacts import RunDirectory, read_json
from fer_tf.data.dataset import Dataset
from fer_tf.data.loading import load_dataset
from fer_tf.data.recorded import run_config, run_data
from fer_tf.errors import InputError
from fer_tf.inference.predictor import Predictor
from fer_tf.task import split_title


def evaluate(
    model: str | os.PathLike[str] | Predictor,
    dataset: Dataset,
    *,
    splits: Sequence[str] | None = None,
    train_hashes: Sequence[str] | None = None,
    tta: bool = False,
) -> dict[str, dict[str, Any]]:
    """Score a model on the splits of a data set.

    Args:
        model: a .keras or .tflite that fer_tf wrote, or one that `inference.open_model` opened.
        dataset: with the model's classes, in any order; images of other classes are left out.
        splits: the splits to score; validation and test, as far as the data has them, if None.
        train_hashes: `data.audit.image_hashes` of the training images; with them the images that the model was not
            trained on are scored once more by themselves.
        tta: whether to score the mean over mirrored and shifted views as well.

    Returns:
        For each split what `evaluation.score_split` returns, with `tta` added where it was asked for.

    Raises:
        InputError: if the model cannot be opened, or the data lacks a split or a class of the model.

    Example:
        >>> import fer_tf
        >>> figures = fer_tf.evaluate(model_file, fer_tf.load_dataset(limit=70), splits=["test"])
        >>> 0 <= figures["test"]["accuracy"] <= 1
        True
    """
    from fer_tf.inference import open_model

    predictor = open_model(model) if isinstance(model, (str, os.PathLike)) else model
    dataset, _ = match_classes(dataset, predictor.class_names)
    found = {}
    for split in splits or [split for split in ("validation", "test") if dataset.has(split)] or ["train"]:
        found[split], _ = score_model(predictor, dataset.take(split).decoded(), split, train_hashes, tta=tta)
    return found


def match_classes(dataset: Dataset, class_names: Sequence[str]) -> tuple[Dataset, list[str]]:
    """Choose the rows of a model's classes, numbered as the model numbers them.

    Args:
        dataset: any.
        class_names: the model's.

    Returns:
        These rows, and the names of the classes that are left out.

    Raises:
        InputError: if the data lacks a class of the model.
    """
    missing = [name for name in class_names if name not in dataset.class_names]
    if missing:
        raise InputError(
            f"the model knows {', '.join(class_names)}; {dataset.source or 'the data'} has "
            f"{', '.join(dataset.class_names)} (no {', '.join(missing)}): evaluate the model on data of its own classes"
        )
    extra = [name for name in dataset.class_names if name not in class_names]
    return dataset if dataset.class_names == tuple(class_names) else dataset.select(class_names), extra


def score_model(
    predictor: Predictor, part: Dataset, split: str, train_hashes: Sequence[str] | None = None, *, tta: bool = False
) -> tuple[dict[str, Any], np.ndarray]:
    """Score a model on one split.

    Args:
        predictor: the opened model.
        part: the decoded rows of the split, with the model's classes.
        split: its name.
        train_hashes: as for `evaluate`.
        tta: as for `evaluate`.

    Returns:
        The figures, and the probabilities of the single view, float32 (n, classes).
    """
    from fer_tf import evaluation

    assert part.images is not None
    probabilities = predictor.predict(part.images)
    seed = predictor.metadata.get("config", {}).get("seed", 0)  # so that the intervals are those that train gave
    settings: Mapping[str, Any] = {"train_hashes": train_hashes, "seed": seed}
    temperature = predictor.metadata.get("temperature")
    result = evaluation.score_split(probabilities, part, split, temperature=temperature, **settings)
    if tta:
        views, seconds = [], []
        for view in evaluation.tta_views(part.images):
            start = time.perf_counter()
            views.append(predictor.predict(view))
            seconds.append(time.perf_counter() - start)
        averaged = np.mean(views, axis=0)
        result["tta"] = {
            "num_views": len(views),
            "ms_per_image": 1000 * sum(seconds) / len(part),
            # The first view is the image as it is; the call above also built the model.
            "single_ms_per_image": 1000 * seconds[0] / len(part),
            **evaluation.score_split(averaged, part, split, **settings),
            "comparison": evaluation.compare(part.labels, averaged, probabilities, seed=seed),
        }
    return result, probabilities


# --- A run's model, its data and its figures ---


def find_model(run: RunDirectory | None, quantization: str | None) -> Path:
    """Return the path of a run's model.keras, or of its .tflite in a quantization.

    Raises:
        InputError: if no run is given, or it has no such file.
    """
    if run is None:
        raise InputError("no model named: give --run DIR or --model FILE")
    path = run.tflite(quantization) if quantization else run.model
    if not path.is_file():
        present = ", ".join(sorted(file.name for file in run.path.glob("model*") if file.suffix != ".json"))
        fix = f"export_tflite --run {run.path} --quantization {quantization}" if quantization else "train"
        raise InputError(f"{run.path} holds no {path.name} (models there: {present or 'none'}): make it with {fix}")
    return path


def load_data(
    path: str | None, run: RunDirectory | None, metadata: Mapping[str, Any], *, faces: str = "auto"
) -> tuple[Dataset, bool]:
    """Load the data to score a model on.

    Args:
        path: the data that the user names; the run's own if None.
        run: of the model; None for a model of its own.
        metadata: of the model.
        faces: how the pictures of a folder become crops; for the run's own data the recorded way is used.

    Returns:
        The data, and whether the run was trained on it.

    Raises:
        InputError: if the data cannot be read, or neither data nor a run is given.
    """
    if path is None:
        if run is None:
            raise InputError("no data named: give --data PATH, or --run DIR for the data that the run was trained on")
        return run_data(run, run_config(run)), True
    data = load_dataset(path, faces=faces, training=False)
    if run and data.sha256 == read_json(run.data).get("sha256"):
        return run_data(run, run_config(run), path), True
    if data.sha256 == metadata.get("data", {}).get("sha256") and not data.has("validation"):
        # Recreate the training split so that training images are not scored.
        config = metadata.get("config", {})
        cut = {key: config[key] for key in ("seed", "validation_fraction") if key in config}
        data = load_dataset(path, faces=faces, classes=metadata["class_names"], **cut)
    return data, False


def metrics_section(metrics: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the part of metrics.json about one of the run's models: `keras`, or `tflite` and the quantization.

    Args:
        metrics: the contents of metrics.json; missing parts are added.
        path: of the model.

    Raises:
        InputError: if the part is no object.
    """
    keys = ["keras"] if path.suffix == ".keras" else ["tflite", path.stem.removeprefix("model-")]
    for key in keys:
        metrics = metrics.setdefault(key, {})
        if not isinstance(metrics, dict):
            raise InputError(f"the run's metrics.json holds no object under {key}: restore it, or move it away")
    return metrics


def compare_with_bundle(
    run: RunDirectory, path: Path, section: Mapping[str, Any], figures: Mapping[str, Mapping[str, Any]]
) -> str:
    """Compare new figures with those that a packed folder holds; return a line for each split.

    Args:
        run: packed by `ship`.
        path: of its model.
        section: of `metrics_section`; the scorecard takes its place where it is empty.
        figures: split -> figures, as of `evaluate`.
    """
    source = run.metrics.name
    scorecard = path.with_suffix(".json")
    if not section and scorecard.is_file():
        section, source = read_json(scorecard), scorecard.name
    lines = []
    for split, here in figures.items():
        there = section.get(split, {})
        if there.get("num_images") != here["num_images"]:
            verdict = f"no figures of these {here['num_images']:,} images there"
        elif all(abs(there[key] - here[key]) < 1e-9 for key in ("accuracy", "macro_f1")):
            verdict = "the same accuracy and macro-F1"
        else:
            turned = abs(there["accuracy"] - here["accuracy"]) * here["num_images"]
            verdict = (
                f"accuracy {there['accuracy']:.2%} there and {here['accuracy']:.2%} here, macro-F1 "
                f"{there['macro_f1']:.3f} and {here['macro_f1']:.3f}, {turned:.0f} more or fewer right (another "
                "processor turns a few images; many mean another model or other data)"
            )
        lines.append(f"Against {source}, {split_title(split)}: {verdict}.")
    return "\n".join(lines)
