"""The state of a run after its last finished epoch, the file that holds it, and the history of all epochs."""

from __future__ import annotations

import dataclasses
import json
import logging
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from fer_tf.artifacts import RunDirectory, atomic_path
from fer_tf.errors import InputError

logger = logging.getLogger(__name__)

HISTORY_COLUMNS = (
    "phase", "epoch", "image_size", "seconds", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy"
)  # fmt: skip


@dataclasses.dataclass
class TrainState:
    """Everything that the next epoch needs, after the last finished epoch.

    Attributes:
        phase: 1 or 2.
        epoch: number of finished epochs of this phase.
        weights: the model's variables, in Keras's order.
        optimizer: the optimiser's variables; empty at the start of a phase.
        average: the moving average of the weights; empty if there is none.
        counters: counters of ReduceLROnPlateau, early stopping and the moving average.
        best: phase, epoch, val_accuracy and val_loss of the best weights; empty before the first epoch.
        history: one row per finished epoch, with the keys `HISTORY_COLUMNS`.
        stopped: True if early stopping ended phase 2.
        precision: the policy at the start of the run; `auto` may mean another policy on another machine.
    """

    phase: int
    epoch: int = 0
    weights: list[np.ndarray] = dataclasses.field(default_factory=list)
    optimizer: list[np.ndarray] = dataclasses.field(default_factory=list)
    average: list[np.ndarray] = dataclasses.field(default_factory=list)
    counters: dict[str, Any] = dataclasses.field(default_factory=dict)
    best: dict[str, Any] = dataclasses.field(default_factory=dict)
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    stopped: bool = False
    precision: str = ""

    _ARRAYS = ("weights", "optimizer", "average")
    _PLAIN = ("phase", "epoch", "counters", "best", "history", "stopped", "precision")

    def start_phase(self, phase: int) -> None:
        """Enter a phase with new optimiser, counters and moving average."""
        self.phase, self.epoch, self.optimizer, self.counters, self.average = phase, 0, [], {}, []

    def save(self, run: RunDirectory) -> None:
        """Write the state; keep the previous state in a second file as a fallback."""
        arrays = {f"{name}_{i:04d}": value for name in self._ARRAYS for i, value in enumerate(getattr(self, name))}
        plain = json.dumps({name: getattr(self, name) for name in self._PLAIN})
        with atomic_path(run.state) as temporary:
            np.savez(temporary, **arrays, plain=np.frombuffer(plain.encode(), np.uint8))
            if run.state.exists():
                run.state.replace(run.previous_state)

    @classmethod
    def load(cls, run: RunDirectory) -> TrainState | None:
        """Read the newest complete state; None if the run stopped before the end of its first epoch.

        Raises:
            InputError: if there are states but none can be read.
        """
        found = [path for path in (run.state, run.previous_state) if path.exists()]
        for path in found:
            try:
                return cls._read(path)
            except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
                logger.warning("%s cannot be read (%s): trying the previous state", path, error)
        if found:
            raise InputError(f"no readable training state in {run.path}: start again with another --run")
        return None

    @classmethod
    def _read(cls, path: Path) -> TrainState:
        with np.load(path, allow_pickle=False) as file:
            names = sorted(file.files)
            values = json.loads(file["plain"].tobytes())
            values |= {kind: [file[name] for name in names if name.startswith(f"{kind}_")] for kind in cls._ARRAYS}
            return cls(**values)


def variable_values(variables: list[Any]) -> list[np.ndarray]:
    """Copy the values of Keras variables."""
    # Copy: on a CPU the array may share the variable's memory, which the next step overwrites.
    return [np.array(variable) for variable in variables]


def assign_variables(variables: list[Any], values: list[np.ndarray]) -> None:
    """Set Keras variables to values in the same order."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def save_weights(path: Path, weights: list[np.ndarray]) -> None:
    """Write a model's weights, in Keras's order, as .npz."""
    with atomic_path(path) as temporary:
        np.savez(temporary, *weights)


def load_weights(path: Path) -> list[np.ndarray]:
    """Read the weights that `save_weights` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return [file[f"arr_{i}"] for i in range(len(file.files))]


def history_csv(rows: list[dict[str, Any]]) -> str:
    """Format the history as CSV text, one row per epoch over both phases."""
    lines = [",".join(str(row.get(name, "")) for name in HISTORY_COLUMNS) for row in rows]
    return "\n".join([",".join(HISTORY_COLUMNS), *lines]) + "\n"
