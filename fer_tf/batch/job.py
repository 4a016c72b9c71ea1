"""One call of classify: checks everything before reading the first picture, then starts an engine."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

from fer_tf.batch.parts import Parts, Summary
from fer_tf.batch.sources import Source, open_source
from fer_tf.batch.table import model_sha256, open_recognizer, set_coverage
from fer_tf.errors import InputError
from fer_tf.inference.predictor import default_num_threads

ENGINES = ("local", "ray")
ROWS_PER_PART = 10_000
CHUNK = 128  # pictures that a thread or an actor takes at a time


@dataclasses.dataclass(frozen=True)
class Job:
    """The task of an engine.

    Attributes:
        source: the pictures.
        parts: the destination.
        model: as for `classify_table`.
        model_sha256: digest of the model's file.
        settings: further arguments of `Recognizer`.
        rows_per_part: pictures in a part.
        shard: (index, number): `number` jobs share the parts; this one is job `index`, from 0.
    """

    source: Source
    parts: Parts
    model: str | os.PathLike[str] | None
    model_sha256: str
    settings: dict[str, Any]
    rows_per_part: int
    shard: tuple[int, int]

    def missing(self, num_rows: int) -> Iterator[int]:
        """Yield the numbers of the parts that are still missing, for this number of pictures."""
        index, number = self.shard
        for part in range(index, -(-num_rows // self.rows_per_part), number):
            if part not in self.parts.done:
                yield part


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
    engine: str = "local",
    address: str | None = None,
    num_actors: int | None = None,
    **settings: Any,
) -> Summary:
    """Classify the faces of many pictures; write Parquet parts, each whole or not at all.

    Existing parts are kept: after a kill, the same call continues with the missing parts, on either engine. Each part
    holds `rows_per_part` pictures, with the rows of `classify_table`.

    Args:
        source, column, key, keep: as for `sources.open_source`.
        destination: a folder for the parts: a local path or an address of fsspec.
        model: as for `classify_table`.
        shard: (index, number): `number` calls share the parts; this is call `index`, from 0.
        rows_per_part: pictures in a part.
        num_threads: pictures at a time, for the engine `local`; if None, one a core, at most 8.
        engine: `local`, in this process; or `ray`, where every machine must see the source and have fer_tf and the
            model.
        address: address of a Ray cluster, as for `ray.init`; if None, RAY_ADDRESS, or else a cluster on this machine.
        num_actors: processes that classify, for the engine `ray`; if None, all free CPUs but one in 16, at least one.
        settings: further arguments of `Recognizer`, such as `coverage=0.95`.

    Returns:
        Counts, and the keys of the pictures that could not be read.

    Raises:
        InputError: if the source has no rows or lacks a named column; the model does not support a setting; the
            destination cannot be written to, or holds parts of another model, source or size; or the cluster cannot be
            reached or is too small.
    """
    started = time.monotonic()
    index, number = shard
    if engine not in ENGINES:
        raise InputError(f"engine {engine!r}: expected one of {', '.join(ENGINES)}")
    if engine != "ray" and (address is not None or num_actors is not None):
        raise InputError("an address and a number of actors are for Ray: name the engine ray, or leave them out")
    if not 0 <= index < number:
        raise InputError(f"shard {index}/{number}: expected an index from 0 to {number - 1}")
    if rows_per_part < 1:
        raise InputError(f"{rows_per_part} rows a part: expected 1 or more")
    threads = default_num_threads() if num_threads is None else num_threads
    sha256 = model_sha256(model)
    recognizer = open_recognizer(model, threads, settings)  # refuses unsupported settings before anything is read
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
    parts = Parts(destination, about, shard)
    job = Job(found, parts, model, sha256, settings, rows_per_part, shard)
    if engine == "ray":
        from fer_tf.batch import ray_engine  # Ray is an extra

        num_before = ray_engine.run(job, address, num_actors)
    else:
        from fer_tf.batch import local

        num_before = local.run(job, threads)
    if not parts.done and index == 0:  # a later shard may have no part
        raise InputError(f"{source}: no rows; name a source that has rows")
    summary = parts.summary()
    return dataclasses.replace(summary, num_before=num_before, seconds=time.monotonic() - started)
