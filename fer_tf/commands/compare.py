"""Puts runs side by side: settings that differ, epochs, time, best epoch, scores; draws their curves in one picture.

An unfinished run shows its results so far. To learn if two models differ by more than chance, use `evaluate --run DIR
--against FILE`, which pairs the models' answers image by image.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fer_tf.cli import run_command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders that `train` made, two or more")
    parser.add_argument("--output", metavar="FILE.png", help="draw the curves into this file")


def run(args: argparse.Namespace) -> int:
    """Print the table, and write the picture if an output is given."""
    from fer_tf.report.comparison import format_table, read_runs, write_plot

    runs = read_runs(args.runs)
    if args.output:
        write_plot(runs, args.output)
    print(format_table(runs))
    if args.output:
        print(f"Wrote {args.output}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("compare", __doc__ or "", add_arguments, run, argv)
