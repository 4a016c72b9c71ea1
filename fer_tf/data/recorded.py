"""The data that a run was trained on: its description in data.json, and how it is loaded again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fer_tf.artifacts import SCHEMA_VERSION, RunDirectory, check_schema_version, read_json
from fer_tf.config import Config, config_from_dict
from fer_tf.data.dataset import Dataset
from fer_tf.data.loading import load_dataset
from fer_tf.errors import InputError
from fer_tf.faces.policy import CropPolicy
from fer_tf.task import SPLITS


def describe_data(dataset: Dataset) -> dict[str, Any]:
    """Return the contents of data.json; rows made or chosen in memory have no `path`."""
    return {
        "schema_version": SCHEMA_VERSION,
        **(dataset.origin or {}),
        "crop": dataset.crop,
        "left_out": dataset.left_out,
        **public_description(dataset),
    }


def public_description(dataset: Dataset) -> dict[str, Any]:
    """Return the part of the description that may travel inside a model: no path, no picture."""
    return {
        "source": dataset.source,
        "sha256": dataset.sha256,
        "synthetic": dataset.synthetic,
        "class_names": list(dataset.class_names),
        **({"label_source": dataset.label_source} if dataset.label_source else {}),
        **{key: dataset.origin[key] for key in ("subjects", "cut") if dataset.origin and dataset.origin.get(key)},
        "counts": {split: [int(count) for count in dataset.counts(split)] for split in SPLITS if dataset.has(split)},
    }


def is_run_data(run: RunDirectory, dataset: Dataset) -> bool:
    """Return True if a run was trained on this data set: the same pictures, crops, labels and splits."""
    description, found = read_json(run.data), describe_data(dataset)
    same = ("sha256", "class_names", "counts", "crop", "label_source", "subjects")
    return all(found.get(key) == description.get(key) for key in same)


def run_data(run: RunDirectory, config: Config, path: str | None = None, *, same: bool = False) -> Dataset:
    """Load the data that a run was trained on, or other data with the same classes.

    Args:
        run: the run, whose data.json is read.
        config: the run's settings; version 0.1 did not record seed and validation_fraction, so these are used instead.
        path: data to load in place of the run's own, or the new place of the run's own.
        same: True if the data at `path` must be the run's own.

    Raises:
        InputError: if the run's data was made in memory, has moved or has changed, or the other data has other classes.
    """
    description = read_json(run.data)
    check_schema_version(description, str(run.data))
    own = path is None
    if own and "path" not in description:
        raise InputError(f"the data of {run.path} was made in memory: give it as `dataset`, or as a file with --data")
    source = description["path"] if own else path
    if own and source is not None and not Path(source).exists():
        raise InputError(f"the data of {run.path} is no longer at {source}: say where it is with --data")
    dataset = load_dataset(
        source,
        faces=_recorded_faces(description) if own or same else "auto",
        classes=description.get("classes"),
        limit=int(description.get("limit") or 0),
        seed=description.get("seed", config.seed),
        validation_fraction=description.get("validation_fraction", config.validation_fraction),
        class_names=description.get("numbering"),
        subjects=description.get("subjects") if own or same else None,
        skip_broken=bool(description.get("skip_broken")),
        labels=description.get("labels") if own or same else None,
        labels_as=description.get("labels_as") if own or same else None,
        cut=description.get("cut", "rows"),  # version 0.1 did not record the cut; it cut row by row
    )
    found = public_description(dataset)
    if found["class_names"] != description.get("class_names"):
        raise InputError(
            f"{dataset.source} has the classes {', '.join(dataset.class_names)}, the run "
            f"{', '.join(description.get('class_names', []))}: give data with the same classes"
        )
    if (own or same) and any(found[key] != description.get(key) for key in ("sha256", "counts")):
        raise InputError(f"{source} is not (or no longer) the data that {run.path} was trained on: restore it")
    return dataset


def _recorded_faces(description: Mapping[str, Any]) -> str | CropPolicy:
    """Return how the pictures of the run's data became crops."""
    if "crop" not in description:
        return "whole"  # version 0.1 took the centre square of each picture
    values = {key: value for key, value in (description["crop"] or {}).items() if key != "num_without_face"}
    return CropPolicy.from_dict(values) if values else "auto"


def run_config(run: RunDirectory) -> Config:
    """Read the settings of a run."""
    values = read_json(run.config)
    values.pop("recipe", None)
    return config_from_dict(values)
