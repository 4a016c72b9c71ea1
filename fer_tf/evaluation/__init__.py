"""Labels and probabilities -> metrics, calibration, comparison; NumPy, SciPy and scikit-learn only."""

from fer_tf.evaluation.baselines import linear_baseline, majority_baseline
from fer_tf.evaluation.calibration import (
    apply_temperature,
    calibration_check,
    calibration_metrics,
    calibration_verdict,
    fit_temperature,
    place_in_band,
    undo_temperature,
)
from fer_tf.evaluation.comparison import compare
from fer_tf.evaluation.conformal import (
    fit_prediction_sets,
    measure_prediction_sets,
    prediction_set,
    read_threshold,
    read_thresholds,
    sets_in_words,
)
from fer_tf.evaluation.groups import format_groups, measure_groups, read_groups
from fer_tf.evaluation.metrics import evaluate, most_confident_errors
from fer_tf.evaluation.robustness import corrupt, format_corruptions, measure_corruptions
from fer_tf.evaluation.scoring import format_split, score_split
from fer_tf.evaluation.selective import selective_accuracy, selective_in_words
from fer_tf.evaluation.summary import format_calibration, format_comparison, format_report, format_summary
from fer_tf.evaluation.views import tta_views

__all__ = [
    "apply_temperature",
    "calibration_check",
    "calibration_metrics",
    "calibration_verdict",
    "compare",
    "corrupt",
    "evaluate",
    "fit_prediction_sets",
    "fit_temperature",
    "format_calibration",
    "format_comparison",
    "format_corruptions",
    "format_groups",
    "format_report",
    "format_split",
    "format_summary",
    "linear_baseline",
    "majority_baseline",
    "measure_corruptions",
    "measure_groups",
    "measure_prediction_sets",
    "most_confident_errors",
    "place_in_band",
    "prediction_set",
    "read_groups",
    "read_threshold",
    "read_thresholds",
    "score_split",
    "selective_accuracy",
    "selective_in_words",
    "sets_in_words",
    "tta_views",
    "undo_temperature",
]  # fmt: skip
