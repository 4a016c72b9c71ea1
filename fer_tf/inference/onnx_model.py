"""Predictions of an .onnx file with ONNX Runtime; needs the extra `onnx`, but no TensorFlow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from fer_tf.artifacts import METADATA_NAME, check_metadata
from fer_tf.errors import InputError
from fer_tf.inference.predictor import checked_images, default_num_threads, read_model
from fer_tf.install import install_hint
from fer_tf.task import IMAGE_SIZE, INPUT_NAME, OUTPUT_NAME

_CHUNK = 64  # images at a time; limits the memory for a large batch
_MAX_BYTES = 1 << 31  # limit of protobuf, and so of ONNX without external data
_ONLY_FATAL = 4  # ONNX Runtime's log level; our own errors report what it refuses


class ONNXPredictor:
    """An .onnx of fer_tf in ONNX Runtime on the CPU. Several threads may use it at once."""

    def __init__(self, content: bytes, *, name: str = "model.onnx", num_threads: int | None = None) -> None:
        """Open the model and check it.

        Args:
            content: the bytes of an .onnx that fer_tf wrote. Tensors in other files are not read.
            name: the file's name in error messages.
            num_threads: threads of ONNX Runtime; `default_num_threads()` if None.

        Raises:
            InputError: if the model breaks fer_tf's contract, or ONNX Runtime is not installed.
        """
        try:
            import onnxruntime
        except ImportError:
            raise InputError(f"{name} needs ONNX Runtime: {install_hint('onnx', 'onnxruntime')}") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads or default_num_threads()
        options.log_severity_level = _ONLY_FATAL
        # A tensor may name another file, which ONNX Runtime would look for in the working folder. This path is not a
        # folder.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own error types all derive directly from Exception
            raise InputError(f"{name} is not an ONNX file that ONNX Runtime opens: copy or export it again") from error
        self.metadata = _metadata(self._session.get_modelmeta().custom_metadata_map, name)
        self.class_names = tuple(self.metadata["class_names"])
        expected = {
            "input": (INPUT_NAME, "tensor(uint8)", ["batch", IMAGE_SIZE, IMAGE_SIZE, 1]),
            "output": (OUTPUT_NAME, "tensor(float)", ["batch", len(self.class_names)]),
        }
        for end, found in (("input", self._session.get_inputs()), ("output", self._session.get_outputs())):
            ends = [(one.name, one.type, one.shape) for one in found]
            if ends != [expected[end]]:
                raise InputError(
                    f"{name} has the {end} {ends}: expected {[expected[end]]}; it is not a model of fer_tf"
                )
        self.predict(np.zeros((1, IMAGE_SIZE, IMAGE_SIZE), np.uint8), name=name)

    def predict(self, images: np.ndarray, *, name: str = "the model") -> np.ndarray:
        """Return probabilities of grey crops.

        Args:
            images: uint8 (n, 48, 48), pixel values in [0, 255].
            name: the file's name in error messages.

        Returns:
            float32 (n, classes).

        Raises:
            InputError: if `images` has another type or shape, or the model is damaged.
        """
        images = checked_images(images)
        probabilities = np.empty((len(images), len(self.class_names)), np.float32)
        for start in range(0, len(images), _CHUNK):
            part = images[start : start + _CHUNK, :, :, None]
            try:
                probabilities[start : start + _CHUNK] = self._session.run([OUTPUT_NAME], {INPUT_NAME: part})[0]
            except Exception as error:  # as above
                raise InputError(f"{name} is damaged, ONNX Runtime cannot run it: copy or export it again") from error
        return probabilities


def read_onnx(path: Path) -> bytes:
    """Read an .onnx file.

    Raises:
        InputError: if the file is missing, cannot be read, or is larger than ONNX allows.
    """
    return read_model(path, "an .onnx", _MAX_BYTES)


def _metadata(properties: dict[str, str], name: str) -> dict[str, Any]:
    if METADATA_NAME not in properties:
        raise InputError(f"{name} is not a model of fer_tf (no {METADATA_NAME} in it): give one that export_onnx wrote")
    return check_metadata(properties[METADATA_NAME].encode(), name)
