"""Section: the exported files beside the Keras model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fer_tf.report.document import Block, Paragraph, Table
from fer_tf.report.facts import Facts
from fer_tf.task import SELECTION_SPLIT, SPLITS
from fer_tf.text import listed, megabytes, number, percent, points_with_interval


def exports(facts: Facts) -> list[Block]:
    files = facts.exported
    if not files:
        return [Paragraph("No .tflite file of this run was scored.")]
    compared = any("agreement" in found.get(SELECTION_SPLIT, {}) for found in files.values())
    blocks: list[Block] = [
        Paragraph(
            "The Keras model and the files made from it, each scored by itself on the same images"
            + (f"; the comparison with Keras is on {facts.title(SELECTION_SPLIT)}:" if compared else ":")
        ),
        Table.from_columns(_columns(facts, files)),
    ]
    if any("latency_ms" in found for found in files.values()):
        machines = sorted({found["machine"]["cpu"] for found in files.values() if "machine" in found})
        blocks.append(
            Paragraph(
                "Times are medians of one prediction on "
                f"{listed(machines) if machines else 'the machine that exported'}; they differ on other processors."
            )
        )
    return blocks


def _columns(facts: Facts, files: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    models = {"Keras": facts.keras, **files}
    columns = [
        ("file", list(models)),
        ("size", [megabytes(found.get("size_bytes")) for found in models.values()]),
    ]
    for split in SPLITS:
        scores = [found.get(split, {}) for found in models.values()]
        if any(scores):
            columns += [
                (f"accuracy, {facts.title(split)}", [percent(found.get("accuracy")) for found in scores]),
                ("macro-F1", [number(found.get("macro_f1"), ".3f") for found in scores]),
            ]
    against = [found.get(SELECTION_SPLIT, {}) for found in files.values()]
    measured = [
        ("points against Keras (95 %)", [_difference(found) for found in against]),
        ("same class as Keras", [percent(found.get("agreement")) for found in against]),
        (
            "largest difference of a score",
            [number(found.get("max_probability_difference"), ".2g") for found in against],
        ),
        ("one image, one thread", [number(found.get("latency_ms"), ".2f", " ms") for found in files.values()]),
    ]
    return columns + [(title, ["-", *cells]) for title, cells in measured if any(cell != "-" for cell in cells)]


def _difference(scores: Mapping[str, Any]) -> str:
    return points_with_interval(scores) if "difference" in scores else "-"
