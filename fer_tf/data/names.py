"""Names of classes and splits as people write them; folders, tables and `--classes` all use this module."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from fer_tf.errors import InputError
from fer_tf.task import EMOTIONS, canonical_emotion
from fer_tf.text import shown

CONTEMPT = "contempt"
EIGHT_EMOTIONS = (*EMOTIONS, CONTEMPT)  # FER-2013's order, then the eighth of CK+, AffectNet and FER+
_MAX_NAMES_SHOWN = 20
NUMBERINGS: Mapping[str, Mapping[int, str]] = {
    "fer2013": dict(enumerate(EMOTIONS)),
    "rafdb": dict(enumerate(("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"), start=1)),
}
_CONTEMPT = ("contempt", "contemptuous")
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "eval", "evaluation", "dev", "development", "publictest"),
    "test": ("test", "testing", "privatetest"),
}
_SPLIT_OF_NAME = {name: split for split, names in _SPLITS.items() for name in names}


def plain_name(name: str) -> str:
    """Return a name in Unicode's composed form (NFC), without blanks around it."""
    return unicodedata.normalize("NFC", name).strip()


def name_key(name: str) -> str:
    """Return a key that is equal for two spellings of one name; case does not matter."""
    return unicodedata.normalize("NFC", plain_name(name).casefold())


def emotion_of(name: str) -> str | None:
    """Return the usual name of an emotion.

    Args:
        name: name of a folder, a label or a class, in any case and any Unicode form.

    Returns:
        A member of `EIGHT_EMOTIONS`, or None if the name is not an emotion.

    Example:
        >>> emotion_of(" Happiness"), emotion_of("Contempt"), emotion_of("bored")
        ('happy', 'contempt', None)
    """
    return CONTEMPT if name_key(name) in _CONTEMPT else canonical_emotion(name)


def split_of(name: str) -> str | None:
    """Return the split that a name in a folder or a table means.

    Args:
        name: such as `Training`, `val`, `test_set`, `PublicTest`; case, blanks, `_` and `-` make no difference.

    Returns:
        A member of `task.SPLITS`, or None if the name is not a usual name of a split.

    Example:
        >>> split_of("Test_Set"), split_of("val"), split_of("happy")
        ('test', 'validation', None)
    """
    key = re.sub(r"[\s_-]+", "", name_key(name))
    return _SPLIT_OF_NAME.get(key) or _SPLIT_OF_NAME.get(re.sub(r"(set|split|data|images)$", "", key))


def is_number(name: str) -> bool:
    """Return True for a name of decimal digits alone, such as `3` or `03`."""
    name = plain_name(name)
    return name.isascii() and name.isdigit() and len(name) <= 9


def merge_names(names: Iterable[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Make one class of all spellings of one name; each name is read by itself.

    Args:
        names: names of folders or labels. If a name is not an emotion, its first spelling becomes the class name.

    Returns:
        The class names: in FER-2013's order with contempt as the eighth if all are emotions, else sorted. Then the
        class name of each given name.

    Example:
        >>> merge_names(["anger", "angry", "Bored", "bored"])
        (('Bored', 'angry'), {'anger': 'angry', 'angry': 'angry', 'Bored': 'Bored', 'bored': 'Bored'})
    """
    class_of: dict[str, str] = {}
    first: dict[str, str] = {}
    for name in names:
        class_of[name] = emotion_of(name) or first.setdefault(name_key(name), plain_name(name))
    found = set(class_of.values())
    if found <= set(EIGHT_EMOTIONS):
        return tuple(name for name in EIGHT_EMOTIONS if name in found), class_of
    return tuple(sorted(found)), class_of


def merged_text(class_of: Mapping[str, str]) -> str:
    """Say which different spellings became one class: `anger and angry are angry`; empty if there are none."""
    spellings: dict[str, list[str]] = {}
    for name, class_name in class_of.items():
        spellings.setdefault(class_name, []).append(name)
    merged = {name: found for name, found in spellings.items() if len(found) > 1}
    return ", ".join(f"{' and '.join(shown(text) for text in found)} are {name}" for name, found in merged.items())


def find_class(name: str, class_names: Sequence[str]) -> str | None:
    """Return the class that this spelling means, or None."""
    if name in class_names:
        return name
    wanted = emotion_of(name) or name_key(name)
    return next((own for own in class_names if (emotion_of(own) or name_key(own)) == wanted), None)


def names_of_numbers(numbers: Iterable[str], class_names: str | Sequence[str] | None, where: str) -> dict[str, str]:
    """Name classes that are only numbers; nothing is guessed.

    Args:
        numbers: names for which `is_number` is true.
        class_names: a key of `NUMBERINGS`, or one name for each number in ascending order; None if not given.
        where: the data's name in messages.

    Returns:
        The class name of each number.

    Raises:
        InputError: if no names are given, or the numbers and the names do not match.
    """
    found = sorted(set(numbers), key=lambda name: (int(name), name))
    values = sorted({int(name) for name in found})
    some = ", ".join(found[:10]) + (", ..." if len(found) > 10 else "")
    if class_names is None:
        raise InputError(f"{where}: classes that are only numbers ({some}) are not guessed: {_naming_advice(values)}")
    if isinstance(class_names, str):
        class_names = [class_names]
    if len(class_names) == 1 and (numbering := NUMBERINGS.get(name_key(class_names[0]))):
        unknown = [value for value in values if value not in numbering]
        if unknown:
            raise InputError(
                f"{where}: class {unknown[0]} is not in {name_key(class_names[0])}'s numbering {min(numbering)} to "
                f"{max(numbering)}: {_naming_advice(values)}"
            )
        return {name: numbering[int(name)] for name in found}
    if len(class_names) != len(values):
        raise InputError(
            f"{where}: {len(class_names)} class names for {len(values)} numbers ({some}): {_naming_advice(values)}"
        )
    name_of = {value: plain_name(name) for value, name in zip(values, class_names, strict=True)}
    return {name: name_of[int(name)] for name in found}


def _naming_advice(values: Sequence[int]) -> str:
    """Say which values of --class-names fit these numbers."""
    choices = [
        f"--class-names {name} ({', '.join(f'{number} {emotion}' for number, emotion in numbering.items())})"
        for name, numbering in NUMBERINGS.items()
        if set(values) <= numbering.keys()
    ]
    if len(values) > _MAX_NAMES_SHOWN:
        return f"give your {len(values)} names in the numbers' order to --class-names, with commas between them"
    own = ",".join(f"name{value}" for value in values)
    return " or ".join([*choices, f"--class-names {own} with your {len(values)} names in the numbers' order"])
