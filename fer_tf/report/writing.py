"""Writes a run's report (report.md, report.html, figures) from the run's files only, and the audit of a data set."""

from __future__ import annotations

import base64
import logging
from typing import TYPE_CHECKING, Any

from fer_tf.artifacts import RunDirectory, write_bytes, write_json, write_text
from fer_tf.data.audit import audit
from fer_tf.data.dataset import Dataset
from fer_tf.errors import InputError
from fer_tf.report import plots
from fer_tf.report.document import Block, Heading, Picture, to_html, to_markdown
from fer_tf.report.facts import Facts, read_facts
from fer_tf.report.figures import FACE_FIGURES, draw_audit, draw_run
from fer_tf.report.sections import SECTIONS
from fer_tf.report.sections.headline import headline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)


def write_report(run: RunDirectory, *, faces: bool | None = None) -> None:
    """Write report.md, report.html and the figures that show numbers.

    Args:
        run: a run with a config; the report says which other parts are missing.
        faces: True to show pictures of the data's faces, which needs the right to show them; False to show none. By
            default, only drawn faces are shown.

    Raises:
        InputError: if a file of the run is broken or cannot be written.
    """
    facts = read_facts(run)
    faces = facts.synthetic if faces is None else faces
    try:
        figures, blocks = draw_run(facts), compose(facts)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        # Somebody may have edited the files, or another version may have written them.
        raise InputError(
            f"the files in {run.path} do not fit together ({type(error).__name__}: {error}): "
            "give a run whose files are as train wrote them"
        ) from error
    available = {*figures, *(name for name in FACE_FIGURES if faces and run.figure(name).is_file())}
    blocks = [block for block in blocks if not isinstance(block, Picture) or block.name in available]
    _write_figures(run, figures)
    title = f"Training report{' on synthetic faces' if facts.synthetic else ''}: {facts.name}"
    paths = {block.name: run.figure(block.name) for block in blocks if isinstance(block, Picture)}
    beside = {name: path.relative_to(run.path).as_posix() for name, path in paths.items()}
    inside = {
        name: f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}" for name, path in paths.items()
    }
    write_text(run.report_md, to_markdown(title, blocks, beside))
    write_text(run.report_html, to_html(title, blocks, inside))


def compose(facts: Facts) -> list[Block]:
    """Return the blocks of a run's report: the headline, and all `SECTIONS` under their titles."""
    return [*headline(facts), *_sections(facts)]


def _sections(facts: Facts) -> list[Block]:
    return [block for title, section in SECTIONS.items() for block in (Heading(title), *section(facts))]


def write_audit(dataset: Dataset, run: RunDirectory) -> dict[str, Any]:
    """Audit a data set; write audit.json and the figures that show its images.

    Args:
        dataset: any, with at least one image.
        run: the folder to write into; it is created if it does not exist.

    Returns:
        The findings of `audit`.
    """
    dataset = dataset.decoded()
    findings = audit(dataset)
    write_json(run.audit, findings)
    logger.debug("audit: drawing the figures")
    _write_figures(run, draw_audit(dataset, findings))
    return findings


def _write_figures(run: RunDirectory, figures: dict[str, Figure]) -> None:
    for name, figure in figures.items():
        write_bytes(run.figure(name), plots.to_png(figure))
