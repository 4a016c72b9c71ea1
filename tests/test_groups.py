"""Figures by group: a planted gap is found, equal groups have none, and a malformed file is named with its row."""

import json

import numpy as np
import pytest

from fer_tf.commands.evaluate import main
from fer_tf.data.reading.npz import save_npz
from fer_tf.data.synthetic import make_synthetic
from fer_tf.errors import InputError
from fer_tf.evaluation import evaluate, format_groups, measure_groups, read_groups
from tests.tiny_models import write_tiny

pytestmark = pytest.mark.light

NAMES = ("happy", "sad")


def answers(accuracies, size):
    """Labels, probabilities and groups: `size` images a group, with exactly the given share of right answers."""
    labels = np.tile([0, 1], size // 2 * len(accuracies))
    groups = np.repeat([f"g{index}" for index in range(len(accuracies))], size)
    rng = np.random.default_rng(0)
    right = np.concatenate([rng.permutation(np.arange(size) < round(share * size)) for share in accuracies])
    predicted = np.where(right, labels, 1 - labels)
    return labels, np.eye(2)[predicted] * 0.6 + 0.2, list(groups)


def gap(result, of):
    (found,) = [row for row in result["gaps"] if row["of"] == of]
    return found


def test_a_planted_gap_of_ten_points_is_found():
    result = measure_groups(*answers((0.8, 0.7), 1500), NAMES)
    found = gap(result, "accuracy")
    assert found["difference"] == pytest.approx(0.1)
    assert 0 < found["difference_interval"][0] < 0.1 < found["difference_interval"][1] < 0.2
    text = format_groups(result)
    assert "accuracy, g0 less g1: +10.00" in text and "g0: happy 5" in text


def test_equal_groups_have_an_interval_over_zero():
    for seed in range(5):
        labels, probabilities, groups = answers((0.75, 0.75), 600)
        shuffled = list(np.random.default_rng(seed).permutation(groups))
        low, high = gap(measure_groups(labels, probabilities, shuffled, NAMES, seed=seed), "accuracy")[
            "difference_interval"
        ]
        assert low < 0 < high
    assert "No gap has an interval that excludes 0." in format_groups(measure_groups(*answers((0.7, 0.7), 600), NAMES))


def test_the_figures_of_a_group_are_those_of_its_images_alone():
    pytest.importorskip("sklearn")
    labels, probabilities, groups = answers((0.9, 0.6), 200)
    part = np.array(groups) == "g1"
    alone = evaluate(labels[part], probabilities[part], NAMES)
    found = measure_groups(labels, probabilities, groups, NAMES)["groups"]["g1"]
    assert found["accuracy"] == alone["accuracy"] and found["num_images"] == 200
    assert found["macro_f1"] == pytest.approx(alone["macro_f1"])
    assert found["ece"] == pytest.approx(alone["calibration"]["ece"])
    assert sum(found["selection_rates"].values()) == pytest.approx(1)
    low, high = found["selection_rates_interval"]["happy"]
    assert low < found["selection_rates"]["happy"] < high


def test_small_groups_are_warned_of_and_images_of_no_group_counted():
    labels, probabilities, groups = answers((0.8, 0.7), 100)
    groups[:60] = [None] * 60
    result = measure_groups(labels, probabilities, groups, NAMES)
    assert result["few"] == ["g0"] and result["num_without"] == 60
    assert "Warning: g0 has 40 images: under 50" in format_groups(result)
    with pytest.raises(InputError, match="the images are of 1 group: expected 2 or more"):
        measure_groups(labels[100:], probabilities[100:], groups[100:], NAMES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "row 1 has ''; expected the columns image,group or row,group"),
        ("image,race\na,x\n", "row 1 has 'image,race'"),
        ("image,row,group\na,1,x\n", "expected the columns image,group"),
        ("image,group\na,x\nb\n", "row 3 has 1 value; expected 2"),
        ("image,group\na,x\nz,y\n", "row 3: the data has no image 'z'"),
        ("image,group\na,x\na,y\n", "row 3: image 'a' is in an earlier row too"),
        ("image,group\na,x\nb, \n", "row 3: the group is empty"),
        ("image,group\na,x\nb,x\n", "names 1 group: expected 2 to 50"),
        ("row,group\n1,x\n9,y\n", "row 3: the data has no row '9'"),
        (b"image,group\na,\xff\n", "not a csv in UTF-8"),
    ],
)
def test_a_malformed_file_is_named_with_its_row(tmp_path, text, message):
    path = tmp_path / "groups.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        read_groups(path, ["a", "b", "1", "2"])
    assert str(caught.value).startswith(str(path)) and message in str(caught.value)
    with pytest.raises(InputError, match="cannot read"):
        read_groups(tmp_path / "none.csv", ["a"])


def test_a_file_in_any_order_with_other_columns_is_read(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_bytes(b"\xef\xbb\xbfGroup,note,Image\r\nx,,a\r\n\r\ny,n,b\r\n")
    assert read_groups(path, ["a", "b", "c"]) == {"a": "x", "b": "y"}


def test_the_command(tmp_path, capsys):
    pytest.importorskip("sklearn")
    save_npz(make_synthetic(num_train=14, num_validation=14, num_test=140).decoded(), tmp_path / "faces.npz")
    (tmp_path / "groups.csv").write_text("row,group\n" + "".join(f"{row},{'ab'[row % 2]}\n" for row in range(29, 169)))
    model = write_tiny(tmp_path / "tiny.tflite")
    arguments = ["--model", str(model), "--data", str(tmp_path / "faces.npz"), "--split", "test"]
    output = ["--output", str(tmp_path / "out.json")]
    assert main([*arguments, "--groups", str(tmp_path / "groups.csv"), *output]) == 0
    assert "By group (95 % intervals, bootstrap):" in capsys.readouterr().out
    found = json.loads((tmp_path / "out.json").read_text())["splits"]["test"]["by_group"]
    assert {group: row["num_images"] for group, row in found["groups"].items()} == {"a": 70, "b": 70}
    (tmp_path / "groups.csv").write_text("row,group\n1,a\n999,b\n")
    assert main([*arguments, "--groups", str(tmp_path / "groups.csv")]) == 2
    assert "row 3: the data has no row '999'" in capsys.readouterr().err
