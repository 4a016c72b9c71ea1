"""ONNX files: ONNX Runtime gives the same results as Keras, and other files are refused in one line."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fer_tf.artifacts import METADATA_NAME
from fer_tf.errors import InputError
from fer_tf.inference.classifier import EmotionClassifier
from fer_tf.inference.opening import open_model
from fer_tf.task import EMOTIONS
from tests.tiny_models import dense_weights, expected_probabilities


def tiny_onnx(
    *,
    class_names=EMOTIONS,
    input_type=TensorProto.UINT8,
    input_name="images",
    side=48,
    num_outputs=7,
    metadata=True,
    operator="Softmax",
) -> onnx.ModelProto:
    """One dense layer over the pixels, made with ONNX's own helpers."""
    weights = np.zeros((side * side, num_outputs), np.float32)
    if weights.shape == (2304, 7):
        weights = dense_weights().T
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [input_name], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["floats"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
            helper.make_node(operator, ["logits"], ["probabilities"]),
        ],
        "tiny",
        [helper.make_tensor_value_info(input_name, input_type, ["batch", side, side, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", num_outputs])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    if metadata:
        text = json.dumps({"schema_version": 2, "class_names": list(class_names), "image_size": 48})
        helper.set_model_props(model, {METADATA_NAME: metadata if isinstance(metadata, str) else text})
    return model


def refusal(path) -> str:
    with pytest.raises(InputError) as caught:
        open_model(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path)) or "no model file at" in message
    return message.removeprefix(str(path))


@pytest.mark.parametrize("num_images", [1, 65])
def test_the_classifier_opens_an_onnx_file(tmp_path, num_images):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_onnx().SerializeToString())
    classifier = EmotionClassifier(path, num_threads=1)
    assert classifier.class_names == EMOTIONS
    images = np.random.default_rng(0).integers(0, 256, (num_images, 48, 48), np.uint8)
    np.testing.assert_allclose(classifier.predict(images), expected_probabilities(images), atol=1e-5)
    assert classifier.predict([]).shape == (0, 7)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"metadata": False}, "is not a model of fer_tf"),
        ({"metadata": "no JSON"}, "is not JSON"),
        ({"metadata": json.dumps({"schema_version": 99, "class_names": ["a", "b"]})}, "schema_version 99"),
        ({"class_names": EMOTIONS[:6]}, "expected [('probabilities', 'tensor(float)', ['batch', 6])]"),
        ({"input_type": TensorProto.FLOAT}, "expected [('images', 'tensor(uint8)', ['batch', 48, 48, 1])]"),
        ({"input_name": "pixels"}, "has the input [('pixels'"),
        ({"side": 64}, "['batch', 64, 64, 1]"),
        ({"operator": "Ours"}, "is not an ONNX file that ONNX Runtime opens"),
    ],
)
def test_another_model_is_refused(tmp_path, changes, expected):
    path = tmp_path / "foreign.onnx"
    path.write_bytes(tiny_onnx(**changes).SerializeToString())
    assert expected in refusal(path)


def test_damage_is_refused(tmp_path):
    whole = tiny_onnx().SerializeToString()
    for content in (
        b"",
        b"x",
        bytes(1000),
        b"PK\x03\x04" + bytes(100),
        whole[:-1],
        whole[:200],
        whole[: len(whole) // 2],
    ):
        path = tmp_path / "damaged.onnx"
        path.write_bytes(content)
        refusal(path)
    assert "no model file at" in refusal(tmp_path / "missing.onnx")


@pytest.mark.parametrize("location", ["weights.bin", "{folder}/weights.bin", "../{name}/weights.bin"])
def test_weights_in_another_file_are_not_read(tmp_path, monkeypatch, location):
    monkeypatch.chdir(tmp_path)
    onnx.save(tiny_onnx(), "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    model = onnx.load("model.onnx", load_external_data=False)
    place = next(entry for entry in model.graph.initializer[0].external_data if entry.key == "location")
    place.value = location.format(folder=tmp_path, name=tmp_path.name)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    assert "is not an ONNX file" in refusal(tmp_path / "model.onnx")


@pytest.mark.slow
def test_a_run_is_exported_and_scored(tmp_path, capsys):
    from fer_tf.commands.export_onnx import main
    from fer_tf.data.reading.npz import save_npz
    from fer_tf.data.synthetic import draw_faces, make_synthetic
    from fer_tf.model.network import build_model
    from tests.test_export_command import make_run

    data = tmp_path / "faces.npz"
    save_npz(make_synthetic(num_train=70, num_validation=42, num_test=14).decoded(), data)
    run = make_run(tmp_path / "run", data, build_model(7, image_size=32))
    assert main(["--run", str(run.path)]) == 0
    assert str(run.onnx) in capsys.readouterr().out
    card = json.loads(run.scorecard("onnx").read_text())
    assert card["quantization"] == "onnx"
    assert card["size_bytes"] == run.onnx.stat().st_size
    assert card["validation"]["num_images"] == 42
    assert card["validation"]["agreement"] == 1.0
    written = open_model(run.onnx)
    assert written.metadata["license"] == "for tests only"
    assert written.class_names == EMOTIONS
    faces = draw_faces(np.arange(70) % 7, seed=5)
    np.testing.assert_allclose(written.predict(faces), open_model(run.model).predict(faces), atol=1e-4)
    assert main(["--run", str(run.path), "--output", str(tmp_path / "model.tflite")]) == 2
    assert "expected a name that ends in .onnx" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("image_size", [32, 48, 64, 100, 112])
def test_every_input_size_is_exported(tmp_path, image_size):
    """A Resize node with a scale fails at 112: 48 times float32(112 / 48), rounded down, is 111."""
    from fer_tf.deploy.conversion import with_preprocessing
    from fer_tf.deploy.onnx_format import to_onnx
    from fer_tf.model.network import build_model

    network = build_model(7, image_size=image_size, width=0.25)
    path = tmp_path / "model.onnx"
    metadata = {"schema_version": 2, "class_names": EMOTIONS, "image_size": image_size}
    path.write_bytes(to_onnx(network, metadata=metadata))
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 48), np.uint8)
    expected = with_preprocessing(network, batch_size=None)(images[..., None].astype(np.float32))
    np.testing.assert_allclose(open_model(path).predict(images), expected, atol=1e-5)
