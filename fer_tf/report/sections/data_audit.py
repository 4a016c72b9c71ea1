"""Section: duplicates, blank images and conflicting labels in the data."""

from __future__ import annotations

from fer_tf.report.document import Block, Items, Paragraph, Table
from fer_tf.report.facts import Facts
from fer_tf.text import listed, percent


def data_audit(facts: Facts) -> list[Block]:
    if not facts.audit:
        return [Paragraph("The run has no audit of its data.")]
    splits, exact, near, bounds = (facts.audit[key] for key in ("splits", "exact", "near", "bounds"))
    titles = {
        "unique": "different images",
        "surplus": "surplus exact copies",
        "blank": "blank (all pixels equal)",
        "dark": f"very dark (mean below {bounds['dark']})",
        "bright": f"very bright (mean above {bounds['bright']})",
        "flat": f"hardly any contrast (standard deviation below {bounds['flat']})",
    }
    within = {found["split"]: found["images"] for found in near["within"]}
    columns = [("", [*titles.values(), "with a near duplicate in the same split"])]
    for split, found in splits.items():
        columns.append((facts.title(split), [f"{count:,}" for count in (*map(found.get, titles), within[split])]))
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
            items.append(f"{found['images']:,} {found['split']} images ({percent(share)}) are also in {found['in']}.")
    for found in near["across"]:
        if found["images"]:
            items.append(
                f"{found['images']:,} further {found['split']} images have a near duplicate in {found['in']}, "
                f"{found['conflicting']:,} of them with another label."
            )
    if not any(found["images"] for found in (*exact["across"], *near["across"])):
        items.append("No image of one split has an exact or near duplicate in another.")
    items.append(f"Method for near duplicates: {near['method']}.")
    return [Table.from_columns(columns), Items(items)]
