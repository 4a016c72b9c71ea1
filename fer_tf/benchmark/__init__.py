"""Timings of this machine: the plan, the measurements, and their tables."""

from fer_tf.benchmark.measure import (
    decoding,
    keras_latency,
    latency,
    litert_latency,
    peak_memory_mib,
    pipeline,
    startup,
    training_step,
)

__all__ = [
    "decoding", "keras_latency", "latency", "litert_latency", "peak_memory_mib", "pipeline", "startup", "training_step"
]  # fmt: skip
