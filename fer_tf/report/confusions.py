"""Describes a confusion matrix in sentences, for any classes; it says more about FER-2013's classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fer_tf.report.facts import class_names_of
from fer_tf.task import canonical_emotion
from fer_tf.text import capital, percent, quantity

CONFUSIONS_NAMED = 5
OFTEN, SELDOM = 1.1, 0.9  # predicted/actual ratios above or below which a class is mentioned


def confusion_analysis(
    result: Mapping[str, Any], *, class_weights: str = "none", train_counts: Sequence[int] | None = None
) -> list[str]:
    """Describe a confusion matrix.

    Args:
        result: the result of `evaluation.evaluate`.
        class_weights: class weights of the loss in training: balanced, sqrt or none.
        train_counts: training images of each class.

    Returns:
        Paragraphs of plain text on: the number of right and wrong answers; the most frequent confusions; the best and
        the worst class; the pair of classes confused most often; sad against neutral; the rarest class, and disgust;
        classes predicted too often or too seldom; the class weights. Paragraphs that do not apply are left out.
    """
    matrix, names = np.array(result["confusion_matrix"]), class_names_of(result)
    total, right = int(matrix.sum()), int(np.trace(matrix))
    texts = [f"{right:,} of {total:,} images are recognised, {total - right:,} are not."]
    if right == total:
        return texts
    wrong = matrix - np.diag(np.diagonal(matrix))
    most = [divmod(int(cell), len(names)) for cell in np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS_NAMED]]
    confusions = [taken_for(matrix, names, *cell, subject=True) for cell in most if wrong[cell]]
    texts.append(f"The most frequent confusions: {'; '.join(confusions)}.")
    present = [label for label in range(len(names)) if matrix[label].sum()]
    recalls = {label: matrix[label, label] / matrix[label].sum() for label in present}
    highest, lowest = max(recalls.values()), min(recalls.values())
    if highest > lowest:
        best, worst = (
            ", ".join(names[label] for label in present if recalls[label] == recall) for recall in (highest, lowest)
        )
        texts.append(f"Best recognised: {best} ({percent(highest)} of the images); worst: {worst} ({percent(lowest)}).")
    emotions = {canonical_emotion(name): label for label, name in enumerate(names)}
    pairs = np.triu(wrong + wrong.T)
    exchanged = divmod(int(pairs.argmax()), len(names))
    texts.append(_pair_in_words(matrix, names, exchanged, most=True))
    if {"sad", "neutral"} <= emotions.keys() and {emotions["sad"], emotions["neutral"]} != set(exchanged):
        texts.append(_pair_in_words(matrix, names, (emotions["sad"], emotions["neutral"]), most=False))
    rarest = min(present, key=lambda label: (train_counts or matrix.sum(axis=1))[label])
    for label in dict.fromkeys([rarest, emotions.get("disgust", rarest)]):
        texts.append(_class_in_words(matrix, names, label, train_counts, rarest=label == rarest))
    return [
        *texts,
        _frequencies_in_words(matrix, names),
        _weights_in_words(matrix, names, class_weights, train_counts),
    ]


def _pair_in_words(matrix: np.ndarray, names: Sequence[str], pair: tuple[int, int], *, most: bool) -> str:
    a, b = pair
    both, wrong = int(matrix[a, b] + matrix[b, a]), int(matrix.sum() - np.trace(matrix))
    text = f"{capital(names[a])} against {names[b]}{', the pair confused most often' if most else ''}"
    if not both:
        return f"{text}: neither is ever taken for the other."
    sides = [taken_for(matrix, names, true, taken, subject=True) for true, taken in ((a, b), (b, a))]
    return f"{text}: {'; '.join(sides)}. Together {both:,} of the {wrong:,} errors ({percent(both / wrong)})."


def _class_in_words(
    matrix: np.ndarray, names: Sequence[str], label: int, train_counts: Sequence[int] | None, *, rarest: bool
) -> str:
    images, found, predicted = int(matrix[label].sum()), int(matrix[label, label]), int(matrix[:, label].sum())
    text = capital(names[label]) + (", the rarest class," if rarest else "")
    if train_counts:
        share = percent(train_counts[label] / sum(train_counts))
        text += f" has {quantity(train_counts[label], 'training image')} ({share}) and"
    if not images:
        return f"{text} has no image here, so nothing can be said about it."
    low, high = map(percent, wilson_interval(found, images))
    text += (
        f" occurs {quantity(images, 'time')} here; {found:,} of these are recognised ({percent(found / images)}; 95 % "
        f"interval {low} to {high}; a single image changes the figure by {100 / images:.1f} points). "
    )
    if predicted:
        text += f"It is predicted {quantity(predicted, 'time')}, {quantity(found, 'time')} correctly"
        text += f" ({percent(found / predicted)})."
    else:
        text += "It is never predicted."
    others = wrong_in_order(matrix, label)
    return text + (f" It is most often taken for {taken_for(matrix, names, label, others[0])}." if others else "")


def _frequencies_in_words(matrix: np.ndarray, names: Sequence[str]) -> str:
    """Name the classes that are predicted more often or less often than they occur."""
    images, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    texts = []
    for word, chosen in (("more", predicted > OFTEN * images), ("less", predicted < SELDOM * images)):
        labels = np.flatnonzero(chosen).tolist()
        classes = [f"{names[label]} ({predicted[label]:,} for {images[label]:,} images)" for label in labels]
        if classes:
            texts.append(f"Predicted {word} often than they occur: {', '.join(classes)}.")
    return " ".join(texts) or "Every class is predicted about as often as it occurs (within 10 %)."


def _weights_in_words(
    matrix: np.ndarray, names: Sequence[str], class_weights: str, train_counts: Sequence[int] | None
) -> str:
    """Give the class weights, and compare the classes weighted above 1 with the others."""
    if class_weights == "none":
        return "The loss was not weighted by class, so every image counts the same in it."
    if not train_counts or not all(train_counts):
        return f"The loss was weighted by class ({class_weights}); the training counts for the weights are missing."
    weights = sum(train_counts) / (len(names) * np.array(train_counts))
    if class_weights == "sqrt":
        weights = np.sqrt(weights)
    high, low = int(weights.argmax()), int(weights.argmin())
    text = (
        f"Class weights ({class_weights}) counted an image of {names[high]} {weights[high]:.2f} times and one of "
        f"{names[low]} {weights[low]:.2f} times."
    )
    groups = []
    for chosen, name in ((weights > 1, "above"), (weights <= 1, "at or below")):
        images = matrix[chosen].sum()
        if not images:
            return text
        recognised = np.trace(matrix[np.ix_(chosen, chosen)])
        groups.append(
            f"the classes weighted {name} 1 are predicted {matrix[:, chosen].sum():,} times for {images:,} images, and "
            f"{percent(recognised / images)} of these are recognised"
        )
    return (
        f"{text} In the matrix {groups[0]}; {groups[1]}. To see what the weights changed, compare this run with one "
        "without them."
    )


def wrong_in_order(matrix: np.ndarray, true: int) -> list[int]:
    """Return the classes that a class is taken for, the most frequent first."""
    order = np.argsort(-matrix[true], kind="stable").tolist()
    return [taken for taken in order if taken != true and matrix[true, taken]]


def taken_for(matrix: np.ndarray, names: Sequence[str], true: int, taken: int, *, subject: bool = False) -> str:
    """Name a confusion with its count and share; with `subject`, return a sentence that also names the true class."""
    images = int(matrix[true].sum())
    share = f", {percent(matrix[true, taken] / images)}" if images else ""
    count = f"({matrix[true, taken]:,} of {images:,}{share})"
    return f"{names[true]} is taken for {names[taken]} {count}" if subject else f"{names[taken]} {count}"


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927, J. Am. Stat. Assoc. 22), which is also valid for few trials."""
    from scipy.stats import binomtest

    found = binomtest(successes, trials).proportion_ci(method="wilson")
    return float(found.low), float(found.high)
