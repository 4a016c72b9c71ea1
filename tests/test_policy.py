"""The policy for a folder's crops is chosen once, recorded and used again, and gives the same crops as `predict`."""

import json

import numpy as np
import pytest
from PIL import Image

from fer_tf.artifacts import RunDirectory, read_json
from fer_tf.commands import evaluate, predict, prepare
from fer_tf.config import Config
from fer_tf.data.loading import load_dataset
from fer_tf.data.recorded import describe_data, run_data
from fer_tf.data.synthetic import draw_faces
from fer_tf.errors import InputError
from fer_tf.faces.detection import find_faces
from fer_tf.faces.policy import CropPolicy, decide
from tests.drawn_pictures import FACE_BOXES, photograph
from tests.tiny_models import write_tiny

pytestmark = pytest.mark.light

pytest.importorskip("cv2")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def full_picture(label: int = 3, side: int = 200) -> Image.Image:
    """A drawn face that fills the picture, as in cropped data sets."""
    return Image.fromarray(draw_faces(np.array([label]), 1)[0]).resize((side, side), Image.Resampling.BICUBIC)


def write_folder(root, pictures):
    """`pictures`: split/class/name -> picture."""
    for name, picture in pictures.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(root / name)
    return root


def photographs(root):
    """Photographs with two faces, of which the larger is happy; one photograph of each split has no face."""
    pictures = {}
    for split in ("train", "validation", "test"):
        for name in ("happy", "sad"):
            pictures |= {f"{split}/{name}/{number}.png": photograph(num_faces=1 + number % 2) for number in range(2)}
        pictures[f"{split}/sad/wall.png"] = photograph(num_faces=0)
    return write_folder(root, pictures)


def test_small_pictures_and_full_faces_are_crops():
    small = decide("auto", [Image.new("L", (48, 48)), Image.new("L", (64, 30))])
    assert (small.faces, small.detector) == ("whole", None) and "at most 64 pixels" in small.reason
    full = decide("auto", [full_picture(label % 7) for label in range(5)])
    assert full.faces == "whole" and "5 of 5 sampled pictures" in full.reason


def test_photographs_are_searched():
    policy = decide("auto", [photograph(), photograph(num_faces=0), full_picture()])
    assert (policy.faces, policy.detector) == ("detect", "YuNet 2023mar") and "1 of 3 sampled" in policy.reason
    assert decide("whole", [photograph()]).faces == "whole"
    with pytest.raises(InputError, match="faces 'some': expected one of auto, detect, whole"):
        decide("some", [])


def test_the_largest_most_central_face_is_taken(tmp_path):
    picture = Image.new("RGB", (900, 300), (128, 128, 128))
    face = full_picture(3, 120)
    picture.paste(full_picture(4, 130), (10, 100))  # a little larger, at the edge
    picture.paste(face, (390, 90))
    edge, central = find_faces(picture)
    assert edge.box[0] < 100 < 350 < central.box[0]
    np.testing.assert_array_equal(CropPolicy("detect", "").crop(picture), central.crop)


def test_a_folder_of_photographs_gives_the_crops_that_predict_makes(tmp_path, capsys, caplog):
    """`evaluate` and `predict` give the same box and the same probabilities for each picture."""
    root = photographs(tmp_path / "photos")
    model = write_tiny(tmp_path / "tiny.tflite", class_names=("happy", "sad"))
    caplog.set_level("WARNING", logger="fer_tf")
    dataset = load_dataset(root)
    assert "left out 3 of 15 files: 3 in which no face is found" in caplog.text and "wall.png" in caplog.text
    assert dataset.crop["faces"] == "detect" and dataset.crop["num_without_face"] == 3
    assert [int(dataset.counts(split).sum()) for split in ("train", "validation", "test")] == [4, 4, 4]
    from fer_tf.inference import open_model

    ours = open_model(model).predict(dataset.take("test").images)
    names = ["happy/0.png", "happy/1.png", "sad/0.png", "sad/1.png"]
    for name, probabilities in zip(names, ours, strict=True):
        path = root / "test" / name
        assert predict.main([str(path), "--model", str(model), "--format", "json"]) == 0
        first = json.loads(capsys.readouterr().out)[0]  # the larger face of two is the more prominent here
        found = {entry["emotion"]: entry["score"] for entry in first["emotions"]}
        assert found["happy"] == pytest.approx(probabilities[0], abs=1e-6)
    assert evaluate.main(["--model", str(model), "--data", str(root), "--split", "test"]) == 0
    assert "4 images" in capsys.readouterr().out


def test_crops_are_kept_for_the_next_call_and_made_anew_for_other_pictures(tmp_path, monkeypatch):
    root = photographs(tmp_path / "photos")
    first = load_dataset(root)
    monkeypatch.setattr(CropPolicy, "crop", lambda *_: pytest.fail("cropped again"))
    again = load_dataset(root, faces=CropPolicy.from_dict({k: v for k, v in first.crop.items() if k[:4] != "num_"}))
    np.testing.assert_array_equal(again.images, first.images)
    assert again.originals == first.originals == {"640x480 colour": 15}
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    full_picture().save(root / "train" / "sad" / "0.png")
    assert not np.array_equal(load_dataset(root).images, first.images)


def test_what_was_decided_is_recorded_with_the_run_and_used_again(tmp_path):
    root = photographs(tmp_path / "photos")
    dataset = load_dataset(root)
    run = RunDirectory.create(tmp_path / "run")
    (run.data).write_text(json.dumps(describe_data(dataset)))
    recorded = read_json(run.data)["crop"]
    assert {"faces", "factor", "detector", "num_without_face"} <= recorded.keys()
    np.testing.assert_array_equal(run_data(run, Config()).images, dataset.images)
    # With another request, the same pictures give other crops: the record decides, not a new sample.
    whole = load_dataset(root, faces="whole")
    assert len(whole) == 15
    (run.data).write_text(json.dumps(describe_data(whole)))
    np.testing.assert_array_equal(run_data(run, Config()).images, whole.images)
    by_0_1 = json.loads(run.data.read_text())
    del by_0_1["crop"]  # version 0.1 recorded nothing and took centre squares
    (run.data).write_text(json.dumps(by_0_1))
    np.testing.assert_array_equal(run_data(run, Config()).images, whole.images)
    (run.data).write_text(json.dumps(describe_data(whole)))
    broken = {**json.loads(run.data.read_text()), "crop": {**recorded, "factor": 2.0}}
    (run.data).write_text(json.dumps(broken))
    with pytest.raises(InputError, match=r"was cropped by YuNet 2023mar with the factor 2\.0"):
        run_data(run, Config())


def test_a_set_that_is_mostly_faceless_stops_with_advice_that_works(tmp_path, capsys):
    walls = {f"train/{name}/{n}.png": photograph(num_faces=0) for name in ("happy", "sad") for n in range(3)}
    root = write_folder(tmp_path / "walls", walls)
    assert prepare.main([str(root), str(tmp_path / "out.npz")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "no face is found in 6 of 6 pictures" in error and error.endswith("load them with --faces whole")
    assert not (tmp_path / "out.npz").exists()
    assert prepare.main([str(root), str(tmp_path / "out.npz"), "--faces", "whole"]) == 0


def test_without_the_detector_crops_load_and_photographs_name_the_pip_command(tmp_path, monkeypatch):
    from fer_tf.faces import detection

    monkeypatch.setattr(detection, "_thread", type("Thread", (), {})())
    monkeypatch.setattr(detection.importlib.util, "find_spec", lambda name: None)
    crops = {f"train/{name}/{n}.png": Image.new("L", (48, 48)) for name in ("happy", "sad") for n in range(3)}
    assert len(load_dataset(write_folder(tmp_path / "crops", crops))) == 6
    with pytest.raises(InputError, match=r"pip install .*\[faces\]'"):
        load_dataset(photographs(tmp_path / "photos"))


def test_boxes_of_the_drawn_photograph_are_no_full_faces():
    assert all(side < 0.6 * 480 for _, _, side, _ in FACE_BOXES)
