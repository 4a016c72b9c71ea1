"""Tables as people have them: other separators, names of labels and splits, an eighth class."""

import pytest

from fer_tf.data.loading import load_dataset
from fer_tf.errors import InputError

_FACE = " ".join(["7"] * 2304)


def _table(path, rows, separator=","):
    lines = [("emotion", "pixels", "Usage"), *((label, _FACE, usage) for label, usage in rows)]
    path.write_text("\n".join(separator.join(fields) for fields in lines) + "\n", "utf-8")
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_any_usual_separator(tmp_path, separator):
    data = load_dataset(_table(tmp_path / "a.csv", [("3", "Training"), ("4", "PublicTest")], separator), training=False)
    assert data.labels.tolist() == [3, 4] and data.split.tolist() == ["train", "validation"]


def test_usage_and_labels_in_other_words(tmp_path):
    rows = [("Happiness", "TRAIN"), ("sadness", "dev"), (" Fear ", "privatetest"), ("0", "training")]
    data = load_dataset(_table(tmp_path / "a.csv", rows), training=False)
    assert [data.class_names[label] for label in data.labels] == ["happy", "sad", "fear", "angry"]
    assert data.split.tolist() == ["train", "validation", "test", "train"]
    assert len(data.class_names) == 7


@pytest.mark.parametrize("label", ["7", "Contempt"])
def test_contempt_is_an_eighth_class(tmp_path, label):
    data = load_dataset(_table(tmp_path / "a.csv", [("3", "Training"), (label, "Training")]), training=False)
    assert data.class_names[-1] == "contempt" and data.labels.tolist() == [3, 7]


@pytest.mark.parametrize(("label", "usage"), [("8", "Training"), ("bored", "Training"), ("3", "holdout")])
def test_an_unknown_word_names_its_row(tmp_path, label, usage):
    with pytest.raises(InputError, match="row 2"):
        load_dataset(_table(tmp_path / "a.csv", [(label, usage)]), training=False)
