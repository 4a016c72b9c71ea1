"""Annotated pictures: legible letters, labels that cover no face, any script; annotated copies are not read again."""

import functools
import io
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from fer_tf.commands.predict import main
from fer_tf.faces import Mark, colours, draw_faces, drawing, fonts
from fer_tf.recognition import Face, _mark
from tests.drawn_pictures import photograph

pytestmark = pytest.mark.light

GREEK = "\u03c7\u03b1\u03c1\u03ac"  # joy; DejaVu Sans, which comes with Matplotlib, has it
LOST = "\U000e0001"  # a tag, which no font shows


def overlap(one, other) -> int:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height)


@pytest.mark.parametrize("seed", range(12))
def test_labels_cover_no_other_face_and_no_other_label(seed):
    """Up to ten faces of several sizes at random places that do not overlap."""
    rng = np.random.default_rng(seed)
    size, boxes = (int(rng.integers(600, 2000)), int(rng.integers(400, 1500))), []
    for _ in range(200):
        side = int(rng.integers(20, 160))
        left, top = int(rng.integers(0, size[0] - side)), int(rng.integers(0, size[1] - side))
        area = (left, top, left + side, top + side)
        if all(not overlap(area, (x, y, x + w, y + h)) for x, y, w, h in boxes) and len(boxes) < 10:
            boxes.append((left, top, side, side))
    labels = [(int(rng.integers(60, 140)), 20) for _ in boxes]
    places = drawing.place_labels(size, boxes, labels)
    for index, place in enumerate(places):
        assert (place[2] - place[0], place[3] - place[1]) == labels[index]
        assert place[0] >= 0 and place[1] >= 0 and place[2] <= size[0] and place[3] <= size[1]
        for other, (left, top, width, height) in enumerate(boxes):
            assert other == index or not overlap(place, (left, top, left + width, top + height))
        assert not any(overlap(place, other) for other in places[:index])


def test_a_row_of_faces_that_touch_has_its_labels_above_and_below():
    boxes = [(100 * index, 100, 100, 100) for index in range(6)]
    places = drawing.place_labels((600, 300), boxes, [(160, 20)] * 6)
    for index, place in enumerate(places):
        assert not any(overlap(place, (x, y, x + w, y + h)) for x, y, w, h in boxes)
        assert not any(overlap(place, other) for other in places[:index])


def test_a_label_as_wide_as_the_picture_stays_inside():
    assert drawing.place_labels((80, 60), [(10, 10, 40, 40)], [(80, 20)]) == [(0, 0, 80, 20)]


@pytest.mark.parametrize(("size", "side"), [((400, 300), 90), ((4000, 3000), 900), ((4000, 3000), 120)])
def test_letters_follow_the_picture(size, side):
    height = drawing.letter_height(size, [(0, 0, side, side)])
    assert max(11, min(size) / 45) <= height <= max(11, min(size) / 22)


def test_letters_are_never_too_small_to_read():
    assert drawing.letter_height((100, 80), [(0, 0, 20, 20)]) == 11


@pytest.mark.parametrize(
    ("emotions", "text", "is_faint"),
    [
        ([("happy", 0.93), ("neutral", 0.05)], "happy 93%", False),
        ([("sad", 0.55), ("neutral", 0.41)], "sad 55% / neutral 41%", False),
        ([("sad", 0.41), ("neutral", 0.2)], "sad 41%?", True),
        ([("sad", 0.41), ("neutral", 0.33)], "sad 41% / neutral 33%?", True),
    ],
)
def test_what_a_label_says(emotions, text, is_faint):
    mark = _mark(Face((1, 2, 30, 40), 0.9, (), emotions))
    assert (mark.box, mark.text, mark.emotion, mark.is_faint) == (
        (1, 2, 30, 40),
        text,
        "sad" if "sad" in text else "happy",
        is_faint,
    )


def test_a_label_knows_prediction_sets_and_uncertain_faces():
    emotions = [("sad", 0.55), ("neutral", 0.41)]
    face = functools.partial(Face, (1, 2, 30, 40), 0.9, (), emotions)
    assert _mark(face(prediction_set=("sad", "neutral"))).text == "sad or neutral"
    assert _mark(face(prediction_set=("sad",))).text == "sad 55%"
    mark = _mark(face(is_uncertain=True))
    assert (mark.text, mark.is_faint) == ("uncertain", True)


@pytest.mark.parametrize("side", [48, 100, 400])
def test_a_long_label_is_drawn_inside_a_small_picture(side):
    drawn = draw_faces(Image.new("RGB", (side, side)), [Mark((5, 5, 20, 20), "surprise or neutral 93%")])
    assert drawn.size == (side, side) and np.asarray(drawn)[-1, -1].sum() == 0


def luminance(colour) -> float:
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in np.array(colour) / 255]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("emotion", [*drawing.EMOTIONS, "contempt", "bored", "Freude"])
@pytest.mark.parametrize("is_faint", [False, True])
def test_text_stands_out_from_its_label(emotion, is_faint):
    colour = drawing._colour(Mark((0, 0, 9, 9), "", emotion, is_faint))
    light, dark = sorted((luminance(colour), luminance(drawing._text_colour(colour))), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.2, level AA


def test_every_emotion_has_a_colour_of_its_own():
    names = [*drawing.EMOTIONS, "contempt"]
    assert len({drawing._colour(Mark((0, 0, 9, 9), "", name)) for name in names}) == len(names)
    assert drawing._colour(Mark((0, 0, 9, 9), "", "Anger")) == drawing._colour(Mark((0, 0, 9, 9), "", "angry"))


def test_names_of_any_script_are_drawn_in_a_font_that_has_them(caplog):
    pytest.importorskip("matplotlib")
    font = fonts.font_for(f"{GREEK} 90%", 20)
    assert font is not None and fonts.has_letters(font.path, GREEK)
    picture = Image.new("RGB", (300, 200), "white")
    one, other = (
        draw_faces(picture, [Mark((100, 80, 60, 60), text, "joy")]) for text in (f"{GREEK} 90%", f"{GREEK[::-1]} 90%")
    )
    assert one.tobytes() != other.tobytes()  # a box for each letter would look the same
    assert not caplog.records


def test_a_note_stands_for_letters_that_no_font_has(monkeypatch, caplog):
    monkeypatch.setattr(fonts, "_font_files", lambda: iter(()))
    fonts._font_with.cache_clear()
    fonts._said.clear()
    with caplog.at_level(logging.WARNING):
        assert fonts.without_lost_letters(f"{GREEK} 90%") == "(no font) 90%"
        assert fonts.without_lost_letters(f"{GREEK} 10%") == "(no font) 10%"
    fonts._font_with.cache_clear()
    assert [record.getMessage().partition(":")[0] for record in caplog.records][:1] == [
        "no font of this system has all letters of '\\u03c7\\u03b1\\u03c1\\u03ac 90%'"
    ]


def test_the_input_is_not_changed_and_its_metadata_stays_behind():
    image = photograph()
    image.info["comment"] = b"at home"
    before = image.tobytes()
    drawn = draw_faces(image, [Mark((50, 50, 60, 60), "happy 93%", "happy")])
    assert image.tobytes() == before and not drawn.info and drawn.size == image.size
    assert draw_faces(image, []).tobytes() == before


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_folder_never_reads_its_own_output(tmp_path, capsys, caplog, suffix):
    pytest.importorskip("cv2")
    photograph().save(tmp_path / f"family{suffix}")
    arguments = [str(tmp_path), "--annotate", str(tmp_path), "--format", "jsonl"]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    assert (tmp_path / f"family-faces{suffix}").is_file()
    (tmp_path / f"family-faces{suffix}").rename(tmp_path / f"renamed{suffix}")  # recognised by its contents
    with caplog.at_level(logging.INFO):
        assert main(arguments) == 0
    assert capsys.readouterr().out == first
    assert "left out 1 annotated copy from earlier calls" in caplog.messages
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [f"family{suffix}", f"family-faces{suffix}", f"renamed{suffix}"]
    )


def test_a_copy_that_is_named_is_read(tmp_path, capsys):
    pytest.importorskip("cv2")
    photograph().save(tmp_path / "family.png")
    assert main([str(tmp_path / "family.png"), "--annotate", str(tmp_path)]) == 0
    assert main([str(tmp_path / "family-faces.png")]) == 0
    assert "family-faces.png" in capsys.readouterr().out


def test_a_mark_is_found_in_a_file_of_either_kind(tmp_path):
    for name in ("a.png", "b.jpg"):
        drawing.save_annotated(Image.new("RGB", (64, 64)), tmp_path / name)
        assert drawing.is_annotated(tmp_path / name)
    plain = io.BytesIO()
    Image.new("RGB", (64, 64)).save(plain, "PNG")
    (tmp_path / "c.png").write_bytes(plain.getvalue())
    assert not drawing.is_annotated(tmp_path / "c.png") and not drawing.is_annotated(tmp_path / "none.png")


def test_drawings_and_plots_have_one_palette():
    """A colour written as numbers in another module would drift away from the palette."""
    package = Path(drawing.__file__).parents[1]
    written = "#0072b2", "#d55e00", "(0, 114, 178)", "(213, 94, 0)"
    owners = {path.name for path in package.rglob("*.py") if any(c in path.read_text().lower() for c in written)}
    assert owners == {"colours.py"}
    for name, colour in zip(drawing.EMOTIONS, colours.EMOTION_COLOURS, strict=True):
        assert drawing._colour(Mark((0, 0, 9, 9), "", name)) == ImageColor.getrgb(colour)
    flat = drawing.draw_map(np.full((48, 48), 0, np.uint8), np.ones((48, 48)), "")
    orange = [round(0.8 * part) for part in ImageColor.getrgb(colours.ORANGE)]
    np.testing.assert_allclose(flat.getpixel((flat.width - 9, 9)), orange, atol=1)
