"""Section: intended use, and limits of the model and of its figures. The model card has the same section."""

from __future__ import annotations

from fer_tf.report.document import Block, Items
from fer_tf.report.facts import Facts, without_duplicates
from fer_tf.task import SELECTION_SPLIT

_ALWAYS = (
    "A class says how a face in a picture was labelled, not what the person felt. Expressions differ between "
    "people, cultures and situations, and different people label the same face differently.",
    "Intended for research and teaching. Not for decisions about people: not in hiring, education, policing, "
    "insurance or health, nor to tell whether somebody is lying.",
    "The data records neither age, sex, skin colour nor origin, so differences between such groups were not measured.",
    "The model sees a cropped grey face of 48x48 pixels. It is worse on profiles, covered faces, bad light and other "
    "crops than those of the training data. It also answers for a picture without a face.",
)


def limits(facts: Facts) -> list[Block]:
    items = ["The faces are synthetic. No figure here carries over to photographs."] if facts.synthetic else []
    items += _ALWAYS
    if SELECTION_SPLIT in facts.keras:
        only = "" if "test" in facts.keras else " The data had no test split, so this is true of every figure here."
        items.append(
            f"The {SELECTION_SPLIT} split chose the epoch, the temperature, the quantization and whatever else was "
            f"tried out on it (selection split), so its figures tend to be too good.{only}"
        )
    if facts.headline_split:
        found = facts.keras[facts.headline_split]
        items.append(
            f"On {found['num_images']:,} images ({facts.title(facts.headline_split)}) chance alone moves the accuracy "
            "within its interval. A smaller difference between two runs means nothing unless they are compared image "
            "by image."
        )
        if rest := without_duplicates(found):
            items.append(
                f"{found['num_with_twin']:,} of these images are also in the training data. They make the accuracy "
                f"{100 * (found['accuracy'] - rest['accuracy']):+.1f} points different from that of the others."
            )
    return [Items(items)]
