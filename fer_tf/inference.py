"""From a .tflite or .keras to predictions. The one import of the LiteRT interpreter; a .tflite needs no TensorFlow."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import queue
import struct
import threading
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fer_tf import artifacts
from fer_tf.data.dataset import IMAGE_SIZE
from fer_tf.errors import InputError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from PIL import Image

    ImageLike = np.ndarray | Image.Image | str | os.PathLike[str]

_MAX_DEFAULT_THREADS = 8  # each thread's interpreter keeps its own packed copy of the weights, 16 MB for a float B0
_MAX_CHUNK = 32  # images that a thread takes at a time: threads of unequal speed then end together
_KERAS_BATCH_SIZE = 64
_MAX_FLATBUFFER_BYTES = (1 << 31) - 1  # 32-bit signed offsets: no flatbuffer is larger


class Predictor(Protocol):
    """What `open_model` returns for either kind of file."""

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def metadata(self) -> dict[str, Any]: ...

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Probabilities, float32 (n, classes), of grey crops, uint8 (n, 48, 48)."""
        ...


def open_model(path: str | os.PathLike[str], *, num_threads: int | None = None) -> Predictor:
    """Opens a model that fer_tf wrote, after checking that it is one.

    Args:
        path: a .tflite (needs the light install only) or a .keras (needs the `train` extra).
        num_threads: how many images a .tflite works on at the same time; the processor's cores, within reason, if None.
            A .keras leaves this to Keras.

    Returns:
        The model with its class names and metadata.

    Raises:
        InputError: if the file is missing, damaged, or not such a model.
    """
    path = Path(path)
    if num_threads is not None and num_threads < 1:
        raise InputError(f"num_threads is {num_threads}: expected 1 or more")
    if path.suffix.lower() == ".keras":
        return KerasPredictor(path)
    if path.suffix.lower() == ".tflite":
        return LiteRTPredictor(path, num_threads=num_threads or default_num_threads())
    raise InputError(f"{path} is neither a .tflite nor a .keras file: give a model that fer_tf wrote")


def default_num_threads() -> int:
    """Threads that a prediction uses when nobody says: the cores that this process may run on, within reason."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MAX_DEFAULT_THREADS)


def rank(probabilities: np.ndarray, class_names: Sequence[str]) -> list[tuple[str, float]]:
    """Class names with their scores, the most likely first.

    Args:
        probabilities: float (classes,).
        class_names: one name a class.

    Returns:
        (name, score) pairs; classes of equal score keep their order.
    """
    order = np.argsort(-probabilities, kind="stable")
    return [(class_names[index], float(probabilities[index])) for index in order]


class EmotionClassifier:
    """Emotions of face crops, from Python: opens a model once, then answers for images of any size, from any thread."""

    def __init__(self, path: str | os.PathLike[str] | None = None, *, num_threads: int | None = None) -> None:
        """Opens the model.

        Args:
            path: a .tflite or .keras that fer_tf wrote; the model that ships with fer_tf if None.
            num_threads: how many images a .tflite works on at the same time.

        Raises:
            InputError: if there is no such model or it breaks fer_tf's contract.
        """
        self._predictor = open_model(
            artifacts.shipped_model(".tflite") if path is None else path, num_threads=num_threads
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._predictor.class_names

    @property
    def metadata(self) -> dict[str, Any]:
        return self._predictor.metadata

    def predict(self, images: ImageLike | Iterable[ImageLike]) -> np.ndarray:
        """Probabilities of one face crop or of many.

        Args:
            images: one crop or an iterable of crops, each a path, a PIL image, or a uint8 array (height, width),
                (height, width, 1) or RGB (height, width, 3), values in [0, 255]; or one uint8 array of n such crops.
                An array of three axes whose last has length 1 or 3 is one crop; length 4 (RGBA) is refused.

        Returns:
            float32 (n, classes); n is 1 for a single crop. Each row sums to 1.

        Raises:
            InputError: if a file cannot be read as a picture or an array has another type or shape.
        """
        return self._predictor.predict(_as_crops(images))

    def classify(self, images: ImageLike | Iterable[ImageLike]) -> list[list[tuple[str, float]]]:
        """Ranked emotions of one face crop or of many: `predict` with names, the most likely first.

        Args:
            images: as for `predict`.

        Returns:
            For each crop (one list for a single crop) its (class name, score) pairs.
        """
        return [rank(row, self.class_names) for row in self.predict(images)]


def _as_crops(images: ImageLike | Iterable[ImageLike]) -> np.ndarray:
    if isinstance(images, np.ndarray):
        one = images.ndim == 2 or (images.ndim == 3 and images.shape[-1] in (1, 3))
        if not one and (images.ndim not in (3, 4) or images.shape[-1] == 4):  # no crop is 4 pixels wide: RGBA is meant
            raise InputError(f"array of shape {images.shape}: expected (height, width[, 1 or 3]), or n of these")
        crops = images.shape[1:3] == (IMAGE_SIZE, IMAGE_SIZE) and images.shape[3:] in ((), (1,))
        if crops and not one and images.dtype == np.uint8:
            return images.reshape(-1, IMAGE_SIZE, IMAGE_SIZE)
        images = [images] if one else images
    elif isinstance(images, (str, bytes, os.PathLike)) or not isinstance(images, Iterable):  # a PIL image is none
        images = [images]
    found = [_as_crop(image) for image in images]
    return np.stack(found) if found else np.empty((0, IMAGE_SIZE, IMAGE_SIZE), np.uint8)


def _as_crop(image: ImageLike) -> np.ndarray:
    from fer_tf import faces  # Pillow is not needed, nor loaded, for arrays that are crops already

    return faces.to_grey48(faces.open_image(image) if isinstance(image, (str, os.PathLike)) else image)


class LiteRTPredictor:
    """A .tflite of fer_tf under the LiteRT interpreter; may be used from several threads at once."""

    def __init__(self, path: Path, *, num_threads: int) -> None:
        """Checks the file and starts the first interpreter.

        Raises:
            InputError: if the file is missing or breaks fer_tf's contract.
        """
        self._content = _read_model(path)
        num_classes = check_tflite(self._content, str(path))
        self.metadata = artifacts.read_metadata(path)
        self.class_names = tuple(self.metadata["class_names"])
        if len(self.class_names) != num_classes:
            raise InputError(
                f"{path} names {len(self.class_names)} classes but its output has {num_classes} values: export it again"
            )
        _check_sha256(self._content, self.metadata, path)
        self._path = path
        self._num_threads = num_threads
        self._lock = threading.Lock()
        self._idle: queue.SimpleQueue[_Interpreter] = queue.SimpleQueue()
        self._num_started = 0
        self._executor: ThreadPoolExecutor | None = None
        with _without_native_log():
            self._idle.put(self._start())

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Probabilities of grey crops; a batch is spread over the threads.

        Args:
            images: uint8 (n, 48, 48), pixel values in [0, 255].

        Returns:
            float32 (n, classes).

        Raises:
            InputError: if `images` has another type or shape.
        """
        images = _checked_images(images)
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
        interpreter = _Interpreter(self._content, str(self._path))
        self._num_started += 1
        return interpreter

    def _threads(self) -> ThreadPoolExecutor:
        from concurrent.futures import ThreadPoolExecutor  # a single prediction starts faster without it

        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._num_threads, thread_name_prefix="fer_tf")
            return self._executor


class _Interpreter:
    """One LiteRT interpreter on one thread. Invoking it releases Python's lock, so several run side by side."""

    def __init__(self, content: bytes, name: str) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter = Interpreter(model_content=content, num_threads=1)
            self._interpreter.allocate_tensors()
            self._input = self._interpreter.get_input_details()[0]["index"]
            self._output = self._interpreter.get_output_details()[0]["index"]
            self(np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8))  # some damage shows when the operators run
        except (ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
            raise InputError(f"{name} is damaged, LiteRT refuses it ({reason}): copy or export it again") from error

    def __call__(self, image: np.ndarray) -> np.ndarray:
        self._interpreter.set_tensor(self._input, image.reshape(1, IMAGE_SIZE, IMAGE_SIZE, 1))
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)[0]


_native_log_lock = threading.Lock()


@contextlib.contextmanager
def _without_native_log() -> Iterator[None]:
    """Sends the process's stderr nowhere: LiteRT writes to it from C++, by no logger, when a model is first opened.

    Not for the interpreters that threads start later: they are silent, and other threads' messages would be lost.
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


class KerasPredictor:
    """A .keras of fer_tf with the preprocessing of grey crops in front; may be used from several threads."""

    def __init__(self, path: Path) -> None:
        """Loads the model; imports Keras.

        Raises:
            InputError: if the file is missing or is not a model of fer_tf.
        """
        self.metadata = artifacts.read_metadata(path)
        self.class_names = tuple(self.metadata["class_names"])
        import keras

        from fer_tf.data.preprocessing import preprocess

        try:
            model = keras.models.load_model(path, compile=False, safe_mode=True)
        except Exception as error:  # Keras raises whatever the damaged member of the archive made it raise
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(f"{path} is damaged, Keras refuses it ({reason}): copy it or train it again") from error
        shape = tuple(model.output_shape)
        if shape != (None, len(self.class_names)):
            raise InputError(f"{path} names {len(self.class_names)} classes, its output is {shape}: train it again")
        image_size = model.input_shape[1]
        inputs = keras.Input((IMAGE_SIZE, IMAGE_SIZE), dtype="uint8")
        self._model = keras.Model(inputs, model(preprocess(inputs, image_size)))
        self._lock = threading.Lock()

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Probabilities of grey crops, predicted in batches.

        Args:
            images: uint8 (n, 48, 48), pixel values in [0, 255].

        Returns:
            float32 (n, classes).

        Raises:
            InputError: if `images` has another type or shape.
        """
        images = _checked_images(images)
        if len(images) == 0:
            return np.empty((0, len(self.class_names)), np.float32)
        with self._lock:
            return np.asarray(self._model.predict(images, batch_size=_KERAS_BATCH_SIZE, verbose=0), np.float32)


def _checked_images(images: np.ndarray) -> np.ndarray:
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
        received = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise InputError(f"images are {received}: expected a uint8 array of shape (n, {IMAGE_SIZE}, {IMAGE_SIZE})")
    return images


# --- the structure of a .tflite, read before the interpreter sees it ------------------------------------------------

# Field numbers and codes of the TFLite schema (tensorflow/lite/schema/schema.fbs).
_MODEL_OPERATOR_CODES, _MODEL_SUBGRAPHS = 1, 2
_OPERATOR_DEPRECATED_CODE, _OPERATOR_CUSTOM_NAME, _OPERATOR_CODE = 0, 1, 3
_GRAPH_TENSORS, _GRAPH_INPUTS, _GRAPH_OUTPUTS = 0, 1, 2
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_QUANTIZATION = 0, 1, 4
_QUANTIZATION_SCALE, _QUANTIZATION_ZERO_POINT = 2, 3
_CUSTOM = 32
_TYPE_NAMES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8"}
_IDENTIFIER = b"TFL3"


def _read_model(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_FLATBUFFER_BYTES:
            size = path.stat().st_size
            raise InputError(f"{path} has {size:,} bytes: a .tflite has at most {_MAX_FLATBUFFER_BYTES:,}")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"no model file at {path}: give the path of a .tflite that fer_tf wrote") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def check_tflite(content: bytes, name: str) -> int:
    """Checks that a .tflite keeps fer_tf's contract: grey pixels in, probabilities out, builtin operators only.

    Args:
        content: the file's bytes.
        name: what the error message calls it.

    Returns:
        The number of classes.

    Raises:
        InputError: with the part of the contract that the file breaks.
    """
    if not content:
        raise InputError(f"{name} is empty: copy or export it again")
    if content[4:8] != _IDENTIFIER:
        raise InputError(f"{name} is no .tflite file (no {_IDENTIFIER.decode()} at byte 4): give one that fer_tf wrote")
    try:
        return _check_structure(content, name)
    except (struct.error, IndexError) as error:
        raise InputError(f"{name} is cut short or damaged: copy or export it again") from error


def _check_structure(content: bytes, name: str) -> int:
    foreign = "it is not a model of fer_tf"
    model = _Table.root(content)
    for code in model.tables(_MODEL_OPERATOR_CODES):
        if max(code.int8(_OPERATOR_DEPRECATED_CODE), code.int32(_OPERATOR_CODE)) == _CUSTOM:
            custom = code.text(_OPERATOR_CUSTOM_NAME)
            raise InputError(f"{name} needs the custom operator {custom!r}: expected builtin operators only; {foreign}")
    graphs = model.tables(_MODEL_SUBGRAPHS)
    if len(graphs) != 1:
        raise InputError(f"{name} has {len(graphs)} graphs: expected 1; {foreign}")
    tensors = graphs[0].tables(_GRAPH_TENSORS)
    described = {}
    for end, field in (("input", _GRAPH_INPUTS), ("output", _GRAPH_OUTPUTS)):
        indices = graphs[0].int32s(field)
        if len(indices) != 1:
            raise InputError(f"{name} has {len(indices)} {end}s: expected 1; {foreign}")
        if not 0 <= indices[0] < len(tensors):
            raise IndexError
        described[end] = tensors[indices[0]]
    kind, shape = _type_and_shape(described["input"])
    if (kind, shape) != ("uint8", (1, IMAGE_SIZE, IMAGE_SIZE, 1)):
        raise InputError(f"{name} takes {kind} {shape}: expected uint8 (1, {IMAGE_SIZE}, {IMAGE_SIZE}, 1); {foreign}")
    for quantization in described["input"].table(_TENSOR_QUANTIZATION):
        scales, zeros = quantization.float32s(_QUANTIZATION_SCALE), quantization.int64s(_QUANTIZATION_ZERO_POINT)
        if scales not in ((), (1.0,)) or any(zeros):
            scale, zero = (scales or (1.0,))[0], (zeros or (0,))[0]
            raise InputError(
                f"{name} scales its input (scale {scale:g}, zero point {zero}): expected grey pixels as they are "
                f"(scale 1, zero point 0); {foreign}"
            )
    kind, shape = _type_and_shape(described["output"])
    if kind != "float32" or len(shape) != 2 or shape[0] != 1 or shape[1] < 2:
        raise InputError(f"{name} gives {kind} {shape}: expected float32 (1, classes); {foreign}")
    return shape[1]


def _type_and_shape(tensor: _Table) -> tuple[str, tuple[int, ...]]:
    code = tensor.int8(_TENSOR_TYPE)
    return _TYPE_NAMES.get(code, f"type {code}"), tensor.int32s(_TENSOR_SHAPE)


class _Table:
    """A table of a flatbuffer; every access is checked against the buffer's end (https://flatbuffers.dev/internals)."""

    def __init__(self, content: bytes, position: int) -> None:
        self._content = content
        self._position = position
        self._vtable = position - self._at("<i", position)
        self._vtable_size = self._at("<H", self._vtable)

    @classmethod
    def root(cls, content: bytes) -> _Table:
        return cls(content, struct.unpack_from("<I", content)[0])

    def _at(self, kind: str, position: int) -> int:
        if position < 0:  # unpack_from would count from the end
            raise IndexError
        return struct.unpack_from(kind, self._content, position)[0]

    def _field(self, number: int) -> int:
        """Position of a field's value; 0 if the table leaves it out."""
        slot = 4 + 2 * number
        offset = self._at("<H", self._vtable + slot) if slot + 2 <= self._vtable_size else 0
        return self._position + offset if offset else 0

    def _target(self, number: int) -> int:
        field = self._field(number)
        return field + self._at("<I", field) if field else 0

    def int8(self, number: int) -> int:
        field = self._field(number)
        return self._at("<b", field) if field else 0

    def int32(self, number: int) -> int:
        field = self._field(number)
        return self._at("<i", field) if field else 0

    def text(self, number: int) -> str:
        start = self._target(number)
        size = self._at("<I", start) if start else 0
        return self._content[start + 4 : start + 4 + size].decode(errors="replace")

    def table(self, number: int) -> list[_Table]:
        """The table in a field, or nothing."""
        start = self._target(number)
        return [_Table(self._content, start)] if start else []

    def tables(self, number: int) -> list[_Table]:
        positions = self._vector(number, "I")
        return [_Table(self._content, position + offset) for position, offset in positions]

    def int32s(self, number: int) -> tuple[int, ...]:
        return tuple(value for _, value in self._vector(number, "i"))

    def int64s(self, number: int) -> tuple[int, ...]:
        return tuple(value for _, value in self._vector(number, "q"))

    def float32s(self, number: int) -> tuple[float, ...]:
        return tuple(value for _, value in self._vector(number, "f"))

    def _vector(self, number: int, kind: str) -> list[tuple[int, Any]]:
        """(position, value) of each element."""
        start = self._target(number)
        if not start:
            return []
        length, width = self._at("<I", start), struct.calcsize(kind)
        if length * width > len(self._content):  # before a list of that length is made
            raise IndexError
        values = struct.unpack_from(f"<{length}{kind}", self._content, start + 4)
        return [(start + 4 + width * index, value) for index, value in enumerate(values)]


def _check_sha256(content: bytes, metadata: dict[str, Any], path: Path) -> None:
    """Compares the flatbuffer, the part before the appended archive, with the metadata's digest, if there is one."""
    if (expected := metadata.get("flatbuffer_sha256")) is None:
        return
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        end = min(member.header_offset for member in archive.infolist())
    if hashlib.sha256(memoryview(content)[:end]).hexdigest() != expected:
        raise InputError(f"{path} is damaged (its SHA-256 is not that of the export): copy or export it again")
