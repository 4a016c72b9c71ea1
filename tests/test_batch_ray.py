"""Classify on Ray gives the same rows as the local engine, even if an actor or the whole call is killed."""

import importlib.util
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fer_tf.batch import classify
from fer_tf.commands.classify import main
from fer_tf.errors import InputError
from fer_tf.install import install_hint
from tests.test_batch import png, read_parts, refusal, write_parquet
from tests.tiny_models import expected_probabilities, write_tiny

HAS_RAY = importlib.util.find_spec("ray") is not None
LIMIT_SECONDS = 120  # for a call in which an actor is killed: a hang (ray#62746) is a failure
# .ci/run installs the extra and sets FER_TF_NEEDS_RAY, so that a missing Ray is a failure, not a reason to skip.
needs_ray = pytest.mark.skipif(
    not HAS_RAY and not os.environ.get("FER_TF_NEEDS_RAY"), reason="needs the extra `ray`: pip install -e '.[ray]'"
)


@pytest.fixture(scope="module")
def cluster():
    """A cluster of three CPUs on this machine: two actors, and one that reads."""
    import ray

    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, object_store_memory=300 << 20)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("model") / "tiny.tflite")


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(3).integers(0, 256, (60, 48, 48), np.uint8)


def same_files(one: Path, other: Path) -> None:
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())
    for path in one.iterdir():
        ours, theirs = pq.read_table(path), pq.read_table(other / path.name)
        assert ours.schema.equals(theirs.schema, check_metadata=True)
        assert ours.equals(theirs), path.name


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "pictures", "tar"])
def test_two_actors_give_the_same_parts(cluster, model, crops, tmp_path, kind):
    source = tmp_path / "in"
    source.mkdir()
    keep: list[str] = []
    if kind == "parquet":
        keep = ["age"]
        for name, part in (("a", slice(0, 23)), ("b", slice(23, 24)), ("c", slice(24, 60))):
            write_parquet(source / f"{name}.parquet", crops[part], age=list(range(60))[part])
    elif kind == "pictures":
        for row, crop in enumerate(crops):
            (source / f"{row:02}.png").write_bytes(b"broken" if row == 7 else png(crop))
    else:
        keep = ["cls"]
        for name, rows in (("a", range(25)), ("b", range(25, 60))):
            with tarfile.open(source / f"{name}.tar", "w") as archive:
                for row in rows:
                    for suffix, content in (("png", png(crops[row])), ("cls", str(row).encode())):
                        member = tarfile.TarInfo(f"{row:02}.{suffix}")
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))
    settings = {"model": model, "keep": keep, "rows_per_part": 8}
    local = classify(str(source), str(tmp_path / "local"), **settings)
    on_ray = classify(str(source), str(tmp_path / "ray"), **settings, engine="ray", num_actors=2)
    same_files(tmp_path / "local", tmp_path / "ray")
    assert on_ray.failed == local.failed and on_ray.num_pictures == local.num_pictures == 60
    for part in (1, 7):  # either engine makes the missing parts
        (tmp_path / "ray" / f"part-{part:06}.parquet").unlink()
    kept = (tmp_path / "ray" / "part-000002.parquet").stat().st_mtime_ns
    again = classify(str(source), str(tmp_path / "ray"), **settings, engine="ray", num_actors=1)
    assert again.num_before == 60 - 8 - 4 and (tmp_path / "ray" / "part-000002.parquet").stat().st_mtime_ns == kept
    same_files(tmp_path / "local", tmp_path / "ray")


@needs_ray
@pytest.mark.slow
def test_an_actor_that_is_killed_in_the_middle_of_a_batch(cluster, model, tmp_path):
    crops = np.random.default_rng(5).integers(0, 256, (40_000, 48, 48), np.uint8)
    write_parquet(tmp_path / "faces.parquet", crops)
    killed: list[int] = []
    ended = threading.Event()

    def kill_at_work() -> None:
        while not ended.is_set() and len(killed) < 2:
            time.sleep(0.2)
            parts = list((tmp_path / "out").glob("part-*"))
            if len(parts) > 2 * len(killed) and (busy := _busy_actors()):
                os.kill(busy[0], signal.SIGKILL)
                killed.append(busy[0])

    killer = threading.Thread(target=kill_at_work)
    killer.start()
    command = [sys.executable, "-m", "fer_tf", "classify", tmp_path / "faces.parquet", tmp_path / "out"]
    command += ["--model", model, "--rows-per-part", "4000", "--engine", "ray", "--actors", "2", "--address", cluster]
    try:
        found = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=LIMIT_SECONDS)
    finally:
        ended.set()
        killer.join()
    assert found.returncode == 0, found.stderr
    assert killed, "no actor was killed"
    rows = read_parts(tmp_path / "out")
    assert [row["key"] for row in rows] == [f"faces.parquet:{row}" for row in range(40_000)]
    np.testing.assert_allclose([row["probabilities"] for row in rows], expected_probabilities(crops), atol=1e-5)


def _busy_actors() -> list[int]:
    """Busy actors of our class among the descendants of this process, which started the cluster."""
    children: dict[int, list[int]] = {}
    titles: dict[int, str] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            titles[int(path.name)] = (path / "cmdline").read_text()
        except OSError:
            continue
        children.setdefault(parent, []).append(int(path.name))
    found, todo = [], [os.getpid()]
    while todo:
        below = children.get(todo.pop(), [])
        todo += below
        found += [process for process in below if "MapBatches(_Classifier)).submit" in titles[process]]
    return found


@needs_ray
@pytest.mark.slow
def test_what_ray_cannot_do_is_one_line(cluster, model, crops, tmp_path, capsys):
    source, out = tmp_path / "faces.parquet", tmp_path / "out"
    write_parquet(source, crops)
    call = [source, out, "--model", model, "--engine", "ray"]
    assert "4 actors on 3 CPUs: expected 1 to 2, since one CPU reads" in refusal(capsys, *call, "--actors", "4")
    assert "0 actors on 3 CPUs" in refusal(capsys, *call, "--actors", "0")
    with pytest.raises(InputError, match="memory:// is within one process"):
        import fsspec

        fsspec.filesystem("memory").put(str(source), "/ray/faces.parquet")
        classify("memory://ray/faces.parquet", str(out), model=model, engine="ray")
    (tmp_path / "broken.tar").write_bytes(b"no tar at all" * 100)
    assert "broken.tar: a broken tar" in refusal(capsys, tmp_path / "broken.tar", *call[1:])
    pq.write_table(pa.table({"image": [1, 2]}), tmp_path / "numbers.parquet")
    assert "of the type int64: expected the bytes" in refusal(capsys, tmp_path / "numbers.parquet", *call[1:])
    assert not out.exists()
    logged = subprocess.run(
        [sys.executable, "-m", "fer_tf", "classify", tmp_path / "numbers.parquet", *call[1:], "--address", cluster],
        capture_output=True,
        text=True,
    )
    assert logged.returncode == 2 and "Traceback" not in logged.stderr
    line = logged.stderr.splitlines()[-1]
    assert line.startswith("fer-tf classify: error: the images are of the type int64") and line.endswith("of uint8")
    code = "import sys; from fer_tf.commands.classify import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *map(str, call), "--address", "127.0.0.1:1"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    assert found.returncode == 2 and not out.exists()
    assert found.stderr.splitlines()[-1].startswith("fer-tf classify: error: no Ray cluster at 127.0.0.1:1 (")
    assert "Traceback" not in found.stderr


def test_flags_of_ray_need_its_engine(model, crops, tmp_path, capsys):
    write_parquet(tmp_path / "faces.parquet", crops)
    for flags in (["--address", "auto"], ["--actors", "2"]):
        call = [tmp_path / "faces.parquet", tmp_path / "out", "--model", model, *flags]
        assert "are for Ray: name the engine ray, or leave them out" in refusal(capsys, *call)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(HAS_RAY, reason="Ray is here")
def test_without_ray_its_install_is_named(model, crops, tmp_path, capsys):
    write_parquet(tmp_path / "faces.parquet", crops)
    call = [str(tmp_path / "faces.parquet"), str(tmp_path / "out"), "--model", str(model), "--engine", "ray"]
    assert main(call) == 2
    assert f"needs the package ray: {install_hint('ray')}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
