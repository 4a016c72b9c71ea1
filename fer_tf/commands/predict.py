"""Ranks the emotions of every face in pictures, folders of pictures, videos, or a camera's picture.

The command prints a row for each face: its box (left, top, width, height in pixels) and its emotions with their
scores, the most likely first. A picture of at most 64x64 pixels is taken as a face. In larger pictures the command
looks for faces, which needs the extra `faces`. In videos each face keeps its number, and its scores are averaged over
time, exponentially with a time constant of 0.5 seconds. A camera or stream is watched until Ctrl-C.

exit status: 0: faces were found; 1: everything was read, but no face was found; 2: an input could not be read, or a
video ended early (all other inputs were still processed).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fer_tf.cli import run_command
from fer_tf.errors import InputError
from fer_tf.text import printable

if TYPE_CHECKING:
    from fer_tf.faces import FrameSource
    from fer_tf.recognition import Recognizer
    from fer_tf.report.timelines import Curves, Summary

# The order in which --run looks for a .tflite: the closest to the trained model first. `deploy.quantization` has
# another order, and importing it would import the converter's modules.
_QUANTIZATIONS = ("float32", "float16", "weight_int8", "dynamic", "int8_mixed", "int8")
_TABLE_TOP = 3
_PROGRESS_SECONDS = 2.0
_NUM_NAMED = 5  # files without a face that the last message lists
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="picture, folder, glob, video, address (rtsp://, http://, https://), or number of a camera",
    )
    model = parser.add_mutually_exclusive_group()
    model.add_argument(
        "--model", metavar="FILE|fast", help="a .tflite or .keras that fer_tf wrote, or fast: the small shipped model"
    )
    model.add_argument("--run", metavar="DIR", help="a run that train made: its .tflite, or its .keras")
    found = parser.add_argument_group("faces")
    found.add_argument(
        "--faces",
        choices=("auto", "detect", "whole"),
        default="auto",
        help="auto: a picture of at most 64x64 pixels is a face, larger ones are searched for faces; detect: look for "
        "faces in every picture; whole: each picture is one face (%(default)s)",
    )
    found.add_argument(
        "--no-detect", dest="faces", action="store_const", const="whole", help="the same as --faces whole"
    )
    found.add_argument(
        "--detect-side",
        type=int,
        metavar="N",
        help="reduce larger pictures to this longer side for the detector, pixels (1024); 640 is faster",
    )
    found.add_argument(
        "--min-face-score", type=float, metavar="X", help="leave out faces with a lower detector score (0.6)"
    )
    found.add_argument("--min-face-size", type=int, metavar="N", help="leave out faces smaller than this, pixels (16)")
    answer = parser.add_argument_group("answers")
    answer.add_argument(
        "--coverage",
        type=float,
        metavar="X",
        help="0.8, 0.9 or 0.95: name enough emotions, such as `sad or neutral`, to contain the label in this share of "
        "cases; this holds for data like the model's validation images; on other data the share may be lower",
    )
    answer.add_argument(
        "--min-score", type=float, metavar="X", help="answer `uncertain` if the highest score is below this, 0 to 1"
    )
    parser.add_argument(
        "--format", choices=("table", "json", "jsonl", "csv"), default="table", help="format of the rows (%(default)s)"
    )
    parser.add_argument(
        "--top", type=int, metavar="N", help=f"emotions a row (default: table {_TABLE_TOP}, others all)"
    )
    parser.add_argument(
        "--annotate", metavar="DIR", help="write pictures and videos (without sound) with boxes and labels into DIR"
    )
    parser.add_argument(
        "--every", type=float, default=0.0, metavar="SECONDS", help="look at one frame of a video per this many seconds"
    )
    parser.add_argument(
        "--summary",
        action="store_true",
        help="for a video: rows for each face and second, not for frames, and then shares of the whole time",
    )
    parser.add_argument("--plot", metavar="FILE.png", help="draw the scores of a video's faces over time")
    parser.add_argument("--threads", type=int, metavar="N", help="pictures at a time (default: one a core, 8 at most)")


def run(args: argparse.Namespace) -> int:
    """Open the model, go through the inputs, and print a row for each face."""
    from fer_tf.faces import FrameSource
    from fer_tf.faces.inputs import annotated_paths, find_inputs
    from fer_tf.faces.kinds import skipped_kinds
    from fer_tf.inference.predictor import default_num_threads
    from fer_tf.recognition import Recognizer
    from fer_tf.report.rows import Row
    from fer_tf.report.timelines import Curves, Summary

    if args.top is not None and args.top < 1:
        raise InputError(f"--top {args.top}: expected 1 or more")
    with_answer = args.coverage is not None or args.min_score is not None
    if with_answer and args.summary:
        raise InputError(
            "--summary gives means over time, not answers: leave out --summary, or --coverage and --min-score"
        )
    if not 0 <= args.every < math.inf:
        raise InputError(f"--every {args.every:g}: expected seconds, or 0 for every frame")
    num_threads = default_num_threads() if args.threads is None else args.threads
    names = ("detect_side", "min_face_score", "min_face_size", "coverage", "min_score")
    settings = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    model = _find_model(args.run) if args.run else args.model
    recognizer = Recognizer(model, faces=args.faces, num_threads=num_threads, **settings)
    if recognizer.metadata.get("synthetic"):
        _log.warning("This model learnt from drawn (synthetic) faces only: its scores mean nothing for photographs.")

    report = _Report(single=len(args.inputs) == 1)
    inputs = find_inputs(args.inputs)
    for problem in inputs.problems:
        report.skip(problem)
    if inputs.annotated:
        copies = "copy" if inputs.annotated == 1 else "copies"
        _log.info("left out %s annotated %s from earlier calls", f"{inputs.annotated:,}", copies)
    if inputs.skipped and inputs.files:
        _log.warning("left out files that are not pictures or videos: %s", skipped_kinds(inputs.skipped))
    files = [str(path) for path in inputs.files]
    sources: list[Path | int | str] = [*inputs.videos, *inputs.cameras]
    report.single = report.single and len(files) + len(inputs.cameras) == 1
    outputs: dict[Path | int | str, Path] = {}
    if args.annotate is not None:
        _make_folder(args.annotate)
        outputs = annotated_paths(args.annotate, inputs)
    top = args.top or (_TABLE_TOP if args.format == "table" else len(recognizer.class_names))
    if args.summary and inputs.pictures:
        raise InputError(f"--summary is for videos and cameras, not for pictures: {printable(str(inputs.pictures[0]))}")
    if args.plot:
        _check_plot(args.plot, len(sources))
    curves = Curves(recognizer.class_names) if args.plot else None
    with_time, num_pictures = bool(sources), len(inputs.pictures)

    def say(done: int, seconds: float) -> None:
        left = (num_pictures - done) * seconds / done
        rate = done / seconds
        _log.info("%s of %s pictures, %.1f/s, %.0f s left", f"{done:,}", f"{num_pictures:,}", rate, left)

    form: dict[str, Any] = {"with_time": with_time, "summary": args.summary, "with_answer": with_answer}
    with _printer(args.format, top, files, **form) as show:
        results = recognizer.recognize_files(inputs.pictures, annotated=outputs, num_threads=num_threads)
        for path, result in zip(inputs.pictures, _with_progress(results, say), strict=True):
            if isinstance(result, InputError):
                report.skip(result)
                continue
            for face in result:
                show(Row(str(path), face))
            report.done(str(path), len(result))
        for source in sources:
            try:
                frames = FrameSource(source, every=args.every)
                summary = Summary(frames.name, recognizer.class_names) if args.summary else None
                report.done(frames.name, _watch(frames, recognizer, outputs.get(source), show, summary, curves))
                if frames.problem:
                    report.incomplete(frames.problem)
            except InputError as error:
                report.skip(error)
    if curves and (drawn := curves.of_faces()):
        _write_plot(args.plot, drawn, recognizer.class_names, Path(frames.name).name)
    if any(outputs[source].is_file() for source in sources if source in outputs):
        _log.info("the annotated videos have no sound")
    return report.close()


def _find_model(directory: str) -> Path:
    from fer_tf.artifacts import RunDirectory

    found = RunDirectory.open(directory)
    for path in [*map(found.tflite, _QUANTIZATIONS), found.model]:
        if path.is_file():
            return path
    raise InputError(f"{directory} has no model yet: let train end, or name another --run")


def _make_folder(folder: str) -> None:
    from fer_tf.faces.kinds import PICTURE_SUFFIXES
    from fer_tf.faces.video import VIDEO_SUFFIXES

    path = Path(folder)
    if path.suffix.lower() in (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES) and not path.is_dir():
        raise InputError(
            f"--annotate {folder}: expected a folder, in which each copy is named after its picture, such as "
            f"photo-faces{path.suffix}; give --annotate {path.with_suffix('')}"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--annotate {folder}: {error.strerror}; name a folder that can be written to") from error


@contextlib.contextmanager
def _printer(
    form: str, top: int, names: Sequence[str], *, with_time: bool, summary: bool, with_answer: bool
) -> Iterator[Callable[[Any], None]]:
    """Return a function that prints a face, or a row of a summary, in a format; JSON is printed at the end."""
    from fer_tf.report import rows as of_faces
    from fer_tf.report import timelines

    rows: Any = timelines if summary else of_faces
    answers = {} if summary else {"with_answer": with_answer}

    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal may lack a letter of a name
        sys.stdout.reconfigure(errors="backslashreplace")
    if form == "json":
        found: list[dict[str, Any]] = []
        yield lambda row: found.append(rows.as_json(row, top, **answers))
        print(json.dumps(found, indent=2))
    elif form == "jsonl":
        yield rows.json_lines_writer(sys.stdout, top=top, **answers)
    elif form == "csv":
        yield rows.csv_writer(sys.stdout, top=top, **answers)
    else:
        yield rows.table_writer(sys.stdout, top=top, names=names, with_time=with_time, **answers)


def _watch(
    frames: FrameSource,
    recognizer: Recognizer,
    output: Path | None,
    show: Callable[[Any], None],
    summary: Summary | None,
    curves: Curves | None,
) -> int:
    """Show rows or a summary for the frames of a video or camera; return the number of different faces."""
    from fer_tf.report.rows import Row

    name = printable(frames.name)
    of_all = f" of {frames.duration:.0f}" if frames.duration and not frames.is_camera else ""

    def say(done: int, seconds: float) -> None:
        rate = done / seconds
        _log.info("%s: frame %s, %.0f%s s, %.1f/s", name, f"{frames.num_read:,}", frames.seconds, of_all, rate)

    found = recognizer.stream(frames, annotated=output)
    numbers: set[int] = set()
    with contextlib.closing(found):
        try:
            for seconds, _, faces in _with_progress(found, say):
                numbers.update(face.number for face in faces)
                if curves:
                    curves.add(seconds, faces)
                if summary:
                    for row in summary.add(seconds, faces):
                        show(row)
                else:
                    for face in faces:
                        show(Row(frames.name, face, frames.num_read, seconds))
        except KeyboardInterrupt:
            if not frames.is_camera:
                raise
    if summary:
        for row in summary.close(frames.length):
            show(row)
    return len(numbers)


def _check_plot(path: str, num_videos: int) -> None:
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"--plot {path}: expected the name of a file that ends in .png")
    if num_videos != 1:
        raise InputError(f"--plot {path}: {num_videos} videos and cameras; give exactly one, because a plot shows one")
    try:
        import fer_tf.report.plots  # noqa: F401  # fail now, not after an hour of video
    except ImportError:
        raise InputError("--plot needs Matplotlib: pip install matplotlib") from None


def _write_plot(path: str, curves: Any, class_names: Sequence[str], title: str) -> None:
    from fer_tf.artifacts import atomic_path
    from fer_tf.report import plots

    png = plots.to_png(plots.plot_scores_over_time(curves, class_names, title=printable(title)))
    with atomic_path(path) as temporary:
        temporary.write_bytes(png)


def _with_progress(results: Iterable[_T], say: Callable[[int, float], None]) -> Iterator[_T]:
    """Yield the results; unless stdout is a terminal, call `say(number, seconds)` every few seconds."""
    said = started = time.monotonic()
    for done, result in enumerate(results, 1):
        yield result
        now = time.monotonic()
        if now - said > _PROGRESS_SECONDS and not sys.stdout.isatty():
            said = now
            say(done, now - started)


class _Report:
    """Counts what was read, logs what went wrong, and decides the exit status."""

    def __init__(self, *, single: bool) -> None:
        self.single = single
        self._num_files = self._num_faces = self._num_skipped = self._num_incomplete = 0
        self._without: list[str] = []
        self._said: set[str] = set()

    def done(self, name: str, num_faces: int) -> None:
        self._num_files += 1
        self._num_faces += num_faces
        if num_faces == 0:
            self._without.append(printable(name))

    def skip(self, error: InputError) -> None:
        if self.single:
            raise InputError(printable(str(error))) from error
        self._num_skipped += 1
        if str(error) not in self._said:  # log the same message, such as that of a missing package, only once
            _log.warning("skipped: %s", printable(str(error)))
        self._said.add(str(error))

    def incomplete(self, problem: str) -> None:
        """Count a video that ended early; its rows stay valid."""
        self._num_incomplete += 1
        _log.warning("%s", printable(problem))

    def close(self) -> int:
        if self._without:
            hint = "if each shows one face and nothing else, try --faces whole"
            if len(self._without) == 1:
                hint = "if it shows one face and nothing else, try --faces whole"
            more = f" and {len(self._without) - _NUM_NAMED:,} more" if len(self._without) > _NUM_NAMED else ""
            _log.warning("%s%s: no face found; %s", ", ".join(self._without[:_NUM_NAMED]), more, hint)
        if not self.single:
            counts = [f"{self._num_files:,} read", f"{self._num_faces:,} faces"]
            counts += [f"{len(self._without):,} without a face"] if self._without else []
            counts += [f"{self._num_skipped:,} skipped"] if self._num_skipped else []
            counts += [f"{self._num_incomplete:,} incomplete"] if self._num_incomplete else []
            _log.info("%s", ", ".join(counts))
        if self._num_skipped or self._num_incomplete:
            return 2
        return 0 if self._num_faces else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("predict", __doc__, add_arguments, run, argv)
