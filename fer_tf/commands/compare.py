"""Puts runs side by side: settings that differ, epochs, time, best epoch, scores; and their curves in one picture.

A run that is under way or was stopped shows what it has. Whether two models differ by more than chance is told by
`evaluate --run DIR --against FILE`, which pairs their answers image by image.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fer_tf.cli import run_command
from fer_tf.errors import InputError
from fer_tf.report.comparison import format_table, plot_runs, read_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders that `train` made, two or more")
    parser.add_argument("--output", metavar="FILE.png", help="draw the curves into this file")


def run(args: argparse.Namespace) -> int:
    """Prints the table and writes the picture where one was asked for."""
    if args.output and Path(args.output).suffix.lower() != ".png":
        raise InputError(f"--output {args.output}: expected a name that ends in .png")
    runs = read_runs(args.runs)
    print(format_table(runs))
    if args.output:
        if not any(one.history for one in runs):
            raise InputError("no run has finished an epoch yet: there are no curves to draw; leave out --output")
        from fer_tf.artifacts import write_bytes
        from fer_tf.report.plots import to_png

        write_bytes(args.output, to_png(plot_runs(runs)))
        print(f"Wrote {args.output}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return run_command("compare", __doc__ or "", add_arguments, run, argv)
