"""Scores a trained model, .keras or .tflite, on the splits of a data set.

With --run, the model, the data and the hashes of the training images come from the run's directory, and the figures go
into its metrics.json. A folder that `ship` packed is not changed: the new figures are compared with the packed ones.
Without --split, every split but train is scored.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_tf.cli import run_command
from fer_tf.commands.common import add_reading_arguments, parse_classes, reading_arguments
from fer_tf.errors import InputError
from fer_tf.install import install_hint
from fer_tf.text import listed

if TYPE_CHECKING:
    import numpy as np

    from fer_tf.data.dataset import Dataset
    from fer_tf.inference.predictor import Predictor

logger = logging.getLogger(__name__)

_PACKAGES = {".keras": "keras", ".onnx": "onnxruntime"}  # the package that opens each kind of model
_SPLITS = ("validation", "test", "train")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--run", metavar="DIR", help="a run that train made; scores its model.keras unless another file is named"
    )
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--model", metavar="FILE", help="a .keras or .tflite that fer_tf wrote")
    model.add_argument("--quantization", metavar="MODE", help="the run's .tflite of this quantization")
    parser.add_argument(
        "--data", metavar="PATH", help="data in any form that train reads (default: the run's own data)"
    )
    add_reading_arguments(parser)
    parser.add_argument("--classes", type=parse_classes, metavar="A,B,...", help="score only these classes")
    parser.add_argument(
        "--split", nargs="+", choices=_SPLITS, metavar="SPLIT", help=f"one or more of {', '.join(_SPLITS)}"
    )
    parser.add_argument("--tta", action="store_true", help="also average over mirrored and shifted views of each image")
    parser.add_argument("--against", metavar="FILE", help="a second model, compared on the same images")
    parser.add_argument(
        "--corruptions",
        action="store_true",
        help="also score on blurred, noisy, dark, turned and covered copies of the images, 12 kinds in 5 strengths; "
        "with --against, score both models",
    )
    parser.add_argument(
        "--groups",
        metavar="CSV",
        help="figures by group: a csv with the columns image (or row: its number in the data, from 1) and group",
    )
    parser.add_argument("--plot", metavar="PNG", help="with --corruptions: draw accuracy by kind and strength")
    parser.add_argument("--predictions", metavar="CSV", help="write each image's label and probabilities to this file")
    parser.add_argument("--output", metavar="JSON", help="write the figures to this file")


def run(args: argparse.Namespace) -> int:
    """Score, print, and write the figures to their place."""
    from fer_tf import scoring
    from fer_tf.artifacts import (
        RunDirectory,
        check_writable,
        find_model,
        read_json,
        read_metadata,
        write_bytes,
        write_json,
        write_text,
    )
    from fer_tf.evaluation import read_thresholds
    from fer_tf.inference import open_model
    from fer_tf.machine import start_keras

    directory = RunDirectory.open(args.run) if args.run else None
    path = find_model(args.model) if args.model else scoring.find_model(directory, args.quantization)
    metadata = read_metadata(path)
    other_path = find_model(args.against) if args.against else None
    if other_path and read_metadata(other_path)["class_names"] != metadata["class_names"]:
        raise InputError(f"{other_path} has other classes than {path}: name a model with the same classes")
    read_thresholds(metadata)
    # Report missing packages and errors in the data before decoding a picture or importing TensorFlow.
    _check_packages({path.suffix, other_path.suffix if other_path else ""}, plot=bool(args.plot))
    if left_out := scoring.left_out_text():
        if args.against or args.tta:
            raise InputError(
                f"--against and --tta compare models, which needs scikit-learn: {install_hint('train', 'scikit-learn')}"
            )
        print(left_out + "\n")
    if args.plot:
        if not args.corruptions:
            raise InputError("--plot draws what --corruptions measures: add --corruptions")
        check_writable(args.plot)
    data, is_of_run = scoring.load_data(args.data, directory, metadata, **reading_arguments(args))
    if args.predictions:
        check_writable(args.predictions)
    if args.predictions or args.groups:
        data = scoring.with_names(data)
    groups = _read_groups(args.groups, data) if args.groups else {}
    splits = args.split or [split for split in ("validation", "test") if data.has(split)] or ["train"]
    matched = scoring.match_classes(data, metadata["class_names"], args.classes, splits=splits)
    data = matched.dataset
    emptied = [] if args.split else [split for split in splits if not data.has(split)]
    if emptied and len(emptied) < len(splits):
        splits = [split for split in splits if split not in emptied]
        print(f"No image of these classes in {listed(emptied)}: skipped.\n")
    if text := matched.text():
        print(text + "\n")
    parts = {split: data.take(split).decoded() for split in splits}

    own = directory if directory and path.parent.resolve() == directory.path.resolve() else None
    bundle = own if own and own.is_bundle else None
    kept_in = (
        own if is_of_run and not bundle and args.classes is None else None
    )  # figures of some classes are not figures of the run
    known = bundle or kept_in
    metrics = read_json(known.metrics) if known and known.metrics.is_file() else {}
    section = scoring.metrics_section(metrics, path)

    if ".keras" in (path.suffix, other_path.suffix if other_path else ""):
        logger.info("starting Keras")
        start_keras()
    predictor = open_model(path)
    other = open_model(other_path) if other_path else None
    hashes = directory.read_train_hashes() if directory else None
    figures: dict[str, Any] = {}
    answers: dict[str, np.ndarray] = {}
    for split, part in parts.items():
        figures[split], answers[split] = scoring.score_model(
            predictor, part, split, hashes, tta=args.tta, missing=matched.missing
        )
        print(_split_text(figures[split], part, split, path.name))
        if other and other_path:
            figures[split]["comparison"] = _compare(answers[split], other, part, path, other_path)
        if args.groups:
            figures[split]["by_group"] = _by_group(answers[split], part, groups)
        if args.corruptions:
            figures[split]["corruptions"] = _corruptions(predictor, other, part, path, other_path)
            if args.plot:
                name = args.plot if len(parts) == 1 else _with_split(args.plot, split)
                names = (path.name, other_path.name if other_path else "")
                write_bytes(name, _corruption_plot(figures[split]["corruptions"], names, part.source, split))
                print(f"Wrote {name}")

    if kept_in and left_out:
        print(f"{kept_in.metrics} is not changed, because some figures are left out.")
    elif kept_in:
        section.update(figures)
        write_json(kept_in.metrics, metrics)
        print(f"Wrote {kept_in.metrics}")
    if bundle:
        print(scoring.compare_with_bundle(bundle, path, section, figures))
    if args.output:
        about = {"model": path.name, "data": data.source, "data_sha256": data.sha256, "synthetic": data.synthetic}
        write_json(args.output, {**about, "splits": figures})
        print(f"Wrote {args.output}")
    if args.predictions:
        write_text(args.predictions, scoring.predictions_csv(parts, answers))
        print(f"Wrote {args.predictions}")
    return 0


def _check_packages(suffixes: set[str], *, plot: bool) -> None:
    """Raise ModuleNotFoundError, which names the package, if this installation cannot open a model or draw."""
    needed = [_PACKAGES[suffix] for suffix in sorted(suffixes) if suffix in _PACKAGES]
    for name in [*needed, *(["matplotlib"] if plot else [])]:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(name=name)


def _split_text(result: dict[str, Any], part: Dataset, split: str, name: str) -> str:
    """Return the text of one split's figures, and of test-time augmentation if requested."""
    from fer_tf import evaluation

    text = evaluation.format_split(result, part, split, name)
    if tta := result.get("tta"):
        text += (
            f"\nTest-time augmentation, the mean of {tta['num_views']} views: {tta['ms_per_image']:.2f} ms an image"
            f" instead of {tta['single_ms_per_image']:.2f} ms\n\n{evaluation.format_summary(tta)}\n\n"
            + evaluation.format_comparison(tta["comparison"], f"{tta['num_views']} views", "one view")
        )
    return text


def _compare(
    probabilities: np.ndarray, other: Predictor, part: Dataset, path: Path, other_path: Path
) -> dict[str, Any]:
    from fer_tf.evaluation import compare, format_comparison
    from fer_tf.scoring import predict_with_progress

    assert part.images is not None
    comparison = compare(part.labels, probabilities, predict_with_progress(other, part.images))
    same_name = path.name == other_path.name
    names = (str(path), str(other_path)) if same_name else (path.name, other_path.name)
    print(format_comparison(comparison, *names))
    return {"against": other_path.name, **comparison}


def _read_groups(path: str, data: Dataset) -> dict[str, str]:
    from fer_tf.evaluation import read_groups

    assert data.files is not None
    return read_groups(path, list(data.files))


def _by_group(probabilities: np.ndarray, part: Dataset, groups: dict[str, str]) -> dict[str, Any]:
    from fer_tf.evaluation import format_groups, measure_groups

    assert part.files is not None
    result = measure_groups(part.labels, probabilities, [groups.get(name) for name in part.files], part.class_names)
    print(format_groups(result))
    return result


def _corruptions(
    predictor: Predictor, other: Predictor | None, part: Dataset, path: Path, other_path: Path | None
) -> dict[str, Any]:
    from fer_tf.evaluation import format_corruptions, measure_corruptions
    from fer_tf.evaluation.robustness import NUM_COPIES
    from fer_tf.scoring import Progress, predict_with_progress

    assert part.images is not None
    models = [predictor, other] if other else [predictor]
    progress = Progress(len(models) * NUM_COPIES * len(part), "corrupted images")
    predict, *against = (functools.partial(predict_with_progress, model, progress=progress) for model in models)
    result = measure_corruptions(predict, part.images, part.labels, against=against[0] if against else None)
    print(format_corruptions(result, path.name, other_path.name if other_path else ""))
    return result


def _corruption_plot(result: dict[str, Any], names: tuple[str, str], source: str, split: str) -> bytes:
    from fer_tf.report import plots

    return plots.to_png(
        plots.plot_corruptions(result, names, title=f"{names[0]} on corrupted images of {source}, {split}")
    )


def _with_split(file: str, split: str) -> str:
    path = Path(file)
    return str(path.with_stem(f"{path.stem}-{split}"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("evaluate", __doc__ or "", add_arguments, run, argv)
