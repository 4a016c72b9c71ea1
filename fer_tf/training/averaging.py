"""The mean of the weights of several networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from fer_tf.artifacts import RunDirectory
from fer_tf.config import Config
from fer_tf.errors import InputError
from fer_tf.model.weights import BACKBONE, load_classifier, set_weights
from fer_tf.training.trainer import InputPipeline, build_for

_NUM_IMAGES = 8192  # of the training images, to estimate BatchNorm's statistics
_BATCH = 64


def read_others(config: Config, weights: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """Read the weights of the models that `config.average_with` names.

    Args:
        config: the run's settings.
        weights: of the run's network, whose shapes the others must have.

    Returns:
        The weights of each model, in Keras's order.

    Raises:
        InputError: if a model cannot be opened or is another network.
    """
    others = []
    for name in config.average_with:
        path = RunDirectory(name).model if Path(name).is_dir() else Path(name)
        if not path.is_file():
            raise InputError(f"average_with {name}: no such file; give a run directory or a .keras that fer_tf wrote")
        theirs = load_classifier(path).get_weights()
        if [array.shape for array in theirs] != [array.shape for array in weights]:
            raise InputError(f"average_with {name}: another network; expected one of the same width and classes")
        others.append(theirs)
    return others


def average_weights(
    config: Config,
    weights: Sequence[Sequence[np.ndarray]],
    images: np.ndarray,
    num_classes: int,
    pipeline: InputPipeline,
) -> list[np.ndarray]:
    """Average the weights of several models.

    The mean of two networks is a good network if one of them was trained on from the other. BatchNorm's statistics
    are those of neither, so they are estimated again, on training images without augmentation.

    Args:
        config: the settings of the network.
        weights: of each model, in Keras's order.
        images: uint8 (n, 48, 48), the training images.
        num_classes: at least 2.
        pipeline: the module `data.tf_pipeline` or `data.jax_pipeline`.

    Returns:
        float32 arrays in the same order.

    Source: Wortsman et al., Model soups (2022); Izmailov et al., Averaging weights leads to wider optima (2018).
    """
    # Without stochastic depth, whose dropped blocks would change the statistics.
    network = build_for(dataclasses.replace(config, stochastic_depth=0.0), config.image_size, num_classes, "float32")
    set_weights(network, [np.mean(arrays, axis=0).astype(arrays[0].dtype) for arrays in zip(*weights, strict=True)])
    _estimate_statistics(network, config, images, num_classes, pipeline)
    return [np.asarray(array) for array in network.get_weights()]


def _estimate_statistics(
    network: keras.Model, config: Config, images: np.ndarray, num_classes: int, pipeline: InputPipeline
) -> None:
    """Set BatchNorm's mean and variance to their means over batches of training images."""
    chosen = np.random.default_rng(config.seed).permutation(len(images))[:_NUM_IMAGES]
    whole = len(chosen) - len(chosen) % _BATCH or len(chosen)  # a small last batch would count as much as the others
    nothing = np.zeros((whole, num_classes), np.float32)
    size = config.image_size
    batches = pipeline.make_eval_dataset(images[chosen[:whole]], nothing, batch_size=_BATCH, image_size=size)
    trainer = pipeline.fit_model(network, size)
    layers = network.get_layer(BACKBONE).layers
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    for count, (inputs, _) in enumerate(batches):
        for layer in norms:
            layer.momentum = count / (count + 1)
        trainer(inputs, training=True)
