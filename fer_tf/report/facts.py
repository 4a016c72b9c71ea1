"""What a run's files say: the facts that reports, cards and comparisons are written from."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

from fer_tf.artifacts import RunDirectory, read_json
from fer_tf.errors import InputError
from fer_tf.task import SPLITS, split_title


@dataclasses.dataclass(frozen=True)
class Facts:
    """The contents of a run's files; what a run does not have is empty."""

    name: str
    config: dict[str, Any]
    data: dict[str, Any]
    history: list[dict[str, float]]
    metrics: dict[str, Any]
    audit: dict[str, Any]
    scorecards: dict[str, dict[str, Any]]
    sizes: dict[str, int]  # bytes of each .tflite, by quantization

    @property
    def synthetic(self) -> bool:
        return bool(self.audit.get("synthetic") or self.metrics.get("data", {}).get("synthetic"))

    @property
    def keras(self) -> dict[str, dict[str, Any]]:
        """Split -> `evaluation.evaluate` of the Keras model, in the order of `SPLITS`."""
        found = self.metrics.get("keras", {})
        return {split: found[split] for split in SPLITS if found.get(split)}

    @property
    def judged(self) -> str | None:
        """The split whose confusions are described: the one that chose nothing where there is one."""
        return next((split for split in ("test", "validation", "train") if split in self.keras), None)

    @property
    def train_counts(self) -> list[int] | None:
        return self.audit.get("splits", {}).get("train", {}).get("class_counts")

    def title(self, split: str) -> str:
        """A split's name as it stands beside a figure."""
        return f"{'synthetic ' if self.synthetic else ''}{split_title(split)}"


def read_facts(run: RunDirectory) -> Facts:
    """Reads what the report is written from.

    Raises:
        InputError: if a file of the run is broken.
    """
    return Facts(
        name=run.path.resolve().name,
        config=read_json(run.config),
        data=read_json(run.data) if run.data.is_file() else {},
        history=_read_history(run) if run.history.is_file() else [],
        metrics=read_json(run.metrics) if run.metrics.is_file() else {},
        audit=read_json(run.audit) if run.audit.is_file() else {},
        scorecards={_quantization(path): read_json(path) for path in sorted(run.path.glob(run.scorecard("*").name))},
        sizes={_quantization(path): path.stat().st_size for path in sorted(run.path.glob(run.tflite("*").name))},
    )


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
                    f"{run.history} row {len(rows) + 2} is no row of numbers: the file was changed or cut off; "
                    "write the report of a run that is whole"
                ) from None
    return rows


def of_synthetic(facts: Facts) -> str:
    return " of the synthetic faces" if facts.synthetic else ""
