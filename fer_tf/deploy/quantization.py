"""Turns a float .tflite into a finished file with one of several quantizations. Needs no Keras.

To add a quantization, put its name into `QUANTIZATIONS` (and `CALIBRATED`, if it needs calibration images), write its
branch in `quantize`, and add it to the list of files that `predict` looks for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fer_tf.deploy import tflite_format
from fer_tf.errors import InputError
from fer_tf.task import IMAGE_SIZE

QUANTIZATIONS = ("float32", "float16", "weight_int8", "dynamic", "int8", "int8_mixed")
CALIBRATED = ("int8", "int8_mixed")  # these need calibration images
AUTO = "auto"  # try all and choose one; see `release`
MODES = (*QUANTIZATIONS, AUTO)
_log = logging.getLogger(__name__)


def check_quantization(quantization: str, calibration_images: np.ndarray | None = None) -> None:
    """Check the arguments of `quantize` before the model is converted.

    Raises:
        InputError: if the name is not in `QUANTIZATIONS`, or it is in `CALIBRATED` and the calibration images are
            missing or not uint8 (n, 48, 48).
    """
    if quantization not in QUANTIZATIONS:
        raise InputError(f"unknown quantization {quantization!r}: expected one of {', '.join(QUANTIZATIONS)}")
    if quantization not in CALIBRATED:
        return
    if calibration_images is None or len(calibration_images) == 0:
        others = ", ".join(name for name in QUANTIZATIONS if name not in CALIBRATED)
        raise InputError(
            f"no calibration images: {quantization} measures value ranges on training images; give images, or choose "
            f"a quantization that needs none ({others})"
        )
    if calibration_images.dtype != np.uint8 or calibration_images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
        raise InputError(
            f"calibration images are {calibration_images.dtype} {calibration_images.shape}: "
            f"expected uint8 (n, {IMAGE_SIZE}, {IMAGE_SIZE})"
        )


# The arithmetic of a block of the network. The weights are int8 in all three cases.
STATIC = "static"  # int8 values; calibration fixes their ranges
DYNAMIC = "dynamic"  # float values; each convolution converts them to int8 with the current image's range
FLOAT = "float"  # float values
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
# Convolutions with fewer weights keep them in float, except in static blocks. This adds 0.13 MB to B0's 4.5 MB and no
# time. It removes most of int8's error: the few weights of the first layers influence every later value.
_SMALL = 8192
# Ranges to try for static int8: this quantile of the images' maxima, and likewise of their minima. 1 means the plain
# extremes; a single odd image can then widen the range so much that the other images lose resolution.
_RANGE_QUANTILES = (0.9, 0.95, 0.98, 0.99, 0.995, 1.0)
_BLOCK = re.compile(r"(?:^|/)(stem|block\d[a-z]|top|logits)_")  # in tensor names, which contain the layer names
_TARGET_AGREEMENT = 0.98  # agreement of int8_mixed with float on the calibration images
_MAX_EXCLUDED_SHARE = 0.5  # of the network's values; beyond this, dynamic is as fast and more exact


def quantize(
    flatbuffer: bytes,
    quantization: str,
    *,
    metadata: dict[str, Any],
    calibration_images: np.ndarray | None = None,
    colour: str = "grey",
) -> bytes:
    """Quantise a converted model; return the bytes of the finished .tflite.

    Args:
        flatbuffer: from `conversion.convert`: float32 grey pixels (1, 48, 48, 1) -> probabilities.
        quantization: one of `QUANTIZATIONS`.
        metadata: JSON-able, with `class_names`.
        calibration_images: uint8 (n, 48, 48), training images of all classes; needed for `CALIBRATED`.
        colour: a member of `task.INPUTS`.

    Returns:
        A file with input uint8 (1, 48, 48, 1), the grey pixels in [0, 255], or (1, 48, 48, 3), RGB pixels, and output
        float32 (1, classes). Labels and metadata are inside.

    Raises:
        InputError: if the quantization is unknown or calibration images are missing.
    """
    check_quantization(quantization, calibration_images)
    details: dict[str, Any] = {}
    if calibration_images is not None and quantization in CALIBRATED:
        images = calibration_images.reshape(-1, 1, IMAGE_SIZE, IMAGE_SIZE, 1)
        flatbuffer, details = _search(flatbuffer, images, mixed=quantization == "int8_mixed")
    elif quantization == "float16":
        flatbuffer = _apply(flatbuffer, _float16_recipe())
    elif quantization != "float32":
        flatbuffer = _apply(flatbuffer, _uncalibrated_recipe(flatbuffer, _LEVELS[quantization]))
    model = tflite_format.parse(flatbuffer)
    tflite_format.use_uint8_input(model)
    if colour == "rgb":
        tflite_format.use_rgb_input(model)
        metadata = {**metadata, "input": colour}
    tflite_format.name_input_and_output(model)
    metadata = {**metadata, "quantization": quantization, **({"quantization_details": details} if details else {})}
    return tflite_format.with_metadata(model, metadata)


_LEVELS = {"weight_int8": FLOAT, "dynamic": DYNAMIC}


# --- recipes of litert-quantizer -------------------------------------------------------------------------------------
# A recipe is a list of rules. If several rules match an operator, the last one in the list wins.


def _rule(
    operation: str, config: dict[str, Any] | None, *, algorithm: str = "min_max_uniform_quantize", regex: str = ".*"
) -> dict[str, Any]:
    """Rule for operators of one kind whose output name matches; without a config, the operators stay unchanged."""
    return {
        "regex": regex,
        "operation": operation,
        "algorithm_key": algorithm if config else "no_quantize",
        "op_config": config or {},
    }


def _config(level: str) -> dict[str, Any]:
    config: dict[str, Any] = {
        "weight_tensor_config": {"num_bits": 8, "symmetric": True, "granularity": "CHANNELWISE", "dtype": "INT"},
        "compute_precision": "FLOAT" if level == FLOAT else "INTEGER",
        "explicit_dequantize": level == FLOAT,
    }
    if level == STATIC:
        values = {"num_bits": 8, "symmetric": False, "granularity": "TENSORWISE", "dtype": "INT"}
        config["activation_tensor_config"] = values
    return config


def _float16_recipe() -> list[dict[str, Any]]:
    config = {
        "weight_tensor_config": {"num_bits": 16, "symmetric": True, "granularity": "TENSORWISE", "dtype": "FLOAT"},
        "compute_precision": "FLOAT",
        "explicit_dequantize": True,
    }
    return [_rule(operation, config, algorithm="float_casting") for operation in _CONVOLUTIONS]


def _rules_at(level: str, regex: str) -> list[dict[str, Any]]:
    """Rules that make all matching operators compute in DYNAMIC or FLOAT."""
    rules = [_rule("*", None, regex=regex)]
    for operation in _CONVOLUTIONS:
        # XNNPACK has no dynamic depthwise convolution: each would split the partition and run slowly outside it.
        computed = FLOAT if operation == "DEPTHWISE_CONV_2D" else level
        rules.append(_rule(operation, _config(computed), regex=regex))
    return rules


def _small_convolutions(flatbuffer: bytes) -> list[str]:
    """Return the output names of the convolutions with few weights."""
    model = tflite_format.parse(flatbuffer)
    tensors = model.subgraphs[0].tensors
    return [
        tensors[operator.outputs[0]].name.decode()
        for operator in model.subgraphs[0].operators
        if tflite_format.operator_name(model, operator) in _CONVOLUTIONS
        and np.prod(tensors[operator.inputs[1]].shape) < _SMALL
    ]


def _unquantized(names: Sequence[str]) -> list[dict[str, Any]]:
    return [_rule("*", None, regex=f"^{re.escape(name)};$") for name in names]


def _uncalibrated_recipe(flatbuffer: bytes, level: str) -> list[dict[str, Any]]:
    return _rules_at(level, ".*") + _unquantized(_small_convolutions(flatbuffer))


def _static_recipe(excluded_blocks: Sequence[str], small: Sequence[str]) -> list[dict[str, Any]]:
    """Static int8 with the excluded blocks dynamic; input, output and softmax stay float."""
    rules = [_rule("*", _config(STATIC)), *(_rule(operation, None) for operation in ("INPUT", "OUTPUT", "SOFTMAX"))]
    for block in excluded_blocks:
        rules += _rules_at(DYNAMIC, f"(^|/){block}_")
    return rules + _unquantized([name for name in small if _block_of(name) in excluded_blocks])


def _block_of(name: str) -> str | None:
    match = _BLOCK.search(name)
    return match[1] if match else None


def _apply(flatbuffer: bytes, recipe: list[dict[str, Any]], ranges: dict[str, Any] | None = None) -> bytes:
    from litert_quantizer import quantizer

    with _quiet():
        result = quantizer.Quantizer(bytearray(flatbuffer), recipe).quantize(ranges, enable_progress_report=False)
    return bytes(result.quantized_model)


# --- static int8: ranges and excluded blocks -------------------------------------------------------------------------


def _search(flatbuffer: bytes, images: np.ndarray, *, mixed: bool) -> tuple[bytes, dict[str, Any]]:
    """Quantise to static int8 with the ranges that change the output least.

    Args:
        flatbuffer: from `conversion.convert`.
        images: uint8 (n, 1, 48, 48, 1), to measure the ranges and the distance from the float output.
        mixed: True to exclude blocks until the agreement with float is high enough.

    Returns:
        The quantised flatbuffer and a JSON-able record of the choices.
    """
    observed = _observe(flatbuffer, images)
    pixels, small = _pixel_tensors(flatbuffer), _small_convolutions(flatbuffer)

    def trial(excluded_blocks: Sequence[str], quantile: float) -> _Trial:
        ranges = _ranges(observed, quantile, pixels)
        quantised = _apply(flatbuffer, _static_recipe(excluded_blocks, small), ranges)
        return _Trial(quantised, images, observed.probabilities)

    quantile = min(_RANGE_QUANTILES, key=lambda value: trial((), value).distance)
    best, excluded_blocks = trial((), quantile), list[str]()
    if mixed:
        best, excluded_blocks = _exclude_blocks(best, _value_shares(flatbuffer), lambda chosen: trial(chosen, quantile))
    details = {
        "num_calibration": len(images),
        "range_quantile": quantile,
        "excluded_blocks": excluded_blocks,
        "calibration_agreement": best.agreement,
        "calibration_distance": best.distance,
    }
    return best.flatbuffer, details


@dataclasses.dataclass(frozen=True)
class _Observed:
    """Values of the float model on the calibration images."""

    names: list[str]  # names of the input and of the tensors that operators compute
    ranks: list[int]
    extremes: np.ndarray  # float32 (n, tensors, 2): minimum and maximum
    probabilities: np.ndarray  # float32 (n, classes)


def _observe(flatbuffer: bytes, images: np.ndarray) -> _Observed:
    graph = tflite_format.parse(flatbuffer).subgraphs[0]
    indices = sorted({*graph.inputs, *(index for operator in graph.operators for index in operator.outputs)})
    tensors = [graph.tensors[index] for index in indices]
    interpreter = _interpreter(flatbuffer, keep_tensors=True)
    extremes = np.empty((len(images), len(indices), 2), np.float32)
    probabilities = []
    for row, image in zip(extremes, images, strict=True):
        probabilities.append(_invoke(interpreter, image))
        for pair, index in zip(row, indices, strict=True):
            values = interpreter.get_tensor(index)
            pair[:] = values.min(), values.max()
    return _Observed(
        [tensor.name.decode() for tensor in tensors],
        [len(tensor.shape) for tensor in tensors],
        extremes,
        np.stack(probabilities),
    )


def _interpreter(flatbuffer: bytes, *, keep_tensors: bool = False) -> Any:
    from litert_quantizer.utils import tfl_interpreter_utils

    with _quiet():
        return tfl_interpreter_utils.create_tfl_interpreter(
            flatbuffer, num_threads=1, preserve_all_tensors=keep_tensors
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide litert-quantizer's progress bars and LiteRT's warning that kept tensors need memory."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _invoke(interpreter: Any, image: np.ndarray) -> np.ndarray:
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image.astype(np.float32))
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]


def _pixel_tensors(flatbuffer: bytes) -> set[str]:
    """Names of the tensors that hold grey values, from the input on: their range is always 0 to 255."""
    model = tflite_format.parse(flatbuffer)
    graph = model.subgraphs[0]
    pixels = set(graph.inputs)
    for operator in graph.operators:
        if tflite_format.operator_name(model, operator) not in ("RESIZE_BILINEAR", "CONCATENATION"):
            break
        pixels.update(operator.outputs)
    return {graph.tensors[index].name.decode() for index in pixels}


def _ranges(observed: _Observed, quantile: float, pixels: set[str]) -> dict[str, dict[str, np.ndarray]]:
    """Each tensor's range at a quantile over the images, in the format of litert-quantizer's calibration result."""
    low = np.quantile(observed.extremes[:, :, 0], 1 - quantile, axis=0).astype(np.float32)
    high = np.quantile(observed.extremes[:, :, 1], quantile, axis=0).astype(np.float32)
    exact = np.array([name in pixels for name in observed.names])
    low[exact], high[exact] = 0, 255
    return {
        name: {"min": least.reshape((1,) * rank), "max": most.reshape((1,) * rank)}
        for name, rank, least, most in zip(observed.names, observed.ranks, low, high, strict=True)
    }


class _Trial:
    """One quantised candidate, compared with float on the calibration images."""

    def __init__(self, flatbuffer: bytes, images: np.ndarray, reference: np.ndarray) -> None:
        self.flatbuffer = flatbuffer
        interpreter = _interpreter(flatbuffer)
        probabilities = np.stack([_invoke(interpreter, image) for image in images])
        # Mean total variation: in the Kullback-Leibler divergence, a few odd images would outweigh all others.
        self.distance = float(np.mean(np.abs(probabilities - reference).sum(axis=1)) / 2)
        self.agreement = float(np.mean(reference.argmax(axis=1) == probabilities.argmax(axis=1)))


def _value_shares(flatbuffer: bytes) -> dict[str, float]:
    """Each block's share of the values that the network computes for an image.

    The share stands for the time cost of excluding a block: the block's products stay int8, but its values are four
    times as wide. Unlike a measured time, the share is the same on every machine and in every export.
    """
    graph = tflite_format.parse(flatbuffer).subgraphs[0]
    values: dict[str, int] = {}
    for operator in graph.operators:
        tensor = graph.tensors[operator.outputs[0]]
        if block := _block_of(tensor.name.decode()):
            values[block] = values.get(block, 0) + int(np.prod(tensor.shape))
    return {block: count / sum(values.values()) for block, count in values.items()}


def _exclude_blocks(
    best: _Trial, shares: dict[str, float], trial: Callable[[Sequence[str]], _Trial]
) -> tuple[_Trial, list[str]]:
    """Exclude blocks from static int8, each time the one with the best error reduction per share of the values.

    Args:
        best: the candidate without exclusions.
        shares: shares of the blocks that may be excluded, from `_value_shares`.
        trial: makes the candidate that excludes the given blocks.

    Returns:
        The best candidate, and its excluded blocks in the order of their choice.
    """
    excluded_blocks: list[str] = []
    room = _MAX_EXCLUDED_SHARE
    gains = dict.fromkeys(shares, float("inf"))
    while best.agreement < _TARGET_AGREEMENT:
        gains = {block: gain for block, gain in gains.items() if shares[block] <= room}
        if not gains:
            break
        # Lazy greedy search: gains rarely grow when blocks are excluded, so only the top one is measured again.
        fresh: dict[str, _Trial] = {}
        while (top := max(gains, key=lambda block: gains[block])) not in fresh:
            fresh[top] = trial([*excluded_blocks, top])
            gains[top] = (best.distance - fresh[top].distance) / shares[top]
        if gains.pop(top) <= 0:
            break
        best, room = fresh[top], room - shares[top]
        excluded_blocks.append(top)
        _log.info("int8_mixed: %s excluded: agreement %.2f %%", top, 100 * best.agreement)
    return best, excluded_blocks
