"""Writes recognised faces, one row each, as a table, csv, JSON lines or one JSON array.

A row of JSON is an object with these keys:

    file      text: path of the picture or video, or the camera's name
    frame     whole number from 1; videos and cameras only
    seconds   number: time since the first frame; videos and cameras only
    face      whole number from 1: the largest face first; in a video a face keeps its number
    box       [left, top, width, height] in pixels of the upright picture
    score     number in [0, 1]: how sure the detector is; null if the whole picture is the face
    landmarks five [x, y] in pixels: both eyes, nose, both corners of the mouth; [] if score is null
    emotions  [{"emotion": text, "score": number in [0, 1]}, ...], the most likely first

With `--coverage` or `--min-score`, the object also has these keys, and a csv has the column `answer`:

    answer    text: the most likely class, several as in `sad or neutral`, or `uncertain`
    prediction_set  [text, ...]: the classes in the answer, the most likely first; null without a coverage
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from fer_tf.text import printable

if TYPE_CHECKING:
    from fer_tf.recognition import Face

FORMATS = ("table", "json", "jsonl", "csv")


@dataclasses.dataclass(frozen=True)
class Row:
    """One face and its place; frame and seconds are None for a picture."""

    file: str
    face: Face
    frame: int | None = None
    seconds: float | None = None


def table_writer(
    file: TextIO, *, top: int, names: Sequence[str] = (), with_time: bool = False, with_answer: bool = False
) -> Callable[[Row], None]:
    """Return a function that writes a face as a line of a table; the first call writes the header too.

    Args:
        file: a file open for writing; each row is flushed.
        top: number of emotions in a row.
        names: names of all files, which set the width of the first column.
        with_time: True to add a column with the time in a video.
        with_answer: True to put the answer before the scores.
    """
    width = min(40, max([8, *(len(printable(name)) for name in names)]))
    last = "answer: emotions" if with_answer else "emotions"
    header = [f"{'file':{width}} {'time, s  ' if with_time else ''}face  left,top   width x height  {last}\n"]

    def write(row: Row) -> None:
        face = row.face
        if header:
            file.write(header.pop())
        seconds = "" if not with_time else f"{row.seconds:7.2f}  " if row.seconds is not None else 9 * " "
        left, top_edge, box_width, box_height = face.box
        corner, size = f"{left},{top_edge}", f"{box_width} x {box_height}"
        scores = "  ".join(f"{printable(name)} {score:.1%}" for name, score in face.emotions[:top])
        scores = f"{printable(face.answer)}: {scores}" if with_answer else scores
        file.write(f"{printable(row.file):{width}} {seconds}{face.number:4}  {corner:9}  {size:14}  {scores}\n")
        file.flush()

    return write


def csv_writer(file: TextIO, *, top: int, with_answer: bool = False) -> Callable[[Row], None]:
    """Write the header of a csv; return a function that writes a face as a row. Arguments as for `table_writer`."""
    writer = csv.writer(file, lineterminator="\n")
    ranks = [column for number in range(1, top + 1) for column in (f"emotion_{number}", f"score_{number}")]
    writer.writerow(
        ["file", "frame", "seconds", "face", "left", "top", "width", "height", *ranks, *["answer"] * with_answer]
    )

    def write(row: Row) -> None:
        face = row.face
        seconds = "" if row.seconds is None else f"{row.seconds:.3f}"
        scores = [cell for name, score in face.emotions[:top] for cell in (printable(name), f"{score:.4f}")]
        frame = "" if row.frame is None else row.frame
        scores += [printable(face.answer)] * with_answer
        writer.writerow([printable(row.file), frame, seconds, face.number, *face.box, *scores])
        file.flush()

    return write


def json_lines_writer(file: TextIO, *, top: int, with_answer: bool = False) -> Callable[[Row], None]:
    """Return a function that writes a face as a line of JSON. Arguments as for `table_writer`."""

    def write(row: Row) -> None:
        file.write(json.dumps(as_json(row, top, with_answer=with_answer)) + "\n")
        file.flush()

    return write


def as_json(row: Row, top: int, *, with_answer: bool = False) -> dict[str, Any]:
    """Return a row as the module's docstring describes it, with at most `top` emotions."""
    values: dict[str, Any] = {"file": row.file}
    if row.frame is not None and row.seconds is not None:
        values |= {"frame": row.frame, "seconds": round(row.seconds, 3)}
    face = row.face
    values |= {
        "face": face.number,
        "box": list(face.box),
        "score": None if face.score is None else round(face.score, 4),
        "landmarks": [[round(x, 1), round(y, 1)] for x, y in face.landmarks],
        "emotions": [{"emotion": name, "score": round(score, 6)} for name, score in face.emotions[:top]],
    }
    if with_answer:
        chosen = None if face.prediction_set is None else list(face.prediction_set)
        values |= {"answer": face.answer, "prediction_set": chosen}
    return values
