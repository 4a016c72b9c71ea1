"""From a picture to a 48x48 grey crop: grey formula, filter, orientation, modes, and refused input."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fer_tf.errors import InputError
from fer_tf.faces import pictures
from fer_tf.faces.crops import to_grey48
from fer_tf.faces.pictures import decode_image, open_image

pytestmark = pytest.mark.light


def random_grey(height=48, width=48, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def encoded(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def test_grey_48_pixels_pass_unchanged():
    grey = random_grey()
    for image in (grey, grey[:, :, None], np.repeat(grey[:, :, None], 3, axis=2), Image.fromarray(grey)):
        np.testing.assert_array_equal(to_grey48(image), grey)


def test_grey_is_bt601_luma():
    rgb = np.random.default_rng(1).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    np.testing.assert_allclose(to_grey48(rgb), rgb @ np.array([0.299, 0.587, 0.114]), atol=0.51)


def test_reduction_is_antialiased():
    stripes = np.zeros((480, 480), np.uint8)
    stripes[:, ::2] = 255
    grey = to_grey48(stripes)
    assert grey.dtype == np.uint8 and grey.shape == (48, 48)
    assert grey.min() > 120 and grey.max() < 135  # nearest neighbour gives 0 or 255


@pytest.mark.parametrize("shape", [(48, 96), (96, 48), (60, 180)])
def test_centre_square_of_an_oblong_picture(shape):
    image = np.zeros(shape, np.uint8)
    side = min(shape)
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    image[top : top + side, left : left + side] = 200
    assert (to_grey48(image) == 200).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (3, 2)])
def test_tiny_pictures_become_48_pixels(shape):
    np.testing.assert_array_equal(to_grey48(np.full(shape, 7, np.uint8)), np.full((48, 48), 7))


@pytest.mark.parametrize(
    "array",
    [np.zeros((48, 48)), np.zeros((48, 48, 4), np.uint8), np.zeros((48,), np.uint8), np.zeros((0, 48), np.uint8)],
    ids=["float", "RGBA", "flat", "empty"],
)
def test_other_arrays_are_refused(array):
    with pytest.raises(InputError, match="expected"):
        to_grey48(array)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = Image.fromarray(random_grey(40, 60))
    stored_as = {  # how a camera in this position stores the upright picture: the inverse of reading it
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(stored_as[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    opened = decode_image(encoded(stored, exif=exif), "photo.png")
    np.testing.assert_array_equal(np.asarray(opened), np.asarray(upright))


def test_damaged_exif_does_not_hide_the_picture():
    grey = random_grey()
    opened = decode_image(encoded(Image.fromarray(grey), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), "photo.png")
    np.testing.assert_array_equal(np.asarray(opened), grey)


def test_16_bit_grey_keeps_the_high_byte():
    values = (np.arange(48 * 48, dtype=np.uint16) * 28).reshape(48, 48)
    opened = decode_image(encoded(Image.fromarray(values)), "deep.png")
    assert opened.mode == "L"
    np.testing.assert_array_equal(np.asarray(opened), values >> 8)


def test_transparent_parts_lie_over_white():
    rgba = np.zeros((48, 48, 4), np.uint8)
    rgba[:, :24, 3] = 255  # left half opaque black, right half invisible black
    grey = to_grey48(decode_image(encoded(Image.fromarray(rgba)), "cut-out.png"))
    assert (grey[:, :24] == 0).all() and (grey[:, 24:] == 255).all()


@pytest.mark.parametrize(("mode", "format"), [("1", "PNG"), ("P", "PNG"), ("LA", "PNG"), ("CMYK", "JPEG")])
def test_other_modes_become_grey_or_rgb(mode, format):
    picture = Image.fromarray(np.full((60, 60, 3), 255, np.uint8)).convert(mode)
    opened = decode_image(encoded(picture, format), "picture")
    assert opened.mode in ("L", "RGB")
    np.testing.assert_array_equal(to_grey48(opened), np.full((48, 48), 255))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "AVIF", "MPO"])
def test_contents_decide_the_format(tmp_path, format):
    path = tmp_path / "face.dat"
    path.write_bytes(encoded(Image.new("L", (64, 64), 128), format))
    np.testing.assert_allclose(to_grey48(open_image(path)), 128, atol=2)


@pytest.mark.parametrize("format", ["PPM", "ICO", "PCX", "TGA", "JPEG2000", "PDF", "EPS"])
def test_other_formats_are_refused(tmp_path, format):
    """Pillow's decoders of old formats are not given untrusted bytes."""
    path = tmp_path / "face.png"
    path.write_bytes(encoded(Image.new("RGB", (64, 64)), format))
    with pytest.raises(InputError, match=r"face\.png: not a JPEG, PNG, BMP, WEBP, GIF, TIFF, AVIF or HEIC picture"):
        open_image(path)


def test_missing_and_empty_files(tmp_path):
    with pytest.raises(InputError, match=r"no image file at .*gone\.jpg"):
        open_image(tmp_path / "gone.jpg")
    with pytest.raises(InputError, match="no image file"):
        open_image(tmp_path)
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(InputError, match=r"empty\.jpg: not a"):
        open_image(tmp_path / "empty.jpg")


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_truncated_picture_is_broken(format):
    data = encoded(Image.fromarray(random_grey(200, 200)), format)
    with pytest.raises(InputError, match=r"^half: a broken picture \(.*\); replace or remove it$"):
        decode_image(data[: len(data) // 2], "half")


@pytest.mark.parametrize("side", [8_000, 12_000, 60_000])
def test_pixel_bound_holds_before_anything_is_decoded(side, monkeypatch):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(InputError, match=r"bomb\.png: PNG of .* pixels would take .* MB|more than 50 million"):
        decode_image(data, "bomb.png")


def test_file_size_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_IMAGE_BYTES", 1 << 20)
    path = tmp_path / "big.png"
    path.write_bytes(encoded(Image.new("L", (8, 8))) + b"\0" * (1 << 20))
    with pytest.raises(InputError, match="larger than 1 MiB"):
        open_image(path)


def test_jpeg_of_endless_scans_is_refused():
    data = encoded(Image.new("L", (64, 64)), "JPEG", progressive=True)
    scan = data.index(b"\xff\xda")
    with pytest.raises(InputError, match="more than 200 JPEG scans"):
        decode_image(data[:scan] + data[scan:-2] * 300 + data[-2:], "scans.jpg")


def test_flipped_bytes_give_a_picture_or_an_input_error():
    random = np.random.default_rng(0)
    for format in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF"):
        sound = np.frombuffer(encoded(Image.fromarray(random_grey(50, 40)).convert("RGB"), format), np.uint8)
        for _ in range(60):
            data = sound.copy()
            data[random.integers(0, len(data), 4)] = random.integers(0, 256, 4)
            try:
                assert to_grey48(decode_image(data.tobytes(), "flipped")).shape == (48, 48)
            except InputError as error:
                assert re.match(r"flipped: [^\n]+$", str(error))
