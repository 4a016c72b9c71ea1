"""Writes recognised faces, a row each, as a table, csv or JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from fer_tf.text import printable

if TYPE_CHECKING:
    from fer_tf.recognition import RecognizedFace


def table_writer(
    file: TextIO, *, top: int, names: Sequence[str] = (), with_time: bool = False
) -> Callable[[RecognizedFace], None]:
    """Return a function that writes a face as a line of a table; the first call writes the header too.

    Args:
        file: open for writing; each row is flushed.
        top: number of emotions in a row.
        names: of the files to come, which set the width of the first column.
        with_time: True for a column with the time in a video.
    """
    width = min(40, max([8, *(len(printable(name)) for name in names)]))
    header = [f"{'file':{width}} {'time, s  ' if with_time else ''}face  left,top   width x height  emotions\n"]

    def write(face: RecognizedFace) -> None:
        if header:
            file.write(header.pop())
        seconds = "" if not with_time else f"{face.seconds:7.2f}  " if face.seconds is not None else 9 * " "
        left, top_edge, box_width, box_height = face.box
        corner, size = f"{left},{top_edge}", f"{box_width} x {box_height}"
        scores = "  ".join(f"{printable(name)} {score:.1%}" for name, score in face.emotions[:top])
        file.write(f"{printable(face.file):{width}} {seconds}{face.face:4}  {corner:9}  {size:14}  {scores}\n")
        file.flush()

    return write


def csv_writer(file: TextIO, *, top: int) -> Callable[[RecognizedFace], None]:
    """Write the header of a csv; return a function that writes a face as a row. Arguments as for `table_writer`."""
    writer = csv.writer(file, lineterminator="\n")
    ranks = [column for number in range(1, top + 1) for column in (f"emotion_{number}", f"score_{number}")]
    writer.writerow(["file", "frame", "seconds", "face", "left", "top", "width", "height", *ranks])

    def write(face: RecognizedFace) -> None:
        seconds = "" if face.seconds is None else f"{face.seconds:.3f}"
        scores = [cell for name, score in face.emotions[:top] for cell in (printable(name), f"{score:.4f}")]
        frame = "" if face.frame is None else face.frame
        writer.writerow([printable(face.file), frame, seconds, face.face, *face.box, *scores])
        file.flush()

    return write


def json_writer(file: TextIO, *, top: int) -> Callable[[RecognizedFace], None]:
    """Return a function that writes a face as a line of JSON. Arguments as for `table_writer`."""

    def write(face: RecognizedFace) -> None:
        values: dict[str, Any] = {"file": face.file}
        if face.frame is not None and face.seconds is not None:
            values |= {"frame": face.frame, "seconds": round(face.seconds, 3)}
        emotions = [{"emotion": name, "score": round(score, 6)} for name, score in face.emotions[:top]]
        file.write(json.dumps(values | {"face": face.face, "box": list(face.box), "emotions": emotions}) + "\n")
        file.flush()

    return write
