"""The report's sections, a module each: a function that turns the facts of a run into blocks.

To add a section, write its module here and list its function under its title in `SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable

from fer_tf.report.document import Block
from fer_tf.report.facts import Facts
from fer_tf.report.sections import (
    calibration,
    conclusion,
    configuration,
    confusion_matrix,
    data_audit,
    exploration,
    exports,
    limits,
    overview,
    reproduction,
    results,
    selective,
)

SECTIONS: dict[str, Callable[[Facts], list[Block]]] = {
    "Experiment overview": overview.overview,
    "Exploratory analysis": exploration.exploration,
    "Configuration": configuration.configuration,
    "Results by phase": results.results,
    "Confusion matrix and analysis": confusion_matrix.confusion_matrix,
    "Calibration": calibration.calibration,
    "When to trust an answer": selective.selective,
    "Exported models": exports.exports,
    "Data audit": data_audit.data_audit,
    "Limits and intended use": limits.limits,
    "How to reproduce": reproduction.reproduction,
    "Conclusion": conclusion.conclusion,
}
