"""One training run from its settings to its report: train, calibrate, save once, score, export, report.

Training, evaluation, inference and export do not know one another; they meet here. Python users and the command
`train` call the same functions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import logging
import logging.handlers
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_tf.artifacts import (
    SCHEMA_VERSION,
    RunDirectory,
    atomic_path,
    check_schema_version,
    read_json,
    save_keras,
    write_bytes,
    write_json,
    write_text,
)
from fer_tf.config import Config
from fer_tf.data.dataset import Dataset
from fer_tf.data.folds import images_digest, without_fold
from fer_tf.data.recorded import describe_data, public_description, run_config, run_data
from fer_tf.errors import InputError
from fer_tf.machine import commit, machine, start_keras, versions
from fer_tf.task import SPLITS, split_title
from fer_tf.text import duration

if TYPE_CHECKING:
    import keras

    from fer_tf.inference import Predictor
    from fer_tf.training.checkpoint import TrainState

logger = logging.getLogger(__name__)

DEFAULT_QUANTIZATIONS = ("float32",)
_MAX_LOG_BYTES = 4 << 20  # some 20,000 epochs; then log.txt is renamed to log.txt.1 and a new one begins
_NUM_ERRORS_SHOWN = 24
_LINEAR_BASELINE_IMAGES = 8000  # a logistic regression on more pixels takes longer than the demo itself


@dataclasses.dataclass(frozen=True)
class ExperimentResult:
    """The results of a run.

    Attributes:
        run: the run's folder, with the path of each file.
        metrics: the contents of metrics.json.
        report_text: per-class tables and confusion matrices of the Keras model, as in report.txt.
        synthetic: True if the faces were drawn by a program.
    """

    run: RunDirectory
    metrics: dict[str, Any]
    report_text: str
    synthetic: bool

    @property
    def splits(self) -> list[str]:
        """The splits that were scored."""
        return list(self.metrics["keras"])

    def scores(self, key: str) -> dict[str, float]:
        """Return one figure of the Keras model, such as `accuracy` or `macro_f1`, for each split."""
        return {split: found[key] for split, found in self.metrics["keras"].items()}

    def files(self) -> list[Path]:
        """Return every file of the run."""
        return self.run.files()

    def summary(self) -> str:
        """Return a line for each file and split, and a line for each baseline."""
        kind = "synthetic " if self.synthetic else ""
        scored = [(self.run.model.name, self.metrics["keras"])]
        scored += [(self.run.tflite(name).name, found) for name, found in self.metrics["tflite"].items()]
        lines = [
            f"{name}: {kind}{split_title(split)} accuracy {found[split]['accuracy']:.2%}, "
            f"macro-F1 {found[split]['macro_f1']:.3f}"
            for name, found in scored
            for split in self.splits
        ]
        lines += [
            f"baseline, {name}: {kind}{self.splits[-1]} accuracy {accuracy:.2%}"
            for name, accuracy in self.metrics.get("baselines", {}).items()
        ]
        return "\n".join(lines)


def run_experiment(
    config: Config,
    dataset: Dataset,
    run: str | Path,
    *,
    recipe: str = "custom",
    quantizations: Sequence[str] = DEFAULT_QUANTIZATIONS,
    tensorboard: bool = False,
    devices: int | str = 1,
    command: str | None = None,
) -> ExperimentResult:
    """Train a classifier in a new folder, calibrate it, score it on every split, export it, and write its report.

    A stopped run keeps its last finished epoch; `resume_experiment` continues from there with bit-identical results.

    Args:
        config: the settings; `fer_tf.RECIPES` has named ones.
        dataset: with the splits train and validation.
        run: the folder to make.
        recipe: the name of the settings in the report.
        quantizations: the .tflite files to write, members of `deploy.quantization.MODES`; needs TensorFlow.
        tensorboard: True to write TensorBoard's files too.
        devices: number of devices that share each step, or `all`; more than one needs Keras on JAX.
        command: the command line that led to this call, for the report.

    Returns:
        The figures and the paths of the files.

    Raises:
        InputError: if the folder exists or cannot be written to, the weights or the data cannot be used for training,
            or a device is missing. A folder in which no epoch was finished is removed again.
        Diverged: when the loss becomes NaN or infinite.

    Example:
        >>> import fer_tf
        >>> dataset = fer_tf.load_dataset(limit=64)  # the drawn faces that come with fer_tf
        >>> config = fer_tf.Config(weights="none", image_size=32, epochs=1)
        >>> result = fer_tf.run_experiment(config, dataset, "runs/first", quantizations=())
        >>> sorted(result.scores("accuracy"))
        ['test', 'validation']
    """
    start_keras()
    found = _devices(devices, config)
    folder = RunDirectory.create(run)
    with folder.locked():
        write_json(folder.config, {"recipe": recipe, **config.to_dict()})
        about = {**describe_data(dataset), "quantization": list(quantizations), "devices": devices, "command": command}
        write_json(folder.data, about)
        try:
            return _run(folder, recipe, config, dataset, quantizations, tensorboard, found)
        except Exception:
            if not folder.has_state():
                shutil.rmtree(folder.path, ignore_errors=True)  # nothing was trained: leave nothing behind
            raise


def resume_experiment(
    run: str | Path,
    *,
    dataset: Dataset | None = None,
    data: str | Path | None = None,
    quantizations: Sequence[str] | None = None,
    tensorboard: bool = False,
    devices: int | str | None = None,
) -> ExperimentResult:
    """Continue a run from its last finished epoch; score, export and report a finished run again.

    Args:
        run: the folder of the run.
        dataset: the run's data, for a run whose data was made in memory.
        data: where the run's data is now, if it has moved.
        quantizations: the .tflite files to write; the choice at the start of the run if None.
        tensorboard: True to write TensorBoard's files too.
        devices: as for `run_experiment`; the choice at the start of the run if None. Another number of devices changes
            the figures by rounding only.

    Returns:
        The figures and the paths of the files.

    Raises:
        InputError: if there is no such run, its data has changed, its state cannot be read, or a device is missing.
        Diverged: when the loss becomes NaN or infinite.
    """
    folder = RunDirectory.open(run)
    config = run_config(folder)
    dataset = run_data(folder, config, None if data is None else str(data), same=True) if dataset is None else dataset
    if quantizations is None:
        quantizations = read_json(folder.data).get("quantization", DEFAULT_QUANTIZATIONS)
    start_keras()
    if devices is None:
        devices = read_json(folder.data).get("devices", 1)
    found = _devices(devices, config)
    with folder.locked():
        recipe = str(read_json(folder.config).get("recipe", "custom"))
        return _run(folder, recipe, config, dataset, quantizations, tensorboard, found)


def run_seeds(
    num_seeds: int, config: Config, dataset: Dataset, run: str | Path, **settings: Any
) -> tuple[list[ExperimentResult], dict[str, Any]]:
    """Call `run_experiment` with several seeds, each in a folder of its own inside `run`.

    Args:
        num_seeds: at least 2; the seeds are config.seed, config.seed + 1, ...
        config: the settings of all runs; only the seed differs between them.
        dataset: with the splits train and validation.
        run: the folder to make, or the folder of an interrupted call: finished runs are kept, the others continue.
        settings: further arguments of `run_experiment`.

    Returns:
        The results, and the contents of seeds.json: for each split, the mean, the sample standard deviation and the
        values of accuracy and macro-F1 over the seeds.

    Raises:
        InputError: for fewer than two seeds, or a folder with runs of other settings.
    """
    if num_seeds < 2:
        raise InputError(f"{num_seeds} seeds: expected 2 or more, for a mean and a standard deviation")
    parent = RunDirectory(run)
    seeds = range(config.seed, config.seed + num_seeds)
    for seed in seeds:
        folder = parent.of_seed(seed)
        if folder.config.is_file() and run_config(folder) != dataclasses.replace(config, seed=seed):
            raise InputError(f"{folder.path} holds a run of other settings: choose another --run")
    results: list[ExperimentResult] = []
    for seed in seeds:
        logger.info("seed %d, %d of %d", seed, len(results) + 1, num_seeds)
        folder = parent.of_seed(seed)
        if folder.metrics.is_file():
            results.append(read_result(folder))
        elif folder.config.is_file():
            results.append(resume_experiment(folder.path, dataset=dataset, devices=settings.get("devices")))
        else:
            of_seed = dataclasses.replace(config, seed=seed)
            results.append(run_experiment(of_seed, dataset, folder.path, **settings))
    summary: dict[str, Any] = {"seeds": list(seeds), "splits": {}}
    for split in results[0].splits:
        summary["splits"][split] = {}
        for key in ("accuracy", "macro_f1"):
            values = [result.scores(key)[split] for result in results]
            spread = {"mean": float(np.mean(values)), "standard_deviation": float(np.std(values, ddof=1))}
            summary["splits"][split][key] = {**spread, "values": values}
    write_json(parent.seeds, summary)
    return results, summary


def read_result(run: RunDirectory) -> ExperimentResult:
    """Read the result of a finished run.

    Raises:
        InputError: if the run has no metrics, or they cannot be read.
    """
    metrics = read_json(run.metrics)
    check_schema_version(metrics, str(run.metrics))
    text = run.report_text.read_text(encoding="utf-8") if run.report_text.is_file() else ""
    return ExperimentResult(run, metrics, text, bool(metrics["data"]["synthetic"]))


def _run(
    folder: RunDirectory,
    recipe: str,
    config: Config,
    dataset: Dataset,
    quantizations: Sequence[str],
    tensorboard: bool,
    devices: Sequence[str],
) -> ExperimentResult:
    with _logged(folder):
        counts = [f"{split} {np.sum(dataset.split == split):,}" for split in SPLITS if dataset.has(split)]
        drawn = " (synthetic)" if dataset.synthetic and "synthetic" not in dataset.source else ""
        logger.info("run %s: recipe %s, %s%s, %s", folder.path, recipe, dataset.source, drawn, ", ".join(counts))
        begin = time.monotonic()
        dataset = _input_pipeline().decode(dataset)
        if config.drop_copies:
            dataset = _without_copies(dataset)
        if config.fold:
            dataset = without_fold(dataset, config.fold, config.seed)
        model, state = _train(folder, config, dataset, tensorboard, devices)
        result = _finish(folder, config, dataset, model, state, quantizations, len(devices))
        logger.info("done in %s", duration(time.monotonic() - begin))
    return result


@contextlib.contextmanager
def _logged(folder: RunDirectory) -> Iterator[None]:
    """Copy fer_tf's log messages to the run's log.txt."""
    handler = logging.handlers.RotatingFileHandler(folder.log, maxBytes=_MAX_LOG_BYTES, backupCount=1, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    package = logging.getLogger("fer_tf")
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)
        handler.close()


def _input_pipeline() -> Any:
    """Return the input pipeline that fits Keras's backend, as a module."""
    import keras

    if keras.backend.backend() == "tensorflow":
        from fer_tf.data import tf_pipeline

        return tf_pipeline
    from fer_tf.data import jax_pipeline

    return jax_pipeline


# --- Training ---


def _devices(devices: int | str, config: Config) -> list[str]:
    from fer_tf import training

    found = training.find_devices(devices, config.batch_size)
    if len(found) > 1:
        logger.info("each step is shared by %d devices: %s", len(found), ", ".join(found))
    return found


def _train(
    folder: RunDirectory, config: Config, dataset: Dataset, tensorboard: bool, devices: Sequence[str]
) -> tuple[keras.Model, TrainState]:
    from fer_tf import training

    if tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ModuleNotFoundError("No module named 'tensorboard'", name="tensorboard")
    teacher_probabilities = None
    if config.teachers and not training.is_over(config, training.TrainState.load(folder)):
        if config.teacher_views:
            teacher_probabilities = _predict_views_with_teachers(config, dataset)
        else:
            teacher_probabilities = _predict_with_teachers(config.teachers, dataset)
    return training.train(
        config,
        folder,
        dataset,
        _input_pipeline(),
        teacher_probabilities=teacher_probabilities,
        tensorboard=tensorboard,
        devices=devices,
    )


def _without_copies(dataset: Dataset) -> Dataset:
    """Leave out training images whose exact pixels also occur in validation or test."""
    assert dataset.images is not None
    held_out = {image.tobytes() for image in dataset.images[dataset.split != "train"]}
    copy = np.array([image.tobytes() in held_out for image in dataset.images]) & (dataset.split == "train")
    logger.info("left out %d training images that are copies of validation or test images", int(copy.sum()))
    return dataset.rows(~copy)


def _predict_with_teachers(teachers: Sequence[str], dataset: Dataset) -> np.ndarray:
    """Mean probabilities of the teachers for each training image, over the image and its mirror image.

    If the teachers are models of folds, only the model that has not seen an image scores it.
    """
    images = dataset.take("train").images
    assert images is not None
    predictors, rows = _open_teachers(teachers, dataset)
    total = np.zeros((len(images), dataset.num_classes))
    for teacher, predictor, own in zip(teachers, predictors, rows, strict=True):
        logger.info("teacher %s scores %d training images", teacher, own.sum())
        faces = images[own]
        total[own] += predictor.predict(faces) + predictor.predict(np.ascontiguousarray(faces[:, :, ::-1]))
    return total / (2 * rows.sum(axis=0)[:, None])


def _predict_views_with_teachers(config: Config, dataset: Dataset) -> np.ndarray:
    """Mean probabilities of the teachers for each view: (views, train rows, classes), in the order of `plan_view`."""
    from fer_tf.data.augmentation import view_images

    images = dataset.take("train").images
    assert images is not None
    predictors, rows = _open_teachers(config.teachers, dataset)
    if not rows.all():
        raise InputError(
            f"teacher_views {config.teacher_views} with models of folds: a view mixes images of several folds; set "
            "teacher_views 0"
        )
    views = []
    for view in range(config.teacher_views):
        logger.info("teachers score view %d of %d of the training images", view + 1, config.teacher_views)
        faces = view_images(config, images, view)
        views.append(np.mean([predictor.predict(faces) for predictor in predictors], axis=0))
    return np.stack(views)


def _open_teachers(teachers: Sequence[str], dataset: Dataset) -> tuple[list[Predictor], np.ndarray]:
    """Open the teachers, and choose the training images that each scores: bool (teachers, train rows)."""
    from fer_tf.inference import open_model
    from fer_tf.training.targets import taught_rows

    predictors = []
    for teacher in teachers:
        path = Path(teacher)
        predictor = open_model(RunDirectory(path).model if path.is_dir() else path)
        predictors.append(predictor)
        if tuple(predictor.class_names) != dataset.class_names:
            raise InputError(
                f"teacher {teacher} knows the classes {', '.join(predictor.class_names)}, the data has "
                f"{', '.join(dataset.class_names)}: give a teacher of the same classes"
            )
    metadata = [(teacher, predictor.metadata) for teacher, predictor in zip(teachers, predictors, strict=True)]
    return predictors, taught_rows(metadata, dataset.take("train"))


# --- From the trained weights to the report ---


def _finish(
    folder: RunDirectory,
    config: Config,
    dataset: Dataset,
    model: keras.Model,
    state: TrainState,
    quantizations: Sequence[str],
    num_devices: int,
) -> ExperimentResult:
    """Calibrate, save, score and export the model, and write the report."""
    import keras

    from fer_tf import evaluation
    from fer_tf.data.audit import image_hashes
    from fer_tf.report.writing import write_audit, write_report

    train_images = dataset.take("train").images
    assert train_images is not None
    hashes = sorted(set(image_hashes(train_images)))
    write_text(folder.train_hashes, "\n".join(hashes) + "\n")
    metrics: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "command": read_json(folder.data).get("command"),
        "commit": commit(),
        "machine": machine(),
        "backend": keras.backend.backend(),
        "devices": num_devices,
        "versions": versions(),
        "data": public_description(dataset),
        "best": state.best,
        "seconds": round(sum(row["seconds"] for row in state.history), 1),
    }
    predictor = _calibrate(folder, config, dataset, model, metrics, hashes)
    metrics["model_evaluate"] = _model_evaluate(config, dataset, model)
    scored = {split: dataset.take(split) for split in SPLITS[1:] if dataset.has(split)}
    if "test" not in scored:
        logger.info("%s has no test split: the figures are those of the selection split", dataset.source)

    def score(predictor: Predictor, split: str) -> tuple[dict[str, Any], np.ndarray]:
        part = scored[split]
        assert part.images is not None
        probabilities = predictor.predict(part.images)
        settings: dict[str, Any] = {
            "train_hashes": hashes,
            "temperature": metrics["temperature"],
            "seed": config.seed,
            "thresholds": evaluation.read_thresholds(predictor.metadata),
        }
        return evaluation.score_split(probabilities, part, split, **settings), probabilities

    metrics["keras"], texts = {}, []
    for split, part in scored.items():
        metrics["keras"][split], probabilities = score(predictor, split)
        texts.append(evaluation.format_split(metrics["keras"][split], part, split, folder.model.name))
    report_text = "\n\n".join(texts) + "\n"
    write_text(folder.report_text, report_text)
    _write_answers(folder, part, probabilities, split)  # of the last split: test, where there is one
    if dataset.synthetic:
        metrics["baselines"] = _baselines(dataset)
        _write_examples(folder, part)
    metrics["tflite"] = {
        name: {split: score(of_file, split)[0] for split in scored}
        for name, of_file in _export(quantizations, folder, config, dataset, model, predictor)
    }
    write_json(folder.metrics, metrics)
    write_audit(dataset, folder)
    write_report(folder)
    return ExperimentResult(folder, metrics, report_text, dataset.synthetic)


def _calibrate(
    folder: RunDirectory,
    config: Config,
    dataset: Dataset,
    model: keras.Model,
    metrics: dict[str, Any],
    train_hashes: Sequence[str],
) -> Predictor:
    """Fold the temperature into the model, save it with its thresholds, and add the temperature to the metrics.

    Only this function writes model.keras, so a run that is killed leaves a calibrated model or none.
    """
    from fer_tf import evaluation
    from fer_tf.data.audit import among
    from fer_tf.deploy.licences import MODEL_LICENSE
    from fer_tf.inference import KerasPredictor
    from fer_tf.model import fold_temperature

    metadata = {
        "schema_version": SCHEMA_VERSION,
        "class_names": list(dataset.class_names),
        "image_size": config.image_size,
        "synthetic": dataset.synthetic,
        "temperature": 1.0,
        "prediction_sets": None,
        "crop": dataset.crop,
        "config": {name: value for name, value in config.to_dict().items() if name not in ("weights", "teachers")},
        **{name: metrics[name] for name in ("data", "versions", "commit", "best")},
        "license": MODEL_LICENSE,
    }
    train, validation = dataset.take("train"), dataset.take("validation")
    assert train.images is not None and validation.images is not None
    if config.fold:  # as a teacher, the model must say which images it has not seen
        metadata["train_sha256"] = images_digest(train.images)
    uncalibrated = KerasPredictor(model, metadata).predict(validation.images)
    metrics["temperature"] = metadata["temperature"] = evaluation.fit_temperature(validation.labels, uncalibrated)
    if len(validation) >= 4:
        metrics["calibration"] = evaluation.calibration_check(validation.labels, uncalibrated, seed=config.seed)
    fold_temperature(model, metrics["temperature"])
    metadata["prediction_sets"] = evaluation.fit_prediction_sets(
        validation.labels,
        evaluation.apply_temperature(uncalibrated, metrics["temperature"]),
        among(validation.images, train_hashes),
    )
    save_keras(model, folder.model, metadata)
    return KerasPredictor(model, metadata)


def _model_evaluate(config: Config, dataset: Dataset, model: keras.Model) -> dict[str, Any]:
    """Return Keras's own loss and accuracy on each split."""
    import keras

    from fer_tf.training.targets import one_hot

    pipeline = _input_pipeline()
    trainer = pipeline.fit_model(model, config.image_size)
    trainer.compile(loss=keras.losses.CategoricalCrossentropy(), metrics=["accuracy"])
    results = {}
    for split in SPLITS:
        if not dataset.has(split):
            continue
        part = dataset.take(split)
        targets = one_hot(part.labels, dataset.num_classes)
        batches = {"batch_size": config.batch_size, "image_size": config.image_size}
        data = pipeline.make_eval_dataset(part.images, targets, **batches)
        loss, accuracy = trainer.evaluate(data, verbose=0)
        results[split] = {"loss": float(loss), "accuracy": float(accuracy)}
        logger.info("model.evaluate on %s: loss %.4f, accuracy %.4f", split_title(split), loss, accuracy)
    return results


def _write_answers(folder: RunDirectory, part: Dataset, probabilities: np.ndarray, split: str) -> None:
    """Draw right and wrong answers of each class, and the wrong answers with the highest scores."""
    from fer_tf import evaluation
    from fer_tf.report import plots

    assert part.images is not None
    names, top = part.class_names, probabilities.argmax(axis=1)
    title = f"{'synthetic ' if part.synthetic else ''}{split_title(split)}"
    figure = plots.plot_example_answers(part.images, part.labels, probabilities, names, title=title)
    write_bytes(folder.figure("example_answers"), plots.to_png(figure))
    wrong = evaluation.most_confident_errors(part.labels, probabilities, count=_NUM_ERRORS_SHOWN)
    if not len(wrong):
        return
    captions = [
        f"{names[part.labels[row]]}, taken for {names[top[row]]} {100 * probabilities[row].max():.0f} %"
        for row in wrong
    ]
    figure = plots.plot_contact_sheet(part.images[wrong], captions, title=f"Most confident errors, {title}")
    write_bytes(folder.figure("confident_errors"), plots.to_png(figure))


def _write_examples(folder: RunDirectory, part: Dataset) -> None:
    """Write one drawn face of each class, as input for a first call of predict."""
    from PIL import Image

    assert part.images is not None
    for label, name in enumerate(part.class_names):
        rows = np.flatnonzero(part.labels == label)
        if len(rows):
            with atomic_path(folder.example(name)) as temporary:
                Image.fromarray(part.images[rows[0]]).save(temporary)


def _baselines(dataset: Dataset) -> dict[str, float]:
    """Accuracy of the majority class and of a linear model on pixels, on the test split, or else on validation."""
    from fer_tf import evaluation

    train, held_out = dataset.take("train"), dataset.take("test" if dataset.has("test") else "validation")
    assert train.images is not None and held_out.images is not None
    found = {"majority class": evaluation.majority_baseline(train.labels, held_out.labels)}
    if len(train) <= _LINEAR_BASELINE_IMAGES:
        found["linear model on pixels"] = evaluation.linear_baseline(
            train.images, train.labels, held_out.images, held_out.labels
        )
    return found


def _export(
    quantizations: Sequence[str],
    folder: RunDirectory,
    config: Config,
    dataset: Dataset,
    model: keras.Model,
    predictor: Predictor,
) -> Iterator[tuple[str, Predictor]]:
    """Write each .tflite with its scorecard; yield its quantization and the opened file."""
    import keras

    from fer_tf.inference import open_model

    if quantizations and keras.backend.backend() != "tensorflow":
        logger.info(
            "no .tflite: conversion needs Keras on TensorFlow; there, run fer-tf export_tflite --run %s", folder.path
        )
        return
    for quantization in quantizations:
        from fer_tf.deploy import release

        released = release.release(model, quantization, keras_predictor=predictor, dataset=dataset, seed=config.seed)
        path = folder.tflite(released.quantization)
        release.write_release(released, path, folder.scorecard(released.quantization))
        yield released.quantization, open_model(path)
