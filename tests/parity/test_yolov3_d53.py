"""YOLOv3 on Darknet-53 computes what the reference computes, from images to detections and six training steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from detcore.structures import Predictions, total_loss
from parity import golden
from torch import Tensor

CLASSES = 3
RAW = ("box", "objectness", "cls")
LOSSES = {name: name for name in ("loss_cls", "loss_conf", "loss_xy", "loss_wh")}


def joined(predictions: Predictions) -> list[list[Tensor]]:
    """The numbers of an anchor side by side, deepest level first."""
    levels = zip(*(predictions.raw[name] for name in RAW), strict=True)
    return [[torch.cat([part.unflatten(1, (3, -1)) for part in level], 2).flatten(1, 2) for level in levels][::-1]]


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_features_raw_outputs_losses_gradients_steps_and_detections(tmp_path: Path) -> None:
    """The order of sums decides on which side of zero a leaky ReLU is, so the number of threads is the reference's: with
    one thread the norm of all gradients is off by 6e-4, single ones by 6e-3, the last steps by 4e-3."""
    case = golden.load("yolov3_d53")
    model, found = case.translated(tmp_path)
    names = case.fill_translated(model, found)
    batch = case.batch()
    model.eval()
    with torch.no_grad():
        features = model.neck(model.backbone(batch.images))
        predictions = model.head(features, batch)
    case.check_maps("feats", list(features[::-1]))
    case.check_maps("raw", joined(predictions))
    case.check_detections(model.head.detections(predictions, batch))
    losses = model.train().losses(batch)
    case.check_losses(losses, LOSSES)
    total_loss(losses).backward()
    case.check_gradients(model, names)
    case.check_curve(model, batch)


def test_decoding_alone(tmp_path: Path) -> None:
    case = golden.load("decode_yolov3_d53")
    (levels,) = case.given()
    parts = [level.unflatten(1, (3, -1)).split((4, 1, CLASSES), 2) for level in reversed(levels)]
    given = {name: [level[part].flatten(1, 2) for level in parts] for part, name in enumerate(RAW)}
    case.check_decoding(case.head(tmp_path, given))


def test_the_case_would_notice_another_assignment(tmp_path: Path) -> None:
    """A deliberate fault, so that the tests above are known to look."""
    case = golden.load("yolov3_d53")
    model, found = case.translated(tmp_path)
    case.fill_translated(model, found)
    model.head.assigner.neg_iou = (0.0, 0.4)
    with torch.no_grad(), pytest.raises(AssertionError, match="loss_conf"):
        case.check_losses(model.losses(case.batch()), LOSSES)
