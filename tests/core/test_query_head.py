"""A head with set matching, padding masks and denoising queries fits the protocol: shapes only, no accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest
import torch
from detcore.detectors import OneStage
from detcore.interfaces import Backbone, Channels, DenseHead, Features, NumClasses
from detcore.structures import Batch, Detections, Losses, Targets
from torch import Tensor, nn


class Queries(NamedTuple):
    logits: Tensor  # (B, Q + N, C + 1): Q learnt queries, then N denoising queries
    boxes: Tensor  # (B, Q + N, 4) in pixels
    learnt: int


class QueryHead(DenseHead):
    """Cross-attention from queries to one map; DN-style queries are noised ground truth, so forward reads the batch."""

    def __init__(self, *, in_channels: Channels[int], num_classes: NumClasses, queries: int = 5) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, in_channels))
        self.of_label = nn.Embedding(num_classes, in_channels)
        self.of_box = nn.Linear(4, in_channels)
        self.attention = nn.MultiheadAttention(in_channels, 2, batch_first=True)
        self.cls = nn.Linear(in_channels, num_classes + 1)
        self.box = nn.Linear(in_channels, 4)

    def forward(self, features: Features, batch: Batch) -> Queries:
        memory = features[-1].flatten(2).transpose(1, 2)
        queries = self.queries.expand(len(batch), -1, -1)
        if batch.targets is not None:
            truth = batch.targets
            noised = self.of_label(truth.labels) + self.of_box(truth.boxes + torch.randn_like(truth.boxes))
            queries = torch.cat([queries, noised], 1)
        own = len(self.queries)
        found, _ = self.attention(queries, memory, memory, key_padding_mask=padding(features[-1], batch))
        size = batch.sizes.flip(-1).repeat(1, 2)[:, None]
        return Queries(self.cls(found), self.box(found).sigmoid() * size, own)

    def losses(self, predictions: Queries, batch: Batch) -> Losses:
        truth, own = batch.truth, predictions.learnt
        cost = torch.cdist(predictions.boxes[:, :own], truth.boxes, p=1).masked_fill(~truth.valid[:, None], torch.inf)
        best = cost.argmin(1)  # stands for the Hungarian matching of DETR
        matched = predictions.boxes.gather(1, best[..., None].expand(-1, -1, 4))
        denoised = predictions.boxes[:, own:]
        valid = truth.valid[..., None]
        return {
            "loss_cls": predictions.logits.logsumexp(-1).mean(),
            "loss_box": ((matched - truth.boxes).abs() * valid).sum() / valid.sum().clamp(min=1),
            "loss_dn_box": ((denoised - truth.boxes).abs() * valid).sum() / valid.sum().clamp(min=1),
        }

    def detections(self, predictions: Queries, batch: Batch, *, train: bool = False) -> list[Detections]:
        scores, labels = predictions.logits[:, : predictions.learnt].softmax(-1)[..., :-1].max(-1)
        return [
            Detections(*each) for each in zip(predictions.boxes[:, : predictions.learnt], scores, labels, strict=True)
        ]


def padding(level: Tensor, batch: Batch) -> Tensor:
    """(B, H*W) bool, true where a cell of the map lies in an image's padding."""
    stride = batch.images.shape[-1] / level.shape[-1]
    rows = torch.arange(level.shape[-2])[:, None] * stride >= batch.sizes[:, 0, None, None]
    columns = torch.arange(level.shape[-1]) * stride >= batch.sizes[:, 1, None, None]
    return (rows | columns).flatten(1)


class Patches(Backbone):
    out_channels: Sequence[int] = (8,)
    strides: Sequence[int] = (8,)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 8, 8)

    def forward(self, images: Tensor) -> Features:
        return [self.conv(images)]


def batch(counts: Sequence[int], *, training: bool = True) -> Batch:
    sizes = torch.tensor([[32.0, 48.0], [24.0, 32.0]])
    valid = torch.arange(max(*counts, 1)) < torch.tensor(counts)[:, None]
    boxes = torch.tensor([4.0, 4, 20, 20]).expand(2, valid.shape[1], 4)
    targets = Targets(boxes, torch.zeros(valid.shape, dtype=torch.int64), valid, torch.zeros_like(valid))
    images = torch.randn(2, 3, 32, 48)
    return Batch(images, sizes, sizes, torch.ones(2, 2), targets=targets if training else None)


@pytest.fixture
def detector() -> OneStage:
    torch.manual_seed(0)
    return OneStage(backbone=Patches(), head=QueryHead(in_channels=8, num_classes=3))


@pytest.mark.parametrize("counts", [(3, 1), (0, 0)])
def test_a_query_head_trains_with_denoising_queries(detector: OneStage, counts: Sequence[int]) -> None:
    losses = detector.losses(batch(counts))
    assert set(losses) == {"loss_cls", "loss_box", "loss_dn_box"}
    torch.stack(list(losses.values())).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in detector.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_detections_leave_denoising_queries_out(detector: OneStage, training: bool) -> None:
    found = detector.eval().detections(batch((3, 1), training=training))
    assert [len(each) for each in found] == [5, 5]


def test_what_the_padding_holds_does_not_matter(detector: OneStage) -> None:
    one = batch((1, 1), training=False)
    images = one.images.clone()
    images[1, :, 24:], images[1, :, :, 32:] = 9.0, 9.0
    other = Batch(images, one.sizes, one.padded, one.scale)
    assert torch.equal(detector.detections(one)[1].boxes, detector.detections(other)[1].boxes)
