"""Section: duplicates, blanks and conflicting labels in the data."""

from __future__ import annotations

from fer_tf.report.document import Block, Heading, Items, Paragraph, Table
from fer_tf.report.facts import Facts
from fer_tf.text import listed, percent


def data_audit(facts: Facts) -> list[Block]:
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
        most = "; ".join(f"{listed(found['labels'])}: {found['groups']}" for found in exact["conflicts"][:3])
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
