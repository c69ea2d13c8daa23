"""YOLOv3: geometry, assignment, losses and decoding by hand, and the assignment against a plain loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from detcore.errors import ConfigError
from detcore.heads.dense import ComposedHead
from detcore.interfaces import Channels, Flow, NumClasses, Strides
from detcore.structures import Batch, Matches, Predictions, Targets, total_loss
from detcore.testing import check_dense_head, check_neck
from detcore_yolov3 import yolov3
from detcore_yolov3.yolov3 import GridAssigner, YOLOAnchors, YOLOV3Decoder, YOLOV3Loss, YOLOV3Neck, YOLOV3Towers
from torch import Tensor
from torchvision.ops import box_iou

SIZES = (((8, 8), (16, 8)), ((32, 32), (16, 48)))
STRIDES = (8, 16)


def batch(boxes: Any, labels: Any = None, valid: Any = None, size: int = 32) -> Batch:
    """A batch whose objects are ``boxes`` (B, G, 4)."""
    boxes = torch.as_tensor(boxes, dtype=torch.float32)
    images, objects = boxes.shape[:2]
    valid = torch.ones(images, objects, dtype=torch.bool) if valid is None else torch.as_tensor(valid, dtype=torch.bool)
    labels = torch.zeros(images, objects, dtype=torch.int64) if labels is None else torch.as_tensor(labels)
    sizes = torch.full((images, 2), float(size))
    targets = Targets(boxes, labels, valid, ~valid)
    return Batch(torch.zeros(images, 3, size, size), sizes, sizes, torch.ones(images, 2), targets=targets)


def predicted(
    box: Tensor,
    objectness: Tensor,
    cls: Tensor,
    sizes: Any = (((8, 8),),),
    strides: Sequence[int] = (8,),
    size: int = 32,
) -> Predictions:
    """Predictions of these numbers (B, P, K), the maps of an image of ``size`` pixels."""
    geometry = YOLOAnchors(strides=strides, base_sizes=sizes)
    sides = [size // stride for stride in strides]

    def maps(values: Tensor) -> list[Tensor]:
        levels = values.split([side * side * geometry.priors_per_cell for side in sides], 1)
        return [
            level.unflatten(1, (side, side, -1)).flatten(3).permute(0, 3, 1, 2)
            for level, side in zip(levels, sides, strict=True)
        ]

    raw = {"box": maps(box), "objectness": maps(objectness[..., None]), "cls": maps(cls)}
    priors = geometry.priors(raw["box"], batch(torch.zeros(len(box), 0, 4), size=size))
    return Predictions(raw, priors, geometry.encode, geometry.decode, False, geometry.priors_per_cell)


def blank(images: int, size: int = 32) -> Predictions:
    """Two levels of two anchors, all numbers 0."""
    priors = sum(2 * (size // stride) ** 2 for stride in STRIDES)
    zeros = torch.zeros(images, priors, 4)
    return predicted(zeros, zeros[..., 0], zeros[..., :3], SIZES, STRIDES, size)


def loss(reduction: Any = "sum") -> YOLOV3Loss:
    """Needs detcore-losses: tests of it are skipped where only what the plugin depends on is installed."""
    from detcore_losses.boxes import MSELoss
    from detcore_losses.classification import CrossEntropyLoss

    entropy = CrossEntropyLoss(use_sigmoid=True, reduction=reduction)
    return YOLOV3Loss(loss_cls=entropy, loss_conf=entropy, loss_xy=entropy, loss_wh=MSELoss(reduction=reduction))


# ------------------------------------------------------------------------------------------------------ contracts


def head(
    *, in_channels: Channels[Sequence[int]], strides: Strides[Sequence[int]], num_classes: NumClasses
) -> ComposedHead:
    geometry = YOLOAnchors(strides=strides)
    return ComposedHead(
        num_classes=num_classes,
        loss=loss(),
        geometry=geometry,
        network=YOLOV3Towers(in_channels=in_channels, strides=strides, class_channels=num_classes, priors_per_cell=3),
        assigner=GridAssigner(),
        decoder=YOLOV3Decoder(conf_threshold=0.0, score_threshold=0.0),
    )


def test_it_is_a_dense_head() -> None:
    """No object, crowds alone and 300 objects: finite losses, tied to every parameter."""
    check_dense_head(head, flow=Flow(channels=(8, 16, 32), strides=(8, 16, 32), num_classes=3))


@pytest.mark.parametrize("out_channels", [None, (4, 4, 6, 8)])
def test_the_neck_is_a_neck(out_channels: Sequence[int] | None) -> None:
    check_neck(YOLOV3Neck, out_channels=out_channels)


# -------------------------------------------------------------------------------------------------------- the network


def test_one_convolution_predicts_anchor_by_anchor() -> None:
    towers = YOLOV3Towers(in_channels=(2,), strides=(32,), class_channels=3, priors_per_cell=2).eval()
    towers.predict[0].weight.data.zero_()  # type: ignore[operator, union-attr]
    towers.predict[0].bias.data = torch.arange(16.0)  # type: ignore[union-attr]
    raw = towers([torch.zeros(1, 2, 1, 1)])
    assert raw["box"][0].flatten().tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert raw["objectness"][0].flatten().tolist() == [4, 12]
    assert raw["cls"][0].flatten().tolist() == [5, 6, 7, 13, 14, 15]


def test_logits_start_at_eight_objects_on_a_map() -> None:
    towers = YOLOV3Towers(in_channels=(2, 2), strides=(8, 32), class_channels=1, priors_per_cell=1)
    biases = [layer.get_parameter("bias").detach().sigmoid() for layer in towers.predict]
    assert [float(bias[4]) for bias in biases] == pytest.approx([8 / 76**2, 8 / 19**2])
    assert [float(bias[5]) for bias in biases] == pytest.approx([0.01, 0.01])


# ----------------------------------------------------------------------------------------------------------- geometry


def test_anchors_stand_around_the_centres_of_their_cells() -> None:
    boxes = blank(1).priors.boxes
    assert boxes[:3].tolist() == [[0, 0, 8, 8], [-4, 0, 12, 8], [8, 0, 16, 8]]
    assert boxes[32:34].tolist() == [[-8, -8, 24, 24], [0, -16, 16, 32]]
    assert blank(1).priors.per_level == (32, 8)


def test_a_vector_moves_the_centre_within_its_cell_and_scales_the_anchor() -> None:
    geometry = YOLOAnchors(strides=STRIDES, base_sizes=SIZES)
    anchor, stride = torch.tensor([8.0, 0, 24, 8]), torch.tensor(16.0)  # centre 16, 4: the cell is 8 to 24, -4 to 12
    vector = torch.tensor([math.log(3), 0, math.log(2), -math.log(2)])  # three quarters and half; 32 x 4 pixels
    assert geometry.decode(anchor, stride, vector).tolist() == pytest.approx([4, 2, 36, 6])
    torch.testing.assert_close(geometry.encode(anchor, stride, torch.tensor([4.0, 2, 36, 6])), vector)


def test_what_no_vector_can_say_is_encoded_finitely_and_huge_vectors_are_finite_boxes() -> None:
    geometry = YOLOAnchors(strides=STRIDES, base_sizes=SIZES)
    anchor, stride = torch.tensor([0.0, 0, 8, 8]), torch.tensor(8.0)
    vector = geometry.encode(anchor, stride, torch.tensor([50.0, -50, 50, -50]))
    torch.testing.assert_close(vector[:2].sigmoid(), torch.tensor([1 - 1e-6, 1e-6]), rtol=0, atol=2e-7)
    assert vector[2:].tolist() == pytest.approx([math.log(1e-6)] * 2)
    assert geometry.decode(anchor, stride, torch.full((4,), 1e4)).isfinite().all()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((((8, 8),),), "base_sizes: [1] for 2 maps. Give each map as many, shallow to deep."),
        ((((8, 8),), ((8, 8), (9, 9))), "base_sizes: [1, 2] for 2 maps. Give each map as many, shallow to deep."),
        ((((8, 8),), ((8, 0),)), "base_sizes: not all are positive numbers. An anchor needs an area."),
        (((), ()), "base_sizes: not all are positive numbers. An anchor needs an area."),
    ],
)
def test_sizes_that_cannot_be_are_errors(sizes: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        YOLOAnchors(strides=STRIDES, base_sizes=sizes)
    assert str(error.value) == message


# --------------------------------------------------------------------------------------------------------- assignment


def looped(predictions: Predictions, truth: Targets, pos: float, neg: float) -> list[list[int]]:
    """The rules of the assigner, prior by prior."""
    boxes, strides, found = predictions.priors.boxes, predictions.priors.stride, []
    for image in range(len(truth.boxes)):
        valid = [g for g in range(truth.boxes.shape[1]) if truth.valid[image, g]]
        iou = box_iou(boxes, truth.boxes[image]).tolist()
        centres = [(truth.boxes[image, g, :2] + truth.boxes[image, g, 2:]) / 2 for g in valid]
        index = [-2] * len(boxes)
        own = []
        for p, (box, stride) in enumerate(zip(boxes, strides, strict=True)):
            cell = ((box[:2] + box[2:]) / 2 / stride).floor()
            own.append(any(torch.equal((centre / stride).floor(), cell) for centre in centres))
            best = max((iou[p][g] for g in valid), default=0)
            if best <= neg or not valid:
                index[p] = -1
            if own[p] and best > pos:
                index[p] = next(g for g in valid if iou[p][g] == best)
        for g in valid:
            best = max(iou[p][g] for p in range(len(boxes)) if own[p])
            for p in range(len(boxes)):
                if own[p] and best > 0 and iou[p][g] == best:
                    index[p] = g
        found.append(index)
    return found


@pytest.mark.parametrize("at_once", [None, 7])
@pytest.mark.parametrize("objects", [1, 4, 25])
def test_as_by_the_plain_rules(objects: int, at_once: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if at_once:
        monkeypatch.setattr(yolov3, "PAIRS_AT_ONCE", at_once * 3 * objects)
    generator = torch.Generator().manual_seed(objects)
    corners = (torch.rand(3, objects, 2, 2, generator=generator) * 64).sort(2).values
    valid = torch.rand(3, objects, generator=generator) < 0.7
    valid[2] = False
    given, predictions = batch(corners.flatten(2), valid=valid, size=64), blank(3, 64)
    found = GridAssigner(pos_iou=0.4, neg_iou=0.3)(predictions, given).index
    assert found.tolist() == looped(predictions, given.truth, 0.4, 0.3)
    assert (found >= 0).any()


def test_an_object_is_answered_for_in_the_cell_of_its_centre_alone() -> None:
    """8 x 8 pixels around (11, 5): the anchor of cell (1, 0) is its best; that of cell (0, 0) overlaps by 5 x 7."""
    found = GridAssigner(pos_iou=0.9, neg_iou=0.3)(blank(1), batch([[[7, 1, 15, 9]]]))
    assert found.index[0, :4].tolist() == [-1, -1, 0, -2]
    assert found.quality is not None
    assert float(found.quality[0, 2]) == pytest.approx(49 / 79)


def test_a_range_of_negatives_leaves_the_rest_ignored() -> None:
    """IoUs of the first anchors with the object of 8 x 8 pixels: 1, 1/2, 0."""
    given = batch([[[0, 0, 8, 8]]])
    assert GridAssigner(neg_iou=(0.0, 0.5))(blank(1), given).index[0, :3].tolist() == [0, -1, -2]
    assert GridAssigner(neg_iou=0.4)(blank(1), given).index[0, :3].tolist() == [0, -2, -1]


def test_an_object_takes_its_best_anchor_only_beyond_the_least_iou() -> None:
    given = batch([[[7, 1, 15, 9]]])
    assert (GridAssigner(pos_iou=0.9, min_pos_iou=0.7)(blank(1), given).index < 0).all()


def test_without_objects_all_is_background() -> None:
    assert (GridAssigner()(blank(2), batch(torch.zeros(2, 0, 4))).index == -1).all()
    assert (GridAssigner(neg_iou=(0.1, 0.5))(blank(2), batch(torch.ones(2, 1, 4), valid=[[0], [0]])).index == -1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neg_iou": (0.5, 0.2)}, "neg_iou: (0.5, 0.2). Give one number or two, in order."),
        ({"neg_iou": (0.5,)}, "neg_iou: (0.5,). Give one number or two, in order."),
        ({"min_pos_iou": -1.0}, "min_pos_iou: -1.0. Give at least 0."),
    ],
)
def test_thresholds_that_cannot_be_are_errors(options: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        GridAssigner(**options)
    assert str(error.value) == message


# ------------------------------------------------------------------------------------------------------------- losses


def test_losses_by_hand() -> None:
    """Prior 0 answers for an object of class 1 a quarter off its centre and twice as wide, 1 is ignored, 14 background."""
    zeros = torch.zeros(1, 16, 4)
    predictions = predicted(zeros, zeros[..., 0] + math.log(3), zeros[..., :2])
    index = torch.full((1, 16), -1)
    index[0, :2] = torch.tensor([0, -2])
    found = loss()(predictions, Matches(index), batch([[[-6, 0, 10, 8]]], [[1]]))
    assert float(found["loss_cls"]) == pytest.approx(2 * math.log(2), rel=1e-5)
    assert float(found["loss_conf"]) == pytest.approx(-math.log(0.75) - 14 * math.log(0.25), rel=1e-5)
    assert float(found["loss_xy"]) == pytest.approx(2 * math.log(2), rel=1e-5)  # 0.25 and 0.5 against a half
    assert float(found["loss_wh"]) == pytest.approx(math.log(2) ** 2, rel=1e-5)
    halved = loss()(predictions, Matches(index, weight=torch.full((1, 16), 0.5)), batch([[[-6, 0, 10, 8]]], [[1]]))
    assert all(float(halved[name]) == pytest.approx(float(found[name]) / 2, rel=1e-5) for name in found)


def test_the_centre_is_pulled_to_where_it_is() -> None:
    vectors = torch.zeros(1, 16, 4, requires_grad=True)
    index = torch.full((1, 16), -1)
    index[0, 0] = 0
    predictions = predicted(vectors, vectors[..., 0].detach(), vectors[..., :2].detach())
    total_loss(loss()(predictions, Matches(index), batch([[[-2, 0, 6, 8]]]))).backward()
    assert vectors.grad is not None
    assert vectors.grad[0, 0].tolist() == pytest.approx([0.25, 0, 0, 0], abs=1e-6)  # a half against a quarter
    assert not vectors.grad[0, 1:].any()


def test_the_losses_say_what_is_wrong() -> None:
    from detcore_losses.boxes import GIoULoss, MSELoss
    from detcore_losses.classification import CrossEntropyLoss

    entropy = CrossEntropyLoss(use_sigmoid=True)
    with pytest.raises(ConfigError, match=r"YOLOV3Loss: loss_xy: a softmax\. Give it use_sigmoid = true\."):
        YOLOV3Loss(loss_cls=entropy, loss_conf=entropy, loss_xy=CrossEntropyLoss(), loss_wh=MSELoss())
    with pytest.raises(ConfigError, match=r"loss_wh: a loss of boxes in pixels\. Give a loss of vectors \(MSELoss\)\."):
        YOLOV3Loss(loss_cls=entropy, loss_conf=entropy, loss_xy=entropy, loss_wh=GIoULoss())


def test_training_runs_compiled_and_under_bfloat16() -> None:
    module = head(in_channels=(4, 8, 16), strides=(8, 16, 32), num_classes=3).eval()
    maps = [torch.randn(2, c, 64 // s, 64 // s) for c, s in ((4, 8), (8, 16), (16, 32))]
    given = batch([[[4, 4, 30, 40]], [[20, 8, 60, 60]]], size=64)

    def losses() -> dict[str, Tensor]:
        return module.losses(module(maps, given), given)

    eager, compiled = losses(), torch.compile(losses, backend="aot_eager")()
    assert all(torch.allclose(eager[name], compiled[name], rtol=1e-4) for name in eager)
    with torch.autocast("cpu", torch.bfloat16):
        found = losses()
    assert {each.dtype for each in found.values()} == {torch.float32}


# --------------------------------------------------------------------------------------------------------- detections


def decoded(decoder: YOLOV3Decoder, numbers: dict[int, tuple[float, float, float]], **options: Any) -> list[Any]:
    """Scores and labels of one image whose priors have these probabilities: objectness and two classes."""
    raw = torch.full((1, 16, 3), -20.0)
    for prior, probabilities in numbers.items():
        raw[0, prior] = torch.tensor(probabilities).logit()
    predictions = predicted(torch.zeros(1, 16, 4), raw[..., 0], raw[..., 1:])
    (found,) = decoder(predictions, batch(torch.zeros(1, 0, 4)), **options)
    return [(round(score, 4), label) for score, label in zip(found.scores.tolist(), found.labels.tolist(), strict=True)]


def test_objectness_reaches_its_threshold_and_a_class_exceeds_its_own() -> None:
    numbers = {0: (0.3, 0.8, 0.5), 2: (0.1, 0.9, 0.9), 8: (0.9, 0.3, 0.35)}
    assert decoded(YOLOV3Decoder(conf_threshold=0.2, score_threshold=0.4), numbers) == [(0.24, 0), (0.15, 1)]
    assert decoded(YOLOV3Decoder(conf_threshold=0.2, score_threshold=0.32), numbers)[0] == (0.315, 1)


def test_the_best_are_chosen_by_class_and_ordered_by_the_product() -> None:
    numbers = {0: (0.3, 0.8, 0.01), 2: (0.9, 0.7, 0.01), 8: (0.9, 0.6, 0.01)}
    assert decoded(YOLOV3Decoder(nms_pre=2), numbers) == [(0.63, 0), (0.24, 0)]
    train = YOLOV3Decoder(nms_pre=2, train={"nms_pre": 3, "max_detections": 2})
    assert decoded(train, numbers, train=True) == [(0.63, 0), (0.54, 0)]


def test_boxes_are_cut_at_the_image_and_those_beyond_go_unless_told_otherwise() -> None:
    vectors, logits = torch.zeros(1, 16, 4), torch.zeros(1, 16)
    vectors[0, 0, 2:] = math.log(2)
    for clip, first, count in ((True, [0, 0, 12, 12], 4), (False, [-4, -4, 12, 12], 16)):
        given = batch(torch.zeros(1, 0, 4))
        given.sizes[:] = 16
        decoder = YOLOV3Decoder(nms_iou=1.0, clip=clip)
        (found,) = decoder(predicted(vectors, logits, logits[..., None]), given)
        assert found.boxes[0].tolist() == pytest.approx(first)
        assert len(found) == count


def test_overlapping_boxes_of_one_class_leave_the_best() -> None:
    vectors, logits = torch.zeros(1, 16, 4), torch.full((1, 16), -20.0)
    vectors[0, 1, 0], vectors[0, 0, 0], logits[0, :2] = (
        -20,
        20,
        torch.tensor([1.0, 2]),
    )  # both at the border of the cells
    for classes, count in ((torch.zeros(1, 16, 1), 1), (torch.tensor([[[9.0, -9], [-9, 9]]]).repeat(1, 8, 1), 2)):
        (found,) = YOLOV3Decoder()(predicted(vectors, logits, classes), batch(torch.zeros(1, 0, 4)))
        assert len(found) == count


def test_a_setting_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r'train\.nms_iuo: not a setting of this decoder\. Did you mean "nms_iou"'):
        YOLOV3Decoder(train={"nms_iuo": 0.5})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: YOLOV3Towers(in_channels=(2,), strides=(8,), class_channels=1, priors_per_cell=1)(
                [torch.zeros(1, 2, 2, 2)] * 2
            ),
            "YOLOV3Towers: strides: 2 maps for 1 strides. Give one stride per map.",
        ),
        (
            lambda: YOLOV3Neck(in_channels=(2, 4), in_strides=(8, 16), out_channels=(2,)),
            "out_channels: 1 for 2 maps. Give one per map.",
        ),
    ],
)
def test_numbers_of_maps_must_agree(call: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        call()
    assert str(error.value) == message
