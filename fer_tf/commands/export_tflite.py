"""Writes a trained run's model as a .tflite, scored against the Keras model, with its scorecard beside it.

`auto` exports every quantization and keeps the fastest whose accuracy on validation is surely not lower than the Keras
model's by more than --max-drop. The file takes grey uint8 pixels, gives probabilities, and carries its labels.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from fer_tf.artifacts import RunDirectory, read_metadata
from fer_tf.cli import run_command
from fer_tf.deploy.quantization import AUTO, MODES
from fer_tf.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--run", metavar="DIR", required=True, help="a run that train made")
    parser.add_argument("--quantization", metavar="MODE", default=AUTO, help=f"{', '.join(MODES)} (%(default)s)")
    parser.add_argument("--data", metavar="PATH", help="data to calibrate and score with; the run's own without")
    parser.add_argument(
        "--num-calibration", metavar="N", type=int, default=256, help="training images for calibration (%(default)s)"
    )
    parser.add_argument(
        "--max-drop",
        metavar="X",
        type=float,
        default=0.5,
        help="points of validation accuracy that may be lost against Keras (%(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="write the file even where it loses more")
    parser.add_argument("--output", metavar="FILE", help="the .tflite to write; in the run's folder without")


def run(args: argparse.Namespace) -> int:
    """Exports, scores, and writes file and scorecard."""
    if args.quantization not in MODES:
        raise InputError(f"unknown quantization {args.quantization!r}: expected one of {', '.join(MODES)}")
    if not 0 <= args.max_drop <= 100:
        raise InputError(f"--max-drop {args.max_drop:g}: expected points of accuracy from 0 to 100")
    directory = RunDirectory.open(args.run)
    metadata = read_metadata(directory.model)
    output = Path(args.output) if args.output else None
    if output is None:
        directory.check_open()
    _check_output(output or directory.tflite(args.quantization))

    from fer_tf.data.recorded import run_config, run_data

    dataset = run_data(directory, run_config(directory), args.data).decoded()
    if tuple(metadata["class_names"]) != dataset.class_names:
        raise InputError(
            f"{directory.model} knows {', '.join(metadata['class_names'])}, the data has "
            f"{', '.join(dataset.class_names)}: give the run's own data"
        )
    os.environ["KERAS_BACKEND"] = "tensorflow"  # only it converts; a .keras is the same on each
    from fer_tf.deploy import release
    from fer_tf.inference.opening import open_model
    from fer_tf.model.weights import load_classifier

    released = release.release(
        load_classifier(directory.model),
        args.quantization,
        keras_predictor=open_model(directory.model),
        dataset=dataset,
        num_calibration=args.num_calibration,
        max_drop=args.max_drop,
    )
    if args.quantization == AUTO:
        print(release.format_tried(released.scorecard))
    if released.drop > args.max_drop and not args.force:
        raise InputError(
            f"{released.quantization} loses {released.drop:.2f} points of accuracy against Keras on the selection "
            f"split, more than --max-drop {args.max_drop:g}: choose --quantization {AUTO}, or write it all the same "
            "by --force"
        )
    path = output or directory.tflite(released.quantization)
    scorecard_path = output.with_suffix(".json") if output else directory.scorecard(released.quantization)
    release.write_release(released, path, scorecard_path)
    print(release.format_scorecard(released.scorecard))
    print(f"Wrote {path} and {scorecard_path}")
    return 0


def _check_output(path: Path) -> None:
    """Refuses at once what could not be written after a minute's work."""
    if path.suffix != ".tflite":
        raise InputError(f"--output {path}: expected a name that ends in .tflite")
    existing = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"cannot write {path}: choose a file in a folder that can be written to")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return run_command("export_tflite", __doc__ or "", add_arguments, run, argv)
