"""The public names of fer_tf: quick to import, documented with examples that run, and 0.1's names still work."""

import doctest
import importlib
import re
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import fer_tf
from fer_tf.artifacts import shipped_model
from fer_tf.data import synthetic
from fer_tf.data.reading.npz import save_npz
from tests.conftest import small_backbone

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def small_network(monkeypatch):
    monkeypatch.setattr(keras.applications, "EfficientNetB0", small_backbone)


@pytest.fixture
def few_drawn_faces(monkeypatch):
    """Draw fewer faces: drawing all for each example would take most of the time."""
    few = synthetic.make_synthetic(70, 21, 21)
    monkeypatch.setattr(synthetic, "make_synthetic", lambda: few)


@pytest.fixture
def in_folder_with_a_run(small_dataset, tmp_path, monkeypatch, small_network, few_drawn_faces):
    """Change to the working directory that the examples assume, with the finished run runs/demo."""
    monkeypatch.chdir(tmp_path)
    config = fer_tf.Config(weights="none", image_size=32, epochs=1)
    save_npz(small_dataset, "stripes.npz")
    fer_tf.run_experiment(config, fer_tf.load_dataset("stripes.npz"), "runs/demo", quantizations=())
    return tmp_path


def test_importing_it_brings_no_other_package():
    code = "import fer_tf, sys; print([m for m in ('numpy', 'PIL', 'keras', 'tensorflow') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert found.stdout == "[]\n", found.stderr


def test_every_public_name_is_there_and_others_are_not():
    assert {name for name in fer_tf.__all__ if getattr(fer_tf, name) is not None} == set(fer_tf.__all__)
    assert set(fer_tf.__all__) <= set(dir(fer_tf))
    with pytest.raises(AttributeError, match="has no attribute 'emotion'"):
        _ = fer_tf.emotion
    assert (ROOT / "fer_tf" / "py.typed").is_file()


def test_public_functions_have_an_example_and_all_examples_run(in_folder_with_a_run):
    functions = [
        "Config", "EmotionClassifier", "Recognizer", "evaluate", "export_onnx", "export_tflite", "load_dataset",
        "recognize", "run_experiment",
    ]  # fmt: skip
    pytest.importorskip("cv2")
    pytest.importorskip("skimage")
    parser = doctest.DocTestParser()
    results = {}
    for name in functions:
        docstring = getattr(fer_tf, name).__doc__
        names = {"fer_tf": fer_tf, "np": np, "model_file": shipped_model(".tflite")}
        test = parser.get_doctest(docstring, names, name, None, None)
        assert test.examples, name
        results[name] = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert {name: result.failed for name, result in results.items()} == dict.fromkeys(functions, 0)


def test_readmes_python_runs(monkeypatch, capsys):
    block, output = re.search(
        r"```python\n(.*?)```\n\n```text\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    ).groups()
    monkeypatch.chdir(ROOT)
    exec(block, {})
    shown = capsys.readouterr().out
    assert re.findall("[a-z]+", shown) == re.findall("[a-z]+", output) == ["happy", "neutral"]


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("fer_tf.inference", ["EmotionClassifier", "open_model"]),
        ("fer_tf.config", ["Config", "RECIPES", "recipe", "REPORT"]),
        ("fer_tf.labels", ["EMOTIONS", "canonical_emotion"]),
        ("fer_tf.data.fer2013", ["load_dataset", "save_npz"]),
        ("fer_tf.data.pipeline", ["decode", "make_train_dataset"]),
        ("fer_tf.data.in_step", ["make_eval_dataset"]),
        ("fer_tf.data.audit", ["image_hashes"]),
        ("fer_tf.model", ["build_model", "load_classifier"]),
        ("fer_tf.training", ["train"]),
        ("fer_tf.evaluation", ["evaluate", "compare"]),
        ("fer_tf.quantization", ["QUANTIZATIONS", "MODES"]),
        ("fer_tf.export", ["convert"]),
        ("fer_tf.release", ["release"]),
        ("fer_tf.video", ["FrameSource", "Smoother"]),
        ("fer_tf.faces", ["open_image", "to_grey48", "find_faces"]),
    ],
)
def test_names_of_version_0_1_can_still_be_imported(module, names):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        found = importlib.import_module(module)
    assert all(hasattr(found, name) for name in names)


def test_a_moved_module_is_one_module_and_says_where_it_is():
    code = (
        "import warnings; warnings.simplefilter('error')\n"
        "try:\n    import fer_tf.labels\nexcept DeprecationWarning as warning:\n    print(warning)\n"
        "warnings.simplefilter('ignore')\n"
        "import fer_tf.labels, fer_tf.task\nprint(fer_tf.labels is fer_tf.task, fer_tf.task.__spec__.name)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert found.stdout == "fer_tf.labels is now fer_tf.task\nTrue fer_tf.task\n", found.stderr
