"""Corruptions of face crops and photographs, and the accuracy of a model under them.

Uses only NumPy and Pillow, for the light install.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from fer_tf.errors import InputError
from fer_tf.evaluation.checks import NUM_RESAMPLES, checked, percentile_interval
from fer_tf.task import IMAGE_SIZE
from fer_tf.text import interval, percent, points_with_interval

NUM_STRENGTHS = 5
NUM_COPIES = 1 + 12 * NUM_STRENGTHS  # copies of an image: the clean one, and one of each kind and strength
# The five strengths of each kind. The kinds are the ones of Hendrycks & Dietterich (2019, arXiv 1903.12261) that a
# causes, and covered eyes (dark glasses) and mouths (masks). The strengths are chosen for 48x48 crops.
STRENGTHS: dict[str, tuple[float, ...]] = {
    "blur": (0.5, 1, 1.5, 2, 3),  # standard deviation of the Gaussian, pixels
    "motion blur": (3, 5, 7, 9, 13),  # length of the path, pixels
    "noise": (0.04, 0.08, 0.12, 0.18, 0.26),  # standard deviation, as a share of 255
    "JPEG": (50, 25, 15, 10, 5),  # Pillow's quality
    "dark": (0.7, 0.5, 0.35, 0.25, 0.15),  # factor of the pixels
    "bright": (0.1, 0.2, 0.3, 0.4, 0.5),  # added to the pixels, as a share of 255
    "low contrast": (0.6, 0.4, 0.3, 0.2, 0.1),  # factor of the difference from the image's mean
    "low resolution": (32, 24, 16, 12, 8),  # side of the reduced crop, pixels
    "rotation": (5, 10, 20, 30, 45),  # degrees, either way
    "shift": (2, 4, 6, 8, 12),  # pixels, in one of eight directions
    "eyes covered": (4, 6, 8, 10, 12),  # rows of pixels that a grey bar covers
    "mouth covered": (6, 9, 12, 15, 18),  # likewise
}
_EYES_ROW, _MOUTH_ROW = 17, 38  # centres of the bars, of 48 rows: the darkest rows of PublicTest's mean face
_BAR_COLUMNS = 4, 44


def corrupt(
    images: np.ndarray, kind: str, strength: int, *, seed: int = 0, face_side: float = IMAGE_SIZE
) -> np.ndarray:
    """Return corrupted copies of face crops, or of photographs with a face in the middle.

    The same arguments give the same copies. Pixels from beyond the image repeat its edge. The bars over the eyes and
    the mouth are at fixed rows of the face and have the image's mean colour. In a photograph, every size in `STRENGTHS`
    and the grain of the noise grow with the face; only JPEG works on the photograph's own pixels.

    Args:
        images: uint8 (n, 48, 48), grey crops; or uint8 photographs of one size, grey (n, height, width) or RGB (n,
            height, width, 3).
        kind: a key of `STRENGTHS`.
        strength: 1 to 5.
        seed: seed of the noise and of the directions of turns, shifts and motion.
        face_side: side of the face, which is a square in the middle of the image, pixels.

    Returns:
        uint8, with the shape of `images`.

    Raises:
        InputError: if the kind or strength is unknown, or the array has another type or shape.

    Example:
        >>> import numpy as np
        >>> corrupt(np.full((1, 48, 48), 200, np.uint8), "dark", 2)[0, 0, 0]
        np.uint8(100)
    """
    if kind not in STRENGTHS:
        raise InputError(f"unknown corruption {kind!r}: expected one of {', '.join(STRENGTHS)}")
    if strength not in range(1, NUM_STRENGTHS + 1):
        raise InputError(f"strength {strength!r} of {kind}: expected a whole number from 1 to {NUM_STRENGTHS}")
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (3,)):
        raise InputError(f"images are {images.dtype} {images.shape}: expected uint8 (n, 48, 48) or (n, h, w, 3)")
    if not len(images):
        return images.copy()
    value = STRENGTHS[kind][strength - 1]
    unit = face_side / IMAGE_SIZE
    rng = np.random.default_rng((seed, list(STRENGTHS).index(kind), strength))
    means = images.mean(axis=(1, 2), dtype=np.float64, keepdims=True)
    if kind == "blur":
        return _each(images, lambda image: image.filter(ImageFilter.GaussianBlur(value * unit)))
    if kind == "motion blur":
        return _motion_blur(images, round(value * unit), rng)
    if kind == "noise":
        return _as_pixels(images + 255 * value * _grains(images.shape, unit, rng))
    if kind == "JPEG":
        return _each(images, lambda image: _through_jpeg(image, int(value)))
    if kind == "dark":
        return _as_pixels(images * value)
    if kind == "bright":
        return _as_pixels(images + 255 * value)
    if kind == "low contrast":
        return _as_pixels(means + value * (images - means))
    if kind == "low resolution":
        return _each(images, lambda image: _through_size(image, value / face_side))
    if kind == "rotation":
        return _turned(images, value * rng.choice((-1, 1), len(images)))
    if kind == "shift":
        directions, distance = rng.integers(0, 8, len(images)), round(value * unit)
        return np.stack([_shifted(image, distance, way) for image, way in zip(images, directions, strict=True)])
    top = (_EYES_ROW if kind == "eyes covered" else _MOUTH_ROW) - int(value) // 2
    first_row, first_column = ((side - face_side) / 2 for side in images.shape[1:3])
    rows, columns = (
        slice(*(round(start + unit * place) for place in places))
        for start, places in ((first_row, (top, top + int(value))), (first_column, _BAR_COLUMNS))
    )
    covered = images.copy()
    covered[:, rows, columns] = np.rint(means)
    return covered


def measure_corruptions(
    predict: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    *,
    seed: int = 0,
    against: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str, Any]:
    """Measure the accuracy of a model on every kind and strength of corruption.

    Args:
        predict: takes uint8 (n, 48, 48), returns probabilities (n, C).
        images: uint8 (n, 48, 48), the clean crops.
        labels: int (n,), in [0, C).
        seed: seed of the corruptions and of the bootstrap.
        against: a second model, which gets the same corrupted images.

    Returns:
        `num_images`; `clean` (accuracy without corruption); `kinds`: for each kind the five `accuracies` and their
        `mean`; `mean` (over all kinds and strengths) and `mean_interval` (95 %, bootstrap over images); `lost` (clean -
        mean) and `lost_interval`. With `against` also `against`, the same figures of the second model; `difference` and
        `difference_interval` of the two means; and `lost_difference` and `lost_difference_interval` of the two losses,
        negative if the first model loses less. Both intervals come from a paired bootstrap.
    """
    models = [predict] if against is None else [predict, against]
    clean = np.stack([right_answers(model, images, labels) for model in models])
    right = np.zeros((len(models), len(STRENGTHS), NUM_STRENGTHS, len(labels)), bool)
    for row, column in np.ndindex(right.shape[1:3]):
        corrupted = corrupt(images, list(STRENGTHS)[row], column + 1, seed=seed)
        for place, model in enumerate(models):
            right[place, row, column] = right_answers(model, corrupted, labels)
    return summarize(clean, right, seed=seed)


def summarize(clean: np.ndarray, right: np.ndarray, *, seed: int) -> dict[str, Any]:
    """Return the figures of `measure_corruptions` from right and wrong answers.

    Args:
        clean: (1 or 2, n), for each model and image 1 if the answer is right without corruption, else 0.
        right: bool (1 or 2, kinds, strengths, n), True if the answer is right on a kind and strength of `STRENGTHS`.
        seed: seed of the bootstrap.
    """
    # Resample images, not pairs of image and corruption: the corrupted copies of an image are not independent.
    num_images = clean.shape[1]
    drawn = np.random.default_rng(seed).integers(0, num_images, (NUM_RESAMPLES, num_images))
    means = right.mean(axis=(1, 2))  # for each model and image, the share of corrupted copies that are right
    found = []
    for place, part in enumerate(right):
        accuracies = part.mean(axis=2)
        lost = clean[place] - means[place]
        found.append(
            {
                "num_images": num_images,
                "clean": float(clean[place].mean()),
                "kinds": {
                    kind: {"accuracies": [float(value) for value in row], "mean": float(row.mean())}
                    for kind, row in zip(STRENGTHS, accuracies, strict=True)
                },
                "mean": float(means[place].mean()),
                "mean_interval": percentile_interval(means[place][drawn].mean(axis=1)),
                "lost": float(lost.mean()),
                "lost_interval": percentile_interval(lost[drawn].mean(axis=1)),
            }
        )
    result = found[0]
    if len(found) == 2:
        gap = means[0] - means[1]
        lost_gap = (clean[0] - means[0]) - (clean[1] - means[1])
        result |= {
            "against": found[1],
            "difference": float(gap.mean()),
            "difference_interval": percentile_interval(gap[drawn].mean(axis=1)),
            "lost_difference": float(lost_gap.mean()),
            "lost_difference_interval": percentile_interval(lost_gap[drawn].mean(axis=1)),
        }
    return result


def format_corruptions(result: Mapping[str, Any], name: str, other_name: str = "") -> str:
    """Format the result of `measure_corruptions`: a table of kinds and strengths, the means, and the comparison.

    Args:
        result: as returned by `measure_corruptions`.
        name: the model's name.
        other_name: the second model's name.
    """
    lines = [_table(result, name)]
    if "against" in result:
        lines += [_table(result["against"], other_name)]
        lost = {"difference": result["lost_difference"], "difference_interval": result["lost_difference_interval"]}
        lines += [
            f"Mean accuracy under corruption, {name} less {other_name}: {points_with_interval(result)} points",
            f"Points lost by corruption, {name} less {other_name}: {points_with_interval(lost)} points",
            "(95 % intervals, paired bootstrap; fewer points lost is better)",
            "",
        ]
    return "\n".join(lines)


def _table(result: Mapping[str, Any], name: str) -> str:
    width = max(len("clean images"), *(len(kind) for kind in result["kinds"]))
    strengths = "".join(f"{strength:>7}" for strength in range(1, NUM_STRENGTHS + 1))
    lines = [
        f"{name}: accuracy in % on {result['num_images']:,} corrupted images, by strength",
        "",
        f"{'':<{width}}{strengths}    mean    lost",
    ]
    for kind, row in result["kinds"].items():
        cells = "".join(f"{100 * value:7.1f}" for value in row["accuracies"])
        lines.append(f"{kind:<{width}}{cells}{100 * row['mean']:8.1f}{100 * (result['clean'] - row['mean']):8.1f}")
    low, high = result["lost_interval"]
    lines += [
        "",
        f"{'clean images':<{width}}  {percent(result['clean'])}",
        f"{'mean':<{width}}  {percent(result['mean'])}"
        f"  95 % interval {interval([100 * bound for bound in result['mean_interval']], '.1f')}",
        f"{'lost':<{width}}  {100 * result['lost']:.1f} points"
        f"  95 % interval {interval([100 * low, 100 * high], '.1f')}",
        "",
    ]
    return "\n".join(lines)


def right_answers(predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return 1 if the model is right and else 0, for each image: float64 (n,).

    Args:
        predict: takes uint8 (n, 48, 48), returns probabilities (n, C).
        images: uint8 (n, 48, 48).
        labels: int (n,), in [0, C).
    """
    labels, probabilities = checked(labels, predict(images), None)
    return (probabilities.argmax(axis=1) == labels).astype(np.float64)


def _as_pixels(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def _each(images: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(change(Image.fromarray(image)), dtype=np.uint8) for image in images])


def _through_jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def _through_size(image: Image.Image, factor: float) -> Image.Image:
    small = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.BILINEAR)


def _grains(shape: tuple[int, ...], unit: float, rng: np.random.Generator) -> np.ndarray:
    """Standard normal noise in square grains of `unit` pixels, equal in all colours."""
    rows, columns = ((np.arange(side) / unit).astype(int) for side in shape[1:3])
    grains = rng.standard_normal((shape[0], rows[-1] + 1, columns[-1] + 1))[:, rows][:, :, columns]
    return grains.reshape(shape[:3] + (1,) * (len(shape) - 3))


def _turned(images: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    height, width = images.shape[1:3]
    margin = math.ceil((math.hypot(height, width) - min(height, width)) / 2)  # the corners reach so far
    turned = [
        np.asarray(Image.fromarray(_padded(image, margin)).rotate(float(angle), Image.Resampling.BILINEAR))
        for image, angle in zip(images, degrees, strict=True)
    ]
    return np.stack(turned)[:, margin : margin + height, margin : margin + width]


def _padded(image: np.ndarray, margin: int) -> np.ndarray:
    """Repeat the edge of an image, (height, width) or (height, width, 3)."""
    return np.pad(image, ((margin, margin), (margin, margin), (0, 0))[: image.ndim], mode="edge")


def _step(way: int) -> tuple[int, int]:
    """Return rows and columns of one step in one of eight directions."""
    return round(np.sin(way * np.pi / 4)), round(np.cos(way * np.pi / 4))


def _shifted(image: np.ndarray, distance: int, way: int) -> np.ndarray:
    rows, columns = (distance * step for step in _step(way))
    height, width = image.shape[:2]
    padded = _padded(image, distance)
    top, left = distance - rows, distance - columns
    return padded[top : top + height, left : left + width]


def _motion_blur(images: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """Average each image along a line in one of four directions."""
    ways = rng.integers(0, 4, len(images))
    blurred = np.empty_like(images)
    for row, (image, way) in enumerate(zip(images, ways, strict=True)):
        half = length // 2
        path = [_shifted(image, abs(step), way + (4 if step < 0 else 0)) for step in range(-half, half + 1)]
        blurred[row] = _as_pixels(np.mean(path, axis=0))
    return blurred
