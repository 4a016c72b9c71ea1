import dataclasses

import keras
import numpy as np
import pytest

from fer_tf.config import Config
from fer_tf.data import augmentation
from fer_tf.data.augmentation import augment, identity_parameters, plan_batches, plan_epoch
from fer_tf.data.preprocessing import preprocess

PLAIN = Config(
    weights="none", flip=False, rotation=0.0, shift=0.0, zoom=0.0, class_weights="none", batch_size=8, image_size=32
)
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 48, 48), dtype=np.uint8)
TARGETS = np.eye(4, dtype=np.float32)[np.arange(20) % 4]
WEIGHTS = np.array([1.0, 2.0, 3.0, 4.0], np.float32)[np.arange(20) % 4]


def _plan(epoch=0, phase=2, targets=TARGETS, weights=WEIGHTS, **settings):
    return plan_epoch(dataclasses.replace(PLAIN, **settings), targets, weights, phase=phase, epoch=epoch)


def _augmented(images=IMAGES, **settings):
    """A batch before and after, in the plan's order."""
    plan = _plan(targets=TARGETS[: len(images)], weights=WEIGHTS[: len(images)], **settings)
    return images[plan.order].astype(np.float32), keras.ops.convert_to_numpy(
        augment(images[plan.order], plan.parameters)
    )


def test_epoch_holds_every_image_once_in_another_order_each_time():
    first, second = _plan(0), _plan(1)
    assert sorted(first.order) == sorted(second.order) == list(range(20))
    assert first.order.tolist() != second.order.tolist()
    assert (first.targets.argmax(1) == first.order % 4).all()
    assert (first.weights == WEIGHTS[first.order]).all()


def test_plan_depends_on_seed_phase_and_epoch_alone():
    settings = {"flip": True, "rotation": 10.0, "mixup": 0.2, "cutmix": 1.0, "erasing": 0.5, "noise": 8.0, "blur": 1.0}
    again, other = _plan(3, **settings), _plan(3, **settings)
    for field in ("order", "parameters", "targets", "weights"):
        assert (getattr(again, field) == getattr(other, field)).all()
    assert not (_plan(3, phase=1).order == again.order).all()
    assert not (_plan(3, seed=1).order == again.order).all()


def test_batches_cover_the_epoch_the_last_one_smaller():
    batches = list(plan_batches(_plan, 2, 4, 8))
    assert [len(batch[0]) for batch in batches] == [8, 8, 4, 8, 8, 4]
    assert np.concatenate([batch[0] for batch in batches[3:]]).tolist() == _plan(3).order.tolist()


def test_identity_leaves_images_as_they_are():
    result = keras.ops.convert_to_numpy(augment(IMAGES, identity_parameters(8)))
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, IMAGES)


def test_flip_mirrors_half_of_the_images_exactly():
    before, after = _augmented(flip=True)
    same = (after == before).all((1, 2))
    mirrored = (after == before[:, :, ::-1]).all((1, 2))
    assert (same ^ mirrored).all()
    assert same.any() and mirrored.any()


def test_crop_shifts_by_whole_pixels():
    before, after = _augmented(crop=4)
    for original, moved in zip(before, after, strict=True):
        assert any(
            np.array_equal(moved[8:40, 8:40], original[8 + y : 40 + y, 8 + x : 40 + x])
            for y in range(-4, 5)
            for x in range(-4, 5)
        )


def test_rotation_turns_about_the_centre():
    image = np.zeros((1, 48, 48), np.uint8)
    image[0, 20:28, 4:44] = 200  # a level bar
    parameters = identity_parameters(1)
    parameters[0, :6] = [0, -1, 47, 1, 0, 0]  # a quarter turn
    turned = keras.ops.convert_to_numpy(augment(image, parameters))
    np.testing.assert_allclose(turned[0], np.rot90(image[0], -1), atol=1e-3)


@pytest.mark.parametrize(
    "settings", [{"rotation": 30.0}, {"zoom": 0.2}, {"shift": 0.2}, {"contrast": 0.5}, {"noise": 60.0}, {"blur": 2.0}]
)
def test_each_change_keeps_the_range_and_changes_the_pixels(settings):
    before, after = _augmented(**settings)
    assert after.min() >= 0 and after.max() <= 255
    assert np.abs(after - before).mean() > 5


def test_zoom_is_centred():
    image = np.zeros((8, 48, 48), np.uint8)
    image[:, 23:25, 23:25] = 255
    _, after = _augmented(images=image, zoom=0.2)
    assert after[:, 23:25, 23:25].min() > 200


def test_erasing_fills_one_rectangle_of_one_value():
    before, after = _augmented(erasing=1.0)
    for original, erased in zip(before, after, strict=True):
        rows, columns = np.nonzero(original != erased)
        box = erased[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert np.ptp(box) == 0
        assert 0.015 < box.size / 48**2 < 0.36


def _grey(num_images=8):
    return np.full((num_images, 48, 48), 128, np.uint8)


def test_noise_has_a_strength_of_its_own_for_each_image():
    before, after = _augmented(images=_grey(), noise=20.0)
    strength = (after - before).std((1, 2))
    assert len(np.unique(strength.round(3))) == 8 and strength.max() < 22
    np.testing.assert_allclose((after - before).mean((1, 2)) / strength, 0, atol=0.1)
    assert _augmented(noise=128.0)[1].min() >= 0 and _augmented(noise=128.0)[1].max() <= 255


def test_noise_of_two_images_and_two_epochs_differs():
    fields = [
        field / field.std()
        for epoch in range(2)
        for field in _augmented(images=_grey(), noise=20.0, epoch=epoch)[1] - 128
    ]
    correlation = np.corrcoef(np.reshape(fields, (16, -1)))
    assert np.abs(correlation - np.eye(16)).max() < 0.2
    normal = np.concatenate([field.ravel() for field in fields])
    assert 0.66 < (np.abs(normal) < 1).mean() < 0.70  # a normal distribution has 0.683


def test_blur_is_a_gaussian_of_the_drawn_width():
    from scipy.ndimage import gaussian_filter

    plan = _plan(targets=TARGETS[:8], weights=WEIGHTS[:8], blur=3.0)
    images = IMAGES[plan.order]
    after = keras.ops.convert_to_numpy(augment(images, plan.parameters))
    deviation = plan.parameters[:, 19]
    assert deviation.min() > 0 and deviation.max() <= 3 and len(np.unique(deviation)) == 8
    for image, blurred, sigma in zip(images.astype(np.float64), after, deviation, strict=True):
        inside = slice(12, 36)  # at the edges scipy repeats pixels, we leave them out of the mean
        expected = gaussian_filter(image, float(sigma), truncate=12)[inside, inside]
        np.testing.assert_allclose(blurred[inside, inside], expected, atol=0.1 + 8 * (sigma < 0.4))


def test_blur_keeps_a_level_picture_and_mean_grey():
    _, after = _augmented(images=_grey(), blur=4.0)
    np.testing.assert_allclose(after, 128, atol=1e-3)


def test_noise_and_blur_leave_all_other_draws_as_they_are():
    """Recipes of version 0.1 give the same bits; adding noise changes nothing else in the pictures."""
    settings = {"flip": True, "rotation": 10.0, "erasing": 0.5, "mixup": 0.2, "cutmix": 1.0, "contrast": 0.2}
    without, with_both = _plan(**settings), _plan(**settings, noise=9.0, blur=1.0)
    np.testing.assert_array_equal(without.order, with_both.order)
    np.testing.assert_array_equal(without.parameters[:, :19], with_both.parameters[:, :19])
    np.testing.assert_array_equal(without.targets, with_both.targets)
    assert not without.parameters[:, 19:21].any() and with_both.parameters[:, 19:21].all()


def test_mixup_mixes_pixels_targets_and_weights_alike():
    """The weighted loss of a mixed image is the mix of the two weighted losses, not that of the arg max class."""
    plan = _plan(mixup=0.4, batch_size=8)
    share, partner = plan.parameters[:, 14], plan.parameters[:, 13].astype(int)
    start = np.arange(20) // 8 * 8
    own, other = plan.order, plan.order[start + partner]
    assert (own != other).all()
    scores = -np.log(np.random.default_rng(1).dirichlet(np.ones(4), 20))  # some network's -log p
    loss = plan.weights * (plan.targets * scores).sum(1)
    row = np.arange(20)
    expected = share * WEIGHTS[own] * scores[row, own % 4] + (1 - share) * WEIGHTS[other] * scores[row, other % 4]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(plan.targets.sum(1), 1, rtol=1e-6)
    images = np.random.default_rng(2).integers(0, 256, (20, 48, 48), dtype=np.uint8)[plan.order][:8]
    mixed = keras.ops.convert_to_numpy(augment(images, plan.parameters[:8]))
    s = share[:8, None, None]
    np.testing.assert_allclose(mixed, s * images + (1 - s) * images[partner[:8]], atol=1e-3)


def test_cutmix_share_is_the_area_that_stays():
    plan = _plan(cutmix=1.0, weights=np.ones(20, np.float32))
    images = np.stack([np.full((48, 48), 10 * k, np.uint8) for k in range(8)])
    mixed = keras.ops.convert_to_numpy(augment(images, plan.parameters[:8]))
    kept = (mixed == images).mean((1, 2))
    own = plan.targets[np.arange(8), plan.order[:8] % 4]
    other = plan.order[(np.arange(8) + 1) % 8] % 4
    different = other != plan.order[:8] % 4
    np.testing.assert_allclose(own[different], kept[different], atol=1e-5)
    assert different.any() and (kept < 1).any()


def test_batch_of_one_cannot_be_mixed_with_another():
    plan = _plan(mixup=1.0, targets=TARGETS[:9], weights=WEIGHTS[:9])
    assert plan.parameters[8, 13] == 0  # the only image of the last batch is its own partner
    np.testing.assert_allclose(plan.targets[8], TARGETS[plan.order[8]], atol=1e-6)


def test_augment_is_the_same_eagerly_and_in_dataset_map():
    import tensorflow as tf

    plan = _plan(
        targets=TARGETS[:8], weights=WEIGHTS[:8], rotation=10.0, zoom=0.1, erasing=0.5, mixup=0.2, contrast=0.2,
        noise=8.0, blur=1.0,
    )  # fmt: skip
    eager = keras.ops.convert_to_numpy(augment(IMAGES, plan.parameters))
    mapped = tf.data.Dataset.from_tensors((IMAGES, plan.parameters)).map(augment).get_single_element().numpy()
    np.testing.assert_allclose(mapped, eager, atol=1e-3)


@pytest.mark.parametrize("size", [32, 48, 112])
def test_preprocess_is_the_same_everywhere(size):
    import tensorflow as tf

    eager = keras.ops.convert_to_numpy(preprocess(IMAGES, size))
    assert eager.shape == (8, size, size, 3)
    assert eager.dtype == np.float32
    assert eager.min() >= 0 and eager.max() <= 255
    assert (eager[..., 0] == eager[..., 1]).all() and (eager[..., 0] == eager[..., 2]).all()
    if size == 48:
        np.testing.assert_array_equal(eager[..., 0], IMAGES)
    mapped = tf.data.Dataset.from_tensors(IMAGES).map(lambda x: preprocess(x, size)).get_single_element().numpy()
    np.testing.assert_allclose(mapped, eager, atol=1e-3)
    inputs = keras.Input((48, 48, 1), dtype="uint8")
    model = keras.Model(inputs, preprocess(inputs, size))
    np.testing.assert_allclose(model.predict(IMAGES[..., None], verbose=0), eager, atol=1e-3)


def test_parameter_columns_do_not_overlap():
    columns = [
        *range(*augmentation._AFFINE.indices(99)[:2]), augmentation._GAIN, augmentation._OFFSET,
        *range(*augmentation._ERASE.indices(99)[:2]), augmentation._ERASE_VALUE, augmentation._PARTNER,
        augmentation._MIX, *range(*augmentation._CUT.indices(99)[:2]), augmentation._BLUR, augmentation._NOISE,
        augmentation._NOISE_START,
    ]  # fmt: skip
    assert columns == list(range(augmentation.NUM_PARAMETERS))
