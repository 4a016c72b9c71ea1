"""The machine that a measurement runs on: processor, cores, memory, package versions."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import logging
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fer_tf import __version__
from fer_tf.errors import InputError

_PACKAGES = (
    "numpy", "pillow", "ai-edge-litert", "tensorflow", "keras", "jax", "scikit-learn",
    "litert-quantizer", "opencv-python-headless",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """Processor model, cores that this process may use, memory in GiB, operating system; no host name."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu_model() -> str:
    found: dict[str, str] = {}
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                key, _, value = line.partition(":")
                found.setdefault(key.strip(), value.strip())
    except OSError:
        return platform.processor() or platform.machine()
    name = found.get("model name") or found.get("Hardware") or platform.machine()
    # A virtual machine may say only "AMD EPYC": family and model give the generation.
    family = ", ".join(f"{key} {found[key]}" for key in ("cpu family", "model") if key in found)
    return f"{name} ({family})" if family else name


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def load_average() -> float | None:
    """Mean number of running processes over the last minute; above 0 while we do nothing, other programs run."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep freed memory instead of returning it to the system.

    Each training step frees and allocates the same tensors, hundreds of MiB. By default glibc maps each large tensor
    anew and unmaps it after use, and the system clears every page again: on a virtual machine with costly page faults
    that was more than half of the step. The price: the process never shrinks.

    Returns:
        True if the allocator accepted the settings; False if the C library is not glibc.
    """
    # mallopt(3): M_ARENA_MAX 1, M_MMAP_MAX 0, M_TRIM_THRESHOLD never, M_TOP_PAD 256 MiB at a time
    settings = ((-8, 1), (-4, 0), (-1, -1), (-2, 256 << 20))
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return all(libc.mallopt(name, value) == 1 for name, value in settings)


def versions() -> dict[str, str]:
    """Versions of Python, fer_tf and the installed packages that it uses."""
    found = {"python": platform.python_version(), "fer_tf": __version__}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Keep everything off stderr, including the output of native code."""
    with open(os.devnull, "w") as nowhere:
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def start_keras() -> None:
    """Import Keras and its backend; keep TensorFlow's start-up notices off stderr unless details are logged.

    The notices come from native code before TensorFlow reads its log level, so the file descriptor itself is
    redirected.

    Raises:
        InputError: if KERAS_BACKEND names a backend that Keras does not have.
    """
    keep_freed_memory()
    is_verbose = logging.getLogger("fer_tf").isEnabledFor(logging.DEBUG)
    with contextlib.nullcontext() if is_verbose else silent_stderr():
        try:
            import keras

            if keras.backend.backend() == "tensorflow":
                import tensorflow as tf

                tf.config.list_physical_devices()  # the search for GPUs prints notices too
                tf.get_logger().setLevel("ERROR")  # no retracing warnings: we build several models on purpose
        except ValueError as error:
            raise InputError(f"KERAS_BACKEND={os.environ.get('KERAS_BACKEND')}: expected tensorflow or jax") from error


def commit() -> str | None:
    """The commit of the clone that this package runs from; None if it does not run from a clone."""
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
