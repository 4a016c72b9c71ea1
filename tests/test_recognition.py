"""`recognize` and `Recognizer`: photographs in any form, many at once, videos; the same answers as `predict`."""

import json

import numpy as np
import pytest
from PIL import Image

import fer_tf
from fer_tf import faces
from fer_tf.commands import predict
from fer_tf.errors import InputError
from fer_tf.recognition import Face, Recognizer
from tests.drawn_pictures import FACE_BOXES, overlap, photograph
from tests.tiny_models import expected_probabilities, write_tiny

pytestmark = pytest.mark.light

pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("model") / "tiny.tflite")


@pytest.fixture(scope="module")
def recognizer(model):
    return Recognizer(model)


def test_path_picture_and_array_give_the_same_faces(recognizer, tmp_path):
    picture = photograph()
    picture.save(tmp_path / "photo.png")
    found = recognizer.recognize(picture)
    assert recognizer.recognize(str(tmp_path / "photo.png")) == recognizer.recognize(tmp_path / "photo.png") == found
    assert recognizer.recognize(np.asarray(picture)) == found
    assert [face.number for face in found] == [1, 2]
    for face, drawn in zip(found, FACE_BOXES, strict=True):
        assert isinstance(face, Face) and overlap(face.box, drawn) > 0.5
        assert sum(score for _, score in face.emotions) == pytest.approx(1, abs=1e-5)
    crops = np.stack([face.crop for face in faces.find_faces(picture)])
    best = [max(face.emotions, key=lambda pair: pair[1])[1] for face in found]
    np.testing.assert_allclose(best, expected_probabilities(crops).max(axis=1), atol=1e-4)


def test_many_photographs_give_a_list_each(recognizer):
    pictures = [photograph(), photograph(num_faces=0), np.asarray(photograph(num_faces=1))]
    assert [len(found) for found in recognizer.recognize(pictures)] == [2, 0, 1]
    assert recognizer.recognize([]) == []
    assert recognizer.recognize(iter(pictures[:1])) == [recognizer.recognize(pictures[0])]


def test_the_function_keeps_its_recognizer_and_takes_its_settings(model):
    assert fer_tf.recognize(photograph(), model) == Recognizer(model).recognize(photograph())
    (whole,) = fer_tf.recognize(photograph(), model, faces="whole")
    assert whole.box == (80, 0, 480, 480) and whole.score is None
    assert len(fer_tf.recognize(photograph(), model, min_face_size=180)) == 1


def test_python_and_the_command_agree(model, recognizer, tmp_path, capsys):
    photograph().save(tmp_path / "photo.png")
    assert predict.main([str(tmp_path / "photo.png"), "--model", str(model), "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    for row, face in zip(rows, recognizer.recognize(tmp_path / "photo.png"), strict=True):
        assert tuple(row["box"]) == face.box
        for entry, (name, score) in zip(row["emotions"], face.emotions, strict=True):
            assert entry["emotion"] == name and entry["score"] == pytest.approx(score, abs=1e-6)


def test_stream_gives_time_frame_and_faces(recognizer, tmp_path):
    path = tmp_path / "video.avi"
    writer = faces.VideoWriter(path, fps=10, size=(640, 480))
    for _ in range(3):
        writer.write(photograph())
    writer.close()
    seen = list(recognizer.stream(path))
    assert [seconds for seconds, _, _ in seen] == pytest.approx([0, 0.1, 0.2])
    assert all(frame.size == (640, 480) and frame.mode == "RGB" for _, frame, _ in seen)
    assert [[face.number for face in found] for _, _, found in seen] == [[1, 2]] * 3


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        (None, "photo is NoneType: expected a path, a PIL image or a uint8 array"),
        (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\): expected uint8 \(height, width\) or RGB"),
        (np.zeros((9, 9), np.float32), "type float32"),
        (np.zeros((0, 9), np.uint8), r"shape \(0, 9\)"),
        ("absent.png", "no image file at absent.png"),
    ],
)
def test_what_is_no_photograph_is_refused(recognizer, photo, message):
    with pytest.raises(InputError, match=message):
        recognizer.recognize([photo])


def test_settings_out_of_range_are_refused(model):
    for settings, message in (
        ({"faces": "some"}, "faces 'some': expected one of auto, detect, whole"),
        ({"detect_side": 9}, "detect_side 9: expected pixels from 64 to 8192"),
        ({"min_face_score": -1}, "min_face_score -1: expected a number from 0 to 1"),
    ):
        with pytest.raises(InputError, match=message):
            Recognizer(model, **settings)


def test_a_photograph_of_any_mode_and_orientation(recognizer):
    found = recognizer.recognize(photograph())
    assert len(recognizer.recognize(photograph().convert("RGBA"))) == 2
    assert len(recognizer.recognize(photograph().convert("L"))) == 2
    assert len(recognizer.recognize(photograph().convert("P"))) == 2
    assert [face.box for face in recognizer.recognize(photograph().convert("CMYK"))] == [face.box for face in found]
    turned = photograph().transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6
    assert len(recognizer.recognize(turned)) == 2
