"""Today's code with version 0.1's files: settings, the state of a stopped run, models, a run's report.

`frozen/make_run_0_1.py` tells how version 0.1 made them.
"""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fer_tf.commands import report, train
from fer_tf.config import config_from_dict
from fer_tf.errors import InputError
from fer_tf.inference import open_model
from tests.frozen.make_run_0_1 import tiny_backbone

BACKBONE_MADE_BY = "keras.applications.EfficientNetB0"  # the package calls this; the tiny backbone replaces it
FROZEN = Path(__file__).parent / "frozen"
STOPPED, FINISHED, DATA = FROZEN / "run-0.1-stopped", FROZEN / "run-0.1-finished", FROZEN / "run-0.1-data"
REMOVED = {"stem_stride": 2, "cache_features": False}  # only version 0.1 had these; the value changes nothing


def _settings(run: Path) -> dict:
    values = json.loads((run / "config.json").read_text())
    del values["recipe"]
    return values


def _history(run: Path) -> list[dict[str, float]]:
    """The history's rows without the seconds, which come from another machine."""
    with open(run / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: float(value) for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    """Five images, uint8 (5, 48, 48), and what version 0.1's models answered, float32 (5, 3) each."""
    with np.load(DATA / "expected.npz") as file:
        return dict(file)


# --- Settings ---


@pytest.mark.parametrize("run", [STOPPED, FINISHED], ids=lambda run: run.name)
def test_settings_of_a_run_are_read(run):
    values = _settings(run)
    assert len(values) == 45 and values.keys() >= REMOVED.keys()
    found = config_from_dict(values).to_dict()
    kept = {name: value for name, value in values.items() if name not in REMOVED}
    assert {name: found[name] for name in kept} == kept


@pytest.mark.parametrize(("name", "value"), [("stem_stride", 1), ("cache_features", True)])
def test_removed_setting_that_did_something_is_refused(name, value):
    with pytest.raises(InputError, match=name) as refused:
        config_from_dict({**_settings(STOPPED), name: value})
    assert "version 0.1" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_unknown_setting_is_refused():
    with pytest.raises(InputError, match="unknown setting 'stem_strides'"):
        config_from_dict({**_settings(STOPPED), "stem_strides": 2})


# --- A run that was stopped ---


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["none", "newest state cut short"])
def test_stopped_run_ends_as_version_0_1_ended_it(damage, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(BACKBONE_MADE_BY, tiny_backbone)
    monkeypatch.chdir(tmp_path)  # data.json names data.npz, which is not here
    run = tmp_path / "run"
    shutil.copytree(STOPPED, run)
    if damage != "none":
        state = run / "state.npz"
        state.write_bytes(state.read_bytes()[:-1000])
    whole, before = _history(FINISHED), _history(STOPPED)
    assert before == whole[:3] and len(whole) == 5
    assert train.main(["--resume", str(run), "--data", str(DATA / "data.npz")]) == 0
    after = _history(run)
    assert len(after) == len(whole)
    for row, theirs in zip(after, whole, strict=True):
        # Another processor rounds differently; if a part of the state were lost, the difference would be far larger.
        assert {name: row[name] for name in theirs} == pytest.approx(theirs, rel=1e-4)
    for name in ("model.keras", "model-float32.tflite"):
        probabilities = open_model(run / name).predict(expected["images"])
        np.testing.assert_allclose(probabilities, expected["keras"], atol=1e-4)


# --- Models ---


@pytest.mark.parametrize(("name", "kind"), [("model.keras", "keras"), ("model-float32.tflite", "tflite")])
def test_model_answers_as_under_version_0_1(name, kind, expected):
    model = open_model(FINISHED / name)
    assert model.metadata["format"] == 1
    assert model.metadata["versions"]["fer_tf"] == "0.1.0"
    assert model.class_names == ("low", "mid", "high")
    np.testing.assert_allclose(model.predict(expected["images"]), expected[kind], atol=1e-5)


# --- A report ---


def test_report_of_a_run(tmp_path):
    run = tmp_path / FINISHED.name
    shutil.copytree(FINISHED, run)
    (run / "report.md").unlink()
    assert report.main(["--run", str(run)]) == 0
    text = (run / "report.md").read_text()
    assert FINISHED.name in text.splitlines()[0]
    of_split = json.loads((run / "metrics.json").read_text())["keras"]
    for split in ("validation", "test"):
        assert f"{100 * of_split[split]['accuracy']:.1f} %" in text
    assert all(name in text for name in ("low", "mid", "high", "0.02", "float32"))
    assert "<html" in (run / "report.html").read_text()
