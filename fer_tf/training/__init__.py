"""Training in two phases: targets, schedule, the model for fit, callbacks, the state of a run, the loop."""

from fer_tf.training.checkpoint import TrainState
from fer_tf.training.devices import find_devices
from fer_tf.training.loop import is_over, train
from fer_tf.training.schedule import resolve_precision
from fer_tf.training.trainer import build_for, compile_trainer, make_trainer

__all__ = [
    "TrainState",
    "build_for",
    "compile_trainer",
    "find_devices",
    "is_over",
    "make_trainer",
    "resolve_precision",
    "train",
]
