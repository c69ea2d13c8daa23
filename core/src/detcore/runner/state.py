"""All that a run is made of, in one record, and how its callbacks are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from detcore import distributed
from detcore.data import Loader, RawBatch
from detcore.errors import ComponentError, ConfigError, UserError, one_line
from detcore.interfaces import Callback, Progress, Schedule
from detcore.preprocess import Preprocess
from detcore.runner.evaluate import Evaluation, Tick
from detcore.runner.optim import Amp
from detcore.runner.window import Window

STAGES = ("update", "evaluate", "report", "save")
"""When a callback is called among the others. Those of the first two are called on every rank, others on the first."""


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
        detector: A bare :class:`detcore.interfaces.Detector` on its device.
        preprocess: Raw batches to batches, on the same device.
        optimizer: Over the parameters of the detector; the learning rates it has are those that schedules scale.
        loader: The training data.
        epochs: How often the data is gone through; or
        steps: how many steps are made.
        accumulate: Batches whose gradients one step sums up; fewer where an epoch ends.
        folder: Where checkpoints and logs go.
        files: Texts that go there at the start, by name.
        schedules: Factors of the learning rate, multiplied.
        evaluate: Scores a detector; called with it and a function that is told how many batches are done, of how many.
            None is no validation.
        callbacks: What happens beside training, by name; kept in the order of their stages.
        amp: Mixed precision.
        compile: Training calls a compiled detector.
        clip_grad: The most that the norm of all gradients may be; None does not clip.
        evaluate_every: Epochs between validations; the end of the run is always validated.
        evaluate_steps: Steps between validations, instead of epochs.
        save_every: Steps between checkpoints, beside one per epoch.
        keep: How many epochs' checkpoints are kept beside ``last.pt`` and ``best.pt``.
        best_metric: The metric, higher is better, by which ``best.pt`` is; None is the evaluator's first.
        report_every: Steps between reports; nothing waits for the device in between.
        seed: Of everything random in training.
        meta: What checkpoints carry beside: config text, plugin versions; plain values.
        epoch: Epochs done.
        position: Batches done in this epoch.
        step: Steps done in all.
        metrics: Of the last validation.
        best: The best value of ``best_metric`` so far.
        validated: The step of the last validation.
        evaluation: The last validation of this process.
        stop: Set by a callback: the run ends after this step, validated and saved.
        averaged: Set by a callback that averages weights: what validation scores instead of the detector.
        averaged_weights: What ``averaged`` is to begin with, from a checkpoint.
        rng: States of the random generators to begin with, from a checkpoint; None seeds them.
        signal: A signal that told the run to end.
        window: Losses since the last report.
        scaler: Scales losses where ``amp`` is fp16.
        trained: What a step calls: the detector, compiled, shared between ranks.
    """

    detector: nn.Module
    preprocess: Preprocess
    optimizer: Optimizer
    loader: Loader
    epochs: int | None = None
    steps: int | None = None
    accumulate: int = 1
    folder: Path
    files: Mapping[str, str] = attrs.field(factory=dict)
    schedules: Sequence[Schedule] = ()
    evaluate: Callable[[nn.Module, Tick], Evaluation] | None = None
    callbacks: Mapping[str, Callback] = attrs.field(factory=dict, converter=in_order)
    amp: Amp = "off"
    compile: bool = False
    clip_grad: float | None = None
    evaluate_every: int = 1
    evaluate_steps: int | None = None
    save_every: int | None = None
    keep: int = 0
    best_metric: str | None = None
    report_every: int = 50
    seed: int = 0
    meta: Mapping[str, Any] = attrs.field(factory=dict)
    epoch: int = 0
    position: int = 0
    step: int = 0
    metrics: Mapping[str, float] = attrs.field(factory=dict)
    best: float | None = None
    validated: int | None = None
    evaluation: Evaluation | None = None
    stop: bool = False
    averaged: nn.Module | None = None
    averaged_weights: Mapping[str, Any] | None = None
    rng: Mapping[str, Any] | None = None
    signal: int | None = None
    window: Window = attrs.field(factory=Window)
    scaler: torch.amp.GradScaler = attrs.field(init=False)
    trained: nn.Module = attrs.field(init=False)
    _shared: DistributedDataParallel | None = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise ConfigError("run", "takes one of epochs and steps")
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp == "fp16")
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self._shared = DistributedDataParallel(self.detector) if distributed.is_parallel() else None
        trained = self._shared or self.detector
        self.trained = torch.compile(trained) if self.compile else trained  # type: ignore[assignment]

    @property
    def device(self) -> torch.device:
        """Where training happens."""
        return self.preprocess.device

    @property
    def progress(self) -> Progress:
        """How far the run is."""
        per_epoch = -(-len(self.loader) // self.accumulate)
        return Progress(self.step, (self.epochs or 0) * per_epoch if self.steps is None else self.steps, per_epoch)

    @property
    def over(self) -> bool:
        """There is nothing more to train."""
        return self.stop or self.step >= self.progress.steps

    def due(self, every: int | None) -> bool:
        """``every`` so many steps."""
        return bool(every) and self.step > 0 and self.step % (every or 1) == 0

    def batches(self) -> Iterator[list[RawBatch]]:
        """What is left of this epoch: the batches of one step after those of another."""
        rest = iter(self.loader.epoch(self.epoch, start=self.position))
        while batches := list(islice(rest, self.accumulate)):
            yield batches

    def shared(self, last: bool) -> AbstractContextManager[Any]:
        """Where this is not the ``last`` batch of a step, its gradients stay this rank's own until that one's come."""
        return nullcontext() if last or self._shared is None else self._shared.no_sync()


@contextmanager
def failure_told(run: Run) -> Iterator[None]:
    """Tells the callbacks of what ends the run before its time, all of them whatever one of them raises."""
    try:
        yield
    except BaseException as error:
        for callback in run.callbacks.values():
            with suppress(Exception):  # the first error is the one to show
                callback.run_failed(run, error)
        raise


def notify(run: Run, event: str, *values: Any) -> None:
    """Call a method of every callback, in order; those that report and save on the first rank only.

    Raises:
        UserError: A callback's own, or a ComponentError that names the one that failed.
    """
    for name, callback in run.callbacks.items():
        if distributed.rank() == 0 or callback.stage in STAGES[:2]:
            call(run, name, event, run, *values)


def call(run: Run, name: str, method: str, *values: Any) -> Any:
    """Call a method of the callback ``name``; raises as :func:`notify`."""
    try:
        return getattr(run.callbacks[name], method)(*values)
    except UserError:
        raise
    except Exception as error:
        raise ComponentError(f"callback {name}", f"{method} raised {one_line(error)}") from error
