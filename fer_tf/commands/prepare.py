"""Checks a data set in any readable form and writes it as one .npz, which loads faster than a csv or a folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fer_tf.cli import run_command
from fer_tf.commands.common import add_reading_arguments, reading_arguments
from fer_tf.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "input",
        metavar="IN",
        help="fer2013.csv, icml_face_data.csv or train.csv (plain, .gz, .xz or .zip), a folder train/ test/ with one "
        "folder of images per class, a csv of paths and labels, Parquet files of the Hugging Face Hub, or a .npz",
    )
    parser.add_argument("output", metavar="OUT.npz", help="the file to write; replaces an existing file")
    parser.add_argument("--classes", metavar="A,B,C", help="keep only these classes, numbered in this order")
    add_reading_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Load, check and write the data; print the number of images of each class and split."""
    from fer_tf.data.loading import load_dataset, save_npz
    from fer_tf.task import SPLITS

    output = Path(args.output)
    if output.suffix.lower() != ".npz":
        raise InputError(f"{output}: expected a file name that ends in .npz")
    if output.is_dir():
        raise InputError(f"{output}: a folder; expected the name of the .npz file to write")
    classes = args.classes.split(",") if args.classes is not None else None
    dataset = load_dataset(args.input, classes=classes, **reading_arguments(args))
    save_npz(dataset, output)

    width = max(map(len, (*dataset.class_names, "class")))
    print(f"{output}{' (synthetic)' if dataset.synthetic else ''}")
    print(f"{'class':{width}}" + "".join(f"{split:>12}" for split in SPLITS))
    counts = [dataset.counts(split) for split in SPLITS]
    for label, name in enumerate(dataset.class_names):
        print(f"{name:{width}}" + "".join(f"{count[label]:12,}" for count in counts))
    print(f"{'all':{width}}" + "".join(f"{count.sum():12,}" for count in counts))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("prepare", __doc__, add_arguments, run, argv)
