"""Shared by the test files: a small learnable data set, a small backbone, and ImageNet-like weights in a .h5."""

import importlib.util
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest

from fer_tf.commands import predict
from fer_tf.data.dataset import Dataset
from tests.tiny_models import write_tiny

if importlib.util.find_spec("keras") is None:
    # Without the extras the other files cannot even be imported.
    _files = Path(__file__).parent.glob("test_*.py")
    collect_ignore = [path.name for path in _files if "pytest.mark.light" not in path.read_text()]


def striped_faces(num_images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise with one bright band whose height is the label: uint8 (n, 48, 48) and int64 (n,) in [0, 3)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num_images) % 3
    images = rng.integers(0, 60, (num_images, 48, 48), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[label * 16 : (label + 1) * 16] += np.uint8(120)
    return images, labels


@pytest.fixture(scope="session")
def small_dataset() -> Dataset:
    """48 training, 24 validation, 24 test images of three classes."""
    images, labels = striped_faces(96)
    split = np.array(["train"] * 48 + ["validation"] * 24 + ["test"] * 24)
    return Dataset(labels, split, ("low", "mid", "high"), images=images, source="stripes", sha256="0" * 64)


def small_backbone(include_top=False, weights=None, input_shape=None, name=None):
    """A small replacement for EfficientNet-B0 in tests of other parts: epochs of 0.1 s, states of a few kB."""
    import keras

    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(8, 8, strides=8, name="stem_conv")(inputs)
    x = keras.layers.Activation("swish")(keras.layers.BatchNormalization()(x))
    return keras.Model(inputs, x, name=name)


@pytest.fixture
def small_network(monkeypatch):
    """Give every network of the test the small backbone."""
    import keras

    monkeypatch.setattr(keras.applications, "EfficientNetB0", small_backbone)


@pytest.fixture(scope="session")
def imagenet_h5(tmp_path_factory) -> str:
    """A file laid out as Keras's efficientnetb0_notop.h5: random weights, BatchNorm statistics that fit them."""
    import h5py
    import keras
    from keras.src.legacy.saving import legacy_h5_format

    keras.utils.set_random_seed(1)
    network = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5
    images, _ = striped_faces(16)
    batch = np.repeat(images[:, 8:40, 8:40, None], 3, axis=-1).astype(np.float32)
    batch /= np.sqrt(np.float32([0.229, 0.224, 0.225]))  # the loader of ImageNet weights also divides by this
    for _ in range(8):  # statistics that fit the weights, as after training
        network(batch, training=True)
    path = tmp_path_factory.mktemp("weights") / "efficientnetb0_notop.h5"
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, network)
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A .tflite of one dense layer, which `say` gives to `predict`."""
    return write_tiny(tmp_path_factory.mktemp("model") / "tiny.tflite", metadata={"synthetic": False})


@pytest.fixture
def say(model, capfd, caplog, monkeypatch, tmp_path):
    """Run `predict` in an empty folder; return exit status, lines on stdout, and lines on stderr, native ones too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(predict, "_PROGRESS_SECONDS", 1e9)  # on a busy machine, it would print progress

    def run(*arguments, model=model):
        caplog.clear()
        status = predict.main([*map(str, arguments), "--model", str(model)])
        printed = capfd.readouterr()
        logged = [record.getMessage() for record in caplog.records]  # pytest's handler replaces the one on stderr
        return status, printed.out.splitlines(), logged + printed.err.splitlines()

    return run
