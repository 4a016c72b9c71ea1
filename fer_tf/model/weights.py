"""The backbone's starting weights, and the loader of our .keras files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from fer_tf.errors import InputError
from fer_tf.model.lite0 import SWISH_SCALE, load_lite0, read_lite0
from fer_tf.model.narrowing import narrowed_weights

BACKBONE = "efficientnetb0"
_IMAGENET_URL = "https://storage.googleapis.com/keras-applications/efficientnetb0_notop.h5"
_IMAGENET_MD5 = "50bc09e76180e00e4465e1a485ddc09d"
# keras.applications also divides normalised ImageNet input by the square root of these (tensorflow issue 49930).
_IMAGENET_STDDEV = np.array([0.229, 0.224, 0.225])


def load_backbone_weights(backbone: keras.Model, weights: str) -> None:
    """Load the starting weights of a backbone.

    Args:
        backbone: from `build_backbone`.
        weights: `none` (as initialised), `imagenet` (downloaded by Keras, or from its cache), `imagenet-lite0`
            (EfficientNet-Lite0's, from a pip package), the path of a .h5 file of ImageNet no-top weights, or the path
            of a .keras of fer_tf, whose classes and image size may differ; of a wider one, the most important channels
            (`narrowing.narrowed_weights`).

    Raises:
        InputError: if the weights cannot be loaded or belong to another network.
    """
    if weights == "none":
        return
    if weights == "imagenet":
        _load_imagenet(backbone, _download_imagenet())
    elif weights == "imagenet-lite0":
        load_lite0(backbone, read_lite0(), scale=SWISH_SCALE)
    elif weights.endswith((".h5", ".hdf5")):
        _load_imagenet(backbone, _existing(weights))
    elif weights.endswith(".keras"):
        _copy_weights(load_classifier(_existing(weights)).get_layer(BACKBONE), backbone, weights)
    else:
        raise InputError(
            f"weights {weights!r}: expected imagenet, imagenet-lite0, fer2013, none, a .h5 of ImageNet no-top weights "
            "or a .keras of fer_tf"
        )


def _existing(path: str) -> str:
    if not Path(path).is_file():
        raise InputError(f"no weights file at {path}: expected a .h5 of ImageNet no-top weights or a .keras of fer_tf")
    return path


def _download_imagenet() -> str:
    try:
        return keras.utils.get_file(
            os.path.basename(_IMAGENET_URL), _IMAGENET_URL, cache_subdir="models", file_hash=_IMAGENET_MD5
        )
    except Exception as error:  # Keras raises a bare Exception for every failed download
        raise InputError(
            "ImageNet weights cannot be downloaded and are not in Keras's cache: use the weights of "
            "EfficientNet-Lite0 with --weights imagenet-lite0 (a pip package), give a file with --weights FILE.h5, or "
            "train from scratch with --recipe scratch"
        ) from error


def _load_imagenet(backbone: keras.Model, path: str) -> None:
    before = [np.asarray(value) for value in backbone.get_weights()]
    try:
        backbone.load_weights(path)
    except Exception as error:  # h5py and Keras raise a dozen error types for a file of another network
        backbone.set_weights(before)
        raise InputError(
            f"{path} does not hold EfficientNet-B0's no-top weights ({str(error).splitlines()[0][:120]}): "
            "give Keras's efficientnetb0_notop.h5"
        ) from error
    # keras.applications adds a Rescaling layer by 1/sqrt(stddev) for these weights. Multiplying the variance by stddev
    # gives the same values without the layer, so all our backbones have the same layers.
    normalization = next(layer for layer in backbone.layers if isinstance(layer, keras.layers.Normalization))
    mean, variance, *rest = normalization.get_weights()
    normalization.set_weights([mean, variance * _IMAGENET_STDDEV, *rest])
    _finalize(normalization)


def _copy_weights(source: keras.Model, target: keras.Model, name: str) -> None:
    weights = narrowed_weights(source, target)
    if weights is None:
        raise InputError(
            f"{name} holds another network's weights: expected a model that fer_tf trained, of the same width or wider"
        )
    set_weights(target, weights)


def set_weights(model: keras.Model, weights: Sequence[np.ndarray]) -> None:
    """Set all weights of a classifier or a backbone, in Keras's order.

    After Keras's `set_weights` alone, the Normalization layer still computes with its first mean and variance.
    """
    model.set_weights(weights)
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            for inner in layer.layers:
                _finalize(inner)
        _finalize(layer)


def _finalize(layer: keras.layers.Layer) -> None:
    if isinstance(layer, keras.layers.Normalization):
        layer.finalize_state()


def load_keras(path: str | Path) -> keras.Model:
    """Open a .keras file without running any code that it may carry.

    Raises:
        InputError: if the file is not a Keras model.
    """
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a crafted or cut file can raise anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise InputError(
            f"{path} cannot be opened as a Keras model ({reason}): give a .keras that fer_tf wrote"
        ) from error


def load_classifier(path: str | Path) -> keras.Model:
    """Open a .keras file that holds our network.

    Raises:
        InputError: if the file is not a Keras model or holds another network.
    """
    model = load_keras(path)
    names = {layer.name for layer in getattr(model, "layers", ())}
    if not {BACKBONE, "pooling", "logits", "probabilities"} <= names:
        raise InputError(f"{path} holds another network: expected a .keras that fer_tf trained")
    return model
