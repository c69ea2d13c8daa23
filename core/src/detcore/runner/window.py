"""The losses since the last report: kept on the device, fetched at once, and watched for what is not finite."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from detcore.data import RawBatch
from detcore.errors import TrainingError
from detcore.report import Flaw
from detcore.structures import Losses

Entry = tuple[int, tuple[str, ...], Tensor, Sequence[int | str]]
"""A step, names, their values (N,) on the device, the images they are of."""


FIX = "Lower the learning rate, clip gradients, or look at these images; checkpoints are from before."
LATE = f"{FIX} With train.watch_every_step = true the step is saved, and it is told where that began."


class NotFinite(TrainingError):
    """A loss or gradient is infinite or not a number."""


class Window:
    """Named scalars of some steps.

    On the CPU each is looked at as it comes, before the weights are touched. On an accelerator that would make every
    step wait for the device: there it happens once per report, and before anything is written to disk, unless
    ``every_step`` says otherwise.

    Attributes:
        flaws: What datasets had to live with in all batches so far, in order.
    """

    def __init__(self, every_step: bool | None = None) -> None:
        self.entries: list[Entry] = []
        self.flaws: dict[Flaw, None] = {}
        self.every_step = every_step
        self._restart()

    def add(self, step: int, values: Losses, ids: Sequence[int | str]) -> None:
        """Take the scalars of a step.

        Raises:
            NotFinite: One is not, where each step is looked at.
        """
        if not values:
            return
        stacked = torch.stack([*values.values()]).detach().float()
        entry = (step, tuple(values), stacked, ids)
        if self.watches(stacked.device):
            _check(entry, stacked.tolist())
        self.entries.append(entry)

    def watches(self, device: torch.device) -> bool:
        """Whether each step is looked at."""
        return device.type == "cpu" if self.every_step is None else self.every_step

    def timed(self, steps: Iterable[list[RawBatch]]) -> Iterator[list[RawBatch]]:
        """The batches of each step; on the side, how long they were waited for, and what was wrong with them."""
        began = time.perf_counter()
        for batches in steps:
            fetched = time.perf_counter()
            self.dropped += sum(batch.dropped for batch in batches)
            self.flaws.update(dict.fromkeys(flaw for batch in batches for flaw in batch.flaws))
            yield batches
            done = time.perf_counter()
            self.waited += fetched - began
            self.spent += done - began
            self.steps += 1
            began = done

    def check(self) -> list[tuple[str, float]]:
        """Wait for the device; the names and values of all scalars of the window.

        Raises:
            NotFinite: One is not.
        """
        if not self.entries:
            return []
        values = iter(torch.cat([stacked for _, _, stacked, _ in self.entries]).tolist())
        pairs: list[tuple[str, float]] = []
        for entry in self.entries:
            numbers = [next(values) for _ in entry[1]]
            _check(entry, numbers, LATE)
            pairs += zip(entry[1], numbers, strict=True)
        return pairs

    def close(self) -> dict[str, float]:
        """Means over the steps of the window, which begins anew; one wait for the device.

        Returns:
            ``loss`` (the sum of all whose name contains it), each scalar, ``step_s`` and ``data_s`` (seconds per step,
            and waiting for data), ``dropped`` (objects that ``Sanitize`` dropped, where there were any).

        Raises:
            NotFinite: A scalar of the window is not.
        """
        collected: dict[str, list[float]] = {}
        for name, value in self.check():
            collected.setdefault(name, []).append(value)
        means = {name: math.fsum(values) / len(values) for name, values in collected.items()}
        steps = max(self.steps, 1)
        report = {
            "loss": math.fsum(value for name, value in means.items() if "loss" in name),
            **means,
            "step_s": self.spent / steps,
            "data_s": self.waited / steps,
        }
        if self.dropped:
            report["dropped"] = self.dropped
        self._restart()
        return report

    def _restart(self) -> None:
        self.entries.clear()
        self.steps = self.dropped = 0
        self.spent = self.waited = 0.0


def mean_of(reports: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The means of what several ranks report; what was dropped is summed."""
    shares = {name: [report[name] for report in reports if name in report] for report in reports for name in report}
    sums = {name: math.fsum(values) for name, values in shares.items()}
    return {name: total if name == "dropped" else total / len(shares[name]) for name, total in sums.items()}


def _check(entry: Entry, numbers: Sequence[float], fix: str = FIX) -> None:
    if all(map(math.isfinite, numbers)):
        return
    step, names, _, ids = entry
    bad = [f"{name} is {number}" for name, number in zip(names, numbers, strict=True) if not math.isfinite(number)]
    raise NotFinite(f"step {step}", f"{', '.join(bad)} for images {', '.join(map(str, ids))}", fix)
