"""The two phases: compile, callbacks, which weights win, and going on after a stop.

Training is a sequence of segments, each one call of Keras's fit at one phase and image size. A segment starts by
building its model and putting the state of the last finished epoch into it; so a new phase, a new image size and a
resumed run are one mechanism.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from fer_tf.artifacts import RunDirectory, atomic_path, write_text
from fer_tf.config import Config
from fer_tf.data.augmentation import EpochPlan, plan_batches, plan_epoch
from fer_tf.data.dataset import Dataset
from fer_tf.errors import Diverged, InputError
from fer_tf.model import (
    BACKBONE,
    build_model,
    dtype_policy,
    features_model,
    head_model,
    logits_model,
    set_trainable,
    set_weights,
)
from fer_tf.muon import Muon

logger = logging.getLogger(__name__)

_SIZE_STEP = 16  # progressive resizing goes in steps of this many pixels: each new size costs a compilation
_EMA_EVERY = 8  # steps between two updates of the moving average, with the decay raised to this power
_LOG_SECONDS = 15.0  # between two progress lines where there is no terminal
_FEATURES_BATCH = 64
_ADAM_SHARE = 0.5  # of the learning rate, for what muon leaves to AdamW: its own matrices bear a higher one
HISTORY_COLUMNS = (
    "phase", "epoch", "image_size", "seconds", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy"
)  # fmt: skip


class Feed(Protocol):
    """How images reach fit: the module `data.pipeline` (tf.data) or `data.in_step` (inside the compiled step)."""

    def fit_model(self, model: keras.Model, image_size: int) -> keras.Model: ...
    def make_train_dataset(
        self,
        images: np.ndarray,
        plan: Callable[[int], EpochPlan],
        *,
        epochs: tuple[int, int],
        batch_size: int,
        image_size: int,
    ) -> Any: ...
    def make_eval_dataset(
        self, images: np.ndarray, targets: np.ndarray, *, batch_size: int, image_size: int
    ) -> Any: ...


# ---------------------------------------------------------------------------------------------------------------------
# Targets


def class_weights(labels: np.ndarray, num_classes: int, kind: str) -> np.ndarray:
    """The weight of each class in the loss.

    Args:
        labels: int (n,), of the training images.
        num_classes: length of the result.
        kind: `balanced` (n / (classes x count), scikit-learn's), `sqrt` (its square root), `none` (1).

    Returns:
        float32 (num_classes,); a class without an image weighs 0 under `balanced` and `sqrt`.
    """
    if kind == "none":
        return np.ones(num_classes, np.float32)
    count = np.bincount(labels, minlength=num_classes)
    balanced = np.where(count > 0, len(labels) / (num_classes * np.maximum(count, 1)), 0.0)
    return (np.sqrt(balanced) if kind == "sqrt" else balanced).astype(np.float32)


def one_hot(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """float32 (n, num_classes)."""
    return np.eye(num_classes, dtype=np.float32)[labels]


def soft_targets(config: Config, labels: np.ndarray, num_classes: int, taught: np.ndarray | None = None) -> np.ndarray:
    """What the network is to answer for each training image, before mixing.

    Args:
        config: label_smoothing, distillation_weight and distillation_temperature are read.
        labels: int (n,).
        num_classes: C.
        taught: float (n, C), the teachers' mean probabilities; None without teachers.

    Returns:
        float32 (n, C), each row summing to 1.
    """
    targets = one_hot(labels, num_classes)
    if config.label_smoothing:
        targets = targets * (1 - config.label_smoothing) + config.label_smoothing / num_classes
    if taught is not None:
        soft = np.maximum(taught, 1e-7) ** (1 / config.distillation_temperature)
        soft /= soft.sum(axis=1, keepdims=True)
        targets = (1 - config.distillation_weight) * targets + config.distillation_weight * soft
    return targets.astype(np.float32)


# ---------------------------------------------------------------------------------------------------------------------
# Precision, sizes, schedules


def on_gpu() -> bool:
    """Whether Keras's backend computes on an accelerator."""
    return any(not name.lower().startswith("cpu") for name in keras.distribution.list_devices())


def resolve_precision(precision: str) -> str:
    """`auto` made definite for this machine; says once when the choice will crawl."""
    if precision == "auto":
        return "mixed_float16" if on_gpu() else "float32"
    if precision == "mixed_float16" and not on_gpu():
        logger.warning(
            "precision mixed_float16 on a CPU: its convolutions have no half-precision kernels here and run about "
            "20 times slower; --precision float32 is the fast one"
        )
    if precision == "mixed_bfloat16" and not on_gpu():
        logger.warning("precision mixed_bfloat16 on a CPU: measured at 0.6 of float32's rate; float32 is the fast one")
    return precision


def image_size_at(config: Config, epoch: int) -> int:
    """Side of the network's input in an epoch of phase 2 (from 0), pixels."""
    if not config.initial_image_size or epoch >= config.resizing_epochs:
        return config.image_size
    rise = (config.image_size - config.initial_image_size) * epoch / config.resizing_epochs
    return config.initial_image_size + int(rise // _SIZE_STEP) * _SIZE_STEP


def _segments(config: Config, frozen_epochs: int) -> Iterator[tuple[int, int, int]]:
    """(phase, image size, epoch of the phase at which it ends) of every call of fit."""
    if frozen_epochs:
        yield 1, config.image_size, frozen_epochs
    first = 0
    while first < config.epochs:
        size, last = image_size_at(config, first), first + 1
        while last < config.epochs and image_size_at(config, last) == size:
            last += 1
        yield 2, size, last
        first = last


def _make_optimizer(config: Config, phase: int, steps: int) -> keras.optimizers.Optimizer:
    rate: Any = config.frozen_learning_rate if phase == 1 else config.learning_rate
    if phase == 2 and config.schedule == "cosine":
        total, warmup = config.epochs * steps, round(config.warmup_epochs * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else rate,
            max(total - warmup, 1),
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    shared = {"learning_rate": rate, "weight_decay": config.weight_decay, "global_clipnorm": config.clip_norm or None}
    optimizer: keras.optimizers.Optimizer
    if config.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(**shared)
    elif config.optimizer == "muon":
        optimizer = Muon(
            adam_weight_decay=config.weight_decay, adam_lr_ratio=_ADAM_SHARE, momentum=config.momentum, **shared
        )
    else:
        optimizer = keras.optimizers.SGD(momentum=config.momentum, nesterov=config.momentum > 0, **shared)
    # Decaying scales and offsets pulls BatchNorm towards a dead layer; only kernels are decayed.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


# ---------------------------------------------------------------------------------------------------------------------
# State


@dataclasses.dataclass
class State:
    """All that the next epoch depends on, as of the last finished epoch.

    Attributes:
        phase: 1 or 2.
        epoch: finished epochs of that phase.
        weights: the model's variables, in Keras's order.
        optimizer: the optimiser's variables; empty at the start of a phase.
        average: the moving average of the weights; empty without one.
        counters: of ReduceLROnPlateau, early stopping and the moving average.
        best: {"val_accuracy", "phase", "epoch"} of the weights in best.npz; empty before the first.
        history: one row a finished epoch, keys as `HISTORY_COLUMNS`.
        stopped: whether early stopping ended phase 2.
        precision: the policy that the run started with; `auto` would mean another one on another machine.
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

    def save(self, run: RunDirectory) -> None:
        """Writes the state; the one before stays as the file to fall back on."""
        arrays = {f"{name}_{i:04d}": value for name in self._ARRAYS for i, value in enumerate(getattr(self, name))}
        plain = json.dumps({name: getattr(self, name) for name in self._PLAIN})
        with atomic_path(run.state) as temporary:
            np.savez(temporary, **arrays, plain=np.frombuffer(plain.encode(), np.uint8))
            if run.state.exists():
                run.state.replace(run.previous_state)

    @classmethod
    def load(cls, run: RunDirectory) -> State | None:
        """The newest state that is whole; None where a run stopped before its first epoch ended.

        Raises:
            InputError: if there are states and none can be read.
        """
        found = [path for path in (run.state, run.previous_state) if path.exists()]
        for path in found:
            try:
                return cls._read(path)
            except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
                logger.warning("%s cannot be read (%s): trying the one before", path, error)
        if found:
            raise InputError(f"no readable training state in {run.path}: start again with another --run")
        return None

    @classmethod
    def _read(cls, path: Path) -> State:
        with np.load(path, allow_pickle=False) as file:
            names = sorted(file.files)
            values = json.loads(file["plain"].tobytes())
            values |= {kind: [file[name] for name in names if name.startswith(f"{kind}_")] for kind in cls._ARRAYS}
            return cls(**values)


def _values(variables: list[Any]) -> list[np.ndarray]:
    # A copy: on a CPU the array may be the variable's own memory, which the next step overwrites.
    return [np.array(variable) for variable in variables]


def _assign(variables: list[Any], values: list[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def save_weights(path: Path, weights: list[np.ndarray]) -> None:
    """Writes a model's weights in Keras's order as .npz."""
    with atomic_path(path) as temporary:
        np.savez(temporary, *weights)


def load_weights(path: Path) -> list[np.ndarray]:
    """Reads what `save_weights` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return [file[f"arr_{i}"] for i in range(len(file.files))]


# ---------------------------------------------------------------------------------------------------------------------
# Callbacks


class _Average(keras.callbacks.Callback):
    """Moving average of all weights, BatchNorm's statistics too; validation sees the average.

    Keras's own averages trainable weights only, and pairs them with the raw weights' statistics.
    """

    def __init__(self, network: keras.Model, decay: float, state: State) -> None:
        super().__init__()
        self._network, self._decay = network, decay
        self.steps = int(state.counters.get("average_steps", 0))
        self.values = [value.copy() for value in state.average]
        self._raw: list[np.ndarray] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        if not self.values:
            self.values = _values(self._network.weights)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.steps += 1
        since = (batch + 1) % _EMA_EVERY or _EMA_EVERY  # an epoch's last steps count too
        if since < _EMA_EVERY and batch + 1 < self.params["steps"]:
            return
        # A short memory while the weights still move fast.
        decay = min(self._decay, (1 + self.steps) / (10 + self.steps)) ** since
        _sync(self.model)
        for average, variable in zip(self.values, self._network.weights, strict=True):
            average += ((1 - decay) * (np.asarray(variable) - average)).astype(average.dtype)

    def on_test_begin(self, logs: dict | None = None) -> None:
        self._raw = _values(self._network.weights)
        _assign(self._network.weights, self.values)

    def on_test_end(self, logs: dict | None = None) -> None:
        _assign(self._network.weights, self._raw)


def _sync(model: keras.Model) -> None:
    """Brings the variables up to date on the backend that keeps them elsewhere during fit."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()


class _EpochSeeds(keras.callbacks.Callback):
    """Makes an epoch's dropout a function of (seed, phase, epoch), so that a resumed run draws the same."""

    def __init__(self, network: keras.Model, seed: int, phase: int) -> None:
        super().__init__()
        self._layers = [*network.layers, *network.get_layer(BACKBONE).layers]
        self._seed, self._phase = seed, phase

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        rng = np.random.default_rng((self._seed, self._phase, epoch, 1))
        for layer in self._layers:
            if isinstance(layer, keras.layers.Dropout) and layer.rate > 0:
                layer.seed_generator.state.assign(rng.integers(0, 2**31, 2, dtype=np.uint32))


class _Progress(keras.callbacks.Callback):
    """A bar in a terminal, a line every few seconds in a log file; and the end of a loss that is no number."""

    def __init__(self, state: State, image_size: int, images: int, batch_size: int, last_epoch: int) -> None:
        super().__init__()
        self._title = f"phase {state.phase}, {image_size} px"
        self._state, self._images, self._batch_size, self._last_epoch = state, images, batch_size, last_epoch
        self._bar: Any = None
        self._begin = self._said = 0.0
        self._counted_from = 0
        self._epoch = state.epoch

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch, self._begin, self._said = epoch, time.monotonic(), time.monotonic()
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=self._images, desc=self._name(), unit=" images", leave=False, dynamic_ncols=True)

    def _name(self) -> str:
        return f"{self._title}, epoch {self._epoch + 1}/{self._last_epoch}"

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        logs = logs or {}
        loss = logs.get("loss", 0.0)
        if not math.isfinite(loss):
            self._close()
            raise _diverged(f"loss {loss} in {self._name()}, step {batch + 1}", self._state)
        done = min((batch + 1) * self._batch_size, self._images)
        if batch == 0:  # the first step of a model compiles it, which says nothing about the rate
            self._begin = time.monotonic()
            self._counted_from = done
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{loss:.3f}", accuracy=f"{logs.get('accuracy', 0):.3f}", refresh=False)
            self._bar.update(done - self._bar.n)
        elif batch and time.monotonic() - self._said > _LOG_SECONDS:
            self._said = time.monotonic()
            rate = (done - self._counted_from) / (self._said - self._begin)
            left = (self._images - done + (self._last_epoch - self._epoch - 1) * self._images) / rate
            logger.info(
                "%s, step %d/%d: %.0f images/s, loss %.3f, accuracy %.3f, %s left at most",
                self._name(),
                batch + 1,
                -(-self._images // self._batch_size),
                rate,
                loss,
                logs.get("accuracy", 0),
                duration(left),
            )

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._close()

    def on_train_end(self, logs: dict | None = None) -> None:
        self._close()


def _diverged(what: str, state: State) -> Diverged:
    kept = f"phase {state.phase}, epoch {state.epoch} is kept" if state.epoch else "no epoch of this phase was finished"
    return Diverged(
        f"{what}: {kept}; start a new run with a lower --learning-rate, --clip-norm 1 or --precision float32"
    )


def duration(seconds: float) -> str:
    """Seconds as people write them: 45 s, 3 min 20 s, 2 h 05 min."""
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    return f"{total // 3600} h {total % 3600 // 60:02d} min"


class _Keeper(keras.callbacks.Callback):
    """Last in the list: writes the best weights, the history and the state when an epoch is over.

    Keras's BackupAndRestore keeps the model and the optimiser, not the other callbacks' counters; and a second
    ModelCheckpoint forgets the first phase's best.
    """

    def __init__(
        self, network: keras.Model, run: RunDirectory, state: State, *, may_be_best: bool, watched: dict[str, Any]
    ) -> None:
        super().__init__()
        self._network, self._run, self._state = network, run, state
        self._may_be_best, self._watched = may_be_best, watched
        self._begin = self._rate = 0.0

    def on_train_begin(self, logs: dict | None = None) -> None:
        for name, counters in self._state.counters.items():
            if name in self._watched:
                for key, value in counters.items():
                    setattr(self._watched[name], key, value)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._begin = time.monotonic()

    def on_test_begin(self, logs: dict | None = None) -> None:
        # The rate of the epoch's last step: the plateau's callback has not changed it yet.
        self._rate = float(np.asarray(self.model.optimizer.learning_rate))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        logs = logs or {}
        self._run.check_there()
        _sync(self.model)
        state = self._state
        if not math.isfinite(logs["val_loss"]):  # the last update of the epoch; its training loss came before it
            raise _diverged(f"val_loss {logs['val_loss']} after phase {state.phase}, epoch {epoch + 1}", state)
        average: _Average | None = self._watched.get("average")
        kept = _values(self._network.weights) if average is None else average.values
        row = {
            "phase": state.phase,
            "epoch": epoch + 1,
            "image_size": self._network.input_shape[1],
            "seconds": round(time.monotonic() - self._begin, 2),
            "learning_rate": self._rate,
            **{name: float(logs[name]) for name in HISTORY_COLUMNS if name in logs and name != "learning_rate"},
        }
        before = state.best
        best = self._may_be_best and row["val_accuracy"] > state.best.get("val_accuracy", -1.0)
        if best:
            save_weights(self._run.best_weights(state.phase, epoch + 1), kept)
            state.best = {name: row[name] for name in ("phase", "epoch", "val_accuracy", "val_loss")}
        state.history = [*state.history, row]
        state.epoch = epoch + 1
        state.weights = _values(self._network.weights)
        state.optimizer = _values(self.model.optimizer.variables)
        state.average = [] if average is None else average.values
        state.counters = {
            name: {key: _plain(getattr(callback, key)) for key in _COUNTERS[name]}
            for name, callback in self._watched.items()
            if name in _COUNTERS
        }
        if average is not None:
            state.counters["average_steps"] = average.steps
        state.stopped = bool(self.model.stop_training)
        state.save(self._run)
        self._run.check_there()  # again, since saving takes a while: what follows would make the folder anew
        # Two states are kept, and with them the best weights that each of them names.
        self._run.keep_best_weights([(found["phase"], found["epoch"]) for found in (before, state.best) if found])
        write_text(self._run.history, history_csv(state.history))
        logger.info(
            "phase %d, epoch %d (%d px): loss %.4f, accuracy %.4f, val_loss %.4f, val_accuracy %.4f, rate %.2e, %s%s",
            *(row[name] for name in ("phase", "epoch", "image_size", "loss", "accuracy", "val_loss", "val_accuracy")),
            self._rate,
            duration(row["seconds"]),
            " - best so far" if best else "",
        )


_COUNTERS = {
    "plateau": ("best", "wait", "cooldown_counter"),
    "early_stopping": ("best", "wait", "best_epoch", "stopped_epoch"),
}


def _plain(value: Any) -> Any:
    """A counter as JSON keeps it."""
    return None if value is None else float(value) if isinstance(value, (float, np.floating)) else int(value)


def history_csv(rows: list[dict[str, Any]]) -> str:
    """The history as CSV text, one row an epoch over both phases."""
    lines = [",".join(str(row.get(name, "")) for name in HISTORY_COLUMNS) for row in rows]
    return "\n".join([",".join(HISTORY_COLUMNS), *lines]) + "\n"


# ---------------------------------------------------------------------------------------------------------------------
# The run


def train(
    config: Config,
    run: RunDirectory,
    dataset: Dataset,
    feed: Feed,
    *,
    taught: np.ndarray | None = None,
    tensorboard: bool = False,
) -> tuple[keras.Model, State]:
    """Trains both phases, or goes on with them from the state in the run directory.

    Args:
        config: the recipe.
        run: where the state, the history and the best weights go after every epoch.
        dataset: decoded, with the splits train and validation.
        feed: `data.pipeline` or `data.in_step`.
        taught: float (train rows, classes), the teachers' mean probabilities; None without teachers.
        tensorboard: whether to write TensorBoard's files too.

    Returns:
        The float32 model with the weights of the best epoch over both phases, and the final state.

    Raises:
        InputError: for weights that cannot be had, data that cannot be trained on, or a state that cannot be read.
        Diverged: when the loss is no number.
    """
    train_split, validation = dataset.take("train"), dataset.take("validation")
    frozen_epochs = 0 if config.weights == "none" else config.frozen_epochs
    if config.weights == "none" and config.frozen_epochs:
        logger.info("no frozen phase: with --weights none the backbone is random, and a head on it learns nothing")
    state = State.load(run) or State(phase=1 if frozen_epochs else 2)
    keras.utils.set_random_seed(config.seed)
    state.precision = state.precision or resolve_precision(config.precision)
    if state.history:  # a run that was killed between state and history has its last row in the state alone
        write_text(run.history, history_csv(state.history))
    if not state.weights:
        state.weights = _values(
            build_for(config, config.image_size, train_split.num_classes, "float32", start=True).weights
        )

    labels = train_split.labels
    targets = soft_targets(config, labels, train_split.num_classes, taught)
    image_weights = class_weights(labels, train_split.num_classes, config.class_weights)[labels]
    for phase, size, last in _segments(config, frozen_epochs):
        if phase < state.phase or (phase == state.phase and (last <= state.epoch or state.stopped)):
            continue
        if phase > state.phase:  # a new phase starts with a fresh optimiser and fresh counters
            state.phase, state.epoch, state.optimizer, state.counters, state.average = phase, 0, [], {}, []
        segment = _Segment(config, run, state, feed, size, last)
        segment.fit(train_split, validation, targets, image_weights, tensorboard=tensorboard)
    run.check_there()
    model = build_for(config, config.image_size, train_split.num_classes, "float32")
    kept = state.average or state.weights
    if state.best:
        kept = load_weights(run.best_weights(state.best["phase"], state.best["epoch"]))
    set_weights(model, round_kernels(kept) if config.round_kernels else kept)
    return model, state


def round_kernels(weights: list[np.ndarray]) -> list[np.ndarray]:
    """The weights with every kernel's values rounded to those that float16 can hold, still as float32.

    Zeros take the place of half of each number, so the file compresses to about half. Vectors (biases, BatchNorm)
    are few and stay as they are.
    """
    return [
        value.astype(np.float16).astype(value.dtype) if value.ndim >= 2 else value  # kernels lie far below 65,504
        for value in weights
    ]


def is_over(config: Config, state: State | None) -> bool:
    """Whether no epoch is left to train."""
    return state is not None and state.phase == 2 and (state.stopped or state.epoch >= config.epochs)


def compile_trainer(trainer: keras.Model, optimizer: keras.optimizers.Optimizer, num_classes: int) -> None:
    """Compiles the model that fit sees, as every phase does.

    Args:
        trainer: of `Feed.fit_model`, giving logits (batch, num_classes).
        optimizer: not built yet.
        num_classes: C.
    """
    trainer.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    # Made here and not in the first step, the optimiser's and the metrics' variables save tracing that step twice.
    trainer.optimizer.build(trainer.trainable_variables)
    nothing = np.zeros((1, num_classes), np.float32)
    trainer.compute_metrics(None, nothing, nothing)
    trainer.reset_metrics()


def build_for(config: Config, image_size: int, num_classes: int, policy: str, start: bool = False) -> keras.Model:
    """The recipe's model under a dtype policy; with the recipe's starting weights only if `start`."""
    with dtype_policy(policy):
        return build_model(
            num_classes,
            image_size=image_size,
            dropout=config.dropout,
            stochastic_depth=config.stochastic_depth,
            batch_norm_momentum=config.batch_norm_momentum,
            stem_stride=config.stem_stride,
            weights=config.weights if start else "none",
        )


@dataclasses.dataclass
class _Segment:
    """One call of fit: epochs of one phase at one image size."""

    config: Config
    run: RunDirectory
    state: State
    feed: Feed
    image_size: int
    last_epoch: int

    def fit(
        self,
        train_split: Dataset,
        validation: Dataset,
        targets: np.ndarray,
        image_weights: np.ndarray,
        *,
        tensorboard: bool,
    ) -> None:
        config, state, policy = self.config, self.state, self.state.precision
        assert train_split.images is not None and validation.images is not None
        frozen = state.phase == 1
        model = build_for(config, self.image_size, train_split.num_classes, policy)
        set_trainable(model, backbone=not frozen, batch_norm=config.train_batch_norm)
        set_weights(model, state.weights)
        steps = -(-len(targets) // config.batch_size)

        def plan(epoch: int) -> EpochPlan:
            return plan_epoch(config, targets, image_weights, phase=state.phase, epoch=epoch)

        batches = {"batch_size": config.batch_size, "image_size": self.image_size}
        epochs = (state.epoch, self.last_epoch)
        val_targets = one_hot(validation.labels, validation.num_classes)
        val_data = self.feed.make_eval_dataset(validation.images, val_targets, **batches)
        offset = self._logit_offset(train_split)
        if frozen and config.cache_features:
            trainer = head_model(model, logit_offset=offset)
            data = _feature_batches(self._features(model, train_split), plan, epochs, config.batch_size)
            val_data = (self._features(model, validation), val_targets)
        else:
            core = logits_model(model, frozen_backbone=frozen, logit_offset=offset)
            trainer = self.feed.fit_model(core, self.image_size)
            data = self.feed.make_train_dataset(train_split.images, plan, epochs=epochs, **batches)
        optimizer = _make_optimizer(config, state.phase, steps)
        # compile would not: the model that fit sees is float32 around a half-precision core.
        if policy == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        compile_trainer(trainer, optimizer, train_split.num_classes)
        if state.optimizer:
            _assign(trainer.optimizer.variables, state.optimizer)
        logger.info(
            "phase %d: %s, %d px, epochs %d to %d, %d images in %d steps, %s",
            state.phase,
            "head only, backbone frozen" if frozen else "all layers",
            self.image_size,
            state.epoch + 1,
            self.last_epoch,
            len(targets),
            steps,
            policy,
        )
        trainer.fit(
            data,
            validation_data=val_data,
            validation_batch_size=config.batch_size,
            epochs=self.last_epoch,
            initial_epoch=state.epoch,
            steps_per_epoch=steps,
            callbacks=self._callbacks(model, len(targets), tensorboard),
            shuffle=False,  # the plan has shuffled
            verbose=0,
        )

    def _logit_offset(self, train_split: Dataset) -> np.ndarray | None:
        if not self.config.logit_adjustment:
            return None
        share = np.maximum(train_split.counts("train"), 1) / len(train_split)
        return (self.config.logit_adjustment * np.log(share)).astype(np.float32)

    def _callbacks(self, model: keras.Model, num_images: int, tensorboard: bool) -> list[keras.callbacks.Callback]:
        config, state = self.config, self.state
        first: list[keras.callbacks.Callback] = [
            _EpochSeeds(model, config.seed, state.phase),
            _Progress(state, self.image_size, num_images, config.batch_size, self.last_epoch),
        ]
        watched: dict[str, Any] = {}
        if state.phase == 2 and config.ema_decay:
            watched["average"] = _Average(model, config.ema_decay, state)
        if state.phase == 2 and config.schedule == "plateau":
            watched["plateau"] = keras.callbacks.ReduceLROnPlateau(
                monitor="val_loss", mode="min", factor=config.plateau_factor, patience=config.plateau_patience
            )
        may_be_best = self.image_size == config.image_size  # weights are kept for the size that the model is saved at
        if state.phase == 2 and config.early_stopping_patience and may_be_best:
            watched["early_stopping"] = keras.callbacks.EarlyStopping(
                monitor="val_accuracy", mode="max", patience=config.early_stopping_patience
            )
        if tensorboard:
            watched["tensorboard"] = keras.callbacks.TensorBoard(
                self.run.tensorboard / f"phase-{state.phase}", write_graph=False
            )
        keeper = _Keeper(model, self.run, state, may_be_best=may_be_best, watched=watched)
        return [*first, *watched.values(), keeper]

    def _features(self, model: keras.Model, data: Dataset) -> np.ndarray:
        """The frozen backbone's pooled output for every image, computed once: float32 (n, 1280)."""
        assert data.images is not None
        extractor = self.feed.fit_model(features_model(model), self.image_size)
        nothing = np.zeros((len(data), 1), np.float32)
        batches = self.feed.make_eval_dataset(
            data.images, nothing, batch_size=_FEATURES_BATCH, image_size=self.image_size
        )
        return np.asarray(extractor.predict(batches, verbose=0), np.float32)


def _feature_batches(
    features: np.ndarray, plan: Callable[[int], EpochPlan], epochs: tuple[int, int], batch_size: int
) -> Iterator[tuple]:
    for rows, _, targets, weights in plan_batches(plan, *epochs, batch_size):
        yield features[rows], targets, weights
