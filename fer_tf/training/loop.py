"""The two phases: which segments of epochs are trained, in which model, and which weights win.

Training is a sequence of segments. Each segment is one call of Keras's fit at one phase and image size; it builds its
model and loads the state of the last finished epoch. A new phase, a new image size and a resumed run are therefore one
mechanism.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import keras
import numpy as np

from fer_tf.artifacts import RunDirectory, write_text
from fer_tf.config import Config
from fer_tf.data.augmentation import EpochPlan, plan_batches, plan_epoch
from fer_tf.data.dataset import Dataset
from fer_tf.model.network import build_model, dtype_policy, features_model, head_model, logits_model, set_trainable
from fer_tf.model.weights import set_weights
from fer_tf.training.callbacks import CheckpointCallback, EpochSeeds, ProgressCallback, WeightEMA
from fer_tf.training.checkpoint import TrainState, assign_variables, history_csv, load_weights, variable_values
from fer_tf.training.schedule import make_optimizer, resolve_precision, segments
from fer_tf.training.targets import class_weights, one_hot, soft_targets

logger = logging.getLogger(__name__)

_FEATURES_BATCH = 64


class InputPipeline(Protocol):
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


def train(
    config: Config,
    run: RunDirectory,
    dataset: Dataset,
    feed: InputPipeline,
    *,
    taught: np.ndarray | None = None,
    tensorboard: bool = False,
) -> tuple[keras.Model, TrainState]:
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
    state = TrainState.load(run) or TrainState(phase=1 if frozen_epochs else 2)
    keras.utils.set_random_seed(config.seed)
    state.precision = state.precision or resolve_precision(config.precision)
    if state.history:  # a run that was killed between state and history has its last row in the state alone
        write_text(run.history, history_csv(state.history))
    if not state.weights:
        state.weights = variable_values(
            build_for(config, config.image_size, train_split.num_classes, "float32", start=True).weights
        )

    labels = train_split.labels
    targets = soft_targets(config, labels, train_split.num_classes, taught)
    image_weights = class_weights(labels, train_split.num_classes, config.class_weights)[labels]
    for phase, size, last in segments(config, frozen_epochs):
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


def is_over(config: Config, state: TrainState | None) -> bool:
    """Whether no epoch is left to train."""
    return state is not None and state.phase == 2 and (state.stopped or state.epoch >= config.epochs)


def compile_trainer(trainer: keras.Model, optimizer: keras.optimizers.Optimizer, num_classes: int) -> None:
    """Compiles the model that fit sees, as every phase does.

    Args:
        trainer: of `InputPipeline.fit_model`, giving logits (batch, num_classes).
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
    state: TrainState
    feed: InputPipeline
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
        optimizer = make_optimizer(config, state.phase, steps)
        # compile would not: the model that fit sees is float32 around a half-precision core.
        if policy == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        compile_trainer(trainer, optimizer, train_split.num_classes)
        if state.optimizer:
            assign_variables(trainer.optimizer.variables, state.optimizer)
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
            EpochSeeds(model, config.seed, state.phase),
            ProgressCallback(state, self.image_size, num_images, config.batch_size, self.last_epoch),
        ]
        watched: dict[str, Any] = {}
        if state.phase == 2 and config.ema_decay:
            watched["average"] = WeightEMA(model, config.ema_decay, state)
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
        keeper = CheckpointCallback(model, self.run, state, may_be_best=may_be_best, watched=watched)
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
