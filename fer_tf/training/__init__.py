"""Training in two phases: targets, schedule, state, callbacks, the loop."""

from fer_tf.training.checkpoint import TrainState
from fer_tf.training.loop import build_for, compile_trainer, is_over, train
from fer_tf.training.schedule import resolve_precision

__all__ = ["TrainState", "build_for", "compile_trainer", "is_over", "resolve_precision", "train"]
