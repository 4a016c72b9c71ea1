"""`evaluate` from arguments to text, metrics.json and exit status, mostly with a stand-in for the model."""

import csv
import dataclasses
import json
import zipfile

import numpy as np
import pytest

from fer_tf import evaluation, inference, scoring
from fer_tf.artifacts import METADATA_NAME, RunDirectory, read_json, write_json
from fer_tf.commands.evaluate import main
from fer_tf.config import Config
from fer_tf.data.audit import image_hashes
from fer_tf.data.dataset import Dataset
from fer_tf.data.loading import load_dataset
from fer_tf.data.reading.npz import save_npz
from fer_tf.data.recorded import describe_data, is_run_data
from tests.tiny_models import write_tiny

NAMES = ("happy", "sad", "neutral")


def make_dataset(splits=("train", "validation", "test"), *, class_names=NAMES, seed=0):
    """Ten faces of noise for each class and split; the first pixel tells the class."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(len(class_names)), 10 * len(splits))
    images = rng.integers(0, 256, (len(labels), 48, 48)).astype(np.uint8)
    images[:, 0, 0] = labels
    split = np.repeat(splits, 10 * len(class_names))
    return Dataset(labels.astype(np.int64), split, tuple(class_names), images=images)


@dataclasses.dataclass
class StandIn:
    """Answers with the first pixel's class, except where the last pixel is small; counts the images it sees."""

    metadata: dict
    seen: int = 0

    @property
    def class_names(self):
        return tuple(self.metadata["class_names"])

    def predict(self, images):
        self.seen += len(images)
        num_classes = len(self.class_names)
        answer = np.where(images[:, -1, -1] < self.metadata.get("wrong_below", 0), 0, images[:, 0, 0] % num_classes)
        probabilities = np.full((len(images), num_classes), 0.1)
        probabilities[np.arange(len(images)), answer] = self.metadata.get("score", 1 - 0.1 * (num_classes - 1))
        return probabilities.astype(np.float32)


def write_model(path, **metadata):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(METADATA_NAME, json.dumps({"class_names": NAMES, "config": {"seed": 0}, **metadata}))
    return path


@pytest.fixture
def opened(monkeypatch):
    """Replace open_model; return the list of opened stand-ins, in order."""
    models = []

    def open_model(path, *, num_threads=None):
        from fer_tf.artifacts import read_metadata

        models.append(StandIn(read_metadata(path)))
        return models[-1]

    monkeypatch.setattr(inference, "open_model", open_model)
    return models


def make_run(tmp_path, dataset=None, **metadata):
    """A run directory with data, a model and the hashes of its training images."""
    save_npz(dataset or make_dataset(), tmp_path / "faces.npz")
    data = load_dataset(tmp_path / "faces.npz")
    run = RunDirectory.create(tmp_path / "run")
    write_json(run.config, Config().to_dict())
    write_json(run.data, describe_data(data))
    run.train_hashes.write_text("\n".join(sorted(set(image_hashes(data.take("train").images)))))
    write_model(run.model, data={"sha256": data.sha256}, **metadata)
    return run


def failure(capsys, *argv):
    """The one line on stderr of a call that fails."""
    assert main([str(argument) for argument in argv]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fer-tf evaluate: error: ")]
    assert len(lines) == 1
    return lines[0]


def test_a_run_is_scored_on_its_own_data(tmp_path, capsys, opened):
    dataset = make_dataset()
    twin = np.flatnonzero(dataset.split == "test")[0]
    dataset.images[twin] = dataset.images[np.flatnonzero((dataset.split == "train") & (dataset.labels == 0))[0]]
    run = make_run(tmp_path, dataset, wrong_below=100)
    write_json(run.metrics, {"seconds": 5, "keras": {"train": {"accuracy": 0.5}}})
    assert main(["--run", str(run.path)]) == 0
    out = capsys.readouterr().out
    assert "model.keras on validation (selection split): 30 images, faces.npz" in out
    assert "model.keras on test: 30 images, faces.npz" in out
    assert "Images with an exact duplicate in the training data: 1 of 30." in out

    metrics = read_json(run.metrics)
    assert metrics["seconds"] == 5 and metrics["keras"]["train"] == {"accuracy": 0.5}  # the other keys stay
    test = make_dataset().take("test")
    test.images[0] = dataset.images[twin]
    expected = evaluation.evaluate(test.labels, opened[0].predict(test.images), NAMES, has_duplicate=np.arange(30) == 0)
    assert metrics["keras"]["test"] == expected
    assert expected["accuracy"] < 1


def test_intervals_are_those_of_the_runs_seed(tmp_path, opened):
    run = make_run(tmp_path, wrong_below=100, config={"seed": 7})
    assert main(["--run", str(run.path), "--split", "test"]) == 0
    test = load_dataset(tmp_path / "faces.npz").take("test")
    expected = evaluation.evaluate(test.labels, opened[0].predict(test.images), NAMES, seed=7)
    assert read_json(run.metrics)["keras"]["test"]["macro_f1_interval"] == expected["macro_f1_interval"]


def test_each_image_is_seen_once(tmp_path, opened):
    run = make_run(tmp_path)
    assert main(["--run", str(run.path), "--split", "test"]) == 0
    assert opened[0].seen == 30


def test_synthetic_data_is_drawn_again_and_named(tmp_path, capsys, opened, monkeypatch):
    from fer_tf.data import synthetic

    drawn = dataclasses.replace(make_dataset(), synthetic=True, source="synthetic faces", sha256="1")
    monkeypatch.setattr(synthetic, "make_synthetic", lambda **_: drawn)
    run = make_run(tmp_path)
    write_json(run.data, describe_data(load_dataset()))
    assert main(["--run", str(run.path), "--split", "test"]) == 0
    assert "model.keras on test: 30 images, synthetic faces" in capsys.readouterr().out


def test_quantization_picks_the_tflite(tmp_path, opened):
    run = make_run(tmp_path)
    write_model(run.tflite("int8"), wrong_below=250)
    assert main(["--run", str(run.path), "--quantization", "int8", "--split", "validation"]) == 0
    metrics = read_json(run.metrics)
    assert list(metrics) == ["tflite"] and metrics["tflite"]["int8"]["validation"]["accuracy"] < 0.5


def test_a_model_of_its_own_writes_only_the_output(tmp_path, capsys, opened):
    save_npz(make_dataset(), tmp_path / "faces.npz")
    model = write_model(tmp_path / "some.tflite")
    before = set(tmp_path.iterdir())
    assert main(["--model", str(model), "--data", str(tmp_path / "faces.npz")]) == 0
    assert set(tmp_path.iterdir()) == before
    output = tmp_path / "figures.json"
    assert main(["--model", str(model), "--data", str(tmp_path / "faces.npz"), "--output", str(output)]) == 0
    figures = read_json(output)
    assert figures["model"] == "some.tflite" and figures["data"] == "faces.npz"
    assert list(figures["splits"]) == ["validation", "test"]
    assert "without_twin" not in figures["splits"]["test"]  # nothing is known about the training images


def test_other_data_leaves_the_runs_metrics_alone(tmp_path, opened):
    run = make_run(tmp_path)
    save_npz(make_dataset(seed=1), tmp_path / "other.npz")
    assert main(["--run", str(run.path), "--data", str(tmp_path / "other.npz")]) == 0
    assert not run.metrics.exists()


def test_moved_data_of_the_run_is_recognised(tmp_path, opened):
    run = make_run(tmp_path, make_dataset(("train", "test")))  # train cut the validation split with the run's seed
    (tmp_path / "faces.npz").rename(tmp_path / "moved.npz")
    assert main(["--run", str(run.path), "--data", str(tmp_path / "moved.npz")]) == 0
    validation = read_json(run.metrics)["keras"]["validation"]
    assert validation["num_images"] == 3 and validation["num_with_twin"] == 0


def test_the_runs_own_data_is_read_once(tmp_path, opened, monkeypatch, caplog):
    caplog.set_level("INFO")
    run = make_run(tmp_path)
    monkeypatch.setattr(scoring, "run_data", None)
    caplog.clear()
    assert main(["--run", str(run.path), "--data", str(tmp_path / "faces.npz")]) == 0
    said = [message for message in caplog.messages if message.startswith("faces.npz")]
    assert said and len(said) == len(set(said))


@pytest.mark.parametrize(
    "recorded",
    [
        {"label_source": {"file": "votes.csv", "sha256": "0", "as": "majority"}},
        {"subjects": "S(\\d+)"},
        {"crop": {"faces": "whole"}},
    ],
)
def test_the_same_file_read_in_another_way_is_not_the_runs_data(tmp_path, recorded):
    run = make_run(tmp_path)
    data = load_dataset(tmp_path / "faces.npz", training=False)
    assert is_run_data(run, data)
    write_json(run.data, {**read_json(run.data), **recorded})
    assert not is_run_data(run, data)


def test_a_lone_model_gets_the_cut_of_its_training(tmp_path, opened):
    run = make_run(tmp_path, make_dataset(("train", "test")))
    output = tmp_path / "figures.json"
    argv = ["--model", str(run.model), "--data", str(tmp_path / "faces.npz"), "--output", str(output)]
    assert main(argv) == 0
    assert read_json(output)["splits"]["validation"]["num_images"] == 3


def test_missing_test_split_is_said_once(tmp_path, capsys, caplog, opened):
    run = make_run(tmp_path, make_dataset(("train", "validation")))
    caplog.clear()
    assert main(["--run", str(run.path)]) == 0
    assert (capsys.readouterr().out + caplog.text).count("no test split") == 1
    assert "no test split" in failure(capsys, "--run", run.path, "--split", "test")


def test_only_a_test_split_is_enough(tmp_path, capsys, opened):
    save_npz(make_dataset(("test",)), tmp_path / "faces.npz")
    assert main(["--model", str(write_model(tmp_path / "a.keras")), "--data", str(tmp_path / "faces.npz")]) == 0
    assert "a.keras on test" in capsys.readouterr().out


def test_tta_stands_beside_the_single_view(tmp_path, capsys, opened):
    run = make_run(tmp_path)
    assert main(["--run", str(run.path), "--split", "test", "--tta"]) == 0
    assert "Test-time augmentation, the mean of 10 views" in capsys.readouterr().out
    result = read_json(run.metrics)["keras"]["test"]
    assert result["accuracy"] == 1.0
    assert result["tta"]["num_views"] == 10 and result["tta"]["num_images"] == 30
    assert result["tta"]["ms_per_image"] > 0 and result["tta"]["single_ms_per_image"] > 0
    assert result["tta"]["comparison"]["num_images"] == 30


def test_against_another_model(tmp_path, capsys, opened):
    run = make_run(tmp_path)
    other = write_model(tmp_path / "other.keras", wrong_below=256)
    assert main(["--run", str(run.path), "--split", "test", "--against", str(other)]) == 0
    assert "McNemar's exact test" in capsys.readouterr().out
    comparison = read_json(run.metrics)["keras"]["test"]["comparison"]
    assert comparison["against"] == "other.keras"
    assert comparison["only_a"] == 20 and comparison["only_b"] == 0
    assert comparison["p_value"] == pytest.approx(2 / 2**20)
    assert [model.seen for model in opened] == [30, 30]


def test_calibration_is_checked_on_the_selection_split(tmp_path, capsys, opened):
    run = make_run(tmp_path, temperature=1.5, wrong_below=100)
    assert main(["--run", str(run.path)]) == 0
    assert "Temperature fitted on one half" in capsys.readouterr().out
    keras = read_json(run.metrics)["keras"]
    assert len(keras["validation"]["calibration_check"]["halves"]) == 2 and "calibration_check" not in keras["test"]
    assert keras["test"]["temperature"] == 1.5 and "ece" in keras["test"]["calibration_before"]


def test_classes_that_the_model_does_not_know_are_left_out(tmp_path, capsys, opened):
    save_npz(make_dataset(class_names=("angry", *NAMES)), tmp_path / "faces.npz")
    model = write_model(tmp_path / "a.keras")
    assert main(["--model", str(model), "--data", str(tmp_path / "faces.npz"), "--split", "test"]) == 0
    out = capsys.readouterr().out
    assert "Skipping images of classes the model does not have: 10 images of angry." in out
    assert "test: 30 images" in out


def scored(folder, class_names, *arguments, model_classes=NAMES):
    """The figures of a model on a test set of other classes."""
    save_npz(make_dataset(("test",), class_names=class_names), folder / "faces.npz")
    model = write_model(folder / "a.keras", class_names=list(model_classes))
    argv = ["--model", str(model), "--data", str(folder / "faces.npz"), "--output", str(folder / "out.json")]
    assert main([*argv, *arguments]) == 0
    return read_json(folder / "out.json")["splits"]["test"]


def test_the_classes_that_both_have_are_scored(tmp_path, capsys, opened):
    test = scored(tmp_path, ("Happiness", "sadness", "angry"))
    out = capsys.readouterr().out
    assert "Skipping images of classes the model does not have: 10 images of angry." in out
    assert "No images of neutral, which the model knows: macro-F1 is the mean over the other 2 classes" in out
    assert "No image in this data: neutral (left out of the averages)." in out
    assert (test["num_images"], test["accuracy"], test["macro_f1"]) == (20, 1.0, 1.0)
    assert test["macro_f1_interval"] == [1.0, 1.0] and test["missing_classes"] == ["neutral"]


def test_a_test_set_of_two_emotions_in_another_order_is_scored(tmp_path, opened):
    # The stand-in answers with the class number in the data: all answers are right if the model has the same numbers.
    test = scored(tmp_path, ("happy", "joyless", "NEUTRAL"), model_classes=("happy", "contempt", "neutral"))
    assert test["num_images"] == 20 and test["missing_classes"] == ["contempt"]
    assert [row["support"] for row in test["per_class"]] == [10, 0, 10] and test["accuracy"] == 1.0
    swapped = scored(tmp_path, ("neutral", "happy"), model_classes=("happy", "neutral"))
    assert swapped["num_images"] == 20 and swapped["accuracy"] == 0.0


def test_classes_choose_what_is_scored(tmp_path, capsys, opened):
    test = scored(tmp_path, NAMES, "--classes", "Joy,neutral")
    assert test["num_images"] == 20 and test["missing_classes"] == ["sad"]
    assert "macro-F1 is the mean over the other 2" in capsys.readouterr().out
    argv = ["--model", tmp_path / "a.keras", "--data", tmp_path / "faces.npz", "--classes", "happy,bored"]
    assert "unknown class 'bored': the model knows happy, sad, neutral" in failure(capsys, *argv)


def test_some_classes_leave_the_runs_figures_alone(tmp_path, capsys, opened):
    run = make_run(tmp_path)
    write_json(run.metrics, {"keras": {"test": {"accuracy": 0.5}}})
    assert main(["--run", str(run.path), "--classes", "happy,sad"]) == 0
    assert read_json(run.metrics) == {"keras": {"test": {"accuracy": 0.5}}}


def test_predictions_are_written_image_by_image(tmp_path, opened):
    save_npz(make_dataset(("validation", "test"), class_names=("angry", *NAMES)), tmp_path / "faces.npz")
    data = load_dataset(tmp_path / "faces.npz", training=False)
    argv = ["--model", write_model(tmp_path / "a.keras"), "--data", tmp_path / "faces.npz"]
    assert main([*map(str, argv), "--predictions", str(tmp_path / "p.csv")]) == 0
    with open(tmp_path / "p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60 and list(rows[0]) == ["image", "split", "label", "predicted", *NAMES]
    for row in rows:  # the number of the row in the file
        place = int(row["image"]) - 1
        assert (row["split"], row["label"]) == (data.split[place], data.class_names[data.labels[place]])
        assert float(row[row["predicted"]]) == max(float(row[name]) for name in NAMES)


class TestBadInput:
    def test_nothing_named(self, tmp_path, capsys, opened):
        assert "--run DIR or --model FILE" in failure(capsys)
        assert "--data PATH" in failure(capsys, "--model", write_model(tmp_path / "a.keras"))

    def test_no_run(self, tmp_path, capsys, opened):
        assert "no run at" in failure(capsys, "--run", tmp_path / "nowhere")

    def test_a_run_without_a_model(self, tmp_path, capsys, opened):
        run = make_run(tmp_path)
        write_model(run.tflite("int8"))
        run.model.unlink()
        assert "holds no model.keras (models there: model-int8.tflite)" in failure(capsys, "--run", run.path)
        line = failure(capsys, "--run", run.path, "--quantization", "float16")
        assert "export_tflite" in line and "--quantization float16" in line

    def test_other_classes(self, tmp_path, capsys, opened):
        save_npz(make_dataset(class_names=("cat", "dog", "angry")), tmp_path / "faces.npz")
        line = failure(capsys, "--model", write_model(tmp_path / "a.keras"), "--data", tmp_path / "faces.npz")
        assert "the model knows happy, sad, neutral; faces.npz has cat, dog, angry: no image has a class" in line
        assert not opened  # refused before a model is loaded

    def test_other_classes_than_the_runs(self, tmp_path, capsys, opened):
        run = make_run(tmp_path)
        save_npz(make_dataset(class_names=("cat", "dog", "angry")), tmp_path / "other.npz")
        assert "no image has a class that both share" in failure(
            capsys, "--run", run.path, "--data", tmp_path / "other.npz"
        )

    def test_an_empty_split(self, tmp_path, capsys, opened):
        save_npz(make_dataset(("test",)), tmp_path / "faces.npz")
        argv = ["--model", write_model(tmp_path / "a.keras"), "--data", tmp_path / "faces.npz", "--split", "train"]
        assert "no train split" in failure(capsys, *argv)

    def test_broken_files_of_the_run(self, tmp_path, capsys, opened):
        run = make_run(tmp_path)
        run.metrics.write_text('{"keras": 5}')
        assert "holds no object under keras" in failure(capsys, "--run", run.path)
        run.metrics.write_text("{")
        assert "not JSON" in failure(capsys, "--run", run.path)
        assert not opened  # refused before the work
        run.metrics.unlink()
        run.train_hashes.write_bytes(b"\xff\xfe")
        assert main(["--run", str(run.path)]) == 0

    def test_no_probabilities(self, tmp_path, capsys, opened):
        run = make_run(tmp_path, score=3.5)
        assert "sum to 1, not logits" in failure(capsys, "--run", run.path)
        assert not run.metrics.exists()

    def test_nan(self, tmp_path, capsys, opened):
        run = make_run(tmp_path, score=float("nan"))
        assert "NaN" in failure(capsys, "--run", run.path)

    def test_tflite_of_another_network(self, tmp_path, capsys):
        save_npz(make_dataset(), tmp_path / "faces.npz")
        foreign = tmp_path / "foreign.tflite"
        foreign.write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
        line = failure(capsys, "--model", foreign, "--data", tmp_path / "faces.npz")
        assert "not a model of fer_tf" in line
        write_tiny(foreign, class_names=NAMES, input_shape=(1, 64, 64, 1))
        line = failure(capsys, "--model", foreign, "--data", tmp_path / "faces.npz")
        assert "takes uint8 (1, 64, 64, 1): expected uint8 (1, 48, 48, 1)" in line
        write_tiny(foreign, metadata={"class_names": list(NAMES)})
        line = failure(capsys, "--model", foreign, "--data", tmp_path / "faces.npz")
        assert "names 3 classes but its output has 7 values" in line

    def test_against_other_classes(self, tmp_path, capsys, opened):
        run = make_run(tmp_path)
        other = write_model(tmp_path / "other.keras", class_names=["a", "b"])
        assert "has other classes" in failure(capsys, "--run", run.path, "--against", other)

    def test_missing_model_and_data(self, tmp_path, capsys, opened):
        run = make_run(tmp_path)
        assert "no model file" in failure(capsys, "--run", run.path, "--model", tmp_path / "a.keras")
        assert "no such file" in failure(capsys, "--run", run.path, "--data", tmp_path / "a.csv")
        (tmp_path / "faces.npz").unlink()
        assert "--data" in failure(capsys, "--run", run.path)

    def test_output_that_cannot_be_written(self, tmp_path, capsys, opened):
        run = make_run(tmp_path)
        (tmp_path / "file").write_text("")
        assert "cannot write" in failure(capsys, "--run", run.path, "--output", tmp_path / "file" / "a.json")


def test_keras_and_tflite_of_a_real_network_agree_with_keras_evaluate(tmp_path, capsys):
    keras = pytest.importorskip("keras")
    from fer_tf.artifacts import save_keras, write_bytes
    from fer_tf.data.preprocessing import preprocess
    from fer_tf.deploy.conversion import to_tflite

    run = make_run(tmp_path)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((48, 48, 3))
    hidden = keras.layers.Rescaling(1 / 64)(keras.layers.AveragePooling2D(12)(inputs))
    outputs = keras.layers.Softmax()(keras.layers.Dense(3)(keras.layers.Flatten()(hidden)))
    model = keras.Model(inputs, outputs)
    metadata = {"class_names": list(NAMES), "image_size": 48}
    save_keras(model, run.model, metadata)
    write_bytes(run.tflite("float32"), to_tflite(model, "float32", metadata=metadata))
    assert main(["--run", str(run.path)]) == 0
    assert main(["--run", str(run.path), "--quantization", "float32"]) == 0

    metrics = read_json(run.metrics)
    for split in ("validation", "test"):
        part = load_dataset(tmp_path / "faces.npz").take(split)
        model.compile(loss="categorical_crossentropy", metrics=["accuracy"])
        loss, accuracy = model.evaluate(np.asarray(preprocess(part.images, 48)), np.eye(3)[part.labels], verbose=0)
        for result in (metrics["keras"][split], metrics["tflite"]["float32"][split]):
            assert result["loss"] == pytest.approx(loss, rel=1e-4)
            assert result["accuracy"] == pytest.approx(accuracy)
