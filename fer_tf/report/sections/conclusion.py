"""Section: the result in a few sentences."""

from __future__ import annotations

import numpy as np

from fer_tf.report.confusions import class_names_of, taken_for
from fer_tf.report.document import Block, Heading, Paragraph
from fer_tf.report.facts import Facts
from fer_tf.report.sections.exports import exported_files
from fer_tf.task import SELECTION_SPLIT
from fer_tf.text import listed, percent, with_interval


def conclusion(facts: Facts) -> list[Block]:
    blocks: list[Block] = [Heading("Conclusion")]
    if facts.judged is None:
        return [*blocks, Paragraph("The run has no evaluated model, so there is nothing to conclude yet.")]
    result = facts.keras[facts.judged]
    matrix, names = np.array(result["confusion_matrix"]), class_names_of(result)
    accuracy, macro_f1 = (with_interval(result, key, "95 % interval ") for key in ("accuracy", "macro_f1"))
    sentences = [
        f"The model recognises {accuracy} of the {result['num_images']:,} images of {facts.title(facts.judged)}, with "
        f"a macro-F1 of {macro_f1}."
    ]
    wrong = matrix - np.diag(np.diagonal(matrix))
    if wrong.any():
        true, taken = divmod(int(wrong.argmax()), len(names))
        sentences.append(f"Its most frequent error: {taken_for(matrix, names, true, taken, subject=True)}.")
    sentences += [
        f'The baseline "{name}" reaches {percent(score)}.' for name, score in facts.metrics.get("baselines", {}).items()
    ]
    exported = [
        f"{percent(found[facts.judged]['accuracy'])} as {name}"
        for name, found in exported_files(facts).items()
        if facts.judged in found and not found.get("other_data") and not found.get("only_tried")
    ]
    if exported:
        sentences.append(f"Exported, it reaches {listed(exported)} on the same images.")
    if result.get("num_with_twin") and (rest := result.get("without_twin")):
        sentences.append(
            f"On the {rest['num_images']:,} of them without a copy in the training data the Keras model recognises "
            f"{percent(rest['accuracy'])}."
        )
    if facts.judged != SELECTION_SPLIT and SELECTION_SPLIT in facts.keras:
        sentences.append(
            f"On {facts.title(SELECTION_SPLIT)} the accuracy is {percent(facts.keras[SELECTION_SPLIT]['accuracy'])}."
        )
    if facts.synthetic:
        sentences.append("All of this is on synthetic faces.")
    return [*blocks, Paragraph(" ".join(sentences))]
