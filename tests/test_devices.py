"""docs/devices.md: its Python code runs on a shipped model, and sample.json holds that model's answers."""

import configparser
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fer_tf.artifacts import shipped_model
from fer_tf.deploy.release import sample_answers
from fer_tf.inference.opening import open_model

pytestmark = pytest.mark.light

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "devices.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model and its sample."""
    model = tmp_path / "model.tflite"
    model.write_bytes(shipped_model(".tflite").read_bytes())
    (tmp_path / "sample.json").write_text(json.dumps(sample_answers(model)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_sample_holds_the_answers_of_its_model(folder):
    found = json.loads((folder / "sample.json").read_text())
    assert found["model"]["sha256"] == hashlib.sha256((folder / "model.tflite").read_bytes()).hexdigest()
    pixels = np.array([crop["pixels"] for crop in found["crops"]], np.uint8)
    assert pixels.shape == (10, 2304)
    assert found["pixels_sha256"] == hashlib.sha256(pixels.tobytes()).hexdigest()
    model = open_model(folder / "model.tflite")
    assert tuple(found["class_names"]) == model.class_names
    answers = [crop["probabilities"] for crop in found["crops"]]
    np.testing.assert_allclose(answers, model.predict(pixels.reshape(-1, 48, 48)), atol=1e-5)
    assert (folder / "sample.json").stat().st_size < 200_000


def test_the_code_for_litert_runs_and_finds_another_model(folder):
    (code,) = (block for block in BLOCKS if "ai_edge_litert" in block)
    exec(code, {})
    found = json.loads((folder / "sample.json").read_text())
    found["crops"][9]["probabilities"] = found["crops"][9]["probabilities"][::-1]
    (folder / "sample.json").write_text(json.dumps(found))
    with pytest.raises(AssertionError):
        exec(code, {})


@pytest.mark.slow
def test_the_code_for_onnx_runs(folder, capsys):
    pytest.importorskip("keras")
    pytest.importorskip("onnxruntime")
    from fer_tf.deploy.onnx_format import to_onnx
    from fer_tf.model.weights import load_classifier

    keras_file = shipped_model(".keras")
    metadata = open_model(keras_file).metadata
    (folder / "model.onnx").write_bytes(to_onnx(load_classifier(keras_file), metadata=metadata))
    (code,) = (block for block in BLOCKS if "onnxruntime" in block)
    values: dict = {}
    exec(code, values)
    assert capsys.readouterr().out.strip() in metadata["class_names"]
    expected = [crop["probabilities"] for crop in json.loads((folder / "sample.json").read_text())["crops"]]
    np.testing.assert_allclose(values["probabilities"], expected, atol=0.03)


def test_every_class_of_device_is_on_the_page():
    for title in ("Raspberry Pi", "Android (untested)", "ONNX", "MediaPipe", "Which extras install where"):
        assert f"{title}\n" in PAGE


@pytest.mark.slow
@pytest.mark.parametrize("platforms", [
    ["manylinux_2_27_aarch64", "manylinux_2_28_aarch64", "manylinux2014_aarch64"],  # Raspberry Pi
    ["win_amd64"],
    ["macosx_14_0_arm64"],
])  # fmt: skip
def test_what_predict_needs_has_wheels_elsewhere(platforms, tmp_path):
    pytest.importorskip("pip")
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    extras = settings["options.extras_require"]
    needed = [*settings["options"]["install_requires"].split("\n"), *extras["faces"].split("\n")]
    flags = [flag for platform in platforms for flag in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--target", tmp_path, *flags]
    command += ["--python-version", "3.11", "--only-binary=:all:", *filter(None, needed)]
    found = subprocess.run(command, capture_output=True, text=True)
    if "NameResolutionError" in found.stderr or "NewConnectionError" in found.stderr:
        pytest.skip("the package index cannot be reached")
    assert found.returncode == 0, found.stderr[-500:]
