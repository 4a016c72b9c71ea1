"""Checks that a .tflite keeps fer_tf's contract, before the interpreter sees it."""

from __future__ import annotations

import struct
from typing import Any

from fer_tf.errors import InputError
from fer_tf.task import IMAGE_SIZE

# Field numbers and codes of the TFLite schema (tensorflow/lite/schema/schema.fbs).
_MODEL_OPERATOR_CODES, _MODEL_SUBGRAPHS = 1, 2
_OPERATOR_DEPRECATED_CODE, _OPERATOR_CUSTOM_NAME, _OPERATOR_CODE = 0, 1, 3
_GRAPH_TENSORS, _GRAPH_INPUTS, _GRAPH_OUTPUTS = 0, 1, 2
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_QUANTIZATION = 0, 1, 4
_QUANTIZATION_SCALE, _QUANTIZATION_ZERO_POINT = 2, 3
_CUSTOM = 32
_TYPE_NAMES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8"}
_IDENTIFIER = b"TFL3"


def check_tflite(content: bytes, name: str) -> int:
    """Checks that a .tflite keeps fer_tf's contract: grey pixels in, probabilities out, builtin operators only.

    Args:
        content: the file's bytes.
        name: what the error message calls it.

    Returns:
        The number of classes.

    Raises:
        InputError: with the part of the contract that the file breaks.
    """
    if not content:
        raise InputError(f"{name} is empty: copy or export it again")
    if content[4:8] != _IDENTIFIER:
        raise InputError(f"{name} is no .tflite file (no {_IDENTIFIER.decode()} at byte 4): give one that fer_tf wrote")
    try:
        return _check_structure(content, name)
    except (struct.error, IndexError) as error:
        raise InputError(f"{name} is cut short or damaged: copy or export it again") from error


def _check_structure(content: bytes, name: str) -> int:
    foreign = "it is not a model of fer_tf"
    model = _Table.root(content)
    for code in model.tables(_MODEL_OPERATOR_CODES):
        if max(code.int8(_OPERATOR_DEPRECATED_CODE), code.int32(_OPERATOR_CODE)) == _CUSTOM:
            custom = code.text(_OPERATOR_CUSTOM_NAME)
            raise InputError(f"{name} needs the custom operator {custom!r}: expected builtin operators only; {foreign}")
    graphs = model.tables(_MODEL_SUBGRAPHS)
    if len(graphs) != 1:
        raise InputError(f"{name} has {len(graphs)} graphs: expected 1; {foreign}")
    tensors = graphs[0].tables(_GRAPH_TENSORS)
    described = {}
    for end, field in (("input", _GRAPH_INPUTS), ("output", _GRAPH_OUTPUTS)):
        indices = graphs[0].int32s(field)
        if len(indices) != 1:
            raise InputError(f"{name} has {len(indices)} {end}s: expected 1; {foreign}")
        if not 0 <= indices[0] < len(tensors):
            raise IndexError
        described[end] = tensors[indices[0]]
    kind, shape = _type_and_shape(described["input"])
    if (kind, shape) != ("uint8", (1, IMAGE_SIZE, IMAGE_SIZE, 1)):
        raise InputError(f"{name} takes {kind} {shape}: expected uint8 (1, {IMAGE_SIZE}, {IMAGE_SIZE}, 1); {foreign}")
    for quantization in described["input"].table(_TENSOR_QUANTIZATION):
        scales, zeros = quantization.float32s(_QUANTIZATION_SCALE), quantization.int64s(_QUANTIZATION_ZERO_POINT)
        if scales not in ((), (1.0,)) or any(zeros):
            scale, zero = (scales or (1.0,))[0], (zeros or (0,))[0]
            raise InputError(
                f"{name} scales its input (scale {scale:g}, zero point {zero}): expected grey pixels as they are "
                f"(scale 1, zero point 0); {foreign}"
            )
    kind, shape = _type_and_shape(described["output"])
    if kind != "float32" or len(shape) != 2 or shape[0] != 1 or shape[1] < 2:
        raise InputError(f"{name} gives {kind} {shape}: expected float32 (1, classes); {foreign}")
    return shape[1]


def _type_and_shape(tensor: _Table) -> tuple[str, tuple[int, ...]]:
    code = tensor.int8(_TENSOR_TYPE)
    return _TYPE_NAMES.get(code, f"type {code}"), tensor.int32s(_TENSOR_SHAPE)


class _Table:
    """A table of a flatbuffer; every access is checked against the buffer's end (https://flatbuffers.dev/internals)."""

    def __init__(self, content: bytes, position: int) -> None:
        self._content = content
        self._position = position
        self._vtable = position - self._at("<i", position)
        self._vtable_size = self._at("<H", self._vtable)

    @classmethod
    def root(cls, content: bytes) -> _Table:
        return cls(content, struct.unpack_from("<I", content)[0])

    def _at(self, kind: str, position: int) -> int:
        if position < 0:  # unpack_from would count from the end
            raise IndexError
        return struct.unpack_from(kind, self._content, position)[0]

    def _field(self, number: int) -> int:
        """Position of a field's value; 0 if the table leaves it out."""
        slot = 4 + 2 * number
        offset = self._at("<H", self._vtable + slot) if slot + 2 <= self._vtable_size else 0
        return self._position + offset if offset else 0

    def _target(self, number: int) -> int:
        field = self._field(number)
        return field + self._at("<I", field) if field else 0

    def int8(self, number: int) -> int:
        field = self._field(number)
        return self._at("<b", field) if field else 0

    def int32(self, number: int) -> int:
        field = self._field(number)
        return self._at("<i", field) if field else 0

    def text(self, number: int) -> str:
        start = self._target(number)
        size = self._at("<I", start) if start else 0
        return self._content[start + 4 : start + 4 + size].decode(errors="replace")

    def table(self, number: int) -> list[_Table]:
        """The table in a field, or nothing."""
        start = self._target(number)
        return [_Table(self._content, start)] if start else []

    def tables(self, number: int) -> list[_Table]:
        positions = self._vector(number, "I")
        return [_Table(self._content, position + offset) for position, offset in positions]

    def int32s(self, number: int) -> tuple[int, ...]:
        return tuple(value for _, value in self._vector(number, "i"))

    def int64s(self, number: int) -> tuple[int, ...]:
        return tuple(value for _, value in self._vector(number, "q"))

    def float32s(self, number: int) -> tuple[float, ...]:
        return tuple(value for _, value in self._vector(number, "f"))

    def _vector(self, number: int, kind: str) -> list[tuple[int, Any]]:
        """(position, value) of each element."""
        start = self._target(number)
        if not start:
            return []
        length, width = self._at("<I", start), struct.calcsize(kind)
        if length * width > len(self._content):  # before a list of that length is made
            raise IndexError
        values = struct.unpack_from(f"<{length}{kind}", self._content, start + 4)
        return [(start + 4 + width * index, value) for index, value in enumerate(values)]
