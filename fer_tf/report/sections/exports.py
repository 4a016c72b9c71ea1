"""Section: the exported files beside the Keras model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fer_tf.report.document import Block, Heading, Paragraph, Table
from fer_tf.report.facts import Facts
from fer_tf.task import SELECTION_SPLIT, SPLITS
from fer_tf.text import listed, megabytes, number, percent


def exports(facts: Facts) -> list[Block]:
    blocks: list[Block] = [Heading("Exported models")]
    files = exported_files(facts)
    if not files:
        return [*blocks, Paragraph("No .tflite file of this run was scored.")]
    splits = [split for split in SPLITS if split in facts.keras or any(split in found for found in files.values())]
    compared = any("agreement" in found.get(SELECTION_SPLIT, {}) for found in files.values())
    header = ["file", "size"]
    rows = [["Keras", "-"], *([name, megabytes(found.get("size_bytes"))] for name, found in files.items())]
    for split in splits:
        header += [f"accuracy, {facts.title(split)}", "macro-F1"]
        for row, found in zip(rows, [facts.keras, *files.values()], strict=True):
            scores = found.get(split, {})
            row += [percent(scores.get("accuracy")), number(scores.get("macro_f1"), ".3f")]
    for title, form in (
        ("points against Keras (95 %)", lambda found: _points(found.get(SELECTION_SPLIT, {}))),
        ("same class as Keras", lambda found: percent(found.get(SELECTION_SPLIT, {}).get("agreement"))),
        (
            "largest difference of a score",
            lambda found: number(found.get(SELECTION_SPLIT, {}).get("max_probability_difference"), ".2g"),
        ),
        ("one image, one thread", lambda found: number(found.get("latency_ms"), ".2f", " ms")),
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
                f"{listed(machines) if machines else 'the machine that exported'}; another processor has others."
            )
        )
    return blocks


def exported_files(facts: Facts) -> dict[str, dict[str, Any]]:
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
