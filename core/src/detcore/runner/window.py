"""The losses since the last report: kept on the device, fetched at once, and watched for what is not finite."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from detcore.data import RawBatch
from detcore.errors import TrainingError
from detcore.structures import Losses

Entry = tuple[int, tuple[str, ...], Tensor, Sequence[int | str]]
"""A step, names, their values (N,) on the device, the images they are of."""


class Window:
    """Named scalars of some steps.

    On the CPU each is looked at as it comes, before the weights are touched. On an accelerator that would make every
    step wait for the device: there it happens once per report, and before anything is written to disk.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._restart()

    def add(self, step: int, values: Losses, ids: Sequence[int | str]) -> None:
        """Take the scalars of a step.

        Raises:
            TrainingError: One is not finite (CPU only).
        """
        if not values:
            return
        stacked = torch.stack([*values.values()]).detach().float()
        entry = (step, tuple(values), stacked, ids)
        if stacked.device.type == "cpu":
            _check(entry, stacked.tolist())
        self.entries.append(entry)

    def timed(self, batches: Iterable[RawBatch]) -> Iterator[RawBatch]:
        """The batches, and on the side how long they were waited for and what was dropped from them."""
        began = time.perf_counter()
        for batch in batches:
            fetched = time.perf_counter()
            self.dropped += batch.dropped
            yield batch
            done = time.perf_counter()
            self.waited += fetched - began
            self.spent += done - began
            self.steps += 1
            began = done

    def check(self) -> list[tuple[str, float]]:
        """Wait for the device; the names and values of all scalars of the window.

        Raises:
            TrainingError: One is not finite.
        """
        if not self.entries:
            return []
        values = iter(torch.cat([stacked for _, _, stacked, _ in self.entries]).tolist())
        pairs: list[tuple[str, float]] = []
        for entry in self.entries:
            numbers = [next(values) for _ in entry[1]]
            _check(entry, numbers)
            pairs += zip(entry[1], numbers, strict=True)
        return pairs

    def close(self) -> dict[str, float]:
        """Means over the steps of the window, which begins anew; one wait for the device.

        Returns:
            ``loss`` (the sum of all whose name contains it), each scalar, ``step_s`` and ``data_s`` (seconds per step,
            and waiting for data), ``dropped`` (objects that ``Sanitize`` dropped, where there were any).

        Raises:
            TrainingError: A scalar of the window is not finite.
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


def _check(entry: Entry, numbers: Sequence[float]) -> None:
    if all(map(math.isfinite, numbers)):
        return
    step, names, _, ids = entry
    bad = [f"{name} is {number}" for name, number in zip(names, numbers, strict=True) if not math.isfinite(number)]
    found = f"{', '.join(bad)} for images {', '.join(map(str, ids))}"
    fix = "Lower the learning rate, clip gradients, or look at these images; checkpoints are from before."
    raise TrainingError(f"step {step}", found, fix)
