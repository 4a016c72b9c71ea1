import numpy as np
import pytest

from fer_tf.data.dataset import Dataset
from fer_tf.errors import InputError
from fer_tf.task import EMOTIONS, canonical_emotion


def _dataset() -> Dataset:
    images = np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((48, 48), np.uint8)
    pixels = np.array([" ".join(map(str, image.ravel())) for image in images], object)
    split = np.array(["train", "train", "validation", "train"])
    return Dataset(np.array([0, 2, 1, 2]), split, ("a", "b", "c"), pixels=pixels, source="x.csv")


def test_decoded_holds_the_pixels():
    decoded = _dataset().decoded()
    assert decoded.images.dtype == np.uint8
    assert decoded.images.shape == (4, 48, 48)
    assert decoded.images[:, 5, 7].tolist() == [0, 1, 2, 3]


def test_take_keeps_order_and_counts():
    train = _dataset().decoded().take("train")
    assert train.images[:, 0, 0].tolist() == [0, 1, 3]
    assert _dataset().counts("train").tolist() == [1, 0, 2]


def test_absent_split_is_an_error_that_names_the_present_ones():
    with pytest.raises(InputError, match=r"x.csv has no test split: it has train, validation"):
        _dataset().take("test")


def test_select_renumbers_in_the_order_given():
    chosen = _dataset().decoded().select(["c", "a"])
    assert chosen.class_names == ("c", "a")
    assert chosen.labels.tolist() == [1, 0, 0]
    assert chosen.images[:, 0, 0].tolist() == [0, 1, 3]


@pytest.mark.parametrize(("names", "message"), [(["a", "x"], "unknown class 'x'"), (["a", "a"], "stands twice")])
def test_select_refuses(names, message):
    with pytest.raises(InputError, match=message):
        _dataset().select(names)


def test_emotions_are_in_the_published_order():
    assert EMOTIONS == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


@pytest.mark.parametrize(
    ("name", "emotion"),
    [("Anger", "angry"), (" HAPPINESS ", "happy"), ("fearful", "fear"), ("disgusted", "disgust"), ("bored", None)],
)
def test_synonyms(name, emotion):
    assert canonical_emotion(name) == emotion
