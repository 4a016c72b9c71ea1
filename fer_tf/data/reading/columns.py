"""Finds a table's columns of labels, pixels or paths, splits and people, by their names or by the first row."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from fer_tf.data.names import emotion_of, name_key, split_of
from fer_tf.data.reading.pixels import looks_like_pixels, side_of
from fer_tf.errors import InputError
from fer_tf.faces.kinds import PICTURE_SUFFIXES
from fer_tf.text import listed, shown

# Names of columns, the preferred ones first; case, blanks, `_`, `-` and `.` make no difference.
_LABELS = (
    "emotion", "label", "class", "emotionlabel", "emotionname", "labelname", "classname", "emotionclass", "expression",
    "facialexpression", "target", "category", "emotions", "labels", "classes", "y",
)  # fmt: skip
_PIXELS = ("pixels", "pixel", "pixelvalues", "pixelstring", "pixeldata", "imagepixels", "imagedata")
_PATHS = (
    "path", "filepath", "imagepath", "imgpath", "picturepath", "relativepath", "fullpath", "filename", "file",
    "imagefile", "imagename", "imgname", "subdirectoryfilepath", "pth", "picture", "photo", "paths", "files",
    "filenames", "imageid",
)  # fmt: skip
_EITHER = ("image", "img", "images", "data")  # pixels or paths: the first row decides
_SPLITS = ("usage", "split", "subset", "partition", "datasplit", "set", "dataset")
_SUBJECTS = (
    "subject",
    "subjectid",
    "person",
    "personid",
    "participant",
    "participantid",
    "identity",
    "actor",
    "actorid",
)
_NUMBERED = re.compile(r"(?:pixels?|px|p|x|v|f|col|column|feature)?\d+")
_EXPECTED = "expected emotion,pixels,Usage or path,label, separated by commas, semicolons or tabs"


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a table, counted from 0.

    Attributes:
        names: names of all columns; empty if the table has no header row.
        num: number of columns.
        label: column of the labels.
        pixels: column of pixel lists, or the columns of one pixel each; empty for a table of paths.
        path: column of the paths of pictures; None for a table of pixels.
        split: column of the splits' names.
        subject: column of the people.
    """

    names: tuple[str, ...]
    num: int
    label: int
    pixels: tuple[int, ...] = ()
    path: int | None = None
    split: int | None = None
    subject: int | None = None

    def named(self, name: str) -> int | None:
        """Return the column with this name, or None."""
        keys = list(map(_key, self.names))
        return keys.index(_key(name)) if _key(name) in keys else None

    def text(self) -> str:
        """Describe how the columns are read: `column 1 as emotion, column 2 as pixels`."""
        places = {"the label": self.label, "the split": self.split, "the person": self.subject, "the path": self.path}
        if self.pixels:
            places["the pixels"] = self.pixels[0]
        found = {place: role for role, place in places.items() if place is not None}
        return listed([f"column {place + 1} as {found[place]}" for place in sorted(found)])


def find_columns(header: Sequence[bytes], first: Sequence[bytes], name: str) -> Columns:
    """Find the columns by the header row.

    Args:
        header: fields of row 1.
        first: fields of row 2; empty if there is none.
        name: name of the table in messages.

    Raises:
        InputError: if a column is missing or is there twice.
    """
    names = tuple(field.decode("utf-8", "replace").strip() for field in header)
    keys = list(map(_key, names))
    seen = shown(b",".join(header[:50]))

    def place(synonyms: Sequence[str]) -> int | None:
        for synonym in synonyms:
            if keys.count(synonym) > 1:
                raise InputError(
                    f"{name}: row 1 has the column {shown(names[keys.index(synonym)].lower())} twice; remove one"
                )
            if synonym in keys:
                return keys.index(synonym)
        return None

    label, split, subject = place(_LABELS), place(_SPLITS), place(_SUBJECTS)
    pixels, path = place(_PIXELS), place(_PATHS)
    either = place(_EITHER) if pixels is None else None
    if either is not None and (path is None or (len(first) > either and looks_like_pixels(first[either]))):
        if len(first) > either and looks_like_pixels(first[either]):
            pixels = either
        else:
            path = either
    many = tuple(i for i, key in enumerate(keys) if _NUMBERED.fullmatch(key) and i != label)
    if label is None:
        raise InputError(f"{name}: row 1 has no column emotion or label: {seen}; {_EXPECTED}")
    if pixels is not None:
        return Columns(names, len(names), label, pixels=(pixels,), split=split, subject=subject)
    if len(many) > 1 and (path is None or side_of(len(many))):
        if side_of(len(many)) is None:
            raise InputError(
                f"{name}: {len(many):,} columns of one pixel each; expected a square number, such as 2,304"
            )
        return Columns(names, len(names), label, pixels=many, split=split, subject=subject)
    if path is None:
        raise InputError(f"{name}: row 1 has no column pixels or path: {seen}; {_EXPECTED}")
    return Columns(names, len(names), label, path=path, split=split, subject=subject)


def usual_column(names: Sequence[str], role: str) -> str | None:
    """Return the column whose name means the `label`, the `split` or the `subject`, or None."""
    key_of = {_key(name): name for name in reversed(names)}
    synonyms = {"label": _LABELS, "split": _SPLITS, "subject": _SUBJECTS}[role]
    return next((key_of[synonym] for synonym in synonyms if synonym in key_of), None)


def is_data(fields: Sequence[bytes]) -> bool:
    """Return True if the first row is data and not a header: it holds pixels or the path of a picture."""
    return any(map(looks_like_pixels, fields)) or any(map(_is_picture, fields)) or _is_one_pixel_a_column(fields)


def guess_columns(fields: Sequence[bytes], name: str) -> Columns:
    """Find the columns of a table without a header row, by its first row.

    Raises:
        InputError: if no column may hold the labels, or more than one may.
    """
    advice = "add a first row that names the columns, such as emotion,pixels,Usage or path,label"
    pixels = [place for place, field in enumerate(fields) if looks_like_pixels(field)]
    paths = [place for place, field in enumerate(fields) if _is_picture(field)]
    if _is_one_pixel_a_column(fields) or len(pixels or paths) > 1:
        raise InputError(f"{name}: no header row, and {len(fields):,} columns that may be anything; {advice}")
    used = set(pixels or paths)
    texts = {place: field.decode("utf-8", "replace").strip() for place, field in enumerate(fields) if place not in used}
    splits = [place for place, text in texts.items() if split_of(text)]
    rest = [place for place in texts if place not in splits[:1]]
    labels = [place for place in rest if label_of(texts[place]) is not None]
    if paths and not pixels and not labels and len(rest) == 1:
        labels = rest  # labels are the table's own classes
    if len(labels) != 1 or len(splits) > 1:
        seen = f"{len(labels)} columns that may be the label" if labels else "no column that looks like a label"
        raise InputError(f"{name}: no header row, and {seen}; {advice}")
    return Columns(
        (),
        len(fields),
        labels[0],
        pixels=tuple(pixels),
        path=None if pixels else paths[0],
        split=splits[0] if splits else None,
    )


def label_of(text: str) -> int | str | None:
    """Return what a label means: an emotion's name, a number (3 of `3`, `3.0` or `03`), or None."""
    if match := re.fullmatch(r"\s*\+?(\d{1,9})(?:\.0*)?\s*", text, re.ASCII):
        return int(match[1])
    return emotion_of(text)


def _key(name: str) -> str:
    return re.sub(r"[\s_.-]+", "", name_key(name))


def _is_picture(field: bytes) -> bool:
    text = field.strip().lower()
    return len(text) < 4096 and text.endswith(tuple(suffix.encode() for suffix in PICTURE_SUFFIXES))


def _is_one_pixel_a_column(fields: Sequence[bytes]) -> bool:
    return len(fields) > 64 and sum(field.strip().isdigit() for field in fields) > len(fields) - 4
