"""CentripetalNet on HourglassNet-104 computes what the reference computes."""

from __future__ import annotations

import pytest
import torch
from detcore.detectors import OneStage
from detcore.structures import total_loss
from detcore_centripetalnet.centripetalnet import CentripetalHead, CentripetalMaps, CentripetalPair
from detcore_cornernet.cornernet import Pairing
from detcore_cornernet.losses import GaussianFocalLoss
from detcore_hourglass.hourglass import Hourglass
from detcore_losses.boxes import SmoothL1Loss
from parity import golden
from torch import Tensor

LOSSES = {
    "loss_heatmap": "det_loss",
    "loss_offset": "off_loss",
    "loss_guiding": "guiding_loss",
    "loss_centripetal": "centripetal_loss",
}

reference_name = golden.rename(
    (r"^backbone\.stem\.1\b", "backbone.stem.1.0"),
    (r"^backbone\.hourglasses\b", "backbone.hourglass_modules"),
    (r"^backbone\.between\b", "backbone.inters"),
    (r"^backbone\.merge_input\b", "backbone.conv1x1s"),
    (r"^backbone\.merge_output\b", "backbone.remap_convs"),
    (r"^backbone\.outputs\b", "backbone.out_convs"),
    (r"\bconv([12])\.conv\b", r"conv\1"),
    (r"\bconv([12])\.norm\b", r"bn\1"),
    (r"^(backbone.*)\bshortcut\.conv\b", r"\1downsample.0"),
    (r"^(backbone.*)\bshortcut\.norm\b", r"\1downsample.1"),
    (r"\bskip\b", "up1"),
    (r"\bdown\b", "low1"),
    (r"\binner\b", "low2"),
    (r"\bup\b", "low3"),
    (r"\bnorm\b", "bn"),
    (r"\badaption\.points\b", "dcn_offset.conv"),
    (r"\badaption\b", "feat_adaption"),
    (r"\bdcn_offset\.conv\b", "dcn_offset|conv"),
    (r"^head\.top_left\.(\d)\.(\w+)", r"bbox_head.tl_\2.\1"),
    (r"^head\.bottom_right\.(\d)\.(\w+)", r"bbox_head.br_\2.\1"),
    (r"\|conv", ".conv"),
    (r"_pooling\b", "_pool"),
    (r"_offset(\.\d\.\d)", r"_off\1"),
    (r"_(guiding|centripetal)\b", r"_\1_shift"),
    (r"(_heat|_off|_shift)\.(\d)\.1\b", r"\1.\2.1.conv"),
    (r"\bvertical\b", "direction1_conv"),
    (r"\bhorizontal\b", "direction2_conv"),
    (r"\bpooled\b", "aftpool_conv"),
    (r"\bshortcut\b", "conv1"),
    (r"\bout\b", "conv2"),
)


def head() -> CentripetalHead:
    return CentripetalHead(
        num_classes=3,
        in_channels=(256, 256),
        loss_heatmap=GaussianFocalLoss(),
        loss_offset=SmoothL1Loss(),
        loss_guiding=SmoothL1Loss(loss_weight=0.05),
        loss_centripetal=SmoothL1Loss(),
        pairing=Pairing(clip=False),
    )


def in_reference_order(stacks: list[CentripetalPair]) -> list[list[Tensor]]:
    """Per kind of map (top left before bottom right) its stacks."""
    return [
        [getattr(getattr(stack, corner), kind) for stack in stacks]
        for kind in CentripetalMaps._fields
        for corner in CentripetalPair._fields
    ]


@pytest.fixture(scope="module")
def case() -> golden.Case:
    return golden.load("centripetalnet_hourglass104")


@pytest.fixture(scope="module")
def detector() -> OneStage:
    return OneStage(backbone=Hourglass(), head=head())


def test_features_raw_maps_and_detections_are_those_of_the_reference(case: golden.Case, detector: OneStage) -> None:
    case.fill(detector, reference_name)
    detector.eval()
    batch = case.batch()
    with torch.no_grad():
        features = detector.backbone(batch.images)
        predictions = detector.head(features, batch)
    case.check_maps("feats", list(features))
    case.check_maps("raw", in_reference_order(predictions))
    case.check_detections(detector.head.detections(predictions, batch))


def test_losses_and_gradients_are_those_of_the_reference(case: golden.Case, detector: OneStage) -> None:
    """The order of sums decides which cells are the maxima of corner pooling: see CornerNet's test."""
    names = case.fill(detector, reference_name)
    losses = detector.train().losses(case.batch())
    case.check_losses(losses, LOSSES)
    detector.zero_grad()
    total_loss(losses).backward()
    case.check_gradients(detector, names, tolerance=3e-3)


def test_detections_of_constructed_maps_are_those_of_the_reference() -> None:
    case = golden.load("decode_centripetalnet_hourglass104")
    maps = [stacks[-1] for stacks in case.given()]
    pair = CentripetalPair(CentripetalMaps(*maps[::2]), CentripetalMaps(*maps[1::2]))
    case.check_detections(head().detections([pair], case.batch()))
