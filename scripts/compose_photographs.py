"""Composes photographs from the faces of a data set, to measure detection and classification together.

Each photograph has a textured background and 1 to 6 faces with different sizes, turns and light. The same seed gives
the same files. truth.csv lists each face: file, left, top, width, height (pixels), class.

    python scripts/compose_photographs.py fer2013.csv photographs
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs in a clone without installation

from fer_tf.data.dataset import Dataset
from fer_tf.data.loading import load_dataset

_SIZES = ((640, 480), (1024, 768), (1600, 1200))
_FACE_SIDES = (48, 72, 110, 170, 260)  # pixels of the pasted square; the face fills most of it
_MOST_TURN = 20.0  # degrees either way
_TRIES = 60  # places to try for a face before leaving it out


def compose(data: Dataset, output: Path, *, num_photographs: int, seed: int) -> int:
    """Write the photographs and truth.csv.

    Args:
        data: the decoded faces; each is used at most once.
        output: the folder to write into; it is created if needed.
        num_photographs: number of photographs.
        seed: seed of all random choices.

    Returns:
        The number of faces.
    """
    assert data.images is not None
    rng = np.random.default_rng(seed)
    order = list(rng.permutation(len(data)))
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(num_photographs):
        size = _SIZES[rng.integers(len(_SIZES))]
        picture = background(size, rng)
        taken: list[tuple[int, int, int]] = []
        for _ in range(rng.integers(1, 7)):
            side = int(_FACE_SIDES[rng.integers(len(_FACE_SIDES))] * rng.uniform(0.85, 1.15))
            place = _free_place(size, side, taken, rng)
            if place is None or not order:
                continue
            row = order.pop()
            _paste(picture, data.images[row], place, side, rng)
            taken.append((*place, side))
            rows.append((f"{number:04d}.jpg", *place, side, side, data.class_names[data.labels[row]]))
        picture.save(output / f"{number:04d}.jpg", quality=int(rng.integers(70, 96)))
    with open(output / "truth.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "left", "top", "width", "height", "class"])
        writer.writerows(rows)
    return len(rows)


def background(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Draw coloured noise of several grain sizes over a gradient, RGB."""
    width, height = size
    total = np.zeros((height, width, 3))
    for cells in (3, 9, 27, 81):
        noise = rng.normal(0, 1, (cells, cells, 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(noise[:, :, channel]).resize(size, Image.Resampling.BICUBIC)
            total[:, :, channel] += np.asarray(layer) / cells**0.35
    gradient = np.linspace(-1, 1, width)[None, :, None] * rng.normal(0, 1, 3)
    values = rng.uniform(70, 180, 3) + 28 * total + 25 * gradient
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def _free_place(
    size: tuple[int, int], side: int, taken: list[tuple[int, int, int]], rng: np.random.Generator
) -> tuple[int, int] | None:
    """Return a place for a square that touches no other square; None if no place was found."""
    for _ in range(_TRIES):
        left, top = int(rng.integers(0, size[0] - side)), int(rng.integers(0, size[1] - side))
        if all(left + side < x or x + other < left or top + side < y or y + other < top for x, y, other in taken):
            return left, top
    return None


def _paste(picture: Image.Image, face: np.ndarray, place: tuple[int, int], side: int, rng: np.random.Generator) -> None:
    """Turn, light and paste a face with a soft edge."""
    grey = np.asarray(Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255
    light = rng.uniform(0.6, 1.25) * (1 + rng.uniform(-0.35, 0.35) * np.linspace(-1, 1, side)[None, :])
    tint = np.array([1.08, 0.98, 0.90]) * rng.uniform(0.95, 1.05, 3)
    lit = (255 * (grey ** rng.uniform(0.8, 1.25) * light)[:, :, None] * tint).clip(0, 255).astype(np.uint8)
    margin = max(1, side // 16)
    mask = np.zeros((side, side), np.uint8)
    mask[margin:-margin, margin:-margin] = 255
    turn = rng.uniform(-_MOST_TURN, _MOST_TURN)
    soft = Image.fromarray(mask).filter(ImageFilter.GaussianBlur(margin / 2))
    turned = [image.rotate(turn, Image.Resampling.BICUBIC) for image in (Image.fromarray(lit), soft)]
    picture.paste(turned[0], place, turned[1])


def main() -> None:
    """Parse the arguments, compose, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="data in any form that train reads; its validation faces are used")
    parser.add_argument("output", type=Path, help="the folder to write into")
    parser.add_argument("--photographs", type=int, default=240, metavar="N", help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(%(default)s)")
    args = parser.parse_args()
    data = load_dataset(args.data, training=False).take("validation").decoded()
    number = compose(data, args.output, num_photographs=args.photographs, seed=args.seed)
    print(f"{args.photographs} photographs with {number} faces in {args.output}")


if __name__ == "__main__":
    main()
