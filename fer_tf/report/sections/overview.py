"""Section: what was trained, on what, with which result."""

from __future__ import annotations

from fer_tf.report.confusions import class_names_of
from fer_tf.report.document import Block, Heading, Paragraph, Table
from fer_tf.report.facts import Facts
from fer_tf.text import duration, with_interval


def overview(facts: Facts) -> list[Block]:
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
        ("Training time", duration(metrics["seconds"])) if metrics.get("seconds") else None,
        ("Backend", str(metrics["backend"])) if metrics.get("backend") else None,
        *((_MACHINE.get(key, key), str(value)) for key, value in metrics.get("machine", {}).items()),
        *(
            (f"Accuracy, {facts.title(split)}", with_interval(found, "accuracy", "95 % interval "))
            for split, found in facts.keras.items()
        ),
        *(
            (f"Macro-F1, {facts.title(split)}", with_interval(found, "macro_f1", "95 % interval "))
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
