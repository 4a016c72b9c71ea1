"""Section: how far the scores can be read as probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fer_tf.evaluation.calibration import calibration_verdict, place_in_band
from fer_tf.report.document import Block, Heading, Paragraph, Picture, Table
from fer_tf.report.facts import Facts
from fer_tf.task import SELECTION_SPLIT


def calibration(facts: Facts) -> list[Block]:
    blocks: list[Block] = [Heading("Calibration")]
    if not facts.keras:
        return [*blocks, Paragraph("The scores were not checked: the model was not evaluated on any split.")]
    selection = facts.title(SELECTION_SPLIT)
    temperature = facts.metrics.get("temperature")
    if temperature is None:
        blocks.append(Paragraph("No temperature was fitted: the scores are those that training gave."))
    else:
        verdict = f"Judged by likelihood, the scores before were {'over' if temperature > 1 else 'under'}confident."
        blocks.append(
            Paragraph(
                f"A temperature of {temperature:.3f} was fitted on {selection} and folded into the head's weights, so "
                "that the Keras model and every exported file give the same scores. "
                + ("It changes nothing." if temperature == 1 else verdict)
            )
        )
    num_bins = next(iter(facts.keras.values()))["calibration"]["num_bins"]
    rows = []
    for split, found in facts.keras.items():
        for state, key in (("before temperature scaling", "calibration_before"), ("as saved", "calibration")):
            if key in found:
                figures = [f"{found[key][name]:.4f}" for name in ("ece", "rms_error_debiased", "brier", "nll")]
                rows.append([facts.title(split), state, *figures])
    blocks += [
        Paragraph(
            f"Expected calibration error of the predicted class over {num_bins} bins of equal width (Guo et al. 2017), "
            "the root mean square of that error less its sampling noise (Kumar et al. 2019), Brier score summed over "
            "the classes, and negative log-likelihood:"
        ),
        Table(
            ("split", "model", "calibration error", "root mean square", "Brier score", "negative log-likelihood"),
            rows,
            "llrrrr",
        ),
        *(
            Paragraph(_scaling_in_words(facts.title(split), found))
            for split, found in facts.keras.items()
            if "calibration_before" in found
        ),
        Picture(
            "reliability",
            f"Share of right answers over score, {facts.title(facts.judged or SELECTION_SPLIT)}; on the dotted line "
            "scores mean what they say.",
        ),
    ]
    check = facts.metrics.get("calibration", {})
    if check.get("halves"):
        blocks += [
            Paragraph(
                f"The test of the method: the temperature fitted on one half of {selection} and measured on the "
                "other, both ways. The band holds 95 % of the calibration errors that a perfectly calibrated model "
                "with such scores would show on as many images."
            ),
            Table(
                (
                    "half",
                    "images",
                    "temperature",
                    "error before",
                    "error after",
                    "band",
                    "error after against the band",
                    "negative log-likelihood before, after",
                ),
                [
                    [
                        str(number),
                        f"{half['num_images']:,}",
                        f"{half['temperature']:.3f}",
                        f"{half['ece_before']:.4f}",
                        f"{half['ece_after']:.4f}",
                        f"{half['band'][0]:.4f} to {half['band'][1]:.4f}",
                        place_in_band(half),
                        f"{half['nll_before']:.4f}, {half['nll_after']:.4f}",
                    ]
                    for number, half in enumerate(check["halves"], start=1)
                ],
                "lrrrrrlr",
            ),
            Paragraph(calibration_verdict(check)),
        ]
    return blocks


def _scaling_in_words(title: str, found: Mapping[str, Any]) -> str:
    """What temperature scaling did on one split."""
    changes = []
    for key, name in (("ece", "calibration error"), ("nll", "negative log-likelihood")):
        before, after = found["calibration_before"][key], found["calibration"][key]
        verb = "lowers" if after < before else "raises"
        text = f"{verb} the {name} from {before:.4f} to {after:.4f}"
        changes.append(text if after != before else f"leaves the {name} at {after:.4f}")
    return f"On {title} it {' and '.join(changes)}."
