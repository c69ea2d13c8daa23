"""What was wrong with data, and what was done about it: the rows of a run's ``data_report.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import attrs
import numpy as np
import numpy.typing as npt

from detcore.errors import DataError


@attrs.frozen
class Flaw:
    """One thing that is not what it should be and that a dataset was told to live with.

    Attributes:
        where: The file and what of it, e.g. ``train.json: annotation 7 (image 139)``.
        what: What was found, e.g. ``the box [3, 4, 0, 9] has no area``.
        action: What was done: ``dropped``, ``clipped``, ...
        kind: What flaws are counted by, e.g. ``box without area``.
    """

    where: str
    what: str
    action: str
    kind: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.action}"


def summarize(flaws: Iterable[Flaw]) -> dict[str, int]:
    """How many flaws there are by kind and action, most first: ``{"box without area: dropped": 12}``."""
    return dict(Counter(f"{flaw.kind}: {flaw.action}" for flaw in flaws).most_common())


@attrs.frozen(eq=False)
class Finding:
    """Entries of a dataset that have the same thing wrong with them.

    Attributes:
        kind: In a few words.
        rows: Which entries.
        what: Says of an entry what was found.
        action: What ``invalid = "skip"`` does about it: ``dropped``, ``clipped``; or ``kept``, of what is only odd.
    """

    kind: str
    rows: npt.NDArray[np.int64]
    what: Callable[[int], str]
    action: str = "dropped"


def settle(
    findings: Iterable[Finding], where: Callable[[int], str], count: int, skip: bool, report: list[Flaw]
) -> npt.NDArray[np.bool_]:
    """Raise for the first finding, or note them all; what is only odd (``kept``) is noted always.

    Args:
        findings: What is wrong.
        where: Says of an entry where it is.
        count: Number of entries.
        skip: Note instead of raising.
        report: Takes the notes.

    Returns:
        (count,) which entries stay.

    Raises:
        DataError: Something is wrong and ``skip`` is not set.
    """
    stay = np.ones(count, np.bool_)
    for finding in findings:
        rows = finding.rows.tolist()
        if rows and not skip and finding.action != "kept":
            more = f"it and {len(rows) - 1} more like it" if len(rows) > 1 else "it"
            fix = f'Mend it, or set invalid = "skip": {more} will be {finding.action} and reported.'
            raise DataError(where(rows[0]), finding.what(rows[0]), fix)
        report.extend(Flaw(where(row), finding.what(row), finding.action, finding.kind) for row in rows)
        if finding.action == "dropped":
            stay[finding.rows] = False
    return stay
