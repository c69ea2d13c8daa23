"""YOLOv3 on Darknet-53 computes what the reference computes, from images to detections and six training steps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from detcore.detectors import OneStage
from detcore.heads.dense import ComposedHead
from detcore.interfaces import HeadNetwork
from detcore.structures import Predictions, total_loss
from detcore_darknet.darknet import Darknet
from detcore_losses.boxes import MSELoss
from detcore_losses.classification import CrossEntropyLoss
from detcore_yolov3.yolov3 import GridAssigner, YOLOAnchors, YOLOV3Decoder, YOLOV3Loss, YOLOV3Neck, YOLOV3Towers
from parity import golden
from torch import Tensor

CLASSES = 3
STRIDES = (8, 16, 32)
LOSSES = {name: name for name in ("loss_cls", "loss_conf", "loss_xy", "loss_wh")}

reference_name = golden.rename(
    (r"\.norm\.", ".bn."),
    (r"^backbone\.stem\.", "backbone.conv1."),
    (r"^backbone\.stage(\d)\.0\.", r"backbone.conv_res_block\1.conv."),
    *((rf"^backbone\.stage(\d)\.{block + 1}\.", rf"backbone.conv_res_block\1.res{block}.") for block in range(8)),
    *((rf"^neck\.detect\.{i}\.(\d)", rf"neck.detect{i + 1}.conv\1") for i in range(3)),
    *((rf"^(neck\.detect\d)\.conv{i}\.", rf"\1.layer{i + 1}.") for i in range(5)),
    (r"\.layer(\d)\.", r".conv\1."),
    *((rf"^neck\.reduce\.{i}\.", f"neck.conv{i + 1}.") for i in range(2)),
    *((rf"^head\.network\.(bridge|predict)\.{i}\.", rf"bbox_head.\1.level{2 - i}.") for i in range(3)),
    (r"^bbox_head\.bridge\.level", "bbox_head.convs_bridge."),
    (r"^bbox_head\.predict\.level", "bbox_head.convs_pred."),
)


def head(network: HeadNetwork, **decoder: int) -> ComposedHead:
    def entropy(weight: float = 1.0) -> CrossEntropyLoss:
        return CrossEntropyLoss(use_sigmoid=True, reduction="sum", loss_weight=weight)

    size = MSELoss(reduction="sum", loss_weight=2.0)
    return ComposedHead(
        num_classes=CLASSES,
        loss=YOLOV3Loss(loss_cls=entropy(), loss_conf=entropy(), loss_xy=entropy(2.0), loss_wh=size),
        geometry=YOLOAnchors(strides=STRIDES),
        network=network,
        assigner=GridAssigner(),
        decoder=YOLOV3Decoder(clip=False, **decoder),
    )


def detector() -> OneStage:
    backbone = Darknet()
    neck = YOLOV3Neck(in_channels=backbone.out_channels, in_strides=backbone.strides)
    network = YOLOV3Towers(
        in_channels=neck.out_channels, strides=neck.strides, class_channels=CLASSES, priors_per_cell=3
    )
    return OneStage(backbone=backbone, neck=neck, head=head(network))


def joined(predictions: Predictions) -> list[list[Tensor]]:
    """The numbers of an anchor side by side, deepest level first."""
    levels = zip(*(predictions.raw[name] for name in ("box", "objectness", "cls")), strict=True)
    return [[torch.cat([part.unflatten(1, (3, -1)) for part in level], 2).flatten(1, 2) for level in levels][::-1]]


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_features_raw_outputs_losses_gradients_steps_and_detections() -> None:
    """The order of sums decides on which side of zero a leaky ReLU is, so the number of threads is the reference's: with
    one thread the norm of all gradients is off by 6e-4, single ones by 6e-3, the last steps by 4e-3."""
    case = golden.load("yolov3_d53")
    model = detector()
    names = case.fill(model, reference_name)
    batch = case.batch()
    model.eval()
    with torch.no_grad():
        features = model.neck(model.backbone(batch.images))
        predictions = model.head(features, batch)
    case.check_maps("feats", list(features[::-1]))
    case.check_maps("raw", joined(predictions))
    case.check_detections(model.head.detections(predictions, batch))
    losses = model.train().losses(batch)
    case.check_losses(losses, LOSSES)
    total_loss(losses).backward()
    case.check_gradients(model, names)
    case.check_curve(model, batch)


def test_decoding_alone() -> None:
    case = golden.load("decode_yolov3_d53")
    (levels,) = case.given()
    parts = [level.unflatten(1, (3, -1)).split((4, 1, CLASSES), 2) for level in reversed(levels)]
    names = ("box", "objectness", "cls")
    given = {name: [level[part].flatten(1, 2) for level in parts] for part, name in enumerate(names)}
    composed, batch = head(golden.Given(given), nms_pre=60, max_detections=400), case.batch()
    case.check_detections(composed.detections(composed(given["cls"], batch), batch))


def test_the_case_would_notice_another_assignment() -> None:
    """A deliberate fault, so that the tests above are known to look."""
    case = golden.load("yolov3_d53")
    model = detector()
    case.fill(model, reference_name)
    model.head.get_submodule("assigner").neg_iou = (0.0, 0.4)  # type: ignore[assignment]
    with torch.no_grad(), pytest.raises(AssertionError, match="loss_conf"):
        case.check_losses(model.losses(case.batch()), LOSSES)
