"""Labels of FER+: the votes of ten people on each image of FER-2013, a target different from FER-2013's labels."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import logging
from pathlib import Path

import numpy as np

from fer_tf.data.dataset import Dataset
from fer_tf.data.names import EIGHT_EMOTIONS, emotion_of, name_key, split_of
from fer_tf.data.reading.left_out import say_left_out
from fer_tf.errors import InputError
from fer_tf.task import EMOTIONS, SPLITS
from fer_tf.text import listed, percent, shown, shown_path

logger = logging.getLogger(__name__)

LABELS_AS = ("majority", "distribution")
_UNKNOWN, _NO_FACE = "unknown", "nf"  # the other columns, in lower case
_CHOICES = (*EIGHT_EMOTIONS, _UNKNOWN, _NO_FACE)
_MAX_BYTES = 64 << 20  # the published file has 1.4 MB
_MAX_VOTES = 10_000  # for one choice of one image
_OUTLIER = 1  # ignore a choice with so few votes: Barsoum et al., 2016, and their program
_LEAST_AGREEMENT, _NUM_COMPARED = 0.4, 500  # in a wrong order, votes agree with 20 % of the labels
_HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"


@dataclasses.dataclass(frozen=True)
class Votes:
    """The votes of a file.

    Attributes:
        splits: split of each row.
        counts: int64 (n, 10), votes for the eight emotions in the order of `EIGHT_EMOTIONS`, for unknown, for no face.
        source: name of the file, without its path.
        sha256: hex digest of the file.
    """

    splits: np.ndarray
    counts: np.ndarray
    source: str
    sha256: str


def read_votes(path: Path) -> Votes:
    """Read votes in the form of FER+ (fer2013new.csv of github.com/microsoft/FERPlus).

    Raises:
        InputError: if the file cannot be read, a column is missing, or a row is not a row of votes.
    """
    name = shown_path(path)
    if not path.is_file():
        raise InputError(f"{name}: no such file; give fer2013new.csv of FER+ (github.com/microsoft/FERPlus)")
    if path.stat().st_size > _MAX_BYTES:
        raise InputError(f"{name}: larger than {_MAX_BYTES >> 20} MiB; expected votes of FER+: {_HEADER}")
    data = path.read_bytes()
    try:
        rows = list(csv.reader(data.decode("utf-8-sig").splitlines(), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{name}: not a csv in UTF-8 ({error}); expected votes of FER+: {_HEADER}") from error
    if len(rows) < 2:
        raise InputError(f"{name}: no rows; expected votes of FER+: {_HEADER}")
    header = [emotion_of(field) or name_key(field) for field in rows[0]]
    for column in (*_CHOICES, "usage"):
        if header.count(column) != 1:
            problem = "no column" if column not in header else "more than one column"
            raise InputError(f"{name}: row 1 has {problem} {column}; expected {_HEADER}")
    places = [header.index(choice) for choice in _CHOICES]
    usage = header.index("usage")
    splits: list[str] = []
    counts = np.zeros((len(rows) - 1, len(_CHOICES)), np.int64)
    for number, fields in enumerate(rows[1:], start=2):
        if len(fields) != len(header):
            raise InputError(f"{name}: row {number} has {len(fields)} columns; expected {len(header)} as in row 1")
        split = split_of(fields[usage][:100])
        if split is None:
            raise InputError(
                f"{name}: row {number}: Usage {shown(fields[usage])}; expected Training, PublicTest or PrivateTest"
            )
        splits.append(split)
        for choice, place in enumerate(places):
            text = fields[place].strip()
            if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= _MAX_VOTES):
                raise InputError(
                    f"{name}: row {number}: {shown(text)} votes for {rows[0][place].strip()}; expected a whole number"
                )
            counts[number - 2, choice] = int(text)
    return Votes(np.array(splits), counts, path.name, hashlib.sha256(data).hexdigest())


def with_votes(dataset: Dataset, votes: Votes, labels_as: str, name: str) -> Dataset:
    """Replace the labels by the votes.

    A choice with a single vote is ignored. With `majority`, the label is the choice with more than half of the other
    votes, as in the program of FER+'s authors; rows without a majority, or with a majority for unknown or no face, are
    left out. With `distribution`, the training target is the shares of the votes among the eight emotions, and the
    label is the emotion with the most votes; rows are left out if two emotions have the most votes, or if unknown or no
    face has as many.

    Args:
        dataset: the rows of FER-2013, all rows of a split in the published order.
        votes: votes on the same rows; they may include splits that the data does not have.
        labels_as: one of `LABELS_AS`.
        name: the data's name in messages.

    Returns:
        The rows that have a label, with the classes `EIGHT_EMOTIONS`. `sha256` covers the data and the votes.

    Raises:
        InputError: if the rows and the votes do not belong together.
    """
    if labels_as not in LABELS_AS:
        raise InputError(f"labels_as {shown(labels_as)}: expected {listed(LABELS_AS, 'or')}")
    counts = _matched(dataset, votes, name)
    counts = np.where(counts > _OUTLIER, counts, 0)
    labels, reasons = (_majority if labels_as == "majority" else _most)(counts)
    left_out = {
        str(reason): [f"image {row + 1}" for row in np.flatnonzero(reasons == reason)]
        for reason in np.unique(reasons[reasons != ""])
    }
    kept = np.flatnonzero(labels >= 0)
    logger.info("%s: labels come from %s (%s of its votes), not from the data itself", name, votes.source, labels_as)
    say_left_out(left_out, len(kept), name, "image")
    if not len(kept):
        raise InputError(f"{name}: the votes of {votes.source} leave no row with a label; give another file")
    emotions = counts[kept, : len(EIGHT_EMOTIONS)].astype(np.float32)
    return dataclasses.replace(
        dataset.rows(kept),
        labels=labels[kept],
        class_names=EIGHT_EMOTIONS,
        targets=emotions / emotions.sum(axis=1, keepdims=True) if labels_as == "distribution" else None,
        label_source={"file": votes.source, "sha256": votes.sha256, "as": labels_as},
        sha256=hashlib.sha256(f"{dataset.sha256}{votes.sha256}{labels_as}".encode()).hexdigest(),
        left_out={**dataset.left_out, **{reason: len(rows) for reason, rows in left_out.items()}},
    )


def _matched(dataset: Dataset, votes: Votes, name: str) -> np.ndarray:
    """Return the votes of each row of the data: int64 (n, 10)."""
    if dataset.files is not None or dataset.synthetic or not set(dataset.class_names) <= set(EIGHT_EMOTIONS):
        raise InputError(f"{name}: votes of FER+ belong to the rows of fer2013.csv; give them with that file")
    if dataset.left_out:
        some = ", ".join(f"{count:,} {reason}" for reason, count in dataset.left_out.items())
        raise InputError(f"{name}: rows are left out ({some}), but votes are matched row by row; give the whole file")
    present = [split for split in SPLITS if dataset.has(split)]
    for split in present:
        num_rows, num_votes = int(np.sum(dataset.split == split)), int(np.sum(votes.splits == split))
        if num_rows != num_votes:
            raise InputError(
                f"{votes.source} has votes on {num_votes:,} {split} images, {name} has {num_rows:,} rows of {split}; "
                "give votes on the same rows"
            )
    counts = np.zeros((len(dataset), len(_CHOICES)), np.int64)
    for split in present:
        counts[dataset.split == split] = votes.counts[votes.splits == split]
    _check_order(dataset, counts, votes.source, name)
    if unused := sorted(set(votes.splits.tolist()) - set(present), key=SPLITS.index):
        logger.info("%s has no rows of %s: their votes are not used", name, listed(unused))
    return counts


def _check_order(dataset: Dataset, counts: np.ndarray, source: str, name: str) -> None:
    """Refuse votes that rarely agree with the labels: they belong to other images, or are in another order."""
    own = np.array([EIGHT_EMOTIONS.index(class_name) for class_name in dataset.class_names])[dataset.labels]
    emotions = counts[:, : len(EMOTIONS)]
    has_votes = emotions.max(axis=1) > _OUTLIER
    agreement = float(np.mean(emotions.argmax(axis=1)[has_votes] == own[has_votes])) if has_votes.any() else 0.0
    if has_votes.sum() >= _NUM_COMPARED and agreement < _LEAST_AGREEMENT:
        raise InputError(
            f"the votes of {source} agree with {percent(agreement)} of the labels of {name}: they are not votes on the "
            "same images in the same order (FER+ agrees with about 65 %); give the file that belongs to the data"
        )


def _majority(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the label of each row, or -1, and the reason for each -1."""
    label = counts.argmax(axis=1)
    has_majority = 2 * counts.max(axis=1) > counts.sum(axis=1)
    reasons = np.select(
        [~has_majority, label == _CHOICES.index(_UNKNOWN), label == _CHOICES.index(_NO_FACE)],
        ["without a majority of the votes", "whose majority says unknown", "whose majority says no face"],
        "",
    )
    return np.where(reasons == "", label, -1), reasons


def _most(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the emotion with the most votes in each row, or -1 if there is no single one, and the reason."""
    emotions, others = counts[:, : len(EIGHT_EMOTIONS)], counts[:, len(EIGHT_EMOTIONS) :]
    most = emotions.max(axis=1)
    reasons = np.select(
        [
            (others.max(axis=1) >= most) & (others.max(axis=1) > 0),
            most == 0,
            (emotions == most[:, None]).sum(axis=1) > 1,
        ],
        [
            "whose votes mostly say unknown or no face",
            "without an emotion that has two votes",
            "with two emotions that have the most votes",
        ],
        "",
    )
    return np.where(reasons == "", emotions.argmax(axis=1), -1), reasons
