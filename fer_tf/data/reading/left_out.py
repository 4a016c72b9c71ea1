"""Messages about files and rows that cannot be read or are left out: one message, a count by reason, a list."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from fer_tf.artifacts import left_out_list, write_text
from fer_tf.errors import InputError
from fer_tf.text import quantity, shown, shown_path

logger = logging.getLogger(__name__)

NUM_NAMED = 10  # files or rows that a message names
_NUM_SHOWN = 3  # files or rows that a log line shows for each reason
_NUM_STRAY = 4  # up to this many rows with the same unknown split or label may be mistakes
_TOLD_SHARE = 0.01  # warn if a larger part is left out


def say_left_out(left_out: Mapping[str, Sequence[str]], num_read: int, name: str, unit: str = "file") -> None:
    """Log how many files or rows were left out for each reason; warn if they are more than 1 %.

    Args:
        left_out: reason -> names of the files or rows that were left out.
        num_read: number of files or rows that were read.
        name: name of the data set in messages.
        unit: "file" or another word for one of them.
    """
    if not left_out:
        return
    total = sum(map(len, left_out.values()))
    texts = []
    for reason, files in left_out.items():
        some = ", ".join(map(shown, files[:_NUM_SHOWN])) + (", ..." if len(files) > _NUM_SHOWN else "")
        texts.append(f"{len(files):,} {reason} ({some})")
    counted = quantity(num_read + total, unit)
    level = logging.WARNING if total > _TOLD_SHARE * (num_read + total) else logging.INFO
    logger.log(level, "%s: left out %s of %s: %s", name, f"{total:,}", counted, ", ".join(texts))


def broken_text(
    broken: Mapping[str, str],
    name: str,
    total: int,
    *,
    unit: str = "file",
    one: str = "",
    can_skip: bool = True,
    common: str = "",
) -> str:
    """Name the files or rows that cannot be read: up to ten in the message, and all of them in a file.

    Args:
        broken: name -> reason, in the order of the message.
        name: name of the data set in messages.
        total: number of files or rows, broken ones included.
        unit: "file" or another word for one of them.
        one: words for a single broken file or row; if empty, `name` and the file's own name.
        can_skip: True to propose --skip-broken, because enough is left without them.
        common: a common reason, as from `unknown_name`; leaving out so many would not help.
    """
    go_on = ", or leave out what cannot be read with --skip-broken" if can_skip and not common else ""
    if len(broken) == 1:
        ((own, reason),) = broken.items()
        return f"{one or f'{name}: {shown_path(own)}'}: {reason}{go_on}"
    texts = [f"{shown_path(own)} ({reason.partition(';')[0]})" for own, reason in broken.items()]
    some = ", ".join(texts[:NUM_NAMED]) + (f" and {len(texts) - NUM_NAMED:,} more" if len(texts) > NUM_NAMED else "")
    whole_list = ""
    key = hashlib.sha256("\n".join([name, *texts]).encode(errors="backslashreplace")).hexdigest()
    with contextlib.suppress(InputError, OSError):  # without the list, the message still says what is wrong
        path = left_out_list(key)
        write_text(path, "".join(f"{shown_path(own)}\t{reason}\n" for own, reason in broken.items()))
        whole_list = f"; all are listed in {shlex.quote(str(path))}"
    remedy = common or "replace or remove them"
    return f"{name}: {len(broken):,} of {quantity(total, unit)} cannot be read: {some}{whole_list}; {remedy}{go_on}"


def leaves_enough(
    kept: Iterable[tuple[str, object]], lost: Iterable[tuple[str, object]], *, unsplit: bool = False
) -> bool:
    """Return True if every split and class that loses rows still has rows after the cut.

    Args:
        kept: split and class of each row that can be read.
        lost: split and class of each row that cannot be read.
        unsplit: True if the source has no splits.
    """
    counts = Counter(kept)
    lost = set(lost)
    has_validation = any(split == "validation" for split, _ in counts.keys() | lost)
    needed = 1 + (not has_validation) + unsplit  # rows in train, from which the other splits are cut
    return bool(counts) and all(counts[split, own] >= (needed if split == "train" else 1) for split, own in lost)


def unknown_name(reasons: Iterable[str], total: int) -> str:
    """Return the advice for a split or label that is unknown in so many rows that it is no mistake; else "".

    Args:
        reasons: the reason of each row whose split or label is unknown.
        total: number of rows.
    """
    reason, count = Counter(reasons).most_common(1)[0] if (reasons := list(reasons)) else ("", 0)
    is_meant = count > max(_NUM_STRAY, _TOLD_SHARE * total)
    return f"{quantity(count, 'row')} with {reason}" if is_meant else ""
