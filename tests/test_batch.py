"""Many pictures: every kind of source gives the same rows, even after kills; unreadable pictures get rows too."""

import io
import os
import random
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fer_tf.batch import classify, classify_table
from fer_tf.batch.table import ANSWER, RESULTS
from fer_tf.commands.classify import main
from fer_tf.errors import InputError
from fer_tf.recognition import Recognizer
from fer_tf.task import EMOTIONS
from tests.tiny_models import expected_probabilities, write_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("model") / "tiny.tflite")


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(3).integers(0, 256, (25, 48, 48), np.uint8)


def png(crop: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(crop).save(file, "PNG")
    return file.getvalue()


def write_parquet(path, crops, **columns) -> None:
    values = {"name": [f"face {row}" for row in range(len(crops))], "image": [crop.tobytes() for crop in crops]}
    pq.write_table(pa.table({**values, **columns}), path, row_group_size=7)


def read_parts(folder) -> list[dict]:
    fs, root = fsspec.core.url_to_fs(str(folder))
    rows = []
    for path in sorted(fs.glob(f"{root}/part-*.parquet")):
        with fs.open(path, "rb") as file:
            rows += pq.read_table(file).to_pylist()
    return rows


def refusal(capsys, *argv) -> str:
    assert main([str(word) for word in argv]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fer-tf ")]
    return line.removeprefix("fer-tf classify: error: ")


@pytest.mark.parametrize("form", ["bytes", "fixed", "lists", "struct", "png"])
def test_a_table_of_crops_is_classified(model, crops, form):
    raw = [crop.tobytes() for crop in crops]
    images = {
        "bytes": lambda: pa.array(raw, pa.binary()),
        "fixed": lambda: pa.array(raw, pa.binary(2304)),
        "lists": lambda: pa.array([crop.reshape(-1) for crop in crops], pa.list_(pa.uint8())),
        "struct": lambda: pa.array([{"bytes": png(crop), "path": "x"} for crop in crops]),
        "png": lambda: pa.array([png(crop) for crop in crops], pa.large_binary()),
    }[form]()
    table = pa.table({"key": [str(row) for row in range(25)], "image": images, "age": list(range(25))})
    found = classify_table(table, model=model)
    assert found["key"].to_pylist() == table["key"].to_pylist() and found["age"].to_pylist() == list(range(25))
    expected = expected_probabilities(crops)
    np.testing.assert_allclose(found["probabilities"].to_pylist(), expected, atol=1e-5)
    assert found["top"].to_pylist() == [EMOTIONS[index] for index in expected.argmax(axis=1)]
    assert set(found["face"].to_pylist()) == {1} and set(found["error"].to_pylist()) == {None}


def test_a_picture_that_cannot_be_read_is_a_row_with_its_error(model, crops):
    images = [png(crops[0]), b"no picture at all", None, png(crops[1])[:60]]
    found = classify_table(pa.table({"key": list("abcd"), "image": pa.array(images, pa.binary())}), model=model)
    assert found["key"].to_pylist() == list("abcd")
    assert [error is None for error in found["error"].to_pylist()] == [True, False, False, False]
    assert found["probabilities"].to_pylist()[1:] == [None] * 3
    like_a_jpeg = bytearray(crops[2].tobytes())
    like_a_jpeg[:4] = b"\xff\xd8\xff\xe0"
    found = classify_table(pa.table({"key": ["a"], "image": [bytes(like_a_jpeg)]}), model=model)
    assert found["error"].to_pylist() == [None]
    with pytest.raises(InputError, match="has the columns key, picture: expected key and image"):
        classify_table(pa.table({"key": ["a"], "picture": [b""]}), model=model)
    with pytest.raises(InputError, match="of the type int64: expected the bytes"):
        classify_table(pa.table({"key": ["a"], "image": [1]}), model=model)


def with_thresholds(path, threshold):
    sets = {"method": "lac", "num_images": 9, "thresholds": {"0.8": threshold / 2, "0.9": threshold, "0.95": 1.0}}
    return write_tiny(path, metadata={"prediction_sets": sets})


def test_rows_have_prediction_sets_and_answers_as_predict_gives_them(crops, tmp_path):
    probabilities = expected_probabilities(crops)
    threshold = 1 - float(np.sort(np.sort(probabilities)[:, -2])[11:13].mean())  # half of the crops get a second class
    model = with_thresholds(tmp_path / "tiny.tflite", threshold)
    table = pa.table({"key": [str(row) for row in range(25)], "image": [crop.tobytes() for crop in crops]})
    found = classify_table(table, model=model)
    assert "answer" not in found.column_names
    sets = found["prediction_set"].to_pylist()
    assert {len(names) > 1 for names in sets} == {True, False}
    for names, scores in zip(sets, probabilities, strict=True):
        order = np.argsort(-scores)
        expected = [EMOTIONS[index] for index in order if 1 - scores[index] <= threshold or index == order[0]]
        assert names == expected
    recognizer = Recognizer(model, coverage=0.9, min_score=0.2)
    answers = [recognizer.recognize(crop)[0].answer for crop in crops]
    asked = classify_table(table, model=model, coverage=0.9, min_score=0.2)
    assert asked["answer"].to_pylist() == answers and len(set(answers)) > 2
    assert asked["prediction_set"].to_pylist() == sets
    assert set(map(len, classify_table(table, model=model, coverage=0.95)["prediction_set"].to_pylist())) == {7}
    broken = classify_table(pa.table({"key": ["a"], "image": [b"text"]}), model=model, coverage=0.9).to_pylist()
    assert (broken[0]["prediction_set"], broken[0]["answer"]) == (None, None)


def test_a_model_without_thresholds_has_no_prediction_sets(model, crops, tmp_path, capsys):
    write_parquet(tmp_path / "faces.parquet", crops)
    arguments = [tmp_path / "faces.parquet", tmp_path / "out", "--model", model]
    assert "has no thresholds for prediction sets" in refusal(capsys, *arguments, "--coverage", "0.9")
    assert "expected one of 0.8, 0.9, 0.95" in refusal(capsys, *arguments, "--coverage", "0.5")
    assert "expected a number from 0 to 1" in refusal(capsys, *arguments, "--min-score", "2")
    assert not (tmp_path / "out").exists()
    assert main([str(word) for word in (*arguments, "--min-score", "1")]) == 0
    rows = read_parts(tmp_path / "out")
    assert {row["answer"] for row in rows} == {"uncertain"} and {row["prediction_set"] for row in rows} == {None}
    assert "made with another settings" in refusal(capsys, *arguments)


@pytest.mark.parametrize("kind", ["pictures", "parquet", "tar"])
@pytest.mark.parametrize("address", ["{folder}", "file://{folder}", "memory://{name}"])
def test_every_source_gives_the_same_rows(model, crops, tmp_path, kind, address):
    local, source = tmp_path / "source", address.format(folder=tmp_path / "source", name=f"{kind}/source")
    (local / "sub").mkdir(parents=True)
    (local / ".hidden.png").write_bytes(b"left by a desktop")
    if kind == "pictures":
        for row, crop in enumerate(crops):
            (local / "sub" / f"{row:02}.png").write_bytes(png(crop))
    elif kind == "parquet":
        write_parquet(local / "a.parquet", crops[:9])
        write_parquet(local / "b.parquet", crops[9:])
    else:
        with tarfile.open(local / "faces.tar", "w") as archive:
            for row, crop in enumerate(crops):
                for name, content in ((f"{row:02}.cls", str(row % 7).encode()), (f"{row:02}.png", png(crop))):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    if source.startswith("memory://"):
        fsspec.filesystem("memory").put(f"{local}/", f"/{kind}/source/", recursive=True)
    keep = {"tar": ["cls"], "parquet": ["name"], "pictures": []}[kind]
    for number, rows_per_part in enumerate((4, 25, 1000)):
        destination = address.format(folder=tmp_path / f"out {number}", name=f"{kind}/out {number}")
        summary = classify(source, destination, model=model, keep=keep, rows_per_part=rows_per_part, num_threads=2)
        assert (summary.num_pictures, summary.num_faces, summary.num_failed) == (25, 25, 0)
        rows = read_parts(destination)
        assert len({row["key"] for row in rows}) == 25
        np.testing.assert_allclose([row["probabilities"] for row in rows], expected_probabilities(crops), atol=1e-5)
        if kind == "tar":
            assert [row["cls"] for row in rows] == [str(row % 7) for row in range(25)]
        if kind == "parquet":
            assert [row["name"] for row in rows][8:11] == ["face 8", "face 0", "face 1"]


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_shards_make_every_part_once(model, crops, tmp_path, kind):
    source = tmp_path / f"faces.{kind}"
    if kind == "parquet":
        write_parquet(source, crops)
    else:
        with tarfile.open(source, "w") as archive:
            for row, crop in enumerate(crops):
                member = tarfile.TarInfo(f"{row:02}.png")
                member.size = len(png(crop))
                archive.addfile(member, io.BytesIO(png(crop)))
    for index in (2, 0, 1):
        arguments = [str(source), str(tmp_path / "out"), "--model", str(model), "--rows-per-part", "4"]
        assert main([*arguments, "--shard", f"{index}/3"]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 7
    assert main([*arguments, "--shard", "8/9"]) == 0  # more shards than parts: nothing to do
    assert len(list((tmp_path / "out").iterdir())) == 7
    rows = read_parts(tmp_path / "out")
    np.testing.assert_allclose([row["probabilities"] for row in rows], expected_probabilities(crops), atol=1e-5)


def test_a_second_call_makes_what_is_missing(model, crops, tmp_path, capsys):
    write_parquet(tmp_path / "faces.parquet", crops)
    arguments = [str(tmp_path / "faces.parquet"), str(tmp_path / "out"), "--model", str(model), "--rows-per-part", "4"]
    assert main(arguments) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for part in (0, 3, 6):
        (tmp_path / "out" / f"part-{part:06}.parquet").unlink()
    (tmp_path / "out" / ".shard-0-of-1-part-000003.parquet").write_bytes(b"cut")
    kept = (tmp_path / "out" / "part-000001.parquet").stat().st_mtime_ns
    assert main(arguments) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert (tmp_path / "out" / "part-000001.parquet").stat().st_mtime_ns == kept
    assert "16 pictures were done before" in capsys.readouterr().out


def test_what_failed_is_listed_at_the_end(model, crops, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for row in range(30):
        (tmp_path / "in" / f"{row:02}.jpg").write_bytes(png(crops[0]) if row < 5 else b"broken")
    assert main([str(tmp_path / "in"), str(tmp_path / "out"), "--model", str(model)]) == 0
    printed = capsys.readouterr().out
    assert "30 pictures, 5 faces" in printed
    assert "25 pictures could not be read (column error): 05.jpg, 06.jpg" in printed and "and 5 more" in printed


def test_bad_input_is_refused_in_one_line_and_leaves_nothing(model, crops, tmp_path, capsys):
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    assert "nothing there to read" in refusal(capsys, tmp_path / "empty", out)
    assert "nothing there to read" in refusal(capsys, tmp_path / "missing", out)
    assert "nosuch://faces: cannot be opened (Protocol not known" in refusal(capsys, "nosuch://faces", out)
    (tmp_path / "empty" / "notes.txt").write_text("text")
    assert "no picture, .parquet or .tar among 1 files" in refusal(capsys, tmp_path / "empty", out)
    folder = tmp_path / "tables"
    folder.mkdir()
    write_parquet(folder / "a.parquet", crops)
    assert "has no column 'age': it has 'name', 'image'" in refusal(capsys, folder, out, "--keep", "age")
    assert "has no column 'id'" in refusal(capsys, folder, out, "--key", "id")
    pq.write_table(pa.table({"x": [b""]}), tmp_path / "x.parquet")
    assert "name the pictures' one with --column" in refusal(capsys, tmp_path / "x.parquet", out)
    write_parquet(tmp_path / "none.parquet", crops[:0])
    assert "no rows" in refusal(capsys, tmp_path / "none.parquet", out)
    write_parquet(folder / "b.parquet", crops, age=[1.0] * 25)
    assert "b.parquet has other columns than" in refusal(capsys, folder, out)
    (folder / "b.parquet").write_bytes(b"PAR1 cut short")
    assert "not a Parquet file, or a broken one" in refusal(capsys, folder, out)
    (folder / "b.parquet").unlink()
    (folder / "c.tar").write_bytes(b"")
    assert "mixed files (1 parquet, 1 tar)" in refusal(capsys, folder, out)
    assert "a broken tar" in refusal(capsys, folder / "c.tar", out)
    (folder / "c.tar").unlink()
    assert "expected an index from 0 to 2" in refusal(capsys, folder, out, "--shard", "3/3")
    assert "expected two numbers" in refusal(capsys, folder, out, "--shard", "one")
    assert "is a file: name a folder" in refusal(capsys, folder, tmp_path / "x.parquet")
    assert "cannot read the model" in refusal(capsys, folder, out, "--model", tmp_path / "no.tflite")
    assert not out.exists()


def test_parts_of_another_model_or_source_are_kept(model, crops, tmp_path, capsys):
    write_parquet(tmp_path / "faces.parquet", crops)
    arguments = [tmp_path / "faces.parquet", tmp_path / "out", "--model", model]
    assert main([str(word) for word in arguments]) == 0
    other = write_tiny(tmp_path / "other.tflite", metadata={"recipe": "other"})
    assert "holds parts of another model" in refusal(capsys, *arguments[:2], "--model", other)
    assert "made with another rows_per_part" in refusal(capsys, *arguments, "--rows-per-part", "5")
    assert "made with another keep" in refusal(capsys, *arguments, "--keep", "name")
    write_parquet(tmp_path / "faces.parquet", crops[:20])
    assert "holds parts of another source" in refusal(capsys, *arguments)
    (tmp_path / "out" / "part-000001.parquet").write_bytes(b"PAR1")
    assert "was not written by fer_tf, or is damaged" in refusal(capsys, *arguments)


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.isdir("/proc/1"), reason="needs /proc")
def test_a_destination_that_cannot_be_written_to(model, crops, tmp_path, capsys):
    write_parquet(tmp_path / "faces.parquet", crops)
    assert "cannot write to /proc/fer_tf" in refusal(
        capsys, tmp_path / "faces.parquet", "/proc/fer_tf", "--model", model
    )


@pytest.mark.slow
def test_kills_at_random_moments_lose_and_double_nothing(model, tmp_path):
    crops = np.random.default_rng(5).integers(0, 256, (60_000, 48, 48), np.uint8)
    write_parquet(tmp_path / "faces.parquet", crops)
    command = [sys.executable, "-m", "fer_tf", "classify", tmp_path / "faces.parquet", tmp_path / "out"]
    command += ["--model", model, "--rows-per-part", "2500", "--threads", "2"]
    chance = random.Random(1)
    for _ in range(10):
        process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.8, 2.5))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0
    rows = read_parts(tmp_path / "out")
    assert [row["key"] for row in rows] == [f"faces.parquet:{row}" for row in range(60_000)]
    np.testing.assert_allclose([row["probabilities"] for row in rows], expected_probabilities(crops), atol=1e-5)
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_rows(model, tmp_path):
    crops = np.random.default_rng(5).integers(0, 256, (20_000, 48, 48), np.uint8)
    table = pa.table({"image": [crop.tobytes() for crop in crops]})
    peaks = []
    for times in (1, 10):
        with pq.ParquetWriter(tmp_path / f"{times}.parquet", table.schema) as writer:
            for _ in range(times):
                writer.write_table(table, row_group_size=5000)
        source = tmp_path / f"{times}.parquet"
        code = (
            "import resource; from fer_tf.batch import classify\n"
            f"classify({str(source)!r}, {str(tmp_path / f'out {times}')!r}, model={str(model)!r})\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        peaks.append(
            int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        )
    assert peaks[1] <= 1.05 * peaks[0], peaks


def test_the_code_in_the_docs_runs(capsys):
    page = (Path(__file__).resolve().parents[1] / "docs" / "scale.md").read_text()
    code, on_spark = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(code, {})
    assert any(name in capsys.readouterr().out for name in EMOTIONS)
    kinds = {"int32": "int", "float": "float", "string": "string"}
    columns = [(field.name, field.type) for field in RESULTS if field.name != ANSWER]
    types = [
        f"array<{kinds[str(kind.value_type)]}>" if pa.types.is_list(kind) else kinds[str(kind)] for _, kind in columns
    ]
    schema = ", ".join(f"{name} {kind}" for (name, _), kind in zip(columns, types, strict=True))
    assert f'schema = "key string, {schema}"' in on_spark
