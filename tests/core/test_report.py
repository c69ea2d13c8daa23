from __future__ import annotations

import numpy as np
import pytest
from detcore.errors import DataError
from detcore.report import Finding, Flaw, settle, summarize


def findings() -> list[Finding]:
    def what(row: int) -> str:
        return f"entry {row} is odd"

    rows = [("odd", [0], "kept"), ("flat", [], "dropped"), ("wide", [1], "clipped"), ("lost", [2, 3], "dropped")]
    return [Finding(kind, np.array(each, np.int64), what, action) for kind, each, action in rows]


def test_what_is_skipped_is_dropped_clipped_or_kept_and_noted() -> None:
    report: list[Flaw] = []
    stay = settle(findings(), "a.json: {}".format, 5, skip=True, report=report)
    assert stay.tolist() == [True, True, False, False, True]
    assert summarize(report) == {"lost: dropped": 2, "odd: kept": 1, "wide: clipped": 1}
    assert str(report[-1]) == "a.json: 3: entry 3 is odd; dropped"


def test_the_first_flaw_is_an_error_that_counts_its_like_and_what_is_only_odd_is_none() -> None:
    report: list[Flaw] = []
    with pytest.raises(DataError) as caught:
        settle([findings()[0], findings()[3]], "a.json: {}".format, 5, skip=False, report=report)
    fix = 'Mend it, or set invalid = "skip": it and 1 more like it will be dropped and reported.'
    assert str(caught.value) == f"a.json: 2: entry 2 is odd. {fix}"
    assert [flaw.kind for flaw in report] == ["odd"]
    assert settle(findings()[:2], "a.json: {}".format, 5, skip=False, report=report).all()
