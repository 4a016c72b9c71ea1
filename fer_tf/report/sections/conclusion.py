"""Section: the result in a few sentences."""

from __future__ import annotations

import numpy as np

from fer_tf.report.confusions import taken_for
from fer_tf.report.document import Block, Paragraph
from fer_tf.report.facts import Facts, class_names_of, without_duplicates
from fer_tf.task import SELECTION_SPLIT
from fer_tf.text import listed, percent, with_interval


def conclusion(facts: Facts) -> list[Block]:
    split = facts.headline_split
    if split is None:
        return [Paragraph("The run has no evaluated model, so there is nothing to conclude yet.")]
    result = facts.keras[split]
    matrix, names = np.array(result["confusion_matrix"]), class_names_of(result)
    accuracy, macro_f1 = (with_interval(result, key, "95 % interval ") for key in ("accuracy", "macro_f1"))
    sentences = [
        f"The model recognises {accuracy} of the {result['num_images']:,} images of {facts.title(split)}, with a "
        f"macro-F1 of {macro_f1}."
    ]
    wrong = matrix - np.diag(np.diagonal(matrix))
    if wrong.any():
        true, taken = divmod(int(wrong.argmax()), len(names))
        sentences.append(f"Its most frequent error: {taken_for(matrix, names, true, taken, subject=True)}.")
    sentences += [
        f'The baseline "{name}" reaches {percent(score)}.' for name, score in facts.metrics.get("baselines", {}).items()
    ]
    exported = [
        f"{percent(found[split]['accuracy'])} as {name}"
        for name, found in facts.exported.items()
        if split in found and not found.get("other_data") and not found.get("only_tried")
    ]
    if exported:
        sentences.append(f"Exported, it reaches {listed(exported)} on the same images.")
    if rest := without_duplicates(result):
        sentences.append(
            f"On the {rest['num_images']:,} of them without a copy in the training data the Keras model recognises "
            f"{percent(rest['accuracy'])}."
        )
    if split != SELECTION_SPLIT and SELECTION_SPLIT in facts.keras:
        sentences.append(
            f"On {facts.title(SELECTION_SPLIT)} the accuracy is {percent(facts.keras[SELECTION_SPLIT]['accuracy'])}."
        )
    if facts.synthetic:
        sentences.append("All figures are on synthetic faces.")
    return [Paragraph(" ".join(sentences))]
