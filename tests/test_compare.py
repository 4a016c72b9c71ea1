"""`compare`: the table of runs in every state, the contents of the picture's axes, and bad input in one line."""

import dataclasses

import numpy as np
import pytest

from fer_tf.artifacts import RunDirectory, read_json, write_json, write_text
from fer_tf.commands.compare import main
from fer_tf.recipes import DEMO, REPORT
from fer_tf.report.comparison import format_table, plot_runs, read_runs
from fer_tf.report.plots import to_png

NAMES = ["angry", "happy", "sad"]
TWO_PHASES = """\
phase,epoch,image_size,seconds,learning_rate,loss,accuracy,val_loss,val_accuracy
1,1,224,60,0.0001,1.9,0.20,1.8,0.30
1,2,224,60,0.0001,1.8,0.25,1.7,0.35
2,1,224,300,0.0001,1.5,0.40,1.4,0.45
2,2,224,300,0.0001,1.2,0.55,1.3,0.5251
2,3,224,300,0.0001,1.0,0.65,1.5,0.50
"""
GROWING = """\
phase,epoch,image_size,seconds,learning_rate,loss,accuracy,val_loss,val_accuracy
2,1,48,30,0.002,1.8,0.30,1.6,0.99
2,2,64,40,0.002,1.7,0.35,1.5,0.41
2,3,64,40,0.002,1.6,0.38,1.4,0.44
"""
HEAD = "phase,epoch,image_size,seconds,learning_rate,loss,accuracy,val_loss,val_accuracy\n"


def scores(accuracy, macro_f1):
    return {
        "accuracy": accuracy, "accuracy_interval": [accuracy - 0.02, accuracy + 0.02],
        "macro_f1": macro_f1, "macro_f1_interval": [macro_f1 - 0.03, macro_f1 + 0.03],
    }  # fmt: skip


def make_run(path, config=REPORT, history=TWO_PHASES, *, recipe="report", metrics=None, **data):
    run = RunDirectory.create(path)
    write_json(run.config, {"recipe": recipe, **config.to_dict()})
    about = {"source": "fer2013.csv", "sha256": "ab", "synthetic": False, "class_names": NAMES}
    write_json(run.data, {**about, "counts": {"train": [700, 200, 100], "validation": [70, 20, 10]}, **data})
    if history:
        write_text(run.history, history)
    if metrics:
        write_json(run.metrics, {"machine": {"cpu": "A", "cores": 2}, "backend": "tensorflow", **metrics})
    return str(path)


@pytest.fixture
def finished(tmp_path):
    keras = {"validation": scores(0.53, 0.48), "test": scores(0.54, 0.49)}
    return make_run(tmp_path / "finished", metrics={"keras": keras})


@pytest.fixture
def unfinished(tmp_path):
    config = dataclasses.replace(DEMO, image_size=64, initial_image_size=48, resizing_epochs=1)
    return make_run(tmp_path / "unfinished", config, GROWING, recipe="mine")


def table_row(text, label):
    """The cells of the table's row that begins with a label."""
    (line,) = [line for line in text.splitlines() if line.startswith(label + "  ")]
    return [cell.strip() for cell in line[len(label) :].split("  ") if cell.strip()]


def failure(capsys, *argv):
    assert main([str(argument) for argument in argv]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("fer-tf compare: error: ")
    return line


def test_two_runs_side_by_side(finished, unfinished, capsys):
    assert main([finished, unfinished]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0].split() == ["finished", "unfinished"]
    assert table_row(text, "recipe") == ["report", "mine"]
    assert table_row(text, "learning_rate") == ["0.0001", f"{DEMO.learning_rate:g}"]
    assert table_row(text, "training images") == ["1,000", "1,000"]
    assert table_row(text, "state") == ["finished", "under way or stopped"]
    assert table_row(text, "epochs done") == ["phase 1: 2, phase 2: 3 of 40", f"phase 2: 3 of {DEMO.epochs}"]
    assert table_row(text, "seconds") == ["1,020", "110"]
    # The 0.99 at 48 px does not count: training keeps weights of the final size only.
    assert table_row(text, "best epoch") == ["phase 2, epoch 2", "phase 2, epoch 3"]
    assert table_row(text, "its accuracy on validation (selection split)") == ["52.51 %", "44.00 %"]
    assert table_row(text, "its loss on validation (selection split)") == ["1.300", "1.400"]
    assert table_row(text, "accuracy on test") == ["54.00 % (52.00 to 56.00)", "-"]
    assert table_row(text, "macro-F1 on validation (selection split)") == ["0.480 (0.450 to 0.510)", "-"]
    assert "\nmomentum " not in text  # the same in both
    assert "machine" not in text and "McNemar" not in text and "different data" not in text


def test_equal_runs_have_no_differing_setting(tmp_path, finished):
    twin = make_run(tmp_path / "twin", metrics={"keras": {"validation": scores(0.5, 0.4)}})
    text = format_table(read_runs([finished, twin]))
    assert "Settings that differ\nnone\n" in text
    assert table_row(text, "accuracy on test") == ["54.00 % (52.00 to 56.00)", "-"]
    assert f"evaluate --run {finished} --against {twin}/model.keras" in text


def test_what_makes_figures_not_comparable_is_said(tmp_path, finished):
    other = make_run(tmp_path / "other", source="mine.npz", sha256="cd", metrics={"machine": {"cpu": "B", "cores": 8}})
    text = format_table(read_runs([finished, other]))
    assert table_row(text, "data") == ["fer2013.csv", "mine.npz"]
    assert table_row(text, "machine") == ["A, 2 cores", "B, 8 cores"]
    assert "different data: their figures are not about the same images" in text


def test_a_run_without_an_epoch_and_one_of_an_older_version(tmp_path, finished):
    young = make_run(tmp_path / "young", history=None)
    header_only = make_run(tmp_path / "header", history=HEAD)
    old = make_run(tmp_path / "old")
    config = read_json(RunDirectory(old).config)
    del config["batch_size"]
    write_json(RunDirectory(old).config, config)
    runs = read_runs([finished, young, header_only, old])
    text = format_table(runs)
    assert table_row(text, "epochs done")[1:] == ["none", "none", "phase 1: 2, phase 2: 3 of 40"]
    assert table_row(text, "best epoch")[1:] == ["-", "-", "phase 2, epoch 2"]
    assert table_row(text, "batch_size") == ["32", "32", "32", "-"]
    figure = plot_runs(runs)
    assert len(figure.axes[0].get_legend_handles_labels()[1]) == 0  # one legend for the figure
    assert [text.get_text() for text in figure.legends[0].get_texts()][:2] == ["finished", "old"]


def test_no_epoch_of_the_final_size_yet(tmp_path, finished):
    config = dataclasses.replace(DEMO, image_size=64, initial_image_size=48, resizing_epochs=1)
    started = make_run(tmp_path / "started", config, "\n".join(GROWING.splitlines()[:2]) + "\n")
    text = format_table(read_runs([finished, started]))
    assert table_row(text, "best epoch") == ["phase 2, epoch 2", "none at 64 px yet"]
    assert table_row(text, "its accuracy on validation (selection split)") == ["52.51 %", "-"]


def test_runs_of_one_name_are_told_apart_and_synthetic_ones_marked(tmp_path):
    paths = [make_run(tmp_path / folder / "demo", synthetic=folder == "b") for folder in "ab"]
    head = format_table(read_runs(paths)).splitlines()[0]
    assert paths[0] in head and f"{paths[1]} (synthetic)" in head and f"{paths[0]} (synthetic)" not in head
    labels = [text.get_text() for text in plot_runs(read_runs(paths)).legends[0].get_texts()]
    assert labels[:2] == [paths[0], f"{paths[1]} (synthetic)"]


def test_the_picture_shows_the_curves(finished, unfinished):
    figure = plot_runs(read_runs([finished, unfinished]))
    accuracy, accuracy_by_time, loss, _ = figure.axes
    curves = [line for line in accuracy.lines if len(line.get_xdata()) > 2]
    np.testing.assert_allclose(curves[0].get_ydata(), [0.30, 0.35, 0.45, 0.5251, 0.50])
    np.testing.assert_array_equal(curves[0].get_xdata(), [1, 2, 3, 4, 5])
    np.testing.assert_allclose(curves[1].get_ydata(), [0.99, 0.41, 0.44])
    assert curves[0].get_color() != curves[1].get_color() and curves[0].get_linestyle() != curves[1].get_linestyle()
    in_minutes = next(line for line in accuracy_by_time.lines if len(line.get_xdata()) == 5)
    np.testing.assert_allclose(in_minutes.get_xdata(), [1, 2, 7, 12, 17])
    stars = [(line.get_xdata()[0], line.get_ydata()[0]) for line in accuracy.lines if line.get_marker() == "*"]
    assert stars == [(4, 0.5251), (3, 0.44)]
    assert [line.get_xdata()[0] for line in accuracy.lines if list(line.get_ydata()) == [0, 1]] == [2.5]  # of phases
    assert accuracy.get_ylabel() == "accuracy, selection split" and loss.get_xlabel() == "epoch over both phases"
    assert figure.axes[3].get_xlabel() == "training time, minutes"
    assert to_png(figure).startswith(b"\x89PNG")


def test_one_huge_loss_does_not_flatten_the_others(tmp_path, finished):
    wild = make_run(tmp_path / "wild", history=TWO_PHASES.replace("1.4,0.45", "15.7,0.45"))
    loss = plot_runs(read_runs([finished, wild])).axes[2]
    assert loss.get_ylim()[1] < 6 and "cut at" in loss.get_ylabel()


def test_the_picture_is_written_where_asked(tmp_path, finished, unfinished, capsys):
    assert main([finished, unfinished, "--output", str(tmp_path / "new" / "runs.png")]) == 0
    assert (tmp_path / "new" / "runs.png").read_bytes().startswith(b"\x89PNG")
    assert "runs.png" in capsys.readouterr().out
    assert main([finished, unfinished]) == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["runs.png"]


def test_bad_input_is_one_line(tmp_path, finished, unfinished, capsys):
    assert "expected two or more" in failure(capsys, finished)
    assert "no run at" in failure(capsys, finished, tmp_path / "absent")
    assert "no run at" in failure(capsys, finished, tmp_path)
    assert "named twice" in failure(capsys, finished, tmp_path / ".." / tmp_path.name / "finished")
    other = make_run(tmp_path / "other", class_names=["cat", "dog"])
    assert "has the classes cat, dog" in failure(capsys, finished, other)
    assert "ends in .png" in failure(capsys, finished, unfinished, "--output", tmp_path / "runs.pdf")
    young = [make_run(tmp_path / name, history=None) for name in ("y1", "y2")]
    assert main([str(one) for one in young]) == 0
    capsys.readouterr()
    assert "no curves to draw" in failure(capsys, *young, "--output", tmp_path / "runs.png")
    write_text(RunDirectory(other).history, HEAD + "2,1,64,x,0.1,1,1,1,1\n")
    assert "row 2" in failure(capsys, finished, other)
    write_text(RunDirectory(other).history, HEAD + "2,1,64\n")
    assert "row 2 lacks" in failure(capsys, finished, other)
    RunDirectory(other).data.rename(tmp_path / "moved.json")
    assert "data.json is missing" in failure(capsys, finished, other)
    write_text(RunDirectory(other).config, "{")
    assert "not JSON" in failure(capsys, finished, other)
    assert not (tmp_path / "runs.png").exists()
