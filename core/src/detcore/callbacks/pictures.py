"""The pictures that a run keeps in its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import NonNegativeFloat

from detcore.curves import curves
from detcore.errors import UserError
from detcore.interfaces import Callback
from detcore.pictures import samples_sheet


class Pictures(Callback):
    """Keeps two pictures of the run in its folder: ``curves.png`` and, after each validation, ``samples.png``.

    A picture that cannot be made is a line on the console; the run goes on.

    Args:
        threshold: The score from which on a detection is drawn.
    """

    stage: ClassVar[str] = "report"

    def __init__(self, *, threshold: NonNegativeFloat = 0.3) -> None:
        self.threshold = threshold

    def evaluated(self, run: Any, metrics: Mapping[str, float]) -> None:
        """Both, from what was just found."""
        self.run_ended(run)
        found, path = run.evaluation, run.folder / "samples.png"
        if found is not None and found.samples:
            _try(lambda: samples_sheet(found.dataset, found.samples, path, threshold=self.threshold), path)

    def run_ended(self, run: Any) -> None:
        """The curves."""
        path = run.folder / "curves.png"
        _try(lambda: curves(run.folder / "log.jsonl", path), path)


def _try(make: Callable[[], None], path: Path) -> None:
    try:
        make()
    except (UserError, OSError) as error:
        print(f"{path} was not written: {error}", flush=True)
