"""The most important figures, before all sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fer_tf.report.document import Block, Figures, Paragraph
from fer_tf.report.facts import Facts
from fer_tf.text import interval, megabytes, number, percent


def headline(facts: Facts) -> list[Block]:
    split = facts.headline_split
    if split is None:
        return [Paragraph("The run has no metrics: it has not ended, or has not been evaluated.")]
    result = facts.keras[split]
    images = f"{facts.title(split)}, {result['num_images']:,} images"
    bounds = interval([100 * bound for bound in result["accuracy_interval"]], ".1f")
    figures = [
        (percent(result["accuracy"]), "Accuracy", f"95 % interval {bounds}; {images}"),
        (number(result["macro_f1"], ".3f"), "Macro-F1", f"95 % interval {interval(result['macro_f1_interval'])}"),
    ]
    if main := _main_file(facts):
        name, found = main
        figures.append((megabytes(found.get("size_bytes")), "File size", name))
        if found.get("latency_ms"):
            cpu = found.get("machine", {}).get("cpu")
            machine = f"one thread{f' of {cpu}' if cpu else ''}"
            figures.append((number(found["latency_ms"], ".2f", " ms"), "Time for one image", machine))
    blocks: list[Block] = [Figures(figures)]
    if facts.synthetic:
        blocks.append(
            Paragraph(
                "This run was trained and scored on synthetic faces, which a program drew. Its figures show that the "
                "software works; they say nothing about photographs of people."
            )
        )
    return blocks


def _main_file(facts: Facts) -> tuple[str, Mapping[str, Any]] | None:
    """The exported file whose size and time are shown: the one that `auto` chose, else one that was timed."""
    files = [
        (name, found)
        for name, found in facts.exported.items()
        if found.get("size_bytes") and not found.get("only_tried") and not found.get("other_data")
    ]
    files.sort(key=lambda file: (not file[1].get("tried"), not file[1].get("latency_ms")))
    return files[0] if files else None
