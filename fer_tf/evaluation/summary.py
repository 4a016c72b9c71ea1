"""Metrics as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fer_tf.evaluation.calibration import calibration_verdict, place_in_band

CONFUSIONS_NAMED = 3


def format_report(result: dict[str, Any]) -> str:
    """Text of what `evaluate` found: per-class table, figures with their intervals, confusion matrix, plain words.

    Args:
        result: as returned by `evaluate`.
    """
    names = [row["name"] for row in result["per_class"]]
    lines = [_class_table(result), "", format_summary(result), ""]
    lines += ["Confusion matrix, images (rows: true class, columns: predicted class)", ""]
    lines += [_matrix(result["confusion_matrix"], names, "{:d}"), ""]
    lines += ["The same in % of the row", ""]
    lines += [_matrix(100 * np.array(result["confusion_shares"]), names, "{:.1f}"), ""]
    lines += _in_words(result, names)
    if "without_twin" in result:
        twins, rest = result["num_with_twin"], result["without_twin"]
        lines += ["", f"Images whose exact pixels also stand in the training data: {twins} of {result['num_images']}."]
        if rest is None:
            lines.append("No image is without such a twin.")
        elif twins:
            lines += [f"Without them ({rest['num_images']} images):", "", _class_table(rest), "", format_summary(rest)]
    return "\n".join(lines) + "\n"


def format_summary(result: dict[str, Any]) -> str:
    """The figures over all classes, one a line.

    Args:
        result: as returned by `evaluate`, or its `without_twin`.
    """
    calibration = result["calibration"]

    def interval(key: str) -> str:
        low, high = result[f"{key}_interval"]
        return f"  95 % interval {low:.4f} to {high:.4f}"

    lines = [
        f"accuracy           {result['accuracy']:.4f}" + interval("accuracy"),
        f"macro-F1           {result['macro_f1']:.4f}" + interval("macro_f1"),
        f"balanced accuracy  {result['balanced_accuracy']:.4f}",
        f"top-2 accuracy     {result['top2_accuracy']:.4f}",
        f"loss               {result['loss']:.4f}  cross-entropy",
        f"Brier score        {calibration['brier']:.4f}",
        f"calibration error  {calibration['ece']:.4f}  {calibration['num_bins']} bins;"
        f" debiased root mean square {calibration['rms_error_debiased']:.4f}",
    ]
    if "calibration_before" in result:
        before = result["calibration_before"]
        lines.append(
            f"without temperature scaling (T = {result['temperature']:.3f}): calibration error {before['ece']:.4f},"
            f" negative log-likelihood {before['nll']:.4f} instead of {calibration['nll']:.4f}"
        )
    return "\n".join(lines)


def format_comparison(comparison: dict[str, Any], name_a: str, name_b: str) -> str:
    """Text of what `compare` found.

    Args:
        comparison: as returned by `compare`.
        name_a: of the first model.
        name_b: of the second model.
    """
    low, high = comparison["difference_interval"]
    p_value = comparison["p_value"]
    verdict = (
        "The difference is larger than chance explains (5 % level)."
        if p_value < 0.05
        else "The difference is within what chance explains (5 % level)."
    )
    test = "McNemar's exact test"
    width = max(len(name_a), len(name_b), len(test))
    return "\n".join(
        [
            f"Compared on the same {comparison['num_images']} images",
            "",
            f"{name_a:<{width}}  accuracy {comparison['accuracy_a']:.4f}, alone right on {comparison['only_a']} images",
            f"{name_b:<{width}}  accuracy {comparison['accuracy_b']:.4f}, alone right on {comparison['only_b']} images",
            f"{'difference':<{width}}  {comparison['difference']:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}"
            " (paired bootstrap)",
            f"{'same answer':<{width}}  {100 * comparison['agreement']:.2f} % of the images",
            f"{test:<{width}}  p = {p_value:.3g}",
            "",
            verdict,
            "",
        ]
    )


def format_calibration(check: dict[str, Any]) -> str:
    """Text of what `calibration_check` found.

    Args:
        check: as returned by `calibration_check`.
    """
    lines = ["Temperature fitted on one half of the split, measured on the other"]
    for number, half in enumerate(check["halves"], start=1):
        low, high = half["band"]
        lines += [
            f"Half {number} ({half['num_images']} images), temperature {half['temperature']:.3f}:",
            f"  calibration error        {half['ece_before']:.4f} -> {half['ece_after']:.4f};"
            f" a perfectly calibrated model: {low:.4f} to {high:.4f} ({place_in_band(half)})",
            f"  negative log-likelihood  {half['nll_before']:.4f} -> {half['nll_after']:.4f}",
        ]
    return "\n".join([*lines, calibration_verdict(check)]) + "\n"


def _class_table(result: dict[str, Any]) -> str:
    width = max(len("macro average"), *(len(row["name"]) for row in result["per_class"]))
    lines = [f"{'':<{width}}  precision  recall      F1  ROC-AUC  support"]
    for row in result["per_class"]:
        area = "-" if row["roc_auc"] is None else f"{row['roc_auc']:.3f}"
        lines.append(
            f"{row['name']:<{width}}  {row['precision']:9.3f}  {row['recall']:6.3f}  {row['f1']:6.3f}"
            f"  {area:>7}  {row['support']:7d}"
        )
    mean = {key: np.mean([row[key] for row in result["per_class"]]) for key in ("precision", "recall")}
    area = "-" if result["roc_auc_macro"] is None else f"{result['roc_auc_macro']:.3f}"
    lines.append(
        f"{'macro average':<{width}}  {mean['precision']:9.3f}  {mean['recall']:6.3f}  {result['macro_f1']:6.3f}"
        f"  {area:>7}  {result['num_images']:7d}"
    )
    return "\n".join(lines)


def _matrix(matrix: Sequence[Sequence[float]] | np.ndarray, names: list[str], form: str) -> str:
    cells = [[form.format(value) for value in row] for row in matrix]
    first = max(len(name) for name in names)
    widths = [max(len(name), *(len(row[c]) for row in cells)) for c, name in enumerate(names)]
    lines = [" " * first + "".join(f"  {name:>{w}}" for name, w in zip(names, widths, strict=True))]
    for name, row in zip(names, cells, strict=True):
        lines.append(f"{name:<{first}}" + "".join(f"  {cell:>{w}}" for cell, w in zip(row, widths, strict=True)))
    return "\n".join(lines)


def _in_words(result: dict[str, Any], names: list[str]) -> list[str]:
    matrix, shares = np.array(result["confusion_matrix"]), np.array(result["confusion_shares"])
    wrong = np.where(np.eye(len(names), dtype=bool), 0.0, shares)
    lines = []
    for cell in np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS_NAMED]:
        true, predicted = divmod(int(cell), len(names))
        if matrix[true, predicted] and true != predicted:
            lines.append(
                f"{names[true]} is taken for {names[predicted]} in {100 * shares[true, predicted]:.1f} % of its images"
                f" ({matrix[true, predicted]} of {matrix[true].sum()})."
            )
    never = [name for name, column in zip(names, matrix.sum(axis=0), strict=True) if not column]
    absent = [name for name, row in zip(names, matrix.sum(axis=1), strict=True) if not row]
    if never:
        lines.append(f"Never predicted: {', '.join(never)}.")
    if absent:
        lines.append(f"Without an image in this split: {', '.join(absent)} (their scores count as 0).")
    return lines or ["No image is misclassified."]
