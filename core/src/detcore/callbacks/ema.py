"""An exponential moving average of the weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from itertools import compress
from operator import not_
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from detcore.interfaces import Callback
from detcore.runner.state import Run
from detcore.structures import Losses


class EMA(Callback):
    """Averages the weights; validation scores the average, and checkpoints hold it as ``averaged``.

    It starts as the weights are before the first step. The t-th update is ``average += w(t) * (weights - average)``.

    Args:
        momentum: w at the end; 1 - decay.
        warmup: How w(t) comes down to it: ``none``; ``exponential``, momentum + (1 - momentum) exp(-t / gamma)
            (Ge et al. 2021); ``linear``, the larger of momentum and 9 / (10 + t) (TensorFlow).
        gamma: Updates, the scale of the exponential warmup.
        every: Steps between updates.
        buffers: ``copy`` takes them (statistics of batch norm) from the detector at each update, ``average`` averages
            those of floating point.
    """

    stage: ClassVar[str] = "update"

    def __init__(
        self,
        *,
        momentum: Annotated[float, Field(gt=0, lt=1)] = 0.0002,
        warmup: Literal["none", "exponential", "linear"] = "none",
        gamma: PositiveInt = 2000,
        every: PositiveInt = 1,
        buffers: Literal["copy", "average"] = "copy",
    ) -> None:
        self.momentum = momentum
        self.warmup = warmup
        self.gamma = gamma
        self.every = every
        self.buffers = buffers
        self.updates = 0

    def weight(self, update: int) -> float:
        """w(t) of the t-th update, counted from 1."""
        if self.warmup == "exponential":
            return self.momentum + (1 - self.momentum) * math.exp(-update / self.gamma)
        return max(self.momentum, 9 / (10 + update)) if self.warmup == "linear" else self.momentum

    def run_started(self, run: Run) -> None:
        """Copies the detector, and takes the average of a checkpoint that is resumed from."""
        average = copy.deepcopy(run.detector).eval().requires_grad_(False)
        if run.averaged_weights is not None:
            average.load_state_dict(run.averaged_weights)
            run.averaged_weights = None
        run.averaged = average
        buffers = [*zip(average.buffers(), run.detector.buffers(), strict=True)]
        blended = [self.buffers == "average" and into.is_floating_point() for into, _ in buffers]
        parameters = zip(average.parameters(), run.detector.parameters(), strict=True)
        self._blend = _columns([*parameters, *compress(buffers, blended)])
        self._copy = _columns([*compress(buffers, map(not_, blended))])

    @torch.no_grad()
    def step_done(self, run: Run, losses: Losses) -> None:
        """An update, where one is due; all tensors at once."""
        if run.step % self.every:
            return
        self.updates += 1
        averages, newest = self._blend
        torch._foreach_lerp_(averages, newest, self.weight(self.updates))
        copies, originals = self._copy
        if copies:
            torch._foreach_copy_(copies, originals)

    def state_dict(self) -> dict[str, Any]:
        """How many updates there were; the average is the checkpoint's ``averaged``."""
        return {"updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting from there."""
        self.updates = state["updates"]


def _columns(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    return [into for into, _ in pairs], [source for _, source in pairs]
