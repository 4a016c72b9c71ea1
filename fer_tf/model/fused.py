"""Faster training on a CPU under TensorFlow: the same layers and variables, computed with fused operators.

Keras's BatchNormalization needs a dozen element-wise operators forward and more backward; the gradient of TensorFlow's
swish needs six. Together they took as long as all convolutions. Here one operator computes each normalisation, and
swish keeps the values that its gradient needs.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class FusedBatchNormalization(keras.layers.Layer):
    """Computes a BatchNormalization of (batch, height, width, channels) with one operator in training."""

    def __init__(self, layer: keras.layers.BatchNormalization, **kwargs: Any) -> None:
        super().__init__(dtype=layer.dtype_policy, **kwargs)
        self.layer = layer

    def call(self, inputs: Any, training: bool = False) -> Any:
        layer = self.layer
        if not (training and layer.trainable):
            return layer(inputs, training=False)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            tf.convert_to_tensor(layer.gamma),
            tf.convert_to_tensor(layer.beta),
            epsilon=layer.epsilon,
            is_training=True,
        )
        # The operator returns the unbiased variance; Keras's moving variance averages the biased one.
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], variance.dtype)
        variance *= (count - 1) / count
        for moving, new in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            moving.assign(moving * layer.momentum + new * (1 - layer.momentum))
        return outputs


@tf.custom_gradient
def swish(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """Compute y = x * sigmoid(x), with the derivative y + sigmoid(x) * (1 - y) from values of the forward pass."""
    sigmoid = tf.sigmoid(x)
    y = x * sigmoid
    return y, lambda upstream: upstream * (y + sigmoid * (1 - y))


class FusedSwish(keras.layers.Layer):
    """The activation `swish` as a layer."""

    def call(self, inputs: Any) -> Any:
        return swish(inputs)


def fuse(model: keras.Model) -> keras.Model:
    """Replace the normalisations and swish activations of a functional model with fused ones.

    Args:
        model: from `logits_model`, with the backbone inside it.

    Returns:
        A model that shares all variables with `model`, so training it trains `model`. Do not save it.
    """

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, keras.Model):
            return fuse(layer)(*args, **kwargs)
        if isinstance(layer, keras.layers.BatchNormalization):
            return FusedBatchNormalization(layer)(*args)
        if isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.silu:
            return FusedSwish(dtype=layer.dtype_policy)(*args)
        return layer(*args, **kwargs)

    return keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)
