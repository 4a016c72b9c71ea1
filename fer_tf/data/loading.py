"""Loads a data set in any form that fer_tf reads, checks it, and cuts a validation split if there is none."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fer_tf.data.dataset import Dataset
from fer_tf.data.reading import read, read_object
from fer_tf.data.reading.npz import save_npz
from fer_tf.data.splits import check_training_rows, limited, select_classes, warn_of_shared_people, with_cut
from fer_tf.data.votes import LABELS_AS, read_votes, with_votes
from fer_tf.errors import InputError
from fer_tf.faces.policy import CropPolicy
from fer_tf.task import SPLITS
from fer_tf.text import shown_path

if TYPE_CHECKING:
    from fer_tf.data.reading.hub import HubDataset

__all__ = ["load_dataset", "save_npz"]

logger = logging.getLogger(__name__)


def load_dataset(
    path: str | os.PathLike[str] | HubDataset | Mapping[str, HubDataset] | None = None,
    *,
    classes: Sequence[str] | None = None,
    limit: int = 0,
    faces: str | CropPolicy = "auto",
    seed: int = 0,
    validation_fraction: float = 0.1,
    training: bool = True,
    class_names: Sequence[str] | None = None,
    subjects: str | None = None,
    skip_broken: bool = False,
    cut: str = "groups",
    labels: str | os.PathLike[str] | None = None,
    labels_as: str | None = None,
) -> Dataset:
    """Load and check a data set in any of the published forms, or draw the synthetic faces that come with fer_tf.

    The contents of a file decide its form. The forms are:

    - `fer2013.csv` (emotion,pixels,Usage), `icml_face_data.csv` (the same columns in another order, blanks in their
      names) and the challenge's `train.csv` (no Usage: every row is Training), each plain or in a .gz, .bz2, .xz, .zip
      or .tar (`fer2013.tar.gz`). The columns have their usual names, in any case; the pixels form a square of any
      size. The classes are FER-2013's seven, with contempt (7) as the eighth if a row has it.
    - Folders of pictures: `train/`, `validation/`, `test/` (or their usual names) with a sub-folder for each class, or
      the class folders alone. Each name is read by itself: emotions are known in any case and by their usual synonyms;
      other names stay unchanged. If all classes are emotions, they have FER-2013's order, with contempt as the eighth;
      otherwise they are sorted. Folders below a class belong to this class. If there is no validation folder, the
      files `PublicTest*` in `test/` are validation.
    - A csv of paths and labels (path,label[,split][,subject]), one picture a row. Paths start at the csv's folder; they
      may be absolute or lead out of it. Labels follow the rules for names of class folders. Without a column of splits,
      the splits are cut as for class folders.
    - Parquet as the Hugging Face Hub publishes sets of pictures (extra `parquet`): a file, or a folder of files whose
      names or folders name the splits (`data/train-00000-of-00002.parquet`). Pictures are a struct of bytes and path,
      or bytes alone; labels are numbers that the schema names (`ClassLabel`), or text. A column of splits overrides
      the names of files.
    - The .npz of `save_npz`.
    - From Python, an object of the package `datasets` (extra `parquet`); its keys name the splits. To resume a run that
      was trained on it, give the same object.

    If no row is validation, a stratified random part of train becomes validation; if class folders have no splits, a
    test split is cut as well. Copies of an image stay together, and so do the pictures of one person.

    Args:
        path: a file or a folder; a `datasets.Dataset` or `DatasetDict`; None for the synthetic faces.
        classes: the classes to keep, in any spelling, renumbered in this order; all if None.
        limit: largest number of images of each split, drawn at random with the classes in their proportions; 0 for all.
        faces: how the pictures of a folder or a table of paths become crops. `whole` takes each picture as a crop.
            `detect` takes the largest, most central face of each picture of more than 64 pixels, and leaves out
            pictures without a face. `auto` chooses one of the two for all pictures by a sample of 200: `whole` if none
            has more than 64 pixels a side, or if a face spans 60 % of the side or more in 80 % of them; else `detect`.
            A recorded policy is used unchanged.
        seed: seed of the random draws of a validation split and of `limit`.
        validation_fraction: part of each class's training rows that becomes validation, in (0, 1). If class folders
            have no splits, an equal part becomes test.
        training: True to require a training row of every class, and to cut a validation split if there is none; False
            to load a file that will only be scored, such as one with nothing but a test split.
        class_names: names for classes that are only numbers: `["fer2013"]`, `["rafdb"]`, or one name for each number in
            ascending order.
        subjects: where to find the person that a picture shows: a regular expression whose match in the picture's path
            (the first group, or all of it) is the person, or the name of a table's column. If None, only the file names
            of CK+ and JAFFE are understood.
        skip_broken: True to leave out pictures and rows that cannot be read; they are counted in `left_out`.
        cut: `groups` keeps copies of an image and pictures of one person together in the splits that are cut; `rows`
            cuts row by row, as version 0.1 did.
        labels: votes of FER+ (fer2013new.csv of github.com/microsoft/FERPlus) on the rows of fer2013.csv; they replace
            its labels, and contempt is an eighth class. This is another target than FER-2013's labels: do not compare
            figures of the two.
        labels_as: `majority` (if None): the label is the choice with more than half of the votes. `distribution`: the
            training target is the shares of the votes, and the label is the emotion with the most votes. Rows without
            such a label, or with votes for unknown or no face, are counted in `left_out`; `data.votes` has the rule.

    Returns:
        The faces, as pixel strings (csv and synthetic faces) or uint8 images (n, 48, 48), in the order of the file or
        of the sorted relative paths. `sha256` is the digest of the file's bytes, of the folder's sorted paths and
        bytes, or of both for a table of paths.

    Raises:
        InputError: if an argument is out of range or the data is not as expected.

    Example:
        >>> import fer_tf
        >>> dataset = fer_tf.load_dataset(limit=70)
        >>> dataset.class_names
        ('angry', 'disgust', 'fear', 'happy', 'sad', 'surprise', 'neutral')
        >>> images = dataset.take("test").decoded().images
        >>> images.shape[1:], images.dtype
        ((48, 48), dtype('uint8'))
    """
    if not 0 < validation_fraction < 1:
        raise InputError(f"validation_fraction {validation_fraction}: expected a number between 0 and 1")
    if limit < 0:
        raise InputError(f"limit {limit}: expected a number of images, or 0 for all")
    if path is None and labels is not None:
        raise InputError(f"{shown_path(Path(labels))}: votes of FER+ belong to the rows of fer2013.csv; give that file")
    if path is None:
        from fer_tf.data import synthetic

        dataset = synthetic.make_synthetic()
        name = dataset.source
    elif not isinstance(path, (str, os.PathLike)):
        dataset = read_object(path, faces, class_names=class_names, subjects=subjects, skip_broken=skip_broken)
        name = dataset.source
    else:
        name = shown_path(Path(path))
        dataset = read(Path(path), name, faces, class_names=class_names, subjects=subjects, skip_broken=skip_broken)
        dataset = dataclasses.replace(dataset, source=Path(path).resolve().name)
    if labels is not None:
        dataset = with_votes(dataset, read_votes(Path(labels)), labels_as or LABELS_AS[0], name)
    elif labels_as is not None:
        raise InputError(f"labels as {labels_as}: name the file of votes too (--labels FILE)")
    if classes is not None:
        dataset = select_classes(dataset, classes)
    if len(dataset) == 0:
        raise InputError(f"{name}: no row of the classes {', '.join(dataset.class_names)}; name others in --classes")
    if training:
        check_training_rows(dataset, name)
        warn_of_shared_people(dataset)
        if not dataset.has("validation"):
            dataset = with_cut(dataset, name, seed, validation_fraction, by_rows=cut == "rows")
    if not dataset.has("test") and not dataset.unsplit:
        logger.info("%s has no test split: test figures are skipped", dataset.source)
    counts = ", ".join(f"{dataset.counts(split).sum():,} {split}" for split in SPLITS)
    if dataset.unsplit:
        counts = f"{len(dataset):,}"
    logger.info("%s: %s images of %d classes", dataset.source, counts, dataset.num_classes)
    if limit:
        dataset = dataset.rows(limited(dataset, limit, seed))
    if path is not None and not isinstance(path, (str, os.PathLike)):
        return dataset  # made in memory: no recorded arguments can give these rows again
    origin = {
        "path": None if path is None else str(Path(path).resolve()),
        "classes": None if classes is None else list(classes),
        "limit": limit,
        "seed": seed,
        "validation_fraction": validation_fraction,
        "numbering": None if class_names is None else list(class_names),
        "subjects": subjects,
        "skip_broken": skip_broken,
        "cut": cut,
        "labels": None if labels is None else str(Path(labels).resolve()),
        "labels_as": None if labels is None else labels_as or LABELS_AS[0],
    }
    return dataclasses.replace(dataset, origin=origin)
