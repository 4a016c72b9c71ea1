"""Scores a finished model on a data set: matches the classes, scores unseen images apart, averages views."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import io
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer_tf.artifacts import RunDirectory, read_json
from fer_tf.data.dataset import SPLIT_DTYPE, Dataset
from fer_tf.data.loading import load_dataset
from fer_tf.data.names import find_class
from fer_tf.data.recorded import is_run_data, run_config, run_data
from fer_tf.errors import InputError
from fer_tf.inference.predictor import Predictor
from fer_tf.install import install_hint
from fer_tf.task import SPLITS, split_title
from fer_tf.text import duration, listed, printable, quantity, votes_text

logger = logging.getLogger(__name__)

_CHUNK = 256  # images between two checks of the clock; a multiple of a Keras model's batch
_PROGRESS_SECONDS = 2.0  # before the first line, and between two
_LONGEST_PAUSE = 30.0
_clock = time.monotonic


def evaluate(
    model: str | os.PathLike[str] | Predictor,
    dataset: Dataset,
    *,
    splits: Sequence[str] | None = None,
    train_hashes: Sequence[str] | None = None,
    tta: bool = False,
    classes: Sequence[str] | None = None,
) -> dict[str, dict[str, Any]]:
    """Score a model on the splits of a data set.

    Args:
        model: a .keras or .tflite that fer_tf wrote, or one that `inference.open_model` opened.
        dataset: with some of the model's classes, in any order; images of other classes are left out.
        splits: the splits to score; if None, validation and test, or the one that the data has.
        train_hashes: `data.audit.image_hashes` of the training images; if given, images that the model was not trained
            on are also scored separately.
        tta: True to score the mean over mirrored and shifted views as well.
        classes: the classes to score, in any spelling; if None, all that model and data share.

    Returns:
        For each split the result of `evaluation.score_split`, with `tta` added on request.

    Raises:
        InputError: if the model cannot be opened, the data lacks a split, or model and data share no class.

    Example:
        >>> import fer_tf
        >>> figures = fer_tf.evaluate(model_file, fer_tf.load_dataset(limit=70), splits=["test"])
        >>> 0 <= figures["test"]["accuracy"] <= 1
        True
    """
    from fer_tf.inference import open_model

    predictor = open_model(model) if isinstance(model, (str, os.PathLike)) else model
    matched = match_classes(as_test_set(dataset), predictor.class_names, classes)
    dataset, missing = matched.dataset, matched.missing
    found = {}
    for split in splits or [split for split in ("validation", "test") if dataset.has(split)] or ["train"]:
        found[split], _ = score_model(
            predictor, dataset.take(split).decoded(), split, train_hashes, tta=tta, missing=missing
        )
    return found


@dataclasses.dataclass(frozen=True)
class MatchedClasses:
    """The rows of a data set that a model can be scored on.

    Attributes:
        dataset: the rows of the classes that model and data share, with the model's label numbers.
        left_out: class of the data that the model does not know -> number of its images in the scored splits.
        missing: classes of the model without an image in the data.
    """

    dataset: Dataset
    left_out: dict[str, int]
    missing: list[str]

    def text(self) -> str:
        """Describe the classes that are left out or missing; empty if model and data have the same classes."""
        texts = []
        if self.left_out:
            counts = ", ".join(f"{quantity(count, 'image')} of {name}" for name, count in self.left_out.items())
            texts.append(f"Skipping images of classes the model does not have: {counts}.")
        if self.missing:
            texts.append(
                f"No images of {listed(self.missing)}, which the model knows: macro-F1 is the mean over the other "
                f"{self.dataset.num_classes - len(self.missing)} classes; an answer of a missing class counts as wrong."
            )
        return "\n".join(texts)


def match_classes(
    dataset: Dataset,
    class_names: Sequence[str],
    classes: Sequence[str] | None = None,
    *,
    splits: Sequence[str] = SPLITS,
) -> MatchedClasses:
    """Choose the rows of the classes that a model and a data set both have.

    Args:
        dataset: any; its class names may be spelt otherwise than the model's.
        class_names: the model's classes.
        classes: classes to score, in any spelling; all if None.
        splits: the splits whose left-out images are counted.

    Returns:
        These rows, the classes left out and the classes missing.

    Raises:
        InputError: if the model does not know a requested class, or no image has a class that model and data share.
    """
    label_of = {name: label for label, name in enumerate(class_names)}
    wanted = list(class_names)
    if classes is not None:
        wanted = [find_class(name, class_names) or name.strip() for name in classes]
        unknown = [name for name in wanted if name not in label_of]
        if unknown:
            raise InputError(f"unknown class {unknown[0]!r}: the model knows {', '.join(class_names)}")
    own = [find_class(name, class_names) for name in dataset.class_names]
    new_label = np.array([label_of[name] if name is not None and name in wanted else -1 for name in own], np.int64)
    labels = new_label[dataset.labels]
    chosen = labels >= 0
    if len(dataset) and not chosen.any():
        raise InputError(
            f"the model knows {', '.join(class_names)}; {dataset.source or 'the data'} has "
            f"{', '.join(dataset.class_names)}: no image has a class that both share"
            + (f" among {', '.join(wanted)}" if classes is not None else "")
        )
    counts = sum((dataset.counts(split) for split in splits), np.zeros(dataset.num_classes, np.int64))
    left_out = {
        name: int(count)
        for name, count, known in zip(dataset.class_names, counts, own, strict=True)
        if count and known is None
    }
    held = np.bincount(labels[chosen], minlength=len(class_names))
    missing = [name for name, count in zip(class_names, held, strict=True) if not count]
    if dataset.class_names == tuple(class_names) and chosen.all():
        return MatchedClasses(dataset, left_out, missing)
    rows = dataset.rows(chosen)
    return MatchedClasses(
        dataclasses.replace(rows, labels=labels[chosen], class_names=tuple(class_names)), left_out, missing
    )


def left_out_text() -> str:
    """Name the figures that this installation cannot compute; empty if it can compute all."""
    if importlib.util.find_spec("sklearn") is not None:
        return ""
    return (
        "Left out, because scikit-learn is not installed: ROC-AUC and the check of the calibration "
        f"({install_hint('train', 'scikit-learn')} adds them)."
    )


class Progress:
    """Logs the progress, the speed and the remaining time.

    Work that ends within two seconds logs nothing. The longer the work takes, the rarer the lines: 2 to 30 s apart.
    """

    def __init__(self, total: int, things: str = "images") -> None:
        """Start the clock.

        Args:
            total: number of things to do.
            things: their name in the log, such as "images".
        """
        self._total, self._things, self._done = total, things, 0
        self._said = self._started = _clock()

    def add(self, count: int) -> None:
        """Count things that were just done."""
        self._done += count
        now = _clock()
        pause = min(max(_PROGRESS_SECONDS, (self._said - self._started) / 4), _LONGEST_PAUSE)
        if now - self._said > pause:
            self._said, rate = now, self._done / (now - self._started)
            done, total = f"{self._done:,}", f"{self._total:,}"
            left = duration((self._total - self._done) / rate)
            logger.info("scored %s of %s %s, %.0f/s, %s left", done, total, self._things, rate, left)


def predict_with_progress(predictor: Predictor, images: np.ndarray, progress: Progress | None = None) -> np.ndarray:
    """Return the probabilities of grey crops; log the progress if it takes over two seconds.

    Args:
        predictor: the opened model.
        images: uint8 (n, 48, 48).
        progress: the progress of the task that these images belong to.

    Returns:
        float32 (n, classes).
    """
    progress = progress or Progress(len(images))
    parts = []
    for start in range(0, len(images), _CHUNK):
        parts.append(predictor.predict(images[start : start + _CHUNK]))
        progress.add(len(parts[-1]))
    return np.concatenate(parts) if parts else predictor.predict(images)


def score_model(
    predictor: Predictor,
    part: Dataset,
    split: str,
    train_hashes: Sequence[str] | None = None,
    *,
    tta: bool = False,
    missing: Sequence[str] = (),
) -> tuple[dict[str, Any], np.ndarray]:
    """Score a model on one split.

    Args:
        predictor: the opened model.
        part: the decoded rows of the split, with the model's classes.
        split: the name of the split.
        train_hashes: as for `evaluate`.
        tta: as for `evaluate`.
        missing: classes of the model without an image in any split.

    Returns:
        The figures, and the probabilities of the single view, float32 (n, classes).
    """
    from fer_tf import evaluation

    assert part.images is not None
    thresholds = evaluation.read_thresholds(predictor.metadata)
    probabilities = predict_with_progress(predictor, part.images)
    seed = predictor.metadata.get("config", {}).get("seed", 0)  # the seed of training, for the same intervals
    settings: Mapping[str, Any] = {"train_hashes": train_hashes, "seed": seed, "missing": missing}
    temperature = predictor.metadata.get("temperature")
    result = evaluation.score_split(
        probabilities, part, split, temperature=temperature, thresholds=thresholds, **settings
    )
    if tta:
        views, seconds = [], []
        for view in evaluation.tta_views(part.images):
            start = time.perf_counter()
            views.append(predict_with_progress(predictor, view))
            seconds.append(time.perf_counter() - start)
        averaged = np.mean(views, axis=0)
        result["tta"] = {
            "num_views": len(views),
            "ms_per_image": 1000 * sum(seconds) / len(part),
            # The first view is the unchanged image. The first call above is not timed here: it also built the model.
            "single_ms_per_image": 1000 * seconds[0] / len(part),
            **evaluation.score_split(averaged, part, split, **settings),
            "comparison": evaluation.compare(part.labels, averaged, probabilities, seed=seed),
        }
    return result, probabilities


# --- A run's model, its data and its figures ---


def find_model(run: RunDirectory | None, quantization: str | None) -> Path:
    """Return the path of a run's model.keras, or of its .tflite in a quantization.

    Raises:
        InputError: if no run is given, or the run has no such file.
    """
    if run is None:
        raise InputError("no model named: give --run DIR or --model FILE")
    path = run.tflite(quantization) if quantization else run.model
    if not path.is_file():
        present = ", ".join(sorted(file.name for file in run.path.glob("model*") if file.suffix != ".json"))
        if run.is_bundle:  # a packed run gets no new files
            fix = "name one of these with --quantization"
        else:
            made_by = f"export_tflite --run {run.path} --quantization {quantization}" if quantization else "train"
            fix = f"make it with {made_by}"
        raise InputError(f"{run.path} holds no {path.name} (models there: {present or 'none'}): {fix}")
    return path


def load_data(
    path: str | None, run: RunDirectory | None, metadata: Mapping[str, Any], **reading: Any
) -> tuple[Dataset, bool]:
    """Load the data to score a model on.

    Args:
        path: the data that the user names; the run's own data if None.
        run: the model's run; None for a model without one.
        metadata: the model's metadata.
        reading: arguments of `load_dataset` that say how the data is read, such as `faces`; the run's own data is read
            with the recorded arguments.

    Returns:
        The data, and True if the run was trained on it.

    Raises:
        InputError: if the data cannot be read, or neither data nor a run is given.
    """
    if path is None:
        if reading.get("labels") or reading.get("labels_as"):
            raise InputError("--labels needs --data: name the file of the rows that the votes are on")
        if run is None:
            raise InputError("no data named: give --data PATH, or --run DIR for the data that the run was trained on")
        return run_data(run, run_config(run)), True
    data = load_dataset(path, **reading, training=False)
    if run and data.sha256 == read_json(run.data).get("sha256"):
        if is_run_data(run, data):
            return data, True
        return run_data(run, run_config(run), path, same=True), True
    if data.sha256 == metadata.get("data", {}).get("sha256") and not data.has("validation"):
        # Recreate the training split so that training images are not scored.
        config = metadata.get("config", {})
        cut: dict[str, Any] = {key: config[key] for key in ("seed", "validation_fraction") if key in config}
        cut["cut"] = metadata["data"].get("cut", "rows")  # version 0.1 did not record the cut; it cut row by row
        reading = {**reading, "subjects": reading.get("subjects") or metadata["data"].get("subjects")}
        data = load_dataset(path, **reading, classes=metadata["class_names"], **cut)
    _warn_of_other_target(data, metadata)
    return as_test_set(data), False


def _warn_of_other_target(data: Dataset, metadata: Mapping[str, Any]) -> None:
    """Warn if the model learned labels from votes and the data has other labels, or the other way round."""
    trained, scored = metadata.get("data", {}).get("label_source"), data.label_source
    if (trained or {}).get("as") != (scored or {}).get("as") or bool(trained) != bool(scored):
        texts = [votes_text(source) if source else "the labels of its data" for source in (trained, scored)]
        logger.warning("the model learned %s but is scored on %s, which is another target", *texts)


def as_test_set(dataset: Dataset) -> Dataset:
    """Make all rows the test split if the source has no splits: the model has not seen any of them."""
    if not dataset.unsplit:
        return dataset
    return dataclasses.replace(dataset, split=np.full(len(dataset), "test", SPLIT_DTYPE), unsplit=False)


def predictions_csv(parts: Mapping[str, Dataset], probabilities: Mapping[str, np.ndarray]) -> str:
    """Format the probabilities of each image as a csv: image, split, label, predicted, and a column for each class.

    Args:
        parts: split -> its rows; `files` names the images.
        probabilities: split -> float (n, classes).
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    class_names = next(iter(parts.values())).class_names
    writer.writerow(["image", "split", "label", "predicted", *class_names])
    for split, part in parts.items():
        assert part.files is not None
        for file, label, row in zip(part.files, part.labels, probabilities[split], strict=True):
            answer = class_names[int(row.argmax())]
            writer.writerow(
                [printable(file), split, class_names[label], answer, *(f"{probability:.6f}" for probability in row)]
            )
    return text.getvalue()


def with_names(dataset: Dataset) -> Dataset:
    """Return the data with a name for each image: the path in a folder, or the row number, from 1."""
    if dataset.files is not None:
        return dataset
    return dataclasses.replace(dataset, files=np.array([str(row + 1) for row in range(len(dataset))], object))


def metrics_section(metrics: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the part of metrics.json about one of the run's models: `keras`, or `tflite` and the quantization.

    Args:
        metrics: the contents of metrics.json; missing parts are added.
        path: the model's path.

    Raises:
        InputError: if the part is not an object.
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
        run: a folder that `ship` packed.
        path: the path of its model.
        section: the result of `metrics_section`; if it is empty, the scorecard is used.
        figures: split -> figures, as returned by `evaluate`.
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
                "processor may change a few answers; many changes mean another model or other data)"
            )
        lines.append(f"Against {source}, {split_title(split)}: {verdict}.")
    return "\n".join(lines)
