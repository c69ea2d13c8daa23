"""The composed RoI head by hand: what is trained on, what it costs, what the next stage and the decoder see."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest
import torch
from detcore.detectors import TwoStage
from detcore.errors import ConfigError
from detcore.heads.roi import ComposedRoIHead, RoIStage, as_rois, pad
from detcore.interfaces import (
    Assigner,
    Backbone,
    BoxCoder,
    BoxHead,
    DenseHead,
    Flow,
    Loss,
    RoIBranch,
    RoIDecoder,
    RoIExtractor,
    Sampler,
)
from detcore.structures import Batch, Detections, Matches, RoISamples, Targets
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 2


class Corners(RoIExtractor):
    """Cuts out the region's own numbers."""

    out_channels, roi_size = 5, 1

    def forward(self, features: Any, rois: Tensor, scale: float = 1.0) -> Tensor:
        self.seen = (rois, scale, len(features))
        return rois[:, :, None, None]


class Told(BoxHead):
    """The same logits and deltas for every region, as parameters."""

    def __init__(self, logits: Sequence[float], deltas: Sequence[float]) -> None:
        super().__init__()
        self.logits, self.deltas = nn.Parameter(torch.tensor(logits)), nn.Parameter(torch.tensor(deltas))

    def forward(self, extract: Any) -> tuple[Tensor, Tensor]:
        rows = extract()[:, :1, 0, 0] * 0 + 1
        return rows * self.logits, rows * self.deltas


class Shift(BoxCoder):
    """A delta is what is added to each side."""

    def encode(self, boxes: Tensor, targets: Tensor) -> Tensor:
        return targets - boxes

    def decode(self, boxes: Tensor, deltas: Tensor) -> Tensor:
        return boxes + deltas


class By(Assigner):
    """Asks a function of the boxes (B, R, 4)."""

    def __init__(self, index: Callable[[Tensor], Tensor], weight: float | None = None) -> None:
        super().__init__()
        self.index, self.weight = index, weight

    def forward(self, predictions: Any, batch: Batch) -> Matches:
        self.seen = predictions.priors
        index = self.index(predictions.priors.boxes)
        weight = None if self.weight is None else torch.full(index.shape, self.weight)
        return Matches(index, torch.zeros(index.shape), weight)


class Drop(Sampler):
    """Leaves out the rows of these numbers."""

    def __init__(self, *rows: int) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, matches: Matches) -> Matches:
        index = matches.index.clone()
        index[:, list(self.rows)] = -2
        return attrs.evolve(matches, index=index)


class Cross(Loss):
    softmax = True

    def forward(self, input: Tensor, target: Tensor, weight: Any = None, avg_factor: Any = None) -> Tensor:
        return (F.cross_entropy(input, target, reduction="none") * weight).sum() / avg_factor


class Absolute(Loss):
    def __init__(self, decoded: bool = False) -> None:
        super().__init__()
        self.decoded = decoded

    def forward(self, input: Tensor, target: Tensor, weight: Any = None, avg_factor: Any = None) -> Tensor:
        self.seen = (input.detach(), target, weight)
        return ((input - target).abs().sum(1) * weight).sum() / avg_factor


class Keep(RoIDecoder):
    """All regions, with their best class."""

    def forward(self, boxes: Tensor, scores: Tensor, size: Tensor) -> Detections:
        self.seen = [*getattr(self, "seen", []), (boxes, scores, size.tolist())]
        best = scores.max(1)
        boxes = boxes[torch.arange(len(boxes)), best.indices] if boxes.dim() == 3 else boxes
        return Detections(boxes, best.values, best.indices)


def nobody(boxes: Tensor) -> Tensor:
    return torch.full(boxes.shape[:2], -1)


def stage(**parts: Any) -> RoIStage:
    given: dict[str, Any] = {
        "num_classes": CLASSES,
        "loss_cls": Cross(),
        "loss_box": Absolute(),
        "extractor": Corners(),
        "coder": Shift(),
        "box_head": Told([0.0, 0.0, 0.0], [0.0] * 8),
        "assigner": By(nobody),
    }
    return RoIStage(**given | parts)


def proposals(*boxes: Sequence[Sequence[float]]) -> list[Detections]:
    found = [torch.tensor(each, dtype=torch.float32).reshape(-1, 4) for each in boxes]
    return [Detections(each, torch.ones(len(each)), torch.zeros(len(each)).long()) for each in found]


def batch(boxes: Sequence[Sequence[Sequence[float]]], labels: Sequence[Sequence[int]], valid: Any = None) -> Batch:
    boxes_, labels_ = torch.tensor(boxes, dtype=torch.float32).reshape(len(boxes), -1, 4), torch.tensor(labels).long()
    labels_ = labels_.reshape(boxes_.shape[:2])
    valid_ = torch.ones_like(labels_) > 0 if valid is None else torch.tensor(valid)
    size = torch.full((len(boxes), 2), 100.0)
    targets = Targets(boxes_, labels_, valid_, ~valid_)
    return Batch(torch.zeros(len(boxes), 3, 8, 8), size, size, torch.ones_like(size), targets=targets)


A, B, C, D = [0.0, 0.0, 10.0, 10.0], [10.0, 10.0, 30.0, 30.0], [50.0, 50.0, 60.0, 60.0], [90.0, 90.0, 100.0, 100.0]
EMPTY: list[list[float]] = []


# ------------------------------------------------------------------------------------------------ what is trained on


def test_objects_come_first_and_answer_for_themselves_then_the_proposals_of_each_image() -> None:
    looks = By(lambda boxes: torch.tensor([[-1, 1], [0, -1]]))
    objects = batch([[A, B], [C, A]], [[1, 0], [1, 1]], valid=[[True, True], [True, False]])
    samples = stage(assigner=looks).sample(proposals([D, C], [B]), objects)
    assert looks.seen.boxes.tolist() == [[D, C], [B, [0.0] * 4]]
    assert looks.seen.valid.tolist() == [[True, True], [True, False]]
    assert samples.rois.tolist() == [[0, *A], [0, *B], [0, *D], [0, *C], [1, *C], [1, *B]]
    assert samples.index.tolist() == [0, 1, -1, 1, 0, 0]
    assert samples.labels.tolist() == [1, 0, CLASSES, 0, 1, 1]
    assert samples.boxes.tolist() == [A, B, D, B, C, C]
    assert samples.given.tolist() == [True, True, False, False, True, False]
    assert samples.weight.tolist() == [1.0] * 6


class Asks(Sampler):
    """Keeps what it is told that classes cost."""

    needs_losses = True

    def forward(self, matches: Matches) -> Matches:
        self.seen = matches.losses
        return matches


def test_a_sampler_that_needs_them_is_told_what_the_classes_of_all_regions_cost() -> None:
    """Probabilities 1/2, 1/4 and, of background, 1/4; two objects of which one is padding, and two proposals."""
    sampler, logits = Asks(), [math.log(2), 0.0, 0.0]
    looks = By(lambda boxes: torch.tensor([[-1, 1], [0, -1]]))
    objects = batch([[A, B], [C, A]], [[1, 0], [1, 1]], valid=[[True, True], [True, False]])
    told = stage(assigner=looks, sampler=sampler, box_head=Told(logits, [0.0] * 8))
    samples = told.sample(proposals([D, C], [B]), objects, [torch.zeros(2, 5, 1, 1)])
    one, two = math.log(2), math.log(4)  # class 0, another
    assert sampler.seen is not None
    assert sampler.seen[0].tolist() == pytest.approx([two, one, two, one])
    assert sampler.seen[1, [0, 2]].tolist() == pytest.approx([two, two])
    assert samples.labels.tolist() == [1, 0, CLASSES, 0, 1, 1]
    assert all(each.grad is None for each in told.parameters())


def test_two_objects_in_one_box_both_answer_for_themselves() -> None:
    samples = stage().sample(proposals(EMPTY), batch([[A, A]], [[0, 1]]))
    assert (samples.index.tolist(), samples.labels.tolist()) == ([0, 1], [0, 1])


def test_without_ground_truth_only_proposals_are_trained_on() -> None:
    samples = stage(add_ground_truth=False).sample(proposals([B], [C, D]), batch([[A], [A]], [[0], [0]]))
    assert samples.rois.tolist() == [[0, *B], [1, *C], [1, *D]]
    assert samples.given.tolist() == [False] * 3


def test_ignored_proposals_are_left_out_and_the_sampler_sees_objects_too() -> None:
    ignoring = By(lambda boxes: torch.tensor([[-2, -1, -1]]), weight=0.5)
    samples = stage(assigner=ignoring, sampler=Drop(0, 3)).sample(proposals([B, C, D]), batch([[A, A]], [[0, 1]]))
    assert samples.rois.tolist() == [[0, *A], [0, *D]]
    assert samples.index.tolist() == [1, -1]
    assert samples.weight.tolist() == [1.0, 0.5]


def test_what_is_trained_on_has_no_gradient() -> None:
    boxes = torch.tensor([B], requires_grad=True)
    found = [Detections(boxes * 1, torch.ones(1), torch.zeros(1).long())]
    assert not stage().sample(found, batch([[A]], [[0]])).rois.requires_grad


# ------------------------------------------------------------------------------------------------------ what it costs


def samples(labels: Sequence[int], weight: float = 1.0) -> RoISamples:
    """Regions A; those of a class answer for the box B."""
    count, truth = len(labels), torch.tensor(labels).long()
    index = torch.where(truth < CLASSES, 0, -1)
    goals = torch.where((index >= 0)[:, None], torch.tensor(B), torch.tensor(A))
    rois = torch.tensor([0.0, *A]).repeat(count, 1)
    return RoISamples(rois, index, truth, goals, torch.zeros(count) > 0, torch.full((count,), weight))


def test_losses_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0], [0.0, 0.0, 9.0], [0.0, 0.0, 9.0]])
    deltas = torch.zeros(4, 8)
    deltas[1, :4], deltas[1, 4:] = 1.0, 7.0  # of class 0: 9, 9, 19, 19 off; of class 1: never looked at
    deltas[2:] = 5.0  # of background
    losses = stage(weight=2.0).losses(logits, deltas, samples([1, 0, 2, 2]))
    easy = -torch.log_softmax(torch.tensor([9.0, 0.0, 0.0]), 0)[0]
    torch.testing.assert_close(losses["loss_cls"], 2 * (torch.log(torch.tensor(3.0)) + 3 * easy) / 4)
    torch.testing.assert_close(losses["loss_box"], torch.tensor(2 * ((10 + 10 + 20 + 20) + (9 + 9 + 19 + 19)) / 4))
    torch.testing.assert_close(losses["acc"], torch.tensor(75.0))


def test_weights_of_matches_weigh_both_losses() -> None:
    logits, deltas = torch.zeros(2, 3), torch.zeros(2, 8)
    whole, half = (stage().losses(logits, deltas, samples([0, 2], weight)) for weight in (1.0, 0.5))
    for name in ("loss_cls", "loss_box"):
        torch.testing.assert_close(half[name], whole[name] / 2)


def test_a_loss_of_decoded_boxes_gets_boxes() -> None:
    loss = Absolute(decoded=True)
    stage(loss_box=loss).losses(torch.zeros(2, 3), torch.ones(2, 8), samples([0, 2]))
    predicted, wanted, weight = loss.seen
    assert predicted.tolist() == [[1.0, 1.0, 11.0, 11.0], A]
    assert wanted.tolist() == [B, A]
    assert weight.tolist() == [1.0, 0.0]


def test_class_agnostic_deltas_are_every_classes() -> None:
    agnostic = stage(class_agnostic=True, box_head=Told([0.0] * 3, [1.0] * 4))
    rois = torch.tensor([[0.0, *A], [0.0, *A]])
    assert agnostic.boxes(rois, torch.ones(2, 4)).tolist() == [[1.0, 1.0, 11.0, 11.0]] * 2
    assert agnostic.refine(rois, torch.ones(2, 4), torch.tensor([0, 2]))[:, 1:].tolist() == [[1.0, 1.0, 11.0, 11.0]] * 2
    loss = agnostic.losses(torch.zeros(2, 3), torch.ones(2, 4), samples([0, 1]))["loss_box"]
    torch.testing.assert_close(loss, torch.tensor(9.0 + 9 + 19 + 19))


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("boxes", [[EMPTY, EMPTY], [[B], EMPTY], [EMPTY, [B, C]]])
@pytest.mark.parametrize("objects", [0, 1])
@pytest.mark.parametrize("add", [False, True])
def test_every_parameter_gets_a_finite_gradient_whatever_there_is(
    agnostic: bool, boxes: list[list[list[float]]], objects: int, add: bool
) -> None:
    head = ComposedRoIHead(
        num_classes=CLASSES,
        stages=[
            stage(
                class_agnostic=agnostic,
                box_head=Told([0.1, 0.2, 0.3], [1.0] * (4 if agnostic else 8)),
                add_ground_truth=add,
            )
            for _ in range(2)
        ],
        decoder=Keep(),
    )
    losses = head.losses([], proposals(*boxes), batch([[A] * objects] * 2, [[1] * objects] * 2))
    torch.stack([value for name, value in losses.items() if "loss" in name]).sum().backward()
    for parameter in head.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    assert all(value.isfinite() for value in losses.values())


def test_regions_without_area_cost_a_finite_number() -> None:
    line = [5.0, 5.0, 5.0, 9.0]
    samples_ = stage().sample(proposals([line]), batch([[A]], [[0]]))
    losses = stage().losses(torch.zeros(2, 3), torch.zeros(2, 8), samples_)
    assert all(value.isfinite() for value in losses.values())


# --------------------------------------------------------------------------------------------- boxes, stages, decoder


def test_boxes_are_per_class_and_refining_takes_the_one_of_the_label() -> None:
    rois, deltas = torch.tensor([[1.0, *A], [0.0, *B]]), torch.tensor([[1.0] * 4 + [2.0] * 4] * 2)
    of_classes = stage().boxes(rois, deltas)
    assert of_classes[0].tolist() == [[1.0, 1.0, 11.0, 11.0], [2.0, 2.0, 12.0, 12.0]]
    refined = stage().refine(rois, deltas, torch.tensor([1, 0]))
    assert refined.tolist() == [[1, 2, 2, 12, 12], [0, 11, 11, 31, 31]]


def cascade(*heads: Told, **parts: Any) -> ComposedRoIHead:
    weights = [1.0, 0.5, 0.25]
    stages = [
        stage(box_head=head, weight=weight, assigner=By(nobody), extractor=Corners(), **parts)
        for head, weight in zip(heads, weights, strict=False)
    ]
    return ComposedRoIHead(num_classes=CLASSES, stages=stages, decoder=Keep())


def three_heads() -> list[Told]:
    """The first says class 1 and moves it by 5, class 0 by 1; the second says class 0 and moves it by 20."""
    first = Told([0.0, 2.0, 9.0], [1.0] * 4 + [5.0] * 4)
    second = Told([3.0, 0.0, 9.0], [20.0] * 4 + [0.0] * 4)
    return [first, second, Told([0.0, 1.0, 0.0], [0.0] * 8)]


def test_each_stage_trains_on_what_the_one_before_it_refined() -> None:
    """Object of class 0 at A; background moves as its best class says; objects' own boxes leave and come again."""
    head = cascade(*three_heads())
    head.stages[0].assigner = By(lambda boxes: torch.tensor([[-1, 0], [-1, -1]]))
    losses = head.losses([], proposals([D, B], [B]), batch([[A], [C]], [[0], [0]]))
    rois = [each.extractor.seen[0].tolist() for each in head.stages]
    assert rois[0] == [[0, *A], [0, *D], [0, *B], [1, *C], [1, *B]]
    # D by 5 and cut at 100; B, which answers for the object, by 1 as its class says; in image 1 B by 5
    assert rois[1] == [[0, *A], [0, 95, 95, 100, 100], [0, 11, 11, 31, 31], [1, *C], [1, 15, 15, 35, 35]]
    assert rois[2] == [[0, *A], [0, 100, 100, 100, 100], [0, 31, 31, 51, 51], [1, *C], [1, 35, 35, 55, 55]]
    assert sorted(losses) == sorted(
        f"s{number}.{name}" for number in range(3) for name in ("loss_cls", "loss_box", "acc")
    )
    alone = cascade(three_heads()[0])
    alone.stages[0].assigner = head.stages[0].assigner
    single = alone.losses([], proposals([D, B], [B]), batch([[A], [C]], [[0], [0]]))
    torch.testing.assert_close(single["loss_cls"], losses["s0.loss_cls"])


def test_weights_of_stages_weigh_losses_but_not_accuracy() -> None:
    same = [Told([0.0, 0.0, 0.0], [0.0] * 8) for _ in range(3)]
    losses = cascade(*same).losses([], proposals([B]), batch([EMPTY], [[]]))
    found = [float(losses[f"s{number}.loss_cls"].detach()) for number in range(3)]
    assert found == pytest.approx([found[0], found[0] / 2, found[0] / 4])
    assert [float(losses[f"s{number}.acc"]) for number in range(3)] == [0.0] * 3


def test_refined_regions_carry_no_gradient_to_the_stage_before() -> None:
    heads = three_heads()
    losses = cascade(*heads).losses([], proposals([B]), batch([[A]], [[0]]))
    losses["s1.loss_cls"].backward()
    assert heads[0].deltas.grad is None


def test_detections_average_the_logits_of_stages_and_take_the_boxes_of_the_last() -> None:
    head = cascade(*three_heads())
    found = head.detections([], proposals([D], EMPTY, [A, B]), batch([EMPTY] * 3, [[]] * 3))
    assert [len(each) for each in found] == [1, 0, 2]
    # class 1 by 5, class 0 by 20, and cut at 100 each time
    assert found[0].boxes.tolist() == [[100.0] * 4]
    assert found[2].boxes.tolist() == [[25.0, 25.0, 35.0, 35.0], [35.0, 35.0, 55.0, 55.0]]
    mean = torch.tensor([3.0, 3.0, 18.0]) / 3
    torch.testing.assert_close(head.decoder.seen[0][1], mean.softmax(0)[None, :2])
    assert not found[0].scores.requires_grad


def test_the_decoder_sees_each_images_size_and_boxes_of_all_classes() -> None:
    head = cascade(Told([0.0, 1.0, 0.0], [1.0] * 4 + [5.0] * 4))
    of_batch = attrs.evolve(batch([EMPTY] * 2, [[]] * 2), sizes=torch.tensor([[10.0, 20.0], [30.0, 40.0]]))
    head.detections([], proposals([A], [A, B]), of_batch)
    (first, _, size), (second, _, other) = head.decoder.seen
    assert (tuple(first.shape), tuple(second.shape)) == ((1, 2, 4), (2, 2, 4))
    assert (size, other) == ([10.0, 20.0], [30.0, 40.0])


def test_without_any_proposal_nothing_is_found() -> None:
    found = cascade(*three_heads()).detections([], proposals(EMPTY, EMPTY), batch([EMPTY] * 2, [[]] * 2))
    assert [len(each) for each in found] == [0, 0]


def test_the_extractor_sees_the_first_levels_and_the_scale() -> None:
    class Twice(Told):
        def forward(self, extract: Any) -> tuple[Tensor, Tensor]:
            extract(1.3)
            return super().forward(lambda: extract(scale=1.5))

    part = stage(box_head=Twice([0.0] * 3, [0.0] * 8), num_levels=2)
    part([torch.zeros(1)] * 5, torch.tensor([[0.0, *A]]))
    rois, scale, levels = part.extractor.seen
    assert (rois.tolist(), scale, levels) == ([[0.0, *A]], 1.5, 2)


class Leaves(RoIBranch):
    """Leaves its number for later branches."""

    def losses(self, features: Any, samples: RoISamples, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        outputs[f"{len(outputs)}"] = samples.rois
        return {"loss": torch.tensor(float(len(outputs)))}

    def detections(self, features: Any, found: Any, outputs: dict[str, Tensor], batch: Batch) -> list[Detections]:
        outputs[f"{len(outputs)}"] = found[0].scores
        return [attrs.evolve(each, scores=each.scores + 1) for each in found]


def test_branches_see_the_last_stages_samples_and_what_earlier_branches_left() -> None:
    head = ComposedRoIHead(
        num_classes=CLASSES, stages=[stage()], decoder=Keep(), branches={"mask": Leaves(), "quality": Leaves()}
    )
    losses = head.losses([], proposals([B]), batch([[A]], [[0]]))
    assert (float(losses["mask_loss"]), float(losses["quality_loss"])) == (1.0, 2.0)
    found = head.detections([], proposals([B]), batch([[A]], [[0]]))
    torch.testing.assert_close(found[0].scores, torch.tensor([2 + 1 / 3]))


class Draws(RoIBranch):
    """A mask of the same value for each detection; costs how many regions it is trained on."""

    def __init__(self, value: float, side: int = 2) -> None:
        super().__init__()
        self.value, self.side = value, side

    def losses(self, features: Any, samples: RoISamples, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        self.seen = samples.rois.tolist()
        return {"loss": torch.tensor(1.0), "cells": torch.tensor(4.0)}

    def detections(self, features: Any, found: Any, outputs: dict[str, Tensor], batch: Batch) -> list[Detections]:
        masks = [torch.full((len(each), self.side, self.side), self.value) for each in found]
        return [attrs.evolve(each, masks=its) for each, its in zip(found, masks, strict=True)]


def drawing(*branches: Draws | None) -> ComposedRoIHead:
    """A cascade with these branches."""
    head = cascade(*three_heads()[: len(branches)])
    for of_stage, branch in zip(head.stages, branches, strict=True):
        of_stage.branches = nn.ModuleDict({} if branch is None else {"mask": branch})
    return head


def test_branches_of_stages_train_on_their_own_stages_regions_with_its_weight() -> None:
    head = drawing(Draws(0.0), Draws(0.0), Draws(0.0))
    losses = head.losses([], proposals([D, B]), batch([[A]], [[0]]))
    assert [stage.branches["mask"].seen for stage in head.stages] == [
        stage.extractor.seen[0].tolist() for stage in head.stages
    ]
    assert [float(losses[f"s{number}.mask_loss"]) for number in range(3)] == [1.0, 0.5, 0.25]
    assert [float(losses[f"s{number}.mask_cells"]) for number in range(3)] == [4.0] * 3


def test_detections_have_the_mean_of_the_masks_of_the_stages_that_draw_any() -> None:
    found = drawing(Draws(0.0), None, Draws(0.5)).detections([], proposals([D], EMPTY), batch([EMPTY] * 2, [[]] * 2))
    plain = cascade(*three_heads()).detections([], proposals([D], EMPTY), batch([EMPTY] * 2, [[]] * 2))
    assert [each.masks.tolist() for each in found if each.masks is not None] == [[[[0.25] * 2] * 2], []]
    torch.testing.assert_close([each.boxes for each in found], [each.boxes for each in plain])


def test_branches_of_the_head_come_after_those_of_stages() -> None:
    head = drawing(Draws(0.25))
    head.branches = nn.ModuleDict({"quality": Leaves()})
    (found,) = head.detections([], proposals([B]), batch([EMPTY], [[]]))
    assert found.masks is not None
    assert found.masks.tolist() == [[[0.25] * 2] * 2]
    assert float(found.scores) > 1


def test_masks_of_two_sizes_have_no_mean() -> None:
    head = drawing(Draws(0.0), Draws(0.0, side=4))
    with pytest.raises(ConfigError, match=r"^stages: their masks have sides of 2 and 4 cells\. Have them cut out"):
        head.detections([], proposals([B]), batch([EMPTY], [[]]))


# ----------------------------------------------------------------------------------------------- messages and helpers


def test_a_loss_of_sigmoids_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^loss_cls: Absolute reads sigmoids\. Give a loss of a softmax\.$"):
        stage(loss_cls=Absolute())


def test_a_head_without_stages_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^stages: is empty\. Give one, or several"):
        ComposedRoIHead(num_classes=CLASSES, stages=[], decoder=Keep())


def test_rois_and_padding() -> None:
    rows = [torch.tensor([A, B]), torch.zeros(0, 4), torch.tensor([C])]
    assert as_rois(rows).tolist() == [[0, *A], [0, *B], [2, *C]]
    padded, there = pad(rows)
    assert padded.tolist() == [[A, B], [[0.0] * 4] * 2, [C, [0.0] * 4]]
    assert there.tolist() == [[True, True], [False, False], [True, False]]


def test_the_first_levels_of_a_flow() -> None:
    flow = Flow().having("neck", channels=(8,) * 5, strides=(4, 8, 16, 32, 64)).first(2)
    assert (flow.channels, flow.strides, flow.sources["strides"]) == ((8, 8), (4, 8), "neck")
    assert Flow().first(2) == Flow()


# ----------------------------------------------------------------------------------------------------- with an RPN


class Plain(Backbone):
    out_channels, strides = (3,), (1,)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [images]


class Proposer(DenseHead):
    """One proposal per image, that its weight moves; notes what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(1.0))

    def forward(self, features: Any, batch: Batch) -> Tensor:
        return self.shift * torch.tensor(B)

    def losses(self, predictions: Tensor, batch: Batch) -> dict[str, Tensor]:
        self.labels = batch.truth.labels
        return {"loss_cls": predictions.sum(), "seen": predictions.sum()}

    def detections(self, predictions: Tensor, batch: Batch, *, train: bool = False) -> list[Detections]:
        self.asked = (train, torch.is_grad_enabled())
        return [Detections(predictions[None], torch.ones(1), torch.zeros(1).long()) for _ in range(len(batch))]


def test_two_stages_train_on_proposals_without_gradient_and_the_first_knows_one_class() -> None:
    model = TwoStage(backbone=Plain(), rpn_head=Proposer(), roi_head=cascade(Told([0.0] * 3, [0.0] * 8)))
    losses = model.losses(batch([[A]], [[1]]))
    assert sorted(losses) == ["acc", "loss_box", "loss_cls", "rpn_loss_cls", "rpn_seen"]
    assert model.rpn_head.labels.tolist() == [[0]]
    assert model.rpn_head.asked == (True, False)
    (losses["loss_cls"] + losses["loss_box"]).backward()
    assert model.rpn_head.shift.grad is None
    assert len(model.detections(batch([[A]], [[1]]))) == 1
    assert model.rpn_head.asked[0] is False
