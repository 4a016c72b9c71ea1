"""Audits a data set: class balance, grey values, blank images, exact and near duplicates, conflicting labels."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fer_tf.cli import run_command
from fer_tf.commands.common import add_reading_arguments, parse_classes, reading_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="a FER-2013 csv (plain, .gz, .xz or .zip), a folder of class folders, a csv of paths and labels, Parquet, "
        "or a .npz (default: the embedded synthetic faces)",
    )
    parser.add_argument(
        "--classes", type=parse_classes, metavar="A,B,...", help="keep these classes, numbered in this order"
    )
    add_reading_arguments(parser)
    parser.add_argument("--output", metavar="DIR", help="also write the findings as JSON and the figures here")


def run(args: argparse.Namespace) -> int:
    """Print the findings; write them if an output folder is given."""
    from fer_tf.data.audit import audit, audit_text
    from fer_tf.data.loading import load_dataset

    dataset = load_dataset(args.data, classes=args.classes, **reading_arguments(args), training=False)
    if args.output is None:
        print(audit_text(audit(dataset)), end="")
        return 0

    from fer_tf.artifacts import RunDirectory
    from fer_tf.report.writing import write_audit

    folder = RunDirectory(args.output)
    print(audit_text(write_audit(dataset, folder)))
    for path in (folder.audit, *map(folder.figure, ("class_balance", "mean_faces", "contact_sheet"))):
        print(f"wrote {path}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("explore", __doc__, add_arguments, run, argv)
