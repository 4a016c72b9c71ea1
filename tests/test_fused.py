import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_tf.model.fused import FusedBatchNormalization, FusedSwish, fuse, swish
from fer_tf.model.network import build_model, logits_model, set_trainable
from fer_tf.model.weights import BACKBONE


@pytest.fixture(scope="module")
def fresh_network():
    """A function that gives the network with its first weights, all of them trainable."""
    keras.utils.set_random_seed(0)
    model = build_model(3, image_size=32, dropout=0.0, stochastic_depth=0.0, batch_norm_momentum=0.9)
    weights = model.get_weights()

    def fresh() -> keras.Model:
        set_trainable(model, backbone=True, batch_norm=True)
        model.set_weights(weights)
        return model

    return fresh


def _step(model: keras.Model, trainer: keras.Model, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Gradients of one training step, in the order of the model's trainable variables."""
    with tf.GradientTape() as tape:
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)(y, trainer(x, training=True))
    return [np.asarray(gradient) for gradient in tape.gradient(loss, model.trainable_variables)]


def _batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.uniform(0, 255, (16, 32, 32, 3)).astype(np.float32), np.eye(3, dtype=np.float32)[np.arange(16) % 3]


def test_normalisation_equals_keras_forward_backward_and_in_its_statistics():
    x = np.random.default_rng(1).normal(3, 2, (4, 5, 6, 8)).astype(np.float32)
    upstream = np.random.default_rng(2).normal(size=x.shape).astype(np.float32)
    results = []
    for fused in (False, True):
        layer = keras.layers.BatchNormalization(momentum=0.7)
        layer.build(x.shape)
        layer.gamma.assign(np.linspace(0.5, 2, 8))
        layer.beta.assign(np.linspace(-1, 1, 8))
        called = FusedBatchNormalization(layer) if fused else layer
        inputs = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = called(inputs, training=True)
        gradients = tape.gradient(y, [inputs, layer.gamma.value, layer.beta.value], tf.constant(upstream))
        values = [y, *gradients, layer.moving_mean, layer.moving_variance, called(inputs, training=False)]
        results.append([np.asarray(value) for value in values])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)


def test_swish_and_its_gradient_equal_keras():
    x = tf.constant(np.linspace(-20, 20, 401, dtype=np.float32))
    results = []
    for function in (keras.activations.silu, swish, FusedSwish()):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        results.append((y, tape.gradient(y, x)))
    for y, gradient in results[1:]:
        np.testing.assert_allclose(y, results[0][0], atol=1e-6)
        np.testing.assert_allclose(gradient, results[0][1], atol=1e-6)


def test_whole_network_shares_its_variables_and_learns_the_same(fresh_network):
    x, y = _batch()
    gradients, statistics = [], []
    for fused in (False, True):
        model = fresh_network()
        trainer = fuse(logits_model(model)) if fused else logits_model(model)
        assert {id(v) for v in trainer.variables} == {id(v) for v in logits_model(model).variables}
        gradients.append(_step(model, trainer, x, y))
        statistics.append([np.asarray(v) for v in model.non_trainable_variables if "moving" in v.path])
    kinds = {type(layer) for layer in _backbone_of(trainer).layers}
    assert {FusedBatchNormalization, FusedSwish} <= kinds and keras.layers.BatchNormalization not in kinds
    for values in (gradients, statistics):
        whole = np.linalg.norm([np.linalg.norm(value) for value in values[0]])
        for ours, theirs in zip(*values, strict=True):
            # A random network amplifies the last bit; a wrong formula is off by far more than a hundredth of the norm.
            # Some gradients are zero apart from rounding: those of offsets that the next normalisation removes.
            assert np.linalg.norm(ours - theirs) <= 1e-2 * np.linalg.norm(theirs) + 1e-5 * whole


def _backbone_of(trainer: keras.Model) -> keras.Model:
    return next(layer for layer in trainer.layers if layer.name == BACKBONE)


def test_frozen_normalisation_keeps_its_statistics_and_is_not_trained(fresh_network):
    x, y = _batch()
    model = fresh_network()
    set_trainable(model, backbone=True, batch_norm=False)
    trainer = fuse(logits_model(model))
    before = [np.asarray(v) for v in model.non_trainable_variables if "moving" in v.path]
    _step(model, trainer, x, y)
    after = [np.asarray(v) for v in model.non_trainable_variables if "moving" in v.path]
    assert before and all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    assert {id(v) for v in trainer.trainable_variables} == {id(v) for v in model.trainable_variables}


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_networks_fuse_too(policy):
    layer = keras.layers.BatchNormalization(dtype=policy)
    layer.build((None, 4, 4, 8))
    y = FusedBatchNormalization(layer)(np.ones((2, 4, 4, 8), np.float32), training=True)
    assert keras.backend.standardize_dtype(y.dtype) == policy.removeprefix("mixed_")
    assert keras.backend.standardize_dtype(layer.moving_mean.dtype) == "float32"
