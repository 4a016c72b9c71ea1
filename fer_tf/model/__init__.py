"""The network, its starting weights, and its fused operators."""

from fer_tf.model.network import (
    build_backbone,
    build_model,
    dtype_policy,
    fold_temperature,
    logits_model,
    set_trainable,
)
from fer_tf.model.weights import BACKBONE, load_backbone_weights, load_classifier, set_weights

__all__ = [
    "BACKBONE", "build_backbone", "build_model", "dtype_policy", "fold_temperature", "load_backbone_weights",
    "load_classifier", "logits_model", "set_trainable", "set_weights",
]  # fmt: skip
