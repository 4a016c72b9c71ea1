"""Numbers and foreign text as people read them: percentages, durations, intervals, settings, names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def duration(seconds: float) -> str:
    """Seconds as people write them: 45 s, 3 min 20 s, 2 h 05 min."""
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    return f"{total // 3600} h {total % 3600 // 60:02d} min"


def shown(text: str | bytes) -> str:
    """A piece of foreign text for an error message: quoted, escaped, short."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 40 else text[:37] + "...")


def shown_path(path: Path | str) -> str:
    return str(path) if str(path).isprintable() else ascii(str(path))


def with_interval(found: Mapping[str, Any], key: str, called: str = "") -> str:
    low, high = found[f"{key}_interval"]
    if key == "accuracy":
        return f"{percent(found[key])} ({called}{100 * low:.1f} to {100 * high:.1f})"
    return f"{found[key]:.3f} ({called}{low:.3f} to {high:.3f})"


def megabytes(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else f"{size_bytes / 1e6:.2f} MB"


def number(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else format(value, form) + unit


def span(values: Sequence[float | None], form: str) -> str:
    """The first and the last number, or the one if they look alike."""
    known = [format(value, form) for value in values if value is not None]
    if not known:
        return "-"
    return known[0] if known[0] == known[-1] else f"{known[0]} to {known[-1]}"


def rounded_duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def setting(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


def listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def quantity(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def printable(text: str) -> str:
    """Untrusted text with control characters, line ends and lone surrogates as escapes."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "backslashreplace").decode()
        for letter in text
    )
