"""Writes a trained run's model as a .tflite, scored against the Keras model, with its scorecard beside it.

`auto` exports every quantization and keeps the fastest file whose 95 % interval excludes a loss of more than --max-drop
points of validation accuracy against the Keras model. The file takes grey uint8 pixels, gives probabilities, and
carries its labels.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from fer_tf.cli import run_command
from fer_tf.deploy.quantization import AUTO, MODES
from fer_tf.task import INPUTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--run", metavar="DIR", required=True, help="a run that train made")
    parser.add_argument("--quantization", metavar="MODE", default=AUTO, help=f"{', '.join(MODES)} (%(default)s)")
    parser.add_argument("--data", metavar="PATH", help="data to calibrate and score with (default: the run's own data)")
    parser.add_argument(
        "--num-calibration", metavar="N", type=int, default=256, help="training images for calibration (%(default)s)"
    )
    parser.add_argument(
        "--max-drop",
        metavar="X",
        type=float,
        default=0.5,
        help="largest loss of validation accuracy against Keras, in points (%(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="write the file even if it loses more")
    parser.add_argument(
        "--input",
        dest="colour",
        choices=INPUTS,
        default="grey",
        help="pixels that the file takes: grey (1, 48, 48, 1), or rgb (1, 48, 48, 3) for MediaPipe's ImageClassifier "
        "(%(default)s)",
    )
    parser.add_argument("--output", metavar="FILE", help="the .tflite to write (default: in the run's folder)")


def run(args: argparse.Namespace) -> int:
    """Export; print the scores of the exported files."""
    os.environ["KERAS_BACKEND"] = "tensorflow"  # only TensorFlow converts, and it reads any .keras
    from fer_tf.deploy import release

    exported = release.export_tflite(
        args.run,
        args.quantization,
        data=args.data,
        num_calibration=args.num_calibration,
        max_drop=args.max_drop,
        force=args.force,
        colour=args.colour,
        output=args.output,
    )
    if args.quantization == AUTO:
        print(release.format_tried(exported.scorecard))
    print(release.format_scorecard(exported.scorecard))
    print(f"Wrote {exported.path} and {exported.scorecard_path}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("export_tflite", __doc__ or "", add_arguments, run, argv)
