"""Reads pictures as Arrow tables from a folder, Parquet files or WebDataset tars, on any file system of fsspec."""

from __future__ import annotations

import dataclasses
import hashlib
import posixpath
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from fer_tf.batch.table import IMAGE, KEY
from fer_tf.errors import InputError
from fer_tf.faces.kinds import PICTURE_SUFFIXES, is_hidden, kind_of
from fer_tf.text import shown

_IMAGE_COLUMNS = (IMAGE, "img", "jpg", "jpeg", "png", "webp", "picture", "bytes", "content", "pixels", "crop")
_MAX_PICTURE_BYTES = 256 << 20
_PARQUET, _TAR = (".parquet", ".pq"), (".tar",)


@dataclasses.dataclass(frozen=True)
class Source:
    """The place of the pictures.

    Attributes:
        kind: `pictures`, `parquet` or `tar`.
        fs: the file system.
        paths: the files, sorted.
        column: the column of the pictures, in Parquet files.
        key: the column of the keys, in Parquet files; None for file name and row number.
        keep: columns to copy to the rows; in tars, the suffixes of the members.
        num_rows: number of pictures; None if only reading can tell.
        sha256: digest of the list of files with their sizes.
        lengths: number of pictures in each Parquet file, or in each tar if they were counted.
    """

    kind: str
    fs: Any
    root: str
    paths: list[str]
    column: str
    key: str | None
    keep: tuple[str, ...]
    num_rows: int | None
    sha256: str
    lengths: tuple[int, ...] | None = None

    def count(self, path: str) -> int:
        """Read a tar through and return its number of pictures."""
        return sum(1 for _ in self._samples(path))

    def tables(self, size: int, start: int = 0) -> Iterator[pa.Table]:
        """Yield tables of at most `size` rows with the columns key, image and the kept ones.

        Args:
            size: most rows in a table.
            start: number of rows to skip.
        """
        rows = {"pictures": self._pictures, "parquet": self._parquet, "tar": self._tars}[self.kind]
        waiting: list[pa.Table] = []
        num_waiting = 0
        for table in rows(size, start):
            waiting.append(table)
            num_waiting += len(table)
            while num_waiting >= size:
                whole = pa.concat_tables(waiting)
                yield whole.slice(0, size)
                waiting, num_waiting = [whole.slice(size)], num_waiting - size
        if num_waiting:
            yield pa.concat_tables(waiting)

    def _name(self, path: str) -> str:
        return posixpath.relpath(path, self.root) if path != self.root else posixpath.basename(path)

    def _pictures(self, size: int, start: int) -> Iterator[pa.Table]:
        for first in range(start, len(self.paths), size):
            paths = self.paths[first : first + size]
            contents = [self._read(path) for path in paths]
            yield pa.table({KEY: [self._name(path) for path in paths], IMAGE: pa.array(contents, pa.large_binary())})

    def _read(self, path: str) -> bytes | None:
        try:
            with self.fs.open(path, "rb") as file:
                return file.read(_MAX_PICTURE_BYTES + 1)
        except OSError:
            return None

    def _parquet(self, size: int, start: int) -> Iterator[pa.Table]:
        names = [self.column, *([self.key] if self.key else []), *self.keep]
        assert self.lengths is not None
        for path, num_rows in zip(self.paths, self.lengths, strict=True):
            if start >= num_rows:  # do not open files that are not needed
                start -= num_rows
                continue
            with self.fs.open(path, "rb") as raw:
                file = pq.ParquetFile(raw, pre_buffer=False)  # its threads may outlive a reader that stops early
                row = 0
                for group in range(file.num_row_groups):
                    length = file.metadata.row_group(group).num_rows
                    if start >= length:
                        start, row = start - length, row + length
                        continue
                    columns = list(dict.fromkeys(names))
                    for batch in file.iter_batches(size, row_groups=[group], columns=columns, use_threads=False):
                        table = pa.Table.from_batches([batch]).slice(start)
                        passed, start = min(start, len(batch)), max(0, start - len(batch))
                        row += passed
                        if len(table):
                            yield self._as_rows(table, path, row)
                        row += len(table)

    def _as_rows(self, table: pa.Table, path: str, first: int) -> pa.Table:
        """The columns key, image and the kept ones."""
        if self.key:
            keys = table[self.key].cast(pa.string())
        else:
            keys = pa.array([f"{self._name(path)}:{first + row}" for row in range(len(table))])
        columns = {KEY: keys, IMAGE: table[self.column], **{name: table[name] for name in self.keep}}
        return pa.table(columns)

    def _tars(self, size: int, start: int) -> Iterator[pa.Table]:
        rows: list[dict[str, Any]] = []
        schema = pa.schema(
            [(KEY, pa.string()), (IMAGE, pa.large_binary()), *((name, pa.string()) for name in self.keep)]
        )
        for path, num_rows in zip(self.paths, self.lengths or [None] * len(self.paths), strict=True):
            if num_rows is not None and start >= num_rows:
                start -= num_rows
                continue
            for sample in self._samples(path):
                if start:
                    start -= 1
                    continue
                rows.append(sample)
                if len(rows) == size:
                    yield pa.Table.from_pylist(rows, schema=schema)
                    rows = []
        if rows:
            yield pa.Table.from_pylist(rows, schema=schema)

    def _samples(self, path: str) -> Iterator[dict[str, Any]]:
        """The samples of a tar: consecutive members with the same name up to the first dot."""
        sample: dict[str, Any] = {}
        try:
            with self.fs.open(path, "rb") as raw, tarfile.open(fileobj=raw, mode="r|*") as archive:
                for member in archive:
                    base = posixpath.basename(member.name)
                    if not member.isfile() or is_hidden(base):
                        continue
                    stem, _, suffix = base.partition(".")
                    key = f"{self._name(path)}:{posixpath.join(posixpath.dirname(member.name), stem)}"
                    if sample and sample[KEY] != key:
                        yield sample
                        sample = {}
                    sample.setdefault(KEY, key)
                    sample.setdefault(IMAGE, None)
                    is_picture = f".{suffix.lower()}".endswith(PICTURE_SUFFIXES)
                    if not is_picture and suffix not in self.keep and sample[IMAGE] is not None:
                        continue
                    opened = archive.extractfile(member)
                    content = opened.read(_MAX_PICTURE_BYTES + 1) if opened else b""
                    if suffix in self.keep:
                        sample[suffix] = content.decode(errors="replace")
                    elif is_picture or kind_of(content[:256]) not in (None, "video"):
                        sample[IMAGE] = content
        except (tarfile.TarError, EOFError) as error:
            raise InputError(f"{self._name(path)}: a broken tar ({error}); copy it again, or take it out") from error
        if sample:
            yield sample


def open_source(address: str, *, column: str | None = None, key: str | None = None, keep: Sequence[str] = ()) -> Source:
    """Find the pictures at an address.

    Args:
        address: a folder of pictures, a Parquet file or tar, or a folder of these; a local path or an address of fsspec
            such as memory://faces or s3://bucket/faces.
        column: the column of the pictures, in Parquet files; if None, the usual names are tried.
        key: the column of the keys, in Parquet files; if None, keys are file name and row number.
        keep: columns to copy to the rows; in tars, suffixes of members, such as `cls` or `json`.

    Raises:
        InputError: if there is nothing to read, the files are of several kinds, the Parquet files have different
            columns, or a column is missing.
    """
    try:
        fs, root = fsspec.core.url_to_fs(address)
        sizes = {path: info["size"] for path, info in fs.find(root, detail=True).items()}
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{address}: cannot be opened ({error}); give a folder, a .parquet or a .tar") from error
    sizes = {path: size for path, size in sizes.items() if not _below_hidden(posixpath.relpath(path, root))}
    if not sizes:
        raise InputError(f"{address}: nothing there to read; give a folder of pictures, a .parquet or a .tar")
    kinds = {
        "parquet": sorted(path for path in sizes if path.lower().endswith(_PARQUET)),
        "tar": sorted(path for path in sizes if path.lower().endswith(_TAR)),
        "pictures": sorted(path for path in sizes if path.lower().endswith(PICTURE_SUFFIXES)),
    }
    present = [kind for kind, paths in kinds.items() if paths]
    if not present:
        raise InputError(f"{address}: no picture, .parquet or .tar among {len(sizes):,} files; name another folder")
    if len(present) > 1:
        counts = ", ".join(f"{len(kinds[kind]):,} {kind}" for kind in present)
        raise InputError(f"{address}: mixed files ({counts}); name a folder with files of one kind")
    (kind,) = present
    paths = kinds[kind]
    listed = "\n".join(f"{posixpath.relpath(path, root)} {sizes[path]}" for path in paths)
    sha256 = hashlib.sha256(listed.encode()).hexdigest()
    num_rows: int | None = None
    lengths: tuple[int, ...] | None = None
    if kind == "parquet":
        column, lengths = _check_parquet(fs, paths, column, key, keep)
        num_rows = sum(lengths)
    elif kind == "pictures":
        num_rows = len(paths)
        if keep:
            raise InputError(f"--keep {' '.join(keep)}: a folder of pictures has no columns; leave it out")
    return Source(kind, fs, root, paths, column or IMAGE, key, tuple(keep), num_rows, sha256, lengths)


def _below_hidden(relative: str) -> bool:
    return relative != "." and any(is_hidden(part) for part in relative.split("/"))


def _check_parquet(
    fs: Any, paths: Sequence[str], column: str | None, key: str | None, keep: Sequence[str]
) -> tuple[str, tuple[int, ...]]:
    """The column of the pictures and the rows of each file; every file must have the same columns."""
    lengths: list[int] = []
    first = None
    for path in paths:
        try:
            with fs.open(path, "rb") as raw:
                metadata = pq.read_metadata(raw)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: not a Parquet file, or a broken one; copy it again, or take it out") from error
        lengths.append(metadata.num_rows)
        schema = metadata.schema.to_arrow_schema().remove_metadata()
        if first is None:
            first = schema
        for name in filter(None, (column, key, *keep)):
            if name not in schema.names:
                raise InputError(f"{path} has no column {shown(name)}: it has {', '.join(map(shown, schema.names))}")
        if not schema.equals(first):
            raise InputError(f"{path} has other columns than {paths[0]}: {_types(schema)} and {_types(first)}")
    assert first is not None
    if column is None:
        named = [name for name in first.names if name.lower() in _IMAGE_COLUMNS]
        if len(named) != 1:
            raise InputError(
                f"{paths[0]} has the columns {', '.join(map(shown, first.names))}: name the pictures' one with --column"
            )
        column = named[0]
    if not any(lengths):
        raise InputError(f"{paths[0]}: no rows; give a file that has rows")
    return column, tuple(lengths)


def _types(schema: pa.Schema) -> str:
    return ", ".join(f"{shown(field.name)} {field.type}" for field in schema)
