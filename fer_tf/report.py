"""The training report, `report.md` and `report.html`: written from a run directory's files and from nothing else."""

from __future__ import annotations

import base64
import csv
import dataclasses
import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_tf import plots
from fer_tf.artifacts import RunDirectory, read_json, write_bytes, write_json, write_text
from fer_tf.config import Config
from fer_tf.confusions import capital, class_names_of, confusion_analysis, percent, quantity, taken_for, wrong_in_order
from fer_tf.data.audit import audit, originals_text
from fer_tf.data.dataset import SPLITS, Dataset
from fer_tf.document import Block, Code, Heading, Items, Paragraph, Picture, Table, to_html, to_markdown
from fer_tf.errors import InputError
from fer_tf.evaluation import SELECTION_SPLIT, calibration_verdict, place_in_band, split_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

FACE_FIGURES = ("mean_faces", "contact_sheet", "confident_errors")  # the figures that show pictures of the data
SHEET_COLUMNS = 8  # faces of each class on the contact sheet, shared by the splits


# --- What a run's files hold ---


@dataclasses.dataclass(frozen=True)
class Facts:
    """The contents of a run's files; what a run does not have is empty."""

    name: str
    config: dict[str, Any]
    data: dict[str, Any]
    history: list[dict[str, float]]
    metrics: dict[str, Any]
    audit: dict[str, Any]
    scorecards: dict[str, dict[str, Any]]
    sizes: dict[str, int]  # bytes of each .tflite, by quantization

    @property
    def synthetic(self) -> bool:
        return bool(self.audit.get("synthetic") or self.metrics.get("data", {}).get("synthetic"))

    @property
    def keras(self) -> dict[str, dict[str, Any]]:
        """Split -> `evaluation.evaluate` of the Keras model, in the order of `SPLITS`."""
        found = self.metrics.get("keras", {})
        return {split: found[split] for split in SPLITS if found.get(split)}

    @property
    def judged(self) -> str | None:
        """The split whose confusions are described: the one that chose nothing where there is one."""
        return next((split for split in ("test", "validation", "train") if split in self.keras), None)

    @property
    def train_counts(self) -> list[int] | None:
        return self.audit.get("splits", {}).get("train", {}).get("class_counts")

    def title(self, split: str) -> str:
        """A split's name as it stands beside a figure."""
        return f"{'synthetic ' if self.synthetic else ''}{split_title(split)}"


def read_facts(run: RunDirectory) -> Facts:
    """Reads what the report is written from.

    Raises:
        InputError: if a file of the run is broken.
    """
    return Facts(
        name=run.path.resolve().name,
        config=read_json(run.config),
        data=read_json(run.data) if run.data.is_file() else {},
        history=_read_history(run) if run.history.is_file() else [],
        metrics=read_json(run.metrics) if run.metrics.is_file() else {},
        audit=read_json(run.audit) if run.audit.is_file() else {},
        scorecards={_quantization(path): read_json(path) for path in sorted(run.path.glob(run.scorecard("*").name))},
        sizes={_quantization(path): path.stat().st_size for path in sorted(run.path.glob(run.tflite("*").name))},
    )


def _quantization(path: Path) -> str:
    return path.stem.removeprefix("model-")


def _read_history(run: RunDirectory) -> list[dict[str, float]]:
    rows = []
    with open(run.history, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            try:
                rows.append({key: float(value) for key, value in row.items() if value})
            except (TypeError, ValueError):
                raise InputError(
                    f"{run.history} row {len(rows) + 2} is no row of numbers: the file was changed or cut off; "
                    "write the report of a run that is whole"
                ) from None
    return rows


# --- Entry points ---


def write_audit(dataset: Dataset, run: RunDirectory) -> dict[str, Any]:
    """Audits a data set and writes audit.json and the figures that show its images.

    Args:
        dataset: any, with at least one image.
        run: where to write; its folder is made if need be.

    Returns:
        The findings, as of `audit`.
    """
    dataset = dataset.decoded()
    findings = audit(dataset)
    assert dataset.images is not None
    logger.info("audit: drawing the figures")
    write_json(run.audit, findings)
    _save_figure(run, "class_balance", _class_balance(findings))
    rows_of = {
        (label, split): rows
        for split in findings["splits"]
        for label in range(dataset.num_classes)
        if len(rows := np.nonzero((dataset.labels == label) & (dataset.split == split))[0])
    }
    names = {(label, split): f"{dataset.class_names[label]}, {split}" for label, split in rows_of}
    means = np.stack([dataset.images[rows].mean(axis=0) for rows in rows_of.values()])
    counts = [len(rows) for rows in rows_of.values()]
    figure = plots.plot_mean_faces(means, [names[key] for key in rows_of], counts, num_columns=dataset.num_classes)
    _save_figure(run, "mean_faces", figure, findings)
    faces_each = -(-SHEET_COLUMNS // len(findings["splits"]))
    chosen, captions = [], []
    for key in sorted(rows_of, key=lambda key: key[0]):  # a class's faces side by side, split after split
        rows = rows_of[key]
        # Evenly spread over the split, so that the sheet does not depend on how the file begins.
        chosen.append(rows[np.linspace(0, len(rows) - 1, min(faces_each, len(rows)), dtype=int)])
        captions += [names[key]] * len(chosen[-1])
    num_columns = faces_each * len(findings["splits"])
    sheet = plots.plot_contact_sheet(dataset.images[np.concatenate(chosen)], captions, num_columns=num_columns)
    _save_figure(run, "contact_sheet", sheet, findings)
    return findings


def write_report(run: RunDirectory, *, faces: bool = True) -> None:
    """Writes report.md, report.html and the figures that are drawn from the run's numbers.

    Args:
        run: a run with a config; whatever else it lacks, the report leaves out and says so.
        faces: whether pictures of the data's faces may stand in the report.

    Raises:
        InputError: if a file of the run is broken or cannot be written.
    """
    facts = read_facts(run)
    try:
        figures = _figures(facts)
        available = {*figures, *(name for name in FACE_FIGURES if faces and run.figure(name).is_file())}
        title = f"Training report{' on synthetic faces' if facts.synthetic else ''}: {facts.name}"
        blocks = [block for block in _document(facts) if not isinstance(block, Picture) or block.name in available]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        # The files are the user's: one that was edited, or written by another version, is no fault of the program.
        raise InputError(
            f"the files in {run.path} do not fit together ({type(error).__name__}: {error}): "
            "write the report of a run whose files are as train wrote them"
        ) from error
    for name, figure in figures.items():
        _save_figure(run, name, figure)
    pictures = {block.name: run.figure(block.name) for block in blocks if isinstance(block, Picture)}
    write_text(
        run.report_md,
        to_markdown(title, blocks, {name: path.relative_to(run.path).as_posix() for name, path in pictures.items()}),
    )
    data = {name: base64.b64encode(path.read_bytes()).decode() for name, path in pictures.items()}
    write_text(
        run.report_html, to_html(title, blocks, {name: f"data:image/png;base64,{text}" for name, text in data.items()})
    )


# --- Figures ---


def _save_figure(run: RunDirectory, name: str, figure: Figure, findings: Mapping[str, Any] | None = None) -> None:
    if findings and findings["synthetic"]:
        figure.suptitle("Synthetic faces")
    write_bytes(run.figure(name), plots.to_png(figure))


def _class_balance(findings: Mapping[str, Any]) -> Figure:
    counts = {split: found["class_counts"] for split, found in findings["splits"].items()}
    figure = plots.plot_class_balance(counts, findings["class_names"])
    if findings["synthetic"]:
        figure.suptitle("Synthetic faces")
    return figure


def _figures(facts: Facts) -> dict[str, Figure]:
    """The figures that need numbers alone."""
    figures = {}
    if facts.audit:
        figures["class_balance"] = _class_balance(facts.audit)
    if facts.history:
        figures["curves"] = plots.plot_training_curves(facts.history)
        if facts.synthetic:
            figures["curves"].suptitle("Synthetic faces")
    if facts.judged:
        result = facts.keras[facts.judged]
        title = f"Keras model, {facts.title(facts.judged)}, {result['num_images']:,} images"
        figures["confusion_matrix"] = plots.plot_confusion_matrix(
            result["confusion_matrix"], class_names_of(result), title=title
        )
        figures["class_scores"] = plots.plot_class_scores(result["per_class"], title=title)
        states = {"as saved": result["calibration"]["bins"]}
        if "calibration_before" in result:
            states = {"before temperature scaling": result["calibration_before"]["bins"], **states}
        figures["reliability"] = plots.plot_reliability(states, title=title)
    return figures


# --- The text, section by section ---


def _document(facts: Facts) -> list[Block]:
    return [
        *_overview(facts),
        *_exploration(facts),
        *_configuration(facts),
        *_results(facts),
        *_confusions(facts),
        *_calibration(facts),
        *_exports(facts),
        *_data_audit(facts),
        *limits(facts),
        *_reproduction(facts),
        *_conclusion(facts),
    ]


def _overview(facts: Facts) -> list[Block]:
    metrics, data = facts.metrics, facts.metrics.get("data", {})
    class_names = facts.audit.get("class_names") or (class_names_of(facts.keras[facts.judged]) if facts.judged else [])
    counts = [(split, found["count"]) for split, found in facts.audit.get("splits", {}).items()]
    source = facts.audit.get("source") or data.get("source")
    rows = [
        ("Task", f"one of {len(class_names)} classes for each 48x48 grey face: {', '.join(class_names)}")
        if class_names
        else None,
        ("Data", f"{source}{': synthetic faces, drawn by a program' if facts.synthetic else ''}") if source else None,
        ("Images", ", ".join(f"{count:,} {facts.title(split)}" for split, count in counts)) if counts else None,
        ("Model", f"EfficientNet-B0, input {facts.config['image_size']}x{facts.config['image_size']} pixels")
        if "image_size" in facts.config
        else None,
        ("Recipe", str(facts.config["recipe"])) if facts.config.get("recipe") else None,
        ("Epochs", str(len(facts.history))) if facts.history else None,
        ("Training time", _duration(metrics["seconds"])) if metrics.get("seconds") else None,
        ("Backend", str(metrics["backend"])) if metrics.get("backend") else None,
        *((_MACHINE.get(key, key), str(value)) for key, value in metrics.get("machine", {}).items()),
        *(
            (f"Accuracy, {facts.title(split)}", _with_interval(found, "accuracy", "95 % interval "))
            for split, found in facts.keras.items()
        ),
        *(
            (f"Macro-F1, {facts.title(split)}", _with_interval(found, "macro_f1", "95 % interval "))
            for split, found in facts.keras.items()
        ),
    ]
    blocks: list[Block] = [Heading("Experiment overview")]
    if facts.synthetic:
        blocks.append(
            Paragraph(
                "This run was trained and scored on synthetic faces, which a program drew. Its figures show that the "
                "software works; they say nothing about photographs of people."
            )
        )
    if not metrics:
        blocks.append(Paragraph("The run has no metrics: it has not ended, or has not been evaluated."))
    return [*blocks, Table(("", ""), [row for row in rows if row], "ll")]


_MACHINE = {"cpu": "Processor", "cores": "Cores", "memory_gib": "Memory (GiB)", "system": "System"}


def _exploration(facts: Facts) -> list[Block]:
    blocks: list[Block] = [Heading("Exploratory analysis")]
    if not facts.audit:
        return [*blocks, Paragraph("The run has no audit of its data.")]
    image, splits = facts.audit["image"], facts.audit["splits"]
    blocks.append(
        Paragraph(
            f"As read, every image has {image['width']}x{image['height']} pixels and {image['channels']} channel "
            f"(grey, {image['bits']} bits). The pixel values run from {image['minimum']} to {image['maximum']}, with "
            f"mean {image['mean']:.1f} and standard deviation {image['std']:.1f}."
        )
    )
    if image.get("originals"):
        blocks.append(Paragraph(f"Before that, the files were {originals_text(image['originals'])}."))
    header = ["class"]
    for split in splits:
        header += [f"{facts.title(split)} images", "share"]
    rows = [
        [
            name,
            *(
                text
                for found in splits.values()
                for text in (f"{found['class_counts'][label]:,}", percent(found["class_shares"][label]))
            ),
        ]
        for label, name in enumerate(facts.audit["class_names"])
    ]
    rows.append(["all", *(text for found in splits.values() for text in (f"{found['count']:,}", "100.0 %"))])
    blocks.append(Table(header, rows, "l" + "rr" * len(splits)))
    for split, found in splits.items():
        names, counts = facts.audit["class_names"], found["class_counts"]
        most, fewest = int(np.argmax(counts)), int(np.argmin(counts))
        if found["imbalance_ratio"]:
            text = (
                f"{capital(facts.title(split))}: the largest class, {names[most]} ({counts[most]:,}), has "
                f"{found['imbalance_ratio']:.1f} times the images of the smallest, {names[fewest]} "
                f"({counts[fewest]:,})."
            )
        else:
            absent = [name for name, count in zip(names, counts, strict=True) if not count]
            text = f"{capital(facts.title(split))}: no image of {_list(absent)}."
        blocks.append(Paragraph(text))
    blocks.append(Picture("class_balance", f"Images of each class{_of_synthetic(facts)}."))
    blocks += [
        Paragraph("Mean grey value of a class's images (brightness) and its spread inside an image (contrast):"),
        Table(
            ["class", *(f"{facts.title(split)} {key}" for split in splits for key in ("brightness", "contrast"))],
            [
                [
                    name,
                    *(
                        _number(found[key][label], ".1f")
                        for found in splits.values()
                        for key in ("brightness", "contrast")
                    ),
                ]
                for label, name in enumerate(facts.audit["class_names"])
            ],
            "l" + "rr" * len(splits),
        ),
        Picture("mean_faces", f"Mean face of each class in each split{_of_synthetic(facts)}."),
        Picture("contact_sheet", f"Faces of each class from each split{_of_synthetic(facts)}."),
    ]
    return blocks


def _configuration(facts: Facts) -> list[Block]:
    known = {field.name: field.metadata["help"] for field in dataclasses.fields(Config)}
    rows = [(name, _setting(facts.config[name]), meaning) for name, meaning in known.items() if name in facts.config]
    return [
        Heading("Configuration"),
        Paragraph(_strategy(facts.config)),
        Table(("setting", "value", "meaning"), rows, "lll"),
    ]


def _strategy(config: Mapping[str, Any]) -> str:
    """Both phases in words, from the settings."""
    settings = {**Config().to_dict(), **config}
    scratch = settings["weights"] == "none"
    warm_up = f"{settings['warmup_epochs']:g} epoch{'' if settings['warmup_epochs'] == 1 else 's'}"
    grows = 0 < settings["initial_image_size"] < settings["image_size"] and settings["resizing_epochs"]
    parts = []
    if scratch:
        parts.append(
            "The weights start at random, so there is no frozen phase: a frozen random backbone learns nothing."
        )
    elif settings["frozen_epochs"]:
        parts.append(
            f"The backbone starts from the weights {settings['weights']}. Phase 1 trains the new head alone for "
            f"{quantity(settings['frozen_epochs'], 'epoch')} at a learning rate of "
            f"{settings['frozen_learning_rate']:g}, with the backbone frozen."
        )
    else:
        parts.append(f"The backbone starts from the weights {settings['weights']}; the frozen phase is left out.")
    if settings["epochs"]:
        stop = settings["early_stopping_patience"]
        schedule = {
            "plateau": f"multiplied by {settings['plateau_factor']:g} after "
            f"{quantity(settings['plateau_patience'], 'epoch')} without a better validation loss",
            "cosine": "falling along a cosine" + (f" after {warm_up} of warm-up" if settings["warmup_epochs"] else ""),
            "constant": "constant",
        }.get(settings["schedule"], str(settings["schedule"]))
        parts.append(
            f"{'All layers are trained' if scratch else 'Phase 2 trains all layers'} for {'at most ' if stop else ''}"
            f"{quantity(settings['epochs'], 'epoch')} (BatchNorm "
            f"{'trained too' if settings['train_batch_norm'] else 'fixed'}) at a peak learning rate of "
            f"{settings['learning_rate']:g}, {schedule}"
            + (f"; it ends after {quantity(stop, 'epoch')} without a better validation accuracy." if stop else ".")
        )
        if grows:
            parts.append(
                f"The first {quantity(settings['resizing_epochs'], 'epoch')} of these see smaller images, from "
                f"{settings['initial_image_size']} pixels a side upwards, the others {settings['image_size']} pixels."
            )
    weights = {
        "balanced": "The loss weights each class by n / (classes x count).",
        "sqrt": "The loss weights each class by the root of n / (classes x count).",
        "none": "The loss is not weighted by class.",
    }.get(settings["class_weights"], "")
    parts.append(
        f"The optimiser is {settings['optimizer']} with batches of {settings['batch_size']} and weight decay "
        f"{settings['weight_decay']:g}. {weights}"
    )
    parts.append(
        f"The epoch with the best validation accuracy over all phases{' at the full size' if grows else ''} is kept."
    )
    return " ".join(parts)


def _results(facts: Facts) -> list[Block]:
    blocks: list[Block] = [Heading("Results by phase")]
    if facts.history:
        phases = sorted({row["phase"] for row in facts.history})
        rows = []
        for phase in phases:
            epochs = [row for row in facts.history if row["phase"] == phase]
            scored = [row for row in _eligible(facts) if row["phase"] == phase]
            best = max(scored, key=lambda row: row["val_accuracy"], default=None)
            rates = [row["learning_rate"] for row in epochs if "learning_rate" in row]
            rows.append(
                [
                    f"{phase:.0f} ({'head alone' if phase == 1 else 'all layers'})",
                    str(len(epochs)),
                    _duration(sum(row.get("seconds", 0) for row in epochs)),
                    _number(max(rates, default=None), ".2g"),
                    _number(rates[-1] if rates else None, ".2g"),
                    _span([row.get("loss") for row in epochs], ".3f"),
                    percent(epochs[-1].get("accuracy")),
                    f"{percent(best['val_accuracy'])} (epoch {best['epoch']:.0f})" if best else "-",
                    _number(best.get("val_loss"), ".3f") if best else "-",
                ]
            )
        selection = facts.title(SELECTION_SPLIT)
        blocks += [
            Table(
                (
                    "phase",
                    "epochs",
                    "time",
                    "learning rate, highest",
                    "last",
                    "training loss",
                    "training accuracy, last",
                    f"best accuracy, {selection}",
                    "loss there",
                ),
                rows,
                "lrrrrrrrr",
            ),
            Paragraph(_phases_in_words(facts)),
            Picture(
                "curves",
                f"Loss, accuracy and learning rate of each epoch{_of_synthetic(facts)}; validation is the selection "
                f"split. The learning rate is that at the epoch's end. {_about_training_figures(facts.config)}",
            ),
        ]
    else:
        blocks.append(Paragraph("The run has no history: no epoch has ended."))
    if not facts.keras:
        return [*blocks, Paragraph("The model was not evaluated on any split.")]
    rows = []
    for split, found in facts.keras.items():
        rows.append(_scores(facts.title(split), found))
        if found.get("num_with_twin") and found.get("without_twin"):
            rows.append(_scores(f"{facts.title(split)}, images without a copy in train", found["without_twin"]))
        if augmented := found.get("tta"):
            rows.append(_scores(f"{facts.title(split)}, mean of {augmented['num_views']} views", augmented))
    blocks += [
        Paragraph(
            "The saved Keras model, a single view of each image unless the row says otherwise; in brackets the 95 % "
            "bootstrap interval:"
        ),
        Table(
            ("split", "images", "accuracy", "macro-F1", "balanced accuracy", "top-2 accuracy", "ROC-AUC", "loss"),
            rows,
            "lrrrrrrr",
        ),
        *(Paragraph(_tta_in_words(facts, split)) for split, found in facts.keras.items() if "tta" in found),
    ]
    if evaluated := facts.metrics.get("model_evaluate"):
        blocks += [
            Paragraph("What Keras's own model.evaluate gives, on the training images too (without augmentation):"),
            Table(
                ("split", "accuracy", "loss"),
                [
                    [facts.title(split), percent(found["accuracy"]), f"{found['loss']:.3f}"]
                    for split, found in evaluated.items()
                ],
                "lrr",
            ),
        ]
    if baselines := facts.metrics.get("baselines"):
        blocks += [
            Paragraph(f"What simple answers reach on {facts.title(facts.judged or SELECTION_SPLIT)}:"),
            Table(("baseline", "accuracy"), [[name, percent(score)] for name, score in baselines.items()], "lr"),
        ]
    return blocks


def _eligible(facts: Facts) -> list[dict[str, float]]:
    """The epochs that the kept one is chosen from: under progressive resizing only those at the full size."""
    size = max(row.get("image_size", 0) for row in facts.history)
    return [row for row in facts.history if "val_accuracy" in row and row.get("image_size", size) == size]


def _about_training_figures(config: Mapping[str, Any]) -> str:
    """How the training figures in the history differ from those on validation."""
    settings = {**Config().to_dict(), **config}
    parts = [
        name
        for name, present in (
            ("label smoothing", settings["label_smoothing"]),
            ("class weights", settings["class_weights"] != "none"),
            ("logit adjustment", settings["logit_adjustment"]),
            ("mixed images", settings["mixup"] or settings["cutmix"]),
            ("the teachers' targets", settings["teachers"]),
        )
        if present
    ]
    text = "Training figures are taken during the epoch, with augmentation and dropout"
    return text + (f"; the training loss has {_list(parts)} in it, the validation loss has not." if parts else ".")


def _tta_in_words(facts: Facts, split: str) -> str:
    """What test-time augmentation brings on a split, and what it costs."""
    found = facts.keras[split]["tta"]
    text = (
        f"Averaging over {found['num_views']} views of each image (mirrored, shifted) takes "
        f"{found['ms_per_image']:.2f} ms an image instead of {found['single_ms_per_image']:.2f} ms"
    )
    if against := found.get("comparison"):
        low, high = against["difference_interval"]
        text += (
            f" and changes the accuracy on {facts.title(split)} by {100 * against['difference']:+.2f} points (95 % "
            f"{100 * low:+.2f} to {100 * high:+.2f}; McNemar's exact test p = {against['p_value']:.2g})"
        )
    return f"{text}."


def _scores(title: str, found: Mapping[str, Any]) -> list[str]:
    return [
        title,
        f"{found['num_images']:,}",
        _with_interval(found, "accuracy"),
        _with_interval(found, "macro_f1"),
        percent(found["balanced_accuracy"]),
        percent(found["top2_accuracy"]),
        _number(found["roc_auc_macro"], ".3f"),
        _number(found["loss"], ".3f"),
    ]


def _phases_in_words(facts: Facts) -> str:
    selection = facts.title(SELECTION_SPLIT)
    scored = _eligible(facts)
    if not scored:
        return "No epoch was scored on a validation split."
    best_of = {
        phase: max((row for row in scored if row["phase"] == phase), key=lambda row: row["val_accuracy"])
        for phase in sorted({row["phase"] for row in scored})
    }
    kept = facts.metrics.get("best", {})
    same = [row for row in scored if (row["phase"], row["epoch"]) == (kept.get("phase"), kept.get("epoch"))]
    best = same[0] if same else max(best_of.values(), key=lambda row: row["val_accuracy"])
    text = ""
    if len(best_of) == 2:
        first, second = best_of.values()
        gain = 100 * (second["val_accuracy"] - first["val_accuracy"])
        change = "gained" if gain >= 0 else "lost"
        text = (
            f"With the backbone frozen the best accuracy on {selection} is {percent(first['val_accuracy'])}; training "
            f"all layers {change} {abs(gain):.1f} points. "
        )
    place = facts.history.index(best) + 1
    text += (
        f"The best epoch is epoch {best['epoch']:.0f} of phase {best['phase']:.0f}"
        + (f" (number {place} in the curves)" if place != best["epoch"] else "")
        + f" with {percent(best['val_accuracy'])} on {selection}."
    )
    if "accuracy" in best:
        gap = 100 * (best["accuracy"] - best["val_accuracy"])
        text += (
            f" Training accuracy was then {percent(best['accuracy'])}, {abs(gap):.1f} points "
            f"{'above' if gap >= 0 else 'below'} it."
        )
    return text


def _confusions(facts: Facts) -> list[Block]:
    blocks: list[Block] = [Heading("Confusion matrix and analysis")]
    if facts.judged is None:
        return [*blocks, Paragraph("There is no confusion matrix: the model was not evaluated on any split.")]
    result, title = facts.keras[facts.judged], facts.title(facts.judged)
    matrix, names = np.array(result["confusion_matrix"]), class_names_of(result)
    rows = []
    for label, (name, row) in enumerate(zip(names, result["per_class"], strict=True)):
        taken = [taken_for(matrix, names, label, other) for other in wrong_in_order(matrix, label)[:2]]
        rows.append(
            [
                name,
                f"{row['support']:,}",
                percent(row["precision"]),
                percent(row["recall"]),
                _number(row["f1"], ".3f"),
                *[*taken, "-", "-"][:2],
            ]
        )
    return [
        *blocks,
        Paragraph(f"All of this section is the saved Keras model on {title}."),
        Picture("confusion_matrix", f"Confusion matrix, {title}: rows are the true class, columns the predicted one."),
        Table(("class", "images", "precision", "recall", "F1", "most often taken for", "then for"), rows, "lrrrrll"),
        Picture("class_scores", f"Precision, recall and F1 of each class, {title}."),
        Items(
            confusion_analysis(
                result,
                class_weights=facts.config.get("class_weights", "none"),
                train_counts=facts.train_counts,
            )
        ),
        Picture("confident_errors", f"The wrong answers with the highest scores, {title}."),
    ]


def _calibration(facts: Facts) -> list[Block]:
    blocks: list[Block] = [Heading("Calibration")]
    if not facts.keras:
        return [*blocks, Paragraph("The scores were not checked: the model was not evaluated on any split.")]
    selection = facts.title(SELECTION_SPLIT)
    temperature = facts.metrics.get("temperature")
    if temperature is None:
        blocks.append(Paragraph("No temperature was fitted: the scores are those that training gave."))
    else:
        verdict = f"Judged by likelihood, the scores before were {'over' if temperature > 1 else 'under'}confident."
        blocks.append(
            Paragraph(
                f"A temperature of {temperature:.3f} was fitted on {selection} and folded into the head's weights, so "
                "that the Keras model and every exported file give the same scores. "
                + ("It changes nothing." if temperature == 1 else verdict)
            )
        )
    num_bins = next(iter(facts.keras.values()))["calibration"]["num_bins"]
    rows = []
    for split, found in facts.keras.items():
        for state, key in (("before temperature scaling", "calibration_before"), ("as saved", "calibration")):
            if key in found:
                figures = [f"{found[key][name]:.4f}" for name in ("ece", "rms_error_debiased", "brier", "nll")]
                rows.append([facts.title(split), state, *figures])
    blocks += [
        Paragraph(
            f"Expected calibration error of the predicted class over {num_bins} bins of equal width (Guo et al. 2017), "
            "the root mean square of that error less its sampling noise (Kumar et al. 2019), Brier score summed over "
            "the classes, and negative log-likelihood:"
        ),
        Table(
            ("split", "model", "calibration error", "root mean square", "Brier score", "negative log-likelihood"),
            rows,
            "llrrrr",
        ),
        *(
            Paragraph(_scaling_in_words(facts.title(split), found))
            for split, found in facts.keras.items()
            if "calibration_before" in found
        ),
        Picture(
            "reliability",
            f"Share of right answers over score, {facts.title(facts.judged or SELECTION_SPLIT)}; on the dotted line "
            "scores mean what they say.",
        ),
    ]
    check = facts.metrics.get("calibration", {})
    if check.get("halves"):
        blocks += [
            Paragraph(
                f"The test of the method: the temperature fitted on one half of {selection} and measured on the "
                "other, both ways. The band holds 95 % of the calibration errors that a perfectly calibrated model "
                "with such scores would show on as many images."
            ),
            Table(
                (
                    "half",
                    "images",
                    "temperature",
                    "error before",
                    "error after",
                    "band",
                    "error after against the band",
                    "negative log-likelihood before, after",
                ),
                [
                    [
                        str(number),
                        f"{half['num_images']:,}",
                        f"{half['temperature']:.3f}",
                        f"{half['ece_before']:.4f}",
                        f"{half['ece_after']:.4f}",
                        f"{half['band'][0]:.4f} to {half['band'][1]:.4f}",
                        place_in_band(half),
                        f"{half['nll_before']:.4f}, {half['nll_after']:.4f}",
                    ]
                    for number, half in enumerate(check["halves"], start=1)
                ],
                "lrrrrrlr",
            ),
            Paragraph(calibration_verdict(check)),
        ]
    return blocks


def _scaling_in_words(title: str, found: Mapping[str, Any]) -> str:
    """What temperature scaling did on one split."""
    changes = []
    for key, name in (("ece", "calibration error"), ("nll", "negative log-likelihood")):
        before, after = found["calibration_before"][key], found["calibration"][key]
        verb = "lowers" if after < before else "raises"
        text = f"{verb} the {name} from {before:.4f} to {after:.4f}"
        changes.append(text if after != before else f"leaves the {name} at {after:.4f}")
    return f"On {title} it {' and '.join(changes)}."


def _exports(facts: Facts) -> list[Block]:
    blocks: list[Block] = [Heading("Exported models")]
    files = _exported_files(facts)
    if not files:
        return [*blocks, Paragraph("No .tflite file of this run was scored.")]
    splits = [split for split in SPLITS if split in facts.keras or any(split in found for found in files.values())]
    compared = any("agreement" in found.get(SELECTION_SPLIT, {}) for found in files.values())
    header = ["file", "size"]
    rows = [["Keras", "-"], *([name, _megabytes(found.get("size_bytes"))] for name, found in files.items())]
    for split in splits:
        header += [f"accuracy, {facts.title(split)}", "macro-F1"]
        for row, found in zip(rows, [facts.keras, *files.values()], strict=True):
            scores = found.get(split, {})
            row += [percent(scores.get("accuracy")), _number(scores.get("macro_f1"), ".3f")]
    for title, form in (
        ("points against Keras (95 %)", lambda found: _points(found.get(SELECTION_SPLIT, {}))),
        ("same class as Keras", lambda found: percent(found.get(SELECTION_SPLIT, {}).get("agreement"))),
        (
            "largest difference of a score",
            lambda found: _number(found.get(SELECTION_SPLIT, {}).get("max_probability_difference"), ".2g"),
        ),
        ("one image, one thread", lambda found: _number(found.get("latency_ms"), ".2f", " ms")),
    ):
        column = [form(found) for found in files.values()]
        if any(cell != "-" for cell in column):
            header.append(title)
            for row, cell in zip(rows, ["-", *column], strict=True):
                row.append(cell)
    blocks += [
        Paragraph(
            "The Keras model and the files made from it, each scored by itself on the same images"
            + (f"; the comparison with Keras is on {facts.title(SELECTION_SPLIT)}:" if compared else ":")
        ),
        Table(header, rows, "l" + "r" * (len(header) - 1)),
    ]
    if any("latency_ms" in found for found in files.values()):
        machines = sorted({found["machine"]["cpu"] for found in files.values() if "machine" in found})
        blocks.append(
            Paragraph(
                "Times are medians of one prediction on "
                f"{_list(machines) if machines else 'the machine that exported'}; another processor has others."
            )
        )
    return blocks


def _exported_files(facts: Facts) -> dict[str, dict[str, Any]]:
    """Everything measured on each .tflite: in training, by `evaluate`, by `export_tflite` and by its mode `auto`."""
    files: dict[str, dict[str, Any]] = {}

    def add(name: str, found: Mapping[str, Any]) -> None:
        known = files.setdefault(name, {})
        for key, value in found.items():
            known[key] = {**known.get(key, {}), **value} if key in SPLITS else value

    for mode, size in facts.sizes.items():
        if mode in facts.scorecards or mode in facts.metrics.get("tflite", {}):
            add(f"{mode} .tflite", {"size_bytes": size})
    for mode, found in facts.metrics.get("tflite", {}).items():
        add(f"{mode} .tflite", found)
    own_data = facts.metrics.get("data", {}).get("sha256")
    for mode, card in facts.scorecards.items():
        scores = card.get(SELECTION_SPLIT, {})
        other = own_data and scores.get("sha256", own_data) != own_data
        name = f"{mode} .tflite{' on ' + scores['source'] if other else ''}"
        add(name, card)
        files[name]["other_data"] = bool(other)
        for row in card.get("tried", []):
            if f"{row['quantization']} .tflite" not in files:
                tried = {**row, SELECTION_SPLIT: row, "only_tried": True}
                add(f"{row['quantization']}, tried and not kept", tried)
    return files


def _points(scores: Mapping[str, Any]) -> str:
    if "difference" not in scores:
        return "-"
    low, high = scores["difference_interval"]
    return f"{100 * scores['difference']:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"


def _data_audit(facts: Facts) -> list[Block]:
    blocks: list[Block] = [Heading("Data audit")]
    if not facts.audit:
        return [*blocks, Paragraph("The run has no audit of its data.")]
    splits, exact, near, bounds = (facts.audit[key] for key in ("splits", "exact", "near", "bounds"))
    rows = [
        [label, *(f"{found[key]:,}" for found in splits.values())]
        for label, key in (
            ("images", "count"),
            ("different images", "unique"),
            ("surplus exact copies", "surplus"),
            ("blank (all pixels equal)", "blank"),
            (f"very dark (mean below {bounds['dark']})", "dark"),
            (f"very bright (mean above {bounds['bright']})", "bright"),
            (f"hardly any contrast (standard deviation below {bounds['flat']})", "flat"),
        )
    ]
    within = {found["split"]: found for found in near["within"]}
    rows.append(["with a near twin in the same split", *(f"{within[split]['images']:,}" for split in splits)])
    if exact["groups"]:
        items = [
            f"Of {facts.audit['count']:,} images {exact['unique']:,} are different; {exact['groups']:,} of them occur "
            f"more than once (the most frequent {exact['largest']:,} times)."
        ]
    else:
        items = [f"All {facts.audit['count']:,} images are different."]
    if exact["conflicting"]:
        most = "; ".join(f"{_list(found['labels'])}: {found['groups']}" for found in exact["conflicts"][:3])
        items.append(
            f"{exact['conflicting']:,} groups of copies carry different labels (most often {most}): no model can be "
            "right about all of them."
        )
    for found in exact["across"]:
        share = found["images"] / splits[found["split"]]["count"]
        if found["images"]:
            items.append(f"{found['images']:,} {found['split']} images ({percent(share)}) also stand in {found['in']}.")
    for found in near["across"]:
        if found["images"]:
            items.append(
                f"{found['images']:,} further {found['split']} images have a near twin in {found['in']}, of which "
                f"{found['conflicting']:,} with another label."
            )
    if not any(found["images"] for found in (*exact["across"], *near["across"])):
        items.append("No image of one split has an exact or near copy in another.")
    items.append(f"How near duplicates are found: {near['method']}.")
    return [*blocks, Table(["", *map(facts.title, splits)], rows, "l" + "r" * len(splits)), Items(items)]


def limits(facts: Facts) -> list[Block]:
    """What the model is for, what it is not for, and how far its figures carry; the model card says it too."""
    items = []
    if facts.synthetic:
        items.append("The faces are synthetic. No figure here carries over to photographs.")
    items += [
        "A class says how a face in a picture was labelled, not what the person felt. Expressions differ between "
        "people, cultures and situations, and the same face is labelled differently by different people.",
        "Intended for research and teaching. Not for decisions about people: not in hiring, education, policing, "
        "insurance, health, nor to tell whether somebody is lying.",
        "The data records neither age, sex, skin colour nor origin: for whom the model works worse was not measured.",
        "The model sees a cropped grey face of 48x48 pixels. Profiles, covered faces, bad light and other crops than "
        "those of the training data make it worse, and it gives an answer for a picture without a face too.",
    ]
    if SELECTION_SPLIT in facts.keras:
        only = "" if "test" in facts.keras else " The data had no test split, so no figure here is free of this."
        items.append(
            f"The {SELECTION_SPLIT} split chose the epoch, the temperature, the quantization and whatever "
            f"else was tried out on it (selection split): its figures lean to the good side.{only}"
        )
    if facts.judged:
        found = facts.keras[facts.judged]
        low, high = found["accuracy_interval"]
        items.append(
            f"On {found['num_images']:,} images chance alone moves the accuracy between {percent(low)} and "
            f"{percent(high)} (95 %, {facts.title(facts.judged)}): smaller differences between runs mean nothing "
            "unless compared image by image."
        )
        if found.get("num_with_twin") and found.get("without_twin"):
            rest = found["without_twin"]
            items.append(
                f"{found['num_with_twin']:,} of these images also stand in the training data; on the other "
                f"{rest['num_images']:,} the accuracy is {percent(rest['accuracy'])} instead of "
                f"{percent(found['accuracy'])}."
            )
    return [Heading("Limits and intended use"), Items(items)]


def _reproduction(facts: Facts) -> list[Block]:
    metrics, data = facts.metrics, facts.metrics.get("data", {})
    blocks: list[Block] = [Heading("How to reproduce")]
    command = str(metrics.get("command") or "")
    if "--resume" in command:
        blocks.append(Paragraph("The run was resumed; its last command was:"))
    if command:
        blocks.append(Code(command))
    else:
        blocks.append(Paragraph("The command was not recorded; the settings above and this table take its place."))
    if facts.data:
        blocks += [
            Paragraph("The same from the start, with the settings of this folder, called beside it:"),
            Code(shlex.join(_command_from_files(facts))),
        ]
        weights = str(facts.config.get("weights", ""))
        files = [weights] if Path(weights).suffix else []  # the others are names that fer_tf knows
        needed = [Path(name).name for name in (*files, *facts.config.get("teachers", ()))]
        if needed:
            blocks.append(
                Paragraph(
                    f"It also needs {', '.join(needed)}, from which it starts or which teach it and which are not in "
                    "this folder: change their paths in config.json."
                )
            )
    checksum = data.get("sha256") or facts.audit.get("sha256")
    rows = [
        ("seed", str(facts.config["seed"])) if "seed" in facts.config else None,
        ("commit", str(metrics["commit"])) if metrics.get("commit") else None,
        ("data, SHA-256", checksum) if checksum else None,
        *((name, str(version)) for name, version in metrics.get("versions", {}).items()),
    ]
    blocks.append(Table(("", ""), [row for row in rows if row], "ll"))
    if not metrics.get("commit"):
        blocks.append(Paragraph("The commit was not recorded."))
    return blocks


def _command_from_files(facts: Facts) -> list[str]:
    """What trains such a run again, whatever commands led to it."""
    words = ["fer-tf", "train", "--config", RunDirectory(facts.name).config.as_posix()]
    if facts.data.get("path"):
        words += ["--data", str(facts.data["source"])]
    if facts.data.get("classes"):
        words += ["--classes", ",".join(facts.data["classes"])]
    if facts.data.get("limit"):
        words += ["--limit", str(facts.data["limit"])]
    return words


def _conclusion(facts: Facts) -> list[Block]:
    blocks: list[Block] = [Heading("Conclusion")]
    if facts.judged is None:
        return [*blocks, Paragraph("The run has no evaluated model, so there is nothing to conclude yet.")]
    result = facts.keras[facts.judged]
    matrix, names = np.array(result["confusion_matrix"]), class_names_of(result)
    accuracy, macro_f1 = (_with_interval(result, key, "95 % interval ") for key in ("accuracy", "macro_f1"))
    sentences = [
        f"The model recognises {accuracy} of the {result['num_images']:,} images of {facts.title(facts.judged)}, with "
        f"a macro-F1 of {macro_f1}."
    ]
    wrong = matrix - np.diag(np.diagonal(matrix))
    if wrong.any():
        true, taken = divmod(int(wrong.argmax()), len(names))
        sentences.append(f"Its most frequent error: {taken_for(matrix, names, true, taken, subject=True)}.")
    sentences += [
        f'The baseline "{name}" reaches {percent(score)}.' for name, score in facts.metrics.get("baselines", {}).items()
    ]
    exported = [
        f"{percent(found[facts.judged]['accuracy'])} as {name}"
        for name, found in _exported_files(facts).items()
        if facts.judged in found and not found.get("other_data") and not found.get("only_tried")
    ]
    if exported:
        sentences.append(f"Exported, it reaches {_list(exported)} on the same images.")
    if result.get("num_with_twin") and (rest := result.get("without_twin")):
        sentences.append(
            f"On the {rest['num_images']:,} of them without a copy in the training data the Keras model recognises "
            f"{percent(rest['accuracy'])}."
        )
    if facts.judged != SELECTION_SPLIT and SELECTION_SPLIT in facts.keras:
        sentences.append(
            f"On {facts.title(SELECTION_SPLIT)} the accuracy is {percent(facts.keras[SELECTION_SPLIT]['accuracy'])}."
        )
    if facts.synthetic:
        sentences.append("All of this is on synthetic faces.")
    return [*blocks, Paragraph(" ".join(sentences))]


# --- Words and numbers ---


def _with_interval(found: Mapping[str, Any], key: str, called: str = "") -> str:
    low, high = found[f"{key}_interval"]
    if key == "accuracy":
        return f"{percent(found[key])} ({called}{100 * low:.1f} to {100 * high:.1f})"
    return f"{found[key]:.3f} ({called}{low:.3f} to {high:.3f})"


def _megabytes(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else f"{size_bytes / 1e6:.2f} MB"


def _number(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else format(value, form) + unit


def _span(values: Sequence[float | None], form: str) -> str:
    """The first and the last number, or the one if they look alike."""
    known = [format(value, form) for value in values if value is not None]
    if not known:
        return "-"
    return known[0] if known[0] == known[-1] else f"{known[0]} to {known[-1]}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _of_synthetic(facts: Facts) -> str:
    return " of the synthetic faces" if facts.synthetic else ""
