"""Finding faces: boxes on drawn photographs, the crop around a box, small pictures, orientation, drawing."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fer_tf import faces
from fer_tf.errors import InputError
from fer_tf.faces import crops, detection
from tests.drawn_pictures import FACE_BOXES, overlap, photograph

pytest.importorskip("cv2")


def test_both_faces_of_a_photograph_are_found_the_larger_first():
    boxes = faces.detect_faces(photograph())
    assert len(boxes) == 2
    for box, drawn in zip(boxes, FACE_BOXES, strict=True):
        assert overlap(box, drawn) > 0.5


def test_no_face_in_a_picture_without_one():
    assert faces.find_faces(photograph(num_faces=0)) == []


def test_boxes_are_in_the_pixels_of_the_large_picture():
    small = photograph()
    large = small.resize((small.width * 5, small.height * 5), Image.Resampling.BICUBIC)
    for box, drawn in zip(faces.detect_faces(large), FACE_BOXES, strict=True):
        assert overlap(box, tuple(5 * value for value in drawn)) > 0.5


def test_boxes_stay_inside_the_picture():
    left, top, width, height = FACE_BOXES[0]
    tight = photograph().crop((left, top, left + width, top + height))
    (box,) = faces.detect_faces(tight)
    assert box[0] >= 0 and box[1] >= 0
    assert box[0] + box[2] <= tight.width and box[1] + box[3] <= tight.height


def test_the_crop_is_cut_out_around_the_box():
    image = photograph()
    for face in faces.find_faces(image):
        left, top, width, height = face.box
        around = image.crop(
            (left - width // 50, top - height // 50, left + width + width // 50, top + height + height // 50)
        )
        assert np.corrcoef(face.crop.ravel(), faces.to_grey48(around).ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    ("box", "area"),
    [
        ((100, 100, 100, 100), (98, 98, 202, 202)),  # 1.04 times the side, same centre
        ((0, 0, 100, 100), (0, 0, 104, 104)),  # moved into the picture
        ((400, 250, 100, 50), (396, 196, 500, 300)),
        ((0, 0, 500, 300), (100, 0, 400, 300)),  # no larger than the picture allows
    ],
)
def test_the_crop_is_a_square_with_the_measured_margin_inside_the_picture(box, area):
    assert crops.crop_area(box, (500, 300)) == area


@pytest.mark.parametrize("size", [(64, 64), (48, 48), (64, 30), (1, 1)])
def test_a_picture_of_at_most_64_pixels_is_a_crop_already(size):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0]), dtype=np.uint8))
    (face,) = faces.find_faces(image)
    np.testing.assert_array_equal(face.crop, faces.to_grey48(image))
    assert face.box[2] == face.box[3] == min(size)


@pytest.mark.parametrize("size", [(10_000, 3), (3, 10_000), (65, 1), (1, 65)])
def test_slivers_are_searched_too(size):
    assert faces.find_faces(Image.new("L", size)) == []


def test_without_detection_the_whole_picture_is_the_face():
    image = photograph(num_faces=0)
    (face,) = faces.find_faces(image, detect=False)
    assert face.box == (80, 0, 480, 480)  # its largest centred square
    np.testing.assert_array_equal(face.crop, faces.to_grey48(image))


def test_a_photograph_that_lies_on_its_side_is_turned_first(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    photograph().transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    boxes = faces.detect_faces(faces.open_image(tmp_path / "turned.jpg"))
    assert len(boxes) == 2
    for box, drawn in zip(boxes, FACE_BOXES, strict=True):
        assert overlap(box, drawn) > 0.5


def test_drawing_keeps_the_size_and_touches_boxes_and_labels_only():
    image = photograph()
    drawn = faces.draw_faces(image, [(FACE_BOXES[0], "happy 93%")])
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
        "print(len(faces.find_faces(small)), len(faces.find_faces(large, detect=False)))\n"
        "try:\n"
        "    faces.find_faces(large)\n"
        "except ValueError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [
        "1 1",
        "finding faces in a picture needs OpenCV: pip install 'fer_tf[faces]', "
        "or take each picture as one face by --no-detect",
    ], done.stderr


def test_opencv_5_is_named(monkeypatch):
    import cv2

    monkeypatch.setattr(detection, "_thread", type("Thread", (), {})())
    monkeypatch.delattr(cv2, "CascadeClassifier")
    with pytest.raises(InputError, match=r"finding faces needs OpenCV 4, this is \d"):
        faces.detect_faces(photograph())
