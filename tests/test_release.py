"""Scores, scorecards and the choice of the file to ship."""

import json

import numpy as np
import pytest

from fer_tf import artifacts, evaluation, inference
from fer_tf.artifacts import save_keras
from fer_tf.data.audit import among, image_hashes
from fer_tf.data.dataset import Dataset
from fer_tf.data.synthetic import make_synthetic
from fer_tf.deploy import quantization, release
from fer_tf.errors import InputError
from fer_tf.model.network import build_model
from fer_tf.model.weights import load_classifier


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return make_synthetic(num_train=140, num_validation=70, num_test=14).decoded()


@pytest.fixture(scope="module")
def model_path(dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    metadata = {"format": 1, "class_names": list(dataset.class_names), "image_size": 32, "license": "for tests only"}
    save_keras(build_model(len(dataset.class_names), image_size=32), path, metadata)
    return path


@pytest.fixture(scope="module")
def keras_predictor(model_path) -> inference.Predictor:
    return inference.open_model(model_path)


@pytest.fixture(scope="module")
def released(dataset, model_path, keras_predictor) -> release.Released:
    return release.release(load_classifier(model_path), "dynamic", keras_predictor=keras_predictor, dataset=dataset)


def test_scorecard_has_every_figure(released, dataset):
    card = released.scorecard
    assert json.loads(json.dumps(card, allow_nan=False)) == card
    assert card["quantization"] == "dynamic"
    assert card["size_bytes"] == len(released.data)
    assert card["latency_ms"] > 0
    assert card["num_threads"] == 1
    assert {"cpu", "cores"} <= set(card["machine"])
    assert {"python", "ai-edge-litert"} <= set(card["versions"])
    for part, count in (("validation", 70), ("synthetic_faces", 350)):
        scores = card[part]
        assert scores["num_images"] == count
        assert {"accuracy", "macro_f1", "keras_accuracy", "agreement", "max_probability_difference"} <= set(scores)
    assert card["validation"]["source"] == dataset.source


def test_the_file_has_the_current_schema_though_the_keras_model_is_older(released, keras_predictor):
    found = artifacts.parse_metadata(released.data, "FILE")
    assert keras_predictor.metadata["format"] == 1 and "format" not in found
    assert (found["schema_version"], found["crop"]) == (2, None)
    assert found["prediction_sets"] == released.scorecard["prediction_sets"]
    assert found["license"] == "for tests only" and found["image_size"] == 32


def test_thresholds_are_those_of_the_files_own_scores(released, dataset):
    validation = dataset.take("validation")
    probabilities = inference.litert.LiteRTPredictor(released.data).predict(validation.images)
    copies = among(validation.images, image_hashes(dataset.take("train").images))
    expected = evaluation.fit_prediction_sets(validation.labels, probabilities, copies)
    assert artifacts.parse_metadata(released.data, "FILE")["prediction_sets"] == expected
    assert expected["num_images"] == 70 - copies.sum()


def test_images_that_stand_in_train_too_fit_no_threshold(pets, made_up):
    made_up()
    pets.images[:, 0, 1] = np.arange(len(pets)) // 2 % 256  # otherwise all images of a class are equal
    pets.images[:, 0, 2] = np.arange(len(pets)) // 512
    pets.images[1000:] = pets.images[:20]
    assert choose(pets, "float32").scorecard["prediction_sets"]["num_images"] == 980


def test_scorecard_is_of_the_file_itself(released, dataset, keras_predictor, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(released.data)
    validation = dataset.take("validation")
    found = inference.open_model(path).predict(validation.images)
    expected = keras_predictor.predict(validation.images)
    scores = released.scorecard["validation"]
    assert scores["accuracy"] == pytest.approx(np.mean(found.argmax(axis=1) == validation.labels))
    assert scores["agreement"] == pytest.approx(np.mean(found.argmax(axis=1) == expected.argmax(axis=1)))
    assert scores["max_probability_difference"] == pytest.approx(np.abs(found - expected).max(), abs=1e-6)


def test_synthetic_scores_can_be_measured_again(released, tmp_path):
    """They need only the file and the scorecard, no data set; this is how `saved_models` is checked."""
    path = tmp_path / "model.tflite"
    path.write_bytes(released.data)
    images, labels = release.synthetic_faces(released.scorecard["class_names"])
    found = inference.open_model(path).predict(images)
    assert np.mean(found.argmax(axis=1) == labels) == pytest.approx(released.scorecard["synthetic_faces"]["accuracy"])


# --- the choice, with files of made-up quality -----------------------------------------------------------------------

NAMES = ("cat", "dog")


class Fixed:
    """A predictor that answers right except for the first `num_wrong` images."""

    def __init__(self, num_wrong: int, latency: float = 0.0) -> None:
        self.class_names, self.metadata, self.num_wrong, self.latency = (
            NAMES,
            {"class_names": NAMES},
            num_wrong,
            latency,
        )

    def predict(self, images: np.ndarray) -> np.ndarray:
        right = images[:, 0, 0] % 2
        right = np.where(np.arange(len(images)) < self.num_wrong, 1 - right, right)
        return np.eye(2, dtype=np.float32)[right] * 0.8 + np.float32(0.1)


@pytest.fixture
def pets() -> Dataset:
    """1000 validation images; the first pixel tells the class."""
    labels = np.arange(1020) % 2
    images = np.zeros((1020, 48, 48), np.uint8)
    images[:, 0, 0] = labels
    split = np.array(["validation"] * 1000 + ["train"] * 20)
    return Dataset(labels, split, NAMES, images=images, source="pets.npz")


@pytest.fixture
def made_up(monkeypatch):
    """Give each quantization a number of wrong images and a latency."""

    def arrange(**files: tuple[int, float]) -> None:
        files = {mode: files.get(mode, (0, 9.0)) for mode in quantization.QUANTIZATIONS}
        monkeypatch.setattr("fer_tf.deploy.conversion.convert", lambda model: b"")
        monkeypatch.setattr(release, "quantize", lambda flatbuffer, mode, **_: mode.encode())
        monkeypatch.setattr(release.tflite_format, "with_prediction_sets", lambda content, sets: content)
        monkeypatch.setattr(release, "LiteRTPredictor", lambda content, **_: Fixed(*files[content.decode()]))
        monkeypatch.setattr(release, "latency_ms", lambda predictor, image: predictor.latency)

    return arrange


def choose(dataset: Dataset, mode: str = "auto", max_drop: float = 0.5) -> release.Released:
    return release.release(None, mode, keras_predictor=Fixed(0), dataset=dataset, num_calibration=10, max_drop=max_drop)


def test_auto_takes_the_fastest_that_keeps_the_accuracy(pets, made_up):
    made_up(int8=(100, 1.0), dynamic=(1, 2.0), float32=(0, 3.0))
    released = choose(pets)
    assert released.quantization == "dynamic"
    assert [row["quantization"] for row in released.scorecard["tried"]] == list(quantization.QUANTIZATIONS)
    rejected = [row["quantization"] for row in released.scorecard["tried"] if not row["within_max_drop"]]
    assert rejected == ["int8"]


def test_auto_is_judged_by_the_interval_and_not_by_the_point(pets, made_up):
    made_up(int8=(4, 1.0), dynamic=(0, 2.0))  # 0.4 points lower, give or take 0.4
    assert choose(pets).quantization == "dynamic"
    assert choose(pets, max_drop=1.0).quantization == "int8"


def test_auto_falls_back_to_float32(pets, made_up):
    made_up(**dict.fromkeys(quantization.QUANTIZATIONS, (200, 1.0)))
    assert choose(pets).quantization == "float32"


def test_drop_is_in_points(pets, made_up):
    made_up(int8=(30, 1.0))
    assert choose(pets, "int8").drop == pytest.approx(3.0)


def test_table_marks_the_chosen_and_the_refused(pets, made_up):
    made_up(int8=(100, 1.0), dynamic=(1, 2.0))
    lines = release.format_tried(choose(pets).scorecard).splitlines()
    marked = {line.split()[1]: line for line in lines if line.startswith("* ") and "fastest" not in line}
    assert list(marked) == ["dynamic"]
    assert "99.90%" in marked["dynamic"] and "2.000" in marked["dynamic"]
    assert [line.split()[0] for line in lines if line.endswith("may lose more than allowed")] == ["int8"]


def test_classes_that_are_no_emotions_get_no_synthetic_accuracy(pets, made_up):
    made_up()
    scores = choose(pets, "float32").scorecard["synthetic_faces"]
    assert "accuracy" not in scores
    assert scores["agreement"] == 1.0


# --- calibration images ----------------------------------------------------------------------------------------------


def test_calibration_images_are_stratified_and_seeded():
    labels = np.repeat([0, 1, 2], [900, 95, 5])
    images = np.repeat(labels, 48 * 48).reshape(-1, 48, 48).astype(np.uint8)
    dataset = Dataset(labels, np.full(1000, "train"), ("a", "b", "c"), images=images)
    chosen = release.calibration_images(dataset, 100, seed=1)
    assert np.bincount(chosen[:, 0, 0]).tolist() == [90, 10, 1]
    assert len(set(chosen[:10, 0, 0])) > 1, "the classes should be mixed"
    np.testing.assert_array_equal(chosen, release.calibration_images(dataset, 100, seed=1))


def test_calibration_takes_training_images_only(dataset):
    known = {image.tobytes() for image in dataset.take("train").images}
    assert all(image.tobytes() in known for image in release.calibration_images(dataset, 70))


def test_calibration_refuses(dataset, pets):
    with pytest.raises(InputError, match=r"no calibration images: pets\.npz has no training images"):
        release.calibration_images(pets.take("validation"), 10)
    with pytest.raises(InputError, match=r"3 calibration images: expected at least 7, one of each class"):
        release.calibration_images(dataset, 3)


def test_unknown_quantization_is_refused_before_any_work(pets):
    with pytest.raises(InputError, match="unknown quantization 'int4'"):
        choose(pets, "int4")


def test_data_without_validation_images_is_refused(pets):
    with pytest.raises(InputError, match=r"pets\.npz has no validation images"):
        choose(pets.take("train"), "float32")


# --- writing ---------------------------------------------------------------------------------------------------------


def test_file_and_scorecard_are_written_together(tmp_path):
    released = release.Released("int8", b"file", {"accuracy": 0.5})
    release.write_release(released, tmp_path / "a.tflite", tmp_path / "a.json")
    assert (tmp_path / "a.tflite").read_bytes() == b"file"
    assert json.loads((tmp_path / "a.json").read_text()) == {"accuracy": 0.5}


def test_a_scorecard_that_cannot_be_written_leaves_no_file(tmp_path):
    released = release.Released("int8", b"file", {"accuracy": float("nan")})
    with pytest.raises(ValueError):
        release.write_release(released, tmp_path / "a.tflite", tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []
