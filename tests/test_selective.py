"""Accuracy of the answers with high scores, in figures, text, report and model card; scoring in the light install."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fer_tf import evaluation, scoring
from fer_tf.commands import evaluate
from fer_tf.data.dataset import Dataset
from fer_tf.data.reading.npz import save_npz
from fer_tf.report import plots
from fer_tf.task import EMOTIONS
from tests.tiny_models import write_tiny


def answers(scores, right):
    """Labels and probabilities of two classes with these top scores (above 0.5) and these right answers."""
    top = np.array(scores, float)
    return np.where(right, 0, 1), np.stack([top, 1 - top], axis=1)


def test_by_hand():
    labels, probabilities = answers([0.6, 0.9, 0.8, 0.7], [False, True, True, False])
    found = evaluation.selective_accuracy(labels, probabilities)
    assert [row["share"] for row in found["curve"]] == [0.25, 0.5, 0.75, 1]
    assert [row["accuracy"] for row in found["curve"]] == pytest.approx([1, 1, 2 / 3, 0.5])
    assert [row["score"] for row in found["curve"]] == [0.9, 0.8, 0.7, 0.6]
    assert found["area"] == pytest.approx((1 + 1 + 2 / 3 + 0.5) / 4)
    assert (found["score_for_90"], found["share_for_90"]) == (0.8, 0.5)
    assert json.loads(json.dumps(found)) == found


def test_images_with_equal_scores_are_answered_together():
    """Otherwise the order in the file would change the result."""
    labels, probabilities = answers([0.8, 0.8, 0.6], [True, False, True])
    for order in ([0, 1, 2], [1, 0, 2], [2, 1, 0]):
        found = evaluation.selective_accuracy(labels[order], probabilities[order])
        assert [(row["share"], row["accuracy"]) for row in found["curve"]] == [(2 / 3, 0.5), (1, 2 / 3)]
        assert found["score_for_90"] is None and found["share_for_90"] is None


def test_ten_right_of_eleven_are_enough_and_eight_of_nine_are_not():
    for count, expected in ((11, 0.6), (9, None)):
        labels, probabilities = answers(np.linspace(0.9, 0.6, count), np.arange(count) != 0)
        found = evaluation.selective_accuracy(labels, probabilities)["score_for_90"]
        assert found == (expected if expected is None else pytest.approx(expected))


def test_a_random_score_has_the_accuracys_area_and_the_best_score_a_larger_one():
    rng = np.random.default_rng(0)
    right = rng.random(20_000) < 0.7
    labels, probabilities = answers(rng.uniform(0.51, 1, len(right)), right)
    assert evaluation.selective_accuracy(labels, probabilities)["area"] == pytest.approx(0.7, abs=0.01)
    labels, probabilities = answers(np.where(right, 0.9, 0.6) + rng.uniform(0, 0.01, len(right)), right)
    found = evaluation.selective_accuracy(labels, probabilities)
    assert found["area"] == pytest.approx(0.7 + 0.7 * -np.log(0.7), abs=0.01)  # 1 until 70 %, then 0.7 / share
    assert len(found["curve"]) <= 100 and found["curve"][-1]["share"] == 1


def test_words():
    assert evaluation.selective_in_words({"score_for_90": 0.7956, "share_for_90": 0.3626}) == (
        "Of the images with a score of 0.80 or more, 90 % are right; these are 36.3 % of the images."
    )
    assert "no score" in evaluation.selective_in_words({"score_for_90": None, "share_for_90": None})


def test_the_figures_carry_it_and_the_plot_shows_it():
    rng = np.random.default_rng(1)
    labels, probabilities = answers(rng.uniform(0.5, 1, 200), rng.random(200) < 0.9)
    found = evaluation.evaluate(labels, probabilities, ("a", "b"))["selective"]
    assert found == evaluation.selective_accuracy(labels, probabilities)
    (ax,) = plots.plot_selective(found, title="a $model$").axes
    line = ax.lines[0]
    assert list(line.get_ydata()) == [row["accuracy"] for row in found["curve"]]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert any(label.startswith("90 % are right") for label in labels) == (found["score_for_90"] is not None)
    assert not any("90 %" in text.get_text() for text in plots.plot_selective(
        {**found, "score_for_90": None, "share_for_90": None}).axes[0].get_legend().get_texts())  # fmt: skip


class Slow:
    """A model that needs a second for 256 images, on a fake clock."""

    seconds = 0.0

    def predict(self, images):
        self.seconds += len(images) / 256
        return np.full((len(images), 2), 0.5, np.float32)


def test_what_takes_over_two_seconds_says_how_far_it_is(monkeypatch, caplog):
    slow = Slow()
    monkeypatch.setattr(scoring, "_clock", lambda: slow.seconds)
    images = np.zeros((2560, 48, 48), np.uint8)
    with caplog.at_level(logging.INFO, "fer_tf"):
        assert scoring.predict_with_progress(slow, images[:512]).shape == (512, 2) and not caplog.messages
        scoring.predict_with_progress(slow, images)
    assert caplog.messages == [
        "scored 768 of 2,560 images, 256/s, 7 s left",
        "scored 1,536 of 2,560 images, 256/s, 4 s left",
        "scored 2,304 of 2,560 images, 256/s, 1 s left",
    ]
    assert scoring.predict_with_progress(slow, images[:0]).shape == (0, 2)


def test_corruptions_of_two_models_share_one_progress(monkeypatch, caplog):
    slow = Slow()
    monkeypatch.setattr(scoring, "_clock", lambda: slow.seconds)
    part = Dataset(np.array([0, 1] * 32), np.repeat("test", 64), ("a", "b"), images=np.zeros((64, 48, 48), np.uint8))
    with caplog.at_level(logging.INFO, "fer_tf"):
        evaluate._corruptions(slow, slow, part, Path("a.tflite"), Path("b.tflite"))
    # 122 copies of 64 images take 30.5 s. The pauses grow.
    assert len(caplog.messages) == 9
    assert caplog.messages[0] == "scored 576 of 7,808 corrupted images, 256/s, 28 s left"


def _evaluate_in_the_light_install(tmp_path, *arguments):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (14, 48, 48)).astype(np.uint8)
    split = np.repeat(["train", "validation"], 7)
    save_npz(Dataset(np.tile(np.arange(7), 2), split, EMOTIONS, images=images), tmp_path / "faces.npz")
    model = write_tiny(tmp_path / "tiny.tflite", metadata={"temperature": 1.0})
    code = (
        "import sys\nfor name in ('tensorflow', 'keras', 'sklearn', 'scipy', 'pandas', 'matplotlib', 'tqdm'):\n"
        "    sys.modules[name] = None\n"
        "from fer_tf.commands.evaluate import main\nsys.exit(main(sys.argv[1:]))"
    )
    call = ["--model", str(model), "--data", str(tmp_path / "faces.npz"), "--split", "validation", *arguments]
    return subprocess.run([sys.executable, "-c", code, *call], capture_output=True, text=True)


def test_a_tflite_is_scored_without_the_training_extra(tmp_path):
    found = _evaluate_in_the_light_install(tmp_path, "--output", str(tmp_path / "out.json"))
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert lines[0].startswith("Left out, because scikit-learn is not installed: ROC-AUC")
    heading = next(i for i, line in enumerate(lines) if line.startswith("tiny.tflite on validation"))
    assert lines[heading + 3].startswith("accuracy") and lines[heading + 4].startswith("macro-F1")
    figures = json.loads((tmp_path / "out.json").read_text())["splits"]["validation"]
    assert figures["roc_auc_macro"] is None and "calibration_check" not in figures and 0 <= figures["accuracy"] <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--against", "{}/tiny.tflite"], "needs scikit-learn: pip install"),
        (["--corruptions", "--plot", "{}/plot.png"], "needs the package matplotlib: pip install"),
    ],
)
def test_what_the_light_install_cannot_do_is_one_line_before_anything_is_read(tmp_path, arguments, message):
    found = _evaluate_in_the_light_install(tmp_path, *(argument.format(tmp_path) for argument in arguments))
    assert (found.returncode, found.stderr.count("\n")) == (2, 1) and not found.stdout
    assert message in found.stderr
