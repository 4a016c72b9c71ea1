"""The data that a run was trained on: how it is described, and how it is found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fer_tf.artifacts import RunDirectory, read_json
from fer_tf.config import Config
from fer_tf.data.dataset import Dataset
from fer_tf.data.loading import load_data
from fer_tf.errors import InputError
from fer_tf.task import SPLITS


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
