"""Spellings of classes and splits: each name is read by itself, and the meaning of numbers is never guessed."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_tf.data import names
from fer_tf.errors import InputError
from fer_tf.task import EMOTIONS, SPLITS


@pytest.mark.parametrize(
    ("name", "emotion"),
    [
        ("Anger", "angry"),
        (" SCARED\n", "fear"),
        ("joy", "happy"),
        ("Disgusted", "disgust"),
        ("Surprised", "surprise"),
        ("CONTEMPT", "contempt"),
        ("ｈａｐｐｙ", None),  # NFC keeps wide letters distinct; a name that only looks similar is not guessed
        ("happy2", None),
        ("", None),
        ("3", None),
    ],
)
def test_emotions(name, emotion):
    assert names.emotion_of(name) == emotion


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("Training", "train"),
        ("train_set", "train"),
        ("valid", "validation"),
        ("VAL", "validation"),
        ("eval", "validation"),
        ("dev", "validation"),
        ("Public Test", "validation"),
        ("test-set", "test"),
        ("testing", "test"),
        ("PrivateTest", "test"),
        ("happy", None),
        ("set", None),
        ("trains", None),
    ],
)
def test_splits(name, split):
    assert names.split_of(name) == split


@settings(deadline=None)
@given(st.sampled_from(SPLITS), st.sampled_from(["", "_set", " Set", "-data", "split"]), st.booleans())
def test_a_split_is_known_with_any_usual_ending(split, ending, upper):
    name = split + ending
    assert names.split_of(name.upper() if upper else name) == split


@settings(deadline=None)
@given(st.lists(st.text(max_size=6), max_size=8))
def test_any_names_merge_by_their_keys(given_names):
    class_names, class_of = names.merge_names(given_names)
    assert set(class_of) == set(given_names) and set(class_of.values()) == set(class_names)
    for one in given_names:
        for other in given_names:
            if names.name_key(one) == names.name_key(other):
                assert class_of[one] == class_of[other]
        assert names.merge_names([*given_names, unicodedata.normalize("NFD", one)])[0] == class_names


def test_one_stray_name_leaves_the_emotions_known():
    class_names, class_of = names.merge_names(["Angry", "stray", "Happiness"])
    assert class_of == {"Angry": "angry", "stray": "stray", "Happiness": "happy"}
    assert class_names == ("angry", "happy", "stray")
    assert names.merge_names([*EMOTIONS[::-1], "Contempt"])[0] == (*EMOTIONS, "contempt")


def test_different_spellings_are_said():
    _, class_of = names.merge_names(["Bored", "bored", "anger", "angry", "sad"])
    assert names.merged_text(class_of) == "'Bored' and 'bored' are Bored, 'anger' and 'angry' are angry"


@settings(deadline=None)
@given(st.sampled_from(["喜び", "Fürcht", "ひ゛", "Angst"]))
def test_unicode_forms_of_one_name_are_one_class(name):
    class_names, _ = names.merge_names([name, unicodedata.normalize("NFD", name)])
    assert class_names == (unicodedata.normalize("NFC", name),)


@pytest.mark.parametrize(("name", "found"), [("ANGER", "angry"), ("bored", "Bored"), ("Joy", None), ("Bored", "Bored")])
def test_a_class_is_found_by_any_spelling(name, found):
    assert names.find_class(name, ["angry", "Bored"]) == found


def test_numbers_follow_the_numbering_that_is_named():
    assert names.names_of_numbers(["1", "7"], "rafdb", "x") == {"1": "surprise", "7": "neutral"}
    assert names.names_of_numbers(["0", "03"], ["FER2013"], "x") == {"0": "angry", "03": "happy"}
    assert names.names_of_numbers(["10", "9"], ["a", "b"], "x") == {"9": "a", "10": "b"}


@pytest.mark.parametrize(
    ("numbers", "given_names", "message"),
    [
        ("0123456", None, r"only numbers \(0, 1, 2, 3, 4, 5, 6\) are not guessed: --class-names fer2013 \(0 angry"),
        ("1234567", None, r"--class-names rafdb \(1 surprise, .*7 neutral\) or --class-names name1,name2"),
        ("01", ["a"], r"1 class names for 2 numbers \(0, 1\)"),
        ("07", "fer2013", "class 7 is not in fer2013's numbering 0 to 6"),
    ],
)
def test_numbers_without_names_are_refused(numbers, given_names, message):
    with pytest.raises(InputError, match=message):
        names.names_of_numbers(list(numbers), given_names, "x")
