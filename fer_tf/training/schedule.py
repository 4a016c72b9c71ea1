"""The schedule of a run: segments, image size of each epoch, optimiser, learning rate, and precision."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras

from fer_tf.config import Config
from fer_tf.training.muon import Muon

logger = logging.getLogger(__name__)

_SIZE_STEP = 16  # pixels per step of progressive resizing; each new size needs a compilation
_ADAM_SHARE = 0.5  # share of the learning rate for the variables that muon leaves to AdamW


class Segment(NamedTuple):
    """Epochs of one phase at one image size, trained by one call of fit."""

    phase: int  # 1 or 2
    image_size: int  # pixels
    last_epoch: int  # number in the phase, from 1


def segments(config: Config, frozen_epochs: int) -> Iterator[Segment]:
    """Yield the segments of a run in order.

    Args:
        config: only the phases and progressive resizing are used.
        frozen_epochs: epochs of phase 1; 0 with random starting weights.
    """
    if frozen_epochs:
        yield Segment(1, config.image_size, frozen_epochs)
    first = 0
    while first < config.epochs:
        size, last = image_size_at(config, first), first + 1
        while last < config.epochs and image_size_at(config, last) == size:
            last += 1
        yield Segment(2, size, last)
        first = last


def image_size_at(config: Config, epoch: int) -> int:
    """Side of the network's input in an epoch of phase 2 (from 0), pixels."""
    if not config.initial_image_size or epoch >= config.resizing_epochs:
        return config.image_size
    rise = (config.image_size - config.initial_image_size) * epoch / config.resizing_epochs
    return config.initial_image_size + int(rise // _SIZE_STEP) * _SIZE_STEP


def make_learning_rate(config: Config, phase: int, steps: int) -> Any:
    """Learning rate of a phase: a constant, or a Keras schedule over the steps.

    Args:
        config: only the learning rates and `schedule` are used. `plateau` is constant here; a callback lowers it.
        phase: 1 or 2.
        steps: steps of one epoch.
    """
    if phase == 1:
        return config.frozen_learning_rate
    if config.schedule != "cosine":
        return config.learning_rate
    total, warmup = config.epochs * steps, round(config.warmup_epochs * steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else config.learning_rate,
        max(total - warmup, 1),
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def make_optimizer(config: Config, phase: int, steps: int) -> keras.optimizers.Optimizer:
    """Optimiser of a phase, not built yet.

    Args:
        config: only the optimisation fields are used.
        phase: 1 or 2.
        steps: steps of one epoch.
    """
    shared = {
        "learning_rate": make_learning_rate(config, phase, steps),
        "weight_decay": config.weight_decay,
        "global_clipnorm": config.clip_norm or None,
    }
    optimizer: keras.optimizers.Optimizer
    if config.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(**shared)
    elif config.optimizer == "muon":
        optimizer = Muon(
            adam_weight_decay=config.weight_decay, adam_lr_ratio=_ADAM_SHARE, momentum=config.momentum, **shared
        )
    else:
        optimizer = keras.optimizers.SGD(momentum=config.momentum, nesterov=config.momentum > 0, **shared)
    # Decay kernels only: decay of scales and offsets would drive BatchNorm's outputs towards zero.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def on_gpu() -> bool:
    """Return True if Keras's backend computes on an accelerator."""
    return any(not name.lower().startswith("cpu") for name in keras.distribution.list_devices())


def resolve_precision(precision: str) -> str:
    """Resolve `auto` for this machine, and warn if the chosen precision is slow here.

    Args:
        precision: the recipe's setting.

    Returns:
        The name of a Keras dtype policy.
    """
    if precision == "auto":
        return "mixed_float16" if on_gpu() else "float32"
    if precision == "mixed_float16" and not on_gpu():
        logger.warning(
            "precision mixed_float16 on a CPU: its convolutions have no half-precision kernels here and run about "
            "20 times slower; use --precision float32"
        )
    if precision == "mixed_bfloat16" and not on_gpu():
        logger.warning("precision mixed_bfloat16 on a CPU: measured at 0.6 of float32's rate; use --precision float32")
    return precision
