"""What `train` does once the weights are found: calibrates, saves, scores, exports, reports."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_tf.artifacts import RunDirectory, atomic_path, save_keras, write_bytes, write_json, write_text
from fer_tf.config import Config
from fer_tf.data.dataset import Dataset
from fer_tf.deploy.model_card import MODEL_LICENSE
from fer_tf.task import SPLITS, split_title

if TYPE_CHECKING:
    import keras

    from fer_tf.inference.predictor import Predictor

logger = logging.getLogger(__name__)

_ERRORS_SHOWN = 24
_LINEAR_BASELINE_IMAGES = 8000  # a logistic regression on more pixels takes longer than the demo itself


def finish(
    folder: RunDirectory,
    config: Config,
    dataset: Dataset,
    model: keras.Model,
    metrics: dict[str, Any],
    *,
    feed: Any,
    quantizations: Sequence[str],
) -> None:
    """Calibrates, saves, evaluates, exports and reports the trained model.

    Args:
        folder: the run's.
        config: the run's.
        dataset: decoded.
        model: with the weights that won; its head's are divided by the temperature here.
        metrics: what metrics.json says of the training; the figures are added to it.
        feed: `data.pipeline` or `data.in_step`.
        quantizations: the .tflite files to write.
    """
    from fer_tf import evaluation
    from fer_tf.data.audit import image_hashes
    from fer_tf.evaluation.scoring import format_split, score_split
    from fer_tf.inference.opening import open_model
    from fer_tf.model.network import fold_temperature
    from fer_tf.report import plots
    from fer_tf.report.writing import write_audit, write_report

    train_split, validation = dataset.take("train"), dataset.take("validation")
    assert train_split.images is not None and validation.images is not None
    hashes = sorted(set(image_hashes(train_split.images)))
    write_text(folder.train_hashes, "\n".join(hashes) + "\n")
    metadata = {
        "format": 1,
        "class_names": list(dataset.class_names),
        "image_size": config.image_size,
        "synthetic": dataset.synthetic,
        "temperature": 1.0,
        "config": {name: value for name, value in config.to_dict().items() if name not in ("weights", "teachers")},
        **{name: metrics[name] for name in ("data", "versions", "commit", "best")},
        "license": MODEL_LICENSE,
    }
    save_keras(model, folder.model, metadata)
    uncalibrated = open_model(folder.model).predict(validation.images)
    metrics["temperature"] = metadata["temperature"] = evaluation.fit_temperature(validation.labels, uncalibrated)
    if len(validation) >= 4:
        metrics["calibration"] = evaluation.calibration_check(validation.labels, uncalibrated, seed=config.seed)
    fold_temperature(model, metrics["temperature"])
    save_keras(model, folder.model, metadata)

    metrics["model_evaluate"] = _model_evaluate(config, dataset, model, feed)
    scored = {split: dataset.take(split) for split in SPLITS[1:] if dataset.has(split)}
    if "test" not in scored:
        logger.info("%s has no test split: the figures are those of the selection split", dataset.source)

    def score(predictor: Predictor, split: str) -> tuple[dict[str, Any], np.ndarray]:
        part = scored[split]
        assert part.images is not None
        probabilities = predictor.predict(part.images)
        return (
            score_split(
                probabilities,
                part,
                split,
                train_hashes=hashes,
                temperature=metrics["temperature"],
                seed=config.seed,
            ),
            probabilities,
        )

    predictor = open_model(folder.model)
    metrics["keras"], texts = {}, []
    for split, part in scored.items():
        metrics["keras"][split], probabilities = score(predictor, split)
        texts.append(format_split(metrics["keras"][split], part, split, folder.model.name))
        wrong = evaluation.most_confident_errors(part.labels, probabilities, count=_ERRORS_SHOWN)
        if len(wrong):  # of the last split, test where there is one
            figure = _sheet_of_errors(plots, part, probabilities, wrong, split_title(split))
            write_bytes(folder.figure("confident_errors"), plots.to_png(figure))
    write_text(folder.report_text, "\n\n".join(texts) + "\n")
    print("\n\n".join(texts))
    if dataset.synthetic:
        metrics["baselines"] = _baselines(dataset)
        _write_examples(folder, part)
    metrics["tflite"] = {}
    for name in _export(quantizations, folder, config, dataset, model, predictor):
        of_file = open_model(folder.tflite(name))
        metrics["tflite"][name] = {split: score(of_file, split)[0] for split in scored}
    write_json(folder.metrics, metrics)
    _print_summary(folder, metrics, dataset, list(scored))
    write_audit(dataset, folder)
    write_report(folder)


def _write_examples(folder: RunDirectory, part: Dataset) -> None:
    """One drawn face of each class, so that there is something to call predict on."""
    from PIL import Image

    assert part.images is not None
    for label, name in enumerate(part.class_names):
        rows = np.flatnonzero(part.labels == label)
        if len(rows):
            with atomic_path(folder.example(name)) as temporary:
                Image.fromarray(part.images[rows[0]]).save(temporary)


def _sheet_of_errors(plots: Any, part: Dataset, probabilities: np.ndarray, wrong: np.ndarray, title: str) -> Any:
    captions = [
        f"{part.class_names[part.labels[row]]}, taken for {part.class_names[probabilities[row].argmax()]} "
        f"{100 * probabilities[row].max():.0f} %"
        for row in wrong
    ]
    assert part.images is not None
    kind = "synthetic " if part.synthetic else ""
    return plots.plot_contact_sheet(part.images[wrong], captions, title=f"Most confident errors, {kind}{title}")


def _print_summary(folder: RunDirectory, metrics: dict[str, Any], dataset: Dataset, splits: list[str]) -> None:
    from fer_tf.task import split_title

    kind = "synthetic " if dataset.synthetic else ""
    rows = [(folder.model, metrics["keras"])]
    rows += [(folder.tflite(name), of_file) for name, of_file in metrics["tflite"].items()]
    print()
    for path, of_file in rows:
        for split in splits:
            found = of_file[split]
            print(
                f"{path.name}: {kind}{split_title(split)} accuracy {found['accuracy']:.2%}, "
                f"macro-F1 {found['macro_f1']:.3f}"
            )
    for name, accuracy in metrics.get("baselines", {}).items():
        print(f"baseline, {name}: {kind}{splits[-1]} accuracy {accuracy:.2%}")


def _model_evaluate(config: Config, dataset: Dataset, model: keras.Model, feed: Any) -> dict[str, Any]:
    """Keras's own loss and accuracy on each split."""
    import keras

    from fer_tf.task import split_title
    from fer_tf.training.targets import one_hot

    trainer = feed.fit_model(model, config.image_size)
    trainer.compile(loss=keras.losses.CategoricalCrossentropy(), metrics=["accuracy"])
    results = {}
    for split in SPLITS:
        if not dataset.has(split):
            continue
        part = dataset.take(split)
        data = feed.make_eval_dataset(
            part.images,
            one_hot(part.labels, dataset.num_classes),
            batch_size=config.batch_size,
            image_size=config.image_size,
        )
        loss, accuracy = trainer.evaluate(data, verbose=0)
        results[split] = {"loss": float(loss), "accuracy": float(accuracy)}
        logger.info("model.evaluate on %s: loss %.4f, accuracy %.4f", split_title(split), loss, accuracy)
    return results


def _baselines(dataset: Dataset) -> dict[str, float]:
    """What the majority class and a linear model on pixels reach on the test split (else validation)."""
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
) -> list[str]:
    """Writes the .tflite files that were asked for, each with its scorecard; the names of their quantizations."""
    import keras

    if not quantizations:
        return []
    if keras.backend.backend() != "tensorflow":
        logger.info(
            "no .tflite: conversion needs Keras on TensorFlow; there: fer-tf export_tflite --run %s", folder.path
        )
        return []
    from fer_tf.deploy import release

    written = []
    for quantization in quantizations:
        released = release.release(model, quantization, keras_predictor=predictor, dataset=dataset, seed=config.seed)
        release.write_release(released, folder.tflite(released.quantization), folder.scorecard(released.quantization))
        written.append(released.quantization)
    return written
