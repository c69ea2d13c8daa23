"""The conformance kit lets sound callbacks pass, and names the fault of each that is not."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from detcore.callbacks.ema import EMA
from detcore.callbacks.pictures import Pictures
from detcore.callbacks.stopping import EarlyStopping
from detcore.callbacks.switch import PipelineSwitch
from detcore.interfaces import Callback
from detcore.runner.folder import RunFolder
from detcore.runner.logs import ConsoleLog, JsonlLog
from detcore.structures import Losses
from detcore.testing import ConformanceError, check_callback
from detcore.testing.callback import HOOKS
from torchvision.transforms import v2


class Nudges(Callback):
    """Sound: moves a weight by how many steps it has seen, and remembers how many."""

    stage: ClassVar[str] = "update"

    def __init__(self, *, by: float = 0.01) -> None:
        self.by = by
        self.seen = 0

    def step_done(self, run: Any, losses: Losses) -> None:
        self.seen += 1
        with torch.no_grad():
            run.detector.head.box.bias += self.by * self.seen

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seen = state["seen"]


class Late(Nudges):
    stage: ClassVar[str] = "afterwards"


class Misspelt(Nudges):
    def epoch_start(self, run: Any) -> None:
        pass


class OfAnother(Nudges):
    def before_train_iter(self, run: Any) -> None:
        pass


class TakesTooLittle(Nudges):
    def evaluated(self, run: Any) -> None:  # type: ignore[override]
        pass


class TakesTooMuch(Nudges):
    def run_ended(self, run: Any, metrics: Any) -> None:  # type: ignore[override]
        pass


class NeedsMore(Nudges):
    def run_started(self, run: Any) -> None:
        run.not_there()


class KeepsObjects(Nudges):
    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen, "kind": {int}}


class Forgets(Nudges):
    """Gives what it does not take back."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seen = 0


class RefusesItsState(Nudges):
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seen = state["steps"]


class KeepsNothing(Nudges):
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class CountsStarts(Nudges):
    def run_started(self, run: Any) -> None:
        self.seen += 1


class AverageOfItsOwn(Nudges):
    """Averages, but begins anew where a run is resumed."""

    def run_started(self, run: Any) -> None:
        run.averaged = torch.nn.Linear(1, 1)
        run.averaged.weight.data.fill_(run.step)
        run.averaged.losses = run.detector.losses
        run.averaged.forward = run.detector.forward


class Spoils(Nudges):
    def run_ended(self, run: Any) -> None:
        with torch.no_grad():
            run.detector.head.box.bias.fill_(math.nan)


class Impatient(Nudges):
    def step_done(self, run: Any, losses: Losses) -> None:
        run.stop = True


class EndsEarlierNow(Nudges):
    """Ends a run that was resumed."""

    started = 0

    def run_started(self, run: Any) -> None:
        self.started = run.step

    def step_done(self, run: Any, losses: Losses) -> None:
        run.stop = self.started > 0


class CannotBeMade(Nudges):
    def __init__(self) -> None:
        raise ValueError("not to my taste")


class NotACallback:
    pass


BROKEN: list[tuple[Any, str]] = [
    (NotACallback, r"is a NotACallback, not a Callback\. See detcore\.interfaces\.Callback\."),
    (CannotBeMade, r"raises ValueError when it is made: not to my taste"),
    (Late, r"its stage is 'afterwards'\. It is one of update, evaluate, report, save\."),
    (Misspelt, r"epoch_start is never called: there is no such hook\. Did you mean epoch_started\?"),
    (OfAnother, r"before_train_iter is never called: there is no such hook\. There are: run_started, epoch_started, .*"),
    (TakesTooLittle, r"evaluated cannot be called with the run and 1 more\. It is evaluated\(self, run: .*"),
    (TakesTooMuch, r"run_ended cannot be called with the run and 0 more\. It is run_ended\(self, run: .*"),
    (NeedsMore, r"raises ComponentError in a run of 4 steps: callback checked: run_started raised AttributeError: .*"),
    (KeepsObjects, r"raises ComponentError in a run of 4 steps: checkpoint\.callbacks\.checked\.kind: builtins\.set is .*"),
    (Forgets, r"one that took its state after 4 steps has another: seen is 4, then 0\. load_state_dict takes back .*"),
    (RefusesItsState, r"raises KeyError in state_dict\(\) or load_state_dict\(\) before a run: 'steps'"),
    (KeepsNothing, r"a run that is resumed after 2 steps ends with other weights: [\w.]+ has .*\. What it needs .*"),
    (CountsStarts, r"a run that is resumed after 2 steps ends with (other weights|another state): .*"),
    (AverageOfItsOwn, r"a run that is resumed after 2 steps ends with other averaged weights: .*"),
    (Spoils, r"after 4 steps a weight is not finite\. Training goes on from what a callback leaves\."),
    (Impatient, r"ends a run of 4 steps after 1\. Let it wait longer in this test\."),
    (EndsEarlierNow, r"a run that is resumed after 2 steps ends with another number of steps: it is 4, then 3\. .*"),
]  # fmt: skip


@pytest.mark.parametrize(("broken", "expected"), BROKEN, ids=lambda each: getattr(each, "__name__", ""))
def test_a_fault_of_a_callback_is_named(broken: Any, expected: str) -> None:
    with pytest.raises(ConformanceError) as caught:
        check_callback(broken)
    assert re.fullmatch(f"{broken.__name__}: {expected}", str(caught.value)), caught.value


def test_a_sound_callback_passes_and_chance_is_as_before() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    check_callback(Nudges, by=0.02)
    check_callback(lambda: Nudges(by=0.0))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("callback", "options"),
    [
        (EMA, {"momentum": 0.5}),
        (EMA, {"warmup": "exponential", "gamma": 2, "every": 2, "buffers": "average"}),
        (EarlyStopping, {"patience": 5}),
        (PipelineSwitch, {"epoch": -1, "transforms": [v2.RandomHorizontalFlip(1.0)]}),
        (Pictures, {}),
        (ConsoleLog, {}),
        (JsonlLog, {}),
        (RunFolder, {}),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_cores_callbacks_are_callbacks(callback: Any, options: dict[str, Any]) -> None:
    check_callback(callback, **options)


def test_the_kit_knows_every_hook() -> None:
    own = {name for name in vars(Callback) if not name.startswith("_")} - {"stage", "state_dict", "load_state_dict"}
    assert own == set(HOOKS)
