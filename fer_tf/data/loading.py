"""Loads a data set in any form that fer_tf reads, checks it, and cuts a validation split where it has none."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from fer_tf.config import Config
from fer_tf.data.dataset import Dataset
from fer_tf.data.reading.files import read_file
from fer_tf.data.reading.folders import read_folder
from fer_tf.data.splits import check_training_rows, limited, select_classes, with_validation
from fer_tf.errors import InputError
from fer_tf.task import SPLITS
from fer_tf.text import shown_path

logger = logging.getLogger(__name__)


def load_dataset(
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    seed: int = 0,
    validation_fraction: float = 0.1,
    training: bool = True,
) -> Dataset:
    """Reads and checks a data set in any of the published forms, told apart by their contents.

    These are `fer2013.csv` (emotion,pixels,Usage), `icml_face_data.csv` (the same columns in another order, blanks in
    their names) and the challenge's `train.csv` (no Usage: every row is Training), each plain or in a .gz, .xz or .zip;
    folders `train/`, `validation/`, `test/` with a sub-folder of PNG or JPEG images per class; and the .npz of
    `save_npz`. In a `test/` folder without a `validation/` beside it, files named `PublicTest*` are validation.

    A csv has FER-2013's seven classes. Folders named after emotions, in any case and with the usual synonyms, have
    those classes of the seven that are there, in FER-2013's order; other folders have their own names, sorted. Where
    no row is validation, a stratified random part of train becomes it.

    Args:
        path: a file or a folder.
        classes: the classes to keep, renumbered in this order; all if None.
        seed: of the random cut of a validation split.
        validation_fraction: part of each class's training rows that such a cut takes, in (0, 1).
        training: whether the data will be trained on: every class then needs a training row, and a validation split is
            cut where there is none. Without it a file that holds only a test split can be scored.

    Returns:
        The faces as pixel strings (from a csv) or uint8 images (from the rest), in the order of the file or of the
        sorted relative paths. `sha256` is that of the file's bytes, or of the folder's sorted paths and bytes.

    Raises:
        InputError: if anything about the input is not as expected.
    """
    if not 0 < validation_fraction < 1:
        raise InputError(f"validation_fraction {validation_fraction}: expected a number between 0 and 1")
    path = Path(path)
    name = shown_path(path)
    if path.is_dir():
        dataset = read_folder(path, name)
    elif path.is_file():
        dataset = read_file(path, name)
    elif path.exists():
        raise InputError(f"{name}: neither a regular file nor a folder; give a csv, a .npz or a folder of images")
    else:
        raise InputError(f"{name}: no such file or folder; give the path of fer2013.csv, a .npz or a folder of images")
    dataset = dataclasses.replace(dataset, source=path.resolve().name)
    if classes is not None:
        dataset = select_classes(dataset, classes)
    if len(dataset) == 0:
        raise InputError(f"{name}: no row of the classes {', '.join(dataset.class_names)}; name others in --classes")
    if training:
        check_training_rows(dataset, name)
        if not dataset.has("validation"):
            dataset = with_validation(dataset, name, seed, validation_fraction)
    if not dataset.has("test"):
        logger.info("%s has no test split: test figures are skipped", dataset.source)
    counts = ", ".join(f"{dataset.counts(split).sum():,} {split}" for split in SPLITS)
    logger.info("%s: %s images of %d classes", dataset.source, counts, dataset.num_classes)
    return dataset


def load_data(path: str | None, config: Config, *, classes: list[str] | None = None, limit: int = 0) -> Dataset:
    """The data at a path, or the embedded synthetic faces.

    Args:
        path: file or folder; None for the embedded faces.
        config: its seed and validation_fraction are read.
        classes: the ones to keep, in their new order; None for all.
        limit: most images of each split, drawn stratified with the seed; 0 for all.

    Raises:
        InputError: for data that cannot be read, or a negative limit.
    """
    if limit < 0:
        raise InputError(f"--limit {limit}: expected a number of images, or 0 for all")
    if path is None:
        from fer_tf.data.synthetic import make_synthetic

        dataset = make_synthetic()
        if classes:
            dataset = dataset.select(classes)
    else:
        from fer_tf.data.loading import load_dataset

        dataset = load_dataset(path, classes=classes, seed=config.seed, validation_fraction=config.validation_fraction)
    return dataset.rows(limited(dataset, limit, config.seed)) if limit else dataset
