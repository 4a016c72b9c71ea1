"""Predictions of a Keras model, preprocessing included."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_tf.errors import InputError
from fer_tf.inference.predictor import checked_images
from fer_tf.task import IMAGE_SIZE

if TYPE_CHECKING:
    import keras

_BATCH_SIZE = 64


class KerasPredictor:
    """A Keras model that takes grey crops and preprocesses them. Several threads may use it."""

    def __init__(self, model: keras.Model, metadata: Mapping[str, Any], *, name: str = "the model") -> None:
        """Build the network that takes grey crops.

        Later changes of the model's weights, such as a folded temperature, change the predictions too.

        Args:
            model: float32 (batch, size, size, 3) in [0, 255] -> probabilities (batch, classes).
            metadata: the model's metadata, with `class_names`.
            name: the model's name in error messages.

        Raises:
            InputError: if the model's output does not match its class names.
        """
        import keras

        from fer_tf.data.preprocessing import preprocess

        self.metadata = dict(metadata)
        self.class_names = tuple(self.metadata["class_names"])
        shape = tuple(model.output_shape)
        if shape != (None, len(self.class_names)):
            raise InputError(f"{name} names {len(self.class_names)} classes, but its output is {shape}: train it again")
        inputs = keras.Input((IMAGE_SIZE, IMAGE_SIZE), dtype="uint8")
        self._model = keras.Model(inputs, model(preprocess(inputs, model.input_shape[1])))
        self._lock = threading.Lock()

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return probabilities of grey crops, predicted in batches.

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
            return np.asarray(self._model.predict(images, batch_size=_BATCH_SIZE, verbose=0), np.float32)
