"""The reader of PyTorch's old weights files, with sound and hostile files written here opcode by opcode."""

import pickle
import struct
import tracemalloc

import numpy as np
import pytest

from fer_tf.errors import InputError
from fer_tf.model.torch_file import read_state_dict

REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
ORDERED_DICT = b"ccollections\nOrderedDict\n"
FLOAT_STORAGE = b"ctorch\nFloatStorage\n"
LONG_STORAGE = b"ctorch\nLongStorage\n"


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value) if abs(value) < 2**31 else pickle.dumps(value, 2)[2:-1]


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def group(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def storage(key: str, size: int, kind: bytes = FLOAT_STORAGE, view: bytes = b"N") -> bytes:
    return group(text("storage"), kind, text(key), text("cpu"), number(size), view) + b"Q"


def tensor(stored: bytes, shape, stride, offset: int = 0) -> bytes:
    arguments = (stored, number(offset), group(*map(number, shape)), group(*map(number, stride)))
    return REBUILD + group(*arguments, b"\x89", ORDERED_DICT + b")R") + b"R"


def state_dict(*items: bytes) -> bytes:
    return b"\x80\x02" + ORDERED_DICT + b")R(" + b"".join(items) + b"u."


def file_of(state: bytes, storages: list[tuple[str, np.ndarray]]) -> bytes:
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, system)]
    keys = pickle.dumps([key for key, _ in storages], 2)
    raw = [struct.pack("<q", values.size) + values.tobytes() for _, values in storages]
    return b"".join([*head, state, keys, *raw])


A = np.arange(24, dtype=np.float32)
B = np.array([7], np.int64)
ITEM_A = text("a") + tensor(storage("1", 24), (2, 3, 4), (12, 4, 1))
ITEM_B = text("b") + tensor(storage("2", 1, LONG_STORAGE), (), ())
SOUND = file_of(state_dict(ITEM_A, ITEM_B), [("1", A), ("2", B)])


def with_a(stored: bytes = storage("1", 24), shape=(2, 3, 4), stride=(12, 4, 1), offset=0) -> bytes:
    return file_of(state_dict(text("a") + tensor(stored, shape, stride, offset)), [("1", A)])


def test_reads_values_shapes_types_and_order():
    found = read_state_dict(SOUND, "w.pth")
    assert list(found) == ["a", "b"]
    np.testing.assert_array_equal(found["a"], A.reshape(2, 3, 4))
    assert found["a"].dtype == np.float32 and found["b"].dtype == np.int64 and found["b"].shape == ()


def test_transposed_tensors_and_axes_of_one_element():
    found = read_state_dict(with_a(shape=(4, 1, 2, 3), stride=(1, 99, 12, 4)), "w.pth")
    np.testing.assert_array_equal(found["a"], A.reshape(2, 3, 4).transpose(2, 0, 1)[:, None])


def test_versions_that_torch_appends_are_ignored():
    versions = b"}" + text("_metadata") + b"}" + text("") + b"}" + text("version") + b"K\x01sss"
    state = state_dict(ITEM_A)[:-1] + versions + b"b."
    np.testing.assert_array_equal(read_state_dict(file_of(state, [("1", A)]), "w.pth")["a"].ravel(), A)


def two(first: bytes, second: bytes, storages) -> bytes:
    return file_of(state_dict(text("a") + first, text("b") + second), storages)


WHOLE = tensor(storage("1", 24), (24,), (1,))
HOSTILE = {
    "another global": file_of(state_dict(text("a") + b"cos\nsystem\n(" + text("true") + b"tR"), []),
    "another global that is never called": file_of(state_dict(text("a") + b"cbuiltins\neval\n"), []),
    "a module beside an allowed name": file_of(state_dict(text("a") + b"ccollections\nOrderedDict2\n"), []),
    "stack global": file_of(b"\x80\x04" + text("os") + text("system") + b"\x93.", []),
    "instance": file_of(state_dict(text("a") + b"(ios\nsystem\n"), []),
    "new object": file_of(state_dict(text("a") + ORDERED_DICT + b")\x81"), []),
    "OrderedDict with arguments": file_of(b"\x80\x02" + ORDERED_DICT + group(group(text("a"), number(1))) + b"R.", []),
    "tensor with too few arguments": file_of(state_dict(text("a") + REBUILD + group(number(1)) + b"R"), []),
    "tensor of no storage": file_of(state_dict(text("a") + tensor(text("storage"), (24,), (1,))), [("1", A)]),
    "storage called as a function": file_of(state_dict(text("a") + FLOAT_STORAGE + group(number(10**9)) + b"R"), []),
    "number called as a function": file_of(state_dict(text("a") + number(1) + b")R"), []),
    "storage larger than the file": with_a(storage("1", 2**30), (2**30,), (1,)),
    "storage of a size beyond 64 bits": with_a(storage("1", 2**70), (2**70,), (1,)),
    "storage of another length than the pickle says": with_a(storage("1", 12), (12,), (1,)),
    "negative size": with_a(storage("1", -24), (-24,), (1,)),
    "view of a storage": with_a(storage("1", 24, view=group(text("v"), number(0), number(24)))),
    "offset beyond": with_a(offset=1),
    "stride beyond": with_a(stride=(120, 4, 1)),
    "strides that overlap": with_a(stride=(4, 4, 1)),
    "stride zero": with_a(shape=(24,), stride=(0,)),
    "fewer strides than axes": with_a(stride=(4, 1)),
    "shape of fewer numbers": with_a(shape=(2, 3), stride=(3, 1)),
    "shape of booleans": with_a(shape=(24,), stride=(1,)).replace(b"(" + number(24) + b"t(", b"(" + b"\x88" + b"t("),
    "one storage in two tensors": two(WHOLE, WHOLE, [("1", A)]),
    "one storage twice in the list": two(WHOLE, tensor(storage("2", 24), (24,), (1,)), [("1", A), ("1", A)]),
    "storage that no tensor uses": file_of(state_dict(ITEM_A), [("1", A), ("9", A)]),
    "bytes behind the last storage": SOUND + b"\0",
    "memo bomb": file_of(b"\x80\x02)" + b"".join(b"q\0h\0\x86" for _ in range(60)) + b".", []),
    "memo bomb as a key": file_of(
        state_dict(b")" + b"".join(b"q\0h\0\x86" for _ in range(60)) + number(1)), []
    ),
    "memo index of four bytes": file_of(b"\x80\x02)r\xff\xff\xff\x7fj\xff\xff\xff\x7f.", []),
    "memo that was never written": file_of(b"\x80\x02h\5.", []),
    "dict inside itself": file_of(b"\x80\x02}q\0" + text("a") + b"h\0s.", []),
    "endless opcodes": file_of(b"\x80\x02" + b"N" * 200_000 + b".", []),
    "text longer than the file": file_of(b"\x80\x02X\xff\xff\xff\x7fabc", []),
    "list of storages that is none": SOUND.replace(pickle.dumps(["1", "2"], 2), pickle.dumps(["1", 2], 2)),
    "big-endian": SOUND.replace(b"\x88", b"\x89", 1),
    "plain pickle": pickle.dumps({"a": 1}, 2),
    "zip archive": b"PK\3\4" + bytes(100),
    "nothing": b"",
}  # fmt: skip

REASONS = {
    "another global": "names the global 'os system'",
    "another global that is never called": "names the global 'builtins eval'",
    "a module beside an allowed name": "names the global 'collections OrderedDict2'",
    "stack global": "opcode STACK_GLOBAL",
    "instance": "opcode INST",
    "new object": "opcode NEWOBJ",
    "OrderedDict with arguments": "calls collections OrderedDict with 1 arguments",
    "tensor with too few arguments": "calls torch._utils _rebuild_tensor_v2 with 1 arguments",
    "tensor of no storage": "has no storage, shape or strides",
    "storage called as a function": "calls torch FloatStorage with 1 arguments",
    "number called as a function": "calls something that is no global",
    "storage larger than the file": "is cut or of another length",
    "storage of a size beyond 64 bits": "has no length",
    "storage of another length than the pickle says": "is cut or of another length",
    "negative size": "has no length",
    "view of a storage": "is a view of another",
    "offset beyond": "does not fill its storage",
    "stride beyond": "strides leave gaps",
    "strides that overlap": "strides leave gaps",
    "stride zero": "strides leave gaps",
    "fewer strides than axes": "does not fill its storage",
    "shape of fewer numbers": "does not fill its storage",
    "shape of booleans": "has no storage, shape or strides",
    "one storage in two tensors": "'b' and 'a' share a storage",
    "one storage twice in the list": "not that of its tensors",
    "storage that no tensor uses": "not that of its tensors",
    "bytes behind the last storage": "1 bytes follow",
    "memo bomb": "holds no state dict",
    "memo bomb as a key": "key of its state dict is no text",
    "memo index of four bytes": "something left over",
    "memo that was never written": "never written",
    "dict inside itself": "holds no state dict",
    "endless opcodes": "more than 100,000 opcodes",
    "text longer than the file": "but only",
    "list of storages that is none": "list of storages is none",
    "big-endian": "not little-endian",
    "plain pickle": "before seeing STOP",
    "zip archive": "no newline found",
    "nothing": "before seeing STOP",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused_in_one_line_and_little_memory(kind):
    content = HOSTILE[kind]
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"w\.pth is not a PyTorch state dict that can be read safely") as caught:
            read_state_dict(content, "w.pth")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert REASONS[kind] in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert peak < max(2 * len(content), 12_000_000 if kind == "endless opcodes" else 500_000)


def test_every_cut_is_refused():
    for length in range(len(SOUND)):
        with pytest.raises(InputError):
            read_state_dict(SOUND[:length], "w.pth")


def test_changed_bytes_give_an_array_or_one_line():
    rng = np.random.default_rng(0)
    for _ in range(3000):
        changed = bytearray(SOUND)
        for place in rng.integers(0, len(SOUND), rng.integers(1, 4)):
            changed[place] = rng.integers(0, 256)
        try:
            found = read_state_dict(bytes(changed), "w.pth")
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert all(isinstance(value, np.ndarray) for value in found.values())
