"""Pictures known by their contents, large photographs, several frames, files left out, and annotated copies."""

import functools
import io
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_tf import faces
from fer_tf.data.loading import load_dataset
from fer_tf.errors import InputError
from fer_tf.faces import kinds, pictures
from fer_tf.faces.crops import scaled
from fer_tf.faces.inputs import annotated_paths, find_inputs
from fer_tf.faces.kinds import kind_of
from fer_tf.faces.pictures import decode_image, decode_picture, open_image, read_picture
from fer_tf.inference import open_model
from fer_tf.recognition import Recognizer
from tests.drawn_pictures import FACE_BOXES, overlap, photograph
from tests.tiny_models import write_tiny

pytestmark = pytest.mark.light

FORMATS = ("JPEG", "MPO", "PNG", "BMP", "WEBP", "GIF", "TIFF", "AVIF")


def encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def heic(image, **options):
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, **options)
    return buffer.getvalue()


def noise(width=60, height=40, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def frames(num=3):
    return [Image.new("RGB", (64, 48), (80 * number, 20, 20)) for number in range(num)]


# --- what a file is ---


@pytest.mark.parametrize("format", FORMATS)
def test_a_picture_is_known_by_its_first_bytes(format):
    assert kind_of(encoded(noise(), format)[:256]) == ("JPEG" if format == "MPO" else format)


def test_heic_and_avif_are_told_apart_by_all_brands():
    assert kind_of(heic(noise())[:256]) == "HEIF"
    assert kind_of(b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf") == "HEIF"
    assert kind_of(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf") == "AVIF"
    assert kind_of(b"\0\0\0\x14ftypmif1\0\0\0\0mif1\0\0\0\x1cavif") == "HEIF"  # the last brand is after the box


@pytest.mark.parametrize(
    "head",
    [
        b"\0\0\0\x18ftypmp42\0\0\0\0", b"\0\0\0\x14ftypqt  \0\0\0\0", b"RIFF\0\0\0\0AVI LIST", b"\x1aE\xdf\xa3\x9fB",
        b"\0\0\x01\xba!\0", b"\0\0\0\x08wide\0\0\0\0mdat", b"FLV\x01\x05",
    ],
)  # fmt: skip
def test_a_video_is_known_by_its_first_bytes(head):
    assert kind_of(head) == "video"


@pytest.mark.parametrize(
    "head",
    [
        b"", b"\xff", b"BMW is a make of cars", b"RIFF\0\0\0\0WAVEfmt ", b"%PDF-1.7", b"PK\3\4", b"GIF", b"MM",
        b"II*\0\x10\0\0\0CR\2\0", b"\0\0\0\x20ftypM4A \0\0\0\0", b"\0\0\0\x18ftypcrx \0\0\0\1", b"<svg></svg>",
    ],
)  # fmt: skip
def test_anything_else_is_none_of_them(head):
    assert kind_of(head) is None


def test_a_gif_of_several_frames_is_an_animation(tmp_path):
    first, *others = frames()
    first.save(tmp_path / "still.gif")
    first.save(tmp_path / "moving.gif", save_all=True, append_images=others)
    first.save(tmp_path / "moving.webp", save_all=True, append_images=others)
    (tmp_path / "broken.gif").write_bytes(b"GIF89a" + bytes(9))
    assert kinds.is_animation(tmp_path / "moving.gif")
    for name in ("still.gif", "moving.webp", "broken.gif", "absent.gif", "."):
        assert not kinds.is_animation(tmp_path / name)


def test_a_folder_is_gone_through_by_contents(tmp_path):
    jpeg, (first, *others) = encoded(noise(), "JPEG"), frames()
    sound = ("a.jfif", "b", "c.jpe", "d.JPG", "e.png", "f.mp4", "g.txt", "deep/h.dat")
    (tmp_path / "deep").mkdir()
    for name in sound:
        (tmp_path / name).write_bytes(jpeg)
    for name in (".hidden.jpg", "Thumbs.db", ".git/x.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(jpeg)
    for name in ("notes.txt", "more.TXT", "paper.pdf", "README"):
        (tmp_path / name).write_text("text")
    (tmp_path / "claims.jpg").write_text("text")
    (tmp_path / "film").write_bytes(b"\x1aE\xdf\xa3" + bytes(60))
    first.save(tmp_path / "moving.gif", save_all=True, append_images=others)
    first.save(tmp_path / "still.gif")
    os.mkfifo(tmp_path / "pipe.jpg")
    found = find_inputs([str(tmp_path), str(tmp_path)])
    names = [path.relative_to(tmp_path).as_posix() for path in found.pictures]
    assert sorted(names) == sorted([*sound, "claims.jpg", "still.gif"])  # opening claims.jpg says what is wrong
    assert sorted(path.name for path in found.videos) == ["film", "moving.gif"]
    assert kinds.skipped_kinds(found.skipped) == "2 .txt, 1 without a suffix, 1 .pdf"
    assert found.problems == []


def test_a_folder_without_pictures_says_what_is_in_it(tmp_path):
    for name in ("a.txt", "b.txt", "c.csv"):
        (tmp_path / name).write_text("text")
    (problem,) = find_inputs([str(tmp_path)]).problems
    assert str(problem) == (
        f"{tmp_path}: no pictures or videos in this folder (2 .txt, 1 .csv); "
        "give a folder with JPEG, PNG or other files"
    )


def test_copies_of_photographs_are_jpeg_files(tmp_path):
    for name, format in (("a.jfif", "JPEG"), ("b", "JPEG"), ("c.jpeg", "JPEG"), ("d.avif", "AVIF"), ("e.tif", "TIFF")):
        (tmp_path / name).write_bytes(encoded(noise(), format))
    copies = annotated_paths("out", find_inputs([str(tmp_path)])).values()
    assert [path.name for path in copies] == [
        "a-faces.jpg",
        "b-faces.jpg",
        "c-faces.jpeg",
        "d-faces.jpg",
        "e-faces.png",
    ]


def test_a_training_folder_takes_every_format_under_any_name(tmp_path, caplog):
    crop = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8))
    for split in ("train", "validation", "test"):
        for label, emotion in enumerate(("happy", "sad")):
            folder = tmp_path / split / emotion
            folder.mkdir(parents=True)
            for number, format in enumerate(FORMATS):
                crop.transpose(Image.Transpose(label)).convert("RGB").save(folder / f"{number}", format)
            (folder / "list.csv").write_text("no picture")
    dataset = load_dataset(tmp_path)
    assert dataset.counts("train").tolist() == dataset.counts("test").tolist() == [8, 8]
    assert "6 that are not pictures: 6 .csv" in caplog.text
    png = [np.asarray(crop.transpose(Image.Transpose(label))) for label in range(2)]
    lossless = [2, 3, 6]  # PNG, BMP, TIFF
    train = dataset.take("train")
    for label in range(2):
        images = train.images[train.labels == label]
        for number in lossless:
            np.testing.assert_array_equal(images[number], png[label])
        assert np.abs(images.astype(int) - png[label]).mean() < 30


# --- opening ---


@pytest.mark.parametrize("format", ["JPEG", "MPO", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_every_format(format, orientation):
    stored = Image.new("RGB", (64, 32), (0, 0, 0))
    stored.paste((255, 0, 0), (0, 0, 32, 16))  # red at the top left as stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode_picture(encoded(stored, format, exif=exif), "photo")
    corner = {1: (0, 0), 2: (1, 0), 3: (1, 1), 4: (0, 1), 5: (0, 0), 6: (1, 0), 7: (1, 1), 8: (0, 1)}[orientation]
    assert picture.size == picture.image.size == ((64, 32) if orientation < 5 else (32, 64))
    for x in (0, 1):
        for y in (0, 1):
            width, height = picture.size
            red = picture.image.getpixel((x * (width - 1), y * (height - 1)))[0]
            assert (red > 128) == ((x, y) == corner)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heic_is_turned_once(orientation):
    pillow_heif = pytest.importorskip("pillow_heif")
    stored = Image.new("RGB", (64, 32), (0, 0, 0))
    stored.paste((255, 0, 0), (0, 0, 32, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    pillow_heif.register_heif_opener()  # so that Pillow writes HEIC
    picture = decode_picture(encoded(stored, "HEIF", exif=exif.tobytes()), "photo.heic")
    assert picture.size == ((64, 32) if orientation < 5 else (32, 64))
    corner = {1: (0, 0), 3: (1, 1), 6: (1, 0), 8: (0, 1)}[orientation]
    width, height = picture.size
    assert picture.image.getpixel((corner[0] * (width - 1), corner[1] * (height - 1)))[0] > 128
    assert picture.image.info == {}


def test_heic_without_pillow_heif_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    with pytest.raises(InputError, match=r"^HEIC pictures need .*: pip install -e '.*\[heif\]'$"):
        open_image(tmp_path / "photo.heic")


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_the_first_of_several_frames_is_taken(format):
    first, *others = frames()
    picture = decode_picture(encoded(first, format, save_all=True, append_images=others), "photo")
    assert picture.is_first_of_several
    np.testing.assert_allclose(np.asarray(picture.image)[24, 32], [0, 20, 20], atol=4)
    assert not decode_picture(encoded(first, format), "photo").is_first_of_several


def test_the_pictures_behind_the_first_of_an_mpo_are_no_frames():
    first, *others = frames()
    picture = decode_picture(encoded(first, "MPO", save_all=True, append_images=others), "photo.jpg")
    assert not picture.is_first_of_several and picture.image.getpixel((0, 0))[0] < 5


def test_pages_of_other_modes(tmp_path):
    grey16 = Image.fromarray((np.arange(48 * 48, dtype=np.uint16) * 28).reshape(48, 48))
    assert np.array_equal(np.asarray(decode_image(encoded(grey16, "TIFF"), "x")), np.asarray(grey16) >> 8)
    assert decode_image(encoded(noise().convert("CMYK"), "TIFF"), "x").mode == "RGB"
    assert decode_image(encoded(noise().convert("1"), "TIFF", compression="group4"), "x").mode == "L"
    assert decode_image(encoded(noise().convert("RGBA"), "WEBP"), "x").mode == "RGB"


def test_a_preview_of_a_cameras_raw_file_is_no_photograph():
    """In DNG, NEF and other raw files, which are TIFF files, the first picture is a thumbnail."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    for tag, value in ((0x00FE, 1), (0xC612, b"\1\4\0\0")):
        tags = ImageFileDirectory_v2()
        tags[tag] = value
        with pytest.raises(InputError, match="raw file, in which only the preview comes first: save it as JPEG"):
            decode_image(encoded(noise(), "TIFF", tiffinfo=tags), "photo.dng")


def test_a_broken_tiff_is_one_line_and_libtiff_says_nothing(capfd, caplog):
    data = encoded(noise(), "TIFF", compression="tiff_lzw")
    for end in (b"", b"\xff" * 200):
        with pytest.raises(InputError, match=r"^photo\.tif: a broken picture"):
            decode_image(data[:200] + end + data[400:] if end else data[: len(data) // 2], "photo.tif")
    sound = encoded(noise(), "TIFF")
    samples = sound.index(b"\x15\x01\x03\0\1\0\0\0") + 8  # the tag SamplesPerPixel
    with pytest.raises(InputError, match=r"^photo\.tif: a broken picture"):
        decode_image(sound[:samples] + b"\0\x08" + sound[samples + 2 :], "photo.tif")
    assert (capfd.readouterr(), caplog.records) == (("", ""), [])


def test_a_motion_photo_is_opened_whatever_the_video_holds():
    """The bytes of the video after the JPEG look like many scans."""
    jpeg = encoded(noise(), "JPEG", progressive=True)
    video = b"MotionPhoto_Data\0\0\0\x18ftypmp42" + b"\xff\xda\0\x08" * 1000
    np.testing.assert_array_equal(decode_image(jpeg + video, "x"), decode_image(jpeg, "x"))


def test_scans_are_counted_to_the_end_of_the_picture():
    jpeg = encoded(noise(200, 200), "JPEG", progressive=True)
    num = pictures._num_scans(jpeg, 200)
    assert num == jpeg.count(b"\xff\xda") and 5 < num < 15
    assert pictures._num_scans(jpeg + jpeg, 200) == num
    exif = Image.Exif()
    exif[0x010E] = "\xff\xda" * 300  # a description that looks like scans
    with_exif = encoded(noise(), "JPEG", exif=exif)
    assert with_exif.count(b"\xff\xda") >= 1 and pictures._num_scans(with_exif, 200) == 1


def test_scans_behind_rubbish_are_counted_too():
    data = encoded(Image.new("L", (64, 64)), "JPEG", progressive=True)
    scan = data.index(b"\xff\xda")
    once = pictures._num_scans(data, 1000)
    for rubbish in (b"", b"\0\1\2", b"\xff\xff\xff", b"\xff\x01", b"\xff\xd0"):
        many = data[:scan] + (rubbish + data[scan:-2]) * 50 + data[-2:]
        assert pictures._num_scans(many, 1000) == 50 * once > 200
        with pytest.raises(InputError, match=r"more than 200 JPEG scans|no marker found"):
            decode_image(many, "scans.jpg")


# --- large photographs ---


def test_a_large_jpeg_is_decoded_at_the_part_that_is_needed():
    data = encoded(Image.effect_noise((1600, 1200), 50), "JPEG")
    for min_side, size in (
        (1600, (1600, 1200)),
        (801, (1600, 1200)),
        (800, (800, 600)),
        (200, (200, 150)),
        (1, (200, 150)),
    ):
        picture = decode_picture(data, "x", min_side=min_side)
        assert (picture.image.size, picture.size) == (size, (1600, 1200))
    assert decode_picture(data, "x").image.size == (1600, 1200)


def test_the_bound_on_pixels_asks_for_a_part_too(monkeypatch):
    monkeypatch.setattr(pictures, "MAX_IMAGE_PIXELS", 500_000)
    monkeypatch.setattr(pictures, "MAX_JPEG_PIXELS", 2_000_000)
    assert decode_picture(encoded(Image.new("L", (1600, 1200)), "JPEG"), "x").image.size == (800, 600)
    for format, size, message in (
        ("JPEG", (1700, 1200), r"^x: more than 2 million pixels; scale the picture down$"),
        ("PNG", (1600, 1200), r"^x: PNG of 1,600x1,200 pixels would take 8 MB, more than the 2 MB allowed; scale it"),
        ("TIFF", (1600, 1200), "^x: TIFF of"),
        ("WEBP", (1600, 1200), "^x: WEBP of"),
        ("GIF", (1600, 1200), "^x: GIF of"),
        ("BMP", (1600, 1200), "^x: BMP of"),
        ("AVIF", (1600, 1200), "^x: AVIF of"),
    ):
        with pytest.raises(InputError, match=message):
            decode_image(encoded(Image.new("L", size), format), "x")


def test_a_large_progressive_jpeg_is_refused_by_the_memory_that_it_would_take(monkeypatch):
    monkeypatch.setattr(pictures, "_MAX_COEFFICIENT_BYTES", 4 << 20)
    picture = noise(1000, 1000)
    assert decode_image(encoded(picture, "JPEG", progressive=True, subsampling="4:2:0"), "x").size == (1000, 1000)
    with pytest.raises(InputError, match=r"^x: progressive JPEG of 1,000x1,000 pixels would take 6 MB; scale it down"):
        decode_image(encoded(picture, "JPEG", progressive=True, subsampling="4:4:4"), "x")
    assert decode_image(encoded(picture, "JPEG", subsampling="4:4:4"), "x").size == (1000, 1000)


@pytest.mark.parametrize("orientation", [1, 6])
def test_boxes_are_in_pixels_of_the_whole_picture(tmp_path, monkeypatch, orientation):
    pytest.importorskip("cv2")
    large = photograph().resize((5120, 3840), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = large if orientation == 1 else large.transpose(Image.Transpose.ROTATE_90)
    stored.save(tmp_path / "large.jpg", exif=exif)
    recognizer = Recognizer(write_tiny(tmp_path / "tiny.tflite"), detect_side=640)
    full = recognizer.recognize(large)
    reduced = recognizer.recognize_file(tmp_path / "large.jpg", tmp_path / "copy.jpg")
    assert len(full) == len(reduced) == 2
    for face, expected, drawn in zip(reduced, full, FACE_BOXES, strict=True):
        assert overlap(face.box, expected.box) > 0.95
        assert overlap(face.box, [8 * side for side in drawn]) > 0.5
        np.testing.assert_allclose(face.landmarks, expected.landmarks, atol=12)  # 1.5 pixels of the detector's picture
    copy = Image.open(tmp_path / "copy.jpg")
    assert copy.size == (5120, 3840)  # decoded larger for the copy than for the detector
    left, top, width, height = reduced[0].box
    changed = np.asarray(copy, int) - np.asarray(large.resize(copy.size), int)
    assert np.abs(changed[top + 2, left + 20 : left + width - 20]).mean() > 40  # the box is where the face is
    assert np.abs(changed[top + height // 2, left + width // 2]).mean() < 40
    min_size = reduced[1].box[2] + 100
    assert len(Recognizer(tmp_path / "tiny.tflite", min_face_size=min_size).recognize(tmp_path / "large.jpg")) == 1


def test_more_is_decoded_where_a_face_has_fewer_pixels_than_its_crop(tmp_path, monkeypatch):
    pytest.importorskip("cv2")
    decoded = []
    load = pictures._prepare_jpeg

    def prepare(image, *arguments):
        load(image, *arguments)
        decoded.append(image.size)

    monkeypatch.setattr(pictures, "_prepare_jpeg", prepare)
    photograph().resize((2560, 1920), Image.Resampling.BICUBIC).save(tmp_path / "large.jpg")
    wall = Image.new("RGB", (2560, 1920), (150, 150, 150))
    wall.paste(photograph().resize((560, 420), Image.Resampling.LANCZOS), (800, 700))
    wall.save(tmp_path / "small.jpg", quality=95)
    for name, sizes in (("large", [(640, 480)]), ("small", [(640, 480), (1280, 960)])):
        decoded.clear()
        picture = read_picture(tmp_path / f"{name}.jpg", min_side=640)
        found = faces.find_faces(picture, detect_side=640)
        assert len(found) == 2 and decoded == sizes
        whole = faces.find_faces(open_image(tmp_path / f"{name}.jpg"), detect_side=640)
        for face, expected in zip(found, whole, strict=True):
            assert overlap(face.box, expected.box) > 0.9
            assert np.abs(face.crop.astype(int) - expected.crop).mean() < 12  # one pixel off at sharp drawn edges


def test_a_training_folder_crops_a_large_jpeg_as_predict_does(tmp_path, monkeypatch):
    pytest.importorskip("cv2")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    large = photograph(num_faces=1).resize((2560, 1920), Image.Resampling.BICUBIC)
    for split in ("train", "validation", "test"):
        for emotion in ("happy", "sad"):
            (tmp_path / "data" / split / emotion).mkdir(parents=True)
            large.save(tmp_path / "data" / split / emotion / "0.jpg")
    dataset = load_dataset(tmp_path / "data", faces="detect")
    assert dataset.originals == {"2560x1920 colour": 6}
    model = write_tiny(tmp_path / "tiny.tflite")
    (face,) = Recognizer(model).recognize(tmp_path / "data" / "train" / "sad" / "0.jpg")
    scores = open_model(model).predict(dataset.images[:1])[0]
    np.testing.assert_allclose(sorted(score for _, score in face.emotions), sorted(scores), atol=1e-6)


def test_a_box_at_another_scale():
    assert scaled((10, 20, 30, 40), (100, 100), (400, 400)) == (40, 80, 120, 160)
    assert scaled((40, 80, 120, 160), (400, 400), (100, 100)) == (10, 20, 30, 40)
    assert scaled((0, 0, 51, 33), (51, 33), (101, 65)) == (0, 0, 101, 65)  # inside the picture


_MEASURED = """
    import sys
    from pathlib import Path
    from fer_tf.recognition import Recognizer
    found = Recognizer(sys.argv[1]).recognize_file(Path(sys.argv[2]), Path(sys.argv[3]))
    # Not getrusage: it starts from the peak of the process that started this one.
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(len(found), found[0].box if found else None, int(peak.split()[1]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("size", [(16320, 12240), (16384, 12288)])
def test_a_photograph_of_200_megapixels_takes_at_most_1_gb(tmp_path, size):
    pytest.importorskip("cv2")
    photograph().resize(size, Image.Resampling.BICUBIC).save(tmp_path / "large.jpg", quality=85)
    write_tiny(tmp_path / "tiny.tflite")
    program = [sys.executable, "-c", textwrap.dedent(_MEASURED), "tiny.tflite", "large.jpg", "copy.jpg"]
    environment = {**os.environ, "PYTHONPATH": str(Path(faces.__file__).parents[2])}
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    number, box, megabytes = (
        done.stdout.split(maxsplit=1)[0],
        done.stdout.split("(")[1].split(")")[0],
        done.stdout.split()[-1],
    )
    assert number == "2" and int(megabytes) <= 1000
    drawn = [side * size[0] / 640 for side in FACE_BOXES[0]]
    assert overlap(tuple(map(int, box.split(","))), drawn) > 0.5


# --- annotated copies ---


def _with_place(path, format):
    """A photograph that names a place in EXIF, XMP, a comment and a text."""
    exif = Image.Exif()
    exif[0x010F] = "Maker SECRET"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 30.0), 3: "E", 4: (2.0, 17.0, 40.0), 29: "SECRET"})
    options = {"exif": exif}
    if format in ("JPEG", "WEBP", "AVIF"):
        options["xmp"] = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>SECRET</x:xmpmeta>"
    if format == "JPEG":
        options |= {"comment": b"SECRET"}
    if format == "PNG":
        from PIL.PngImagePlugin import PngInfo

        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_text("Comment", "SECRET")
    if format != "TIFF":
        options["icc_profile"] = b"SECRET" + bytes(200)
    photograph().save(path, format, **options)
    assert b"SECRET" in path.read_bytes()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_annotated_copies_carry_no_place(tmp_path, format, suffix):
    pytest.importorskip("cv2")
    _with_place(tmp_path / "photo", format)
    copy = tmp_path / f"copy{suffix}"
    assert len(Recognizer(write_tiny(tmp_path / "tiny.tflite")).recognize_file(tmp_path / "photo", copy)) == 2
    data = copy.read_bytes()
    assert not any(word in data for word in (b"SECRET", b"Exif", b"eXIf", b"xmpmeta", b"ICC", b"iCCP"))
    with Image.open(copy) as image:
        assert not image.getexif() and not set(image.info) & {"exif", "xmp", "icc_profile"}
        texts = {image.info.get(key) for key in ("comment", "Comment")} - {None}
        assert {text if isinstance(text, str) else text.decode() for text in texts} == {"fer_tf: annotated copy"}


def test_files_with_several_frames_are_said_once(tmp_path, caplog):
    first, *others = (photograph(num_faces=number) for number in (2, 1))
    names = [f"{number}.webp" for number in range(7)]
    for name in names:
        first.resize((64, 48)).save(tmp_path / name, save_all=True, append_images=[others[0].resize((64, 48))])
    recognizer = Recognizer(write_tiny(tmp_path / "tiny.tflite"))
    paths = [tmp_path / name for name in names]
    said = f"{', '.join(map(str, paths[:5]))} and 2 more: several frames or pages; only the first is used"
    for recognize in (
        recognizer.recognize_files,
        functools.partial(recognizer.recognize_files, num_threads=4),
        recognizer.recognize,
    ):
        assert [len(found) for found in recognize(paths)] == [1] * 7
        assert [record.getMessage() for record in caplog.records if "several" in record.getMessage()] == [said]
        caplog.clear()
    recognizer.recognize(paths[0])
    assert caplog.text.count("0.webp: several frames or pages; only the first is used") == 1
    assert read_picture(paths[0]).is_first_of_several
