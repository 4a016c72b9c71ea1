"""Checks a .tflite against fer_tf's contract before the interpreter opens it."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np

from fer_tf.errors import InputError
from fer_tf.task import IMAGE_SIZE
from fer_tf.text import shown

_IDENTIFIER = b"TFL3"
_FOREIGN = "it is not a model of fer_tf"
_MAX_OPERATOR_CODES = 1000  # the schema has about 200 builtin operators
_MAX_AXES = 8  # axes of a tensor; LiteRT has no kernels for more
# The generated accessors raise these for a damaged file: a read outside the buffer, a negative or too large offset.
_DAMAGE = (struct.error, IndexError, TypeError, ValueError, OverflowError)


def check_tflite(content: bytes, name: str) -> int:
    """Check that a .tflite keeps fer_tf's contract: grey (or RGB) pixels in, probabilities out, builtin operators only.

    Args:
        content: the file's bytes.
        name: the file's name in error messages.

    Returns:
        The number of classes.

    Raises:
        InputError: if the file breaks the contract; the message says how.
    """
    given, result = read_ends(content, name, _FOREIGN)
    if given.kind != "uint8" or given.shape not in [(1, IMAGE_SIZE, IMAGE_SIZE, channels) for channels in (1, 3)]:
        raise InputError(
            f"{name} takes {given.kind} {given.shape}: expected uint8 (1, {IMAGE_SIZE}, {IMAGE_SIZE}, 1); {_FOREIGN}"
        )
    if (given.scale, given.zero_point) != (1, 0):
        raise InputError(
            f"{name} scales its input (scale {given.scale:g}, zero point {given.zero_point}): expected unscaled grey "
            f"pixels (scale 1, zero point 0); {_FOREIGN}"
        )
    if result.kind != "float32" or len(result.shape) != 2 or result.shape[0] != 1 or result.shape[1] < 2:
        raise InputError(f"{name} gives {result.kind} {result.shape}: expected float32 (1, classes); {_FOREIGN}")
    return result.shape[1]


class End(NamedTuple):
    """The input or the output of a .tflite.

    Attributes:
        kind: element type, such as `uint8`.
        shape: shape of the tensor, batch first.
        scale: real value of one step of a quantised tensor; 1 if the file does not say.
        zero_point: element that means 0; 0 if the file does not say.
    """

    kind: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int


def read_ends(content: bytes, name: str, reason: str) -> tuple[End, End]:
    """Read the input and the output of a .tflite with one input, one output and builtin operators only.

    Args:
        content: the file's bytes.
        name: the file's name in error messages.
        reason: the explanation in the error message for a file with another structure.

    Returns:
        The input and the output.

    Raises:
        InputError: if the file is damaged or has another structure.
    """
    if not content:
        raise InputError(f"{name} is empty: copy or export it again")
    if content[4:8] != _IDENTIFIER:
        raise InputError(f"{name} is no .tflite file (no {_IDENTIFIER.decode()} at byte 4); {reason}")
    try:
        return _read_ends(content, name, reason)
    except InputError:
        raise
    except _DAMAGE as error:
        raise InputError(f"{name} is cut short or damaged: copy or export it again") from error


def _read_ends(content: bytes, name: str, reason: str) -> tuple[End, End]:
    from ai_edge_litert import schema_py_generated as schema  # here, because a .keras does not need these 20,000 lines

    model = schema.Model.GetRootAs(content)
    for index in range(_bounded(model.OperatorCodesLength(), _MAX_OPERATOR_CODES)):
        code = model.OperatorCodes(index)
        if max(code.DeprecatedBuiltinCode(), code.BuiltinCode()) == schema.BuiltinOperator.CUSTOM:
            custom = shown(code.CustomCode() or b"")
            raise InputError(f"{name} needs the custom operator {custom}: expected builtin operators only; {reason}")
    if model.SubgraphsLength() != 1:
        raise InputError(f"{name} has {model.SubgraphsLength()} graphs: expected 1; {reason}")
    graph = model.Subgraphs(0)
    num_tensors = _bounded(graph.TensorsLength(), len(content) // 4)
    ends = []
    for end, indices in (("input", _vector(graph.InputsAsNumpy())), ("output", _vector(graph.OutputsAsNumpy()))):
        if len(indices) != 1:
            raise InputError(f"{name} has {len(indices)} {end}s: expected 1; {reason}")
        if not 0 <= indices[0] < num_tensors:
            raise IndexError
        ends.append(graph.Tensors(int(indices[0])))
    type_names = {code: key.lower() for key, code in vars(schema.TensorType).items() if not key.startswith("_")}
    given, result = (End(type_names.get(end.Type(), f"type {end.Type()}"), _shape(end), *_scaling(end)) for end in ends)
    return given, result


def _bounded(length: int, most: int) -> int:
    """Return the length of a vector, or refuse it above `most`: the accessors return any number in the file."""
    if length > most:
        raise IndexError
    return length


def _vector(values: Any) -> np.ndarray:
    """Return a vector's numbers, empty for a missing vector (0); NumPy has checked the length against the buffer."""
    return values if isinstance(values, np.ndarray) else np.empty(0, np.int32)


def _scaling(tensor: Any) -> tuple[float, int]:
    """Return scale and zero point; NaN if a tensor has several, which only constants may have."""
    quantization = tensor.Quantization()
    if not quantization:
        return 1.0, 0
    scales, zeros = _vector(quantization.ScaleAsNumpy()), _vector(quantization.ZeroPointAsNumpy())
    if len(scales) > 1 or len(zeros) > 1:
        return float("nan"), 0
    return (float(scales[0]) if len(scales) else 1.0), (int(zeros[0]) if len(zeros) else 0)


def _shape(tensor: Any) -> tuple[int, ...]:
    shape = _vector(tensor.ShapeAsNumpy())
    _bounded(len(shape), _MAX_AXES)
    return tuple(shape.tolist())
