"""Training on several devices of one machine: which ones, and Keras's data parallelism over them (JAX only)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import keras

from fer_tf.errors import InputError

ALL = "all"


def find_devices(devices: int | str, batch_size: int) -> list[str]:
    """Return the devices to train on.

    Args:
        devices: their number, or `all`.
        batch_size: images of a step, which the devices share equally.

    Returns:
        Their names in Keras, such as `gpu:0`.

    Raises:
        InputError: if there are fewer devices, Keras's backend cannot share a step, or the batch does not divide by
            their number.
    """
    is_number = isinstance(devices, int) and not isinstance(devices, bool)
    if devices != ALL and not (is_number and int(devices) >= 1):
        raise InputError(f"devices {devices!r}: expected a number from 1, or {ALL}")
    found = keras.distribution.list_devices()
    if devices == 1:
        return found[:1]
    backend = keras.backend.backend()
    if backend != "jax":
        raise InputError(
            f"devices {devices}: Keras on {backend} trains on one device here; set KERAS_BACKEND=jax, or leave it out"
        )
    number = len(found) if devices == ALL else int(devices)
    if number > len(found):
        raise InputError(
            f"devices {number}: JAX finds {len(found)} ({', '.join(found)}); ask for {len(found)} or fewer"
        )
    if batch_size % number:
        lower = batch_size // number * number
        near = " or ".join(str(size) for size in (lower, lower + number) if size)
        raise InputError(f"batch_size {batch_size} does not divide by {number} devices: use {near}")
    return found[:number]


def across(devices: Sequence[str]) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which models are built and trained on these devices; each step's batch is shared equally."""
    return _DataParallel(devices=list(devices)).scope() if len(devices) > 1 else contextlib.nullcontext()


class _DataParallel(keras.distribution.DataParallel):
    """Keras's data parallelism with whole batches as inputs, which `data.jax_pipeline` shares out inside the step.

    Keras's own shares each batch by the layout of the first one, and an epoch's last batch may have a number of images
    that does not divide. To fill it up would change BatchNorm's statistics and the loss.
    """

    def get_data_layout(self, data_shape: Sequence[int]) -> Any:
        return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)
