"""Augmentation: the plan of each epoch (order, transformations, targets, weights) and the function that applies it.

NumPy draws all random numbers here, from (seed, phase, epoch) alone. A resumed run and the same run on another backend
therefore see the same pictures.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from fer_tf.config import Config
from fer_tf.task import IMAGE_SIZE

# Columns of the parameter array.
_AFFINE = slice(0, 6)  # input position (x', y') of output (x, y): x' = a0 x + a1 y + a2, y' = b0 x + b1 y + b2
_GAIN, _OFFSET = 6, 7  # contrast about mid-grey, then brightness
_ERASE = slice(8, 12)  # top, left, bottom, right of the erased rectangle, pixels; empty: none
_ERASE_VALUE = 12
_PARTNER, _MIX = 13, 14  # row of the batch to mix in, and the image's own share
_CUT = slice(15, 19)  # rectangle to copy from the partner, pixels; empty: none
_BLUR = 19  # standard deviation of the Gaussian blur, pixels; 0: none
_NOISE, _NOISE_START = 20, 21  # standard deviation of the noise, grey levels; its start in _noise_pool
NUM_PARAMETERS = 22

_MID_GREY = 127.5
_ERASE_AREA = (0.02, 0.33)  # shares of the image and the aspect ratios of Zhong et al., Random Erasing (2020)
_ERASE_ASPECT = (0.3, 1 / 0.3)
# Separate noise for each pixel would take 264 MB for FER-2013. Each image takes its 2,304 values from a random place in
# a pool instead; float32 represents every place exactly.
_NUM_NOISE_VALUES = 1 << 18

Batch = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class EpochPlan:
    """One epoch over n training images.

    Attributes:
        order: int64 (n,), every row of the training images once. The other arrays follow this order.
        parameters: float32 (n, NUM_PARAMETERS), the transformation of each image.
        targets: float32 (n, classes), each summing to 1.
        weights: float32 (n,), each image's weight in the loss.
    """

    order: np.ndarray
    parameters: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield the epoch's batches in order; the last one may be smaller."""
        for start in range(0, len(self.order), batch_size):
            part = slice(start, start + batch_size)
            yield self.order[part], self.parameters[part], self.targets[part], self.weights[part]


def identity_parameters(num_images: int) -> np.ndarray:
    """Parameters that leave images unchanged: float32 (num_images, NUM_PARAMETERS)."""
    parameters = np.zeros((num_images, NUM_PARAMETERS), np.float32)
    parameters[:, 0] = parameters[:, 4] = parameters[:, _GAIN] = parameters[:, _MIX] = 1
    return parameters


def plan_epoch(config: Config, targets: np.ndarray, weights: np.ndarray, *, phase: int, epoch: int) -> EpochPlan:
    """Draw one epoch: the order, the augmentation and, for mixed images, the mixed targets and weights.

    Args:
        config: only its augmentation fields, batch_size and seed are used.
        targets: float32 (n, classes), each row summing to 1.
        weights: float32 (n,), weight of each image in the loss.
        phase: 1 or 2.
        epoch: number of the epoch within its phase, from 0.

    Returns:
        The plan; equal arguments give equal plans.
    """
    rng = np.random.default_rng((config.seed, phase, epoch))
    order = rng.permutation(len(targets))
    targets, weights = targets[order], weights[order]
    parameters = identity_parameters(len(order))
    parameters[:, _AFFINE] = _draw_affine(config, len(order), rng)
    parameters[:, _GAIN] = rng.uniform(1 - config.contrast, 1 + config.contrast, len(order))
    parameters[:, _OFFSET] = rng.uniform(-config.contrast, config.contrast, len(order)) * _MID_GREY
    erased = np.flatnonzero(rng.random(len(order)) < config.erasing)
    parameters[erased, _ERASE] = _draw_rectangles(rng, len(erased), _ERASE_AREA, _ERASE_ASPECT)
    parameters[:, _ERASE_VALUE] = rng.uniform(0, 255, len(order))
    if config.mixup or config.cutmix:
        targets, weights = _draw_mixing(config, parameters, targets, weights, rng)
    # Draw these last, so that the draws above stay the same as in fer_tf 0.1.
    parameters[:, _BLUR] = rng.uniform(0, config.blur, len(order))
    parameters[:, _NOISE] = rng.uniform(0, config.noise, len(order))
    parameters[:, _NOISE_START] = rng.integers(0, _NUM_NOISE_VALUES - IMAGE_SIZE**2, len(order))
    return EpochPlan(order, parameters, targets, weights)


def plan_view(config: Config, targets: np.ndarray, weights: np.ndarray, view: int) -> EpochPlan:
    """Draw one of the views that teachers score (`config.teacher_views`): the plan of an epoch.

    Args:
        config, targets, weights: as for `plan_epoch`.
        view: number of the view, from 0.

    Returns:
        The plan; equal arguments give equal plans.
    """
    return plan_epoch(config, targets, weights, phase=2, epoch=view)


def view_images(config: Config, images: np.ndarray, view: int) -> np.ndarray:
    """Draw the images of one view, as the network sees them before they are resized.

    Args:
        config: as for `plan_epoch`.
        images: uint8 (n, 48, 48), grey values in [0, 255].
        view: number of the view, from 0.

    Returns:
        uint8 (n, 48, 48) in the order of `plan_view`.
    """
    plan = plan_view(config, np.ones((len(images), 1), np.float32), np.ones(len(images), np.float32), view)
    parts = [augment(images[rows], parameters) for rows, parameters, _, _ in plan.batches(config.batch_size)]
    return np.concatenate([keras.ops.convert_to_numpy(part) for part in parts]).round().astype(np.uint8)


def _draw_affine(config: Config, num_images: int, rng: np.random.Generator) -> np.ndarray:
    """Draw flip, rotation, zoom and shift about the centre: (num_images, 6), from output to input coordinates."""
    angle = np.deg2rad(rng.uniform(-config.rotation, config.rotation, num_images))
    scale = 1 / rng.uniform(1 - config.zoom, 1 + config.zoom, num_images)
    mirror = np.where(config.flip & (rng.random(num_images) < 0.5), -1.0, 1.0)
    shift = rng.uniform(-config.shift, config.shift, (num_images, 2)) * IMAGE_SIZE
    shift += rng.integers(-config.crop, config.crop, (num_images, 2), endpoint=True)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    matrix = np.stack([mirror * cos, -mirror * sin, sin, cos], axis=1).reshape(-1, 2, 2)
    centre = (IMAGE_SIZE - 1) / 2
    offset = centre + shift - matrix.sum(axis=2) * centre
    return np.concatenate([matrix, offset[:, :, None]], axis=2).reshape(-1, 6)


def _draw_rectangles(
    rng: np.random.Generator, count: int, area_range: tuple[float, float], aspect_range: tuple[float, float]
) -> np.ndarray:
    """Draw rectangles inside the image, (count, 4): top, left, bottom, right, whole pixels."""
    area = rng.uniform(*area_range, count) * IMAGE_SIZE**2
    aspect = np.exp(rng.uniform(math.log(aspect_range[0]), math.log(aspect_range[1]), count))
    size = np.stack([np.sqrt(area * aspect), np.sqrt(area / aspect)], axis=1).round().clip(1, IMAGE_SIZE)
    corner = np.floor(rng.random((count, 2)) * (IMAGE_SIZE - size + 1))
    return np.concatenate([corner, corner + size], axis=1)


def _draw_mixing(
    config: Config, parameters: np.ndarray, targets: np.ndarray, weights: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw each image's partner and share (mixup, Zhang 2018; cutmix, Yun 2019); return the mixed targets and weights.

    The weighted loss of a mixed image is share x w_i x CE(t_i) + (1 - share) x w_j x CE(t_j). The returned target and
    weight give this same loss.
    """
    num_images = len(parameters)
    row = np.arange(num_images)
    start = row - row % config.batch_size
    length = np.minimum(start + config.batch_size, num_images) - start
    partner = start + (row - start + 1) % length  # the next image of the batch; the order is random already
    batch = row // config.batch_size
    num_batches = int(batch[-1]) + 1
    cut = rng.random(num_batches) < 0.5 if config.mixup and config.cutmix else np.full(num_batches, bool(config.cutmix))
    cut = cut[batch]
    share = np.where(
        cut,
        rng.beta(config.cutmix or 1, config.cutmix or 1, num_images),
        rng.beta(config.mixup or 1, config.mixup or 1, num_images),
    )
    side = np.sqrt(1 - share) * IMAGE_SIZE
    centre = rng.uniform(0, IMAGE_SIZE, (num_images, 2))
    box = np.concatenate([centre - side[:, None] / 2, centre + side[:, None] / 2], axis=1)
    box = np.where(cut[:, None], box.round().clip(0, IMAGE_SIZE), 0)
    cut_area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) / IMAGE_SIZE**2
    share = np.where(cut, 1 - cut_area, share).astype(np.float32)
    parameters[:, _PARTNER] = partner - start
    parameters[:, _MIX] = np.where(cut, 1, share)
    parameters[:, _CUT] = box
    own, other = share * weights, (1 - share) * weights[partner]
    mixed_weights = own + other
    mixed_targets = own[:, None] * targets + other[:, None] * targets[partner]
    return mixed_targets / np.maximum(mixed_weights, 1e-12)[:, None], mixed_weights


def plan_batches(
    plan: Callable[[int], EpochPlan], first_epoch: int, last_epoch: int, batch_size: int
) -> Iterator[Batch]:
    """Yield the batches of the epochs [first_epoch, last_epoch), one after the other."""
    for epoch in range(first_epoch, last_epoch):
        yield from plan(epoch).batches(batch_size)


def augment(images: Any, parameters: Any) -> Any:
    """Apply one epoch's transformations to a batch.

    Args:
        images: uint8 or float (batch, 48, 48), grey values in [0, 255].
        parameters: float32 (batch, NUM_PARAMETERS), from `plan_epoch`.

    Returns:
        float32 (batch, 48, 48), values in [0, 255].
    """
    ops = keras.ops
    x = ops.expand_dims(ops.cast(images, "float32"), -1)  # (batch, 48, 48, 1)
    transform = ops.concatenate([parameters[:, _AFFINE], ops.zeros_like(parameters[:, :2])], axis=1)
    x = ops.image.affine_transform(
        x, transform, interpolation="bilinear", fill_mode="nearest", data_format="channels_last"
    )
    x = x[..., 0]
    # Most recipes neither mix nor erase: the condition saves them 2 % of a step at 48 px.
    x = ops.cond(ops.any(parameters[:, _BLUR] > 0), lambda: _blurred(x, parameters), lambda: x)
    gain, offset = parameters[:, _GAIN, None, None], parameters[:, _OFFSET, None, None]
    x = ops.clip((x - _MID_GREY) * gain + _MID_GREY + offset, 0, 255)
    x = ops.cond(ops.any(parameters[:, _NOISE] > 0), lambda: _with_noise(x, parameters), lambda: x)
    x = ops.where(_inside(parameters[:, _ERASE]), parameters[:, _ERASE_VALUE, None, None], x)
    other = ops.take(x, ops.cast(parameters[:, _PARTNER], "int32"), axis=0)
    share = parameters[:, _MIX, None, None]
    x = share * x + (1 - share) * other
    return ops.where(_inside(parameters[:, _CUT]), other, x)


def _blurred(images: Any, parameters: Any) -> Any:
    """Blur each image, (batch, 48, 48), with its own Gaussian."""
    ops = keras.ops
    deviation = parameters[:, _BLUR, None, None]
    pixel = ops.arange(IMAGE_SIZE, dtype="float32")
    share = ops.exp(-0.5 * ops.square((pixel[:, None] - pixel) / ops.maximum(deviation, 0.01)))
    share = share / ops.sum(share, axis=2, keepdims=True)  # (batch, 48, 48): weights of a pixel's neighbours
    return ops.matmul(ops.matmul(share, images), ops.transpose(share, (0, 2, 1)))


def _with_noise(images: Any, parameters: Any) -> Any:
    """Add noise to each image, (batch, 48, 48), from its place in the pool."""
    ops = keras.ops
    place = ops.cast(parameters[:, _NOISE_START, None], "int32") + ops.arange(IMAGE_SIZE**2, dtype="int32")
    noise = ops.reshape(ops.take(_noise_pool(), place), (-1, IMAGE_SIZE, IMAGE_SIZE))
    return ops.clip(images + parameters[:, _NOISE, None, None] * noise, 0, 255)


@functools.cache
def _noise_pool() -> np.ndarray:
    """Standard normal values, the same in each run: float32 (_NUM_NOISE_VALUES,)."""
    return np.random.default_rng(0).standard_normal(_NUM_NOISE_VALUES, np.float32)


def _inside(boxes: Any) -> Any:
    """Mask of the pixels inside each image's rectangle: bool (batch, 48, 48)."""
    pixel = keras.ops.arange(IMAGE_SIZE, dtype="float32")
    top, left, bottom, right = (boxes[:, column, None] for column in range(4))
    rows, columns = (pixel >= top) & (pixel < bottom), (pixel >= left) & (pixel < right)
    return rows[:, :, None] & columns[:, None, :]
