"""The contents of a run's files. Reports, model cards and comparisons read runs with this module."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fer_tf.artifacts import RunDirectory, read_json
from fer_tf.errors import InputError
from fer_tf.task import SELECTION_SPLIT, SPLITS, split_title


@dataclasses.dataclass(frozen=True)
class Facts:
    """The contents of a run's files; a missing file gives empty contents.

    Attributes:
        name: the run's name, which is the name of its folder.
        path: the folder.
        config: settings and the recipe's name.
        data: description of the data, as in data.json.
        history: a row for each epoch of both phases, with the keys of history.csv.
        metrics: figures of the finished run, as in metrics.json.
        audit: the findings of `data.audit.audit`.
        scorecards: quantization -> scorecard of the .tflite.
        sizes: quantization -> bytes of the .tflite.
    """

    name: str
    path: Path
    config: dict[str, Any]
    data: dict[str, Any]
    history: list[dict[str, float]]
    metrics: dict[str, Any]
    audit: dict[str, Any]
    scorecards: dict[str, dict[str, Any]]
    sizes: dict[str, int]

    @property
    def synthetic(self) -> bool:
        """True if a program drew the faces."""
        return any(found.get("synthetic") for found in (self.audit, self.data, self.metrics.get("data", {})))

    @property
    def of_synthetic_faces(self) -> str:
        """Return the end of a caption."""
        return " of the synthetic faces" if self.synthetic else ""

    @property
    def keras(self) -> dict[str, dict[str, Any]]:
        """Split -> the result of `evaluation.evaluate` for the Keras model, in the order of `SPLITS`."""
        found = self.metrics.get("keras", {})
        return {split: found[split] for split in SPLITS if found.get(split)}

    @property
    def headline_split(self) -> str | None:
        """The split of the headline figures: test, which selected nothing, or else validation, or else train."""
        return next((split for split in reversed(SPLITS) if split in self.keras), None)

    @property
    def class_names(self) -> list[str]:
        if self.audit.get("class_names"):
            return list(self.audit["class_names"])
        return class_names_of(self.keras[self.headline_split]) if self.headline_split else []

    @property
    def train_counts(self) -> list[int] | None:
        """Training images of each class."""
        return self.audit.get("splits", {}).get("train", {}).get("class_counts")

    @property
    def candidates(self) -> list[dict[str, float]]:
        """The epochs from which training chooses: those scored on validation at the final image size."""
        size = self.config.get("image_size")
        return [
            row
            for row in self.history
            if "val_accuracy" in row and (size is None or row.get("image_size", size) == size)
        ]

    @property
    def best_epoch(self) -> dict[str, float] | None:
        """The candidate with the highest validation accuracy."""
        return max(self.candidates, key=lambda row: row["val_accuracy"], default=None)

    @property
    def exported(self) -> dict[str, dict[str, Any]]:
        """Name of each .tflite -> figures by split, size and latency.

        The figures come from training, from `evaluate`, and from the scorecards of `export_tflite`. `other_data` is
        True if a file was scored on other data than the run's, `only_tried` if it was measured but not kept.
        """
        files: dict[str, dict[str, Any]] = {}

        def add(name: str, found: Mapping[str, Any]) -> None:
            known = files.setdefault(name, {})
            for key, value in found.items():
                known[key] = {**known.get(key, {}), **value} if key in SPLITS else value

        scored = self.metrics.get("tflite", {})
        for quantization, size in self.sizes.items():
            if quantization in self.scorecards or quantization in scored:
                add(f"{quantization} .tflite", {"size_bytes": size})
        for quantization, found in scored.items():
            add(f"{quantization} .tflite", found)
        own_data = self.metrics.get("data", {}).get("sha256")
        for quantization, card in self.scorecards.items():
            scores = card.get(SELECTION_SPLIT, {})
            other_data = bool(own_data and scores.get("sha256", own_data) != own_data)
            name = f"{quantization} .tflite" + (f" on {scores['source']}" if other_data else "")
            add(name, {**card, "other_data": other_data})
            for row in card.get("tried", []):
                if f"{row['quantization']} .tflite" not in files:
                    tried = {**row, SELECTION_SPLIT: row, "only_tried": True}
                    add(f"{row['quantization']}, tried and not kept", tried)
        return files

    def title(self, split: str) -> str:
        """Return a split's name for use beside a figure."""
        return f"{'synthetic ' if self.synthetic else ''}{split_title(split)}"


def read_facts(run: RunDirectory) -> Facts:
    """Read a run's files.

    Raises:
        InputError: if a file of the run is broken.
    """
    return Facts(
        name=run.path.resolve().name,
        path=run.path,
        config=read_json(run.config),
        data=read_json(run.data) if run.data.is_file() else {},
        history=_read_history(run) if run.history.is_file() else [],
        metrics=read_json(run.metrics) if run.metrics.is_file() else {},
        audit=read_json(run.audit) if run.audit.is_file() else {},
        scorecards={_quantization(path): read_json(path) for path in sorted(run.path.glob(run.scorecard("*").name))},
        sizes={_quantization(path): path.stat().st_size for path in sorted(run.path.glob(run.tflite("*").name))},
    )


def class_names_of(result: Mapping[str, Any]) -> list[str]:
    """Return the class names in a result of `evaluation.evaluate`."""
    return [row["name"] for row in result["per_class"]]


def without_duplicates(result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the figures of the images that are not also in train; None if all images are, or no image is."""
    return result.get("without_twin") if result.get("num_with_twin") else None


def _quantization(path: Path) -> str:
    return path.stem.removeprefix("model-")


def _read_history(run: RunDirectory) -> list[dict[str, float]]:
    rows = []
    with open(run.history, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            try:
                rows.append({key: float(value) for key, value in row.items() if value})
            except (TypeError, ValueError):
                raise InputError(
                    f"{run.history} row {len(rows) + 2} is not a row of numbers; the file was changed or cut off: "
                    "restore it"
                ) from None
    return rows
