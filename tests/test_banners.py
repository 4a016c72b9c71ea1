"""Commands show only their own lines: no notices of TensorFlow, CUDA or other packages."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_tf.data.synthetic import draw_faces
from fer_tf.task import EMOTIONS
from tests.conftest import striped_faces

ROOT = Path(__file__).resolve().parents[1]
BANNERS = re.compile(r"absl|oneDNN|cuda|cuInit|XNNPACK|OpenCV|Hugging|[IWEF]0000|Warning|site-packages", re.IGNORECASE)


def _no_banner(*arguments, cwd):
    found = subprocess.run(
        [sys.executable, "-m", "fer_tf", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("TF_")}, "PYTHONPATH": str(ROOT)},
    )
    assert found.returncode == 0, found.stderr
    assert not BANNERS.search(found.stderr), found.stderr
    return found


def test_predict_shows_its_answer_alone(model, tmp_path):
    Image.fromarray(striped_faces(1)[0][0]).save(tmp_path / "crop.png")
    found = _no_banner("predict", "crop.png", "--model", model, cwd=tmp_path)
    assert found.stderr == ""
    assert found.stdout.startswith("file") and not BANNERS.search(found.stdout)


@pytest.mark.slow
def test_no_command_shows_a_banner_of_another_package(tmp_path):
    labels = np.arange(12) % 2 + 3
    for number, (label, face) in enumerate(zip(labels, draw_faces(labels), strict=True)):
        file = tmp_path / "faces" / EMOTIONS[label] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(face).save(file)
    shutil.copy(file, tmp_path / "crop.png")
    tiny = ["--limit", 40, "--weights", "none", "--image-size", 32, "--epochs", 1]
    run = ["--run", "run"]
    train = _no_banner("train", *run, *tiny, cwd=tmp_path)
    assert len(train.stderr.splitlines()) < 15, "more than a line a stage"
    shutil.copytree(tmp_path / "run", tmp_path / "again")
    for command in (
        ["evaluate", *run],
        ["evaluate", *run, "--quantization", "float32"],
        ["export_tflite", *run, "--quantization", "float16", "--force"],
        ["export_onnx", *run],
        ["predict", "crop.png", "--model", "run/model.keras"],
        ["predict", "crop.png", "--model", "run/model.onnx"],
        ["explain", "crop.png", "--model", "run/model.keras"],
        ["classify", "faces", "answers", "--model", "run/model.keras"],
        ["compare", "run", "again", "--output", "curves.png"],
        ["report", *run],
        ["explore", "--data", "faces"],
        ["prepare", "faces", "x.npz"],
        ["benchmark", "--only", "latency,train", "--image-sizes", "32", "--seconds", "0.1", "--batch-size", "4"],
    ):
        _no_banner(*command, cwd=tmp_path)
