"""YOLOX-S computes what the reference computes, from images to detections and six training steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from parity import golden

RAW = ["cls", "box", "objectness"]
LOSSES = {"loss_cls": "loss_cls", "loss_box": "loss_bbox", "loss_obj": "loss_obj"}


def test_features_raw_outputs_losses_gradients_curve_and_detections(tmp_path: Path) -> None:
    case = golden.load("yolox_s")
    model, found = case.translated(tmp_path)
    names = case.fill_translated(model, found)
    case.check_dense(model, RAW)
    case.check_training(model, names, LOSSES)


def test_decoding_alone(tmp_path: Path) -> None:
    case = golden.load("decode_yolox_s")
    case.check_decoding(case.head(tmp_path, dict(zip(RAW, case.given(), strict=True))))


def test_the_case_would_notice_another_k(tmp_path: Path) -> None:
    """A deliberate fault, so that the tests above are known to look."""
    case = golden.load("yolox_s")
    model, found = case.translated(tmp_path)
    case.fill_translated(model, found)
    model.head.assigner.candidate_topk = 1
    with torch.no_grad(), pytest.raises(AssertionError, match="loss_cls"):
        case.check_losses(model.losses(case.batch()), LOSSES)
