"""Writes the training report of a run (report.md and report.html) from the files in its folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fer_tf.artifacts import RunDirectory
from fer_tf.cli import run_command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--run", metavar="DIR", required=True, help="a folder that `train` made")
    parser.add_argument(
        "--faces",
        action=argparse.BooleanOptionalAction,
        help="show pictures of the data's faces, with right and wrong answers; use it only if you may show them "
        "(FER-2013 grants no such right). Without this flag, only drawn faces are shown",
    )


def run(args: argparse.Namespace) -> int:
    """Write both files and print their paths."""
    directory = RunDirectory.open(args.run)
    directory.check_open()

    from fer_tf.report.writing import write_report

    write_report(directory, faces=args.faces)
    print(f"wrote {directory.report_md}\nwrote {directory.report_html}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("report", __doc__, add_arguments, run, argv)
