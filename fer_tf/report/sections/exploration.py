"""Section: class balance, grey values and example faces of the data."""

from __future__ import annotations

import numpy as np

from fer_tf.data.audit import originals_text, read_text
from fer_tf.report.document import Block, Folded, Paragraph, Picture, Table
from fer_tf.report.facts import Facts
from fer_tf.text import capital, listed, number, percent


def exploration(facts: Facts) -> list[Block]:
    if not facts.audit:
        return [Paragraph("The run has no audit of its data.")]
    image, splits, names = (facts.audit[key] for key in ("image", "splits", "class_names"))
    counts, grey_values, balance = [("class", [*names, "all"])], [("class", names)], []
    for split, found in splits.items():
        title = facts.title(split)
        counts += [
            (f"{title} images", [f"{count:,}" for count in (*found["class_counts"], found["count"])]),
            ("share", [percent(share) for share in (*found["class_shares"], 1)]),
        ]
        for key in ("brightness", "contrast"):
            grey_values.append((f"{title} {key}", [number(value, ".1f") for value in found[key]]))
        balance.append(Paragraph(f"{capital(title)}: {_balance_in_words(found, names)}."))
    originals = [Paragraph(f"Before that, the pictures were {originals_text(image['originals'])}.")]
    read = [Paragraph(f"{capital('; '.join(lines))}.")] if (lines := read_text(facts.audit.get("read", {}))) else []
    return [
        Paragraph(
            f"As read, every image has {image['width']}x{image['height']} pixels and {image['channels']} channel "
            f"(grey, {image['bits']} bits). The pixel values run from {image['minimum']} to {image['maximum']}, with "
            f"mean {image['mean']:.1f} and standard deviation {image['std']:.1f}."
        ),
        *(originals if image.get("originals") else ()),
        *read,
        *balance,
        Picture("class_balance", f"Images of each class{facts.of_synthetic_faces}."),
        Folded("The same figures as a table", [Table.from_columns(counts)]),
        Folded(
            "Mean grey value of each class's images (brightness) and its spread within an image (contrast)",
            [Table.from_columns(grey_values)],
        ),
        Picture("mean_faces", f"Mean face of each class in each split{facts.of_synthetic_faces}."),
        Picture("contact_sheet", f"Faces of each class from each split{facts.of_synthetic_faces}."),
    ]


def _balance_in_words(found: dict, names: list[str]) -> str:
    counts = found["class_counts"]
    if not found["imbalance_ratio"]:
        return f"no image of {listed([name for name, count in zip(names, counts, strict=True) if not count])}"
    most, fewest = int(np.argmax(counts)), int(np.argmin(counts))
    return (
        f"the largest class, {names[most]} ({counts[most]:,}), has {found['imbalance_ratio']:.1f} times the images of "
        f"the smallest, {names[fewest]} ({counts[fewest]:,})"
    )
