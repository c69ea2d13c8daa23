"""The conformance kit lets sound RoI heads pass, and names the fault of each that is not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import torch
from detcore.interfaces import Channels, NumClasses, RoIHead
from detcore.structures import Batch, Detections, Losses, clip_boxes
from detcore.testing import ConformanceError, check_roi_head
from torch import Tensor, nn
from torchvision.ops import roi_align

Proposals = Sequence[Detections]


class Second(RoIHead):
    """Sound: scores each proposal and moves it, by what a layer makes of the mean of its cells."""

    def __init__(self, *, in_channels: Channels[int], num_classes: NumClasses) -> None:
        super().__init__()
        self.cls = nn.Linear(in_channels, num_classes)
        self.box = nn.Linear(in_channels, 4)

    def numbers(self, features: Any, proposals: Proposals) -> tuple[Tensor, Tensor]:
        pooled = roi_align(features[0].float(), [each.boxes for each in proposals], 1, 1 / 4).flatten(1)
        return self.cls(pooled).float(), torch.cat([each.boxes for each in proposals]) + self.box(pooled).float()

    def losses(self, features: Any, proposals: Proposals, batch: Batch) -> Losses:
        logits, boxes = self.numbers(features, proposals)
        image = torch.cat([torch.full((len(each),), row) for row, each in enumerate(proposals)])
        apart = (boxes - batch.truth.boxes[image, 0]).abs().sum(1) * batch.truth.valid[image, 0]
        return {
            "loss_cls": logits.logsumexp(1).sum() / self.count(len(logits)),
            "loss_box": apart.sum() / self.count(len(boxes)),
        }

    def count(self, rows: int) -> int:
        return max(rows, 1)

    def detections(self, features: Any, proposals: Proposals, batch: Batch) -> list[Detections]:
        counts = [len(each) for each in proposals]
        logits, boxes = (each.split(counts) for each in self.numbers(features, proposals))
        return [self.best(*each) for each in zip(logits, boxes, batch.sizes, strict=True)]

    def best(self, logits: Tensor, boxes: Tensor, size: Tensor) -> Detections:
        scores, labels = logits.sigmoid().max(1)
        order = scores.sort(descending=True, stable=True).indices[:5]
        return Detections(clip_boxes(boxes[order], size), scores[order], labels[order])


class DividesByNothing(Second):
    def count(self, rows: int) -> int:
        return rows


class NeedsProposals(Second):
    def losses(self, features: Any, proposals: Proposals, batch: Batch) -> Losses:
        if not any(map(len, proposals)):
            return {"loss_cls": features[0].sum() * 0, "loss_box": features[0].sum() * 0}
        return super().losses(features, proposals, batch)


class NeedsProposalsInEachImage(Second):
    def losses(self, features: Any, proposals: Proposals, batch: Batch) -> Losses:
        for each in proposals if any(map(len, proposals)) else ():
            each.scores.max()
        return super().losses(features, proposals, batch)


class NeedsProposalsToFind(Second):
    def detections(self, features: Any, proposals: Proposals, batch: Batch) -> list[Detections]:
        torch.stack([each.boxes[0] for each in proposals])
        return super().detections(features, proposals, batch)


class LossesComeAndGo(Second):
    def losses(self, features: Any, proposals: Proposals, batch: Batch) -> Losses:
        losses = super().losses(features, proposals, batch)
        return losses if any(map(len, proposals)) else {"loss_cls": losses["loss_cls"] + losses["loss_box"]}


class DropsLossesWithoutObjects(Second):
    def losses(self, features: Any, proposals: Proposals, batch: Batch) -> Losses:
        losses = super().losses(features, proposals, batch)
        return losses if batch.truth.valid.any() else {**losses, "loss_box": losses["loss_box"].detach() * 0}


class Unnamed(Second):
    def losses(self, features: Any, proposals: Proposals, batch: Batch) -> Losses:
        return {name.removeprefix("loss_"): value for name, value in super().losses(features, proposals, batch).items()}


class NotReduced(Second):
    def losses(self, features: Any, proposals: Proposals, batch: Batch) -> Losses:
        return {"loss_cls": self.numbers(features, proposals)[0].sum(1)}


class CutOff(Second):
    def numbers(self, features: Any, proposals: Proposals) -> tuple[Tensor, Tensor]:
        return super().numbers([each.detach() for each in features], proposals)


class MovesProposals(Second):
    def losses(self, features: Any, proposals: Proposals, batch: Batch) -> Losses:
        losses = super().losses(features, proposals, batch)
        for each in proposals:
            each.boxes.add_(1)
        return losses


class SilentInEvaluation(Second):
    def losses(self, features: Any, proposals: Proposals, batch: Batch) -> Losses:
        losses = super().losses(features, proposals, batch)
        return losses if self.training else {"value": losses["loss_cls"]}


class FailsInEvaluation(Second):
    def losses(self, features: Any, proposals: Proposals, batch: Batch) -> Losses:
        if not self.training:
            raise NotImplementedError("losses are of training")
        return super().losses(features, proposals, batch)


class ChoosesMode(Second):
    def detections(self, features: Any, proposals: Proposals, batch: Batch) -> list[Detections]:
        self.eval()
        return super().detections(features, proposals, batch)


class Peeks(Second):
    def detections(self, features: Any, proposals: Proposals, batch: Batch) -> list[Detections]:
        found = super().detections(features, proposals, batch)
        return found if batch.targets is None else [each.each(lambda rows: rows[:4]) for each in found]


class BestOfBatch(Second):
    def detections(self, features: Any, proposals: Proposals, batch: Batch) -> list[Detections]:
        found = super().detections(features, proposals, batch)
        best = max([float(score) for each in found for score in each.scores], default=1.0)
        return [attrs.evolve(each, scores=each.scores / best) for each in found]


class Invents(Second):
    """Finds the whole image where it is given no proposal."""

    def best(self, logits: Tensor, boxes: Tensor, size: Tensor) -> Detections:
        if len(boxes):
            return super().best(logits, boxes, size)
        return Detections(torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([0.5]), torch.tensor([0]))


class NotClipped(Second):
    def best(self, logits: Tensor, boxes: Tensor, size: Tensor) -> Detections:
        found = super().best(logits, boxes, size)
        return attrs.evolve(found, boxes=found.boxes + 1000)


class MasksOfOthers(Second):
    def best(self, logits: Tensor, boxes: Tensor, size: Tensor) -> Detections:
        return attrs.evolve(super().best(logits, boxes, size), masks=torch.zeros(7, 4, 4))


class OneRecord(Second):
    def detections(self, features: Any, proposals: Proposals, batch: Batch) -> list[Detections]:
        return super().detections(features, proposals, batch)[:1]


class FindsNothing(Second):
    def best(self, logits: Tensor, boxes: Tensor, size: Tensor) -> Detections:
        return super().best(logits[:0], boxes[:0], size)


class Remembers(Second):
    calls = 0

    def best(self, logits: Tensor, boxes: Tensor, size: Tensor) -> Detections:
        self.calls += not self.training
        return super().best(logits + 0.01 * self.calls, boxes, size)


class HalfScores(Second):
    def numbers(self, features: Any, proposals: Proposals) -> tuple[Tensor, Tensor]:
        logits, boxes = super().numbers(features, proposals)
        return logits.to(features[0].dtype), boxes


class Hidden(Second):
    def __init__(self, *, in_channels: Channels[int], num_classes: NumClasses) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes)
        self.act = lambda each: each


class KnowsCompiler(Second):
    def losses(self, features: Any, proposals: Proposals, batch: Batch) -> Losses:
        factor = 2.0 if torch.compiler.is_compiling() else 1.0
        return {name: value * factor for name, value in super().losses(features, proposals, batch).items()}


class NotAHead(nn.Module):
    pass


USUAL = "one object in each image and many proposals"
BROKEN: list[tuple[Any, str]] = [
    (NotAHead, r"is a NotAHead, not a RoIHead\. See detcore\.interfaces\.RoIHead\."),
    (DividesByNothing, r"loss_cls is nan with one object in each image and no proposal\. What an image lacks .*"),
    (NeedsProposals, r"parameter cls\.weight has no gradient with one object in each image and no proposal\. Every .*"),
    (NeedsProposalsInEachImage, r"raises \w+ in losses\(\) with one object .* and no proposal in one of the images: .*"),
    (NeedsProposalsToFind, r"raises IndexError in detections\(\): .*"),
    (LossesComeAndGo, rf"the losses are loss_cls with .* and no proposal, but loss_box, loss_cls with {USUAL}\. .*"),
    (DropsLossesWithoutObjects, r"parameter box\.weight has no gradient with no object and many proposals\. Every .*"),
    (Unnamed, r"no name of \['cls', 'box'\] contains `loss`\. What is trained on does, alone\."),
    (NotReduced, rf"loss_cls is of shape \(220,\) with {USUAL}\. Losses are tensors of no dimension\."),
    (CutOff, rf"no gradient reaches its maps with {USUAL}\. The backbone learns through them\."),
    (MovesProposals, r"changes its maps, its proposals or its batch in place: \[1\]\[0\]\.boxes has other values\. .*"),
    (SilentInEvaluation, r"no name of \['value'\] contains `loss` while training is False\. A validation asks for .*"),
    (FailsInEvaluation, r"raises NotImplementedError in losses\(\) while training is False: losses are of training"),
    (ChoosesMode, r"detections\(\) puts a layer of it into the other mode than training = True\. Who calls it says .*"),
    (Peeks, r"detections depend on the targets: \[0\]\.boxes is \(4, 4\) float32, then \(5, 4\) float32\. At .*"),
    (BestOfBatch, r"detections of image \d depend on the others of its batch in eval mode: other scores\. .*"),
    (Invents, r"finds something where there is no proposal\. It looks at proposals only\."),
    (NotClipped, r"detections of image 0 with many proposals: a box is outside the image of 128 x 160\. Clip .*"),
    (MasksOfOthers, r"detections of image 0 with many proposals: masks are \(7, 4, 4\) float32 of 5 boxes\. They .*"),
    (OneRecord, r"1 detections of 2 images\. One record per image\."),
    (FindsNothing, r"finds nothing in eval mode, .*\. Give it a lower score threshold in this test\."),
    (Remembers, r"two made from one seed differ in eval mode: .*|two runs in eval mode differ: .*"),
    (HalfScores, r"detections of image 0 under bf16 autocast: .*bfloat16.*\. They are boxes \(D, 4\) float32, .*"),
    (Hidden, r"raises \w+ when it is pickled: .*"),
]  # fmt: skip


def test_a_sound_roi_head_passes_and_is_captured() -> None:
    check_roi_head(Second, compiled=True)


@pytest.mark.parametrize(("broken", "expected"), BROKEN, ids=lambda each: getattr(each, "__name__", ""))
def test_a_fault_of_a_roi_head_is_named(broken: Any, expected: str) -> None:
    with pytest.raises(ConformanceError) as caught:
        check_roi_head(broken)
    assert re.fullmatch(f"{broken.__name__}: ({expected})", str(caught.value)), caught.value


def test_a_roi_head_that_knows_that_it_is_compiled_is_named() -> None:
    with pytest.raises(ConformanceError, match="KnowsCompiler: compiled, it gives something else: loss_"):
        check_roi_head(KnowsCompiler, compiled=True)
