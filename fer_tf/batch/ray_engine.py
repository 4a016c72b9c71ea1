"""The engine `ray`: Ray Data reads and classifies on many machines, and this process writes the parts."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from fer_tf.batch.job import CHUNK, Job
from fer_tf.batch.parts import Progress
from fer_tf.batch.sources import Source
from fer_tf.batch.table import classify_table, model_sha256
from fer_tf.errors import InputError
from fer_tf.text import printable

# Columns that travel with each picture, because Ray gives tables back in any order.
_PART, _PLACE = "fer_tf part", "fer_tf place"
_CPUS_PER_READER = 16  # of so many CPUs, one reads
_RUNS_PER_READER = 4  # several, so that no reader ends long after the others
_CONNECT_SECONDS = 10.0
_BLOCK_BYTES = 8 << 20  # some 3,500 crops: an actor takes one block at a time, and repeats it if killed


def run(job: Job, address: str | None, num_actors: int | None) -> int:
    """Make the missing parts of a job on Ray.

    An open connection is used and stays open.

    Args:
        job: the task.
        address: as for `ray.init`; if None, RAY_ADDRESS, or else a cluster on this machine.
        num_actors: processes that classify; if None, all free CPUs but one in 16, at least one.

    Returns:
        The number of pictures in parts that existed before.

    Raises:
        InputError: if the cluster cannot be reached or is too small, a machine cannot read the source or has another
            model, or the cluster fails. Finished parts stay.
    """
    if "memory" in np.atleast_1d(job.source.fs.protocol):
        raise InputError("memory:// is within one process: name files that every machine of the cluster sees")
    was_open = ray.is_initialized()
    if not was_open:
        _connect(address)
    try:
        return _run(job, *_pool(num_actors))
    except ray.exceptions.RayError as error:
        raise _as_input_error(error) from error
    finally:
        if not was_open:
            ray.shutdown()


def _connect(address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray").setLevel(logging.WARNING)
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    try:
        host, _, port = where.rpartition(":")
        if host and port.isdecimal() and "/" not in host:  # check first: Ray itself would try for minutes
            socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
        ray.init(
            address=address,
            include_dashboard=None if address else False,
            log_to_driver=False,
            configure_logging=False,
        )
    except (ConnectionError, RuntimeError, ValueError, OSError, OverflowError) as error:
        raise InputError(f"no Ray cluster at {where} ({_line(error)}); start one, or leave the address out") from error


def _pool(num_actors: int | None) -> tuple[int, int, float]:
    """The number of actors, the number of CPUs left for reading, and the CPUs of each actor.

    Ray waits forever for a free CPU if actors hold all of them (ray#44687).
    """
    total, free = (int(found.get("CPU", 0)) for found in (ray.cluster_resources(), ray.available_resources()))
    if total < 1:
        raise InputError("the Ray cluster has no CPU: expected one or more")
    if total == 1:  # an actor and a reader share the CPU
        total, free, cpus = 2, 2, 0.5
    else:
        cpus = 1.0
    if num_actors is not None and not 1 <= num_actors < total:
        raise InputError(f"{num_actors} actors on {total} CPUs: expected 1 to {total - 1}, since one CPU reads")
    num_actors = num_actors or max(1, free - max(1, free // _CPUS_PER_READER))
    return num_actors, total - num_actors, cpus


def _run(job: Job, num_actors: int, num_readers: int, cpus: float) -> int:
    source = _counted(job.source)
    assert source.num_rows is not None
    missing = list(job.missing(source.num_rows))
    progress = Progress(source.num_rows, job.rows_per_part, job.shard, job.parts.done)
    if not missing:
        return progress.num_before
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # Ray also raises the errors that it logs
    context.raise_original_map_exception = True
    context.target_max_block_size = _BLOCK_BYTES
    runs = list(_runs(missing, -(-len(missing) // (num_readers * _RUNS_PER_READER))))
    rows = ray.data.read_datasource(
        _Datasource(ray.put(source), runs, job.rows_per_part, source.num_rows),
        override_num_blocks=len(runs),
        num_cpus=cpus,
    ).map_batches(
        _Classifier,
        fn_constructor_args=(None if job.model is None else os.fspath(job.model), job.model_sha256, job.settings),
        batch_size=CHUNK,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ray.data.ActorPoolStrategy(size=num_actors),
        num_cpus=cpus,
    )
    tables = rows.iter_batches(batch_size=None, batch_format="pyarrow")
    for part, table in _whole_parts(tables, job.rows_per_part, source.num_rows):
        job.parts.write(part, progress.watch(iter([(_num_pictures(table), table)])))
    return progress.num_before


def _runs(parts: Sequence[int], most: int) -> Iterator[range]:
    """Yield runs of consecutive parts, at most `most` parts in each.

    A run is read in one go: a start in the middle of a Parquet row group means reading the rows before it, too.
    """
    first = last = parts[0]
    for part in parts[1:]:
        if part != last + 1 or last + 1 - first == most:
            yield range(first, last + 1)
            first = part
        last = part
    yield range(first, last + 1)


def _counted(source: Source) -> Source:
    """The source with its number of pictures; to count, each tar is read through in a task."""
    if source.num_rows is not None:
        return source
    count = ray.remote(Source.count)
    shared = ray.put(source)
    lengths = tuple(ray.get([count.remote(shared, path) for path in source.paths]))
    return dataclasses.replace(source, lengths=lengths, num_rows=sum(lengths))


class _Datasource(Datasource):
    """Reads the pictures of the missing parts, with a task for each run of parts."""

    def __init__(self, source: Any, runs: list[range], rows_per_part: int, num_rows: int) -> None:
        super().__init__()
        self._source, self._runs, self._rows_per_part, self._num_rows = source, runs, rows_per_part, num_rows

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        return [
            ReadTask(
                functools.partial(_read, self._source, run, self._rows_per_part),
                BlockMetadata(
                    num_rows=min(run.stop * self._rows_per_part, self._num_rows) - run.start * self._rows_per_part,
                    size_bytes=None,
                    exec_stats=None,
                    input_files=None,
                ),
            )
            for run in self._runs
        ]


def _read(source: Any, parts: range, rows_per_part: int) -> Iterator[pa.Table]:
    row, last = parts.start * rows_per_part, parts.stop * rows_per_part
    for table in ray.get(source).tables(CHUNK, row):
        table = table.slice(0, last - row)
        rows = np.arange(row, row + len(table))
        yield table.append_column(_PART, pa.array(rows // rows_per_part)).append_column(
            _PLACE, pa.array(rows % rows_per_part)
        )
        row += len(table)
        if row == last:
            return


class _Classifier:
    """The work of an actor, which opens the model once."""

    def __init__(self, model: str | None, sha256: str, settings: dict[str, Any]) -> None:
        self._model, self._sha256, self._settings = model, sha256, settings
        self._is_checked = False

    def __call__(self, table: pa.Table) -> pa.Table:
        if not self._is_checked and model_sha256(self._model) != self._sha256:
            raise InputError("a machine of the cluster has another model file: install the same fer_tf on each")
        self._is_checked = True
        return classify_table(table, model=self._model, **self._settings)


def _whole_parts(tables: Iterable[pa.Table], rows_per_part: int, num_rows: int) -> Iterator[tuple[int, pa.Table]]:
    """Yield each part, in the order of its pictures, as soon as all its pictures are there."""
    waiting: dict[int, list[pa.Table]] = {}
    counts: dict[int, int] = {}
    for table in tables:
        for part in pc.unique(table[_PART]).to_pylist():
            rows = table.filter(pc.equal(table[_PART], part))
            waiting.setdefault(part, []).append(rows)
            counts[part] = counts.get(part, 0) + _num_pictures(rows)
            if counts[part] == min(rows_per_part, num_rows - part * rows_per_part):
                whole = pa.concat_tables(waiting.pop(part))
                order = np.argsort(whole[_PLACE].to_numpy(), kind="stable")  # faces of a picture keep their order
                yield part, whole.take(pa.array(order)).drop_columns([_PART, _PLACE])


def _num_pictures(table: pa.Table) -> int:
    """Count the pictures in rows of `classify_table`: each has one row with its first face or without a face."""
    return pc.sum(pc.fill_null(pc.equal(table["face"], 1), True)).as_py() or 0


def _as_input_error(error: Exception) -> InputError:
    """Return our own error if a worker raised one, else Ray's message in one line."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InputError):
            return InputError(str(getattr(cause, "cause", None) or cause).splitlines()[0])  # Ray adds more lines
        cause = getattr(cause, "cause", None) or cause.__cause__
    return InputError(f"Ray failed ({_line(error)}); finished parts stay, and the same command makes the others")


def _line(error: Exception) -> str:
    """Return the line of an error's text that says what happened: the last of a traceback, else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return printable(lines[-1 if isinstance(error, ray.exceptions.RayTaskError) else 0])
