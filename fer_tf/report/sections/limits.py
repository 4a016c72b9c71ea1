"""Section: what the model is for, what not, and how far its figures carry."""

from __future__ import annotations

from fer_tf.report.document import Block, Heading, Items
from fer_tf.report.facts import Facts
from fer_tf.task import SELECTION_SPLIT
from fer_tf.text import percent


def limits(facts: Facts) -> list[Block]:
    """What the model is for, what it is not for, and how far its figures carry; the model card says it too."""
    items = []
    if facts.synthetic:
        items.append("The faces are synthetic. No figure here carries over to photographs.")
    items += [
        "A class says how a face in a picture was labelled, not what the person felt. Expressions differ between "
        "people, cultures and situations, and the same face is labelled differently by different people.",
        "Intended for research and teaching. Not for decisions about people: not in hiring, education, policing, "
        "insurance, health, nor to tell whether somebody is lying.",
        "The data records neither age, sex, skin colour nor origin: for whom the model works worse was not measured.",
        "The model sees a cropped grey face of 48x48 pixels. Profiles, covered faces, bad light and other crops than "
        "those of the training data make it worse, and it gives an answer for a picture without a face too.",
    ]
    if SELECTION_SPLIT in facts.keras:
        only = "" if "test" in facts.keras else " The data had no test split, so no figure here is free of this."
        items.append(
            f"The {SELECTION_SPLIT} split chose the epoch, the temperature, the quantization and whatever "
            f"else was tried out on it (selection split): its figures lean to the good side.{only}"
        )
    if facts.judged:
        found = facts.keras[facts.judged]
        low, high = found["accuracy_interval"]
        items.append(
            f"On {found['num_images']:,} images chance alone moves the accuracy between {percent(low)} and "
            f"{percent(high)} (95 %, {facts.title(facts.judged)}): smaller differences between runs mean nothing "
            "unless compared image by image."
        )
        if found.get("num_with_twin") and found.get("without_twin"):
            rest = found["without_twin"]
            items.append(
                f"{found['num_with_twin']:,} of these images also stand in the training data; on the other "
                f"{rest['num_images']:,} the accuracy is {percent(rest['accuracy'])} instead of "
                f"{percent(found['accuracy'])}."
            )
    return [Heading("Limits and intended use"), Items(items)]
