"""The explore command: what it prints and writes, and its note for synthetic data."""

import json

import numpy as np
import pytest
from PIL import Image

from fer_tf.commands import explore
from fer_tf.data import synthetic
from fer_tf.data.audit import audit, audit_text
from fer_tf.data.dataset import Dataset
from fer_tf.data.reading.npz import save_npz

FIGURES = ("class_balance", "mean_faces", "contact_sheet")


@pytest.fixture
def npz(tmp_path):
    """Nine faces of three classes; the test image is also in train; one class has no test image."""
    images = np.random.default_rng(0).integers(0, 256, (9, 48, 48), dtype=np.uint8)
    images[8] = images[0]
    dataset = Dataset(
        labels=np.array([0, 1, 2, 0, 1, 2, 0, 1, 1]),
        split=np.array(["train"] * 6 + ["validation"] * 2 + ["test"]),
        class_names=("angry", "happy", "sad"),
        images=images,
    )
    path = tmp_path / "faces.npz"
    save_npz(dataset, path)
    return path


def test_prints_the_findings_and_writes_nothing_without_an_output(npz, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert explore.main(["--data", str(npz)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Data: faces.npz, 9 images\n")
    assert "  test images that are also in train: 1\n" in out
    assert "synthetic" not in out
    assert list(tmp_path.iterdir()) == [npz]


def test_writes_findings_and_figures(npz, capsys, tmp_path):
    output = tmp_path / "new" / "audit"
    assert explore.main(["--data", str(npz), "--output", str(output)]) == 0
    findings = json.loads((output / "audit.json").read_text())
    assert findings["exact"]["unique"] == 8
    out = capsys.readouterr().out
    assert out.startswith(audit_text(findings))
    written = sorted(path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file())
    assert written == ["audit.json", *sorted(f"figures/{name}.png" for name in FIGURES)]
    assert all(f"wrote {output / name}\n" in out for name in written)
    for name in FIGURES:
        with Image.open(output / "figures" / f"{name}.png") as picture:
            assert picture.width >= 900 and picture.convert("L").getextrema()[0] < 100  # a page wide and not empty


def test_figures_show_each_class_of_each_split(npz, tmp_path, monkeypatch):
    from fer_tf.report import plots

    captions = {}
    to_png = plots.to_png

    def keep(figure):
        captions[figure.axes[0].get_title()] = [text.get_text() for text in figure.axes[0].texts]
        return to_png(figure)

    monkeypatch.setattr(plots, "to_png", keep)
    assert explore.main(["--data", str(npz), "--output", str(tmp_path / "audit")]) == 0
    shown = [text.replace("\n", " ") for text in captions["Mean face by class"]]
    assert shown == [
        *(f"{name}, train 2 images" for name in ("angry", "happy", "sad")),
        "angry, validation 1 image",
        "happy, validation 1 image",
        "happy, test 1 image",
    ]
    assert [text.replace("\n", " ") for text in captions[""]] == [
        *["angry, train"] * 2, "angry, validation",
        *["happy, train"] * 2, "happy, validation", "happy, test",
        *["sad, train"] * 2,
    ]  # fmt: skip


def test_an_output_that_is_there_is_replaced(npz, tmp_path):
    output = tmp_path / "audit"
    for _ in range(2):
        assert explore.main(["--data", str(npz), "--output", str(output)]) == 0
    assert not [path for path in output.rglob("*") if path.name.startswith(".")]


def test_embedded_faces_are_called_synthetic(monkeypatch, capsys, tmp_path):
    few = synthetic.make_synthetic(28, 14, 14)
    monkeypatch.setattr(synthetic, "make_synthetic", lambda: few)
    assert explore.main(["--output", str(tmp_path / "audit")]) == 0
    out = capsys.readouterr().out
    assert "synthetic" in out.splitlines()[0]
    findings = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert findings == audit(few)
    assert findings["synthetic"] is True


def test_figures_of_synthetic_faces_say_so(monkeypatch, tmp_path):
    from fer_tf.artifacts import RunDirectory
    from fer_tf.report import plots
    from fer_tf.report.writing import write_audit

    titles = []
    to_png = plots.to_png
    monkeypatch.setattr(plots, "to_png", lambda figure: titles.append(figure.get_suptitle()) or to_png(figure))
    write_audit(synthetic.make_synthetic(28, 0, 0), RunDirectory(tmp_path))
    assert titles == ["Synthetic faces"] * len(FIGURES)


def test_classes_are_kept_in_the_order_given(npz, capsys):
    assert explore.main(["--data", str(npz), "--classes", "sad,happy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Data: faces.npz, 6 images"
    start = next(i for i, line in enumerate(lines) if line.startswith("train: "))
    assert [line.split()[:2] for line in lines[start + 2 : start + 4]] == [["sad", "2"], ["happy", "2"]]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--data", "no-such.csv"], "no-such.csv"),
        (["--data", "FACES", "--classes", "sad,bored"], "bored"),
        (["--data", "FACES", "--output", "FACES"], "cannot write"),
    ],
)
def test_bad_input_is_one_line_and_status_2(npz, capsys, arguments, words):
    assert explore.main([str(npz) if word == "FACES" else word for word in arguments]) == 2
    err = capsys.readouterr().err.splitlines()
    errors = [line for line in err if line.startswith("fer-tf explore: error: ")]
    assert len(errors) == 1 and err[-1] == errors[0] and words in errors[0]
