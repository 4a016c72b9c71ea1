"""Keras model -> LiteRT file: grey uint8 pixels in, probabilities out, in one of six quantizations. Owns converter and quantizer settings."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from fer_tf import tflite_format
from fer_tf.data.preprocessing import preprocess
from fer_tf.errors import InputError

QUANTIZATIONS = ("float32", "float16", "weight_int8", "dynamic", "int8", "int8_mixed")
CALIBRATED = ("int8", "int8_mixed")  # those that need calibration images
IMAGE_SIZE = 48
_log = logging.getLogger(__name__)


def export_tflite(
    model: keras.Model,
    quantization: str,
    *,
    metadata: dict[str, Any],
    calibration_images: np.ndarray | None = None,
) -> bytes:
    """The finished .tflite of a trained model.

    Args:
        model: float32 (batch, size, size, 3) in [0, 255] -> probabilities (batch, classes), of `model.build_model`.
        quantization: one of `QUANTIZATIONS`.
        metadata: what the file says about itself, JSON-able, with `class_names`.
        calibration_images: uint8 (n, 48, 48), training images of all classes; for the `CALIBRATED` quantizations.

    Returns:
        A file with input uint8 (1, 48, 48, 1), the grey pixels as they are, and output float32 (1, classes); labels and
        metadata inside.

    Raises:
        InputError: for an unknown quantization, missing calibration images, or a model of another task.
    """
    check_quantization(quantization)
    return quantize(convert(model), quantization, metadata=metadata, calibration_images=calibration_images)


def check_quantization(quantization: str) -> None:
    """Raises InputError for a name that is not in `QUANTIZATIONS`."""
    if quantization not in QUANTIZATIONS:
        raise InputError(f"unknown quantization {quantization!r}: expected one of {', '.join(QUANTIZATIONS)}")


# --- Keras -> float flatbuffer ---------------------------------------------------------------------------------------


def convert(model: keras.Model) -> bytes:
    """The float flatbuffer that every quantization starts from: float32 grey pixels (1, 48, 48, 1) -> probabilities.

    Args:
        model: of `model.build_model`.

    Raises:
        InputError: if the model is of another task, or Keras does not run on TensorFlow.
    """
    import tensorflow as tf

    _check_model(model)
    network = with_preprocessing(_in_float32(model))
    signature = tf.TensorSpec((1, IMAGE_SIZE, IMAGE_SIZE, 1), tf.float32)
    function = tf.function(lambda images: network(images, training=False), autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function(signature)], network)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    # Off: the variables become constants before conversion. On, the file keeps them as VAR_HANDLE and READ_VARIABLE.
    converter.experimental_lower_to_saved_model = False
    return converter.convert()


def _check_model(model: keras.Model) -> None:
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            f"export needs Keras on TensorFlow, this process runs it on {keras.backend.backend()}: "
            "run export_tflite on the saved model with KERAS_BACKEND=tensorflow"
        )
    shapes = (getattr(model, "input_shape", None), getattr(model, "output_shape", None))
    faces = (
        isinstance(model, keras.Model)
        and all(isinstance(shape, tuple) for shape in shapes)
        and len(shapes[0]) == 4
        and shapes[0][1] is not None
        and shapes[0][1:] == (shapes[0][1], shapes[0][1], 3)
        and len(shapes[1]) == 2
    )
    if not faces:
        raise InputError(
            f"the model takes {shapes[0]} and gives {shapes[1]}: expected square RGB images (batch, size, size, 3) in and "
            "(batch, classes) out, as a model that fer_tf trained"
        )


def _in_float32(model: keras.Model) -> keras.Model:
    """The model itself, or a float32 copy of one trained in mixed precision: the converter takes no half-precision graph."""

    def layers(parent: keras.Model) -> list[keras.layers.Layer]:
        return [inner for layer in parent.layers for inner in (layers(layer) if isinstance(layer, keras.Model) else [layer])]

    if all(layer.compute_dtype in ("float32", None) for layer in layers(model)):
        return model

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        return layer.__class__.from_config({**layer.get_config(), "dtype": "float32"})

    copy = keras.models.clone_model(model, clone_function=clone, recursive=True)
    copy.set_weights(model.get_weights())
    for layer in layers(copy):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    return copy


def with_preprocessing(model: keras.Model) -> keras.Model:
    """The model with `preprocess` in front: grey pixels, float32 (1, 48, 48, 1), -> probabilities.

    Where the backbone is an EfficientNet, grey -> RGB, rescaling and normalisation are folded into its first
    convolution, which then has one channel; or two, where the normalisation shifts: its zero padding lies outside of
    the shift, so the shift needs a channel of its own that is constant inside and zero in the padding.

    Args:
        model: of `model.build_model`, float32.
    """
    pixels = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 1), batch_size=1, dtype="float32")
    image = preprocess(pixels, model.input_shape[1])
    folded = _folded_stem(model, _only_channel(pixels, image))
    return keras.Model(pixels, model(image) if folded is None else folded)


def _only_channel(pixels: Any, image: Any) -> Any:
    """The enlarged grey image (1, size, size, 1) inside `preprocess`, which ends by repeating it; None if it does not."""
    repeat = keras.Model(pixels, image).operations[-1]
    channels = repeat.input if isinstance(repeat.input, list) else []
    same = len({id(channel) for channel in channels}) == 1 and len(channels) == 3 and channels[0].shape[-1] == 1
    return channels[0] if same else None


def _folded_stem(model: keras.Model, grey: Any) -> Any:
    """Probabilities from the one-channel image, or None where the network's beginning is not EfficientNet's."""
    backbone = next((layer for layer in model.layers if isinstance(layer, keras.Model)), None)
    names = [layer.name for layer in backbone.layers] if backbone is not None else []
    if backbone is None or grey is None or names[-1:] == [] or "stem_conv" not in names or "stem_conv_pad" not in names:
        return None
    begin = backbone.layers[1 : names.index("stem_conv_pad")]
    affine = _affine(begin)
    if affine is None:
        return None
    scale, shift = affine  # (3,), (3,)
    stem, padding = backbone.get_layer("stem_conv"), backbone.get_layer("stem_conv_pad")
    kernel = keras.ops.convert_to_numpy(stem.kernel)  # (height, width, 3, filters)
    channels = [grey]
    folded = [np.tensordot(kernel, scale, (2, 0))]
    if np.any(shift):
        # 255 and not 1: the two channels then share their range, and int8 its scale.
        channels.append(keras.ops.full_like(grey, 255.0))
        folded.append(np.tensordot(kernel, shift / 255.0, (2, 0)))
    x = channels[0] if len(channels) == 1 else keras.ops.concatenate(channels, axis=-1)
    x = padding.__class__.from_config(padding.get_config())(x)
    convolution = stem.__class__.from_config(stem.get_config())
    x = convolution(x)
    convolution.set_weights([np.stack(folded, axis=2), *stem.get_weights()[1:]])
    x = keras.Model(stem.output, backbone.output)(x)
    for layer in model.layers[model.layers.index(backbone) + 1 :]:
        x = layer(x)
    return x


def _affine(layers: Sequence[keras.layers.Layer]) -> tuple[np.ndarray, np.ndarray] | None:
    """Scale and shift, float64 (3,) each, that a chain of rescaling and normalisation layers amounts to; None if it has others."""
    scale, shift = np.ones(3), np.zeros(3)
    for layer in layers:
        if isinstance(layer, keras.layers.Rescaling):
            factor, offset = np.asarray(layer.scale, np.float64), np.asarray(layer.offset, np.float64)
        elif isinstance(layer, keras.layers.Normalization):
            mean = keras.ops.convert_to_numpy(layer.mean).reshape(-1)
            deviation = np.maximum(np.sqrt(keras.ops.convert_to_numpy(layer.variance).reshape(-1)), keras.config.epsilon())
            factor, offset = 1.0 / deviation.astype(np.float64), -mean.astype(np.float64) / deviation
        else:
            return None
        scale, shift = scale * factor, shift * factor + offset
    return scale, shift


# --- float flatbuffer -> quantised file ------------------------------------------------------------------------------

# What one part of the network computes in, by increasing cost and fidelity.
STATIC, DYNAMIC, FLOAT = "static", "dynamic", "float"
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
# The ranges tried for static int8: this quantile of the images' own maxima (and minima). 1 is the plain min and max, which
# one odd image can widen until the others lose their resolution.
_RANGE_QUANTILES = (0.5, 0.8, 0.9, 0.95, 0.99, 1.0)


def quantize(
    flatbuffer: bytes,
    quantization: str,
    *,
    metadata: dict[str, Any],
    calibration_images: np.ndarray | None = None,
) -> bytes:
    """The finished .tflite, from `convert`'s flatbuffer. Arguments and errors as for `export_tflite`."""
    check_quantization(quantization)
    details: dict[str, Any] = {}
    if quantization in CALIBRATED:
        images = _checked_images(calibration_images, quantization)
        flatbuffer, details = _search(flatbuffer, images, mixed=quantization == "int8_mixed")
    elif quantization != "float32":
        flatbuffer = _apply(flatbuffer, _RECIPES[quantization]())
    metadata = {**metadata, "quantization": quantization, **({"quantization_details": details} if details else {})}
    return tflite_format.with_metadata(_grey_in(flatbuffer), metadata)


def _grey_in(flatbuffer: bytes) -> Any:
    model = tflite_format.parse(flatbuffer)
    tflite_format.take_grey_pixels(model)
    tflite_format.name_ends(model)
    return model


def _checked_images(images: np.ndarray | None, quantization: str) -> np.ndarray:
    if images is None or len(images) == 0:
        raise InputError(
            f"no calibration images: {quantization} measures the network's value ranges on training images; give --data, "
            f"or choose a quantization that needs none ({', '.join(name for name in QUANTIZATIONS if name not in CALIBRATED)})"
        )
    if images.dtype != np.uint8 or images.shape[1:] not in ((IMAGE_SIZE, IMAGE_SIZE), (IMAGE_SIZE, IMAGE_SIZE, 1)):
        raise InputError(
            f"calibration images are {images.dtype} {images.shape}: expected uint8 (n, {IMAGE_SIZE}, {IMAGE_SIZE})"
        )
    return images.reshape(-1, 1, IMAGE_SIZE, IMAGE_SIZE, 1)


# --- recipes of litert-quantizer -------------------------------------------------------------------------------------


def _rule(operation: str, config: dict[str, Any] | None, *, algorithm: str = "min_max_uniform_quantize", regex: str = ".*"):
    return {
        "regex": regex,
        "operation": operation,
        "algorithm_key": algorithm if config else "no_quantize",
        "op_config": config or {},
    }


def _weights(num_bits: int, dtype: str, *, granularity: str = "CHANNELWISE") -> dict[str, Any]:
    return {"num_bits": num_bits, "symmetric": True, "granularity": granularity, "dtype": dtype}


def _int8(level: str) -> dict[str, Any]:
    """int8 weights, and the computation that goes with the level."""
    config: dict[str, Any] = {"weight_tensor_config": _weights(8, "INT")}
    if level == FLOAT:
        return {**config, "compute_precision": "FLOAT", "explicit_dequantize": True}
    config |= {"compute_precision": "INTEGER", "explicit_dequantize": False}
    if level == STATIC:
        config["activation_tensor_config"] = {**_weights(8, "INT", granularity="TENSORWISE"), "symmetric": False}
    return config


def _float16_recipe() -> list[dict[str, Any]]:
    config = {
        "weight_tensor_config": _weights(16, "FLOAT", granularity="TENSORWISE"),
        "compute_precision": "FLOAT",
        "explicit_dequantize": True,
    }
    return [_rule(operation, config, algorithm="float_casting") for operation in _CONVOLUTIONS]


def _level_recipe(level: str, *, regex: str = ".*") -> list[dict[str, Any]]:
    """Rules that make all matching operators compute at one level."""
    if level == STATIC:
        return [_rule("*", _int8(STATIC), regex=regex)]
    rules = [_rule("*", None, regex=regex)]
    for operation in _CONVOLUTIONS:
        # XNNPACK has no dynamic depthwise convolution: left dynamic, each would end the partition and run slowly.
        operation_level = FLOAT if operation == "DEPTHWISE_CONV_2D" else level
        rules.append(_rule(operation, _int8(operation_level), regex=regex))
    return rules


def _static_recipe(levels: dict[str, str]) -> list[dict[str, Any]]:
    """Static int8, but for the parts that `levels` lists; the ends and the softmax stay float."""
    rules = _level_recipe(STATIC)
    for part, level in levels.items():
        rules += _level_recipe(level, regex=_part_regex(part))
    return rules + [_rule(operation, None) for operation in ("INPUT", "OUTPUT", "SOFTMAX")]


_RECIPES: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "float16": _float16_recipe,
    "weight_int8": lambda: _level_recipe(FLOAT),
    "dynamic": lambda: _level_recipe(DYNAMIC),
}


def _apply(flatbuffer: bytes, recipe: list[dict[str, Any]], ranges: dict[str, Any] | None = None) -> bytes:
    from litert_quantizer import quantizer

    with contextlib.redirect_stderr(io.StringIO()):  # progress bars of a tenth of a second
        result = quantizer.Quantizer(bytearray(flatbuffer), recipe).quantize(ranges, enable_progress_report=False)
    return bytes(result.quantized_model)


# --- static int8: ranges, and which parts stay out of it -------------------------------------------------------------

_PARTS = re.compile(r"(?:^|/)(stem|block\d[a-z]|top|logits)_")  # in the tensors' names, which keep the layers' names
_TARGET_AGREEMENT = 0.99  # int8_mixed stops when it agrees with float on this share of the calibration images ...
_LATENCY_SHARE = 0.62  # ... or before it would take more than this share of the float model's time
_NUM_TIMED, _NUM_BATCHES = 40, 5


def _search(flatbuffer: bytes, images: np.ndarray, *, mixed: bool) -> tuple[bytes, dict[str, Any]]:
    """Static int8 with the ranges that disturb the output least, and if `mixed` with the parts that lose accuracy kept out.

    Args:
        flatbuffer: of `convert`.
        images: uint8 (n, 1, 48, 48, 1): give the ranges, and judge by Kullback-Leibler divergence from the float output.

    Returns:
        The quantised flatbuffer and a JSON-able record of what was chosen.
    """
    names, extremes, reference = _observe(flatbuffer, images)
    pixels = _pixel_tensors(flatbuffer)

    def trial(levels: dict[str, str], quantile: float) -> _Trial:
        return _Trial(_apply(flatbuffer, _static_recipe(levels), _ranges(names, extremes, quantile, pixels)), images, reference)

    quantile = min(_RANGE_QUANTILES, key=lambda value: trial({}, value).divergence)
    best, levels = trial({}, quantile), dict[str, str]()
    if mixed:
        budget = _LATENCY_SHARE * _Trial(flatbuffer, images[:1], reference[:1]).latency_ms()
        best, levels = _keep_out(best, _parts(flatbuffer), lambda chosen: trial(chosen, quantile), budget)
    details = {
        "num_calibration": len(images),
        "range_quantile": quantile,
        "levels": levels,
        "calibration_agreement": best.agreement,
        "calibration_divergence": best.divergence,
    }
    _log.info("%s", details)
    return best.flatbuffer, details


def _observe(flatbuffer: bytes, images: np.ndarray) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Runs the float model on the calibration images.

    Returns:
        The names of the tensors that operators compute, their extremes float32 (n, tensors, 2), and the probabilities.
    """
    graph = tflite_format.parse(flatbuffer).subgraphs[0]
    indices = sorted({*graph.inputs, *(index for operator in graph.operators for index in operator.outputs)})
    interpreter = _interpreter(flatbuffer, keep_tensors=True)
    extremes = np.empty((len(images), len(indices), 2), np.float32)
    probabilities = []
    for row, image in zip(extremes, images, strict=True):
        probabilities.append(_invoke(interpreter, image))
        for pair, index in zip(row, indices, strict=True):
            values = interpreter.get_tensor(index)
            pair[:] = values.min(), values.max()
    return [graph.tensors[index].name.decode() for index in indices], extremes, np.stack(probabilities)


def _interpreter(flatbuffer: bytes, *, keep_tensors: bool = False) -> Any:
    from litert_quantizer.utils import tfl_interpreter_utils

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # keeping all tensors costs memory, says LiteRT: that is what is asked for
        return tfl_interpreter_utils.create_tfl_interpreter(
            flatbuffer, num_threads=1, preserve_all_tensors=keep_tensors
        )


def _invoke(interpreter: Any, image: np.ndarray) -> np.ndarray:
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image.astype(np.float32))
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]


def _pixel_tensors(flatbuffer: bytes) -> set[str]:
    """Names of the input and of what is still grey values behind it: their range is 0 to 255, whatever was observed."""
    model = tflite_format.parse(flatbuffer)
    graph = model.subgraphs[0]
    pixels = set(graph.inputs)
    for operator in graph.operators:
        if tflite_format.operator_name(model, operator) not in ("RESIZE_BILINEAR", "CONCATENATION"):
            break
        pixels.update(operator.outputs)
    return {graph.tensors[index].name.decode() for index in pixels}


def _ranges(names: list[str], extremes: np.ndarray, quantile: float, pixels: set[str]) -> dict[str, dict[str, np.ndarray]]:
    """What litert-quantizer calls a calibration result: each tensor's range, of the given quantile over the images."""
    low = np.quantile(extremes[:, :, 0], 1 - quantile, axis=0).astype(np.float32)
    high = np.quantile(extremes[:, :, 1], quantile, axis=0).astype(np.float32)
    return {
        name: {"min": np.float32([0]), "max": np.float32([255])}
        if name in pixels
        else {"min": low[index : index + 1], "max": high[index : index + 1]}
        for index, name in enumerate(names)
    }


def _parts(flatbuffer: bytes) -> list[str]:
    """The parts of the network that can be kept out of static int8, in their order: stem, blocks, top, logits."""
    graph = tflite_format.parse(flatbuffer).subgraphs[0]
    found = (_PARTS.search(graph.tensors[operator.outputs[0]].name.decode()) for operator in graph.operators)
    return list(dict.fromkeys(match[1] for match in found if match))


def _part_regex(part: str) -> str:
    return f"(^|/){part}_"


class _Trial:
    """One quantised candidate, judged on the calibration images."""

    def __init__(self, flatbuffer: bytes, images: np.ndarray, reference: np.ndarray) -> None:
        self.flatbuffer = flatbuffer
        self._image = images[0]
        self._interpreter = _interpreter(flatbuffer)
        probabilities = np.stack([_invoke(self._interpreter, image) for image in images])
        p, q = np.maximum(reference, 1e-6), np.maximum(probabilities, 1e-6)
        self.divergence = float(np.mean(np.sum(p * (np.log(p) - np.log(q)), axis=1)))
        self.agreement = float(np.mean(reference.argmax(axis=1) == probabilities.argmax(axis=1)))

    def latency_ms(self) -> float:
        """Median time of an image on one thread, of the fastest of a few batches: other programs only ever add to it."""
        medians = []
        for _ in range(_NUM_BATCHES):
            times = []
            for _ in range(_NUM_TIMED):
                start = time.perf_counter()
                self._interpreter.invoke()
                times.append(time.perf_counter() - start)
            medians.append(float(np.median(times)))
        return 1e3 * min(medians)


def _keep_out(
    best: _Trial, parts: Sequence[str], trial: Callable[[dict[str, str]], _Trial], budget_ms: float
) -> tuple[_Trial, dict[str, str]]:
    """Moves parts from static int8 to dynamic or float, always the one that buys most divergence for its time."""
    levels: dict[str, str] = {}
    latency = best.latency_ms()
    gains = {(part, level): float("inf") for part in parts for level in (DYNAMIC, FLOAT)}
    while best.agreement < _TARGET_AGREEMENT and gains:
        # Lazy greedy: a gain seldom grows as others are taken, so only the stalest top needs to be measured again.
        fresh: dict[tuple[str, str], tuple[_Trial, float]] = {}
        while (top := max(gains, key=lambda key: gains[key])) not in fresh:
            candidate = trial({**levels, top[0]: top[1]})
            time_ms = candidate.latency_ms()
            cost = max(time_ms - latency, 0.01 * latency)
            gains[top] = (best.divergence - candidate.divergence) / cost if time_ms <= budget_ms else -float("inf")
            fresh[top] = candidate, time_ms
        if gains[top] <= 0:
            break
        best, latency = fresh[top]
        levels[top[0]] = top[1]
        gains = {key: gain for key, gain in gains.items() if key[0] != top[0] or (top[1] == DYNAMIC and key[1] == FLOAT)}
        _log.info("int8_mixed: %s %s: agreement %.4f, %.3f ms", top[0], top[1], best.agreement, latency)
    return best, levels
