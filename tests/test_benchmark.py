"""`benchmark`: rows in table and JSON, units and signs, the light install, bad input; speed is not tested."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fer_tf import benchmark, machine
from fer_tf.artifacts import RunDirectory, read_json, save_keras, write_json
from fer_tf.commands.benchmark import main
from fer_tf.inference.opening import open_model
from fer_tf.inference.predictor import default_num_threads
from fer_tf.install import install_hint
from fer_tf.recipes import DEMO, REPORT
from fer_tf.task import EMOTIONS
from tests.tiny_models import write_tiny

QUICK = ("--seconds", "0.01")
TRAIN_EXTRA = ("tensorflow", "keras", "pandas", "sklearn", "scipy", "matplotlib", "tqdm", "jax")


@pytest.fixture
def tflite(tmp_path):
    return write_tiny(tmp_path / "tiny.tflite", metadata={"quantization": "float32"})


@pytest.fixture
def light(monkeypatch):
    """Make this process behave as if the `train` extra were not installed."""
    for name in TRAIN_EXTRA:
        monkeypatch.setitem(sys.modules, name, None)


def tiny_network(num_classes, *, image_size=32, **_):
    """A network with fer_tf's structure that can be traced within a second."""
    import keras

    from fer_tf.model.weights import BACKBONE

    inputs = keras.Input((image_size, image_size, 3))
    x = keras.layers.Conv2D(4, 3, strides=2)(inputs)
    backbone = keras.Model(inputs, keras.layers.BatchNormalization()(x), name=BACKBONE)
    image = keras.Input((image_size, image_size, 3))
    x = keras.layers.GlobalAveragePooling2D(name="pooling")(backbone(image))
    x = keras.layers.Dropout(0.1, name="dropout")(x)
    x = keras.layers.Dense(num_classes, name="logits")(x)
    return keras.Model(image, keras.layers.Softmax(name="probabilities")(x))


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr("fer_tf.model.network.build_model", tiny_network)
    monkeypatch.setattr("fer_tf.training.trainer.build_model", tiny_network)


def failure(capsys, *argv):
    """The one line on stderr of a call that fails before it has measured anything."""
    assert main([str(argument) for argument in argv]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("fer-tf benchmark: error: ") and captured.out == ""
    return line


def test_a_tflite_alone_in_the_light_install(tmp_path, tflite, light, capsys):
    output = tmp_path / "new" / "figures.json"
    assert main(["--model", str(tflite), *QUICK, "--output", str(output)]) == 0
    figures = read_json(output)
    assert [key for key in ("decode", "pipeline", "train", "latency", "startup") if key in figures] == [
        "latency", "startup"
    ]  # fmt: skip
    assert set(figures["left_out"]) == {"decode", "pipeline", "train"}
    text = capsys.readouterr().out
    assert f"\nLeft out: decode, pipeline, train: needs Keras and TensorFlow: {install_hint('train')}\n" in text
    threads = sorted({1, default_num_threads()})
    assert [row["num_threads"] for row in figures["latency"]] == threads
    for row in figures["latency"]:
        assert row["file"] == "tiny.tflite" and row["quantization"] == "float32" and row["image_size"] == 48
        assert row["num_crops"] == row["num_threads"] and row["size_bytes"] == tflite.stat().st_size
        assert 0 < row["p5_ms"] <= row["median_ms"] <= row["p95_ms"]
        assert row["num_calls"] >= 5 and row["crops_per_s"] > 0
    (start,) = figures["startup"]
    assert start["median_s"] > 0 and start["num_starts"] >= 2 and 10 < start["peak_memory_mib"] < 1000
    assert f"Wrote {output}" in text and text.count("tiny.tflite") == len(threads) + 1


def test_the_light_install_has_all_that_a_tflite_needs(tflite):
    """In a new process, where nothing of the `train` extra is imported."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({TRAIN_EXTRA})); from fer_tf.commands.benchmark import main; "
        f"sys.exit(main(['--model', {str(tflite)!r}, '--seconds', '0.01']))"
    )
    root = str(Path(__file__).resolve().parents[1])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("tiny.tflite") == len({1, default_num_threads()}) + 1


def test_the_machine_is_named_and_a_busy_one_is_said(tmp_path, tflite, light, monkeypatch, capsys):
    for load, disturbed in ((0.3, False), (0.31, True)):
        monkeypatch.setattr(machine, "load_average", lambda load=load: load)
        output = tmp_path / "figures.json"
        assert main(["--model", str(tflite), "--only", "latency", *QUICK, "--output", str(output)]) == 0
        text, figures = capsys.readouterr().out, read_json(output)
        assert f"load average before the start {load}" in text
        assert ("disturbs these figures" in text) == disturbed == figures["disturbed"]
        assert figures["load_average"] == load
        assert figures["machine"] == machine.machine() and figures["machine"]["cpu"] in text
        assert figures["versions"] == machine.versions() and f"numpy {np.__version__}" in text


def test_a_run_gives_all_its_files_and_its_batch_size(tmp_path, light, capsys):
    run = RunDirectory.create(tmp_path / "run")
    write_json(run.config, {"recipe": "demo", **DEMO.to_dict()})
    for quantization in ("int8", "float32"):
        write_tiny(run.tflite(quantization), metadata={"quantization": quantization})
    write_tiny(run.model)  # without Keras, a .keras is left out
    output = tmp_path / "figures.json"
    assert main(["--run", str(run.path), "--only", "startup,latency", *QUICK, "--output", str(output)]) == 0
    figures = read_json(output)
    assert {row["quantization"] for row in figures["latency"]} == {"int8", "float32"}
    assert [row["file"] for row in figures["startup"]] == ["model-float32.tflite", "model-int8.tflite"]
    assert figures["settings"]["batch_size"] == DEMO.batch_size and figures["settings"]["run"] == "run"
    assert figures["left_out"] == {}
    assert str(tmp_path) not in json.dumps(figures)  # the output must not show where the user keeps files


def test_decoding_and_pipeline_rates(tmp_path, capsys):
    pytest.importorskip("tensorflow")
    assert benchmark.decoding(seconds=0.01, num_rows=600).keys() == {"num_rows", "rows_per_s"}
    output = tmp_path / "figures.json"
    sizes = ("--image-sizes", "32", "48", "--batch-size", "4")
    assert main(["--only", "pipeline", *sizes, *QUICK, "--output", str(output)]) == 0
    rows = read_json(output)["pipeline"]
    assert [row["image_size"] for row in rows] == [32, 48]
    assert all(row["eval_images_per_s"] > 0 and row["train_images_per_s"] > 0 for row in rows)
    text = capsys.readouterr().out
    assert "batches of 4, images/s" in text and text.splitlines()[-3].split()[0] == "48"


def test_the_parts_of_a_step_add_up(tiny, tmp_path, capsys):
    pytest.importorskip("tensorflow")
    output = tmp_path / "figures.json"
    arguments = ("--only", "train,pipeline", "--image-sizes", "32", "48", "--batch-size", "4")
    assert main([*arguments, *QUICK, "--output", str(output)]) == 0
    rows = read_json(output)["train"]
    assert [row["image_size"] for row in rows] == [32, 48]
    for row in rows:
        assert row["images_per_s"] == pytest.approx(4 / (row["step_ms"] / 1e3))
        parts = [row[f"{name}_ms"] for name in ("forward", "backward", "optimizer", "input")]
        assert sum(parts) == pytest.approx(row["step_ms"])
        assert row["forward_ms"] > 0 and row["backend"] == "tensorflow" and row["devices"]
    text = capsys.readouterr().out
    assert "batches of 4, float32, tensorflow" in text and "images/s  step, ms  forward  backward" in text
    assert "faster than the step uses them" in text and "at 48 px" in text


def test_the_step_is_traced_once_and_trains(tiny, monkeypatch):
    pytest.importorskip("tensorflow")
    import keras

    traced, weights = [], []
    train_step, build = keras.Model.train_step, tiny_network

    def counted(self, data):
        traced.append(data[0].shape)
        return train_step(self, data)

    def kept(*args, **kwargs):
        network = build(*args, **kwargs)
        weights.append((network, network.get_weights()))
        return network

    monkeypatch.setattr(keras.Model, "train_step", counted)
    monkeypatch.setattr("fer_tf.training.trainer.build_model", kept)
    benchmark.training_step(REPORT, 32, batch_size=4, seconds=0.01)
    assert traced == [(None, 32, 32, 3)]  # the fixed batch uses the same trace
    ((network, before),) = weights
    assert any(np.any(old != new) for old, new in zip(before, network.get_weights(), strict=True))


def test_keras_without_a_model_is_the_untrained_network(tiny, tflite, tmp_path, capsys):
    pytest.importorskip("tensorflow")
    output = tmp_path / "figures.json"
    arguments = ("--model", tflite, "--only", "latency", "--batch-size", "3", *QUICK, "--output", output)
    assert main(list(map(str, arguments))) == 0
    rows = [row for row in read_json(output)["latency"] if row["file"] == "untrained network"]
    assert [(row["num_crops"], row["image_size"]) for row in rows] == [(1, 48), (3, 48)]
    assert all(row["median_ms"] > 0 and row["crops_per_s"] > 0 for row in rows)
    assert capsys.readouterr().out.count("untrained network") == 2


def test_peak_memory_is_the_childs_own(tflite):
    ours = np.ones(400 << 20, np.uint8)
    assert benchmark.peak_memory_mib() > 400
    assert benchmark.startup(tflite, seconds=0.01)["peak_memory_mib"] < 400
    assert ours[0]


def test_latency_calls_are_counted_after_a_warm_up(tflite):
    calls = []

    class Counting:
        def predict(self, images):
            calls.append(images)
            return open_model(tflite, num_threads=1).predict(images)

    row = benchmark.latency(Counting(), num_crops=3, seconds=0)
    assert row["num_calls"] == 5 and len(calls) == 5 + 3
    assert all(crops.shape == (3, 48, 48) and crops.dtype == np.uint8 for crops in calls)


def test_bad_input_is_one_line(tmp_path, tflite, capsys):
    assert "unknown part 'speed'" in failure(capsys, "--only", "decode,speed")
    assert "unknown part ''" in failure(capsys, "--only", "")
    assert "no model file at" in failure(capsys, "--model", tmp_path / "absent.tflite")
    assert "neither a .tflite nor a .keras" in failure(capsys, "--model", tmp_path / "model.onnx")
    assert "no run at" in failure(capsys, "--run", tmp_path / "absent")
    foreign = tmp_path / "foreign.tflite"
    foreign.write_bytes(b"\0\0\0\0TFL3" + bytes(64))
    assert "not a model of fer_tf" in failure(capsys, "--model", foreign)
    assert "pixels from 32 to 512" in failure(capsys, "--image-sizes", "48", "31")
    assert "from 1 to 4096" in failure(capsys, "--batch-size", "0")
    for seconds in ("0", "-1", "nan", "inf"):
        assert "a time above 0" in failure(capsys, "--seconds", seconds)
    (tmp_path / "file").write_text("")
    assert "cannot write" in failure(capsys, "--model", tflite, "--output", tmp_path / "file" / "x.json")
    assert "cannot write" in failure(capsys, "--model", tflite, "--output", tmp_path)


def test_a_part_that_was_asked_for_and_cannot_be_had(tmp_path, light, monkeypatch, capsys):
    assert "--only train: needs Keras and TensorFlow: pip install" in failure(capsys, "--only", "train")
    assert "--only decode: needs Keras and TensorFlow: pip install" in failure(capsys, "--only", "latency,decode")
    run = RunDirectory.create(tmp_path / "run")
    write_json(run.config, {"recipe": "demo", **DEMO.to_dict()})
    assert "no model to time" in failure(capsys, "--run", run.path, "--only", "startup")
    monkeypatch.setitem(sys.modules, "tensorflow", os)  # installed, but not the backend
    monkeypatch.setitem(sys.modules, "keras", os)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert "KERAS_BACKEND is jax" in failure(capsys, "--only", "pipeline")


def test_a_damaged_model_is_one_line(tmp_path, tflite, light, capsys):
    damaged = tmp_path / "damaged.tflite"
    content = tflite.read_bytes()
    damaged.write_bytes(content[:64] + b"\xff" * 200 + content[264:])
    for part in ("latency", "startup"):
        assert main(["--model", str(damaged), "--only", part, *QUICK]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert str(damaged) in line


@pytest.mark.slow
def test_every_part_of_a_run_with_the_real_network(tmp_path, capsys):
    """The script in a new process; only the .keras is a tiny one."""
    pytest.importorskip("tensorflow")
    run = RunDirectory.create(tmp_path / "run")
    write_json(run.config, {"recipe": "demo", **DEMO.to_dict()})
    metadata = {"format": 1, "class_names": list(EMOTIONS), "image_size": 32, "synthetic": True}
    save_keras(tiny_network(7), run.model, metadata)
    write_tiny(run.tflite("float32"))
    output = tmp_path / "figures.json"
    script = Path(__file__).resolve().parents[1] / "scripts" / "benchmark.py"
    arguments = ("--run", run.path, "--image-sizes", "32", "--batch-size", "2", *QUICK, "--output", output)
    done = subprocess.run([sys.executable, script, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = read_json(output)
    assert figures["left_out"] == {} and figures["decode"]["rows_per_s"] > 0
    assert len(figures["pipeline"]) == len(figures["train"]) == 1
    assert {row["file"] for row in figures["latency"]} == {"model-float32.tflite", "model.keras"}
    light, heavy = figures["startup"]
    assert (light["file"], heavy["file"]) == ("model-float32.tflite", "model.keras")
    assert heavy["peak_memory_mib"] > light["peak_memory_mib"]


@pytest.mark.slow
def test_the_training_step_on_jax_without_tensorflow():
    pytest.importorskip("jax")
    code = (
        "import json, sys; sys.modules['tensorflow'] = None\n"
        "from fer_tf import benchmark\n"
        "from fer_tf.recipes import REPORT\n"
        "from fer_tf.training import trainer\n"
        "from tests.test_benchmark import tiny_network\n"
        "trainer.build_model = tiny_network\n"
        "sys.stdout.write(json.dumps(benchmark.training_step(REPORT, 32, batch_size=4, seconds=0.01)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["backend"] == "jax" and row["images_per_s"] > 0 and row["forward_ms"] > 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="sets glibc's allocator")
@pytest.mark.parametrize("kept", [False, True])
def test_freed_memory_is_kept_for_the_next_step(kept):
    """Page faults show that ten arrays, one after the other, take the pages of one array, not of ten."""
    program = f"""
import resource, numpy as np
from fer_tf.machine import keep_freed_memory
if {kept}: assert keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
for _ in range(10):
    np.ones(64 << 20, np.uint8)
print((faults() - before) / (64 * 256))  # pages of 4 KiB
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "NUMPY_MADVISE_HUGEPAGE": "0"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    arrays = float(done.stdout)
    assert arrays < 2 if kept else arrays > 8
