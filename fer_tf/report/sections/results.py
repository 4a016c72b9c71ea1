"""Section: results by phase and by split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fer_tf.config import Config
from fer_tf.report.document import Block, Heading, Paragraph, Picture, Table
from fer_tf.report.facts import Facts, of_synthetic
from fer_tf.task import SELECTION_SPLIT
from fer_tf.text import duration, listed, number, percent, span, with_interval


def results(facts: Facts) -> list[Block]:
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
                    duration(sum(row.get("seconds", 0) for row in epochs)),
                    number(max(rates, default=None), ".2g"),
                    number(rates[-1] if rates else None, ".2g"),
                    span([row.get("loss") for row in epochs], ".3f"),
                    percent(epochs[-1].get("accuracy")),
                    f"{percent(best['val_accuracy'])} (epoch {best['epoch']:.0f})" if best else "-",
                    number(best.get("val_loss"), ".3f") if best else "-",
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
                f"Loss, accuracy and learning rate of each epoch{of_synthetic(facts)}; validation is the selection "
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
    return text + (f"; the training loss has {listed(parts)} in it, the validation loss has not." if parts else ".")


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
        with_interval(found, "accuracy"),
        with_interval(found, "macro_f1"),
        percent(found["balanced_accuracy"]),
        percent(found["top2_accuracy"]),
        number(found["roc_auc_macro"], ".3f"),
        number(found["loss"], ".3f"),
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
