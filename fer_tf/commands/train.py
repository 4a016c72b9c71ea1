"""Trains a classifier, evaluates it, exports it and writes the run's report."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fer_tf.artifacts import RunDirectory, new_run_path, read_json
from fer_tf.cli import run_command
from fer_tf.commands.common import (
    add_config_arguments,
    add_reading_arguments,
    config_arguments,
    parse_classes,
    reading_arguments,
)
from fer_tf.config import Config, config_from_dict
from fer_tf.data.loading import load_dataset
from fer_tf.deploy.quantization import MODES
from fer_tf.errors import Diverged, InputError, os_error_text
from fer_tf.experiment import DEFAULT_QUANTIZATIONS, ExperimentResult, resume_experiment, run_experiment, run_seeds
from fer_tf.recipes import RECIPES, recipe
from fer_tf.task import split_title


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.usage = "%(prog)s [--data PATH] [--recipe NAME] [--run DIR] [flags and settings below]"
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data", metavar="PATH", help="csv, Parquet, npz or folder; without it the embedded synthetic faces"
    )
    data.add_argument("--classes", type=parse_classes, metavar="A,B,...", help="keep these classes, in this order")
    add_reading_arguments(data)
    data.add_argument("--limit", type=int, default=0, metavar="N", help="use at most N images of each split")
    run = parser.add_argument_group("run")
    run.add_argument("--recipe", metavar="NAME", help=f"{', '.join(RECIPES)} (report with --data, else demo)")
    run.add_argument("--config", metavar="FILE", help="settings as JSON, as the config.json of a run")
    run.add_argument("--run", metavar="DIR", help="new folder for the run's files (runs/<recipe>)")
    run.add_argument("--resume", metavar="DIR", help="continue the run in this folder")
    run.add_argument(
        "--seeds", type=int, metavar="N", help="train N times, with seeds from --seed on; print mean and deviation"
    )
    run.add_argument("--quantization", nargs="*", choices=MODES, help=".tflite files to write at the end (float32)")
    run.add_argument(
        "--devices",
        type=_devices,
        metavar="all|N",
        help="devices that share each step (1, or as before with --resume); needs KERAS_BACKEND=jax",
    )
    run.add_argument("--tensorboard", action="store_true", help="write TensorBoard's files too")
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Train, and print the results."""
    signal.signal(signal.SIGTERM, _stop)
    if args.resume:
        _check_resume(args)
        folder = RunDirectory.open(args.resume)
        call = {"data": args.data, "quantizations": args.quantization, "tensorboard": args.tensorboard}
        call["devices"] = args.devices
        return _report(folder, lambda: resume_experiment(folder.path, **call))
    name, config = _settings(args)
    dataset = load_dataset(
        args.data,
        classes=args.classes,
        limit=args.limit,
        **reading_arguments(args),
        seed=config.seed,
        validation_fraction=config.validation_fraction,
    )
    command = shlex.join(["fer-tf", "train", *(sys.argv[1:] if args.argv is None else args.argv)])
    quantizations = DEFAULT_QUANTIZATIONS if args.quantization is None else args.quantization
    folder = RunDirectory(args.run or new_run_path("runs", name))

    settings = {
        "recipe": name,
        "quantizations": quantizations,
        "tensorboard": args.tensorboard,
        "devices": 1 if args.devices is None else args.devices,
        "command": command,
    }
    if args.seeds is None:
        return _report(folder, lambda: run_experiment(config, dataset, folder.path, **settings))
    try:
        _, summary = run_seeds(args.seeds, config, dataset, folder.path, **settings)
    except KeyboardInterrupt as stop:
        print(f"fer-tf train: stopped; continue with the same command and --run {folder.path}", file=sys.stderr)
        return _status(stop)
    for split, figures in summary["splits"].items():
        accuracy, macro_f1 = figures["accuracy"], figures["macro_f1"]
        print(
            f"{split_title(split)}, {args.seeds} seeds: accuracy {accuracy['mean']:.2%} +- "
            f"{accuracy['standard_deviation']:.2%}, macro-F1 {macro_f1['mean']:.3f} +- "
            f"{macro_f1['standard_deviation']:.3f} (mean and standard deviation)"
        )
    print(f"\nFiles:\n  {folder.seeds}")
    return 0


def _devices(text: str) -> int | str:
    if text != "all" and not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1, or all")
    return text if text == "all" else int(text)


def _report(folder: RunDirectory, experiment: Callable[[], ExperimentResult]) -> int:
    """Run the experiment; print the result, or after a stop, what was kept and how to continue."""
    try:
        result = experiment()
    except KeyboardInterrupt as stop:
        print(f"fer-tf train: stopped; {_resume_hint(folder)}", file=sys.stderr)
        return _status(stop)
    except (InputError, OSError) as error:
        if isinstance(error, Diverged) or not folder.has_state():
            raise
        message = os_error_text(error) if isinstance(error, OSError) else str(error)
        raise InputError(f"{message}; {_resume_hint(folder)}") from error
    print(f"{result.report_text}\n{result.summary()}\n\nFiles:")
    print("\n".join(f"  {path}" for path in result.files()))
    return 0


def _status(stop: KeyboardInterrupt) -> int:
    return 143 if isinstance(stop, _Terminated) else 130


class _Terminated(KeyboardInterrupt):
    """SIGTERM, treated like Ctrl-C."""


def _stop(number: int, frame: object) -> None:
    raise _Terminated


def _resume_hint(folder: RunDirectory) -> str:
    from fer_tf.training.checkpoint import TrainState

    state = TrainState.load(folder)
    kept = f"phase {state.phase}, epoch {state.epoch} is kept" if state else "no epoch was finished yet"
    return f"{kept}; continue with: fer-tf train --resume {shlex.quote(str(folder.path))}"


def _settings(args: argparse.Namespace) -> tuple[str, Config]:
    """Return the recipe's name and its settings, overridden by --config and then by the flags."""
    values = read_json(args.config) if args.config else {}
    name = args.recipe or str(values.pop("recipe", "") or ("report" if args.data else "demo"))
    values.pop("recipe", None)
    base = recipe(name) if name in RECIPES or args.recipe else Config()
    values = {**values, **config_arguments(args)}
    # Make paths absolute: a run may be resumed from another folder.
    if Path(str(values.get("weights", ""))).suffix:
        values["weights"] = str(Path(values["weights"]).resolve())
    for key in ("teachers", "average_with"):
        if key in values:
            values[key] = [str(Path(str(model)).resolve()) for model in values[key]]
    return name, config_from_dict(values, base)


def _check_resume(args: argparse.Namespace) -> None:
    """Refuse settings beside --resume."""
    settings = ("run", "recipe", "config", "classes", "limit", "seeds")
    names = (*settings, "class_names", "subjects", "skip_broken", "labels", "labels_as")
    given = ["--" + name.replace("_", "-") for name in names if getattr(args, name)]
    given += ["--" + field.replace("_", "-") for field in config_arguments(args)]
    if given:
        raise InputError(f"--resume uses the run's own settings: leave out {' '.join(given)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""

    def run_with_argv(args: argparse.Namespace) -> int:
        args.argv = argv
        return run(args)

    return run_command("train", __doc__ or "", add_arguments, run_with_argv, argv)
