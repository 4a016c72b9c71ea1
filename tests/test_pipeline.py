import dataclasses

import numpy as np
import pytest

from fer_tf.config import Config
from fer_tf.data import jax_pipeline
from fer_tf.data import tf_pipeline as pipeline
from fer_tf.data.augmentation import plan_epoch
from fer_tf.data.synthetic import make_synthetic
from fer_tf.training.targets import one_hot
from tests.conftest import striped_faces

CONFIG = Config(weights="none", batch_size=8, image_size=32)


def _plan(config, num_images):
    targets = one_hot(np.arange(num_images) % 3, 3)
    return lambda epoch: plan_epoch(config, targets, np.ones(num_images, np.float32), phase=2, epoch=epoch)


def test_tf_data_decodes_strings_as_numpy_does():
    dataset = make_synthetic(300, 10, 10, seed=1)
    decoded = pipeline.decode(dataset)
    assert decoded.pixels is None
    assert decoded.images.dtype == np.uint8
    np.testing.assert_array_equal(decoded.images, dataset.decoded().images)
    assert pipeline.decode(decoded) is decoded


def test_eval_sees_each_image_exactly_once_in_order():
    images, labels = striped_faces(21)
    images[:, 0, 0] = np.arange(21)
    data = list(pipeline.make_eval_dataset(images, one_hot(labels, 3), batch_size=8, image_size=48))
    assert [len(x) for x, _ in data] == [8, 8, 5]
    assert np.concatenate([x[:, 0, 0, 0] for x, _ in data]).tolist() == list(range(21))
    assert np.concatenate([y for _, y in data]).argmax(1).tolist() == labels.tolist()
    assert data[0][0].shape == (8, 48, 48, 3)


def test_train_epochs_follow_their_plans():
    images, _ = striped_faces(20)
    config = dataclasses.replace(CONFIG, flip=False, rotation=0.0, shift=0.0, zoom=0.0)
    images[:, 0, 0] = np.arange(20)
    plan = _plan(config, 20)
    data = list(pipeline.make_train_dataset(images, plan, epochs=(1, 3), batch_size=8, image_size=48))
    assert [len(x) for x, _, _ in data] == [8, 8, 4, 8, 8, 4]
    seen = np.concatenate([x[:, 0, 0, 0] for x, _, _ in data])
    assert seen.tolist() == [*plan(1).order, *plan(2).order]
    targets = np.concatenate([y for _, y, _ in data])
    assert targets.argmax(1).tolist() == (seen % 3).tolist()


def test_augmentation_is_drawn_anew_each_epoch_and_only_for_training():
    images, labels = striped_faces(8)
    first, second = pipeline.make_train_dataset(images, _plan(CONFIG, 8), epochs=(0, 2), batch_size=8, image_size=32)
    order = [_plan(CONFIG, 8)(epoch).order for epoch in (0, 1)]
    pictures = [x.numpy()[np.argsort(o)] for (x, _, _), o in zip((first, second), order, strict=True)]
    assert np.abs(pictures[0] - pictures[1]).mean() > 1
    ((plain, _),) = pipeline.make_eval_dataset(images, one_hot(labels, 3), batch_size=8, image_size=32)
    assert all(np.abs(picture - plain.numpy()).mean() > 1 for picture in pictures)


@pytest.mark.parametrize("image_size", [32, 48])
def test_both_pipelines_give_the_network_the_same_pictures(image_size):
    """The compiled step and tf.data give the same order, augmentation and input."""
    import keras

    images, labels = striped_faces(12)
    config = dataclasses.replace(CONFIG, mixup=0.2, cutmix=1.0, erasing=0.5, contrast=0.2, noise=8.0, blur=1.0)
    plan = _plan(config, 12)
    settings = {"epochs": (0, 1), "batch_size": 8, "image_size": image_size}
    inputs = keras.Input((image_size, image_size, 3))
    identity = jax_pipeline.fit_model(keras.Model(inputs, keras.layers.Identity()(inputs)), image_size)
    ours = pipeline.make_train_dataset(images, plan, **settings)
    theirs = jax_pipeline.make_train_dataset(images, plan, **settings)
    for (x, y, w), (arrays, targets, weights) in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(identity(arrays, training=True), x, atol=2e-3)
        np.testing.assert_array_equal(y, targets)
        np.testing.assert_array_equal(w, weights)
    plain = pipeline.make_eval_dataset(images, one_hot(labels, 3), batch_size=8, image_size=image_size)
    batches = jax_pipeline.make_eval_dataset(images, one_hot(labels, 3), batch_size=8, image_size=image_size)
    assert len(batches) == 2
    for (x, y), (arrays, targets) in zip(plain, (batches[i] for i in range(2)), strict=True):
        np.testing.assert_allclose(identity(arrays, training=False), x, atol=1e-3)
        np.testing.assert_array_equal(y, targets)
