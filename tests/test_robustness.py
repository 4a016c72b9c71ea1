"""Corruptions: each grows with its strength, the same seed gives the same images, and a model's losses are measured."""

import json

import numpy as np
import pytest
from PIL import Image

from fer_tf.commands.evaluate import main
from fer_tf.data.reading.npz import save_npz
from fer_tf.data.synthetic import draw_faces, make_synthetic
from fer_tf.errors import InputError
from fer_tf.evaluation import corrupt, measure_corruptions
from fer_tf.evaluation.robustness import STRENGTHS
from tests.tiny_models import write_tiny

pytestmark = pytest.mark.light


@pytest.fixture(scope="module")
def faces():
    return draw_faces(np.arange(28) % 7, seed=4)


@pytest.mark.parametrize("kind", STRENGTHS)
def test_a_corruption_grows_with_its_strength_and_is_the_same_again(faces, kind):
    copies = [corrupt(faces, kind, strength, seed=3) for strength in range(1, 6)]
    distances = [np.abs(copy.astype(float) - faces).mean() for copy in copies]
    assert all(copy.shape == faces.shape and copy.dtype == np.uint8 for copy in copies)
    assert distances[0] > 0 and distances == sorted(distances)
    np.testing.assert_array_equal(corrupt(faces, kind, 2, seed=3), copies[1])
    assert corrupt(faces[:0], kind, 1).shape == (0, 48, 48)


def test_the_direction_depends_on_the_seed(faces):
    for kind in ("noise", "rotation", "shift", "motion blur"):
        assert np.any(corrupt(faces, kind, 3, seed=1) != corrupt(faces, kind, 3, seed=2)), kind


def test_only_the_named_region_is_covered(faces):
    for kind, rows in (("eyes covered", range(11, 23)), ("mouth covered", range(29, 47))):
        changed = np.flatnonzero(np.any(corrupt(faces, kind, 5) != faces, axis=(0, 2)))
        assert set(changed) <= set(rows) and len(changed) > 6


def test_pixels_from_beyond_the_crop_repeat_its_edge():
    image = np.full((1, 48, 48), 80, np.uint8)
    for kind in ("shift", "rotation", "motion blur"):
        assert set(np.unique(corrupt(image, kind, 5))) == {80}


def test_what_is_no_corruption_is_refused(faces):
    with pytest.raises(InputError, match="unknown corruption 'rain': expected one of blur"):
        corrupt(faces, "rain", 1)
    for strength in (0, 6, 1.5):
        with pytest.raises(InputError, match="expected a whole number from 1 to 5"):
            corrupt(faces, "blur", strength)
    with pytest.raises(InputError, match="expected uint8"):
        corrupt(faces.astype(float), "blur", 1)


def by_brightness(images):
    """Class 0 for a dark image, 1 for a bright one."""
    bright = (images.mean(axis=(1, 2)) > 60).astype(int)
    return np.eye(2)[bright] * 0.8 + 0.1


def test_a_model_that_looks_at_brightness_loses_in_the_dark_only():
    images = np.stack([np.full((48, 48), value, np.uint8) for value in [40] * 50 + [100] * 50])
    labels = np.repeat([0, 1], 50)
    result = measure_corruptions(by_brightness, images, labels)
    assert result["clean"] == 1.0
    assert result["kinds"]["blur"]["mean"] == 1.0 and result["kinds"]["eyes covered"]["mean"] == 1.0
    assert result["kinds"]["dark"]["accuracies"] == [1.0, 0.5, 0.5, 0.5, 0.5]
    assert 0 < result["lost"] < 0.5
    low, high = result["lost_interval"]
    assert low <= result["lost"] <= high


def test_two_models_are_compared_on_the_same_images():
    images = np.stack([np.full((48, 48), value, np.uint8) for value in [40] * 50 + [100] * 50])
    labels = np.repeat([0, 1], 50)
    same = measure_corruptions(by_brightness, images, labels, against=by_brightness)
    assert same["difference"] == 0 and same["lost_difference_interval"] == [0, 0]

    def perfect(crops):
        return np.eye(2)[labels] * 0.8 + 0.1

    result = measure_corruptions(perfect, images, labels, against=by_brightness)
    assert result["lost"] == 0 and result["lost_difference"] < 0 and result["lost_difference_interval"][1] < 0


def test_the_command_prints_writes_and_draws(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    save_npz(make_synthetic(num_train=14, num_validation=14, num_test=21).decoded(), tmp_path / "faces.npz")
    one, other = (write_tiny(tmp_path / name) for name in ("one.tflite", "other.tflite"))
    arguments = ["--model", str(one), "--data", str(tmp_path / "faces.npz"), "--split", "test"]
    output = ["--output", str(tmp_path / "out.json"), "--plot", str(tmp_path / "out.png")]
    assert main([*arguments, "--corruptions", "--against", str(other), *output]) == 0
    printed = capsys.readouterr().out
    assert "one.tflite: accuracy in % on 21 corrupted images, by strength" in printed
    assert "Points lost by corruption, one.tflite less other.tflite" in printed
    result = json.loads((tmp_path / "out.json").read_text())["splits"]["test"]["corruptions"]
    assert list(result["kinds"]) == list(STRENGTHS) and result["num_images"] == 21
    with Image.open(tmp_path / "out.png") as image:
        assert image.width > 900
    assert main([*arguments, "--plot", str(tmp_path / "no.png")]) == 2
    assert "--plot draws what --corruptions measures: add --corruptions" in capsys.readouterr().err
    assert not (tmp_path / "no.png").exists()
