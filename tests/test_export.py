"""Keras model -> .tflite: the contract holds in every quantization, and the labels travel inside."""

import hashlib
import io
import json
import struct
import zipfile
from collections import Counter

import flatbuffers
import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from fer_tf.data.preprocessing import preprocess
from fer_tf.data.synthetic import draw_faces
from fer_tf.deploy import conversion as export
from fer_tf.deploy import quantization, tflite_format
from fer_tf.errors import InputError
from fer_tf.model.network import build_model, dtype_policy

CLASSES = ["happy", "sad", "neutral"]
METADATA = {"format": 1, "class_names": CLASSES, "license": "for tests only", "temperature": 1.5}
EXACT = ("float32", "float16", "weight_int8", "dynamic")  # these have a bounded error on a random network, int8 has not


def faces(count: int, seed: int = 0) -> np.ndarray:
    return draw_faces(np.arange(count) % 7, seed)


def lively_model(*, shift: bool = False, policy: str = "float32", **settings) -> keras.Model:
    """A random network whose scores differ from face to face, unlike those of an untrained network."""
    keras.utils.set_random_seed(0)
    with dtype_policy(policy):
        model = build_model(len(CLASSES), image_size=48, batch_norm_momentum=0.5, **settings)
    if shift:
        normalization = next(
            layer for layer in model.get_layer("efficientnetb0").layers if isinstance(layer, keras.layers.Normalization)
        )
        mean, variance, *rest = normalization.get_weights()
        normalization.set_weights([mean + np.float32([0.5, 0.45, 0.4]), variance * [0.05, 0.06, 0.07], *rest])
        normalization.finalize_state()
    for seed in range(6):  # moves the BatchNorm statistics to the layers' real values
        model(preprocess(faces(16, seed), 48), training=True)
    logits = model.get_layer("logits")
    logits.set_weights([value * 4 for value in logits.get_weights()])
    return model


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return lively_model()


@pytest.fixture(scope="module")
def flatbuffer(model) -> bytes:
    return export.convert(model)


@pytest.fixture(scope="module")
def files(flatbuffer) -> dict[str, bytes]:
    modes = [mode for mode in quantization.QUANTIZATIONS if mode != "int8_mixed"]
    return {
        mode: quantization.quantize(flatbuffer, mode, metadata=METADATA, calibration_images=faces(28)) for mode in modes
    }


def keras_probabilities(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return np.asarray(model(preprocess(images, 48), training=False))


def interpreter_of(data: bytes) -> Interpreter:
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def tflite_probabilities(data: bytes, images: np.ndarray) -> np.ndarray:
    interpreter = interpreter_of(data)
    given, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    rows = []
    for image in images:
        interpreter.set_tensor(given, image.reshape(1, 48, 48, 1))
        interpreter.invoke()
        rows.append(interpreter.get_tensor(result)[0])
    return np.stack(rows)


@pytest.mark.parametrize("mode", [*EXACT, "int8"])
def test_contract(files, mode):
    interpreter = interpreter_of(files[mode])
    (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (given["dtype"], given["shape"].tolist(), given["quantization"]) == (np.uint8, [1, 48, 48, 1], (1.0, 0))
    assert (result["dtype"], result["shape"].tolist()) == (np.float32, [1, len(CLASSES)])
    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["images"], "outputs": ["probabilities"]}}
    np.testing.assert_allclose(tflite_probabilities(files[mode], faces(3)).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("mode", [*EXACT, "int8"])
def test_operators_are_builtin_and_form_one_partition(files, mode):
    model = tflite_format.parse(files[mode])
    names = {tflite_format.operator_name(model, operator) for operator in model.subgraphs[0].operators}
    assert not names & {"CUSTOM", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE", "CAST"}
    assert len(model.subgraphs) == 1
    assert not any(
        tensor.shapeSignature is not None and -1 in tensor.shapeSignature for tensor in model.subgraphs[0].tensors
    )
    planned = Counter(step["op_name"] for step in interpreter_of(files[mode])._get_ops_details())
    assert planned["DELEGATE"] == 1, "XNNPACK should hold the whole graph"


def test_float32_agrees_with_keras(model, files):
    images = faces(40, seed=3)
    expected = keras_probabilities(model, images)
    assert np.ptp(expected, axis=0).max() > 0.2  # otherwise agreement would prove nothing
    np.testing.assert_allclose(tflite_probabilities(files["float32"], images), expected, atol=1e-4)


def test_every_grey_value_reaches_the_network_as_it_is(model, files):
    images = np.stack([np.full((48, 48), value, np.uint8) for value in (0, 1, 127, 128, 254, 255)])
    expected = keras_probabilities(model, images)
    np.testing.assert_allclose(tflite_probabilities(files["float32"], images), expected, atol=1e-4)


@pytest.mark.parametrize(("mode", "tolerance"), [("float16", 0.001), ("weight_int8", 0.005), ("dynamic", 0.02)])
def test_quantizations_stay_near_keras(model, files, mode, tolerance):
    images = faces(40, seed=3)
    difference = np.abs(tflite_probabilities(files[mode], images) - keras_probabilities(model, images))
    assert 0 < np.median(difference.max(axis=1)) < tolerance  # in a random network, a single face can change completely


def test_sizes(files):
    sizes = {mode: len(data) / 1e6 for mode, data in files.items()}
    assert 15 < sizes["float32"] < 17
    assert 7.5 < sizes["float16"] < 8.5
    assert all(sizes[mode] < 5.5 for mode in ("weight_int8", "dynamic", "int8"))


def test_the_same_model_gives_the_same_bytes(flatbuffer, files):
    again = quantization.quantize(flatbuffer, "int8", metadata=METADATA, calibration_images=faces(28))
    assert again == files["int8"]


# --- folding into the stem -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "channels"),
    [({}, 1), ({"shift": True}, 2)],
)
def test_folded_stem_equals_the_network(settings, channels):
    model = lively_model(**settings)
    folded = export.with_preprocessing(model)
    convolutions = [layer for layer in folded.layers if isinstance(layer, keras.layers.Conv2D)]
    assert convolutions[0].kernel.shape[2] == channels
    images = np.concatenate([faces(6), np.full((1, 48, 48), 255, np.uint8)])  # bright at the edge, to test padding
    found = np.concatenate([folded(image[None, :, :, None].astype(np.float32)) for image in images])
    # Folding adds the terms in another order; the effect on the result depends on the processor (2.03e-5 was seen).
    np.testing.assert_allclose(found, keras_probabilities(model, images), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_stem_that_shifts_keeps_the_contract():
    model = lively_model(shift=True)
    flatbuffer = export.convert(model)
    images = faces(20, seed=3)
    expected = keras_probabilities(model, images)
    for mode in ("float32", "int8"):
        data = quantization.quantize(flatbuffer, mode, metadata=METADATA, calibration_images=faces(28))
        assert Counter(step["op_name"] for step in interpreter_of(data)._get_ops_details())["DELEGATE"] == 1
        if mode == "float32":
            np.testing.assert_allclose(tflite_probabilities(data, images), expected, atol=1e-4)


@pytest.mark.slow
def test_another_backbone_is_exported_unfolded():
    inputs = keras.Input((48, 48, 3))
    x = keras.layers.Conv2D(8, 3, strides=4, activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.Dense(3, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, x)
    data = export.to_tflite(model, "float32", metadata=METADATA)
    images = faces(5)
    np.testing.assert_allclose(tflite_probabilities(data, images), keras_probabilities(model, images), atol=1e-4)


@pytest.mark.slow
def test_a_mixed_precision_model_is_exported_in_float32():
    model = lively_model(policy="mixed_float16")
    data = export.to_tflite(model, "float32", metadata=METADATA)
    images = faces(20, seed=3)
    # Keras computes in half precision here, which needs this tolerance; the file does not.
    np.testing.assert_allclose(tflite_probabilities(data, images), keras_probabilities(model, images), atol=0.05)


# --- int8 ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_int8_mixed_agrees_better_than_int8(model, flatbuffer, files):
    mixed = quantization.quantize(flatbuffer, "int8_mixed", metadata=METADATA, calibration_images=faces(28))
    details = read_metadata(mixed)["quantization_details"]
    plain = read_metadata(files["int8"])["quantization_details"]
    assert details["calibration_distance"] <= plain["calibration_distance"]
    assert plain["excluded_blocks"] == []
    assert len(mixed) < 5.5e6
    shares = quantization._value_shares(flatbuffer)
    assert sum(shares[part] for part in details["excluded_blocks"]) <= 0.5


def test_parts_share_the_values_that_an_image_makes(flatbuffer):
    shares = quantization._value_shares(flatbuffer)
    assert list(shares)[:2] == ["stem", "block1a"] and {"block2a", "block7a", "top", "logits"} <= set(shares)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["block2a"] == max(shares.values())  # it expands at the largest size
    assert min(shares, key=lambda part: shares[part]) == "logits"


def test_blocks_are_excluded_for_what_they_buy_until_there_is_no_room():
    """The gains are fixed here: `a` gains most for its share, `d` never fits, `b` makes it worse."""
    gains = {"a": 0.02, "b": -0.01, "c": 0.04, "d": 0.9}
    shares = {"a": 0.1, "b": 0.1, "c": 0.4, "d": 0.6}

    def trial(excluded_blocks):
        found = object.__new__(quantization._Trial)
        found.distance, found.agreement = 1 - sum(gains[part] for part in excluded_blocks), 0.9
        return found

    best, excluded_blocks = quantization._exclude_blocks(trial([]), shares, trial)
    assert excluded_blocks == ["a", "c"]
    assert best.distance == pytest.approx(0.94)


def test_one_odd_image_does_not_set_the_range():
    extremes = np.zeros((100, 1, 2), np.float32)
    extremes[:, 0] = -1, 1
    extremes[0, 0] = -50, 50
    observed = quantization._Observed(["x"], [2], extremes, np.empty(0))
    wide, narrow = (quantization._ranges(observed, value, set()) for value in (1.0, 0.9))
    assert (wide["x"]["min"], wide["x"]["max"]) == (-50, 50)
    assert (narrow["x"]["min"], narrow["x"]["max"]) == (-1, 1)


def test_input_stays_in_whole_grey_values(files):
    graph = tflite_format.parse(files["int8"]).subgraphs[0]
    first = graph.tensors[graph.operators[0].outputs[0]]
    assert (first.type, list(first.quantization.scale), list(first.quantization.zeroPoint)) == (
        schema.TensorType.INT8,
        [1.0],
        [-128],
    )


# --- what travels inside ---------------------------------------------------------------------------------------------


def read_metadata(data: bytes) -> dict:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return json.loads(archive.read("fer_tf.json"))


@pytest.mark.parametrize("mode", ["float32", "int8"])
def test_any_zip_program_reads_labels_and_metadata(files, mode):
    with zipfile.ZipFile(io.BytesIO(files[mode])) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode().splitlines() == CLASSES
    metadata = read_metadata(files[mode])
    assert {key: metadata[key] for key in METADATA} == METADATA
    assert metadata["quantization"] == mode


def test_flatbuffer_digest(files):
    data = files["float32"]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        end = min(member.header_offset for member in archive.infolist())
    assert hashlib.sha256(data[:end]).hexdigest() == read_metadata(data)["flatbuffer_sha256"]


def test_buffers_are_aligned(files):
    for data in files.values():
        model = schema.Model.GetRootAs(data, 0)
        buffers = [model.Buffers(index) for index in range(model.BuffersLength())]
        assert not any(buffer.Offset() for buffer in buffers), "constants belong inside the flatbuffer"
        starts = [buffer._tab.Vector(buffer._tab.Offset(4)) for buffer in buffers if buffer.DataLength()]
        assert starts
        assert not any(start % 16 for start in starts)


def test_metadata_follows_the_litert_convention(files):
    """Read with flatbuffers' own table reader, at the slots of the convention's metadata_schema.fbs."""
    model = schema.Model.GetRootAs(files["int8"], 0)
    entries = {model.Metadata(index).Name(): model.Metadata(index) for index in range(model.MetadataLength())}
    content = model.Buffers(entries[b"TFLITE_METADATA"].Buffer()).DataAsNumpy().tobytes()
    assert content[4:8] == b"M001"
    root = Reader(content, struct.unpack_from("<I", content)[0])
    graph = root.tables(3)[0]
    assert (root.text(0), root.text(5)) == ("fer_tf", "for tests only")
    assert [own.text(0) for own in root.tables(6)] == ["fer_tf.json"]
    pixels, scores = graph.tables(2)[0], graph.tables(3)[0]
    assert (pixels.text(0), scores.text(0)) == ("images", "probabilities")
    labels = scores.tables(6)[0]
    assert (labels.text(0), labels.byte(2)) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS
    image = pixels.table(3)
    assert image.byte(0) == 2 and image.table(1).byte(0) == 2  # ImageProperties, GRAYSCALE


class Reader:
    """A flatbuffer table by slot numbers."""

    def __init__(self, content: bytes, position: int) -> None:
        self.content, self.tab = content, flatbuffers.table.Table(bytearray(content), position)

    def position(self, slot: int) -> int:
        offset = self.tab.Offset(4 + 2 * slot)
        assert offset, f"slot {slot} is empty"
        return self.tab.Pos + offset

    def text(self, slot: int) -> str:
        return self.tab.String(self.position(slot)).decode()

    def byte(self, slot: int) -> int:
        return self.tab.Bytes[self.position(slot)]

    def table(self, slot: int) -> "Reader":
        return Reader(self.content, self.tab.Indirect(self.position(slot)))

    def tables(self, slot: int) -> list["Reader"]:
        start = self.tab.Vector(self.position(slot) - self.tab.Pos)
        count = self.tab.VectorLen(self.position(slot) - self.tab.Pos)
        return [Reader(self.content, self.tab.Indirect(start + 4 * index)) for index in range(count)]


# --- refusals --------------------------------------------------------------------------------------------------------


def test_unknown_quantization_is_refused(model):
    with pytest.raises(InputError, match=r"unknown quantization 'int4': expected one of float32, float16"):
        export.to_tflite(model, "int4", metadata=METADATA)


@pytest.mark.parametrize("images", [None, np.empty((0, 48, 48), np.uint8)])
def test_int8_without_calibration_images_is_refused(model, images):
    with pytest.raises(InputError, match="no calibration images: int8 measures"):
        export.to_tflite(model, "int8", metadata=METADATA, calibration_images=images)


def test_calibration_images_of_another_form_are_refused(model):
    with pytest.raises(InputError, match=r"calibration images are float32 \(2, 48, 48\): expected uint8"):
        export.to_tflite(model, "int8", metadata=METADATA, calibration_images=np.zeros((2, 48, 48), np.float32))


def test_model_of_another_task_is_refused():
    inputs = keras.Input((10,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    with pytest.raises(InputError, match=r"the model takes \(None, 10\) and gives \(None, 2\): expected square RGB"):
        export.to_tflite(model, "float32", metadata=METADATA)
