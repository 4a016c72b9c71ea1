"""What a confusion matrix says, in sentences: for any classes, with a word more for those of FER-2013."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fer_tf.task import canonical_emotion
from fer_tf.text import capital, percent, quantity

CONFUSIONS_NAMED = 5
OFTEN, SELDOM = 1.1, 0.9  # times that a class is predicted for each image of it, from where on it is worth a word


def confusion_analysis(
    result: Mapping[str, Any], *, class_weights: str = "none", train_counts: Sequence[int] | None = None
) -> list[str]:
    """What the confusion matrix says, one sentence or a few to each point.

    Args:
        result: as of `evaluation.evaluate`.
        class_weights: the loss's weighting in training: balanced, sqrt or none.
        train_counts: images of each class in training.

    Returns:
        Plain text for: right and wrong in all, the most frequent confusions, the pair most often exchanged, sad against
        neutral, the rarest class (and disgust), which classes are predicted too often or too seldom and what the class
        weights have to do with it. Points that the classes give no reason for are left out.
    """
    matrix, names = np.array(result["confusion_matrix"]), class_names_of(result)
    total, right = int(matrix.sum()), int(np.trace(matrix))
    points = [f"{right:,} of {total:,} images are recognised ({percent(right / total)}), {total - right:,} are not."]
    wrong = [
        (int(matrix[true, taken]), true, taken)
        for true in range(len(names))
        for taken in range(len(names))
        if true != taken and matrix[true, taken]
    ]
    if not wrong:
        return [points[0]]
    wrong.sort(key=lambda found: (-found[0], found[1:]))
    points.append(
        "The most frequent confusions: "
        + "; ".join(taken_for(matrix, names, true, taken, subject=True) for _, true, taken in wrong[:CONFUSIONS_NAMED])
        + "."
    )
    present = [label for label in range(len(names)) if matrix[label].sum()]
    recalls = {label: matrix[label, label] / matrix[label].sum() for label in present}
    if len(present) > 1:
        shares = sorted(set(recalls.values()))
        best, worst = (
            (", ".join(names[label] for label in present if recalls[label] == share), percent(share))
            for share in (shares[-1], shares[0])
        )
        if len(shares) > 1:
            points.append(f"Best recognised: {best[0]} ({best[1]} of the images); worst: {worst[0]} ({worst[1]}).")
    emotions = {canonical_emotion(name): label for label, name in enumerate(names)}
    exchanged = max(
        ((a, b) for a in range(len(names)) for b in range(a + 1, len(names))),
        key=lambda pair: matrix[pair] + matrix[pair[::-1]],
    )
    pairs = [exchanged]
    if {"sad", "neutral"} <= emotions.keys():
        pair = (emotions["sad"], emotions["neutral"])
        pairs = [pair] if set(pair) == set(exchanged) else [exchanged, pair]
    for pair in pairs:
        points.append(_pair_in_words(matrix, names, pair, most=pair == exchanged or pair[::-1] == exchanged))
    rarest = min(present, key=lambda label: (train_counts or matrix.sum(axis=1))[label])
    for label in dict.fromkeys([rarest, emotions.get("disgust", rarest)]):
        points.append(_class_in_words(matrix, names, label, train_counts, rarest=label == rarest))
    points.append(_calls_in_words(matrix, names))
    points.append(_weights_in_words(matrix, names, class_weights, train_counts))
    return points


def _pair_in_words(matrix: np.ndarray, names: Sequence[str], pair: tuple[int, int], *, most: bool) -> str:
    a, b = pair
    both, wrong = int(matrix[a, b] + matrix[b, a]), int(matrix.sum() - np.trace(matrix))
    text = f"{capital(names[a])} against {names[b]}"
    if most:
        text += ", the pair most often exchanged"
    if not both:
        return f"{text}: neither is ever taken for the other."
    sides = [taken_for(matrix, names, true, taken, subject=True) for true, taken in ((a, b), (b, a))]
    return f"{text}: {'; '.join(sides)}. Together {both:,} of the {wrong:,} errors ({percent(both / wrong)})."


def _class_in_words(
    matrix: np.ndarray, names: Sequence[str], label: int, train_counts: Sequence[int] | None, *, rarest: bool
) -> str:
    images, found, predicted = int(matrix[label].sum()), int(matrix[label, label]), int(matrix[:, label].sum())
    text = capital(names[label])
    if rarest:
        text += ", the rarest class,"
    if train_counts:
        text += f" has {train_counts[label]:,} training images ({percent(train_counts[label] / sum(train_counts))}) and"
    if not images:
        return f"{text} has no image here, so nothing can be said about it."
    low, high = wilson_interval(found, images)
    text += (
        f" stands here {quantity(images, 'time')}, of which {found:,} are recognised ({percent(found / images)}; 95 % "
        f"interval {percent(low)} to {percent(high)}: one image more or less moves the figure by {100 / images:.1f} "
        "points). "
    )
    if predicted:
        share = percent(found / predicted)
        text += f"It is predicted {quantity(predicted, 'time')} and right {quantity(found, 'time')} of these ({share})."
    else:
        text += "It is never predicted."
    others = wrong_in_order(matrix, label)
    if others:
        text += f" It is most often taken for {taken_for(matrix, names, label, others[0])}."
    return text


def _calls_in_words(matrix: np.ndarray, names: Sequence[str]) -> str:
    images, predicted = matrix.sum(axis=1), matrix.sum(axis=0)

    def listed(labels: list[int]) -> str:
        return ", ".join(f"{names[label]} ({predicted[label]:,} for {images[label]:,} images)" for label in labels)

    often = [label for label in range(len(names)) if predicted[label] > OFTEN * images[label]]
    seldom = [label for label in range(len(names)) if predicted[label] < SELDOM * images[label]]
    if not often and not seldom:
        return "Every class is predicted about as often as it occurs (within 10 %)."
    parts = []
    if often:
        parts.append(f"Predicted more often than they occur: {listed(often)}.")
    if seldom:
        parts.append(f"Predicted less often than they occur: {listed(seldom)}.")
    return " ".join(parts)


def _weights_in_words(
    matrix: np.ndarray, names: Sequence[str], class_weights: str, train_counts: Sequence[int] | None
) -> str:
    """What the class weights were, and how the classes that they raised fare beside those that they lowered."""
    if class_weights == "none":
        return "The loss was not weighted by class, so that rare classes count in it as seldom as they occur."
    if not train_counts or not all(train_counts):
        return (
            f"The loss was weighted by class ({class_weights}); the training counts are not at hand to say by how much."
        )
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
        predicted = matrix[:, chosen].sum()
        recognised = np.trace(matrix[np.ix_(chosen, chosen)])
        groups.append(
            f"the classes weighted {name} 1 are predicted {predicted:,} times for {images:,} images, "
            f"and {percent(recognised / images)} of these are recognised"
        )
    return (
        f"{text} In the matrix {groups[0]}; {groups[1]}. What the weights changed needs a second run without them "
        "beside this one."
    )


def class_names_of(result: Mapping[str, Any]) -> list[str]:
    return [row["name"] for row in result["per_class"]]


def wrong_in_order(matrix: np.ndarray, true: int) -> list[int]:
    """The classes that a class is taken for, most often first."""
    order = np.argsort(-matrix[true], kind="stable").tolist()
    return [taken for taken in order if taken != true and matrix[true, taken]]


def taken_for(matrix: np.ndarray, names: Sequence[str], true: int, taken: int, *, subject: bool = False) -> str:
    images = int(matrix[true].sum())
    share = f", {percent(matrix[true, taken] / images)}" if images else ""
    count = f"({matrix[true, taken]:,} of {images:,}{share})"
    return f"{names[true]} is taken for {names[taken]} {count}" if subject else f"{names[taken]} {count}"


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927, J. Am. Stat. Assoc. 22); it holds for few trials too.

    Args:
        successes: 0 to `trials`.
        trials: at least 1.

    Returns:
        Two shares in [0, 1].
    """
    z = 1.959964
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * (share * (1 - share) / trials + z * z / (4 * trials * trials)) ** 0.5
    # The share itself lies inside; at its ends rounding may say otherwise.
    return max(min(centre - half, share), 0.0), min(max(centre + half, share), 1.0)
