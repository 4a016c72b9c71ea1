"""Several runs side by side, as a table and as curves."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_tf.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DOTTED = (0, (1, 1))
_LINES: tuple[Any, ...] = ("-", "--", "-.", _DOTTED)
_MANY_EPOCHS = 30  # beyond it a marker an epoch hides the line
_LOSS_CUT = 3  # times the median: BatchNorm's first statistics can make one loss that flattens all the others


@dataclasses.dataclass(frozen=True)
class Run:
    """What one run's files say.

    Attributes:
        name: how the run is called in table and picture.
        path: its directory.
        config: its settings and the recipe's name.
        data: what it was trained on.
        history: one row an epoch over both phases, keys as in history.csv.
        metrics: what was measured after training; empty for a run without an end.
    """

    name: str
    path: Path
    config: Mapping[str, Any]
    data: Mapping[str, Any]
    history: Sequence[Mapping[str, float]]
    metrics: Mapping[str, Any]

    @property
    def best(self) -> int | None:
        """Place in the history of the best epoch; only weights of the final image size are kept by training."""
        size = self.config.get("image_size")
        scored = [
            place
            for place, row in enumerate(self.history)
            if "val_accuracy" in row and row.get("image_size", size) == size
        ]
        return max(scored, key=lambda place: self.history[place]["val_accuracy"], default=None)


def read_runs(paths: Sequence[str]) -> list[Run]:
    """The runs in some directories.

    Raises:
        InputError: for fewer than two, a directory without a run, one named twice, or runs of different classes.
    """
    from fer_tf.artifacts import RunDirectory, read_json
    from fer_tf.report.facts import read_facts

    if len(paths) < 2:
        raise InputError(f"{len(paths)} run: expected two or more to compare; the report of one is `report --run`")
    directories = [RunDirectory.open(path) for path in paths]
    places = [directory.path.resolve() for directory in directories]
    for path, place in zip(paths, places, strict=True):
        if places.count(place) > 1:
            raise InputError(f"{path} is named twice: name each run once")
    names = [place.name for place in places]
    runs = []
    for path, directory, name in zip(paths, directories, names, strict=True):
        facts = read_facts(directory)
        for number, row in enumerate(facts.history, 2):
            if not {"phase", "epoch", "seconds"} <= row.keys():
                raise InputError(
                    f"{directory.history} row {number} lacks phase, epoch or seconds: the file was changed"
                )
        runs.append(
            Run(
                name if names.count(name) == 1 else str(path),
                directory.path,
                facts.config,
                read_json(directory.data),
                facts.history,
                facts.metrics,
            )
        )
    first, *others = runs
    for other in others:
        if other.data.get("class_names") != first.data.get("class_names"):
            raise InputError(
                f"{other.path} has the classes {', '.join(other.data.get('class_names', []))}, {first.path} has "
                f"{', '.join(first.data.get('class_names', []))}: compare runs of the same classes"
            )
    return runs


def format_table(runs: Sequence[Run]) -> str:
    """The runs as columns of a text table, and below it what a reader should know."""
    sections = {
        "Settings that differ": _different_settings(runs),
        "Training": _training(runs),
        "Scores of model.keras (95 % interval)": _scores(runs),
    }
    heads = [one.name + (" (synthetic)" if one.data.get("synthetic") else "") for one in runs]
    cells = [row for rows in sections.values() for row in rows]
    widths = [max(len(text) for text in column) for column in zip(("", *heads), *cells, strict=True)]

    def line(texts: Sequence[str]) -> str:
        return "  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True)).rstrip()

    lines = [line(("", *heads))]
    for title, rows in sections.items():
        lines += ["", title, *(map(line, rows) if rows else ["none"])]
    return "\n".join([*lines, "", *_notes(runs)]).rstrip()


def _different_settings(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    names = list(dict.fromkeys(name for one in runs for name in one.config))
    rows = [(name, *(_text(one.config.get(name)) for one in runs)) for name in names]
    return [row for row in rows if len(set(row[1:])) > 1]


def _text(value: Any) -> str:
    """A setting as one reads it; a run of another version of fer_tf may lack it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _training(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    from fer_tf.task import SELECTION_SPLIT, split_title

    def duration(one: Run) -> str:
        return f"{sum(row['seconds'] for row in one.history):,.0f}" if one.history else "-"

    def best(one: Run, key: str, factor: int, form: str, unit: str) -> str:
        value = None if one.best is None else one.history[one.best].get(key)
        return "-" if value is None else format(factor * value, form) + unit

    selection = split_title(SELECTION_SPLIT)
    rows = [
        ("data", *(str(one.data.get("source", "-")) for one in runs)),
        ("training images", *(_num_images(one) for one in runs)),
        ("state", *("finished" if one.metrics else "under way or stopped" for one in runs)),
        ("epochs done", *map(_epochs_done, runs)),
        ("seconds", *map(duration, runs)),
        ("best epoch", *map(_best_epoch, runs)),
        (f"its accuracy on {selection}", *(best(one, "val_accuracy", 100, ".2f", " %") for one in runs)),
        (f"its loss on {selection}", *(best(one, "val_loss", 1, ".3f", "") for one in runs)),
    ]
    optional = [
        ("backend", *(str(one.metrics.get("backend", "-")) for one in runs)),
        ("machine", *map(_machine, runs)),
    ]
    return rows + [row for row in optional if len(set(row[1:]) - {"-"}) > 1]


def _num_images(one: Run) -> str:
    return f"{sum(one.data.get('counts', {}).get('train', [])):,}"


def _epochs_done(one: Run) -> str:
    phases = [row["phase"] for row in one.history]
    parts = [f"phase {phase:.0f}: {phases.count(phase)}" for phase in sorted(set(phases))]
    if 2 in phases:
        parts[-1] += f" of {one.config.get('epochs', '-')}"
    elif phases:
        parts[-1] += f" of {one.config.get('frozen_epochs', '-')}"
    return ", ".join(parts) or "none"


def _best_epoch(one: Run) -> str:
    if one.best is not None:
        row = one.history[one.best]
        return f"phase {row['phase']:.0f}, epoch {row['epoch']:.0f}"
    return f"none at {one.config.get('image_size')} px yet" if one.history else "-"


def _machine(one: Run) -> str:
    machine = one.metrics.get("machine", {})
    return f"{machine.get('cpu')}, {machine.get('cores')} cores" if machine else "-"


def _scores(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    from fer_tf.task import SPLITS, split_title

    rows = []
    for split in SPLITS:
        found = [one.metrics.get("keras", {}).get(split) for one in runs]
        if any(found):
            title = split_title(split)
            rows += [
                (f"accuracy on {title}", *(_with_interval(scores, "accuracy", 100, ".2f", " %") for scores in found)),
                (f"macro-F1 on {title}", *(_with_interval(scores, "macro_f1", 1, ".3f", "") for scores in found)),
            ]
    return rows


def _with_interval(scores: Mapping[str, Any] | None, key: str, factor: int, form: str, unit: str) -> str:
    if not scores:
        return "-"
    low, high = (format(factor * bound, form) for bound in scores[f"{key}_interval"])
    return f"{format(factor * scores[key], form)}{unit} ({low} to {high})"


def _notes(runs: Sequence[Run]) -> list[str]:
    lines = []
    if len({one.data.get("sha256") for one in runs}) > 1:
        lines.append("The runs were trained on different data: their figures are not of the same images.")
    with_model = [one for one in runs if one.metrics]
    if len(with_model) > 1:
        from fer_tf.artifacts import RunDirectory

        first, second = (RunDirectory(one.path) for one in with_model[:2])
        command = shlex.join(["fer-tf", "evaluate", "--run", str(first.path), "--against", str(second.model)])
        lines.append(f"Paired on the same images, with McNemar's test: {command}")
    return lines


def plot_runs(runs: Sequence[Run]) -> Figure:
    """Validation accuracy and loss of each run against epochs over both phases, and against training time.

    Args:
        runs: at least one with a finished epoch; those without one are left out.
    """
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    from fer_tf.report import plots

    colours = (plots.BLUE, plots.VERMILION, plots.GREEN, plots.ORANGE, plots.PURPLE, plots.SKY, "black")
    shown = [one for one in runs if one.history]
    longest = max(sum(row["seconds"] for row in one.history) for one in shown)
    unit, seconds_a_unit = ("hours", 3600) if longest > 2 * 3600 else ("minutes", 60)
    figure = Figure(figsize=(1.3 * plots.WIDTH, 6.6), layout="constrained")
    axes = figure.subplots(2, 2, sharex="col", sharey="row")
    handles = []
    for number, one in enumerate(shown):
        style = {"color": colours[number % len(colours)], "linestyle": _LINES[number % len(_LINES)]}
        epochs = np.arange(1, len(one.history) + 1)
        time = np.cumsum([row["seconds"] for row in one.history]) / seconds_a_unit
        for key, row_of_axes in zip(("val_accuracy", "val_loss"), axes, strict=True):
            values = np.array([row.get(key, np.nan) for row in one.history])
            for ax, x in zip(row_of_axes, (epochs, time), strict=True):
                _draw_curve(ax, x, values, one, style)
        synthetic = " (synthetic)" if one.data.get("synthetic") else ""
        label = (one.name + synthetic).replace("$", r"\$")  # a pair of dollar signs would start a formula
        handles.append(Line2D([], [], marker="o", markersize=3, label=label, **style))
    star: dict[str, Any] = {"marker": "*", "markersize": 11, "linestyle": "", "color": "white"}
    handles.append(Line2D([], [], markeredgecolor="black", label="best epoch", **star))
    handles.append(Line2D([], [], color=plots.GREY, linestyle=_DOTTED, linewidth=1, label="phase boundary"))
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 3), frameon=False)
    losses = [row["val_loss"] for one in shown for row in one.history if "val_loss" in row]
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


def _draw_curve(ax: Axes, x: np.ndarray, values: np.ndarray, one: Run, style: Mapping[str, Any]) -> None:
    """One run's curve with its best epoch and the boundary between its phases."""
    ax.plot(x, values, marker="o" if len(x) <= _MANY_EPOCHS else "", markersize=3, linewidth=1.5, **style)
    if one.best is not None:
        star = {"markersize": 13, "color": style["color"], "markeredgecolor": "black", "zorder": 4}
        ax.plot(x[one.best], values[one.best], "*", **star)
    phases = [row["phase"] for row in one.history]
    if len(set(phases)) > 1:
        boundary = phases.index(2)
        ax.axvline((x[boundary - 1] + x[boundary]) / 2, color=style["color"], linestyle=_DOTTED, linewidth=1)
