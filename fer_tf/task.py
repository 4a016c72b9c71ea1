"""The task: seven emotions, faces of 48x48 pixels, and the names of the splits."""

from __future__ import annotations

SELECTION_SPLIT = "validation"  # chooses checkpoint, temperature and early stopping


def split_title(split: str) -> str:
    """Name of a split as it stands beside its figures: the one that selected the model says so."""
    return f"{split} (selection split)" if split == SELECTION_SPLIT else split


EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # the index is the label id
NUM_CLASSES = len(EMOTIONS)
_SYNONYMS = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "scared": "fear",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprised": "surprise",
}


def canonical_emotion(name: str) -> str | None:
    """FER-2013's name of an emotion.

    Args:
        name: a folder's or class's name in any case, surrounding blanks allowed.

    Returns:
        The member of `EMOTIONS` that it means, or None if it is none of the seven.
    """
    key = name.strip().lower()
    key = _SYNONYMS.get(key, key)
    return key if key in EMOTIONS else None


SPLITS = ("train", "validation", "test")
IMAGE_SIZE = 48  # FER-2013's side length, pixels
