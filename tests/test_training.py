import dataclasses
import types

import keras
import numpy as np
import pytest

from fer_tf.artifacts import RunDirectory
from fer_tf.config import Config
from fer_tf.data import tf_pipeline as pipeline
from fer_tf.data.augmentation import augment, view_images
from fer_tf.errors import Diverged, InputError
from fer_tf.model.network import build_model
from fer_tf.model.weights import BACKBONE, set_weights
from fer_tf.recipes import recipe
from fer_tf.text import duration
from fer_tf.training import loop
from fer_tf.training.checkpoint import TrainState, load_weights
from fer_tf.training.loop import train
from fer_tf.training.schedule import image_size_at, make_optimizer, on_gpu, resolve_precision, segments
from fer_tf.training.targets import class_weights, one_hot, soft_targets

TINY = Config(
    weights="none", image_size=32, batch_size=16, frozen_epochs=2, epochs=2, learning_rate=1e-3, batch_norm_momentum=0.9
)


def _tiny(**settings) -> Config:
    return dataclasses.replace(TINY, **settings)


def _backbone(model: keras.Model) -> list[np.ndarray]:
    return model.get_layer(BACKBONE).get_weights()


def _same(left: list[np.ndarray], right: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


# --- Targets and weights ---


def test_balanced_weights_are_scikit_learns():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat([0, 1, 2], [5, 1, 10])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(class_weights(labels, 3, "balanced"), expected, rtol=1e-6)
    np.testing.assert_allclose(class_weights(labels, 3, "sqrt"), np.sqrt(expected), rtol=1e-6)
    assert class_weights(labels, 3, "none").tolist() == [1, 1, 1]
    assert class_weights(labels, 4, "balanced")[3] == 0


def test_image_weights_give_keras_class_weight_loss():
    """Weights per image replace fit's class_weight, which uses the arg max of soft targets."""
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(12, 4)).astype(np.float32), np.arange(12) % 3
    weights = class_weights(labels[:10], 3, "balanced")
    losses = []
    for how in ({"class_weight": dict(enumerate(map(float, weights)))}, {"sample_weight": weights[labels]}):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
        losses.append(model.fit(x, one_hot(labels, 3), batch_size=4, epochs=3, verbose=0, shuffle=False, **how).history)
    np.testing.assert_allclose(losses[0]["loss"], losses[1]["loss"], rtol=1e-6)


def test_label_smoothing_and_distillation_keep_rows_at_one():
    labels = np.array([0, 2])
    smooth = soft_targets(_tiny(label_smoothing=0.3), labels, 3)
    np.testing.assert_allclose(smooth, [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]], atol=1e-6)
    teacher = np.array([[0.5, 0.25, 0.25], [0.81, 0.09, 0.1]])
    soft = soft_targets(_tiny(distillation_weight=1.0, distillation_temperature=2.0), labels, 3, teacher)
    np.testing.assert_allclose(soft, np.sqrt(teacher) / np.sqrt(teacher).sum(1, keepdims=True), atol=1e-6)
    half = soft_targets(_tiny(distillation_weight=0.5, distillation_temperature=1.0), labels, 3, teacher)
    np.testing.assert_allclose(half, (one_hot(labels, 3) + teacher) / 2, atol=1e-6)


# --- Sizes, schedules ---


def test_sizes_rise_in_steps_of_16_and_end_at_the_final_size():
    config = _tiny(image_size=96, initial_image_size=48, resizing_epochs=6, epochs=10)
    assert [image_size_at(config, epoch) for epoch in range(10)] == [48, 48, 64, 64, 80, 80, 96, 96, 96, 96]
    assert image_size_at(_tiny(), 0) == 32


def test_segments_cover_every_epoch_once():
    config = _tiny(image_size=64, initial_image_size=32, resizing_epochs=4, epochs=6)
    assert list(segments(config, 3)) == [(1, 64, 3), (2, 32, 2), (2, 48, 4), (2, 64, 6)]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_weight_decay_is_of_kernels_only(optimizer):
    found = make_optimizer(_tiny(optimizer=optimizer, weight_decay=0.5), 2, 10)
    layer = keras.layers.BatchNormalization()
    layer.build((None, 3))
    dense = keras.layers.Dense(2)
    dense.build((None, 3))
    found.build([*layer.trainable_variables, *dense.trainable_variables])
    decayed = [v.path for v in [*layer.trainable_variables, *dense.trainable_variables] if found._use_weight_decay(v)]
    assert [path.rsplit("/", 1)[-1] for path in decayed] == ["kernel"]


def test_cosine_warms_up_peaks_and_ends_at_zero():
    optimizer = make_optimizer(_tiny(schedule="cosine", epochs=10, warmup_epochs=2.0), 2, 100)
    rates = [float(optimizer._learning_rate(step)) for step in (0, 100, 200, 600, 1000)]
    np.testing.assert_allclose(rates, [0, 5e-4, 1e-3, 5e-4, 0], atol=1e-9)


def test_phase_1_has_its_own_constant_rate():
    optimizer = make_optimizer(_tiny(schedule="cosine", frozen_learning_rate=0.25), 1, 100)
    assert float(optimizer.learning_rate) == 0.25


def test_report_optimises_as_the_report_says():
    optimizer = make_optimizer(recipe("report"), 2, 100)
    assert isinstance(optimizer, keras.optimizers.AdamW)
    assert float(optimizer.learning_rate) == pytest.approx(1e-4)
    assert optimizer.weight_decay == 1e-4
    assert optimizer.global_clipnorm is None


def test_precision_auto_is_float32_on_a_cpu_and_the_crawling_one_is_said(caplog):
    if on_gpu():
        pytest.skip("a GPU is at hand")
    assert resolve_precision("auto") == "float32"
    assert not caplog.records
    assert resolve_precision("mixed_float16") == "mixed_float16"
    assert "20 times slower" in caplog.text


@pytest.mark.parametrize(("seconds", "text"), [(4.4, "4 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")])
def test_duration(seconds, text):
    assert duration(seconds) == text


# --- TrainState ---


def test_state_survives_the_disk_and_falls_back_on_the_one_before(tmp_path, caplog):
    run = RunDirectory.create(tmp_path / "run")
    assert TrainState.load(run) is None
    state = TrainState(
        2, 3, [np.arange(3.0)], [np.int64(7)], [], {"plateau": {"wait": 1}}, {"epoch": 3}, [{"epoch": 1}]
    )
    state.save(run)
    state.epoch = 4
    state.save(run)
    back = TrainState.load(run)
    assert (back.phase, back.epoch, back.counters, back.best, back.history) == (2, 4, *(
        {"plateau": {"wait": 1}}, {"epoch": 3}, [{"epoch": 1}]
    ))  # fmt: skip
    assert back.weights[0].tolist() == [0, 1, 2]
    assert back.optimizer[0] == 7
    whole = run.state.read_bytes()
    run.state.write_bytes(whole[: len(whole) // 2])
    assert TrainState.load(run).epoch == 3
    assert "trying the previous state" in caplog.text
    run.previous_state.write_bytes(b"")
    with pytest.raises(InputError, match="no readable training state"):
        TrainState.load(run)


# --- Runs ---


@pytest.fixture(scope="module")
def two_phases(small_dataset, imagenet_h5, tmp_path_factory):
    """A run from a local weights file, with its state after phase 1 and after phase 2."""
    run = RunDirectory.create(tmp_path_factory.mktemp("runs") / "run")
    config = _tiny(weights=imagenet_h5, epochs=0, frozen_learning_rate=0.01)
    after_1, _ = train(config, run, small_dataset, pipeline)
    after_2, state = train(dataclasses.replace(config, epochs=2), run, small_dataset, pipeline)
    return config, run, after_1, after_2, state


def test_phase_1_leaves_every_backbone_weight_and_statistic_alone(two_phases, imagenet_h5):
    _, _, after_1, _, _ = two_phases
    start = build_model(3, image_size=32, weights=imagenet_h5)
    assert _same(_backbone(after_1), _backbone(start))
    assert np.abs(after_1.get_layer("logits").get_weights()[1]).max() > 0


def test_phase_2_moves_weights_and_statistics(two_phases):
    _, _run, after_1, _, state = two_phases
    last = build_model(3, image_size=32)
    set_weights(last, state.weights)
    moved = {
        before.path.rsplit("/", 1)[-1]
        for before, after in zip(after_1.get_layer(BACKBONE).weights, last.get_layer(BACKBONE).weights, strict=True)
        if not np.array_equal(np.asarray(before), np.asarray(after))
    }
    assert {"kernel", "gamma", "beta", "moving_mean", "moving_variance"} <= moved


def test_history_is_one_over_both_phases_and_the_best_is_kept(two_phases):
    _, run, _, after_2, state = two_phases
    assert [(row["phase"], row["epoch"]) for row in state.history] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    best = max(state.history, key=lambda row: row["val_accuracy"])
    assert state.best["val_accuracy"] == best["val_accuracy"]
    assert _same(after_2.get_weights(), load_weights(run.best_weights(best["phase"], best["epoch"])))
    lines = run.history.read_text().splitlines()
    assert lines[0].startswith("phase,epoch,image_size,seconds,learning_rate,loss,accuracy,val_loss,val_accuracy")
    assert len(lines) == 5


def test_kept_weights_score_what_the_history_says(two_phases, small_dataset):
    _, _, _, model, state = two_phases
    validation = small_dataset.take("validation")
    data = pipeline.make_eval_dataset(validation.images, one_hot(validation.labels, 3), batch_size=16, image_size=32)
    accuracy = (model.predict(data, verbose=0).argmax(1) == validation.labels).mean()
    assert accuracy == pytest.approx(state.best["val_accuracy"], abs=1e-6)


def test_rounded_kernels_are_float16_values_of_the_best_weights(two_phases, small_dataset):
    config, run, _, exact, _ = two_phases
    rounded, _ = train(
        dataclasses.replace(config, epochs=2, round_kernels=True), run, small_dataset, pipeline
    )  # no epoch is left, so only the end of the run is repeated
    changed = 0
    for before, after in zip(exact.get_weights(), rounded.get_weights(), strict=True):
        assert after.dtype == before.dtype
        if before.ndim >= 2:
            assert np.array_equal(after, after.astype(np.float16))
            half_a_step = np.maximum(2**-11 * np.abs(before), 2**-25)  # half a step of float16
            assert np.all(np.abs(after - before) <= half_a_step)
            changed += not np.array_equal(before, after)
        else:
            assert np.array_equal(before, after)
    assert changed > 50


class _Killed(BaseException):
    pass


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"ema_decay": 0.9, "mixup": 0.2, "cutmix": 1.0, "clip_norm": 1.0, "optimizer": "sgd", "schedule": "cosine"},
        {"early_stopping_patience": 2, "plateau_patience": 0, "clip_norm": 1.0, "initial_image_size": 32,
         "resizing_epochs": 2, "image_size": 48, "label_smoothing": 0.1, "logit_adjustment": 1.0,
         "class_weights": "none", "optimizer": "muon"},
    ],
)  # fmt: skip
def test_stopped_after_any_epoch_ends_with_the_same_bits(settings, small_dataset, imagenet_h5, tmp_path, monkeypatch):
    config = _tiny(weights=imagenet_h5, frozen_epochs=1, epochs=3, batch_size=8, **settings)
    whole, whole_state = train(config, RunDirectory.create(tmp_path / "whole"), small_dataset, pipeline)
    run = RunDirectory.create(tmp_path / "killed")
    save = TrainState.save

    def save_and_die(self, run):
        save(self, run)
        raise _Killed

    for _ in range(4):
        with monkeypatch.context() as patch, pytest.raises(_Killed):
            patch.setattr(TrainState, "save", save_and_die)
            train(config, run, small_dataset, pipeline)
    resumed, state = train(config, run, small_dataset, pipeline)
    assert _same(resumed.get_weights(), whole.get_weights())
    assert _same(state.weights, whole_state.weights)
    assert _same(state.optimizer, whole_state.optimizer)
    without_time = [[{**row, "seconds": 0} for row in s.history] for s in (state, whole_state)]
    assert without_time[0] == without_time[1]
    assert state.counters == whole_state.counters


@pytest.mark.slow
def test_fixed_batch_norm_keeps_its_statistics_while_kernels_train(small_dataset, imagenet_h5, tmp_path):
    config = _tiny(weights=imagenet_h5, frozen_epochs=0, epochs=1, train_batch_norm=False, learning_rate=1e-4)
    _, state = train(config, RunDirectory.create(tmp_path / "r"), small_dataset, pipeline)
    start = build_model(3, image_size=32, weights=imagenet_h5)
    moved = {
        variable.path.rsplit("/", 1)[-1]
        for variable, after in zip(start.weights, state.weights, strict=True)
        if not np.array_equal(np.asarray(variable), after)
    }
    assert moved == {"kernel", "bias"}


def test_average_follows_short_epochs_too(small_dataset, tmp_path, small_network):
    """With three steps an epoch, the average must still leave the starting weights, and validation must use it."""
    run = RunDirectory.create(tmp_path / "r")
    model, state = train(_tiny(epochs=2, ema_decay=0.9), run, small_dataset, pipeline)
    assert state.counters["average_steps"] == 6
    assert not _same(state.average, state.weights)
    assert _same(model.get_weights(), load_weights(run.best_weights(2, state.best["epoch"])))
    keras.utils.set_random_seed(0)
    start = build_model(3, image_size=32, batch_norm_momentum=0.9).get_weights()
    assert not any(np.array_equal(a, b) for a, b in zip(start, state.average, strict=True) if a.ndim == 4)


def test_epochs_take_the_views_of_the_teachers_in_turn(small_dataset, tmp_path, small_network):
    """Each image of an epoch has the teachers' answer to that very image, mixed and noisy as it is."""
    config = _tiny(
        frozen_epochs=0, epochs=3, distillation_weight=1.0, distillation_temperature=1.0, teacher_views=2, mixup=0.4,
        noise=20.0, erasing=0.5,
    )  # fmt: skip
    images = small_dataset.take("train").images

    def answers(faces):
        share = faces.reshape(len(faces), -1).mean(axis=1) / 255
        return np.stack([share / 2, share / 2, 1 - share], axis=1)

    plans = []

    def make_train_dataset(images, plan, **more):
        plans.append(plan)
        return pipeline.make_train_dataset(images, plan, **more)

    recording = types.SimpleNamespace(**{**vars(pipeline), "make_train_dataset": make_train_dataset})
    views = [view_images(config, images, view) for view in range(2)]
    assert views[0].dtype == np.uint8 and not np.array_equal(*views)
    run = RunDirectory.create(tmp_path / "r")
    train(config, run, small_dataset, recording, teacher_probabilities=np.stack([answers(view) for view in views]))
    targets = []
    for epoch in range(3):
        for rows, parameters, target, _ in plans[0](epoch).batches(config.batch_size):
            seen = keras.ops.convert_to_numpy(augment(images[rows], parameters))
            np.testing.assert_allclose(target, answers(seen), atol=0.002)  # views are rounded to grey levels
            targets.append(target)
    first, second, third = np.split(np.concatenate(targets), 3)
    assert np.array_equal(first, third) and np.abs(first - second).max() > 0.05


def test_loss_that_is_no_number_stops_and_keeps_the_last_good_state(
    small_dataset, tmp_path, monkeypatch, small_network
):
    run = RunDirectory.create(tmp_path / "run")
    plan = loop.plan_epoch

    def poisoned(config, targets, weights, **settings):
        if settings["epoch"] == 1:
            weights = np.where(np.arange(len(weights)) == 5, np.nan, weights).astype(np.float32)
        return plan(config, targets, weights, **settings)

    monkeypatch.setattr(loop, "plan_epoch", poisoned)
    with pytest.raises(
        Diverged,
        match=r"loss nan in phase 2, 32 px, epoch 2/2, step [123]: phase 2, epoch 1 is kept; .*lower --learning",
    ):
        train(_tiny(), run, small_dataset, pipeline)
    state = TrainState.load(run)
    assert (state.phase, state.epoch) == (2, 1)
    assert all(np.isfinite(value).all() for value in state.weights)
    assert run.best_weights(2, 1).exists()


def test_no_epoch_gives_the_starting_weights(small_dataset, imagenet_h5, tmp_path):
    model, state = train(
        _tiny(weights=imagenet_h5, frozen_epochs=0, epochs=0),
        RunDirectory.create(tmp_path / "r"),
        small_dataset,
        pipeline,
    )
    assert state.history == []
    assert _same(_backbone(model), _backbone(build_model(3, image_size=32, weights=imagenet_h5)))


def test_from_scratch_has_no_frozen_phase_and_says_why(small_dataset, tmp_path, caplog, small_network):
    caplog.set_level("INFO", logger="fer_tf")
    config = _tiny(epochs=1, batch_size=100)  # a batch larger than the data
    _, state = train(config, RunDirectory.create(tmp_path / "r"), small_dataset, pipeline)
    assert [row["phase"] for row in state.history] == [2]
    assert "no frozen phase: with --weights none the backbone is random" in caplog.text
    assert "48 images in 1 steps" in caplog.text
