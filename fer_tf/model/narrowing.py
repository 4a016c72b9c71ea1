"""Starting weights for a narrower network: the channels of a trained one that count most."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

import keras
import numpy as np

_Weights = dict[str, list[np.ndarray]]  # of each layer


def narrowed_weights(source: keras.Model, target: keras.Model) -> list[np.ndarray] | None:
    """Choose a wide backbone's most important channels, as many as a narrower backbone has.

    A channel's importance is the scale of its BatchNorm times the norm of the weights that read it; channels that
    residual connections add up are chosen together, by the sum over their blocks. The result is a start for training,
    not a finished network: other channels compensated for the missing ones.

    Args:
        source: from `build_backbone`, trained.
        target: from `build_backbone`, of the same width or narrower.

    Returns:
        The target's weights in Keras's order, equal to the source's at the same width; None if the target is wider or
        another network.

    Source: after Li et al., Pruning filters for efficient ConvNets (2017), and Liu et al., Network slimming (2017).
    """
    theirs, ours = _weights_of(source), _weights_of(target)
    if theirs.keys() != ours.keys() or not all(_fit(ours[layer], theirs[layer]) for layer in ours):
        return None
    kept = _kept_channels(theirs, {layer: arrays[0].shape for layer, arrays in ours.items()})
    for layer, (inputs, outputs) in kept.items():
        theirs[layer] = [_cut(array, inputs, outputs) for array in theirs[layer]]
    return [array for layer in _weighted(target) for array in theirs[_name(layer)]]


def _weights_of(backbone: keras.Model) -> _Weights:
    return {_name(layer): [np.asarray(array) for array in layer.get_weights()] for layer in _weighted(backbone)}


def _weighted(backbone: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in backbone.layers if layer.weights]


def _name(layer: keras.layers.Layer) -> str:
    return re.sub(r"_\d+$", "", layer.name)  # Keras counts layers without a name of their own: normalization_1


def _fit(small: Sequence[np.ndarray], large: Sequence[np.ndarray]) -> bool:
    return [array.ndim for array in small] == [array.ndim for array in large] and all(
        np.all(np.less_equal(ours.shape, theirs.shape)) for ours, theirs in zip(small, large, strict=True)
    )


def _kept_channels(
    weights: _Weights, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[np.ndarray | None, np.ndarray]]:
    """Return the kept input and output channels of each layer, rising; no inputs for BatchNorm and depthwise kernels.

    Args:
        weights: the wide backbone's.
        shapes: of the first array of each layer of the narrower backbone: a kernel, or BatchNorm's scale.
    """
    blocks = [found[1] for name in weights if (found := re.fullmatch(r"(block\d[a-z])_dwconv", name))]
    stages = {stage: list(members) for stage, members in itertools.groupby(blocks, key=lambda block: block[:-1])}
    readers = dict(itertools.pairwise([*(f"{block}_expand_conv" for block in blocks), "top_conv"]))

    def scale(layer: str) -> np.ndarray:
        return np.abs(weights[layer][0])

    def read(layer: str, axis: int = 2) -> np.ndarray:
        return np.sqrt(np.sum(np.square(weights[layer][0]), axis=tuple({0, 1, 2, 3} - {axis})))

    def choose(importance: np.ndarray, layer: str) -> np.ndarray:
        return np.sort(np.argsort(-importance, kind="stable")[: shapes[layer][-1]])

    def joint(values: list[np.ndarray]) -> np.ndarray:
        return np.sqrt(np.sum(np.square(values), axis=0))

    kept: dict[str, tuple[np.ndarray | None, np.ndarray]] = {}
    added = {}  # of each stage: channels of the sum of its blocks' outputs
    for stage, members in stages.items():
        written = joint([scale(f"{block}_project_bn") for block in members])
        reading = joint([read(readers[f"{block}_expand_conv"]) for block in members])
        added[stage] = choose(written * reading, f"{members[-1]}_project_bn")
    before = None
    for block in blocks:
        inner = choose(scale(f"{block}_bn") * read(f"{block}_project_conv"), f"{block}_bn")
        squeezed = choose(read(f"{block}_se_reduce", axis=3) * read(f"{block}_se_expand"), f"{block}_se_reduce")
        first = "stem" if before is None else f"{block}_expand"  # the first block reads the stem's output as it is
        kept[f"{first}_conv"], kept[f"{first}_bn"] = (before, inner), (None, inner)
        kept[f"{block}_dwconv"] = kept[f"{block}_bn"] = (None, inner)
        kept[f"{block}_se_reduce"], kept[f"{block}_se_expand"] = (inner, squeezed), (squeezed, inner)
        before = added[block[:-1]]
        kept[f"{block}_project_conv"], kept[f"{block}_project_bn"] = (inner, before), (None, before)
    top = choose(scale("top_bn"), "top_bn")
    kept["top_conv"], kept["top_bn"] = (before, top), (None, top)
    return kept


def _cut(array: np.ndarray, inputs: np.ndarray | None, outputs: np.ndarray) -> np.ndarray:
    """Keep channels of a kernel, of a bias or of one of BatchNorm's arrays."""
    if array.ndim == 1:
        return array[outputs]
    if array.shape[3] == 1:  # depthwise
        return array[:, :, outputs]
    return array[:, :, :, outputs] if inputs is None else array[:, :, inputs][:, :, :, outputs]
