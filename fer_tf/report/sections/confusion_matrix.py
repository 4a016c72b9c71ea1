"""Section: the confusion matrix and its description."""

from __future__ import annotations

import numpy as np

from fer_tf.report.confusions import confusion_analysis, taken_for, wrong_in_order
from fer_tf.report.document import Block, Folded, Items, Paragraph, Picture, Table
from fer_tf.report.facts import Facts, class_names_of
from fer_tf.text import number, percent


def confusion_matrix(facts: Facts) -> list[Block]:
    if facts.headline_split is None:
        return [Paragraph("There is no confusion matrix: the model was not evaluated on any split.")]
    result, title = facts.keras[facts.headline_split], facts.title(facts.headline_split)
    matrix, names = np.array(result["confusion_matrix"]), class_names_of(result)
    rows = []
    for label, row in enumerate(result["per_class"]):
        taken = [taken_for(matrix, names, label, other) for other in wrong_in_order(matrix, label)]
        first, second = [*taken, "-", "-"][:2]
        rows.append(
            {
                "class": row["name"],
                "images": f"{row['support']:,}",
                "precision": percent(row["precision"]),
                "recall": percent(row["recall"]),
                "F1": number(row["f1"], ".3f"),
                "most often taken for": first,
                "then for": second,
            }
        )
    class_weights = facts.config.get("class_weights", "none")
    return [
        Paragraph(f"This section describes the saved Keras model on {title}."),
        Picture("confusion_matrix", f"Confusion matrix, {title}: rows are the true class, columns the predicted one."),
        Picture("class_scores", f"Precision, recall and F1 of each class, {title}."),
        Folded("The same figures as a table", [Table.from_rows(rows, "lrrrrll")]),
        Items(confusion_analysis(result, class_weights=class_weights, train_counts=facts.train_counts)),
        Picture(
            "example_answers",
            f"Right (left) and wrong answers of each class, with their scores, drawn at random, {title}.",
        ),
        Picture("confident_errors", f"The wrong answers with the highest scores, {title}."),
    ]
