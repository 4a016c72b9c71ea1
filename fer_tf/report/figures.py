"""The figures of a run and of an audit, by name: computes the numbers and draws with `plots`, but writes no file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_tf.report import plots
from fer_tf.report.facts import Facts, class_names_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fer_tf.data.dataset import Dataset

FACE_FIGURES = ("mean_faces", "contact_sheet", "example_answers", "confident_errors")  # these show pictures of the data
_SHEET_COLUMNS = 8  # faces of each class on the contact sheet; the splits share them


def draw_run(facts: Facts) -> dict[str, Figure]:
    """Draw the figures that show only numbers; leave out figures whose numbers the run lacks."""
    figures = {}
    if facts.audit:
        figures["class_balance"] = _class_balance(facts.audit)
    if facts.history:
        figures["curves"] = plots.plot_training_curves(facts.history, image_size=facts.config.get("image_size"))
    for figure in figures.values():
        _mark_synthetic(figure, facts.synthetic)
    if facts.headline_split:
        result = facts.keras[facts.headline_split]
        names, rows = class_names_of(result), result["per_class"]
        title = f"Keras model, {facts.title(facts.headline_split)}, {result['num_images']:,} images"
        states = {"as saved": result["calibration"]["bins"]}
        if "calibration_before" in result:
            states = {"before temperature scaling": result["calibration_before"]["bins"], **states}
        figures["confusion_matrix"] = plots.plot_confusion_matrix(result["confusion_matrix"], names, title=title)
        figures["class_scores"] = plots.plot_class_scores(rows, title=title)
        figures["reliability"] = plots.plot_reliability(states, title=title)
        if "selective" in result:
            figures["selective"] = plots.plot_selective(result["selective"], title=title)
    return figures


def draw_audit(dataset: Dataset, findings: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw the class balance, the mean face of each class and a sheet of example faces.

    Args:
        dataset: with decoded images.
        findings: the result of `audit` for this data set.
    """
    images = dataset.images
    assert images is not None
    rows_of = {
        (label, split): rows
        for split in findings["splits"]
        for label in range(dataset.num_classes)
        if len(rows := np.nonzero((dataset.labels == label) & (dataset.split == split))[0])
    }
    names = {(label, split): f"{dataset.class_names[label]}, {split}" for label, split in rows_of}
    means = np.stack([images[rows].mean(axis=0) for rows in rows_of.values()])
    counts = [len(rows) for rows in rows_of.values()]
    faces_each = -(-_SHEET_COLUMNS // len(findings["splits"]))
    chosen, captions = [], []
    for key in sorted(rows_of, key=lambda key: key[0]):  # the faces of a class side by side, one split after another
        rows = rows_of[key]
        # Take faces from all over the split, so that the sheet does not depend on the beginning of the file.
        chosen.append(rows[np.linspace(0, len(rows) - 1, min(faces_each, len(rows)), dtype=int)])
        captions += [names[key]] * len(chosen[-1])
    num_columns = faces_each * len(findings["splits"])
    figures = {
        "class_balance": _class_balance(findings),
        "mean_faces": plots.plot_mean_faces(means, list(names.values()), counts, num_columns=dataset.num_classes),
        "contact_sheet": plots.plot_contact_sheet(images[np.concatenate(chosen)], captions, num_columns=num_columns),
    }
    for figure in figures.values():
        _mark_synthetic(figure, findings["synthetic"])
    return figures


def _class_balance(findings: Mapping[str, Any]) -> Figure:
    counts = {split: found["class_counts"] for split, found in findings["splits"].items()}
    return plots.plot_class_balance(counts, findings["class_names"])


def _mark_synthetic(figure: Figure, synthetic: bool) -> None:
    if synthetic:
        figure.suptitle("Synthetic faces")
