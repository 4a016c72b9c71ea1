"""Writes a trained run's model as float32 .onnx, scored by ONNX Runtime against the Keras model, with its scorecard.

The file takes grey uint8 pixels (batch, 48, 48, 1), gives probabilities (batch, classes), and carries its classes and
licence. It needs the extras `train` and `onnx`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from fer_tf.cli import run_command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--run", metavar="DIR", required=True, help="a run that train made")
    parser.add_argument("--data", metavar="PATH", help="data to score with (default: the run's own data)")
    parser.add_argument("--output", metavar="FILE", help="the .onnx to write (default: in the run's folder)")


def run(args: argparse.Namespace) -> int:
    """Export; print the scores of the file."""
    os.environ["KERAS_BACKEND"] = "tensorflow"  # only TensorFlow converts, and it reads any .keras
    from fer_tf.deploy import release

    exported = release.export_onnx(args.run, data=args.data, output=args.output)
    print(release.format_scorecard(exported.scorecard))
    print(f"Wrote {exported.path} and {exported.scorecard_path}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("export_onnx", __doc__ or "", add_arguments, run, argv)
