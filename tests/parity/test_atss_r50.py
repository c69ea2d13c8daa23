"""ATSS with ResNet-50 and FPN computes what the reference computes, from images to detections and six training steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from parity import golden

RAW = ["cls", "box", "centerness"]
LOSSES = {"loss_cls": "loss_cls", "loss_box": "loss_bbox", "loss_centerness": "loss_centerness"}


def test_features_raw_outputs_losses_gradients_curve_and_detections(tmp_path: Path) -> None:
    case = golden.load("atss_r50")
    model, found = case.translated(tmp_path)
    names = case.fill_translated(model, found)
    case.check_dense(model, RAW)
    case.check_training(model, names, LOSSES)


def test_decoding_alone(tmp_path: Path) -> None:
    case = golden.load("decode_atss_r50")
    case.check_decoding(case.head(tmp_path, dict(zip(RAW, case.given(), strict=True))))


def test_the_case_would_notice_another_number_of_candidates(tmp_path: Path) -> None:
    """A deliberate fault, so that the tests above are known to look."""
    case = golden.load("atss_r50")
    model, found = case.translated(tmp_path)
    names = case.fill_translated(model, found)
    model.head.assigner.topk = 8
    with pytest.raises(AssertionError, match="loss_box"):
        case.check_training(model, names, LOSSES, curve=False)
