"""Shows which parts of a face the model's answer depends on: it covers parts and measures how far the score falls.

A square of blurred pixels slides over the 48x48 crop. In the output picture, orange marks the parts whose covering
lowers the score most. The map says which parts of this picture this model's score depends on. It does not say why, nor
that these parts show the emotion, nor that the answer is right: the map of a wrong answer looks just as sensible. The
model never saw covered faces, so a part of the fall may come from the cover itself. Parts that matter only together
stay grey, because only one square is covered at a time. Do not read a person's feelings from the map.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fer_tf.cli import run_command
from fer_tf.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("picture", metavar="PICTURE", help="a photograph or a crop of a face")
    parser.add_argument(
        "--model", metavar="FILE|fast", help="a .tflite, .keras or .onnx, or fast: the small shipped model"
    )
    parser.add_argument("--faces", choices=("auto", "detect", "whole"), default="auto", help="as in predict (auto)")
    parser.add_argument(
        "--face", type=int, default=1, metavar="N", help="number of the face, the largest first (%(default)s)"
    )
    parser.add_argument("--emotion", metavar="NAME", help="follow this class's score (default: the likeliest)")
    parser.add_argument("--output", metavar="PNG", help="file to write (default: PICTURE's name with -explained.png)")


def run(args: argparse.Namespace) -> int:
    """Find the face, cover its parts, and write the map."""
    from fer_tf.artifacts import atomic_path, check_writable
    from fer_tf.faces import read_picture
    from fer_tf.faces.drawing import draw_map
    from fer_tf.inference.explain import occlusion_map
    from fer_tf.recognition import Recognizer
    from fer_tf.text import printable

    output = Path(args.output or f"{Path(args.picture).stem}-explained.png")
    if output.suffix.lower() != ".png":
        raise InputError(f"--output {output}: expected a name that ends in .png")
    check_writable(output)
    recognizer = Recognizer(args.model, faces=args.faces)
    names = recognizer.class_names
    if args.emotion is not None and args.emotion not in names:
        raise InputError(f"--emotion {args.emotion}: the model knows {', '.join(names)}")
    found = recognizer.find_faces(read_picture(args.picture))
    if not found:
        raise InputError(f"{args.picture}: no face found; if it shows one face and nothing else, add --faces whole")
    if not 1 <= args.face <= len(found):
        raise InputError(f"--face {args.face}: {args.picture} has faces 1 to {len(found)}")
    crop = found[args.face - 1].crop
    predict = recognizer.classifier.predict
    scores = predict(crop[None])[0]
    label = int(scores.argmax()) if args.emotion is None else names.index(args.emotion)
    values = occlusion_map(predict, crop, label=label)
    name = printable(names[label])
    text = f"{name} {scores[label]:.0%}; covering the orange part costs up to {100 * max(values.max(), 0):.0f} points"
    with atomic_path(output) as temporary:
        draw_map(crop, values, text).save(temporary)
    print(f"{text}\nWrote {output}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("explain", __doc__ or "", add_arguments, run, argv)
