"""Faults that break long runs in practice: full disks, folders that become read-only or vanish, many epochs."""

import ctypes
import errno
import logging
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from fer_tf import experiment, training
from fer_tf.artifacts import RunDirectory, save_keras, write_bytes
from fer_tf.commands import train
from fer_tf.data.reading.npz import save_npz
from fer_tf.errors import InputError
from fer_tf.training.checkpoint import TrainState, load_weights

ROOT = Path(__file__).resolve().parents[1]
TINY = ["--image-size", "32", "--batch-size", "48", "--weights", "none", "--quantization"]


@pytest.fixture(scope="module")
def stripes(small_dataset, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("data") / "stripes.npz"
    save_npz(small_dataset, path)
    return str(path)


@pytest.fixture
def largest_file():
    """Let a test set the largest size of a file, in bytes; remove the limit afterwards."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _error_line(capsys) -> str:
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("fer-tf train: error: ")]
    assert len(lines) == 1 and error.splitlines()[-1] == lines[0]
    assert "Traceback" not in error and "Logging error" not in error
    return lines[0]


def _after_first_epoch(monkeypatch, happens) -> None:
    """Run a function as soon as the first epoch's state is in place."""
    save = TrainState.save

    def save_then(self, run):
        save(self, run)
        if len(self.history) == 1:
            happens()

    monkeypatch.setattr(TrainState, "save", save_then)


# --- A full disk ---


@pytest.mark.parametrize("written_before", [b"", b"whole"])
def test_full_disk_leaves_what_was_there(tmp_path, largest_file, written_before):
    path = tmp_path / "file.bin"
    if written_before:
        write_bytes(path, written_before)
    largest_file(1000)
    with pytest.raises(InputError, match=r"cannot write .*file\.bin: File too large: free space"):
        write_bytes(path, bytes(2000))
    assert [entry.name for entry in tmp_path.iterdir()] == (["file.bin"] if written_before else [])
    assert not written_before or path.read_bytes() == written_before


def test_full_disk_while_a_model_is_saved(tmp_path, largest_file):
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(512)])
    largest_file(40_000)
    with pytest.raises(InputError, match=r"cannot write .*model\.keras"):
        save_keras(model, tmp_path / "model.keras", {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stopped", ["state", "best weights and log"])
def test_full_disk_keeps_the_last_epoch_and_resume_goes_on(
    stopped, stripes, tmp_path, monkeypatch, small_network, largest_file, capsys
):
    run = RunDirectory(tmp_path / "run")
    with monkeypatch.context() as patch:
        # The best weights are smaller than a state, so the first limit allows them.
        _after_first_epoch(patch, lambda: largest_file(run.state.stat().st_size - 200 if stopped == "state" else 100))
        assert train.main(["--data", stripes, "--run", str(run.path), *TINY, "--epochs", "2"]) == 2
    largest_file(resource.RLIM_INFINITY)
    line = _error_line(capsys)
    assert "File too large" in line and "phase 2, epoch 1 is kept" in line and f"--resume {run.path}" in line
    assert TrainState.load(run).epoch == 1
    best = TrainState.load(run).best
    load_weights(run.best_weights(best["phase"], best["epoch"]))
    assert not [path for path in run.path.iterdir() if path.name.startswith(".") and path.name != ".lock"]
    assert train.main(["--resume", str(run.path)]) == 0
    assert [row["epoch"] for row in TrainState.load(run).history] == [1, 2]


# --- A folder that vanishes or becomes read-only ---


def test_folder_renamed_while_training_goes_on_under_its_new_name(
    stripes, tmp_path, monkeypatch, small_network, capsys
):
    run, elsewhere = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "elsewhere")
    with monkeypatch.context() as patch:
        _after_first_epoch(patch, lambda: run.path.rename(elsewhere.path))
        assert train.main(["--data", stripes, "--run", str(run.path), *TINY, "--epochs", "2"]) == 2
    assert "was removed or renamed during the run" in _error_line(capsys)
    assert not run.path.exists()
    assert train.main(["--resume", str(elsewhere.path)]) == 0
    assert [row["epoch"] for row in TrainState.load(elsewhere).history] == [1, 2]


def test_folder_removed_while_training_is_one_line(stripes, tmp_path, monkeypatch, small_network, capsys):
    run = tmp_path / "run"
    _after_first_epoch(monkeypatch, lambda: shutil.rmtree(run))
    assert train.main(["--data", stripes, "--run", str(run), *TINY, "--epochs", "2"]) == 2
    assert "was removed or renamed during the run" in _error_line(capsys)
    assert not run.exists()


def _without_override() -> None:
    """In the child process, make even root obey folder permissions (prctl(2): PR_CAPBSET_DROP CAP_DAC_OVERRIDE)."""
    ctypes.CDLL(None).prctl(24, 1)


@pytest.mark.slow
def test_folder_that_becomes_read_only(stripes, tmp_path):
    run = RunDirectory(tmp_path / "run")
    command = [sys.executable, str(ROOT / "scripts" / "train.py")]
    process = subprocess.Popen(
        [*command, "--data", stripes, "--run", str(run.path), *TINY, "--epochs", "5000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_without_override,
    )
    deadline = time.monotonic() + 240
    while not run.state.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    run.path.chmod(0o555)
    try:
        _, error = process.communicate(timeout=120)
    finally:
        run.path.chmod(0o755)
    assert process.returncode == 2, error
    last = error.splitlines()[-1]
    assert "cannot write" in last and "Permission denied" in last and f"--resume {run.path}" in last
    assert "Traceback" not in error
    assert TrainState.load(run).epoch >= 1


# --- Thousands of epochs ---


def test_log_is_bounded(stripes, tmp_path, monkeypatch):
    run = RunDirectory(tmp_path / "run")
    monkeypatch.setattr(experiment, "_MAX_LOG_BYTES", 1500)
    chatter = logging.getLogger("fer_tf.chatter")

    def talk(*arguments, **settings):
        for number in range(200):
            chatter.info("line %d", number)
        raise InputError("enough")

    monkeypatch.setattr(training, "train", talk)
    monkeypatch.setattr(shutil, "rmtree", lambda *arguments, **settings: None)  # keep a run without an epoch
    assert train.main(["--data", stripes, "--run", str(run.path), *TINY, "--epochs", "2"]) == 2
    logs = sorted(path.name for path in run.path.glob("log.txt*"))
    assert logs == ["log.txt", "log.txt.1"]
    assert all((run.path / name).stat().st_size <= 1500 for name in logs)


@pytest.mark.slow
def test_many_epochs_keep_memory_flat_and_resume_exact(stripes, tmp_path, small_network):
    program = """
import sys
import keras
from fer_tf.training.checkpoint import TrainState
from fer_tf.commands import train
from tests.conftest import small_backbone
keras.applications.EfficientNetB0 = small_backbone
save, sizes = TrainState.save, []
def measured(self, run):
    save(self, run)
    with open("/proc/self/statm") as file:
        sizes.append(int(file.read().split()[1]) * 4096)
TrainState.save = measured
assert train.main(sys.argv[1:]) == 0
print("GROWTH", (sizes[-1] - sizes[len(sizes) // 3]) / 2**20)
"""
    whole = tmp_path / "whole"
    arguments = ["--data", stripes, *TINY, "--epochs", "600", "--limit", "8", "--ema-decay", "0.9"]
    arguments += ["--early-stopping-patience", "0"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, "--run", str(whole)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    growth = float(done.stdout.split("GROWTH")[1].split()[0])
    assert growth < 20, f"{growth} MiB over 400 epochs"  # 0.05 MiB an epoch
    # As after a kill before the last state was written: one epoch is trained again, with the same bits.
    cut = RunDirectory(tmp_path / "cut")
    shutil.copytree(whole, cut.path)
    cut.previous_state.replace(cut.state)
    assert train.main(["--resume", str(cut.path)]) == 0
    ends = [TrainState.load(RunDirectory(path)) for path in (whole, cut.path)]
    assert ends[0].epoch == ends[1].epoch == 600
    for one, other in zip(ends[0].weights + ends[0].average, ends[1].weights + ends[1].average, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_space_is_named_as_the_system_names_it(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_bytes(tmp_path / "file", b"x")
