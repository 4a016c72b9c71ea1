"""Parquet files as the Hugging Face Hub publishes sets of pictures: a file, or a folder of files for the splits."""

from __future__ import annotations

import bisect
import itertools
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fer_tf.data.dataset import Dataset
from fer_tf.data.names import split_of
from fer_tf.data.reading.arrow_rows import part_of, read_pieces
from fer_tf.data.reading.checks import MAX_ROWS
from fer_tf.data.reading.parquet_pages import PageSizes, page_sizes
from fer_tf.data.reading.tree import Parts
from fer_tf.errors import InputError
from fer_tf.faces.policy import CropPolicy
from fer_tf.task import SPLITS
from fer_tf.text import listed, quantity, shown, shown_path

logger = logging.getLogger(__name__)

MAGIC = b"PAR1"
_SHARD = re.compile(r"[-_.]?(\d{1,9})(?:[-_]of[-_](\d{1,9})(?:[-_.][0-9a-f]+)?)?$")  # -00000-of-00004-0a1b2c, _3
_MAX_PAGE_BYTES = 512 << 20  # unpacked; allows photographs of 5 MB at the Hub's 100 rows a group
_BATCH_BYTES = 64 << 20  # unpacked at a time, in addition to two pages
_MAX_RATIO, _FREE_BYTES = 64, 4 << 30  # a file may unpack to this many times its size, plus these bytes
_MAX_BATCH = 1024  # rows
_BUFFER_BYTES = 1 << 20  # read from a column at a time
_ERRORS = (
    pa.ArrowException,
    OSError,
    ValueError,
    LookupError,
    OverflowError,
    MemoryError,
)  # pyarrow raises these on crafted files


def read_parquet(
    root: Path,
    files: Sequence[Parts],
    name: str,
    faces: str | CropPolicy = "auto",
    *,
    class_names: Sequence[str] | None = None,
    subjects: str | None = None,
    skip_broken: bool = False,
) -> Dataset:
    """Read the pictures in Parquet files.

    Args:
        root: a folder, or a file.
        files: the path of each file below the folder, in parts; empty for a file.
        name: name to use in messages.
        faces: as for `folders.read_folder`.
        class_names: as for `arrow_rows.read_pieces`.
        subjects: as for `arrow_rows.read_pieces`.
        skip_broken: True to leave out rows that cannot be read.

    Returns:
        The crops. A column of splits gives the splits, or else the names of files and folders
        (train-00000-of-00001.parquet, test/0000.parquet).

    Raises:
        InputError: if a file or a row cannot be read, two sets of files are mixed, or the data is not as expected.
    """
    options: dict[str, Any] = {"class_names": class_names, "subjects": subjects, "skip_broken": skip_broken}
    if not files:
        split = _split_of(root.resolve().parts[-2:])[0]
        return read_pieces([ParquetPiece(root, root.name, split, name)], name, faces, **options)
    chosen = _arrange(files, name)
    pieces = [
        ParquetPiece(root.joinpath(*parts), "/".join(parts), split, f"{name}: {shown_path('/'.join(parts))}")
        for parts, split in chosen
    ]
    return read_pieces(pieces, name, faces, **options)


def holds_pictures(path: Path) -> bool:
    """Return True for a Parquet file with a column that may hold pictures."""
    try:
        schema = pq.read_schema(path)
    except _ERRORS:
        return False
    return any(pa.types.is_struct(field.type) or "binary" in str(field.type) for field in schema)


class ParquetPiece:
    """The rows of a Parquet file; see `arrow_rows.Piece`."""

    def __init__(self, path: Path, name: str, split: str | None, where: str) -> None:
        """Open the file and read its footer.

        Args:
            path: the file's path.
            name: the file's name in the names of rows.
            split: the split in this name, or None.
            where: name to use in messages.
        """
        self.name, self.split, self._where = name, split, where
        self._path = path
        self._unpacked = 0  # bytes
        with open(path, "rb") as file:
            start = file.read(len(MAGIC))
        if start != MAGIC:
            hint = "a pointer of Git LFS; fetch the file with git lfs pull" if start == b"vers" else "download it again"
            raise InputError(f"{where}: not a Parquet file, it begins with {shown(start)}; {hint}")
        try:
            # Use no threads: they may outlive a reader that stops early.
            self._file = pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False)
            self.schema = self._file.schema_arrow
            self._ends = list(
                itertools.accumulate(
                    self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups)
                )
            )
        except _ERRORS as error:
            raise InputError(f"{where}: {_damaged_text(error)}") from error
        self.num_rows = self._ends[-1] if self._ends else 0
        if any(end < before for before, end in itertools.pairwise([0, *self._ends])) or self.num_rows > MAX_ROWS:
            raise InputError(f"{where}: {self.num_rows:,} rows; expected at most {MAX_ROWS:,}: give fewer files")

    def values(self, column: str) -> Iterator[pa.Array]:
        """Yield all values of a column."""
        try:
            yield from self.pictures(column, 0)
        except InputError as error:
            raise InputError(f"{self._where}: {error}") from error

    def pictures(self, column: str, start: int) -> Iterator[pa.Array]:
        """Yield the values of a column from a row on, a few at a time."""
        for group in range(bisect.bisect_right(self._ends, start), len(self._ends)):
            passed = start - (self._ends[group - 1] if group else 0)
            try:
                size = self._batch_size(group, column)
                batches = self._file.iter_batches(size, row_groups=[group], columns=[column], use_threads=False)
                for batch in batches:
                    array = batch.column(0)
                    for part in column.removeprefix(batch.schema.names[0]).split(".")[1:]:
                        array = part_of(array, part)
                    self._count(array.nbytes)
                    if passed < len(array):
                        yield array.slice(max(passed, 0))
                    passed -= len(array)
            except _ERRORS as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(_damaged_text(error)) from error

    def part_end(self, row: int) -> int:
        """Return the end of the row group that holds this row."""
        return self._ends[bisect.bisect_right(self._ends, row)]

    def _count(self, num_bytes: int) -> None:
        """Count unpacked bytes over all passes; refuse a file that unpacks to more than any set of pictures does."""
        self._unpacked += num_bytes
        size = self._path.stat().st_size
        if self._unpacked > _MAX_RATIO * size + _FREE_BYTES:
            raise InputError(
                f"a file of {size >> 20:,} MiB that unpacks to more than {self._unpacked >> 20:,}; do not use it"
            )

    def _batch_size(self, group: int, column: str) -> int:
        """Return how many rows of a group may be unpacked at a time."""
        metadata = self._file.metadata.row_group(group)
        sizes = PageSizes()
        with open(self._path, "rb") as file:
            for index in range(metadata.num_columns):
                chunk = metadata.column(index)
                if chunk.path_in_schema != column:
                    continue
                start = chunk.data_page_offset
                if chunk.dictionary_page_offset and 0 < chunk.dictionary_page_offset < start:
                    start = chunk.dictionary_page_offset
                sizes.update(page_sizes(file, start, chunk.total_compressed_size))
        if sizes.largest > _MAX_PAGE_BYTES:
            raise InputError(
                f"a page of {sizes.largest >> 20:,} MiB; expected at most {_MAX_PAGE_BYTES >> 20:,}: write the file "
                "anew with smaller row groups"
            )
        return min(max(_BATCH_BYTES // (sizes.largest_value + sizes.largest_mean + 1), 1), _MAX_BATCH)


def _damaged_text(error: Exception) -> str:
    text = " ".join(str(error).split())[:100]
    return f"truncated or damaged Parquet ({shown(text)[1:-1]}); download it again"


# --- Names of files -> splits ---


def _arrange(files: Sequence[Parts], name: str) -> list[tuple[Parts, str | None]]:
    """Return the files to read with their splits, in the order of the splits."""
    splits = {parts: _split_of(parts) for parts in sorted(files)}
    named = {parts: found for parts, found in splits.items() if found[0] is not None}
    others = ["/".join(parts) for parts in splits if parts not in named]
    if named and others:
        some = ", ".join(map(shown, others[:3])) + (", ..." if len(others) > 3 else "")
        logger.warning(
            "%s: %s left out, as their names give no split: %s; name them train, validation or test to have them read",
            name,
            quantity(len(others), "Parquet file"),
            some,
        )
    chosen = named or splits
    folders = sorted({found[1] for found in chosen.values()})
    if len(folders) > 1:
        some = listed(["/".join(folder) or "the folder itself" for folder in folders[:5]])
        raise InputError(
            f"{name}: Parquet files of {len(folders)} sets, in {some}; give the folder of one of them, or its file"
        )
    for split in SPLITS:
        of_split = [parts for parts, found in named.items() if found[0] == split]
        stems = sorted({named[parts][2] for parts in of_split})
        if len(stems) > 1:
            raise InputError(
                f"{name}: {listed([shown_path('/'.join(stem)) for stem in stems])} are both the {split} split; keep "
                "one, or give them the same name with -00000-of-00002 and -00001-of-00002 behind it"
            )
        _say_missing_shards(of_split, name)
    order = {split: place for place, split in enumerate(SPLITS)}
    found = [(parts, found[0]) for parts, found in chosen.items()]
    return sorted(found, key=lambda item: (order.get(item[1] or "", 0), item[0]))


def _split_of(parts: Parts) -> tuple[str | None, Parts, Parts]:
    """Find the split of a file in its name, or in the names of its folders, the innermost first.

    Returns:
        The split or None; the folders that do not name it; and a key that files of one split share.
    """
    stem = _SHARD.sub("", Path(parts[-1]).stem)
    words = {split for word in re.split(r"[^A-Za-z]+", stem) if word and (split := split_of(word))}
    split = split_of(stem) or (words.pop() if len(words) == 1 else None)
    if split is not None:
        return split, parts[:-1], (*parts[:-1], stem)
    for place in range(len(parts) - 2, -1, -1):
        if split := split_of(parts[place]):
            return split, parts[:place] + parts[place + 1 : -1], parts[:-1]
    return None, parts[:-1], (*parts[:-1], stem)


def _say_missing_shards(files: Sequence[Parts], name: str) -> None:
    """Warn if the names of a split's files promise more files than are here."""
    counts = {int(match[2]) for parts in files if (match := _SHARD.search(Path(parts[-1]).stem)) and match[2]}
    if counts and max(counts) > len(files):
        logger.warning("%s: %s of %s files of this split are here", name, f"{len(files):,}", f"{max(counts):,}")
