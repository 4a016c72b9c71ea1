"""Scores a trained model, .keras or .tflite, on the splits of a data set.

With --run the model, its data and the hashes of its training images come from the run's directory, and the figures go
into its metrics.json. A folder that `ship` packed stays as it is: the figures are compared with those that it holds.
Without --split every split but train is scored.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_tf.cli import run_command
from fer_tf.errors import InputError
from fer_tf.evaluation.scoring import format_split, score_split

if TYPE_CHECKING:
    import numpy as np

    from fer_tf.artifacts import RunDirectory
    from fer_tf.data.dataset import Dataset
    from fer_tf.inference.predictor import Predictor

_SPLITS = ("validation", "test", "train")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--run", metavar="DIR", help="a run that train made; its model.keras, if nothing else is named")
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--model", metavar="FILE", help="a .keras or .tflite that fer_tf wrote")
    model.add_argument("--quantization", metavar="MODE", help="the run's .tflite of this quantization")
    parser.add_argument("--data", metavar="PATH", help="data in any form that train reads; the run's own data without")
    parser.add_argument(
        "--split", nargs="+", choices=_SPLITS, metavar="SPLIT", help=f"one or more of {', '.join(_SPLITS)}"
    )
    parser.add_argument("--tta", action="store_true", help="also average over mirrored and shifted views of each image")
    parser.add_argument("--against", metavar="FILE", help="a second model, compared on the same images")
    parser.add_argument("--output", metavar="JSON", help="write the figures to this file")


def run(args: argparse.Namespace) -> int:
    """Scores, prints, and keeps the figures where it was told to."""
    from fer_tf.artifacts import RunDirectory, read_json, read_metadata, write_json
    from fer_tf.inference.opening import open_model
    from fer_tf.machine import start_keras

    directory = RunDirectory.open(args.run) if args.run else None
    path = _model_path(args, directory)
    metadata = read_metadata(path)
    other_path = Path(args.against) if args.against else None
    if other_path and read_metadata(other_path)["class_names"] != metadata["class_names"]:
        raise InputError(f"{other_path} has other classes than {path}: name a model of the same classes")
    # Bad data is refused before TensorFlow is imported.
    data, is_of_run = _load_data(args, directory, metadata)
    data = _with_classes(data, metadata["class_names"])
    splits = args.split or [split for split in ("validation", "test") if data.has(split)] or ["train"]
    parts = {split: data.take(split).decoded() for split in splits}
    if not args.split and not data.has("test"):
        print(f"{data.source or 'The data'} has no test split: skipped.\n")

    own = directory if directory and path.parent.resolve() == directory.path.resolve() else None
    packed = own if own and own.is_packed else None
    kept_in = own if is_of_run and not packed else None
    known = packed or kept_in
    metrics = read_json(known.metrics) if known and known.metrics.is_file() else {}
    section = _section(metrics, path)

    if ".keras" in (path.suffix, other_path.suffix if other_path else ""):
        start_keras()
    predictor = open_model(path)
    other = open_model(other_path) if other_path else None
    hashes = directory.read_train_hashes() if directory else None
    figures: dict[str, Any] = {}
    for split, part in parts.items():
        figures[split], probabilities = _score(predictor, part, split, path.name, hashes, args.tta)
        if other and other_path:
            figures[split]["comparison"] = _compare(probabilities, other, part, path, other_path)

    if kept_in:
        section.update(figures)
        write_json(kept_in.metrics, metrics)
        print(f"Wrote {kept_in.metrics}")
    if packed:
        print(_beside_packed(packed, path, section, figures))
    if args.output:
        about = {"model": path.name, "data": data.source, "data_sha256": data.sha256, "synthetic": data.synthetic}
        write_json(args.output, {**about, "splits": figures})
        print(f"Wrote {args.output}")
    return 0


def _score(
    predictor: Predictor, part: Dataset, split: str, name: str, hashes: Sequence[str] | None, tta: bool
) -> tuple[dict[str, Any], np.ndarray]:
    """One split's figures, printed as they come, and the probabilities of the single view."""
    import numpy as np

    from fer_tf import evaluation

    assert part.images is not None
    probabilities = predictor.predict(part.images)
    temperature = predictor.metadata.get("temperature")
    seed = predictor.metadata.get("config", {}).get("seed", 0)  # the intervals are then those that train gave
    result = score_split(probabilities, part, split, train_hashes=hashes, temperature=temperature, seed=seed)
    print(format_split(result, part, split, name))
    if tta:
        views, seconds = [], []
        for view in evaluation.tta_views(part.images):
            start = time.perf_counter()
            views.append(predictor.predict(view))
            seconds.append(time.perf_counter() - start)
        # The first view is the image as it is; above, the model was still being built.
        single_ms, tta_ms = (1000 * spent / len(part) for spent in (seconds[0], sum(seconds)))
        averaged = np.mean(views, axis=0)
        figures = score_split(averaged, part, split, train_hashes=hashes, seed=seed)
        against = evaluation.compare(part.labels, averaged, probabilities, seed=seed)
        result["tta"] = {
            "num_views": len(views),
            "ms_per_image": tta_ms,
            "single_ms_per_image": single_ms,
            **figures,
            "comparison": against,
        }
        print(
            f"Test-time augmentation, the mean of {len(views)} views: {tta_ms:.2f} ms an image"
            f" instead of {single_ms:.2f} ms\n\n{evaluation.format_summary(figures)}\n\n"
            + evaluation.format_comparison(against, f"{len(views)} views", "one view")
        )
    return result, probabilities


def _compare(
    probabilities: np.ndarray, other: Predictor, part: Dataset, path: Path, other_path: Path
) -> dict[str, Any]:
    from fer_tf.evaluation.comparison import compare
    from fer_tf.evaluation.summary import format_comparison

    assert part.images is not None
    comparison = compare(part.labels, probabilities, other.predict(part.images))
    same_name = path.name == other_path.name
    names = (str(path), str(other_path)) if same_name else (path.name, other_path.name)
    print(format_comparison(comparison, *names))
    return {"against": other_path.name, **comparison}


def _beside_packed(packed: RunDirectory, path: Path, section: dict[str, Any], figures: dict[str, Any]) -> str:
    """Whether the figures are those that the packed folder holds: a line a split."""
    from fer_tf.artifacts import read_json
    from fer_tf.task import split_title

    source = packed.metrics.name
    scorecard = path.with_suffix(".json")
    if not section and scorecard.is_file():
        section, source = read_json(scorecard), scorecard.name
    lines = []
    for split, here in figures.items():
        there = section.get(split, {})
        if there.get("num_images") != here["num_images"]:
            verdict = f"no figures of these {here['num_images']:,} images there"
        elif all(abs(there[key] - here[key]) < 1e-9 for key in ("accuracy", "macro_f1")):
            verdict = "the same accuracy and macro-F1"
        else:
            turned = abs(there["accuracy"] - here["accuracy"]) * here["num_images"]
            verdict = (
                f"accuracy {there['accuracy']:.2%} there and {here['accuracy']:.2%} here, macro-F1 "
                f"{there['macro_f1']:.3f} and {here['macro_f1']:.3f}, {turned:.0f} more or fewer right (another "
                "processor turns a few images; many mean another model or other data)"
            )
        lines.append(f"Against {source}, {split_title(split)}: {verdict}.")
    return "\n".join(lines)


def _section(metrics: dict[str, Any], path: Path) -> dict[str, Any]:
    """The part of metrics.json that one of the run's models has: `keras`, or `tflite` and the quantization."""
    keys = ["keras"] if path.suffix == ".keras" else ["tflite", path.stem.removeprefix("model-")]
    for key in keys:
        metrics = metrics.setdefault(key, {})
        if not isinstance(metrics, dict):
            raise InputError(f"the run's metrics.json holds no object under {key}: restore it, or move it away")
    return metrics


def _model_path(args: argparse.Namespace, directory: RunDirectory | None) -> Path:
    if args.model:
        return Path(args.model)
    if directory is None:
        raise InputError("no model named: give --run DIR or --model FILE")
    path = directory.tflite(args.quantization) if args.quantization else directory.model
    if not path.is_file():
        present = ", ".join(sorted(file.name for file in directory.path.glob("model*") if file.suffix != ".json"))
        fix = f"export_tflite --run {args.run} --quantization {args.quantization}" if args.quantization else "train"
        raise InputError(f"{args.run} holds no {path.name} (models there: {present or 'none'}): make it with {fix}")
    return path


def _load_data(
    args: argparse.Namespace, directory: RunDirectory | None, metadata: dict[str, Any]
) -> tuple[Dataset, bool]:
    """The data that the command line names, or else the run's; and whether it is what the run was trained on."""
    from fer_tf.artifacts import read_json
    from fer_tf.data.loading import load_dataset
    from fer_tf.data.recorded import run_config, run_data

    if args.data is None:
        if directory is None:
            raise InputError("no data named: give --data PATH, or --run DIR for the data that the run was trained on")
        return run_data(directory, run_config(directory)), True
    data = load_dataset(args.data, training=False)
    if directory and data.sha256 == read_json(directory.data).get("sha256"):
        return run_data(directory, run_config(directory), args.data), True
    if data.sha256 == metadata.get("data", {}).get("sha256") and not data.has("validation"):
        # The cut that training made, or images that were trained on would be scored.
        config = metadata.get("config", {})
        cut = {key: config[key] for key in ("seed", "validation_fraction") if key in config}
        data = load_dataset(args.data, classes=metadata["class_names"], **cut)
    return data, False


def _with_classes(data: Dataset, class_names: Sequence[str]) -> Dataset:
    """The rows of the model's classes, numbered as the model numbers them."""
    missing = [name for name in class_names if name not in data.class_names]
    if missing:
        raise InputError(
            f"the model knows {', '.join(class_names)}; {data.source or 'the data'} has {', '.join(data.class_names)}"
            f" (no {', '.join(missing)}): evaluate the model on data of its own classes"
        )
    extra = [name for name in data.class_names if name not in class_names]
    if extra:
        print(f"Left out, for the model does not know them: the images of {', '.join(extra)}.\n")
    return data if tuple(data.class_names) == tuple(class_names) else data.select(class_names)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return run_command("evaluate", __doc__ or "", add_arguments, run, argv)
