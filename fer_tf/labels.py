"""The seven emotions of FER-2013 in their published order, and the names that other data sets give them."""

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
