"""Section: the data, the model and the machine."""

from __future__ import annotations

from fer_tf.report.document import Block, Table
from fer_tf.report.facts import Facts
from fer_tf.text import duration, network_name, votes_text

_MACHINE_TITLES = {"cpu": "Processor", "cores": "Cores", "memory_gib": "Memory (GiB)", "system": "System"}


def overview(facts: Facts) -> list[Block]:
    metrics, names, size = facts.metrics, facts.class_names, facts.config.get("image_size")
    splits = facts.audit.get("splits", {})
    source = facts.audit.get("source") or metrics.get("data", {}).get("source")
    votes = metrics.get("data", {}).get("label_source")
    rows = {
        "Task": f"one of {len(names)} classes for each 48x48 grey face: {', '.join(names)}" if names else None,
        "Data": f"{source}{': synthetic faces, drawn by a program' if facts.synthetic else ''}" if source else None,
        "Labels": f"{votes_text(votes)}, not the data's own" if votes else None,
        "Images": ", ".join(f"{found['count']:,} {facts.title(split)}" for split, found in splits.items()),
        "Model": f"{network_name(facts.config.get('width'))}, input {size}x{size} pixels" if size else None,
        "Recipe": facts.config.get("recipe"),
        "Epochs": len(facts.history) or None,
        "Training time": duration(metrics["seconds"]) if metrics.get("seconds") else None,
        "Backend": metrics.get("backend"),
        "Devices that shared each step": number if (number := metrics.get("devices", 1)) > 1 else None,
        **{_MACHINE_TITLES.get(key, key): value for key, value in metrics.get("machine", {}).items()},
    }
    return [Table.from_pairs(rows)]
