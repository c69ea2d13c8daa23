"""YOLOX: SimOTA, geometry, losses and decoding by values worked out by hand, and SimOTA against a plain loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import torch
from detcore.errors import ConfigError
from detcore.heads.dense import ComposedHead
from detcore.interfaces import HeadNetwork
from detcore.structures import Batch, Matches, Predictions, Targets, total_loss
from detcore_yolox import yolox
from detcore_yolox.yolox import (
    YOLOXPAFPN,
    Claims,
    PointsWH,
    SimOTAAssigner,
    YOLOXDecoder,
    YOLOXLoss,
    YOLOXTowers,
    cheapest,
    dynamic_k,
)
from torch import Tensor, nn
from torch.nn import functional as F

INF = math.inf


def batch(boxes: Any, labels: Any = None, valid: Any = None, size: int = 32, progress: float = 0.0) -> Batch:
    """A batch whose objects are ``boxes`` (B, G, 4)."""
    boxes = torch.as_tensor(boxes, dtype=torch.float32)
    images, objects = boxes.shape[:2]
    valid = torch.ones(images, objects, dtype=torch.bool) if valid is None else torch.as_tensor(valid, dtype=torch.bool)
    labels = torch.zeros(images, objects, dtype=torch.int64) if labels is None else torch.as_tensor(labels)
    sizes = torch.full((images, 2), float(size))
    targets = Targets(boxes, labels, valid, ~valid)
    scale = torch.ones(images, 2)
    return Batch(torch.zeros(images, 3, size, size), sizes, sizes, scale, targets=targets, progress=progress)


def predicted(
    cls: Tensor, box: Tensor, objectness: Tensor, strides: Sequence[int] = (8,), size: int = 32
) -> Predictions:
    """Predictions of these vectors (B, P, K), level by level; the maps of an image of ``size`` pixels."""
    sides = [size // stride for stride in strides]
    counts = [side * side for side in sides]

    def maps(values: Tensor) -> list[Tensor]:
        levels = values.split(counts, 1)
        return [level.mT.reshape(len(level), -1, side, side) for level, side in zip(levels, sides, strict=True)]

    geometry = PointsWH(strides=strides)
    raw = {"cls": maps(cls), "box": maps(box), "objectness": maps(objectness[..., None])}
    priors = geometry.priors(raw["cls"], batch(torch.zeros(len(cls), 0, 4), size=size))
    return Predictions(raw, priors, geometry.encode, geometry.decode, False, 1)


def scene(boxes: dict[int, Sequence[float]], classes: int = 1) -> Predictions:
    """One image of 32 x 32 pixels, 4 x 4 cells of 8; the priors at the keys predict these boxes, the others nothing.

    All logits are 0: all candidates have one class cost.
    """
    where = predicted(torch.zeros(1, 16, classes), torch.zeros(1, 16, 4), torch.zeros(1, 16))
    vectors = torch.zeros(1, 16, 4)
    vectors[..., :2], vectors[..., 2:] = 1000, -10  # far away and tiny
    for prior, box in boxes.items():
        points, stride = where.priors.boxes[prior], where.priors.stride[prior]
        vectors[0, prior] = where.encode(points, stride, torch.tensor(box, dtype=torch.float32))
    return predicted(torch.zeros(1, 16, classes), vectors, torch.zeros(1, 16))


# ------------------------------------------------------------------------------------------------------------- dynamic k


def test_k_is_the_sum_of_the_best_overlaps_rounded_down_and_at_least_one() -> None:
    overlaps = torch.tensor([[[0.9, 0.0, 0.8, 0.7], [0.0, 0.3, 0.2, 0.0]]])
    assert dynamic_k(overlaps, 10).tolist() == [[2, 1]]
    assert dynamic_k(overlaps, 2).tolist() == [[1, 1]]
    assert dynamic_k(torch.ones(1, 1, 30), 10).tolist() == [[10]]


def test_of_equal_costs_the_first_priors_are_taken_and_infinite_ones_never() -> None:
    cost = torch.tensor([[[3.0, 1, 2, 2, 2, INF], [INF, 5, INF, INF, INF, INF], [INF] * 6]])
    taken = cheapest(cost, torch.tensor([[3, 2, 1]]), 10)
    assert taken.int().tolist() == [[[0, 1, 1, 1, 0, 0], [0, 1, 0, 0, 0, 0], [0] * 6]]


def test_two_objects_take_as_many_priors_as_their_overlaps_say() -> None:
    """Left: IoUs 1, 1 and 0.5 with priors 4, 5 and 8 sum to 2.5, so two. Right: 0.5 alone, so one."""
    left, right = [0, 8, 16, 24], [20, 8, 32, 24]
    predictions = scene({4: left, 5: left, 8: [0, 8, 16, 16], 7: [20, 8, 32, 16]})
    matches = SimOTAAssigner()(predictions, batch([[left, right]]))
    assert matches.index[0].tolist() == [-1] * 4 + [0, 0, -1, 1] + [-1] * 8
    assert matches.quality is not None
    torch.testing.assert_close(matches.quality[0, 4:8], torch.tensor([1, 1, 0, 0.5]))


def test_a_prior_outside_the_middle_is_taken_only_for_lack_of_others() -> None:
    """Only cell 5 is nearer than 0.6 strides to the centre (12, 12). Cell 10 overlaps best, but costs 100,000."""
    target = [0, 0, 24, 24]
    predictions = scene({10: target, 5: [0, 0, 24, 12]})
    index = SimOTAAssigner(center_radius=0.6)(predictions, batch([[target]])).index[0]
    assert [prior for prior in range(16) if index[prior] == 0] == [5]
    both = scene({10: target, 5: target})
    index = SimOTAAssigner(center_radius=0.6)(both, batch([[target]])).index[0]
    assert [prior for prior in range(16) if index[prior] == 0] == [5, 10]


def test_an_object_between_the_cells_takes_the_nearest() -> None:
    """Three pixels wide: no cell's centre lies in it, all near it are equally outside; its own overlap decides."""
    thin = [9, 9, 11, 23]
    index = SimOTAAssigner()(scene({6: thin}), batch([[thin]])).index[0]
    assert [prior for prior in range(16) if index[prior] == 0] == [6]


def test_an_object_that_no_cell_is_in_or_near_has_no_prior() -> None:
    index = SimOTAAssigner()(scene({}), batch([[[200, 200, 220, 220]]])).index
    assert index.tolist() == [[-1] * 16]


# ------------------------------------------------------------------------------------------------------------- conflicts


def claims_of(taken: Any, cost: Any, at_once: int) -> list[int]:
    zeros, cost = torch.zeros(1, len(taken[0]), dtype=torch.int64), torch.tensor([cost])
    found = Claims(zeros, zeros, zeros, torch.full(zeros.shape, INF))
    for start in range(0, len(taken), at_once):
        end = start + at_once
        found.add(torch.tensor([taken], dtype=torch.bool)[:, start:end], cost[:, start:end], start)
    return found.winner()[0].tolist()


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_a_prior_that_several_take_goes_to_the_object_that_costs_least(at_once: int) -> None:
    taken = [[1, 1, 0, 1, 0], [1, 0, 1, 1, 0], [0, 0, 0, 1, 0]]
    cost = [[4.0, 9, 1, 5, 1], [3, 1, 9, 5, 1], [6, 1, 1, 5, 1]]
    assert claims_of(taken, cost, at_once) == [1, 0, 1, 0, -1]


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_even_to_one_that_did_not_take_it(at_once: int) -> None:
    assert claims_of([[1], [1], [0]], [[4.0], [3.0], [2.0]], at_once) == [2]


def test_two_objects_of_one_place_share_a_prior_by_class() -> None:
    """Equal boxes, both take prior 5; it is surer of class 1."""
    where, place = scene({5: [8, 8, 16, 16]}, classes=2), [8, 8, 16, 16]
    logits = torch.zeros(1, 16, 2)
    logits[0, 5] = torch.tensor([-1.0, 1.0])
    predictions = predicted(logits, where.flat("box"), torch.zeros(1, 16))
    for labels in ([0, 1], [1, 0]):
        index = SimOTAAssigner()(predictions, batch([[place, place]], [labels])).index[0]
        assert index[5] == labels.index(1)


# ----------------------------------------------------------------------------------------------- none, many, and crowds


def test_crowds_take_nothing_and_make_no_candidates() -> None:
    """Alone, the right object takes a prior; as a crowd it takes none, and the left one has its own only."""
    left, right = [0, 8, 8, 16], [24, 8, 32, 16]
    predictions = scene({4: left, 7: right})
    index = SimOTAAssigner()(predictions, batch([[left, right]])).index[0]
    assert (index[4], index[7]) == (0, 1)
    index = SimOTAAssigner()(predictions, batch([[left, right]], valid=[[True, False]])).index[0]
    assert (index >= 0).nonzero().flatten().tolist() == [4]
    index = SimOTAAssigner()(predictions, batch([[left, right]], valid=[[False, False]])).index
    assert index.tolist() == [[-1] * 16]


@attrs.frozen
class Scene:
    predictions: Predictions
    batch: Batch


def crowded(objects: int, seed: int = 0) -> Scene:
    generator = torch.Generator().manual_seed(seed)
    size, strides, classes = 128, (8, 16, 32), 4
    priors = sum((size // stride) ** 2 for stride in strides)
    draw = torch.randn(2, priors, classes + 5, generator=generator)
    predictions = predicted(draw[..., :classes], draw[..., classes:-1], draw[..., -1], strides, size)
    corner = torch.rand(2, objects, 2, generator=generator) * 100
    boxes = torch.cat([corner, corner + 2 + 60 * torch.rand(2, objects, 2, generator=generator)], -1)
    labels = torch.randint(classes, (2, objects), generator=generator)
    valid = torch.rand(2, objects, generator=generator) < 0.9
    return Scene(predictions, batch(boxes, labels, valid, size))


def plain(scene: Scene, image: int) -> list[int]:
    """The rule, one object at a time."""
    priors, truth = scene.predictions.priors, scene.batch.truth
    cells = (priors.boxes + priors.stride[:, None] / 2).tolist()
    scores = scene.predictions.scores[image] * scene.predictions.flat("objectness")[image].sigmoid()
    objects = truth.valid[image].nonzero().flatten().tolist()
    inside, both = {}, {}
    for g in objects:
        x0, y0, x1, y1 = truth.boxes[image, g].tolist()
        near = [max(abs(x - (x0 + x1) / 2), abs(y - (y0 + y1) / 2)) < 2.5 * s
                for (x, y), s in zip(cells, priors.stride.tolist(), strict=True)]  # fmt: skip
        within = [x0 < x < x1 and y0 < y < y1 for x, y in cells]
        inside[g] = [a or b for a, b in zip(within, near, strict=True)]
        both[g] = [a and b for a, b in zip(within, near, strict=True)]
    usable = torch.tensor([any(column) for column in zip(*inside.values(), strict=True)])
    candidates, costs, taken = usable.nonzero().flatten(), {}, {}
    for g in objects:
        overlap = yolox.pairwise_iou(scene.predictions.boxes()[image, candidates], truth.boxes[image, g : g + 1])[:, 0]
        target = F.one_hot(truth.labels[image, g], 4).float().expand(len(candidates), 4)
        cost = F.binary_cross_entropy(scores[candidates].sqrt(), target, reduction="none").sum(-1)
        cost = cost - 3 * (overlap + 1e-7).log() + 1e5 * ~torch.tensor(both[g])[candidates]
        k = max(1, int(overlap.sort(descending=True).values[:10].sum()))
        costs[g], taken[g] = cost, set(cost.sort(stable=True).indices[:k].tolist())
    index = [-1] * len(cells)
    for place, prior in enumerate(candidates.tolist()):
        takers = [g for g in objects if place in taken[g]]
        if takers:
            index[prior] = takers[0] if len(takers) == 1 else min(objects, key=lambda g: float(costs[g][place]))
    return index


@pytest.mark.parametrize("objects", [1, 7, 300])
def test_as_by_the_plain_rule(objects: int) -> None:
    scene = crowded(objects)
    index = SimOTAAssigner()(scene.predictions, scene.batch).index
    assert index.tolist() == [plain(scene, 0), plain(scene, 1)]


def test_300_objects_a_few_at_a_time_are_300_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = crowded(300, seed=1)
    whole = SimOTAAssigner()(scene.predictions, scene.batch)
    monkeypatch.setattr(yolox, "PAIRS_AT_ONCE", 7 * whole.index.numel())
    parts = SimOTAAssigner()(scene.predictions, scene.batch)
    assert torch.equal(whole.index, parts.index)
    assert whole.positive.sum() > 100


def test_costs_are_float32_under_autocast() -> None:
    scene = crowded(20)
    expected = SimOTAAssigner()(scene.predictions, scene.batch)
    with torch.autocast("cpu", torch.bfloat16):
        found = SimOTAAssigner()(scene.predictions, scene.batch)
    assert torch.equal(found.index, expected.index)
    assert found.quality is not None
    assert found.quality.dtype == torch.float32


def test_without_a_quality_the_class_probabilities_are_the_scores() -> None:
    scene = crowded(5)
    raw = {
        **scene.predictions.raw,
        "objectness": [torch.full_like(each, 50) for each in scene.predictions.raw["objectness"]],
    }
    squared = [torch.logit(level.sigmoid() ** 2) for level in raw["cls"]]
    with_quality = attrs.evolve(scene.predictions, raw={**raw, "cls": squared})
    without = attrs.evolve(scene.predictions, raw={"cls": raw["cls"], "box": raw["box"]})
    expected = SimOTAAssigner()(with_quality, scene.batch).index
    assert torch.equal(SimOTAAssigner(quality=None)(without, scene.batch).index, expected)


def test_the_assigner_says_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match=r"center_radius: 0.0. Give a positive"):
        SimOTAAssigner(center_radius=0.0)
    with pytest.raises(ConfigError, match=r"candidate_topk: 0. Give at least 1"):
        SimOTAAssigner(candidate_topk=0)
    scene = crowded(3)
    priors = attrs.evolve(scene.predictions.priors, boxes=scene.predictions.boxes()[0])
    predictions = attrs.evolve(scene.predictions, priors=priors, decode=lambda priors, stride, vectors: vectors)
    with pytest.raises(ConfigError, match=r"priors that are boxes.*PointsWH"):
        SimOTAAssigner()(predictions, scene.batch)


# --------------------------------------------------------------------------------------------------- geometry, decoding


def test_a_cell_by_hand() -> None:
    """Stride 8, point (8, 16): centre (8 + 4, 16 + 2), size 8 * 2 by 8 * 4."""
    geometry = PointsWH(strides=[8])
    vector = torch.tensor([0.5, 0.25, math.log(2), math.log(4)])
    point, stride, box = torch.tensor([8.0, 16.0]), torch.tensor(8.0), torch.tensor([4.0, 2, 20, 34])
    torch.testing.assert_close(geometry.decode(point, stride, vector), box)
    torch.testing.assert_close(geometry.encode(point, stride, box), vector)
    assert geometry.decode(point, stride, vector.bfloat16()).dtype == torch.float32


def test_points_are_the_corners_of_the_cells() -> None:
    where = predicted(torch.zeros(1, 20, 1), torch.zeros(1, 20, 4), torch.zeros(1, 20), (8, 16)).priors
    assert where.boxes[[0, 1, 4, 15, 16, 19]].tolist() == [[0, 0], [8, 0], [0, 8], [24, 24], [0, 0], [16, 16]]


def test_a_box_too_large_for_float32_has_an_area_and_a_gradient() -> None:
    vector = torch.tensor([0.0, 0, 500, 500], requires_grad=True)
    box = PointsWH(strides=[32]).decode(torch.zeros(2), torch.tensor(32.0), vector)
    area = (box[2] - box[0]) * (box[3] - box[1])
    assert torch.isfinite(area)
    (area * 0).backward()
    assert vector.grad is not None
    assert vector.grad.tolist() == [0, 0, 0, 0]


def decoded(cls: Any, boxes: Any, objectness: Any, **options: Any) -> Any:
    """Detections of the first priors of an image of 32 x 32, the others predict nothing."""
    count, classes = len(cls), len(cls[0])
    logits, objects = torch.full((1, 16, classes), -20.0), torch.full((1, 16), -20.0)
    logits[0, :count], objects[0, :count] = torch.tensor(cls), torch.tensor(objectness)
    vectors = scene(dict(enumerate(boxes))).flat("box")
    found = YOLOXDecoder(**options)(predicted(logits, vectors, objects), batch([[[0, 0, 1, 1]]]))
    return found[0]


def test_the_best_class_times_objectness_reaches_the_threshold() -> None:
    """0.5 * 0.5 = 0.25 stays at a threshold of 0.25; the second class of a prior gives nothing, however sure."""
    found = decoded([[0.0, -1], [1.0, 2.0]], [[0, 0, 8, 8], [16, 16, 24, 30]], [0.0, 0.0], score_threshold=0.25)
    assert found.labels.tolist() == [1, 0]
    torch.testing.assert_close(found.scores, torch.tensor([0.8807970 * 0.5, 0.25]))
    torch.testing.assert_close(found.boxes, torch.tensor([[16.0, 16, 24, 30], [0, 0, 8, 8]]))
    assert len(decoded([[0.0]], [[0, 0, 8, 8]], [0.0], score_threshold=0.2501)) == 0


def test_overlapping_boxes_of_one_class_leave_the_best_and_others_stay() -> None:
    place, close = [0, 0, 10, 10], [0, 0, 10, 8]  # IoU 0.8
    found = decoded([[1.0, 0], [2.0, 0], [0.0, 3]], [place, close, place], [0.0, 0, 0])
    assert found.labels.tolist() == [1, 0]
    torch.testing.assert_close(found.boxes, torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8]]))
    assert len(decoded([[1.0], [2.0]], [place, close], [0.0, 0], nms_iou=0.85)) == 2
    assert len(decoded([[1.0], [2.0]], [place, close], [0.0, 0], nms_iou=0.85, max_detections=1)) == 1


def test_boxes_are_cut_at_the_image_unless_told_otherwise() -> None:
    assert decoded([[9.0]], [[-4, 8, 12, 40]], [9.0]).boxes.tolist() == [[0, 8, 12, 32]]
    torch.testing.assert_close(decoded([[9.0]], [[-4, 8, 12, 40]], [9.0], clip=False).boxes[0, 0], torch.tensor(-4.0))


def test_classes_stay_apart_left_of_the_image_and_beside_huge_boxes() -> None:
    """Moved by the largest coordinate and one, (-21, 0, -1, 20) of class 1 would lie on (0, 0, 20, 20) of class 0."""
    found = decoded([[2.0, -9], [-9, 1.0]], [[0, 0, 20, 20], [-21, 0, -1, 20]], [9.0, 9], clip=False)
    assert found.labels.tolist() == [0, 1]
    huge, small = [-1e9, -1e9, 1e9, 1e9], [0, 0, 4, 4]
    found = decoded([[-9, 2.0], [-9, 1], [-9, 0]], [huge, small, small], [9.0, 9, 9])
    assert len(found) == 2


def test_the_decoder_takes_overrides_for_training() -> None:
    predictions = scene({0: [0, 0, 8, 8]})
    decoder = YOLOXDecoder(score_threshold=0.9, train={"score_threshold": 0.2, "max_detections": 3})
    assert [len(decoder(predictions, batch([[[0, 0, 1, 1]]]), train=train)[0]) for train in (False, True)] == [0, 3]
    with pytest.raises(ConfigError, match=r'train.nms_iuo: .* Did you mean "nms_iou"'):
        YOLOXDecoder(train={"nms_iuo": 0.5})


# --------------------------------------------------------------------------------------------------------------- losses


def loss(**options: Any) -> YOLOXLoss:
    """Needs detcore-losses: tests of it are skipped where only what the plugin depends on is installed."""
    from detcore_losses.boxes import IoULoss
    from detcore_losses.classification import CrossEntropyLoss

    sigmoid = CrossEntropyLoss(use_sigmoid=True)
    return YOLOXLoss(loss_cls=sigmoid, loss_box=IoULoss(mode="square", loss_weight=5.0), loss_obj=sigmoid, **options)


def test_losses_by_hand() -> None:
    """Two positives. BCE of logit 0 is ln 2 whatever the target; IoU 0.5 costs 5 * (1 - 0.25), IoU 1 nothing."""
    place = [8, 8, 24, 24]
    predictions = scene({5: place, 6: [8, 8, 24, 16]}, classes=3)
    index = torch.full((1, 16), -1)
    index[0, [5, 6]], index[0, 0] = 0, -2
    quality = torch.zeros(1, 16)
    found = loss()(predictions, Matches(index, quality), batch([[place]], [[2]]))
    assert set(found) == {"loss_cls", "loss_box", "loss_obj"}
    torch.testing.assert_close(found["loss_cls"], torch.tensor(3 * math.log(2)))
    torch.testing.assert_close(found["loss_box"], torch.tensor(5 * 0.75 / 2))
    torch.testing.assert_close(
        found["loss_obj"], torch.tensor(15 * math.log(2) / 2)
    )  # the ignored one is not among them


def test_a_class_learns_the_overlap() -> None:
    """Logit 2 of class 1: the loss is softplus(2) - 2 * target; the other class's softplus(0) has target 0."""
    place = [8, 8, 16, 16]
    logits = torch.zeros(1, 16, 2)
    logits[..., 1] = 2
    predictions = predicted(logits, scene({5: place}).flat("box"), torch.zeros(1, 16))
    index = torch.full((1, 16), -1)
    index[0, 5] = 0
    for quality, target in ((torch.full((1, 16), 0.3), 0.3), (None, 1.0)):
        found = loss()(predictions, Matches(index, quality), batch([[place]], [[1]]))["loss_cls"]
        torch.testing.assert_close(found, torch.tensor(math.log(2) + math.log1p(math.exp(2)) - 2 * target))


def test_l1_counts_late_in_training() -> None:
    from detcore_losses.boxes import L1Loss

    """The prior at (8, 8) predicts centre +1 stride and sizes e times too large: 1 + 1 + 1 + 1."""
    vectors = torch.zeros(1, 16, 4)
    vectors[0, 5] = torch.tensor([1.5, 1.5, 1.0, 1.0])  # of the object: 0.5, 0.5, 0, 0
    index = torch.full((1, 16), -1)
    index[0, 5] = 0
    predictions = predicted(torch.zeros(1, 16, 1), vectors, torch.zeros(1, 16))
    both = loss(loss_l1=L1Loss())

    def at(progress: float, part: YOLOXLoss = both) -> dict[str, Tensor]:
        return part(predictions, Matches(index), batch([[[8, 8, 16, 16]]], progress=progress))

    assert "loss_l1" not in at(0.0)
    assert "loss_l1" not in at(0.949)
    torch.testing.assert_close(at(0.95)["loss_l1"], torch.tensor(4.0))
    assert "loss_l1" not in at(1.0, loss())
    assert "loss_l1" in at(0.5, loss(loss_l1=L1Loss(), l1_from=0.5))


def test_a_loss_of_vectors_may_be_the_box_loss() -> None:
    from detcore_losses.boxes import L1Loss
    from detcore_losses.classification import CrossEntropyLoss

    vectors = torch.zeros(1, 16, 4)
    vectors[0, 5] = torch.tensor([1.5, 1.5, 1.0, 1.0])
    predictions = predicted(torch.zeros(1, 16, 1), vectors, torch.zeros(1, 16))
    index = torch.full((1, 16), -1)
    index[0, 5] = 0
    sigmoid = CrossEntropyLoss(use_sigmoid=True)
    part = YOLOXLoss(loss_cls=sigmoid, loss_box=L1Loss(), loss_obj=sigmoid)
    torch.testing.assert_close(
        part(predictions, Matches(index), batch([[[8, 8, 16, 16]]]))["loss_box"], torch.tensor(4.0)
    )


@pytest.mark.parametrize("weight", [None, torch.full((1, 16), 0.5)])
def test_weights_of_priors_weigh_their_losses(weight: Tensor | None) -> None:
    predictions, index = scene({5: [8, 8, 24, 16]}), torch.full((1, 16), -1)
    index[0, 5] = 0
    found = loss()(predictions, Matches(index, weight=weight), batch([[[8, 8, 24, 24]]]))
    factor = 1.0 if weight is None else 0.5
    expected = {"loss_cls": math.log(2), "loss_box": 5 * 0.75, "loss_obj": 16 * math.log(2)}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], torch.tensor(value * factor))


def test_the_losses_say_what_is_wrong() -> None:
    from detcore_losses.boxes import GIoULoss, IoULoss
    from detcore_losses.classification import CrossEntropyLoss

    softmax, sigmoid = CrossEntropyLoss(), CrossEntropyLoss(use_sigmoid=True)
    with pytest.raises(ConfigError, match=r"loss_cls: a softmax. Give it use_sigmoid"):
        YOLOXLoss(loss_cls=softmax, loss_box=GIoULoss(), loss_obj=sigmoid)
    with pytest.raises(ConfigError, match=r"loss_obj: a softmax. Give it use_sigmoid"):
        YOLOXLoss(loss_cls=sigmoid, loss_box=GIoULoss(), loss_obj=softmax)
    with pytest.raises(ConfigError, match=r"loss_l1: a loss of boxes in pixels.*L1Loss"):
        YOLOXLoss(loss_cls=sigmoid, loss_box=GIoULoss(), loss_obj=sigmoid, loss_l1=IoULoss())


# ----------------------------------------------------------------------------------------------------- neck, head, whole


def maps(size: int = 64, channels: Sequence[int] = (4, 8, 16)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sides = [-(-size // stride) for stride in (8, 16, 32)]
    return [torch.randn(2, c, side, side, generator=generator) for c, side in zip(channels, sides, strict=True)]


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("size", [64, 100])
def test_the_neck_keeps_sizes(size: int, depthwise: bool) -> None:
    neck = YOLOXPAFPN(in_channels=(4, 8, 16), in_strides=(8, 16, 32), num_csp_blocks=1, depthwise=depthwise)
    features = maps(size)
    assert [out.shape for out in neck(features)] == [(2, 4, *each.shape[2:]) for each in features]
    assert (neck.out_channels, neck.strides) == ((4, 4, 4), (8, 16, 32))
    assert YOLOXPAFPN(in_channels=(4, 8), in_strides=(8, 16), out_channels=6).out_channels == (6, 6)


def towers(**options: Any) -> YOLOXTowers:
    return YOLOXTowers(in_channels=4, strides=(8, 16, 32), class_channels=3, **options)


def test_towers_start_at_the_prior_probability_and_are_apart_per_level() -> None:
    network = towers(channels=8, stacked_convs=1, prior_probability=0.2)
    for convs in (network.conv_cls, network.conv_obj):
        for conv in convs:
            torch.testing.assert_close(conv.bias.sigmoid(), torch.full_like(conv.bias, 0.2))
    assert [conv.weight.shape[:2] for conv in network.conv_reg] == [(4, 8)] * 3
    raw = network(maps(channels=(4, 4, 4)))
    assert {name: [level.shape[1] for level in levels] for name, levels in raw.items()} == {
        "cls": [3, 3, 3],
        "box": [4, 4, 4],
        "objectness": [1, 1, 1],
    }


def test_the_towers_say_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match=r"2 priors per cell.*PointsWH"):
        towers(priors_per_cell=2)
    with pytest.raises(ConfigError, match="strides: 2 maps for 3 strides"):
        towers()(maps(channels=(4, 4, 4))[:2])


def head(network: HeadNetwork) -> ComposedHead:
    from detcore_losses.boxes import L1Loss

    return ComposedHead(
        num_classes=3,
        loss=loss(loss_l1=L1Loss()),
        geometry=PointsWH(strides=(8, 16, 32)),
        network=network,
        assigner=SimOTAAssigner(),
        decoder=YOLOXDecoder(),
    )


@pytest.mark.parametrize("boxes", [torch.zeros(2, 0, 4), torch.zeros(2, 3, 4)])
def test_without_objects_losses_are_finite_and_tied_to_everything(boxes: Tensor) -> None:
    composed = head(towers(norm=nn.BatchNorm2d))
    empty = batch(boxes, valid=torch.zeros(boxes.shape[:2]), size=64, progress=1.0)
    losses = composed.losses(composed(maps(channels=(4, 4, 4)), empty), empty)
    total_loss(losses).backward()
    assert losses["loss_cls"] == losses["loss_box"] == losses["loss_l1"] == 0
    assert losses["loss_obj"] > 0
    for name, parameter in composed.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_what_the_assigner_looked_at_still_has_its_gradient_and_no_prior_spoils_it() -> None:
    """A background prior's log w = 1000 overflows; gradients must not turn into NaN by it."""
    torch.manual_seed(1)  # of some towers of four channels no ReLU lets anything through
    composed, objects = head(towers()), batch([[[8, 8, 40, 40]]] * 2, size=64)
    predictions = composed(maps(channels=(4, 4, 4)), objects)
    predictions.raw["box"][0].data[:, 2:, -1, -1] = 1000
    total_loss(composed.losses(predictions, objects)).backward()
    for name, parameter in composed.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert composed.get_parameter("network.conv_reg.0.weight").grad.abs().sum() > 0  # type: ignore[union-attr]


def test_training_can_be_compiled() -> None:
    composed, objects = head(towers()), batch([[[8, 8, 40, 40], [0, 0, 9, 9]]] * 2, size=64)

    def losses(features: list[Tensor]) -> Tensor:
        return total_loss(composed.losses(composed(features, objects), objects))

    features = maps(channels=(4, 4, 4))
    torch.testing.assert_close(torch.compile(losses, backend="eager")(features), losses(features))
