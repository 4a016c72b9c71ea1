"""Section: the confusion matrix and what it says."""

from __future__ import annotations

import numpy as np

from fer_tf.report.confusions import class_names_of, confusion_analysis, taken_for, wrong_in_order
from fer_tf.report.document import Block, Heading, Items, Paragraph, Picture, Table
from fer_tf.report.facts import Facts
from fer_tf.text import number, percent


def confusions(facts: Facts) -> list[Block]:
    blocks: list[Block] = [Heading("Confusion matrix and analysis")]
    if facts.judged is None:
        return [*blocks, Paragraph("There is no confusion matrix: the model was not evaluated on any split.")]
    result, title = facts.keras[facts.judged], facts.title(facts.judged)
    matrix, names = np.array(result["confusion_matrix"]), class_names_of(result)
    rows = []
    for label, (name, row) in enumerate(zip(names, result["per_class"], strict=True)):
        taken = [taken_for(matrix, names, label, other) for other in wrong_in_order(matrix, label)[:2]]
        rows.append(
            [
                name,
                f"{row['support']:,}",
                percent(row["precision"]),
                percent(row["recall"]),
                number(row["f1"], ".3f"),
                *[*taken, "-", "-"][:2],
            ]
        )
    return [
        *blocks,
        Paragraph(f"All of this section is the saved Keras model on {title}."),
        Picture("confusion_matrix", f"Confusion matrix, {title}: rows are the true class, columns the predicted one."),
        Table(("class", "images", "precision", "recall", "F1", "most often taken for", "then for"), rows, "lrrrrll"),
        Picture("class_scores", f"Precision, recall and F1 of each class, {title}."),
        Items(
            confusion_analysis(
                result,
                class_weights=facts.config.get("class_weights", "none"),
                train_counts=facts.train_counts,
            )
        ),
        Picture("confident_errors", f"The wrong answers with the highest scores, {title}."),
    ]
