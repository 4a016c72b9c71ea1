"""Plots of results that other modules computed. Each function draws on the given axes or on a new figure, and returns
the figure, without showing or saving it.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import font_manager as fonts
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator

from fer_tf.faces.colours import BLUE, EMOTION_COLOURS, GREEN, GREY, ORANGE, PURPLE, VERMILION
from fer_tf.faces.fonts import font_file, without_lost_letters
from fer_tf.text import number, percent, quantity

WIDTH = 7.5  # inches; at this DPI, a page's width on a screen
DPI = 140
MAX_PANELS = 8
_PHASES = {"1": "head alone", "2": "all layers"}
_LETTERS_ACROSS = 95  # letters of 8 points that fit across the axes
_EXAMPLES = 4  # right answers of each class, and as many wrong answers
SPLIT_COLOURS = {"train": BLUE, "validation": ORANGE, "test": GREEN}


def to_png(figure: Figure) -> bytes:
    """Return the figure as a PNG file; equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def plot_confusion_matrix(
    matrix: np.ndarray | Sequence[Sequence[int]],
    class_names: Sequence[str],
    *,
    title: str = "Confusion matrix",
    ax: Axes | None = None,
) -> Figure:
    """Plot a confusion matrix; each cell shows the share of the row in % and the number of images.

    Args:
        matrix: int (C, C), counts, rows = true class.
        class_names: C names.
        title: above the figure; says which model and split.
        ax: where to draw.
    """
    counts = np.asarray(matrix)
    num_classes = len(class_names)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, ax = _axes(ax, height=max(3.6, min(1.6 + 0.72 * num_classes, 9.5)))
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    size = _clamped(75 / num_classes, 5, 10)
    for row in range(num_classes):
        for column in range(num_classes):
            colour = "white" if shares[row, column] > 0.7 else "black"  # the better contrast on the cell's blue
            share = percent(shares[row, column] if counts[row].any() else None, 0)
            # With more classes a cell has no room for a second line.
            text = f"{share}\n{counts[row, column]:d}" if num_classes <= 12 else f"{100 * shares[row, column]:.0f}"
            ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=size, linespacing=1.3)
    names = _names(class_names)
    ax.set_xticks(range(num_classes), names, rotation=0 if _fit_side_by_side(names) else 45, fontsize=max(size, 7))
    if not _fit_side_by_side(names):
        for label in ax.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    ax.set_yticks(range(num_classes), names, fontsize=max(size, 7))
    ax.tick_params(length=0)
    ax.set_xticks(np.arange(num_classes - 1) + 0.5, minor=True)
    ax.set_yticks(np.arange(num_classes - 1) + 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1)
    ax.tick_params(which="minor", length=0)
    ax.spines[:].set_visible(False)
    unit = "% of the row, and images" if num_classes <= 12 else "% of the row"
    ax.set(xlabel=f"predicted class ({unit})", ylabel="true class", title=plain(title))
    return figure


def plot_training_curves(
    history: Sequence[Mapping[str, Any]], *, image_size: int | None = None, axes: Sequence[Axes] | None = None
) -> Figure:
    """Plot loss, accuracy and learning rate over the epochs, with the phases, the image sizes and the best epoch.

    A band stands for each image size of a phase; the phase and the size are written above it.

    Args:
        history: a mapping for each epoch in order, with `loss`, `accuracy`, `val_loss`, `val_accuracy`,
            `learning_rate`, `phase` and optionally `image_size`; values may be numbers or their text. A missing or
            empty value leaves a gap.
        image_size: the final image size; the largest in the history if None. Only epochs of this size can be the best.
        axes: three axes, one below the other.
    """
    if axes is None:
        figure = Figure(figsize=(WIDTH, 7.2), layout="constrained")
        axes = list(figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2)))
    figure = _figure_of(axes[0])
    stages = _stages(history)
    epochs = np.arange(1, len(history) + 1)
    marker = "o" if len(history) <= 30 else ""
    for ax, name in zip(axes, ("loss", "accuracy"), strict=False):
        for key, label, colour, style in (
            (name, "training", BLUE, "-"),
            (f"val_{name}", "validation (selection split)", VERMILION, "--"),
        ):
            values = _column(history, key)
            if np.isfinite(values).any():
                ax.plot(epochs, values, style, color=colour, label=label, marker=marker, markersize=3)
        ax.set_ylabel("loss (cross-entropy)" if name == "loss" else name)
    axes[2].plot(epochs, _column(history, "learning_rate"), "-", color=GREEN, marker=marker, markersize=3)
    axes[2].set_yscale("log", nonpositive="mask")  # a warm-up starts at 0
    axes[2].yaxis.set_minor_locator(LogLocator(subs=(2, 5)))  # labels of all digits would overlap
    axes[2].yaxis.set_minor_formatter(LogFormatterSciNotation(minor_thresholds=(2.5, 2.5)))
    axes[2].set(ylabel="learning rate\nat the epoch's end", xlabel="epoch")
    axes[2].set_xlim(0.5, len(history) + 0.5)
    axes[2].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    phases = [str(row.get("phase", "")) for row in history]
    size = _column(history, "image_size")
    is_final = np.isnan(size) | (size == (image_size or np.fmax.reduce(size, initial=0)))
    accuracy = np.where(is_final, _column(history, "val_accuracy"), np.nan)
    best = int(np.nanargmax(accuracy)) if np.isfinite(accuracy).any() else None
    for ax in axes:
        for last in (i for i in range(len(phases) - 1) if phases[i] != phases[i + 1]):
            ax.axvline(last + 1.5, color=GREY, linestyle=":", linewidth=1.2, label="phase boundary")
        if best is not None:
            ax.axvline(best + 1, color=PURPLE, linestyle="-.", linewidth=1.2, label=f"best epoch ({best + 1})")
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[1].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    lines = _mark_stages(axes, stages)
    axes[0].legend(
        unique.values(), unique.keys(), loc="lower center", bbox_to_anchor=(0.5, 1 + 0.08 * lines), ncols=4,
        frameon=False, fontsize=9, columnspacing=1.4,
    )  # fmt: skip
    return figure


def _stages(history: Sequence[Mapping[str, Any]]) -> list[tuple[int, int, str, str]]:
    """Return first epoch, last epoch, phase and image size of each part of a run with constant phase and size."""
    keys = [(_stage_text(row.get("phase")), _stage_text(row.get("image_size"))) for row in history]
    starts = [place for place, key in enumerate(keys) if not place or key != keys[place - 1]]
    ends = [*starts[1:], len(keys)]
    return [(start + 1, end, *keys[start]) for start, end in zip(starts, ends, strict=True)]


def _stage_text(value: Any) -> str:
    try:
        return f"{float(value):g}"
    except (TypeError, ValueError):
        return str(value or "")


def _phase_texts(phase: str) -> tuple[str, ...]:
    """Return names of a phase, the longest first."""
    what = _PHASES.get(phase)
    return (*([f"phase {phase}: {what}"] if what else []), f"phase {phase}", phase)


def _mark_stages(axes: Sequence[Axes], stages: Sequence[tuple[int, int, str, str]]) -> int:
    """Shade the stages in turn and write phases and sizes above the first axes; return the number of lines written."""
    for place, (first, last, _, _) in enumerate(stages):
        for ax in axes if place % 2 else ():
            ax.axvspan(first - 0.5, last + 0.5, color="black", alpha=0.05, linewidth=0, zorder=0)
    num_epochs = max(last for _, last, _, _ in stages) if stages else 1
    phases: dict[str, list[int]] = {}
    for first, last, phase, _ in stages:
        phases.setdefault(phase, [first, last])[1] = last
    rows: list[list[tuple[int, int, tuple[str, ...]]]]
    rows = [[(first, last, (f"{size} px", size)) for first, last, _, size in stages if size]]
    rows.append([(first, last, _phase_texts(phase)) for phase, (first, last) in phases.items() if phase])
    rows = [row for row in rows if row]
    for place, row in enumerate(rows):
        for first, last, texts in row:
            room = (last - first + 1) / num_epochs * _LETTERS_ACROSS
            text = next((text for text in texts if len(text) <= room), "")
            axes[0].annotate(
                text, ((first + last) / 2, 1), (0, 2 + 11 * place), xycoords=("data", "axes fraction"),
                textcoords="offset points", ha="center", va="bottom", fontsize=8, color=GREY,
            )  # fmt: skip
    return len(rows)


def plot_reliability(
    bins: Mapping[str, Sequence[Mapping[str, Any]]], *, title: str = "Reliability", ax: Axes | None = None
) -> Figure:
    """Plot accuracy over confidence, a curve for each state of the model; a marker's area shows the number of images.

    Args:
        bins: name of the state (such as "before" and "after") -> `bins` of `evaluation.calibration_metrics`.
        title: above the figure.
        ax: where to draw.
    """
    figure, ax = _axes(ax, height=5.2)
    ax.plot([0, 1], [0, 1], ":", color=GREY, label="perfectly calibrated")
    styles = ((VERMILION, "--", "s"), (BLUE, "-", "o"), (GREEN, "-.", "^"))
    for (name, rows), (colour, line, marker) in zip(bins.items(), styles, strict=False):
        filled = [row for row in rows if row["count"]]
        confidence, accuracy = [row["confidence"] for row in filled], [row["accuracy"] for row in filled]
        share = np.array([row["count"] for row in filled]) / max(sum(row["count"] for row in filled), 1)
        ax.plot(confidence, accuracy, line, color=colour, linewidth=1.4, zorder=2)
        ax.scatter(confidence, accuracy, 12 + 600 * share, color=colour, marker=marker, alpha=0.65, zorder=3)
        ax.plot([], [], line, color=colour, marker=marker, label=plain(name))
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="score of the predicted class", ylabel="share of right answers")
    ax.set_aspect("equal")
    ax.set_title(plain(title))
    ax.grid(alpha=0.3)
    ax.legend(loc="upper left", frameon=False)
    return figure


def plot_selective(
    selective: Mapping[str, Any], *, title: str = "Selective accuracy", ax: Axes | None = None
) -> Figure:
    """Plot accuracy over the share of answered images, and mark the largest share with 90 % right.

    Args:
        selective: the result of `evaluation.selective_accuracy`.
        title: above the figure.
        ax: where to draw.
    """
    figure, ax = _axes(ax, height=4.6)
    curve = selective["curve"]
    shares, accuracy = [row["share"] for row in curve], [row["accuracy"] for row in curve]
    ax.plot(shares, accuracy, "-", color=BLUE, label=f"answered by score, mean {selective['area']:.3f}")
    ax.axhline(accuracy[-1], linestyle=":", color=GREY, label=f"all images, {percent(accuracy[-1])}")
    if selective["score_for_90"] is not None:
        share = selective["share_for_90"]
        label = f"90 % are right: score {selective['score_for_90']:.2f} or more, {percent(share)} of the images"
        ax.axvline(share, linestyle="--", color=VERMILION, label=label)
    ax.set(
        xlim=(0, 1), ylim=(min(0.5, *accuracy), 1.02), xlabel="share of images answered, the highest scores first",
        ylabel="share of these that are right",
    )  # fmt: skip
    ax.set_title(plain(title))
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), frameon=False)  # inside the axes, lines would cross it
    return figure


def plot_corruptions(
    result: Mapping[str, Any], names: Sequence[str] = ("", ""), *, title: str = "Accuracy under corruption"
) -> Figure:
    """Plot accuracy against strength, a panel for each kind of corruption.

    Args:
        result: the result of `evaluation.measure_corruptions`; with `against`, both models are drawn.
        names: names of the model and of the other model.
        title: above the figure; says which model and split.
    """
    kinds = list(result["kinds"])
    columns = 4
    rows = -(-len(kinds) // columns)
    figure = Figure(figsize=(WIDTH, 0.9 + 1.55 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    models = [(names[0], BLUE, result), (names[1], ORANGE, result.get("against"))]
    for ax, kind in zip(axes.flat, kinds, strict=False):
        for label, colour, part in models:
            if part:
                values = [part["clean"], *part["kinds"][kind]["accuracies"]]
                ax.plot(range(len(values)), values, marker="o", markersize=3, color=colour, label=plain(label))
        ax.set_title(plain(kind), fontsize=9)
        ax.grid(alpha=0.3)
        ax.set(ylim=(0, 1), xticks=range(6))
    for ax in list(axes.flat)[len(kinds) :]:
        ax.set_visible(False)
    figure.suptitle(plain(title), fontsize=10)
    figure.supxlabel("strength (0: the unchanged image)", fontsize=9)
    figure.supylabel("accuracy", fontsize=9)
    if "against" in result:
        axes[0, 0].legend(fontsize=7)
    return figure


def plot_class_balance(
    counts: Mapping[str, Sequence[int]], class_names: Sequence[str], *, ax: Axes | None = None
) -> Figure:
    """Plot the images of each class in each split, with the number beside each bar.

    Args:
        counts: split -> C numbers of images.
        class_names: C names.
        ax: where to draw.
    """
    present = {split: np.asarray(values) for split, values in counts.items() if np.sum(values)}
    figure, ax = _axes(ax, height=1.4 + 0.26 * len(class_names) * max(len(present), 1))
    height = 0.84 / max(len(present), 1)
    for i, (split, values) in enumerate(present.items()):
        centre = np.arange(len(class_names)) - 0.42 + (i + 0.5) * height
        shares = [f"{value:,} ({percent(value / values.sum())})" for value in values]
        _bars(ax, centre, height, values, shares, label=plain(split), color=SPLIT_COLOURS.get(split, GREY))
    _finish_bars(ax, class_names)
    ax.set(xlabel="images (share of the split)")
    ax.margins(x=0.2)
    return figure


def plot_class_scores(
    per_class: Sequence[Mapping[str, Any]], *, title: str = "Scores by class", ax: Axes | None = None
) -> Figure:
    """Plot precision, recall and F1 of each class, with its number of images.

    Args:
        per_class: rows of `evaluation.evaluate`'s `per_class`.
        title: above the figure; says which model and split.
        ax: where to draw.
    """
    figure, ax = _axes(ax, height=1.6 + 0.66 * len(per_class))
    height = 0.28
    for i, (key, colour) in enumerate((("precision", BLUE), ("recall", ORANGE), ("f1", GREEN))):
        values = [row[key] for row in per_class]
        centre = np.arange(len(per_class)) + (i - 1) * height
        texts = [number(value, ".2f") for value in values]
        _bars(ax, centre, height, values, texts, label="F1" if key == "f1" else key, color=colour)
    _finish_bars(ax, [f"{row['name']} ({row['support']:,})" for row in per_class])
    ax.set(xlabel="score", xlim=(0, 1.08), xticks=np.linspace(0, 1, 6), ylabel="class (images)")
    ax.set_title(plain(title), pad=26)
    return figure


def plot_contact_sheet(
    images: np.ndarray,
    captions: Sequence[str],
    *,
    num_columns: int = 6,
    title: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Plot grey images in rows, with a caption of up to three lines below each.

    Args:
        images: uint8 or float (n, height, width), grey, in [0, 255].
        captions: n texts, such as "sad, not fear: 0.98".
        num_columns: number of images in a row.
        title: above the sheet.
        ax: where to draw.
    """
    num_columns = max(1, min(num_columns, len(images)))
    num_rows = math.ceil(len(images) / num_columns)
    cell = min(WIDTH / num_columns, 1.6)  # inches; the limit keeps a few images from filling the page's width
    texts = [_wrapped(caption, int(cell / 0.064)) for caption in captions]  # as many letters as fit into a cell
    num_lines = max((text.count("\n") + 1 for text in texts), default=0)
    caption_height = (0.05 + 0.125 * num_lines) / cell  # in units of an image's side
    figure, ax = _axes(ax, height=max(num_rows, 1) * cell * (1 + caption_height) + (0.4 if title else 0.1))
    for i, (image, text) in enumerate(zip(images, texts, strict=True)):
        left, top = i % num_columns, (i // num_columns) * (1 + caption_height)
        box = (left + 0.03, left + 0.97, top + 0.97, top + 0.03)
        ax.imshow(image, cmap="gray", vmin=0, vmax=255, extent=box, interpolation="nearest")
        ax.text(left + 0.5, top + 0.99, plain(text), ha="center", va="top", fontsize=7, linespacing=1.15)
    ax.set(xlim=(0, num_columns), ylim=(num_rows * (1 + caption_height), 0), aspect="equal")
    ax.set_axis_off()
    if title:
        ax.set_title(plain(title))
    return figure


def plot_example_answers(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    *,
    title: str = "",
    seed: int = 0,
    ax: Axes | None = None,
) -> Figure:
    """Plot right and wrong answers of each class, drawn at random: a row for each class, right answers on the left.

    Args:
        images: uint8 (n, height, width), grey.
        labels: int (n,), in [0, C).
        probabilities: float (n, C).
        class_names: C names.
        title: text after "Right and wrong answers".
        seed: seed of the draw.
        ax: where to draw.
    """
    rng = np.random.default_rng(seed)
    top = probabilities.argmax(axis=1)
    blank = np.full(images.shape[1:], 255, np.uint8)
    cells, captions = [], []
    for label, name in enumerate(class_names):
        for is_right in (True, False):
            rows = np.flatnonzero((labels == label) & ((top == labels) == is_right))
            for row in rng.permutation(rows)[:_EXAMPLES]:
                cells.append(images[row])
                score = f"{100 * probabilities[row, top[row]]:.0f} %"
                other = class_names[top[row]]
                captions.append(f"{name}\nright, {score}" if is_right else f"{name} as\n{other}, {score}")
            missing = _EXAMPLES - min(len(rows), _EXAMPLES)
            cells += [blank] * missing
            captions += [""] * missing
    title = f"Right and wrong answers{', ' if title else ''}{title}"
    return plot_contact_sheet(np.stack(cells), captions, num_columns=2 * _EXAMPLES, title=title, ax=ax)


def plot_mean_faces(
    means: np.ndarray, names: Sequence[str], counts: Sequence[int], *, num_columns: int = 7, ax: Axes | None = None
) -> Figure:
    """Plot the mean image of each class.

    Args:
        means: float (n, height, width), in [0, 255].
        names: n captions, such as the class and its split.
        counts: n numbers of images.
        num_columns: number of images in a row; more than seven count as seven.
        ax: where to draw.
    """
    captions = [f"{name}\n{quantity(count, 'image')}" for name, count in zip(names, counts, strict=True)]
    return plot_contact_sheet(means, captions, num_columns=min(7, num_columns), title="Mean face by class", ax=ax)


def plot_scores_over_time(
    curves: Mapping[int, tuple[np.ndarray, np.ndarray]], class_names: Sequence[str], *, title: str = "Scores over time"
) -> Figure:
    """Plot the scores of a video's faces: a panel for each face, a line for each emotion.

    A line has a gap where the face was not seen for more than a second or three times the usual interval.

    Args:
        curves: number of a face -> float (n,), rising times in seconds, and float (n, C), scores in [0, 1]. If there
            are more than `MAX_PANELS` faces, the faces with the most points are shown.
        class_names: C names.
        title: above the figure.
    """
    most = sorted(curves, key=lambda face: -len(curves[face][0]))[:MAX_PANELS]
    faces = sorted(most)
    if len(faces) < len(curves):
        title = f"{title} ({len(faces)} of {len(curves)} faces: those seen longest)"
    num_rows = max(len(faces), 1)
    figure = Figure(figsize=(WIDTH, 1.5 + 1.7 * num_rows), layout="constrained")
    axes = figure.subplots(num_rows, 1, sharex=True, squeeze=False)[:, 0]
    for ax, face in zip(axes, faces, strict=False):
        seconds, scores = _with_gaps(*curves[face])
        for i, name in enumerate(_names(class_names)):
            colour, style = EMOTION_COLOURS[i % len(EMOTION_COLOURS)], ("-", "--", ":")[i // len(EMOTION_COLOURS) % 3]
            marker = "o" if len(seconds) < 4 else ""  # a line needs two points
            ax.plot(seconds, scores[:, i], style, color=colour, label=name, linewidth=1.5, marker=marker, markersize=3)
        ax.set(ylim=(0, 1), ylabel=f"face {face}\nscore")
    for ax in axes:
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("time, s")
    if faces:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=min(7, len(labels)), frameon=False, fontsize=9)
    axes[0].set_title(plain(title), fontsize=11)
    return figure


def _with_gaps(seconds: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add a NaN point, which breaks a line, before each point that follows late."""
    intervals = np.diff(seconds)
    usual = float(np.median(intervals)) if len(intervals) else 0.0
    late = np.flatnonzero(intervals > max(1.0, 3 * usual)) + 1
    return np.insert(seconds.astype(float), late, np.nan), np.insert(scores.astype(float), late, np.nan, axis=0)


def _axes(ax: Axes | None, *, height: float) -> tuple[Figure, Axes]:
    if ax is not None:
        return _figure_of(ax), ax
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _figure_of(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure


def plain(text: str) -> str:
    """Return a text that Matplotlib draws unchanged, in any script for which this system has a font.

    Dollar signs are escaped, because Matplotlib reads the text between two of them as a formula.
    """
    if not text.isascii():
        text = without_lost_letters(text)
        if path := font_file(text):
            fonts.fontManager.addfont(path)
            name = fonts.FontProperties(fname=path).get_name()
            if name not in rcParams["font.sans-serif"]:  # Matplotlib takes each letter from the first font that has it
                rcParams["font.sans-serif"] = [*rcParams["font.sans-serif"], name]
                rcParams["font.family"] = ["sans-serif", name]
    return text.replace("$", r"\$")


def _wrapped(caption: str, width: int) -> str:
    lines = [part for line in caption.splitlines() for part in textwrap.wrap(line, width)]
    return "\n".join(lines if len(lines) <= 3 else [*lines[:2], lines[2][: width - 3].rstrip() + "..."])


def _names(class_names: Sequence[str]) -> list[str]:
    return [plain(name if len(name) <= 20 else name[:18] + "...") for name in class_names]


def _fit_side_by_side(names: Sequence[str]) -> bool:
    return max(map(len, names)) * len(names) <= 66


def _clamped(value: float, low: float, high: float) -> float:
    return max(low, min(value, high))


def _column(history: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    return np.array([np.nan if row.get(key) in (None, "") else float(row[key]) for row in history])


def _bars(ax: Axes, centre: np.ndarray, height: float, values: Any, texts: Sequence[str], **style: Any) -> None:
    ax.bar_label(ax.barh(centre, values, height * 0.92, **style), texts, padding=3, fontsize=8)


def _finish_bars(ax: Axes, names: Sequence[str]) -> None:
    """Label the groups of bars, the first on top, and add the legend."""
    ax.set_yticks(range(len(names)), _names(names))
    ax.invert_yaxis()
    ax.grid(axis="x", alpha=0.3)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
