"""Text for people: numbers, durations, intervals, settings, and names from other people's files.

Every function that turns a number into text is here, so that a figure looks the same wherever it is shown. None becomes
a dash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# --- Numbers ---


def number(value: float | None, form: str, unit: str = "") -> str:
    """Format a number by a format specification such as `.3f`, with its unit after it."""
    return "-" if value is None else format(value, form) + unit


def percent(share: float | None, decimals: int = 1) -> str:
    """Format a share in [0, 1]: 52.5 %."""
    return number(None if share is None else 100 * share, f".{decimals}f", " %")


def points(difference: float) -> str:
    """Format a difference of two shares in percentage points, with its sign: +1.25."""
    return f"{100 * difference:+.2f}"


def points_with_interval(scores: Mapping[str, Any]) -> str:
    """Format a paired difference in percentage points with its 95 % interval: -0.20 (-0.61 to +0.22).

    Args:
        scores: with `difference` and `difference_interval`, as returned by `evaluation.compare`.
    """
    low, high = scores["difference_interval"]
    return f"{points(scores['difference'])} ({points(low)} to {points(high)})"


def quantity(count: float, unit: str) -> str:
    """Format a number of things: 1 image, 3,589 images."""
    return f"{count:,.10g} {unit}{'' if count == 1 else 's'}"


def megabytes(size_bytes: int | None) -> str:
    return number(None if size_bytes is None else size_bytes / 1e6, ".2f", " MB")


def interval(bounds: Sequence[float], form: str = ".3f") -> str:
    """Format the two ends of an interval: 0.450 to 0.510."""
    low, high = bounds
    return f"{low:{form}} to {high:{form}}"


def with_interval(scores: Mapping[str, Any] | None, key: str, label: str = "", *, decimals: int = 1) -> str:
    """Format a score with its 95 % interval: 65.3 % (63.7 to 66.9), or 0.640 (0.620 to 0.655).

    Args:
        scores: the result of `evaluation.evaluate`, with `key` and `key`_interval.
        key: `accuracy`, which is shown in percent, or another score, which is shown unchanged.
        label: text before the interval, such as "95 % interval ".
        decimals: number of decimals of an accuracy.
    """
    if not scores:
        return "-"
    bounds = scores[f"{key}_interval"]
    if key == "accuracy":
        return f"{percent(scores[key], decimals)} ({label}{interval([100 * x for x in bounds], f'.{decimals}f')})"
    return f"{scores[key]:.3f} ({label}{interval(bounds)})"


def span(values: Sequence[float | None], form: str) -> str:
    """Format the first and the last of some numbers, or a single one if both look the same."""
    known = [format(value, form) for value in values if value is not None]
    if not known:
        return "-"
    return known[0] if known[0] == known[-1] else f"{known[0]} to {known[-1]}"


def duration(seconds: float) -> str:
    """Format a duration, below an hour to the second, else to the minute: 45 s, 3 min 20 s, 2 h 05 min."""
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min" + (f" {total % 60:02d} s" if total % 60 else "")
    minutes = round(total / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


# --- Words ---


def setting(value: Any) -> str:
    """Format the value of a setting: yes, 0.001, two.tflite, one.keras."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


def votes_text(label_source: Mapping[str, str]) -> str:
    """Describe the votes that `Dataset.label_source` names as the labels."""
    return f"the {label_source['as']} of the votes in {label_source['file']}"


def listed(words: Sequence[str], conjunction: str = "and") -> str:
    """Join words: a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {conjunction} {words[-1]}"


def capital(text: str) -> str:
    """Make the first letter a capital; leave the others as they are."""
    return text[:1].upper() + text[1:]


def network_name(width: float | None) -> str:
    """Name a network by its width coefficient: EfficientNet-B0, or EfficientNet-B0 at 0.5 of its width."""
    return "EfficientNet-B0" if width in (None, 1) else f"EfficientNet-B0 at {width:g} of its width"


# --- Text from other people's files ---


def shown(text: str | bytes) -> str:
    """Quote, escape and shorten a piece of a file for an error message."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 40 else text[:37] + "...")


def shown_path(path: Path | str) -> str:
    """Return a path as text; escape it if it holds characters that cannot be printed."""
    return str(path) if str(path).isprintable() else ascii(str(path))


def printable(text: str) -> str:
    """Escape control characters, line ends and lone surrogates."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "backslashreplace").decode()
        for letter in text
    )
