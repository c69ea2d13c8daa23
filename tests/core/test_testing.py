"""The conformance kit lets sound components pass, and names the fault of each that is not."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from detcore import testing
from detcore.interfaces import (
    Backbone,
    Channels,
    DenseHead,
    Evaluator,
    Flow,
    Loss,
    Neck,
    NumClasses,
    PriorsPerCell,
    Strides,
)
from detcore.polygons import PolygonPoints
from detcore.structures import Batch, Detections, Losses
from detcore.testing import (
    ConformanceError,
    check_backbone,
    check_dataset,
    check_dense_head,
    check_evaluator,
    check_loss,
    check_neck,
)
from torch import Tensor, nn
from torchvision import tv_tensors
from toy_plugin import ToyDataset


def refuses(expected: str, check: Callable[..., None], *arguments: Any, **options: Any) -> None:
    with pytest.raises(ConformanceError) as caught:
        check(*arguments, **options)
    assert re.fullmatch(expected, str(caught.value)), caught.value


def names(value: Any) -> str:
    return value if isinstance(value, str) and value.isidentifier() else getattr(value, "__name__", "")


# --------------------------------------------------------------------------------------------- backbones and necks


class Plain(Backbone):
    """Sound: two strided convolutions and a batch norm."""

    def __init__(self, *, width: int = 4) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.Dropout(0.2))
        self.second = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.out_channels: Sequence[int] = (width, 2 * width)
        self.strides: Sequence[int] = (2, 4)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = [self.first(images)]
        return [*maps, self.second(maps[-1])]


class RoundsDown(Plain):
    def forward(self, images: Tensor) -> list[Tensor]:
        images = images[:, :, : images.shape[2] // 4 * 4, : images.shape[3] // 4 * 4]
        return super().forward(images)


class OneMapTooMany(Plain):
    def forward(self, images: Tensor) -> list[Tensor]:
        maps = super().forward(images)
        return [*maps, maps[-1]]


class Undeclared(Plain):
    def __init__(self) -> None:
        super().__init__()
        del self.strides


class Doubles(Plain):
    def forward(self, images: Tensor) -> list[Tensor]:
        return [each.double() for each in super().forward(images)]


class Infinite(Plain):
    def forward(self, images: Tensor) -> list[Tensor]:
        return [each / 0 for each in super().forward(images)]


class Unused(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(2, 2)


class Detached(Plain):
    def forward(self, images: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return super().forward(images)


class NoGradient(Plain):
    def forward(self, images: Tensor) -> list[Tensor]:
        return [each * (each.new_zeros(()) * self.first[0].weight.sum()).sqrt() for each in super().forward(images)]


class Whitens(Plain):
    def forward(self, images: Tensor) -> list[Tensor]:
        return super().forward(images.sub_(images.mean()))


class OwnChance(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.factor = random.SystemRandom().random()

    def forward(self, images: Tensor) -> list[Tensor]:
        return [each * self.factor for each in super().forward(images)]


class OwnChanceInTraining(Plain):
    def forward(self, images: Tensor) -> list[Tensor]:
        factor = random.SystemRandom().random() if self.training else 1.0
        return [each * factor for each in super().forward(images)]


class Counts(Plain):
    calls = 0

    def forward(self, images: Tensor) -> list[Tensor]:
        self.calls += not self.training
        return [each + self.calls for each in super().forward(images)]


class Loose(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.offset = torch.rand(())

    def forward(self, images: Tensor) -> list[Tensor]:
        return [each + self.offset for each in super().forward(images)]


class OwnShape(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("drawn", torch.zeros(int(torch.randint(1000, ()))))


BACKBONES = [
    (
        RoundsDown,
        r"map 0 of images of 97 x 131 has the shape \(2, 4, 48, 64\), declared is \(2, 4, 49, 66\)\. It is .*",
    ),
    (OneMapTooMany, r"declares 2 out_channels and 2 strides, but returns 3 maps\. One of each per map\."),
    (Undeclared, r"does not declare strides, as a Backbone must\. See detcore\.interfaces\.Backbone\."),
    (Doubles, r"map 0 of images of 64 x 96 is torch\.float64\. Float32 images give finite float32 maps\."),
    (Infinite, r"map 0 of images of 64 x 96 is not finite\. Float32 .*"),
    (Whitens, r"changes what it reads in place: \[0\] has other values\. Others read it, too\."),
    (Unused, r"parameter spare\.weight has no gradient on images of 71 x 64\. Every trainable parameter is part of .*"),
    (Detached, r"parameter first\.0\.weight has no gradient on images of 71 x 64\. Every .*"),
    (NoGradient, r"the gradient of first\.0\.weight is not finite on images of 71 x 64\. .*"),
    (OwnChance, r"two made from one seed differ in training mode: \[0\] has other values\. Draw from .*"),
    (OwnChanceInTraining, r"two made from one seed differ in training mode: \[0\] has other values\. Draw from .*"),
    (Counts, r"two runs in eval mode differ: \[0\] has other values\. Nothing changes there\."),
    (Loose, r"one that took the state of another gives something else: \[0\] has other values\. What it learns .*"),
    (OwnShape, r"raises RuntimeError when it takes the state of another: Error.* size mismatch for drawn: .*"),
]


def test_a_sound_backbone_passes_and_chance_is_as_before() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    check_backbone(Plain, width=2)
    check_backbone(lambda: Plain(width=3))
    check_backbone(partial(Plain, width=2), sizes=[(33, 40)])
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("broken", "expected"), BACKBONES, ids=lambda each: getattr(each, "__name__", ""))
def test_a_fault_of_a_backbone_is_named(broken: type[Backbone], expected: str) -> None:
    refuses(f"{broken.__name__}: {expected}", check_backbone, broken)


class Widen(Neck):
    """Sound: twice the channels."""

    def __init__(self, *, in_channels: Channels[Sequence[int]], in_strides: Strides[Sequence[int]]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(each, 2 * each, 1) for each in in_channels)
        self.out_channels: Sequence[int] = [2 * each for each in in_channels]
        self.strides: Sequence[int] = in_strides

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        return [conv(each) for conv, each in zip(self.convs, features, strict=True)]


class InPlace(Widen):
    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        return super().forward([each.relu_() for each in features])


class Halves(Widen):
    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        return [each[:, :, ::2, ::2] for each in super().forward(features)]


class OneWidth(Widen):
    def __init__(self, *, width: Channels[int], in_strides: Strides[Sequence[int]]) -> None:
        super().__init__(in_channels=[width] * len(in_strides), in_strides=in_strides)


class Greedy(Widen):
    def __init__(self, *, per_cell: PriorsPerCell) -> None:
        super().__init__(in_channels=[per_cell], in_strides=[1])


class Unresolved(Widen):
    def __init__(self, *, width: NotThere) -> None:  # noqa: F821
        super().__init__(in_channels=[], in_strides=[])


def test_a_sound_neck_passes_with_what_flows_into_it() -> None:
    check_neck(Widen)
    check_neck(Widen, flow=Flow(channels=(4, 4), strides=(8, 16)), in_channels=[4, 4])
    check_neck(partial(Widen, in_channels=[2, 2]), flow=Flow(channels=(2, 2), strides=(8, 16)))
    check_neck(OneWidth, flow=Flow(channels=(4, 4), strides=(8, 16)))


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (InPlace, r"changes what it reads in place: \[0\]\[0\] has other values\. Others read it, too\."),
        (Halves, r"map 0 of images of 64 x 96 has the shape \(2, 16, 8, 12\), declared is \(2, 16, 16, 24\)\. It is .*"),
        (OneWidth, r"width takes one value for all levels, but they have \(8, 16, 24, 32\) channels\. Give a flow .*"),
        (Greedy, r"nothing gives per_cell \(priors per cell\)\. Give the check per_cell=\.\.\., or a flow that has it\."),
        (Unresolved, r"raises ComponentError when its annotations are read: .*'NotThere' is not defined.*"),
        (Plain, r"is a Plain, not a Neck\. See detcore\.interfaces\.Neck\."),
    ],
    ids=names,
)  # fmt: skip
def test_a_fault_of_a_neck_is_named(broken: Callable[..., Neck], expected: str) -> None:
    refuses(f"{names(broken)}: {expected}", check_neck, broken)


# ----------------------------------------------------------------------------------------------------- dense heads


class Tiny(DenseHead):
    """Sound: each cell of the first map votes for one box of the image."""

    def __init__(self, *, in_channels: Channels[int], num_classes: NumClasses) -> None:
        super().__init__()
        self.cls = nn.Conv2d(in_channels, num_classes, 1)
        self.box = nn.Conv2d(in_channels, 4, 1)

    def forward(self, features: Sequence[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        logits, sides = (conv(features[0]).flatten(2).transpose(1, 2) for conv in (self.cls, self.box))
        half = batch.sizes.flip(-1)[:, None] / 2
        corners = [half * sides[..., :2].sigmoid(), half + half * sides[..., 2:].sigmoid()]
        return logits, torch.cat(corners, -1)

    def losses(self, predictions: tuple[Tensor, Tensor], batch: Batch) -> Losses:
        logits, boxes = predictions
        apart = (boxes.mean(1, keepdim=True) - batch.truth.boxes).abs().sum(-1) * batch.truth.valid
        return {"loss_cls": logits.logsumexp(-1).mean(), "loss_box": apart.sum() / self.count(batch)}

    def count(self, batch: Batch) -> Tensor:
        return batch.truth.valid.sum().clamp(min=1)

    def detections(self, predictions: tuple[Tensor, Tensor], batch: Batch, *, train: bool = False) -> list[Detections]:
        logits, boxes = predictions
        scores, labels = logits.float().softmax(-1).max(-1)
        best = scores.topk(5, 1).indices
        return [Detections(b[i], s[i], c[i]) for b, s, c, i in zip(boxes, scores, labels, best, strict=True)]


class DividesByNothing(Tiny):
    def count(self, batch: Batch) -> Tensor:
        return batch.truth.valid.sum()


class LossesComeAndGo(Tiny):
    def losses(self, predictions: Any, batch: Batch) -> Losses:
        losses = super().losses(predictions, batch)
        return losses if batch.truth.valid.any() else {"loss_cls": losses["loss_cls"] + losses["loss_box"]}


class Untied(Tiny):
    def losses(self, predictions: Any, batch: Batch) -> Losses:
        losses = super().losses(predictions, batch)
        return losses if batch.truth.valid.any() else {**losses, "loss_box": torch.zeros(())}


class NeedsAnObject(Tiny):
    def losses(self, predictions: Any, batch: Batch) -> Losses:
        batch.truth.boxes[batch.truth.valid].amax(0)
        return super().losses(predictions, batch)


class NeedsAnObjectInEachImage(Tiny):
    def losses(self, predictions: Any, batch: Batch) -> Losses:
        valid = batch.truth.valid
        means = [boxes[rows].mean() for boxes, rows in zip(batch.truth.boxes, valid, strict=True)]
        extra = torch.stack(means).sum() if valid.any() else torch.zeros(())
        return {**super().losses(predictions, batch), "extra": extra}


class FewObjects(Tiny):
    def losses(self, predictions: Any, batch: Batch) -> Losses:
        torch.zeros(100)[batch.truth.valid.sum(1) - 1]
        return super().losses(predictions, batch)


class LearnsCrowds(Tiny):
    def losses(self, predictions: Any, batch: Batch) -> Losses:
        losses = super().losses(predictions, batch)
        return {**losses, "loss_crowd": losses["loss_box"]} if batch.truth.crowd.any() else losses


class NotReduced(Tiny):
    def losses(self, predictions: Any, batch: Batch) -> Losses:
        return {"loss_cls": predictions[0].logsumexp(-1)}


class PlainNumber(Tiny):
    def losses(self, predictions: Any, batch: Batch) -> Losses:
        return {**super().losses(predictions, batch), "objects": 3}  # type: ignore[dict-item]


class Unnamed(Tiny):
    def losses(self, predictions: Any, batch: Batch) -> Losses:
        return {name.removeprefix("loss_"): value for name, value in super().losses(predictions, batch).items()}


class CutOff(Tiny):
    def forward(self, features: Sequence[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        return super().forward([each.detach() for each in features], batch)


class CutOffWithoutObjects(Tiny):
    def forward(self, features: Sequence[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        features = [features[0] + features[1].mean() if batch.targets and batch.truth.valid.any() else features[0]]
        return super().forward(features, batch)


class ChangesMaps(Tiny):
    def forward(self, features: Sequence[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        features[1].mul_(2)
        return super().forward(features, batch)


class ChangesTargets(Tiny):
    def losses(self, predictions: Any, batch: Batch) -> Losses:
        batch.truth.labels.fill_(1)
        return super().losses(predictions, batch)


class Peeks(Tiny):
    def detections(self, predictions: Any, batch: Batch, *, train: bool = False) -> list[Detections]:
        found = super().detections(predictions, batch)
        count = 5 if batch.targets is None else 4
        return [Detections(each.boxes[:count], each.scores[:count], each.labels[:count]) for each in found]


class NoProposals(Tiny):
    def detections(self, predictions: Any, batch: Batch, *, train: bool = False) -> list[Detections]:
        if train:
            raise NotImplementedError("no proposals")
        return super().detections(predictions, batch)


def changing(change: Callable[[Tensor, Tensor, Tensor], Sequence[Tensor]]) -> Callable[..., DenseHead]:
    class Changed(Tiny):
        def detections(self, predictions: Any, batch: Batch, *, train: bool = False) -> list[Detections]:
            found = super().detections(predictions, batch)
            return [Detections(*change(each.boxes, each.scores, each.labels)) for each in found]

    return Changed


class OneRecord(Tiny):
    def detections(self, predictions: Any, batch: Batch, *, train: bool = False) -> list[Detections]:
        return super().detections(predictions, batch)[:1]


HEADS = [
    (DividesByNothing, r"loss_box is nan with no object\. What an image lacks has weight 0, .*"),
    (
        LossesComeAndGo,
        r"the losses are loss_cls with no object, but loss_box, loss_cls with one object in each image\. .*",
    ),
    (Untied, r"parameter box\.weight has no gradient with no object\. Every trainable parameter .*"),
    (NeedsAnObject, r"raises IndexError in losses\(\) with no object: .*"),
    (NeedsAnObjectInEachImage, r"extra is nan with no object in one of the images\. .*"),
    (FewObjects, r"raises IndexError in losses\(\) with 300 objects: .*"),
    (LearnsCrowds, r"the losses are .*, loss_crowd with nothing but crowds, but .*"),
    (NotReduced, r"loss_cls is of shape \(2, 320\) with one object in each image\. Losses are tensors .*"),
    (PlainNumber, r"objects is a int with one object in each image\. Losses are tensors of no dimension\."),
    (Unnamed, r"no name of \['cls', 'box'\] contains `loss`\. What is trained on does, alone\."),
    (CutOff, r"no gradient reaches its maps with one object in each image\. The backbone learns through them\."),
    (CutOffWithoutObjects, r"gradients reach maps 0 with no object, but 0, 1 with one object in each image\. .*"),
    (ChangesMaps, r"changes its maps or its batch in place: \[0\]\[1\] has other values\. Others read it, too\."),
    (ChangesTargets, r"changes its maps or its batch in place: \[1\]\.targets\.labels has other values\. .*"),
    (Peeks, r"detections depend on the targets: \[0\]\.boxes is \(4, 4\) float32, then \(5, 4\) float32\. At .*"),
    (NoProposals, r"raises NotImplementedError in detections\(train=True\): no proposals"),
    (OneRecord, r"1 detections of 2 images\. One record per image\."),
]
DETECTIONS = {
    r"boxes \(5, 4\) float64, scores \(5,\) float32, labels \(5,\) int64\. They are boxes \(D, 4\) .*": (
        lambda boxes, scores, labels: (boxes.double(), scores, labels)
    ),
    r"boxes \(5, 4\) float32, scores \(5,\) float32, labels \(4,\) int64\. They are .*": (
        lambda boxes, scores, labels: (boxes, scores, labels[:4])
    ),
    r"a number is not finite\. Clip what is decoded\.": lambda boxes, scores, labels: (boxes / 0, scores, labels),
    r"scores are not sorted\. The best is first\.": lambda boxes, scores, labels: (boxes, scores.flip(0), labels),
    r"labels are 3 to 3\. They are 0 to 2\.": lambda boxes, scores, labels: (boxes, scores, 0 * labels + 3),
    r"a box is outside the image of 128 x 160\. Clip them to batch\.sizes\.": (
        lambda boxes, scores, labels: (boxes + 100, scores, labels)
    ),
    r"a box ends before it begins\. They are x1, y1, x2, y2\.": (
        lambda boxes, scores, labels: (boxes[:, [2, 1, 0, 3]], scores, labels)
    ),
}


def test_a_sound_head_passes() -> None:
    check_dense_head(Tiny)
    check_dense_head(Tiny, flow=Flow(channels=(4,), strides=(16,), num_classes=1), size=(50, 70))


@pytest.mark.parametrize(("broken", "expected"), HEADS, ids=names)
def test_a_fault_of_a_head_is_named(broken: type[DenseHead], expected: str) -> None:
    refuses(f"{broken.__name__}: {expected}", check_dense_head, broken)


@pytest.mark.parametrize(("expected", "change"), DETECTIONS.items())
def test_a_fault_of_detections_is_named(expected: str, change: Any) -> None:
    refuses(f"Changed: detections of image 0: {expected}", check_dense_head, changing(change))


def test_a_head_that_finds_nothing_is_asked_for_a_lower_threshold() -> None:
    nothing = changing(lambda boxes, scores, labels: (boxes[:0], scores[:0], labels[:0]))
    refuses(r"Changed: finds nothing in eval mode, .*\. Give it a lower score threshold in this test\.",
            check_dense_head, nothing)  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- losses


class Absolute(Loss):
    """Sound: L1 on numbers."""

    def forward(self, input: Tensor, target: Tensor, weight: Any = None, avg_factor: Any = None) -> Tensor:
        return self.reduced(self.values(input.float(), target), weight, avg_factor)

    def values(self, input: Tensor, target: Tensor) -> Tensor:
        return (input - target).abs()

    def reduced(self, values: Tensor, weight: Any, avg_factor: Any) -> Tensor:
        if weight is not None:
            weight = weight.mean(-1) if weight.dim() > values.dim() else weight
            values = values * weight.reshape(weight.shape + (1,) * (values.dim() - weight.dim()))
        return values.sum() / (max(values.numel(), 1) if avg_factor is None else avg_factor)


class Entropy(Absolute):
    """Sound: cross entropy, background last, whether it is written -1 or C."""

    softmax = True

    def values(self, input: Tensor, target: Tensor) -> Tensor:
        return -input.log_softmax(-1).gather(-1, (target % input.shape[-1])[:, None])[:, 0]


class Overlap(Absolute):
    """Sound: 1 - IoU."""

    decoded = True
    eps = 1e-6

    def values(self, input: Tensor, target: Tensor) -> Tensor:
        corner, other = torch.maximum(input[:, :2], target[:, :2]), torch.minimum(input[:, 2:], target[:, 2:])
        inside = (other - corner).clamp(min=0).prod(-1)
        areas = [(each[:, 2:] - each[:, :2]).clamp(min=0).prod(-1) for each in (input, target)]
        return 1 - inside / (areas[0] + areas[1] - inside + self.eps)


class NoMean(Absolute):
    def reduced(self, values: Tensor, weight: Any, avg_factor: Any) -> Tensor:
        return super().reduced(values, weight, avg_factor).expand(3)


class MeanOfNothing(Absolute):
    def reduced(self, values: Tensor, weight: Any, avg_factor: Any) -> Tensor:
        return values.mean() if weight is avg_factor is None else super().reduced(values, weight, avg_factor)


class IgnoresFactor(Absolute):
    def reduced(self, values: Tensor, weight: Any, avg_factor: Any) -> Tensor:
        return super().reduced(values, weight, None)


class IgnoresWeight(Absolute):
    def reduced(self, values: Tensor, weight: Any, avg_factor: Any) -> Tensor:
        return super().reduced(values, None, avg_factor)


class WeightsOfRowsOnly(Absolute):
    def reduced(self, values: Tensor, weight: Any, avg_factor: Any) -> Tensor:
        weight = weight[:, 0] * weight[:, 0].numel() / 7 if weight is not None and weight.dim() == 2 else weight
        return super().reduced(values, weight, avg_factor)


class SumForMean(Absolute):
    def reduced(self, values: Tensor, weight: Any, avg_factor: Any) -> Tensor:
        return super().reduced(values, weight, 1.0 if avg_factor is None else avg_factor)


class Offset(Absolute):
    def values(self, input: Tensor, target: Tensor) -> Tensor:
        return super().values(input, target) + 1


class Reward(Absolute):
    def values(self, input: Tensor, target: Tensor) -> Tensor:
        return -super().values(input, target)


class Blind(Absolute):
    def values(self, input: Tensor, target: Tensor) -> Tensor:
        return super().values(input.detach(), target) + 0 * input


class Severed(Absolute):
    def values(self, input: Tensor, target: Tensor) -> Tensor:
        return super().values(input.detach(), target)


class Rooted(Absolute):
    def values(self, input: Tensor, target: Tensor) -> Tensor:
        return (input - target).square().sum(-1).sqrt()


class Writes(Absolute):
    def values(self, input: Tensor, target: Tensor) -> Tensor:
        return super().values(input, target.mul_(2))


class NaiveEntropy(Entropy):
    def values(self, input: Tensor, target: Tensor) -> Tensor:
        return -input.softmax(-1).gather(-1, (target % input.shape[-1])[:, None])[:, 0].log()


class BackgroundByNumber(Entropy):
    def values(self, input: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(input, target.clamp(min=0), reduction="none")


class HalfPrecision(Overlap):
    def forward(self, input: Tensor, target: Tensor, weight: Any = None, avg_factor: Any = None) -> Tensor:
        return self.reduced(self.values(input, target.to(input.dtype)), weight, avg_factor)


class Undefended(Overlap):
    eps = 0.0

    def values(self, input: Tensor, target: Tensor) -> Tensor:
        return -(1 - super().values(input, target)).log()


LOSSES = [
    (NoMean, "numbers", r"the loss with an avg_factor is of shape \(3,\)\. With its mean reduction it is a scalar\."),
    (MeanOfNothing, "numbers", r"the loss of no rows is nan\. What an image lacks .*"),
    (IgnoresFactor, "numbers", r"twice the avg_factor halves it, but it is .*, not .*\. weight multiplies .*"),
    (SumForMean, "numbers", r"without avg_factor it is a mean, but it is .*"),
    (IgnoresWeight, "numbers", r"weights of 2 double it, but it is .*"),
    (WeightsOfRowsOnly, "numbers", r"weights may have the input's shape, but it is .*"),
    (Offset, "numbers", r"a perfect prediction costs 8, a wrong one .*\. The perfect one costs nothing\."),
    (Reward, "numbers", r"a perfect prediction costs -?0, a wrong one -.*\. The perfect one costs nothing\."),
    (Blind, "numbers", r"a wrong prediction has no gradient\. Something must pull it to the target\."),
    (Severed, "numbers", r"the loss with an avg_factor has no gradient\. It is finite and tied to the input, always\."),
    (Rooted, "numbers", r"the loss of a perfect prediction has a gradient that is not finite\. .*"),
    (Writes, "numbers", r"changes its target in place: \[0\] has other values\. .*"),
    (Overlap, "numbers", r"reads numbers, but decoded is True\. .*"),
    (Absolute, "boxes", r"reads boxes, but decoded is False\. `decoded = True` asks for boxes in pixels .*"),
    (NaiveEntropy, "classes", r"the loss of large logits is inf"),
    (BackgroundByNumber, "classes", r"background is -1 or C, but it is .*"),
    (HalfPrecision, "boxes", r"the loss of float16 numbers is (nan|-inf|inf)"),
    (Undefended, "boxes", r"the loss of boxes without area is inf"),
    (Entropy, "numbers", r"raises RuntimeError with an avg_factor: .*"),
]


@pytest.mark.parametrize(("loss", "reads"), [(Absolute, "numbers"), (Entropy, "classes"), (Overlap, "boxes")])
def test_a_sound_loss_passes(loss: Any, reads: Any) -> None:
    check_loss(loss(), reads=reads)


@pytest.mark.parametrize(("broken", "reads", "expected"), LOSSES, ids=names)
def test_a_fault_of_a_loss_is_named(broken: Any, reads: Any, expected: str) -> None:
    refuses(f"{broken.__name__}: {expected}", check_loss, broken(), reads=reads)


def test_a_loss_may_cost_something_at_best() -> None:
    check_loss(Offset(), reads="numbers", zero=False)
    refuses("Reward: .* The perfect one costs less.", check_loss, Reward(), reads="numbers", zero=False)


# ------------------------------------------------------------------------------------------ datasets and evaluators


class Images:
    """Sound, with masks and outlines; ``changes`` of the sample of an index may spoil it."""

    def __init__(self, classes: Any = ("cat", "dog"), length: int = 3, **changes: Any) -> None:
        self.classes, self.length, self.changes = classes, length, changes

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        boxes = torch.tensor([[2.0, 3, 12, 9], [0, 0, 40, 30.5]])[: index % 3]
        count = len(boxes)
        target = {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(30, 40)),
            "labels": torch.arange(count),
            "image_id": index,
            "area": torch.ones(count),
            "iscrowd": torch.zeros(count, dtype=torch.int64),
            "masks": tv_tensors.Mask(torch.zeros(count, 30, 40, dtype=torch.uint8)),
            "polygons": PolygonPoints(torch.ones(3 * count, 2), canvas_size=(30, 40)),
            "offsets": torch.arange(count + 1) * 3,
            "owner": torch.arange(count),
            **{key: change for key, change in self.changes.items() if key != "image"},
        }
        image = self.changes.get("image", tv_tensors.Image(torch.zeros(3, 30, 40, dtype=torch.uint8)))
        return image, {key: value for key, value in target.items() if value is not None}


def boxes_of(*rows: Sequence[float], **options: Any) -> Any:
    return {
        "boxes": tv_tensors.BoundingBoxes(
            torch.tensor(rows, dtype=torch.float32), **{"format": "XYXY", "canvas_size": (30, 40), **options}
        ),
        **{"labels": torch.tensor([0]), "masks": None, "polygons": None, "area": None, "iscrowd": None},
    }


SAMPLES = [
    ({"image": torch.zeros(3, 30, 40, dtype=torch.uint8)}, r"the image must be a tv_tensors\.Image, found a Tensor"),
    ({"image": tv_tensors.Image(torch.zeros(3, 30, 40))}, r"the image must be .*uint8, found .*float32"),
    ({"boxes": None}, r"the target has no boxes"),
    ({"boxes": torch.zeros(0, 4)}, r"boxes must be BoundingBoxes, found Tensor"),
    (boxes_of([1, 1, 9, 9], format="XYWH"), r"boxes must be \(G, 4\) XYXY, found \(1, 4\) XYWH"),
    (boxes_of([1, 1, 9, 9], canvas_size=(40, 30)), r"boxes lie on a canvas of \(40, 30\), but .* \(30, 40\) .*"),
    (boxes_of([1, 1, 9, 9], dtype=torch.float64), r"boxes must be float32 and labels int64, found .*"),
    (boxes_of([1, 1, 1, 9]), r"a box has no area"),
    (boxes_of([1, 1, 42, 9]), r"a box is outside the image of 30 x 40"),
    (boxes_of([1, 1, float("inf"), 9]), r"a box has a coordinate that is not finite"),
    ({**boxes_of([1, 1, 9, 9]), "labels": torch.tensor([2])}, r"labels must be 0 to 1, found 2 to 2"),
    ({**boxes_of([1, 1, 9, 9]), "labels": torch.tensor([0, 1])}, r"1 boxes, but 2 rows of labels"),
    ({**boxes_of([1, 1, 9, 9]), "labels": torch.tensor([0.0])}, r"boxes must be float32 and labels int64, found .*"),
    ({**boxes_of([1, 1, 9, 9]), "area": torch.ones(2)}, r"1 boxes, but 2 rows of area"),
    ({"image_id": torch.tensor(3)}, r"image_id must be int or str, found Tensor"),
    ({"masks": tv_tensors.Mask(torch.zeros(0, 30, 41))}, r"masks must be \(0, 30, 40\), found \(0, 30, 41\)"),
    ({"polygons": tv_tensors.KeyPoints(torch.ones(0, 2), canvas_size=(30, 40))},
     r"polygons must be PolygonPoints, found KeyPoints"),
    ({"owner": None}, r"polygons come with offsets and owner"),
    ({"offsets": torch.tensor([0, 3])}, r"offsets must rise from 0 to the 0 points, one more than outlines"),
    (
        {**boxes_of([1, 1, 9, 9]), "polygons": PolygonPoints(torch.ones(3, 2), canvas_size=(30, 40)),
         "offsets": torch.tensor([0, 3]), "owner": torch.tensor([1])},
        r"an outline is of an object that is not there",
    ),
]  # fmt: skip


class Chance(Images):
    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        image, target = super().__getitem__(index)
        return tv_tensors.Image(image + torch.randint(255, (1,), dtype=torch.uint8)), target


class Remembers(Images):
    def __init__(self) -> None:
        super().__init__()
        self.state = 1

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "state": 2}

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        image, target = super().__getitem__(index)
        return image, {**target, "state": self.state}


class List(Images):
    def __getitem__(self, index: int) -> Any:
        return [*super().__getitem__(index)]


def test_a_sound_dataset_passes() -> None:
    check_dataset(Images())
    check_dataset(Images(length=100), samples=7)
    check_dataset(ToyDataset())


@pytest.mark.parametrize(("changes", "expected"), SAMPLES)
def test_a_fault_of_a_sample_is_named(changes: dict[str, Any], expected: str) -> None:
    refuses(rf"Images: \[0\]: {expected}\. See detcore\.interfaces\.Dataset\.", check_dataset, Images(**changes))


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ([1, 2], r"list: is no Dataset\. It has classes, __len__ and __getitem__\."),
        (Images(classes=()), r"Images: classes are \(\)\. They are names, at least one, each once\."),
        (Images(classes="cat"), r"Images: classes are 'cat'\. .*"),
        (Images(classes=("cat", "cat")), r"Images: classes are \('cat', 'cat'\)\. .*"),
        (Images(length=0), r"Images: has no images\. .*"),
        (Images(classes=("cat", "dog"), spare=lambda: 0), r"Images: raises .* when it is pickled, as workers need it: .*"),
        (Images(image_id="one"), r"Images: image_id 'one' is that of two images\. Each image has its own\."),
        (Chance(), r"Chance: \[0\] is another when read again: \[0\] has other values\. Chance: transforms\."),
        (Remembers(), r"Remembers: \[2\] is another when read from a copy, in another order: \[1\]\.state is 1, then 2\. .*"),
        (List(), r"List: \[0\]: it must be a tuple \(image, target\) with a dict as target\. .*"),
    ],
)  # fmt: skip
def test_a_fault_of_a_dataset_is_named(dataset: Any, expected: str) -> None:
    refuses(expected, check_dataset, dataset)


class Recall(Evaluator):
    """Sound: the share of objects that a detection of their class meets exactly."""

    def __init__(self, dataset: Any) -> None:
        self.truth = {sample[1]["image_id"]: sample[1] for sample in map(dataset.__getitem__, range(len(dataset)))}
        self.found: list[bool] = []

    def update(self, detections: Sequence[Detections], ids: Sequence[int | str]) -> None:
        for each, id_ in zip(detections, ids, strict=True):
            boxes, labels = self.truth[id_]["boxes"].as_subclass(Tensor), self.truth[id_]["labels"]
            same = (boxes[:, None] == each.boxes).all(-1) & (labels[:, None] == each.labels)
            self.found += same.any(1).tolist()

    def compute(self) -> dict[str, float]:
        return {"recall": sum(self.found) / max(len(self.found), 1)}


class Optimist(Recall):
    def compute(self) -> dict[str, float]:
        return super().compute() if self.found else {"recall": 1.0}


class Pessimist(Recall):
    def compute(self) -> dict[str, float]:
        return {"recall": 0.0}


class OfTheLast(Recall):
    def update(self, detections: Sequence[Detections], ids: Sequence[int | str]) -> None:
        self.found = [len(detections) > 1]


class TensorMetric(Recall):
    def compute(self) -> dict[str, float]:
        return {"recall": torch.tensor(0.0)}  # type: ignore[dict-item]


class MetricsComeAndGo(Recall):
    def compute(self) -> dict[str, float]:
        return super().compute() if self.found else {}


class MoreMetrics(Recall):
    def compute(self) -> dict[str, float]:
        return {**super().compute(), **({"images": 1.0} if self.found else {})}


class NeedsAll(Recall):
    def update(self, detections: Sequence[Detections], ids: Sequence[int | str]) -> None:
        if len(ids) < len(self.truth):
            raise KeyError("all images at once")
        super().update(detections, ids)


def test_a_sound_evaluator_passes() -> None:
    check_evaluator(Recall, Images())


class WithMisses(Recall):
    """The share that was missed, which is 1 where nothing is found."""

    def compute(self) -> dict[str, float]:
        found = super().compute()
        return {**found, "missed": 1 - found["recall"]}


def test_a_metric_of_which_less_is_better_is_named_and_never_the_main_one() -> None:
    check_evaluator(WithMisses, Images(), lower_is_better=["missed"])
    refuses(r"WithMisses: no detections at all score .*", check_evaluator, WithMisses, Images())
    refuses(r"Optimist: no detections .*", check_evaluator, Optimist, Images(), lower_is_better=["recall"])


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (Optimist, r"no detections at all score \{'recall': 1\.0\}\. They score 0\."),
        (Pessimist, r"the ground truth as detections scores \{'recall': 0\.0\}\. It is the best there can be\."),
        (OfTheLast, r"metrics depend on the order of images: recall is 1\.0, then 0\.0\. They are of the whole\."),
        (TensorMetric, r"computes \{'recall': tensor\(0\.\)\} of nothing\. It is a dict of names and plain floats\."),
        (MetricsComeAndGo, r"computes \{\} of nothing\. .*"),
        (MoreMetrics, r"its metrics are \['recall'\] or \['recall', 'images'\]\. They are always the same ones\."),
        (NeedsAll, r"raises KeyError of the ground truth: 'all images at once'"),
    ],
    ids=names,
)  # fmt: skip
def test_a_fault_of_an_evaluator_is_named(broken: Any, expected: str) -> None:
    refuses(f"{broken.__name__}: {expected}", check_evaluator, broken, Images())


def test_the_kit_needs_no_test_framework() -> None:
    modules = {path.stem: path.read_text(encoding="utf-8") for path in Path(testing.__file__).parent.glob("*.py")}
    assert [name for name, text in modules.items() if "import pytest" in text] == ["pytest_plugin"]
    assert len(modules) > 10
    assert issubclass(ConformanceError, AssertionError)
