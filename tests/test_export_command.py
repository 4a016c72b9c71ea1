"""`export_tflite` as a user types it: what it writes, and its one line if it cannot."""

import json

import keras
import pytest

import fer_tf.model.weights
from fer_tf.artifacts import RunDirectory, save_keras, write_json
from fer_tf.commands.export_tflite import main
from fer_tf.config import Config
from fer_tf.data.loading import load_dataset
from fer_tf.data.reading.npz import save_npz
from fer_tf.data.recorded import describe_data
from fer_tf.data.synthetic import make_synthetic
from fer_tf.deploy import release
from fer_tf.inference.opening import open_model
from fer_tf.model.network import build_model


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "faces.npz"
    save_npz(make_synthetic(num_train=70, num_validation=42, num_test=14).decoded(), path)
    return path


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A run directory as after `train`, with an untrained network."""
    return make_run(tmp_path_factory.mktemp("runs") / "run", data, build_model(7, image_size=32))


def make_run(path, data, model) -> RunDirectory:
    dataset = load_dataset(data)
    directory = RunDirectory.create(path)
    write_json(directory.config, {"recipe": "demo", **Config(image_size=32, weights="none").to_dict()})
    write_json(directory.data, describe_data(dataset))
    metadata = {"format": 1, "class_names": list(dataset.class_names), "image_size": 32, "license": "for tests only"}
    save_keras(model, directory.model, metadata)
    return directory


@pytest.fixture
def run(trained):
    """The run, without the files that an earlier test exported."""
    for path in trained.path.glob("model-*"):
        path.unlink()
    return trained


def files(directory: RunDirectory) -> set[str]:
    return {path.name for path in directory.path.iterdir() if not path.name.startswith(".lock")}


def refused(capsys, *argv: str) -> str:
    """The one line of a refusal."""
    assert main(list(argv)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fer-tf ")]
    assert len(lines) == 1
    assert lines[0].startswith("fer-tf export_tflite: error: ")
    return lines[0].removeprefix("fer-tf export_tflite: error: ")


def test_writes_file_and_scorecard(run, capsys):
    assert main(["--run", str(run.path), "--quantization", "float32"]) == 0
    assert files(run) == {"config.json", "data.json", "model.keras", "model-float32.tflite", "model-float32.json"}
    card = json.loads(run.scorecard("float32").read_text())
    assert card["validation"]["num_images"] == 42
    assert card["validation"]["agreement"] == 1.0
    assert card["validation"]["max_probability_difference"] < 1e-4
    predictor = open_model(run.tflite("float32"))
    assert list(predictor.class_names) == card["class_names"]
    assert predictor.metadata["license"] == "for tests only"
    assert str(run.tflite("float32")) in capsys.readouterr().out


@pytest.mark.slow
def test_output_names_another_place(run, tmp_path):
    target = tmp_path / "new" / "phone.tflite"
    assert main(["--run", str(run.path), "--quantization", "int8", "--num-calibration", "14", "--max-drop", "100",
                 "--output", str(target)]) == 0  # fmt: skip
    assert sorted(path.name for path in target.parent.iterdir()) == ["phone.json", "phone.tflite"]
    assert json.loads(target.with_suffix(".json").read_text())["quantization_details"]["num_calibration"] == 14


@pytest.mark.slow
def test_auto_tries_all_and_writes_one(run, capsys):
    assert main(["--run", str(run.path), "--num-calibration", "14", "--max-drop", "100"]) == 0
    (written,) = (path for path in run.path.iterdir() if path.suffix == ".tflite")
    card = json.loads(written.with_suffix(".json").read_text())
    assert written == run.tflite(card["quantization"])
    assert len(card["tried"]) == 6
    assert card["latency_ms"] == min(row["latency_ms"] for row in card["tried"])
    assert "* " + card["quantization"] in capsys.readouterr().out


@pytest.fixture
def lossy(monkeypatch):
    """A made-up export that lost three points."""
    scores = {"accuracy": 0.6, "keras_accuracy": 0.63, "difference": -0.03, "macro_f1": 0.5, "agreement": 0.9}
    card = {"quantization": "float32", "validation": scores, "size_bytes": 4, "latency_ms": 1.0}
    monkeypatch.setattr(release, "release", lambda *_, **__: release.Released("float32", b"data", card))
    monkeypatch.setattr(fer_tf.model.weights, "load_classifier", lambda path: None)
    monkeypatch.setattr(release, "KerasPredictor", lambda model, metadata, name: None)


def test_a_drop_is_an_error(run, lossy, capsys):
    message = refused(capsys, "--run", str(run.path), "--quantization", "float32")
    assert message.startswith(
        "float32 loses 3.00 points of accuracy against Keras on the selection split, more than --max-drop 0.5:"
    )
    assert files(run) == {"config.json", "data.json", "model.keras"}


def test_force_writes_it_all_the_same(run, lossy):
    assert main(["--run", str(run.path), "--quantization", "float32", "--force"]) == 0
    assert run.tflite("float32").exists()


# --- bad input -------------------------------------------------------------------------------------------------------


def test_unknown_mode(run, capsys):
    assert refused(capsys, "--run", str(run.path), "--quantization", "int4") == (
        "unknown quantization 'int4': expected one of float32, float16, weight_int8, dynamic, int8, int8_mixed, auto"
    )


def test_no_run(tmp_path, capsys):
    assert refused(capsys, "--run", str(tmp_path / "none")).startswith(f"no run at {tmp_path / 'none'}: expected")


def test_model_of_another_task(data, tmp_path, capsys):
    inputs = keras.Input((10,))
    directory = make_run(tmp_path / "run", data, keras.Model(inputs, keras.layers.Dense(7)(inputs)))
    message = refused(capsys, "--run", str(directory.path), "--quantization", "float32")
    assert message.startswith(f"{directory.model} holds another network")
    assert files(directory) == {"config.json", "data.json", "model.keras"}


def test_foreign_model_file(tmp_path, capsys):
    directory = RunDirectory.create(tmp_path / "run")
    write_json(directory.config, Config().to_dict())
    directory.model.write_bytes(b"PK nonsense")
    assert "is not a model of fer_tf" in refused(capsys, "--run", str(directory.path))


@pytest.mark.parametrize("given", ["0", "6", "-1"])
def test_too_few_calibration_images(run, given, capsys):
    message = refused(capsys, "--run", str(run.path), "--quantization", "int8", "--num-calibration", given)
    assert message == f"{given} calibration images: expected at least 7, one of each class (--num-calibration)"
    assert "model-int8.tflite" not in files(run)


@pytest.mark.parametrize("drop", ["-1", "nan", "101"])
def test_impossible_max_drop(run, drop, capsys):
    assert "expected points of accuracy from 0 to 100" in refused(capsys, "--run", str(run.path), "--max-drop", drop)


def test_data_of_other_classes(run, tmp_path, capsys):
    other = make_synthetic(num_train=70, num_validation=42, num_test=14).decoded().select(["happy", "sad"])
    save_npz(other, tmp_path / "two.npz")
    message = refused(capsys, "--run", str(run.path), "--data", str(tmp_path / "two.npz"))
    assert "has the classes happy, sad" in message


@pytest.mark.parametrize("name", ["file/model.tflite", "folder.tflite"])
def test_unwritable_output_is_refused_at_once(run, tmp_path, name, capsys, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder.tflite").mkdir()
    monkeypatch.setattr(release, "release", lambda *_, **__: pytest.fail("it should not get that far"))
    message = refused(capsys, "--run", str(run.path), "--output", str(tmp_path / name))
    assert message == f"cannot write {tmp_path / name}: choose a file in a folder that can be written to"


def test_output_of_another_kind(run, tmp_path, capsys):
    assert refused(capsys, "--run", str(run.path), "--output", "model.onnx") == (
        "--output model.onnx: expected a name that ends in .tflite"
    )


@pytest.mark.slow
def test_rgb_input_has_a_name_and_a_scorecard_of_its_own(run, capsys):
    assert main(["--run", str(run.path), "--quantization", "dynamic", "--input", "rgb", "--max-drop", "100"]) == 0
    assert {"model-dynamic-rgb.tflite", "model-dynamic-rgb.json"} <= files(run)
    capsys.readouterr()
    assert main(["--run", str(run.path), "--quantization", "dynamic", "--max-drop", "100"]) == 0
    cards = [json.loads(run.scorecard(name).read_text()) for name in ("dynamic", "dynamic-rgb")]
    assert cards[0]["validation"]["accuracy"] == cards[1]["validation"]["accuracy"]
    assert open_model(run.tflite("dynamic-rgb")).metadata["input"] == "rgb"
