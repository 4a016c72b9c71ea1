"""Times this machine: decoding, input pipeline, training step, prediction and start-up; prints tables.

A .tflite is timed by the light install; the rest needs the `train` extra and is left out, with a line that says so,
where it is missing. Without --run or --model the model that ships with fer_tf is timed, where there is one. Whatever
else runs at the same time disturbs the figures: the load average before the start is printed with them.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_tf.benchmark.tables import FORMAT, QUIET_LOAD, feed_margin, head, left_out
from fer_tf.cli import run_command
from fer_tf.errors import InputError

if TYPE_CHECKING:
    from fer_tf.config import Config

PARTS = ("decode", "pipeline", "train", "latency", "startup")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--run", metavar="DIR", help="a run that train made: its settings and all its models")
    model.add_argument("--model", metavar="FILE", help="a .tflite or .keras that fer_tf wrote")
    parser.add_argument("--only", metavar="PART,PART", help=f"some of {', '.join(PARTS)}")
    parser.add_argument(
        "--image-sizes",
        metavar="N",
        type=int,
        nargs="+",
        default=[48, 64, 96, 112, 224],
        help="sides of the network's input, pixels (48 64 96 112 224)",
    )
    parser.add_argument("--batch-size", metavar="N", type=int, help="images a step (the run's; 32 without a run)")
    parser.add_argument(
        "--seconds", metavar="S", type=float, default=1.0, help="least time of each measurement (%(default)s)"
    )
    parser.add_argument("--output", metavar="FILE.json", help="write the figures to this file too")


def run(args: argparse.Namespace) -> int:
    """Measures the parts in turn and prints each as soon as it is known."""
    from fer_tf.artifacts import write_json
    from fer_tf.machine import load_average, machine, versions

    parts = _parts(args.only)
    config = _config(args)
    models = _models(args)
    missing = _missing(models)
    if args.only:
        for part in parts:
            if part in missing:
                raise InputError(f"--only {part}: {missing[part]}")
    if args.output:
        _check_output(Path(args.output))

    load = load_average()
    figures: dict[str, Any] = {
        "format": 1,
        "machine": machine(),
        "versions": versions(),
        "load_average": load,
        "disturbed": load is not None and load > QUIET_LOAD,
        "settings": {
            "image_sizes": args.image_sizes,
            "batch_size": config.batch_size,
            "seconds": args.seconds,
            "run": Path(args.run).name if args.run else None,
        },
        "left_out": {part: missing[part] for part in parts if part in missing},
    }
    print(head(figures), flush=True)
    if any(part in ("pipeline", "train") and part not in missing for part in parts):
        from fer_tf.machine import start_keras

        start_keras()
    for part in parts:
        if part not in missing:
            figures[part] = _MEASURE[part](args, config, models)
            print(f"\n{FORMAT[part](figures[part], figures)}", flush=True)
    if "pipeline" in figures and "train" in figures:
        print(f"\n{feed_margin(figures)}")
    if figures["left_out"]:
        print(f"\n{left_out(figures['left_out'])}")
    if args.output:
        write_json(args.output, figures)
        print(f"\nWrote {args.output}")
    return 0


def _parts(only: str | None) -> tuple[str, ...]:
    if only is None:
        return PARTS
    wanted = [name.strip() for name in only.split(",")]
    for name in wanted:
        if name not in PARTS:
            raise InputError(f"--only {only}: unknown part {name!r}; expected some of {', '.join(PARTS)}")
    return tuple(part for part in PARTS if part in wanted)


def _config(args: argparse.Namespace) -> Config:
    """The run's settings, or the training report's, with the batch size that was asked for."""
    import dataclasses

    from fer_tf.artifacts import RunDirectory
    from fer_tf.data.recorded import run_config
    from fer_tf.recipes import REPORT

    for size in args.image_sizes:
        if not 32 <= size <= 512:
            raise InputError(f"--image-sizes {size}: expected pixels from 32 to 512")
    if not (math.isfinite(args.seconds) and 0 < args.seconds <= 60):
        raise InputError(f"--seconds {args.seconds:g}: expected a time above 0, at most 60")
    config = run_config(RunDirectory.open(args.run)) if args.run else REPORT
    if args.batch_size is None:
        return config
    if not 1 <= args.batch_size <= 4096:
        raise InputError(f"--batch-size {args.batch_size}: expected images from 1 to 4096")
    return dataclasses.replace(config, batch_size=args.batch_size)


def _models(args: argparse.Namespace) -> list[Path]:
    """The .tflite files and the .keras to time, checked; none where there is none."""
    from fer_tf.artifacts import RunDirectory, read_metadata, shipped_model

    if args.model:
        models = [Path(args.model)]
        if models[0].suffix.lower() not in (".tflite", ".keras"):
            raise InputError(f"{args.model} is neither a .tflite nor a .keras file: give a model that fer_tf wrote")
    elif args.run:
        directory = RunDirectory.open(args.run)
        models = sorted(directory.path.glob(directory.tflite("*").name))
        models += [directory.model] if directory.model.is_file() else []
    else:
        try:
            models = [shipped_model(".tflite")]
        except InputError:
            models = []
    for path in models:
        read_metadata(path)
    return models


def _missing(models: Sequence[Path]) -> dict[str, str]:
    """The parts that cannot be measured here, each with the reason."""
    backend = _backend()
    needs_tensorflow = "needs Keras and TensorFlow: pip install 'fer_tf[train]'"
    needs_backend = needs_tensorflow if backend == "tensorflow" else f"needs Keras and its backend {backend}"
    missing: dict[str, str] = {}
    if not _installed("keras") or not _installed("tensorflow"):
        missing |= dict.fromkeys(("decode", "pipeline"), needs_tensorflow)
    elif backend != "tensorflow":
        missing |= dict.fromkeys(("decode", "pipeline"), f"tf.data's part, and KERAS_BACKEND is {backend}")
    if not _can_run_keras():
        missing["train"] = needs_backend
    if not _timed(models):
        missing["startup"] = needs_backend if models else "no model to time: name one by --model FILE or --run DIR"
        if not _can_run_keras():
            missing["latency"] = missing["startup"]
    return missing


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _backend() -> str:
    return os.environ.get("KERAS_BACKEND") or "tensorflow"


def _can_run_keras() -> bool:
    return _installed("keras") and _installed(_backend())


def _timed(models: Sequence[Path]) -> list[Path]:
    """The models that can be opened here."""
    return [path for path in models if path.suffix.lower() == ".tflite" or _can_run_keras()]


def _check_output(path: Path) -> None:
    """Refuses at once what could not be written after minutes of work."""
    existing = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"cannot write {path}: choose a file in a folder that can be written to")


def _decode(args: argparse.Namespace, config: Config, models: Sequence[Path]) -> dict[str, Any]:
    from fer_tf import benchmark

    return benchmark.decoding(seconds=args.seconds)


def _pipeline(args: argparse.Namespace, config: Config, models: Sequence[Path]) -> list[dict[str, Any]]:
    from fer_tf import benchmark

    batch_size = config.batch_size
    return [benchmark.pipeline(config, size, batch_size=batch_size, seconds=args.seconds) for size in args.image_sizes]


def _train(args: argparse.Namespace, config: Config, models: Sequence[Path]) -> list[dict[str, Any]]:
    from fer_tf import benchmark

    batch_size = config.batch_size
    return [
        benchmark.training_step(config, size, batch_size=batch_size, seconds=args.seconds) for size in args.image_sizes
    ]


def _latency(args: argparse.Namespace, config: Config, models: Sequence[Path]) -> list[dict[str, Any]]:
    from fer_tf import benchmark
    from fer_tf.artifacts import read_metadata

    rows = []
    of_keras: list[Path | None] = []
    image_size = config.image_size
    for path in models:
        if path.suffix.lower() == ".keras":
            of_keras.append(path)
            continue
        rows += benchmark.litert_latency(path, seconds=args.seconds)
        image_size = read_metadata(path).get("image_size", image_size)
    if _can_run_keras():
        for of_model in of_keras or [None]:
            rows += benchmark.keras_latency(
                of_model, image_size=image_size, batch_size=config.batch_size, seconds=args.seconds
            )
    return rows


def _startup(args: argparse.Namespace, config: Config, models: Sequence[Path]) -> list[dict[str, Any]]:
    from fer_tf import benchmark

    return [benchmark.startup(path, seconds=args.seconds) for path in _timed(models)]


_MEASURE: dict[str, Callable[..., Any]] = {
    "decode": _decode, "pipeline": _pipeline, "train": _train, "latency": _latency, "startup": _startup
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return run_command("benchmark", __doc__ or "", add_arguments, run, argv)
