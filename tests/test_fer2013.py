"""Every published form of FER-2013 gives the same rows; cuts, names and limits are as documented."""

import csv
import gzip
import io
import logging
import lzma
import os
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from fer_tf.data.dataset import Dataset
from fer_tf.data.loading import load_dataset, save_npz
from fer_tf.data.reading import crops
from fer_tf.data.reading.pixels import _is_canonical
from fer_tf.errors import InputError
from fer_tf.task import EMOTIONS, SPLITS

USAGE = {"train": "Training", "validation": "PublicTest", "test": "PrivateTest"}


def make_rows(*, train=4, validation=1, test=1, num_classes=7, seed=0):
    """(label, split, pixel string) of random images, class after class."""
    random = np.random.default_rng(seed)
    counts = {"train": train, "validation": validation, "test": test}
    return [
        (label, split, " ".join(map(str, random.integers(0, 256, 2304))))
        for split in SPLITS
        for label in range(num_classes)
        for _ in range(counts[split])
    ]


def csv_text(rows, header="emotion,pixels,Usage", line="{label},{pixels},{usage}"):
    """A csv in FER-2013's or another column order."""
    lines = [line.format(label=label, pixels=pixels, usage=USAGE[split]) for label, split, pixels in rows]
    return "\n".join([header, *lines]) + "\n"


def write_images(folder, rows, class_names, *, names="{split}/{name}/{row}.png"):
    """The rows as PNG files below a folder."""
    for row, (label, split, pixels) in enumerate(rows):
        path = folder / names.format(split=split, name=class_names[label], row=row)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array(pixels.split(), np.uint8).reshape(48, 48)).save(path)


def check_same(dataset, rows):
    """Check that the data set holds these rows in this order."""
    assert dataset.labels.tolist() == [label for label, _, _ in rows]
    assert dataset.split.tolist() == [split for _, split, _ in rows]
    images = np.array([pixels.split() for _, _, pixels in rows], np.uint8).reshape(-1, 48, 48)
    np.testing.assert_array_equal(dataset.decoded().images, images)


ROWS = make_rows()
FORMS = {
    "fer2013.csv": csv_text(ROWS),
    "icml_face_data.csv": csv_text(ROWS, "emotion, Usage, pixels", "{label},{usage},{pixels}"),
    "quoted.csv": csv_text(ROWS, '"emotion","pixels","Usage"', '"{label}","{pixels}","{usage}"'),
    "windows.csv": "\ufeff" + csv_text(ROWS).replace("\n", "\r\n"),
    "index.csv": csv_text(ROWS, ",emotion,pixels,Usage", "3,{label},{pixels},{usage}"),
    "blank_lines.csv": csv_text(ROWS).replace("\n", "\n\n"),
    "no_last_newline.csv": csv_text(ROWS).rstrip("\n"),
    "blanks.csv": csv_text(ROWS, line=" {label} , {pixels}  , {usage} "),
}


@pytest.mark.parametrize("form", FORMS)
def test_csv_forms_give_the_same_rows(tmp_path, form):
    (tmp_path / form).write_text(FORMS[form], encoding="utf-8", newline="")
    dataset = load_dataset(tmp_path / form)
    check_same(dataset, ROWS)
    assert dataset.class_names == EMOTIONS
    assert dataset.source == form and not dataset.synthetic and len(dataset.sha256) == 64
    assert dataset.labels.dtype == np.int64
    assert dataset.images is None and all(type(row) is str for row in dataset.pixels)


def pack_zip(text, names=("fer2013.csv",)):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, text)
    return buffer.getvalue()


PACKED = {
    "gz": lambda text: gzip.compress(text),
    "gz, two members": lambda text: gzip.compress(text[:5000]) + gzip.compress(text[5000:]),
    "xz": lambda text: lzma.compress(text),
    "xz, two streams": lambda text: lzma.compress(text[:5000]) + b"\0" * 8 + lzma.compress(text[5000:]),
    "zip": lambda text: pack_zip(text, ["data/fer2013.csv", "__MACOSX/._fer2013.csv"]),
    "plain": lambda text: text,
}


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("name", ["data.csv", "data"])
def test_packing_is_seen_in_the_file_not_in_its_name(tmp_path, packing, name):
    (tmp_path / name).write_bytes(PACKED[packing](FORMS["fer2013.csv"].encode()))
    check_same(load_dataset(tmp_path / name), ROWS)


def test_zip_of_several_csv_prefers_the_known_names(tmp_path):
    path = tmp_path / "challenge.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("test.csv", "pixels\n")
        archive.writestr("train.csv", "pixels\n")
        archive.writestr("data/icml_face_data.csv", FORMS["icml_face_data.csv"])
    check_same(load_dataset(path), ROWS)


def test_without_usage_every_row_is_training_and_a_part_is_cut(tmp_path, caplog):
    rows = make_rows(train=20, validation=0, test=0)
    path = tmp_path / "train.csv"
    path.write_text(csv_text(rows, "emotion,pixels", '{label},"{pixels}"'))
    with caplog.at_level(logging.INFO, logger="fer_tf"):
        dataset = load_dataset(path, seed=3, validation_fraction=0.1)
    assert dataset.counts("train").tolist() == [18] * 7
    assert dataset.counts("validation").tolist() == [2] * 7
    assert not dataset.has("test")
    messages = [record.getMessage() for record in caplog.records]
    assert sum("no Usage column" in message for message in messages) == 1
    assert "train.csv has no validation split: 14 of its 140 training rows, stratified, seed 3, become one" in messages
    assert sum("has no test split" in message for message in messages) == 1

    assert load_dataset(path, seed=3).split.tolist() == dataset.split.tolist()
    assert load_dataset(path, seed=4).split.tolist() != dataset.split.tolist()
    assert load_dataset(path, validation_fraction=0.5).counts("validation").tolist() == [10] * 7


def test_cut_leaves_every_class_a_training_row(tmp_path):
    path = tmp_path / "few.csv"
    path.write_text(
        csv_text(make_rows(train=1, validation=0) + make_rows(train=1, validation=0, test=0, num_classes=2))
    )
    dataset = load_dataset(path, validation_fraction=0.9)
    assert dataset.counts("train").tolist() == [1] * 7
    assert dataset.counts("validation").tolist() == [1, 1, 0, 0, 0, 0, 0]


def test_classes_are_selected_and_renumbered(tmp_path):
    path = tmp_path / "fer2013.csv"
    path.write_text(csv_text(ROWS))
    dataset = load_dataset(path, classes=["Happiness", " sad", "neutral"])
    assert dataset.class_names == ("happy", "sad", "neutral")
    order = {EMOTIONS.index(name): label for label, name in enumerate(dataset.class_names)}
    check_same(dataset, [(order[label], split, pixels) for label, split, pixels in ROWS if label in order])


def test_a_class_without_training_rows_may_be_left_out(tmp_path):
    path = tmp_path / "fer2013.csv"
    path.write_text(csv_text([row for row in ROWS if row[:2] != (1, "train")]))
    with pytest.raises(InputError, match=r"no training row of disgust; .* --classes angry,fear,happy,sad,surprise,neu"):
        load_dataset(path)
    assert load_dataset(path, classes=["angry", "fear"]).num_classes == 2


def test_a_file_to_be_scored_needs_no_training_rows(tmp_path):
    path = tmp_path / "private.csv"
    rows = make_rows(train=0, validation=0)
    path.write_text(csv_text(rows))
    check_same(load_dataset(path, training=False), rows)
    with pytest.raises(InputError, match="no training rows, only test"):
        load_dataset(path)


def test_pixel_strings_come_out_with_single_blanks(tmp_path):
    path = tmp_path / "fer2013.csv"
    path.write_text(csv_text([(label, split, pixels.replace(" ", "  ")) for label, split, pixels in ROWS]))
    assert load_dataset(path).pixels.tolist() == [pixels for _, _, pixels in ROWS]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 255), min_size=1, max_size=40))
@example([0])
@example([255])
@example([9, 99])
def test_fast_check_takes_every_sound_row(values):
    values = (values * 2304)[:2304]
    assert _is_canonical(" ".join(map(str, values)).encode())


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2303),
    st.sampled_from(["256", "260", "300", "999", "1000", "0255", "-1", "1.5", "x", "", "1\x1f2", "1\t2", "1 2", "²"]),
)
@example(0, "256")
@example(2303, "256")
@example(0, "")
@example(2303, "")
def test_fast_check_takes_no_row_with_one_bad_value(place, value):
    values = ["255", "0", "17"] * 768
    values[place] = value
    assert not _is_canonical(" ".join(values).encode())


SOUND = csv_text(make_rows(train=1, validation=1, test=0)).encode()


def check_loads_or_refuses(path, data):
    path.write_bytes(data)
    try:
        dataset = load_dataset(path)
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert isinstance(dataset, Dataset) and dataset.decoded().images.shape == (len(dataset), 48, 48)


HEADS = [b"", b"emotion,pixels,Usage\n", b"PK\x03\x04", b"\x1f\x8b\x08\0", b"\xfd7zXZ\0"]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from(HEADS))
def test_any_bytes_load_or_are_refused(tmp_path, data, head):
    check_loads_or_refuses(tmp_path / "any.csv", head + data)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 0.9999), st.binary(max_size=3)), max_size=5), st.sampled_from(sorted(PACKED)))
def test_a_damaged_csv_loads_or_is_refused(tmp_path, edits, packing):
    data = SOUND
    for place, insertion in edits:
        where = int(place * len(data))
        data = data[:where] + insertion + data[where + 1 :]
    packed = PACKED[packing](data)
    check_loads_or_refuses(tmp_path / "edited.csv", packed)
    for place, insertion in edits:  # and the packed bytes themselves
        where = int(place * len(packed))
        packed = packed[:where] + insertion + packed[where + 1 :]
    check_loads_or_refuses(tmp_path / "edited.csv", packed)


# Folders


def test_folders_of_emotions(tmp_path):
    names = ("Anger", "disgusted", "FEARFUL", "happiness", "sadness", "Surprised", "neutral")
    write_images(tmp_path / "faces", ROWS, names)
    dataset = load_dataset(tmp_path / "faces")
    assert dataset.class_names == EMOTIONS and dataset.source == "faces"
    assert dataset.images.dtype == np.uint8 and dataset.pixels is None
    order = sorted(range(len(ROWS)), key=lambda row: f"{ROWS[row][1]}/{names[ROWS[row][0]]}/{row}.png")
    check_same(dataset, [ROWS[row] for row in order])


def test_some_emotions_keep_the_order_of_fer2013(tmp_path):
    write_images(tmp_path, make_rows(num_classes=3), ("surprise", "Happy", "angry"))
    assert load_dataset(tmp_path).class_names == ("angry", "happy", "surprise")


def test_other_folders_define_their_own_classes(tmp_path):
    rows = make_rows(num_classes=2, train=3)
    write_images(tmp_path, rows, ("happy", "Bored"))
    dataset = load_dataset(tmp_path)
    assert dataset.class_names == ("Bored", "happy")
    assert dataset.counts("train").tolist() == [3, 3]


def test_usage_in_file_names_splits_the_test_folder(tmp_path):
    rows = make_rows(num_classes=2, train=2, validation=3, test=4)
    names = {
        "train": "Train/{name}/Training_",
        "validation": "TEST/{name}/PublicTest_",
        "test": "TEST/{name}/PrivateTest_",
    }
    for row, face in enumerate(rows):
        write_images(tmp_path, [face], ("cat", "dog"), names=f"{names[face[1]]}{row}.png")
    dataset = load_dataset(tmp_path)
    assert [dataset.counts(split).tolist() for split in SPLITS] == [[2, 2], [3, 3], [4, 4]]


def test_a_validation_folder_leaves_the_test_folder_whole(tmp_path):
    write_images(tmp_path, make_rows(num_classes=2), ("cat", "dog"), names="{split}/{name}/PublicTest_{row}.png")
    dataset = load_dataset(tmp_path)
    assert [dataset.counts(split).tolist() for split in SPLITS] == [[4, 4], [1, 1], [1, 1]]


def test_colour_and_size_go_through_the_one_function(tmp_path):
    write_images(tmp_path, make_rows(num_classes=2), ("cat", "dog"))
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8))
    photo.save(tmp_path / "train/cat/0.png")
    from fer_tf.faces.crops import to_grey48

    (row,) = np.flatnonzero(load_dataset(tmp_path).split == "train")[:1]
    np.testing.assert_array_equal(load_dataset(tmp_path).images[row], to_grey48(photo))


def test_what_is_no_image_is_left_out_and_said(tmp_path, caplog):
    write_images(tmp_path, make_rows(num_classes=2), ("cat", "dog"))
    (tmp_path / "train/cat/notes.txt").write_text("x")
    (tmp_path / "train/stray.png").write_bytes(b"")
    (tmp_path / "train/cat/.DS_Store").write_bytes(b"")
    (tmp_path / "train/cat/Thumbs.db").write_bytes(b"")
    assert len(load_dataset(tmp_path)) == 12
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        f"{tmp_path}: left out 2 of 14 files: 1 in no folder of a class ('train/stray.png'), "
        "1 that are not pictures: 1 .txt ('train/cat/notes.txt')"
    ]


def test_digest_of_a_folder_follows_names_and_bytes(tmp_path):
    for name in ("one", "two"):
        write_images(tmp_path / name, make_rows(num_classes=2), ("cat", "dog"))
    digest = load_dataset(tmp_path / "one").sha256
    assert load_dataset(tmp_path / "two").sha256 == digest
    (tmp_path / "two/train/cat/0.png").rename(tmp_path / "two/train/cat/9.png")
    assert load_dataset(tmp_path / "two").sha256 != digest


def test_progress_is_logged(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(crops, "_PROGRESS_SECONDS", -1.0)
    write_images(tmp_path, make_rows(num_classes=2), ("cat", "dog"))
    with caplog.at_level(logging.INFO, logger="fer_tf"):
        load_dataset(tmp_path)
    assert f"reading {tmp_path}: 12 of 12 images" in [record.getMessage() for record in caplog.records]


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights on Windows")
@pytest.mark.parametrize("link", ["train/cat/link.png", "train/bird", "test"])
def test_symbolic_links_inside_are_refused(tmp_path, link):
    rows = [row for row in make_rows(num_classes=2) if row[1] != "test"]
    write_images(tmp_path / "faces", rows, ("cat", "dog"))
    (tmp_path / "faces" / link).symlink_to(tmp_path / "faces/train/cat")
    with pytest.raises(InputError, match=f"{link}: a symbolic link"):
        load_dataset(tmp_path / "faces")


# .npz


def test_npz_round_trip(tmp_path):
    write_images(tmp_path / "faces", make_rows(num_classes=2), ("cat", "dog"))
    dataset = load_dataset(tmp_path / "faces")
    save_npz(dataset, tmp_path / "faces.npz")
    again = load_dataset(tmp_path / "faces.npz")
    for field in ("labels", "split", "images"):
        np.testing.assert_array_equal(getattr(again, field), getattr(dataset, field))
    assert again.class_names == ("cat", "dog") and again.source == "faces.npz" and not again.synthetic
    with np.load(tmp_path / "faces.npz", allow_pickle=False) as arrays:
        assert arrays["images"].dtype == np.uint8 and arrays["images"].shape == (12, 48, 48)
        assert arrays["class_names"].tolist() == ["cat", "dog"]


def test_npz_of_the_same_data_has_the_same_bytes(tmp_path, monkeypatch):
    (tmp_path / "fer2013.csv").write_text(csv_text(ROWS))
    save_npz(load_dataset(tmp_path / "fer2013.csv"), tmp_path / "one.npz")
    monkeypatch.setattr("time.localtime", lambda *_: (2031, 1, 1, 0, 0, 0, 0, 1, 0))
    save_npz(load_dataset(tmp_path / "one.npz"), tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_npz_remembers_synthetic_faces(tmp_path):
    data = {"images": np.zeros((4, 48, 48), np.uint8), "labels": np.array([0, 1, 0, 1])}
    split = np.array(["train", "train", "test", "test"])
    save_npz(Dataset(split=split, class_names=("a", "b"), synthetic=True, **data), tmp_path / "drawn.npz")
    assert load_dataset(tmp_path / "drawn.npz", training=False).synthetic


def test_npz_by_plain_numpy(tmp_path):
    np.savez_compressed(
        tmp_path / "mine",
        images=np.asfortranarray(np.arange(4 * 2304, dtype=np.uint8).reshape(4, 48, 48)),
        labels=np.array([0, 1, 0, 1], np.uint8),
        split=np.array(["train", "train", "validation", "test"]),
        class_names=np.array(["a", "b"]),
    )
    dataset = load_dataset(tmp_path / "mine.npz")
    np.testing.assert_array_equal(dataset.images.ravel(), np.arange(4 * 2304, dtype=np.uint8))
    assert dataset.labels.tolist() == [0, 1, 0, 1]


def test_csv_module_reads_our_builder():
    """The builder above writes the same as other programs; this test guards the other tests."""
    assert [row["emotion"] for row in csv.DictReader(io.StringIO(FORMS["quoted.csv"]))] == [str(row[0]) for row in ROWS]


def test_folder_tells_what_its_files_were(tmp_path):
    for split, size, mode in (("train", (60, 80), "RGB"), ("train", (48, 48), "L"), ("test", (48, 48), "L")):
        for name in ("left", "right"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(2):
                Image.new(mode, size, 40 * number if mode == "L" else (40 * number, 9, 9)).save(
                    folder / f"{mode}{number}.png"
                )
    dataset = load_dataset(tmp_path)
    assert dataset.originals == {"48x48 grey": 8, "60x80 colour": 4}
    from fer_tf.data.audit import audit, audit_text

    assert "the pictures were 48x48 grey (8), 60x80 colour (4)" in audit_text(audit(dataset))
