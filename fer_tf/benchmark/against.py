"""Compares another project's image classifier with ours: the time on one thread, and the score on the same images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer_tf.data.names import find_class
from fer_tf.data.synthetic import draw_faces
from fer_tf.errors import InputError
from fer_tf.inference.contract import read_ends
from fer_tf.inference.litert import read_tflite, start_interpreter, without_native_log
from fer_tf.inference.opening import open_model
from fer_tf.text import listed

RANGES: Mapping[str, tuple[float, float]] = {"0,1": (0.0, 1.0), "-1,1": (-1.0, 1.0), "0,255": (0.0, 255.0)}
_MAX_SIDE = 1024  # pixels; no classifier of faces takes a larger input
_MAX_CLASSES = 1000
_FEWEST_STEPS = 16  # between black and white in an integer input; fewer mean a wrong range
_KINDS = {"float32": np.float32, "uint8": np.uint8, "int8": np.int8}
_INTEGER_LIMITS = {"uint8": (0, 255), "int8": (-128, 127)}
_NO_CLASSIFIER = "this command knows only classifiers of one image"
_CHUNK = 256  # images resized at a time
_WARM_UP_CALLS, _FEWEST_CALLS = 5, 20


class ForeignClassifier:
    """Another project's .tflite that takes one square grey or RGB picture and gives a score for each class."""

    def __init__(self, path: Path, value_range: str, class_names: Sequence[str]) -> None:
        """Check the file and open it on one thread.

        Args:
            path: path of the .tflite.
            value_range: a key of `RANGES`: the network's values for black and white.
            class_names: the network's classes in the order of its output, in any spelling.

        Raises:
            InputError: if the file is not such a classifier, or the range or the classes do not match it.
        """
        if value_range not in RANGES:
            raise InputError(f"--against-range {value_range}: expected one of {listed(list(RANGES), 'or')}")
        content = read_tflite(path)
        self._given, self._result = read_ends(content, str(path), _NO_CLASSIFIER)
        self._range = RANGES[value_range]
        self.path, self.class_names, self.size_bytes = path, tuple(class_names), len(content)
        self._check(value_range)
        self.side = self._given.shape[1]
        self._interpreter = self._open(content)

    def _check(self, value_range: str) -> None:
        (kind, shape, scale, zero_point), name = self._given, self.path
        is_square = len(shape) == 4 and shape[1] == shape[2] and 8 <= shape[1] <= _MAX_SIDE
        if kind not in _KINDS or not is_square or shape[0] != 1 or shape[3] not in (1, 3):
            raise InputError(
                f"{name} takes {kind} {shape}: expected one picture, {listed(list(_KINDS), 'or')} (1, side, side, 1 or "
                f"3); {_NO_CLASSIFIER}"
            )
        if not scale > 0:
            raise InputError(f"{name} has no usable scale of its input ({scale:g}); {_NO_CLASSIFIER}")
        if kind != "float32":
            lowest, highest = _INTEGER_LIMITS[kind]
            ends = [end / scale + zero_point for end in self._range]
            if ends[0] < lowest - 1 or ends[1] > highest + 1 or ends[1] - ends[0] < _FEWEST_STEPS:
                raise InputError(
                    f"{name} takes {kind} with scale {scale:g} and zero point {zero_point}, in which --against-range "
                    f"{value_range} is {ends[0]:.4g} to {ends[1]:.4g}: expected another range"
                )
        kind, shape = self._result.kind, self._result.shape
        if kind not in _KINDS or len(shape) != 2 or shape[0] != 1 or not 2 <= shape[1] <= _MAX_CLASSES:
            raise InputError(f"{name} gives {kind} {shape}: expected a score for each class; {_NO_CLASSIFIER}")
        if len(self.class_names) != shape[1]:
            raise InputError(
                f"--against-classes names {len(self.class_names)} classes, {name} has {shape[1]}: name each, in the "
                "order of its output"
            )

    def _open(self, content: bytes) -> Any:
        try:
            with without_native_log():
                interpreter = start_interpreter(content)
                self._input = interpreter.get_input_details()[0]["index"]
                self._output = interpreter.get_output_details()[0]["index"]
                interpreter.set_tensor(self._input, np.zeros(self._given.shape, _KINDS[self._given.kind]))
                interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[0]
            raise InputError(f"{self.path}: LiteRT refuses it ({reason}): copy or export it again") from error
        return interpreter

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """Resize faces with fer_tf's own preprocessing, and convert them to the network's range and type.

        Args:
            images: uint8 (n, 48, 48), pixel values in [0, 255].

        Returns:
            (n, side, side, 1 or 3) of the network's type.
        """
        from fer_tf.data.preprocessing import preprocess

        kind, shape, scale, zero_point = self._given
        low, high = self._range
        pixels = np.asarray(preprocess(images, self.side))[..., : shape[3]]  # three equal channels
        values = pixels / np.float32(255) * np.float32(high - low) + np.float32(low)
        if kind == "float32":
            return values
        lowest, highest = _INTEGER_LIMITS[kind]
        return np.clip(np.rint(values / scale + zero_point), lowest, highest).astype(_KINDS[kind])

    def run(self, picture: np.ndarray) -> np.ndarray:
        """Score one prepared picture, (1, side, side, channels); return (classes,) in the output's type."""
        self._interpreter.set_tensor(self._input, picture)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)[0]

    def answers(self, images: np.ndarray) -> np.ndarray:
        """Return the index of the highest score, int64 (n,), for faces, uint8 (n, 48, 48)."""
        found = []
        for start in range(0, len(images), _CHUNK):
            found += [int(self.run(picture[None]).argmax()) for picture in self.prepare(images[start : start + _CHUNK])]
        return np.array(found, np.int64)

    def labels_in(self, class_names: Sequence[str]) -> np.ndarray:
        """Return the place of each class in other class names, int64 (classes,); -1 for a class that is not there.

        Raises:
            InputError: if fewer than two classes are there, or two names mean one class.
        """
        meant = [find_class(name, class_names) for name in self.class_names]
        known = [name for name in meant if name is not None]
        twice = next((name for name in known if known.count(name) > 1), None)
        if twice is not None:
            both = [own for own, name in zip(self.class_names, meant, strict=True) if name == twice]
            raise InputError(f"--against-classes: {listed(both)} both mean {twice}; name each class once")
        if len(known) < 2:
            raise InputError(
                f"--against-classes {','.join(self.class_names)}: expected at least two of {', '.join(class_names)}"
            )
        return np.array([-1 if name is None else list(class_names).index(name) for name in meant], np.int64)


def latencies(foreign: ForeignClassifier, models: Sequence[Path], *, seconds: float) -> list[dict[str, Any]]:
    """Time one picture on one thread with each model in turn, so that a busy machine disturbs all models alike.

    Our models get the 48x48 face; the other model gets a resized picture, so its resizing is not timed.

    Args:
        foreign: the other project's classifier.
        models: our .tflite files.
        seconds: least time for each model.

    Returns:
        A row for each model, the other project's first: `file`, `image_size`, `size_bytes`, `median_ms`, `p5_ms`,
        `p95_ms`, `num_calls`.
    """
    face = draw_faces(np.arange(1))
    picture = foreign.prepare(face)
    calls: list[Callable[[], Any]] = [lambda: foreign.run(picture)]
    rows: list[dict[str, Any]] = [
        {"file": foreign.path.name, "image_size": foreign.side, "size_bytes": foreign.size_bytes}
    ]
    for path in models:
        predictor = open_model(path, num_threads=1)
        calls.append(lambda predictor=predictor: predictor.predict(face))  # type: ignore[misc]
        image_size = predictor.metadata.get("image_size")
        rows.append({"file": path.name, "image_size": image_size, "size_bytes": path.stat().st_size})
    times: list[list[float]] = [[] for _ in calls]
    begin = time.perf_counter()
    for turn in range(1 << 30):
        if turn >= _WARM_UP_CALLS + _FEWEST_CALLS and time.perf_counter() - begin > seconds * len(calls):
            break
        for call, found in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            found.append(time.perf_counter() - start)
    for row, found in zip(rows, times, strict=True):
        low, median, high = np.percentile(1e3 * np.array(found[_WARM_UP_CALLS:]), (5, 50, 95))
        row |= {"median_ms": float(median), "p5_ms": float(low), "p95_ms": float(high)}
        row["num_calls"] = len(found) - _WARM_UP_CALLS
    return rows


def scores(
    foreign: ForeignClassifier,
    models: Sequence[Path],
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
) -> list[dict[str, Any]]:
    """Score all models on the images of the classes that all models know.

    An answer that names any other class counts as wrong.

    Args:
        foreign: the other project's classifier.
        models: our .tflite files.
        images: uint8 (n, 48, 48).
        labels: int (n,), indices into `class_names`.
        class_names: the data's classes.

    Returns:
        A row for each model, the other project's first: `num_images` and `accuracy`. Our rows also have `difference`
        (ours less the other's), `difference_interval`, `p_value` and `agreement`, as from `evaluation.compare`.

    Raises:
        InputError: if no image is left, or a class name has no counterpart.
    """
    from fer_tf.evaluation.comparison import compare_answers

    ours = [open_model(path) for path in models]
    label_of = [foreign.labels_in(class_names)]
    for predictor in ours:
        meant = [find_class(name, class_names) for name in predictor.class_names]
        label_of.append(np.array([-1 if name is None else list(class_names).index(name) for name in meant], np.int64))
    shared = [label for label in range(len(class_names)) if all(label in known for known in label_of)]
    chosen = np.isin(labels, shared)
    if not chosen.any():
        raise InputError("no image has a class that all models know: give data with such classes")
    images, labels = images[chosen], labels[chosen]
    theirs = label_of[0][foreign.answers(images)]
    rows: list[dict[str, Any]] = [{"num_images": len(labels), "accuracy": float((theirs == labels).mean())}]
    for predictor, known in zip(ours, label_of[1:], strict=True):
        answers = known[predictor.predict(images).argmax(axis=1)]
        found = compare_answers(labels, answers, theirs)
        kept = ("num_images", "difference", "difference_interval", "p_value", "agreement")
        rows.append({"accuracy": found["accuracy_a"], **{key: found[key] for key in kept}})
    return rows
