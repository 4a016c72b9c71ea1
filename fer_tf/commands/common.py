"""What several commands share: finding a run's data again, and what is written about a model."""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from fer_tf.artifacts import RunDirectory, read_json
from fer_tf.config import Config
from fer_tf.data.dataset import SPLITS, Dataset
from fer_tf.errors import InputError
from fer_tf.machine import keep_freed_memory

logger = logging.getLogger(__name__)

MODEL_LICENSE = (
    "Weights trained on the data named here; FER-2013 is for research use only, and so are weights trained on it. "
    "The code is Apache-2.0."
)


def parse_classes(text: str) -> list[str]:
    """`happy,sad` as a list of names."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r}: expected names with commas between them, as happy,sad,neutral")
    return names


def load_data(path: str | None, config: Config, *, classes: list[str] | None = None, limit: int = 0) -> Dataset:
    """The data at a path, or the embedded synthetic faces.

    Args:
        path: file or folder; None for the embedded faces.
        config: its seed and validation_fraction are read.
        classes: the ones to keep, in their new order; None for all.
        limit: most images of each split, drawn stratified with the seed; 0 for all.

    Raises:
        InputError: for data that cannot be read, or a negative limit.
    """
    if limit < 0:
        raise InputError(f"--limit {limit}: expected a number of images, or 0 for all")
    if path is None:
        from fer_tf.data.synthetic import make_synthetic

        dataset = make_synthetic()
        if classes:
            dataset = dataset.select(classes)
    else:
        from fer_tf.data.fer2013 import load_dataset

        dataset = load_dataset(path, classes=classes, seed=config.seed, validation_fraction=config.validation_fraction)
    return dataset.rows(_limited(dataset, limit, config.seed)) if limit else dataset


def _limited(dataset: Dataset, limit: int, seed: int) -> np.ndarray:
    """Row numbers of at most `limit` images of each split, the classes in their proportions, at least one of each."""
    rng = np.random.default_rng(seed)
    kept = []
    for split in SPLITS:
        rows = np.flatnonzero(dataset.split == split)
        share = min(1.0, limit / max(len(rows), 1))
        for label in range(dataset.num_classes):
            of_class = rows[dataset.labels[rows] == label]
            count = min(len(of_class), max(1, round(share * len(of_class))))
            kept.append(rng.permutation(of_class)[:count])
    return np.sort(np.concatenate(kept))


def describe_data(dataset: Dataset, path: str | None, classes: list[str] | None, limit: int) -> dict[str, Any]:
    """What a run's data.json keeps, so that the same rows can be found again."""
    return {
        "path": None if path is None else str(Path(path).resolve()),
        "classes": classes,
        "limit": limit,
        **public_description(dataset),
    }


def public_description(dataset: Dataset) -> dict[str, Any]:
    """What may travel inside a model: no path, no picture."""
    return {
        "source": dataset.source,
        "sha256": dataset.sha256,
        "synthetic": dataset.synthetic,
        "class_names": list(dataset.class_names),
        "counts": {split: [int(count) for count in dataset.counts(split)] for split in SPLITS if dataset.has(split)},
    }


def run_data(run: RunDirectory, config: Config, path: str | None = None, *, same: bool = False) -> Dataset:
    """The data that a run was trained on, or other data with the same classes.

    Args:
        run: whose data.json is read.
        config: the run's.
        path: data to use in place of the run's own, or where that is now.
        same: whether data at `path` must be the run's own.

    Raises:
        InputError: if the run's data has moved or changed, or the other data has other classes.
    """
    description = read_json(run.data)
    own = path is None
    source = description.get("path") if own else path
    if own and source is not None and not Path(source).exists():
        raise InputError(f"the data of {run.path} is no longer at {source}: say where it is by --data")
    dataset = load_data(source, config, classes=description.get("classes"), limit=int(description.get("limit") or 0))
    if list(dataset.class_names) != description.get("class_names"):
        raise InputError(
            f"{dataset.source} has the classes {', '.join(dataset.class_names)}, the run "
            f"{', '.join(description.get('class_names', []))}: give data with the same classes"
        )
    if (own or same) and dataset.sha256 != description.get("sha256"):
        raise InputError(f"{source} is not (or no longer) the data that {run.path} was trained on: restore it")
    return dataset


def run_config(run: RunDirectory) -> Config:
    """The settings that a run was started with."""
    from fer_tf.config import config_from_dict

    values = read_json(run.config)
    values.pop("recipe", None)
    return config_from_dict(values)


def start_keras() -> None:
    """Imports Keras and its backend, with TensorFlow's start-up notices kept off stderr.

    They come from native code before any setting of its log level is read, so the file descriptor itself is pointed
    elsewhere meanwhile.

    Raises:
        InputError: if KERAS_BACKEND names none that Keras has.
    """
    keep_freed_memory()
    with open(os.devnull, "w") as nowhere:
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            import keras

            if keras.backend.backend() == "tensorflow":
                import tensorflow as tf

                tf.config.list_physical_devices()  # the search for a GPU has its own notices
                tf.get_logger().setLevel("ERROR")  # retracing: each model of a run is traced once, on purpose
        except ValueError as error:
            raise InputError(f"KERAS_BACKEND={os.environ.get('KERAS_BACKEND')}: expected tensorflow or jax") from error
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def commit() -> str | None:
    """The commit of the clone that this package runs from; None where it was installed."""
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
