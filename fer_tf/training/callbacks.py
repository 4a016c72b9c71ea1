"""Callbacks of Keras's fit: epoch seeds, progress, moving average of the weights, and saving the state.

`make_callbacks` lists the callbacks of a segment. To add one, write its class here and name it there. If a resumed run
must restore the counters of a Keras callback, add it also to `watched` and `_COUNTERS`.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from typing import Any

import keras
import numpy as np

from fer_tf.artifacts import RunDirectory, write_text
from fer_tf.config import Config
from fer_tf.errors import Diverged
from fer_tf.model.weights import BACKBONE
from fer_tf.text import duration
from fer_tf.training.checkpoint import (
    HISTORY_COLUMNS,
    TrainState,
    assign_variables,
    history_csv,
    save_weights,
    variable_values,
)
from fer_tf.training.schedule import Segment

logger = logging.getLogger(__name__)

_EMA_EVERY = 8  # steps between two updates of the moving average, with the decay raised to this power
_LOG_SECONDS = 15.0  # between two progress lines if there is no terminal
_COUNTERS = {  # attributes of Keras's callbacks that a resumed run restores
    "plateau": ("best", "wait", "cooldown_counter"),
    "early_stopping": ("best", "wait", "best_epoch", "stopped_epoch"),
}


def make_callbacks(
    config: Config,
    run: RunDirectory,
    state: TrainState,
    segment: Segment,
    network: keras.Model,
    *,
    num_images: int,
    tensorboard: bool,
) -> list[keras.callbacks.Callback]:
    """List the callbacks of a segment, in the order in which fit calls them.

    Args:
        config: the recipe.
        run: receives the state, the history and the best weights.
        state: restores the callbacks' counters; updated after each epoch.
        segment: the epochs that fit trains.
        network: from `build_model`; its weights are averaged and saved.
        num_images: number of training images of an epoch.
        tensorboard: True to write TensorBoard's files too.
    """
    first: list[keras.callbacks.Callback] = [
        EpochSeeds(network, config.seed, segment.phase),
        ProgressCallback(state, segment, num_images, config.batch_size),
    ]
    watched: dict[str, Any] = {}
    if segment.phase == 2 and config.ema_decay:
        watched["average"] = WeightEMA(network, config.ema_decay, state)
    if segment.phase == 2 and config.schedule == "plateau":
        watched["plateau"] = keras.callbacks.ReduceLROnPlateau(
            monitor="val_loss", mode="min", factor=config.plateau_factor, patience=config.plateau_patience
        )
    # The model is saved at the recipe's image size, so epochs at smaller sizes cannot be the best.
    may_be_best = segment.image_size == config.image_size
    if segment.phase == 2 and config.early_stopping_patience and may_be_best:
        watched["early_stopping"] = keras.callbacks.EarlyStopping(
            monitor="val_accuracy", mode="max", patience=config.early_stopping_patience
        )
    if tensorboard:
        watched["tensorboard"] = keras.callbacks.TensorBoard(
            run.tensorboard / f"phase-{segment.phase}", write_graph=False
        )
    checkpoint = CheckpointCallback(network, run, state, may_be_best=may_be_best, watched=watched)
    return [*first, *watched.values(), checkpoint]


class WeightEMA(keras.callbacks.Callback):
    """Keeps an exponential moving average of all weights and validates it.

    Keras's `use_ema` averages trainable weights only and combines them with BatchNorm statistics of the raw weights.
    """

    def __init__(self, network: keras.Model, decay: float, state: TrainState) -> None:
        super().__init__()
        self._network, self._decay = network, decay
        self.steps = int(state.counters.get("average_steps", 0))
        self.values = [value.copy() for value in state.average]
        self._raw: list[np.ndarray] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        if not self.values:
            self.values = variable_values(self._network.weights)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.steps += 1
        since = (batch + 1) % _EMA_EVERY or _EMA_EVERY  # steps since the last update; an epoch ends with one
        if since < _EMA_EVERY and batch + 1 < self.params["steps"]:
            return
        # Use a smaller decay early in training, while the weights change quickly.
        decay = min(self._decay, (1 + self.steps) / (10 + self.steps)) ** since
        _sync(self.model)
        for average, variable in zip(self.values, self._network.weights, strict=True):
            average += ((1 - decay) * (np.asarray(variable) - average)).astype(average.dtype)

    def on_test_begin(self, logs: dict | None = None) -> None:
        self._raw = variable_values(self._network.weights)
        assign_variables(self._network.weights, self.values)

    def on_test_end(self, logs: dict | None = None) -> None:
        assign_variables(self._network.weights, self._raw)


def _sync(model: keras.Model) -> None:
    """Update the variables on JAX, which keeps its own copy of the state during fit."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()


class EpochSeeds(keras.callbacks.Callback):
    """Seeds dropout by (seed, phase, epoch), so that a resumed run draws the same numbers."""

    def __init__(self, network: keras.Model, seed: int, phase: int) -> None:
        super().__init__()
        self._layers = [*network.layers, *network.get_layer(BACKBONE).layers]
        self._seed, self._phase = seed, phase

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        rng = np.random.default_rng((self._seed, self._phase, epoch, 1))
        for layer in self._layers:
            if isinstance(layer, keras.layers.Dropout) and layer.rate > 0:
                layer.seed_generator.state.assign(rng.integers(0, 2**31, 2, dtype=np.uint32))


class ProgressCallback(keras.callbacks.Callback):
    """Shows progress (a bar in a terminal, else log lines) and stops the run if the loss becomes NaN or infinite."""

    def __init__(self, state: TrainState, segment: Segment, num_images: int, batch_size: int) -> None:
        super().__init__()
        self._state, self._segment, self._images, self._batch_size = state, segment, num_images, batch_size
        self._bar: Any = None
        self._begin = self._logged = 0.0
        self._counted_from = 0
        self._epoch = state.epoch

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch
        self._begin = self._logged = time.monotonic()
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=self._images, desc=self._name(), unit=" images", leave=False, dynamic_ncols=True)

    def _name(self) -> str:
        phase, image_size, last_epoch = self._segment
        return f"phase {phase}, {image_size} px, epoch {self._epoch + 1}/{last_epoch}"

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        logs = logs or {}
        loss = logs.get("loss", 0.0)
        if not math.isfinite(loss):
            self._close()
            raise _diverged(f"loss {loss} in {self._name()}, step {batch + 1}", self._state)
        done = min((batch + 1) * self._batch_size, self._images)
        if batch == 0:  # measure the rate from here, because the first step compiles the model
            self._begin = time.monotonic()
            self._counted_from = done
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{loss:.3f}", accuracy=f"{logs.get('accuracy', 0):.3f}", refresh=False)
            self._bar.update(done - self._bar.n)
        elif batch and time.monotonic() - self._logged > _LOG_SECONDS:
            self._logged = time.monotonic()
            rate = (done - self._counted_from) / (self._logged - self._begin)
            left = (self._images - done + (self._segment.last_epoch - self._epoch - 1) * self._images) / rate
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


def _diverged(what: str, state: TrainState) -> Diverged:
    """Return the error for a NaN or infinite loss, which says which epoch is kept."""
    kept = f"phase {state.phase}, epoch {state.epoch} is kept" if state.epoch else "no epoch of this phase was finished"
    return Diverged(
        f"{what}: {kept}; start a new run with a lower --learning-rate, --clip-norm 1 or --precision float32"
    )


class CheckpointCallback(keras.callbacks.Callback):
    """Writes the best weights, the state and the history after each epoch; must be the last callback.

    Keras's BackupAndRestore keeps model and optimiser, but not the counters of other callbacks; in phase 2, a new
    ModelCheckpoint does not know the best of phase 1.
    """

    def __init__(
        self, network: keras.Model, run: RunDirectory, state: TrainState, *, may_be_best: bool, watched: dict[str, Any]
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
        # Read the rate before ReduceLROnPlateau may change it at the end of the epoch.
        self._rate = float(np.asarray(self.model.optimizer.learning_rate))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        logs = logs or {}
        self._run.check_there()
        _sync(self.model)
        state = self._state
        if not math.isfinite(logs["val_loss"]):  # the training loss does not include the epoch's last update
            raise _diverged(f"val_loss {logs['val_loss']} after phase {state.phase}, epoch {epoch + 1}", state)
        average: WeightEMA | None = self._watched.get("average")
        kept = variable_values(self._network.weights) if average is None else average.values
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
        state.weights = variable_values(self._network.weights)
        state.optimizer = variable_values(self.model.optimizer.variables)
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
        # Check again: the folder may have been removed during the save, and the next write would recreate it.
        self._run.check_there()
        # Two states are kept, and each names its best weights.
        self._run.keep_best_weights([(found["phase"], found["epoch"]) for found in (before, state.best) if found])
        write_text(self._run.history, history_csv(state.history))
        logger.info(
            "phase %d, epoch %d (%d px): loss %.4f, accuracy %.4f, val_loss %.4f, val_accuracy %.4f, rate %.2e, %s%s",
            *(row[name] for name in ("phase", "epoch", "image_size", "loss", "accuracy", "val_loss", "val_accuracy")),
            self._rate,
            duration(row["seconds"]),
            " - best so far" if best else "",
        )


def _plain(value: Any) -> Any:
    """Convert a counter to a type that JSON has."""
    return None if value is None else float(value) if isinstance(value, (float, np.floating)) else int(value)
