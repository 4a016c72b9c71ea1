"""Section: how well the scores agree with the frequency of right answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fer_tf.evaluation.calibration import calibration_meaning, calibration_verdict, place_in_band
from fer_tf.report.document import Block, Paragraph, Picture, Table
from fer_tf.report.facts import Facts
from fer_tf.task import SELECTION_SPLIT
from fer_tf.text import interval, number


def calibration(facts: Facts) -> list[Block]:
    if not facts.keras:
        return [Paragraph("The scores were not checked: the model was not evaluated on any split.")]
    rows, changes, num_bins = [], [], 0
    for split, found in facts.keras.items():
        num_bins = found["calibration"]["num_bins"]
        for state, key in (("before temperature scaling", "calibration_before"), ("as saved", "calibration")):
            if key in found:
                rows.append({"split": facts.title(split), "model": state, **_figures(found[key])})
        if "calibration_before" in found:
            changes.append(Paragraph(_scaling_in_words(facts.title(split), found)))
    return [
        Paragraph(_temperature_in_words(facts)),
        Paragraph(
            f"Expected calibration error of the predicted class over {num_bins} bins of equal width (Guo et al. 2017), "
            "the root mean square of that error less its sampling noise (Kumar et al. 2019), Brier score summed over "
            "the classes, and negative log-likelihood:"
        ),
        Table.from_rows(rows, "llrrrr"),
        *changes,
        Picture(
            "reliability",
            f"Share of right answers over score, {facts.title(facts.headline_split or SELECTION_SPLIT)}; a perfectly "
            "calibrated model lies on the dotted line.",
        ),
        *_check(facts),
    ]


def _temperature_in_words(facts: Facts) -> str:
    temperature = facts.metrics.get("temperature")
    if temperature is None:
        return "No temperature was fitted: the scores come directly from training."
    confidence = f"{'over' if temperature > 1 else 'under'}confident"
    return (
        f"A temperature of {temperature:.3f} was fitted on {facts.title(SELECTION_SPLIT)} and folded into the head's "
        "weights, so the Keras model and every exported file give the same scores. "
        + ("It changes nothing." if temperature == 1 else f"By likelihood, the scores were {confidence} before.")
    )


def _figures(found: Mapping[str, Any]) -> dict[str, str]:
    return {
        "calibration error": number(found["ece"], ".4f"),
        "root mean square": number(found["rms_error_debiased"], ".4f"),
        "Brier score": number(found["brier"], ".4f"),
        "negative log-likelihood": number(found["nll"], ".4f"),
    }


def _scaling_in_words(title: str, found: Mapping[str, Any]) -> str:
    """Describe the effect of temperature scaling on one split; the table has the figures."""
    changes = []
    for key, name in (("ece", "calibration error"), ("nll", "negative log-likelihood")):
        before, after = found["calibration_before"][key], found["calibration"][key]
        verb = "leaves" if after == before else "lowers" if after < before else "raises"
        changes.append(f"{verb} the {name}{' as it is' if after == before else ''}")
    return f"On {title} it {' and '.join(changes)}."


def _check(facts: Facts) -> list[Block]:
    check = facts.metrics.get("calibration", {})
    if not check.get("halves"):
        return []
    rows = [
        {
            "half": str(place),
            "images": f"{half['num_images']:,}",
            "temperature": f"{half['temperature']:.3f}",
            "error before": f"{half['ece_before']:.4f}",
            "error after": f"{half['ece_after']:.4f}",
            "band": interval(half["band"], ".4f"),
            "error after against the band": place_in_band(half),
            "negative log-likelihood before, after": f"{half['nll_before']:.4f}, {half['nll_after']:.4f}",
        }
        for place, half in enumerate(check["halves"], start=1)
    ]
    return [
        Paragraph(
            f"Check of the method: a temperature is fitted on one half of {facts.title(SELECTION_SPLIT)} and measured "
            "on the other, both ways. The band holds 95 % of the calibration errors that a perfectly calibrated model "
            "with the same scores would show on as many images."
        ),
        Table.from_rows(rows, "lrrrrrlr"),
        Paragraph(f"{calibration_verdict(check)} {calibration_meaning(check)}"),
    ]
