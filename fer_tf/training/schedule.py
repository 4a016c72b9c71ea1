"""What happens when: numeric precision, image size of each epoch, segments, optimiser and learning rate."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import keras

from fer_tf.config import Config
from fer_tf.training.muon import Muon

logger = logging.getLogger(__name__)

_SIZE_STEP = 16  # progressive resizing goes in steps of this many pixels: each new size costs a compilation
_ADAM_SHARE = 0.5  # of the learning rate, for what muon leaves to AdamW: its own matrices bear a higher one


def on_gpu() -> bool:
    """Whether Keras's backend computes on an accelerator."""
    return any(not name.lower().startswith("cpu") for name in keras.distribution.list_devices())


def resolve_precision(precision: str) -> str:
    """`auto` made definite for this machine; says once when the choice will crawl."""
    if precision == "auto":
        return "mixed_float16" if on_gpu() else "float32"
    if precision == "mixed_float16" and not on_gpu():
        logger.warning(
            "precision mixed_float16 on a CPU: its convolutions have no half-precision kernels here and run about "
            "20 times slower; --precision float32 is the fast one"
        )
    if precision == "mixed_bfloat16" and not on_gpu():
        logger.warning("precision mixed_bfloat16 on a CPU: measured at 0.6 of float32's rate; float32 is the fast one")
    return precision


def image_size_at(config: Config, epoch: int) -> int:
    """Side of the network's input in an epoch of phase 2 (from 0), pixels."""
    if not config.initial_image_size or epoch >= config.resizing_epochs:
        return config.image_size
    rise = (config.image_size - config.initial_image_size) * epoch / config.resizing_epochs
    return config.initial_image_size + int(rise // _SIZE_STEP) * _SIZE_STEP


def segments(config: Config, frozen_epochs: int) -> Iterator[tuple[int, int, int]]:
    """(phase, image size, epoch of the phase at which it ends) of every call of fit."""
    if frozen_epochs:
        yield 1, config.image_size, frozen_epochs
    first = 0
    while first < config.epochs:
        size, last = image_size_at(config, first), first + 1
        while last < config.epochs and image_size_at(config, last) == size:
            last += 1
        yield 2, size, last
        first = last


def make_optimizer(config: Config, phase: int, steps: int) -> keras.optimizers.Optimizer:
    rate: Any = config.frozen_learning_rate if phase == 1 else config.learning_rate
    if phase == 2 and config.schedule == "cosine":
        total, warmup = config.epochs * steps, round(config.warmup_epochs * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else rate,
            max(total - warmup, 1),
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    shared = {"learning_rate": rate, "weight_decay": config.weight_decay, "global_clipnorm": config.clip_norm or None}
    optimizer: keras.optimizers.Optimizer
    if config.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(**shared)
    elif config.optimizer == "muon":
        optimizer = Muon(
            adam_weight_decay=config.weight_decay, adam_lr_ratio=_ADAM_SHARE, momentum=config.momentum, **shared
        )
    else:
        optimizer = keras.optimizers.SGD(momentum=config.momentum, nesterov=config.momentum > 0, **shared)
    # Decaying scales and offsets pulls BatchNorm towards a dead layer; only kernels are decayed.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
