"""Timings of decoding, input pipeline, training step, prediction and start-up; each function returns its figures.

The figures are medians, because a shared machine stalls now and then. Functions that need TensorFlow or Keras import it
only when called.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_tf.config import Config
from fer_tf.data.synthetic import draw_faces, make_synthetic
from fer_tf.errors import InputError
from fer_tf.inference.opening import open_model
from fer_tf.inference.predictor import Predictor, default_num_threads
from fer_tf.task import NUM_CLASSES

if TYPE_CHECKING:
    import keras

_NUM_ROWS = 8192  # pixel strings decoded in a pass; with fewer, tf.data's start would distort the rate
_NUM_FACES = 512  # drawn once; repeated if more are needed
_NUM_CROPS = 64  # crops per thread in each call that measures throughput
_WARM_UP_CALLS, _FEWEST_CALLS = 3, 5
_WARM_UP_STEPS, _FEWEST_STEPS = 1, 2  # a step at 224 px takes seconds on two cores
_FEWEST_STARTS, _MOST_STARTS = 2, 10
_ENDLESS = 1 << 30  # epochs or steps; the clock ends the measurement
_STARTUP = """
import sys
import numpy as np
from fer_tf.benchmark import peak_memory_mib
from fer_tf.inference import EmotionClassifier
EmotionClassifier(sys.argv[1]).predict(np.zeros((1, 48, 48), np.uint8))
sys.stdout.write(str(peak_memory_mib()))
"""


def decoding(*, seconds: float, num_rows: int = _NUM_ROWS) -> dict[str, Any]:
    """Measure how fast `data.tf_pipeline.decode` turns pixel strings into uint8 images.

    Args:
        seconds: least time of the measurement.
        num_rows: strings decoded in one pass.
    """
    from fer_tf.data.tf_pipeline import decode

    faces = make_synthetic(min(num_rows, _NUM_FACES), 0, 0)
    strings = faces.rows(np.arange(num_rows) % len(faces))
    times = _times(lambda: decode(strings), seconds, warm_up=1)
    return {"num_rows": num_rows, "rows_per_s": num_rows / float(np.median(times))}


def pipeline(config: Config, image_size: int, *, batch_size: int, seconds: float) -> dict[str, Any]:
    """Measure how fast `data.tf_pipeline` turns uint8 images in memory into ready batches, with nothing else running.

    Args:
        config: gives the augmentation of training images.
        image_size: side of the ready images, pixels.
        batch_size: images a batch.
        seconds: least time of each of the two measurements.

    Returns:
        `image_size`, `eval_images_per_s` without and `train_images_per_s` with augmentation.
    """
    from fer_tf.data import tf_pipeline as pipeline_module

    images, targets = _faces(batch_size)
    batches = {"batch_size": batch_size, "image_size": image_size}
    plain = pipeline_module.make_eval_dataset(images, targets, **batches).repeat()
    return {
        "image_size": image_size,
        "eval_images_per_s": _batch_rate(plain, batch_size, seconds),
        "train_images_per_s": _batch_rate(
            _train_batches(pipeline_module, config, batch_size, image_size), batch_size, seconds
        ),
    }


def _faces(batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole batches of drawn faces and their targets: uint8 (n, 48, 48), float32 (n, 7)."""
    labels = np.arange(_NUM_FACES) % NUM_CLASSES
    rows = np.arange(-(-_NUM_FACES // batch_size) * batch_size) % _NUM_FACES
    return draw_faces(labels)[rows], np.eye(NUM_CLASSES, dtype=np.float32)[labels[rows]]


def _train_batches(pipeline_module: Any, config: Config, batch_size: int, image_size: int) -> Any:
    """Endless training batches; as in training, each epoch has its own plan."""
    from fer_tf.data.augmentation import plan_epoch

    images, targets = _faces(batch_size)
    weights = np.ones(len(images), np.float32)
    config = dataclasses.replace(config, batch_size=batch_size)
    return pipeline_module.make_train_dataset(
        images,
        lambda epoch: plan_epoch(config, targets, weights, phase=2, epoch=epoch),
        epochs=(0, _ENDLESS),
        batch_size=batch_size,
        image_size=image_size,
    )


def _batch_rate(batches: Iterable[Any], batch_size: int, seconds: float) -> float:
    iterator = iter(batches)
    for _ in range(_WARM_UP_CALLS):
        next(iterator)
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds or count < _FEWEST_CALLS:
        next(iterator)
        count += 1
    return count * batch_size / elapsed


def training_step(config: Config, image_size: int, *, batch_size: int, seconds: float) -> dict[str, Any]:
    """Measure how fast Keras's fit trains all layers of the network, and what takes the time of a step.

    Args:
        config: the recipe's augmentation, model, precision and weight decay; the optimiser is AdamW.
        image_size: side of the network's input, pixels.
        batch_size: images a step.
        seconds: least time of each of the four measurements.

    Returns:
        `image_size`, `width`, `images_per_s`, `step_ms` and its four parts, `backend`, `devices`, `precision`.
        The parts: `input_ms`, the extra time of fit if the input pipeline makes each batch instead of repeating one
        ready batch; `forward_ms`, a compiled forward pass on this batch; `backward_ms`, both compiled passes less
        `forward_ms`; `optimizer_ms`, fit on this batch less both passes: optimiser, metrics and fit itself.
    """
    import keras

    from fer_tf import training
    from fer_tf.model.network import logits_model, set_trainable

    on_tensorflow = keras.backend.backend() == "tensorflow"
    if on_tensorflow:
        from fer_tf.data import tf_pipeline as pipeline_module
    else:
        from fer_tf.data import jax_pipeline as pipeline_module  # type: ignore[no-redef]
    policy = training.resolve_precision(config.precision)
    model = training.build_for(config, image_size, NUM_CLASSES, policy)
    set_trainable(model, backbone=True, batch_norm=config.train_batch_norm)
    trainer = training.make_trainer(pipeline_module, logits_model(model), image_size)
    optimizer = keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay)
    training.compile_trainer(trainer, optimizer, NUM_CLASSES)
    batches = _train_batches(pipeline_module, config, batch_size, image_size)
    fed = _step_seconds(trainer, batches, seconds)
    again = _train_batches(pipeline_module, config, batch_size, image_size)
    if on_tensorflow:  # keep the element type, so that the step is not traced again
        batch, fixed = next(iter(again)), again.take(1).cache().repeat().prefetch(1)
    else:
        batch = next(again)
        fixed = (batch for _ in itertools.count())  # a generator: Keras takes no other iterator
    on_fixed = _step_seconds(trainer, fixed, seconds)
    forward, both = (
        float(np.median(_times(call, seconds, fewest=_FEWEST_STEPS, warm_up=_WARM_UP_STEPS)))
        for call in _forward_and_both(trainer, batch)
    )
    return {
        "image_size": image_size,
        "width": config.width,
        "images_per_s": batch_size / fed,
        "step_ms": 1e3 * fed,
        "forward_ms": 1e3 * forward,
        "backward_ms": 1e3 * (both - forward),
        "optimizer_ms": 1e3 * (on_fixed - both),
        "input_ms": 1e3 * (fed - on_fixed),
        "backend": keras.backend.backend(),
        "devices": keras.distribution.list_devices(),
        "precision": policy,
    }


def _step_seconds(trainer: keras.Model, batches: Any, seconds: float) -> float:
    """Median time between the ends of two steps of fit."""
    import keras

    ends: list[float] = []

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            float((logs or {})["loss"])  # waits for the device, like training's progress line
            ends.append(time.perf_counter())
            counted = ends[_WARM_UP_STEPS:]
            if len(counted) > _FEWEST_STEPS and counted[-1] - counted[0] >= seconds:
                self.model.stop_training = True

    trainer.fit(batches, steps_per_epoch=_ENDLESS, callbacks=[Clock()], shuffle=False, verbose=0)
    return float(np.median(np.diff(ends[_WARM_UP_STEPS:])))


def _forward_and_both(trainer: keras.Model, batch: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return two functions: the forward pass and both passes on one batch; each call waits for the device."""
    import keras

    x, y = batch[0], batch[1]
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    if keras.backend.backend() == "jax":
        import jax

        fixed = [variable.value for variable in trainer.non_trainable_variables]

        def value(weights: Any) -> Any:
            return loss(y, trainer.stateless_call(weights, fixed, x, training=True)[0])

        weights = [variable.value for variable in trainer.trainable_variables]
        forward, both = jax.jit(value), jax.jit(jax.value_and_grad(value))
        return (
            lambda: jax.block_until_ready(forward(weights)),
            lambda: jax.block_until_ready(both(weights)),
        )
    import tensorflow as tf

    compiled = bool(trainer.jit_compile)

    @tf.function(jit_compile=compiled)
    def tf_forward() -> Any:
        return loss(y, trainer(x, training=True))

    @tf.function(jit_compile=compiled)
    def tf_both() -> Any:
        with tf.GradientTape() as tape:
            result = loss(y, trainer(x, training=True))
        # Return one number that depends on every gradient: TensorFlow removes gradients that are not used.
        return tf.linalg.global_norm(tape.gradient(result, trainer.trainable_variables))

    return lambda: tf_forward().numpy(), lambda: tf_both().numpy()


def latency(predictor: Predictor, *, num_crops: int, seconds: float) -> dict[str, Any]:
    """Time one call of `predict`, after a few calls that are not counted.

    Args:
        predictor: an opened model.
        num_crops: crops in the call.
        seconds: least time of the measurement.

    Returns:
        `num_crops`, `median_ms`, `p5_ms` and `p95_ms` (5th and 95th percentile of the calls), `num_calls`.
    """
    crops = draw_faces(np.arange(num_crops) % NUM_CLASSES)
    times_ms = 1e3 * _times(lambda: predictor.predict(crops), seconds)
    low, median, high = np.percentile(times_ms, (5, 50, 95))
    return {
        "num_crops": num_crops,
        "median_ms": float(median),
        "p5_ms": float(low),
        "p95_ms": float(high),
        "num_calls": len(times_ms),
    }


def litert_latency(path: Path, *, seconds: float) -> list[dict[str, Any]]:
    """Measure `latency` of a .tflite with one thread and with all threads, for one crop per thread and for many crops.

    Each thread predicts one crop at a time, so n threads predict n crops in about the time of one.

    Args:
        path: path of the .tflite.
        seconds: least time of each measurement.

    Returns:
        A row for each number of threads: the result of `latency`, and `file`, `quantization` (None if the file does not
        say), `image_size`, `size_bytes`, `num_threads`, `crops_per_s`.
    """
    rows = []
    for num_threads in sorted({1, default_num_threads()}):
        predictor = open_model(path, num_threads=num_threads)
        crops = draw_faces(np.arange(_NUM_CROPS * num_threads) % NUM_CLASSES)
        times = _times(partial(predictor.predict, crops), seconds, fewest=2, warm_up=1)
        rows.append(
            {
                "file": path.name,
                "quantization": predictor.metadata.get("quantization"),
                "image_size": predictor.metadata.get("image_size"),
                "size_bytes": path.stat().st_size,
                "num_threads": num_threads,
                **latency(predictor, num_crops=num_threads, seconds=seconds),
                "crops_per_s": len(crops) / float(np.median(times)),
            }
        )
    return rows


def keras_latency(path: Path | None, *, image_size: int, batch_size: int, seconds: float) -> list[dict[str, Any]]:
    """Measure `latency` of Keras's predict for one crop and for a batch, preprocessing included.

    Args:
        path: path of a .keras; None for an untrained network, which is as fast as a trained one.
        image_size: input side of the untrained network, pixels.
        batch_size: crops in the larger call.
        seconds: least time of each measurement.

    Returns:
        A row for each number of crops: the result of `latency`, and `file`, `image_size`, `crops_per_s`.
    """
    predictor = _untrained(image_size) if path is None else open_model(path)
    image_size = predictor.metadata.get("image_size", image_size)
    name = "untrained network" if path is None else path.name
    rows = []
    for num_crops in sorted({1, batch_size}):
        row = {"file": name, "image_size": image_size, **latency(predictor, num_crops=num_crops, seconds=seconds)}
        rows.append({**row, "crops_per_s": 1e3 * num_crops / row["median_ms"]})
    return rows


def _untrained(image_size: int) -> Predictor:
    """Return an untrained network."""
    from fer_tf.inference.keras_model import KerasPredictor
    from fer_tf.model.network import build_model

    metadata = {"class_names": [str(label) for label in range(NUM_CLASSES)], "image_size": image_size}
    return KerasPredictor(build_model(NUM_CLASSES, image_size=image_size), metadata)


def startup(path: Path, *, seconds: float) -> dict[str, Any]:
    """Measure one prediction in a fresh process: start of Python, imports, opening the model, one crop.

    Args:
        path: path of a .tflite or .keras.
        seconds: least time of the measurement. A first process, which is not counted, fills the disk cache.

    Returns:
        `file`, `median_s` (from start to exit), `peak_memory_mib`, `num_starts`.
    """
    package_parent = str(Path(__file__).resolve().parents[2])
    search_path = os.pathsep.join(filter(None, (package_parent, os.environ.get("PYTHONPATH"))))
    peaks = []

    def start() -> None:
        command = [sys.executable, "-c", _STARTUP, str(path)]
        environment = {**os.environ, "PYTHONPATH": search_path, "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise InputError(f"a fresh process cannot predict with {path}: {reason}")
        peaks.append(json.loads(done.stdout))

    times = _times(start, seconds, fewest=_FEWEST_STARTS, most=_MOST_STARTS, warm_up=1)
    return {
        "file": path.name,
        "median_s": float(np.median(times)),
        "peak_memory_mib": float(np.median(peaks)),
        "num_starts": len(times),
    }


def peak_memory_mib() -> float:
    """Largest memory that this process has used so far, MiB."""
    try:
        # On Linux, ru_maxrss includes the parent's memory at the fork; VmHWM does not.
        with open("/proc/self/status", encoding="ascii") as file:
            return int(next(line.split()[1] for line in file if line.startswith("VmHWM"))) / 1024
    except (OSError, StopIteration):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def _times(
    call: Callable[[], Any],
    seconds: float,
    *,
    fewest: int = _FEWEST_CALLS,
    most: int = _ENDLESS,
    warm_up: int = _WARM_UP_CALLS,
) -> np.ndarray:
    """Times of calls, s, after the warm-up: repeat until `seconds` have passed, at least `fewest`, at most `most`."""
    for _ in range(warm_up):
        call()
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < fewest or (len(times) < most and time.perf_counter() - begin < seconds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return np.array(times)
