"""The interface of an opened model: class names, metadata, and probabilities of grey crops."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fer_tf.errors import InputError
from fer_tf.task import IMAGE_SIZE

_MAX_DEFAULT_THREADS = 8  # each interpreter has its own packed copy of the weights, 16 MB for a float B0


class Predictor(Protocol):
    """A model opened by `open_model`, or made in memory."""

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def metadata(self) -> dict[str, Any]: ...

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return probabilities, float32 (n, classes), of grey crops, uint8 (n, 48, 48)."""
        ...


def default_num_threads() -> int:
    """Return the default number of threads: the cores that this process may use, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MAX_DEFAULT_THREADS)


def rank(probabilities: np.ndarray, class_names: Sequence[str]) -> list[tuple[str, float]]:
    """Return class names with their scores, the most likely first.

    Args:
        probabilities: float (classes,).
        class_names: one name for each class.

    Returns:
        (name, score) pairs; classes with equal scores keep their order.
    """
    order = np.argsort(-probabilities, kind="stable")
    return [(class_names[index], float(probabilities[index])) for index in order]


def read_model(path: Path, kind: str, most_bytes: int) -> bytes:
    """Read a model file.

    Args:
        path: the file.
        kind: name to use in messages, such as `a .tflite`.
        most_bytes: size that no such file exceeds.

    Raises:
        InputError: if the file is missing, cannot be read, or is larger.
    """
    try:
        size_bytes = path.stat().st_size
        if size_bytes > most_bytes:
            raise InputError(f"{path} has {size_bytes:,} bytes: {kind} has at most {most_bytes:,}")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"no model file at {path}: give the path of {kind} that fer_tf wrote") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def checked_images(images: np.ndarray) -> np.ndarray:
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
        received = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise InputError(f"images are {received}: expected a uint8 array of shape (n, {IMAGE_SIZE}, {IMAGE_SIZE})")
    return images
