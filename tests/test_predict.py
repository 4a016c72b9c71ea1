"""`fer-tf predict`: rows and annotated copies of pictures, folders, videos and cameras; messages for bad input."""

import csv
import io
import itertools
import json
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_tf.commands import predict
from fer_tf.deploy.quantization import QUANTIZATIONS
from fer_tf.errors import InputError
from fer_tf.faces import tracking, video
from fer_tf.install import install_hint
from fer_tf.recognition import Recognizer
from fer_tf.task import EMOTIONS
from tests.drawn_pictures import FACE_BOXES, overlap, photograph
from tests.tiny_models import expected_probabilities, write_tiny

pytestmark = pytest.mark.light

cv2 = pytest.importorskip("cv2")
video.opencv()  # FFmpeg reads its log level at its first use in a process, which may be in this test


def _crop_file(path, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 48), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def _clip(path, num_frames=12, fps=10.0):
    """A short video of the photograph's two faces, which move 2 pixels to the right in each frame."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (640, 480))
    frame = np.asarray(photograph())[:, :, ::-1]
    for number in range(num_frames):
        writer.write(np.ascontiguousarray(np.roll(frame, 2 * number, axis=1)))
    writer.release()
    return path


# --- what it prints ---


def test_a_photograph_with_two_faces_to_rows_and_an_annotated_copy(say, tmp_path):
    photograph().save("photo.png")
    status, out, err = say("photo.png", "--format", "jsonl", "--annotate", "out")
    assert (status, err) == (0, [])
    rows = [json.loads(line) for line in out]
    assert [row["face"] for row in rows] == [1, 2]
    for row, drawn in zip(rows, FACE_BOXES, strict=True):
        assert row["file"] == "photo.png"
        assert overlap(row["box"], drawn) > 0.5
        scores = [entry["score"] for entry in row["emotions"]]
        assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1, abs=1e-4)
        assert {entry["emotion"] for entry in row["emotions"]} == set(EMOTIONS)
    annotated = Image.open(tmp_path / "out" / "photo-faces.png")
    changed = np.any(np.asarray(annotated) != np.asarray(photograph()), axis=2)
    for row in rows:
        left, top, width, height = row["box"]
        assert changed[top, left : left + width].all() and changed[top : top + height, left].all()
        assert changed[top - 10 : top, left : left + 20].any()  # the label


def test_the_table(say, tmp_path):
    pixels = _crop_file(tmp_path / "face.png")
    names_and_scores = sorted(zip(expected_probabilities(pixels[None])[0], EMOTIONS, strict=True), reverse=True)
    expected = "  ".join(f"{name} {score:.1%}" for score, name in names_and_scores[:3])
    assert say("face.png") == (
        0,
        [
            "file     face  left,top   width x height  emotions",
            f"face.png    1  0,0        48 x 48         {expected}",
        ],
        [],
    )


def test_csv_has_one_column_a_rank(say, tmp_path):
    _crop_file(tmp_path / "face.png")
    status, out, err = say("face.png", "--format", "csv", "--top", "2")
    (row,) = csv.DictReader(out)
    assert list(row)[:8] == ["file", "frame", "seconds", "face", "left", "top", "width", "height"]
    assert list(row)[8:] == ["emotion_1", "score_1", "emotion_2", "score_2"]
    assert (row["file"], row["frame"], row["face"], row["width"]) == ("face.png", "", "1", "48")
    assert float(row["score_1"]) >= float(row["score_2"])
    assert (status, err) == (0, [])


def test_folders_and_patterns_in_order_each_file_once(say, tmp_path):
    for name in ("b/2.png", "b/10.PNG", "a.png", "c/.hidden.png"):
        _crop_file(tmp_path / name)
    (tmp_path / "b" / "notes.txt").write_text("no picture")
    status, out, err = say("b", "*.png", "a.png", ".", "--format", "csv")
    assert [row["file"] for row in csv.DictReader(out)] == ["b/10.PNG", "b/2.png", "a.png"]
    assert (status, err) == (0, ["left out files that are not pictures or videos: 1 .txt", "3 read, 3 faces"])


def test_many_files_keep_their_order_over_threads(say, tmp_path):
    expected = [_crop_file(tmp_path / "faces" / f"{number:03}.png", number) for number in range(60)]
    _, out, _ = say("faces", "--threads", "4", "--format", "jsonl")
    best = [json.loads(line)["emotions"][0] for line in out]
    probabilities = expected_probabilities(np.stack(expected))
    assert [entry["emotion"] for entry in best] == [EMOTIONS[index] for index in probabilities.argmax(axis=1)]
    np.testing.assert_allclose([entry["score"] for entry in best], probabilities.max(axis=1), atol=1e-5)


def test_progress_over_many_files(say, tmp_path, monkeypatch):
    for number in range(3):
        _crop_file(tmp_path / "faces" / f"{number}.png")
    monkeypatch.setattr(predict, "_PROGRESS_SECONDS", 0.0)
    _, _, err = say("faces")
    assert [line.split(",")[0] for line in err] == ["1 of 3 pictures", "2 of 3 pictures", "3 of 3 pictures", "3 read"]


@pytest.mark.parametrize("flags", [["--no-detect"], ["--faces", "whole"]])
def test_faces_whole_takes_the_whole_picture(say, flags):
    photograph().save("photo.png")
    status, out, _ = say("photo.png", *flags, "--format", "jsonl")
    assert status == 0
    (row,) = map(json.loads, out)
    assert (row["box"], row["score"], row["landmarks"]) == ([80, 0, 480, 480], None, [])


def test_faces_detect_looks_for_faces_in_crops(say, tmp_path):
    _crop_file(tmp_path / "noise.png")
    assert say("noise.png")[0] == 0
    assert say("noise.png", "--faces", "detect")[0] == 1


def test_bounds_of_the_detector_are_flags(say):
    photograph().save("photo.png")
    assert len(say("photo.png", "--format", "jsonl")[1]) == 2
    assert len(say("photo.png", "--format", "jsonl", "--min-face-size", "180")[1]) == 1
    assert say("photo.png", "--min-face-score", "1")[0] == 1
    assert len(say("photo.png", "--format", "jsonl", "--detect-side", "320")[1]) == 2
    for flag, value, message in (
        ("--detect-side", "10", "detect_side 10: expected pixels from 64 to 8192"),
        ("--min-face-score", "2", "min_face_score 2: expected a number from 0 to 1"),
        ("--min-face-size", "-1", "min_face_size -1: expected pixels, or 0 for any"),
    ):
        status, _, err = say("photo.png", flag, value)
        assert status == 2 and err[-1].endswith(message)


def test_json_is_one_array_of_rows_as_documented(say):
    photograph().save("photo.png")
    _, lines, _ = say("photo.png", "--format", "jsonl")
    status, out, _ = say("photo.png", "--format", "json")
    rows = json.loads("\n".join(out))
    assert status == 0 and rows == [json.loads(line) for line in lines]
    assert list(rows[0]) == ["file", "face", "box", "score", "landmarks", "emotions"]
    assert rows[0]["file"] == "photo.png" and rows[0]["face"] == 1
    assert 0.6 <= rows[0]["score"] <= 1 and np.shape(rows[0]["landmarks"]) == (5, 2)
    assert sum(entry["score"] for entry in rows[0]["emotions"]) == pytest.approx(1, abs=1e-4)
    photograph(num_faces=0).save("wall.png")
    assert say("wall.png", "--format", "json")[1] == ["[]"]


def test_files_without_a_face_are_said_once(say):
    for number in range(7):
        photograph(num_faces=0).save(f"wall-{number}.png")
    _, _, err = say("wall-*.png")
    assert [line for line in err if "no face" in line] == [
        "wall-0.png, wall-1.png, wall-2.png, wall-3.png, wall-4.png and 2 more: no face found; if each shows one face "
        "and nothing else, try --faces whole"
    ]


def test_no_face_is_said_with_status_1(say):
    photograph(num_faces=0).save("wall.png")
    status, out, err = say("wall.png", "--format", "jsonl")
    assert (status, out) == (1, [])
    assert err == ["wall.png: no face found; if it shows one face and nothing else, try --faces whole"]


def test_one_picture_with_a_face_is_enough_for_status_0(say, tmp_path):
    photograph(num_faces=0).save("wall.png")
    _crop_file(tmp_path / "face.png")
    status, _, err = say("wall.png", "face.png")
    assert status == 0
    assert err[-1] == "2 read, 1 faces, 1 without a face"


def test_control_characters_of_names_reach_no_terminal(say, tmp_path):
    names = ("angry\x1b[31m", "sad\nhappy", "fröhlich", "=1+1", "\u202eevil", "f", "g")
    hostile = write_tiny(tmp_path / "hostile.tflite", class_names=names, metadata={"synthetic": False})
    _crop_file(tmp_path / "a\x1b]0;title\x07.png")
    for form in ("table", "csv", "jsonl"):
        _, out, err = say("a\x1b]0;title\x07.png", "--format", form, "--top", "7", model=hostile)
        text = "".join(out + err)
        assert text.isprintable()
        assert "\\x1b[31m" in text or "\\u001b[31m" in text
        assert "fröhlich" in text or "fr\\u00f6hlich" in text
    _, _, err = say("b\x1b.png", model=hostile)
    assert err == [
        "fer-tf predict: error: no image file at b\\x1b.png: give the path of a picture, such as a JPEG or PNG file"
    ]


def test_pictures_that_need_a_package_are_one_line(say, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "phone").mkdir()
    for number in range(3):
        (tmp_path / "phone" / f"{number}").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    line = f"HEIC pictures need the package pillow-heif: {install_hint('heif')}"
    status, _, err = say("phone")
    assert (status, err) == (2, [f"skipped: {line}", "0 read, 0 faces, 3 skipped"])
    assert say("phone/0")[2] == [f"fer-tf predict: error: {line}"]


def test_a_synthetic_model_says_what_it_is(say, tmp_path):
    _crop_file(tmp_path / "face.png")
    _, _, err = say("face.png", model=write_tiny(tmp_path / "drawn.tflite"))
    assert err == ["This model learnt from drawn (synthetic) faces only: its scores mean nothing for photographs."]


def test_annotated_copies_never_land_on_an_input_or_on_each_other(say, tmp_path):
    before = _crop_file(tmp_path / "face-faces.png")
    _crop_file(tmp_path / "face.png", 1)
    _crop_file(tmp_path / "b" / "face.png", 2)
    status, _, _ = say("face.png", "face-faces.png", "b/face.png", "--annotate", ".")
    assert status == 0
    np.testing.assert_array_equal(Image.open("face-faces.png"), before)
    written = {path.name for path in tmp_path.glob("*.png")} - {"face.png", "face-faces.png"}
    assert written == {"face-faces-2.png", "face-faces-3.png", "face-faces-faces.png"}


def test_a_run_directory_gives_its_model(model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = _crop_file(tmp_path / "face.png")
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    assert predict.main(["face.png", "--run", "run"]) == 2
    assert capsys.readouterr().err == (
        "fer-tf predict: error: run has no model yet: let train end, or name another --run\n"
    )
    (run / "model-int8.tflite").write_bytes(model.read_bytes())
    assert predict.main(["face.png", "--run", "run", "--format", "jsonl"]) == 0
    best = EMOTIONS[expected_probabilities(pixels[None])[0].argmax()]
    assert json.loads(capsys.readouterr().out)["emotions"][0]["emotion"] == best


# --- videos and cameras ---


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_a_video_to_rows_and_an_annotated_video(say, tmp_path, suffix):
    clip = _clip(tmp_path / "clip.avi")
    clip = clip.rename(tmp_path / f"clip{suffix}")  # OpenCV decides by the contents
    status, out, err = say(clip.name, "--format", "jsonl", "--annotate", "out")
    assert (status, err) == (0, ["the annotated videos have no sound"])
    rows = [json.loads(line) for line in out]
    assert {row["frame"] for row in rows} == set(range(1, 13))
    assert {row["face"] for row in rows} == {1, 2}  # each keeps its number while it moves
    assert [row["seconds"] for row in rows if row["face"] == 1] == pytest.approx([i / 10 for i in range(12)])
    for row in rows:
        left, top, width, height = FACE_BOXES[row["face"] - 1]
        assert overlap(row["box"], (left + 2 * (row["frame"] - 1), top, width, height)) > 0.4
    annotated = [np.asarray(frame) for _, frame in video.FrameSource(tmp_path / "out" / f"clip-faces{suffix}")]
    assert len(annotated) == 12
    left, top, width, _ = next(row["box"] for row in rows if row["frame"] == 6)
    edge = annotated[5][top : top + 2, left + 30 : left + width - 30].astype(int)
    assert abs(edge[..., 0] - edge[..., 2]).mean() > 80  # a colour on a grey picture


def test_scores_are_smoothed_over_time_whatever_the_frame_rate():
    box = (10, 10, 50, 50)
    after = {}
    for fps in (5, 50):
        smoother = tracking.Smoother()
        smoother.update(0.0, [box], np.array([[1.0, 0.0]]))
        for frame in range(1, fps + 1):
            ((number, scores),) = smoother.update(frame / fps, [box], np.array([[0.0, 1.0]]))
        after[fps] = scores[0]
        assert number == 1
    assert after[5] == pytest.approx(np.exp(-1 / tracking.SMOOTHING_SECONDS))
    assert after[50] == pytest.approx(after[5])


def test_faces_are_followed_and_forgotten():
    smoother = tracking.Smoother()
    left, right = (0, 0, 50, 50), (100, 0, 50, 50)
    one, two = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert [number for number, _ in smoother.update(0.0, [left, right], np.stack([one, two]))] == [1, 2]
    swapped = smoother.update(0.1, [(103, 0, 50, 50), (3, 0, 50, 50)], np.stack([two, one]))
    assert [number for number, _ in swapped] == [2, 1]
    np.testing.assert_allclose([scores for _, scores in swapped], [two, one])
    assert smoother.update(0.6, [], np.empty((0, 2))) == []  # a blink of the detector
    assert [number for number, _ in smoother.update(0.9, [left], one[None])] == [1]
    ((number, scores),) = smoother.update(5.0, [left], two[None])
    assert number == 3
    np.testing.assert_allclose(scores, two)


def test_a_camera_is_watched_until_interrupted(say, monkeypatch, tmp_path):
    """With a stand-in for the camera: frames, then Ctrl-C."""
    frame = np.ascontiguousarray(np.asarray(photograph())[:, :, ::-1])

    class Camera:
        def __init__(self, source):
            assert source == 0
            self.left = 3

        def isOpened(self):
            return True

        def get(self, what):
            return {cv2.CAP_PROP_FRAME_WIDTH: 640, cv2.CAP_PROP_FRAME_HEIGHT: 480, cv2.CAP_PROP_FPS: 30}.get(what, -1)

        def grab(self):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            time.sleep(0.1)  # like a camera, whose frames come in real time
            return True

        def retrieve(self):
            return True, frame

        def release(self):
            pass

    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda source, *backend: Camera(source) if source == 0 else real(source))
    status, out, err = say("0", "--format", "jsonl", "--annotate", "out")
    assert (status, err) == (0, ["the annotated videos have no sound"])
    assert len(out) == 6
    assert json.loads(out[-1])["file"] == "camera 0"
    assert len(list(video.FrameSource(tmp_path / "out" / "camera0-faces.mp4"))) >= 3


class Frames:
    """A stand-in for `FrameSource`: the same picture ten times."""

    name, fps, num_frames, every, length, problem = "stand-in", 10.0, 10, 0.0, 1.0, None

    def __init__(self, is_camera):
        self.is_camera = is_camera

    def __iter__(self):
        return ((number / 10, photograph()) for number in range(10))


@pytest.mark.parametrize("is_camera", [True, False])
def test_leaving_a_camera_keeps_its_video_and_leaving_a_file_keeps_nothing(model, tmp_path, is_camera):
    output = tmp_path / "out" / "annotated.avi"
    found = Recognizer(model).stream(Frames(is_camera), annotated=output)
    assert [len(faces) for _, _, faces in itertools.islice(found, 4)] == [2, 2, 2, 2]
    found.close()
    assert [path.name for path in output.parent.iterdir()] == (["annotated.avi"] if is_camera else [])
    if is_camera:
        assert len(list(video.FrameSource(output))) == 3  # the fourth frame was not drawn yet


# --- bad input: one line each ---


def _picture_of_1600_million_pixels(path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))


def _bad_inputs(folder):
    (folder / "text.jpg").write_text("this is a text")
    (folder / "empty.png").write_bytes(b"")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("this is a text")
    (folder / "nothing").mkdir()
    _picture_of_1600_million_pixels(folder / "huge.png")
    writer = cv2.VideoWriter(str(folder / "frameless.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 64))
    writer.release()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.jpg", "no image file at missing.jpg: give the path of a picture, such as a JPEG or PNG file"),
        ("text.jpg", "text.jpg: not a JPEG, PNG, BMP, WEBP, GIF, TIFF, AVIF or HEIC picture; convert it, or remove it"),
        (
            "empty.png",
            "empty.png: not a JPEG, PNG, BMP, WEBP, GIF, TIFF, AVIF or HEIC picture; convert it, or remove it",
        ),
        ("huge.png", "huge.png: PNG of more than 50 million pixels; scale the picture down"),
        ("a" * 300 + ".png", "no image file at aaaa"),
        ("missing.mp4", "no video file at missing.mp4: give the path of a video, or the number of a camera"),
        ("empty.mp4", "empty.mp4: not a video that OpenCV can read; convert it to .mp4 (H.264)"),
        ("text.mp4", "text.mp4: not a video that OpenCV can read; convert it to .mp4 (H.264)"),
        ("nothing", "nothing: no pictures or videos in this folder; give a folder with JPEG, PNG or other files"),
        ("*.gif", "*.gif: no file matches this pattern"),
        ("97", "no camera 97: no camera can be opened under this number; 0 is usually the first"),
        ("4294967296", "no camera 4294967296: no camera can be opened under this number; 0 is usually the first"),
    ],
)
def test_bad_input_is_one_line(say, tmp_path, name, message):
    _bad_inputs(tmp_path)
    status, out, err = say(name)
    assert (status, out) == (2, [])
    assert len(err) == 1
    assert err[0].startswith(f"fer-tf predict: error: {message}")


def test_a_video_without_frames(say, tmp_path):
    _bad_inputs(tmp_path)
    status, out, err = say("frameless.avi", "--annotate", "out")
    assert (status, out, len(err)) == (2, [], 1)
    assert "frameless.avi: no" in err[0]
    assert list((tmp_path / "out").iterdir()) == []  # nothing half-written


@pytest.mark.parametrize(
    ("changes", "breach"),
    [
        (
            {"input_shape": (1, 224, 224, 3), "input_type": "float32"},
            "takes float32 (1, 224, 224, 3): expected uint8 (1, 48, 48, 1)",
        ),
        ({"output_type": "uint8"}, "gives uint8 (1, 7): expected float32 (1, classes)"),
        ({"num_outputs": 2}, "has 2 outputs: expected 1"),
        ({"custom": "Detect"}, "needs the custom operator 'Detect': expected builtin operators only"),
    ],
)
def test_a_tflite_of_another_network(say, tmp_path, changes, breach):
    _crop_file(tmp_path / "face.png")
    foreign = write_tiny(tmp_path / "foreign.tflite", **changes)
    line = f"fer-tf predict: error: {foreign} {breach}; it is not a model of fer_tf"
    assert say("face.png", model=foreign) == (2, [], [line])


def test_a_picture_that_the_system_does_not_let_us_read_is_skipped_too(say, tmp_path, monkeypatch):
    for name in ("a.png", "b.png", "c.png"):
        _crop_file(tmp_path / name)
    read = Path.read_bytes

    def refuse(path):
        if path.name == "b.png":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    status, out, err = say(".", "--format", "csv")
    assert [row["file"] for row in csv.DictReader(out)] == ["a.png", "c.png"]
    assert status == 2
    assert err[0] == "skipped: b.png: cannot be read (Permission denied); make it readable, or remove it"


def test_every_quantization_is_looked_for_in_a_run():
    assert sorted(predict._QUANTIZATIONS) == sorted(QUANTIZATIONS)


def test_broken_files_are_skipped_and_the_rest_is_done(say, tmp_path):
    _bad_inputs(tmp_path)
    _crop_file(tmp_path / "a.png")
    _crop_file(tmp_path / "z.png")
    status, out, err = say("a.png", "text.jpg", "empty.mp4", "missing.jpg", "z.png", "--format", "csv")
    assert [row["file"] for row in csv.DictReader(out)] == ["a.png", "z.png"]
    assert status == 2
    assert [line.split(":")[0] for line in err] == ["skipped", "skipped", "skipped", "2 read, 2 faces, 3 skipped"]


@pytest.mark.parametrize("name", ["marked.jpg", "marked.PNG", "out/marked.mp4"])
def test_annotate_wants_a_folder_not_a_file(say, tmp_path, name):
    _crop_file(tmp_path / "face.png")
    status, out, err = say("face.png", "--annotate", name)
    assert (status, out) == (2, [])
    assert "expected a folder" in err[-1]
    assert f"give --annotate {Path(name).with_suffix('')}" in err[-1]
    assert not (tmp_path / name).exists()


def test_arguments_out_of_range(say, tmp_path):
    _crop_file(tmp_path / "face.png")
    assert say("face.png", "--top", "0")[2] == ["fer-tf predict: error: --top 0: expected 1 or more"]
    assert say("face.png", "--threads", "0")[2] == ["fer-tf predict: error: num_threads is 0: expected 1 or more"]
    (tmp_path / "file").write_text("")
    status, _, err = say("face.png", "--annotate", "file")
    assert status == 2 and err[0].startswith("fer-tf predict: error: --annotate file: File exists")


def test_the_program_in_a_process_of_its_own(model, tmp_path):
    """One row on stdout and nothing else, not even LiteRT's notices."""
    _crop_file(tmp_path / "face.png")
    script = Path(predict.__file__).parents[2] / "scripts" / "predict.py"
    done = subprocess.run(
        [sys.executable, str(script), "face.png", "--model", str(model), "--format", "csv"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(csv.DictReader(io.StringIO(done.stdout)))) == 1


def test_videos_without_opencv_name_the_extra(monkeypatch, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(InputError, match=r"reading videos and cameras needs OpenCV: pip install .*\[faces\]'"):
        video.FrameSource(tmp_path / "clip.mp4")


def test_the_help_states_the_smoothing():
    assert f"time constant of {tracking.SMOOTHING_SECONDS} seconds" in predict.__doc__
