"""The two phases: train the rest of the schedule, then return the best weights.

The schedule is a sequence of segments. A segment is one call of Keras's fit with one phase and image size; it builds
its own network and starts from the state of the last finished epoch. A new phase, a new image size and a resumed run
therefore use the same mechanism.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np

from fer_tf.artifacts import RunDirectory, write_text
from fer_tf.config import Config
from fer_tf.data.augmentation import EpochPlan, plan_epoch, plan_view
from fer_tf.data.dataset import Dataset
from fer_tf.model.network import logits_model, set_trainable
from fer_tf.model.weights import set_weights
from fer_tf.training.averaging import average_weights, read_others
from fer_tf.training.callbacks import make_callbacks
from fer_tf.training.checkpoint import TrainState, assign_variables, history_csv, load_weights, variable_values
from fer_tf.training.devices import across
from fer_tf.training.schedule import Segment, make_optimizer, resolve_precision, segments
from fer_tf.training.targets import class_weights, logit_offset, one_hot, soft_targets, taught
from fer_tf.training.trainer import InputPipeline, build_for, compile_trainer, make_trainer

logger = logging.getLogger(__name__)


class _Data(NamedTuple):
    """The data that every segment trains and validates on."""

    images: np.ndarray  # uint8 (n, 48, 48)
    targets: np.ndarray  # float32 (n, classes), each row summing to 1
    view_probabilities: np.ndarray | None  # float (views, n, classes): the teachers' of each view, in its plan's order
    image_weights: np.ndarray  # float32 (n,), weight of each image in the loss
    logit_offset: np.ndarray | None  # float32 (classes,)
    val_images: np.ndarray  # uint8 (m, 48, 48)
    val_targets: np.ndarray  # float32 (m, classes), one-hot


def train(
    config: Config,
    run: RunDirectory,
    dataset: Dataset,
    pipeline: InputPipeline,
    *,
    teacher_probabilities: np.ndarray | None = None,
    tensorboard: bool = False,
    devices: Sequence[str] = (),
) -> tuple[keras.Model, TrainState]:
    """Train both phases, or continue from the state in the run directory.

    Args:
        config: the recipe.
        run: receives the state, the history and the best weights after every epoch.
        dataset: decoded data with the splits train and validation.
        pipeline: the module `data.tf_pipeline` or `data.jax_pipeline`.
        teacher_probabilities: float, the teachers' mean probabilities; None without teachers. (train rows, classes) or,
            with `config.teacher_views`, (views, train rows, classes) in the order of `plan_view`.
        tensorboard: True to write TensorBoard's files too.
        devices: devices from `find_devices` that share each step; Keras's own choice if empty.

    Returns:
        The float32 model with the weights of the best epoch over both phases, averaged with those of
        `config.average_with`, and the final state.

    Raises:
        InputError: if the weights cannot be loaded, the data cannot be used for training, or the state cannot be read.
        Diverged: if the loss becomes NaN or infinite.
    """
    frozen_epochs = 0 if config.weights == "none" else config.frozen_epochs
    data = _prepare(config, dataset, teacher_probabilities)
    if frozen_epochs < config.frozen_epochs:
        logger.info("no frozen phase: with --weights none the backbone is random, and a head on it learns nothing")
    state = TrainState.load(run) or TrainState(phase=1 if frozen_epochs else 2)
    keras.utils.set_random_seed(config.seed)
    state.precision = state.precision or resolve_precision(config.precision)
    if state.history:
        # If the run was killed after saving the state but before the history, the state has one more row.
        write_text(run.history, history_csv(state.history))
    if not state.weights:
        start = build_for(config, config.image_size, dataset.num_classes, "float32", start=True)
        state.weights = variable_values(start.weights)
    others = read_others(config, state.weights)  # now, so that a wrong path costs no training
    for segment in segments(config, frozen_epochs):
        if segment.phase > state.phase:
            state.start_phase(segment.phase)
        if segment.phase == state.phase and segment.last_epoch > state.epoch and not state.stopped:
            with across(devices):
                _fit(config, run, state, segment, data, pipeline, tensorboard=tensorboard)
    run.check_there()
    weights = state.average or state.weights
    if state.best:
        weights = load_weights(run.best_weights(state.best["phase"], state.best["epoch"]))
    if others:
        logger.info("weights: the mean of this run's and those of %s", ", ".join(config.average_with))
        weights = average_weights(config, [weights, *others], data.images, dataset.num_classes, pipeline)
    model = build_for(config, config.image_size, dataset.num_classes, "float32")
    set_weights(model, round_kernels(weights) if config.round_kernels else weights)
    return model, state


def _prepare(config: Config, dataset: Dataset, teacher_probabilities: np.ndarray | None) -> _Data:
    train_split, validation = dataset.take("train"), dataset.take("validation")
    assert train_split.images is not None and validation.images is not None
    labels, num_classes = train_split.labels, dataset.num_classes
    of_views = teacher_probabilities if config.teacher_views else None
    of_images = None if config.teacher_views else teacher_probabilities
    return _Data(
        train_split.images,
        soft_targets(config, labels, num_classes, of_images, train_split.targets),
        of_views,
        class_weights(labels, num_classes, config.class_weights)[labels],
        logit_offset(labels, num_classes, config.logit_adjustment),
        validation.images,
        one_hot(validation.labels, num_classes),
    )


def _fit(
    config: Config,
    run: RunDirectory,
    state: TrainState,
    segment: Segment,
    data: _Data,
    pipeline: InputPipeline,
    *,
    tensorboard: bool,
) -> None:
    """Train one segment, starting from the state; the callbacks update and save the state after each epoch."""
    num_images, num_classes = data.targets.shape
    frozen = segment.phase == 1
    network = build_for(config, segment.image_size, num_classes, state.precision)
    set_trainable(network, backbone=not frozen, batch_norm=config.train_batch_norm)
    set_weights(network, state.weights)
    core = logits_model(network, frozen_backbone=frozen, logit_offset=data.logit_offset)
    trainer = make_trainer(pipeline, core, segment.image_size)
    steps = -(-num_images // config.batch_size)
    optimizer = make_optimizer(config, segment.phase, steps)
    if state.precision == "mixed_float16":
        # Wrap explicitly: compile() adds loss scaling only when the outer model's policy is mixed_float16.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    compile_trainer(trainer, optimizer, num_classes)
    if state.optimizer:
        assign_variables(trainer.optimizer.variables, state.optimizer)

    def plan(epoch: int) -> EpochPlan:
        if data.view_probabilities is not None:
            view = epoch % len(data.view_probabilities)
            planned = plan_view(config, data.targets, data.image_weights, view)
            targets = taught(config, planned.targets, data.view_probabilities[view]).astype(np.float32)
            return dataclasses.replace(planned, targets=targets)
        return plan_epoch(config, data.targets, data.image_weights, phase=segment.phase, epoch=epoch)

    logger.info(
        "phase %d: %s, %d px, epochs %d to %d, %d images in %d steps, %s",
        segment.phase,
        "head only, backbone frozen" if frozen else "all layers",
        segment.image_size,
        state.epoch + 1,
        segment.last_epoch,
        num_images,
        steps,
        state.precision,
    )
    batches = {"batch_size": config.batch_size, "image_size": segment.image_size}
    trainer.fit(
        pipeline.make_train_dataset(data.images, plan, epochs=(state.epoch, segment.last_epoch), **batches),
        validation_data=pipeline.make_eval_dataset(data.val_images, data.val_targets, **batches),
        epochs=segment.last_epoch,
        initial_epoch=state.epoch,
        steps_per_epoch=steps,
        callbacks=make_callbacks(config, run, state, segment, network, num_images=num_images, tensorboard=tensorboard),
        shuffle=False,  # the plan is already shuffled
        verbose=0,
    )


def round_kernels(weights: list[np.ndarray]) -> list[np.ndarray]:
    """Round every kernel to float16 precision, so that the saved file compresses better.

    Args:
        weights: float32 arrays of a model. Vectors (biases, BatchNorm) are small and stay unchanged.

    Returns:
        float32 arrays; a rounded kernel's last 13 bits are zero.
    """
    return [
        value.astype(np.float16).astype(value.dtype) if value.ndim >= 2 else value  # kernels are far below 65,504
        for value in weights
    ]


def is_over(config: Config, state: TrainState | None) -> bool:
    """Return True if there is no epoch left to train."""
    return state is not None and state.phase == 2 and (state.stopped or state.epoch >= config.epochs)
