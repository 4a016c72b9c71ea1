"""Scores a model on photographs that are corrupted before face detection and cropping.

The photographs come from compose_photographs.py. Each face is cut out with its surroundings, three times its side.

    python scripts/compose_photographs.py fer2013.csv photographs --photographs 100
    python scripts/corrupt_photographs.py photographs
"""

import argparse
import csv
import logging
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs in a clone without installation

from fer_tf.artifacts import check_writable, find_model, write_json
from fer_tf.errors import InputError
from fer_tf.evaluation.photographs import LabelledFace, cut_out, format_found, measure_photographs
from fer_tf.evaluation.robustness import NUM_COPIES, format_corruptions
from fer_tf.faces import open_image
from fer_tf.inference import open_model
from fer_tf.scoring import Progress


def read_faces(folder: Path, class_names: tuple[str, ...]) -> list[LabelledFace]:
    """Read the faces that truth.csv lists.

    Args:
        folder: a folder that compose_photographs.py wrote.
        class_names: the model's classes.

    Returns:
        The faces of these classes.

    Raises:
        InputError: if truth.csv is missing or has a malformed row, or a photograph is missing.
    """
    truth = folder / "truth.csv"
    if not truth.is_file():
        raise InputError(f"{folder} holds no truth.csv: make the folder with compose_photographs.py")
    faces: list[LabelledFace] = []
    photographs: dict[str, np.ndarray] = {}
    with open(truth, encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), 1):
            try:
                name, class_name = row["file"], row["class"]
                left, top, width, height = (int(row[key]) for key in ("left", "top", "width", "height"))
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(
                    f"{truth}, row {number}: expected file, left, top, width, height (whole pixels) and class, as "
                    f"compose_photographs.py writes them ({error})"
                ) from error
            if name not in photographs:
                photographs[name] = np.asarray(open_image(folder / name).convert("RGB"))
            rows, columns, _ = photographs[name].shape
            if not (0 <= left < left + width <= columns and 0 <= top < top + height <= rows):
                raise InputError(f"{truth}, row {number}: the face lies outside {name} ({columns}x{rows} pixels)")
            if class_name in class_names:
                faces.append(cut_out(photographs[name], (left, top, width, height), class_names.index(class_name)))
    if not faces:
        raise InputError(f"{truth} lists no face of {', '.join(class_names)}")
    return faces


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments, measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="a folder that compose_photographs.py wrote")
    parser.add_argument("--model", metavar="FILE", help="a .keras, .tflite or .onnx (default: the shipped model)")
    parser.add_argument("--output", metavar="JSON", help="write the figures to this file")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if args.output:
            check_writable(args.output)
        path = find_model(args.model)
        model = open_model(path)
        faces = read_faces(args.photographs, tuple(model.class_names))
        progress = Progress(NUM_COPIES * len(faces), "photographs")
        result = measure_photographs(model.predict, faces, on_progress=progress.add)
    except InputError as error:
        print(f"corrupt_photographs: {error}", file=sys.stderr)
        return 2
    print(f"{format_corruptions(result, path.name)}\n{format_found(result)}")
    if args.output:
        write_json(args.output, result)
        print(f"Wrote {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
