"""Accuracy, calibration and answers by group of people or of pictures, and the gaps between groups."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer_tf.errors import InputError
from fer_tf.evaluation.checks import NUM_RESAMPLES, checked, percentile_interval
from fer_tf.text import interval, percent, points_with_interval, printable, quantity, shown

FEW_IMAGES = 50  # a smaller group gives a warning: its intervals are wide and its gaps mean little
_MAX_GROUPS = 50
_NUM_BINS = 15  # for the calibration error, as everywhere in fer_tf
_NAMES = ("image", "row")


def read_groups(path: str | Path, known: Sequence[str]) -> dict[str, str]:
    """Read which image belongs to which group.

    The caller supplies the groups: FER-2013 says nothing about the people in its images, and fer_tf does not guess.

    Args:
        path: a csv with the columns `image` (a file's path inside the data's folder) or `row` (number of an image in
            the data, from 1), and `group`.
        known: names of the data's images, as `evaluate --predictions` writes them.

    Returns:
        The group of each image that the file names.

    Raises:
        InputError: if the file cannot be read or lacks a column, a row names an unknown image, an image for the second
            time or an empty group, or there are fewer than 2 or more than 50 groups. The message names the row.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a csv in UTF-8 ({error}); expected the columns image,group") from error
    header = [name.strip().lower() for name in rows[0]] if rows else []
    columns = [name for name in _NAMES if name in header]
    if len(columns) != 1 or "group" not in header:
        raise InputError(f"{path}: row 1 has {shown(','.join(header))}; expected the columns image,group or row,group")
    place, group_place = header.index(columns[0]), header.index("group")
    names = set(known)
    groups: dict[str, str] = {}
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        if len(row) != len(header):
            raise InputError(f"{path}: row {number} has {quantity(len(row), 'value')}; expected {len(header)}")
        name, group = row[place].strip(), row[group_place].strip()
        if name not in names:
            raise InputError(
                f"{path}: row {number}: the data has no {columns[0]} {shown(name)}; expected a name as evaluate "
                "--predictions writes it"
            )
        if name in groups:
            raise InputError(f"{path}: row {number}: {columns[0]} {shown(name)} is in an earlier row too; keep one")
        if not group:
            raise InputError(f"{path}: row {number}: the group is empty; name one, or leave the row out")
        groups[name] = group
    num_groups = len(set(groups.values()))
    if not 2 <= num_groups <= _MAX_GROUPS:
        raise InputError(f"{path} names {quantity(num_groups, 'group')}: expected 2 to {_MAX_GROUPS}")
    return groups


def measure_groups(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: Sequence[str | None],
    class_names: Sequence[str],
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure a model by group.

    Args:
        labels: int (n,), in [0, C).
        probabilities: float (n, C).
        groups: n names; None for an image without a group, which is left out.
        class_names: C names.
        seed: seed of the bootstrap.

    Returns:
        `groups`: for each group, the largest first, `num_images`, `accuracy`, `macro_f1` (over the group's classes),
        `ece`, and `selection_rates`, the share of the group's images that get each class; each with its 95 % interval
        (bootstrap over the group's images). `gaps`: for each pair of groups, for accuracy, macro-F1 and each class's
        selection rate, the `difference` of the first and the second, with `difference_interval`. `few`: groups of fewer
        than 50 images. `num_without`: number of images without a group.

    Raises:
        InputError: if fewer than two groups have images.
    """
    labels, probabilities = checked(labels, probabilities, class_names)
    names = np.array([group or "" for group in groups], object)
    sizes = {group: int((names == group).sum()) for group in dict.fromkeys(names) if group}
    if len(sizes) < 2:
        raise InputError(f"the images are of {quantity(len(sizes), 'group')}: expected 2 or more among those scored")
    order = sorted(sizes, key=lambda group: (-sizes[group], group))
    drawn = {
        group: _resampled(labels[names == group], probabilities[names == group], np.random.default_rng((seed, place)))
        for place, group in enumerate(order)
    }
    found: dict[str, Any] = {}
    for group in order:
        values = drawn[group]
        found[group] = {"num_images": sizes[group]}
        for key in ("accuracy", "macro_f1", "ece"):
            found[group] |= {key: float(values[key][0]), f"{key}_interval": percentile_interval(values[key][1:])}
        rates = values["selection_rates"]
        found[group]["selection_rates"] = {name: float(rates[0, c]) for c, name in enumerate(class_names)}
        found[group]["selection_rates_interval"] = {
            name: percentile_interval(rates[1:, c]) for c, name in enumerate(class_names)
        }
    gaps = []
    for one, other in itertools.combinations(order, 2):
        measured = {key: drawn[one][key] - drawn[other][key] for key in ("accuracy", "macro_f1")}
        rates = drawn[one]["selection_rates"] - drawn[other]["selection_rates"]
        measured |= {f"selection rate of {name}": rates[:, c] for c, name in enumerate(class_names)}
        gaps += [
            {
                "of": key,
                "groups": [one, other],
                "difference": float(values[0]),
                "difference_interval": percentile_interval(values[1:]),
            }
            for key, values in measured.items()
        ]
    few = [group for group in order if sizes[group] < FEW_IMAGES]
    return {"groups": found, "gaps": gaps, "few": few, "num_without": int((names == "").sum())}


def _resampled(labels: np.ndarray, probabilities: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Figures of one group: row 0 for its own images, each other row for images drawn from them with replacement."""
    size, num_classes = probabilities.shape
    predicted, scores = probabilities.argmax(axis=1), probabilities.max(axis=1)
    cells = labels * num_classes + predicted
    bins = np.minimum((scores * _NUM_BINS).astype(int), _NUM_BINS - 1)
    gaps = (predicted == labels) - scores
    matrices = np.empty((NUM_RESAMPLES + 1, num_classes, num_classes))
    ece = np.empty(NUM_RESAMPLES + 1)
    rows = np.arange(size)
    for number in range(NUM_RESAMPLES + 1):
        matrices[number] = np.bincount(cells[rows], minlength=num_classes**2).reshape(num_classes, num_classes)
        ece[number] = np.abs(np.bincount(bins[rows], gaps[rows], minlength=_NUM_BINS)).sum() / size
        rows[:] = rng.integers(0, size, size)
    hits = np.diagonal(matrices, axis1=1, axis2=2)
    of_label, of_answer = matrices.sum(axis=2), matrices.sum(axis=1)
    f1 = np.where(of_label > 0, 2 * hits / np.maximum(of_label + of_answer, 1), np.nan)
    return {
        "accuracy": hits.sum(axis=1) / size,
        "macro_f1": np.nanmean(f1, axis=1),
        "ece": ece,
        "selection_rates": of_answer / size,
    }


def format_groups(result: Mapping[str, Any]) -> str:
    """Format the result of `measure_groups`: a row for each group, the gaps whose interval excludes 0, warnings."""
    width = max(len("group"), *(len(printable(group)) for group in result["groups"]))
    lines = [
        "By group (95 % intervals, bootstrap):",
        "",
        f"{'group':<{width}}  images  accuracy          macro-F1          ECE",
    ]
    for group, row in result["groups"].items():
        low, high = (100 * bound for bound in row["accuracy_interval"])
        accuracy = f"{percent(row['accuracy']):>6} ({low:.1f} to {high:.1f})"
        f1 = f"{row['macro_f1']:.3f} ({interval(row['macro_f1_interval'])})"
        lines.append(f"{printable(group):<{width}}  {row['num_images']:>6,}  {accuracy}  {f1}  {row['ece']:.3f}")
    lines += ["", "Share of each answer, by group:"]
    for group, row in result["groups"].items():
        rates = [
            f"{printable(name)} {percent(rate)} ({100 * low:.1f} to {100 * high:.1f})"
            for (name, rate), (low, high) in zip(
                row["selection_rates"].items(), row["selection_rates_interval"].values(), strict=True
            )
        ]
        lines.append(f"  {printable(group)}: {', '.join(rates)}")
    sure = [gap for gap in result["gaps"] if gap["difference_interval"][0] > 0 or gap["difference_interval"][1] < 0]
    lines += ["", "Gaps whose interval excludes 0, in points:" if sure else "No gap has an interval that excludes 0."]
    for gap in sure:
        one, other = map(printable, gap["groups"])
        lines.append(f"  {gap['of']}, {one} less {other}: {points_with_interval(gap)}")
    if len(result["gaps"]) > 20:
        lines.append(f"({len(result['gaps'])} gaps were tested: about one in twenty excludes 0 by chance)")
    for group in result["few"]:
        count = result["groups"][group]["num_images"]
        lines.append(
            f"Warning: {printable(group)} has {quantity(count, 'image')}: under {FEW_IMAGES}, too few to judge."
        )
    if result["num_without"]:
        lines.append(f"{quantity(result['num_without'], 'image')} without a group left out.")
    return "\n".join([*lines, ""])
