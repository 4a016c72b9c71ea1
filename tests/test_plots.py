"""The contents of each figure, read from its axes; figures need no display and no pyplot."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from fer_tf.report import plots

NAMES = ("angry", "happy", "<b>$5$ & $6")


def texts(ax):
    return [text.get_text() for text in ax.texts]


def is_png(figure):
    return plots.to_png(figure).startswith(b"\x89PNG")


def history(phases=("head", "head", "all", "all", "all")):
    return [
        {
            "phase": phase, "loss": 2 - 0.1 * i, "accuracy": 0.3 + 0.05 * i, "val_loss": 2.0,
            "val_accuracy": [0.3, 0.4, 0.5, 0.6, 0.55][i], "learning_rate": 1e-4,
        }
        for i, phase in enumerate(phases)
    ]  # fmt: skip


def test_confusion_matrix_shows_shares_and_counts():
    figure = plots.plot_confusion_matrix([[3, 1, 0], [0, 8, 0], [0, 0, 0]], NAMES, title="a $model$")
    (ax,) = figure.axes
    assert texts(ax)[:3] == ["75 %\n3", "25 %\n1", "0 %\n0"]
    assert texts(ax)[6] == "-\n0"  # no image of this class: no share
    assert [label.get_text() for label in ax.get_yticklabels()] == ["angry", "happy", r"<b>\$5\$ & \$6"]
    assert ax.get_ylabel() == "true class" and ax.get_xlabel().startswith("predicted class")
    assert is_png(figure)


def test_confusion_matrix_of_many_classes_drops_the_counts():
    figure = plots.plot_confusion_matrix(np.eye(20, dtype=int), [f"class {i}" for i in range(20)])
    assert texts(figure.axes[0])[0] == "100"


def test_training_curves_mark_phases_and_best_epoch():
    figure = plots.plot_training_curves(history())
    loss, accuracy, rate = figure.axes
    assert [ax.get_ylabel() for ax in figure.axes] == [
        "loss (cross-entropy)",
        "accuracy",
        "learning rate\nat the epoch's end",
    ]
    lines = {line.get_label(): line for line in accuracy.lines}
    assert list(lines["phase boundary"].get_xdata()) == [2.5, 2.5]
    assert list(lines["best epoch (4)"].get_xdata()) == [4, 4]
    assert list(lines["training"].get_ydata()) == pytest.approx([0.3, 0.35, 0.4, 0.45, 0.5])
    assert rate.get_yscale() == "log" and rate.get_xlabel() == "epoch"
    legend = [text.get_text() for text in loss.get_legend().get_texts()]
    assert legend == ["training", "validation (selection split)", "phase boundary", "best epoch (4)"]
    assert is_png(figure)


def test_training_curves_name_phases_and_sizes():
    rows = [
        {**row, "phase": phase, "image_size": size}
        for row, phase, size in zip(history(), (1, 2, 2, 2, 2), (48, 48, 48, 64, 64), strict=True)
    ]
    loss, accuracy, _ = plots.plot_training_curves(rows).axes
    written = {text.get_text(): text.xy[0] for text in loss.texts}
    # Over the middle of their epochs.
    assert written == {"48 px": 2.5, "64 px": 4.5, "phase 1: head alone": 1, "phase 2: all layers": 3.5}
    shaded = [(round(patch.get_x(), 1), round(patch.get_x() + patch.get_width(), 1)) for patch in accuracy.patches]
    assert shaded == [(1.5, 3.5)]  # every other part
    rows = [{**history()[0], "phase": 1 if i == 0 else 2, "image_size": 48 + i} for i in range(60)]
    texts_there = [text.get_text() for text in plots.plot_training_curves(rows).axes[0].texts]
    assert texts_there == [""] * 60 + ["1", "phase 2: all layers"]  # texts without room are shortened or left out


def test_example_answers_stand_by_class_right_ones_first():
    images = np.arange(12, dtype=np.uint8)[:, None, None] * np.ones((1, 48, 48), np.uint8)
    labels = np.array([0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    top = np.array([0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0])
    probabilities = np.where(np.arange(2) == top[:, None], 0.75, 0.25)
    (ax,) = plots.plot_example_answers(images, labels, probabilities, ("sad", "$x$"), title="test").axes
    captions = [text.replace("\n", " ") for text in texts(ax)]
    assert captions[:8] == ["sad right, 75 %"] * 4 + [r"sad as \$x\$, 75 %", "", "", ""]
    assert captions[8:] == [r"\$x\$ right, 75 %", "", "", ""] + [r"\$x\$ as sad, 75 %"] * 4
    assert ax.get_title() == "Right and wrong answers, test"


def test_best_epoch_is_one_at_full_size():
    """Only weights at the saved model's size are kept; progressive resizing starts with smaller sizes."""
    rows = [{**row, "image_size": size} for row, size in zip(history(), (64, 48, 48, 48, 64), strict=True)]
    assert "best epoch (5)" in {line.get_label() for line in plots.plot_training_curves(rows).axes[0].lines}


def test_training_curves_take_the_text_of_a_csv_and_gaps():
    rows = [{key: str(value) for key, value in row.items()} for row in history()[:1]]
    rows[0]["val_loss"] = rows[0]["val_accuracy"] = ""
    figure = plots.plot_training_curves(rows)
    assert {line.get_label() for line in figure.axes[1].lines} == {"training"}
    assert is_png(figure)
    assert [tick for tick in figure.axes[2].get_xticks() if 0.5 <= tick <= 1.5] == [1]


def test_reliability_leaves_out_empty_bins():
    empty = {"lower": 0, "upper": 0.5, "count": 0, "confidence": None, "accuracy": None}
    filled = {"lower": 0.5, "upper": 1, "count": 10, "confidence": 0.8, "accuracy": 0.6}
    figure = plots.plot_reliability({"before": [empty, filled], "after": [filled]})
    (ax,) = figure.axes
    assert list(ax.lines[1].get_xdata()) == [0.8] and list(ax.lines[1].get_ydata()) == [0.6]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["perfectly calibrated", "before", "after"]
    assert is_png(figure)


def test_class_balance_leaves_out_an_absent_split():
    figure = plots.plot_class_balance({"train": [1500, 400, 100], "validation": [1, 1, 2], "test": [0, 0, 0]}, NAMES)
    (ax,) = figure.axes
    assert texts(ax)[:3] == ["1,500 (75.0 %)", "400 (20.0 %)", "100 (5.0 %)"]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["train", "validation"]
    assert is_png(figure)


def test_class_scores():
    rows = [{"name": name, "precision": 0.5, "recall": 0.25, "f1": 1 / 3, "support": 1200} for name in NAMES]
    figure = plots.plot_class_scores(rows)
    (ax,) = figure.axes
    assert ax.get_yticklabels()[0].get_text() == "angry (1,200)"
    assert texts(ax) == ["0.50"] * 3 + ["0.25"] * 3 + ["0.33"] * 3
    assert is_png(figure)


def test_contact_sheet_keeps_order_and_size():
    images = np.zeros((8, 48, 48), np.uint8)
    images[7] = 200
    figure = plots.plot_contact_sheet(images, [f"face {i}\nscore $1$" for i in range(8)], num_columns=6, title="wrong")
    (ax,) = figure.axes
    assert texts(ax)[7] == "face 7\nscore \\$1\\$"
    assert ax.images[7].get_array().mean() == 200
    assert ax.images[7].get_extent()[0] == pytest.approx(1.03)  # second row, second column
    assert ax.images[7].get_clim() == (0, 255)  # one grey scale for all
    assert is_png(figure)


def test_contact_sheet_shortens_long_captions():
    figure = plots.plot_contact_sheet(np.zeros((1, 48, 48)), ["word " * 80])
    (text,) = texts(figure.axes[0])
    assert text.count("\n") == 2 and text.endswith("...")


def test_mean_faces():
    figure = plots.plot_mean_faces(np.full((3, 48, 48), 127.5), NAMES, [3995, 436, 1])
    assert texts(figure.axes[0])[0] == "angry\n3,995 images"
    assert is_png(figure)


def test_given_axes_are_used():
    own = Figure()
    ax = own.subplots()
    assert plots.plot_confusion_matrix([[1, 0], [0, 1]], ("a", "b"), ax=ax) is own
    assert len(own.axes) == 1 and texts(ax)
    three = Figure()
    assert plots.plot_training_curves(history(), axes=list(three.subplots(3))) is three


def test_same_figure_same_bytes():
    first, second = (plots.to_png(plots.plot_class_balance({"train": [1, 2, 3]}, NAMES)) for _ in range(2))
    assert first == second


def test_no_pyplot():
    """pyplot keeps figures in memory and may need a display."""
    code = "import sys, fer_tf.report.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_class_names_of_any_script_give_no_warning(monkeypatch, recwarn):
    names = ["\u03c7\u03b1\u03c1\u03ac", "\u0441\u043c\u0435\u0445", "\u7b11\u9854", "$a$"]
    figure = plots.plot_confusion_matrix(np.eye(4, dtype=int), names)
    assert plots.to_png(figure)
    assert not [str(warning.message) for warning in recwarn if "Glyph" in str(warning.message)]
    monkeypatch.setattr("fer_tf.report.plots.font_file", lambda text: None)
    monkeypatch.setattr("fer_tf.faces.fonts.font_file", lambda text: None)
    assert plots.plain("\u7b11\u9854 90%") == "(no font) 90%"
