"""Times this machine: decoding, input pipeline, training step, prediction and start-up; prints tables.

The light install times a .tflite; the other parts need the `train` extra. A part that cannot be measured here is left
out, and a line gives the reason. Without --run or --model, the model that ships with fer_tf is timed, if there is one.
Other running programs disturb the figures, so the load average before the start is printed with them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fer_tf.benchmark.plan import PARTS, make_plan
from fer_tf.benchmark.tables import FORMAT, feed_margin, head, left_out
from fer_tf.cli import run_command


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
    parser.add_argument("--batch-size", metavar="N", type=int, help="images a step (the run's; 32 without a run)")
    parser.add_argument(
        "--seconds", metavar="S", type=float, default=1.0, help="least time of each measurement (%(default)s)"
    )
    parser.add_argument("--output", metavar="FILE.json", help="write the figures to this file too")


def run(args: argparse.Namespace) -> int:
    """Measure the parts in turn; print each as soon as it is measured."""
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("benchmark", __doc__ or "", add_arguments, run, argv)
