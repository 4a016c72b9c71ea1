"""Section: accuracy of the answers with high scores, and how often sets of classes contain the label."""

from __future__ import annotations

from fer_tf.evaluation.conformal import sets_in_words
from fer_tf.report.document import Block, Items, Paragraph, Picture, Table
from fer_tf.report.facts import Facts
from fer_tf.task import SELECTION_SPLIT
from fer_tf.text import number, percent


def selective(facts: Facts) -> list[Block]:
    measured = {split: found["selective"] for split, found in facts.keras.items() if "selective" in found}
    if not measured:
        return [Paragraph("Selective accuracy was not measured: fer-tf evaluate --run DIR adds it.")]
    rows = [
        {
            "split": facts.title(split),
            "90 % are right at a score of": number(found["score_for_90"], ".2f"),
            "images with such a score": percent(found["share_for_90"]),
            "mean accuracy over all shares": number(found["area"], ".3f"),
        }
        for split, found in measured.items()
    ]
    blocks: list[Block] = [
        Paragraph(
            "Accuracy if only the images with the highest scores are answered. Its mean over all shares is one minus "
            "the area under the risk-coverage curve (Geifman and El-Yaniv 2017):"
        ),
        Table.from_rows(rows),
    ]
    if SELECTION_SPLIT in measured:
        score = measured[SELECTION_SPLIT]["score_for_90"]
        blocks.append(
            Paragraph(
                f"fer-tf predict --min-score {'0.8' if score is None else f'{score:.2f}'} answers uncertain below that "
                "score. On other data fewer answers may be right."
            )
        )
    if facts.headline_split in measured:
        caption = f"Accuracy over the share of images that are answered, {facts.title(facts.headline_split)}."
        blocks.append(Picture("selective", caption))
    return [*blocks, *_sets(facts)]


def _sets(facts: Facts) -> list[Block]:
    """Describe the prediction sets, if they were measured on images that did not fit the thresholds."""
    blocks: list[Block] = []
    for split, found in facts.keras.items():
        if not (sets := found.get("prediction_sets")):
            continue
        rows = []
        for place, name in enumerate(row["name"] for row in next(iter(sets.values()))["per_class"]):
            row = {"class": name, "images": f"{next(iter(sets.values()))['per_class'][place]['num_images']:,}"}
            for coverage, measured in sets.items():
                of_class = measured["per_class"][place]
                size = number(of_class["mean_size"], ".2f")
                row[f"{percent(float(coverage), 0)} sets"] = f"{percent(of_class['coverage'])} ({size})"
            rows.append(row)
        blocks += [
            Paragraph(
                f"Sets of classes (fer-tf predict --coverage), {facts.title(split)}; their thresholds were fitted on "
                f"{facts.title(SELECTION_SPLIT)}. On other data they may hold the label less often."
            ),
            Items([sets_in_words(coverage, measured) for coverage, measured in sets.items()]),
            Paragraph("By class, the share of images whose set holds the label, in brackets the mean size:"),
            Table.from_rows(rows),
        ]
    return blocks
