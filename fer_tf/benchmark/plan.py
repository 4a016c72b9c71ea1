"""The plan of a benchmark: checks the settings, finds the parts that can be measured here, and measures them."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fer_tf import machine
from fer_tf.artifacts import RunDirectory, find_model, read_metadata, shipped_model
from fer_tf.benchmark import measure
from fer_tf.benchmark.tables import QUIET_LOAD
from fer_tf.config import Config
from fer_tf.data.recorded import run_config
from fer_tf.errors import InputError
from fer_tf.install import install_hint
from fer_tf.recipes import REPORT

PARTS = ("decode", "pipeline", "train", "latency", "startup")


@dataclasses.dataclass(frozen=True)
class Plan:
    """The checked settings of a benchmark.

    Attributes:
        parts: the parts to measure, in the order of `PARTS`.
        left_out: part that cannot be measured here -> the reason.
        config: settings of the training step and its batches.
        models: the .tflite and .keras files to time.
        image_sizes: sides of the network's input, pixels.
        seconds: least time of each measurement.
        run: name of the run's folder, if there is one.
    """

    parts: tuple[str, ...]
    left_out: dict[str, str]
    config: Config
    models: tuple[Path, ...]
    image_sizes: tuple[int, ...]
    seconds: float
    run: str | None

    def describe(self) -> dict[str, Any]:
        """Return the heading of the figures, JSON-able: machine, versions, load and settings."""
        load = machine.load_average()
        return {
            "format": 1,
            "machine": machine.machine(),
            "versions": machine.versions(),
            "load_average": load,
            "disturbed": load is not None and load > QUIET_LOAD,
            "settings": {
                "image_sizes": list(self.image_sizes),
                "batch_size": self.config.batch_size,
                "seconds": self.seconds,
                "run": self.run,
            },
            "left_out": self.left_out,
        }

    def measure(self) -> Iterator[tuple[str, Any]]:
        """Measure the parts in turn; yield each part's name and figures (a dict for `decode`, else a list of rows)."""
        if {"pipeline", "train"} & set(self.parts):
            machine.start_keras()
        for part in self.parts:
            yield part, _MEASURE[part](self)


def make_plan(
    *,
    run: str | Path | None = None,
    model: str | Path | None = None,
    only: str | None = None,
    image_sizes: Sequence[int],
    batch_size: int | None = None,
    seconds: float,
) -> Plan:
    """Check the settings of a benchmark before anything is measured.

    Args:
        run: a training run; its settings and models are measured.
        model: a .tflite or .keras; without it and without a run, the shipped model is measured.
        only: names from `PARTS` with commas between them; all parts if None.
        image_sizes: sides of the network's input, pixels, 32 to 512.
        batch_size: images a step, 1 to 4096; if None, the run's batch size, or else that of the recipe `report`.
        seconds: least time of each measurement, above 0, at most 60.

    Raises:
        InputError: if a setting is out of range, the run or model is missing or foreign, or a part in `only` cannot be
            measured here.
    """
    parts = _parts(only)
    for size in image_sizes:
        if not 32 <= size <= 512:
            raise InputError(f"--image-sizes {size}: expected pixels from 32 to 512")
    if not (math.isfinite(seconds) and 0 < seconds <= 60):
        raise InputError(f"--seconds {seconds:g}: expected a time above 0, at most 60")
    directory = RunDirectory.open(run) if run else None
    config = run_config(directory) if directory else REPORT
    if batch_size is not None:
        if not 1 <= batch_size <= 4096:
            raise InputError(f"--batch-size {batch_size}: expected images from 1 to 4096")
        config = dataclasses.replace(config, batch_size=batch_size)
    models = _models(directory, model)
    missing = _missing(models)
    left_out = {part: missing[part] for part in parts if part in missing}
    if only and left_out:
        part, reason = next(iter(left_out.items()))
        raise InputError(f"--only {part}: {reason}")
    return Plan(
        parts=tuple(part for part in parts if part not in left_out),
        left_out=left_out,
        config=config,
        models=tuple(models),
        image_sizes=tuple(image_sizes),
        seconds=seconds,
        run=Path(run).name if run else None,
    )


def _parts(only: str | None) -> tuple[str, ...]:
    if only is None:
        return PARTS
    wanted = [name.strip() for name in only.split(",")]
    for name in wanted:
        if name not in PARTS:
            raise InputError(f"--only {only}: unknown part {name!r}; expected some of {', '.join(PARTS)}")
    return tuple(part for part in PARTS if part in wanted)


def _models(run: RunDirectory | None, model: str | Path | None) -> list[Path]:
    """Return the checked files to time; empty if there are none."""
    if model:
        models = [find_model(model)]
        if models[0].suffix.lower() not in (".tflite", ".keras"):
            raise InputError(f"{model} is neither a .tflite nor a .keras file: give a model that fer_tf wrote")
    elif run:
        models = sorted(run.path.glob(run.tflite("*").name))
        models += [run.model] if run.model.is_file() else []
    else:
        try:
            models = [shipped_model(".tflite")]
        except InputError:
            models = []
    for path in models:
        read_metadata(path)
    return models


# --- What can be measured here ---


def _missing(models: Sequence[Path]) -> dict[str, str]:
    """Return the parts that cannot be measured here, each with the reason."""
    backend = _backend()
    needs_tensorflow = f"needs Keras and TensorFlow: {install_hint('train')}"
    needs_backend = needs_tensorflow if backend == "tensorflow" else f"needs Keras and its backend {backend}"
    missing: dict[str, str] = {}
    if not _installed("keras") or not _installed("tensorflow"):
        missing |= dict.fromkeys(("decode", "pipeline"), needs_tensorflow)
    elif backend != "tensorflow":
        missing |= dict.fromkeys(("decode", "pipeline"), f"tf.data's part, and KERAS_BACKEND is {backend}")
    if not _can_run_keras():
        missing["train"] = needs_backend
    if not _openable(models):
        missing["startup"] = needs_backend if models else "no model to time: name one with --model FILE or --run DIR"
        if not _can_run_keras():
            missing["latency"] = missing["startup"]
    return missing


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _backend() -> str:
    return os.environ.get("KERAS_BACKEND") or "tensorflow"


def _can_run_keras() -> bool:
    return _installed("keras") and _installed(_backend())


def _is_keras(path: Path) -> bool:
    return path.suffix.lower() == ".keras"


def _openable(models: Sequence[Path]) -> list[Path]:
    """Return the models that can be opened here: a .keras needs Keras."""
    return [path for path in models if not _is_keras(path) or _can_run_keras()]


# --- The parts ---


def _decode(plan: Plan) -> dict[str, Any]:
    return measure.decoding(seconds=plan.seconds)


def _pipeline(plan: Plan) -> list[dict[str, Any]]:
    settings: dict[str, Any] = {"batch_size": plan.config.batch_size, "seconds": plan.seconds}
    return [measure.pipeline(plan.config, size, **settings) for size in plan.image_sizes]


def _train(plan: Plan) -> list[dict[str, Any]]:
    settings: dict[str, Any] = {"batch_size": plan.config.batch_size, "seconds": plan.seconds}
    return [measure.training_step(plan.config, size, **settings) for size in plan.image_sizes]


def _latency(plan: Plan) -> list[dict[str, Any]]:
    """Rows of each .tflite, then of each .keras, or of the untrained network if there is no .keras."""
    rows: list[dict[str, Any]] = []
    image_size = plan.config.image_size
    for path in plan.models:
        if not _is_keras(path):
            rows += measure.litert_latency(path, seconds=plan.seconds)
            image_size = read_metadata(path).get("image_size", image_size)
    if _can_run_keras():
        keras_files: list[Path | None] = [path for path in plan.models if _is_keras(path)]
        for keras_file in keras_files or [None]:
            rows += measure.keras_latency(
                keras_file, image_size=image_size, batch_size=plan.config.batch_size, seconds=plan.seconds
            )
    return rows


def _startup(plan: Plan) -> list[dict[str, Any]]:
    return [measure.startup(path, seconds=plan.seconds) for path in _openable(plan.models)]


_MEASURE: dict[str, Callable[[Plan], Any]] = {
    "decode": _decode, "pipeline": _pipeline, "train": _train, "latency": _latency, "startup": _startup
}  # fmt: skip
