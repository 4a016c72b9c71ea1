"""Section: accuracy where only answers with high scores count."""

from __future__ import annotations

from fer_tf.evaluation.selective import selective_in_words
from fer_tf.report.document import Block, Paragraph, Picture, Table
from fer_tf.report.facts import Facts
from fer_tf.task import SELECTION_SPLIT
from fer_tf.text import capital, number, percent


def selective(facts: Facts) -> list[Block]:
    measured = {split: found["selective"] for split, found in facts.keras.items() if "selective" in found}
    if not measured:
        return [Paragraph("Selective accuracy was not measured: `fer-tf evaluate --run DIR` adds it.")]
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
        title = capital(facts.title(SELECTION_SPLIT))
        blocks.append(
            Paragraph(
                f"{title}: {selective_in_words(measured[SELECTION_SPLIT])} "
                "`fer-tf predict --min-score` answers `uncertain` below a score. On other data fewer may be right."
            )
        )
    if facts.headline_split in measured:
        caption = f"Accuracy over the share of images that are answered, {facts.title(facts.headline_split)}."
        blocks.append(Picture("selective", caption))
    return blocks
