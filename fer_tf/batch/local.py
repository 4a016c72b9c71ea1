"""The engine in this process: reads ahead, classifies, and writes one Parquet part after another."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import logging
import os
import posixpath
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from fer_tf.batch.sources import Source, open_source
from fer_tf.batch.table import KEY, classify_table, model_sha256, open_recognizer, set_coverage
from fer_tf.errors import InputError
from fer_tf.inference.predictor import default_num_threads
from fer_tf.text import duration

ROWS_PER_PART = 10_000
_CHUNK = 128  # pictures that a thread takes at a time
_ABOUT = b"fer_tf"  # key in the metadata of a part's schema
_PROGRESS_SECONDS = 10.0
_NUM_NAMED = 20  # failed keys that the summary names
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a call of `classify` did.

    Attributes:
        num_pictures: pictures in the parts of this shard.
        num_faces: faces in them.
        num_before: pictures in parts that were there already.
        failed: keys of the pictures that could not be read, at most 1,000.
        num_failed: their number.
        seconds: time that this call took.
    """

    num_pictures: int = 0
    num_faces: int = 0
    num_before: int = 0
    failed: tuple[str, ...] = ()
    num_failed: int = 0
    seconds: float = 0.0


def classify(
    source: str,
    destination: str,
    *,
    model: str | os.PathLike[str] | None = None,
    column: str | None = None,
    key: str | None = None,
    keep: Sequence[str] = (),
    shard: tuple[int, int] = (0, 1),
    rows_per_part: int = ROWS_PER_PART,
    num_threads: int | None = None,
    **settings: Any,
) -> Summary:
    """Classify the faces of many pictures; write Parquet parts, each whole or not at all.

    Parts that are there already are kept, so a call that was killed goes on where it was. Each part holds
    `rows_per_part` pictures, and its rows are those of `classify_table`.

    Args:
        source, column, key, keep: as for `sources.open_source`.
        destination: a folder for the parts, a local path or an address of fsspec.
        model: as for `classify_table`.
        shard: (index, number): of `number` calls, each with another index from 0, every part is made by one.
        rows_per_part: pictures in a part.
        num_threads: pictures at a time; one a core, 8 at most, if None.
        settings: further arguments of `Recognizer`, such as `coverage=0.95`.

    Returns:
        Counts, and the keys of the pictures that could not be read.

    Raises:
        InputError: for a source without rows or without the named columns, settings that the model cannot follow, a
            destination that cannot be written to or that holds parts of another model, source or size of parts.
    """
    started = time.monotonic()
    index, number = shard
    if not 0 <= index < number:
        raise InputError(f"shard {index}/{number}: expected an index from 0 to {number - 1}")
    if rows_per_part < 1:
        raise InputError(f"{rows_per_part} rows a part: expected 1 or more")
    threads = default_num_threads() if num_threads is None else num_threads
    sha256 = model_sha256(model)
    recognizer = open_recognizer(model, threads, settings)  # refuses what the model cannot do before anything is read
    found = open_source(source, column=column, key=key, keep=keep)
    about = {
        "schema_version": 2,
        "model_sha256": sha256,
        "source_sha256": found.sha256,
        "column": found.column,
        "key": found.key,
        "keep": list(found.keep),
        "rows_per_part": rows_per_part,
        "coverage": set_coverage(recognizer, settings),
        "settings": {name: settings[name] for name in sorted(settings)},
    }
    parts = _Parts(destination, about, shard)
    count = _Count(found, rows_per_part, shard, parts.done)

    def work(table: pa.Table) -> tuple[int, pa.Table]:
        return len(table), classify_table(table, model=model, num_threads=threads, **settings)

    with ThreadPoolExecutor(threads) as pool:
        for part, tables in _parts_of(found, rows_per_part, shard, parts.done):
            parts.write(part, count.watch(_in_order(pool, work, tables, ahead=2 * threads)))
    if not parts.done and index == 0:  # a later shard may have no part
        raise InputError(f"{source}: no rows; name a source that has some")
    summary = parts.summary()
    return dataclasses.replace(summary, num_before=count.num_before, seconds=time.monotonic() - started)


def _parts_of(
    source: Source, rows_per_part: int, shard: tuple[int, int], done: set[int]
) -> Iterator[tuple[int, Iterator[pa.Table]]]:
    """The parts of this shard that are still to be made, each with its rows in small tables."""
    tables: Iterator[pa.Table] | None = None
    rest: list[pa.Table] = []
    for part in itertools.count():
        if source.num_rows is not None and part * rows_per_part >= source.num_rows:
            return
        is_ours = part % shard[1] == shard[0] and part not in done
        if not is_ours and source.num_rows is not None:
            tables = None  # begin again behind this part: these sources find a row without reading those before it
            continue
        if tables is None:
            tables, rest = source.tables(_CHUNK, part * rows_per_part), []
        of_part = _take(tables, rest, rows_per_part)
        first = next(of_part, None)
        if first is None:
            return
        if is_ours:
            yield part, itertools.chain([first], of_part)
        else:
            deque(of_part, maxlen=0)  # a tar can only be read through


def _take(tables: Iterator[pa.Table], rest: list[pa.Table], num_rows: int) -> Iterator[pa.Table]:
    """Yield tables up to `num_rows` rows; what is left of the last one waits in `rest` for the next call."""
    while num_rows > 0 and (table := rest.pop() if rest else next(tables, None)) is not None:
        if len(table) > num_rows:
            rest.append(table.slice(num_rows))
        yield table.slice(0, num_rows)
        num_rows -= len(table)


def _in_order(pool: ThreadPoolExecutor, work: Any, items: Iterable[Any], *, ahead: int) -> Iterator[Any]:
    """Yield `work(item)` in the order of the items; `ahead` of them are read and worked on in advance."""
    pending: deque[Future[Any]] = deque()
    for item in items:
        pending.append(pool.submit(work, item))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


class _Count:
    """Counts pictures and logs the rate and the time left."""

    def __init__(self, source: Source, rows_per_part: int, shard: tuple[int, int], done: set[int]) -> None:
        self.num_before = len(done) * rows_per_part
        self._total: int | None = None
        if source.num_rows is not None:
            parts = range(shard[0], -(-source.num_rows // rows_per_part), shard[1])
            self._total = sum(min(rows_per_part, source.num_rows - part * rows_per_part) for part in parts)
            self.num_before = sum(min(rows_per_part, source.num_rows - part * rows_per_part) for part in done)
        self._started = self._told = time.monotonic()
        self._done = 0

    def watch(self, results: Iterable[tuple[int, pa.Table]]) -> Iterator[tuple[int, pa.Table]]:
        for number, table in results:
            yield number, table
            self._done += number
            now = time.monotonic()
            if now - self._told < _PROGRESS_SECONDS:
                continue
            self._told = now
            rate = self._done / (now - self._started)
            if self._total is None:
                _log.info("%s pictures, %.0f/s", f"{self.num_before + self._done:,}", rate)
                continue
            left = duration((self._total - self.num_before - self._done) / rate)
            of_all = f"{self.num_before + self._done:,} of {self._total:,}"
            _log.info("%s pictures, %.0f/s, %s left", of_all, rate, left)


class _Parts:
    """The parts in the destination: those that are there, and the writing of further ones."""

    def __init__(self, destination: str, about: dict[str, Any], shard: tuple[int, int]) -> None:
        self._about, self._shard = about, shard
        try:
            self._fs, self._root = fsspec.core.url_to_fs(destination)
            listed = self._fs.ls(self._root, detail=False) if self._fs.exists(self._root) else []
            if listed and self._fs.isfile(self._root):
                raise InputError(f"{destination} is a file: name a folder for the parts")
        except (OSError, ValueError, ImportError) as error:
            raise InputError(f"{destination}: cannot be opened ({error}); name a folder for the parts") from error
        self._destination = destination
        self.done: set[int] = set()
        ours = f".shard-{shard[0]}-of-{shard[1]}-"
        for path in listed:
            name = posixpath.basename(path)
            if name.startswith(ours):  # of a call that was killed
                self._fs.rm(path)
            elif name.startswith("part-") and name.endswith(".parquet"):
                part = self._check(path)
                if part % shard[1] == shard[0]:
                    self.done.add(part)

    def _check(self, path: str) -> int:
        """The number of a part that is there."""
        name = posixpath.basename(path)
        try:
            with self._fs.open(path, "rb") as raw:
                written = json.loads(pq.read_schema(raw).metadata[_ABOUT])
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is no part of fer_tf, or damaged: remove it, or name another folder") from error
        part = written.pop("part", None)
        for key, words in (("model_sha256", "another model"), ("source_sha256", "another source")):
            if written.get(key) != self._about[key]:
                raise InputError(
                    f"{self._destination} holds parts of {words} ({name}: {key} {str(written.get(key))[:12]}, now "
                    f"{self._about[key][:12]}): name another folder"
                )
        if written != self._about or type(part) is not int:
            other = [key for key in self._about if written.get(key) != self._about[key]]
            raise InputError(
                f"{self._destination} holds parts made with another {', '.join(other)}: name another folder"
            )
        return part

    def write(self, part: int, results: Iterator[tuple[int, pa.Table]]) -> None:
        """Write a part under a temporary name and rename it."""
        name = f"part-{part:06d}.parquet"
        temporary = f"{self._root}/.shard-{self._shard[0]}-of-{self._shard[1]}-{name}"
        metadata = {_ABOUT: json.dumps({**self._about, "part": part}).encode()}
        table = pa.concat_tables([rows for _, rows in results]).replace_schema_metadata(metadata)
        try:
            self._fs.makedirs(self._root, exist_ok=True)
            with self._fs.open(temporary, "wb") as raw:
                pq.write_table(table, raw, compression="zstd")
            self._fs.mv(temporary, f"{self._root}/{name}")
        except OSError as error:
            with contextlib.suppress(OSError):
                self._fs.rm(temporary)
            raise InputError(
                f"cannot write to {self._destination}: {error.strerror or error}; name a folder that can be written to"
            ) from error
        self.done.add(part)

    def summary(self) -> Summary:
        """Count what the parts of this shard hold."""
        pictures = num_faces = num_failed = 0
        failed: list[str] = []
        for part in sorted(self.done):
            with self._fs.open(f"{self._root}/part-{part:06d}.parquet", "rb") as raw:
                table = pq.read_table(raw, columns=[KEY, "face", "error"])
            faces, errors = table["face"].to_pylist(), table["error"].to_pylist()
            pictures += sum(face in (None, 1) for face in faces)
            num_faces += sum(face is not None for face in faces)
            broken = [str(key) for key, error in zip(table[KEY].to_pylist(), errors, strict=True) if error]
            num_failed += len(broken)
            failed += broken[: max(0, 1000 - len(failed))]
        return Summary(pictures, num_faces, failed=tuple(failed), num_failed=num_failed)


def describe(summary: Summary) -> list[str]:
    """Return the summary in lines for people."""
    lines = [
        f"{summary.num_pictures:,} pictures, {summary.num_faces:,} faces in {duration(summary.seconds)}"
        + (f"; {summary.num_before:,} pictures were done before" if summary.num_before else "")
    ]
    if summary.num_failed:
        more = summary.num_failed - _NUM_NAMED
        names = ", ".join(summary.failed[:_NUM_NAMED]) + (f" and {more:,} more" if more > 0 else "")
        lines.append(f"{summary.num_failed:,} pictures could not be read (column error): {names}")
    return lines
