"""Trains a classifier, evaluates it, exports it and writes the run's report."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import logging.handlers
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fer_tf.artifacts import (
    RunDirectory,
    new_run_path,
    read_json,
    write_json,
)
from fer_tf.cli import run_command
from fer_tf.commands.common import add_config_arguments, config_arguments, parse_classes
from fer_tf.config import Config, config_from_dict
from fer_tf.data.dataset import Dataset
from fer_tf.data.loading import load_data
from fer_tf.data.recorded import describe_data, public_description, run_config, run_data
from fer_tf.deploy.quantization import MODES
from fer_tf.errors import Diverged, InputError, os_error_text
from fer_tf.experiment import finish
from fer_tf.machine import commit, machine, start_keras, versions
from fer_tf.recipes import RECIPES, recipe
from fer_tf.task import SPLITS
from fer_tf.text import duration

logger = logging.getLogger(__name__)

_MAX_LOG_BYTES = 4 << 20  # then log.txt becomes log.txt.1 and begins anew: some 20,000 epochs


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
    if args.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ModuleNotFoundError("No module named 'tensorboard'", name="tensorboard")
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
            command = shlex.join(["fer-tf", "train", *(sys.argv[1:] if args.argv is None else args.argv)])
            write_json(folder.data, {**about, "quantization": args.quantization, "command": command})
        handler = logging.handlers.RotatingFileHandler(
            folder.log, maxBytes=_MAX_LOG_BYTES, backupCount=1, encoding="utf-8"
        )
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
        except Exception as error:
            if not args.resume and not folder.has_state():
                shutil.rmtree(folder.path, ignore_errors=True)  # nothing was trained: leave nothing behind
            elif isinstance(error, (InputError, OSError)) and not isinstance(error, Diverged) and folder.has_state():
                said = os_error_text(error) if isinstance(error, OSError) else str(error)
                raise InputError(f"{said}; {_how_to_go_on(folder)}") from error
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
    print(f"fer-tf train: stopped; {_how_to_go_on(folder)}", file=sys.stderr)
    return 143 if isinstance(stop, _Terminated) else 130


def _how_to_go_on(folder: RunDirectory) -> str:
    from fer_tf.training.checkpoint import TrainState

    state = TrainState.load(folder)
    kept = f"phase {state.phase}, epoch {state.epoch} is kept" if state else "no epoch was finished yet"
    return f"{kept}; go on with: fer-tf train --resume {shlex.quote(str(folder.path))}"


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
        from fer_tf.data import tf_pipeline as feed
    else:
        from fer_tf.data import jax_pipeline as feed  # type: ignore[no-redef]
    begin = time.monotonic()
    dataset = feed.decode(dataset)
    if config.drop_copies:
        dataset = _without_copies(dataset)
    taught = _teach(config, folder, dataset)
    model, state = training.train(config, folder, dataset, feed, taught=taught, tensorboard=args.tensorboard)
    metrics = {
        "command": read_json(folder.data).get("command"),
        "commit": commit(),
        "machine": machine(),
        "backend": keras.backend.backend(),
        "versions": versions(),
        "data": public_description(dataset),
        "best": state.best,
        "seconds": round(sum(row["seconds"] for row in state.history), 1),
    }
    finish(folder, config, dataset, model, metrics, feed=feed, quantizations=args.quantization)
    logger.info("done in %s", duration(time.monotonic() - begin))


def _without_copies(dataset: Dataset) -> Dataset:
    """The data without training images whose exact pixels stand in validation or test."""
    assert dataset.images is not None
    held_out = {image.tobytes() for image in dataset.images[dataset.split != "train"]}
    copy = np.array([image.tobytes() in held_out for image in dataset.images]) & (dataset.split == "train")
    logger.info("left out %d training images that are copies of validation or test images", int(copy.sum()))
    return dataset.rows(~copy)


def _teach(config: Config, folder: RunDirectory, dataset: Dataset) -> np.ndarray | None:
    """Mean probabilities of the teachers for every training image, over the image and its mirror image.

    None without teachers, and where no epoch is left that would need them.
    """
    from fer_tf.training.checkpoint import TrainState
    from fer_tf.training.loop import is_over

    if not config.teachers or is_over(config, TrainState.load(folder)):
        return None
    from fer_tf.inference.opening import open_model

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


def main(argv: Sequence[str] | None = None) -> int:
    def run_with_argv(args: argparse.Namespace) -> int:
        args.argv = argv
        return run(args)

    return run_command("train", __doc__ or "", add_arguments, run_with_argv, argv)
