"""`run_experiment` as Python users call it: results, several seeds, and kills at each file that a run writes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from fer_tf.artifacts import RunDirectory, read_json, read_metadata
from fer_tf.commands import train
from fer_tf.config import Config
from fer_tf.data.loading import load_dataset
from fer_tf.data.reading.npz import save_npz
from fer_tf.errors import InputError
from fer_tf.experiment import read_result, resume_experiment, run_experiment, run_seeds
from fer_tf.inference import open_model
from fer_tf.scoring import evaluate
from tests.conftest import small_backbone

ROOT = Path(__file__).resolve().parents[1]
CONFIG = Config(image_size=32, batch_size=24, weights="none", epochs=2, learning_rate=1e-2)


@pytest.fixture
def small_network(monkeypatch):
    monkeypatch.setattr(keras.applications, "EfficientNetB0", small_backbone)


@pytest.fixture(scope="module")
def result(small_dataset, tmp_path_factory):
    """A finished run; tests do not change its files."""
    run = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.applications, "EfficientNetB0", small_backbone)
        return run_experiment(CONFIG, small_dataset, run, recipe="mine", command="called from a test")


def test_result_has_the_figures_and_the_files(result, small_dataset):
    assert result.splits == ["validation", "test"]
    part = small_dataset.take("test")
    accuracy = (open_model(result.run.model).predict(part.images).argmax(1) == part.labels).mean()
    assert result.scores("accuracy")["test"] == pytest.approx(accuracy)
    assert f"model.keras: test accuracy {accuracy:.2%}" in result.summary()
    assert "model-float32.tflite: validation (selection split) accuracy" in result.summary()
    assert result.run.report_text.read_text() == result.report_text
    assert {result.run.model, result.run.metrics, result.run.report_md} <= set(result.files())
    assert read_result(result.run) == result
    about = json.loads(result.run.data.read_text())
    assert about["command"] == result.metrics["command"] == "called from a test"
    assert json.loads(result.run.config.read_text())["recipe"] == "mine"


def test_files_name_their_schema_and_leave_room_for_what_later_versions_add(result):
    for values in (json.loads(result.run.metrics.read_text()), json.loads(result.run.data.read_text())):
        assert values["schema_version"] == 2
    for path in (result.run.model, result.run.tflite("float32")):
        metadata = read_metadata(path)
        assert metadata["schema_version"] == 2 and "format" not in metadata
        assert metadata["prediction_sets"]["thresholds"].keys() == {"0.8", "0.9", "0.95"} and metadata["crop"] is None


def test_a_run_of_data_from_memory_is_resumed_with_that_data(result, small_network, small_dataset, tmp_path):
    shutil.copytree(result.run.path, tmp_path / "run")
    with pytest.raises(InputError, match="was made in memory: give it as `dataset`"):
        resume_experiment(tmp_path / "run")
    again = resume_experiment(tmp_path / "run", dataset=small_dataset, quantizations=())
    assert again.scores("accuracy") == result.scores("accuracy")


def test_evaluate_gives_the_figures_of_the_run(result, small_dataset):
    figures = evaluate(result.run.model, small_dataset)
    assert {split: found["accuracy"] for split, found in figures.items()} == result.scores("accuracy")
    with pytest.raises(InputError, match="no row"):
        evaluate(result.run.model, small_dataset.rows(np.zeros(0, int)), splits=["test"])


def test_a_folder_in_which_nothing_was_trained_is_removed(small_network, small_dataset, tmp_path):
    with pytest.raises(InputError, match="no validation split"):
        run_experiment(CONFIG, small_dataset.rows(small_dataset.split == "train"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_seeds_give_mean_and_deviation_and_go_on_after_a_stop(small_network, small_dataset, tmp_path, monkeypatch):
    results, summary = run_seeds(2, CONFIG, small_dataset, tmp_path / "runs", quantizations=())
    values = [result.scores("accuracy")["test"] for result in results]
    found = summary["splits"]["test"]["accuracy"]
    assert found["values"] == values and found["mean"] == pytest.approx(np.mean(values))
    assert found["standard_deviation"] == pytest.approx(np.std(values, ddof=1))
    assert summary["seeds"] == [0, 1]
    assert [result.run.path.name for result in results] == ["seed-0", "seed-1"]
    configs = [json.loads(result.run.config.read_text()) for result in results]
    assert [config["seed"] for config in configs] == [0, 1]
    # The second run was stopped before its end: it continues, and the first run is not trained again.
    results[1].run.metrics.unlink()
    before = results[0].run.model.stat().st_mtime_ns
    _, again = run_seeds(2, CONFIG, small_dataset, tmp_path / "runs", quantizations=())
    assert again == summary and results[0].run.model.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="holds a run of other settings"):
        run_seeds(2, Config(weights="none", epochs=7), small_dataset, tmp_path / "runs")
    with pytest.raises(InputError, match="1 seeds: expected 2 or more"):
        run_seeds(1, CONFIG, small_dataset, tmp_path / "runs")


def test_the_command_prints_mean_and_deviation_of_its_seeds(small_network, small_dataset, tmp_path, capsys):
    save_npz(small_dataset, tmp_path / "stripes.npz")
    flags = ["--data", str(tmp_path / "stripes.npz"), "--run", str(tmp_path / "runs"), "--weights", "none"]
    flags += ["--image-size", "32", "--epochs", "1", "--seed", "5", "--quantization", "--seeds", "2"]
    assert train.main(flags) == 0
    out = capsys.readouterr().out
    summary = read_json(tmp_path / "runs" / "seeds.json")
    assert summary["seeds"] == [5, 6]
    found = summary["splits"]["test"]["accuracy"]
    assert f"test, 2 seeds: accuracy {found['mean']:.2%} +- {found['standard_deviation']:.2%}, macro-F1" in out
    assert train.main([*flags[:-1], "1"]) == 2
    assert "1 seeds: expected 2 or more" in capsys.readouterr().err


KILLED_AT_RENAME = """
import os, signal, sys
import keras
from tests.conftest import small_backbone
keras.applications.EfficientNetB0 = small_backbone
from fer_tf import artifacts
from fer_tf.experiment import resume_experiment
left, replace = int(sys.argv[2]), os.replace
def replace_or_die(*paths):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*paths)
artifacts.os.replace = replace_or_die
resume_experiment(sys.argv[1], data=sys.argv[3])
"""


@pytest.mark.slow
def test_a_run_killed_at_any_rename_leaves_a_calibrated_model_or_none(small_network, small_dataset, tmp_path):
    """From the end of training to the report: send SIGKILL in place of each rename, then resume."""
    save_npz(small_dataset, tmp_path / "stripes.npz")
    dataset = load_dataset(tmp_path / "stripes.npz")
    whole = run_experiment(CONFIG, dataset, tmp_path / "whole", quantizations=())
    images = small_dataset.take("test").images
    expected = open_model(whole.run.model).predict(images)
    temperature = whole.metrics["temperature"]
    assert temperature != 1.0  # an uncalibrated model would answer differently
    trained = tmp_path / "trained"  # the run right after training, without later files
    shutil.copytree(whole.run.path, trained)
    kept = {"config.json", "data.json", "history.csv"}
    for path in RunDirectory(trained).files():
        if path.name not in kept and path.suffix != ".npz":
            path.unlink()
    killed = absent = 0
    for number in range(1, 100):
        run = RunDirectory(tmp_path / f"killed-{number}")
        shutil.copytree(trained, run.path)
        program = [sys.executable, "-c", KILLED_AT_RENAME, str(run.path), str(number), str(tmp_path / "stripes.npz")]
        process = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, env={**os.environ})
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, process.stderr
        killed += 1
        if run.model.exists():
            assert read_metadata(run.model)["temperature"] == temperature
            np.testing.assert_allclose(open_model(run.model).predict(images), expected, atol=1e-6)
        else:
            absent += 1
        if number in (3, 4):  # before and after the model is in place
            assert resume_experiment(run.path, dataset=dataset).scores("accuracy") == whole.scores("accuracy")
        shutil.rmtree(run.path)
    assert 0 < absent < 5 and killed > 8  # the history, the hashes, the model; then the report's files
