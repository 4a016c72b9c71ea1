"""The annotated picture: where labels go and how large letters are."""

import numpy as np
import pytest
from PIL import Image

from fer_tf import faces
from fer_tf.faces.drawing import place_label
from fer_tf.recognition import label_text


def shares_pixels(one, other):
    return all(max(one[i], other[i]) < min(one[i] + one[i + 2], other[i] + other[i + 2]) for i in (0, 1))


@pytest.mark.parametrize("gap", [30, 60])
def test_labels_of_a_crowd_cover_no_face_and_no_other_label(gap):
    boxes = [(20 + (60 + gap) * column, 20 + (60 + gap) * row, 60, 60) for row in range(3) for column in range(4)]
    size, picture, labels = (80, 18), (600, 460), []
    for number, box in enumerate(boxes):
        others = [*boxes[:number], *boxes[number + 1 :], *labels]
        label = (*place_label(box, size, picture, others), *size)
        assert not any(shares_pixels(label, other) for other in others)
        assert label[0] >= 0 and label[1] >= 0 and label[0] + 80 <= 600 and label[1] + 18 <= 460
        labels.append(label)


def test_a_label_goes_below_where_another_face_is_above():
    assert place_label((50, 50, 40, 40), (40, 10), (200, 200), [(50, 0, 40, 49)]) == (50, 90)


def test_letters_grow_with_the_picture_and_not_with_the_face():
    def height(side, face):
        box = (side // 4, side // 2, face, face)
        drawn = np.asarray(faces.draw_faces(Image.new("RGB", (side, side)), [(box, "happy 93%")]))
        return int(drawn[: side // 2].any(axis=(1, 2)).sum())

    assert 12 <= height(400, 30) <= 30
    assert 100 <= height(4000, 300) <= 180
    assert height(4000, 100) == height(4000, 900)


@pytest.mark.parametrize("side", [48, 100, 400])
def test_a_long_label_is_drawn_inside_a_small_picture(side):
    drawn = faces.draw_faces(Image.new("RGB", (side, side)), [((5, 5, 20, 20), "surprise or neutral 93%")])
    assert drawn.size == (side, side) and np.asarray(drawn)[-1, -1].sum() == 0


@pytest.mark.parametrize(
    ("scores", "text"),
    [
        ((0.93, 0.05), "sad 93%"),
        ((0.55, 0.41), "sad 55% / neutral 41%"),
        ((0.55, 0.35), "sad 55%"),
        ((0.44, 0.10), "sad 44%?"),
        ((0.44, 0.31), "sad 44% / neutral 31%?"),
        ((1.0,), "sad 100%"),
    ],
)
def test_a_label_names_what_is_close_and_doubts_what_is_low(scores, text):
    assert label_text(list(zip(("sad", "neutral"), scores, strict=False))) == text
