"""The embedded faces: format, shares, determinism, the effect of expressions, and difficulty."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from fer_tf.data.synthetic import draw_faces, make_synthetic
from fer_tf.errors import InputError
from fer_tf.task import EMOTIONS, NUM_CLASSES, SPLITS

FER2013_SHARES = np.array([3995, 436, 4097, 7215, 4830, 3171, 4965]) / 28709

MOUTH = (slice(32, 44), slice(16, 32))
BETWEEN_BROWS = (slice(11, 18), slice(21, 27))
BRIDGE = (slice(17, 24), slice(20, 28))
EYES = (slice(16, 23), slice(10, 38))


@pytest.fixture(scope="module")
def dataset():
    return make_synthetic(700, 100, 50, seed=3)


def faces(emotion, num=150, seed=5):
    """The same `num` persons with one emotion: float (num, 48, 48)."""
    return draw_faces(np.full(num, EMOTIONS.index(emotion)), seed).astype(float)


def test_every_row_has_fer2013s_form(dataset):
    assert len(dataset) == 850
    assert dataset.images is None
    assert dataset.class_names == EMOTIONS
    assert dataset.synthetic is True
    assert dataset.source == "synthetic (seed 3)"
    assert dataset.labels.dtype == np.int64
    for text in dataset.pixels[::50]:
        assert type(text) is str
        values = text.split(" ")
        assert len(values) == 2304
        assert all(value == str(int(value)) and 0 <= int(value) <= 255 for value in values)


def test_strings_hold_the_pixels_that_were_drawn(dataset):
    images = dataset.decoded().images
    assert images.shape == (850, 48, 48)
    by_hand = np.array([int(value) for value in dataset.pixels[17].split()]).reshape(48, 48)
    np.testing.assert_array_equal(images[17], by_hand)


def test_splits_stand_in_order_with_the_sizes_asked_for(dataset):
    assert [int(np.sum(dataset.split == name)) for name in SPLITS] == [700, 100, 50]
    assert list(dataset.split[[0, 699, 700, 799, 800, 849]]) == [
        "train",
        "train",
        "validation",
        "validation",
        "test",
        "test",
    ]


def test_class_shares_are_fer2013s():
    from fer_tf.data.synthetic import _deal_labels

    counts = np.bincount(_deal_labels(28709, 0, 0), minlength=NUM_CLASSES)
    np.testing.assert_array_equal(counts, [3995, 436, 4097, 7215, 4830, 3171, 4965])


def test_small_splits_keep_near_the_shares_and_every_class(dataset):
    np.testing.assert_allclose(dataset.counts("train") / 700, FER2013_SHARES, atol=0.01)
    for split in SPLITS:
        assert dataset.counts(split).min() >= 4


@pytest.mark.parametrize("size", [7, 8, 13, 20, 27, 28, 29, 50])
def test_every_class_stands_in_the_smallest_splits(size):
    counts = make_synthetic(size, 0, 0).counts("train")
    assert counts.sum() == size
    assert counts.min() >= min(4, size // 7)


def test_classes_are_mixed(dataset):
    labels = dataset.take("train").labels
    assert len(set(labels[:30])) >= 5
    assert np.mean(labels[1:] == labels[:-1]) < 0.3


def test_the_same_seed_gives_the_same_data_and_another_seed_does_not(dataset):
    again, other = make_synthetic(700, 100, 50, seed=3), make_synthetic(700, 100, 50, seed=4)
    assert again.sha256 == dataset.sha256
    assert list(again.pixels) == list(dataset.pixels)
    np.testing.assert_array_equal(again.labels, dataset.labels)
    assert other.sha256 != dataset.sha256
    assert not set(other.pixels) & set(dataset.pixels)


def test_no_face_stands_twice(dataset):
    assert len(set(dataset.pixels)) == len(dataset)


def test_a_face_does_not_depend_on_its_neighbours():
    labels = np.arange(100) % NUM_CLASSES
    np.testing.assert_array_equal(draw_faces(labels, 1)[:3], draw_faces(labels[:3], 1))
    np.testing.assert_array_equal(draw_faces(labels, 1)[70], draw_faces(np.r_[np.zeros(70, int), labels[70]], 1)[70])


def test_faces_have_the_range_and_contrast_of_photographs(dataset):
    images = dataset.decoded().images.reshape(len(dataset), -1).astype(float)
    assert 100 < images.mean() < 155
    assert images.mean(axis=1).std() > 10  # brighter and darker ones
    assert 30 < images.std(axis=1).mean() < 65
    assert images.std(axis=1).min() > 5  # no image is blank
    assert np.mean((images == 0) | (images == 255)) < 0.1


def test_an_open_mouth_darkens_the_mouth():
    change = faces("surprise") - faces("neutral")
    assert change[:, *MOUTH].mean() < -5
    assert abs(change[:, :6].mean()) < 2  # the hair does not change


def test_a_smile_changes_the_mouth_more_than_the_forehead_and_anger_the_other_way_round():
    smile = np.abs(faces("happy") - faces("neutral"))
    anger = np.abs(faces("angry") - faces("neutral"))
    assert smile[:, *MOUTH].mean() > 1.5 * smile[:, *BETWEEN_BROWS].mean()
    assert anger[:, *BETWEEN_BROWS].mean() > 1.5 * anger[:, *MOUTH].mean()


def test_lowered_brows_darken_the_place_between_them():
    assert (faces("angry") - faces("happy"))[:, *BETWEEN_BROWS].mean() < -8


def test_disgust_wrinkles_the_bridge_of_the_nose():
    neutral = faces("neutral")
    wrinkled, smooth = np.abs(faces("disgust") - neutral), np.abs(faces("sad") - neutral)
    assert wrinkled[:, *BRIDGE].mean() > 1.5 * smooth[:, *BRIDGE].mean()


def test_raised_lids_brighten_the_eyes_and_lowered_brows_darken_them():
    neutral = faces("neutral")[:, *EYES]
    assert (faces("surprise")[:, *EYES] - neutral).mean() > 1  # more white
    assert (faces("disgust")[:, *EYES] - neutral).mean() < -1


def test_a_smile_lifts_the_corners_of_the_mouth_and_sadness_drops_them():
    change = (faces("sad") - faces("happy")).mean(axis=0)
    assert change[31:37, 10:15].mean() > 1.5  # sadness leaves the skin bright at the corners of a smile
    assert change[31:37, 33:38].mean() > 1.5
    assert change[34:38, 20:28].mean() < -8  # the middle moves the other way


def test_a_linear_model_learns_something_and_stays_far_from_solving_it():
    data = make_synthetic(1000, 0, 400, seed=1).decoded()
    train, test = data.take("train"), data.take("test")
    flat_train, flat_test = (part.images.reshape(len(part), -1) / 255.0 for part in (train, test))
    linear = RidgeClassifier(alpha=30.0).fit(flat_train, train.labels)
    majority = test.counts("test").max() / len(test)
    assert majority < 0.27
    assert majority + 0.03 < linear.score(flat_test, test.labels) < 0.5


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 7, 7), "0 synthetic train faces: each class needs one; ask for at least 7"),
        ((700, 3, 7), "3 synthetic validation faces: each class needs one; ask for at least 7"),
        ((700, 7, -1), "-1 synthetic test faces: each class needs one; ask for at least 7"),
    ],
)
def test_too_few_faces_are_refused(sizes, message):
    with pytest.raises(InputError) as caught:
        make_synthetic(*sizes)
    assert str(caught.value) == message


def test_validation_and_test_may_be_left_out():
    data = make_synthetic(14, 0, 0)
    assert data.has("train") and not data.has("validation") and not data.has("test")


@pytest.mark.parametrize("labels", [[7], [-1], [1.5], [[0, 1]]])
def test_labels_out_of_range_are_refused(labels):
    with pytest.raises(InputError, match="expected one row of integers from 0 to 6"):
        draw_faces(labels)


def test_a_negative_seed_is_refused():
    with pytest.raises(InputError, match="seed -1: expected 0 or more"):
        draw_faces(np.array([0]), seed=-1)
    with pytest.raises(InputError, match="seed -1: expected 0 or more"):
        make_synthetic(seed=-1)
