"""Callbacks: what happens beside training."""

from __future__ import annotations

import difflib
import inspect
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import torch

from detcore.data import Loader, seeded
from detcore.interfaces import Callback
from detcore.preprocess import Preprocess
from detcore.runner.checkpoint import resume
from detcore.runner.evaluate import Evaluation, Tick, evaluate
from detcore.runner.state import STAGES, Run
from detcore.runner.train import train
from detcore.testing.compare import ConformanceError, copied, different, during
from detcore.testing.toys import TinyDataset, TinyEvaluator, tiny_detector

HOOKS: Mapping[str, int] = {
    "run_started": 0,
    "epoch_started": 0,
    "step_done": 1,
    "reported": 1,
    "evaluation_progress": 2,
    "evaluated": 1,
    "checkpoint_saved": 1,
    "run_ended": 0,
    "run_failed": 1,
    "step_replayed": 2,
}
"""What is called, and with how many values beside the run."""
ELSEWHERE = ("on_", "before_", "after_")
"""How hooks of other toolboxes begin."""
HALF, STEPS = 2, 4


def check_callback(make: Callable[..., Callback], **options: Any) -> None:
    """Stage and names of hooks; its state; a run of four steps, and one that is killed in the middle and resumed.

    It stands beside the training of a tiny detector on drawn images, with a validation after each of two epochs.

    Args:
        make: The class, or anything that makes one; called several times.
        options: Given to ``make``.

    Raises:
        ConformanceError: A contract is broken.
    """
    name = getattr(make, "__name__", type(make).__name__)
    first = _made(make, options, name)
    name = type(first).__name__
    if first.stage not in STAGES:
        raise ConformanceError(name, f"its stage is {first.stage!r}", f"It is one of {', '.join(STAGES)}.")
    _check_hooks(name, first)
    _check_state(name, first, _made(make, options, name), "before a run")
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder, seeded(0):
        straight = _run(Path(folder), first)
        with during(name, f"in a run of {STEPS} steps"):
            train(straight)
        _check_run(name, straight)
        state = copied(first.state_dict())
        _check_state(name, first, _made(make, options, name), f"after {STEPS} steps")
        second = _made(make, options, name)
        resumed = _run(Path(folder), second)
        with during(name, f"in a run that is resumed after {HALF} steps"):
            resume(resumed, _half(Path(folder)))
            train(resumed)
        _check_resumed(name, straight, resumed, state, second.state_dict())


def _made(make: Callable[..., Callback], options: Mapping[str, Any], name: str) -> Callback:
    with during(name, "when it is made"):
        made = make(**options)
    if not isinstance(made, Callback):
        raise ConformanceError(name, f"is a {type(made).__name__}, not a Callback", "See detcore.interfaces.Callback.")
    return made


def _check_hooks(name: str, callback: Callback) -> None:
    """Hooks take what they are called with, and nothing that looks like a hook is none."""
    for hook, values in HOOKS.items():
        try:
            inspect.signature(getattr(callback, hook)).bind(*range(1 + values))
        except TypeError:
            found = f"{hook} cannot be called with the run and {values} more"
            raise ConformanceError(name, found, f"It is {hook}{inspect.signature(getattr(Callback, hook))}.") from None
    for method, _ in inspect.getmembers(type(callback), callable):
        if hasattr(Callback, method) or method.startswith("_"):
            continue
        near = difflib.get_close_matches(method, HOOKS, n=1, cutoff=0.75)
        if near or method.startswith(ELSEWHERE):
            fix = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(HOOKS)}."
            raise ConformanceError(name, f"{method} is never called: there is no such hook", fix)


def _check_state(name: str, callback: Callback, fresh: Callback, when: str) -> None:
    """One that takes another's state has it."""
    with during(name, f"in state_dict() or load_state_dict() {when}"):
        state = callback.state_dict()
        fresh.load_state_dict(copied(state))
        taken = fresh.state_dict()
    if difference := different(state, taken):
        found = f"one that took its state {when} has another: {difference}"
        raise ConformanceError(name, found, "load_state_dict takes back what state_dict gave.")


def _check_run(name: str, run: Run) -> None:
    if run.step < HALF:
        raise ConformanceError(
            name, f"ends a run of {STEPS} steps after {run.step}", "Let it wait longer in this test."
        )
    if not all(parameter.isfinite().all() for parameter in run.detector.parameters()):
        raise ConformanceError(
            name, f"after {STEPS} steps a weight is not finite", "Training goes on from what a callback leaves."
        )


def _check_resumed(name: str, straight: Run, resumed: Run, state: Any, state_of_resumed: Any) -> None:
    fix = "What it needs to go on is in its state_dict, or a function of the run's seed and step."
    for one, other, what in (
        (straight.step, resumed.step, "another number of steps"),
        (_weights(straight.detector), _weights(resumed.detector), "other weights"),
        (_weights(straight.averaged), _weights(resumed.averaged), "other averaged weights"),
        (state, state_of_resumed, "another state"),
    ):
        if difference := different(one, other):
            found = f"a run that is resumed after {HALF} steps ends with {what}: {difference}"
            raise ConformanceError(name, found, fix)


def _weights(module: torch.nn.Module | None) -> Any:
    return None if module is None else dict(module.state_dict())


class _Keep(Callback):
    """Keeps the checkpoint of the middle of the run, from which the other one is resumed."""

    stage: ClassVar[str] = "save"

    def checkpoint_saved(self, run: Run, path: Path) -> None:
        if run.step == HALF:
            shutil.copyfile(path, _half(run.folder))


def _half(folder: Path) -> Path:
    return folder / "half.pt"


def _run(folder: Path, callback: Callback) -> Run:
    """Two epochs of two steps, reported and saved after each step."""
    dataset, preprocess = TinyDataset(length=4, size=(32, 48)), Preprocess(divisor=8)
    detector = tiny_detector()

    def score(detector: torch.nn.Module, tick: Tick) -> Evaluation:
        loader, scores = Loader(dataset, batch_size=2), TinyEvaluator(dataset)
        return evaluate(detector=detector, preprocess=preprocess, loader=loader, evaluator=scores, tick=tick)

    return Run(
        detector=detector,
        preprocess=preprocess,
        optimizer=torch.optim.SGD(detector.parameters(), lr=0.01, momentum=0.9),
        loader=Loader(dataset, batch_size=2, shuffle=True),
        epochs=STEPS // 2,
        folder=folder,
        evaluate=score,
        callbacks={"checked": callback, "keep": _Keep()},
        report_every=1,
        save_every=1,
        meta={"config": "seed = 0\n", "classes": list(dataset.classes), "plugins": {}},
    )
