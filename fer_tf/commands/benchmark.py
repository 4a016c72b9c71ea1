"""Times this machine: decoding, input pipeline, training step, prediction and start-up; prints tables.

The light install times a .tflite; the other parts need the `train` extra. A part that cannot be measured here is left
out, and a line gives the reason. Without --run or --model, the shipped model is timed, if there is one. Other running
programs disturb the figures, so the command also prints the load average before the start.

With --against, the command instead times another project's .tflite beside ours, and scores both on --data.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fer_tf.benchmark.plan import PARTS, Plan, make_plan
from fer_tf.benchmark.tables import FORMAT, against, feed_margin, head, left_out
from fer_tf.cli import run_command
from fer_tf.commands.common import parse_classes
from fer_tf.errors import InputError
from fer_tf.task import SELECTION_SPLIT, SPLITS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--run", metavar="DIR", help="a run that train made: its settings and all its models")
    model.add_argument("--model", metavar="FILE", help="a .tflite or .keras that fer_tf wrote")
    parser.add_argument("--only", metavar="PART,PART", help=f"some of {', '.join(PARTS)}")
    parser.add_argument(
        "--image-sizes",
        metavar="N",
        type=int,
        nargs="+",
        default=[48, 64, 96, 112, 224],
        help="sides of the network's input, pixels (48 64 96 112 224)",
    )
    parser.add_argument("--batch-size", metavar="N", type=int, help="images a step (the run's, or 32 without a run)")
    parser.add_argument(
        "--seconds", metavar="S", type=float, default=1.0, help="least time of each measurement (%(default)s)"
    )
    parser.add_argument("--output", metavar="FILE.json", help="write the figures to this file too")
    other = parser.add_argument_group("another project's classifier")
    other.add_argument("--against", metavar="FILE.tflite", help="a .tflite that takes one square grey or RGB face")
    parser._negative_number_matcher = re.compile(r"-\d")  # so that -1,1 is read as a value, not as a flag
    other.add_argument(
        "--against-range", metavar="LOW,HIGH", help="values of black and white in its input: 0,1 | -1,1 | 0,255"
    )
    other.add_argument(
        "--against-classes", metavar="A,B,...", type=parse_classes, help="its classes, in the order of its output"
    )
    other.add_argument("--data", metavar="PATH", help="score both on this data: csv, npz or folder")
    other.add_argument(
        "--split", choices=SPLITS, default=SELECTION_SPLIT, help="the split of --data to score (%(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Measure the parts in turn and print each at once."""
    from fer_tf.artifacts import check_writable, write_json

    plan = make_plan(
        run=args.run,
        model=args.model,
        only=args.only,
        image_sizes=args.image_sizes,
        batch_size=args.batch_size,
        seconds=args.seconds,
    )
    if args.output:
        check_writable(args.output)
    if args.against:
        figures = _against(args, plan)
        if args.output:
            write_json(args.output, figures)
            print(f"\nWrote {args.output}")
        return 0
    for flag in ("against_range", "against_classes", "data"):
        if getattr(args, flag):
            raise InputError(f"--{flag.replace('_', '-')} belongs to --against FILE.tflite: name the other model too")
    figures = plan.describe()
    print(head(figures), flush=True)
    for part, found in plan.measure():
        figures[part] = found
        print(f"\n{FORMAT[part](found, figures)}", flush=True)
    if "pipeline" in figures and "train" in figures:
        print(f"\n{feed_margin(figures)}")
    if figures["left_out"]:
        print(f"\n{left_out(figures['left_out'])}")
    if args.output:
        write_json(args.output, figures)
        print(f"\nWrote {args.output}")
    return 0


def _against(args: argparse.Namespace, plan: Plan) -> dict[str, Any]:
    """Compare another project's classifier with our files, print the tables, and return the figures."""
    from fer_tf.artifacts import read_metadata
    from fer_tf.benchmark.against import ForeignClassifier, latencies, scores

    if args.only:
        raise InputError(f"--only {args.only} with --against: a comparison has no parts; leave out one of the two")
    if args.against_range is None or args.against_classes is None:
        raise InputError("--against needs --against-range 0,1 | -1,1 | 0,255 and --against-classes A,B,... too")
    ours = [path for path in plan.models if path.suffix.lower() == ".tflite"]
    if not ours:
        raise InputError("no .tflite of fer_tf to compare with: name one with --model FILE or --run DIR")
    foreign = ForeignClassifier(Path(args.against), args.against_range, args.against_classes)
    foreign.labels_in(read_metadata(ours[0])["class_names"])
    part = None
    if args.data:
        from fer_tf.data.loading import load_dataset
        from fer_tf.scoring import as_test_set

        part = as_test_set(load_dataset(args.data, training=False)).take(args.split).decoded()
    figures = {**plan.describe(), "left_out": {}}
    figures["settings"] |= {"against_range": args.against_range, "against_classes": args.against_classes}
    print(head(figures), flush=True)
    rows = latencies(foreign, ours, seconds=plan.seconds)
    if part is not None:
        assert part.images is not None
        found = scores(foreign, ours, part.images, part.labels, part.class_names)
        rows = [{**row, **score} for row, score in zip(rows, found, strict=True)]
        figures["settings"] |= {"data": Path(args.data).name, "split": args.split}
    figures["against"] = rows
    print(f"\n{against(rows, args.split)}")
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("benchmark", __doc__ or "", add_arguments, run, argv)
