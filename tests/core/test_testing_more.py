"""Further sentences of the contracts of losses, datasets and evaluators, each with a component that breaks it."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from core.test_testing import Absolute, Entropy, Images, Overlap, Recall
from detcore.report import Flaw
from detcore.structures import Detections
from detcore.testing import ConformanceError, check_dataset, check_evaluator, check_loss, loss, worker
from detcore.testing.toys import TinyDataset, TinyEvaluator
from detcore.testing.worker import in_worker
from torch import Tensor
from torchvision import tv_tensors


def refuses(expected: str, check: Callable[..., None], *arguments: Any, **options: Any) -> None:
    with pytest.raises(ConformanceError) as caught:
        check(*arguments, **options)
    assert re.fullmatch(expected, str(caught.value)), caught.value


# ---------------------------------------------------------------------------------------------------------- losses


class HoldsConstant(Absolute):
    """Squares, of which one factor has no gradient."""

    def values(self, input: Tensor, target: Tensor) -> Tensor:
        return (input - target).abs() * (input - target).abs().detach()


class InFloat32(Absolute):
    def values(self, input: Tensor, target: Tensor) -> Tensor:
        return (input.float() - target.float()).square()


class NotInFloat64(Absolute):
    def forward(self, input: Tensor, target: Tensor, weight: Any = None, avg_factor: Any = None) -> Tensor:
        if input.dtype == torch.float64:
            raise TypeError("no such kernel")
        return super().forward(input, target, weight, avg_factor)


class Hidden(Absolute):
    def __init__(self) -> None:
        super().__init__()
        self.act = lambda each: each


class LosesScale(Absolute):
    scale = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.scale = 2.0

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "scale"}

    def values(self, input: Tensor, target: Tensor) -> Tensor:
        return super().values(input, target) * self.scale


class OverflowsInBf16(Absolute):
    def forward(self, input: Tensor, target: Tensor, weight: Any = None, avg_factor: Any = None) -> Tensor:
        return super().forward(input, target, weight, avg_factor) / (input.dtype != torch.bfloat16)


class CheaperThere(Absolute):
    """Costs another number once it was moved."""

    factor = 1.0

    def to(self, *places: Any, **options: Any) -> Any:
        self.factor = 0.5
        return super().to(*places, **options)

    def values(self, input: Tensor, target: Tensor) -> Tensor:
        return super().values(input, target) * self.factor


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (HoldsConstant, r"the gradient of a number is -?[\d.]+, its derivative -?[\d.]+\. Say exact=False if .*"),
        (NotInFloat64, r"raises TypeError of float64 numbers: no such kernel"),
        (Hidden, r"raises \w+ when it is pickled: .*"),
        (LosesScale, r"one that was pickled costs the same, but it is .*"),
        (OverflowsInBf16, r"the loss of bf16 numbers is inf"),
        (CheaperThere, r"on a GPU it costs the same, but it is .*"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_further_fault_of_a_loss_is_named(broken: Any, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "gpu", lambda: torch.device("cpu"))  # it stands for one here
    refuses(f"{broken.__name__}: {expected}", check_loss, broken(), reads="numbers")


@pytest.mark.parametrize(("made", "reads"), [(Absolute, "numbers"), (Entropy, "classes"), (Overlap, "boxes")])
def test_gradients_of_sound_losses_are_their_derivatives(made: Any, reads: Any) -> None:
    check_loss(made(), reads=reads)


def test_a_gradient_may_be_another_and_a_loss_may_compute_in_float32() -> None:
    check_loss(HoldsConstant(), reads="numbers", exact=False)
    check_loss(InFloat32(), reads="numbers")


# -------------------------------------------------------------------------------------------------------- datasets


class Reported(Images):
    """Sound: says what it had to live with."""

    def __init__(self) -> None:
        super().__init__()
        self.report: Any = [Flaw("a.json: annotation 3", "a box without area", "dropped", "box without area")]


class ReportsTexts(Reported):
    def __init__(self) -> None:
        super().__init__()
        self.report = ["a box without area"]


class ReportsOne(Reported):
    def __init__(self) -> None:
        super().__init__()
        self.report = self.report[0]


class OneAfterTheOther(Images):
    """A file that is read on, not from its beginning."""

    last = -1

    def __getitem__(self, index: int) -> Any:
        image, target = super().__getitem__(index)
        lost, self.last = index < self.last, index
        return image, {**target, "lost": lost}


class OfTheProcess(Images):
    def __getitem__(self, index: int) -> Any:
        image, target = super().__getitem__(index)
        return tv_tensors.Image(image + os.getpid() % 250), target


class OpensHere(Images):
    """Something is open in the process that made it."""

    process = 0

    def __init__(self) -> None:
        super().__init__()
        self.process = os.getpid()

    def __getitem__(self, index: int) -> Any:
        if os.getpid() != self.process:
            raise OSError("the file is not open")
        print("this goes to no one")
        return super().__getitem__(index)


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (ReportsTexts, r"report is a list of other things\. It is a list of detcore\.report\.Flaw, if there is one\."),
        (ReportsOne, r"report is a Flaw\. It is a list .*"),
        (OneAfterTheOther, r"\[\d\] is another when read from a copy, in another order: \[1\]\.lost is False, then True\. .*"),
        (OfTheProcess, r"\[2\] is another when read in a fresh process: \[0\] has other values\. Chance: transforms\."),
        (OpensHere, r"raises RuntimeError in \[2\] of a fresh process: OSError: the file is not open"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)  # fmt: skip
def test_a_further_fault_of_a_dataset_is_named(broken: Any, expected: str) -> None:
    refuses(f"{broken.__name__}: {expected}", check_dataset, broken())


def test_what_cannot_leave_its_process_may_say_so() -> None:
    check_dataset(OpensHere(), workers=False)
    check_dataset(Reported(), workers=False)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of the test's own, which imports next to nothing."""
    monkeypatch.setattr(worker, "_process", functools.cache(worker._process.__wrapped__))


@pytest.mark.usefixtures("fresh")
def test_one_process_serves_all_until_it_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = in_worker(os.getpid)
    assert process != os.getpid()
    assert in_worker(print, "standard output is the answers' own") is None
    with pytest.raises(RuntimeError, match=r"^ValueError: invalid literal for int\(\) with base 10: 'x'$"):
        in_worker(int, "x")
    assert in_worker(os.getpid) == process
    monkeypatch.chdir(tmp_path)
    assert in_worker(os.getcwd) == os.getcwd()
    with pytest.raises(RuntimeError, match=r"^the worker process died \(exit code 7\)$"):
        in_worker(os._exit, 7)
    assert in_worker(os.getpid) not in {process, os.getpid()}


@pytest.mark.usefixtures("fresh")
def test_a_module_that_cannot_be_found_there_is_sent_if_it_has_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere.py").write_text("def double(number):\n    return 2 * number\n")
    spec = importlib.util.spec_from_file_location("elsewhere", tmp_path / "elsewhere.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    spec.loader.exec_module(module)
    assert in_worker(module.double, 4) == 8
    made = types.ModuleType("nowhere")
    made.__dict__["double"] = module.double
    module.double.__module__ = "nowhere"
    monkeypatch.setitem(sys.modules, "nowhere", made)
    with pytest.raises(RuntimeError, match=r"^no module named nowhere$"):
        in_worker(module.double, 4)


# ------------------------------------------------------------------------------------------------------ evaluators


class HalfAtBest(Recall):
    def compute(self) -> dict[str, float]:
        return {name: value / 2 for name, value in super().compute().items()}


class LabelsOnly(Recall):
    """Looks at what, not at where."""

    def update(self, detections: Sequence[Detections], ids: Sequence[int | str]) -> None:
        for each, id_ in zip(detections, ids, strict=True):
            self.found += [bool((each.labels == label).any()) for label in self.truth[id_]["labels"]]


class RewardsSilence(Recall):
    def update(self, detections: Sequence[Detections], ids: Sequence[int | str]) -> None:
        self.found += [True for each in detections if not len(each)]
        super().update(detections, ids)


class Writes(Recall):
    def update(self, detections: Sequence[Detections], ids: Sequence[int | str]) -> None:
        super().update(detections, ids)
        for each in detections:
            each.boxes.zero_()


class Hides(Recall):
    def __init__(self, dataset: Any) -> None:
        super().__init__(dataset)
        self.key = lambda each: each


class Forgets(Recall):
    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "found": []}

    def compute(self) -> dict[str, float]:
        return {"recall": sum(self.found) / sum(len(each["labels"]) for each in self.truth.values())}


class WithMisses(Recall):
    """Sound: tells of what it missed, too."""

    def compute(self) -> dict[str, float]:
        found = super().compute()
        return {**found, "missed": 1 - found["recall"]}


class MainMisses(WithMisses):
    def compute(self) -> dict[str, float]:
        return dict(reversed(super().compute().items()))


@pytest.mark.parametrize(
    ("broken", "options", "expected"),
    [
        (HalfAtBest, {}, r"the ground truth as detections has a recall, its main metric, of 0\.5, not 1\. The first .*"),
        (LabelsOnly, {}, r"boxes that meet nothing have a recall of 1, the ground truth 1\. Where the boxes are must .*"),
        (RewardsSilence, {}, r"images without detections score \{'recall': 0\.[\d]+\}\. They score 0\."),
        (Writes, {}, r"changes the detections in place: \[0\].*\.boxes has other values\. Others read it, too\."),
        (Hides, {}, r"raises \w+ when it is pickled: .*"),
        (Forgets, {}, r"it scores otherwise when it was pickled: recall is 1\.0, then 0\.[\d]+\. Its state goes along\."),
        (WithMisses, {}, r"no detections at all score \{'recall': 0\.0, 'missed': 1\.0\}\. They score 0\."),
        (MainMisses, {"lower_is_better": ["missed"]}, r"no detections at all score \{'missed': 1\.0, .*\. They score 0\."),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)  # fmt: skip
def test_a_further_fault_of_an_evaluator_is_named(broken: Any, options: dict[str, Any], expected: str) -> None:
    refuses(f"{broken.__name__}: {expected}", check_evaluator, broken, Images(length=6), **options)


def test_metrics_may_end_elsewhere_and_fall() -> None:
    check_evaluator(HalfAtBest, Images(), best=0.5)
    check_evaluator(HalfAtBest, Images(), best=None)
    check_evaluator(WithMisses, Images(), lower_is_better=["missed"])


def test_the_tiny_data_and_its_evaluator_keep_their_contracts() -> None:
    check_dataset(TinyDataset(crowds=1))
    check_evaluator(TinyEvaluator, TinyDataset())
