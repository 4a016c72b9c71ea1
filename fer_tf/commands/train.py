"""Trains a classifier, evaluates it, exports it and writes the run's report."""

from __future__ import annotations

import argparse
import logging
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_tf.artifacts import (
    RunDirectory,
    atomic_path,
    new_run_path,
    read_json,
    save_keras,
    write_bytes,
    write_json,
    write_text,
)
from fer_tf.cli import run_command
from fer_tf.commands.common import (
    MODEL_LICENSE,
    commit,
    describe_data,
    load_data,
    parse_classes,
    public_description,
    run_config,
    run_data,
    start_keras,
)
from fer_tf.config import RECIPES, Config, add_config_arguments, config_arguments, config_from_dict, recipe
from fer_tf.data.dataset import SPLITS, Dataset
from fer_tf.errors import InputError
from fer_tf.machine import machine, versions
from fer_tf.quantization import MODES

if TYPE_CHECKING:
    import keras

    from fer_tf.inference import Predictor

logger = logging.getLogger(__name__)

_ERRORS_SHOWN = 24
_LINEAR_BASELINE_IMAGES = 8000  # a logistic regression on more pixels takes longer than the demo itself


def add_arguments(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument("--data", metavar="PATH", help="csv, npz or folder; without it the embedded synthetic faces")
    data.add_argument("--classes", type=parse_classes, metavar="A,B,...", help="keep these classes, in this order")
    data.add_argument("--limit", type=int, default=0, metavar="N", help="use at most N images of each split")
    run = parser.add_argument_group("run")
    run.add_argument("--recipe", metavar="NAME", help=f"{', '.join(RECIPES)} (report with --data, else demo)")
    run.add_argument("--config", metavar="FILE", help="settings as JSON, as the config.json of a run")
    run.add_argument("--run", metavar="DIR", help="new folder for the run's files (runs/<recipe>)")
    run.add_argument("--resume", metavar="DIR", help="go on with the run in this folder")
    run.add_argument(
        "--quantization",
        nargs="*",
        choices=MODES,
        help=".tflite files to write at the end (float32)",
    )
    run.add_argument("--tensorboard", action="store_true", help="write TensorBoard's files too")
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, _stop)
    if args.resume:
        folder, config, dataset = _resumed(args)
        name = str(read_json(folder.config).get("recipe", "custom"))
        if args.quantization is None:
            args.quantization = read_json(folder.data).get("quantization", ["float32"])
        start_keras()
    else:
        name, config = _settings(args)
        if args.quantization is None:
            args.quantization = ["float32"]
        dataset = load_data(args.data, config, classes=args.classes, limit=args.limit)
        start_keras()
        folder = RunDirectory.create(args.run or new_run_path("runs", name))
    with folder.locked():
        if not args.resume:
            write_json(folder.config, {"recipe": name, **config.to_dict()})
            about = describe_data(dataset, args.data, args.classes, args.limit)
            write_json(folder.data, {**about, "quantization": args.quantization})
        handler = logging.FileHandler(folder.log, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logging.getLogger("fer_tf").addHandler(handler)
        try:
            logger.info(
                "run %s: recipe %s, %s%s, %s",
                folder.path,
                name,
                dataset.source,
                "" if dataset.synthetic and "synthetic" in dataset.source else _marked(dataset),
                ", ".join(f"{split} {int(np.sum(dataset.split == split)):,}" for split in SPLITS if dataset.has(split)),
            )
            _train(args, folder, config, dataset)
        except KeyboardInterrupt as stop:
            return _say_stopped(folder, stop)
        except Exception:
            if not args.resume and not folder.state.exists():
                shutil.rmtree(folder.path, ignore_errors=True)  # nothing was trained: leave nothing behind
            raise
        finally:
            logging.getLogger("fer_tf").removeHandler(handler)
            handler.close()
    print("\n".join(["", "Files:", *(f"  {path}" for path in folder.files())]))
    return 0


def _marked(dataset: Dataset) -> str:
    return " (synthetic)" if dataset.synthetic else ""


class _Terminated(KeyboardInterrupt):
    """SIGTERM, treated as Ctrl-C is."""


def _stop(number: int, frame: object) -> None:
    raise _Terminated


def _say_stopped(folder: RunDirectory, stop: KeyboardInterrupt) -> int:
    from fer_tf.training import State

    state = State.load(folder)
    kept = f"phase {state.phase}, epoch {state.epoch} is kept" if state else "no epoch was finished yet"
    print(
        f"fer-tf train: stopped; {kept}; go on with: fer-tf train --resume {shlex.quote(str(folder.path))}",
        file=sys.stderr,
    )
    return 143 if isinstance(stop, _Terminated) else 130


def _settings(args: argparse.Namespace) -> tuple[str, Config]:
    values = read_json(args.config) if args.config else {}
    name = args.recipe or str(values.pop("recipe", "") or ("report" if args.data else "demo"))
    values.pop("recipe", None)
    base = recipe(name) if name in RECIPES or args.recipe else Config()
    values = {**values, **config_arguments(args)}
    # A run may be resumed from another folder.
    if Path(str(values.get("weights", ""))).suffix:
        values["weights"] = str(Path(values["weights"]).resolve())
    if "teachers" in values:
        values["teachers"] = [str(Path(str(teacher)).resolve()) for teacher in values["teachers"]]
    return name, config_from_dict(values, base)


def _resumed(args: argparse.Namespace) -> tuple[RunDirectory, Config, Dataset]:
    given = [
        flag for flag, value in (("--run", args.run), ("--recipe", args.recipe), ("--config", args.config)) if value
    ]
    given += [flag for flag, value in (("--classes", args.classes), ("--limit", args.limit)) if value]
    given += ["--" + field.replace("_", "-") for field in config_arguments(args)]
    if given:
        raise InputError(f"--resume goes on with the run's own settings: leave out {' '.join(given)}")
    folder = RunDirectory.open(args.resume)
    config = run_config(folder)
    return folder, config, run_data(folder, config, args.data, same=True)


def _train(args: argparse.Namespace, folder: RunDirectory, config: Config, dataset: Dataset) -> None:
    import keras

    from fer_tf import training

    if keras.backend.backend() == "tensorflow":
        from fer_tf.data import pipeline as feed
    else:
        from fer_tf.data import in_step as feed  # type: ignore[no-redef]
    begin = time.monotonic()
    dataset = feed.decode(dataset)
    if config.drop_copies:
        dataset = _without_copies(dataset)
    model, state = training.train(
        config, folder, dataset, feed, taught=_teach(config, dataset), tensorboard=args.tensorboard
    )
    metrics = {
        "command": shlex.join(["fer-tf", "train", *(sys.argv[1:] if args.argv is None else args.argv)]),
        "commit": commit(),
        "machine": machine(),
        "backend": keras.backend.backend(),
        "versions": versions(),
        "data": public_description(dataset),
        "best": state.best,
        "seconds": round(sum(row["seconds"] for row in state.history), 1),
    }
    _finish(args, folder, config, dataset, model, metrics, feed)
    logger.info("done in %s", training.duration(time.monotonic() - begin))


def _without_copies(dataset: Dataset) -> Dataset:
    """The data without training images whose exact pixels stand in validation or test."""
    assert dataset.images is not None
    held_out = {image.tobytes() for image in dataset.images[dataset.split != "train"]}
    copy = np.array([image.tobytes() in held_out for image in dataset.images]) & (dataset.split == "train")
    logger.info("left out %d training images that are copies of validation or test images", int(copy.sum()))
    return dataset.rows(~copy)


def _teach(config: Config, dataset: Dataset) -> np.ndarray | None:
    """Mean probabilities of the teachers for every training image, over the image and its mirror image."""
    if not config.teachers:
        return None
    from fer_tf.inference import open_model

    images = dataset.take("train").images
    assert images is not None
    total = np.zeros((len(images), dataset.num_classes))
    for teacher in config.teachers:
        path = Path(teacher)
        predictor = open_model(RunDirectory(path).model if path.is_dir() else path)
        if tuple(predictor.class_names) != dataset.class_names:
            raise InputError(
                f"teacher {teacher} knows the classes {', '.join(predictor.class_names)}, the data has "
                f"{', '.join(dataset.class_names)}: give a teacher of the same classes"
            )
        logger.info("teacher %s scores %d training images", teacher, len(images))
        total += predictor.predict(images) + predictor.predict(np.ascontiguousarray(images[:, :, ::-1]))
    return total / (2 * len(config.teachers))


def _finish(
    args: argparse.Namespace,
    folder: RunDirectory,
    config: Config,
    dataset: Dataset,
    model: keras.Model,
    metrics: dict[str, Any],
    feed: Any,
) -> None:
    """Calibrates, saves, evaluates, exports and reports the trained model."""
    from fer_tf import evaluation, plots
    from fer_tf.commands.evaluate import format_split, score_split
    from fer_tf.data.audit import image_hashes
    from fer_tf.inference import open_model
    from fer_tf.model import fold_temperature
    from fer_tf.report import write_audit, write_report

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
            figure = _sheet_of_errors(plots, part, probabilities, wrong, evaluation.split_title(split))
            write_bytes(folder.figure("confident_errors"), plots.to_png(figure))
    write_text(folder.report_text, "\n\n".join(texts) + "\n")
    print("\n\n".join(texts))
    if dataset.synthetic:
        metrics["baselines"] = _baselines(dataset)
        _write_examples(folder, part)
    metrics["tflite"] = {}
    for name in _export(args, folder, config, dataset, model, predictor):
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
        f"{probabilities[row].max():.0%}"
        for row in wrong
    ]
    assert part.images is not None
    kind = "synthetic " if part.synthetic else ""
    return plots.plot_contact_sheet(part.images[wrong], captions, title=f"Most confident errors, {kind}{title}")


def _print_summary(folder: RunDirectory, metrics: dict[str, Any], dataset: Dataset, splits: list[str]) -> None:
    from fer_tf.evaluation import split_title

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

    from fer_tf.training import one_hot

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
        logger.info("model.evaluate on %s: loss %.4f, accuracy %.4f", split, loss, accuracy)
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
    args: argparse.Namespace,
    folder: RunDirectory,
    config: Config,
    dataset: Dataset,
    model: keras.Model,
    predictor: Predictor,
) -> list[str]:
    """Writes the .tflite files that were asked for, each with its scorecard; the names of their quantizations."""
    import keras

    if not args.quantization:
        return []
    if keras.backend.backend() != "tensorflow":
        logger.info(
            "no .tflite: conversion needs Keras on TensorFlow; there: fer-tf export_tflite --run %s", folder.path
        )
        return []
    from fer_tf import release

    written = []
    for quantization in args.quantization:
        released = release.release(model, quantization, keras_predictor=predictor, dataset=dataset, seed=config.seed)
        release.write_release(released, folder.tflite(released.quantization), folder.scorecard(released.quantization))
        written.append(released.quantization)
    return written


def main(argv: Sequence[str] | None = None) -> int:
    def run_with_argv(args: argparse.Namespace) -> int:
        args.argv = argv
        return run(args)

    return run_command("train", __doc__ or "", add_arguments, run_with_argv, argv)
