"""A float .tflite -> the finished file in one of six quantizations. Owns the quantizer's settings; needs no Keras."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fer_tf import tflite_format
from fer_tf.errors import InputError

QUANTIZATIONS = ("float32", "float16", "weight_int8", "dynamic", "int8", "int8_mixed")
CALIBRATED = ("int8", "int8_mixed")  # those that need calibration images
AUTO = "auto"  # all of them, the best chosen: `release`
MODES = (*QUANTIZATIONS, AUTO)
IMAGE_SIZE = 48
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


# What one part of the network computes in, by increasing cost and fidelity.
STATIC, DYNAMIC, FLOAT = "static", "dynamic", "float"
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
# The ranges tried for static int8: this quantile of the images' own maxima (and minima). 1 is the plain min and max,
# which one odd image can widen until the others lose their resolution.
_RANGE_QUANTILES = (0.5, 0.8, 0.9, 0.95, 0.99, 1.0)


def quantize(
    flatbuffer: bytes,
    quantization: str,
    *,
    metadata: dict[str, Any],
    calibration_images: np.ndarray | None = None,
) -> bytes:
    """The finished .tflite, from `convert`'s flatbuffer. Arguments and errors as for `export_tflite`."""
    check_quantization(quantization, calibration_images)
    details: dict[str, Any] = {}
    if calibration_images is not None and quantization in CALIBRATED:
        images = calibration_images.reshape(-1, 1, IMAGE_SIZE, IMAGE_SIZE, 1)
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


# --- recipes of litert-quantizer -------------------------------------------------------------------------------------


def _rule(
    operation: str, config: dict[str, Any] | None, *, algorithm: str = "min_max_uniform_quantize", regex: str = ".*"
) -> dict[str, Any]:
    """One rule for the operators of a kind whose output tensor's name matches; without a config they stay float."""
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

    with _quiet():
        result = quantizer.Quantizer(bytearray(flatbuffer), recipe).quantize(ranges, enable_progress_report=False)
    return bytes(result.quantized_model)


# --- static int8: ranges, and which parts stay out of it -------------------------------------------------------------

_PARTS = re.compile(r"(?:^|/)(stem|block\d[a-z]|top|logits)_")  # in the tensors' names, which keep the layers' names
_TARGET_AGREEMENT = 0.99  # int8_mixed stops when it agrees with float on this share of the calibration images ...
_LATENCY_SHARE = 0.62  # ... or before it would take more than this share of the float model's time
_NUM_TIMED, _NUM_BATCHES = 40, 5


def _search(flatbuffer: bytes, images: np.ndarray, *, mixed: bool) -> tuple[bytes, dict[str, Any]]:
    """Static int8 with the ranges that disturb the output least; if `mixed`, parts that lose accuracy are kept out.

    Args:
        flatbuffer: of `convert`.
        images: uint8 (n, 1, 48, 48, 1): give the ranges, and judge by divergence from the float output.

    Returns:
        The quantised flatbuffer and a JSON-able record of what was chosen.
    """
    names, extremes, reference = _observe(flatbuffer, images)
    pixels = _pixel_tensors(flatbuffer)

    def trial(levels: dict[str, str], quantile: float) -> _Trial:
        ranges = _ranges(names, extremes, quantile, pixels)
        return _Trial(_apply(flatbuffer, _static_recipe(levels), ranges), images, reference)

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


def _ranges(
    names: list[str], extremes: np.ndarray, quantile: float, pixels: set[str]
) -> dict[str, dict[str, np.ndarray]]:
    """What litert-quantizer calls a calibration result: each tensor's range, of the given quantile over the images."""
    low = np.quantile(extremes[:, :, 0], 1 - quantile, axis=0).astype(np.float32)
    high = np.quantile(extremes[:, :, 1], quantile, axis=0).astype(np.float32)
    exact = np.array([name in pixels for name in names])
    low[exact], high[exact] = 0, 255
    return {name: {"min": low[index : index + 1], "max": high[index : index + 1]} for index, name in enumerate(names)}


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
        """Median time of an image on one thread, in the fastest of a few batches: other programs only add to it."""
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
        del gains[top]
        if top[1] == FLOAT:
            gains.pop((top[0], DYNAMIC), None)
        _log.info("int8_mixed: %s %s: agreement %.4f, %.3f ms", top[0], top[1], best.agreement, latency)
    return best, levels
