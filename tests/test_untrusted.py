"""Damaged and invented input for the readers of other people's files: a valid result or one InputError."""

import io
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fer_tf.artifacts import read_json
from fer_tf.config import config_from_dict
from fer_tf.data.dataset import Dataset
from fer_tf.data.loading import load_dataset
from fer_tf.data.reading.npz import save_npz
from fer_tf.errors import InputError
from fer_tf.faces.crops import to_grey48
from fer_tf.faces.pictures import decode_image
from fer_tf.inference.opening import open_model
from fer_tf.recipes import RECIPES
from tests.tiny_models import write_tiny

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
WRITTEN = ("JPEG", "MPO", "PNG", "BMP", "WEBP", "GIF", "TIFF", "AVIF")
CHANGES = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=8)


def _changed(data: bytes, changes: list[tuple[int, int]], cut: int | None = None) -> bytes:
    changed = bytearray(data)
    for at, value in changes:
        changed[at % len(changed)] = value
    return bytes(changed if cut is None else changed[: cut % len(changed)])


@pytest.fixture(scope="module")
def pictures() -> dict[str, bytes]:
    found = {}
    for kind in WRITTEN:
        buffer = io.BytesIO()
        Image.effect_noise((40, 30), 60).convert("RGB").save(buffer, kind)
        found[kind] = buffer.getvalue()
    return found


@QUICK
@given(kind=st.sampled_from(WRITTEN), changes=CHANGES, cut=st.none() | st.integers(0, 1 << 20))
def test_damaged_picture_is_a_crop_or_one_error(pictures, kind, changes, cut):
    try:
        crop = to_grey48(decode_image(_changed(pictures[kind], changes, cut), "face"))
    except InputError as error:
        assert "face" in str(error) and "\n" not in str(error)
    else:
        assert crop.shape == (48, 48) and crop.dtype == np.uint8


@QUICK
@given(st.dictionaries(st.sampled_from(sorted(RECIPES["report"].to_dict())) | st.text(max_size=8), JSON, max_size=5))
def test_settings_are_a_config_or_one_error(values):
    try:
        config = config_from_dict(values)
    except InputError as error:
        assert len(str(error)) < 2000
    else:
        assert config_from_dict(json.loads(json.dumps(config.to_dict()))) == config


@QUICK
@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_settings_file_is_an_object_or_one_error(tmp_path, data):
    path = tmp_path / "config.json"
    path.write_bytes(data)
    try:
        assert isinstance(read_json(path), dict)
    except InputError as error:
        assert "config.json" in str(error)


@QUICK
@given(changes=CHANGES, cut=st.none() | st.integers(0, 1 << 20))
def test_damaged_npz_is_a_dataset_or_one_error(small_npz, tmp_path, changes, cut):
    path = tmp_path / "faces.npz"
    path.write_bytes(_changed(small_npz, changes, cut))
    try:
        dataset = load_dataset(path, training=False)
    except InputError as error:
        assert "faces.npz" in str(error)
    else:
        assert dataset.images.dtype == np.uint8 and dataset.images.shape[1:] == (48, 48)


@pytest.fixture(scope="module")
def small_npz(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("npz") / "small.npz"
    images = np.random.default_rng(0).integers(0, 256, (4, 48, 48), dtype=np.uint8)
    labels, split = np.array([0, 1, 0, 1]), np.array(["train", "train", "test", "test"])
    save_npz(Dataset(labels, split, ("a", "b"), images=images, source="x", sha256="0" * 64), path)
    return path.read_bytes()


@settings(QUICK, max_examples=60)
@given(changes=CHANGES, cut=st.none() | st.integers(0, 1 << 20))
def test_damaged_tflite_is_refused_or_answers_the_same(tiny_tflite, tmp_path, changes, cut):
    """A SHA-256 covers the network and a checksum the metadata; only dates in the archive's headers may change."""
    good, answers = tiny_tflite
    path = tmp_path / "model.tflite"
    path.write_bytes(_changed(good, changes, cut))
    try:
        predictor = open_model(path)
    except InputError as error:
        assert "model.tflite" in str(error)
    else:
        np.testing.assert_array_equal(predictor.predict(FACES), answers)


FACES = np.random.default_rng(1).integers(0, 256, (2, 48, 48), dtype=np.uint8)


@pytest.fixture(scope="module")
def tiny_tflite(tmp_path_factory) -> tuple[bytes, np.ndarray]:
    path = write_tiny(tmp_path_factory.mktemp("tflite") / "model.tflite")
    return path.read_bytes(), open_model(path).predict(FACES)


def test_npz_text_beyond_unicode_is_refused(tmp_path):
    """Found by fuzzing: NumPy keeps such a character, but Python's str raises SystemError for it."""
    path = tmp_path / "faces.npz"
    split = np.array(["train", "test"])
    split.view(np.uint32)[0] = 0x110000
    images = np.zeros((2, 48, 48), np.uint8)
    np.savez(path, images=images, labels=np.array([0, 1]), split=split, class_names=np.array(["a", "b"]))
    with pytest.raises(InputError, match=r"faces\.npz: split is not a sound array \(text with characters that do not"):
        load_dataset(path, training=False)
