"""Section: results by split and by phase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fer_tf.config import Config
from fer_tf.report.document import Block, Paragraph, Picture, Table
from fer_tf.report.facts import Facts, without_duplicates
from fer_tf.task import SELECTION_SPLIT
from fer_tf.text import duration, interval, listed, number, percent, points, span, with_interval


def results(facts: Facts) -> list[Block]:
    return [*_evaluation(facts), *_training(facts)]


def _training(facts: Facts) -> list[Block]:
    if not facts.history:
        return [Paragraph("The run has no history: no epoch has ended.")]
    return [
        Paragraph("Training by phase:"),
        Table.from_rows([_phase(facts, phase) for phase in sorted({row["phase"] for row in facts.history})]),
        Paragraph(_phases_in_words(facts)),
        Picture(
            "curves",
            f"Loss, accuracy and learning rate of each epoch{facts.of_synthetic_faces}; validation is the selection "
            f"split. The learning rate is the value at the epoch's end. {_about_training_figures(facts.config)}",
        ),
    ]


def _phase(facts: Facts, phase: float) -> dict[str, str]:
    epochs = [row for row in facts.history if row["phase"] == phase]
    best = _best_of(facts, phase)
    rates = [row["learning_rate"] for row in epochs if "learning_rate" in row]
    return {
        "phase": f"{phase:.0f} ({'head alone' if phase == 1 else 'all layers'})",
        "epochs": str(len(epochs)),
        "time": duration(sum(row.get("seconds", 0) for row in epochs)),
        "learning rate, highest": number(max(rates, default=None), ".2g"),
        "last": number(rates[-1] if rates else None, ".2g"),
        "training loss": span([row.get("loss") for row in epochs], ".3f"),
        "training accuracy, last": percent(epochs[-1].get("accuracy")),
        f"best accuracy, {facts.title(SELECTION_SPLIT)}": (
            f"{percent(best['val_accuracy'])} (epoch {best['epoch']:.0f})" if best else "-"
        ),
        "loss there": number(best.get("val_loss") if best else None, ".3f"),
    }


def _best_of(facts: Facts, phase: float) -> dict[str, float] | None:
    candidates = [row for row in facts.candidates if row["phase"] == phase]
    return max(candidates, key=lambda row: row["val_accuracy"], default=None)


def _phases_in_words(facts: Facts) -> str:
    """Describe the best epoch, and the gain of phase 2 over phase 1."""
    if not any("val_accuracy" in row for row in facts.history):
        return "No epoch was scored on a validation split."
    if facts.best_epoch is None:
        return f"No epoch was scored at the final size of {facts.config['image_size']} pixels yet."
    selection = facts.title(SELECTION_SPLIT)
    kept = facts.metrics.get("best", {})
    same = [row for row in facts.candidates if (row["phase"], row["epoch"]) == (kept.get("phase"), kept.get("epoch"))]
    best = same[0] if same else facts.best_epoch
    text = ""
    first, second = _best_of(facts, 1), _best_of(facts, 2)
    if first and second:
        gain = 100 * (second["val_accuracy"] - first["val_accuracy"])
        text = (
            f"On {selection} training all layers {'gained' if gain >= 0 else 'lost'} {abs(gain):.1f} points over the "
            "frozen backbone. "
        )
    place = facts.history.index(best) + 1
    text += f"The best epoch is epoch {best['epoch']:.0f} of phase {best['phase']:.0f}" + (
        f" (number {place} in the curves)." if place != best["epoch"] else "."
    )
    if "accuracy" in best:
        gap = 100 * (best["accuracy"] - best["val_accuracy"])
        text += (
            f" Training accuracy was then {abs(gap):.1f} points {'above' if gap >= 0 else 'below'} that on {selection}."
        )
    return text


def _about_training_figures(config: Mapping[str, Any]) -> str:
    """Explain how the training figures in the history differ from those on validation."""
    settings = {**Config().to_dict(), **config}
    included = {
        "label smoothing": settings["label_smoothing"],
        "class weights": settings["class_weights"] != "none",
        "logit adjustment": settings["logit_adjustment"],
        "mixed images": settings["mixup"] or settings["cutmix"],
        "the teachers' targets": settings["teachers"],
    }
    parts = [name for name, present in included.items() if present]
    text = "Training figures are taken during the epoch, with augmentation and dropout"
    return text + (f"; the training loss includes {listed(parts)}, the validation loss does not." if parts else ".")


def _evaluation(facts: Facts) -> list[Block]:
    if not facts.keras:
        return [Paragraph("The model was not evaluated on any split.")]
    rows = []
    for split, found in facts.keras.items():
        rows.append(_scores(facts.title(split), found))
        if rest := without_duplicates(found):
            rows.append(_scores(f"{facts.title(split)}, images without a copy in train", rest))
        if augmented := found.get("tta"):
            rows.append(_scores(f"{facts.title(split)}, mean of {augmented['num_views']} views", augmented))
    blocks: list[Block] = [
        Paragraph(
            "The saved Keras model, a single view of each image unless the row says otherwise; in brackets the 95 % "
            "bootstrap interval:"
        ),
        Table.from_rows(rows),
        *(Paragraph(_tta_in_words(facts, split)) for split, found in facts.keras.items() if "tta" in found),
    ]
    # On the other splits, model.evaluate gives the figures above.
    trained = {split: found for split, found in facts.metrics.get("model_evaluate", {}).items() if split == "train"}
    rows = [
        {"split": facts.title(split), "accuracy": percent(found["accuracy"]), "loss": number(found["loss"], ".3f")}
        for split, found in trained.items()
    ]
    if rows:
        blocks += [
            Paragraph("Keras's own model.evaluate on the training images, without augmentation:"),
            Table.from_rows(rows),
        ]
    if baselines := facts.metrics.get("baselines"):
        rows = [{"baseline": name, "accuracy": percent(score)} for name, score in baselines.items()]
        blocks += [
            Paragraph(f"Baselines on {facts.title(facts.headline_split or SELECTION_SPLIT)}:"),
            Table.from_rows(rows),
        ]
    return blocks


def _scores(title: str, found: Mapping[str, Any]) -> dict[str, str]:
    return {
        "split": title,
        "images": f"{found['num_images']:,}",
        "accuracy": with_interval(found, "accuracy"),
        "macro-F1": with_interval(found, "macro_f1"),
        "balanced accuracy": percent(found["balanced_accuracy"]),
        "top-2 accuracy": percent(found["top2_accuracy"]),
        "ROC-AUC": number(found["roc_auc_macro"], ".3f"),
        "loss": number(found["loss"], ".3f"),
    }


def _tta_in_words(facts: Facts, split: str) -> str:
    """Describe the gain and the cost of test-time augmentation on a split."""
    found = facts.keras[split]["tta"]
    text = (
        f"Averaging over {found['num_views']} views of each image (mirrored, shifted) takes "
        f"{found['ms_per_image']:.2f} ms an image instead of {found['single_ms_per_image']:.2f} ms"
    )
    if against := found.get("comparison"):
        bounds = interval([100 * bound for bound in against["difference_interval"]], "+.2f")
        text += (
            f" and changes the accuracy on {facts.title(split)} by {points(against['difference'])} points (95 % "
            f"{bounds}; McNemar's exact test p = {against['p_value']:.2g})"
        )
    return f"{text}."
