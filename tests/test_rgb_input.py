"""The variant with RGB input gives the same answers as the grey file, in LiteRT and in the real MediaPipe."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from fer_tf.artifacts import shipped_model
from fer_tf.deploy import tflite_format
from fer_tf.faces import to_grey48
from fer_tf.inference.litert import LiteRTPredictor
from fer_tf.inference.opening import open_model
from fer_tf.task import EMOTIONS
from tests.tiny_models import write_tiny

pytestmark = pytest.mark.light

MEDIAPIPE = "mediapipe==1.2.*"
CLASSIFY = """
import json, sys
import mediapipe as mp
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision

options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=sys.argv[1]))
rows = []
with vision.ImageClassifier.create_from_options(options) as classifier:
    for crop in np.load(sys.argv[2]):
        image = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(crop))
        found = classifier.classify(image).classifications[0].categories
        rows.append({category.category_name: category.score for category in found})
print(json.dumps(rows))
"""


def with_rgb_input(path) -> bytes:
    """Make the file with RGB input from a finished grey file."""
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        end = min(member.header_offset for member in archive.infolist())
    model = tflite_format.parse(content[:end])
    model.metadata = [entry for entry in model.metadata if entry.name != b"TFLITE_METADATA"]
    tflite_format.use_rgb_input(model)
    tflite_format.name_input_and_output(model)
    return tflite_format.with_metadata(model, {**open_model(path).metadata, "input": "rgb"})


def colours(count: int) -> np.ndarray:
    """Random colours, including the extremes: uint8 (count, 48, 48, 3)."""
    values = np.random.default_rng(11).integers(0, 256, (count, 48, 48, 3), np.uint8)
    values[0], values[1], values[2] = 0, 255, (255, 0, 0)
    return values


def test_a_file_with_rgb_input_answers_like_the_grey_one(tmp_path):
    grey = write_tiny(tmp_path / "grey.tflite")
    content = with_rgb_input(grey)
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    given, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert (given["name"], list(given["shape"]), given["dtype"]) == ("images", [1, 48, 48, 3], np.uint8)
    answers = []
    for crop in colours(20):
        interpreter.set_tensor(given["index"], crop[None])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(result["index"])[0].copy())
    crops = np.stack([to_grey48(crop) for crop in colours(20)])
    np.testing.assert_array_equal(answers, open_model(grey).predict(crops))
    np.testing.assert_array_equal(LiteRTPredictor(content).predict(crops), open_model(grey).predict(crops))


@pytest.mark.slow
def test_mediapipe_gives_the_probabilities_and_the_names(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)  # its wheel would overwrite cv2
    python = tmp_path / "venv" / "bin" / "python"
    installed = subprocess.run([python, "-m", "pip", "install", "-q", MEDIAPIPE], capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"{MEDIAPIPE} cannot be installed: {installed.stderr[-200:]}")
    (tmp_path / "model.tflite").write_bytes(with_rgb_input(shipped_model(".tflite")))
    crops = colours(100)
    np.save(tmp_path / "crops.npy", crops)
    ran = subprocess.run(
        [python, "-c", CLASSIFY, tmp_path / "model.tflite", tmp_path / "crops.npy"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    rows = json.loads(ran.stdout)
    assert set(rows[0]) == set(EMOTIONS)
    expected = open_model(shipped_model(".tflite")).predict(np.stack([to_grey48(crop) for crop in crops]))
    np.testing.assert_allclose([[row[name] for name in EMOTIONS] for row in rows], expected, atol=1e-3)
