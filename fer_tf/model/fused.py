"""The network as TensorFlow trains it faster on a CPU: the same layers and variables, computed by fused operators.

Keras's BatchNormalization is a dozen element-wise operators forward and more backward, and the gradient of TensorFlow's
swish six more; together they took as long as all convolutions. Here one operator does each normalisation, and swish
keeps what its gradient needs.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class FusedBatchNormalization(keras.layers.Layer):
    """A BatchNormalization of (batch, height, width, channels) over its channels, in one operator while training."""

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
        # The operator gives the unbiased variance; Keras keeps the biased one.
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], variance.dtype)
        variance *= (count - 1) / count
        for moving, new in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            moving.assign(moving * layer.momentum + new * (1 - layer.momentum))
        return outputs


@tf.custom_gradient
def swish(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """x * sigmoid(x), its derivative written as y + sigmoid(x) * (1 - y) from what the forward pass has."""
    sigmoid = tf.sigmoid(x)
    y = x * sigmoid
    return y, lambda upstream: upstream * (y + sigmoid * (1 - y))


class FusedSwish(keras.layers.Layer):
    """The activation `swish` with the gradient above."""

    def call(self, inputs: Any) -> Any:
        return swish(inputs)


def fuse(model: keras.Model) -> keras.Model:
    """A functional model over the same layers and variables, with fused normalisations and activations.

    Args:
        model: of `model.logits_model`, with the backbone inside it.

    Returns:
        A model to train: what it learns is learnt by `model`'s variables. It is not for saving.
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
