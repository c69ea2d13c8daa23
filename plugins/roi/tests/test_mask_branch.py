"""Masks in the second stage: wired from TOML, values by hand, batches of every extreme."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from detcore.build import plan
from detcore.catalog import Catalog
from detcore.config import load
from detcore.errors import DataError, UserError
from detcore.interfaces import Detector, Extract, Flow, RoIExtractor
from detcore.layers import GN
from detcore.plugins import discover
from detcore.structures import Batch, Detections, Polygons, RoISamples, Targets, total_loss
from detcore_losses.classification import CrossEntropyLoss
from detcore_losses.dice import DiceLoss
from detcore_roi import mask as module
from detcore_roi.mask import FCNMaskHead, MaskBranch, MaskHead
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
decoder = { type = "RPNDecoder", nms_pre = 100, max_proposals = 50 }

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

[model.roi_head.branches.mask]
type = "MaskBranch"
extractor = { type = "SingleLevelRoIExtractor", roi_size = 14 }
mask_head = { type = "FCNMaskHead", conv_channels = 8 }
loss_mask = { type = "CrossEntropyLoss", use_sigmoid = true }
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
    def build(old: str = "", new: str = "") -> Any:
        (tmp_path / "a.toml").write_text(MODEL.replace(old, new))
        config = load(str(tmp_path / "a.toml"), resolve_dist=lambda dist, path: Path(path))
        torch.manual_seed(0)
        return plan(config, catalog, Root).build("model", Flow().having("classes", num_classes=CLASSES))

    return build


AGNOSTIC = ('type = "MaskBranch"', 'type = "MaskBranch"\nclass_agnostic = true')


def batch(objects: int, *, outlines: bool = True, side: int = 128, images: int = 2) -> Batch:
    """Every object fills the left half of its box."""
    generator = torch.Generator().manual_seed(objects)
    corner = torch.rand(images, objects, 2, generator=generator) * side * 0.6
    boxes = torch.cat([corner, corner + 8 + torch.rand(images, objects, 2, generator=generator) * side * 0.3], 2)
    labels = torch.randint(0, CLASSES, (images, objects), generator=generator)
    valid = torch.ones(images, objects, dtype=torch.bool)
    size = torch.full((images, 2), float(side))
    pixels = torch.randn(images, 3, side, side, generator=generator)
    masks = [left_halves(each) if outlines else bitmaps(each, side) for each in boxes]
    targets = Targets(boxes, labels, valid, torch.zeros_like(valid), masks)
    return Batch(pixels, size, size, torch.ones_like(size), list(range(images)), targets)


def halved(boxes: Tensor) -> Tensor:
    return torch.cat([boxes[:, :2], (boxes[:, :1] + boxes[:, 2:3]) / 2, boxes[:, 3:]], 1)


def left_halves(boxes: Tensor) -> Polygons:
    points = halved(boxes)[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)
    count = torch.arange(len(boxes) + 1)
    return Polygons(points, count * 4, count[:-1])


def bitmaps(boxes: Tensor, side: int) -> Tensor:
    masks = torch.zeros(len(boxes), side, side, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, halved(boxes).round().int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    return masks


# ----------------------------------------------------------------------------------------------------------- what flows


def test_nobody_writes_a_number_twice(built: Any) -> None:
    branch = built().roi_head.branches["mask"]
    assert branch.extractor.strides == (4, 8, 16, 32)
    assert (branch.mask_head.convs[0].conv.in_channels, len(branch.mask_head.convs)) == (16, 4)
    assert branch.mask_head.logits.out_channels == CLASSES


def test_class_agnostic_masks_have_one_channel(built: Any) -> None:
    model = built(*AGNOSTIC).train()
    assert model.roi_head.branches["mask"].mask_head.logits.out_channels == 1
    check_losses(model, model.losses(batch(3)))
    (found, _) = model.detections(batch(2))
    assert found.masks.shape == (len(found), 28, 28)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'loss_mask = { type = "CrossEntropyLoss", use_sigmoid = true }',
            'loss_mask = { type = "CrossEntropyLoss" }',
            "loss_mask: CrossEntropyLoss reads a softmax. Give a loss of sigmoids (CrossEntropyLoss: use_sigmoid = true).",
        ),
        (
            "conv_channels = 8",
            "conv_channels = 8, in_channels = 32",
            "mask_head.in_channels: 32 given to mask_head FCNMaskHead",
        ),
    ],
)
def test_what_contradicts_is_refused_by_address(built: Any, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        built(old, new)
    assert message in str(error.value)
    assert "a.toml: model.roi_head.branches.mask" in str(error.value)


def test_data_without_outlines_or_masks_is_refused(built: Any) -> None:
    given = batch(2)
    bare = attrs.evolve(given, targets=attrs.evolve(given.truth, masks=None))
    with pytest.raises(DataError) as error:
        built().train().losses(bare)
    assert str(error.value) == (
        "mask branch: the data has neither outlines nor masks. Have the dataset give them "
        '(CocoDataset: segmentation = "polygons").'
    )


# ------------------------------------------------------------------------------------------------------ values by hand


class Cut(RoIExtractor):
    """One number per region: the left edge of its box."""

    out_channels, roi_size = 1, 1

    def forward(self, features: Any, rois: Tensor, scale: float = 1.0) -> Tensor:
        return rois[:, 1, None, None, None]


class Told(MaskHead):
    """The same logits (K, 2, 2) for each region."""

    def __init__(self, logits: list[list[list[float]]]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, extract: Extract) -> Tensor:
        return self.logits + 0 * extract()


LOGITS = [[[5.0, 5.0], [5.0, 5.0]], [[0.0, 1.0], [-1.0, 2.0]]]
"""Of classes 0 and 1."""


def branch(**parts: Any) -> MaskBranch:
    given = {"num_classes": 2, "extractor": Cut(), "mask_head": Told(LOGITS)}
    return MaskBranch(**{**given, "loss_mask": CrossEntropyLoss(use_sigmoid=True), **parts})


def samples(weight: float = 1.0) -> tuple[RoISamples, Batch]:
    """Two regions of the only object, whose left half is set, and one of background."""
    box = torch.tensor([[0.0, 0, 8, 8]])
    valid = torch.ones(1, 1, dtype=torch.bool)
    truth = Targets(box[None], valid.long(), valid, ~valid, [left_halves(box)])
    size = torch.full((1, 2), 8.0)
    rois = torch.tensor([[0.0, 0, 0, 8, 8], [0, 0, 0, 4, 8], [0, 4, 0, 8, 8]])
    made = RoISamples(
        rois=rois,
        index=torch.tensor([0, 0, -1]),
        labels=torch.tensor([1, 1, 2]),
        boxes=box.expand(3, -1),
        given=torch.zeros(3, dtype=torch.bool),
        weight=torch.tensor([1.0, weight, 1.0]),
    )
    return made, Batch(torch.zeros(1, 3, 8, 8), size, size, torch.ones_like(size), [0], truth)


def entropy(logit: float, wanted: int) -> float:
    return math.log1p(math.exp(-logit if wanted else logit))


FIRST = (entropy(0, 1) + entropy(1, 0) + entropy(-1, 1) + entropy(2, 0)) / 4
SECOND = (entropy(0, 1) + entropy(1, 1) + entropy(-1, 1) + entropy(2, 1)) / 4


def test_the_loss_is_the_mean_over_the_regions_that_answer_for_an_object_of_their_own_class() -> None:
    part, outputs = branch(), dict[str, Tensor]()
    losses = part.losses([], samples()[0], outputs, samples()[1])
    assert float(losses["loss"].detach()) == pytest.approx((FIRST + SECOND) / 2, rel=1e-6)
    assert outputs["mask"].tolist() == [LOGITS[1]] * 2
    assert outputs["mask_targets"].tolist() == [[[1, 0], [1, 0]], [[1, 1], [1, 1]]]
    losses["loss"].backward()
    assert part.mask_head.logits.grad[0].abs().sum() == 0  # the other class
    assert part.mask_head.logits.grad[1].abs().sum() > 0


def test_regions_weigh_what_the_sampler_says() -> None:
    given, of_batch = samples(weight=0.5)
    loss = branch().losses([], given, {}, of_batch)["loss"]
    assert float(loss.detach()) == pytest.approx((FIRST + SECOND / 2) / 2, rel=1e-6)


def test_a_region_counts_the_same_on_every_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two regions here and six on another rank: what is divided by is 4, and the mean of both ranks' losses is right."""
    monkeypatch.setattr(module, "share_of", lambda count: (count + 6) / 2)
    loss = branch().losses([], samples()[0], {}, samples()[1])["loss"]
    assert float(loss.detach()) == pytest.approx((FIRST + SECOND) / 4, rel=1e-6)


def test_another_loss_counts_regions_too() -> None:
    given, of_batch = samples()
    loss = branch(loss_mask=DiceLoss()).losses([], given, {}, of_batch)["loss"]
    own = torch.tensor([LOGITS[1]] * 2)
    wanted = torch.tensor([[[1.0, 0], [1, 0]], [[1, 1], [1, 1]]])
    assert float(loss.detach()) == pytest.approx(float(DiceLoss()(own, wanted)), rel=1e-6)


def test_a_detection_has_the_probabilities_of_its_class() -> None:
    found = [
        Detections(torch.rand(2, 4), torch.tensor([0.9, 0.8]), torch.tensor([1, 0])),
        Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)),
        Detections(torch.rand(1, 4), torch.tensor([0.7]), torch.tensor([1])),
    ]
    outputs: dict[str, Tensor] = {}
    with torch.no_grad():
        made = branch().detections([], found, outputs, samples()[1])
    sigmoid = torch.tensor(LOGITS).sigmoid()
    assert [None if each.masks is None else each.masks.shape for each in made] == [(2, 2, 2), (0, 2, 2), (1, 2, 2)]
    masks = torch.cat([each.masks for each in made if each.masks is not None])
    torch.testing.assert_close(masks, sigmoid[[1, 0, 1]])
    assert outputs["mask"].tolist() == [LOGITS[1], LOGITS[0], LOGITS[1]]
    assert all(torch.equal(new.boxes, old.boxes) for new, old in zip(made, found, strict=True))


# --------------------------------------------------------------------------------------------------- batches of extremes


def check_losses(module: nn.Module, losses: dict[str, Tensor]) -> None:
    total_loss(losses).backward()
    assert all(value.isfinite() for value in losses.values())
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("objects", [0, 1, 200])
@pytest.mark.parametrize("outlines", [True, False], ids=["outlines", "bitmaps"])
def test_training_is_finite_and_tied_to_every_parameter(built: Any, objects: int, outlines: bool) -> None:
    model = built().train()
    losses = model.losses(batch(objects, outlines=outlines))
    assert (float(losses["mask_loss"].detach()) > 0) == (objects > 0)
    check_losses(model, losses)


def test_no_proposal_and_no_detection(built: Any) -> None:
    head = built().roi_head
    maps = [torch.randn(2, 16, 128 // stride, 128 // stride) for stride in (4, 8, 16, 32, 64)]
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    check_losses(head, head.losses(maps, [nothing] * 2, batch(0)))
    found = head.detections(maps, [nothing] * 2, batch(0))
    assert [each.masks.shape for each in found] == [(0, 28, 28)] * 2


def test_detections_have_masks_of_their_own_in_full_precision(built: Any) -> None:
    model = built().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.detections(batch(2))
    for each in found:
        assert each.masks.shape == (len(each), 28, 28)
        assert each.masks.dtype == torch.float32
        assert 0 < float(each.masks.min()) < float(each.masks.max()) < 1
        assert not each.masks.requires_grad


def test_bfloat16_autocast_trains(built: Any) -> None:
    model = built().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.losses(batch(3))
    assert losses["mask_loss"].dtype == torch.float32
    check_losses(model, losses)


class Ramp(RoIExtractor):
    """From -1 at the left of a region to 1 at its right."""

    out_channels, roi_size = 1, 14

    def forward(self, features: Any, rois: Tensor, scale: float = 1.0) -> Tensor:
        return torch.linspace(-1, 1, 14).expand(len(rois), 1, 14, 14)


def test_masks_are_learnt() -> None:
    """The left half of each box: after a few steps it is what comes out."""
    torch.manual_seed(0)
    part = branch(
        extractor=Ramp(), mask_head=FCNMaskHead(in_channels=1, class_channels=CLASSES, num_convs=1, conv_channels=8)
    )
    given = batch(12)
    boxes, labels = given.truth.boxes.flatten(0, 1), given.truth.labels.flatten()
    made = RoISamples(
        rois=torch.cat([torch.arange(2.0).repeat_interleave(12)[:, None], boxes], 1),
        index=torch.arange(12).repeat(2),
        labels=labels,
        boxes=boxes,
        given=torch.zeros(24, dtype=torch.bool),
        weight=torch.ones(24),
    )
    optimizer = torch.optim.Adam(part.parameters(), lr=0.05)
    for _ in range(100):
        loss = part.losses([], made, {}, given)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.05
    (found,) = part.detections([], [Detections(boxes[:1], torch.ones(1), labels[:1])], {}, given)
    assert found.masks is not None
    assert torch.equal(found.masks[0] > 0.5, torch.arange(28).lt(14).expand(28, -1))


# -------------------------------------------------------------------------------------------------------- the mask head


def test_the_mask_head_doubles_the_side_and_keeps_the_variance() -> None:
    torch.manual_seed(0)
    head = FCNMaskHead(in_channels=16, class_channels=3, conv_channels=32)
    with torch.no_grad():
        logits = head(lambda scale=1.0: torch.randn(50, 16, 14, 14))
    assert logits.shape == (50, 3, 28, 28)
    assert 0.3 < float(logits.std()) < 30
    assert not any(layer.bias.any() for layer in (head.upsample, head.logits, head.convs[0].conv))


def test_norms_and_other_depths() -> None:
    head = FCNMaskHead(in_channels=16, class_channels=3, num_convs=0, conv_channels=32, norm=GN)
    assert head(lambda scale=1.0: torch.randn(2, 16, 7, 7)).shape == (2, 3, 14, 14)
    head = FCNMaskHead(in_channels=16, class_channels=3, num_convs=1, conv_channels=32, norm=GN)
    assert isinstance(head.convs[0].norm, nn.GroupNorm)
    assert head.convs[0].conv.bias is None
