"""The task: seven emotions, grey faces of 48x48 pixels, three splits."""

from __future__ import annotations

import unicodedata

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # the index is the label
NUM_CLASSES = len(EMOTIONS)
IMAGE_SIZE = 48  # side of a face, pixels
MAX_CROP_SIDE = 64  # pixels: a picture of at most this width and height is a face crop already
INPUTS = ("grey", "rgb")  # colours that an exported .tflite takes
INPUT_NAME, OUTPUT_NAME = "images", "probabilities"  # of the exported graphs
SPLITS = ("train", "validation", "test")
SELECTION_SPLIT = "validation"  # chooses the epoch, the temperature and the quantization

_SYNONYMS = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "scared": "fear",
    "happiness": "happy",
    "joy": "happy",
    "joyful": "happy",
    "sadness": "sad",
    "surprised": "surprise",
    "suprise": "surprise",  # several published folders misspell it like this
}


def canonical_emotion(name: str) -> str | None:
    """Return FER-2013's name of an emotion.

    Args:
        name: name of a folder or class; case, Unicode form and blanks around it do not matter.

    Returns:
        A member of `EMOTIONS`, or None if the name means none of the seven.
    """
    key = unicodedata.normalize("NFC", name).strip().casefold()
    key = _SYNONYMS.get(key, key)
    return key if key in EMOTIONS else None


def split_title(split: str) -> str:
    """Return a split's name for use beside a figure; mark the split that selected the model."""
    return f"{split} (selection split)" if split == SELECTION_SPLIT else split
