"""Opening pictures in several processes gives the same results as in one, and reports a lost process."""

import dataclasses
import io
import os

import numpy as np
import pytest
from PIL import Image

from fer_tf.data.loading import load_dataset
from fer_tf.data.reading import opening
from fer_tf.errors import InputError
from fer_tf.faces.policy import CropPolicy

NUM_FILES = 300
WHOLE = CropPolicy("whole", "a test")


@dataclasses.dataclass(frozen=True)
class DeadlyPolicy(CropPolicy):
    def crop(self, picture):
        os._exit(9)


def _files():
    rng = np.random.default_rng(3)
    for row in range(NUM_FILES):
        written = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (20 + row % 60, 40), np.uint8)).save(written, "PNG")
        data = written.getvalue()
        yield row, f"{row}.png", data[: len(data) // 2] if row % 50 == 7 else data


@pytest.fixture
def in_processes(monkeypatch):
    monkeypatch.setattr(opening, "_NUM_TRIED", 10)
    monkeypatch.setattr(opening, "_WORTH_SECONDS", -1.0)
    monkeypatch.setattr(opening, "_num_processes", lambda: 2)


def test_processes_give_what_one_process_gives(in_processes, monkeypatch):
    several = list(opening.open_pictures(_files(), NUM_FILES, WHOLE))
    monkeypatch.setattr(opening, "_in_processes", None)  # used above, but must not be used below
    monkeypatch.setattr(opening, "_num_processes", lambda: 1)
    alone = list(opening.open_pictures(_files(), NUM_FILES, WHOLE))
    assert [row for row, _ in several] == [row for row, _ in alone] == list(range(NUM_FILES))
    for (_, one), (_, other) in zip(several, alone, strict=True):
        assert dataclasses.replace(one, crop=None) == dataclasses.replace(other, crop=None)
        assert bool(one.broken) == (one.crop is None) == (other.crop is None)
        if one.crop is not None:
            np.testing.assert_array_equal(one.crop, other.crop)
    assert sum(bool(opened.broken) for _, opened in several) == NUM_FILES / 50


def test_few_quick_files_start_no_process(monkeypatch):
    monkeypatch.setattr(opening, "_in_processes", None)
    assert len(list(opening.open_pictures(_files(), NUM_FILES, WHOLE))) == NUM_FILES


def test_a_folder_read_by_processes_is_the_same_data_set(in_processes, monkeypatch, tmp_path):
    for row, name, data in _files():
        folder = tmp_path / ("train" if row % 3 else "test") / ("happy" if row % 2 else "sad")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    several = load_dataset(tmp_path, skip_broken=True)
    monkeypatch.setattr(opening, "_num_processes", lambda: 1)
    alone = load_dataset(tmp_path, skip_broken=True)
    assert several.sha256 == alone.sha256
    assert several.left_out == alone.left_out
    np.testing.assert_array_equal(several.images, alone.images)
    np.testing.assert_array_equal(several.files, alone.files)


def test_a_process_that_is_ended_gives_one_line(in_processes, monkeypatch):
    monkeypatch.setattr(opening, "_NUM_TRIED", 0)
    with pytest.raises(InputError, match=r"ended by the system.*LOKY_MAX_CPU_COUNT"):
        list(opening.open_pictures(_files(), NUM_FILES, DeadlyPolicy("whole", "a test")))
