"""Faster R-CNN from TOML: what flows, five levels of which the second stage reads four, batches of every extreme."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from detcore.build import plan
from detcore.catalog import Catalog
from detcore.config import load
from detcore.errors import UserError
from detcore.interfaces import Detector, Flow
from detcore.plugins import discover
from detcore.structures import Batch, Detections, Targets, total_loss
from torch import Tensor, nn

MODEL = """
[model]
type = "TwoStage"
backbone = { type = "ResNet", depth = 18, width = 8 }
neck = { type = "FPN", out_channels = 16, num_outs = 5, extra = "max_pool" }

[model.rpn_head]
type = "ComposedHead"
geometry = { type = "Anchors", scales = [8] }
network = { type = "RPNConv", feat_channels = 16 }
assigner = { type = "MaxIoUAssigner", pos_iou = 0.7, neg_iou = 0.3, min_pos_iou = 0.3 }
sampler = { type = "RandomSampler", num = 256, pos_fraction = 0.5 }
decoder = { type = "RPNDecoder", nms_pre = 100, max_proposals = 50, train = { max_proposals = 40 } }

[model.rpn_head.loss]
type = "DenseBoxLoss"
loss_cls = { type = "CrossEntropyLoss", use_sigmoid = true }
loss_box = { type = "L1Loss" }
normaliser = "sampled"

[model.roi_head]
type = "ComposedRoIHead"
decoder = { type = "RoINMSDecoder", score_threshold = 0.0 }

[[model.roi_head.stages]]
type = "RoIStage"
extractor = { type = "SingleLevelRoIExtractor", roi_size = 5 }
box_head = { type = "Shared2FCBoxHead", fc_channels = 32 }
coder = { type = "DeltaXYWHCoder", stds = [0.1, 0.1, 0.2, 0.2] }
assigner = { type = "MaxIoUAssigner", pos_iou = 0.5, neg_iou = 0.5, match_low_quality = false }
sampler = { type = "RandomSampler", num = 64, pos_fraction = 0.25 }
loss_cls = { type = "CrossEntropyLoss" }
loss_box = { type = "L1Loss" }
"""
CLASSES = 6


@attrs.frozen(eq=False)
class Root:
    model: Detector


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return discover()


@pytest.fixture
def built(tmp_path: Path, catalog: Catalog) -> Any:
    def build(text: str = MODEL) -> Any:
        (tmp_path / "a.toml").write_text(text)
        config = load(str(tmp_path / "a.toml"), resolve_dist=lambda dist, path: Path(path))
        torch.manual_seed(0)
        return plan(config, catalog, Root).build("model", Flow().having("classes", num_classes=CLASSES))

    return build


def stage_with(line: str) -> str:
    return MODEL.replace('type = "RoIStage"', f'type = "RoIStage"\n{line}')


def batch(objects: int, side: int = 128, images: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(objects)
    corner = torch.rand(images, objects, 2, generator=generator) * side * 0.7
    boxes = torch.cat([corner, corner + 4 + torch.rand(images, objects, 2, generator=generator) * side * 0.3], 2)
    labels = torch.randint(0, CLASSES, (images, objects), generator=generator)
    valid = torch.ones(images, objects, dtype=torch.bool)
    size = torch.full((images, 2), float(side))
    pixels = torch.randn(images, 3, side, side, generator=generator)
    targets = Targets(boxes, labels, valid, torch.zeros_like(valid))
    return Batch(pixels, size, size, torch.ones_like(size), list(range(images)), targets)


# ----------------------------------------------------------------------------------------------------------- what flows


def test_nobody_writes_a_number_twice(built: Any) -> None:
    model = built()
    stage = model.roi_head.stages[0]
    assert model.neck.strides == (4, 8, 16, 32, 64)
    assert (model.rpn_head.network.cls.out_channels, model.rpn_head.network.box.out_channels) == (3, 12)
    assert (stage.extractor.out_channels, stage.extractor.strides) == (16, (4, 8, 16, 32))
    assert stage.box_head.shared[1].in_features == 16 * 5 * 5
    assert (stage.box_head.cls.out_features, stage.box_head.box.out_features) == (CLASSES + 1, CLASSES * 4)


def test_class_agnostic_boxes_flow_to_the_box_head(built: Any) -> None:
    assert built(stage_with("class_agnostic = true")).roi_head.stages[0].box_head.box.out_features == 4


@pytest.mark.parametrize(("line", "strides"), [("num_levels = 1", (4,)), ("num_levels = 5", (4, 8, 16, 32, 64))])
def test_the_number_of_levels_decides_what_the_extractor_gets(built: Any, line: str, strides: tuple[int, ...]) -> None:
    assert built(stage_with(line)).roi_head.stages[0].extractor.strides == strides


@pytest.mark.parametrize(("line", "level"), [("num_levels = 4", 3), ("num_levels = 5", 4)])
def test_a_region_above_896_pixels_is_cut_from_the_fourth_level_of_five(built: Any, line: str, level: int) -> None:
    """The pyramid's maps hold their level's number, so what is cut out says where it is from."""
    stage = built(stage_with(line)).roi_head.stages[0]
    maps = [
        torch.full((1, 16, 1024 // stride, 1024 // stride), float(i)) for i, stride in enumerate((4, 8, 16, 32, 64))
    ]
    seen: list[Tensor] = []
    stage.box_head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]()))
    stage(maps, torch.tensor([[0.0, 50.0, 50.0, 950.0, 950.0]]))
    assert seen[0].unique().tolist() == [level]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "fc_channels = 32",
            "fc_channels = 32, roi_size = 7",
            "box_head.roi_size: 7 given to box_head Shared2FCBoxHead",
        ),
        (
            'loss_cls = { type = "CrossEntropyLoss" }',
            'loss_cls = { type = "FocalLoss" }',
            "loss_cls: FocalLoss reads sigmoids. Give a loss of a softmax.",
        ),
        (
            'type = "RoIStage"',
            'type = "RoIStage"\nnum_levels = 0',
            "num_levels: found 0, wanted int (input should be greater than 0)",
        ),
    ],
)
def test_what_contradicts_is_refused_by_address(built: Any, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        built(MODEL.replace(old, new))
    assert message in str(error.value)
    assert "a.toml: model.roi_head.stages" in str(error.value)


# --------------------------------------------------------------------------------------------------- batches of extremes


def proposals(count: int, images: int = 2, side: float = 128.0) -> list[Detections]:
    generator = torch.Generator().manual_seed(count)
    corner = torch.rand(images, count, 2, generator=generator) * side * 0.8
    boxes = torch.cat([corner, corner + torch.rand(images, count, 2, generator=generator) * side * 0.2], 2)
    return [Detections(each, torch.ones(count), torch.zeros(count).long()) for each in boxes]


def check_losses(module: nn.Module, losses: dict[str, Tensor]) -> None:
    total_loss(losses).backward()
    assert all(value.isfinite() for value in losses.values())
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("objects", [0, 1, 300])
@pytest.mark.parametrize("line", ["", "class_agnostic = true", "add_ground_truth = false"])
def test_training_is_finite_and_tied_to_every_parameter(built: Any, objects: int, line: str) -> None:
    model = built(stage_with(line)).train()
    check_losses(model, model.losses(batch(objects)))


@pytest.mark.parametrize("count", [0, 1000])
@pytest.mark.parametrize("objects", [0, 300])
@pytest.mark.parametrize("line", ["", "class_agnostic = true", "add_ground_truth = false"])
def test_any_number_of_proposals(built: Any, count: int, objects: int, line: str) -> None:
    head = built(stage_with(line)).roi_head
    maps = [torch.randn(2, 16, 128 // stride, 128 // stride, requires_grad=True) for stride in (4, 8, 16, 32, 64)]
    check_losses(head, head.losses(maps, proposals(count), batch(objects)))
    assert all(each.grad is not None for each in maps[:4])
    found = head.detections(maps, proposals(count), batch(objects))
    assert [len(each) for each in found] == ([0, 0] if count == 0 else [100, 100])


def test_the_sampler_bounds_the_regions_that_are_trained_on(built: Any) -> None:
    stage = built().roi_head.stages[0]
    samples = stage.sample(proposals(1000), batch(300))
    assert torch.bincount(samples.rois[:, 0].long()).tolist() == [64, 64]
    assert samples.positive.sum() == 32


def test_more_proposals_are_made_for_detecting_than_for_training(built: Any) -> None:
    model = built().eval()
    asked: dict[bool, list[int]] = {}
    decode = model.rpn_head.detections

    def noted(predictions: Any, of: Batch, *, train: bool = False) -> Any:
        found = decode(predictions, of, train=train)
        asked[train] = [len(each) for each in found]
        return found

    model.rpn_head.detections = noted
    model.losses(batch(2))
    model.detections(batch(2))
    assert asked == {True: [40, 40], False: [50, 50]}


def test_detections_lie_in_their_image_and_the_best_come_first(built: Any) -> None:
    model = built().eval()
    of_batch = attrs.evolve(batch(2), sizes=torch.tensor([[128.0, 100.0], [60.0, 128.0]]))
    for found, (height, width) in zip(model.detections(of_batch), of_batch.sizes.tolist(), strict=True):
        assert found.boxes.min() >= 0
        assert found.boxes[:, [0, 2]].max() <= width
        assert found.boxes[:, [1, 3]].max() <= height
        assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
        assert not found.boxes.requires_grad


def test_bfloat16_autocast_keeps_boxes_in_full_precision(built: Any) -> None:
    model = built().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.losses(batch(3))
        found = model.detections(batch(3))
    check_losses(model, losses)
    assert {each.boxes.dtype for each in found} == {torch.float32}


def test_three_stages_from_toml(built: Any) -> None:
    head, stage = MODEL.split("[[model.roi_head.stages]]")
    stages = [
        stage.replace("pos_iou = 0.5, neg_iou = 0.5", f"pos_iou = {iou}, neg_iou = {iou}") + f"weight = {weight}\n"
        for iou, weight in ((0.5, 1.0), (0.6, 0.5), (0.7, 0.25))
    ]
    model = built("[[model.roi_head.stages]]".join([head, *stages])).train()
    losses = model.losses(batch(3))
    assert {name for name in losses if name.startswith("s2")} == {"s2.loss_cls", "s2.loss_box", "s2.acc"}
    check_losses(model, losses)
    assert len(model.detections(batch(3))) == 2


def test_the_box_head_starts_near_zero_and_its_shared_layers_keep_the_variance(built: Any) -> None:
    head = built().roi_head.stages[0].box_head
    with torch.no_grad():
        logits, deltas = head(lambda scale=1.0: torch.randn(200, 16, 5, 5))
    assert logits.shape == (200, CLASSES + 1)
    assert float(logits.std()) < 0.3
    assert float(deltas.std()) < float(logits.std()) / 5
    assert abs(float(head.shared[1].weight.detach().std()) - (2 / (16 * 25 + 32)) ** 0.5) < 0.005
    assert all(not layer.bias.any() for layer in (head.shared[1], head.shared[3], head.cls, head.box))
