"""Training on several devices of one machine: finds the devices and sets up Keras's data parallelism (JAX only)."""

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
        devices: number of devices, or `all`.
        batch_size: images of a step, which the devices share equally.

    Returns:
        The devices' names in Keras, such as `gpu:0`.

    Raises:
        InputError: if there are fewer devices, Keras's backend cannot share a step, or the batch size does not divide
            by the number of devices.
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
            f"devices {devices}: Keras on {backend} trains on one device only; set KERAS_BACKEND=jax, or drop --devices"
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
    """Return a context for building and training models on these devices, which share each batch equally."""
    return _DataParallel(devices=list(devices)).scope() if len(devices) > 1 else contextlib.nullcontext()


class _DataParallel(keras.distribution.DataParallel):
    """Keras's data parallelism with whole batches as inputs, which `data.jax_pipeline` splits inside the step.

    Keras's own class splits every batch like the first one, but an epoch's last batch may have a number of images that
    does not divide. Padding this batch would change BatchNorm's statistics and the loss.
    """

    def get_data_layout(self, data_shape: Sequence[int]) -> Any:
        return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)
