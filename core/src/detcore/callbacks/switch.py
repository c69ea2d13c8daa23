"""Other transforms from an epoch on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs
from torchvision.transforms.v2 import Transform

from detcore.interfaces import Callback
from detcore.runner.state import Run


class PipelineSwitch(Callback):
    """Training reads its data through other transforms from an epoch on, such as without mosaic in the last ones.

    Args:
        epoch: So many epochs are trained before; negative: so many, the last ones, are trained with them.
        transforms: In place of those of ``[train]``.
    """

    stage: ClassVar[str] = "update"

    def __init__(self, *, epoch: int, transforms: Sequence[Transform]) -> None:
        self.epoch = epoch
        self.transforms = transforms

    def epoch_started(self, run: Run) -> None:
        """Replaces the loader once, as its workers keep the transforms that they were started with."""
        epochs = -(-run.progress.steps // run.progress.steps_per_epoch)
        begin = self.epoch if self.epoch >= 0 else epochs + self.epoch
        if run.epoch < begin or run.loader.transforms is self.transforms:
            return
        run.loader = attrs.evolve(run.loader, transforms=self.transforms)
        names = ", ".join(type(transform).__name__ for transform in self.transforms) or "none"
        print(f"epoch {run.epoch + 1}/{epochs}  transforms from here on: {names}", flush=True)
