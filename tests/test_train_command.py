"""The programs end to end, as a user calls them: train, evaluate, export, predict; stop and resume; bad input."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from fer_tf.artifacts import RunDirectory, read_metadata
from fer_tf.commands import evaluate, export_tflite, predict, train
from fer_tf.data.reading.npz import save_npz
from fer_tf.inference.opening import open_model
from fer_tf.training.checkpoint import TrainState, load_weights

ROOT = Path(__file__).resolve().parents[1]
TINY = ["--image-size", "32", "--batch-size", "16", "--batch-norm-momentum", "0.9", "--learning-rate", "1e-3"]
SCRATCH = [*TINY, "--weights", "none"]


# None in sys.modules does not work: to Keras, a name in sys.modules means that it was imported.
NO_TENSORFLOW = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tensorflow":
            raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")
sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture(scope="module")
def stripes(small_dataset, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("data") / "stripes.npz"
    save_npz(small_dataset, path)
    return str(path)


@pytest.fixture(scope="module")
def run(stripes, imagenet_h5, tmp_path_factory) -> RunDirectory:
    """One small run of the command: the two phases of the recipe `report`, from a local weights file."""
    path = tmp_path_factory.mktemp("runs") / "run"
    arguments = ["--data", stripes, "--run", str(path), "--weights", imagenet_h5, *TINY, "--tensorboard"]
    arguments += ["--frozen-epochs", "1", "--epochs", "2", "--quantization", "float32", "dynamic"]
    status = train.main(arguments)
    assert status == 0
    return RunDirectory(path)


def test_run_holds_everything_that_the_issue_names(run):
    names = {path.relative_to(run.path).as_posix() for path in run.files()}
    assert any(name.startswith("tensorboard/phase-2/train/events") for name in names)
    assert {
        "config.json", "data.json", "history.csv", "log.txt", "metrics.json", "model.keras", "report.txt", "report.md",
        "report.html", "model-float32.tflite", "model-float32.json", "model-dynamic.tflite", "model-dynamic.json",
        "train_hashes.txt", "audit.json", "figures/confusion_matrix.png", "figures/curves.png",
    } <= names  # fmt: skip
    rows = list(csv.DictReader(run.history.open()))
    assert [(row["phase"], row["epoch"]) for row in rows] == [("1", "1"), ("2", "1"), ("2", "2")]


def test_metrics_are_those_of_the_files(run, small_dataset):
    metrics = json.loads(run.metrics.read_text())
    for name, section in (("model.keras", metrics["keras"]), ("model-dynamic.tflite", metrics["tflite"]["dynamic"])):
        predictor = open_model(run.path / name)
        for split in ("validation", "test"):
            part = small_dataset.take(split)
            accuracy = (predictor.predict(part.images).argmax(1) == part.labels).mean()
            assert section[split]["accuracy"] == pytest.approx(accuracy)
    assert set(metrics["model_evaluate"]) == {"train", "validation", "test"}
    for split in ("validation", "test"):
        assert metrics["model_evaluate"][split]["accuracy"] == pytest.approx(metrics["keras"][split]["accuracy"])
        assert metrics["model_evaluate"][split]["loss"] == pytest.approx(metrics["keras"][split]["loss"], rel=1e-4)


def test_float32_file_agrees_with_keras_on_every_image(run, small_dataset):
    images = small_dataset.take("test").images
    ours = open_model(run.tflite("float32")).predict(images)
    np.testing.assert_allclose(ours, open_model(run.model).predict(images), atol=1e-4)


def test_model_says_what_it_is(run):
    for path in (run.model, run.tflite("dynamic")):
        metadata = read_metadata(path)
        assert metadata["class_names"] == ["low", "mid", "high"]
        assert metadata["image_size"] == 32
        assert metadata["data"]["source"] == "stripes.npz"
        assert str(run.path) not in json.dumps(metadata)
    loaded = keras.models.load_model(run.model)
    assert loaded.count_params() == sum(value.size for value in _best(run))


def test_evaluate_repeats_the_figures(run, capsys):
    before = json.loads(run.metrics.read_text())
    assert evaluate.main(["--run", str(run.path)]) == 0
    assert "selection split" in capsys.readouterr().out
    assert evaluate.main(["--run", str(run.path), "--quantization", "float32", "--split", "test"]) == 0
    after = json.loads(run.metrics.read_text())
    for split in ("validation", "test"):
        assert after["keras"][split]["accuracy"] == before["keras"][split]["accuracy"]
        assert after["keras"][split]["loss"] == pytest.approx(before["keras"][split]["loss"], rel=1e-5)


def test_export_and_predict(run, small_dataset, tmp_path, capsys):
    from PIL import Image

    path = tmp_path / "m.tflite"
    arguments = ["--run", str(run.path), "--quantization", "float16", "--output", str(path), "--max-drop", "100"]
    assert export_tflite.main(arguments) == 0
    image = small_dataset.take("test").images[0]
    Image.fromarray(image).save(tmp_path / "face.png")
    capsys.readouterr()
    assert predict.main([str(tmp_path / "face.png"), "--model", str(path), "--format", "jsonl"]) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[0])
    probabilities = open_model(run.model).predict(image[None])[0]
    assert json.dumps(row).index(read_metadata(path)["class_names"][int(probabilities.argmax())]) > 0


def test_resume_of_a_finished_run_trains_nothing_more(run):
    before = run.history.read_text()
    assert train.main(["--resume", str(run.path), "--quantization"]) == 0
    assert run.history.read_text() == before


def _best(run: RunDirectory) -> list[np.ndarray]:
    best = TrainState.load(run).best
    return load_weights(run.best_weights(best["phase"], best["epoch"]))


# --- Bad input ---


def _refused(arguments: list[str], capsys) -> str:
    assert train.main(arguments) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("fer-tf train: error: ")]
    assert len(lines) == 1 and error.splitlines()[-1] == lines[0]
    assert "Traceback" not in error
    return lines[0]


def test_run_directory_that_exists_is_refused(run, stripes, capsys):
    line = _refused(["--data", stripes, "--run", str(run.path), *SCRATCH], capsys)
    assert "exists already: choose another --run, or continue it with --resume" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "b7"], "unknown recipe 'b7'"),
        (["--classes", "low,tall"], "unknown class 'tall'"),
        (["--classes", "low"], "class"),
        (["--config", "{config}"], "unknown setting 'batchsize': did you mean 'batch_size'"),
        (["--dropout", "2"], "dropout 2.0: expected a number from 0 to 0.95"),
        (["--weights", "absent.h5"], "absent.h5: expected a .h5 of ImageNet"),
        (["--weights", "{config}"], "expected imagenet, imagenet-lite0, fer2013, none, a .h5"),
        (["--weights", "{other}"], "does not hold EfficientNet-B0's no-top weights"),
        (["--data", "absent.csv"], "absent.csv"),
        (["--teachers", "absent"], "absent"),
        (["--average-with", "absent"], "absent: no such file"),
        (["--resume", "absent"], "no run at absent"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments, message, stripes, tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"batchsize": 3}')
    (tmp_path / "other.h5").write_bytes(b"no weights")
    places = {"config": tmp_path / "config.json", "other": tmp_path / "other.h5"}
    arguments = [argument.format(**places) for argument in arguments]
    given = [] if "--resume" in arguments else ["--run", str(tmp_path / "run")]
    given += [] if "--data" in arguments or "--resume" in arguments else ["--data", stripes]
    given += [] if "--weights" in arguments or "--resume" in arguments else ["--weights", "none"]
    assert message in _refused([*given, *arguments], capsys)
    assert not (tmp_path / "run").exists()


def test_bad_input_is_refused_before_tensorflow_is_imported(tmp_path):
    (tmp_path / "bad.csv").write_text("emotion,pixels,Usage\n0,1 2 3,Training\n")
    code = (
        "import sys\nfrom fer_tf.commands.train import main\n"
        "print(main(sys.argv[1:]), [m for m in ('tensorflow', 'keras') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, "--data", str(tmp_path / "bad.csv"), "--run", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert found.stdout == "2 []\n"
    assert "bad.csv: row 2: 3 pixel values; expected 2,304" in found.stderr
    assert not (tmp_path / "run").exists()


def test_unknown_backend_is_one_line(stripes, tmp_path):
    process = _train(["--data", stripes, "--run", str(tmp_path / "run")], KERAS_BACKEND="theano")
    _, error = process.communicate()
    assert process.returncode == 2
    assert error.splitlines()[-1] == "fer-tf train: error: KERAS_BACKEND=theano: expected tensorflow or jax"
    assert not (tmp_path / "run").exists()


def test_resume_takes_no_settings(run, capsys):
    line = _refused(["--resume", str(run.path), "--epochs", "9"], capsys)
    assert "--resume uses the run's own settings: leave out --epochs" in line


def test_resume_notices_data_that_changed(run, stripes, small_dataset, capsys):
    kept = Path(stripes).read_bytes()
    try:
        changed = small_dataset.rows(np.arange(95))
        save_npz(changed, stripes)
        assert "is not (or no longer) the data" in _refused(["--resume", str(run.path)], capsys)
        os.unlink(stripes)
        assert "is no longer at" in _refused(["--resume", str(run.path)], capsys)
    finally:
        Path(stripes).write_bytes(kept)


def test_imagenet_that_cannot_be_had_names_the_ways_on(stripes, tmp_path, monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.utils, "get_file", fail)
    line = _refused(["--data", stripes, "--run", str(tmp_path / "run")], capsys)
    assert "--weights FILE.h5, or train from scratch with --recipe scratch" in line
    assert not (tmp_path / "run").exists()


def test_unwritable_folder(stripes, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    line = _refused(["--data", stripes, "--run", str(tmp_path / "file" / "run"), *SCRATCH], capsys)
    assert "cannot make run directory" in line


# --- Stopping ---


def _train(arguments: list[str], **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, ROOT / "scripts" / "train.py", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        # A shell's background jobs ignore SIGINT, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stop_keeps_the_last_epoch_and_says_how_to_go_on(number, status, stripes, tmp_path):
    run = RunDirectory(tmp_path / "run")
    process = _train(["--data", stripes, "--run", str(run.path), *SCRATCH, "--epochs", "500", "--quantization"])
    deadline = time.monotonic() + 240
    while not run.state.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == status, error
    state = TrainState.load(run)
    last = error.splitlines()[-1]
    assert last == (
        f"fer-tf train: stopped; phase 2, epoch {state.epoch} is kept; continue with: fer-tf train --resume {run.path}"
    )


@pytest.mark.slow
def test_killed_at_five_random_moments_ends_with_the_same_bits(stripes, imagenet_h5, tmp_path):
    arguments = ["--data", stripes, "--weights", imagenet_h5, *TINY, "--frozen-epochs", "2", "--epochs", "14"]
    arguments += ["--quantization", "--ema-decay", "0.9"]
    assert _train([*arguments, "--run", str(tmp_path / "whole")]).wait() == 0
    killed = RunDirectory(tmp_path / "killed")
    generator = random.Random(time.time_ns())
    process = _train([*arguments, "--run", str(killed.path)])
    for kill in range(5):
        # The first kill comes during start or compilation, the others at a random moment after another epoch.
        before = len(_history(killed))
        while kill and process.poll() is None and len(_history(killed)) == before:
            time.sleep(0.02)
        time.sleep(generator.uniform(0, 0.3) if kill else generator.uniform(5, 15))
        assert process.poll() is None, "it ended before the blow"
        process.kill()
        process.wait()
        again = ["--resume", str(killed.path), "--quantization"] if killed.config.exists() else None
        process = _train(again or [*arguments, "--run", str(killed.path)])
    assert process.wait() == 0
    whole = RunDirectory(tmp_path / "whole")
    for ours, theirs in zip(_best(killed), _best(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    states = TrainState.load(killed), TrainState.load(whole)
    for ours, theirs in zip(states[0].weights, states[1].weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(states[0].optimizer, states[1].optimizer, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    histories = [[{**row, "seconds": 0} for row in state.history] for state in states]
    assert histories[0] == histories[1]
    assert [(row["phase"], row["epoch"]) for row in histories[0]] == [(1, 1), (1, 2), *((2, n) for n in range(1, 15))]


def _history(run: RunDirectory) -> list[str]:
    return run.history.read_text().splitlines()[1:] if run.history.exists() else []


@pytest.mark.slow
def test_demo_beats_both_baselines(tmp_path):
    """The first command of the README trains a network that beats the majority class and a linear model on pixels."""
    run = RunDirectory(tmp_path / "run")
    assert _train(["--run", str(run.path), "--quantization"]).wait() == 0
    metrics = json.loads(run.metrics.read_text())
    accuracy = metrics["keras"]["test"]["accuracy"]
    assert accuracy > 0.05 + max(metrics["baselines"].values())
    assert metrics["data"]["synthetic"] and "synthetic" in run.report_md.read_text()
    assert {row.split(",")[0] for row in _history(run)} == {"1", "2"}  # both phases
    assert len(list(run.example("x").parent.glob("*.png"))) == 7


@pytest.mark.slow
def test_teacher_and_dropped_copies(run, small_dataset, tmp_path, capsys, caplog):
    copied = small_dataset.rows(np.r_[0:96, 50:53])  # three validation images also as training images
    copied.split[96:] = "train"
    save_npz(copied, tmp_path / "copied.npz")
    own = RunDirectory(tmp_path / "run")
    caplog.set_level("INFO", logger="fer_tf")
    arguments = ["--data", str(tmp_path / "copied.npz"), "--run", str(own.path), *SCRATCH, "--epochs", "1"]
    arguments += ["--teachers", str(run.path), "--distillation-weight", "1", "--drop-copies", "--quantization"]
    assert train.main(arguments) == 0
    assert "left out 3 training images that are copies" in caplog.text
    assert "scores 48 training images" in caplog.text
    # With the teacher's answers as the only target, the first epoch's loss is the cross-entropy with these answers.
    assert TrainState.load(own).history[0]["loss"] > 0
    caplog.clear()
    assert train.main(["--resume", str(own.path)]) == 0
    assert "scores 48 training images" not in caplog.text  # no remaining epoch needs it


@pytest.mark.slow
def test_no_test_split_is_said_and_skipped(small_dataset, tmp_path, capsys, caplog):
    save_npz(small_dataset.rows(small_dataset.split != "test"), tmp_path / "two.npz")
    caplog.set_level("INFO", logger="fer_tf")
    run = RunDirectory(tmp_path / "run")
    arguments = ["--data", str(tmp_path / "two.npz"), "--run", str(run.path), *SCRATCH, "--epochs", "0"]
    assert train.main([*arguments, "--quantization"]) == 0
    assert "no test split" in caplog.text
    assert list(json.loads(run.metrics.read_text())["keras"]) == ["validation"]
    assert evaluate.main(["--run", str(run.path), "--split", "test"]) == 2
    assert "no test split" in capsys.readouterr().err


# --- Other backends and precisions ---


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "optimizer"), [("float32", "adamw"), ("mixed_float16", "muon")])
def test_jax_without_tensorflow_trains_the_same_recipe(precision, optimizer, stripes, small_dataset, tmp_path):
    run = RunDirectory(tmp_path / "run")
    arguments = [
        "--data",
        stripes,
        "--run",
        str(run.path),
        *SCRATCH,
        "--epochs",
        "2",
        "--mixup",
        "0.2",
        "--ema-decay",
        "0.9",
        "--precision",
        precision,
        "--optimizer",
        optimizer,
    ]
    code = NO_TENSORFLOW + "from fer_tf.commands.train import main; sys.exit(main(sys.argv[1:]))"
    found = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )
    assert found.returncode == 0, found.stderr
    assert "no .tflite: conversion needs Keras on TensorFlow" in found.stderr
    metrics = json.loads(run.metrics.read_text())
    assert metrics["backend"] == "jax"
    validation = small_dataset.take("validation")
    here = open_model(run.model).predict(validation.images)  # in this process TensorFlow computes
    assert (here.argmax(1) == validation.labels).mean() == pytest.approx(metrics["keras"]["validation"]["accuracy"])
    code = (
        NO_TENSORFLOW + "import numpy as np\n"
        "from fer_tf.inference import open_model\n"
        "np.save(sys.argv[2], open_model(sys.argv[1]).predict(np.load(sys.argv[3])))"
    )
    np.save(tmp_path / "images.npy", validation.images)
    subprocess.run(
        [sys.executable, "-c", code, run.model, tmp_path / "p.npy", tmp_path / "images.npy"],
        check=True,
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )
    np.testing.assert_allclose(np.load(tmp_path / "p.npy"), here, atol=1e-4)
    assert export_tflite.main(["--run", str(run.path), "--quantization", "float32", "--max-drop", "100"]) == 0
    np.testing.assert_allclose(open_model(run.tflite("float32")).predict(validation.images), here, atol=1e-4)


@pytest.mark.slow
def test_mixed_float16_is_saved_exported_and_agrees(stripes, small_dataset, tmp_path):
    run = RunDirectory(tmp_path / "run")
    arguments = ["--data", stripes, "--run", str(run.path), *SCRATCH, "--epochs", "1", "--precision", "mixed_float16"]
    assert train.main([*arguments, "--limit", "16"]) == 0
    model = keras.models.load_model(run.model)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    images = small_dataset.take("test").images
    np.testing.assert_allclose(
        open_model(run.tflite("float32")).predict(images), open_model(run.model).predict(images), atol=1e-4
    )
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.slow
def test_two_runs_give_the_same_bits_and_two_classes_do(stripes, tmp_path):
    weights = []
    for name in ("a", "b"):
        run = RunDirectory(tmp_path / name)
        arguments = ["--data", stripes, "--run", str(run.path), *SCRATCH, "--epochs", "1", "--classes", "high,low"]
        assert train.main([*arguments, "--quantization"]) == 0
        weights.append(_best(run))
        assert read_metadata(run.model)["class_names"] == ["high", "low"]
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
