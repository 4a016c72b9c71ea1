"""The report's sections, one module each, with a function that turns the facts of a run into blocks.

To add a section, write a module here and list its function under a title in `SECTIONS`. `headline` comes before all
sections. Each figure is printed in one section only.
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

# Results come first, then the data, then how the run was made.
SECTIONS: dict[str, Callable[[Facts], list[Block]]] = {
    "Conclusion": conclusion.conclusion,
    "Results by phase": results.results,
    "Confusion matrix and analysis": confusion_matrix.confusion_matrix,
    "When to trust an answer": selective.selective,
    "Calibration": calibration.calibration,
    "Exported models": exports.exports,
    "Limits and intended use": limits.limits,
    "Exploratory analysis": exploration.exploration,
    "Data audit": data_audit.data_audit,
    "Experiment overview": overview.overview,
    "Configuration": configuration.configuration,
    "How to reproduce": reproduction.reproduction,
}
