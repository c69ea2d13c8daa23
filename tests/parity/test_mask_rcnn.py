"""Mask R-CNN with ResNet-50 and with Swin-T computes what the reference computes, from images to masks and training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from detcore.heads.roi import as_rois
from detcore.masks import paste
from detcore.structures import Batch, Detections
from parity import golden
from parity.two_stage import LOSSES
from torch import Tensor

MASKS = 100
"""Of how many regions, the best, the reference keeps masks."""


def areas(found: Sequence[Detections], batch: Batch) -> list[Tensor]:
    """Pixels of each mask in its original image."""
    counts = []
    for its, size, scale in zip(found, batch.sizes, batch.scale, strict=True):
        height, width = (size * scale.flip(0)).int().tolist()
        boxes, masks = its.boxes * scale.repeat(2), its.masks
        assert masks is not None
        pasted = [paste(mask, box, (height, width)) for mask, box in zip(masks, boxes, strict=True)]
        counts.append(torch.stack([bitmap.sum() for bitmap in pasted]))
    return counts


@pytest.mark.parametrize("name", ["mask_rcnn_r50", "mask_rcnn_swin_t"])
def test_features_raw_outputs_detections_losses_gradients_and_curve(name: str, tmp_path: Path) -> None:
    case = golden.load(name)
    model: Any
    model, translated = case.translated(tmp_path)
    names = case.fill_translated(model, translated)
    batch = case.batch()
    model.eval()
    with torch.no_grad():
        features = model.neck(model.backbone(batch.images))
        case.check_maps("feats", list(features))
        proposals = model.rpn_head.detections(model.rpn_head(features, batch), batch)
        rois, branch = as_rois([each.boxes for each in proposals]), model.roi_head.branches["mask"]
        logits, deltas = model.roi_head.stages[0](features, rois)
        order = case.order({"raw.0.0": logits, "raw.0.1": deltas}, [each.scores for each in proposals])
        masks = branch(features, rois[order[:MASKS]])
        case.check_maps("raw", [[logits[order], deltas[order], masks]])
        found = model.roi_head.detections(features, proposals, batch)
    counts = areas(found, batch)
    case.check_detections(found, counts)
    assert all((each > 1000).any() for each in counts)  # most masks of these weights are empty
    with pytest.raises(AssertionError, match="has no partner"):  # a deliberate fault
        case.check_detections(found, [each * 1.01 for each in counts])
    case.check_training(model, names, LOSSES | {"mask_loss": "loss_mask"})
