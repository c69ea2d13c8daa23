"""All that a run is made of, in one record, and how its callbacks are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import nn
from torch.optim import Optimizer

from detcore.data import Loader
from detcore.errors import ComponentError, UserError
from detcore.interfaces import Callback, Progress, Schedule
from detcore.preprocess import Preprocess
from detcore.runner.optim import Amp
from detcore.runner.window import Window

STAGES = ("update", "evaluate", "report", "save")


def in_order(callbacks: Mapping[str, Callback]) -> dict[str, Callback]:
    """Callbacks by stage, those of one stage as they were given."""
    for name, callback in callbacks.items():
        if callback.stage not in STAGES:
            fix = f"One of {', '.join(STAGES)}."
            raise ComponentError(f"callback {name}", f"unknown stage {callback.stage!r}", fix)
    return dict(sorted(callbacks.items(), key=lambda item: STAGES.index(item[1].stage)))


@attrs.define(eq=False, kw_only=True)
class Run:
    """A training run: what it is made of, how it is to go, and how far it has come.

    Attributes:
        detector: A :class:`detcore.interfaces.Detector`, bare or wrapped, on its device.
        preprocess: Raw batches to batches, on the same device.
        optimizer: Over the parameters of the detector; the learning rates it has are those that schedules scale.
        loader: The training data.
        epochs: How often the data is gone through.
        folder: Where checkpoints and logs go.
        schedules: Factors of the learning rate, multiplied.
        evaluate: Scores a detector; None is no validation.
        callbacks: What happens beside training, by name; kept in the order of their stages.
        amp: Mixed precision.
        clip_grad: The most that the norm of all gradients may be; None does not clip.
        evaluate_every: Epochs between validations; the last epoch is always validated.
        save_every: Steps between checkpoints, beside one per epoch.
        report_every: Steps between reports; nothing waits for the device in between.
        seed: Of everything random in training.
        meta: What checkpoints carry beside: config text, plugin versions; plain values.
        epoch: Epochs done.
        position: Batches done in this epoch.
        step: Steps done in all.
        metrics: Of the last validation.
        stop: Set by a callback: the run ends with this epoch.
        averaged: Set by a callback that averages weights: what validation scores instead of the detector.
        rng: States of the random generators to begin with, from a checkpoint; None seeds them.
        window: Losses since the last report.
        scaler: Scales losses where ``amp`` is fp16.
    """

    detector: nn.Module
    preprocess: Preprocess
    optimizer: Optimizer
    loader: Loader
    epochs: int
    folder: Path
    schedules: Sequence[Schedule] = ()
    evaluate: Callable[[nn.Module], Mapping[str, float]] | None = None
    callbacks: Mapping[str, Callback] = attrs.field(factory=dict, converter=in_order)
    amp: Amp = "off"
    clip_grad: float | None = None
    evaluate_every: int = 1
    save_every: int | None = None
    report_every: int = 50
    seed: int = 0
    meta: Mapping[str, Any] = attrs.field(factory=dict)
    epoch: int = 0
    position: int = 0
    step: int = 0
    metrics: Mapping[str, float] = attrs.field(factory=dict)
    stop: bool = False
    averaged: nn.Module | None = None
    rng: Mapping[str, Any] | None = None
    window: Window = attrs.field(factory=Window, init=False)
    scaler: torch.amp.GradScaler = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp == "fp16")
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])

    @property
    def device(self) -> torch.device:
        """Where training happens."""
        return self.preprocess.device

    @property
    def progress(self) -> Progress:
        """How far the run is."""
        return Progress(self.step, self.epochs * len(self.loader), len(self.loader))


def notify(run: Run, event: str, *values: Any) -> None:
    """Call a method of every callback, in order.

    Raises:
        UserError: A callback's own, or a ComponentError that names the one that failed.
    """
    for name in run.callbacks:
        call(run, name, event, run, *values)


def call(run: Run, name: str, method: str, *values: Any) -> Any:
    """Call a method of the callback ``name``; raises as :func:`notify`."""
    try:
        return getattr(run.callbacks[name], method)(*values)
    except UserError:
        raise
    except Exception as error:
        raise ComponentError(f"callback {name}", f"{method} raised {type(error).__name__}: {error}") from error
