"""What every opened model offers: names, metadata, and probabilities of grey crops."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from fer_tf.errors import InputError
from fer_tf.task import IMAGE_SIZE

_MAX_DEFAULT_THREADS = 8  # each thread's interpreter keeps its own packed copy of the weights, 16 MB for a float B0


class Predictor(Protocol):
    """What `open_model` returns for either kind of file."""

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def metadata(self) -> dict[str, Any]: ...

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Probabilities, float32 (n, classes), of grey crops, uint8 (n, 48, 48)."""
        ...


def default_num_threads() -> int:
    """Threads that a prediction uses when nobody says: the cores that this process may run on, within reason."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MAX_DEFAULT_THREADS)


def rank(probabilities: np.ndarray, class_names: Sequence[str]) -> list[tuple[str, float]]:
    """Class names with their scores, the most likely first.

    Args:
        probabilities: float (classes,).
        class_names: one name a class.

    Returns:
        (name, score) pairs; classes of equal score keep their order.
    """
    order = np.argsort(-probabilities, kind="stable")
    return [(class_names[index], float(probabilities[index])) for index in order]


def checked_images(images: np.ndarray) -> np.ndarray:
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
        received = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise InputError(f"images are {received}: expected a uint8 array of shape (n, {IMAGE_SIZE}, {IMAGE_SIZE})")
    return images
