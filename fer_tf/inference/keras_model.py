"""Predictions of a Keras model, with the preprocessing in front."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from fer_tf import artifacts
from fer_tf.errors import InputError
from fer_tf.inference.predictor import checked_images
from fer_tf.task import IMAGE_SIZE

_KERAS_BATCH_SIZE = 64


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
        images = checked_images(images)
        if len(images) == 0:
            return np.empty((0, len(self.class_names)), np.float32)
        with self._lock:
            return np.asarray(self._model.predict(images, batch_size=_KERAS_BATCH_SIZE, verbose=0), np.float32)
