"""Corrupted photographs: a face is corrupted like its crop would be, and a face not found is a wrong answer."""

import csv

import numpy as np
import pytest
from PIL import Image

from fer_tf.data.synthetic import draw_faces
from fer_tf.evaluation import corrupt
from fer_tf.evaluation.photographs import cut_out, format_found, measure_photographs
from fer_tf.evaluation.robustness import STRENGTHS
from tests.scripts import load_script
from tests.tiny_models import write_tiny


def photograph(sides=(110, 60)):
    """A photograph, RGB, 400x500 pixels, and the squares that its faces fill."""
    picture, boxes = np.full((400, 500, 3), 128, np.uint8), []
    for place, side in enumerate(sides):
        face = Image.fromarray(draw_faces(np.array([3]), 1)[0]).resize((side, side), Image.Resampling.BICUBIC)
        left, top = 60 + 250 * place, 90
        picture[top : top + side, left : left + side] = np.asarray(face)[:, :, None]
        boxes.append((left, top, side, side))
    return picture, boxes


# JPEG works on the photograph's own pixels, so it is weaker there.
@pytest.mark.parametrize("kind", [kind for kind in STRENGTHS if kind != "JPEG"])
def test_a_large_face_gets_what_its_crop_gets(kind):
    crop = draw_faces(np.array([3]), 4)
    large = np.kron(crop[0], np.ones((4, 4), np.uint8))
    of_mean = kind in ("low contrast", "eyes covered", "mouth covered")  # these use the mean, so keep the crop's mean
    around = {"mode": "constant", "constant_values": round(crop.mean())} if of_mean else {"mode": "edge"}
    window = np.pad(large, 96, **around)[None, :, :, None].repeat(3, axis=3)
    for strength in (2, 4):
        here = corrupt(window, kind, strength, seed=3, face_side=192)[0, 96:-96, 96:-96]
        assert here.shape == (192, 192, 3) and np.all(here[:, :, :1] == here)
        small = np.asarray(Image.fromarray(here[:, :, 0]).resize((48, 48), Image.Resampling.BOX), float)
        if kind == "noise":  # the noise has the same strength, but other values
            there = corrupt(crop, kind, strength, seed=3)
            assert np.std(small - crop[0]) == pytest.approx(np.std(there.astype(float) - crop), rel=0.15)
        else:
            there = corrupt(crop, kind, strength, seed=3).astype(float)
            assert np.abs(small - there[0]).mean() < 0.25 * np.abs(there - crop).mean()


def test_cut_out_puts_the_face_in_the_middle_and_repeats_the_edge():
    picture, _ = photograph()
    picture[:20, :30] = 7
    face = cut_out(picture, (0, 0, 30, 30), 2)
    assert face.photograph.shape == (90, 90, 3) and face.side == 30 and face.label == 2
    np.testing.assert_array_equal(face.photograph[30:60, 30:60], picture[:30, :30])
    assert set(np.unique(face.photograph[:30, :30])) == {7}


def test_a_face_that_is_not_found_counts_as_a_wrong_answer():
    pytest.importorskip("cv2")
    picture, boxes = photograph()
    faces = [*(cut_out(picture, box, 1) for box in boxes), cut_out(picture, (300, 300, 60, 60), 1)]  # a bare wall

    def always_one(crops):
        assert crops.shape[1:] == (48, 48) and crops.dtype == np.uint8
        return np.tile([0.1, 0.9], (len(crops), 1))

    result = measure_photographs(always_one, faces)
    assert result["found_clean"] == result["clean"] == pytest.approx(2 / 3)
    for kind, row in result["kinds"].items():
        assert row["accuracies"] == pytest.approx(row["found"]), kind
        assert max(row["found"]) <= 2 / 3 + 1e-9
    # The detector finds a moved face, and loses a face in strong noise.
    assert min(result["kinds"]["shift"]["found"]) == pytest.approx(2 / 3)
    assert result["kinds"]["noise"]["found"][-1] < 2 / 3
    assert "Faces found, in %: 66.7 % without corruption" in format_found(result)


def test_the_script_reads_what_compose_writes_and_names_what_is_wrong(tmp_path, capsys):
    pytest.importorskip("cv2")
    script, (picture, boxes) = load_script("scripts/corrupt_photographs.py"), photograph((60,))
    model = write_tiny(tmp_path / "tiny.tflite")
    assert script.main([str(tmp_path), "--model", str(model)]) == 2
    error = capsys.readouterr().err
    assert "truth.csv" in error and "compose_photographs.py" in error and "Traceback" not in error
    Image.fromarray(picture).save(tmp_path / "0000.png")
    for rows, words in (
        ([("0000.png", *boxes[0], "happy")], ""),
        ([("0000.png", "x", *boxes[0][1:], "happy")], "row 1"),
        ([("0001.png", *boxes[0], "happy")], "0001.png"),
        ([("0000.png", *boxes[0], "bored")], "lists no face of"),
        ([("0000.png", 490, 0, 60, 60, "happy")], "row 1"),
    ):
        with open(tmp_path / "truth.csv", "w", newline="") as file:
            csv.writer(file).writerows([("file", "left", "top", "width", "height", "class"), *rows])
        if words:
            assert script.main([str(tmp_path), "--model", str(model)]) == 2
            assert words in capsys.readouterr().err
        else:
            assert script.main([str(tmp_path), "--model", str(model), "--output", str(tmp_path / "o.json")]) == 0
            printed = capsys.readouterr().out
            assert "tiny.tflite: accuracy in % on 1 corrupted images" in printed and "Faces found, in %" in printed
            assert (tmp_path / "o.json").is_file()
