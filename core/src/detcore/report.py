"""What was wrong with data, and what was done about it: the rows of a run's ``data_report.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import attrs


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
