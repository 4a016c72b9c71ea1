"""The network: EfficientNet-B0's backbone and a head, in the form that each training phase needs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from fer_tf.errors import InputError
from fer_tf.model.weights import BACKBONE, load_backbone_weights

_KERAS_STOCHASTIC_DEPTH = 0.2  # the rate in keras.applications


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Set this dtype policy for layers that are made in the block; restore the previous policy afterwards."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build_backbone(
    image_size: int, *, width: float = 1.0, stochastic_depth: float = 0.2, batch_norm_momentum: float = 0.99
) -> keras.Model:
    """Build EfficientNet-B0, or a narrower or wider version, without its top, randomly initialised.

    Keras's constructor has no argument for the last two settings, so its layers are cloned with other values. The
    result is a plain functional model, which `keras.models.load_model` opens without fer_tf.

    Args:
        image_size: side of the input, pixels.
        width: width coefficient (Tan and Le, EfficientNet, 2019); each number of channels is a multiple of 8.
        stochastic_depth: drop rate of the last residual block.
        batch_norm_momentum: share of the old moving statistic kept at each step.

    Returns:
        A model float32 (batch, image_size, image_size, 3) in [0, 255] -> features (batch, h, w, 1280 at width 1).
    """
    settings = {
        "include_top": False, "weights": None, "input_shape": (image_size, image_size, 3), "name": BACKBONE
    }  # fmt: skip
    if width == 1:
        original = keras.applications.EfficientNetB0(**settings)
    else:  # Keras has no public name for the constructor of other widths
        from keras.src.applications.efficientnet import EfficientNet

        original = EfficientNet(width, 1.0, default_size=image_size, **settings)

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        settings = layer.get_config()
        if isinstance(layer, keras.layers.BatchNormalization):
            settings["momentum"] = batch_norm_momentum
        elif isinstance(layer, keras.layers.Dropout):
            settings["rate"] *= stochastic_depth / _KERAS_STOCHASTIC_DEPTH
        return layer.__class__.from_config(settings)

    return keras.models.clone_model(original, clone_function=clone)


def build_model(
    num_classes: int,
    *,
    image_size: int = 224,
    width: float = 1.0,
    dropout: float = 0.3,
    stochastic_depth: float = 0.2,
    batch_norm_momentum: float = 0.99,
    weights: str = "none",
) -> keras.Model:
    """Build the classifier: backbone, global average pooling, dropout, one dense layer of logits, softmax.

    Args:
        num_classes: at least 2.
        image_size: side of the input, pixels.
        width: width coefficient of the backbone.
        dropout: share of pooled features dropped in training.
        stochastic_depth: drop rate of the last residual block.
        batch_norm_momentum: share of the old moving statistic kept at each step.
        weights: the backbone's starting weights; see `load_backbone_weights`.

    Returns:
        A model float32 (batch, image_size, image_size, 3) in [0, 255] -> float32 probabilities (batch, num_classes).

    Raises:
        InputError: if there are fewer than two classes, or the weights cannot be loaded.

    Example:
        >>> model = build_model(7, image_size=64, weights="imagenet-lite0")
    """
    if num_classes < 2:
        raise InputError(
            f"{num_classes} class: a classifier needs at least 2; add classes or choose others with --classes"
        )
    backbone = build_backbone(
        image_size, width=width, stochastic_depth=stochastic_depth, batch_norm_momentum=batch_norm_momentum
    )
    load_backbone_weights(backbone, weights)
    inputs = keras.Input((image_size, image_size, 3), dtype="float32", name="image")
    x = backbone(inputs)
    x = keras.layers.GlobalAveragePooling2D(name="pooling")(x)  # (batch, features)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    # Use float32 under every policy: a softmax in half precision loses the small probabilities.
    x = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    outputs = keras.layers.Softmax(dtype="float32", name="probabilities")(x)
    return keras.Model(inputs, outputs, name="fer_tf")


def set_trainable(model: keras.Model, *, backbone: bool, batch_norm: bool) -> None:
    """Choose what the optimiser may change besides the head.

    Args:
        model: from `build_model`.
        backbone: True to train the backbone's layers.
        batch_norm: True to train the backbone's BatchNorm layers too; otherwise they also keep their statistics.
    """
    network = model.get_layer(BACKBONE)
    network.trainable = backbone
    if backbone and not batch_norm:
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False


class InferenceMode(keras.layers.Layer):
    """Calls a network in inference mode even in a training step, so that a frozen backbone drops no block.

    `network(inputs, training=False)` is not enough in a functional model: the model passes its own `training` on to
    every layer.
    """

    def __init__(self, network: keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = network

    def call(self, inputs: Any) -> Any:
        return self.network(inputs, training=False)


class LogitAdjustment(keras.layers.Layer):
    """Adds an offset to the logits, in training only (Menon et al., Long-tail learning via logit adjustment, 2021)."""

    def __init__(self, offset: np.ndarray, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._offset = offset

    def call(self, logits: Any, training: bool = False) -> Any:
        return logits + keras.ops.cast(self._offset, logits.dtype) if training else logits


def logits_model(
    model: keras.Model, *, frozen_backbone: bool = False, logit_offset: np.ndarray | None = None
) -> keras.Model:
    """Build the model to train: the same layers and variables, without the softmax.

    Args:
        model: from `build_model`.
        frozen_backbone: True to run the backbone in inference mode even in a training step.
        logit_offset: float32 (classes,), added to the logits in training only.

    Returns:
        A model float32 (batch, image_size, image_size, 3) -> float32 logits (batch, classes).
    """
    inputs = keras.Input(model.input_shape[1:], dtype="float32")
    backbone = model.get_layer(BACKBONE)
    x = InferenceMode(backbone, dtype="float32")(inputs) if frozen_backbone else backbone(inputs)
    for name in ("pooling", "dropout", "logits"):
        x = model.get_layer(name)(x)
    if logit_offset is not None:
        x = LogitAdjustment(logit_offset, dtype="float32")(x)
    return keras.Model(inputs, x)


def fold_temperature(model: keras.Model, temperature: float) -> None:
    """Divide the logits' kernel and bias by a temperature, so that every export gives calibrated probabilities.

    Args:
        model: from `build_model`; changed in place.
        temperature: above 0; above 1 makes the probabilities less confident.

    Raises:
        ValueError: if the temperature is 0, negative, infinite or NaN.

    Source: Guo et al., On calibration of modern neural networks (2017).
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature {temperature}: expected a finite number above 0")
    logits = model.get_layer("logits")
    logits.set_weights([value / temperature for value in logits.get_weights()])
