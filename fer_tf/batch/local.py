"""The engine `local`: reads ahead, classifies, and writes one part after another in this process."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from fer_tf.batch.job import CHUNK, Job
from fer_tf.batch.parts import Progress
from fer_tf.batch.sources import Source
from fer_tf.batch.table import classify_table


def run(job: Job, num_threads: int) -> int:
    """Make the missing parts of a job.

    Args:
        job: the task.
        num_threads: pictures at a time.

    Returns:
        The number of pictures in parts that existed before.
    """
    progress = Progress(job.source.num_rows, job.rows_per_part, job.shard, job.parts.done)

    def work(table: pa.Table) -> tuple[int, pa.Table]:
        return len(table), classify_table(table, model=job.model, num_threads=num_threads, **job.settings)

    with ThreadPoolExecutor(num_threads) as pool:
        for part, tables in _parts_of(job.source, job.rows_per_part, job.shard, job.parts.done):
            job.parts.write(part, progress.watch(_in_order(pool, work, tables, ahead=2 * num_threads)))
    return progress.num_before


def _parts_of(
    source: Source, rows_per_part: int, shard: tuple[int, int], done: set[int]
) -> Iterator[tuple[int, Iterator[pa.Table]]]:
    """The missing parts of this shard, each with its rows in small tables."""
    tables: Iterator[pa.Table] | None = None
    rest: list[pa.Table] = []
    for part in itertools.count():
        if source.num_rows is not None and part * rows_per_part >= source.num_rows:
            return
        is_ours = part % shard[1] == shard[0] and part not in done
        if not is_ours and source.num_rows is not None:
            tables = None  # start again after this part: these sources can jump to a row
            continue
        if tables is None:
            tables, rest = source.tables(CHUNK, part * rows_per_part), []
        of_part = _take(tables, rest, rows_per_part)
        first = next(of_part, None)
        if first is None:
            return
        if is_ours:
            yield part, itertools.chain([first], of_part)
        else:
            deque(of_part, maxlen=0)  # a tar must be read to the end


def _take(tables: Iterator[pa.Table], rest: list[pa.Table], num_rows: int) -> Iterator[pa.Table]:
    """Yield tables with `num_rows` rows in all; `rest` keeps the remainder of the last table for the next call."""
    while num_rows > 0 and (table := rest.pop() if rest else next(tables, None)) is not None:
        if len(table) > num_rows:
            rest.append(table.slice(num_rows))
        yield table.slice(0, num_rows)
        num_rows -= len(table)


def _in_order(pool: ThreadPoolExecutor, work: Any, items: Iterable[Any], *, ahead: int) -> Iterator[Any]:
    """Yield `work(item)` in the order of the items; read and process `ahead` items in advance."""
    pending: deque[Future[Any]] = deque()
    for item in items:
        pending.append(pool.submit(work, item))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
