"""What the runner adds to each step of a bare loop, with a detector that does next to nothing; at most 0.5 ms.

    python benchmarks/runner_overhead.py

Both loops do the same work on the same batches: preprocess, forward, backward, step. They take turns, so that a busy
machine slows both; the medians of their rounds are compared. Exits with 1 where the bound is missed.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from detcore.data import Loader, RawBatch
from detcore.interfaces import Callback, Detector
from detcore.preprocess import Preprocess
from detcore.runner.logs import JsonlLog
from detcore.runner.state import Run
from detcore.runner.train import begin, report, step
from detcore.schedules import LinearWarmup, MultiStep
from detcore.structures import Batch, Detections, Losses, total_loss
from torch import nn

STEPS, ROUNDS, BOUND_MS = 2000, 20, 0.5


class NoOp(Detector):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def losses(self, batch: Batch) -> Losses:
        return {"loss_cls": self.weight * 1.0, "loss_box": self.weight * 2.0}

    def detections(self, batch: Batch) -> list[Detections]:
        return []


class OneImage:
    classes: Sequence[str] = ("thing",)

    def __len__(self) -> int:
        return STEPS

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        target = {"boxes": torch.ones(1, 4), "labels": torch.zeros(1, dtype=torch.long), "image_id": index}
        return torch.zeros(3, 32, 32, dtype=torch.uint8), target


def parts() -> tuple[NoOp, Preprocess, torch.optim.Optimizer]:
    detector = NoOp()
    return detector, Preprocess(), torch.optim.SGD(detector.parameters(), lr=1e-6)


def bare(batches: Iterator[RawBatch], count: int, detector: NoOp, preprocess: Preprocess, optimizer: Any) -> None:
    for _ in range(count):
        loss = total_loss(detector(preprocess(next(batches)), mode="losses"))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()


def by_runner(batches: Iterator[RawBatch], count: int, run: Run) -> None:
    """The inside of ``train``."""
    for _ in range(count):
        step(run, next(batches))
        if run.step % run.report_every == 0:
            report(run)


def main() -> int:
    torch.set_num_threads(1)
    loader = Loader(OneImage())
    with tempfile.TemporaryDirectory() as folder:
        detector, preprocess, optimizer = parts()
        run = Run(
            detector=detector,
            preprocess=preprocess,
            optimizer=optimizer,
            loader=loader,
            epochs=1,
            folder=Path(folder),
            schedules=[LinearWarmup(steps=500), MultiStep(epochs=[8, 11])],
            callbacks={"log": JsonlLog(), "a": Callback(), "b": Callback()},
        )
        begin(run)
        own = parts()
        ours, theirs = run.window.timed(loader.epoch(0)), loader.epoch(0)
        count, seconds = STEPS // ROUNDS, ([], [])  # type: tuple[int, tuple[list[float], list[float]]]
        for _ in range(ROUNDS):
            began = time.perf_counter()
            bare(theirs, count, *own)
            between = time.perf_counter()
            by_runner(ours, count, run)
            seconds[0].append((between - began) / count)
            seconds[1].append((time.perf_counter() - between) / count)
    plain, runner = (statistics.median(each) * 1000 for each in seconds)
    print(f"bare loop {plain:.3f} ms, runner {runner:.3f} ms: {runner - plain:.3f} ms a step, at most {BOUND_MS}")
    return int(runner - plain > BOUND_MS)


if __name__ == "__main__":
    sys.exit(main())
