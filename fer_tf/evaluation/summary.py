"""Figures as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fer_tf.evaluation.calibration import calibration_meaning, calibration_verdict, place_in_band
from fer_tf.evaluation.conformal import sets_in_words
from fer_tf.evaluation.selective import selective_in_words
from fer_tf.text import interval, number, percent

CONFUSIONS_NAMED = 3


def format_report(result: dict[str, Any]) -> str:
    """Format the result of `evaluate`: figures with intervals, a table of classes, the confusion matrix, sentences.

    Args:
        result: as returned by `evaluate`.
    """
    names = [row["name"] for row in result["per_class"]]
    lines = [format_summary(result), "", _class_table(result), ""]
    lines += ["Confusion matrix, images (rows: true class, columns: predicted class)", ""]
    lines += [_matrix(result["confusion_matrix"], names), ""]
    lines += _in_words(result, names)
    if "without_twin" in result:
        duplicates, rest = result["num_with_twin"], result["without_twin"]
        lines += ["", f"Images with an exact duplicate in the training data: {duplicates} of {result['num_images']}."]
        if rest is None:
            lines.append("Every image has a duplicate.")
        elif duplicates:
            lines += [f"Without them ({rest['num_images']} images):", "", format_summary(rest), "", _class_table(rest)]
    return "\n".join(lines) + "\n"


def format_summary(result: dict[str, Any]) -> str:
    """Format the figures over all classes, one a line.

    Args:
        result: as returned by `evaluate`, or its `without_twin`.
    """
    calibration = result["calibration"]

    lines = [
        f"accuracy           {result['accuracy']:.4f}  95 % interval {interval(result['accuracy_interval'], '.4f')}",
        f"macro-F1           {result['macro_f1']:.4f}  95 % interval {interval(result['macro_f1_interval'], '.4f')}",
        f"balanced accuracy  {result['balanced_accuracy']:.4f}",
        f"top-2 accuracy     {result['top2_accuracy']:.4f}",
        *([f"macro ROC-AUC      {number(result['roc_auc_macro'], '.4f')}"] if _has_roc_auc(result) else []),
        f"loss               {result['loss']:.4f}  cross-entropy",
        f"Brier score        {calibration['brier']:.4f}",
        f"calibration error  {calibration['ece']:.4f}  {calibration['num_bins']} bins;"
        f" debiased root mean square {calibration['rms_error_debiased']:.4f}",
    ]
    if "calibration_before" in result:
        before = result["calibration_before"]
        lines.append(
            f"without temperature scaling (T = {result['temperature']:.3f}): calibration error {before['ece']:.4f},"
            f" loss {before['nll']:.4f}"
        )
    if "selective" in result:
        lines.append(selective_in_words(result["selective"]))
        lines.append(
            f"Mean accuracy over all shares of answered images, the highest scores first: "
            f"{result['selective']['area']:.4f}."
        )
    lines += [sets_in_words(coverage, found) for coverage, found in result.get("prediction_sets", {}).items()]
    return "\n".join(lines)


def format_comparison(comparison: dict[str, Any], name_a: str, name_b: str) -> str:
    """Format the result of `compare`.

    Args:
        comparison: as returned by `compare`.
        name_a: name of the first model.
        name_b: name of the second model.
    """
    verdict = "larger than" if comparison["p_value"] < 0.05 else "within what"
    test = "McNemar's exact test"
    width = max(len(name_a), len(name_b), len(test))
    return "\n".join(
        [
            f"Compared on the same {comparison['num_images']} images",
            "",
            f"{name_a:<{width}}  accuracy {comparison['accuracy_a']:.4f}, alone right on {comparison['only_a']} images",
            f"{name_b:<{width}}  accuracy {comparison['accuracy_b']:.4f}, alone right on {comparison['only_b']} images",
            f"{'difference':<{width}}  {comparison['difference']:+.4f}, 95 % interval "
            f"{interval(comparison['difference_interval'], '+.4f')} (paired bootstrap)",
            f"{'same answer':<{width}}  {percent(comparison['agreement'], 2)} of the images",
            f"{test:<{width}}  p = {comparison['p_value']:.3g}",
            "",
            f"The difference is {verdict} chance explains (5 % level).",
            "",
        ]
    )


def format_calibration(check: dict[str, Any]) -> str:
    """Format the result of `calibration_check`.

    Args:
        check: as returned by `calibration_check`.
    """
    lines = ["Temperature fitted on one half of the split, measured on the other"]
    for place, half in enumerate(check["halves"], start=1):
        lines += [
            f"Half {place} ({half['num_images']} images), temperature {half['temperature']:.3f}:",
            f"  calibration error        {half['ece_before']:.4f} -> {half['ece_after']:.4f};"
            f" a perfectly calibrated model: {interval(half['band'], '.4f')} ({place_in_band(half)})",
            f"  negative log-likelihood  {half['nll_before']:.4f} -> {half['nll_after']:.4f}",
        ]
    return "\n".join([*lines, calibration_verdict(check), calibration_meaning(check)]) + "\n"


def _has_roc_auc(result: dict[str, Any]) -> bool:
    """Return True if the figures have ROC-AUC, which needs scikit-learn."""
    return any(row["roc_auc"] is not None for row in result["per_class"])


def _class_table(result: dict[str, Any]) -> str:
    width = max(len(row["name"]) for row in result["per_class"])
    has_roc_auc = _has_roc_auc(result)
    lines = [f"{'':<{width}}  precision  recall      F1{'  ROC-AUC' if has_roc_auc else ''}  support"]
    for row in result["per_class"]:
        roc_auc = f"  {number(row['roc_auc'], '.3f'):>7}" if has_roc_auc else ""
        lines.append(
            f"{row['name']:<{width}}  {row['precision']:9.3f}  {row['recall']:6.3f}  {row['f1']:6.3f}{roc_auc}"
            f"  {row['support']:7d}"
        )
    return "\n".join(lines)


def _matrix(matrix: Sequence[Sequence[int]], names: list[str]) -> str:
    cells = [[str(value) for value in row] for row in matrix]
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
                f"{names[true]} is taken for {names[predicted]} in {percent(shares[true, predicted])} of its images"
                f" ({matrix[true, predicted]} of {matrix[true].sum()})."
            )
    never = [name for name, column in zip(names, matrix.sum(axis=0), strict=True) if not column]
    missing = result.get("missing_classes", [])
    absent = [name for name, row in zip(names, matrix.sum(axis=1), strict=True) if not row and name not in missing]
    if never:
        lines.append(f"Never predicted: {', '.join(never)}.")
    if absent:
        lines.append(f"No image in this split: {', '.join(absent)} (their scores count as 0).")
    if missing:
        lines.append(f"No image in this data: {', '.join(missing)} (left out of the averages).")
    return lines or ["No image is misclassified."]
