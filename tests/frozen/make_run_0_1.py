"""Makes the runs of version 0.1 in this folder, by version 0.1's own code: tests/test_compatibility.py reads them.

Nothing runs this file any more; it stands here to show how the runs were made. It needs version 0.1, commit 07331a8:

    git worktree add /elsewhere/v01 07331a8
    cd /elsewhere/v01
    PYTHONPATH=. python /this/clone/tests/frozen/make_run_0_1.py OUTPUT

Version 0.1 trained both runs with the same settings, the command's file names and folders relative. Two things stood in
for what is too large to keep: a backbone of one block in EfficientNet-B0's place (`tiny_backbone`), and random weights
for it in the place of ImageNet's (laid out as Keras's efficientnetb0_notop.h5). OUTPUT receives:

    run-0.1-data/data.npz       the images: noise with a bright band whose height is the label
    run-0.1-data/expected.npz   five images, and the probabilities that the finished run's two models give for them
    run-0.1-stopped/            interrupted when phase 2's third epoch began, as by Ctrl-C
    run-0.1-finished/           not interrupted

With these settings phase 2's learning rate is halved after its third epoch and early stopping ends it after the fourth
of five, both by counts that began before the stop, and the best epoch lies before the stop: a run that is resumed with
anything lost ends otherwise.

Files that say nothing to a reader of old runs are left out: figures, examples, log, report.html, and the finished run's
state before the last. One value is changed: data.json keeps the data's absolute path, here it is the file's name.
"""

# ruff: noqa: I001 - where a module of version 0.1 is gone, its import is sorted as another package's

from __future__ import annotations

import csv
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

CLASS_NAMES = ("low", "mid", "high")
NUM_IMAGES = {"train": 30, "validation": 18, "test": 18}
FROZEN_EPOCHS, EPOCHS, STOPPED_AFTER = 1, 5, 2
SETTINGS = [
    "--recipe", "report", "--weights", "imagenet", "--image-size", "32", "--batch-size", "10", "--rotation", "0",
    "--frozen-epochs", str(FROZEN_EPOCHS), "--epochs", str(EPOCHS), "--batch-norm-momentum", "0.9",
    "--optimizer", "adamw", "--learning-rate", "0.02", "--frozen-learning-rate", "0.03", "--ema-decay", "0.9",
    "--schedule", "plateau", "--plateau-patience", "2", "--mixup", "0.2", "--early-stopping-patience", "3",
    "--seed", "6", "--quantization", "float32",
]  # fmt: skip
_LEFT_OUT = ("figures", "examples", "tensorboard", "log.txt", "report.html", ".lock")


def tiny_backbone(include_top=False, weights=None, input_shape=None, name=None) -> keras.Model:
    """EfficientNet-B0 with one block: its layers' kinds, names and order, a few channels each.

    Takes the arguments of `keras.applications.EfficientNetB0`, whose place it takes.
    """
    layers = keras.layers

    def normalised(x, name):
        return layers.BatchNormalization(name=f"{name}_bn")(x)

    def activated(x, name):
        return layers.Activation("swish", name=f"{name}_activation")(normalised(x, name))

    inputs = keras.Input(input_shape)
    x = layers.Rescaling(1 / 255, name="rescaling")(inputs)
    x = layers.Normalization(axis=-1, name="normalization")(x)
    x = layers.ZeroPadding2D(((0, 1), (0, 1)), name="stem_conv_pad")(x)
    x = layers.Conv2D(6, 3, strides=2, padding="valid", use_bias=False, name="stem_conv")(x)
    x = before = activated(x, "stem")
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="block1a_dwconv")(x)
    x = activated(x, "block1a")
    squeezed = layers.GlobalAveragePooling2D(name="block1a_se_squeeze")(x)
    squeezed = layers.Reshape((1, 1, 6), name="block1a_se_reshape")(squeezed)
    squeezed = layers.Conv2D(2, 1, activation="swish", name="block1a_se_reduce")(squeezed)
    squeezed = layers.Conv2D(6, 1, activation="sigmoid", name="block1a_se_expand")(squeezed)
    x = layers.multiply([x, squeezed], name="block1a_se_excite")
    x = layers.Conv2D(6, 1, use_bias=False, name="block1a_project_conv")(x)
    x = normalised(x, "block1a_project")
    x = layers.Dropout(0.1, noise_shape=(None, 1, 1, 1), name="block1a_drop")(x)
    x = layers.add([x, before], name="block1a_add")
    x = layers.Conv2D(12, 1, use_bias=False, name="top_conv")(x)
    return keras.Model(inputs, activated(x, "top"), name=name)


def _striped_faces() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """uint8 (n, 48, 48), the label of each and the split of each."""
    rng = np.random.default_rng(1)
    split = np.repeat(list(NUM_IMAGES), list(NUM_IMAGES.values()))
    labels = np.arange(len(split)) % len(CLASS_NAMES)
    images = rng.integers(0, 120, (len(split), 48, 48), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[label * 16 : (label + 1) * 16] += np.uint8(rng.integers(40, 120))
    return images, labels, split


def _write_imagenet_h5(path: Path, images: np.ndarray) -> None:
    """Random weights for the tiny backbone, with ImageNet's means and BatchNorm statistics that fit the images."""
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    keras.utils.set_random_seed(1)
    network = tiny_backbone(input_shape=(32, 32, 3))
    stddev = np.float32([0.229, 0.224, 0.225])
    normalization = network.get_layer("normalization")
    normalization.set_weights([np.float32([0.485, 0.456, 0.406]), stddev**2, np.int64(0)])
    normalization.finalize_state()
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5
    batch = np.repeat(images[:, 8:40, 8:40, None], 3, axis=-1).astype(np.float32)
    for _ in range(8):
        network(batch, training=True)
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, network)


def _rows(run: Path) -> list[dict[str, str]]:
    """The history's rows without their seconds."""
    with open(run / "history.csv", newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def _keep(run: Path, kept: Path) -> None:
    """Copies a run without what is left out, and takes the path out of its data.json."""
    from fer_tf.artifacts import read_json, write_json

    shutil.copytree(run, kept, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    write_json(kept / "data.json", {**read_json(kept / "data.json"), "path": "data.npz"})


def main(output: Path) -> None:
    """Trains in a temporary folder and fills `output` from it."""
    import fer_tf
    from fer_tf import training
    from fer_tf.commands import train
    from fer_tf.data.dataset import Dataset
    from fer_tf.data.fer2013 import save_npz
    from fer_tf.inference import open_model

    print("fer_tf", fer_tf.__version__, fer_tf.__file__)
    output = output.resolve()
    work = Path(tempfile.mkdtemp(prefix="fer_tf-0.1-"))
    os.chdir(work)
    images, labels, split = _striped_faces()
    save_npz(Dataset(labels, split, CLASS_NAMES, images=images, source="stripes", synthetic=True), "data.npz")
    _write_imagenet_h5(work / "start.h5", images)
    keras.applications.EfficientNetB0 = tiny_backbone
    keras.utils.get_file = lambda *_, **__: str(work / "start.h5")
    stopped, finished = work / "run-0.1-stopped", work / "run-0.1-finished"

    assert train.main(["--data", "data.npz", "--run", finished.name, *SETTINGS]) == 0

    begin = training._EpochSeeds.on_epoch_begin

    def begin_or_stop(self, epoch, logs=None):
        if (self._phase, epoch) == (2, STOPPED_AFTER):
            raise KeyboardInterrupt
        begin(self, epoch, logs)

    training._EpochSeeds.on_epoch_begin = begin_or_stop
    assert train.main(["--data", "data.npz", "--run", stopped.name, *SETTINGS]) == 130
    training._EpochSeeds.on_epoch_begin = begin
    assert _rows(stopped) == _rows(finished)[: FROZEN_EPOCHS + STOPPED_AFTER]

    shutil.copytree(stopped, work / "resumed")
    assert train.main(["--resume", "resumed"]) == 0
    assert _rows(work / "resumed") == _rows(finished)

    data = output / "run-0.1-data"
    data.mkdir(parents=True, exist_ok=True)
    for run in (stopped, finished):
        _keep(run, output / run.name)
    (output / finished.name / "state-previous.npz").unlink()
    shutil.copy("data.npz", data)
    chosen = images[split == "test"][:5]
    np.savez_compressed(
        data / "expected.npz",
        images=chosen,
        keras=open_model(finished / "model.keras").predict(chosen),
        tflite=open_model(finished / "model-float32.tflite").predict(chosen),
    )
    shutil.rmtree(work)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
