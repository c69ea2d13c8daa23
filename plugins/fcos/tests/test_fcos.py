"""FCOS: which point answers for which object, centerness, the losses and the towers, by values worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from detcore.errors import ConfigError
from detcore.heads.dense import ComposedHead
from detcore.interfaces import Loss
from detcore.structures import Batch, Matches, Predictions, Priors, Targets
from detcore_dense.decoders import NMSDecoder
from detcore_dense.points import Points
from detcore_fcos import fcos
from detcore_fcos.fcos import RANGES, FCOSAssigner, FCOSLoss, FCOSTowers, centerness
from torch import Tensor, nn
from torchvision.models.detection import fcos as torchvision_fcos
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

STRIDES = (8, 16, 32, 64, 128)


def priors(points: Sequence[Sequence[float]], levels: Sequence[int], num_levels: int = 5) -> Priors:
    level = torch.tensor(levels)
    valid = torch.ones(1, len(levels), dtype=torch.bool)
    counts = [levels.count(each) for each in range(num_levels)]
    return Priors(torch.tensor(points, dtype=torch.float32), 8.0 * 2**level, level, valid, counts)


def batch(boxes: Tensor, labels: Tensor | None = None, valid: Tensor | None = None, size: int = 256) -> Batch:
    """A batch whose objects are ``boxes`` (B, G, 4)."""
    images, objects = boxes.shape[:2]
    valid = torch.ones(images, objects, dtype=torch.bool) if valid is None else valid
    labels = torch.zeros(images, objects, dtype=torch.int64) if labels is None else labels
    sizes = torch.full((images, 2), float(size))
    targets = Targets(boxes.float(), labels, valid, ~valid)
    return Batch(torch.zeros(images, 3, size, size), sizes, sizes, torch.ones(images, 2), targets=targets)


def assigned(where: Priors, boxes: Any, valid: Tensor | None = None, **options: Any) -> list[list[int]]:
    assigner = FCOSAssigner(**options)
    matches = assigner(SimpleNamespace(priors=where), batch(torch.tensor(boxes, dtype=torch.float32), valid=valid))
    return matches.index.tolist()


# ---------------------------------------------------------------------------------------------------------- assignment


@pytest.mark.parametrize(
    ("left", "answers"),
    [
        (63.5, [True, False, False, False, False]),
        (64, [True, True, False, False, False]),  # both ends belong to the range
        (64.5, [False, True, False, False, False]),
        (128, [False, True, True, False, False]),
        (512, [False, False, False, True, True]),
        (5000, [False, False, False, False, True]),
    ],
)
def test_the_longest_distance_chooses_the_level(left: float, answers: list[bool]) -> None:
    where = priors([[6000, 100]] * 5, range(5))  # type: ignore[arg-type]
    assert assigned(where, [[[6000 - left, 90, 6010, 110]]]) == [[0 if each else -1 for each in answers]]


def test_a_point_on_a_side_or_outside_is_background() -> None:
    where = priors([[10, 20], [10.5, 20], [30, 20], [40, 20], [20, 10]], [0] * 5)
    assert assigned(where, [[[10, 10, 30, 30]]]) == [[-1, 0, -1, -1, -1]]


def test_of_several_objects_the_smallest_is_taken_and_of_equal_ones_the_first() -> None:
    where = priors([[20, 20], [45, 20], [55, 20]], [0] * 3)
    large, small, equal = [0, 0, 60, 40], [10, 10, 50, 40], [40, 10, 58, 76.6666]
    assert assigned(where, [[large, small]]) == [[1, 1, 0]]
    assert assigned(where, [[small, large]]) == [[0, 0, 1]]
    assert assigned(where, [[large, small, small]]) == [[1, 1, 0]]
    assert assigned(where, [[large, small, equal]]) == [[1, 2, 2]]  # 1199.999 is less than 1200


def test_an_object_of_another_level_does_not_compete() -> None:
    """The smaller object is smaller than level 1 answers for, so the larger one gets the point."""
    where = priors([[100, 100]] * 2, [0, 1])
    assert assigned(where, [[[90, 90, 110, 110], [20, 20, 180, 180]]]) == [[0, 1]]


def test_centre_sampling_keeps_points_near_the_centre() -> None:
    """Stride 8, radius 1.5: nearer than 12 pixels to (50, 50), in x and in y; stride 16: 24 pixels."""
    points = [[61.9, 50], [62, 50], [50, 38.1], [50, 37], [61, 61]]
    assert assigned(priors(points, [0] * 5), [[[0, 0, 100, 100]]], radius=1.5) == [[0, -1, 0, -1, 0]]
    assert assigned(priors([[73, 50], [74.5, 50]], [1] * 2), [[[-20, 0, 120, 100]]], radius=1.5) == [[0, -1]]


def test_the_middle_is_clipped_by_the_box() -> None:
    points = [[47, 50], [45, 50], [53.9, 61], [54, 50]]
    assert assigned(priors(points, [0] * 4), [[[46, 0, 54, 100]]], radius=1.5) == [[0, -1, 0, -1]]


def test_crowds_and_padding_answer_to_nobody() -> None:
    where = priors([[20, 20]], [0])
    valid = torch.tensor([[False, True], [True, False], [False, False]])
    boxes = [[[10, 10, 30, 30], [0, 0, 40, 40]]] * 3
    assert assigned(where, boxes, valid) == [[1], [0], [-1]]


def test_without_objects_all_is_background() -> None:
    assert assigned(priors([[1, 1]] * 2, [0, 1]), torch.zeros(2, 0, 4).tolist() or [[], []]) == [[-1, -1]] * 2


def plain(points: Tensor, stride: Tensor, level: Tensor, boxes: Tensor, radius: float) -> list[int]:
    """The rule, written for one point and one object at a time."""
    index = []
    for (x, y), s, n in zip(points.tolist(), stride.tolist(), level.tolist(), strict=True):
        best, best_area = -1, math.inf
        for g, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
            near = not radius or max(abs(x - (x0 + x1) / 2), abs(y - (y0 + y1) / 2)) < radius * s
            inside = x0 < x < x1 and y0 < y < y1
            size, area = max(x - x0, y - y0, x1 - x, y1 - y), (x1 - x0) * (y1 - y0)
            if near and inside and RANGES[n][0] <= size <= RANGES[n][1] and area < best_area:
                best, best_area = g, area
        index.append(best)
    return index


@pytest.mark.parametrize("radius", [0.0, 1.5])
def test_500_objects_of_both_images_as_by_the_plain_rule(radius: float, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    corner = torch.randint(0, 200, (2, 500, 2), generator=generator)
    boxes = torch.cat([corner, corner + torch.randint(1, 120, (2, 500, 2), generator=generator)], -1)
    maps = [torch.zeros(2, 1, 256 // stride, 256 // stride) for stride in STRIDES]
    objects = batch(boxes)
    where = Points(strides=STRIDES).priors(maps, objects)
    assigner = FCOSAssigner(radius=radius)
    index = assigner(SimpleNamespace(priors=where), objects).index  # type: ignore[arg-type]
    for image in range(2):
        expected = plain(where.boxes[::7], where.stride[::7], where.level[::7], boxes[image], radius)
        assert index[image, ::7].tolist() == expected
    assert (index >= 0).float().mean() > 0.3
    monkeypatch.setattr(fcos, "PAIRS_AT_ONCE", 30 * index.numel())
    in_chunks = assigner(SimpleNamespace(priors=where), objects)  # type: ignore[arg-type]
    assert torch.equal(in_chunks.index, index)


def test_any_number_of_levels_with_as_many_ranges() -> None:
    where = priors([[50, 50]] * 3, [0, 1, 2], num_levels=3)
    ranges = [(0.0, 30.0), (30.0, 60.0), (60.0, math.inf)]
    assert assigned(where, [[[0, 0, 100, 100]]], ranges=ranges) == [[-1, 0, -1]]
    with pytest.raises(ConfigError) as error:
        assigned(where, [[[0, 0, 100, 100]]])
    line = "FCOSAssigner: ranges: 5 ranges for 3 levels. Give one range per level, shallow to deep."
    assert str(error.value) == line


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"ranges": [(64.0, 8.0)]},
            "FCOSAssigner: ranges: 64.0 to 8.0 holds no size. Each range is the least and the largest size of a level.",
        ),
        ({"radius": -1.0}, "FCOSAssigner: radius: -1.0. Give strides, or 0 for no centre sampling."),
    ],
)
def test_an_impossible_setting_is_named(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as error:
        FCOSAssigner(**options)
    assert str(error.value) == line


def test_boxes_as_priors_stand_for_their_centres() -> None:
    where = priors([[0, 0, 20, 20], [40, 40, 60, 60]], [0, 0])
    assert assigned(where, [[[5, 5, 25, 25]]]) == [[0, -1]]


# ---------------------------------------------------------------------------------------------- centerness and losses


def test_centerness_by_hand() -> None:
    sides = torch.tensor([[5.0, 5, 5, 5], [1, 2, 4, 8], [0, 3, 5, 3], [0, 0, 0, 0], [2, 9, 6, 9]])
    # sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b))
    assert centerness(sides).tolist() == pytest.approx([1, 0.25, 0, 0, math.sqrt(1 / 3)])


class Recorder(Loss):
    """Remembers what it was given; answers the weighted sum of differences over the normaliser."""

    def __init__(self, decoded: bool = False) -> None:
        super().__init__()
        self.decoded = decoded

    def forward(self, input: Tensor, target: Tensor, weight: Any = None, avg_factor: Any = None) -> Tensor:
        self.input, self.target, self.weight, self.avg_factor = input, target, weight, float(avg_factor)
        return input.sum()


def by_hand(
    decoded: bool = True, objects: int = 2, weight: Tensor | None = None, **options: float
) -> tuple[FCOSLoss, Predictions]:
    """Three points of stride 8 (4, 4), (12, 4), (20, 4); the first two in object 1, (0, 0, 16, 16)."""
    loss = FCOSLoss(loss_cls=Recorder(), loss_box=Recorder(decoded), loss_centerness=Recorder(), **options)
    raw = {
        "cls": torch.arange(6.0).reshape(1, 2, 1, 3),
        "box": torch.tensor([[1.0, 2, 3], [1, 2, 3], [2, 4, 6], [2, 4, 6]]).reshape(1, 4, 1, 3),
        "centerness": torch.tensor([0.5, -0.5, 3]).reshape(1, 1, 1, 3),
    }
    targets = batch(torch.tensor([[[0, 0, 0, 0], [0, 0, 16, 16]]]), torch.tensor([[7, 1]]))
    geometry = Points(strides=(8,))
    where = geometry.priors(raw["cls"][None], targets)
    predictions = Predictions({k: [v] for k, v in raw.items()}, where, geometry.encode, geometry.decode, False, 1)
    index = torch.tensor([[1, 1, -1]]) if objects else torch.tensor([[-1, -1, -2]])
    loss(predictions, Matches(index, weight=weight), targets)
    return loss, predictions


def test_losses_get_targets_weights_and_normalisers() -> None:
    """Distances of the two points: (4, 4, 12, 12) and (12, 4, 4, 12), centerness 1 / 3 each."""
    loss, _ = by_hand()
    parts: Any = loss
    assert parts.loss_cls.target.tolist() == [[1, 1, -1]]
    assert parts.loss_cls.weight.tolist() == [[1, 1, 1]]
    assert parts.loss_cls.input.tolist() == [[[0, 3], [1, 4], [2, 5]]]
    assert parts.loss_cls.avg_factor == 2
    assert parts.loss_centerness.input.tolist() == [[0.5, -0.5, 3]]
    assert parts.loss_centerness.target[0].tolist() == pytest.approx([1 / 3, 1 / 3, 0])
    assert parts.loss_centerness.weight.tolist() == [[1, 1, 0]]
    assert parts.loss_centerness.avg_factor == 2
    assert parts.loss_box.input.tolist() == [[[3, 3, 6, 6], [10, 2, 16, 8], [0, 0, 1, 1]]]
    assert parts.loss_box.target.tolist() == [[[0, 0, 16, 16], [0, 0, 16, 16], [0, 0, 1, 1]]]
    assert parts.loss_box.weight[0].tolist() == pytest.approx([1 / 3, 1 / 3, 0])
    assert parts.loss_box.avg_factor == pytest.approx(2 / 3)


def test_a_loss_of_distances_compares_them_in_strides() -> None:
    parts: Any = by_hand(decoded=False)[0]
    assert parts.loss_box.input[0, :2].tolist() == [[1 / 8, 1 / 8, 2 / 8, 2 / 8], [2 / 8, 2 / 8, 4 / 8, 4 / 8]]
    assert parts.loss_box.target[0, :2].tolist() == [[0.5, 0.5, 1.5, 1.5], [1.5, 0.5, 0.5, 1.5]]


def test_weights_of_boxes_count_as_no_less_than_said() -> None:
    for least, counted in ((0.5, 2 / 3), (1.0, 1.0)):
        parts: Any = by_hand(least_weight=least)[0]
        assert parts.loss_box.avg_factor == pytest.approx(counted)
        assert parts.loss_centerness.avg_factor == 2


def test_ignored_priors_and_weights_of_matches_count() -> None:
    parts: Any = by_hand(objects=0)[0]
    assert parts.loss_cls.weight.tolist() == [[1, 1, 0]]
    assert parts.loss_cls.avg_factor == parts.loss_centerness.avg_factor == 1
    assert parts.loss_box.avg_factor == pytest.approx(1e-6)
    parts = by_hand(weight=torch.tensor([[0.5, 1, 2]]))[0]
    assert parts.loss_cls.weight.tolist() == [[0.5, 1, 2]]
    assert parts.loss_centerness.weight.tolist() == [[0.5, 1, 0]]
    assert parts.loss_box.weight[0].tolist() == pytest.approx([1 / 6, 1 / 3, 0])


def test_normalisers_are_means_over_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("reduce_mean", "share_of"):
        monkeypatch.setattr(fcos, name, lambda value: value * 5)
    parts: Any = by_hand()[0]
    assert parts.loss_cls.avg_factor == 10
    assert parts.loss_box.avg_factor == pytest.approx(10 / 3)


def test_a_softmax_for_centerness_is_named() -> None:
    from detcore_losses.boxes import IoULoss
    from detcore_losses.classification import CrossEntropyLoss, FocalLoss

    with pytest.raises(ConfigError) as error:
        FCOSLoss(loss_cls=FocalLoss(), loss_box=IoULoss(), loss_centerness=CrossEntropyLoss())
    line = "FCOSLoss: loss_centerness: a softmax of one number. Give it use_sigmoid = true."
    assert str(error.value) == line


def test_a_softmax_over_classes_has_a_background_channel() -> None:
    from detcore_losses.boxes import IoULoss
    from detcore_losses.classification import CrossEntropyLoss, FocalLoss

    parts = {"loss_box": IoULoss(), "loss_centerness": CrossEntropyLoss(use_sigmoid=True)}
    assert FCOSLoss(loss_cls=CrossEntropyLoss(), **parts).class_channels(3) == 4
    assert FCOSLoss(loss_cls=FocalLoss(), **parts).class_channels(3) == 3


# ------------------------------------------------------------------------------------------------------- the whole head


def head(loss_box: str = "IoULoss", radius: float = 0.0, **options: Any) -> ComposedHead:
    """Needs detcore-losses: tests of it are skipped where only what the plugin depends on is installed."""
    from detcore_losses import boxes
    from detcore_losses.classification import CrossEntropyLoss, FocalLoss

    torch.manual_seed(0)
    network = FCOSTowers(
        in_channels=4, strides=STRIDES, class_channels=3, channels=8, stacked_convs=2, norm=None, **options
    )
    loss = FCOSLoss(
        loss_cls=FocalLoss(),
        loss_box=getattr(boxes, loss_box)(),
        loss_centerness=CrossEntropyLoss(use_sigmoid=True),
    )
    return ComposedHead(
        num_classes=3,
        loss=loss,
        geometry=Points(strides=STRIDES),
        network=network,
        assigner=FCOSAssigner(radius=radius),
        decoder=NMSDecoder(quality="centerness"),
    )


def maps(size: int = 200, images: int = 2) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(images, 4, -(-size // stride), -(-size // stride)) for stride in STRIDES]


@pytest.mark.parametrize("objects", [0, 3])
@pytest.mark.parametrize("loss_box", ["IoULoss", "GIoULoss", "L1Loss"])
@pytest.mark.parametrize("norm_on_box", [False, True])
def test_no_object_gives_finite_losses_tied_to_every_parameter(objects: int, loss_box: str, norm_on_box: bool) -> None:
    """With no row at all, and with rows that are crowds or padding."""
    model = head(loss_box, norm_on_box=norm_on_box)
    empty = batch(torch.zeros(2, objects, 4), valid=torch.zeros(2, objects, dtype=torch.bool), size=200)
    losses = model.losses(model(maps(), empty), empty)
    assert losses["loss_cls"] > 0
    assert losses["loss_box"] == losses["loss_centerness"] == 0
    sum(losses.values()).backward()  # type: ignore[union-attr]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_500_objects_train() -> None:
    corner = torch.rand(2, 500, 2) * 150
    objects = batch(torch.cat([corner, corner + 1 + torch.rand(2, 500, 2) * 100], -1), size=200)
    model = head(radius=1.5)
    losses = model.losses(model(maps(), objects), objects)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert all(value > 0 for value in losses.values())
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())  # type: ignore[arg-type]


@pytest.mark.parametrize("norm_on_box", [False, True])
def test_boxes_are_in_pixels_on_every_level(norm_on_box: bool) -> None:
    """All weights 0 and biases 0.5: scale s gives exp(0.5 s), or 0.5 s strides."""
    model = head(norm_on_box=norm_on_box)
    nn.init.zeros_(model.get_parameter("network.conv_reg.weight"))
    nn.init.constant_(model.get_parameter("network.conv_reg.bias"), 0.5)
    for level in range(5):
        nn.init.constant_(model.get_parameter(f"network.scales.{level}"), level + 1.0)
    raw = model.network(maps())
    for level, (distance, stride) in enumerate(zip(raw["box"], STRIDES, strict=True)):
        scaled = 0.5 * (level + 1)
        expected = scaled * stride if norm_on_box else math.exp(scaled)
        torch.testing.assert_close(distance, torch.full_like(distance, expected))
    decoded = model(maps(), batch(torch.zeros(2, 0, 4), size=200)).boxes()[0, 0].tolist()
    reach = 4.0 if norm_on_box else math.exp(0.5)
    assert decoded == pytest.approx([4 - reach, 4 - reach, 4 + reach, 4 + reach])


def test_relu_keeps_distances_from_being_negative() -> None:
    model = head(norm_on_box=True)
    nn.init.constant_(model.get_parameter("network.conv_reg.bias"), -100)
    assert all((each == 0).all() for each in model.network(maps())["box"])


@pytest.mark.parametrize(("option", "tower"), [(False, "cls_convs"), (True, "reg_convs")])
def test_centerness_comes_from_the_tower_that_the_option_names(option: bool, tower: str) -> None:
    network = head(centerness_on_box=option).network
    sum(each.sum() for each in network(maps())["centerness"]).backward()  # type: ignore[union-attr]
    moved = {name.split(".")[0] for name, value in network.named_parameters() if value.grad is not None}
    assert moved == {tower, "conv_centerness"}


def test_towers_start_as_the_paper_says_and_take_their_parts() -> None:
    wide = partial(FCOSTowers, in_channels=4, strides=STRIDES, class_channels=3, channels=32)
    network = wide()
    assert network.conv_cls.get_parameter("bias").tolist() == pytest.approx([-math.log(99)] * 3)
    assert float(network.conv_reg.get_parameter("weight").detach().std()) == pytest.approx(0.01, rel=0.1)
    assert {name for name, _ in network.cls_convs.named_parameters() if name.startswith("0.")} == {
        "0.conv.weight",
        "0.norm.weight",
        "0.norm.bias",
    }
    assert "0.conv.bias" in dict(wide(conv_bias=True).cls_convs.named_parameters())
    assert "0.conv.bias" not in dict(wide(conv_bias=False, norm=None).cls_convs.named_parameters())

    class Special(nn.Conv2d):
        pass

    last = wide(last_conv=Special).reg_convs
    assert [isinstance(block.get_submodule("conv"), Special) for block in last] == [False, False, False, True]
    assert wide(stacked_convs=0).conv_cls.in_channels == 4


def test_towers_refuse_what_they_cannot_serve() -> None:
    with pytest.raises(ConfigError) as error:
        head(priors_per_cell=9)
    line = "FCOSTowers: 9 priors per cell; it predicts for one. Give a geometry of one point per cell (Points)."
    assert str(error.value) == line
    with pytest.raises(ConfigError) as error:
        head().network(maps()[:3])
    assert str(error.value) == "FCOSTowers: strides: 3 maps for 5 strides. Give one stride per map."


def test_autocast_keeps_boxes_and_losses_in_full_precision() -> None:
    model, objects = head(), batch(torch.tensor([[[10, 10, 90, 90]], [[0, 0, 199, 150]]]), size=200)
    with torch.autocast("cpu", torch.bfloat16):
        predictions = model(maps(), objects)
        losses = model.losses(predictions, objects)
    assert predictions.raw["cls"][0].dtype == torch.bfloat16
    assert predictions.raw["box"][0].dtype == torch.float32
    exact = model.losses(model(maps(), objects), objects)
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert float(loss.detach()) == pytest.approx(float(exact[name].detach()), rel=0.02)


def test_compiled_training_gives_the_same_losses() -> None:
    model, objects = head(radius=1.5), batch(torch.tensor([[[10, 10, 90, 90]], [[0, 0, 199, 150]]]), size=200)
    step = torch.compile(lambda x: model.losses(model(x, objects), objects), backend="eager")
    exact = model.losses(model(maps(), objects), objects)
    assert {name: loss.item() for name, loss in step(maps()).items()} == pytest.approx(
        {name: loss.item() for name, loss in exact.items()}
    )


# ---------------------------------------------------------------------------------------------- held against torchvision


def test_towers_equal_torchvisions_on_its_weights() -> None:
    """Its head has no learnable scales, predicts centerness from the box tower and distances in strides."""
    torch.manual_seed(0)
    theirs = torchvision_fcos.FCOSHead(32, 1, 3)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.1)
    ours = FCOSTowers(
        in_channels=32, strides=STRIDES, class_channels=3, channels=32, conv_bias=True, centerness_on_box=True,
        norm_on_box=True,
    )  # fmt: skip
    state = theirs.state_dict()
    renamed = {f"scales.{level}": torch.ones(()) for level in range(5)}
    for tower, name in (("cls_convs", "classification_head"), ("reg_convs", "regression_head")):
        for key, value in state.items():
            if key.startswith(f"{name}.conv."):
                number, kind = key.removeprefix(f"{name}.conv.").split(".")
                renamed[f"{tower}.{int(number) // 3}.{'norm' if int(number) % 3 else 'conv'}.{kind}"] = value
    for key, name in (
        ("conv_cls", "classification_head.cls_logits"),
        ("conv_reg", "regression_head.bbox_reg"),
        ("conv_centerness", "regression_head.bbox_ctrness"),
    ):
        renamed |= {f"{key}.{kind}": state[f"{name}.{kind}"] for kind in ("weight", "bias")}
    ours.load_state_dict(renamed)
    torch.manual_seed(1)
    features = [torch.randn(2, 32, 96 // stride + 1, 128 // stride + 1) for stride in STRIDES]
    expected, raw = theirs(features), ours(features)
    for key, name, unit in (
        ("cls", "cls_logits", 1), ("box", "bbox_regression", None), ("centerness", "bbox_ctrness", 1)
    ):  # fmt: skip
        flat = [
            (level / (unit or stride)).permute(0, 2, 3, 1).flatten(1, 2)
            for level, stride in zip(raw[key], STRIDES, strict=True)
        ]
        torch.testing.assert_close(torch.cat(flat, 1), expected[name], rtol=1e-4, atol=1e-4)


def test_assignment_equals_torchvisions() -> None:
    """Its points are the corners of the cells; its matching is read off the call of its head."""
    generator = torch.Generator().manual_seed(3)
    corner = torch.rand(2, 40, 2, generator=generator) * 300
    boxes = torch.cat([corner, corner + 5 + torch.rand(2, 40, 2, generator=generator) * 500], -1)
    features = [torch.zeros(2, 1, 512 // stride, 512 // stride) for stride in STRIDES]
    anchors = AnchorGenerator(tuple((stride,) for stride in STRIDES), ((1.0,),) * 5)(
        ImageList(torch.zeros(2, 3, 512, 512), [(512, 512)] * 2), features
    )
    model = SimpleNamespace(
        center_sampling_radius=1.5, head=SimpleNamespace(compute_loss=lambda targets, outputs, anchors, index: index)
    )
    counts = [level.shape[-1] ** 2 for level in features]
    expected = torchvision_fcos.FCOS.compute_loss(
        model, [{"boxes": each} for each in boxes], {}, anchors, counts  # type: ignore[arg-type]
    )  # fmt: skip
    objects = batch(boxes, size=512)
    where = Points(strides=STRIDES, offset=0.0).priors(features, objects)
    found = FCOSAssigner(radius=1.5)(SimpleNamespace(priors=where), objects).index  # type: ignore[arg-type]
    assert torch.equal(found, torch.stack(expected))  # type: ignore[arg-type]
    assert (found >= 0).sum() > 100
