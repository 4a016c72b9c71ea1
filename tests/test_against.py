"""`benchmark --against` times another project's classifier and ours in turn and scores both on the same images."""

import numpy as np
import pytest

from fer_tf.artifacts import read_json
from fer_tf.benchmark import against
from fer_tf.commands.benchmark import main
from fer_tf.data.dataset import Dataset
from fer_tf.data.preprocessing import preprocess
from fer_tf.data.reading.npz import save_npz
from fer_tf.errors import InputError
from fer_tf.evaluation import compare
from fer_tf.inference import open_model
from fer_tf.task import EMOTIONS
from tests.test_benchmark import failure
from tests.tiny_models import dense_weights, write_tiny

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 48, 48), dtype=np.uint8)
LABELS = np.arange(60) % 7
THEIR_NAMES = ("Happiness", "neutral", "anger", "disgusted", "fearful", "sadness", "surprised")
THEIR_LABELS = np.array([3, 6, 0, 1, 2, 4, 5])  # places of these names in EMOTIONS


def _weights(num_values, num_classes=7, seed=3):
    return np.random.default_rng(seed).normal(0, 1, (num_classes, num_values)).astype(np.float32)


def _their_model(path, shape=(1, 24, 24, 1), kind="float32", **changes):
    weights = _weights(int(np.prod(shape)), len(changes.get("class_names", THEIR_NAMES)))
    changes = {"class_names": THEIR_NAMES, **changes}
    return write_tiny(path, input_shape=shape, input_type=kind, weights=weights, **changes)


@pytest.fixture
def theirs(tmp_path):
    return _their_model(tmp_path / "theirs.tflite")


@pytest.fixture
def ours(tmp_path):
    return write_tiny(tmp_path / "ours.tflite", metadata={"quantization": "float32"})


@pytest.fixture
def data(tmp_path):
    split = np.array(["train"] * 20 + ["validation"] * 30 + ["test"] * 10)
    save_npz(Dataset(LABELS, split, EMOTIONS, images=IMAGES), tmp_path / "faces.npz")
    return tmp_path / "faces.npz"


def _argv(theirs, ours, *more, value_range="-1,1", classes=None):
    named = ("--against", theirs, "--against-range", value_range, "--model", ours)
    named += ("--against-classes", classes or ",".join(THEIR_NAMES))
    return [str(word) for word in (*named, "--seconds", "0.01", *more)]


@pytest.mark.parametrize(
    ("value_range", "kind", "scaling", "expected"),
    [
        ("-1,1", "float32", {}, (-1.0, 1.0)),
        ("0,1", "float32", {}, (0.0, 1.0)),
        ("0,255", "float32", {}, (0.0, 255.0)),
        ("0,255", "uint8", {}, (0, 255)),
        ("0,1", "uint8", {"scale": 1 / 255}, (0, 255)),
        ("-1,1", "uint8", {"scale": 2 / 255, "zero_point": 127}, (0, 255)),
    ],
)
def test_pixels_are_resized_and_brought_into_the_range(value_range, kind, scaling, expected, tmp_path):
    path = _their_model(tmp_path / "theirs.tflite", shape=(1, 64, 64, 3), kind=kind, **scaling)
    images = np.stack([np.zeros((48, 48), np.uint8), np.full((48, 48), 255, np.uint8), IMAGES[0]])
    prepared = against.ForeignClassifier(path, value_range, THEIR_NAMES).prepare(images)
    assert prepared.shape == (3, 64, 64, 3) and prepared.dtype == kind
    assert np.allclose(prepared[0], expected[0], atol=1.01 if scaling else 1e-6)
    assert np.allclose(prepared[1], expected[1], atol=1.01 if scaling else 1e-6)
    assert (prepared[2][..., 0] == prepared[2][..., 2]).all()
    if value_range == "0,255" and kind == "float32":
        np.testing.assert_allclose(prepared[2], np.asarray(preprocess(IMAGES[:1], 64))[0], atol=1e-4)


def test_answers_are_those_of_the_network(theirs):
    values = np.asarray(preprocess(IMAGES, 24))[..., 0].reshape(60, -1) / 127.5 - 1
    answers = against.ForeignClassifier(theirs, "-1,1", THEIR_NAMES).answers(IMAGES)
    np.testing.assert_array_equal(answers, (values @ _weights(24 * 24).T).argmax(axis=1))
    assert len(set(answers)) > 3


def test_classes_are_matched_by_name_and_the_rest_left_out(theirs):
    names = ("Happiness", "contempt", *THEIR_NAMES[2:])
    foreign = against.ForeignClassifier(theirs, "-1,1", names)
    assert foreign.labels_in(EMOTIONS).tolist() == [3, -1, 0, 1, 2, 4, 5]
    assert foreign.labels_in(("calm", "sad", "happy")).tolist() == [2, -1, -1, -1, -1, 1, -1]


def test_command_times_both_and_pairs_their_scores(theirs, ours, data, tmp_path, capsys):
    output = tmp_path / "figures.json"
    assert main(_argv(theirs, ours, "--data", data, "--output", output)) == 0
    figures, text = read_json(output), capsys.readouterr().out
    first, second = figures["against"]
    assert (first["file"], first["image_size"]) == ("theirs.tflite", 24)
    assert (second["file"], second["image_size"]) == ("ours.tflite", 48)
    for row in (first, second):
        assert 0 < row["p5_ms"] <= row["median_ms"] <= row["p95_ms"] and row["num_calls"] == first["num_calls"] >= 20
    part = slice(20, 50)  # validation
    answers = THEIR_LABELS[against.ForeignClassifier(theirs, "-1,1", THEIR_NAMES).answers(IMAGES[part])]
    expected = compare(LABELS[part], open_model(ours).predict(IMAGES[part]), np.eye(7)[answers])
    assert first["accuracy"] == expected["accuracy_b"] and second["accuracy"] == expected["accuracy_a"]
    assert second["difference_interval"] == expected["difference_interval"]
    assert first["num_images"] == second["num_images"] == 30
    assert figures["settings"]["split"] == "validation" and figures["settings"]["against_range"] == "-1,1"
    assert "theirs.tflite beside ours" in text and "validation (selection split), 30 images" in text
    assert str(tmp_path) not in output.read_text()


def test_data_needs_no_training_images(theirs, ours, tmp_path, capsys):
    split = np.array(["test"] * 60)
    save_npz(Dataset(LABELS, split, EMOTIONS, images=IMAGES), tmp_path / "test.npz")
    assert main(_argv(theirs, ours, "--data", tmp_path / "test.npz", "--split", "test")) == 0
    assert "test, 60 images" in capsys.readouterr().out


def test_without_data_there_are_times_alone(theirs, ours, capsys):
    assert main(_argv(theirs, ours)) == 0
    text = capsys.readouterr().out
    assert "5 - 95 %" in text and "accuracy" not in text


def test_images_of_classes_that_one_model_lacks_are_left_out(ours, tmp_path):
    theirs = _their_model(tmp_path / "five.tflite", class_names=("happy", "sad", "angry", "calm", "neutral"))
    foreign = against.ForeignClassifier(theirs, "-1,1", ("happy", "sad", "angry", "calm", "neutral"))
    rows = against.scores(foreign, [ours], IMAGES, LABELS, EMOTIONS)
    shared = np.isin(LABELS, [0, 3, 4, 6])
    assert rows[0]["num_images"] == shared.sum()
    answers = np.array([3, 4, 0, -1, 6])[foreign.answers(IMAGES[shared])]
    assert rows[0]["accuracy"] == (answers == LABELS[shared]).mean() and (answers == -1).any()
    assert rows[1]["accuracy"] == (open_model(ours).predict(IMAGES[shared]).argmax(1) == LABELS[shared]).mean()


def test_models_take_turns(theirs, ours, monkeypatch):
    """A load that slows the machine for a while slows all models alike."""
    turns = []
    foreign = against.ForeignClassifier(theirs, "-1,1", THEIR_NAMES)
    monkeypatch.setattr(foreign, "run", lambda picture: turns.append("theirs"))

    class Ours:
        def __init__(self):
            self.metadata = {"image_size": 48}

        def predict(self, images):
            turns.append("ours")

    monkeypatch.setattr(against, "open_model", lambda path, num_threads: Ours() if num_threads == 1 else None)
    against.latencies(foreign, [ours], seconds=0)
    assert turns == ["theirs", "ours"] * (len(turns) // 2) and len(turns) >= 40


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (1, 3, 64, 64)}, "takes float32 (1, 3, 64, 64): expected one picture"),
        ({"shape": (2, 24, 24, 1)}, "takes float32 (2, 24, 24, 1): expected one picture"),
        ({"shape": (1, 24, 32, 1)}, "takes float32 (1, 24, 32, 1): expected one picture"),
        ({"shape": (1, 4, 4, 1)}, "takes float32 (1, 4, 4, 1): expected one picture"),
        ({"shape": (1, 16000)}, "takes float32 (1, 16000): expected one picture"),
        ({"kind": "int32"}, "takes int32 (1, 24, 24, 1): expected one picture"),
        ({"num_outputs": 2}, "has 2 outputs: expected 1"),
        ({"custom": "Rotate"}, "needs the custom operator 'Rotate': expected builtin operators only"),
        ({"kind": "uint8", "scale": 1.0}, "in which --against-range -1,1 is -1 to 1: expected another range"),
        ({"kind": "uint8", "scale": 0.001}, "in which --against-range -1,1 is -1000 to 1000: expected another range"),
    ],
)
def test_file_that_is_no_image_classifier_is_one_line(changes, message, ours, tmp_path, capsys):
    line = failure(capsys, *_argv(_their_model(tmp_path / "odd.tflite", **changes), ours))
    assert message in line and "odd.tflite" in line


def test_bad_settings_are_one_line_each(theirs, ours, data, tmp_path, capsys):
    assert "--against-range 0,2: expected one of 0,1, -1,1 or 0,255" in failure(
        capsys, *_argv(theirs, ours, value_range="0,2")
    )
    assert "names 2 classes" in failure(capsys, *_argv(theirs, ours, classes="happy,sad"))
    twice = "happy,joy,angry,fear,sad,surprise,neutral"
    assert "happy and joy both mean happy" in failure(capsys, *_argv(theirs, ours, classes=twice))
    assert "expected at least two of angry, disgust" in failure(capsys, *_argv(theirs, ours, classes="a,b,c,d,e,f,g"))
    assert "needs --against-range" in failure(capsys, "--against", theirs, "--model", ours)
    assert "--only latency with --against" in failure(capsys, *_argv(theirs, ours, "--only", "latency"))
    assert "--data belongs to --against" in failure(capsys, "--data", data, "--model", ours)
    assert "no model file at" in failure(capsys, *_argv(tmp_path / "absent.tflite", ours))
    (tmp_path / "empty.tflite").write_bytes(b"")
    assert "is empty" in failure(capsys, *_argv(tmp_path / "empty.tflite", ours))
    (tmp_path / "cut.tflite").write_bytes(theirs.read_bytes()[:700])
    assert "cut.tflite" in failure(capsys, *_argv(tmp_path / "cut.tflite", ours))
    (tmp_path / "text.tflite").write_text("no model" * 20)
    assert "is no .tflite file" in failure(capsys, *_argv(tmp_path / "text.tflite", ours))


def test_data_without_a_shared_class(theirs, ours):
    foreign = against.ForeignClassifier(theirs, "-1,1", THEIR_NAMES)
    with pytest.raises(InputError, match="no image has a class that all models know"):
        against.scores(foreign, [ours], IMAGES[:2], np.array([1, 1]), ("happy", "calm", "sad"))


def test_our_weights_are_not_theirs():
    """The tiny models of this file differ, so a test fails if columns are mixed up."""
    assert not np.allclose(dense_weights(), _weights(2304))
