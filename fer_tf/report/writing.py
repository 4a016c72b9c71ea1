"""Writes report.md, report.html and the figures of a run, from the run's files and from nothing else."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_tf.artifacts import RunDirectory, write_bytes, write_json, write_text
from fer_tf.data.audit import audit
from fer_tf.data.dataset import Dataset
from fer_tf.errors import InputError
from fer_tf.report import plots
from fer_tf.report.confusions import class_names_of
from fer_tf.report.document import Block, Picture, to_html, to_markdown
from fer_tf.report.facts import Facts, read_facts
from fer_tf.report.sections.calibration import calibration
from fer_tf.report.sections.conclusion import conclusion
from fer_tf.report.sections.configuration import configuration
from fer_tf.report.sections.confusions import confusions
from fer_tf.report.sections.data_audit import data_audit
from fer_tf.report.sections.exploration import exploration
from fer_tf.report.sections.exports import exports
from fer_tf.report.sections.limits import limits
from fer_tf.report.sections.overview import overview
from fer_tf.report.sections.reproduction import reproduction
from fer_tf.report.sections.results import results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

FACE_FIGURES = ("mean_faces", "contact_sheet", "confident_errors")  # the figures that show pictures of the data
SHEET_COLUMNS = 8  # faces of each class on the contact sheet, shared by the splits


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


def _document(facts: Facts) -> list[Block]:
    return [
        *overview(facts),
        *exploration(facts),
        *configuration(facts),
        *results(facts),
        *confusions(facts),
        *calibration(facts),
        *exports(facts),
        *data_audit(facts),
        *limits(facts),
        *reproduction(facts),
        *conclusion(facts),
    ]
