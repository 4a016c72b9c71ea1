"""Several devices train and resume like one device; one line refuses what they cannot share."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fer_tf.artifacts import RunDirectory
from fer_tf.commands import train
from fer_tf.data.reading.npz import save_npz
from fer_tf.training.checkpoint import TrainState

ROOT = Path(__file__).resolve().parents[1]
# 45 training images in batches of 16: an epoch and validation end with 13 images, which cannot be halved.
RUNS = """
import sys
import keras
import jax
import numpy as np

# Without a bias in front of BatchNorm: its gradient is rounding alone, of which Adam makes whole steps.
def small_backbone(include_top=False, weights=None, input_shape=None, name=None):
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(8, 8, strides=8, use_bias=False)(inputs)
    x = keras.layers.Activation("swish")(keras.layers.BatchNormalization()(x))
    return keras.Model(inputs, x, name=name)

keras.applications.EfficientNetB0 = small_backbone
from fer_tf import Config, load_dataset
from fer_tf.data import jax_pipeline
from fer_tf.data.augmentation import identity_parameters
from fer_tf.experiment import resume_experiment, run_experiment
from fer_tf.training.callbacks import CheckpointCallback
from fer_tf.training.devices import across, find_devices
from fer_tf.training.trainer import build_for

data, folder = sys.argv[1:]
dataset = load_dataset(data)
config = Config(
    image_size=32, batch_size=16, weights="none", epochs=3, learning_rate=1e-3, batch_norm_momentum=0.5, dropout=0.3,
    ema_decay=0.9, mixup=0.2,
)

def start(name, devices, stop_after=None):
    on_epoch_end = CheckpointCallback.on_epoch_end
    def stop(self, epoch, logs=None):
        on_epoch_end(self, epoch, logs)
        if epoch + 1 == stop_after:
            raise KeyboardInterrupt
    CheckpointCallback.on_epoch_end = stop
    try:
        run_experiment(config, dataset, f"{folder}/{name}", devices=devices, quantizations=())
    except KeyboardInterrupt:
        pass
    finally:
        CheckpointCallback.on_epoch_end = on_epoch_end

start("one", 1)
start("two", "all")
start("stopped", 2, stop_after=1)
resume_experiment(f"{folder}/stopped", dataset=dataset, quantizations=())  # on two, as it was started
start("grown", 1, stop_after=1)
resume_experiment(f"{folder}/grown", dataset=dataset, quantizations=(), devices=2)

def work(devices, num_images):
    with across(find_devices(devices, 16)):
        model = jax_pipeline.fit_model(build_for(config, 32, 3, "float32"), 32)
        images = {"images": np.zeros((num_images, 48, 48), np.uint8), "parameters": identity_parameters(num_images)}
        step = jax.jit(lambda images, *state: model.stateless_call(*state, images, training=True)[0])
        values = [[v.value for v in found] for found in (model.trainable_variables, model.non_trainable_variables)]
        return step.lower(images, *values).compile().cost_analysis()["flops"]

print([work(devices, num_images) for num_images in (16, 13) for devices in (1, 2)])
"""


def on_jax(*command, num_devices=2):
    pytest.importorskip("jax")
    flags = f"--xla_force_host_platform_device_count={num_devices}"
    environment = {**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": flags}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=ROOT, env=environment)


@pytest.fixture(scope="module")
def data(small_dataset, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("data") / "stripes.npz"
    save_npz(small_dataset.rows([row for row in range(len(small_dataset)) if row not in (3, 4, 5, 50)]), path)
    return str(path)


@pytest.mark.slow
def test_two_devices_train_as_one_does_and_resume(data, tmp_path):
    found = on_jax("-c", RUNS, data, str(tmp_path))
    assert found.returncode == 0, found.stderr
    alone, shared, alone_13, shared_13 = json.loads(found.stdout.splitlines()[-1])
    assert shared < 0.6 * alone and shared_13 == alone_13  # if a step can be halved, each device does half of it
    names = ("one", "two", "stopped", "grown")
    runs = {name: json.loads((tmp_path / name / "metrics.json").read_text()) for name in names}
    assert [runs[name]["devices"] for name in names] == [1, 2, 2, 2]
    assert json.loads((tmp_path / "two" / "data.json").read_text())["devices"] == "all"
    history = {name: read_history(tmp_path / name) for name in names}
    assert len(history["one"]) == 3 and len({row["loss"] for row in history["one"]}) == 3
    for name in ("two", "grown"):
        for ours, theirs in zip(history[name], history["one"], strict=True):
            assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
            assert ours["val_loss"] == pytest.approx(theirs["val_loss"], abs=1e-5)
    assert history["stopped"] == history["two"]
    weights = [TrainState.load(RunDirectory(tmp_path / name)).weights for name in ("stopped", "two")]
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def read_history(run: Path) -> list[dict]:
    header, *lines = (run / "history.csv").read_text().splitlines()
    rows = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    return [{name: float(value) for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--devices", "2", "--batch-size", "15"], "batch_size 15 does not divide by 2 devices: use 14 or 16"),
        (["--devices", "all", "--batch-size", "1"], "batch_size 1 does not divide by 2 devices: use 2"),
        (["--devices", "3", "--batch-size", "15"], "devices 3: JAX finds 2 (cpu:0, cpu:1); ask for 2 or fewer"),
    ],
)
def test_devices_that_cannot_share_a_step(flags, message, data, tmp_path):
    call = ["-m", "fer_tf", "train", "--data", data, "--weights", "none", "--run", str(tmp_path / "run"), *flags]
    found = on_jax(*call)
    assert found.returncode == 2
    assert found.stderr.splitlines()[-1] == f"fer-tf train: error: {message}"
    assert "Traceback" not in found.stderr and not (tmp_path / "run").exists()


@pytest.mark.parametrize("devices", ["2", "all"])
def test_tensorflow_refuses_and_names_jax(devices, data, tmp_path, capsys):
    call = ["--data", data, "--weights", "none", "--run", str(tmp_path / "run"), "--devices", devices]
    assert train.main(call) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"fer-tf train: error: devices {devices}: Keras on tensorflow trains on one device only;")
    assert "KERAS_BACKEND=jax" in line and not (tmp_path / "run").exists()


@pytest.mark.parametrize("devices", ["0", "-1", "two", "1.5"])
def test_a_number_of_devices_that_is_none(devices, capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(["--devices", devices])
    assert stop.value.code == 2
    assert "expected a number from 1, or all" in capsys.readouterr().err
