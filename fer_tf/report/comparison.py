"""Compares several runs: a text table, and a picture of their training curves."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_tf.artifacts import RunDirectory, write_bytes
from fer_tf.errors import InputError
from fer_tf.faces.colours import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from fer_tf.report.facts import Facts, read_facts
from fer_tf.task import SELECTION_SPLIT, SPLITS, split_title
from fer_tf.text import number, percent, setting, with_interval

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DOTTED = (0, (1, 1))
_LINES: tuple[Any, ...] = ("-", "--", "-.", _DOTTED)
_MANY_EPOCHS = 30  # with more epochs, a marker at each would hide the line
_LOSS_CUT = 3  # times the median: BatchNorm's first statistics can give one huge loss, which would flatten the curve


def read_runs(paths: Sequence[str]) -> list[Facts]:
    """Read the runs in some folders; runs with the same name are called by their paths.

    Raises:
        InputError: if there are fewer than two folders, a folder has no run or is named twice, or classes differ.
    """
    if len(paths) < 2:
        raise InputError(f"{len(paths)} run: expected two or more to compare; for one run, use `report --run`")
    directories = [RunDirectory.open(path) for path in paths]
    places = [directory.path.resolve() for directory in directories]
    for path, place in zip(paths, places, strict=True):
        if places.count(place) > 1:
            raise InputError(f"{path} is named twice: name each run once")
    names = [place.name for place in places]
    runs = []
    for path, directory in zip(paths, directories, strict=True):
        run = read_facts(directory)
        if not run.data:
            raise InputError(f"{directory.data} is missing: compare runs whose files are as train wrote them")
        for row_number, row in enumerate(run.history, 2):
            if not {"phase", "epoch", "seconds"} <= row.keys():
                raise InputError(
                    f"{directory.history} row {row_number} lacks phase, epoch or seconds: the file was changed"
                )
        runs.append(run if names.count(run.name) == 1 else dataclasses.replace(run, name=str(path)))
    for run in runs[1:]:
        classes, expected = (one.data.get("class_names", []) for one in (run, runs[0]))
        if classes != expected:
            raise InputError(
                f"{run.path} has the classes {', '.join(classes)}, {runs[0].path} has {', '.join(expected)}: "
                "compare runs with the same classes"
            )
    return runs


def format_table(runs: Sequence[Facts]) -> str:
    """Format the runs as columns of a text table, with notes below it."""
    sections = {
        "Settings that differ": _different_settings(runs),
        "Training": _training(runs),
        "Scores of model.keras (95 % interval)": _scores(runs),
    }
    heads = [_label(run) for run in runs]
    cells = [row for rows in sections.values() for row in rows]
    widths = [max(len(text) for text in column) for column in zip(("", *heads), *cells, strict=True)]

    def line(texts: Sequence[str]) -> str:
        return "  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True)).rstrip()

    lines = [line(("", *heads))]
    for title, rows in sections.items():
        lines += ["", title, *(map(line, rows) if rows else ["none"])]
    return "\n".join([*lines, "", *_notes(runs)]).rstrip()


def _label(run: Facts) -> str:
    return run.name + (" (synthetic)" if run.synthetic else "")


def _different_settings(runs: Sequence[Facts]) -> list[tuple[str, ...]]:
    names = dict.fromkeys(name for run in runs for name in run.config)
    rows = [(name, *(setting(run.config.get(name)) for run in runs)) for name in names]
    return [row for row in rows if len(set(row[1:])) > 1]


def _training(runs: Sequence[Facts]) -> list[tuple[str, ...]]:
    selection = split_title(SELECTION_SPLIT)
    columns = []
    for run in runs:
        best, machine = run.best_epoch or {}, run.metrics.get("machine", {})
        columns.append(
            {
                "data": str(run.data.get("source", "-")),
                "training images": f"{sum(run.data.get('counts', {}).get('train', [])):,}",
                "state": "finished" if run.metrics else "under way or stopped",
                "epochs done": _epochs_done(run),
                "seconds": number(sum(row["seconds"] for row in run.history) if run.history else None, ",.0f"),
                "best epoch": _best_epoch(run),
                f"its accuracy on {selection}": percent(best.get("val_accuracy"), 2),
                f"its loss on {selection}": number(best.get("val_loss"), ".3f"),
                "backend": str(run.metrics.get("backend", "-")),
                "machine": f"{machine.get('cpu')}, {machine.get('cores')} cores" if machine else "-",
            }
        )
    rows = [(title, *(column[title] for column in columns)) for title in columns[0]]
    return [row for row in rows if row[0] not in ("backend", "machine") or len(set(row[1:]) - {"-"}) > 1]


def _epochs_done(run: Facts) -> str:
    phases = [row["phase"] for row in run.history]
    parts = [f"phase {phase:.0f}: {phases.count(phase)}" for phase in sorted(set(phases))]
    if parts:
        parts[-1] += f" of {run.config.get('epochs' if 2 in phases else 'frozen_epochs', '-')}"
    return ", ".join(parts) or "none"


def _best_epoch(run: Facts) -> str:
    if best := run.best_epoch:
        return f"phase {best['phase']:.0f}, epoch {best['epoch']:.0f}"
    return f"none at {run.config.get('image_size')} px yet" if run.history else "-"


def _scores(runs: Sequence[Facts]) -> list[tuple[str, ...]]:
    rows = []
    for split in SPLITS:
        found = [run.keras.get(split) for run in runs]
        if any(found):
            for key, name in (("accuracy", "accuracy"), ("macro_f1", "macro-F1")):
                cells = (with_interval(scores, key, decimals=2) for scores in found)
                rows.append((f"{name} on {split_title(split)}", *cells))
    return rows


def _notes(runs: Sequence[Facts]) -> list[str]:
    lines = []
    if len({run.data.get("sha256") for run in runs}) > 1:
        lines.append("The runs were trained on different data: their figures are not about the same images.")
    finished = [run for run in runs if run.metrics]
    if len(finished) > 1:
        against = str(RunDirectory(finished[1].path).model)
        command = shlex.join(["fer-tf", "evaluate", "--run", str(finished[0].path), "--against", against])
        lines.append(f"Paired on the same images, with McNemar's test: {command}")
    return lines


def write_plot(runs: Sequence[Facts], path: str) -> None:
    """Draw the runs' curves into a PNG file.

    Raises:
        InputError: if the name does not end in .png, or no run has finished an epoch.
    """
    from fer_tf.report.plots import to_png

    if Path(path).suffix.lower() != ".png":
        raise InputError(f"--output {path}: expected a name that ends in .png")
    if not any(run.history for run in runs):
        raise InputError("no run has finished an epoch yet: there are no curves to draw; leave out --output")
    write_bytes(path, to_png(plot_runs(runs)))


def plot_runs(runs: Sequence[Facts]) -> Figure:
    """Plot validation accuracy and loss of each run over epochs and over training time.

    Args:
        runs: at least one with a finished epoch; runs without one are left out.
    """
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    from fer_tf.report import plots

    of_runs = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, "black")
    shown = [run for run in runs if run.history]
    longest = max(sum(row["seconds"] for row in run.history) for run in shown)
    unit, seconds_a_unit = ("hours", 3600) if longest > 2 * 3600 else ("minutes", 60)
    figure = Figure(figsize=(1.3 * plots.WIDTH, 6.6), layout="constrained")
    axes = figure.subplots(2, 2, sharex="col", sharey="row")
    handles = []
    for place, run in enumerate(shown):
        style = {"color": of_runs[place % len(of_runs)], "linestyle": _LINES[place % len(_LINES)]}
        epochs = np.arange(1, len(run.history) + 1)
        time = np.cumsum([row["seconds"] for row in run.history]) / seconds_a_unit
        for key, row_of_axes in zip(("val_accuracy", "val_loss"), axes, strict=True):
            values = np.array([row.get(key, np.nan) for row in run.history])
            for ax, x in zip(row_of_axes, (epochs, time), strict=True):
                _draw_curve(ax, x, values, run, style)
        label = plots.plain(_label(run))
        handles.append(Line2D([], [], marker="o", markersize=3, label=label, **style))
    star: dict[str, Any] = {"marker": "*", "markersize": 11, "linestyle": "", "color": "white"}
    handles.append(Line2D([], [], markeredgecolor="black", label="best epoch", **star))
    handles.append(Line2D([], [], color=GREY, linestyle=_DOTTED, linewidth=1, label="phase boundary"))
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 3), frameon=False)
    losses = [row["val_loss"] for run in shown for row in run.history if "val_loss" in row]
    top = _LOSS_CUT * float(np.median(losses)) if losses else 0.0
    is_cut = bool(losses) and max(losses) > top
    if is_cut:
        axes[1, 0].set_ylim(min(losses) - 0.04 * top, top)
    axes[0, 0].set_ylabel("accuracy, selection split")
    axes[1, 0].set_ylabel("loss, selection split" + (f" (cut at {top:.1f})" if is_cut else ""))
    axes[1, 0].set_xlabel("epoch over both phases")
    axes[1, 0].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes[1, 1].set_xlabel(f"training time, {unit}")
    axes[1, 1].set_xlim(left=0)
    for ax in axes.flat:
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_curve(ax: Axes, x: np.ndarray, values: np.ndarray, run: Facts, style: Mapping[str, Any]) -> None:
    """Draw one run's curve with its best epoch and the boundary between its phases."""
    ax.plot(x, values, marker="o" if len(x) <= _MANY_EPOCHS else "", markersize=3, linewidth=1.5, **style)
    if run.best_epoch:
        best = run.history.index(run.best_epoch)
        star = {"markersize": 13, "color": style["color"], "markeredgecolor": "black", "zorder": 4}
        ax.plot(x[best], values[best], "*", **star)
    phases = [row["phase"] for row in run.history]
    if len(set(phases)) > 1:
        boundary = phases.index(2)
        ax.axvline((x[boundary - 1] + x[boundary]) / 2, color=style["color"], linestyle=_DOTTED, linewidth=1)
