"""Metrics against scikit-learn and hand-worked cases; intervals, calibration, comparison; the exact text."""

import json

import numpy as np
import pytest
from sklearn import metrics

from fer_tf import evaluation
from fer_tf.errors import InputError
from fer_tf.task import split_title

NAMES = ("angry", "happy", "sad")


def make_case(num_images=400, num_classes=7, *, seed=0, sharpness=1.0):
    """Labels drawn from random probabilities: perfectly calibrated at sharpness 1, overconfident above it."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (num_images, num_classes))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (rng.random(num_images)[:, None] > true.cumsum(axis=1)).sum(axis=1)
    shown = np.exp(sharpness * logits)
    return np.minimum(labels, num_classes - 1), (shown / shown.sum(axis=1, keepdims=True)).astype(np.float32)


def names(num_classes):
    return [f"class {c}" for c in range(num_classes)]


@pytest.mark.parametrize("num_classes", [2, 7, 12])
def test_every_metric_equals_scikit_learn(num_classes):
    labels, probabilities = make_case(num_classes=num_classes)
    predicted = probabilities.argmax(axis=1)
    classes = range(num_classes)
    result = evaluation.evaluate(labels, probabilities, names(num_classes))

    precision, recall, f1, support = metrics.precision_recall_fscore_support(labels, predicted, labels=classes)
    assert [row["precision"] for row in result["per_class"]] == pytest.approx(precision)
    assert [row["recall"] for row in result["per_class"]] == pytest.approx(recall)
    assert [row["f1"] for row in result["per_class"]] == pytest.approx(f1)
    assert [row["support"] for row in result["per_class"]] == list(support)
    assert result["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert result["macro_f1"] == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    assert result["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    assert result["confusion_matrix"] == metrics.confusion_matrix(labels, predicted, labels=classes).tolist()
    shares = metrics.confusion_matrix(labels, predicted, labels=classes, normalize="true")
    np.testing.assert_allclose(result["confusion_shares"], shares)
    exact = probabilities.astype(float) / probabilities.astype(float).sum(axis=1, keepdims=True)
    assert result["loss"] == pytest.approx(metrics.log_loss(labels, exact, labels=classes))
    assert result["calibration"]["nll"] == pytest.approx(metrics.log_loss(labels, exact, labels=classes))
    brier = metrics.brier_score_loss(labels, exact, labels=list(classes), scale_by_half=False)
    assert result["calibration"]["brier"] == pytest.approx(brier)
    if num_classes > 2:
        assert result["top2_accuracy"] == pytest.approx(metrics.top_k_accuracy_score(labels, exact, k=2))
        areas = metrics.roc_auc_score(labels, exact, multi_class="ovr", average=None)
        assert [row["roc_auc"] for row in result["per_class"]] == pytest.approx(areas)
        assert result["roc_auc_macro"] == pytest.approx(areas.mean())
    else:
        assert result["top2_accuracy"] == 1.0


def test_loss_is_that_of_model_evaluate():
    """Also for a model that is sometimes certain and wrong: TensorFlow computes the loss from the logits, unclipped."""
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("other backends clip")
    logits = np.random.default_rng(0).normal(0, 8, (300, 7)).astype(np.float32)
    labels = np.arange(300) % 7
    inputs = keras.Input((7,))
    model = keras.Model(inputs, keras.layers.Softmax()(inputs))
    model.compile(loss="categorical_crossentropy", metrics=["accuracy"])
    loss, accuracy = model.evaluate(logits, np.eye(7)[labels], verbose=0)
    probabilities = model.predict(logits, verbose=0)
    assert np.mean(probabilities[np.arange(300), labels] < 1e-7) > 0.1  # clipping would change these
    result = evaluation.evaluate(labels, probabilities, names(7))
    assert result["loss"] == pytest.approx(loss, rel=1e-5)
    assert result["accuracy"] == pytest.approx(accuracy)


def test_hand_worked_case():
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.1, 0.7, 0.2], [0.05, 0.05, 0.9]])
    result = evaluation.evaluate(labels, probabilities, NAMES)
    assert result["confusion_matrix"] == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]
    assert result["confusion_shares"] == [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 0.0]]
    assert result["accuracy"] == 0.5
    assert result["top2_accuracy"] == 0.75  # the last image ties for second place; the lower index wins
    assert result["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert result["balanced_accuracy"] == 0.5  # over the two classes in the split
    assert result["per_class"][2]["roc_auc"] is None and result["roc_auc_macro"] is None
    assert result["loss"] == pytest.approx(-np.log([0.8, 0.3, 0.7, 0.05]).mean())
    # One image in each of four bins: |1 - 0.8|, |0 - 0.6|, |1 - 0.7|, |0 - 0.9|.
    assert result["calibration"]["ece"] == pytest.approx((0.2 + 0.6 + 0.3 + 0.9) / 4)
    assert result["calibration"]["rms_error_debiased"] == 0.0  # a bin of one image says nothing
    assert sum(b["count"] for b in result["calibration"]["bins"]) == 4


def test_debiased_calibration_error_by_hand():
    """Six of ten images at 0.75 are right: 0.15^2 - 0.6 x 0.4 / 9 is below 0. Forty of a hundred: far above it."""
    probabilities = np.tile([0.75, 0.25], (10, 1))
    few = evaluation.calibration_metrics(np.array([0] * 6 + [1] * 4), probabilities)
    assert few["ece"] == pytest.approx(0.15)
    assert few["rms_error_debiased"] == 0.0
    many = evaluation.calibration_metrics(np.array([0] * 40 + [1] * 60), np.tile([0.75, 0.25], (100, 1)))
    assert many["rms_error_debiased"] == pytest.approx(np.sqrt(0.35**2 - 0.4 * 0.6 / 99))


def test_result_survives_json():
    labels, probabilities = make_case()
    result = evaluation.evaluate(labels, probabilities, names(7), has_duplicate=labels == 3)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_part_without_duplicates_is_measured_as_if_alone():
    labels, probabilities = make_case()
    duplicate = np.arange(len(labels)) % 3 == 0
    result = evaluation.evaluate(labels, probabilities, names(7), has_duplicate=duplicate)
    assert result["num_with_twin"] == duplicate.sum()
    assert result["without_twin"] == evaluation.evaluate(labels[~duplicate], probabilities[~duplicate], names(7))
    everything = evaluation.evaluate(labels, probabilities, names(7), has_duplicate=np.ones(len(labels), bool))
    assert everything["without_twin"] is None
    with pytest.raises(InputError, match="one per image"):
        evaluation.evaluate(labels, probabilities, names(7), has_duplicate=duplicate[1:])


def test_bootstrap_equals_the_one_over_images():
    labels, probabilities = make_case(300)
    predicted = probabilities.argmax(axis=1)
    result = evaluation.evaluate(labels, probabilities, names(7), seed=1)
    rng = np.random.default_rng(2)
    drawn = [rng.integers(0, 300, 300) for _ in range(400)]
    accuracy = np.quantile([np.mean(labels[i] == predicted[i]) for i in drawn], (0.025, 0.975))
    f1 = [metrics.f1_score(labels[i], predicted[i], average="macro", labels=range(7), zero_division=0) for i in drawn]
    np.testing.assert_allclose(result["accuracy_interval"], accuracy, atol=0.015)
    np.testing.assert_allclose(result["macro_f1_interval"], np.quantile(f1, (0.025, 0.975)), atol=0.015)


def test_intervals_follow_the_seed():
    labels, probabilities = make_case()
    first, again, other = (evaluation.evaluate(labels, probabilities, names(7), seed=seed) for seed in (3, 3, 4))
    assert first["macro_f1_interval"] == again["macro_f1_interval"] != other["macro_f1_interval"]


def test_interval_width_on_a_split_of_fer2013s_size():
    """Noise on 3,589 images at 65 % is +/- 1.6 points."""
    labels = np.arange(3589) % 2
    right = np.arange(3589) < 0.65 * 3589
    probabilities = np.eye(2)[np.where(right, labels, 1 - labels)]
    low, high = evaluation.evaluate(labels, probabilities, ("a", "b"))["accuracy_interval"]
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(0.65 * 0.35 / 3589), rel=0.1)


class TestCalibration:
    @pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.0])
    def test_temperature_is_recovered(self, sharpness):
        labels, probabilities = make_case(5000, sharpness=sharpness)
        assert evaluation.fit_temperature(labels, probabilities) == pytest.approx(sharpness, rel=0.06)

    def test_temperature_minimises_the_likelihood(self):
        labels, probabilities = make_case(500, sharpness=3)
        best = evaluation.fit_temperature(labels, probabilities)

        def nll(temperature):
            scaled = evaluation.apply_temperature(probabilities, temperature)
            return evaluation.calibration_metrics(labels, scaled)["nll"]

        assert nll(best) < min(nll(0.98 * best), nll(1.02 * best), nll(1))

    def test_apply_temperature_is_softmax_of_divided_logits(self):
        logits = np.array([[2.0, 0.0, -1.0]])
        probabilities = np.exp(logits) / np.exp(logits).sum()
        expected = np.exp(logits / 2.5) / np.exp(logits / 2.5).sum()
        np.testing.assert_allclose(evaluation.apply_temperature(probabilities, 2.5), expected)
        np.testing.assert_allclose(evaluation.apply_temperature(probabilities, 1.0), probabilities)

    def test_a_folded_temperature_is_undone(self):
        labels, probabilities = make_case(sharpness=2)
        shown = evaluation.apply_temperature(probabilities, 1.7)
        result = evaluation.evaluate(labels, shown, names(7), temperature=1.7)
        before = evaluation.calibration_metrics(labels, probabilities)
        assert result["calibration_before"]["ece"] == pytest.approx(before["ece"])
        assert result["calibration_before"]["nll"] == pytest.approx(before["nll"])
        assert evaluation.format_summary(result).splitlines()[8] == (
            f"without temperature scaling (T = 1.700): calibration error {before['ece']:.4f}, loss {before['nll']:.4f}"
        )

    def test_zero_probabilities_stay_finite(self):
        labels, probabilities = np.array([1, 0, 1, 0]), np.array([[1.0, 0], [1, 0], [0, 1], [1, 0]])
        temperature = evaluation.fit_temperature(labels, probabilities)
        assert 1 < temperature <= 20
        assert np.isfinite(evaluation.apply_temperature(probabilities, temperature)).all()

    @pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf")])
    def test_temperature_must_be_positive(self, temperature):
        with pytest.raises(InputError, match="above 0"):
            evaluation.apply_temperature(np.array([[0.5, 0.5]]), temperature)
        with pytest.raises(InputError, match="above 0"):
            evaluation.evaluate(np.array([0]), np.array([[0.5, 0.5]]), ("a", "b"), temperature=temperature)

    def test_check_mends_an_overconfident_model(self):
        labels, probabilities = make_case(3000, sharpness=2)
        check = evaluation.calibration_check(labels, probabilities)
        assert check["passed"]
        assert [half["num_images"] for half in check["halves"]] == [1500, 1500]
        for half in check["halves"]:
            assert half["ece_before"] > half["band"][1]
            assert half["band"][0] < half["ece_after"] < half["band"][1] < 0.06
            assert half["nll_after"] < half["nll_before"]

    def test_check_fails_what_no_temperature_can_mend(self):
        """Certain answers are right half the time, uncertain ones always: no temperature can reverse this."""
        labels = np.zeros(2000, np.int64)
        labels[:500] = 1
        probabilities = np.repeat([[0.95, 0.05], [0.6, 0.4]], 1000, axis=0)
        check = evaluation.calibration_check(labels, probabilities)
        assert not check["passed"] and not any(half["inside_band"] for half in check["halves"])

    def test_check_text(self):
        half = {
            "num_images": 1794, "temperature": 1.25, "ece_before": 0.08, "ece_after": 0.02, "band": [0.01, 0.03],
            "inside_band": True, "nll_before": 1.0, "nll_after": 0.95,
        }  # fmt: skip
        below = {**half, "ece_after": 0.005, "nll_after": 1.1}
        assert evaluation.format_calibration({"halves": [half, below], "passed": False}) == (
            "Temperature fitted on one half of the split, measured on the other\n"
            "Half 1 (1794 images), temperature 1.250:\n"
            "  calibration error        0.0800 -> 0.0200; a perfectly calibrated model: 0.0100 to 0.0300 (inside)\n"
            "  negative log-likelihood  1.0000 -> 0.9500\n"
            "Half 2 (1794 images), temperature 1.250:\n"
            "  calibration error        0.0800 -> 0.0050; a perfectly calibrated model: 0.0100 to 0.0300 (below)\n"
            "  negative log-likelihood  1.0000 -> 1.1000\n"
            "Not passed: the likelihood is worse (negative log-likelihood over both halves 1.0000 before, 1.0250 "
            "after).\n"
            "What it means: on images like these, a score can be read as a share: about 70 % of the images with a "
            "score near 0.7 are right (off by 2.0 points on average in the worse half, which chance explains); the "
            "temperature does not make the scores better.\n"
        )

    def test_a_check_that_passed_says_what_a_score_means(self):
        labels, probabilities = make_case(3000, sharpness=2)
        text = evaluation.format_calibration(evaluation.calibration_check(labels, probabilities))
        assert "What it means: on images like these, a score can be read as a share: about 70 % of the images" in text

    def test_verdict_names_the_half_that_failed(self):
        labels, probabilities = make_case(3000, sharpness=2)
        check = evaluation.calibration_check(labels, probabilities)
        assert evaluation.calibration_verdict(check).startswith("Passed: neither calibration error lies above its band")
        half = {**check["halves"][1], "ece_after": 0.5, "inside_band": False}
        assert evaluation.place_in_band(half) == "above"
        assert evaluation.calibration_verdict({"halves": [check["halves"][0], half], "passed": False}) == (
            "Not passed: the calibration error of half 2 lies above its band."
        )
        text = evaluation.format_calibration({"halves": [check["halves"][0], half], "passed": False})
        assert "a score is not an exact share of right answers. It is off by 50.0 points on average in" in text


class TestCompare:
    def test_mcnemar_by_hand(self):
        """Only A is right on 8 images, only B on 2: p = 2 (C(10,0) + C(10,1) + C(10,2)) / 2^10."""
        labels = np.zeros(100, np.int64)
        right_a, right_b = np.ones(100, bool), np.ones(100, bool)
        right_a[:2], right_b[2:10] = False, False
        a, b = np.eye(2)[np.where(right_a, 0, 1)], np.eye(2)[np.where(right_b, 0, 1)]
        comparison = evaluation.compare(labels, a, b)
        assert (comparison["only_a"], comparison["only_b"]) == (8, 2)
        assert comparison["p_value"] == pytest.approx(2 * (1 + 10 + 45) / 1024)
        assert comparison["difference"] == pytest.approx(0.06)
        assert comparison["agreement"] == 0.9
        low, high = comparison["difference_interval"]
        assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt((0.1 - 0.06**2) / 100), abs=0.011)

    def test_a_model_against_itself(self):
        labels, probabilities = make_case()
        comparison = evaluation.compare(labels, probabilities, probabilities)
        assert comparison["p_value"] == 1.0 and comparison["difference_interval"] == [0.0, 0.0]

    def test_other_classes(self):
        labels, probabilities = make_case(num_classes=3)
        with pytest.raises(InputError, match="3 and 4 classes"):
            evaluation.compare(labels, probabilities, np.full((len(labels), 4), 0.25))

    def test_text(self):
        comparison = {
            "num_images": 3589, "accuracy_a": 0.6534, "accuracy_b": 0.6478, "difference": 0.0056,
            "difference_interval": [-0.0025, 0.0137], "only_a": 130, "only_b": 110, "p_value": 0.2202,
            "agreement": 0.91,
        }  # fmt: skip
        assert evaluation.format_comparison(comparison, "model.keras", "model-int8.tflite") == (
            "Compared on the same 3589 images\n"
            "\n"
            "model.keras           accuracy 0.6534, alone right on 130 images\n"
            "model-int8.tflite     accuracy 0.6478, alone right on 110 images\n"
            "difference            +0.0056, 95 % interval -0.0025 to +0.0137 (paired bootstrap)\n"
            "same answer           91.00 % of the images\n"
            "McNemar's exact test  p = 0.22\n"
            "\n"
            "The difference is within what chance explains (5 % level).\n"
        )


def test_report_text():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    predicted = np.array([0, 0, 0, 1, 1, 1, 0, 0])
    probabilities = np.full((8, 3), 0.1)
    probabilities[np.arange(8), predicted] = 0.8
    result = evaluation.evaluate(labels, probabilities, NAMES, has_duplicate=np.arange(8) < 3)
    for part in (result, result["without_twin"]):  # NumPy may change its random streams
        part.update(accuracy_interval=[0.25, 0.875], macro_f1_interval=[0.125, 0.625])
    assert evaluation.format_report(result) == (
        "accuracy           0.6250  95 % interval 0.2500 to 0.8750\n"
        "macro-F1           0.4127  95 % interval 0.1250 to 0.6250\n"
        "balanced accuracy  0.6250\n"
        "top-2 accuracy     1.0000\n"
        "macro ROC-AUC      -\n"
        "loss               1.0029  cross-entropy\n"
        "Brier score        0.5850\n"
        "calibration error  0.1750  15 bins; debiased root mean square 0.0000\n"
        "There is no score above which 90 % of the answers are right.\n"
        "Mean accuracy over all shares of answered images, the highest scores first: 0.6250.\n"
        "\n"
        "       precision  recall      F1  ROC-AUC  support\n"
        "angry      0.600   0.750   0.667    0.625        4\n"
        "happy      0.667   0.500   0.571    0.625        4\n"
        "sad        0.000   0.000   0.000        -        0\n"
        "\n"
        "Confusion matrix, images (rows: true class, columns: predicted class)\n"
        "\n"
        "       angry  happy  sad\n"
        "angry      3      1    0\n"
        "happy      2      2    0\n"
        "sad        0      0    0\n"
        "\n"
        "happy is taken for angry in 50.0 % of its images (2 of 4).\n"
        "angry is taken for happy in 25.0 % of its images (1 of 4).\n"
        "Never predicted: sad.\n"
        "No image in this split: sad (their scores count as 0).\n"
        "\n"
        "Images with an exact duplicate in the training data: 3 of 8.\n"
        "Without them (5 images):\n"
        "\n"
        "accuracy           0.4000  95 % interval 0.2500 to 0.8750\n"
        "macro-F1           0.1905  95 % interval 0.1250 to 0.6250\n"
        "balanced accuracy  0.2500\n"
        "top-2 accuracy     1.0000\n"
        "macro ROC-AUC      -\n"
        "loss               1.4708  cross-entropy\n"
        "Brier score        0.9000\n"
        "calibration error  0.4000  15 bins; debiased root mean square 0.3162\n"
        "There is no score above which 90 % of the answers are right.\n"
        "Mean accuracy over all shares of answered images, the highest scores first: 0.4000.\n"
        "\n"
        "       precision  recall      F1  ROC-AUC  support\n"
        "angry      0.000   0.000   0.000    0.250        1\n"
        "happy      0.667   0.500   0.571    0.250        4\n"
        "sad        0.000   0.000   0.000        -        0\n"
    )


def test_split_title():
    assert split_title("validation") == "validation (selection split)"
    assert split_title("test") == "test"


def test_most_confident_errors():
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.4, 0.6], [0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    assert evaluation.most_confident_errors(labels, probabilities, count=2).tolist() == [2, 3]
    assert evaluation.most_confident_errors(labels, probabilities, count=9).tolist() == [2, 3, 0]


def test_tta_views():
    image = np.zeros((1, 48, 48), np.uint8)
    image[0, 10, 20] = 255
    views = list(evaluation.tta_views(image))
    assert len(views) == 10 and all(view.shape == (1, 48, 48) and view.dtype == np.uint8 for view in views)
    assert [tuple(int(axis[0]) for axis in np.nonzero(view[0])) for view in views] == [
        (10, 20), (10, 27), (12, 20), (12, 27), (8, 20), (8, 27), (10, 22), (10, 25), (10, 18), (10, 29),
    ]  # fmt: skip


def test_baselines():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    images = rng.integers(0, 60, (300, 8, 8)).astype(np.uint8)
    images[np.arange(300), labels, :] += 150  # the lit row tells the class
    assert evaluation.majority_baseline(np.array([1, 1, 0]), np.array([1, 0, 2, 1])) == 0.5
    assert evaluation.linear_baseline(images[:200], labels[:200], images[200:], labels[200:]) > 0.95
    with pytest.raises(InputError, match="one class"):
        evaluation.linear_baseline(images[:5], np.zeros(5, int), images, labels)
    with pytest.raises(InputError, match="expected one or more"):
        evaluation.majority_baseline(np.array([], int), labels)


GOOD = np.full((4, 3), 1 / 3)


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 1, 2, 0], GOOD * 2, "not probabilities"),
        ([0, 1, 2, 0], GOOD - [1, 0, -1], "not logits"),
        ([0, 1, 2, 0], np.where(np.eye(4, 3), np.nan, GOOD), "3 of 4 rows of probabilities hold NaN"),
        ([0, 1, 2, 0], GOOD[:, :2] * 1.5, "2 probabilities, the data has 3 classes"),
        ([0, 1, 2], GOOD, "3 labels but 4 rows"),
        ([0, 1, 3, 0], GOOD, "label 3 is outside 0 to 2"),
        ([0, -1, 3, 0], GOOD, "label -1 is outside"),
        ([0.5, 1, 2, 0], GOOD, "expected integers"),
        ([], GOOD[:0], "split is empty"),
        ([0, 1, 2, 0], GOOD[0], "expected floats"),
        ([0, 1, 2, 0], np.ones((4, 3), int), "expected floats"),
    ],
)
def test_bad_input_is_one_line(labels, probabilities, message):
    with pytest.raises(InputError, match=message) as error:
        evaluation.evaluate(np.array(labels), probabilities, NAMES)
    assert "\n" not in str(error.value)


def test_rounded_probabilities_of_an_8_bit_softmax_pass():
    labels, probabilities = make_case()
    rounded = np.round(probabilities * 256) / 256
    assert not np.allclose(rounded.sum(axis=1), 1, atol=3e-3)
    assert evaluation.evaluate(labels, rounded, names(7))["num_images"] == 400
