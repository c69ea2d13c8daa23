"""Cascade R-CNN computes what the reference computes: three stages, each on the boxes that the one before it refined."""

from __future__ import annotations

from pathlib import Path

import pytest
from parity import golden, two_stage

LOSSES = two_stage.cascade_losses(3)


def test_features_raw_outputs_losses_gradients_curve_and_detections(tmp_path: Path) -> None:
    case = golden.load("cascade_rcnn_r50")
    model, found = case.translated(tmp_path)
    names = case.fill_translated(model, found)
    two_stage.check_boxes(case, model)
    case.check_training(model, names, LOSSES)


def test_the_case_would_notice_a_stage_that_looks_at_the_first_proposals(tmp_path: Path) -> None:
    """A deliberate fault, so that the test above is known to look."""
    case = golden.load("cascade_rcnn_r50")
    model, found = case.translated(tmp_path)
    names = case.fill_translated(model, found)
    stage = model.roi_head.stages[0]
    stage.refine = lambda rois, deltas, labels: rois
    with pytest.raises(AssertionError, match=r"raw\.0\.0\.0: differs by"):
        two_stage.check_boxes(case, model)
    with pytest.raises(AssertionError, match=r"^s1\.loss_cls: .*\ns2\.loss_cls: "):
        case.check_training(model, names, LOSSES, curve=False)
