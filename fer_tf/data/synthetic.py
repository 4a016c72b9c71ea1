"""Draws faces of the seven emotions in FER-2013's format: data for the first run and the tests.

They show no real person: each face is made of random numbers (identity, pose, light) and facial action units.
"""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from fer_tf.data.dataset import Dataset
from fer_tf.errors import InputError
from fer_tf.task import EMOTIONS, IMAGE_SIZE, NUM_CLASSES, SPLITS

# Images of each class in FER-2013's training split (Goodfellow et al. 2013, arXiv:1307.0414), in the order of EMOTIONS.
_FER2013_COUNTS = np.array([3995, 436, 4097, 7215, 4830, 3171, 4965])
_FEWEST_PER_CLASS = 4  # in a split that is large enough

# Action units of each emotion and their mean intensity at full expression, after EMFACS (Ekman & Friesen 1983).
_PROTOTYPES: dict[str, dict[int, float]] = {
    "angry": {4: 1.0, 5: 0.35, 7: 0.8, 10: 0.25, 17: 0.35, 23: 0.9, 25: 0.3},
    "disgust": {4: 0.5, 7: 0.5, 9: 1.0, 10: 0.75, 15: 0.5, 16: 0.5, 25: 0.3},
    "fear": {1: 0.95, 2: 0.55, 4: 0.65, 5: 0.85, 20: 0.9, 25: 0.6, 26: 0.35},
    "happy": {6: 0.9, 12: 1.0, 25: 0.65, 26: 0.15},
    "sad": {1: 0.95, 4: 0.5, 7: 0.2, 15: 0.95, 17: 0.5},
    "surprise": {1: 1.0, 2: 1.0, 5: 0.75, 25: 0.9, 26: 0.9},
    "neutral": {},
}
_ACTION_UNITS = tuple(sorted({unit for units in _PROTOTYPES.values() for unit in units}))
_NEIGHBOURS = {  # an emotion to blend in, because people confuse the two
    "angry": "disgust",
    "disgust": "angry",
    "fear": "surprise",
    "happy": "neutral",
    "sad": "neutral",
    "surprise": "fear",
    "neutral": "sad",
}

_NUM_DRAWS = 160  # random numbers for each face, slightly more than needed
_CHUNK = 64  # faces drawn at a time: their float32 planes stay in the processor's cache
_PIXEL = 2.0 / IMAGE_SIZE  # a pixel's side in face units: the frame spans [-1, 1] in both directions
_EXAMPLES_STREAM = len(SPLITS)  # random stream of `draw_faces`; the splits use 0, 1 and 2


def make_synthetic(num_train: int = 4000, num_validation: int = 800, num_test: int = 800, *, seed: int = 0) -> Dataset:
    """Draw a data set with FER-2013's classes, class shares and pixel strings.

    A face depends only on its label and on (seed, split, place in the split). A longer split begins with the same
    persons, but with newly drawn labels.

    Args:
        num_train: faces of the training split, at least 7.
        num_validation: faces of the validation split: 0 for none, or at least 7.
        num_test: faces of the test split: 0 for none, or at least 7.
        seed: 0 or more; another seed gives other faces.

    Returns:
        Training, validation and test rows in this order, classes mixed; every split has every class.

    Raises:
        InputError: if a number of faces or the seed is out of range.
    """
    sizes = (num_train, num_validation, num_test)
    for name, size in zip(SPLITS, sizes, strict=True):
        if size < NUM_CLASSES and (size != 0 or name == "train"):
            raise InputError(f"{size} synthetic {name} faces: each class needs one; ask for at least {NUM_CLASSES}")
    _check_seed(seed)
    labels, images = [], []
    for stream, size in enumerate(sizes):
        labels.append(_deal_labels(size, seed, stream))
        images.append(_draw(labels[-1], seed, stream))
    all_labels, all_images = np.concatenate(labels), np.concatenate(images)
    return Dataset(
        labels=all_labels,
        split=np.repeat(np.array(SPLITS), sizes),
        class_names=EMOTIONS,
        pixels=_to_strings(all_images),
        source=f"synthetic (seed {seed})",
        synthetic=True,
        sha256=hashlib.sha256(repr(sizes).encode() + all_labels.tobytes() + all_images.tobytes()).hexdigest(),
    )


def draw_faces(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Draw one face for each label; none of them is in a split of `make_synthetic`.

    Face i of a seed is always the same person in the same light; the label changes only the expression.

    Args:
        labels: integers (n,) in [0, 6], indices into `EMOTIONS`.
        seed: 0 or more.

    Returns:
        uint8 (n, 48, 48), grey.

    Raises:
        InputError: if a label or the seed is out of range.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not np.isin(labels, np.arange(NUM_CLASSES)).all():
        raise InputError(f"labels {labels!r:.80}: expected one row of integers from 0 to {NUM_CLASSES - 1}")
    _check_seed(seed)
    return _draw(labels.astype(np.int64), seed, _EXAMPLES_STREAM)


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise InputError(f"seed {seed}: expected 0 or more")


def _deal_labels(size: int, seed: int, stream: int) -> np.ndarray:
    """Shuffled labels with FER-2013's shares, int64 (size,); small classes are rounded up to a few faces."""
    fewest = min(_FEWEST_PER_CLASS, size // NUM_CLASSES)
    counts = np.maximum(size * _FER2013_COUNTS // _FER2013_COUNTS.sum(), fewest)
    counts[EMOTIONS.index("happy")] += size - counts.sum()  # the largest class takes the rest after rounding
    # Faces take the generators (seed, stream, 0 ... size - 1); this is the next one.
    return np.random.default_rng((seed, stream, size)).permutation(np.repeat(np.arange(NUM_CLASSES), counts))


def _to_strings(images: np.ndarray) -> np.ndarray:
    """Each image's values in row order, separated by single blanks: object (n,)."""
    words = np.array([f"{value} " for value in range(256)], dtype="S4")
    strings = np.empty(len(images), object)
    for row, image in enumerate(images):
        strings[row] = words[image].tobytes().translate(None, b"\0").decode("ascii").rstrip()
    return strings


def _draw(labels: np.ndarray, seed: int, stream: int) -> np.ndarray:
    images = np.empty((len(labels), IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    for first in range(0, len(labels), _CHUNK):
        chunk = labels[first : first + _CHUNK]
        images[first : first + _CHUNK] = _draw_chunk(chunk, _Chance(seed, stream, first, len(chunk)))
    return images


class _Chance:
    """Random numbers for some faces; each face has its own generator and does not depend on the others.

    Every method returns float32 (n, 1, 1), one number per face. The order of the calls decides the drawing.
    """

    def __init__(self, seed: int, stream: int, first: int, num: int) -> None:
        self._uniform = np.empty((_NUM_DRAWS, num, 1, 1), np.float32)
        self.grain = np.empty((num, IMAGE_SIZE, IMAGE_SIZE), np.float32)
        for i in range(num):
            generator = np.random.default_rng((seed, stream, first + i))
            self._uniform[:, i, 0, 0] = generator.random(_NUM_DRAWS, np.float32)
            generator.standard_normal(dtype=np.float32, out=self.grain[i])
        self._columns = iter(self._uniform)

    def uniform(self, low: float, high: float) -> np.ndarray:
        return low + (high - low) * next(self._columns)

    def spread(self, width: float) -> np.ndarray:
        """Triangular around 0, in [-width, width]: most faces lie near the middle."""
        return width * (next(self._columns) - next(self._columns))

    def yes(self, probability: float) -> np.ndarray:
        return (next(self._columns) < probability).astype(np.float32)


@dataclasses.dataclass
class _Sketch:
    """Faces in the making: planes are float32 (n, 48, 48), the rest (n, 1, 1); right and down are positive."""

    image: np.ndarray  # tone, 0 black to 1 white
    head_x: np.ndarray  # coordinates that follow the head's outline
    head_y: np.ndarray
    x: np.ndarray  # coordinates that follow the features: they shift further than the outline when the head turns
    y: np.ndarray
    side: np.ndarray  # |x|: both halves of the face are drawn at once
    skin: np.ndarray
    hair: np.ndarray
    units: dict[int, np.ndarray]  # action unit -> intensity, 0 to about 1

    def paint(self, mask: np.ndarray, tone: np.ndarray | float) -> None:
        """Blend a tone into the image by the mask, 0 to 1."""
        self.image += mask * (tone - self.image)

    def shade(self, mask: np.ndarray, strength: np.ndarray | float) -> None:
        """Darken by a share of the tone; a negative strength lightens."""
        self.image *= 1.0 - strength * mask


def _inside(distance: np.ndarray, softness: float = _PIXEL) -> np.ndarray:
    """Anti-aliased coverage of a shape from the distance to its edge, positive inside."""
    return np.clip(distance * (1.0 / softness) + 0.5, 0.0, 1.0)


def _bump(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A soft round spot of radius 1, 1 in its middle."""
    spot = np.maximum(1.0 - x * x - y * y, 0.0)
    return spot * spot


def _draw_chunk(labels: np.ndarray, chance: _Chance) -> np.ndarray:
    units = _action_units(labels, chance)
    sketch = _pose(units, chance)
    _head(sketch, chance)
    _folds(sketch, chance)
    _eyes(sketch, chance)
    _nose(sketch, chance)
    _mouth(sketch, chance)
    _brows(sketch, chance)
    _hair_and_glasses(sketch, chance)
    return _photograph(sketch, chance)


def _action_units(labels: np.ndarray, chance: _Chance) -> dict[int, np.ndarray]:
    """Intensity of each action unit, from the emotion, a similar emotion, the face at rest, and speech."""
    table = np.array([[_PROTOTYPES[name].get(unit, 0.0) for unit in _ACTION_UNITS] for name in EMOTIONS], np.float32)
    neighbour = np.array([EMOTIONS.index(_NEIGHBOURS[name]) for name in EMOTIONS])
    intensity = 1.0 - 0.75 * chance.uniform(0, 1) ** 2  # most expressions are clear, some hardly visible
    blend = 0.5 * chance.uniform(0, 1) ** 3
    units = {}
    for column, unit in enumerate(_ACTION_UNITS):
        own, other = (table[rows, column].reshape(-1, 1, 1) for rows in (labels, neighbour[labels]))
        mean = intensity * ((1 - blend) * own + blend * other)
        units[unit] = mean * chance.uniform(0.55, 1.3) + 0.22 * chance.uniform(0, 1) ** 3
    speech = chance.yes(0.15) * chance.uniform(0.2, 0.7)
    units[25] = np.maximum(units[25] * chance.yes(0.85), speech)
    units[26] = np.maximum(units[26], 0.6 * speech)
    return units


def _pose(units: dict[int, np.ndarray], chance: _Chance) -> _Sketch:
    """Coordinates of a head that is shifted, tilted, scaled and turned, over a background."""
    grid = (np.arange(IMAGE_SIZE, dtype=np.float32) + 0.5) * _PIXEL - 1.0
    roll, scale = chance.spread(0.28), 1.15 + chance.spread(0.13)
    shift_x, shift_y = grid - chance.spread(0.17), grid[:, None] - chance.spread(0.15)
    cosine, sine = np.cos(roll) / scale, np.sin(roll) / scale
    head_x = (cosine * shift_x + sine * shift_y) * (1.0 + chance.spread(0.1))
    head_y = cosine * shift_y - sine * shift_x
    yaw, pitch = chance.spread(0.3), chance.spread(0.12)
    # Features lie on a turning sphere, so those on the far side stand closer together.
    x = head_x - yaw * (1.0 - 0.5 * head_x * head_x)
    y = head_y - pitch * (1.0 - 0.5 * head_y * head_y)
    low, slope_x, slope_y = chance.uniform(0.02, 0.85), chance.spread(0.3), chance.spread(0.3)
    spot = _bump((shift_x - chance.spread(1.0)) / 0.9, (shift_y - chance.spread(1.0)) / 0.9)
    image = low + slope_x * shift_x + slope_y * shift_y + chance.spread(0.5) * spot
    skin = chance.uniform(0.38, 0.86)
    hair = np.minimum(0.02 + 0.75 * chance.uniform(0, 1) ** 2, skin * 0.95)
    return _Sketch(image, head_x, head_y, x, y, np.abs(x), skin, hair, units)


def _head(sketch: _Sketch, chance: _Chance) -> None:
    """Long hair, neck, ears and the shaded outline of the face."""
    x, y = sketch.head_x, sketch.head_y
    side = np.abs(x)
    width, jaw = chance.uniform(0.70, 0.84), chance.uniform(0.1, 0.36)
    chin = chance.uniform(0.88, 1.0) + 0.12 * sketch.units[26]
    long_hair = chance.yes(0.4) * _inside(width + chance.uniform(0.1, 0.25) - side - 0.1 * y * y, 0.1)
    sketch.paint(long_hair, sketch.hair * 0.8)
    sketch.paint(_inside(0.45 - side) * (y > 0.5), sketch.skin * 0.6)
    ear = _bump((side - width) / 0.13, (y + 0.05) / 0.25)
    sketch.paint(np.minimum(3 * ear, 1.0) * (1.0 - long_hair), sketch.skin * 0.8)
    below = np.maximum(y, 0.0) / chin
    across = side / (width * (1.0 - jaw * below * below))
    radius = across * across + np.where(y > 0, below**4, (y / 1.15) ** 4)
    light_x, light_y = chance.spread(0.45), chance.uniform(-0.35, 0.15)
    tone = sketch.skin * (1.05 - 0.28 * radius * radius + light_x * x + light_y * y)
    sketch.paint(_inside(1.0 - radius, 0.12), tone)
    beard = chance.yes(0.1) * chance.uniform(0.1, 0.5) * _inside(y + 0.35 * side - 0.48, 0.25) * (radius < 1.0)
    sketch.shade(beard, 1.0 - 0.75 * sketch.hair)


def _folds(sketch: _Sketch, chance: _Chance) -> None:
    """Soft shadows and wrinkles: sockets, cheeks (AU6), nasolabial fold, forehead (AU1+2), frown (AU4), chin (AU17)."""
    units, side, y = sketch.units, sketch.side, sketch.y
    sketch.shade(_bump((side - 0.33) / 0.3, (y + 0.22) / 0.2), chance.uniform(0.05, 0.3))
    sketch.shade(_bump((side - 0.45) / 0.24, (y - 0.14 + 0.05 * units[6]) / 0.16), -0.06 - 0.16 * units[6])
    sketch.shade(_bump((side - 0.4) / 0.25, (y - 0.0) / 0.06), 0.25 * units[6])
    smile = np.maximum(units[12], 0.8 * np.maximum(units[9], units[10]))
    fold = chance.uniform(0.0, 0.15) + 0.3 * smile + 0.15 * units[15] + 0.1 * units[20]
    line = side - 0.17 - (0.16 + 0.12 * units[12]) * (y - 0.16) / 0.36
    sketch.shade(np.maximum(1 - np.abs(line) / 0.07, 0.0) * _inside(0.2 - np.abs(y - 0.34), 0.08), fold)
    wrinkles = np.maximum(np.cos((y + 0.06 * side * side) * 44.0), 0.0) * _bump(side / 0.55, (y + 0.72) / 0.2)
    sketch.shade(wrinkles, 0.4 * np.minimum(units[1], 0.4 + units[2]) * chance.uniform(0.1, 1.0))
    sketch.shade(_bump((side - 0.07) / 0.055, (y + 0.42) / 0.17), 0.5 * units[4])
    sketch.shade(_bump(side / 0.28, (y - 0.8) / 0.08), 0.12 + 0.3 * units[17])


def _eyes(sketch: _Sketch, chance: _Chance) -> None:
    """Lids (AU5 opens, AU6 and AU7 narrow), white, iris with a highlight, lid lines."""
    units, side, y = sketch.units, sketch.side, sketch.y
    distance, width, height = chance.uniform(0.31, 0.37), chance.uniform(0.16, 0.2), chance.uniform(-0.24, -0.18)
    across = (side - distance) / width
    along = y - height - chance.spread(0.03) * across
    bow = np.maximum(1.0 - across * across, 0.0)
    wide = chance.uniform(0.07, 0.1)
    narrow = np.maximum(1.0 - 0.5 * units[7] - 0.3 * units[6] - 0.3 * units[9], 0.1)
    awake = 1.0 - chance.yes(0.05) * chance.uniform(0.5, 1.0)  # blinks
    upper = (wide * narrow + 0.1 * units[5]) * awake
    lower = (0.05 * narrow * (1.0 - 0.5 * units[6]) + 0.012 * units[5]) * awake
    lid_upper, lid_lower = along + upper * bow, lower * bow - along
    opening = _inside(np.minimum(lid_upper, lid_lower)) * (bow > 0)
    sketch.paint(opening, np.minimum(sketch.skin * 0.55 + 0.42, 0.95))
    gaze_x, gaze_y = chance.spread(0.06), chance.spread(0.02) - 0.012
    # The gaze is one direction for both eyes, so it does not mirror with |x|.
    iris_x = np.where(sketch.x < 0, -1.0, 1.0) * (side - distance) - gaze_x
    iris = np.sqrt(iris_x * iris_x + (along - gaze_y) ** 2)
    sketch.paint(opening * _inside(0.078 - iris), chance.uniform(0.02, 0.3))
    sketch.paint(opening * _inside(0.02 - np.abs(iris_x + 0.03) - np.abs(along - gaze_y + 0.03), 0.05), 0.95)
    lash = np.maximum(1.0 - np.abs(lid_upper) / 0.035, 0.0) * (np.abs(across) < 1.08)
    sketch.shade(lash, chance.uniform(0.4, 0.85))
    sketch.shade(np.maximum(1.0 - np.abs(lid_lower) / 0.03, 0.0) * (np.abs(across) < 1.0), 0.25 + 0.15 * units[7])
    crease = np.maximum(1.0 - np.abs(along + upper * bow + 0.06) / 0.025, 0.0) * (bow > 0.1)
    sketch.shade(crease, chance.uniform(0.0, 0.35))


def _nose(sketch: _Sketch, chance: _Chance) -> None:
    """Bridge, wings and nostrils; AU9 lifts the wings and wrinkles the bridge, AU10 lifts them a little."""
    units, x, side = sketch.units, sketch.x, sketch.side
    lift = 0.06 * units[9] + 0.02 * units[10]
    y, width = sketch.y - chance.uniform(0.15, 0.23) + lift, chance.uniform(0.12, 0.17) * (1.0 + 0.2 * units[9])
    light = chance.spread(1.0)
    ridge = np.maximum(1.0 - np.abs(side - 0.085) / 0.06, 0.0) * _inside(0.2 - np.abs(y + 0.22), 0.15)
    sketch.shade(ridge, (0.1 + 0.15 * light * np.sign(x)))
    sketch.shade(_bump(x / 0.09, (y + 0.05) / 0.14), -0.15)
    sketch.shade(_bump((side - width) / 0.06, y / 0.09), 0.2 + 0.2 * units[9])
    sketch.shade(_bump((side - 0.07) / 0.065, (y - 0.045) / 0.05), chance.uniform(0.5, 0.9))
    sketch.shade(_bump(x / 0.16, (y - 0.1) / 0.07), 0.15)
    wrinkles = np.maximum(np.cos((sketch.y - 0.25 * side) * 70.0), 0.0) * _bump(side / 0.17, (sketch.y + 0.2) / 0.2)
    sketch.shade(wrinkles, 0.75 * units[9])


def _mouth(sketch: _Sketch, chance: _Chance) -> None:
    """Lips, opening and teeth: AU10, 12, 15, 16, 20, 23, 25 and 26."""
    units = sketch.units
    width = chance.uniform(0.26, 0.33) + 0.12 * units[12] + 0.1 * units[20] - 0.03 * units[23] - 0.07 * units[26]
    across = sketch.x / width
    bend = across * across
    bow = np.maximum(1.0 - bend, 0.0)
    crooked = chance.spread(0.03) * across
    corner = -0.2 * units[12] + 0.18 * units[15] + 0.03 * units[20] + chance.spread(0.03)
    y = sketch.y - chance.uniform(0.47, 0.54) - crooked - corner * (np.minimum(bend, 1.6) - 0.4) + 0.03 * units[17]
    parted = 0.06 * units[25] + 0.02 * units[10]
    upper = parted + 0.035 * units[10] + 0.03 * units[12] * units[25] + 0.03 * units[26]
    lower = parted + 0.24 * units[26] + 0.06 * units[16] + 0.05 * units[12] * units[25] + 0.03 * units[20] * units[25]
    thick = chance.uniform(0.035, 0.075) * np.maximum(1.0 - 0.6 * units[23] - 0.25 * units[12], 0.15)
    root = np.sqrt(bow)
    above, below = y + upper * bow, lower * root - y  # below 0 outside the opening
    lips = _inside(np.minimum(above + thick * root, below + 1.3 * thick * root)) * (bow > 0)
    sketch.paint(lips, sketch.skin * chance.uniform(0.5, 0.85))
    gap = _inside(np.minimum(above, below) - 0.01) * (bow > 0)
    sketch.paint(gap, 0.05 + 0.1 * sketch.skin)
    show = np.clip(1.2 * units[12] + 0.9 * units[20] + 0.8 * units[10] + 0.8 * units[16] - 0.2 * units[26], 0.0, 1.0)
    teeth = gap * _inside(0.08 - above) * (np.abs(across) < 0.85)
    sketch.paint(teeth * show, 0.5 + 0.45 * sketch.skin)
    seam = np.maximum(1.0 - np.abs(np.where(above + below > 0.04, 1.0, y)) / 0.04, 0.0) * (bend < 1.1)
    sketch.shade(seam, 0.65)
    pits = _bump((np.abs(sketch.x) - width) / 0.06, (y - 0.0) / 0.06)
    sketch.shade(pits, 0.2 + 0.3 * units[12] + 0.3 * units[15])
    sketch.shade(_bump(across / 0.8, (y - lower - 1.3 * thick - 0.06) / 0.06), 0.2 + 0.1 * units[23])
    moustache = chance.yes(0.05) * _bump(across / 1.1, (y + upper + thick + 0.08) / 0.09)
    sketch.shade(np.minimum(2 * moustache, 1.0), 0.8)


def _brows(sketch: _Sketch, chance: _Chance) -> None:
    """AU1 lifts the inner ends, AU2 the outer ends, AU4 lowers and draws them together; AU9 lowers them as well."""
    units = sketch.units
    along = (sketch.side - 0.36 + 0.05 * units[4]) / chance.uniform(0.2, 0.25)  # -1 at the nose, 1 at the temple
    outwards = 0.5 * (1.0 + np.clip(along, -1.2, 1.2))
    base = chance.uniform(-0.47, -0.39) + chance.spread(0.03) * np.sign(sketch.x)
    arch = chance.uniform(0.0, 0.07) + 0.03 * units[2]
    inner = -0.15 * units[1] + 0.16 * units[4] + 0.06 * units[9]
    outer = -0.18 * units[2] + 0.02 * units[4] + 0.06 * units[1] + chance.spread(0.04)
    middle = base + inner * (1 - outwards) + outer * outwards - arch * (1 - along * along)
    thick = chance.uniform(0.03, 0.055) * (1.15 - 0.35 * along)
    brow = _inside(thick - np.abs(sketch.y - middle)) * _inside(1.0 - np.abs(along), 0.3)
    sketch.paint(brow * chance.uniform(0.65, 0.95), np.minimum(sketch.hair, 0.6 * sketch.skin))


def _hair_and_glasses(sketch: _Sketch, chance: _Chance) -> None:
    x, y = sketch.head_x, sketch.head_y
    side = np.abs(x)
    parting = chance.spread(0.5)
    hairline = chance.uniform(-0.95, -0.66) + chance.uniform(0.3, 1.1) * side**4 + chance.spread(0.25) * (x - parting)
    streaks = 1.0 + 0.05 * np.cos(30.0 * x + chance.uniform(0, 6) + 6.0 * y)
    sketch.paint(_inside(hairline - y, 0.1) * (1.0 - chance.yes(0.07)), sketch.hair * streaks)
    frame_x, frame_y = (sketch.side - 0.34) / 0.22, (sketch.y + 0.19) / chance.uniform(0.14, 0.2)
    rim = np.abs(np.sqrt(frame_x**2 + frame_y**2) - 1.0) * 0.18
    bridge = np.maximum(np.abs(sketch.y + 0.23), 0.15 * (sketch.side > 0.14))
    temple = np.maximum(np.abs(sketch.y + 0.23), 0.15 * (sketch.side < 0.54))
    glasses = _inside(0.018 - np.minimum(np.minimum(rim, bridge), temple)) * chance.yes(0.1) * (side < 0.85)
    sketch.paint(glasses, chance.uniform(0.02, 0.4))


def _photograph(sketch: _Sketch, chance: _Chance) -> np.ndarray:
    """Turn the drawing into uint8 pictures: an object in front, light, blur, contrast, grain."""
    image, x, y = sketch.image, sketch.head_x, sketch.head_y
    angle, reach = chance.uniform(0, 2 * np.pi), chance.uniform(0.55, 0.95)
    across = np.cos(angle) * x + np.sin(angle) * y
    sketch.paint(_inside(across - reach, 0.08) * chance.yes(0.08), chance.uniform(0.1, 0.8))
    image *= 1.0 + chance.spread(0.4) * x + chance.spread(0.25) * y
    soft = 0.25 * chance.uniform(0, 1)
    for axis in (1, 2):
        image += soft * (np.roll(image, 1, axis) + np.roll(image, -1, axis) - 2 * image)
    mean = image.mean(axis=(1, 2), keepdims=True)
    contrast = chance.uniform(0.75, 1.35)
    image = chance.uniform(0.38, 0.62) + contrast * (image - mean)
    image += contrast * (0.006 + 0.035 * chance.uniform(0, 1) ** 3) * chance.grain
    return np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)
