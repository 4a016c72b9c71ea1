"""Predictions of a .tflite with the LiteRT interpreter, without TensorFlow."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import queue
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_tf import artifacts
from fer_tf.errors import InputError
from fer_tf.inference.contract import check_tflite
from fer_tf.inference.predictor import checked_images, default_num_threads, read_model
from fer_tf.task import IMAGE_SIZE

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_MAX_CHUNK = 32  # images that a thread takes at a time; few, so that slow and fast threads end together
_MAX_FLATBUFFER_BYTES = (1 << 31) - 1  # a flatbuffer's offsets are signed 32-bit numbers


class LiteRTPredictor:
    """A .tflite of fer_tf in the LiteRT interpreter. Several threads may use it at once."""

    def __init__(self, content: bytes, *, name: str = "model.tflite", num_threads: int | None = None) -> None:
        """Check the model and start the first interpreter.

        Args:
            content: the bytes of a .tflite that fer_tf wrote.
            name: the file's name in error messages.
            num_threads: images predicted at the same time; `default_num_threads()` if None.

        Raises:
            InputError: if the model breaks fer_tf's contract.
        """
        num_classes = check_tflite(content, name)
        self.metadata = artifacts.parse_metadata(content, name)
        self.class_names = tuple(self.metadata["class_names"])
        if len(self.class_names) != num_classes:
            raise InputError(
                f"{name} names {len(self.class_names)} classes but its output has {num_classes} values: export it again"
            )
        _check_sha256(content, self.metadata, name)
        self._content, self._name = content, name
        self._num_threads = num_threads or default_num_threads()
        self._lock = threading.Lock()
        self._idle: queue.SimpleQueue[_Interpreter] = queue.SimpleQueue()
        self._num_started = 0
        self._executor: ThreadPoolExecutor | None = None
        with without_native_log():
            self._idle.put(self._start())

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return probabilities of grey crops; several threads share a batch.

        Args:
            images: uint8 (n, 48, 48), pixel values in [0, 255].

        Returns:
            float32 (n, classes).

        Raises:
            InputError: if `images` has another type or shape.
        """
        images = checked_images(images)
        num_images = len(images)
        probabilities = np.empty((num_images, len(self.class_names)), np.float32)
        chunk = min(_MAX_CHUNK, math.ceil(num_images / self._num_threads))
        if chunk < num_images:
            starts = range(0, num_images, chunk)
            parts = [(images[start : start + chunk], probabilities[start : start + chunk]) for start in starts]
            for _ in self._threads().map(self._predict_into, *zip(*parts, strict=True)):
                pass
        elif num_images:
            self._predict_into(images, probabilities)
        return probabilities

    def _predict_into(self, images: np.ndarray, probabilities: np.ndarray) -> None:
        interpreter = self._borrow()
        try:
            for index, image in enumerate(images):
                probabilities[index] = interpreter(image)
        finally:
            self._idle.put(interpreter)

    def _borrow(self) -> _Interpreter:
        with contextlib.suppress(queue.Empty):
            return self._idle.get_nowait()
        with self._lock:
            if self._num_started < self._num_threads:
                return self._start()
        return self._idle.get()

    def _start(self) -> _Interpreter:
        interpreter = _Interpreter(self._content, self._name)
        self._num_started += 1
        return interpreter

    def _threads(self) -> ThreadPoolExecutor:
        from concurrent.futures import ThreadPoolExecutor  # imported here, so that a single prediction starts faster

        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._num_threads, thread_name_prefix="fer_tf")
            return self._executor


class _Interpreter:
    """A LiteRT interpreter with one thread. `invoke` releases Python's lock, so several can run in parallel."""

    def __init__(self, content: bytes, name: str) -> None:
        try:
            self._interpreter = start_interpreter(content)
            given = self._interpreter.get_input_details()[0]
            self._input, self._shape = given["index"], tuple(given["shape"])
            self._output = self._interpreter.get_output_details()[0]["index"]
            self(np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8))  # finds damage that shows only when operators run
        except (ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
            raise InputError(f"{name} is damaged, LiteRT refuses it ({reason}): copy or export it again") from error

    def __call__(self, image: np.ndarray) -> np.ndarray:
        grey = image.reshape(1, IMAGE_SIZE, IMAGE_SIZE, 1)
        self._interpreter.set_tensor(self._input, np.broadcast_to(grey, self._shape))  # RGB: three equal values
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)[0]


def start_interpreter(content: bytes) -> Any:
    """Start a LiteRT interpreter on one thread for a .tflite that `contract.read_ends` has read.

    Raises:
        ValueError: if LiteRT refuses the file.
        RuntimeError: if LiteRT cannot prepare its operators.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


_native_log_lock = threading.Lock()


@contextlib.contextmanager
def without_native_log() -> Iterator[None]:
    """Discard the process's stderr, to which LiteRT's C++ code writes when a model is first opened.

    Use it for the first interpreter only: later ones write nothing there, and messages of other threads would be lost.
    """
    with _native_log_lock:
        try:
            kept = os.dup(2)
        except OSError:  # a process without stderr
            yield
            return
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def read_tflite(path: Path) -> bytes:
    """Read a .tflite.

    Raises:
        InputError: if the file is missing, cannot be read, or is larger than any flatbuffer.
    """
    return read_model(path, "a .tflite", _MAX_FLATBUFFER_BYTES)


def _check_sha256(content: bytes, metadata: dict[str, Any], name: str) -> None:
    """Compare the flatbuffer (the bytes before the archive) with the digest in the metadata, if there is one."""
    if (expected := metadata.get("flatbuffer_sha256")) is None:
        return
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        end = min(member.header_offset for member in archive.infolist())
    if hashlib.sha256(memoryview(content)[:end]).hexdigest() != expected:
        raise InputError(f"{name} is damaged (its SHA-256 is not that of the export): copy or export it again")
