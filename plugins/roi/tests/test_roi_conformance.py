"""Second stages composed of this plugin's parts keep the contract of RoI heads."""

from __future__ import annotations

from collections.abc import Sequence

from detcore.heads.roi import ComposedRoIHead, RoIStage
from detcore.interfaces import Channels, NumClasses, Sampler, Strides
from detcore.testing import check_roi_head
from detcore_dense.deltas import DeltaXYWHCoder
from detcore_dense.max_iou import MaxIoUAssigner
from detcore_dense.samplers import OHEMSampler, RandomSampler
from detcore_losses.boxes import GIoULoss, L1Loss
from detcore_losses.classification import CrossEntropyLoss
from detcore_roi.box_head import ConvFCBoxHead, Shared2FCBoxHead
from detcore_roi.decoder import RoINMSDecoder
from detcore_roi.extractor import SingleLevelRoIExtractor
from detcore_roi.mask import FCNMaskHead, MaskBranch


def extractor(channels: int, strides: Sequence[int]) -> SingleLevelRoIExtractor:
    return SingleLevelRoIExtractor(in_channels=channels, strides=strides[:4], roi_size=3)


def stage(
    channels: int,
    strides: Sequence[int],
    classes: int,
    *,
    iou: float = 0.5,
    decoded: bool = False,
    sampler: Sampler | None = None,
) -> RoIStage:
    sizes = {
        "in_channels": channels,
        "roi_size": 3,
        "class_channels": classes + 1,
        "box_channels": 4 if decoded else 4 * classes,
    }
    return RoIStage(
        num_classes=classes,
        loss_cls=CrossEntropyLoss(),
        loss_box=GIoULoss() if decoded else L1Loss(),
        extractor=extractor(channels, strides),
        coder=DeltaXYWHCoder(stds=[0.1, 0.1, 0.2, 0.2]),
        box_head=ConvFCBoxHead(**sizes, shared_convs=0, fc_channels=16)
        if decoded
        else Shared2FCBoxHead(**sizes, fc_channels=16),
        assigner=MaxIoUAssigner(pos_iou=iou, neg_iou=iou, match_low_quality=False),
        sampler=sampler or RandomSampler(num=64, pos_fraction=0.25),
        class_agnostic=decoded,
    )


def faster_rcnn(
    *, in_channels: Channels[int], strides: Strides[Sequence[int]], num_classes: NumClasses
) -> ComposedRoIHead:
    stages = [stage(in_channels, strides, num_classes)]
    return ComposedRoIHead(num_classes=num_classes, stages=stages, decoder=RoINMSDecoder(score_threshold=0.1))


def cascade_with_masks(
    *, in_channels: Channels[int], strides: Strides[Sequence[int]], num_classes: NumClasses
) -> ComposedRoIHead:
    stages = [stage(in_channels, strides, num_classes, iou=iou, decoded=True) for iou in (0.5, 0.6)]
    mask = MaskBranch(
        num_classes=num_classes,
        extractor=extractor(in_channels, strides),
        mask_head=FCNMaskHead(in_channels=in_channels, class_channels=num_classes, num_convs=1, conv_channels=8),
        loss_mask=CrossEntropyLoss(use_sigmoid=True),
    )
    decoder = RoINMSDecoder(score_threshold=0.1)
    return ComposedRoIHead(num_classes=num_classes, stages=stages, decoder=decoder, branches={"mask": mask})


def with_hard_examples(
    *, in_channels: Channels[int], strides: Strides[Sequence[int]], num_classes: NumClasses
) -> ComposedRoIHead:
    stages = [stage(in_channels, strides, num_classes, sampler=OHEMSampler(num=16, pos_fraction=0.25))]
    return ComposedRoIHead(num_classes=num_classes, stages=stages, decoder=RoINMSDecoder(score_threshold=0.1))


def test_one_stage_of_boxes_is_a_roi_head() -> None:
    check_roi_head(faster_rcnn, compiled=True)


def test_a_cascade_with_masks_is_a_roi_head() -> None:
    check_roi_head(cascade_with_masks)


def test_one_that_samples_by_losses_is_a_roi_head() -> None:
    check_roi_head(with_hard_examples)
