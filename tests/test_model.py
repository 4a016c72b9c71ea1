import keras
import numpy as np
import pytest

from fer_tf.errors import InputError
from fer_tf.model import network as models
from fer_tf.model import weights as weights_module
from fer_tf.model.network import build_backbone, build_model, dtype_policy, logits_model
from fer_tf.model.weights import BACKBONE, load_classifier
from tests.conftest import striped_faces

IMAGES = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)


def _predict(network, images=IMAGES):
    return keras.ops.convert_to_numpy(network(images, training=False))


@pytest.fixture(scope="module")
def classifier() -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_model(5, image_size=32)


@pytest.fixture(scope="module")
def backbone() -> keras.Model:
    """A backbone to load weights into; after a successful test, it keeps them."""
    return build_backbone(32)


def test_default_is_the_reports_network():
    network = build_backbone(224)
    original = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(224, 224, 3))
    for ours, theirs in zip(network.layers, original.layers, strict=True):
        names = {"name": None, "batch_shape": None}  # the process numbers these names
        assert {**ours.get_config(), **names} == {**theirs.get_config(), **names}
    assert network.output_shape == (None, 7, 7, 1280)


def test_clone_computes_what_the_constructor_builds():
    original = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    network = build_backbone(32)
    network.set_weights(original.get_weights())
    np.testing.assert_array_equal(_predict(network), _predict(original))


def test_depth_rate_and_momentum_are_settings(backbone):
    network = build_backbone(48, stochastic_depth=0.4, batch_norm_momentum=0.9)
    rates = [layer.rate for layer in network.layers if isinstance(layer, keras.layers.Dropout)]
    default = [layer.rate for layer in backbone.layers if isinstance(layer, keras.layers.Dropout)]
    np.testing.assert_allclose(rates, 2 * np.array(default))
    assert {layer.momentum for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)} == {0.9}


def test_narrower_network_has_fewer_channels_and_opens_everywhere(tmp_path):
    network = build_model(3, image_size=32, width=0.5)
    narrow, full = network.get_layer(BACKBONE), build_backbone(32)
    assert narrow.output_shape[-1] == 640 and full.output_shape[-1] == 1280
    assert [layer.name for layer in narrow.layers if "conv" in layer.name] == [
        layer.name for layer in full.layers if "conv" in layer.name
    ]
    assert narrow.count_params() < full.count_params() / 3
    network.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(_predict(load_classifier(tmp_path / "m.keras")), _predict(network))
    again = build_model(5, image_size=48, width=0.5, weights=str(tmp_path / "m.keras"))
    np.testing.assert_array_equal(again.get_layer(BACKBONE).get_weights()[3], narrow.get_weights()[3])
    with pytest.raises(InputError, match=r"m\.keras holds another network's weights: .* of the same width or wider"):
        build_model(3, image_size=32, weights=str(tmp_path / "m.keras"))


def test_a_narrower_network_starts_from_the_channels_that_count(tmp_path):
    """Silence as many channels of a wide network as the narrow one lacks: both then compute the same."""
    keras.utils.set_random_seed(0)
    wide, shapes = build_model(3, image_size=32, batch_norm_momentum=0), build_backbone(32, width=0.5)
    backbone, rng, silent = wide.get_layer(BACKBONE), np.random.default_rng(0), {}
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            scale, *rest = layer.get_weights()
            layer.set_weights([rng.uniform(0.5, 1.5, scale.shape), rng.normal(0, 0.3, scale.shape), *rest[1:]])
        if layer.name.endswith(("se_reduce", "se_expand")):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, rng.normal(0, 0.3, bias.shape)])
    for layer in backbone.layers:
        group = layer.name[:6] if layer.name.endswith("_project_bn") else layer.name
        if group[-3:] in ("_bn", "uce") or layer.name.endswith("_project_bn"):
            arrays, left = layer.get_weights(), shapes.get_layer(layer.name).get_weights()[0].shape[-1]
            chosen = silent.setdefault(group, rng.permutation(arrays[0].shape[-1])[left:])
            for array in arrays[:2]:
                array[..., chosen] = 0
            layer.set_weights(arrays)
    images = rng.uniform(0, 255, (128, 32, 32, 3)).astype("float32")
    wide(images, training=True)  # gives BatchNorm the batch's statistics, so that no value vanishes or explodes
    wide.save(tmp_path / "wide.keras")
    narrow = build_model(3, image_size=32, width=0.5, weights=str(tmp_path / "wide.keras")).get_layer(BACKBONE)
    kept = np.setdiff1d(np.arange(1280), silent["top_bn"])
    features = _predict(backbone)
    assert np.ptp(features[..., kept], axis=0).max() > 0.01
    np.testing.assert_allclose(_predict(narrow), features[..., kept], rtol=1e-4, atol=1e-4)


def test_output_is_float32_probabilities(classifier):
    scores = _predict(classifier)
    assert scores.shape == (4, 5)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-6)
    names = [layer.name for layer in classifier.layers]
    assert names == ["image", BACKBONE, "pooling", "dropout", "logits", "probabilities"]


def test_one_class_is_refused():
    with pytest.raises(InputError, match="1 class: a classifier needs at least 2"):
        build_model(1, image_size=32)


def test_plain_load_model_opens_it(classifier, tmp_path):
    changed = build_model(3, image_size=32, stochastic_depth=0.1, batch_norm_momentum=0.9)
    for network in (classifier, changed):
        network.save(tmp_path / "m.keras")
        np.testing.assert_array_equal(_predict(keras.models.load_model(tmp_path / "m.keras")), _predict(network))


def test_model_of_version_0_1_with_a_stem_of_stride_1_opens(tmp_path):
    def clone(layer):
        settings = layer.get_config()
        if layer.name == "stem_conv":
            settings["strides"] = (1, 1)
        elif layer.name == "stem_conv_pad":
            settings["padding"] = ((1, 1), (1, 1))
        return layer.__class__.from_config(settings)

    inputs = keras.Input((32, 32, 3))
    x = keras.models.clone_model(build_backbone(32), clone_function=clone)(inputs)
    for layer in build_model(3, image_size=32).layers[2:]:
        x = layer(x)
    network = keras.Model(inputs, x)
    assert network.get_layer(BACKBONE).output_shape == (None, 2, 2, 1280)
    network.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(_predict(load_classifier(tmp_path / "m.keras")), _predict(network))


def test_h5_weights_give_what_imagenet_gives(imagenet_h5, monkeypatch):
    """Load the same file as Keras's `imagenet`, in place of the download, and as a .h5."""
    import keras.src.applications.efficientnet as efficientnet

    monkeypatch.setattr(efficientnet.file_utils, "get_file", lambda *args, **kwargs: imagenet_h5)
    theirs = keras.applications.EfficientNetB0(include_top=False, weights="imagenet", input_shape=(32, 32, 3))
    plain = keras.applications.EfficientNetB0(include_top=False, weights=imagenet_h5, input_shape=(32, 32, 3))
    ours = build_model(7, image_size=32, weights=imagenet_h5).get_layer(BACKBONE)
    # The file's BatchNorm statistics come from such pictures; with other pictures, its random layers amplify the last
    # bit # of the input without limit.
    images = np.repeat(striped_faces(4)[0][:, 8:40, 8:40, None], 3, axis=-1).astype(np.float32)
    expected = _predict(theirs, images)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(_predict(ours, images) / scale, expected / scale, atol=1e-4)
    assert np.abs(_predict(plain, images) - expected).max() / scale > 0.1  # the extra rescaling matters


def test_imagenet_uses_the_file_that_keras_fetches(imagenet_h5, monkeypatch, backbone):
    monkeypatch.setattr(keras.utils, "get_file", lambda *args, **kwargs: imagenet_h5)
    weights_module.load_backbone_weights(backbone, "imagenet")
    by_path = build_backbone(32)
    assert np.any(_predict(backbone) != _predict(by_path))
    weights_module.load_backbone_weights(by_path, imagenet_h5)
    np.testing.assert_array_equal(_predict(backbone), _predict(by_path))


def test_imagenet_without_network_names_the_ways_on(monkeypatch, backbone):
    def fail(*args, **kwargs):
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.utils, "get_file", fail)
    with pytest.raises(
        InputError,
        match=r"cannot be downloaded .* --weights imagenet-lite0 .* FILE.h5, or train from scratch with --rec",
    ):
        weights_module.load_backbone_weights(backbone, "imagenet")


def test_our_keras_gives_its_backbone_to_other_classes_and_sizes(classifier, tmp_path):
    classifier.save(tmp_path / "m.keras")
    other = build_model(2, image_size=64, weights=str(tmp_path / "m.keras"))
    for ours, theirs in zip(
        other.get_layer(BACKBONE).get_weights(), classifier.get_layer(BACKBONE).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["w.h5", "w.keras", "other.h5", "other.keras", "imagenett"])
def test_weights_of_another_network_are_refused(name, tmp_path, backbone):
    import h5py

    path = tmp_path / name
    if name == "w.h5":
        with h5py.File(path, "w") as file:
            file.attrs["layer_names"] = [b"dense"]
            file.create_group("dense").attrs["weight_names"] = []
    elif name == "w.keras":
        inputs = keras.Input((4,))
        keras.Model(inputs, keras.layers.Dense(2)(inputs)).save(path)
    elif name.startswith("other"):
        path.write_bytes(b"not a model" * 100)
    before = backbone.get_weights()
    with pytest.raises(InputError, match=r"imagenett|does not hold|another network|cannot be opened"):
        weights_module.load_backbone_weights(backbone, "imagenett" if name == "imagenett" else str(path))
    assert all(np.array_equal(a, b) for a, b in zip(before, backbone.get_weights(), strict=True))


def test_missing_weights_file_is_named(backbone):
    with pytest.raises(InputError, match=r"no weights file at nowhere\.h5"):
        weights_module.load_backbone_weights(backbone, "nowhere.h5")


def test_code_inside_a_keras_file_is_refused(tmp_path):
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x * 2)(inputs)).save(tmp_path / "m.keras")
    with pytest.raises(InputError, match="cannot be opened as a Keras model"):
        load_classifier(tmp_path / "m.keras")


def test_frozen_backbone_is_deterministic_and_keeps_its_statistics(classifier):
    network = logits_model(classifier, frozen_backbone=True)
    before = classifier.get_layer(BACKBONE).get_weights()
    classifier.get_layer("dropout").rate, rate = 0.0, classifier.get_layer("dropout").rate
    first, second = (keras.ops.convert_to_numpy(network(IMAGES, training=True)) for _ in range(2))
    classifier.get_layer("dropout").rate = rate
    np.testing.assert_array_equal(first, second)
    assert all(np.array_equal(a, b) for a, b in zip(before, classifier.get_layer(BACKBONE).get_weights(), strict=True))


def test_logit_offset_is_there_while_training_only(classifier):
    offset = np.arange(5, dtype=np.float32)
    network = logits_model(classifier, frozen_backbone=True, logit_offset=offset)
    classifier.get_layer("dropout").rate, rate = 0.0, classifier.get_layer("dropout").rate
    trained = keras.ops.convert_to_numpy(network(IMAGES, training=True))
    classifier.get_layer("dropout").rate = rate
    np.testing.assert_allclose(trained - _predict(network), np.tile(offset, (4, 1)), atol=1e-5)


def test_fixed_batch_norm_is_not_trainable():
    network = build_model(2, image_size=32)
    models.set_trainable(network, backbone=True, batch_norm=False)
    names = {variable.path.rsplit("/", 1)[-1] for variable in network.trainable_variables}
    assert names == {"kernel", "bias"}
    models.set_trainable(network, backbone=False, batch_norm=True)
    assert [variable.path for variable in network.trainable_variables] == ["logits/kernel", "logits/bias"]


def test_folded_temperature_divides_the_logits():
    network = build_model(3, image_size=32)
    before = _predict(network)
    models.fold_temperature(network, 2.0)
    expected = np.sqrt(before) / np.sqrt(before).sum(1, keepdims=True)  # p^(1/T), normalised
    np.testing.assert_allclose(_predict(network), expected, atol=1e-5)
    with pytest.raises(ValueError, match="temperature"):
        models.fold_temperature(network, 0.0)


def test_policy_is_put_back():
    with pytest.raises(RuntimeError), dtype_policy("mixed_bfloat16"):
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        raise RuntimeError
    assert keras.config.dtype_policy().name == "float32"
