"""RetinaNet with ResNet-50 and FPN computes what the reference computes, from images to detections and training."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import torch
from detcore_dense.anchors import Anchors
from parity import golden

STRIDES = (8, 16, 32, 64, 128)
RAW = ["cls", "box"]


def test_features_raw_outputs_losses_gradients_curve_and_detections(tmp_path: Path) -> None:
    case = golden.load("retinanet_r50")
    model, found = case.translated(tmp_path)
    names = case.fill_translated(model, found)
    case.check_dense(model, RAW)
    case.check_training(model, names, {"loss_cls": "loss_cls", "loss_box": "loss_bbox"})


def test_decoding_alone(tmp_path: Path) -> None:
    case = golden.load("decode_retinanet_r50")
    case.check_decoding(case.head(tmp_path, dict(zip(RAW, case.given(), strict=True))))


def test_the_case_would_notice_another_order_of_anchors(tmp_path: Path) -> None:
    """A deliberate fault, so that the tests above are known to look."""
    case = golden.load("decode_retinanet_r50")
    head = case.head(tmp_path, dict(zip(RAW, case.given(), strict=True)))
    head.geometry = Anchors(strides=STRIDES, octave_base_scale=4, scales_per_octave=3, ratios=(2.0, 1.0, 0.5))
    with pytest.raises(AssertionError, match="has no partner"):
        case.check_decoding(head)


def test_a_name_that_only_one_side_has_fails(tmp_path: Path) -> None:
    """A deliberate fault of the translation: one convolution less."""
    case = golden.load("retinanet_r50")
    model, found = case.translated(tmp_path, bbox_head={**case.info["model"]["bbox_head"], "stacked_convs": 3})
    with pytest.raises(AssertionError, match=r"bbox_head\.cls_convs\.3\.conv\.bias: the reference has it, we do not"):
        case.fill_translated(model, found)
    model, found = case.translated(tmp_path, bbox_head={**case.info["model"]["bbox_head"], "stacked_convs": 5})
    with pytest.raises(AssertionError, match=r"bbox_head\.cls_convs\.4\.conv\.bias: not in the reference"):
        case.fill_translated(model, found)


def test_no_object_gives_a_finite_loss_and_a_gradient_to_every_parameter(tmp_path: Path) -> None:
    case = golden.load("retinanet_r50")
    table = case.info["model"]
    small, thin = {**table["neck"], "out_channels": 8}, {**table["bbox_head"], "in_channels": 8, "feat_channels": 16}
    head = case.translated(tmp_path, neck=small, bbox_head=thin)[0].head
    batch = case.batch()
    nobody = torch.zeros_like(batch.truth.valid)
    batch = attrs.evolve(batch, targets=attrs.evolve(batch.truth, valid=nobody))
    features = [torch.randn(2, 8, -(-192 // stride), 256 // stride) for stride in STRIDES]
    losses = head.losses(head(features, batch), batch)
    torch.stack(list(losses.values())).sum().backward()
    assert float(losses["loss_box"].detach()) == 0
    for parameter in head.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
