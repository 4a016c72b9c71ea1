"""Packs a run into a folder to publish: the model files, figures, report, model card, sample answers, checksums.

The folder contains no paths of this machine and no pictures of the data's faces.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fer_tf.artifacts import RunDirectory
from fer_tf.cli import run_command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--run", metavar="DIR", required=True, help="a finished run that export_tflite has exported")
    parser.add_argument("--output", metavar="DIR", required=True, help="the folder to make")
    parser.add_argument(
        "--no-keras",
        action="store_true",
        help="leave out model.keras: the folder can predict, but training cannot start from it",
    )


def run(args: argparse.Namespace) -> int:
    """Pack; print the files with their sizes."""
    directory = RunDirectory.open(args.run)

    from fer_tf.deploy.bundle import ship

    for path in ship(directory, Path(args.output), with_keras=not args.no_keras):
        print(f"{path.stat().st_size / 1e6:8.2f} MB  {path}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("ship", __doc__ or "", add_arguments, run, argv)
