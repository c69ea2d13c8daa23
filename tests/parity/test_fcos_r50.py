"""FCOS with ResNet-50 and FPN computes what the reference computes, from images to detections and six training steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from parity import golden

RAW = ["cls", "box", "centerness"]


def test_features_raw_outputs_losses_gradients_curve_and_detections(tmp_path: Path) -> None:
    case = golden.load("fcos_r50_caffe_gn")
    model, found = case.translated(tmp_path)
    names = case.fill_translated(model, found)
    case.check_dense(model, RAW)
    losses = {"loss_cls": "loss_cls", "loss_box": "loss_bbox", "loss_centerness": "loss_centerness"}
    case.check_training(model, names, losses)


def test_decoding_alone(tmp_path: Path) -> None:
    case = golden.load("decode_fcos_r50_caffe_gn")
    case.check_decoding(case.head(tmp_path, dict(zip(RAW, case.given(), strict=True))))


def test_the_case_would_notice_a_change_of_scale(tmp_path: Path) -> None:
    """A deliberate fault, so that the tests above are known to look."""
    case = golden.load("fcos_r50_caffe_gn")
    model, found = case.translated(tmp_path)
    case.fill_translated(model, found)
    with torch.no_grad():
        model.head.get_parameter("network.scales.2").add_(1e-3)
    with pytest.raises(AssertionError, match=r"raw\.1\.2"):
        case.check_dense(model, RAW)
