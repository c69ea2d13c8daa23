"""RetinaNet with GHM losses computes what the reference computes; what the losses keep from step to step, too."""

from __future__ import annotations

from pathlib import Path

import pytest
from parity import golden

LOSSES = {"loss_cls": "loss_cls", "loss_box": "loss_bbox"}


def test_features_raw_outputs_losses_gradients_curve_and_detections(tmp_path: Path) -> None:
    case = golden.load("retinanet_r50_ghm")
    model, found = case.translated(tmp_path)
    names = case.fill_translated(model, found)
    case.check_dense(model, ["cls", "box"])
    case.check_training(model, names, LOSSES)


def test_the_case_would_notice_levels_read_together(tmp_path: Path) -> None:
    """A deliberate fault, so that the test above is known to look."""
    case = golden.load("retinanet_r50_ghm")
    model, found = case.translated(tmp_path)
    names = case.fill_translated(model, found)
    model.head.loss.per_level = False
    with pytest.raises(AssertionError, match="loss_cls"):
        case.check_training(model, names, LOSSES, curve=False)
