"""The model for Keras's fit: builds the recipe's network, joins it with its input pipeline, and compiles it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import keras
import numpy as np

from fer_tf.artifacts import shipped_model
from fer_tf.config import Config
from fer_tf.data.augmentation import EpochPlan
from fer_tf.model.network import build_model, dtype_policy


class InputPipeline(Protocol):
    """The path of images to fit: the module `data.tf_pipeline`, or `data.jax_pipeline` (inside the compiled step)."""

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


def build_for(config: Config, image_size: int, num_classes: int, policy: str, start: bool = False) -> keras.Model:
    """Build the recipe's network.

    Args:
        config: only the model fields are used.
        image_size: side of the input, pixels; differs from the recipe's during progressive resizing.
        num_classes: at least 2.
        policy: Keras's dtype policy, such as `float32`.
        start: True to load the recipe's starting weights too.

    Raises:
        InputError: if the starting weights cannot be loaded.
    """
    weights = config.weights if start else "none"
    with dtype_policy(policy):
        return build_model(
            num_classes,
            image_size=image_size,
            width=config.width,
            dropout=config.dropout,
            stochastic_depth=config.stochastic_depth,
            batch_norm_momentum=config.batch_norm_momentum,
            weights=str(shipped_model(".keras")) if weights == "fer2013" else weights,
        )


def make_trainer(pipeline: InputPipeline, model: keras.Model, image_size: int) -> keras.Model:
    """Join a network with its input pipeline; on TensorFlow, use fused operators.

    Args:
        pipeline: the module that feeds fit.
        model: from `model.logits_model`.
        image_size: side of the network's input, pixels.

    Returns:
        A model that takes the pipeline's batches and trains the variables of `model`.
    """
    trainer = pipeline.fit_model(model, image_size)
    if keras.backend.backend() != "tensorflow":
        return trainer
    from fer_tf.model.fused import fuse  # imports TensorFlow

    return fuse(trainer)


def compile_trainer(trainer: keras.Model, optimizer: keras.optimizers.Optimizer, num_classes: int) -> None:
    """Compile a trainer with the loss and the metric of both phases.

    Args:
        trainer: from `make_trainer`; gives logits (batch, num_classes).
        optimizer: not built yet.
        num_classes: number of columns of logits and targets.
    """
    trainer.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    # Build the variables now so that the first step is traced only once.
    trainer.optimizer.build(trainer.trainable_variables)
    nothing = np.zeros((1, num_classes), np.float32)
    trainer.compute_metrics(None, nothing, nothing)
    trainer.reset_metrics()
