"""The sentences about a confusion matrix, for matrices with simple numbers."""

import numpy as np
import pytest

from fer_tf.evaluation.metrics import evaluate
from fer_tf.report.confusions import confusion_analysis, wilson_interval


def result_of(matrix, class_names):
    """The result of `evaluate` for predictions with this confusion matrix."""
    matrix = np.array(matrix)
    labels, predicted = (np.repeat(index.ravel(), matrix.ravel()) for index in np.indices(matrix.shape))
    return evaluate(labels, np.eye(len(matrix))[predicted], class_names)


MATRIX = [
    # sad, disgust, neutral, happy
    [60, 0, 30, 10],
    [2, 4, 1, 3],
    [20, 1, 75, 4],
    [5, 0, 5, 190],
]
NAMES = ("sad", "disgust", "neutral", "happy")


def test_every_sentence_of_an_analysis():
    assert confusion_analysis(
        result_of(MATRIX, NAMES), class_weights="balanced", train_counts=[500, 50, 450, 1000]
    ) == [
        "329 of 410 images are recognised, 81 are not.",
        "The most frequent confusions: sad is taken for neutral (30 of 100, 30.0 %); neutral is taken for sad (20 of "
        "100, 20.0 %); sad is taken for happy (10 of 100, 10.0 %); happy is taken for sad (5 of 200, 2.5 %); happy is "
        "taken for neutral (5 of 200, 2.5 %).",
        "Best recognised: happy (95.0 % of the images); worst: disgust (40.0 %).",
        "Sad against neutral, the pair confused most often: sad is taken for neutral (30 of 100, 30.0 %); neutral is "
        "taken for sad (20 of 100, 20.0 %). Together 50 of the 81 errors (61.7 %).",
        "Disgust, the rarest class, has 50 training images (2.5 %) and occurs 10 times here; 4 of these are "
        "recognised (40.0 %; 95 % interval 16.8 % to 68.7 %; a single image changes the figure by 10.0 points). It is "
        "predicted 5 times, 4 times correctly (80.0 %). It is most often taken for happy (3 of 10, 30.0 %).",
        "Predicted more often than they occur: neutral (111 for 100 images). "
        "Predicted less often than they occur: sad (87 for 100 images), disgust (5 for 10 images).",
        "Class weights (balanced) counted an image of disgust 10.00 times and one of happy 0.50 times. In the matrix "
        "the classes weighted above 1 are predicted 116 times for 110 images, and 71.8 % of these are recognised; the "
        "classes weighted at or below 1 are predicted 294 times for 300 images, and 83.3 % of these are recognised. "
        "To see what the weights changed, compare this run with one without them.",
    ]


def test_weights_in_words():
    result = result_of(MATRIX, NAMES)
    roots = confusion_analysis(result, class_weights="sqrt", train_counts=[500, 50, 450, 1000])[-1]
    assert roots.startswith("Class weights (sqrt) counted an image of disgust 3.16 times and one of happy 0.71 times.")
    assert confusion_analysis(result)[-1] == (
        "The loss was not weighted by class, so every image counts the same in it."
    )
    assert confusion_analysis(result, class_weights="balanced")[-1] == (
        "The loss was weighted by class (balanced); the training counts for the weights are missing."
    )


def test_other_classes_get_the_same_analysis_without_the_emotions():
    points = confusion_analysis(result_of([[8, 2], [1, 9]], ("awake", "tired")))
    assert points == [
        "17 of 20 images are recognised, 3 are not.",
        "The most frequent confusions: awake is taken for tired (2 of 10, 20.0 %); tired is taken for awake (1 of 10, "
        "10.0 %).",
        "Best recognised: tired (90.0 % of the images); worst: awake (80.0 %).",
        "Awake against tired, the pair confused most often: awake is taken for tired (2 of 10, 20.0 %); tired is "
        "taken for awake (1 of 10, 10.0 %). Together 3 of the 3 errors (100.0 %).",
        "Awake, the rarest class, occurs 10 times here; 8 of these are recognised (80.0 %; 95 % interval 49.0 % to "
        "94.3 %; a single image changes the figure by 10.0 points). It is predicted 9 times, 8 times correctly "
        "(88.9 %). It is most often taken for tired (2 of 10, 20.0 %).",
        "Every class is predicted about as often as it occurs (within 10 %).",
        "The loss was not weighted by class, so every image counts the same in it.",
    ]


def test_sad_against_neutral_stands_beside_a_more_frequent_pair_under_any_spelling():
    points = confusion_analysis(result_of([[5, 9, 0], [8, 5, 0], [1, 0, 9]], ("Anger", "Sadness", "neutral")))
    assert points[3].startswith("Anger against Sadness, the pair confused most often: ")
    assert points[4] == "Sadness against neutral: neither is ever taken for the other."


def test_disgust_has_its_words_where_another_class_is_rarer():
    points = confusion_analysis(result_of([[5, 5, 0], [1, 7, 2], [0, 1, 2]], ("happy", "disgust", "fear")))
    assert sum(point.startswith("Fear, the rarest class, occurs 3 times here") for point in points) == 1
    assert sum(point.startswith("Disgust occurs 10 times here") for point in points) == 1


def test_classes_never_predicted_or_absent():
    points = confusion_analysis(
        result_of([[0, 4, 0], [0, 6, 0], [0, 0, 0]], ("sad", "happy", "disgust")), train_counts=[40, 60, 1]
    )
    text = "\n".join(points)
    assert "Sad, the rarest class, has 40 training images (39.6 %) and occurs 4 times here; 0 of these are" in text
    assert "Best recognised: happy (100.0 % of the images); worst: sad (0.0 %)." in points
    assert "It is never predicted. It is most often taken for happy (4 of 4, 100.0 %)." in text
    assert "Disgust has 1 training image (1.0 %) and has no image here, so nothing can be said about it." in text
    assert "Predicted more often than they occur: happy (10 for 6 images)." in text
    assert "Predicted less often than they occur: sad (0 for 4 images)." in text


def test_no_error_leaves_one_sentence():
    assert confusion_analysis(result_of([[3, 0], [0, 4]], ("a", "b"))) == ["7 of 7 images are recognised, 0 are not."]


@pytest.mark.parametrize("successes, trials", [(0, 10), (10, 10), (4, 10), (31, 56)])
def test_wilson_interval_solves_its_equation(successes, trials):
    """At each end p of the interval, the observed share is 1.96 standard errors of p away."""
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    for end in {low, high} - {0.0, 1.0}:
        distance = abs(end - successes / trials) / (end * (1 - end) / trials) ** 0.5
        assert distance == pytest.approx(1.96, abs=1e-4)
