"""Section: conclusions in a few sentences; the other sections have the figures."""

from __future__ import annotations

import numpy as np

from fer_tf.report.document import Block, Paragraph
from fer_tf.report.facts import Facts, class_names_of, without_duplicates
from fer_tf.task import SELECTION_SPLIT
from fer_tf.text import listed


def conclusion(facts: Facts) -> list[Block]:
    split = facts.headline_split
    if split is None:
        return [Paragraph("The run has no evaluated model, so there is nothing to conclude yet.")]
    result = facts.keras[split]
    accuracy = result["accuracy"]
    matrix, names = np.array(result["confusion_matrix"]), class_names_of(result)
    sentences = []
    wrong = matrix - np.diag(np.diagonal(matrix))
    if wrong.any():
        true, taken = divmod(int(wrong.argmax()), len(names))
        sentences.append(f"On {facts.title(split)} the Keras model most often takes {names[true]} for {names[taken]}.")
    else:
        sentences.append(f"On {facts.title(split)} the Keras model makes no error.")
    sentences += [
        f'It is {_points(accuracy - score)} the baseline "{name}".'
        for name, score in facts.metrics.get("baselines", {}).items()
    ]
    exported = [
        f"{_change(found[split]['accuracy'] - accuracy)} as {name}"
        for name, found in facts.exported.items()
        if split in found and not found.get("other_data") and not found.get("only_tried")
    ]
    if exported:
        sentences.append(f"Exported, it {listed(exported)} on the same images.")
    if rest := without_duplicates(result):
        sentences.append(
            f"On the {rest['num_images']:,} of them without a copy in the training data it "
            f"{_change(rest['accuracy'] - accuracy)}."
        )
    if split != SELECTION_SPLIT and SELECTION_SPLIT in facts.keras:
        sentences.append(
            f"On {facts.title(SELECTION_SPLIT)} it {_change(facts.keras[SELECTION_SPLIT]['accuracy'] - accuracy)}."
        )
    return [Paragraph(" ".join(sentences))]


def _points(difference: float) -> str:
    return f"{abs(100 * difference):.1f} points {'above' if difference >= 0 else 'below'}"


def _change(difference: float) -> str:
    if abs(100 * difference) < 0.05:
        return "keeps its accuracy"
    return f"{'gains' if difference > 0 else 'loses'} {abs(100 * difference):.1f} points"
