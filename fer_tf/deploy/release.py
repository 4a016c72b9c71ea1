"""Exports a model as .tflite or .onnx, scores each file against the Keras model, and writes it with its scorecard."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_tf import evaluation
from fer_tf.artifacts import SCHEMA_VERSION, RunDirectory, atomic_path, check_writable, read_metadata
from fer_tf.data.audit import among, image_hashes
from fer_tf.data.dataset import Dataset
from fer_tf.data.recorded import run_config, run_data
from fer_tf.data.synthetic import draw_faces
from fer_tf.deploy import tflite_format
from fer_tf.deploy.quantization import AUTO, CALIBRATED, MODES, QUANTIZATIONS, check_quantization, quantize
from fer_tf.errors import InputError
from fer_tf.inference.keras_model import KerasPredictor
from fer_tf.inference.litert import LiteRTPredictor
from fer_tf.inference.predictor import Predictor
from fer_tf.machine import machine, versions
from fer_tf.task import EMOTIONS, IMAGE_SIZE, INPUTS, split_title
from fer_tf.text import points_with_interval

if TYPE_CHECKING:
    import keras

_NUM_SYNTHETIC = 350  # faces; they cycle through the classes
_SYNTHETIC_SEED = 2013
_NUM_SAMPLES, _SAMPLE_SEED = 10, 48
_NUM_WARM_UP, _NUM_TIMED = 20, 300
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Released:
    """A finished .tflite and its measurements."""

    quantization: str
    data: bytes
    scorecard: dict[str, Any]

    @property
    def drop(self) -> float:
        """Points of validation accuracy that the file loses against the Keras model; negative if it gains."""
        return -100 * self.scorecard["validation"]["difference"]


@dataclasses.dataclass(frozen=True)
class Exported:
    """The files that `export_tflite` wrote."""

    path: Path
    scorecard_path: Path
    scorecard: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Reference:
    """Images, and the Keras model's probabilities for them."""

    images: np.ndarray
    labels: np.ndarray | None  # None if the images show other classes than the model's
    probabilities: np.ndarray
    about: dict[str, Any]


def export_tflite(
    run: str | Path,
    quantization: str = AUTO,
    *,
    data: str | Path | None = None,
    num_calibration: int = 256,
    max_drop: float = 0.5,
    force: bool = False,
    colour: str = "grey",
    output: str | Path | None = None,
) -> Exported:
    """Write a run's model as a .tflite, scored against the Keras model, with its scorecard beside it.

    Args:
        run: the folder of a finished run.
        quantization: one of `deploy.quantization.MODES`. `auto` tries all and keeps the fastest file whose 95 %
            interval excludes a loss of more than `max_drop` points of validation accuracy.
        data: data to calibrate and score with; the run's own if None.
        num_calibration: number of training images for calibration.
        max_drop: largest loss of validation accuracy against Keras, in points, 0 to 100.
        force: True to write the file even if it loses more than `max_drop`.
        colour: `grey` for input uint8 (1, 48, 48, 1), or `rgb` for (1, 48, 48, 3), which fits MediaPipe's
            ImageClassifier.
        output: the .tflite to write; its scorecard has the same name with .json. Both are in the run's folder if None.

    Returns:
        The paths of both files, and the scorecard: accuracy, macro-F1, agreement with Keras, size, latency.

    Raises:
        InputError: if the quantization is unknown, the run has no model, the data has other classes, the output cannot
            be written, Keras does not run on TensorFlow, or the file loses more than `max_drop`.

    Example:
        >>> import fer_tf
        >>> exported = fer_tf.export_tflite("runs/demo", "float32", max_drop=100)
        >>> exported.path.name, exported.scorecard_path.name
        ('model-float32.tflite', 'model-float32.json')
    """
    if quantization not in MODES:
        raise InputError(f"unknown quantization {quantization!r}: expected one of {', '.join(MODES)}")
    if colour not in INPUTS:
        raise InputError(f"unknown input {colour!r}: expected one of {', '.join(INPUTS)}")
    if not 0 <= max_drop <= 100:
        raise InputError(f"--max-drop {max_drop:g}: expected points of accuracy from 0 to 100")
    directory = RunDirectory.open(run)
    suffix = "" if colour == "grey" else f"-{colour}"
    path = _output_path(directory, directory.tflite(quantization + suffix), output)
    model, keras_predictor, dataset = _load_run(directory, data)
    released = release(
        model,
        quantization,
        keras_predictor=keras_predictor,
        dataset=dataset,
        num_calibration=num_calibration,
        max_drop=max_drop,
        colour=colour,
    )
    if released.drop > max_drop and not force:
        if quantization == AUTO:
            _log.info("%s", format_tried(released.scorecard))
        raise InputError(
            f"{released.quantization} loses {released.drop:.2f} points of accuracy against Keras on the selection "
            f"split, more than --max-drop {max_drop:g}: choose --quantization {AUTO}, or write it anyway with "
            "--force"
        )
    if output is None:
        path = directory.tflite(released.quantization + suffix)
    scorecard_path = (
        directory.scorecard(released.quantization + suffix) if output is None else path.with_suffix(".json")
    )
    write_release(released, path, scorecard_path)
    return Exported(path, scorecard_path, released.scorecard)


def export_onnx(run: str | Path, *, data: str | Path | None = None, output: str | Path | None = None) -> Exported:
    """Write a run's model as float32 .onnx, scored by ONNX Runtime against the Keras model, with its scorecard.

    Args:
        run: the folder of a finished run.
        data: data to score with; the run's own data if None.
        output: the .onnx to write; its scorecard has the same name with .json. Both are in the run's folder if None.

    Returns:
        The paths of both files, and the scorecard, as from `export_tflite`.

    Raises:
        InputError: if the run has no model, the data has other classes, the output cannot be written, or Keras does not
            run on TensorFlow.
        ModuleNotFoundError: if the packages of the extra `onnx` are not installed.

    Example:
        >>> import fer_tf
        >>> fer_tf.export_onnx("runs/demo").path.name
        'model.onnx'
    """
    import onnxruntime  # noqa: F401 - fail early: a missing package is the most frequent mistake
    import tf2onnx  # noqa: F401

    from fer_tf.inference.onnx_model import ONNXPredictor

    directory = RunDirectory.open(run)
    path = _output_path(directory, directory.onnx, output)
    model, keras_predictor, dataset = _load_run(directory, data)
    from fer_tf.deploy.onnx_format import to_onnx

    content = to_onnx(model, metadata=_in_current_schema(keras_predictor.metadata))
    references = [_on_validation(keras_predictor, dataset), _on_synthetic(keras_predictor)]
    card = _scorecard("onnx", content, references, ONNXPredictor)
    released = Released("onnx", content, card)
    scorecard_path = directory.scorecard("onnx") if output is None else path.with_suffix(".json")
    write_release(released, path, scorecard_path)
    return Exported(path, scorecard_path, card)


def _output_path(directory: RunDirectory, default: Path, output: str | Path | None) -> Path:
    """Return the file to write, checked before the work begins."""
    if output is None:
        directory.check_open()
    path = default if output is None else Path(output)
    if path.suffix != default.suffix:
        raise InputError(f"--output {path}: expected a name that ends in {default.suffix}")
    check_writable(path)
    return path


def _load_run(directory: RunDirectory, data: str | Path | None) -> tuple[keras.Model, KerasPredictor, Dataset]:
    """Return a run's model, as network and as predictor, and the data to score it on."""
    metadata = read_metadata(directory.model)
    dataset = run_data(directory, run_config(directory), None if data is None else str(data)).decoded()
    if tuple(metadata["class_names"]) != dataset.class_names:
        raise InputError(
            f"{directory.model} knows {', '.join(metadata['class_names'])}, the data has "
            f"{', '.join(dataset.class_names)}: give the run's own data"
        )
    from fer_tf.deploy.conversion import check_backend
    from fer_tf.model.weights import load_classifier

    check_backend()
    model = load_classifier(directory.model)
    return model, KerasPredictor(model, metadata, name=str(directory.model)), dataset


def release(
    model: keras.Model,
    quantization: str,
    *,
    keras_predictor: Predictor,
    dataset: Dataset,
    num_calibration: int = 256,
    max_drop: float = 0.5,
    colour: str = "grey",
    seed: int = 0,
) -> Released:
    """Export a trained model in one quantization, or in all to choose one, and score it.

    Args:
        model: a trained model from `model.build_model`.
        quantization: one of `quantization.MODES`. `auto` chooses the fastest file whose 95 % interval (of the paired
            difference from the Keras model) excludes a loss of more than `max_drop` points of validation accuracy.
        keras_predictor: the same model as an `inference.KerasPredictor`; its metadata goes into the file.
        dataset: decoded data with a validation split to score on and a train split to calibrate on.
        num_calibration: number of calibration images.
        max_drop: points of accuracy, at least 0; used by `auto`.
        colour: a member of `task.INPUTS`.
        seed: seed of the draw of calibration images.

    Returns:
        The file and its scorecard. With `auto`, `tried` in the scorecard has a row for each quantization.

    Raises:
        InputError: if the quantization is unknown, the model has another task, or the dataset lacks a needed split.
    """
    from fer_tf.deploy.conversion import convert

    modes = QUANTIZATIONS if quantization == AUTO else (quantization,)
    images = calibration_images(dataset, num_calibration, seed=seed) if set(modes) & set(CALIBRATED) else None
    for mode in modes:
        check_quantization(mode, images)
    references = [_on_validation(keras_predictor, dataset), _on_synthetic(keras_predictor)]
    flatbuffer = convert(model)
    metadata = _in_current_schema(keras_predictor.metadata)
    tried = []
    for mode in modes:
        data = quantize(flatbuffer, mode, metadata=metadata, calibration_images=images, colour=colour)
        tried.append(Released(mode, data, _scorecard(mode, data, references)))
        _log.info("%s", format_scorecard(tried[-1].scorecard))
    if quantization != AUTO:
        return _with_prediction_sets(tried[0], references[0], dataset)
    chosen = min((one for one in tried if _holds(one, max_drop)), key=lambda one: one.scorecard["latency_ms"])
    summary = [_summary(one, max_drop) for one in tried]
    chosen = dataclasses.replace(chosen, scorecard={**chosen.scorecard, "max_drop": max_drop, "tried": summary})
    return _with_prediction_sets(chosen, references[0], dataset)


def _with_prediction_sets(released: Released, validation: _Reference, dataset: Dataset) -> Released:
    """Fit the thresholds on the file's own scores, which quantization has changed."""
    assert validation.labels is not None
    train = dataset.take("train").decoded().images if dataset.has("train") else None
    has_duplicate = None if train is None else among(validation.images, image_hashes(train))
    probabilities = LiteRTPredictor(released.data).predict(validation.images)
    sets = evaluation.fit_prediction_sets(validation.labels, probabilities, has_duplicate)
    data = tflite_format.with_prediction_sets(released.data, sets)
    changed = {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "prediction_sets": sets}
    return dataclasses.replace(released, data=data, scorecard={**released.scorecard, **changed})


def _holds(released: Released, max_drop: float) -> bool:
    low, _ = released.scorecard["validation"]["difference_interval"]
    # float32 always qualifies, so there is always a result.
    return released.quantization == "float32" or 100 * low >= -max_drop


def _in_current_schema(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the metadata of a .keras of any version to the keys of `SCHEMA_VERSION`."""
    values = {key: value for key, value in metadata.items() if key != "format"}  # its name in version 1
    return {"prediction_sets": None, "crop": None, **values, "schema_version": SCHEMA_VERSION}


def _summary(released: Released, max_drop: float) -> dict[str, Any]:
    card = released.scorecard
    keys = ("accuracy", "accuracy_interval", "macro_f1", "ece", "difference", "difference_interval", "agreement")
    return {
        "quantization": released.quantization,
        **{key: card["validation"][key] for key in keys},
        "size_bytes": card["size_bytes"],
        "latency_ms": card["latency_ms"],
        "within_max_drop": _holds(released, max_drop),
    }


def calibration_images(dataset: Dataset, count: int, *, seed: int = 0) -> np.ndarray:
    """Draw training images for calibration, with the same class shares and at least one image of each class.

    Args:
        dataset: decoded data.
        count: number of images, at least the number of classes.
        seed: seed of the draw.

    Returns:
        uint8 (about `count`, 48, 48); all training images if there are fewer.

    Raises:
        InputError: if there is no training image, or `count` is lower than the number of classes.
    """
    if not dataset.has("train"):
        raise InputError(
            f"no calibration images: {dataset.source} has no training images; use --data to name data that has"
        )
    train = dataset.take("train").decoded()
    assert train.images is not None
    if count < train.num_classes:
        raise InputError(
            f"{count} calibration images: expected at least {train.num_classes}, one of each class (--num-calibration)"
        )
    rng = np.random.default_rng(seed)
    chosen = []
    for label in range(train.num_classes):
        rows = np.flatnonzero(train.labels == label)
        share = max(1, round(count * len(rows) / len(train)))
        chosen.append(rng.permutation(rows)[:share])
    return train.images[rng.permutation(np.concatenate(chosen))]


def _on_validation(predictor: Predictor, dataset: Dataset) -> _Reference:
    if not dataset.has("validation"):
        raise InputError(
            f"{dataset.source} has no validation images to score the export on: name other data with --data"
        )
    part = dataset.take("validation").decoded()
    assert part.images is not None
    about = {"source": part.source, "sha256": part.sha256, "synthetic": part.synthetic}
    return _Reference(part.images, part.labels, predictor.predict(part.images), about)


def synthetic_faces(class_names: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Draw the faces of every scorecard, so that anyone can measure these figures again without a data set.

    Args:
        class_names: the model's classes.

    Returns:
        uint8 (n, 48, 48) and their labels, int64 (n,); labels are None if a class is not one of the seven emotions.
    """
    known = all(name in EMOTIONS for name in class_names)
    drawn = np.array([EMOTIONS.index(name) for name in (class_names if known else EMOTIONS)])
    labels = np.arange(_NUM_SYNTHETIC) % len(drawn)
    return draw_faces(drawn[labels], _SYNTHETIC_SEED), labels if known else None


def _on_synthetic(predictor: Predictor) -> _Reference:
    images, labels = synthetic_faces(predictor.class_names)
    return _Reference(images, labels, predictor.predict(images), {"source": "drawn faces", "seed": _SYNTHETIC_SEED})


def _scorecard(
    quantization: str,
    data: bytes,
    references: Sequence[_Reference],
    open_bytes: Callable[..., Predictor] | None = None,
) -> dict[str, Any]:
    open_bytes = open_bytes or LiteRTPredictor
    many, one = open_bytes(data), open_bytes(data, num_threads=1)
    validation, synthetic = (_score(many, reference) for reference in references)
    return {
        "format": 1,
        "quantization": quantization,
        "class_names": list(many.class_names),
        "size_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "latency_ms": latency_ms(one, references[0].images[:1]),
        "num_threads": 1,
        "validation": validation,
        "synthetic_faces": synthetic,
        "quantization_details": many.metadata.get("quantization_details", {}),
        "machine": machine(),
        "versions": versions(),
    }


def _score(predictor: Predictor, reference: _Reference) -> dict[str, Any]:
    probabilities = predictor.predict(reference.images)
    scores: dict[str, Any] = {**reference.about, "num_images": len(reference.images)}
    if reference.labels is not None:
        result = evaluation.evaluate(reference.labels, probabilities, predictor.class_names)
        of_keras = evaluation.evaluate(reference.labels, reference.probabilities, predictor.class_names)
        paired = evaluation.compare(reference.labels, probabilities, reference.probabilities)
        scores |= {key: result[key] for key in ("accuracy", "accuracy_interval", "macro_f1")}
        scores["ece"] = result["calibration"]["ece"]
        scores |= {f"keras_{key}": of_keras[key] for key in ("accuracy", "macro_f1")}
        scores |= {key: paired[key] for key in ("difference", "difference_interval")}
    same = probabilities.argmax(axis=1) == reference.probabilities.argmax(axis=1)
    return {
        **scores,
        "agreement": float(np.mean(same)),
        "max_probability_difference": float(np.max(np.abs(probabilities - reference.probabilities))),
    }


def latency_ms(predictor: Predictor, image: np.ndarray) -> float:
    """Median time of one prediction, ms, after a few that are not counted.

    Args:
        predictor: a model opened with one thread.
        image: uint8 (1, 48, 48).
    """
    times = []
    for _ in range(_NUM_WARM_UP + _NUM_TIMED):
        start = time.perf_counter()
        predictor.predict(image)
        times.append(time.perf_counter() - start)
    return round(1e3 * float(np.median(times[_NUM_WARM_UP:])), 4)


def format_scorecard(scorecard: dict[str, Any]) -> str:
    """Return a scorecard in one line."""
    scores = scorecard["validation"]
    split = split_title("validation")
    return (
        f"{scorecard['quantization']}: {split} accuracy {scores['accuracy']:.2%} "
        f"(Keras {scores['keras_accuracy']:.2%}), "
        f"macro-F1 {scores['macro_f1']:.3f}, agreement {scores['agreement']:.2%}, "
        f"{scorecard['size_bytes'] / 1e6:.2f} MB, {scorecard['latency_ms']:.3f} ms"
    )


def format_tried(scorecard: dict[str, Any]) -> str:
    """Return the table of the files that `auto` tried; a star marks the chosen one."""
    lines = [
        f"  {'':12} {'accuracy':>9} {'difference, 95 % interval':>28} {'macro-F1':>9} {'ECE':>6} {'agreement':>10} "
        f"{'MB':>6} {'ms':>7}"
    ]
    for row in scorecard["tried"]:
        mark = "*" if row["quantization"] == scorecard["quantization"] else " "
        difference = points_with_interval(row)
        lines.append(
            f"{mark} {row['quantization']:12} {row['accuracy']:9.2%} {difference:>28} {row['macro_f1']:9.3f} "
            f"{row['ece']:6.3f} {row['agreement']:10.2%} {row['size_bytes'] / 1e6:6.2f} {row['latency_ms']:7.3f}"
            f"{'' if row['within_max_drop'] else '  may lose more than allowed'}"
        )
    lines.append(
        f"* the fastest file whose 95 % interval excludes a loss of more than {scorecard['max_drop']:g} points against "
        f"Keras on {split_title('validation')}"
    )
    return "\n".join(lines)


def sample_answers(model: Path) -> dict[str, Any]:
    """Return ten drawn faces and a model's answers.

    Args:
        model: a .tflite that fer_tf wrote.

    Returns:
        JSON-able: `model` (file name and SHA-256), `class_names`, `pixels_sha256` (digest of all pixels in the list's
        order, one byte each), and `crops`: `pixels`, 2,304 grey values in [0, 255], row by row, and `probabilities`.

    Raises:
        InputError: if the model breaks fer_tf's contract.
    """
    content = model.read_bytes()
    predictor = LiteRTPredictor(content, name=str(model), num_threads=1)
    crops = draw_faces(np.arange(_NUM_SAMPLES) % len(EMOTIONS), _SAMPLE_SEED)
    answers = predictor.predict(crops).round(6)
    return {
        "schema_version": SCHEMA_VERSION,
        "model": {"file": model.name, "sha256": hashlib.sha256(content).hexdigest()},
        "versions": {"ai-edge-litert": versions().get("ai-edge-litert")},
        "class_names": list(predictor.class_names),
        "side": IMAGE_SIZE,
        "pixels_sha256": hashlib.sha256(crops.tobytes()).hexdigest(),
        "crops": [
            {"pixels": crop.reshape(-1).tolist(), "probabilities": [round(float(value), 6) for value in row]}
            for crop, row in zip(crops, answers, strict=True)
        ],
    }


def write_release(released: Released, path: Path, scorecard_path: Path) -> None:
    """Write the file and its scorecard, both or neither."""
    with atomic_path(path) as file, atomic_path(scorecard_path) as card:
        file.write_bytes(released.data)
        card.write_text(json.dumps(released.scorecard, indent=2, allow_nan=False) + "\n")
