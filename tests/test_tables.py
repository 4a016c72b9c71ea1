"""Tables as people have them: other separators, names of labels and splits, an eighth class."""

import bz2
import io
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fer_tf.data.audit import audit, audit_text
from fer_tf.data.loading import load_dataset
from fer_tf.data.reading.pixels import parse_pixels
from fer_tf.errors import InputError
from fer_tf.faces.crops import to_grey48
from fer_tf.task import EMOTIONS

_FACE = " ".join(["7"] * 2304)


def _table(path, rows, separator=","):
    lines = [("emotion", "pixels", "Usage"), *((label, _FACE, usage) for label, usage in rows)]
    path.write_text("\n".join(separator.join(fields) for fields in lines) + "\n", "utf-8")
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_any_usual_separator(tmp_path, separator):
    data = load_dataset(_table(tmp_path / "a.csv", [("3", "Training"), ("4", "PublicTest")], separator), training=False)
    assert data.labels.tolist() == [3, 4] and data.split.tolist() == ["train", "validation"]


def test_usage_and_labels_in_other_words(tmp_path):
    rows = [("Happiness", "TRAIN"), ("sadness", "dev"), (" Fear ", "privatetest"), ("0", "training")]
    data = load_dataset(_table(tmp_path / "a.csv", rows), training=False)
    assert [data.class_names[label] for label in data.labels] == ["happy", "sad", "fear", "angry"]
    assert data.split.tolist() == ["train", "validation", "test", "train"]
    assert len(data.class_names) == 7


@pytest.mark.parametrize("label", ["7", "Contempt"])
def test_contempt_is_an_eighth_class(tmp_path, label):
    data = load_dataset(_table(tmp_path / "a.csv", [("3", "Training"), (label, "Training")]), training=False)
    assert data.class_names[-1] == "contempt" and data.labels.tolist() == [3, 7]


@pytest.mark.parametrize(("label", "usage"), [("8", "Training"), ("bored", "Training"), ("3", "holdout")])
def test_an_unknown_word_names_its_row(tmp_path, label, usage):
    with pytest.raises(InputError, match="row 2"):
        load_dataset(_table(tmp_path / "a.csv", [(label, usage)]), training=False)


# --- Forms of the same table ---

_RANDOM = np.random.default_rng(0)
_IMAGES = _RANDOM.integers(0, 256, (42, 48, 48), dtype=np.uint8)
_LABELS = [row % 7 for row in range(42)]
_USAGES = (["Training"] * 28 + ["PublicTest"] * 7 + ["PrivateTest"] * 7)[:42]
_SPLIT_OF = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}


def _pixels(image, separator=" "):
    return separator.join(map(str, image.ravel().tolist()))


def _csv(line="{label},{pixels},{usage}", header="emotion,pixels,Usage", pixels=_pixels):
    rows = zip(_LABELS, _IMAGES, _USAGES, strict=True)
    lines = [line.format(label=label, pixels=pixels(image), usage=usage) for label, image, usage in rows]
    return "\n".join([header, *lines]) + "\n" if header else "\n".join(lines) + "\n"


_STANDARD = _csv()
_FORMS = {
    "labels as floats": _csv("{label}.0,{pixels},{usage}"),
    "pixels as floats": _csv(pixels=lambda image: _pixels(image, ".0 ") + ".0"),
    "pixels as rounded floats": _csv(pixels=lambda image: " ".join(f"{value:.4f}" for value in image.ravel())),
    "pixels in powers of ten": _csv(pixels=lambda image: " ".join(f"{value:.18e}" for value in image.ravel())),
    "lists": _csv('{label},"[{pixels}]",{usage}', pixels=lambda image: _pixels(image, ", ")),
    "nested lists": _csv('{label},"{pixels}",{usage}', pixels=lambda image: str(image.tolist())),
    "commas in quotes": _csv('{label},"{pixels}",{usage}', pixels=lambda image: _pixels(image, ",")),
    "commas without quotes, semicolons between columns": _csv(
        "{label};[{pixels}];{usage}", "emotion;pixels;Usage", lambda image: _pixels(image, ", ")
    ),
    "NumPy's text over many lines": _csv(
        '{label},"{pixels}",{usage}', pixels=lambda image: np.array2string(image.ravel(), threshold=9999)
    ),
    "NumPy's square": _csv('{label},"{pixels}",{usage}', pixels=lambda image: np.array2string(image, threshold=9999)),
    "a column for each pixel": _csv(
        header="label," + ",".join(f"pixel{place}" for place in range(2304)) + ",Split",
        pixels=lambda image: _pixels(image, ","),
    ),
    "other names of columns": _csv(header="Label,PIXEL,usage"),
    "names with blanks": _csv("{usage},{label},{pixels}", " Data_Split , Emotion Label, pixel values"),
    "image holds pixels": _csv(header="class,image,set"),
    "an index and more": _csv("3,x,{label},{pixels},{usage}", "Unnamed: 0,note,emotion,pixels,Usage"),
    "comma at the end": _csv("{label},{pixels},{usage},"),
    "lone CR": _STANDARD.replace("\n", "\r"),
    "no header": _csv(header=""),
    "no header, another order": _csv("{usage}\t{pixels}\t{label}", ""),
    "no header, lists": _csv('{label},"[{pixels}]",{usage}', "", lambda image: _pixels(image, ", ")),
}


def _check_standard(path):
    data = load_dataset(path)
    assert data.labels.tolist() == _LABELS and data.split.tolist() == [_SPLIT_OF[usage] for usage in _USAGES]
    np.testing.assert_array_equal(data.decoded().images, _IMAGES)
    assert data.class_names == EMOTIONS and not data.left_out


@pytest.mark.parametrize("form", _FORMS)
def test_forms_of_a_table_give_the_same_faces(tmp_path, form):
    (tmp_path / "a.csv").write_text(_FORMS[form], "utf-8", newline="")
    _check_standard(tmp_path / "a.csv")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_encodings_with_and_without_a_mark(tmp_path, encoding):
    (tmp_path / "a.csv").write_bytes(_STANDARD.encode(encoding))
    _check_standard(tmp_path / "a.csv")


def _tar(members, mode="w:gz", form=tarfile.USTAR_FORMAT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=form) as archive:
        for name, text in members:
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


_CHALLENGE = [("fer2013/README", "Dear reader"), ("fer2013/fer2013.csv", _STANDARD), ("fer2013/fer2013.bib", "@x{}")]
_PACKED = {
    "tar.gz": _tar(_CHALLENGE),
    "tar": _tar(_CHALLENGE, "w:"),
    "tar.xz of GNU": _tar(_CHALLENGE, "w:xz", tarfile.GNU_FORMAT),
    "tar.bz2 of POSIX": _tar(_CHALLENGE, "w:bz2", tarfile.PAX_FORMAT),
    "tar of another name": _tar([("a/test.csv", "pixels\n"), ("a/train.csv", _STANDARD)]),
    "bz2": bz2.compress(_STANDARD.encode()),
    "bz2 of two streams": bz2.compress(_STANDARD[:5000].encode()) + bz2.compress(_STANDARD[5000:].encode()),
}


@pytest.mark.parametrize("packing", _PACKED)
def test_the_csv_of_an_archive_is_read_within_it(tmp_path, packing):
    (tmp_path / "a.dat").write_bytes(_PACKED[packing])
    _check_standard(tmp_path / "a.dat")
    assert [path.name for path in tmp_path.iterdir()] == ["a.dat"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_tar([("a.png", "x")], "w:"), "no .csv in this tar, it holds 'a.png'; unpack a tar of images"),
        (_tar([("a.csv", "x"), ("b.csv", "x")], "w:"), "2 csv files in this tar"),
        (_tar([("../fer2013.csv", _STANDARD)], "w:"), "'../fer2013.csv' climbs out"),
        (_tar([("/fer2013.csv", _STANDARD)], "w:"), "climbs out"),
        (_tar(_CHALLENGE, "w:")[:9999], "truncated or damaged (the file ends before the archive does)"),
        (_tar(_CHALLENGE, "w:").replace(b"README", b"READMF", 1), "a header of the archive is wrong"),
    ],
)
def test_a_tar_that_is_not_sound(tmp_path, data, message):
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(InputError, match=re.escape(message)):
        load_dataset(tmp_path / "a.tar")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2047), st.integers(0, 255)), max_size=6), st.integers(0, 4096))
def test_a_damaged_tar_is_read_or_refused(tmp_path, edits, end):
    data = bytearray(_tar([("README", "x"), ("fer2013.csv", "emotion,pixels\n3," + _FACE)], "w:"))
    for place, value in edits:
        data[place] = value
    (tmp_path / "a.tar").write_bytes(data[: len(data) - end])
    try:
        load_dataset(tmp_path / "a.tar", training=False)
    except InputError as error:
        assert str(tmp_path / "a.tar") in str(error) and "\n" not in str(error)


def test_labels_may_be_first_seen_as_something_else(tmp_path):
    (tmp_path / "a.csv").write_text(f"id,emotion,label,pixels\n9,3,4,{_FACE}\n")
    assert load_dataset(tmp_path / "a.csv", training=False).labels.tolist() == [3]


def test_what_a_table_without_header_is_taken_for_is_said(tmp_path, caplog):
    (tmp_path / "a.csv").write_text(f"3,{_FACE},Training\n")
    with caplog.at_level("INFO", logger="fer_tf"):
        load_dataset(tmp_path / "a.csv", training=False)
    assert "no header row: column 1 as the label, column 2 as the pixels and column 3 as the split" in caplog.text


# --- Squares of any size ---


@pytest.mark.parametrize("side", [8, 47, 64, 100, 224])
@pytest.mark.parametrize("form", ["blanks", "floats", "list"])
def test_squares_of_any_size_are_resized_by_the_one_function(tmp_path, side, form):
    images = np.random.default_rng(side).integers(0, 256, (3, side, side), dtype=np.uint8)
    texts = {
        "blanks": _pixels,
        "floats": lambda image: _pixels(image, ".0 "),
        "list": lambda image: str(image.tolist()),
    }
    lines = [f'{label},"{texts[form](image)}"' for label, image in enumerate(images)]
    (tmp_path / "a.csv").write_text("\n".join(["emotion,pixels", *lines]))
    data = load_dataset(tmp_path / "a.csv", training=False)
    np.testing.assert_array_equal(data.images, np.stack([to_grey48(image) for image in images]))
    assert data.pixels is None and data.originals == {f"{side}x{side} grey": 3}
    assert f"the pictures were {side}x{side} grey (3)" in audit_text(audit(data))


def test_a_row_of_another_size_than_most_is_broken(tmp_path):
    short = " ".join(["7"] * 47 * 47)  # a row that was cut off at a square
    (tmp_path / "a.csv").write_text(f"emotion,pixels\n3,{short}\n3,{_FACE}\n3,{_FACE}\n4,{_FACE}\n")
    message = r"row 2: 2,209 pixel values; expected 2,304 \(48x48\) as in most rows, or leave out"
    with pytest.raises(InputError, match=message):
        load_dataset(tmp_path / "a.csv", training=False)
    data = load_dataset(tmp_path / "a.csv", training=False, skip_broken=True)
    assert data.labels.tolist() == [3, 3, 4] and data.left_out == {"whose pixels cannot be read": 1}


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        ("7 " * 2304 * 3, "6,912 pixel values, as 48x48 in colour has; expected grey"),
        ("7 " * 9, "9 pixel values; expected a square of 8 to 1024 pixels a side"),
        ("0.5 " * 2304, "pixel 1 is '0.5'; expected a whole number from 0 to 255, not divided by 255"),
        ("[1, 2, ..., 3]", "pixel 3 is '...': the list was shortened when the table was written"),
        ("7 " * 2303 + "1e3", "pixel 2304 is '1e3'; expected a whole number"),
        ("7 " * 2303 + "1_0", "pixel 2304 is '1_0'; expected a whole number"),
        ("7 " * 2303 + "1-2", "pixel 2304 is '1-2'; expected a whole number"),
        ("7 " * 2303 + "inf", "pixel 2304 is 'inf'; expected a whole number"),
    ],
)
def test_pixels_that_are_none_are_named(tmp_path, pixels, message):
    (tmp_path / "a.csv").write_text(f'emotion,pixels\n3,"{pixels}"\n')
    with pytest.raises(InputError, match=re.escape(f"a.csv: row 2: {message}")):
        load_dataset(tmp_path / "a.csv", training=False)


@settings(deadline=None)
@given(
    st.integers(8, 60),
    st.integers(0, 2**32),
    st.sampled_from([" ", "  ", ", ", ",", "\t", "\n ", ".0 ", ". ", ".00, ", "e0 ", " +"]),
    st.sampled_from(["{}", "[{}]", "[[{}]]", " {} "]),
)
def test_any_usual_writing_of_pixels_gives_the_same_face(side, seed, separator, form):
    image = np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)
    text = form.format(separator.join(map(str, image.ravel().tolist())))
    found_side, face = parse_pixels(text.encode())
    if isinstance(face, str):
        face = np.array(face.split(), np.uint8).reshape(48, 48)
    assert found_side == side
    np.testing.assert_array_equal(face, to_grey48(image))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 70))
def test_any_bytes_for_pixels_are_a_square_or_refused(data, repeats):
    try:
        side, face = parse_pixels(data + b" 7" * repeats)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert side == 8 and face.shape == (48, 48)


# --- Broken rows ---


def _broken_table(path, num_broken):
    """84 sound rows, and broken ones of four kinds among them."""
    lines = ["emotion,pixels,Usage"]
    lines += [
        f"{label},{_pixels(image)},{usage}" for label, image, usage in zip(_LABELS, _IMAGES, _USAGES, strict=True)
    ]
    lines += lines[1:]
    broken = [f"3,{_FACE},Holdout", f"bored,{_FACE},Training", "4,1 2 3,Training", "5,1 2 3"]
    for number in range(num_broken):
        lines.insert(2 + 3 * number, broken[number % 4])
    path.write_text("\n".join(lines) + "\n")
    return path


def test_one_broken_row_is_named(tmp_path):
    path = _broken_table(tmp_path / "a.csv", 1)
    with pytest.raises(InputError, match=f"^{path}: row 3: Usage 'Holdout'; .*, or leave out .* with --skip-broken$"):
        load_dataset(path)


def test_broken_rows_are_all_in_one_message_and_a_file_lists_them(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = _broken_table(tmp_path / "a.csv", 12)
    with pytest.raises(InputError) as caught:
        load_dataset(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: 12 of 96 rows cannot be read: row 3 (Usage 'Holdout'), row 6 (emotion 'bored')")
    assert "row 9 (3 pixel values), row 12 (2 columns)" in message and "and 2 more; all are listed in " in message
    assert message.endswith("or leave out what cannot be read with --skip-broken") and "\n" not in message
    listed = Path(re.search(r"all are listed in (\S+);", message)[1]).read_text().splitlines()
    assert len(listed) == 12 and listed[3] == "row 12\t2 columns; expected 3 as in row 1"


def test_skip_broken_goes_on_and_counts_by_reason(tmp_path, caplog):
    data = load_dataset(_broken_table(tmp_path / "a.csv", 10), skip_broken=True)
    assert len(data) == 84
    assert data.left_out == {
        "whose split is unknown": 3,
        "whose label is unknown": 3,
        "whose pixels cannot be read": 2,
        "with other columns than row 1": 2,
    }
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "left out 10 of 94 rows: 3 whose split is unknown ('row 3', 'row 15', 'row 27')" in warning.getMessage()


def test_a_table_of_broken_rows_gets_no_advice_that_cannot_help(tmp_path):
    (tmp_path / "a.csv").write_text("emotion,pixels\n" + "3,1 2\n" * 2000)
    with pytest.raises(InputError, match=r"none of its first 1,000 rows can be read: row 2: 2 pixel values; exp"):
        load_dataset(tmp_path / "a.csv", skip_broken=True)
    (tmp_path / "a.csv").write_text("emotion,pixels\n3,1 2\n")
    for skip_broken in (False, True):
        with pytest.raises(InputError, match=r"row 2: 2 pixel values; expected 2,304 \(48x48\) or another square$"):
            load_dataset(tmp_path / "a.csv", skip_broken=skip_broken)


def test_skipping_is_not_proposed_where_it_would_empty_a_class(tmp_path):
    (tmp_path / "a.csv").write_text(f"emotion,pixels\n3,{_FACE}\n3,{_FACE}\n4,1 2\n")
    with pytest.raises(InputError, match=r"row 4: 2 pixel values; [^-]*$"):
        load_dataset(tmp_path / "a.csv")


@pytest.mark.parametrize("quote", ['3,"{face},Training', '"3,{face},Training', '3,{face},"Training'])
def test_a_quote_that_is_never_closed_costs_one_row(tmp_path, quote):
    lines = ["emotion,pixels,Usage", *[f"{label},{_FACE},Training" for label in (0, 1, 2, 3, 4)]]
    lines[3:3] = [quote.format(face=_FACE)]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    data = load_dataset(tmp_path / "a.csv", training=False, skip_broken=True)
    assert data.labels.tolist() == [0, 1, 2, 3, 4] and data.left_out == {"that are not csv": 1}


# --- Numbers, people ---


def test_class_names_number_the_labels_of_a_table(tmp_path):
    (tmp_path / "a.csv").write_text(
        "".join([f"label,pixels\n{''.join(f'{n},{_FACE}{chr(10)}' for n in (1, 2, 3, 4))}"])
    )
    data = load_dataset(tmp_path / "a.csv", class_names=["rafdb"], training=False)
    assert [data.class_names[label] for label in data.labels] == ["surprise", "fear", "disgust", "happy"]


def test_the_numbers_of_rafdb_are_not_taken_for_those_of_fer2013(tmp_path):
    lines = [f"{label},{_pixels(_IMAGES[label])}" for label in range(1, 8)]
    (tmp_path / "a.csv").write_text("\n".join(["label,pixels", *lines]))
    with pytest.raises(InputError, match=r"only numbers \(1, 2, 3, 4, 5, 6, 7\) are not guessed: --class-names rafdb"):
        load_dataset(tmp_path / "a.csv", training=False)


def test_people_by_a_column_of_a_table(tmp_path, caplog):
    rows = [f"{row % 2},{_pixels(_RANDOM.integers(0, 256, (48, 48)))},p{row % 9}" for row in range(90)]
    (tmp_path / "a.csv").write_text("\n".join(["emotion,pixels,Who", *rows]))
    data = load_dataset(tmp_path / "a.csv", subjects="who", classes=["angry", "disgust"], validation_fraction=0.3)
    assert len({*zip(data.subjects, data.split, strict=True)}) == 9 and data.has("validation")
    with pytest.raises(InputError, match="'actor' is not a column; expected one of 'emotion', 'pixels', 'Who'"):
        load_dataset(tmp_path / "a.csv", subjects="actor")
