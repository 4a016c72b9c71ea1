"""Classifies one Arrow table of pictures: the function that every engine calls."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fer_tf import artifacts, recognition
from fer_tf.errors import InputError
from fer_tf.evaluation.conformal import prediction_set, read_threshold
from fer_tf.faces import Face
from fer_tf.faces.kinds import PICTURE_FORMATS, kind_of
from fer_tf.faces.pictures import decode_picture
from fer_tf.inference.predictor import rank
from fer_tf.recognition import Recognizer
from fer_tf.task import IMAGE_SIZE
from fer_tf.text import printable

KEY = "key"
IMAGE = "image"
_NUM_PIXELS = IMAGE_SIZE**2
# Use plain lists: Spark refuses lists of a fixed size.
RESULTS = pa.schema(
    [
        ("face", pa.int32()),
        ("box", pa.list_(pa.int32())),
        ("face_score", pa.float32()),
        ("probabilities", pa.list_(pa.float32())),
        ("top", pa.string()),
        ("prediction_set", pa.list_(pa.string())),
        ("error", pa.string()),
        ("answer", pa.string()),  # only with a coverage or a lowest score
    ]
)
ANSWER = "answer"
_COVERAGE = 0.9  # of the prediction sets, if the caller gives none


def classify_table(
    table: pa.Table, *, model: str | os.PathLike[str] | None = None, num_threads: int = 1, **settings: Any
) -> pa.Table:
    """Find and classify the faces in a table of pictures.

    Each process opens the model once, so an engine may call this function for each of its batches.

    Args:
        table: a table with the columns `key` (text) and `image`; other columns are copied to the result. An image is
            the bytes of a picture file, a struct with such `bytes`, or one face as 2,304 grey values, row by row (as
            bytes or as a list of uint8).
        model: a .tflite, .keras or .onnx that fer_tf wrote; `fast` for the small model that ships; the model that ships
            if None.
        num_threads: crops that a .tflite works on at the same time.
        settings: further arguments of `Recognizer`, such as `faces="whole"` or `coverage=0.95`.

    Returns:
        A row for each face, in the order of the pictures: the columns of `table` except `image`, then `face` (from 1),
        `box` (left, top, width, height in pixels), `face_score`, `probabilities` (in the order of the model's classes),
        `top`, `prediction_set` and `error`. A prediction set names the classes that `coverage` needs (0.9 if none is
        given), the most likely first; it is null if the model has no thresholds. With `coverage` or `min_score` there
        is a last column `answer`, as in `recognition.Face`. A picture that cannot be read or has no face gets one row,
        with a null `face`.

    Raises:
        InputError: if a column is missing or holds other values, the model cannot be opened, or `coverage` is given
            and the model has no thresholds.

    Example:
        >>> import pyarrow as pa
        >>> from fer_tf.batch import classify_table
        >>> crops = fer_tf.load_dataset(limit=3).take("test").decoded().images
        >>> rows = classify_table(pa.table({"key": ["a", "b", "c"], "image": [crop.tobytes() for crop in crops]}))
        >>> rows["key"].to_pylist(), len(rows["probabilities"][0])
        (['a', 'b', 'c'], 7)
    """
    for name in (KEY, IMAGE):
        if name not in table.column_names:
            raise InputError(f"the table has the columns {', '.join(table.column_names)}: expected {KEY} and {IMAGE}")
    recognizer = open_recognizer(model, num_threads, settings)
    rows: list[int] = []
    found: list[Face | None] = []
    errors: list[str | None] = []
    for row, image in enumerate(_contents(table[IMAGE])):
        faces, error = _faces_of(image, recognizer)
        rows += [row] * max(1, len(faces))
        found += faces or [None]
        errors += [error] * max(1, len(faces))
    coverage = set_coverage(recognizer, settings)
    threshold = None if coverage is None else read_threshold(recognizer.metadata, coverage)
    table = _table(table.drop_columns([IMAGE]), rows, found, errors, recognizer, threshold)
    has_answer = any(settings.get(name) is not None for name in ("coverage", "min_score"))
    return table if has_answer else table.drop_columns([ANSWER])


def open_recognizer(model: str | os.PathLike[str] | None, num_threads: int, settings: Mapping[str, Any]) -> Recognizer:
    """Open a model, or return it if this process has opened it with the same arguments."""
    return _recognizer(None if model is None else os.fspath(model), num_threads, tuple(sorted(settings.items())))


@functools.lru_cache(maxsize=2)
def _recognizer(model: str | None, num_threads: int, settings: tuple[tuple[str, Any], ...]) -> Recognizer:
    return Recognizer(model, num_threads=num_threads, **dict(settings))


def _contents(column: pa.ChunkedArray) -> Iterable[bytes | None]:
    """The bytes of each picture; None for a missing picture."""
    kind = column.type
    if pa.types.is_struct(kind) and "bytes" in [kind.field(index).name for index in range(kind.num_fields)]:
        column = pa.chunked_array([chunk.field("bytes") for chunk in column.chunks], type=kind.field("bytes").type)
        kind = column.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return (value.as_py() for value in column)
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if is_list and kind.value_type == pa.uint8():
        return (None if not value.is_valid else value.values.to_numpy().tobytes() for value in column)
    raise InputError(
        f"the images are of the type {kind}: expected the bytes of picture files, or {_NUM_PIXELS:,} grey values as "
        "bytes or as a list of uint8"
    )


def _faces_of(image: bytes | None, recognizer: Recognizer) -> tuple[list[Face], str | None]:
    if image is None:
        return [], "no picture"
    is_grey = len(image) == _NUM_PIXELS
    if not is_grey or kind_of(image[:256]) in PICTURE_FORMATS:
        try:
            return recognizer.find_faces(decode_picture(image, "picture", min_side=recognizer.min_side)), None
        except InputError as error:
            if not is_grey:  # grey values can look like a JPEG by chance
                return [], printable(str(error))
    crop = np.frombuffer(image, np.uint8).reshape(IMAGE_SIZE, IMAGE_SIZE)
    return [Face((0, 0, IMAGE_SIZE, IMAGE_SIZE), crop)], None


def _table(
    carried: pa.Table,
    rows: Sequence[int],
    found: Sequence[Face | None],
    errors: Sequence[str | None],
    model: Recognizer,
    threshold: float | None,
) -> pa.Table:
    crops = [face.crop for face in found if face is not None]
    answers = iter(model.classifier.predict(np.stack(crops)) if crops else [])
    probabilities: list[np.ndarray | None] = [None if face is None else next(answers) for face in found]
    faces: list[recognition.Face | None] = []
    for index, (face, scores) in enumerate(zip(found, probabilities, strict=True)):
        before = faces[-1] if index and rows[index] == rows[index - 1] else None
        number = before.number + 1 if before else 1
        if face is None or scores is None:
            faces.append(None)
        else:
            faces.append(model.as_face(face, rank(scores, model.class_names), number))
    columns: dict[str, Any] = {
        "face": [face and face.number for face in faces],
        "box": [face and face.box for face in faces],
        "face_score": [face and face.score for face in faces],
        "probabilities": probabilities,
        "top": [face and face.emotions[0][0] for face in faces],
        "prediction_set": [
            None if face is None or threshold is None else prediction_set(face.emotions, threshold) for face in faces
        ],
        "error": errors,
        ANSWER: [face and face.answer for face in faces],
    }
    table = carried.take(pa.array(rows, pa.int64()))
    for field in RESULTS:
        table = table.append_column(field, pa.array(columns[field.name], field.type))
    return table


def set_coverage(recognizer: Recognizer, settings: Mapping[str, Any]) -> float | None:
    """Return the coverage of the prediction sets; None if none is given and the model has no thresholds."""
    coverage = settings.get("coverage")
    if coverage is not None:
        return float(coverage)
    try:
        read_threshold(recognizer.metadata, _COVERAGE)
    except InputError:
        return None
    return _COVERAGE


def model_sha256(model: str | os.PathLike[str] | None) -> str:
    """Return the SHA-256 of a model's file, or of the shipped model's file if None.

    Raises:
        InputError: if the file cannot be read.
    """
    path = artifacts.find_model(model)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"cannot read the model {path}: {error.strerror}") from error
