"""Sums up the faces of a video for each second and for the whole video, writes rows, and collects curves for a plot.

A row of JSON is an object with these keys:

    file text: path of the video, or the camera's name second whole number from 0, or null for the whole video face
    whole number from 1, as in the rows of frames; null for all faces together frames number of frames in which the face
    was seen emotions for a second: [{"emotion": text, "score": number in [0, 1]}, ...], means over the frames of the
    second, the
              most likely first
    shares    for the whole video: [{"emotion": text, "share": number in [0, 1]}, ...], the share of the face's time in
              which each emotion was the likeliest, the largest first
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from fer_tf.text import printable

if TYPE_CHECKING:
    from fer_tf.recognition import Face

_CURVE_SECONDS = 0.2  # a point of a curve is the mean over this time


@dataclasses.dataclass(frozen=True)
class SummaryRow:
    """A face in one second, or in the whole video if `second` is None; `face` is None for all faces together.

    Attributes:
        values: (class name, mean score) pairs for a second, (class name, share of time) pairs for the whole video; the
            largest first.
    """

    file: str
    second: int | None
    face: int | None
    frames: int
    values: list[tuple[str, float]]


class Summary:
    """Sums up a video's faces: at the end of each second a row for each face, at last rows for the whole video."""

    def __init__(self, file: str, class_names: Sequence[str]) -> None:
        """Start without frames.

        Args:
            file: name of the video in the rows.
            class_names: C names.
        """
        self._file, self._names = file, tuple(class_names)
        self._second = 0
        self._scores: dict[int, tuple[int, np.ndarray]] = {}  # current second: face -> frames, sums of scores
        self._times: dict[int, tuple[int, np.ndarray]] = {}  # face -> frames, seconds that each emotion was likeliest
        self._last: tuple[float, Sequence[Face]] = (0.0, ())

    def add(self, seconds: float, faces: Sequence[Face]) -> Iterator[SummaryRow]:
        """Add a frame; yield the rows of the previous second if it is over.

        Args:
            seconds: time of the frame.
            faces: the faces in the frame.
        """
        if int(seconds) != self._second:
            yield from self._end_second()
            self._second = int(seconds)
        self._end_frame(seconds)
        self._last = seconds, faces
        for face in faces:
            frames, sums = self._scores.get(face.number, (0, np.zeros(len(self._names))))
            scores = dict(face.emotions)
            self._scores[face.number] = frames + 1, sums + [scores[name] for name in self._names]

    def close(self, seconds: float) -> Iterator[SummaryRow]:
        """Yield the rows of the last second, and the shares of each face and of all faces together.

        Args:
            seconds: end of the last frame.
        """
        yield from self._end_second()
        self._end_frame(seconds)
        for number, (frames, times) in sorted(self._times.items()):
            yield self._row(None, number, frames, times / max(times.sum(), 1e-9))
        if len(self._times) > 1:
            total = sum(times for _, times in self._times.values())
            frames = sum(frames for frames, _ in self._times.values())
            yield self._row(None, None, frames, total / max(np.sum(total), 1e-9))

    def _end_second(self) -> Iterator[SummaryRow]:
        for number, (frames, sums) in sorted(self._scores.items()):
            yield self._row(self._second, number, frames, sums / frames)
        self._scores = {}

    def _end_frame(self, seconds: float) -> None:
        """Count the last frame's emotions from its time until `seconds`."""
        before, faces = self._last
        for face in faces:
            frames, times = self._times.get(face.number, (0, np.zeros(len(self._names))))
            likeliest = np.array([name == face.emotions[0][0] for name in self._names])
            self._times[face.number] = frames + 1, times + max(seconds - before, 0.0) * likeliest
        self._last = seconds, ()

    def _row(self, second: int | None, face: int | None, frames: int, values: Any) -> SummaryRow:
        pairs = sorted(zip(self._names, map(float, values), strict=True), key=lambda pair: -pair[1])
        return SummaryRow(self._file, second, face, frames, pairs)


class Curves:
    """Collects each face's scores over time, as means of short periods."""

    def __init__(self, class_names: Sequence[str]) -> None:
        """Start without frames.

        Args:
            class_names: C names, in the order of the curves' columns.
        """
        self._names = tuple(class_names)
        self._sums: dict[int, dict[int, np.ndarray]] = {}  # face -> period -> sums of time, frames and scores

    def add(self, seconds: float, faces: Sequence[Face]) -> None:
        """Add a frame.

        Args:
            seconds: time of the frame.
            faces: the faces in the frame.
        """
        period = int(seconds / _CURVE_SECONDS)
        for face in faces:
            scores = dict(face.emotions)
            periods = self._sums.setdefault(face.number, {})
            values = np.array([seconds, 1.0, *(scores[name] for name in self._names)])
            periods[period] = periods[period] + values if period in periods else values

    def of_faces(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Return for each face the seconds, float (n,), and the scores in [0, 1], float (n, C)."""
        found = {}
        for number, periods in sorted(self._sums.items()):
            sums = np.stack([periods[period] for period in sorted(periods)])
            found[number] = sums[:, 0] / sums[:, 1], sums[:, 2:] / sums[:, 1:2]
        return found


def table_writer(
    file: TextIO, *, top: int, names: Sequence[str] = (), with_time: bool = True
) -> Callable[[SummaryRow], None]:
    """Return a function that writes a row as a line of a table. Arguments as for `rows.table_writer`."""
    width = min(40, max([8, *(len(printable(name)) for name in names)]))
    header = [f"{'file':{width}}  second  face  frames  emotions\n"]

    def write(row: SummaryRow) -> None:
        if header:
            file.write(header.pop())
        second, face = ("all" if value is None else str(value) for value in (row.second, row.face))
        values = "  ".join(f"{printable(name)} {value:.1%}" for name, value in row.values[:top] if value > 0)
        of = "of the time: " if row.second is None else ""
        file.write(f"{printable(row.file):{width}}  {second:>6}  {face:>4}  {row.frames:6}  {of}{values}\n")
        file.flush()

    return write


def csv_writer(file: TextIO, *, top: int) -> Callable[[SummaryRow], None]:
    """Write the header of a csv; return a function that writes a row. Arguments as for `rows.table_writer`.

    In rows for the whole video or for all faces, `second` or `face` is `all`, and the scores are shares of time.
    """
    writer = csv.writer(file, lineterminator="\n")
    ranks = [column for number in range(1, top + 1) for column in (f"emotion_{number}", f"score_{number}")]
    writer.writerow(["file", "second", "face", "frames", *ranks])

    def write(row: SummaryRow) -> None:
        second, face = ("all" if value is None else value for value in (row.second, row.face))
        values = [cell for name, value in row.values[:top] for cell in (printable(name), f"{value:.4f}")]
        writer.writerow([printable(row.file), second, face, row.frames, *values])
        file.flush()

    return write


def json_lines_writer(file: TextIO, *, top: int) -> Callable[[SummaryRow], None]:
    """Return a function that writes a row as a line of JSON. Arguments as for `rows.table_writer`."""

    def write(row: SummaryRow) -> None:
        file.write(json.dumps(as_json(row, top)) + "\n")
        file.flush()

    return write


def as_json(row: SummaryRow, top: int) -> dict[str, Any]:
    """Return a row as the module's docstring describes it, with at most `top` emotions."""
    name, value = ("shares", "share") if row.second is None else ("emotions", "score")
    pairs = [{"emotion": emotion, value: round(number, 6)} for emotion, number in row.values[:top]]
    return {"file": row.file, "second": row.second, "face": row.face, "frames": row.frames, name: pairs}
