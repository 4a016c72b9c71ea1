"""Opens and crops the pictures of a data set, in this process or in several if that saves time."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterable, Iterator

import numpy as np

from fer_tf.errors import InputError
from fer_tf.faces.pictures import decode_picture
from fer_tf.faces.policy import CropPolicy
from fer_tf.text import shown_path

_BATCH = 64  # files that a process gets at a time
_NUM_TRIED = 256  # files to open in this process first, to measure the time for one
_WORTH_SECONDS = 2.0  # start processes, which takes about one second, only if more work is left
_MOST_PROCESSES = 8  # each needs about 100 MB

File = tuple[int, str, bytes]  # row, name of the picture, contents


@dataclasses.dataclass(frozen=True)
class Opened:
    """The result of opening a picture.

    Attributes:
        kind: size and colour, such as `640x480 colour`; empty for a broken picture.
        is_first_of_several: True for the first frame of an animation.
        crop: uint8 (48, 48); None if the picture is broken or no face was found.
        broken: why the picture cannot be read, without its name; empty for a sound picture.
    """

    kind: str = ""
    is_first_of_several: bool = False
    crop: np.ndarray | None = None
    broken: str = ""


def open_pictures(files: Iterable[File], num_files: int, policy: CropPolicy) -> Iterator[tuple[int, Opened]]:
    """Open and crop pictures, in the same order.

    Args:
        files: the files, which are read one after another, at most a few batches ahead of the results.
        num_files: approximate number of files.
        policy: how a picture becomes a crop.

    Raises:
        InputError: if the system ends one of the processes.
    """
    files = iter(files)
    started = time.monotonic()
    num_opened = 0
    for file in itertools.islice(files, _NUM_TRIED):
        num_opened += 1
        yield _opened(file, policy)
    seconds_left = (time.monotonic() - started) / max(num_opened, 1) * (num_files - num_opened)
    if seconds_left > _WORTH_SECONDS and (processes := _num_processes()) > 1:
        yield from _in_processes(files, policy, processes)
    else:
        for file in files:
            yield _opened(file, policy)


def _in_processes(files: Iterator[File], policy: CropPolicy, processes: int) -> Iterator[tuple[int, Opened]]:
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    batches = iter(lambda: list(itertools.islice(files, _BATCH)), [])
    parallel = Parallel(n_jobs=processes, return_as="generator", batch_size=1, pre_dispatch=4 * processes)
    try:
        for batch in parallel(delayed(_opened_batch)(batch, policy) for batch in batches):
            yield from batch
    except TerminatedWorkerError as error:
        raise InputError(
            f"one of {processes} processes that open pictures was ended by the system, probably for lack of memory; "
            "free some memory, or set the environment variable LOKY_MAX_CPU_COUNT to 1"
        ) from error


def _opened_batch(batch: list[File], policy: CropPolicy) -> list[tuple[int, Opened]]:
    return [_opened(file, policy) for file in batch]


def _opened(file: File, policy: CropPolicy) -> tuple[int, Opened]:
    row, name, data = file
    try:
        picture = decode_picture(data, shown_path(name), min_side=policy.detect_side)
    except InputError as error:
        return row, Opened(broken=reason(error, name))
    width, height = picture.size
    kind = f"{width}x{height} {'grey' if picture.image.mode == 'L' else 'colour'}"
    return row, Opened(kind, picture.is_first_of_several, policy.crop(picture))


def reason(error: InputError | OSError, name: str) -> str:
    """Say what is wrong with a file, without its name."""
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or error}); make it readable, or remove it"
    return str(error).removeprefix(f"{shown_path(name)}: ")


def _num_processes() -> int:
    """The processors that this process may use; 1 in the light install, which has no joblib."""
    try:
        import joblib
    except ImportError:
        return 1
    return min(joblib.cpu_count(), _MOST_PROCESSES)
