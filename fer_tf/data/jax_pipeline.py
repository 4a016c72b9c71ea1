"""The input pipeline without tf.data: the model takes uint8 faces, and the step augments and preprocesses them.

It offers the same functions as `tf_pipeline` to backends that train without TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from fer_tf.data.augmentation import NUM_PARAMETERS, EpochPlan, augment, identity_parameters, plan_batches
from fer_tf.data.dataset import Dataset
from fer_tf.data.preprocessing import preprocess
from fer_tf.task import IMAGE_SIZE


class Augmentation(keras.layers.Layer):
    """`augment` in training, the plain images otherwise: {images, parameters} -> float32 (batch, 48, 48)."""

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        images, parameters = _shared(inputs["images"]), _shared(inputs["parameters"])
        return augment(images, parameters) if training else keras.ops.cast(images, "float32")


def _shared(batch: Any) -> Any:
    """Split a batch over the devices of Keras's distribution; every device gets all of it if it does not divide."""
    distribution = keras.distribution.distribution()
    if distribution is None or batch.shape[0] % distribution.device_mesh.devices.size:
        return batch
    axes = [distribution.batch_dim_name, *[None] * (len(batch.shape) - 1)]
    return keras.distribution.distribute_tensor(batch, keras.distribution.TensorLayout(axes, distribution.device_mesh))


class Preprocessing(keras.layers.Layer):
    """`preprocess` as a layer: (batch, 48, 48) -> float32 (batch, image_size, image_size, 3)."""

    def __init__(self, image_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.image_size = image_size

    def call(self, images: Any) -> Any:
        return preprocess(images, self.image_size)


def decode(dataset: Dataset) -> Dataset:
    """Decode a data set's pixel strings with NumPy."""
    return dataset.decoded()


def fit_model(model: keras.Model, image_size: int) -> keras.Model:
    """Wrap a network, so that it takes uint8 faces and their augmentation parameters."""
    inputs = {
        "images": keras.Input((IMAGE_SIZE, IMAGE_SIZE), dtype="uint8", name="images"),
        "parameters": keras.Input((NUM_PARAMETERS,), dtype="float32", name="parameters"),
    }
    # Use float32 under every policy: float16 would round an enlarged image to eighths of a grey level.
    faces = Augmentation(dtype="float32")(inputs)
    return keras.Model(inputs, model(Preprocessing(image_size, dtype="float32")(faces)))


def make_train_dataset(
    images: np.ndarray,
    plan: Callable[[int], EpochPlan],
    *,
    epochs: tuple[int, int],
    batch_size: int,
    image_size: int,
) -> Iterator[tuple]:
    """Training batches like `tf_pipeline.make_train_dataset`: elements ({images, parameters}, targets, weights)."""
    del image_size  # the model resizes
    for rows, parameters, targets, weights in plan_batches(plan, *epochs, batch_size):
        yield {"images": images[rows], "parameters": parameters}, targets, weights


def make_eval_dataset(
    images: np.ndarray, targets: np.ndarray, *, batch_size: int, image_size: int
) -> keras.utils.PyDataset:
    """Evaluation batches like `tf_pipeline.make_eval_dataset`: elements ({images, parameters}, targets)."""
    del image_size
    return _EvalBatches(images, targets, batch_size)


class _EvalBatches(keras.utils.PyDataset):
    def __init__(self, images: np.ndarray, targets: np.ndarray, batch_size: int) -> None:
        super().__init__()
        self._images, self._targets, self._batch_size = images, targets, batch_size

    def __len__(self) -> int:
        return -(-len(self._images) // self._batch_size)

    def __getitem__(self, index: int) -> tuple:
        part = slice(index * self._batch_size, (index + 1) * self._batch_size)
        images = self._images[part]
        return {"images": images, "parameters": identity_parameters(len(images))}, self._targets[part]
