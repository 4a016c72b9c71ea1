"""Tables of paths and labels: separators, quotes, odd names, splits, people, and files that cannot be read."""

import codecs
import csv
import io
import logging
import os
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fer_tf.artifacts import RunDirectory, write_json
from fer_tf.commands import explore, prepare
from fer_tf.config import Config
from fer_tf.data.loading import load_dataset
from fer_tf.data.recorded import describe_data, run_data
from fer_tf.errors import InputError
from fer_tf.task import SPLITS


def write_face(path: Path, seed: int = 0, size: tuple[int, int] = (48, 48)) -> Path:
    noise = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).save(path, format="PNG")
    return path


def write_table(path: Path, rows, header=("path", "label"), faces=True, **options) -> Path:
    """Write a csv of rows, and for each row a different face at its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", **options).writerows([header, *rows] if header else rows)
    path.write_text(text.getvalue(), "utf-8")
    for seed, row in enumerate(rows if faces else ()):
        write_face(path.parent / row[0], seed)
    return path


def simple_rows(count: int = 4, folder: str = "img") -> list[tuple[str, str]]:
    return [(f"{folder}/{label}{n}.png", label) for label in ("happy", "sad") for n in range(count)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, logger="fer_tf")
    return caplog


def labels_of(dataset) -> list[str]:
    return [dataset.class_names[label] for label in dataset.labels]


# --- Forms ---


def test_pictures_are_read_in_the_order_of_the_rows(tmp_path):
    rows = [("b/1.png", "Sadness"), ("a/2.png", "joy"), ("./a/3.png", "sad"), ("4.png", "Happy")]
    dataset = load_dataset(write_table(tmp_path / "faces.csv", rows), training=False)
    assert labels_of(dataset) == ["sad", "happy", "sad", "happy"] and dataset.class_names == ("happy", "sad")
    assert dataset.files.tolist() == [path for path, _ in rows] and dataset.unsplit
    for (path, _), image in zip(rows, dataset.images, strict=True):
        assert np.array_equal(image, np.asarray(Image.open(tmp_path / path)))


@pytest.mark.parametrize("header", [("Image", "Emotion"), ("file_name", "class"), ("pth", "label"), None])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_columns_by_their_usual_names_or_by_the_first_row(tmp_path, header, separator):
    path = write_table(tmp_path / "a.csv", simple_rows(), header, delimiter=separator)
    assert len(load_dataset(path, training=False)) == 8


@pytest.mark.parametrize("name", ["a,b.png", 'a"b".png', "a;b.png", "喜び 1.png", "a'b.png", "[1, 2].png", "%20&#.png"])
@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_odd_file_names(tmp_path, name, separator, quoting):
    rows = [*simple_rows(1), (f"odd/{name}", "sad")]
    path = write_table(tmp_path / "a.csv", rows, delimiter=separator, quoting=quoting)
    assert load_dataset(path, training=False).files.tolist()[-1] == f"odd/{name}"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path, encoding, end):
    path = write_table(tmp_path / "a.csv", [*simple_rows(1), ("für/喜.png", "sad")])
    path.write_bytes(path.read_text("utf-8").replace("\n", end).encode(encoding))
    assert load_dataset(path, training=False).files.tolist()[-1] == "für/喜.png"


def test_a_packed_table_names_pictures_beside_it(tmp_path):
    import gzip

    path = write_table(tmp_path / "a.csv", simple_rows())
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert len(load_dataset(tmp_path / "b.csv.gz", training=False)) == 8


def test_paths_of_other_systems(tmp_path, log):
    """Backslashes of Windows; letters composed in the table and decomposed on disk."""
    decomposed = unicodedata.normalize("NFD", "für.png")
    write_face(tmp_path / "img" / decomposed, 1)
    write_face(tmp_path / "img/back\\slash.png", 2)
    rows = [("img\\happy\\1.png", "happy"), (f"img\\{unicodedata.normalize('NFC', decomposed)}", "sad")]
    write_face(tmp_path / "img/happy/1.png")
    rows.append(("img/back\\slash.png", "sad"))  # a valid name on this system
    dataset = load_dataset(write_table(tmp_path / "a.csv", rows, faces=False), training=False)
    assert dataset.files.tolist() == ["img/happy/1.png", f"img/{decomposed}", "img/back\\slash.png"]


def test_paths_may_be_absolute_or_lead_out_of_the_folder(tmp_path):
    """People keep tables apart from the pictures, and trust their table like a path on the command line."""
    rows = [("../img/1.png", "happy"), (str(tmp_path / "img/2.png"), "sad"), ("3.png", "sad")]
    dataset = load_dataset(write_table(tmp_path / "tables/a.csv", rows), training=False)
    assert len(dataset) == 3 and dataset.files.tolist() == [path for path, _ in rows]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="/\\"), min_size=1, max_size=12),
        min_size=2,
        max_size=6,
        unique_by=lambda name: unicodedata.normalize("NFC", name).casefold(),
    ),
    st.sampled_from([",", ";", "\t"]),
)
def test_any_file_name_survives_the_table(tmp_path, names, separator):
    rows = [(f"img/{n}{name}.png", ("happy", "sad")[n % 2]) for n, name in enumerate(names)]
    dataset = load_dataset(write_table(tmp_path / "a.csv", rows, delimiter=separator), training=False)
    assert dataset.files.tolist() == [path for path, _ in rows]


# --- Labels, splits, people ---


def test_splits_by_a_column_in_any_usual_words(tmp_path):
    uses = ["Training", "val", "TEST"] * 4
    rows = [(*row, use) for row, use in zip(simple_rows(6), uses, strict=True)]
    dataset = load_dataset(write_table(tmp_path / "a.csv", rows, ("path", "label", "split")))
    assert [dataset.counts(split).tolist() for split in SPLITS] == [[2, 2]] * 3 and not dataset.unsplit


def test_without_splits_validation_and_test_are_cut_and_said(tmp_path, log):
    dataset = load_dataset(write_table(tmp_path / "a.csv", simple_rows(20)), seed=5)
    assert [dataset.counts(split).tolist() for split in SPLITS] == [[16, 16], [2, 2], [2, 2]]
    assert "a.csv names no splits: of its 40 images 4 validation and 4 test, stratified, seed 5" in log.text
    assert "one person may be in several splits" in log.text


@pytest.mark.parametrize("labels", [("1", "02"), ("1.0", "2."), (1, 2)])
def test_labels_that_are_numbers_are_not_guessed(tmp_path, labels):
    rows = [(path, labels[label == "sad"]) for path, label in simple_rows()]
    path = write_table(tmp_path / "a.csv", rows)
    with pytest.raises(InputError, match=r"only numbers \(1, 0?2\) are not guessed: --class-names fer2013 .* rafdb"):
        load_dataset(path)
    assert labels_of(load_dataset(path, class_names=["rafdb"], training=False)) == ["surprise"] * 4 + ["fear"] * 4


def test_labels_of_ones_own_are_one_class_by_any_spelling(tmp_path, log):
    rows = [(path, {"happy": "Bored", "sad": "bored"}[label]) for path, label in simple_rows(1)]
    dataset = load_dataset(write_table(tmp_path / "a.csv", [*rows, ("k.png", "Keen")]), training=False)
    assert dataset.class_names == ("Bored", "Keen") and "'Bored' and 'bored' are Bored" in log.text


@pytest.mark.parametrize(
    ("header", "subjects"),
    [(("path", "label", "subject"), None), (("path", "label", "Who"), "who"), (("path", "label", "x"), r"/(p\d+)-")],
)
def test_people_stay_together(tmp_path, header, subjects):
    rows = [(f"{label}/p{n % 12}-{n}.png", label, f"p{n % 12}") for label in ("happy", "sad") for n in range(36)]
    dataset = load_dataset(write_table(tmp_path / "a.csv", rows, header), subjects=subjects, validation_fraction=0.2)
    assert len(set(dataset.subjects)) == 12 and len({*zip(dataset.subjects, dataset.split, strict=True)}) == 12
    assert all(dataset.counts(split).min() for split in SPLITS)


def test_subjects_that_find_nobody_are_refused(tmp_path):
    path = write_table(tmp_path / "a.csv", simple_rows())
    with pytest.raises(InputError, match=r"'actor' names no column .* expected one of 'path', 'label', or a"):
        load_dataset(path, subjects="actor")


# --- Crops or photographs ---


def test_pictures_follow_the_one_face_policy(tmp_path):
    from skimage.data import astronaut

    pytest.importorskip("cv2")
    photo = Image.fromarray(astronaut())
    for n in range(4):
        photo.crop((0, 0, 512 - n, 512)).save(tmp_path / f"{n}.png")
    rows = [(f"{n}.png", ("happy", "sad")[n % 2]) for n in range(4)]
    path = write_table(tmp_path / "a.csv", rows, faces=False)
    dataset = load_dataset(path, training=False)
    assert dataset.crop["faces"] == "detect" and dataset.originals
    whole = load_dataset(path, training=False, faces="whole")
    assert whole.crop["faces"] == "whole" and not np.array_equal(whole.images, dataset.images)


# --- What cannot be read ---


def test_one_missing_file_is_named_with_its_row(tmp_path):
    path = write_table(tmp_path / "a.csv", simple_rows())
    (tmp_path / "img/sad1.png").unlink()
    with pytest.raises(InputError, match=f"^{path}: row 7: img/sad1.png: no such file; .* --skip-broken$"):
        load_dataset(path)
    assert load_dataset(path, skip_broken=True).left_out == {"that cannot be read": 1}


def test_broken_rows_and_files_are_all_in_one_message(tmp_path, log):
    rows = [(*row, "train") for row in simple_rows(8)]
    path = write_table(tmp_path / "a.csv", rows, ("path", "label", "split"))
    (tmp_path / "img/sad1.png").unlink()
    (tmp_path / "img/sad2.png").write_bytes(b"no picture")
    lines = path.read_text().splitlines()
    lines[3:3] = [
        "img/happy0.png,,train",
        "img/happy0.png,sad,holdout",
        ",sad,train",
        "https://example.org/1.png,sad,train",
        "img/happy0.png,sad",
    ]
    path.write_text("\n".join(lines))
    with pytest.raises(InputError) as caught:
        load_dataset(path)
    message = str(caught.value)
    assert message.startswith(
        f"{path}: 7 of 21 rows cannot be read: row 4 (no label), row 5 (split 'holdout'), row 6 ("
    )
    assert (
        "row 7 ('https://example.org/1.png' is an address), row 8 (2 columns), row 16: img/sad1.png (no such" in message
    )
    assert "row 17: img/sad2.png (not a JPEG" in message
    assert message.endswith("with --skip-broken") and "\n" not in message
    dataset = load_dataset(path, skip_broken=True)
    assert len(dataset) == 14 and sum(dataset.left_out.values()) == 7
    (warning,) = [record for record in log.records if record.levelno == logging.WARNING and "left" in record.message]
    assert "left out 7 of 21 rows: 2 that cannot be read ('row 16: img/sad1.png'" in warning.getMessage()


def test_skipping_is_not_proposed_where_it_would_empty_a_class(tmp_path):
    path = write_table(tmp_path / "a.csv", [*simple_rows(), ("f.png", "fear")])
    (tmp_path / "f.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"row 10: f.png: not a JPEG[^-]*$"):
        load_dataset(path)


def test_a_table_in_the_wrong_folder_is_told_by_one_line(tmp_path):
    path = write_table(tmp_path / "a.csv", simple_rows(), faces=False)
    with pytest.raises(InputError, match=f"none of its 8 pictures is there, such as {tmp_path}/img/happy0.png; paths"):
        load_dataset(path, skip_broken=True)


def make_fifo(path):
    path.unlink()
    os.mkfifo(path)


def link_to(target):
    def make(path):
        path.unlink()
        path.symlink_to(target)

    return make


ODD = {
    "fifo": (make_fifo, "a FIFO, not a file"),
    "dangling": (link_to("nowhere"), "a symbolic link to nothing"),
    "loop": (link_to("sad0.png"), "a symbolic link that leads to itself"),
    "device": (link_to("/dev/zero"), "into /proc, /sys or /dev"),
    "proc": (link_to("/proc/self/environ"), "into /proc, /sys or /dev"),
    "folder": (link_to(".."), "a symbolic link to a folder"),
}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs links, FIFOs and /proc")
@pytest.mark.parametrize("kind", ODD)
def test_odd_files_get_one_line_each(tmp_path, kind):
    path = write_table(tmp_path / "a.csv", simple_rows())
    make, message = ODD[kind]
    make(tmp_path / "img/sad0.png")
    with pytest.raises(InputError, match=f"^{path}: row 6: img/sad0.png: .*{message}.*--skip-broken$"):
        load_dataset(path)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ("/proc/self/environ", "a path into /proc, /sys or /dev"),
        ("proc/self/environ", "a path into /proc, /sys or /dev"),  # through a link to a folder
        ("/proc/self/root{root}/img/sad0.png", "a path into /proc, /sys or /dev"),
        ("../../../../../../../../dev/zero", "a device, not a file"),
        ("img", "no regular file"),
        ("img/sad0.png/x", "cannot be read"),
        ("x" * 5000, "cannot be read"),
    ],
)
def test_paths_that_are_no_pictures(tmp_path, odd, message):
    (tmp_path / "proc").symlink_to("/proc")
    path = write_table(tmp_path / "a.csv", simple_rows())
    with open(path, "a") as file:
        file.write(odd.replace("{root}", str(tmp_path)) + ",sad\n")
    with pytest.raises(InputError, match=f"row 10: .*{message}"):
        load_dataset(path)


def test_a_link_to_a_picture_is_followed(tmp_path):
    path = write_table(tmp_path / "a.csv", simple_rows())
    blob = write_face(tmp_path / "blobs/0123abcd", 99)
    link_to(blob)(tmp_path / "img/sad0.png")
    (tmp_path / "other").symlink_to("img")
    path.write_text(path.read_text().replace("img/sad1", "other/sad1"))
    assert len(load_dataset(path, training=False)) == 8


@pytest.mark.parametrize("packing", ["zip", "tar.gz"])
def test_a_table_of_paths_inside_an_archive_is_refused_in_one_line(tmp_path, packing, capsys):
    table = write_table(tmp_path / "faces.csv", simple_rows())
    path = tmp_path / f"a.{packing}"
    if packing == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(table, "faces.csv")
    else:
        with tarfile.open(path, "w:gz") as archive:
            archive.add(table, "faces.csv")
    assert prepare.main([str(path), str(tmp_path / "out.npz")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"{path}: a table of paths inside an archive; unpack it and give the table")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\n", "a header but no rows"),
        ("path,label\n,\n", "row 2: path ''"),
        ("path,colour\na.png,red\n", "row 1 has no column emotion or label"),
        ("path,path,label\na.png,a.png,sad\n", "row 1 has the column 'path' twice"),
        ("a.png,b.png,sad\n", "no header row, and 3 columns that may be anything"),
        ("path,label\na.png,happy\n", "1 classes"),
        ('path,label\n"a.png,happy\n', "row 2: not a csv"),
    ],
)
def test_tables_that_are_not_sound(tmp_path, text, message):
    write_face(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_dataset(tmp_path / "t.csv")
    assert str(tmp_path / "t.csv") in str(caught.value) and "\n" not in str(caught.value)


def test_text_that_is_no_utf8_names_its_rows(tmp_path):
    path = write_table(tmp_path / "a.csv", simple_rows())
    path.write_bytes(path.read_bytes() + "für.png,sad\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"row 10: not UTF-8 .*; save the table as UTF-8"):
        load_dataset(path)


def test_a_mark_inside_the_table_is_no_name(tmp_path):
    path = write_table(tmp_path / "a.csv", simple_rows())
    path.write_bytes(codecs.BOM_UTF8 + b'"path","label"\n' + path.read_bytes().partition(b"\n")[2])
    assert len(load_dataset(path, training=False)) == 8


# --- Around the reader ---


def test_a_run_finds_its_table_again_and_notices_a_changed_picture(tmp_path):
    path = write_table(tmp_path / "a.csv", simple_rows(12))
    dataset = load_dataset(path, seed=3)
    run = RunDirectory.create(tmp_path / "run")
    write_json(run.data, describe_data(dataset))
    assert run_data(run, Config()).split.tolist() == dataset.split.tolist()
    write_face(tmp_path / "img/sad3.png", 999)
    with pytest.raises(InputError, match="is not \\(or no longer\\) the data"):
        run_data(run, Config())


def test_explore_says_what_was_read_from_where(tmp_path, capsys):
    rows = [(path, label, ("train", "test")[n % 2]) for n, (path, label) in enumerate(simple_rows())]
    path = write_table(tmp_path / "a.csv", rows, ("path", "label", "split"))
    (tmp_path / "img/sad0.png").write_bytes(b"x")
    assert explore.main(["--data", str(path), "--skip-broken"]) == 0
    out = capsys.readouterr().out
    assert "the pictures were 48x48 grey (7)" in out and "left out: 1 that cannot be read" in out
    assert "read: train from img/, test from img/\n  taken as crops\n" in out


def test_long_paths_and_many_columns_leave_the_message_short(tmp_path):
    rows = [("x" * 5000 + f"/{n}.png", "sad") for n in range(12)]
    path = write_table(tmp_path / "a.csv", rows, faces=False)
    with pytest.raises(InputError) as caught:
        load_dataset(path)
    assert len(str(caught.value)) < 500
    path = write_table(tmp_path / "b.csv", [*simple_rows(), *rows], faces=False)
    for row, _ in simple_rows():
        write_face(tmp_path / row)
    with pytest.raises(InputError, match="12 of 20 rows cannot be read: row 10: xxx") as caught:
        load_dataset(path)
    assert len(str(caught.value)) < 2500
    path = write_table(tmp_path / "c.csv", simple_rows(), ("path", "label"))
    path.write_text("path,label," + ",".join(f"c{n}x" for n in range(2000)) + "\nimg/happy0.png,sad" + ",1" * 2000)
    with pytest.raises(InputError, match="names no column") as caught:
        load_dataset(path, subjects="who")
    assert len(str(caught.value)) < 700
