"""Folders as people have them: layouts, class names, people, broken files, links, and advice that can be followed."""

import logging
import os
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fer_tf.artifacts import RunDirectory, write_json
from fer_tf.commands import explore, prepare
from fer_tf.config import Config
from fer_tf.data.audit import audit, audit_text
from fer_tf.data.dataset import Dataset
from fer_tf.data.loading import load_dataset
from fer_tf.data.reading.folders import arrange
from fer_tf.data.recorded import describe_data, run_data
from fer_tf.errors import InputError
from fer_tf.task import EMOTIONS, SPLITS


def write_faces(root: Path, *folders: str, count: int = 4, pattern: str = "{n}.png", start: int = 0) -> Path:
    """Different faces in each folder: uint8 noise from a seed of the folder's and the file's place."""
    for place, folder in enumerate(folders):
        for n in range(count):
            noise = np.random.default_rng([start, place, n]).integers(0, 256, (48, 48), dtype=np.uint8)
            path = root / folder / pattern.format(n=n)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise).save(path, format="PNG")
    return root


def counts(dataset: Dataset) -> dict[str, list[int]]:
    return {split: dataset.counts(split).tolist() for split in SPLITS}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, logger="fer_tf")
    return caplog


# --- Class names ---


def test_a_folder_without_pictures_is_no_class(tmp_path, log):
    write_faces(tmp_path / "d", "train/happy", "train/sad", "test/happy", "test/sad")
    (tmp_path / "d/train/contempt/inner").mkdir(parents=True)
    assert load_dataset(tmp_path / "d").class_names == ("happy", "sad")
    assert "folders without pictures are not classes: 'train/contempt', 'train/contempt/inner'" in log.text


@pytest.mark.parametrize(
    "folder", ["@eaDir", "__pycache__", "__MACOSX", ".ipynb_checkpoints", "$RECYCLE.BIN", "#recycle", "lost+found"]
)
@pytest.mark.parametrize("place", ["", "train/", "train/happy/"])
def test_system_folders_are_no_classes_even_with_pictures(tmp_path, folder, place):
    write_faces(tmp_path / "d", "train/happy", "train/sad", f"{place}{folder}/train/x")
    dataset = load_dataset(tmp_path / "d")
    assert dataset.class_names == ("happy", "sad") and len(dataset) == 8 and not dataset.left_out


def test_spellings_that_differ_between_splits_are_one_class_and_said_once(tmp_path, log):
    composed = "Für sich"
    decomposed = unicodedata.normalize("NFD", composed)
    train = ("train/Bored", "train/anger", f"train/{composed}")
    write_faces(tmp_path / "d", *train, "test/bored", "test/Angry", f"test/{decomposed}")
    dataset = load_dataset(tmp_path / "d")
    assert dataset.class_names == ("Bored", composed, "angry")
    assert counts(dataset)["test"] == [4, 4, 4]
    assert log.text.count("'Bored' and 'bored' are Bored") == 1


def test_contempt_is_the_eighth_class_unless_left_out(tmp_path):
    write_faces(tmp_path / "d", *(f"train/{name}" for name in ("Contempt", *EMOTIONS)))
    assert load_dataset(tmp_path / "d").class_names == (*EMOTIONS, "contempt")
    chosen = load_dataset(tmp_path / "d", classes=["Sadness", "CONTEMPTUOUS", "joy"])
    assert chosen.class_names == ("sad", "contempt", "happy")


@pytest.mark.parametrize(("given_names", "expected"), [("rafdb", "surprise"), ("b,a", "b")])
def test_numbers_are_never_guessed(tmp_path, given_names, expected):
    write_faces(tmp_path / "d", "train/1", "train/2", "test/1", "test/2")
    with pytest.raises(InputError, match=r"only numbers \(1, 2\) are not guessed: --class-names fer2013 .* rafdb"):
        load_dataset(tmp_path / "d")
    dataset = load_dataset(tmp_path / "d", class_names=given_names.split(","))
    ones = np.array([path.split("/")[1] == "1" for path in dataset.files])
    assert {dataset.class_names[label] for label in dataset.labels[ones]} == {expected}


def test_class_names_change_nothing_where_no_class_is_a_number(tmp_path, log):
    dataset = load_dataset(write_faces(tmp_path / "d", "train/a", "train/b"), class_names=["fer2013"])
    assert dataset.class_names == ("a", "b") and "so --class-names changes nothing" in log.text


def test_numbers_beside_names_are_named_alone(tmp_path):
    root = write_faces(tmp_path / "d", "train/07", "train/happy", "train/stray")
    with pytest.raises(InputError, match=r"only numbers \(07\)"):
        load_dataset(root)
    assert load_dataset(root, class_names=["rafdb"]).class_names == ("happy", "neutral", "stray")


# --- Layouts ---

SPLIT_NAMES = {
    "train": ["train", "Training", "train_set"],
    "validation": ["val", "valid", "validation", "eval", "dev"],
    "test": ["test", "testing", "test_set", "Test Set"],
}
plain = st.sampled_from(["happy", "sad", "Für", "s1", "bored", "x.y", "喜び"])


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(SPLITS), st.integers(0, 2), min_size=1),
    st.sets(plain, min_size=1, max_size=3),
    st.lists(st.sampled_from(["archive", "fer 2013", "Für"]), max_size=2),
    st.lists(plain, max_size=2),
    st.booleans(),
)
def test_any_usual_layout_is_understood(splits, classes, around, below, class_first):
    """Splits above or below the classes, folders around all and below each class."""
    pictures = {}
    for split, which in splits.items():
        for name in classes:
            folders = [SPLIT_NAMES[split][which], name]
            pictures[*around, *(folders[::-1] if class_first else folders), *below, "0.png"] = split, name
    if class_first and len(classes) < 2:
        return  # a single class looks like a folder around the splits, and one class cannot be trained anyway
    layout = arrange(sorted(pictures))
    assert not layout.left_out and not layout.unsplit
    assert {tuple(path.split("/")): (split, name) for path, split, name in layout.rows} == pictures


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.one_of(plain, st.sampled_from(["train", "test"])), min_size=1, max_size=4).map(tuple)))
def test_every_picture_is_read_or_left_out_once(pictures):
    pictures = sorted({(*folders, "0.png") for folders in pictures} | {("0.png",)})
    layout = arrange(pictures)
    seen = [row[0] for row in layout.rows] + [path for paths in layout.left_out.values() for path in paths]
    assert sorted(seen) == sorted("/".join(parts) for parts in pictures)


@pytest.mark.parametrize("around", ["", "archive/fer/"])
@pytest.mark.parametrize("form", ["{split}/{name}", "{name}/{split}"])
def test_stray_pictures_do_not_hide_the_splits(tmp_path, around, form, log):
    folders = [form.format(split=split, name=name) for split in ("train", "test") for name in ("happy", "sad")]
    write_faces(tmp_path / "d", *(around + folder for folder in folders))
    write_faces(tmp_path / "d", around or ".", count=1, pattern="cover.png")
    dataset = load_dataset(tmp_path / "d")
    assert dataset.class_names == ("happy", "sad") and dataset.counts("test").tolist() == [4, 4]
    assert sum(dataset.left_out.values()) == 1 and "cover.png" in log.text


def test_folders_below_a_single_emotion_are_no_classes(tmp_path):
    with pytest.raises(InputError, match=r"1 classes \('happy'\); expected at least two"):
        load_dataset(write_faces(tmp_path / "d", "happiness/person1", "happiness/person2"))


def test_a_class_of_two_pictures_is_named(tmp_path, log):
    write_faces(tmp_path / "d", "happy", "sad", count=9)
    write_faces(tmp_path / "d", "fear", count=2, start=1)
    assert counts(load_dataset(tmp_path / "d"))["test"] == [0, 1, 1]
    assert "fear: too few images or people for one in test" in log.text


def test_folders_below_a_class_belong_to_it(tmp_path):
    write_faces(tmp_path / "d", "train/happy/s1", "train/happy/s2/more", "train/happy", "train/sad", count=2)
    assert load_dataset(tmp_path / "d", training=False).counts("train").tolist() == [6, 2]


def test_what_stands_beside_the_splits_is_named(tmp_path, log):
    write_faces(tmp_path / "d", "train/happy", "train/sad", "extra/happy", "more", "test/happy", "test/sad")
    dataset = load_dataset(tmp_path / "d")
    assert dataset.left_out == {"in no folder of a split": 8}
    assert "read only train/ and test/, not 'extra' (4 pictures) and 'more' (4 pictures)" in log.text
    assert "left out 8 of 24 files: 8 in no folder of a split" in log.text


def test_class_folders_alone_are_cut_into_three(tmp_path, log):
    write_faces(tmp_path / "d", "happy", "sad", "anger", count=20)
    dataset = load_dataset(tmp_path / "d", seed=5)
    assert counts(dataset) == {"train": [16] * 3, "validation": [2] * 3, "test": [2] * 3}
    assert "d names no splits: of its 60 images 6 validation and 6 test, stratified, seed 5" in log.text
    assert "one person may be in several splits; --subjects PATTERN" in log.text
    assert load_dataset(tmp_path / "d", seed=5).split.tolist() == dataset.split.tolist()
    assert load_dataset(tmp_path / "d", seed=6).split.tolist() != dataset.split.tolist()


def test_copies_of_an_image_stay_together(tmp_path):
    write_faces(tmp_path / "d", "happy", "sad", count=12)
    for copy in ("b", "c"):
        write_faces(tmp_path / "d", "happy", "sad", count=12, pattern=copy + "{n}.png")
    dataset = load_dataset(tmp_path / "d")
    hashes = [image.tobytes() for image in dataset.images]
    assert len(set(hashes)) == 24 and len({*zip(hashes, dataset.split, strict=True)}) == 24
    assert all(dataset.counts(split).min() >= 3 for split in SPLITS)


PEOPLE = {
    "CK+": ("S{person:03d}_004_{n:08d}.png", None),
    "JAFFE": ("K{letter}.AN{n}.{n}.png", None),
    "folders": ("person{person}/{n}.png", r"/(person\d+)/"),
    "match": ("p{person}-{n}.png", r"p\d+"),
}


@pytest.mark.parametrize("form", PEOPLE)
def test_people_stay_together(tmp_path, form, log):
    pattern, subjects = PEOPLE[form]
    for person in range(12):
        names = pattern.replace("{person}", str(person)).replace("{person:03d}", f"{person:03d}")
        names = names.replace("{letter}", chr(65 + person))
        write_faces(tmp_path / "d", "happy", "sad", count=3, pattern=names, start=person)
    dataset = load_dataset(tmp_path / "d", subjects=subjects, validation_fraction=0.2)
    assert len(set(dataset.subjects)) == 12
    assert len({*zip(dataset.subjects, dataset.split, strict=True)}) == 12
    assert all(dataset.counts(split).min() >= 3 for split in SPLITS)
    assert "12 people, each in one split" in log.text and "may be in several" not in log.text


def test_people_in_several_splits_of_the_source_are_named(tmp_path, log):
    for split, people in (("train", "ABC"), ("test", "CD")):
        for person in people:
            folders = (f"{split}/happy", f"{split}/sad")
            write_faces(tmp_path / "d", *folders, pattern=f"K{person}.HA{{n}}.5.png", start=ord(person))
    load_dataset(tmp_path / "d")
    assert "1 of 4 people are in several of its splits ('KC')" in log.text


@pytest.mark.parametrize(("pattern", "message"), [("(", "not a regular expression"), ("nobody", "matches no path")])
def test_subjects_that_find_nobody_are_refused(tmp_path, pattern, message):
    with pytest.raises(InputError, match=message):
        load_dataset(write_faces(tmp_path / "d", "happy", "sad"), subjects=pattern)


def test_a_run_finds_its_cut_again_by_its_record(tmp_path):
    root = write_faces(tmp_path / "d", "1", "2", count=12, pattern="p{n}/0.png")
    (root / "1/broken.png").write_bytes(b"x")
    dataset = load_dataset(root, class_names=["rafdb"], subjects=r"p\d+", skip_broken=True, seed=3)
    run = RunDirectory.create(tmp_path / "run")
    write_json(run.data, describe_data(dataset))
    again = run_data(run, Config())
    assert again.split.tolist() == dataset.split.tolist() and again.origin == dataset.origin
    assert again.left_out == {"that cannot be read": 1}


# --- Broken files and links ---


def broken_folder(root: Path, num_broken: int) -> Path:
    write_faces(root, "train/happy", "train/sad", "test/happy", "test/sad")
    for n in range(num_broken):
        (root / f"train/happy/broken{n:02d}.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(n))
    return root


def test_one_broken_file_is_named_with_its_path(tmp_path):
    root = broken_folder(tmp_path / "d", 1)
    with pytest.raises(InputError, match=f"^{root}/train/happy/broken00.jpg: a broken picture .* --skip-broken$"):
        load_dataset(root)


def test_broken_files_are_all_in_one_message_and_a_file_lists_them(tmp_path):
    root = broken_folder(tmp_path / "d", 12)
    with pytest.raises(InputError) as caught:
        load_dataset(root)
    message = str(caught.value)
    assert message.startswith(f"{root}: 12 of 28 files cannot be read: train/happy/broken00.jpg (")
    assert "broken09" in message and "broken10" not in message and "and 2 more" in message and "\n" not in message
    listed = Path(re.search(r"all are listed in (\S+);", message)[1]).read_text().splitlines()
    assert len(listed) == 12 and listed[11].startswith("train/happy/broken11.jpg\ta broken picture")


def test_skip_broken_goes_on_and_counts(tmp_path, log):
    dataset = load_dataset(broken_folder(tmp_path / "d", 12), skip_broken=True)
    assert counts(dataset)["test"] == [4, 4] and dataset.left_out == {"that cannot be read": 12}
    (warning,) = [record for record in log.records if record.levelno == logging.WARNING]
    assert "left out 12 of 28 files: 12 that cannot be read ('train/happy/broken00.jpg'" in warning.getMessage()


def test_nothing_but_broken_files_is_refused(tmp_path):
    for name in ("happy", "sad"):
        (tmp_path / "d/train" / name).mkdir(parents=True)
        (tmp_path / "d/train" / name / "x.png").write_bytes(b"x")
    with pytest.raises(InputError, match="none of its 2 pictures can be read"):
        load_dataset(tmp_path / "d", skip_broken=True)


def test_a_link_to_a_picture_is_followed(tmp_path):
    root = write_faces(tmp_path / "d", "train/happy", "train/sad")
    blob = tmp_path / "blobs/0123abcd"  # as in the cache of the Hugging Face Hub: no suffix
    blob.parent.mkdir()
    Image.new("L", (48, 48), 7).save(blob, format="PNG")
    (root / "train/sad/link.png").symlink_to(os.path.relpath(blob, root / "train/sad"))
    (root / "train/sad/chain").symlink_to("link.png")
    assert load_dataset(root, training=False).counts("train").tolist() == [4, 6]


def make_fifo(path, root):
    os.mkfifo(path)


ODD = {
    "fifo": (make_fifo, "a FIFO, not a file"),
    "link to a fifo": (
        lambda path, root: (os.mkfifo(root.parent / "f"), path.symlink_to(root.parent / "f")),
        "link to a FIFO",
    ),
    "dangling": (lambda path, root: path.symlink_to(root / "nowhere.png"), "a symbolic link to nothing"),
    "loop": (lambda path, root: path.symlink_to(path.name), "a symbolic link that leads to itself"),
    "device": (lambda path, root: path.symlink_to("/dev/zero"), "into /proc, /sys or /dev"),
    "proc": (lambda path, root: path.symlink_to("/proc/self/exe"), "into /proc, /sys or /dev"),
    "over proc": (lambda path, root: path.symlink_to(f"/proc/self/root{root}/train/happy/0.png"), "into /proc"),
    "folder": (lambda path, root: path.symlink_to(root / "train/happy"), "a symbolic link to a folder"),
    "no picture": (lambda path, root: path.symlink_to("/etc/passwd"), "not a JPEG"),
}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs links, FIFOs and /proc")
@pytest.mark.parametrize("kind", ODD)
def test_odd_files_get_one_line_each(tmp_path, kind, capsys):
    root = write_faces(tmp_path / "d", "train/happy", "train/sad", "test/happy", "test/sad")
    make, message = ODD[kind]
    make(root / "train/sad/odd.png", root)
    assert prepare.main([str(root), str(tmp_path / "out.npz")]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert f"{root}/train/sad/odd.png: " in line and message in line and "--skip-broken" in line
    assert prepare.main([str(root), str(tmp_path / "out.npz"), "--skip-broken"]) == 0
    assert len(load_dataset(tmp_path / "out.npz")) == 16


# --- explore ---


def test_explore_says_what_was_read_from_where(tmp_path, capsys):
    root = broken_folder(tmp_path / "d", 2)
    write_faces(root, "extra/happy", count=3)
    (root / "train/happy/notes.txt").write_text("x")
    assert explore.main(["--data", str(root), "--skip-broken"]) == 0
    out = capsys.readouterr().out
    assert "the pictures were 48x48 grey (16)" in out
    assert "  read: train from train/, test from test/\n  taken as crops\n" in out
    assert "left out: 2 that cannot be read; 3 in no folder of a split; 1 that are not pictures: 1 .txt\n" in out


def test_explore_says_that_class_folders_name_no_splits(tmp_path, capsys):
    assert explore.main(["--data", str(write_faces(tmp_path / "d", "happy", "sad"))]) == 0
    assert "read: pictures without splits (train cuts validation and test from them)" in capsys.readouterr().out


def test_what_was_cut_is_said_to_come_from_several_folders(tmp_path):
    dataset = load_dataset(write_faces(tmp_path / "d", "happy", "sad"))
    assert "  read: pictures of several folders\n" in audit_text(audit(dataset))
