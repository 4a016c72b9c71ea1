"""A float .tflite -> the finished file in one of six quantizations. Owns the quantizer's settings; needs no Keras."""

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
CALIBRATED = ("int8", "int8_mixed")  # those that need calibration images
AUTO = "auto"  # all of them, the best chosen: `release`
MODES = (*QUANTIZATIONS, AUTO)
_log = logging.getLogger(__name__)


def check_quantization(quantization: str, calibration_images: np.ndarray | None = None) -> None:
    """Refuses, before anything is converted, what `quantize` would refuse.

    Raises:
        InputError: for a name that is not in `QUANTIZATIONS`, or calibration images that it needs and that are missing
            or of another form than uint8 (n, 48, 48).
    """
    if quantization not in QUANTIZATIONS:
        raise InputError(f"unknown quantization {quantization!r}: expected one of {', '.join(QUANTIZATIONS)}")
    if quantization not in CALIBRATED:
        return
    if calibration_images is None or len(calibration_images) == 0:
        others = ", ".join(name for name in QUANTIZATIONS if name not in CALIBRATED)
        raise InputError(
            f"no calibration images: {quantization} measures value ranges on training images; give some, or choose a "
            f"quantization that needs none ({others})"
        )
    if calibration_images.dtype != np.uint8 or calibration_images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
        raise InputError(
            f"calibration images are {calibration_images.dtype} {calibration_images.shape}: "
            f"expected uint8 (n, {IMAGE_SIZE}, {IMAGE_SIZE})"
        )


# What a part of the network computes in. Weights are int8 in each.
STATIC = "static"  # int8 values whose ranges are fixed by calibration
DYNAMIC = "dynamic"  # float values, turned into int8 for each convolution with the range of the image at hand
FLOAT = "float"  # float values
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
# A convolution with fewer weights keeps them in float, save in static parts. That costs 0.13 MB of B0's 4.5 MB and no
# time, and most of int8's error comes from there: the first layers' few weights touch every value behind them.
_SMALL = 8192
# The ranges tried for static int8: this quantile of the images' own maxima (and minima). 1 is the plain min and max,
# which one odd image can widen until the others lose their resolution.
_RANGE_QUANTILES = (0.9, 0.95, 0.98, 0.99, 0.995, 1.0)
_PART = re.compile(r"(?:^|/)(stem|block\d[a-z]|top|logits)_")  # in the tensors' names, which keep the layers' names
_TARGET_AGREEMENT = 0.98  # of int8_mixed with float on the calibration images
_MOST_KEPT_OUT = 0.5  # of the network's values: with more, dynamic is as fast as int8_mixed and nearer to float


def quantize(
    flatbuffer: bytes,
    quantization: str,
    *,
    metadata: dict[str, Any],
    calibration_images: np.ndarray | None = None,
) -> bytes:
    """The finished .tflite.

    Args:
        flatbuffer: of `export.convert`: float32 grey pixels (1, 48, 48, 1) -> probabilities.
        quantization: one of `QUANTIZATIONS`.
        metadata: what the file says about itself, JSON-able, with `class_names`.
        calibration_images: uint8 (n, 48, 48), training images of all classes; for the `CALIBRATED`.

    Returns:
        A file with input uint8 (1, 48, 48, 1), the grey pixels as they are, and output float32 (1, classes); labels and
        metadata inside.

    Raises:
        InputError: for an unknown quantization or missing calibration images.
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
    tflite_format.take_grey_pixels(model)
    tflite_format.name_ends(model)
    metadata = {**metadata, "quantization": quantization, **({"quantization_details": details} if details else {})}
    return tflite_format.with_metadata(model, metadata)


_LEVELS = {"weight_int8": FLOAT, "dynamic": DYNAMIC}


# --- recipes of litert-quantizer -------------------------------------------------------------------------------------
# A recipe is a list of rules; of those that match an operator, the rule whose regex came last in the list holds.


def _rule(
    operation: str, config: dict[str, Any] | None, *, algorithm: str = "min_max_uniform_quantize", regex: str = ".*"
) -> dict[str, Any]:
    """One rule for the operators of a kind whose output's name matches; without a config they stay as they are."""
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
    """Makes all matching operators compute in DYNAMIC or FLOAT."""
    rules = [_rule("*", None, regex=regex)]
    for operation in _CONVOLUTIONS:
        # XNNPACK has no dynamic depthwise convolution: each would end the partition and run slowly outside.
        computed = FLOAT if operation == "DEPTHWISE_CONV_2D" else level
        rules.append(_rule(operation, _config(computed), regex=regex))
    return rules


def _small_convolutions(flatbuffer: bytes) -> list[str]:
    """Names of the outputs of convolutions with few weights."""
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


def _static_recipe(kept_out: Sequence[str], small: Sequence[str]) -> list[dict[str, Any]]:
    """Static int8, but for the parts that are kept out, which are dynamic; the ends and the softmax stay float."""
    rules = [_rule("*", _config(STATIC)), *(_rule(operation, None) for operation in ("INPUT", "OUTPUT", "SOFTMAX"))]
    for part in kept_out:
        rules += _rules_at(DYNAMIC, f"(^|/){part}_")
    return rules + _unquantized([name for name in small if _part_of(name) in kept_out])


def _part_of(name: str) -> str | None:
    match = _PART.search(name)
    return match[1] if match else None


def _apply(flatbuffer: bytes, recipe: list[dict[str, Any]], ranges: dict[str, Any] | None = None) -> bytes:
    from litert_quantizer import quantizer

    with _quiet():
        result = quantizer.Quantizer(bytearray(flatbuffer), recipe).quantize(ranges, enable_progress_report=False)
    return bytes(result.quantized_model)


# --- static int8: ranges, and which parts stay out of it -------------------------------------------------------------


def _search(flatbuffer: bytes, images: np.ndarray, *, mixed: bool) -> tuple[bytes, dict[str, Any]]:
    """Static int8 with the ranges that disturb the output least; if `mixed`, parts that lose accuracy are kept out.

    Args:
        flatbuffer: of `export.convert`.
        images: uint8 (n, 1, 48, 48, 1): give the ranges, and judge by the distance from the float output.
        mixed: whether to look for such parts.

    Returns:
        The quantised flatbuffer and a JSON-able record of what was chosen.
    """
    observed = _observe(flatbuffer, images)
    pixels, small = _pixel_tensors(flatbuffer), _small_convolutions(flatbuffer)

    def trial(kept_out: Sequence[str], quantile: float) -> _Trial:
        ranges = _ranges(observed, quantile, pixels)
        return _Trial(_apply(flatbuffer, _static_recipe(kept_out, small), ranges), images, observed.probabilities)

    quantile = min(_RANGE_QUANTILES, key=lambda value: trial((), value).distance)
    best, kept_out = trial((), quantile), list[str]()
    if mixed:
        best, kept_out = _keep_out(best, _value_shares(flatbuffer), lambda chosen: trial(chosen, quantile))
    details = {
        "num_calibration": len(images),
        "range_quantile": quantile,
        "kept_out": kept_out,
        "calibration_agreement": best.agreement,
        "calibration_distance": best.distance,
    }
    return best.flatbuffer, details


@dataclasses.dataclass(frozen=True)
class _Observed:
    """What the float model computed on the calibration images."""

    names: list[str]  # of the tensors that operators compute
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
    """Without litert-quantizer's short progress bars and LiteRT's warning that kept tensors cost memory."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


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


def _ranges(observed: _Observed, quantile: float, pixels: set[str]) -> dict[str, dict[str, np.ndarray]]:
    """What litert-quantizer calls a calibration result: each tensor's range, of the given quantile over the images."""
    low = np.quantile(observed.extremes[:, :, 0], 1 - quantile, axis=0).astype(np.float32)
    high = np.quantile(observed.extremes[:, :, 1], quantile, axis=0).astype(np.float32)
    exact = np.array([name in pixels for name in observed.names])
    low[exact], high[exact] = 0, 255
    return {
        name: {"min": least.reshape((1,) * rank), "max": most.reshape((1,) * rank)}
        for name, rank, least, most in zip(observed.names, observed.ranks, low, high, strict=True)
    }


class _Trial:
    """One quantised candidate, judged on the calibration images."""

    def __init__(self, flatbuffer: bytes, images: np.ndarray, reference: np.ndarray) -> None:
        self.flatbuffer = flatbuffer
        interpreter = _interpreter(flatbuffer)
        probabilities = np.stack([_invoke(interpreter, image) for image in images])
        # Total variation and not Kullback-Leibler: in the latter a few odd images outweigh all others.
        self.distance = float(np.mean(np.abs(probabilities - reference).sum(axis=1)) / 2)
        self.agreement = float(np.mean(reference.argmax(axis=1) == probabilities.argmax(axis=1)))


def _value_shares(flatbuffer: bytes) -> dict[str, float]:
    """Each part's share of the values that an image makes the network compute.

    It stands for the time that keeping a part out costs: products are int8 either way, values are four times as wide.
    Unlike a time, it is the same on every machine and in every export.
    """
    graph = tflite_format.parse(flatbuffer).subgraphs[0]
    values: dict[str, int] = {}
    for operator in graph.operators:
        tensor = graph.tensors[operator.outputs[0]]
        if part := _part_of(tensor.name.decode()):
            values[part] = values.get(part, 0) + int(np.prod(tensor.shape))
    return {part: count / sum(values.values()) for part, count in values.items()}


def _keep_out(
    best: _Trial, shares: dict[str, float], trial: Callable[[Sequence[str]], _Trial]
) -> tuple[_Trial, list[str]]:
    """Takes parts out of static int8, always the one that buys most distance for its share of the values.

    Args:
        best: everything static.
        shares: of the parts that can be taken out, as `_value_shares`.
        trial: makes the candidate without the given parts.

    Returns:
        The best candidate found, and what it keeps out in the order in which it was taken.
    """
    kept_out: list[str] = []
    room = _MOST_KEPT_OUT
    gains = dict.fromkeys(shares, float("inf"))
    while best.agreement < _TARGET_AGREEMENT:
        gains = {part: gain for part, gain in gains.items() if shares[part] <= room}
        if not gains:
            break
        # Lazy greedy: a gain seldom grows while others are taken, so the top one alone needs to be measured again.
        fresh: dict[str, _Trial] = {}
        while (top := max(gains, key=lambda part: gains[part])) not in fresh:
            fresh[top] = trial([*kept_out, top])
            gains[top] = (best.distance - fresh[top].distance) / shares[top]
        if gains.pop(top) <= 0:
            break
        best, room = fresh[top], room - shares[top]
        kept_out.append(top)
        _log.info("int8_mixed: %s kept out: agreement %.2f %%", top, 100 * best.agreement)
    return best, kept_out
