"""Faster R-CNN of ResNet-50, with plain and deformable convolutions, FPN and PAFPN: the reference's table and numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from parity import golden, two_stage


@pytest.mark.parametrize("name", ["faster_rcnn_r50", "faster_rcnn_r50_dcn", "faster_rcnn_r50_pafpn"])
def test_features_raw_outputs_losses_gradients_curve_and_detections(name: str, tmp_path: Path) -> None:
    case = golden.load(name)
    model, found = case.translated(tmp_path)
    names = case.fill_translated(model, found)
    two_stage.check_boxes(case, model)
    case.check_training(model, names, two_stage.LOSSES)


def test_the_case_would_notice_regions_from_other_levels(tmp_path: Path) -> None:
    """A deliberate fault, so that the tests above are known to look."""
    case = golden.load("faster_rcnn_r50")
    model, found = case.translated(tmp_path)
    case.fill_translated(model, found)
    model.roi_head.stages[0].extractor.finest_scale = 28.0
    with pytest.raises(AssertionError, match=r"raw\.0\.0: differs by"):
        two_stage.check_boxes(case, model)
