"""Cross-fitting: folds of the training images, and teachers that have not seen the images that they teach."""

import dataclasses
import json

import numpy as np
import pytest

from fer_tf.artifacts import RunDirectory, read_metadata
from fer_tf.commands import train
from fer_tf.config import Config
from fer_tf.data.augmentation import view_images
from fer_tf.data.dataset import Dataset
from fer_tf.data.folds import fold_numbers, images_digest, without_fold
from fer_tf.data.reading.npz import save_npz
from fer_tf.errors import InputError
from fer_tf.experiment import _predict_views_with_teachers, _predict_with_teachers
from fer_tf.inference import open_model
from tests.conftest import striped_faces
from tests.tiny_models import write_tiny

NAMES = ("low", "mid", "high")


@pytest.fixture(scope="module")
def copied(small_dataset) -> Dataset:
    """48 training images: 4 copies of one with two labels, and two people with three pictures each."""
    images = small_dataset.images.copy()
    images[[3, 20, 30]] = images[0]
    subjects = np.full(len(images), "", object)
    subjects[[1, 2, 4]], subjects[[5, 7, 9]] = "anna", "ben"
    return dataclasses.replace(small_dataset, images=images, subjects=subjects)


def test_folds_are_stratified_seeded_and_keep_copies_and_people_together(copied):
    part = copied.take("train")
    folds = fold_numbers(part, 3, seed=5)
    np.testing.assert_array_equal(folds, fold_numbers(part, 3, seed=5))
    assert (folds != fold_numbers(part, 3, seed=6)).any()
    for group in ([0, 3, 20, 30], [1, 2, 4], [5, 7, 9]):
        assert len(set(folds[group])) == 1
    counts = np.array([np.bincount(part.labels[folds == number], minlength=3) for number in (1, 2, 3)])
    assert counts.sum() == 48 and counts.min() >= 4 and counts.max() <= 7  # 16 of each class
    singles = fold_numbers(Dataset(np.arange(30) % 3, np.full(30, "train"), NAMES, images=striped_faces(30)[0]), 5, 0)
    assert [np.bincount((np.arange(30) % 3)[singles == number]).tolist() for number in range(1, 6)] == [[2, 2, 2]] * 5


def test_a_fold_is_left_out_of_training_alone(copied):
    part = copied.take("train")
    kept = [without_fold(copied, f"{number}/3", 5) for number in (1, 2, 3)]
    folds = fold_numbers(part, 3, 5)
    for number, data in enumerate(kept, 1):
        np.testing.assert_array_equal(data.take("train").images, part.images[folds != number])
        assert len(data.take("validation")) == 24 and len(data.take("test")) == 24


def test_a_class_that_one_fold_holds_wholly_is_refused(small_dataset):
    rare = dataclasses.replace(small_dataset, labels=np.where(np.arange(96) == 0, 2, small_dataset.labels % 2))
    number = int(fold_numbers(rare.take("train"), 2, 0)[0])
    with pytest.raises(InputError, match=f"fold {number}/2 holds all 1 training images of high"):
        without_fold(rare, f"{number}/2", 0)


@pytest.mark.parametrize("fold", ["0/3", "4/3", "1/1", "1/101", "1", "a/b", "-1/3", "1/3/5", "\u0661/3", " 1/3"])
def test_other_folds_are_refused(fold):
    with pytest.raises(InputError, match="expected k/K with K from 2 to 100 and k from 1 to K, such as 1/5"):
        Config(fold=fold)


@pytest.mark.parametrize("other", [{"weights": "fer2013"}, {"weights": "mine.keras"}, {"teachers": ("mine.keras",)}])
def test_what_may_have_seen_the_left_out_images_is_refused(other):
    with pytest.raises(InputError, match="may have seen the images of the fold; start from imagenet"):
        Config(**{"weights": "none", "fold": "1/3", **other})


# --- Teachers ---


@pytest.fixture(scope="module")
def teachers(copied, tmp_path_factory) -> list[str]:
    """Three models of folds; model k answers every picture with class k."""
    folder, part = tmp_path_factory.mktemp("teachers"), copied.take("train")
    folds = fold_numbers(part, 3, 5)
    paths = []
    for number in (1, 2, 3):
        weights = np.zeros((3, 48 * 48), np.float32)
        weights[number - 1] = 1
        metadata = {"config": {"fold": f"{number}/3", "seed": 5}}
        metadata["train_sha256"] = images_digest(part.images[folds != number])
        path = write_tiny(folder / f"{number}.tflite", class_names=NAMES, weights=weights, metadata=metadata)
        paths.append(str(path))
    return paths


def test_models_that_memorise_teach_nothing_of_the_labels(copied, tmp_path):
    """The labels are random, so a model can know a label only if it has seen the image or a copy."""
    labels = np.random.default_rng(0).integers(0, 3, len(copied))
    labels[[3, 20, 30]] = labels[0]
    noise = np.random.default_rng(1).integers(0, 256, copied.images.shape, np.uint8)
    noise[[3, 20, 30]] = noise[0]
    data = dataclasses.replace(copied, labels=labels, images=noise, subjects=None)
    part = data.take("train")
    folds = fold_numbers(part, 3, 5)

    def memorised(name, seen, **metadata):
        pixels = part.images[seen].reshape(-1, 48 * 48) / 255.0
        wanted = 20 * np.eye(3)[part.labels[seen]]
        weights = (np.linalg.pinv(pixels) @ wanted).T / 255  # answers each seen image with its label
        return str(
            write_tiny(tmp_path / name, class_names=NAMES, weights=weights.astype(np.float32), metadata=metadata)
        )

    def known(paths):
        return np.mean(_predict_with_teachers(paths, data).argmax(axis=1) == part.labels)

    leaking = memorised("all.tflite", folds > 0)
    assert known([leaking]) == 1
    paths = []
    for number in (1, 2, 3):
        about = {
            "config": {"fold": f"{number}/3", "seed": 5},
            "train_sha256": images_digest(part.images[folds != number]),
        }
        paths.append(memorised(f"{number}.tflite", folds != number, **about))
    assert known(paths) < 0.6  # 48 images, 3 classes
    lying = {"config": {"fold": "1/3", "seed": 5}, "train_sha256": images_digest(part.images)}
    with pytest.raises(InputError, match="was not trained on the other folds of these training images"):
        known([memorised("lying.tflite", folds > 0, **lying), *paths[1:]])


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_each_image_is_taught_by_the_model_that_has_not_seen_it(copied, teachers, order):
    answers = _predict_with_teachers([teachers[place] for place in order], copied)
    np.testing.assert_array_equal(answers.argmax(axis=1) + 1, fold_numbers(copied.take("train"), 3, 5))
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(answers.max(axis=1), 1, atol=1e-3)  # one model's answer, not a mean of two


def test_answers_are_means_over_the_image_and_its_mirror(copied, teachers, tmp_path):
    """The teacher uses only the left half, so a mirror image gets another answer."""
    images = copied.images.copy()
    images[:, :, 24:] = 0
    lit = dataclasses.replace(copied, images=images)
    part = lit.take("train")
    folds = fold_numbers(part, 2, 0)
    left = np.zeros((3, 48, 48), np.float32)
    left[0, :, :24], left[1, :, 24:] = 1, 1
    paths = [
        write_tiny(
            tmp_path / f"{number}.tflite",
            class_names=NAMES,
            weights=left.reshape(3, -1),
            metadata={
                "config": {"fold": f"{number}/2", "seed": 0},
                "train_sha256": images_digest(part.images[folds != number]),
            },
        )
        for number in (1, 2)
    ]
    answers = _predict_with_teachers([str(path) for path in paths], lit)
    np.testing.assert_allclose(answers, np.tile([0.5, 0.5, 0], (48, 1)), atol=1e-3)


def test_what_is_no_whole_set_of_folds_is_refused_in_one_line(copied, teachers, tmp_path):
    def line(given, data=copied):
        with pytest.raises(InputError) as error:
            _predict_with_teachers([str(path) for path in given], data)
        assert "\n" not in str(error.value)
        return str(error.value)

    def other(name, **metadata):
        return write_tiny(tmp_path / f"{name}.tflite", class_names=NAMES, metadata=metadata)

    one, two, three = teachers
    assert "no teacher of fold 2/3: give the models of all 3 folds, or train" in line([one, three])
    assert f"{two} and {two} are both of fold 2/3, seed 5" in line([one, two, two, three])
    plain = other("plain")
    assert f"teacher {plain} has seen all training images" in line([one, two, three, plain])
    for name, config in {"seed": {"fold": "3/3", "seed": 6}, "count": {"fold": "3/4", "seed": 5}}.items():
        assert "expected models of one cut" in line([one, two, other(name, config=config)])
    assert "cannot be read" in line([other("broken", config={"fold": "1/3", "seed": None}), two, three])
    assert "expected k/K" in line([other("odd", config={"fold": "x", "seed": 5}), two, three])
    changed = dataclasses.replace(copied, images=copied.images.copy())
    changed.images[10] += 1
    assert "was not trained on the other folds of these training images" in line(teachers, changed)


# --- Training ---


def test_fold_models_teach_and_a_resumed_run_is_the_same(copied, small_network, tmp_path, capsys, caplog):
    save_npz(dataclasses.replace(copied, subjects=None), tmp_path / "data.npz")
    settings = ["--data", str(tmp_path / "data.npz"), "--weights", "none", "--image-size", "32", "--batch-size", "16"]
    settings += ["--epochs", "2", "--seed", "5", "--quantization"]
    runs = [RunDirectory(tmp_path / f"fold-{number}") for number in (1, 2)]
    for number, run in enumerate(runs, 1):
        assert train.main([*settings, "--run", str(run.path), "--fold", f"{number}/2"]) == 0
        assert json.loads(run.config.read_text())["fold"] == f"{number}/2"
        assert read_metadata(run.model)["config"]["fold"] == f"{number}/2"
    hashes = [set(run.read_train_hashes()) for run in runs]
    assert not hashes[0] & hashes[1] and len(hashes[0] | hashes[1]) == 45  # 48 less 3 copies
    caplog.set_level("INFO", logger="fer_tf")
    student = RunDirectory(tmp_path / "student")
    taught = [*settings, "--run", str(student.path), "--teachers", str(runs[1].path), str(runs[0].model)]
    assert train.main(taught) == 0
    scored = [len(set(own)) for own in hashes]  # number of different images; copies are scored too
    assert sum("training images" in text and "scores" in text for text in caplog.messages) == 2
    assert sum(int(text.split()[3]) for text in caplog.messages if "scores" in text) == 48 and min(scored) > 15
    assert len(student.read_train_hashes()) == 45
    capsys.readouterr()
    assert train.main([*settings, "--run", str(tmp_path / "none"), "--teachers", str(runs[0].path)]) == 2
    assert "no teacher of fold 2/2" in capsys.readouterr().err and not (tmp_path / "none").exists()


def test_a_stopped_run_of_a_fold_goes_on_to_the_same_bits(copied, small_network, tmp_path, monkeypatch, capsys):
    from fer_tf.training.checkpoint import TrainState

    save_npz(dataclasses.replace(copied, subjects=None), tmp_path / "data.npz")
    settings = ["--data", str(tmp_path / "data.npz"), "--weights", "none", "--image-size", "32", "--batch-size", "16"]
    settings += ["--epochs", "3", "--fold", "2/3", "--quantization"]
    whole, stopped = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "stopped")
    assert train.main([*settings, "--run", str(whole.path)]) == 0
    save = TrainState.save

    def stop_after_one(state, run):
        save(state, run)
        if state.epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainState, "save", stop_after_one)
    assert train.main([*settings, "--run", str(stopped.path)]) == 130
    monkeypatch.setattr(TrainState, "save", save)
    assert train.main(["--resume", str(stopped.path)]) == 0
    assert stopped.read_train_hashes() == whole.read_train_hashes()
    for one, other in zip(TrainState.load(stopped).weights, TrainState.load(whole).weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_teachers_score_views_of_images_that_all_have_seen(copied, teachers, tmp_path):
    paths = [write_tiny(tmp_path / f"{name}.tflite", class_names=NAMES) for name in "ab"]
    config = Config(teachers=tuple(map(str, paths)), teacher_views=3, mixup=0.5)
    answers = _predict_views_with_teachers(config, copied)
    images = copied.take("train").images
    assert answers.shape == (3, len(images), len(NAMES))
    expected = np.mean([open_model(path).predict(view_images(config, images, 1)) for path in paths], axis=0)
    np.testing.assert_allclose(answers[1], expected, atol=1e-6)
    with pytest.raises(InputError, match=r"teacher_views 3 with models of folds: .* set teacher_views 0"):
        _predict_views_with_teachers(dataclasses.replace(config, teachers=tuple(map(str, teachers))), copied)
