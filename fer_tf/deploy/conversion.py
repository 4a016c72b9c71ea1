"""Converts a Keras model to a .tflite: grey uint8 pixels in, probabilities out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from fer_tf.data.preprocessing import preprocess
from fer_tf.deploy.quantization import check_quantization, quantize
from fer_tf.errors import InputError
from fer_tf.task import IMAGE_SIZE


def to_tflite(
    model: keras.Model,
    quantization: str,
    *,
    metadata: dict[str, Any],
    calibration_images: np.ndarray | None = None,
) -> bytes:
    """Convert and quantise a trained model; return the bytes of a finished .tflite.

    Args:
        model: float32 (batch, size, size, 3) in [0, 255] -> probabilities (batch, classes), from `model.build_model`.
        quantization: one of `quantization.QUANTIZATIONS`.
        metadata: JSON-able, with `class_names`.
        calibration_images: uint8 (n, 48, 48), training images of all classes; needed for `quantization.CALIBRATED`.

    Returns:
        A file with input uint8 (1, 48, 48, 1), the grey pixels in [0, 255], and output float32 (1, classes). Labels and
        metadata are inside.

    Raises:
        InputError: if the quantization is unknown, calibration images are missing, or the model has other inputs or
            outputs.
    """
    check_quantization(quantization, calibration_images)
    return quantize(convert(model), quantization, metadata=metadata, calibration_images=calibration_images)


def convert(model: keras.Model) -> bytes:
    """Convert a model to the float flatbuffer that every quantization starts from.

    Args:
        model: from `model.build_model`.

    Returns:
        A flatbuffer with input float32 (1, 48, 48, 1), grey pixels in [0, 255], and output float32 (1, classes).

    Raises:
        InputError: if the model has other inputs or outputs, or Keras does not run on TensorFlow.
    """
    check_backend()
    check_task(model)
    import tensorflow as tf

    network = with_preprocessing(in_float32(model))
    signature = tf.TensorSpec((1, IMAGE_SIZE, IMAGE_SIZE, 1), tf.float32)
    function = tf.function(lambda images: network(images, training=False), autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function(signature)], network)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    # False turns variables into constants before conversion. True would keep them as VAR_HANDLE and READ_VARIABLE.
    converter.experimental_lower_to_saved_model = False
    return converter.convert()


def check_backend() -> None:
    """Check that Keras runs on TensorFlow, the only backend that converts.

    Raises:
        InputError: if Keras runs on another backend.
    """
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            f"export needs Keras on TensorFlow, but this process runs it on {keras.backend.backend()}: "
            "run export_tflite on the saved model"
        )


def check_task(model: keras.Model) -> None:
    """Check that a model takes square RGB images and gives probabilities of classes.

    Raises:
        InputError: if the model's input or output has another shape.
    """
    taken, given = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    if not (isinstance(taken, tuple) and isinstance(given, tuple)) or (
        len(taken) != 4 or taken[1] is None or taken[1:] != (taken[1], taken[1], 3) or len(given) != 2
    ):
        raise InputError(
            f"the model takes {taken} and gives {given}: expected square RGB images (batch, size, size, 3) in and "
            "(batch, classes) out, a model that fer_tf trained"
        )


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Return all layers, with nested models replaced by their layers."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


def in_float32(model: keras.Model) -> keras.Model:
    """Return the model, or a float32 copy if it computes in mixed precision, because converters take only float32."""
    if all(layer.compute_dtype == "float32" for layer in _layers(model)):
        return model

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        return layer.__class__.from_config({**layer.get_config(), "dtype": "float32"})

    copy = keras.models.clone_model(model, clone_function=clone, recursive=True)
    copy.set_weights(model.get_weights())
    for layer in _layers(copy):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    return copy


def with_preprocessing(model: keras.Model, *, batch_size: int | None = 1) -> keras.Model:
    """Put `preprocess` in front of a model: grey pixels, float32 (batch, 48, 48, 1), -> probabilities.

    If the network begins like EfficientNet, grey -> RGB, rescaling and normalisation are folded into its first
    convolution, which then has one input channel. If the normalisation shifts the values, a second channel is needed,
    because the zero padding is not shifted: this channel is constant inside the image and zero in the padding.

    Args:
        model: from `model.build_model`, float32.
        batch_size: images at a time; None for any number.

    Returns:
        The model to convert.
    """
    pixels = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 1), batch_size=batch_size, dtype="float32")
    image = preprocess(pixels, model.input_shape[1])
    repeat = keras.Model(pixels, image).operations[-1]
    begin = _foldable_beginning(model)
    if begin is None or len({id(channel) for channel in repeat.input}) != 1:
        return keras.Model(pixels, model(image))
    return keras.Model(pixels, _with_folded_stem(model, repeat.input[0], *begin))


def _foldable_beginning(model: keras.Model) -> tuple[keras.Model, np.ndarray, np.ndarray] | None:
    """Return the backbone, and scale and shift, float64 (3,), of the layers before its stem; None if not foldable."""
    backbone = next((layer for layer in model.layers if isinstance(layer, keras.Model)), None)
    names = [layer.name for layer in backbone.layers] if backbone is not None else []
    if backbone is None or not {"stem_conv_pad", "stem_conv"} <= set(names):
        return None
    scale, shift = np.ones(3), np.zeros(3)
    for layer in backbone.layers[1 : names.index("stem_conv_pad")]:
        if isinstance(layer, keras.layers.Rescaling):
            factor, offset = np.asarray(layer.scale, np.float64), np.asarray(layer.offset, np.float64)
        elif isinstance(layer, keras.layers.Normalization):
            mean, variance = (
                keras.ops.convert_to_numpy(value).astype(np.float64).reshape(-1)
                for value in (layer.mean, layer.variance)
            )
            factor = 1 / np.maximum(np.sqrt(variance), keras.config.epsilon())
            offset = -mean * factor
        else:
            return None
        scale, shift = scale * factor, shift * factor + offset
    return backbone, scale, shift


def _with_folded_stem(
    model: keras.Model, grey: Any, backbone: keras.Model, scale: np.ndarray, shift: np.ndarray
) -> Any:
    """Probabilities for the enlarged grey image (1, size, size, 1)."""
    stem, padding = backbone.get_layer("stem_conv"), backbone.get_layer("stem_conv_pad")
    kernel = keras.ops.convert_to_numpy(stem.kernel)  # (height, width, 3, filters)
    channels, folded = [grey], [np.tensordot(kernel, scale, (2, 0))]
    if np.any(shift):
        # The constant is 255, so both channels have the same range, and in int8 the same scale. `ops.full` would become
        # an # operator that XNNPACK does not run; an array becomes a constant, but needs a fixed batch size.
        fixed = grey.shape[0] is not None
        channels.append(np.full(grey.shape, 255, np.float32) if fixed else keras.ops.full_like(grey, 255.0))
        folded.append(np.tensordot(kernel, shift / 255.0, (2, 0)))
    x = keras.ops.concatenate(channels, axis=-1) if len(channels) > 1 else grey
    x = padding.__class__.from_config(padding.get_config())(x)
    convolution = stem.__class__.from_config(stem.get_config())
    x = convolution(x)
    convolution.set_weights([np.stack(folded, axis=2), *stem.get_weights()[1:]])
    x = keras.Model(stem.output, backbone.output)(x)
    return _apply_all(model.layers[model.layers.index(backbone) + 1 :], x)


def _apply_all(layers: Sequence[keras.layers.Layer], x: Any) -> Any:
    for layer in layers:
        x = layer(x)
    return x
