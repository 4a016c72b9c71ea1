"""The destination: Parquet parts, each whole or not at all; their metadata says what they were made from."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import posixpath
import time
from collections.abc import Iterable, Iterator
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from fer_tf.batch.table import KEY
from fer_tf.errors import InputError
from fer_tf.text import duration

_ABOUT = b"fer_tf"  # key in the metadata of a part's schema
_PROGRESS_SECONDS = 10.0
_NUM_NAMED = 20  # failed keys that the summary names
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Summary:
    """The result of a call of `classify`.

    Attributes:
        num_pictures: pictures in the parts of this shard.
        num_faces: faces in them.
        num_before: pictures in parts that existed before.
        failed: keys of the pictures that could not be read, at most 1,000.
        num_failed: number of pictures that could not be read.
        seconds: time that this call took.
    """

    num_pictures: int = 0
    num_faces: int = 0
    num_before: int = 0
    failed: tuple[str, ...] = ()
    num_failed: int = 0
    seconds: float = 0.0


class Parts:
    """The destination: finds the existing parts and writes new ones."""

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
            if name.startswith(ours):  # left by a call that was killed
                self._fs.rm(path)
            elif name.startswith("part-") and name.endswith(".parquet"):
                part = self._check(path)
                if part % shard[1] == shard[0]:
                    self.done.add(part)

    def _check(self, path: str) -> int:
        """Check an existing part and return its number."""
        name = posixpath.basename(path)
        try:
            with self._fs.open(path, "rb") as raw:
                written = json.loads(pq.read_schema(raw).metadata[_ABOUT])
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} was not written by fer_tf, or is damaged: remove it, or name another folder"
            ) from error
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
        """Count the contents of this shard's parts."""
        pictures = num_faces = num_failed = 0
        failed: list[str] = []
        for part in sorted(self.done):
            with self._fs.open(f"{self._root}/part-{part:06d}.parquet", "rb") as raw:
                file = pq.ParquetFile(raw, pre_buffer=False)
                table = file.read(columns=[KEY, "face", "error"], use_threads=False)
            faces, errors = table["face"].to_pylist(), table["error"].to_pylist()
            pictures += sum(face in (None, 1) for face in faces)
            num_faces += sum(face is not None for face in faces)
            broken = [str(key) for key, error in zip(table[KEY].to_pylist(), errors, strict=True) if error]
            num_failed += len(broken)
            failed += broken[: max(0, 1000 - len(failed))]
        return Summary(pictures, num_faces, failed=tuple(failed), num_failed=num_failed)


class Progress:
    """Counts pictures and logs the rate and the time left."""

    def __init__(self, num_rows: int | None, rows_per_part: int, shard: tuple[int, int], done: set[int]) -> None:
        self.num_before = len(done) * rows_per_part
        self._total: int | None = None
        if num_rows is not None:
            parts = range(shard[0], -(-num_rows // rows_per_part), shard[1])
            self._total = sum(min(rows_per_part, num_rows - part * rows_per_part) for part in parts)
            self.num_before = sum(min(rows_per_part, num_rows - part * rows_per_part) for part in done)
        self._started = self._told = time.monotonic()
        self._done = 0

    def watch(self, results: Iterable[tuple[int, pa.Table]]) -> Iterator[tuple[int, pa.Table]]:
        """Yield the results, each a number of pictures and their rows, and log the progress."""
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


def describe(summary: Summary) -> list[str]:
    """Return the summary as lines of text."""
    lines = [
        f"{summary.num_pictures:,} pictures, {summary.num_faces:,} faces in {duration(summary.seconds)}"
        + (f"; {summary.num_before:,} pictures were done before" if summary.num_before else "")
    ]
    if summary.num_failed:
        more = summary.num_failed - _NUM_NAMED
        names = ", ".join(summary.failed[:_NUM_NAMED]) + (f" and {more:,} more" if more > 0 else "")
        lines.append(f"{summary.num_failed:,} pictures could not be read (column error): {names}")
    return lines
