"""Finds the person that a picture shows in the path of its file."""

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
    """Return a function that finds the person in a relative path; it returns "" if the path names no person.

    Args:
        pattern: a regular expression; its first group, or else its match, is the person. None for the file names of
            published sets.

    Raises:
        InputError: if the pattern is not a regular expression.
    """
    if pattern is None:
        patterns: Sequence[re.Pattern[str]] = _KNOWN_SUBJECTS
    else:
        try:
            patterns = [re.compile(pattern)]
        except re.error as error:
            raise InputError(f"--subjects {shown(pattern)}: not a regular expression ({error}); mend it") from None

    def find(relative: str) -> str:
        for known in patterns:
            if match := known.search(relative):
                return (match[1] if known.groups else match[0]) or ""
        return ""

    return find
