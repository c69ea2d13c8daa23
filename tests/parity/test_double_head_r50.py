"""Double-Head R-CNN, from a plugin of its own, computes what the reference computes."""

from __future__ import annotations

from pathlib import Path

import pytest
from parity import golden, two_stage


def test_features_raw_outputs_losses_gradients_curve_and_detections(tmp_path: Path) -> None:
    case = golden.load("double_head_r50")
    model, found = case.translated(tmp_path)
    names = case.fill_translated(model, found)
    two_stage.check_boxes(case, model)
    case.check_training(model, names, two_stage.LOSSES)


def test_the_case_would_notice_boxes_that_are_read_from_the_region_itself(tmp_path: Path) -> None:
    """A deliberate fault, so that the test above is known to look."""
    case = golden.load("double_head_r50")
    model, found = case.translated(tmp_path)
    case.fill_translated(model, found)
    model.roi_head.stages[0].box_head.box_scale = 1.0
    with pytest.raises(AssertionError, match=r"^raw\.0\.1: differs by"):
        two_stage.check_boxes(case, model)
