"""Parquet as the Hugging Face Hub publishes sets of pictures, and objects of the package `datasets`."""

import io
import json
import logging
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fer_tf.commands import prepare
from fer_tf.data.loading import load_dataset
from fer_tf.errors import InputError
from fer_tf.task import EMOTIONS, SPLITS

pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png(seed, size=(48, 48)):
    noise = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def hub_table(labels, names=EMOTIONS, seed=0, pictures=None, paths=None, **columns):
    """A table like those of `push_to_hub`: a struct of bytes and path, and a ClassLabel."""
    pictures = [png([seed, row]) for row in range(len(labels))] if pictures is None else pictures
    paths = [f"{row}.png" for row in range(len(labels))] if paths is None else paths
    image = [{"bytes": data, "path": path} for data, path in zip(pictures, paths, strict=True)]
    table = pa.table({"image": pa.array(image, PICTURE), "label": pa.array(labels), **columns})
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    if names is None:
        del features["label"]
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write(path, table, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def counts(dataset):
    return {split: int(dataset.counts(split).sum()) for split in SPLITS}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, logger="fer_tf")
    return caplog


def test_a_set_of_the_hub(tmp_path):
    labels = {"train": [3, 4, 0, 3], "test": [4, 3], "validation": [0, 3, 4]}
    for place, (split, own) in enumerate(labels.items()):
        write(tmp_path / f"d/data/{split}-00000-of-00001.parquet", hub_table(own, seed=place))
    (tmp_path / "d/README.md").write_text("---\n")
    dataset = load_dataset(tmp_path / "d")
    assert dataset.class_names == ("angry", "happy", "sad")
    assert counts(dataset) == {"train": 4, "validation": 3, "test": 2}
    assert dataset.files[:2].tolist() == [f"data/train-00000-of-00001.parquet:{row}" for row in (0, 1)]
    assert [dataset.class_names[label] for label in dataset.take("test").labels] == ["sad", "happy"]
    expected = np.asarray(Image.open(io.BytesIO(png([1, 0]))))
    np.testing.assert_array_equal(dataset.take("test").images[0], expected)


def test_the_same_rows_in_a_folder_give_the_same_crops(tmp_path):
    labels = [row % 2 for row in range(12)]
    pictures = [png(row, (60, 50)) for row in range(12)]
    table = hub_table(labels, ["happy", "sad"], pictures=pictures)
    parquet = load_dataset(write(tmp_path / "train.parquet", table), training=False)
    for row, (label, data) in enumerate(zip(labels, pictures, strict=True)):
        path = tmp_path / "d/train" / ("happy", "sad")[label] / f"{row:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    folder = load_dataset(tmp_path / "d", training=False)
    order = np.argsort(parquet.labels, kind="stable")
    np.testing.assert_array_equal(parquet.images[order], folder.images)
    assert parquet.originals == folder.originals == {"50x60 grey": 12} and parquet.crop == folder.crop


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train.parquet", "test.parquet"),
        ("default/train/0000.parquet", "default/test/0000.parquet"),
        ("data/Training-00000-of-00001-0a1b2c3d.parquet", "data/testing-00000-of-00001-0a1b2c3d.parquet"),
        ("fer_train_48.parquet", "fer_test_48.parquet"),
        ("train/part_0.parquet", "PrivateTest/part_0.parquet"),
    ],
)
def test_splits_by_the_names_of_files_and_folders(tmp_path, train, test):
    write(tmp_path / "d" / train, hub_table([0, 1] * 5))
    write(tmp_path / "d" / test, hub_table([0, 1], seed=1))
    assert counts(load_dataset(tmp_path / "d", training=False)) == {"train": 10, "validation": 0, "test": 2}


def test_the_name_of_one_file_tells_its_split(tmp_path):
    path = write(tmp_path / "test-00000-of-00001.parquet", hub_table([0, 1]))
    assert counts(load_dataset(path, training=False))["test"] == 2


def test_a_file_without_splits_is_cut(tmp_path, log):
    dataset = load_dataset(write(tmp_path / "faces.parquet", hub_table([0, 1, 2] * 20)))
    assert counts(dataset) == {"train": 48, "validation": 6, "test": 6} and "names no splits" in log.text


def test_a_column_of_splits_comes_before_the_name_of_the_file(tmp_path):
    usage = pa.array(["Training", "PublicTest", "PrivateTest", "Training"])
    path = write(tmp_path / "train-00000-of-00001.parquet", hub_table([0, 1, 0, 1], Usage=usage))
    assert load_dataset(path, training=False).split.tolist() == ["train", "validation", "test", "train"]


def test_a_column_that_names_no_splits_is_said_and_not_used(tmp_path, log):
    path = write(tmp_path / "test.parquet", hub_table([0, 1], dataset=pa.array(["ck+", "jaffe"])))
    assert load_dataset(path, training=False).split.tolist() == ["test", "test"]
    assert "column 'dataset' names no splits ('ck+', 'jaffe')" in log.text


# --- Columns ---


@pytest.mark.parametrize(
    "labels",
    [
        pa.array(["Happiness", "sadness", "HAPPY"]),
        pa.array(["Happiness", "sadness", "HAPPY"]).dictionary_encode(),
        pa.array(["Happiness", "sadness", "HAPPY"], pa.large_string()),
        pa.array(["Happiness", "sadness", "HAPPY"], pa.string_view()),
    ],
)
def test_labels_are_strings(tmp_path, labels):
    pictures = pa.array([png(row) for row in range(3)])
    path = write(tmp_path / "a.parquet", pa.table({"emotion": labels, "img_bytes": pictures}))
    dataset = load_dataset(path, training=False)
    assert [dataset.class_names[label] for label in dataset.labels] == ["happy", "sad", "happy"]


def test_numbers_without_names_are_not_guessed(tmp_path):
    table = pa.table({"image": pa.array([png(0), png(1)], pa.large_binary()), "label": pa.array([1, 2], pa.int8())})
    path = write(tmp_path / "a.parquet", table)
    with pytest.raises(InputError, match=r"only numbers \(1, 2\) are not guessed: .*--class-names rafdb"):
        load_dataset(path, training=False)
    assert load_dataset(path, training=False, class_names=["rafdb"]).class_names == ("fear", "surprise")


def test_names_in_another_spelling_and_order(tmp_path):
    names = ["Contempt", "joy", "Sadness"]
    dataset = load_dataset(write(tmp_path / "a.parquet", hub_table([0, 1, 2], names)), training=False)
    assert dataset.class_names == ("happy", "sad", "contempt") and dataset.labels.tolist() == [2, 0, 1]


def test_rows_without_a_label_are_left_out_and_counted(tmp_path, log):
    dataset = load_dataset(write(tmp_path / "a.parquet", hub_table([0, -1, 1, 0])), training=False)
    assert dataset.left_out == {"without a label (-1)": 1} and len(dataset) == 3
    assert log.records[0].levelname == "WARNING" or any(r.levelname == "WARNING" for r in log.records)
    with pytest.raises(InputError, match="no rows with a label; 2 have -1"):
        load_dataset(write(tmp_path / "b.parquet", hub_table([-1, -1])), training=False)


def test_people_by_a_column_or_by_the_paths(tmp_path):
    table = hub_table([0, 1] * 6, subject=pa.array([f"p{row % 4}" for row in range(12)]))
    dataset = load_dataset(write(tmp_path / "a.parquet", table))
    assert len(set(dataset.subjects)) == 4
    for person in set(dataset.subjects):
        assert len(set(dataset.split[dataset.subjects == person])) == 1
    paths = [f"S00{row % 4}_001_{row:08d}.png" for row in range(12)]
    path = write(tmp_path / "b.parquet", hub_table([0, 1] * 6, paths=paths))
    assert set(load_dataset(path).subjects) == {"S000", "S001", "S002", "S003"}
    assert set(load_dataset(path, subjects=r"S00(\d)").subjects) == set("0123")
    with pytest.raises(InputError, match="--subjects 'zz' names no column and matches no path"):
        load_dataset(path, subjects="zz")


def test_copies_stay_together(tmp_path):
    pictures = [png(row // 3) for row in range(30)]
    dataset = load_dataset(
        write(tmp_path / "a.parquet", hub_table([row // 3 % 2 for row in range(30)], pictures=pictures))
    )
    split_of = {}
    for image, split in zip(dataset.images, dataset.split, strict=True):
        assert split_of.setdefault(image.tobytes(), split) == split
    assert set(split_of.values()) == set(SPLITS)


def test_photographs_are_told_from_crops_as_in_folders(tmp_path):
    path = write(tmp_path / "a.parquet", hub_table([0, 1] * 3, pictures=[png(row, (90, 90)) for row in range(6)]))
    assert load_dataset(path, faces="whole", training=False).crop["faces"] == "whole"
    with pytest.raises(InputError, match="no face is found in 6 of 6 pictures"):
        load_dataset(path, faces="detect", training=False)


# --- Broken rows ---


def test_broken_rows_in_one_message_and_skipped_on_request(tmp_path):
    pictures = [png(row) for row in range(12)]
    pictures[3], pictures[7] = b"no picture", None
    table = hub_table([0, 1] * 4 + [9, 1, 0, 1], pictures=pictures)
    path = write(tmp_path / "a.parquet", table, row_group_size=5)
    with pytest.raises(InputError) as error:
        load_dataset(path, training=False)
    for text in ("3 of 12 rows cannot be read", "a.parquet:3", "a.parquet:7", "a.parquet:8", "9", "--skip-broken"):
        assert text in str(error.value)
    dataset = load_dataset(path, training=False, skip_broken=True)
    assert len(dataset) == 9 and sum(dataset.left_out.values()) == 3
    assert dataset.files.tolist() == [f"a.parquet:{row}" for row in (0, 1, 2, 4, 5, 6, 9, 10, 11)]


def test_null_structs_are_broken_rows(tmp_path):
    image = pa.array([{"bytes": png(0), "path": "a"}, None, {"bytes": png(1), "path": "b"}], PICTURE)
    path = write(tmp_path / "a.parquet", pa.table({"image": image, "label": ["happy", "sad", "sad"]}))
    with pytest.raises(InputError, match=r"a\.parquet:1: holds no picture"):
        load_dataset(path, training=False)


def test_a_path_in_a_file_is_never_opened(tmp_path):
    (tmp_path / "0.png").write_bytes(png(0))
    table = hub_table([0, 1], pictures=[None, png(1)], paths=[str(tmp_path / "0.png"), "1.png"])
    with pytest.raises(InputError, match=r"only the path .* write the pictures into the file"):
        load_dataset(write(tmp_path / "a.parquet", table), training=False)


def test_a_damaged_group_loses_its_rows_only(tmp_path):
    path = write(tmp_path / "a.parquet", hub_table([0, 1] * 6), row_group_size=4, use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    start, length = column.data_page_offset, column.total_compressed_size
    data[start + length // 2 : start + length] = bytes(length - length // 2)
    path.write_bytes(data)
    dataset = load_dataset(path, training=False, skip_broken=True)
    rows = {int(file.rpartition(":")[2]) for file in dataset.files}
    assert rows >= {0, 1, 2, 3, 8, 9, 10, 11} and len(rows) < 12


# --- Folders that are not as expected ---


def test_files_that_are_not_read_are_named(tmp_path, log):
    write(tmp_path / "d/train.parquet", hub_table([0, 1]))
    write(tmp_path / "d/extra.parquet", hub_table([0, 1]))
    assert len(load_dataset(tmp_path / "d", training=False)) == 2
    assert "1 Parquet file left out, as their names give no split: 'extra.parquet'" in log.text


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("a/train.parquet", "b/train.parquet"), r"Parquet files of 2 sets, in a and b"),
        (("train.parquet", "training.parquet"), r"train and training are both the train split"),
        (("train.parquet", "train/happy/1.png"), r"1 Parquet file with pictures and 1 picture in folders"),
    ],
)
def test_mixed_folders(tmp_path, files, message):
    for file in files:
        write(tmp_path / "d" / file, hub_table([0, 1]))
        if file.endswith(".png"):
            (tmp_path / "d" / file).write_bytes(png(0))
    with pytest.raises(InputError, match=message):
        load_dataset(tmp_path / "d", training=False)


def test_a_table_without_pictures_beside_a_folder_of_pictures_is_no_obstacle(tmp_path):
    for row in range(4):
        path = tmp_path / "d/train" / ("happy", "sad")[row % 2] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(row))
    write(tmp_path / "d/index.parquet", pa.table({"path": ["a"], "label": [0]}))
    (tmp_path / "d/broken.parquet").write_bytes(b"PAR1")
    assert len(load_dataset(tmp_path / "d", training=False)) == 4


def test_missing_shards_are_said(tmp_path, log):
    for shard in (0, 2):
        write(tmp_path / f"d/train-{shard:05d}-of-00003.parquet", hub_table([0, 1], seed=shard))
    assert len(load_dataset(tmp_path / "d", training=False)) == 4
    assert "2 of 3 files of this split are here" in log.text


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            pa.table({"text": ["a"], "label": [0]}),
            r"no columns of pictures: it has 'text' \(string\), 'label'",
        ),
        (pa.table({"image": [b"a"], "x": [[0]]}), "no column of labels: it has 'image'"),
        (pa.table({"a": [b"a"], "b": [b"a"], "label": [0]}), "2 columns of pictures"),
        (pa.table({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}), "no rows"),
        (pa.table([[b"a"], [0], [1]], ["image", "label", "label"]), "the column 'label' is there twice"),
        (hub_table([0, 1], names=["a"] * 1001), "its class names are not a list of at most 1000 names"),
    ],
)
def test_other_tables_get_one_line(tmp_path, table, message):
    with pytest.raises(InputError, match=message) as error:
        load_dataset(write(tmp_path / "a.parquet", table), training=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", [lambda data: data[:-20], lambda data: data[:4] + bytes(len(data) - 8) + data[-4:]])
def test_a_damaged_file_gets_one_line(tmp_path, change):
    path = write(tmp_path / "a.parquet", hub_table([0, 1]))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=r"truncated or damaged Parquet .*; download it again"):
        load_dataset(path, training=False)


def test_a_pointer_of_git_lfs_in_a_folder(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/train.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(InputError, match="git lfs pull"):
        load_dataset(tmp_path / "d", training=False)


def test_links_are_followed_to_files(tmp_path):
    write(tmp_path / "blobs/0a1b", hub_table([0, 1]))
    (tmp_path / "d/data").mkdir(parents=True)
    os.symlink(tmp_path / "blobs/0a1b", tmp_path / "d/data/train-00000-of-00001.parquet")
    assert counts(load_dataset(tmp_path / "d", training=False))["train"] == 2


def test_the_digest_counts_labels(tmp_path):
    one = load_dataset(write(tmp_path / "1.parquet", hub_table([0, 1])), training=False)
    (tmp_path / "1.parquet").unlink()
    two = load_dataset(write(tmp_path / "1.parquet", hub_table([1, 0])), training=False)
    assert one.sha256 != two.sha256


def test_without_pyarrow_the_message_says_how_to_install_it(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", hub_table([0, 1]))
    monkeypatch.setitem(__import__("sys").modules, "fer_tf.data.reading.parquet", None)
    with pytest.raises(InputError, match=r"install pyarrow: pip install .*\[parquet\]"):
        load_dataset(path, training=False)


def test_prepare_reads_it(tmp_path, capsys):
    path = write(tmp_path / "a.parquet", hub_table([0, 1] * 20))
    assert prepare.main([str(path), str(tmp_path / "a.npz")]) == 0
    assert load_dataset(tmp_path / "a.npz").class_names == ("angry", "disgust")


# --- Bounds ---


def test_one_value_in_many_rows_is_not_unpacked_for_all_of_them(tmp_path):
    """A dictionary stores a picture of 20 MB once and uses it 10,000 times: unpacking all would take 200 GB."""
    from fer_tf.data.reading.parquet import ParquetPiece

    big = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), pa.array([bytes(20 << 20)]))
    path = write(tmp_path / "a.parquet", pa.table({"image": big}), compression="zstd", store_schema=False)
    assert path.stat().st_size < 1 << 20
    piece = ParquetPiece(path, "a.parquet", None, "a.parquet")
    assert len(next(piece.pictures("image", 0))) <= 3


def test_a_page_beyond_all_measure_is_refused(tmp_path, monkeypatch):
    from fer_tf.data.reading import parquet

    monkeypatch.setattr(parquet, "_MAX_PAGE_BYTES", 1 << 10)
    path = write(tmp_path / "a.parquet", hub_table([0, 1]))
    with pytest.raises(InputError, match="a page of 0 MiB; expected at most 0: write the file anew") as error:
        list(parquet.ParquetPiece(path, "a", None, "a").values("image.bytes"))
    assert str(error.value).startswith("a: a page")


# --- Objects of the package `datasets` ---


class FakeDataset:
    """The parts of a `datasets.Dataset` that we use, so that the suite does not need the package."""

    def __init__(self, table, split=None):
        self.table, self.split = table, split
        self.features = self

    @property
    def arrow_schema(self):
        return self.table.schema

    def with_format(self, type):
        assert type == "arrow"
        return self

    def select_columns(self, names):
        return FakeDataset(self.table.select(names))

    def __len__(self):
        return len(self.table)

    def __getitem__(self, rows):
        return self.table[rows]


def test_a_dataset_dict(log):
    parts = {"test": FakeDataset(hub_table([0, 1, 1], seed=1)), "train": FakeDataset(hub_table([0, 1] * 10))}
    dataset = load_dataset(parts)
    assert counts(dataset) == {"train": 18, "validation": 2, "test": 3} and dataset.source == "dataset"
    assert dataset.origin is None and dataset.files[0] == "train:0"
    assert len(load_dataset({**parts, "raw": parts["test"]}, training=False)) == 23
    assert "left out, because they are not splits: 'raw' (3 rows)" in log.text
    with pytest.raises(InputError, match="'test' and 'testing' are both the test split"):
        load_dataset({**parts, "testing": parts["test"]})


def test_a_dataset_has_the_rows_of_the_same_parquet(tmp_path):
    table = hub_table([0, 1, 2] * 200)
    path = write(tmp_path / "test.parquet", table)
    ours, theirs = (load_dataset(data, training=False) for data in (path, FakeDataset(table, split="test")))
    np.testing.assert_array_equal(ours.images, theirs.images)
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert set(theirs.split) == {"test"}


def test_a_dataset_of_local_files_is_opened(tmp_path):
    paths = [str(tmp_path / f"{row}.png") for row in range(4)]
    for row, path in enumerate(paths[:3]):
        with open(path, "wb") as file:
            file.write(png(row))
    data = FakeDataset(hub_table([0, 1, 0, 1], pictures=[None] * 4, paths=paths))
    with pytest.raises(InputError, match=r"dataset:3: its file .* is no such file"):
        load_dataset(data, training=False)
    assert len(load_dataset(data, training=False, skip_broken=True)) == 3


@pytest.mark.parametrize(("data", "message"), [(3, "type int; expected the path"), ({}, "without splits")])
def test_other_objects_get_one_line(data, message):
    with pytest.raises(InputError, match=message):
        load_dataset(data)


def test_the_real_package(tmp_path):
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(EMOTIONS))})
    pictures = [Image.open(io.BytesIO(png(row))) for row in range(40)]
    rows = datasets.Dataset.from_dict({"image": pictures, "label": [row % 7 for row in range(40)]}, features=features)
    dataset = load_dataset(rows, training=False)
    assert dataset.labels.tolist() == [row % 7 for row in range(40)] and dataset.class_names == EMOTIONS
    chosen = rows.shuffle(seed=0).filter(lambda row: row["label"] < 2).map(lambda row: {"more": row["label"]})
    again = load_dataset(chosen, training=False)
    assert again.labels.tolist() == chosen["label"][:] and set(again.labels) == {0, 1}
    parts = rows.train_test_split(0.25, seed=0)
    assert counts(load_dataset(parts, training=False)) == {"train": 30, "validation": 0, "test": 10}
    parts["train"].to_parquet(tmp_path / "train-00000-of-00001.parquet")
    parquet = load_dataset(tmp_path, training=False)
    np.testing.assert_array_equal(parquet.images, load_dataset(parts["train"], training=False).images)
    with pytest.raises(InputError, match="is streamed; load it with streaming=False"):
        load_dataset(rows.to_iterable_dataset())
    for row in range(4):
        path = tmp_path / "folder/train" / ("happy", "sad")[row % 2] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(row))
    local = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "folder"), cache_dir=str(tmp_path / "hf"))
    assert load_dataset(local, training=False).class_names == ("happy", "sad")


def test_a_file_that_unpacks_to_thousands_of_times_its_size_is_given_up(tmp_path, monkeypatch):
    from fer_tf.data.reading import parquet

    monkeypatch.setattr(parquet, "_FREE_BYTES", 8 << 20)
    label = pa.DictionaryArray.from_arrays(pa.array([0] * 500, pa.int32()), pa.array(["h" * (1 << 20)]))
    table = pa.table({"image": [png(0)] * 500, "label": label})
    path = write(tmp_path / "a.parquet", table, compression="zstd", store_schema=False)
    with pytest.raises(InputError, match=r"a file of 0 MiB that unpacks to more than \d+; do not use it"):
        load_dataset(path, training=False)


# --- Any schema and any metadata ---

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["info", "features", "label", "names", "_type"]), inner, max_size=3)
    ),
    max_leaves=8,
)
_COLUMNS = st.sampled_from(
    [
        pa.array([0, 1, None]),
        pa.array(["happy", "Sad", ""]),
        pa.array(["train", "test", "x"]).dictionary_encode(),
        pa.array([png(0), png(1), b""]),
        pa.array([{"bytes": png(0), "path": "a"}, None, {"bytes": None, "path": "b"}], PICTURE),
        pa.array([0.0, float("nan"), 2.5]),
        pa.array([[1], [], None]),
        pa.nulls(3),
    ]
)
_NAMES = st.sampled_from(["image", "label", "split", "subject", "bytes", "image.bytes", ""])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(columns=st.lists(st.tuples(_NAMES, _COLUMNS), min_size=1, max_size=4), metadata=_JSON, skip=st.booleans())
def test_any_schema_is_read_or_refused_in_one_line(tmp_path, columns, metadata, skip):
    names, arrays = zip(*columns, strict=True)
    table = pa.table(list(arrays), list(names)).replace_schema_metadata({"huggingface": json.dumps(metadata)})
    try:
        dataset = load_dataset(write(tmp_path / "a.parquet", table), training=False, skip_broken=skip)
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000
    else:
        assert len(dataset) + sum(dataset.left_out.values()) == 3
