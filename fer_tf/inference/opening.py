"""Opens a model file as the predictor of its format."""

from __future__ import annotations

import os
from pathlib import Path

from fer_tf.errors import InputError
from fer_tf.inference.keras_model import KerasPredictor
from fer_tf.inference.litert import LiteRTPredictor
from fer_tf.inference.predictor import Predictor, default_num_threads


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
