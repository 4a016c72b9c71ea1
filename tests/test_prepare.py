"""`fer-tf prepare` writes what it read, and refuses every bad input in one line, with status 2 and nothing written."""

import bz2
import errno
import gzip
import io
import os
import re
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from fer_tf.commands import prepare
from fer_tf.data.loading import load_dataset
from fer_tf.data.reading import archives, checks, npz, rows, tree
from fer_tf.task import EMOTIONS
from tests.test_fer2013 import ROWS, csv_text, make_rows, pack_zip, write_images

TEXT = csv_text(ROWS)
PIXELS = ROWS[2][2]  # row 4 of the file
VALUES = PIXELS.split(" ")


def refusal(capsys, source, output, *flags):
    """Run the command on bad input and return its one line."""
    there_before = sorted(output.parent.iterdir())
    assert prepare.main([str(source), str(output), *flags]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    *log, line = captured.err.splitlines()
    assert line.startswith("fer-tf prepare: error: ")
    assert not any("error" in entry or "Traceback" in entry for entry in log)
    assert sorted(output.parent.iterdir()) == there_before
    return line.removeprefix("fer-tf prepare: error: ")


def test_prepare_writes_what_it_read(tmp_path, capsys):
    (tmp_path / "fer2013.csv").write_text(TEXT)
    assert prepare.main([str(tmp_path / "fer2013.csv"), str(tmp_path / "new/faces.npz")]) == 0
    dataset, again = load_dataset(tmp_path / "fer2013.csv"), load_dataset(tmp_path / "new/faces.npz")
    np.testing.assert_array_equal(again.images, dataset.decoded().images)
    np.testing.assert_array_equal(again.labels, dataset.labels)
    np.testing.assert_array_equal(again.split, dataset.split)
    assert again.class_names == dataset.class_names
    assert capsys.readouterr().out == (
        f"{tmp_path / 'new/faces.npz'}\n"
        "class          train  validation        test\n"
        + "".join(f"{name:8}           4           1           1\n" for name in dataset.class_names)
        + "all               28           7           7\n"
    )
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["faces.npz"]


def test_prepare_keeps_only_the_named_classes(tmp_path, capsys):
    (tmp_path / "fer2013.csv").write_text(TEXT)
    output = tmp_path / "three.npz"
    assert prepare.main([str(tmp_path / "fer2013.csv"), str(output), "--classes", "happy,sad,neutral"]) == 0
    assert load_dataset(output).class_names == ("happy", "sad", "neutral")
    assert len(load_dataset(output)) == 18


def with_pixels(values):
    return TEXT.replace(PIXELS, " ".join(values)).encode()


def with_value(value, place=7):
    return with_pixels([*VALUES[: place - 1], value, *VALUES[place:]])


def with_row_4(line):
    lines = TEXT.split("\n")
    lines[3] = line
    return "\n".join(lines).encode()


BAD_PIXEL = "row 4: pixel {place} is {value}; expected a whole number from 0 to 255"
BAD_CSV = {
    "empty": (b"", "empty file"),
    "blank lines": (b"\n\n\n", "row 1 is empty"),
    "prose": (b"Dear reader,\nthis is no csv\n", "row 1 has no column emotion or label: 'Dear reader,'"),
    "web page": (b"<!DOCTYPE html>\n<html>\n" * 99, "a web page, not a csv; download the file itself"),
    "binary": (bytes(range(256)) * 9, "binary data, not a csv"),
    "other delimiter": (TEXT.replace(",", "|").encode(), "'emotion|pixels|Usage'; expected emotion,pixels,Usage"),
    "header alone": (b"emotion,pixels,Usage\n", "a header but no rows"),
    "no header, two labels": (
        "".join(f"3,{line}\n" for line in TEXT.splitlines()[1:]).encode(),
        "no header row, and 2 columns that may be the label; add a first row that names the columns",
    ),
    "no emotion column": (
        TEXT.replace("emotion", "feeling", 1).encode(),
        "no column emotion or label: 'feeling,pixels,Usage'",
    ),
    "no pixels column": (b"emotion,Usage\n0,Training\n", "no column pixels or path: 'emotion,Usage'"),
    "emotion twice": (TEXT.replace("pixels", "emotion,pixels", 1).encode(), "row 1 has the column 'emotion' twice"),
    "pixels twice": (TEXT.replace("pixels", "pixels, pixels", 1).encode(), "row 1 has the column 'pixels' twice"),
    "Usage twice": (TEXT.replace("Usage", "Usage,usage", 1).encode(), "row 1 has the column 'usage' twice"),
    "2303 values": (with_pixels(VALUES[1:]), "row 4: 2,303 pixel values; expected 2,304 (48x48) or another square"),
    "2305 values": (with_pixels([*VALUES, "0"]), "row 4: 2,305 pixel values; expected 2,304 (48x48) or another square"),
    "no values": (with_pixels([]), "row 4: 0 pixel values"),
    "256": (with_value("256"), BAD_PIXEL.format(place=7, value="'256'")),
    "256 at the end": (with_value("256", 2304), BAD_PIXEL.format(place=2304, value="'256'")),
    "1000": (with_value("1000"), BAD_PIXEL.format(place=7, value="'1000'")),
    "-1": (with_value("-1"), BAD_PIXEL.format(place=7, value="'-1'")),
    "1.5": (with_value("1.5"), BAD_PIXEL.format(place=7, value="'1.5'")),
    "x": (with_value("x", 1), BAD_PIXEL.format(place=1, value="'x'")),
    "0x1f": (with_value("0x1f"), BAD_PIXEL.format(place=7, value="'0x1f'")),
    "byte 0x1f": (with_value("9\x1f"), BAD_PIXEL.format(place=7, value=r"'9\x1f'")),
    "nan": (with_value("nan"), BAD_PIXEL.format(place=7, value="'nan'")),
    "other digits": (with_value("٣"), BAD_PIXEL.format(place=7, value="'٣'")),
    "endless number": (with_value("9" * 9999), BAD_PIXEL.format(place=7, value="'" + "9" * 37 + "...'")),
    "emotion 8": (
        with_row_4(f"8,{PIXELS},Training"),
        "row 4: emotion '8'; expected a number from 0 to 6, 7 (contempt) or a name",
    ),
    "emotion -1": (with_row_4(f"-1,{PIXELS},Training"), "row 4: emotion '-1'"),
    "emotion 1.7": (with_row_4(f"1.7,{PIXELS},Training"), "row 4: emotion '1.7'"),
    "emotion empty": (with_row_4(f",{PIXELS},Training"), "row 4: no label"),
    "unknown Usage": (
        with_row_4(f"0,{PIXELS},Holdout"),
        "row 4: Usage 'Holdout'; expected Training, PublicTest or PrivateTest",
    ),
    "too few columns": (with_row_4("0,1 2 3"), "row 4: 2 columns; expected 3 as in row 1"),
    "open quote": (with_row_4(f'0,"{PIXELS},Training'), "row 4: not a csv"),
    "not UTF-8": (with_row_4('0,"\xff",Training').replace("\xff".encode(), b"\xff"), "row 4: not a csv"),
    "endless row": (TEXT.encode() + b"0," + b"1 " * (5 << 20), "row 44 is longer than 8,388,608 bytes"),
    "no training rows": (
        csv_text(make_rows(train=0)).encode(),
        "no training rows, only validation and test; expected some with Usage Training",
    ),
    "a class without training rows": (
        csv_text([row for row in ROWS if row[:2] != (1, "train")]).encode(),
        "no training row of disgust; every class needs one: add some, or keep the others with "
        "--classes angry,fear,happy,sad,surprise,neutral",
    ),
    "one row per class, no validation": (csv_text(make_rows(train=1, validation=0)).encode(), "leaves none for valid"),
    "damaged UTF-16": (TEXT.encode("utf-16")[:-1], "damaged UTF-16 text"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_bad_csv(tmp_path, capsys, case):
    data, message = BAD_CSV[case]
    (tmp_path / "bad.csv").write_bytes(data)
    line = refusal(capsys, tmp_path / "bad.csv", tmp_path / "out.npz")
    assert line.startswith(f"{tmp_path / 'bad.csv'}: ") and message in line


def zip_of(*members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def tar_like():
    return b"fer2013/fer2013.csv".ljust(257, b"\0") + b"ustar\0" + b"\0" * 249 + TEXT.encode()


def flipped(data):
    """Packed bytes with the last bytes, which hold the checksums, changed."""
    return data[:-8] + bytes(byte ^ 0xFF for byte in data[-8:])


GZIP, ZIP = gzip.compress(TEXT.encode()), pack_zip(TEXT)
BAD_PACKED = {
    "truncated gz": ("a.csv.gz", GZIP[: len(GZIP) // 2], "truncated or damaged"),
    "gz without its end": ("a.csv.gz", GZIP[:-4], "truncated or damaged"),
    "gz with a wrong checksum": ("a.csv.gz", flipped(GZIP), "truncated or damaged (CRC check failed"),
    "gz that is not one": ("a.csv.gz", TEXT.encode(), "not a .gz file, it begins with 'emotio'; download it again, or"),
    "gz of a tar": ("a.tar.gz", gzip.compress(tar_like()), "truncated or damaged (a header of the archive is wrong)"),
    "gz of nothing": ("a.csv.gz", gzip.compress(b""), "row 1 is empty"),
    "bz2 that is not one": ("a.csv.bz2", TEXT.encode(), "not a .bz2 file"),
    "truncated bz2": ("a.csv.bz2", bz2.compress(TEXT.encode())[:-9], "truncated or damaged"),
    "7-Zip": ("a.7z", b"7z\xbc\xaf\x27\x1c" + bytes(99), "a 7-Zip archive; unpack it"),
    "pointer of Git LFS": ("a.csv", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    "spreadsheet": ("a.xlsx", zip_of(("[Content_Types].xml", b"")), "a spreadsheet or document; save its table as csv"),
    "xz that is not one": ("a.csv.xz", b"\xfd7zXZ\0" + b"x" * 99, "truncated or damaged"),
    "truncated zip": ("a.zip", ZIP[: len(ZIP) // 2], "truncated or damaged"),
    "zip that is not one": ("a.zip", TEXT.encode(), "not a .zip file"),
    "empty zip": ("a.zip", zip_of(), "no .csv in this zip, it holds nothing"),
    "zip without a csv": ("a.zip", zip_of(("train/cat/1.png", b"")), "no .csv in this zip, it holds 'train/cat/1.png'"),
    "zip of several csv": ("a.zip", zip_of(("a.csv", TEXT), ("b.csv", TEXT)), "2 csv files in this zip ('a.csv', 'b.c"),
    "zip that climbs out": ("a.zip", zip_of(("../fer2013.csv", TEXT)), "'../fer2013.csv' climbs out"),
    "zip that climbs out beside": ("a.zip", zip_of(("a.csv", TEXT), ("b/../../c", b"")), "'b/../../c' climbs out"),
    "zip with an absolute path": ("a.zip", zip_of(("/etc/fer2013.csv", TEXT)), "climbs out of the archive"),
    "zip with a Windows path": ("a.zip", zip_of(("..\\fer2013.csv", TEXT)), "climbs out of the archive"),
    "npz that is not one": ("a.npz", TEXT.encode(), "not a .npz file"),
}


@pytest.mark.parametrize("case", BAD_PACKED)
def test_bad_packed_file(tmp_path, capsys, case):
    name, data, message = BAD_PACKED[case]
    (tmp_path / name).write_bytes(data)
    line = refusal(capsys, tmp_path / name, tmp_path / "out.npz")
    assert line.startswith(f"{tmp_path / name}: ") and message in line


def test_zip_bombs_are_stopped_at_the_bound(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(checks, "MAX_CSV_BYTES", 3 << 20)
    bomb = (csv_text(make_rows(train=1)) + csv_text(ROWS).split("\n", 1)[1] * 12).encode()
    assert len(bomb) > 3 << 20
    packed = bytearray(pack_zip(bomb))
    (tmp_path / "honest.zip").write_bytes(packed)
    assert "more than 3 MiB of csv" in refusal(capsys, tmp_path / "honest.zip", tmp_path / "out.npz")
    (tmp_path / "bomb.csv.gz").write_bytes(gzip.compress(bomb))
    assert "more than 3 MiB of csv" in refusal(capsys, tmp_path / "bomb.csv.gz", tmp_path / "out.npz")
    # a zip that gives a wrong size for its member
    size = len(bomb).to_bytes(4, "little")
    (tmp_path / "liar.zip").write_bytes(packed.replace(size, (5000).to_bytes(4, "little")))
    refusal(capsys, tmp_path / "liar.zip", tmp_path / "out.npz")


def test_a_bomb_without_line_ends_is_given_up_at_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(checks, "MAX_CSV_BYTES", 1 << 60)
    chunks = iter(lambda: b"0" * (1 << 20), b"")  # endless
    monkeypatch.setattr(archives, "gzip_chunks", lambda path, name: chunks)
    (tmp_path / "bomb.csv.gz").write_bytes(GZIP)
    line = refusal(capsys, tmp_path / "bomb.csv.gz", tmp_path / "out.npz")
    assert "row 1 is longer than 8,388,608 bytes" in line


def test_row_bound(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(rows, "MAX_ROWS", 41)
    monkeypatch.setattr(tree, "MAX_ROWS", 41)
    (tmp_path / "fer2013.csv").write_text(TEXT)
    assert "more than 41 rows" in refusal(capsys, tmp_path / "fer2013.csv", tmp_path / "out.npz")
    write_images(tmp_path / "faces", ROWS, EMOTIONS)
    assert "more than 41 images" in refusal(capsys, tmp_path / "faces", tmp_path / "out.npz")


def test_missing_and_odd_paths(tmp_path, capsys):
    assert "no such file or folder" in refusal(capsys, tmp_path / "gone.csv", tmp_path / "out.npz")
    assert "gone\\n.csv" in refusal(capsys, tmp_path / "gone\n.csv", tmp_path / "out.npz")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert "neither a regular file nor a folder" in refusal(capsys, tmp_path / "pipe", tmp_path / "out.npz")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("happy", "classes happy: expected at least two of angry, disgust"),
        ("", "expected at least two"),
        ("happy,bored", "unknown class 'bored': fer2013.csv has angry, disgust, fear, happy"),
        ("happy,sad,Happiness", "one is named twice"),
    ],
)
def test_bad_classes(tmp_path, capsys, classes, message):
    (tmp_path / "fer2013.csv").write_text(TEXT)
    assert message in refusal(capsys, tmp_path / "fer2013.csv", tmp_path / "out.npz", "--classes", classes)


def test_bad_output(tmp_path, capsys):
    (tmp_path / "fer2013.csv").write_text(TEXT)
    assert "ends in .npz" in refusal(capsys, tmp_path / "fer2013.csv", tmp_path / "out.csv")
    (tmp_path / "folder.npz").mkdir()
    assert "a folder" in refusal(capsys, tmp_path / "fer2013.csv", tmp_path / "folder.npz")
    assert prepare.main([str(tmp_path / "fer2013.csv"), str(tmp_path / "fer2013.csv/out.npz")]) == 2
    assert "error: cannot write" in capsys.readouterr().err.splitlines()[-1]


def test_full_disk_leaves_the_file_that_was_there(tmp_path, capsys, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "fer2013.csv").write_text(TEXT)
    (tmp_path / "out.npz").write_bytes(b"before")
    monkeypatch.setattr(np.lib.format, "write_array", full)
    assert "No space left on device" in refusal(capsys, tmp_path / "fer2013.csv", tmp_path / "out.npz")
    assert (tmp_path / "out.npz").read_bytes() == b"before"


# Folders


def test_folder_without_images(tmp_path, capsys):
    folder = tmp_path / "faces"
    (folder / "train/happy").mkdir(parents=True)
    line = refusal(capsys, folder, tmp_path / "out.npz")
    assert line == (
        f"{folder}: a folder without images; expected train/, [validation/,] test/ with one folder of images (PNG, "
        "JPEG or another format) per class"
    )


def test_folder_without_training_images(tmp_path, capsys):
    write_images(tmp_path / "faces", make_rows(train=0, num_classes=2), ("cat", "dog"))
    assert "no training rows" in refusal(capsys, tmp_path / "faces", tmp_path / "out.npz")


def test_class_folder_without_training_images(tmp_path, capsys):
    write_images(tmp_path / "faces", make_rows(num_classes=3), ("cat", "dog", "cow"))
    for image in (tmp_path / "faces/train/cow").iterdir():
        image.unlink()
    line = refusal(capsys, tmp_path / "faces", tmp_path / "out.npz")
    assert "no training row of cow" in line and "--classes cat,dog" in line


def test_one_class_is_not_enough(tmp_path, capsys):
    write_images(tmp_path / "faces", make_rows(num_classes=1), ("cat",))
    assert "1 classes ('cat'); expected at least two" in refusal(capsys, tmp_path / "faces", tmp_path / "out.npz")


def test_class_name_that_would_break_a_list(tmp_path, capsys):
    write_images(tmp_path / "faces", make_rows(num_classes=2), ("cat", "do\ng"))
    assert r"class name 'do\ng'; expected 1 to 100 print" in refusal(capsys, tmp_path / "faces", tmp_path / "out.npz")


def test_two_folders_of_one_split(tmp_path, capsys):
    write_images(tmp_path / "faces", make_rows(num_classes=2), ("cat", "dog"))
    (tmp_path / "faces/val/cat").mkdir(parents=True)
    (tmp_path / "faces/val/cat/0.png").write_bytes(b"")  # a folder needs a picture to count as a split
    line = refusal(capsys, tmp_path / "faces", tmp_path / "out.npz")
    assert "val/ and validation/ are both the validation split" in line


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a JPEG, PNG"),
        (b"GIF89a" + b"\0" * 30, "a broken picture"),
        (None, "a broken picture"),
    ],
    ids=["empty", "gif", "half"],
)
def test_broken_image(tmp_path, capsys, data, message):
    write_images(tmp_path / "faces", make_rows(num_classes=2), ("cat", "dog"))
    path = tmp_path / "faces/train/dog/5.png"
    path.write_bytes(path.read_bytes()[:1500] if data is None else data)
    line = refusal(capsys, tmp_path / "faces", tmp_path / "out.npz")
    assert line.startswith(f"{path}: ") and message in line


def test_image_of_too_many_pixels(tmp_path, capsys):
    write_images(tmp_path / "faces", make_rows(num_classes=2), ("cat", "dog"))
    Image.new("1", (50_400, 1000)).save(tmp_path / "faces/train/dog/big.png")
    line = refusal(capsys, tmp_path / "faces", tmp_path / "out.npz")
    assert "big.png: PNG of 50,400x1,000 pixels would take" in line


# .npz


def arrays(**changes):
    sound = {
        "images": np.zeros((4, 48, 48), np.uint8),
        "labels": np.array([0, 1, 0, 1]),
        "split": np.array(["train", "train", "train", "train"]),
        "class_names": np.array(["a", "b"]),
    }
    return {name: value for name, value in {**sound, **changes}.items() if value is not None}


BAD_ARRAYS = {
    "no split": (arrays(split=None), "no array split in this .npz; expected images, labels, split, class_names"),
    "other type": (arrays(images=np.zeros((4, 48, 48), np.float32)), "images of type float32 and shape (4, 48, 48)"),
    "other size": (arrays(images=np.zeros((4, 64, 64), np.uint8)), "shape (4, 64, 64); expected uint8 (n, 48, 48)"),
    "a number": (arrays(images=np.uint8(3)), "images of type uint8 and shape ()"),
    "no rows": (arrays(images=np.zeros((0, 48, 48), np.uint8)), "n from 1 to 500,000"),
    "fewer labels": (arrays(labels=np.array([0, 1])), "labels of type int64 and shape (2,); expected int64 (4,)"),
    "float labels": (arrays(labels=np.array([0.0, 1, 0, 1])), "labels of type float64"),
    "label too large": (arrays(labels=np.array([0, 1, 2, 1])), "label of image 2 is '2'; expected 0 to 1"),
    "label too small": (arrays(labels=np.array([0, 1, 0, -1])), "label of image 3 is '-1'; expected 0 to 1"),
    "other split": (
        arrays(split=np.array(["train", "Training", "test", "x"])),
        "split of image 1 is 'Training'",
    ),
    "bytes for text": (arrays(split=np.array([b"train"] * 4)), "split of type |S5"),
    "one class": (arrays(class_names=np.array(["a"])), "1 classes ('a'); expected at least two"),
    "class twice": (arrays(class_names=np.array(["a", "a"])), "class 'a' is there twice"),
    "control characters": (arrays(class_names=np.array(["a", "b\x1b[2J"])), r"class name 'b\x1b[2J'"),
    "pickled": (arrays(labels=np.array([0, 1, "x", None], object)), "labels is not a sound array"),
    "no validation row possible": (
        arrays(images=np.zeros((2, 48, 48), np.uint8), labels=np.array([0, 1]), split=np.array(["train"] * 2)),
        "leaves none for validation",
    ),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_npz(tmp_path, capsys, case):
    members, message = BAD_ARRAYS[case]
    np.savez(tmp_path / "bad.npz", allow_pickle=True, **members)
    line = refusal(capsys, tmp_path / "bad.npz", tmp_path / "out.npz")
    assert line.startswith(f"{tmp_path / 'bad.npz'}: ") and message in line


def npy(shape, body=b""):
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + body


@pytest.mark.parametrize(
    "member",
    [npy((10**12, 48, 48)), npy((-1, 48, 48)), npy((4, 48, 48), b"\0" * 99), npy("(" * 50), b"", b"\x93NUMPY\x07\x00"],
    ids=["huge shape", "negative", "too short", "no literal", "empty", "version"],
)
def test_crafted_array_header(tmp_path, capsys, member):
    np.savez(tmp_path / "bad.npz", **arrays(images=None))
    with zipfile.ZipFile(tmp_path / "bad.npz", "a") as archive:
        archive.writestr("images.npy", member)
    assert "images is not a sound array" in refusal(capsys, tmp_path / "bad.npz", tmp_path / "out.npz")


def test_array_bound(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(npz.NPZ_MEMBERS, "images", 3 * 2304)
    np.savez_compressed(tmp_path / "bomb.npz", **arrays(images=np.zeros((40, 48, 48), np.uint8)))
    line = refusal(capsys, tmp_path / "bomb.npz", tmp_path / "out.npz")
    assert re.search(r"bomb\.npz: images has 92,288 bytes; expected at most 6,912$", line)


def test_flipped_npz_bytes_load_or_are_refused(tmp_path, capsys):
    np.savez_compressed(tmp_path / "sound.npz", **arrays())
    sound = np.frombuffer((tmp_path / "sound.npz").read_bytes(), np.uint8)
    random = np.random.default_rng(zlib.crc32(b"fer_tf"))
    for _ in range(150):
        data = sound.copy()
        data[random.integers(0, len(data), 3)] = random.integers(0, 256, 3)
        (tmp_path / "flipped.npz").write_bytes(data.tobytes())
        status = prepare.main([str(tmp_path / "flipped.npz"), str(tmp_path / "out.npz")])
        assert status == (0 if (tmp_path / "out.npz").exists() else 2)
        (tmp_path / "out.npz").unlink(missing_ok=True)
    assert "Traceback" not in capsys.readouterr().err
