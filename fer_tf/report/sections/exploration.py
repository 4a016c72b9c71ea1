"""Section: what the data holds."""

from __future__ import annotations

import numpy as np

from fer_tf.data.audit import originals_text
from fer_tf.report.document import Block, Heading, Paragraph, Picture, Table
from fer_tf.report.facts import Facts, of_synthetic
from fer_tf.text import capital, listed, number, percent


def exploration(facts: Facts) -> list[Block]:
    blocks: list[Block] = [Heading("Exploratory analysis")]
    if not facts.audit:
        return [*blocks, Paragraph("The run has no audit of its data.")]
    image, splits = facts.audit["image"], facts.audit["splits"]
    blocks.append(
        Paragraph(
            f"As read, every image has {image['width']}x{image['height']} pixels and {image['channels']} channel "
            f"(grey, {image['bits']} bits). The pixel values run from {image['minimum']} to {image['maximum']}, with "
            f"mean {image['mean']:.1f} and standard deviation {image['std']:.1f}."
        )
    )
    if image.get("originals"):
        blocks.append(Paragraph(f"Before that, the files were {originals_text(image['originals'])}."))
    header = ["class"]
    for split in splits:
        header += [f"{facts.title(split)} images", "share"]
    rows = [
        [
            name,
            *(
                text
                for found in splits.values()
                for text in (f"{found['class_counts'][label]:,}", percent(found["class_shares"][label]))
            ),
        ]
        for label, name in enumerate(facts.audit["class_names"])
    ]
    rows.append(["all", *(text for found in splits.values() for text in (f"{found['count']:,}", "100.0 %"))])
    blocks.append(Table(header, rows, "l" + "rr" * len(splits)))
    for split, found in splits.items():
        names, counts = facts.audit["class_names"], found["class_counts"]
        most, fewest = int(np.argmax(counts)), int(np.argmin(counts))
        if found["imbalance_ratio"]:
            text = (
                f"{capital(facts.title(split))}: the largest class, {names[most]} ({counts[most]:,}), has "
                f"{found['imbalance_ratio']:.1f} times the images of the smallest, {names[fewest]} "
                f"({counts[fewest]:,})."
            )
        else:
            absent = [name for name, count in zip(names, counts, strict=True) if not count]
            text = f"{capital(facts.title(split))}: no image of {listed(absent)}."
        blocks.append(Paragraph(text))
    blocks.append(Picture("class_balance", f"Images of each class{of_synthetic(facts)}."))
    blocks += [
        Paragraph("Mean grey value of a class's images (brightness) and its spread inside an image (contrast):"),
        Table(
            ["class", *(f"{facts.title(split)} {key}" for split in splits for key in ("brightness", "contrast"))],
            [
                [
                    name,
                    *(
                        number(found[key][label], ".1f")
                        for found in splits.values()
                        for key in ("brightness", "contrast")
                    ),
                ]
                for label, name in enumerate(facts.audit["class_names"])
            ],
            "l" + "rr" * len(splits),
        ),
        Picture("mean_faces", f"Mean face of each class in each split{of_synthetic(facts)}."),
        Picture("contact_sheet", f"Faces of each class from each split{of_synthetic(facts)}."),
    ]
    return blocks
