"""Timings as text tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fer_tf.task import split_title
from fer_tf.text import megabytes, network_name, percent, points_with_interval

QUIET_LOAD = 0.3  # a higher load average means that something else was running


def head(figures: dict[str, Any]) -> str:
    of_machine, load = figures["machine"], figures["load_average"]
    memory = f", {of_machine['memory_gib']} GiB" if of_machine["memory_gib"] else ""
    lines = [
        f"{of_machine['cpu']}, {of_machine['cores']} cores{memory}, {of_machine['system']}",
        ", ".join(f"{name} {version}" for name, version in figures["versions"].items()),
    ]
    if load is not None:
        disturbed = f", above {QUIET_LOAD}: something else was running and disturbs these figures"
        lines.append(f"load average before the start {load:.2f}" + (disturbed if figures["disturbed"] else ""))
    return "\n".join(lines)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *notes: str) -> str:
    """Return a table: title, head, right-aligned rows with the first cell on the left, and notes."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        return "  ".join([first.strip().ljust(widths[0]), *others])

    return "\n".join([title, *map(line, (columns, *rows)), *notes])


def _format_decode(found: dict[str, Any], figures: dict[str, Any]) -> str:
    return f"Decoding {found['num_rows']:,} pixel strings (synthetic) to uint8: {found['rows_per_s']:,.0f} rows/s"


def _format_pipeline(found: list[dict[str, Any]], figures: dict[str, Any]) -> str:
    batch_size = figures["settings"]["batch_size"]
    return _table(
        f"Input pipeline alone, uint8 in memory to batches of {batch_size}, images/s",
        ("px", "plain", "augmented"),
        [
            (str(row["image_size"]), f"{row['eval_images_per_s']:,.0f}", f"{row['train_images_per_s']:,.0f}")
            for row in found
        ],
    )


def _format_train(found: list[dict[str, Any]], figures: dict[str, Any]) -> str:
    first = found[0]
    devices = ", ".join(first["devices"])
    keys = ("step_ms", "forward_ms", "backward_ms", "optimizer_ms", "input_ms")
    return _table(
        f"Training step of {network_name(first['width'])}, all layers, batches of "
        f"{figures['settings']['batch_size']}, {first['precision']}, {first['backend']} on {devices}",
        ("px", "images/s", "step, ms", "forward", "backward", "optimiser", "input"),
        [
            (str(row["image_size"]), f"{row['images_per_s']:,.1f}", *(f"{row[key]:,.1f}" for key in keys))
            for row in found
        ],
        "step: Keras's fit with its input. forward, backward: functions compiled apart, on one batch; backward is what",
        "forward and backward take, less forward. optimiser: fit on that batch less these two, so with metrics and",
        "fit's own work. input: what fit takes longer when each batch is made for it. Medians; small differences are",
        "noise.",
    )


def left_out(reasons: dict[str, str]) -> str:
    parts = [
        f"{', '.join(part for part, why in reasons.items() if why == reason)}: {reason}"
        for reason in dict.fromkeys(reasons.values())
    ]
    return "Left out: " + "; ".join(parts)


def feed_margin(figures: dict[str, Any]) -> str:
    pairs = zip(figures["pipeline"], figures["train"], strict=True)
    margins = [
        f"{made['train_images_per_s'] / used['images_per_s']:.0f} at {made['image_size']} px" for made, used in pairs
    ]
    return f"The augmented pipeline makes images this many times faster than the step uses them: {', '.join(margins)}"


def _format_latency(found: list[dict[str, Any]], figures: dict[str, Any]) -> str:
    rows = [
        (
            row["file"],
            str(row["image_size"] or "-"),
            str(row.get("num_threads", "Keras")),
            str(row["num_crops"]),
            f"{row['median_ms']:,.2f}",
            f"{row['p5_ms']:,.2f} - {row['p95_ms']:,.2f}",
            f"{row['crops_per_s']:,.0f}",
        )
        for row in found
    ]
    return _table(
        "Prediction of grey crops, preprocessing included",
        ("model", "px", "threads", "crops", "ms a call", "5 - 95 %", "crops/s"),
        rows,
        "ms: median of calls with that many crops, after a warm-up; a .tflite works on a crop by one thread.",
        "crops/s: a .tflite's in calls with many crops, Keras's in the same calls.",
    )


def _format_startup(found: list[dict[str, Any]], figures: dict[str, Any]) -> str:
    return _table(
        "Start-up: a fresh process imports fer_tf.inference, opens the model, predicts one crop, ends",
        ("model", "s", "peak MiB"),
        [(row["file"], f"{row['median_s']:.2f}", f"{row['peak_memory_mib']:,.0f}") for row in found],
    )


def against(found: list[dict[str, Any]], split: str | None) -> str:
    """Table of another project's classifier and ours; without `accuracy` in the figures, its columns are left out."""
    scored = "accuracy" in found[0]
    rows = []
    for row in found:
        cells = [
            row["file"],
            str(row["image_size"] or "-"),
            megabytes(row["size_bytes"]),
            f"{row['median_ms']:,.3f}",
            f"{row['p5_ms']:,.3f} - {row['p95_ms']:,.3f}",
        ]
        if scored:
            cells += [percent(row["accuracy"], 2), points_with_interval(row) if "difference" in row else "-"]
        rows.append(cells)
    columns = ["model", "px", "size", "ms", "5 - 95 %"]
    notes = ["One face on one thread, the models in turn. ms: median; the first model's resizing is not counted."]
    if scored:
        columns += ["accuracy", "less the first's (95 %)"]
        notes.append(
            f"Accuracy on {split_title(split or '')}, {found[0]['num_images']:,} images; differences in points, paired "
            "bootstrap."
        )
    return _table(f"{found[0]['file']} beside ours", columns, rows, *notes)


FORMAT: dict[str, Callable[..., str]] = {
    "decode": _format_decode, "pipeline": _format_pipeline, "train": _format_train, "latency": _format_latency,
    "startup": _format_startup,
}  # fmt: skip
