import numpy as np
import pytest

from fer_tf.artifacts import RunDirectory, write_json
from fer_tf.config import Config
from fer_tf.data import synthetic
from fer_tf.data.dataset import Dataset
from fer_tf.data.loading import load_dataset, save_npz
from fer_tf.data.recorded import describe_data, run_data
from fer_tf.data.splits import with_cut
from fer_tf.errors import InputError
from fer_tf.task import EMOTIONS, canonical_emotion

pytestmark = pytest.mark.light


def _dataset() -> Dataset:
    images = np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((48, 48), np.uint8)
    pixels = np.array([" ".join(map(str, image.ravel())) for image in images], object)
    split = np.array(["train", "train", "validation", "train"])
    return Dataset(np.array([0, 2, 1, 2]), split, ("a", "b", "c"), pixels=pixels, source="x.csv")


def test_decoded_holds_the_pixels():
    decoded = _dataset().decoded()
    assert decoded.images.dtype == np.uint8
    assert decoded.images.shape == (4, 48, 48)
    assert decoded.images[:, 5, 7].tolist() == [0, 1, 2, 3]


def test_take_keeps_order_and_counts():
    train = _dataset().decoded().take("train")
    assert train.images[:, 0, 0].tolist() == [0, 1, 3]
    assert _dataset().counts("train").tolist() == [1, 0, 2]


def test_absent_split_is_an_error_that_names_the_present_ones():
    with pytest.raises(InputError, match=r"x.csv has no test split: it has train, validation"):
        _dataset().take("test")


def test_select_renumbers_in_the_order_given():
    chosen = _dataset().decoded().select(["c", "a"])
    assert chosen.class_names == ("c", "a")
    assert chosen.labels.tolist() == [1, 0, 0]
    assert chosen.images[:, 0, 0].tolist() == [0, 1, 3]


@pytest.mark.parametrize(("names", "message"), [(["a", "x"], "unknown class 'x'"), (["a", "a"], "is named twice")])
def test_select_refuses(names, message):
    with pytest.raises(InputError, match=message):
        _dataset().select(names)


def test_emotions_are_in_the_published_order():
    assert EMOTIONS == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


@pytest.mark.parametrize(
    ("name", "emotion"),
    [("Anger", "angry"), (" HAPPINESS ", "happy"), ("fearful", "fear"), ("disgusted", "disgust"), ("bored", None)],
)
def test_synonyms(name, emotion):
    assert canonical_emotion(name) == emotion


# --- loading, and loading again ---


@pytest.fixture
def few_faces(monkeypatch):
    """A smaller set of synthetic faces."""
    faces = synthetic.make_synthetic(70, 14, 14)
    monkeypatch.setattr(synthetic, "make_synthetic", lambda: faces)
    return faces


def _npz(folder, num_train=40):
    """A file with two classes, which has neither a validation nor a test split."""
    images = np.random.default_rng(0).integers(0, 256, (num_train, 48, 48), dtype=np.uint8)
    labels, split = np.arange(num_train) % 2, np.array(["train"] * num_train)
    save_npz(Dataset(labels, split, ("a", "b"), images=images), folder / "faces.npz")
    return folder / "faces.npz"


def test_without_a_path_the_faces_are_synthetic(few_faces):
    dataset = load_dataset()
    assert dataset.synthetic and dataset.class_names == EMOTIONS
    assert dataset.pixels.tolist() == few_faces.pixels.tolist()
    assert load_dataset(classes=["sad", "Happiness"]).class_names == ("sad", "happy")


def test_limit_keeps_every_class_and_about_its_share(tmp_path, few_faces):
    assert load_dataset(limit=7).counts("train").tolist() == [1, 1, 1, 2, 1, 1, 1]
    path = _npz(tmp_path)
    assert load_dataset(path, limit=10).counts("train").tolist() == [5, 5]
    assert len(load_dataset(path, limit=1000)) == 40
    with pytest.raises(InputError, match=r"^limit -1: expected a number of images, or 0 for all$"):
        load_dataset(limit=-1)


def _run(folder, dataset, **changes):
    run = RunDirectory.create(folder / "run")
    description = {**describe_data(dataset), **changes}
    write_json(run.data, {name: value for name, value in description.items() if value != "left out"})
    return run


@pytest.mark.parametrize("form", ["file", "synthetic"])
def test_a_run_finds_its_rows_again(tmp_path, few_faces, form):
    path = _npz(tmp_path) if form == "file" else None
    dataset = load_dataset(path, limit=12, seed=3, validation_fraction=0.3)
    again = run_data(_run(tmp_path, dataset), Config(seed=4))
    assert again.origin == dataset.origin and again.split.tolist() == dataset.split.tolist()
    np.testing.assert_array_equal(again.decoded().images, dataset.decoded().images)


def test_a_run_of_version_0_1_finds_its_rows_by_its_settings(tmp_path):
    dataset = load_dataset(_npz(tmp_path), limit=12, seed=3, validation_fraction=0.3)
    new = dict.fromkeys(("schema_version", "crop", "seed", "validation_fraction"), "left out")
    run = _run(tmp_path, dataset, **new)
    assert run_data(run, Config(seed=3, validation_fraction=0.3)).split.tolist() == dataset.split.tolist()


@pytest.mark.parametrize("copies", [1, 2])
def test_rows_are_cut_as_version_0_1_cut_them(copies):
    """Values from version 0.1: seed 3, a quarter of the eight rows of each of two classes."""
    images = np.repeat(np.arange(16 // copies, dtype=np.uint8), copies)[:, None, None] * np.ones((48, 48), np.uint8)
    dataset = Dataset(np.arange(16) // 8, np.array(["train"] * 16), ("a", "b"), images=images)
    by_rows = with_cut(dataset, "x", 3, 0.25, by_rows=True)
    random = np.random.default_rng(3)
    expected = [*random.permutation(8)[:2], *(8 + random.permutation(8)[:2])]
    assert np.flatnonzero(by_rows.split == "validation").tolist() == sorted(expected)
    by_groups = with_cut(dataset, "x", 3, 0.25)
    assert (by_groups.split.tolist() == by_rows.split.tolist()) == (copies == 1)
    assert by_groups.counts("validation").tolist() == [2, 2]


def test_data_json_has_its_version_and_room_for_the_crop_policy(few_faces):
    description = describe_data(load_dataset())
    assert (description["schema_version"], description["crop"]) == (2, None)


def test_rows_chosen_in_memory_cannot_be_found_again(tmp_path, few_faces):
    run = _run(tmp_path, load_dataset().rows(np.arange(80)))
    with pytest.raises(InputError, match="run was made in memory: give it as `dataset`, or as a file with --data"):
        run_data(run, Config())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 3}, "data.json has schema_version 3: this fer_tf reads versions 1 to 2"),
        ({"sha256": "0"}, "is not \\(or no longer\\) the data that"),
        ({"limit": 8}, "is not \\(or no longer\\) the data that"),
        ({"class_names": ["a", "c"]}, "has the classes a, b, the run a, c"),
    ],
)
def test_other_data_is_refused(tmp_path, changes, message):
    run = _run(tmp_path, load_dataset(_npz(tmp_path)), **changes)
    with pytest.raises(InputError, match=message):
        run_data(run, Config())
