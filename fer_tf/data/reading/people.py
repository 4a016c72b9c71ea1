"""Tells which person a picture shows by the path of its file."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from fer_tf.errors import InputError
from fer_tf.text import shown

# File names of published sets that begin with the person: CK+ S005_001_00000011.png, JAFFE KA.AN1.39.tiff.
_KNOWN_SUBJECTS = (
    re.compile(r"(?:^|/)(S\d{3})_\d{3}_\d{8}[^/]*$", re.ASCII),
    re.compile(r"(?:^|/)([A-Z]{2})\.(?:AN|DI|FE|HA|NE|SA|SU)\d\.\d+[^/]*$", re.ASCII),
)


def subject_finder(pattern: str | None) -> Callable[[str], str]:
    """Return a function that finds the person in a relative path; it returns "" where nothing tells.

    Args:
        pattern: a regular expression whose first group, or all of whose match, is the person; None for the names of
            published sets.

    Raises:
        InputError: if the pattern is no regular expression.
    """
    if pattern is None:
        patterns: Sequence[re.Pattern[str]] = _KNOWN_SUBJECTS
    else:
        try:
            patterns = [re.compile(pattern)]
        except re.error as error:
            raise InputError(f"--subjects {shown(pattern)}: no regular expression ({error}); mend it") from None

    def find(relative: str) -> str:
        for known in patterns:
            if match := known.search(relative):
                return (match[1] if known.groups else match[0]) or ""
        return ""

    return find
