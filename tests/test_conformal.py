"""Prediction sets: the place of the quantile, the coverage over many draws, a model's thresholds."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from fer_tf import artifacts
from fer_tf.commands import predict
from fer_tf.deploy import tflite_format
from fer_tf.errors import InputError
from fer_tf.evaluation import conformal
from fer_tf.inference import open_model
from fer_tf.recognition import Recognizer
from fer_tf.task import EMOTIONS
from tests.tiny_models import expected_probabilities, write_tiny

pytestmark = pytest.mark.light


@pytest.mark.parametrize(
    ("count", "coverage", "place"), [(19, 0.9, 18), (19, 0.95, 19), (39, 0.95, 38), (9, 0.8, 8), (20, 0.9, 19)]
)
def test_the_place_of_the_quantile(count, coverage, place):
    scores = np.random.default_rng(0).permutation(np.arange(1, count + 1))
    assert conformal.conformal_quantile(scores, coverage) == place


def test_too_few_scores_take_in_every_class():
    assert conformal.conformal_quantile(np.arange(8), 0.9) == np.inf
    assert conformal.fit_prediction_sets(np.zeros(3, int), np.full((3, 2), 0.5))["thresholds"]["0.95"] == 1.0


@pytest.mark.parametrize("coverage", [0, 1, -0.1, np.nan])
def test_a_coverage_out_of_range(coverage):
    with pytest.raises(InputError, match="expected a number between 0 and 1"):
        conformal.conformal_quantile(np.arange(9), coverage)


def test_coverage_over_exchangeable_draws():
    """n = 19: at least 0.9 and at most 0.95 on average; a quantile off by one gives 0.85 or 0.95."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(2000):
        scores = rng.random(19 + 50)
        held.append(np.mean(scores[19:] <= conformal.conformal_quantile(scores[:19], 0.9)))
    assert 0.89 <= np.mean(held) <= 0.96
    assert np.mean(held) == pytest.approx(18 / 20, abs=0.01)


def _draws(count, rng):
    probabilities = rng.dirichlet(np.full(4, 0.6), count)
    labels = (rng.random((count, 1)) > probabilities.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return labels, probabilities


@pytest.mark.parametrize("method", ["lac", "aps", "aps_random"])
def test_sets_cover_new_images_and_are_never_empty(method):
    rng = np.random.default_rng(1)
    (labels, probabilities), (new_labels, new) = _draws(6000, rng), _draws(6000, rng)
    uniform, new_uniform = (rng.random(6000) if method == "aps_random" else np.zeros(6000) for _ in range(2))
    if method == "lac":
        sets = conformal.lac_sets(new, conformal.conformal_quantile(conformal.lac_scores(labels, probabilities), 0.8))
    else:
        threshold = conformal.conformal_quantile(conformal.aps_scores(labels, probabilities, uniform), 0.8)
        sets = conformal.aps_sets(new, threshold, new_uniform)
    found = conformal.set_figures(new_labels, sets, list("abcd"))
    assert found["coverage"] >= 0.785
    assert sets.any(axis=1).all() and sets[np.arange(6000), new.argmax(axis=1)].all()
    assert found["mean_size"] == sets.sum() / 6000
    assert sum(row["num_images"] * row["coverage"] for row in found["per_class"]) == pytest.approx(
        6000 * found["coverage"]
    )


def test_scores_by_hand():
    probabilities, labels = np.array([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1]]), np.array([2, 1])
    assert conformal.lac_scores(labels, probabilities) == pytest.approx([0.7, 0.2])
    assert conformal.aps_scores(labels, probabilities) == pytest.approx([0.8, 0.8])
    assert conformal.aps_scores(labels, probabilities, np.array([0.5, 1.0])) == pytest.approx([0.65, 0.0])
    assert conformal.aps_sets(probabilities, 0.8).tolist() == [[True, False, True], [False, True, False]]
    assert conformal.lac_sets(probabilities, 0.7).tolist() == [[True, False, True], [False, True, False]]
    assert conformal.lac_sets(probabilities, 0.0).tolist() == [[True, False, False], [False, True, False]]


def test_images_of_the_training_data_are_left_out():
    labels, probabilities = _draws(60, np.random.default_rng(2))
    duplicate = np.arange(60) < 20
    found = conformal.fit_prediction_sets(labels, probabilities, duplicate)
    assert found == conformal.fit_prediction_sets(labels[20:], probabilities[20:]) and found["num_images"] == 40
    assert found["thresholds"].keys() == {"0.8", "0.9", "0.95"} and json.loads(json.dumps(found)) == found
    assert conformal.fit_prediction_sets(labels, probabilities, np.ones(60, bool)) is None


def test_the_set_of_ranked_emotions_is_that_of_the_array():
    rng = np.random.default_rng(3)
    probabilities = rng.dirichlet(np.ones(7), 50).astype(np.float32)
    for row, held in zip(probabilities, conformal.lac_sets(probabilities, 0.85), strict=True):
        ranked = [(EMOTIONS[i], float(row[i])) for i in np.argsort(-row)]
        chosen = conformal.prediction_set(ranked, 0.85)
        assert set(chosen) == {EMOTIONS[i] for i in np.flatnonzero(held)} and chosen[0] == ranked[0][0]


def sets_with(threshold):
    thresholds = {"0.8": threshold, "0.9": threshold, "0.95": threshold}
    return {"method": "lac", "num_images": 9, "thresholds": thresholds}


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (None, "has no thresholds for prediction sets: export it again with `fer-tf export_tflite"),
        ([], "no threshold in"),
        ({"method": "other", "thresholds": {"0.9": 0.5}}, "no threshold in"),
        ({"method": "lac", "thresholds": {"0.8": 0.5}}, "no threshold in"),
        *((sets_with(value), "no threshold in") for value in ("0.5", True, None, -1, 2, float("nan"))),
    ],
)
def test_a_model_without_thresholds(sets, message):
    with pytest.raises(InputError, match=message):
        conformal.read_threshold({"prediction_sets": sets}, 0.9)


@pytest.mark.parametrize("coverage", [0.5, 90, 0])
def test_a_coverage_that_no_model_has(coverage):
    with pytest.raises(InputError, match=r"expected one of 0\.8, 0\.9, 0\.95"):
        conformal.read_threshold({"prediction_sets": sets_with(0.5)}, coverage)


def test_thresholds_are_put_into_a_finished_file(tmp_path):
    path = write_tiny(tmp_path / "tiny.tflite", metadata={"prediction_sets": None})
    before = path.read_bytes()
    path.write_bytes(tflite_format.with_prediction_sets(before, sets_with(0.5)))
    assert open_model(path).metadata == {**artifacts.parse_metadata(before, ""), "prediction_sets": sets_with(0.5)}
    assert tflite_format.with_prediction_sets(path.read_bytes(), None) == before


# --- predict and Recognizer ---


@pytest.fixture
def crop(tmp_path, monkeypatch):
    """A face crop as face.png, and its ranked answers."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(5).integers(0, 256, (48, 48)).astype(np.uint8)
    Image.fromarray(pixels).save("face.png")
    scores = expected_probabilities(pixels[None])[0]
    return sorted(zip(scores.tolist(), EMOTIONS, strict=True), reverse=True)


def _model(tmp_path, ranked, size):
    """A model whose sets hold the `size` most likely classes of the crop."""
    threshold = 1 - (ranked[size - 1][0] + ranked[size][0]) / 2
    return str(write_tiny(tmp_path / "tiny.tflite", metadata={"prediction_sets": sets_with(threshold)}))


def _say(capsys, *arguments):
    status = predict.main(["face.png", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize("size", [1, 2, 3])
def test_coverage_in_every_format(tmp_path, crop, capsys, size):
    model, names = _model(tmp_path, crop, size), [name for _, name in crop[:size]]
    answer = {1: "{}", 2: "{} or {}", 3: "{}, {} or {}"}[size].format(*names)
    call = ("--model", model, "--coverage", "0.9")
    status, out, _ = _say(capsys, *call)
    assert status == 0 and f"  {answer}: {crop[0][1]} {crop[0][0]:.1%}" in out and "answer: emotions" in out
    (row,) = json.loads(_say(capsys, *call, "--format", "json")[1])
    assert (row["answer"], row["prediction_set"]) == (answer, names) and len(row["emotions"]) == 7
    assert json.loads(_say(capsys, *call, "--format", "jsonl")[1]) == row
    (row,) = csv.DictReader(io.StringIO(_say(capsys, *call, "--format", "csv")[1]))
    assert row["answer"] == answer
    (face,) = Recognizer(model, coverage=0.9).recognize("face.png")
    assert face.prediction_set == tuple(names) and face.answer == answer


@pytest.mark.parametrize(("above", "expected"), [(0.001, "uncertain"), (-0.001, None)])
def test_min_score_in_every_format(tmp_path, crop, capsys, above, expected):
    call = ("--model", _model(tmp_path, crop, 2), "--min-score", str(crop[0][0] + above))
    expected = expected or crop[0][1]
    assert f"  {expected}: {crop[0][1]}" in _say(capsys, *call)[1]
    (row,) = json.loads(_say(capsys, *call, "--format", "json")[1])
    assert row["answer"] == expected and row["prediction_set"] is None
    (row,) = csv.DictReader(io.StringIO(_say(capsys, *call, "--format", "csv")[1]))
    assert row["answer"] == expected


def test_uncertain_goes_before_a_set(tmp_path, crop, capsys):
    call = ("--model", _model(tmp_path, crop, 2), "--min-score", "1", "--coverage", "0.9", "--format", "json")
    (row,) = json.loads(_say(capsys, *call)[1])
    assert row["answer"] == "uncertain" and len(row["prediction_set"]) == 2


def test_annotated_pictures_show_the_answer(tmp_path, crop, monkeypatch):
    labels = []
    monkeypatch.setattr("fer_tf.faces.draw_faces", lambda picture, found: labels.append(found[0].text) or picture)
    model, top = _model(tmp_path, crop, 2), crop[0]
    for settings in ({}, {"coverage": 0.8}, {"min_score": 1.0}):
        Recognizer(model, **settings).recognize_file(tmp_path / "face.png", tmp_path / "out.png")
    assert labels == [f"{top[1]} {top[0]:.0%}?", f"{top[1]} or {crop[1][1]}", "uncertain"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--coverage", "0.9"), "this model has no thresholds for prediction sets"),
        (("--coverage", "0.7"), "coverage 0.7: expected one of 0.8, 0.9, 0.95"),
        (("--summary", "--min-score", "0.5"), "--summary gives means over time, not answers"),
        (("--min-score", "2"), "min_score 2: expected a number from 0 to 1"),
        (("--min-score", "nan"), "min_score nan: expected a number from 0 to 1"),
    ],
)
def test_what_cannot_be_answered_is_one_line(tmp_path, crop, capsys, arguments, message):
    model = str(write_tiny(tmp_path / "tiny.tflite"))
    status, out, err = _say(capsys, "--model", model, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1) and message in err


# --- Coverage on the test split ---


def test_coverage_is_measured_on_test_only(tmp_path, capsys):
    from fer_tf.commands import evaluate
    from fer_tf.data.reading.npz import save_npz
    from fer_tf.data.synthetic import make_synthetic

    data = make_synthetic(num_train=14, num_validation=21, num_test=35).decoded()
    save_npz(data, tmp_path / "faces.npz")
    test = data.take("test")
    probabilities = expected_probabilities(test.images)
    scores = np.sort(conformal.lac_scores(test.labels, probabilities))
    threshold = float(scores[17:19].mean())  # between two scores, so that rounding changes nothing
    model = write_tiny(tmp_path / "tiny.tflite", metadata={"prediction_sets": sets_with(threshold)})
    call = ["--model", str(model), "--data", str(tmp_path / "faces.npz"), "--output", str(tmp_path / "out.json")]
    assert evaluate.main(call) == 0
    splits = json.loads((tmp_path / "out.json").read_text())["splits"]
    assert "prediction_sets" not in splits["validation"]  # validation fits the thresholds
    found = splits["test"]["prediction_sets"]
    assert found.keys() == {"0.8", "0.9", "0.95"}
    expected = conformal.set_figures(test.labels, conformal.lac_sets(probabilities, threshold), EMOTIONS)
    low, high = found["0.9"].pop("coverage_interval")
    assert found["0.9"] == expected and 0.5 <= expected["coverage"] < 1  # half by the threshold; the top class is added
    assert low < expected["coverage"] < high
    printed = capsys.readouterr().out
    assert printed.count("Prediction sets for 90 % hold the label of") == 1
    assert f"with {expected['mean_size']:.2f} classes on average." in printed


def test_broken_thresholds_are_said_before_an_image_is_scored(tmp_path, capsys):
    from fer_tf.commands import evaluate
    from fer_tf.data.reading.npz import save_npz
    from fer_tf.data.synthetic import make_synthetic

    save_npz(make_synthetic(num_train=14, num_validation=14, num_test=14).decoded(), tmp_path / "faces.npz")
    model = write_tiny(tmp_path / "tiny.tflite", metadata={"prediction_sets": sets_with(2)})
    assert evaluate.main(["--model", str(model), "--data", str(tmp_path / "faces.npz")]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("error:") == 1 and "holds no threshold in [0, 1]" in captured.err and not captured.out
