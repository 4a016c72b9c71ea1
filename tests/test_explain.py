"""`explain`: the map marks what the score depends on; the picture and the refusals are as documented."""

import numpy as np
import pytest
from PIL import Image

from fer_tf.artifacts import shipped_model
from fer_tf.commands.explain import main
from fer_tf.data.synthetic import draw_faces
from fer_tf.errors import InputError
from fer_tf.inference.explain import deletion_scores, occlusion_map
from fer_tf.inference.opening import open_model
from tests.drawn_pictures import photograph
from tests.tiny_models import write_tiny

pytestmark = pytest.mark.light


def looks_at(rows: slice, columns: slice):
    """A model with a higher score for the first class if this region is brighter."""

    def predict(images):
        score = images[:, rows, columns].mean(axis=(1, 2)) / 255
        return np.stack([score, 1 - score], axis=1).astype(np.float32)

    return predict


@pytest.mark.parametrize(("rows", "columns"), [(slice(6, 14), slice(8, 40)), (slice(34, 44), slice(20, 30))])
def test_the_map_lies_on_what_the_model_looks_at(rows, columns):
    crop = np.full((48, 48), 30, np.uint8)
    crop[rows, columns] = 250
    values = occlusion_map(looks_at(rows, columns), crop, label=0)
    inside = np.zeros((48, 48), bool)
    inside[rows, columns] = True
    assert values[inside].mean() > 5 * abs(values[~inside]).mean()
    assert inside[np.unravel_index(values.argmax(), values.shape)]
    against = occlusion_map(looks_at(rows, columns), crop, label=1)
    np.testing.assert_allclose(against, -values, atol=1e-6)  # with two classes, one score falls as the other rises


def test_the_score_falls_faster_along_the_map_than_along_others():
    """The deletion check on the shipped model and drawn faces; docs/trust.md has it on 200 images of PublicTest."""
    predict = open_model(shipped_model(".tflite")).predict
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:48, :48]
    gaps = []
    for crop in draw_faces(np.arange(4), seed=6):
        label = int(predict(crop[None])[0].argmax())
        own, blob, noise = (
            deletion_scores(predict, crop, order, label=label).mean()
            for order in (
                occlusion_map(predict, crop, label=label),
                -np.hypot(rows - 23.5, columns - 23.5),
                rng.normal(size=(48, 48)),
            )
        )
        gaps.append((blob - own, noise - own))
    assert np.mean(gaps, axis=0).min() > 0


def test_deletion_begins_with_the_crop_and_ends_with_the_cover():
    crop = draw_faces(np.array([3]), seed=1)[0]
    predict = looks_at(slice(0, 48), slice(0, 48))
    scores = deletion_scores(predict, crop, np.zeros((48, 48)), label=0, num_steps=4)
    assert len(scores) == 5 and scores[0] == pytest.approx(predict(crop[None])[0, 0])


def test_what_is_no_crop_is_refused():
    for crop in (np.zeros((47, 48), np.uint8), np.zeros((48, 48)), "face.png"):
        with pytest.raises(InputError, match=r"expected uint8 \(48, 48\)"):
            occlusion_map(looks_at(slice(0, 9), slice(0, 9)), crop)
    with pytest.raises(InputError, match="label 2: expected 0 to 1"):
        occlusion_map(looks_at(slice(0, 9), slice(0, 9)), np.zeros((48, 48), np.uint8), label=2)


def test_the_command_writes_a_picture(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(draw_faces(np.array([3]), seed=1)[0]).save("face.png")
    model = str(write_tiny(tmp_path / "tiny.tflite"))
    assert main(["face.png", "--model", model]) == 0
    assert "Wrote face-explained.png" in capsys.readouterr().out
    with Image.open("face-explained.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert picture.size == (776, 424)
    assert np.ptp(pixels[:384, :384], axis=2).max() == 0  # the grey crop on the left
    assert (pixels[:384, 392:, 0] - pixels[:384, 392:, 2]).max() > 100  # some orange on the right
    assert main(["face.png", "--model", model, "--emotion", "sad", "--output", "sad.png"]) == 0
    assert capsys.readouterr().out.startswith("sad ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--emotion", "joyous"], "--emotion joyous: the model knows angry"),
        (["--face", "2"], "--face 2: face.png has faces 1 to 1"),
        (["--output", "map.jpg"], "expected a name that ends in .png"),
        (["--model", "none.tflite"], "no model file at none.tflite"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(draw_faces(np.array([3]), seed=1)[0]).save("face.png")
    assert main(["face.png", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*explained*"))


def test_a_photograph_without_a_face(tmp_path, capsys, monkeypatch):
    pytest.importorskip("cv2")
    monkeypatch.chdir(tmp_path)
    photograph(num_faces=0).save("wall.png")
    assert main(["wall.png"]) == 2
    assert "wall.png: no face found" in capsys.readouterr().err
