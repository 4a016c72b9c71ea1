"""The mean of several networks: its weights, its statistics, and what is refused."""

import dataclasses

import keras
import numpy as np
import pytest

from fer_tf.config import Config
from fer_tf.data import tf_pipeline
from fer_tf.data.preprocessing import preprocess
from fer_tf.errors import InputError
from fer_tf.model.network import build_model
from fer_tf.model.weights import BACKBONE
from fer_tf.training.averaging import average_weights, read_others

CONFIG = Config(weights="none", image_size=32)
IMAGES = np.random.default_rng(0).integers(0, 256, (300, 48, 48), dtype=np.uint8)


def network(seed):
    keras.utils.set_random_seed(seed)
    return build_model(3, image_size=32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("other") / "model.keras"
    network(1).save(path)
    return path


def test_kernels_are_the_mean_and_statistics_are_those_of_the_images(saved, monkeypatch):
    monkeypatch.setattr("fer_tf.training.averaging._BATCH", 256)  # one batch: the last images make no whole one
    ours = network(0)
    config = dataclasses.replace(CONFIG, average_with=(str(saved.parent),))
    found = network(2)
    found.set_weights(
        average_weights(config, [ours.get_weights(), *read_others(config, ours.get_weights())], IMAGES, 3, tf_pipeline)
    )
    other = keras.models.load_model(saved)
    for name in ("stem_conv", "block4b_dwconv", "top_conv"):
        kernels = [model.get_layer(BACKBONE).get_layer(name).get_weights()[0] for model in (ours, other, found)]
        np.testing.assert_allclose(kernels[2], (kernels[0] + kernels[1]) / 2, rtol=1e-6)
    backbone = found.get_layer(BACKBONE)
    stem = keras.Model(backbone.input, backbone.get_layer("stem_conv").output)
    chosen = np.random.default_rng(CONFIG.seed).permutation(300)[:256]
    values = np.asarray(stem(preprocess(IMAGES[chosen], 32)))
    mean, variance = backbone.get_layer("stem_bn").get_weights()[2:]
    np.testing.assert_allclose(mean, values.mean(axis=(0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(variance, values.var(axis=(0, 1, 2)), rtol=1e-2)


def test_every_batch_counts_alike(saved, monkeypatch):
    monkeypatch.setattr("fer_tf.training.averaging._BATCH", 100)
    config = dataclasses.replace(CONFIG, average_with=(str(saved),))
    found = network(2)
    ours = network(0).get_weights()
    found.set_weights(average_weights(config, [ours, *read_others(config, ours)], IMAGES, 3, tf_pipeline))
    backbone = found.get_layer(BACKBONE)
    stem = keras.Model(backbone.input, backbone.get_layer("stem_conv").output)
    mean = backbone.get_layer("stem_bn").get_weights()[2]
    np.testing.assert_allclose(mean, np.asarray(stem(preprocess(IMAGES, 32))).mean(axis=(0, 1, 2)), atol=1e-4)


def test_other_networks_are_refused(saved, tmp_path):
    weights = build_model(3, image_size=32, width=0.5).get_weights()
    for name, reason in ((saved, "another network; expected one of the same width"), (tmp_path / "no", "no such file")):
        config = dataclasses.replace(CONFIG, width=0.5, average_with=(str(name),))
        with pytest.raises(InputError, match=f"average_with .*{name.name}: {reason}"):
            read_others(config, weights)
