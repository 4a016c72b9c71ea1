"""The data set that every reader returns: grey 48x48 faces (or their pixel strings) with labels and split names."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from fer_tf.errors import InputError
from fer_tf.task import IMAGE_SIZE, SPLITS

SPLIT_DTYPE = f"<U{max(map(len, SPLITS))}"


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Faces with labels and split names; exactly one of `images` and `pixels` is set.

    Attributes:
        labels: int64 (n,), indices into `class_names`.
        split: str (n,), members of `SPLITS`.
        class_names: one name per label id.
        images: uint8 (n, 48, 48), grey.
        pixels: object (n,), strings of 2304 values in [0, 255] separated by single blanks (FER-2013's form).
        source: name of the file or folder, without its path.
        synthetic: True if the faces were drawn by a program.
        sha256: hex digest of the source.
        originals: number of a folder's files by original size and colour; empty for data that was always 48x48 grey.
        crop: how pictures became crops, as in `faces.policy.CropPolicy.to_dict`, and `num_without_face`, the number of
            pictures that were left out; None for data that holds crops.
        origin: the arguments of `load_dataset` that give these rows again; None for rows made or chosen in memory.
        files: object (n,), the path of each picture inside its folder; None for data that is not made of files.
        subjects: object (n,), the person that each picture shows, or "" if unknown; None if no person is known. Each
            person is in only one of the splits that `load_dataset` cuts.
        unsplit: True if the source has no splits; all rows are then called train at first.
        left_out: reason -> number of files that were not read.
        targets: float32 (n, classes), training targets from votes, each row summing to 1; None if the labels are the
            targets.
        label_source: `file`, `sha256` and `as` of the votes that replace the data's own labels; None without votes.
    """

    labels: np.ndarray
    split: np.ndarray
    class_names: tuple[str, ...]
    images: np.ndarray | None = None
    pixels: np.ndarray | None = None
    source: str = ""
    synthetic: bool = False
    sha256: str = ""
    originals: dict[str, int] = dataclasses.field(default_factory=dict)
    crop: dict[str, Any] | None = None
    origin: dict[str, Any] | None = None
    files: np.ndarray | None = None
    subjects: np.ndarray | None = None
    unsplit: bool = False
    left_out: dict[str, int] = dataclasses.field(default_factory=dict)
    targets: np.ndarray | None = None
    label_source: dict[str, str] | None = None

    def __post_init__(self) -> None:
        if (self.images is None) == (self.pixels is None):
            raise ValueError("a Dataset takes exactly one of images and pixels")
        faces = self.images if self.images is not None else self.pixels
        assert faces is not None
        if not len(faces) == len(self.labels) == len(self.split):
            raise ValueError(
                f"{len(faces)} faces, {len(self.labels)} labels, {len(self.split)} splits: expected equal numbers"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def has(self, split: str) -> bool:
        """Return True if any row belongs to the split."""
        return bool(np.any(self.split == split))

    def counts(self, split: str) -> np.ndarray:
        """Count the rows of each class in a split: int64 (num_classes,)."""
        return np.bincount(self.labels[self.split == split], minlength=self.num_classes)

    def rows(self, index: np.ndarray) -> Dataset:
        """Return the rows that a boolean mask or an index array selects, in its order."""
        return dataclasses.replace(
            self,
            labels=self.labels[index],
            split=self.split[index],
            images=None if self.images is None else self.images[index],
            pixels=None if self.pixels is None else self.pixels[index],
            files=None if self.files is None else self.files[index],
            subjects=None if self.subjects is None else self.subjects[index],
            targets=None if self.targets is None else self.targets[index],
            origin=None,
        )

    def take(self, split: str) -> Dataset:
        """Return the rows of one split, in the same order.

        Raises:
            InputError: if the split has no row.
        """
        if split not in SPLITS:
            raise InputError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
        if not self.has(split):
            present = [name for name in SPLITS if self.has(name)]
            raise InputError(
                f"{self.source} has no {split} split: it has {', '.join(present) or 'no rows'}; name one of these"
            )
        return self.rows(self.split == split)

    def select(self, class_names: Sequence[str]) -> Dataset:
        """Return the rows of some classes, with labels renumbered in the order given.

        Targets keep the values of these classes, scaled to sum to 1.

        Raises:
            InputError: for an unknown or repeated name.
        """
        wanted = tuple(class_names)
        for name in wanted:
            if name not in self.class_names:
                raise InputError(f"unknown class {name!r}: {self.source} has {', '.join(self.class_names)}")
        if len(set(wanted)) < len(wanted):
            raise InputError(f"classes {', '.join(wanted)}: one is named twice; name each once")
        new_label = np.full(self.num_classes, -1, np.int64)
        for label, name in enumerate(wanted):
            new_label[self.class_names.index(name)] = label
        chosen = self.rows(new_label[self.labels] >= 0)
        targets = chosen.targets
        if targets is not None:
            targets = targets[:, [self.class_names.index(name) for name in wanted]]
            targets = targets / targets.sum(axis=1, keepdims=True)
        return dataclasses.replace(chosen, labels=new_label[chosen.labels], class_names=wanted, targets=targets)

    def decoded(self) -> Dataset:
        """Return the same data with the pixel strings decoded to uint8 images by NumPy."""
        if self.images is not None:
            return self
        assert self.pixels is not None
        images = np.empty((len(self), IMAGE_SIZE * IMAGE_SIZE), np.uint8)
        for row, text in enumerate(self.pixels):
            images[row] = np.fromstring(text, dtype=np.uint8, sep=" ")
        return self.with_images(images.reshape(-1, IMAGE_SIZE, IMAGE_SIZE))

    def with_images(self, images: np.ndarray) -> Dataset:
        """Return the same rows with these decoded faces: uint8 (n, 48, 48)."""
        return dataclasses.replace(self, images=images, pixels=None)
