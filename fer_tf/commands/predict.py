"""Ranks the emotions of every face in pictures, folders of them, videos, or a camera's picture.

One row a face: its box (left, top, width, height in pixels) and its emotions with their scores, the likeliest first. A
picture of at most 64x64 pixels is taken as a face; in larger ones faces are looked for, which needs the extra `faces`.
In videos each face keeps its number, and its scores are averaged over time, exponentially with a time constant of 0.5
seconds. A camera is watched until Ctrl-C.

exit status: 0: faces were found; 1: everything was read, but no face was found; 2: something could not be read (the
rest was done all the same).
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import glob
import io
import json
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fer_tf.cli import run_command
from fer_tf.errors import InputError

if TYPE_CHECKING:
    from fer_tf.faces.video import VideoWriter
    from fer_tf.inference.classifier import EmotionClassifier

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
# The order in which --run looks for a .tflite: the one closest to the trained model first. A list of its own, since
# `quantization` brings the converter's modules along and names them in the order in which they are tried.
_QUANTIZATIONS = ("float32", "float16", "weight_int8", "dynamic", "int8_mixed", "int8")
_TABLE_TOP = 3
_PROGRESS_SECONDS = 2.0
_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclasses.dataclass(frozen=True)
class Row:
    """One face of one picture or frame."""

    file: str
    face: int  # from 1; in a video the same for the same face
    box: tuple[int, int, int, int]
    emotions: list[tuple[str, float]]  # ranked
    frame: int | None = None  # from 1; videos and cameras only
    seconds: float | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="picture, folder, glob, video, or number of a camera"
    )
    model = parser.add_mutually_exclusive_group()
    model.add_argument(
        "--model", metavar="FILE", help="a .tflite or .keras that fer_tf wrote (default: the shipped one)"
    )
    model.add_argument("--run", metavar="DIR", help="a run that train made: its .tflite, or its .keras")
    parser.add_argument("--no-detect", action="store_true", help="take each picture as one face")
    parser.add_argument(
        "--format", choices=("table", "jsonl", "csv"), default="table", help="of the rows (%(default)s)"
    )
    parser.add_argument(
        "--top", type=int, metavar="N", help=f"emotions a row (default: table {_TABLE_TOP}, others all)"
    )
    parser.add_argument("--annotate", metavar="DIR", help="write pictures and videos with boxes and labels into DIR")
    parser.add_argument("--threads", type=int, metavar="N", help="pictures at a time (default: one a core, 8 at most)")


def run(args: argparse.Namespace) -> int:
    """Opens the model, goes through the inputs, prints a row a face."""
    from fer_tf.faces.video import VIDEO_SUFFIXES
    from fer_tf.inference.classifier import EmotionClassifier
    from fer_tf.inference.predictor import default_num_threads

    if args.top is not None and args.top < 1:
        raise InputError(f"--top {args.top}: expected 1 or more")
    num_threads = default_num_threads() if args.threads is None else args.threads
    classifier = EmotionClassifier(_run_model(args.run) if args.run else args.model, num_threads=num_threads)
    if classifier.metadata.get("synthetic"):
        _log.warning("This model learnt from drawn (synthetic) faces only: its scores mean nothing for photographs.")

    report = _Report(single=len(args.inputs) == 1)
    paths, cameras = _expand(args.inputs, PICTURE_SUFFIXES + VIDEO_SUFFIXES, report)
    report.single = report.single and len(paths) + len(cameras) == 1
    videos = [path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES]
    pictures = [path for path in paths if path.suffix.lower() not in VIDEO_SUFFIXES]
    outputs = _output_paths(args.annotate, pictures, videos, cameras)
    top = args.top or (_TABLE_TOP if args.format == "table" else len(classifier.class_names))
    show = _printer(args.format, top, [str(path) for path in paths], with_time=bool(videos or cameras))

    def look(path: Path) -> list[Row] | InputError:
        try:
            return _picture_rows(path, classifier, not args.no_detect, outputs.get(path))
        except InputError as error:
            return error

    results = _in_order(look, pictures, num_threads)
    for path, result in zip(pictures, _with_progress(results, len(pictures), report), strict=True):
        if isinstance(result, InputError):
            report.skip(result)
            continue
        for row in result:
            show(row)
        report.done(str(path), len(result))
    sources: list[Path | int] = [*videos, *cameras]
    for source in sources:
        name = f"camera {source}" if isinstance(source, int) else str(source)
        try:
            num_faces = _watch(source, classifier, not args.no_detect, outputs.get(source), show)
            report.done(name, num_faces)
        except InputError as error:
            report.skip(error)
    return report.close()


def _run_model(directory: str) -> Path:
    from fer_tf.artifacts import RunDirectory

    found = RunDirectory.open(directory)
    for path in [*map(found.tflite, _QUANTIZATIONS), found.model]:
        if path.is_file():
            return path
    raise InputError(f"{directory} has no model yet: let train end, or name another --run")


class _Report:
    """What is said beside the rows, on stderr, and the exit status that follows from it."""

    def __init__(self, *, single: bool) -> None:
        self.single = single
        self._num_files = self._num_faces = self._num_without = self._num_skipped = 0
        self._said: set[str] = set()

    def done(self, name: str, num_faces: int) -> None:
        self._num_files += 1
        self._num_faces += num_faces
        if num_faces == 0:
            self._num_without += 1
            _log.warning("%s: no face found; if it shows one face and nothing else, try --no-detect", printable(name))

    def skip(self, error: InputError) -> None:
        if self.single:
            raise InputError(printable(str(error))) from error
        self._num_skipped += 1
        if str(error) not in self._said:  # a missing package would be named once a file
            _log.warning("skipped: %s", printable(str(error)))
        self._said.add(str(error))

    def progress(self, done: int, total: int, seconds: float) -> None:
        left = (total - done) * seconds / done
        _log.info("%s of %s pictures, %.1f/s, %.0f s left", f"{done:,}", f"{total:,}", done / seconds, left)

    def close(self) -> int:
        if not self.single:
            counts = [f"{self._num_files:,} read", f"{self._num_faces:,} faces"]
            counts += [f"{self._num_without:,} without a face"] if self._num_without else []
            counts += [f"{self._num_skipped:,} skipped"] if self._num_skipped else []
            _log.info("%s", ", ".join(counts))
        if self._num_skipped:
            return 2
        return 0 if self._num_faces else 1


def _expand(inputs: Sequence[str], suffixes: tuple[str, ...], report: _Report) -> tuple[list[Path], list[int]]:
    """The files and cameras that the arguments mean, each file once."""
    paths: dict[Path, None] = {}
    cameras = []
    for text in inputs:
        path = Path(text)
        if os.path.isdir(text):  # unlike Path's, false for a name that the system refuses
            found = sorted(file for file in path.rglob("*") if _is_meant(file, suffixes))
            problem = f"{text}: no pictures or videos in this folder; expected files ending in {' '.join(suffixes)}"
        elif os.path.exists(text) or not glob.has_magic(text):
            if text.isdecimal() and not os.path.exists(text):
                cameras.append(int(text))
                continue
            found, problem = [path], ""
        else:
            found = sorted(file for name in glob.glob(text, recursive=True) if (file := Path(name)).is_file())
            problem = f"{text}: no file matches this pattern"
        if not found:
            report.skip(InputError(problem))
        paths.update(dict.fromkeys(found))
    return list(paths), cameras


def _is_meant(file: Path, suffixes: tuple[str, ...]) -> bool:
    return file.suffix.lower() in suffixes and not file.name.startswith(".") and file.is_file()


def _output_paths(
    folder: str | None, pictures: Sequence[Path], videos: Sequence[Path], cameras: Sequence[int]
) -> dict[Path | int, Path]:
    """Where each annotated picture or video goes: no two to the same place, none onto an input."""
    if folder is None:
        return {}
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--annotate {folder}: {error.strerror}; name a folder that can be written to") from error
    taken = {path.resolve() for path in (*pictures, *videos)}
    outputs: dict[Path | int, Path] = {}
    sources: list[Path | int] = [*pictures, *videos, *cameras]
    for source in sources:
        if isinstance(source, int):
            stem, suffix = f"camera{source}", ".mp4"
        else:
            stem, suffix = source.stem, source.suffix.lower()
            if source in videos:
                suffix = suffix if suffix == ".avi" else ".mp4"
            else:
                suffix = suffix if suffix in (".jpg", ".jpeg") else ".png"
        number, path = 1, Path(folder, f"{stem}-faces{suffix}")
        while path.resolve() in taken:
            number += 1
            path = Path(folder, f"{stem}-faces-{number}{suffix}")
        taken.add(path.resolve())
        outputs[source] = path
    return outputs


def _picture_rows(path: Path, classifier: EmotionClassifier, detect: bool, output: Path | None) -> list[Row]:
    import numpy as np

    from fer_tf import artifacts, faces

    image = faces.open_image(path)
    found = faces.find_faces(image, detect=detect)
    ranked = classifier.classify(np.stack([face.crop for face in found])) if found else []
    pairs = zip(found, ranked, strict=True)
    rows = [Row(str(path), number, face.box, emotions) for number, (face, emotions) in enumerate(pairs, 1)]
    if output and rows:
        with artifacts.atomic_path(output) as temporary:
            faces.draw_faces(image, [(row.box, _label(row)) for row in rows]).save(temporary, quality=90)
    return rows


def _watch(
    source: Path | int, classifier: EmotionClassifier, detect: bool, output: Path | None, show: Callable[[Row], None]
) -> int:
    """Goes through a video or a camera's frames; returns the number of different faces."""
    import numpy as np

    from fer_tf import artifacts, faces
    from fer_tf.faces.tracking import Smoother
    from fer_tf.faces.video import FrameSource, VideoWriter
    from fer_tf.inference.predictor import rank

    frames = FrameSource(source)
    smoother = Smoother()
    writer: VideoWriter | None = None
    num_written = 0
    numbers: set[int] = set()
    said = started = time.monotonic()
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(artifacts.atomic_path(output)) if output else None
        try:
            for frame, (seconds, image) in enumerate(frames, 1):
                found = faces.find_faces(image, detect=detect)
                crops = np.stack([face.crop for face in found]) if found else np.empty((0, 48, 48), np.uint8)
                smoothed = smoother.update(seconds, [face.box for face in found], classifier.predict(crops))
                rows = [
                    Row(frames.name, number, face.box, rank(scores, classifier.class_names), frame, seconds)
                    for face, (number, scores) in zip(found, smoothed, strict=True)
                ]
                numbers.update(row.face for row in rows)
                for row in rows:
                    show(row)
                if target:
                    if writer is None:
                        writer = VideoWriter(target, fps=frames.fps, size=image.size)
                        stack.callback(writer.close)
                    annotated = faces.draw_faces(image, [(row.box, _label(row)) for row in rows])
                    # A camera's frames come as we get to them: repeated, so that the video runs as fast as the world.
                    repeats = max(1, round(seconds * frames.fps) + 1 - num_written) if frames.is_camera else 1
                    for _ in range(repeats):
                        writer.write(annotated)
                    num_written += repeats
                if time.monotonic() - said > _PROGRESS_SECONDS and not sys.stdout.isatty():
                    said = time.monotonic()
                    of_all = f" of {frames.num_frames:,}" if frames.num_frames else ""
                    _log.info("%s: frame %s%s, %.1f/s", frames.name, f"{frame:,}", of_all, frame / (said - started))
        except KeyboardInterrupt:
            if not frames.is_camera:
                raise
    return len(numbers)


def _label(row: Row) -> str:
    name, score = row.emotions[0]
    return f"{printable(name)} {score:.0%}"


def _in_order(function: Callable[[_T], _R], items: Sequence[_T], num_threads: int) -> Iterator[_R]:
    """`map` over threads that stays few items ahead of its reader, so that a long list needs no memory."""
    if len(items) < 2 or num_threads < 2:
        yield from map(function, items)
        return
    from concurrent.futures import Future, ThreadPoolExecutor

    pending: deque[Future[_R]] = deque()
    pool = ThreadPoolExecutor(num_threads)
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 2 * num_threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _with_progress(results: Iterable[_R], total: int, report: _Report) -> Iterator[_R]:
    said = started = time.monotonic()
    for done, result in enumerate(results, 1):
        yield result
        now = time.monotonic()
        if now - said > _PROGRESS_SECONDS and not sys.stdout.isatty():
            said = now
            report.progress(done, total, now - started)


def printable(text: str) -> str:
    """A text with control characters, line ends and half surrogates as escapes: it comes from a file, unchecked."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "backslashreplace").decode()
        for letter in text
    )


def _printer(form: str, top: int, names: Sequence[str], *, with_time: bool) -> Callable[[Row], None]:
    """A function that prints a row in one of the three forms.

    A csv has its header even without a row; the table prints it with its first.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter of a file's or class's name
    if form == "jsonl":
        return lambda row: print(json.dumps(_as_json(row, top)), flush=True)
    if form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        ranks = [column for number in range(1, top + 1) for column in (f"emotion_{number}", f"score_{number}")]
        writer.writerow(["file", "frame", "seconds", "face", "left", "top", "width", "height", *ranks])

        def show_csv(row: Row) -> None:
            seconds = "" if row.seconds is None else f"{row.seconds:.3f}"
            scores = [cell for name, score in row.emotions[:top] for cell in (printable(name), f"{score:.4f}")]
            frame = "" if row.frame is None else row.frame
            writer.writerow([printable(row.file), frame, seconds, row.face, *row.box, *scores])
            sys.stdout.flush()

        return show_csv
    width = min(40, max([8, *(len(printable(name)) for name in names)]))
    header = [f"{'file':{width}} {'time, s  ' if with_time else ''}face  left,top   width x height  emotions"]

    def show_line(row: Row) -> None:
        if header:
            print(header.pop())
        seconds = "" if not with_time else f"{row.seconds:7.2f}  " if row.seconds is not None else 9 * " "
        left, top_edge, box_width, box_height = row.box
        corner, size = f"{left},{top_edge}", f"{box_width} x {box_height}"
        scores = "  ".join(f"{printable(name)} {score:.1%}" for name, score in row.emotions[:top])
        print(f"{printable(row.file):{width}} {seconds}{row.face:4}  {corner:9}  {size:14}  {scores}", flush=True)

    return show_line


def _as_json(row: Row, top: int) -> dict[str, Any]:
    values: dict[str, Any] = {"file": row.file}
    if row.frame is not None and row.seconds is not None:
        values |= {"frame": row.frame, "seconds": round(row.seconds, 3)}
    emotions = [{"emotion": name, "score": round(score, 6)} for name, score in row.emotions[:top]]
    return values | {"face": row.face, "box": list(row.box), "emotions": emotions}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return run_command("predict", __doc__, add_arguments, run, argv)
