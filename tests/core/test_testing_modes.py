"""What holds in every mode: each image by itself, mixed precision, graphs, copies, a GPU; one fault for each sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from core.test_testing import Absolute, Plain, Tiny
from core.test_testing_box_head import OneLayer
from detcore.structures import Batch, Detections, Losses
from detcore.testing import (
    ConformanceError,
    check_backbone,
    check_box_head,
    check_dense_head,
    check_loss,
    modules,
)
from detcore.testing.toys import TinyBackbone, TinyHead
from torch import Tensor, nn


def refuses(expected: str, check: Callable[..., None], component: Any, **options: Any) -> None:
    with pytest.raises(ConformanceError) as caught:
        check(component, **options)
    name = getattr(component, "__name__", type(component).__name__)
    assert re.fullmatch(f"{name}: {expected}", str(caught.value)), caught.value


class Neighbours(Plain):
    """Normalises by what is in the batch, in eval mode too."""

    def forward(self, images: Tensor) -> list[Tensor]:
        return super().forward(images - images.mean(0))


class IntoFloat32(Plain):
    """Writes into a canvas whose type it does not ask for."""

    def forward(self, images: Tensor) -> list[Tensor]:
        first, *rest = super().forward(images)
        canvas = torch.zeros(first.shape)
        canvas[first > 0] = first[first > 0]
        return [canvas, *rest]


class Overflows(Plain):
    def forward(self, images: Tensor) -> list[Tensor]:
        return [each if each.dtype == torch.float32 else each / 0 for each in super().forward(images)]


class SmallerInBf16(Plain):
    def forward(self, images: Tensor) -> list[Tensor]:
        return [each if each.dtype == torch.float32 else each[..., 1:] for each in super().forward(images)]


class Breaks(Plain):
    """Asks for a number in the middle, and does one thing or the other."""

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = super().forward(images)
        return maps if float(maps[0].sum()) > 0 else [each + 0 for each in maps]


class KnowsCompiler(Plain):
    def forward(self, images: Tensor) -> list[Tensor]:
        return [each * (2 if torch.compiler.is_compiling() else 1) for each in super().forward(images)]


class HoldsFunction(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.act = lambda each: each.relu()


class LosesScale(Plain):
    """Keeps beside its state what a pickle leaves out."""

    scale = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.scale = 2.0

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "scale"}

    def forward(self, images: Tensor) -> list[Tensor]:
        return [each * self.scale for each in super().forward(images)]


class ForgetsTraining(Plain):
    """A copy of it does not drop out any more."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "copied": True}

    def forward(self, images: Tensor) -> list[Tensor]:
        training = self.training and "copied" not in self.__dict__
        return [nn.functional.dropout(each, 0.5, training) for each in super().forward(images)]


BACKBONES: list[tuple[type[Plain], str, dict[str, Any]]] = [
    (Neighbours, r"an image depends on the others of its batch in eval mode: \[0\] has other values\. What is found in .*", {}),
    (IntoFloat32, r"raises RuntimeError under bf16 autocast: Index put requires the source and destination dtypes match.*", {}),
    (Overflows, r"a number is not finite under bf16 autocast\. What overflows or cancels is computed in float32: .*", {}),
    (SmallerInBf16, r"gives \[\(2, 4, 32, 47\), .*\] under bf16 autocast, but \[\(2, 4, 32, 48\), .*\] without\. Only .*", {}),
    (Breaks, r"raises \w+ when torch\.compile captures it: .*", {"compiled": True}),
    (KnowsCompiler, r"compiled, it gives something else: \[0\] has other values\. Graphs hold no Python state\.", {"compiled": True}),
    (HoldsFunction, r"raises \w+ when it is pickled: .*", {}),
    (ForgetsTraining, r"one that was pickled gives something else in training mode: \[0\] has other values\. .*", {}),
    (LosesScale, r"one that was pickled gives something else in eval mode: \[0\] has other values\. Copies and other processes .*", {}),
]  # fmt: skip


@pytest.mark.parametrize(("broken", "expected", "options"), BACKBONES, ids=lambda each: getattr(each, "__name__", ""))
def test_a_fault_of_a_mode_is_named(broken: type[Plain], expected: str, options: dict[str, Any]) -> None:
    refuses(expected, check_backbone, broken, **options)


def test_what_cannot_be_captured_or_pickled_may_say_so() -> None:
    check_backbone(Breaks)
    check_backbone(HoldsFunction, pickled=False)


def test_a_sound_backbone_is_captured() -> None:
    check_backbone(Plain, compiled=True)


class BestOfBatch(Tiny):
    """Scores are shares of the best one of the batch."""

    def detections(self, predictions: Any, batch: Batch, *, train: bool = False) -> list[Detections]:
        found = super().detections(predictions, batch)
        best = max(float(each.scores.max()) for each in found)
        return [Detections(each.boxes, each.scores / best, each.labels) for each in found]


class SharedPlaces(Tiny):
    """So many detections for all images of a batch together."""

    def detections(self, predictions: Any, batch: Batch, *, train: bool = False) -> list[Detections]:
        return [each.each(lambda rows: rows[: 4 // len(batch)]) for each in super().detections(predictions, batch)]


class ShiftedByNeighbours(Tiny):
    def detections(self, predictions: Any, batch: Batch, *, train: bool = False) -> list[Detections]:
        found = super().detections(predictions, batch)
        return [Detections(each.boxes / len(batch), each.scores, each.labels) for each in found]


class HalfScores(Tiny):
    """Its scores are of the type that layers give."""

    def detections(self, predictions: Any, batch: Batch, *, train: bool = False) -> list[Detections]:
        kind = predictions[0].dtype
        return [
            Detections(each.boxes, each.scores.to(kind), each.labels) for each in super().detections(predictions, batch)
        ]


class LogOfRounded(Tiny):
    """A difference that cancels where numbers have eight bits."""

    def losses(self, predictions: Any, batch: Batch) -> Losses:
        losses = super().losses(predictions, batch)
        near = torch.ones((), dtype=predictions[0].dtype) * (1 + 2**-12)
        return {**losses, "loss_near": (near - 1).log() + 0 * losses["loss_cls"]}


HEADS: list[tuple[type[Tiny], str]] = [
    (BestOfBatch, r"detections of image \d depend on the others of its batch in eval mode: other scores\. What is .*"),
    (SharedPlaces, r"detections of image 0 depend on the others of its batch in eval mode: 2 beside it, 4 alone\. .*"),
    (ShiftedByNeighbours, r"detections of image 0 depend on the others of its batch in eval mode: other boxes\. .*"),
    (
        HalfScores,
        r"detections of image 0 under bf16 autocast: boxes .*, scores \(5,\) bfloat16, .*\. They are boxes .*",
    ),
    (LogOfRounded, r"a number is not finite under bf16 autocast\. What overflows .*"),
]


@pytest.mark.parametrize(("broken", "expected"), HEADS, ids=lambda each: getattr(each, "__name__", ""))
def test_a_fault_of_a_head_in_a_mode_is_named(broken: type[Tiny], expected: str) -> None:
    refuses(expected, check_dense_head, broken)


class CountsInGraph(Tiny):
    def losses(self, predictions: Any, batch: Batch) -> Losses:
        factor = 2.0 if torch.compiler.is_compiling() else 1.0
        return {name: value * factor for name, value in super().losses(predictions, batch).items()}


def test_a_head_is_captured_in_one_graph_or_several() -> None:
    check_dense_head(Tiny, compiled=True)
    refuses(
        "compiled, it gives something else: loss_.* has other values.*", check_dense_head, CountsInGraph, compiled=True
    )


def test_the_tiny_parts_keep_their_contracts() -> None:
    check_backbone(TinyBackbone, compiled=True)
    check_dense_head(TinyHead)


class StaysBehind(Plain):
    """Makes a tensor where it should not."""

    def forward(self, images: Tensor) -> list[Tensor]:
        return [each.to("meta" if self.away else each.device) for each in super().forward(images)]

    away = False

    def to(self, *places: Any, **options: Any) -> Any:
        self.away = True
        return super().to(*places, **options)


class SmallerThere(StaysBehind):
    def forward(self, images: Tensor) -> list[Tensor]:
        return [each[..., self.away :] for each in Plain.forward(self, images)]


class InfiniteThere(StaysBehind):
    def forward(self, images: Tensor) -> list[Tensor]:
        return [each / (not self.away) for each in Plain.forward(self, images)]


class FailsThere(StaysBehind):
    def forward(self, images: Tensor) -> list[Tensor]:
        if self.away:
            raise RuntimeError("Expected all tensors to be on the same device")
        return Plain.forward(self, images)


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (StaysBehind, r"on a GPU it gives a tensor on meta\. What it makes is where its input is\."),
        (SmallerThere, r"gives \[\(2, 4, 32, 47\), .* on a GPU, but \[\(2, 4, 32, 48\), .* on the CPU\. Only places change\."),
        (InfiniteThere, r"a number is not finite on a GPU\. It is on the CPU\."),
        (FailsThere, r"raises RuntimeError on a GPU: Expected all tensors to be on the same device"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)  # fmt: skip
def test_a_fault_on_a_gpu_is_named(broken: type[Plain], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "gpu", lambda: torch.device("cpu"))  # it stands for one here
    refuses(expected, check_backbone, broken)


class Loose(Plain):
    """A tensor that is no buffer stays where it was made."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = torch.zeros(())
        self.grid = torch.zeros(1, 1, 1, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [
            torch.cat([each, self.grid.expand(len(each), 1, *each.shape[2:])], 1)[:, :-1]
            for each in super().forward(images)
        ]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_all_runs_on_a_gpu_too() -> None:
    check_backbone(Plain)
    check_dense_head(TinyHead)
    check_box_head(OneLayer)
    check_loss(Absolute(), reads="numbers")
    refuses("raises RuntimeError on a GPU: .*", check_backbone, Loose)


class BatchedLayer(OneLayer):
    def forward(self, extract: Any) -> tuple[Tensor, Tensor]:
        found = super().forward(extract)
        return found if found[0].dtype == torch.float32 else (found[0] / 0, found[1])


class Hidden(OneLayer):
    def __init__(self, **sizes: Any) -> None:
        super().__init__(in_channels=16, roi_size=7, class_channels=4, box_channels=12)
        self.act = lambda each: each


class Jumps(OneLayer):
    def forward(self, extract: Any) -> tuple[Tensor, Tensor]:
        logits, deltas = super().forward(extract)
        return (logits, deltas) if not len(logits) or float(logits.sum()) > 0 else (logits + 0, deltas)


def test_modes_of_box_heads_are_checked() -> None:
    check_box_head(OneLayer, compiled=True)
    refuses("a number is not finite under bf16 autocast.*", check_box_head, BatchedLayer)
    refuses("raises .* when it is pickled: .*", check_box_head, Hidden)
    refuses("raises .* when torch.compile captures it: .*", check_box_head, Jumps, compiled=True)


def test_modes_are_left_as_they_were() -> None:
    names: Sequence[str] = ("deterministic", "grad", "autocast")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
    check_dense_head(Tiny)
    after = torch.are_deterministic_algorithms_enabled(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
    assert dict(zip(names, before, strict=True)) == dict(zip(names, after, strict=True))
