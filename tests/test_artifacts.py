import json
import os
import subprocess
import sys
import zipfile

import pytest

from fer_tf import artifacts
from fer_tf.artifacts import RunDirectory, atomic_path, new_run_path, read_json, read_metadata, write_bytes, write_json
from fer_tf.errors import InputError

pytestmark = pytest.mark.light


def test_write_is_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        assert path.read_bytes() == b"old"
        assert temporary.suffix == ".bin"
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_write_syncs_contents_before_the_rename(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(artifacts.os, "fsync", lambda handle: calls.append("sync"))
    rename = os.replace
    monkeypatch.setattr(artifacts.os, "replace", lambda *args: (calls.append("rename"), rename(*args)))
    write_bytes(tmp_path / "a", b"x")
    assert calls == ["sync", "rename", "sync"]


def test_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*: .*; choose a folder"):
        write_bytes(tmp_path / "file" / "a", b"x")


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not JSON"), ("[1]", "holds a JSON list"), ("\xff", "is not JSON")]
)
def test_read_json_refuses(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=message):
        read_json(path)


def test_read_json_bounds_depth_and_size(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[" * 100_000)
    with pytest.raises(InputError, match="is not JSON"):
        read_json(path)
    with open(path, "wb") as file:
        file.truncate(17 << 20)
    with pytest.raises(InputError, match="bytes"):
        read_json(path)


def test_metadata_comes_back_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("fer_tf.json", json.dumps({"class_names": ["a", "b"]}))
    assert read_metadata(path)["class_names"] == ["a", "b"]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.json", "{}")
    with pytest.raises(InputError, match="not a model of fer_tf"):
        read_metadata(path)
    path.write_bytes(b"TFL3" * 10)
    with pytest.raises(InputError, match="not a model of fer_tf"):
        read_metadata(path)
    with pytest.raises(InputError, match="no model file"):
        read_metadata(tmp_path / "absent.keras")


def test_metadata_without_class_names_is_refused(tmp_path):
    path = tmp_path / "model.keras"
    for names in ([], ["a"], [1, 2], "ab", None):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("fer_tf.json", json.dumps({"class_names": names}))
        with pytest.raises(InputError, match="class_names"):
            read_metadata(path)


def test_run_directory_that_exists_is_refused(tmp_path):
    RunDirectory.create(tmp_path / "run")
    with pytest.raises(InputError, match="exists already: choose another --run, or continue it with --resume"):
        RunDirectory.create(tmp_path / "run")


def test_open_needs_a_run(tmp_path):
    with pytest.raises(InputError, match="no run at"):
        RunDirectory.open(tmp_path)
    write_json(RunDirectory(tmp_path).config, {})
    assert RunDirectory.open(tmp_path).path == tmp_path


def test_second_process_is_refused_and_a_dead_one_frees_the_run(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    code = (
        "import sys\nfrom fer_tf.artifacts import RunDirectory\n"
        "with RunDirectory(sys.argv[1]).locked():\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, run.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="another process"), run.locked():
        pass
    holder.kill()
    holder.wait()
    with run.locked():
        pass


def test_a_system_without_file_locks_trains_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows: importing it raises ImportError
    run = RunDirectory.create(tmp_path / "run")
    with run.locked():
        write_json(run.config, {})
    assert [path.name for path in run.path.iterdir()] == ["config.json"]


def test_new_run_path_is_free_and_safe(tmp_path):
    assert new_run_path(tmp_path / "none", "demo").name == "demo"
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo-2").mkdir()
    assert new_run_path(tmp_path, "demo").name == "demo-3"
    assert new_run_path(tmp_path, "../a b").parent == tmp_path
