import keras
import numpy as np
import pytest

from fer_tf.config import Config, config_from_dict
from fer_tf.training.schedule import make_optimizer

RATE = 0.01


def _optimizer(**settings) -> keras.optimizers.Optimizer:
    config = config_from_dict({"optimizer": "muon", "schedule": "constant", "weight_decay": 0.0, **settings}, Config())
    return make_optimizer(config_from_dict({"learning_rate": RATE}, config), 2, 10)


def _step(optimizer: keras.optimizers.Optimizer, value: np.ndarray, *gradients: np.ndarray) -> np.ndarray:
    """Return the change of a variable by the steps."""
    variable = keras.Variable(value)
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    return keras.ops.convert_to_numpy(variable) - value


@pytest.mark.parametrize("shape", [(1, 1, 24, 96), (1, 1, 96, 24)])
def test_a_pointwise_kernel_moves_by_nearly_equal_singular_values(shape):
    """Whatever the gradient's scale and spectrum, each of its directions gets about the same step."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(size, 24)))[0] for size in shape[2:])
    gradient = ((left * np.geomspace(1, 0.05, 24)) @ right.T).reshape(shape).astype(np.float32)
    value = np.zeros(shape, np.float32)
    update = _step(_optimizer(), value, gradient)
    singular = np.linalg.svd(update.reshape(shape[2:]), compute_uv=False) / (RATE * 0.2 * 96**0.5)
    assert singular.min() > 0.6 and singular.max() < 1.3
    assert np.linalg.matrix_rank(gradient.reshape(shape[2:])) == len(singular)
    assert np.sum(update * gradient) < 0  # downhill
    np.testing.assert_allclose(_step(_optimizer(), value, 1000 * gradient), update, atol=2e-2 * np.abs(update).max())


@pytest.mark.parametrize("shape", [(3, 3, 8, 1), (3, 3, 3, 16), (32, 7), (16,)])
def test_the_rest_is_adamw_at_half_the_rate(shape):
    rng = np.random.default_rng(1)
    value, *gradients = (rng.normal(size=shape).astype(np.float32) for _ in range(4))
    expected = _step(keras.optimizers.AdamW(RATE / 2, weight_decay=0.0), value, *gradients)
    np.testing.assert_allclose(_step(_optimizer(), value, *gradients), expected, rtol=1e-4, atol=1e-6)


def test_momentum_carries_the_last_gradient_on():
    rng = np.random.default_rng(2)
    value = np.zeros((1, 1, 8, 8), np.float32)
    gradient = rng.normal(size=value.shape).astype(np.float32)
    nothing = np.zeros_like(gradient)
    both = _step(_optimizer(momentum=0.95), value, gradient, nothing)
    without = _step(_optimizer(momentum=0.0), value, gradient, nothing)
    assert np.sum(both * gradient) < 1.5 * np.sum(without * gradient) < 0
