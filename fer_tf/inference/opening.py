"""Opens a model file as the predictor of its format."""

from __future__ import annotations

import os
from pathlib import Path

from fer_tf.artifacts import read_metadata
from fer_tf.errors import InputError
from fer_tf.inference.keras_model import KerasPredictor
from fer_tf.inference.litert import LiteRTPredictor, read_tflite
from fer_tf.inference.predictor import Predictor


def open_model(path: str | os.PathLike[str], *, num_threads: int | None = None) -> Predictor:
    """Check and open a model that fer_tf wrote.

    Args:
        path: a .tflite (needs the light install only), a .keras (needs the extra `train`), or an .onnx (`onnx`).
        num_threads: images that a .tflite predicts at the same time, or threads of an .onnx; `default_num_threads()`
            if None. Ignored for a .keras.

    Returns:
        The model with its class names and metadata.

    Raises:
        InputError: if the file is missing, damaged, or not a model of fer_tf.
    """
    path = Path(path)
    if num_threads is not None and num_threads < 1:
        raise InputError(f"num_threads is {num_threads}: expected 1 or more")
    if path.suffix.lower() == ".tflite":
        return LiteRTPredictor(read_tflite(path), name=str(path), num_threads=num_threads)
    if path.suffix.lower() == ".keras":
        metadata = read_metadata(path)
        from fer_tf.model.weights import load_keras  # imports Keras, which a .tflite does not need

        return KerasPredictor(load_keras(path), metadata, name=str(path))
    if path.suffix.lower() == ".onnx":
        from fer_tf.inference.onnx_model import ONNXPredictor, read_onnx

        return ONNXPredictor(read_onnx(path), name=str(path), num_threads=num_threads)
    raise InputError(f"{path} is not a .tflite, .keras or .onnx file: give a model that fer_tf wrote")
