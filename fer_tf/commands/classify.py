"""Classifies the faces of many pictures: a folder, Parquet files or WebDataset tars, written as Parquet parts.

SOURCE and DESTINATION are local paths or addresses of fsspec (such as s3://bucket/faces, which needs the package that
fsspec names). In Parquet the pictures are encoded files or 2,304 grey values; the usual names of the column are tried.
Each part is written whole or not at all: after a kill, the same command makes the missing parts. A picture that cannot
be read becomes a row with its error. The columns: key, the columns of --keep, face, box, face_score, probabilities,
top, prediction_set (for --coverage, or 0.9; null if the model has no thresholds), error, and answer (with --coverage or
--min-score).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fer_tf.cli import run_command
from fer_tf.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", metavar="SOURCE", help="folder of pictures, .parquet, .tar, or a folder of these")
    parser.add_argument("destination", metavar="DESTINATION", help="folder for the Parquet parts")
    parser.add_argument(
        "--model", metavar="FILE|fast", help="a .tflite, .keras or .onnx, or fast: the small shipped model"
    )
    parser.add_argument("--column", metavar="NAME", help="column of the pictures in Parquet files")
    parser.add_argument("--key", metavar="NAME", help="column of the keys in Parquet files (default: file and row)")
    parser.add_argument(
        "--keep",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="columns to copy to the rows; in tars: suffixes of members, such as cls",
    )
    parser.add_argument("--faces", choices=("auto", "detect", "whole"), default="auto", help="as in predict (auto)")
    parser.add_argument(
        "--coverage",
        type=float,
        metavar="X",
        help="coverage of prediction sets and answers, as in predict: 0.8, 0.9 or 0.95",
    )
    parser.add_argument(
        "--min-score", type=float, metavar="X", help="answer `uncertain` if the highest score is below this, 0 to 1"
    )
    parser.add_argument("--rows-per-part", type=int, default=10_000, metavar="N", help="pictures a part (%(default)s)")
    parser.add_argument(
        "--shard", default="0/1", metavar="I/N", help="make only every Nth part, starting at part I (%(default)s)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="pictures at a time (default: one a core, 8 at most)")
    ray = parser.add_argument_group("many machines (extra `ray`)")
    ray.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="in this process, or on Ray (%(default)s)"
    )
    ray.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="address of a Ray cluster (default: RAY_ADDRESS, or else one on this machine)",
    )
    ray.add_argument(
        "--actors", type=int, metavar="N", help="processes that classify (default: all free CPUs but one in 16)"
    )


def run(args: argparse.Namespace) -> int:
    """Classify; print the counts and the keys of the pictures that could not be read."""
    from fer_tf.batch import classify
    from fer_tf.batch.parts import describe

    answers = {name: getattr(args, name) for name in ("coverage", "min_score") if getattr(args, name) is not None}
    summary = classify(
        args.source,
        args.destination,
        model=args.model,
        column=args.column,
        key=args.key,
        keep=args.keep,
        shard=_shard(args.shard),
        rows_per_part=args.rows_per_part,
        num_threads=args.threads,
        engine=args.engine,
        address=args.address,
        num_actors=args.actors,
        faces=args.faces,
        **answers,
    )
    print("\n".join(describe(summary)))
    return 0


def _shard(text: str) -> tuple[int, int]:
    index, _, number = text.partition("/")
    if not (index.isdecimal() and number.isdecimal()):
        raise InputError(f"--shard {text}: expected two numbers, such as 0/4 for the first of four")
    return int(index), int(number)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("classify", __doc__ or "", add_arguments, run, argv)
