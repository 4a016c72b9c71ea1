"""FER+: votes on the images of FER-2013 as a separate target."""

import json
import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_tf import scoring
from fer_tf.artifacts import RunDirectory, write_json
from fer_tf.commands import explore, prepare
from fer_tf.config import Config
from fer_tf.data.dataset import Dataset
from fer_tf.data.loading import load_dataset
from fer_tf.data.names import EIGHT_EMOTIONS
from fer_tf.data.recorded import describe_data, run_data
from fer_tf.data.votes import read_votes, with_votes
from fer_tf.errors import InputError
from fer_tf.experiment import run_experiment
from fer_tf.task import EMOTIONS
from fer_tf.training.loop import _prepare

HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
COLUMNS = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt", "unknown", "NF")
USAGES = ("Training", "PublicTest", "PrivateTest")


def votes_row(usage="Training", **votes):
    return ",".join([usage, "fer.png", *(str(votes.get(name, 0)) for name in COLUMNS)])


def write_votes(path, rows):
    path.write_text("\n".join([HEADER, *rows]) + "\n", "utf-8")
    return path


def write_faces(path, labels, usages):
    rows = [
        f"{label},{' '.join([str(number % 250)] * 2304)},{usage}"
        for number, (label, usage) in enumerate(zip(labels, usages, strict=True))
    ]
    path.write_text("\n".join(["emotion,pixels,Usage", *rows]) + "\n", "utf-8")
    return path


# An image's votes, label by majority, label by distribution and target by distribution; None if it is left out.
CASES = [
    ({"happy": 10}, "happy", "happy", {"happy": 1.0}),
    ({"happy": 6, "neutral": 4}, "happy", "happy", {"happy": 0.6, "neutral": 0.4}),
    # A single vote is ignored.
    ({"happy": 5, "neutral": 4, "sad": 1}, "happy", "happy", {"happy": 5 / 9, "neutral": 4 / 9}),
    ({"contempt": 7, "neutral": 3}, "contempt", "contempt", {"contempt": 0.7, "neutral": 0.3}),
    ({"happy": 4, "neutral": 3, "sad": 3}, None, "happy", {"happy": 0.4, "neutral": 0.3, "sad": 0.3}),
    ({"happy": 5, "neutral": 5}, None, None, None),
    ({"unknown": 6, "happy": 4}, None, None, None),
    ({"NF": 9, "happy": 1}, None, None, None),
    ({"happy": 4, "unknown": 2, "NF": 3}, None, "happy", {"happy": 1.0}),
    (dict.fromkeys(COLUMNS, 1), None, None, None),
]


def _pair(tmp_path):
    usages = ["Training"] * len(CASES)
    faces = write_faces(tmp_path / "fer2013.csv", [3] * len(CASES), usages)
    votes = write_votes(
        tmp_path / "votes.csv", [votes_row(use, **case[0]) for use, case in zip(usages, CASES, strict=True)]
    )
    return faces, votes


def test_majority(tmp_path, caplog):
    faces, votes = _pair(tmp_path)
    dataset = load_dataset(faces, labels=votes, training=False)
    assert dataset.class_names == EIGHT_EMOTIONS and dataset.targets is None
    assert [EIGHT_EMOTIONS[label] for label in dataset.labels] == [case[1] for case in CASES if case[1]]
    assert dataset.left_out == {
        "without a majority of the votes": 4,
        "whose majority says unknown": 1,
        "whose majority says no face": 1,
    }
    assert "left out 6 of 10 images" in caplog.text


def test_distribution(tmp_path):
    faces, votes = _pair(tmp_path)
    dataset = load_dataset(faces, labels=votes, labels_as="distribution", training=False)
    kept = [case for case in CASES if case[2]]
    assert [EIGHT_EMOTIONS[label] for label in dataset.labels] == [case[2] for case in kept]
    expected = [[case[3].get(name, 0) for name in EIGHT_EMOTIONS] for case in kept]
    np.testing.assert_allclose(dataset.targets, expected, rtol=1e-6)
    assert dataset.targets.dtype == np.float32
    assert dataset.left_out == {
        "whose votes mostly say unknown or no face": 2,
        "with two emotions that have the most votes": 1,
        "without an emotion that has two votes": 1,
    }


def test_contempt_is_left_out_by_classes(tmp_path):
    faces, votes = _pair(tmp_path)
    chosen = ["neutral", "happiness", "sadness"]
    dataset = load_dataset(faces, labels=votes, labels_as="distribution", classes=chosen, training=False)
    assert dataset.class_names == ("neutral", "happy", "sad") and len(dataset) == 5
    np.testing.assert_allclose(dataset.targets.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(dataset.targets[1], [0.4, 0.6, 0], rtol=1e-6)


@given(st.lists(st.lists(st.integers(0, 10), min_size=10, max_size=10), min_size=1, max_size=30))
def test_each_image_is_labelled_or_counted_once(votes):
    counts = np.array(votes)
    rows = Dataset(
        np.zeros(len(votes), np.int64), np.full(len(votes), "train"), EMOTIONS, np.zeros((len(votes), 48, 48), np.uint8)
    )
    from fer_tf.data.votes import Votes

    for labels_as in ("majority", "distribution"):
        try:
            found = with_votes(rows, Votes(rows.split, counts, "votes.csv", ""), labels_as, "faces")
        except InputError as error:
            assert "leave no row with a label" in str(error)
            continue
        assert len(found) + sum(found.left_out.values()) == len(votes)
        if found.targets is not None:
            np.testing.assert_allclose(found.targets.sum(axis=1), 1, rtol=1e-5)
            assert (found.targets.argmax(axis=1) == found.labels).all()


def test_splits_are_matched_each_for_itself(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="fer_tf")
    faces = write_faces(tmp_path / "fer2013.csv", [0, 1, 2], ["PublicTest", "Training", "PublicTest"])
    rows = [votes_row("Training", sad=9), votes_row("PublicTest", fear=9), votes_row("PublicTest", angry=9)]
    votes = write_votes(tmp_path / "votes.csv", [*rows, votes_row("PrivateTest", happy=9)])
    dataset = load_dataset(faces, labels=votes, training=False)
    assert [EIGHT_EMOTIONS[label] for label in dataset.labels] == ["fear", "sad", "angry"]
    assert "no rows of test: their votes are not used" in caplog.text


def test_votes_on_other_rows_get_one_line(tmp_path):
    faces = write_faces(tmp_path / "fer2013.csv", [0, 1], ["Training", "PublicTest"])
    votes = write_votes(tmp_path / "votes.csv", [votes_row("Training", sad=9)] * 2)
    with pytest.raises(InputError, match=r"has votes on 2 train images, .* has 1 rows of train"):
        load_dataset(faces, labels=votes, training=False)


def test_votes_in_another_order_are_refused(tmp_path):
    names = [EMOTIONS[row % 7] for row in range(700)]
    faces = write_faces(tmp_path / "fer2013.csv", [row % 7 for row in range(700)], ["Training"] * 700)
    load_dataset(
        faces, labels=write_votes(tmp_path / "a.csv", [votes_row(**{name: 9}) for name in names]), training=False
    )
    moved = write_votes(tmp_path / "b.csv", [votes_row(**{name: 9}) for name in [*names[1:], names[0]]])
    with pytest.raises(InputError, match=r"agree with 0\.0 % of the labels .* not votes on the same images"):
        load_dataset(faces, labels=moved, training=False)


def test_rows_that_are_left_out_cannot_be_matched(tmp_path):
    faces, votes = _pair(tmp_path)
    text = faces.read_text().splitlines()
    text[3] = "9,0,Training"
    faces.write_text("\n".join(text))
    with pytest.raises(InputError, match="votes are matched row by row; give the whole file"):
        load_dataset(faces, labels=votes, training=False, skip_broken=True)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a,b"], "no rows; expected votes of FER"),
        (["a,b", "1,2"], "row 1 has no column angry"),
        ([HEADER + ",joy", votes_row() + ",0"], "row 1 has more than one column happy"),
        ([HEADER, votes_row()[:-2]], "row 2 has 11 columns; expected 12"),
        ([HEADER, votes_row("Holdout")], "row 2: Usage 'Holdout'; expected Training"),
        ([HEADER, votes_row(happy=-1)], "row 2: '-1' votes for happiness; expected a whole number"),
        ([HEADER, votes_row(happy="9" * 5000)], "votes for happiness"),
        ([HEADER, '"'], "not a csv"),
        (["\0\x01\udcff"], "not a csv"),
    ],
)
def test_other_files_get_one_line(tmp_path, lines, message):
    path = tmp_path / "votes.csv"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=message) as error:
        read_votes(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"labels": "none.csv"}, "none.csv: no such file"), ({"labels_as": "majority"}, "name the file of votes too")],
)
def test_missing_files(tmp_path, settings, message):
    faces = write_faces(tmp_path / "fer2013.csv", [0], ["Training"])
    with pytest.raises(InputError, match=message):
        load_dataset(faces, training=False, **settings)


def test_drawn_faces_have_no_votes(tmp_path):
    votes = write_votes(tmp_path / "votes.csv", [votes_row(sad=9)])
    with pytest.raises(InputError, match=r"belong to the rows of fer2013\.csv"):
        load_dataset(labels=votes)


# --- A separate target ---


def _many(tmp_path):
    usages = [USAGES[0]] * 24 + [USAGES[1]] * 8 + [USAGES[2]] * 8
    names = [EIGHT_EMOTIONS[row % 8] for row in range(40)]
    faces = write_faces(tmp_path / "fer2013.csv", [row % 7 for row in range(40)], usages)
    rows = [
        votes_row(use, **{name: 7, "neutral": 7 if name == "neutral" else 3})
        for use, name in zip(usages, names, strict=True)
    ]
    return faces, write_votes(tmp_path / "votes.csv", rows)


def test_the_record_says_which_labels_and_gives_the_same_rows(tmp_path):
    faces, votes = _many(tmp_path)
    own, majority, shares = (
        load_dataset(faces),
        load_dataset(faces, labels=votes),
        load_dataset(faces, labels=votes, labels_as="distribution"),
    )
    assert len({own.sha256, majority.sha256, shares.sha256}) == 3
    assert "label_source" not in describe_data(own)
    assert describe_data(shares)["label_source"]["as"] == "distribution"
    run = RunDirectory.create(tmp_path / "run")
    write_json(run.data, json.loads(json.dumps(describe_data(shares))))
    again = run_data(run, Config())
    np.testing.assert_array_equal(again.labels, shares.labels)
    np.testing.assert_array_equal(again.targets, shares.targets)


def test_training_aims_at_the_shares(tmp_path):
    faces, votes = _many(tmp_path)
    dataset = load_dataset(faces, labels=votes, labels_as="distribution").decoded()
    shares = dataset.take("train").targets
    np.testing.assert_array_equal(_prepare(Config(label_smoothing=0.0), dataset, None).targets, shares)
    smooth = _prepare(Config(label_smoothing=0.1), dataset, None).targets
    np.testing.assert_allclose(smooth, 0.9 * shares + 0.1 / 8, rtol=1e-5)
    teachers = np.full_like(shares, 1 / 8)
    taught = _prepare(Config(label_smoothing=0.0, distillation_weight=0.5), dataset, teachers).targets
    np.testing.assert_allclose(taught, 0.5 * shares + 0.5 / 8, rtol=1e-5)


def test_prepare_keeps_labels_and_refuses_shares(tmp_path, capsys):
    faces, votes = _many(tmp_path)
    arguments = [str(faces), str(tmp_path / "a.npz"), "--labels", str(votes)]
    assert prepare.main([*arguments, "--labels-as", "distribution"]) == 2
    assert "write it with --labels-as majority" in capsys.readouterr().err and not (tmp_path / "a.npz").exists()
    assert prepare.main([*arguments, "--labels-as", "majority"]) == 0  # as proposed
    assert prepare.main(arguments) == 0
    assert load_dataset(tmp_path / "a.npz").class_names == EIGHT_EMOTIONS


def test_explore_says_which_labels(tmp_path, capsys, caplog):
    caplog.set_level(logging.INFO, logger="fer_tf")
    faces, votes = _many(tmp_path)
    assert explore.main(["--data", str(faces), "--labels", str(votes)]) == 0
    assert "labels come from votes.csv (majority of its votes), not from the data itself" in caplog.text
    assert "contempt" in capsys.readouterr().out


def test_a_model_that_learned_other_labels_is_told_of(tmp_path, caplog):
    faces, votes = _many(tmp_path)
    metadata = {"data": {"label_source": {"file": "votes.csv", "as": "majority"}}, "class_names": EIGHT_EMOTIONS}
    scoring.load_data(str(faces), None, metadata)
    assert "learned the majority of the votes in votes.csv but is scored on the labels of its data" in caplog.text
    caplog.clear()
    scoring.load_data(str(faces), None, metadata, labels=votes)
    assert "another target" not in caplog.text
    scoring.load_data(str(faces), None, {"class_names": EMOTIONS}, labels=votes)
    assert "learned the labels of its data but is scored on the majority of the votes" in caplog.text
    with pytest.raises(InputError, match="--labels needs --data"):
        scoring.load_data(None, None, metadata, labels=votes)


@pytest.mark.slow
def test_training_on_shares_ends_with_a_model_that_names_them(tmp_path):
    faces, votes = _many(tmp_path)
    dataset = load_dataset(faces, labels=votes, labels_as="distribution")
    config = Config(weights="none", image_size=32, epochs=1, batch_size=8, width=0.1)
    result = run_experiment(config, dataset, tmp_path / "run", quantizations=())
    assert result.metrics["data"]["label_source"]["as"] == "distribution"
    assert "the distribution of the votes in votes.csv, not the data's own" in result.run.report_md.read_text("utf-8")
