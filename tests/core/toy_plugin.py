"""A local module with one tiny component of each kind: enough to train without any plugin installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detcore import Component, hookimpl
from detcore.distributed import share_of
from detcore.interfaces import Backbone, Callback, Channels, ClassNames, DenseHead, Evaluator, Factory, Norm, NumClasses
from detcore.structures import Batch, Detections, Losses
from torch import Tensor, nn
from torchvision import tv_tensors


@hookimpl
def detcore_components() -> list[Component]:
    names = {"backbone": "ToyBackbone", "dense_head": "ToyHead", "dataset": "ToyDataset", "evaluator": "ToyEvaluator"}
    names["callback"] = "ToyCallback"
    return [Component(kind, name, f"{__name__}:{name}") for kind, name in names.items()]


class ToyBackbone(Backbone):
    """One strided convolution, its norm, dropout."""

    def __init__(self, *, width: int = 8, norm: Factory[Norm] | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, 8, 1)
        self.norm = norm(width) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.out_channels, self.strides = (width,), (8,)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.dropout(self.norm(self.conv(images)).relu())]


class ToyHead(DenseHead):
    """Guesses the class and the box of one object an image."""

    def __init__(self, *, in_channels: Channels[int], num_classes: NumClasses) -> None:
        super().__init__()
        self.cls = nn.Linear(in_channels, num_classes)
        self.box = nn.Linear(in_channels, 4)

    def forward(self, features: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        pooled = features[0].mean((2, 3))
        return self.cls(pooled), self.box(pooled).sigmoid()

    def losses(self, predictions: Any, batch: Batch) -> Losses:
        logits, boxes = predictions
        truth, size = batch.truth, batch.sizes.flip(-1).repeat(1, 2)
        weight = truth.valid[:, 0].float()
        objects = share_of(weight.sum())
        box = ((boxes - truth.boxes[:, 0] / size).abs().sum(1) * weight).sum()
        cls = nn.functional.cross_entropy(logits, truth.labels[:, 0], reduction="none") * weight
        return {"loss_cls": cls.sum() / objects, "loss_box": box / objects}

    def detections(self, predictions: Any, batch: Batch, *, train: bool = False) -> list[Detections]:
        logits, boxes = predictions
        scores, labels = logits.softmax(1).max(1)
        boxes = boxes * batch.sizes.flip(-1).repeat(1, 2)
        return [Detections(b[None], s[None], c[None]) for b, s, c in zip(boxes, scores, labels, strict=True)]


class ToyDataset:
    """Bright rectangles on black; the class is the colour channel. Images whose number is in ``empty`` have none."""

    def __init__(
        self,
        *,
        length: int = 8,
        names: Sequence[str] = ("red", "green"),
        empty: Sequence[int] = (),
        classes: ClassNames | None = None,
    ) -> None:
        self.length = length
        self.empty = empty
        self.classes = tuple(classes or names)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        image = torch.zeros(3, 32, 48, dtype=torch.uint8)
        label = index % len(self.classes)
        box = torch.tensor([[4.0 + index, 4, 20 + index, 24]])
        image[label, 4:24, 4 + index : 20 + index] = 250
        rows = slice(0 if index in self.empty else 1)
        boxes = tv_tensors.BoundingBoxes(box[rows], format="XYXY", canvas_size=(32, 48))
        return tv_tensors.Image(image), {
            "boxes": boxes,
            "labels": torch.tensor([label])[rows],
            "image_id": index,
            "iscrowd": torch.zeros(1, dtype=torch.bool)[rows],
            "area": torch.tensor([320.0])[rows],
        }


class ToyCallback(Callback):
    """Does nothing; stands in the place of one that takes time, as pictures do."""


class ToyEvaluator(Evaluator):
    """The share of images whose class was right."""

    def __init__(self, dataset: ToyDataset) -> None:
        self.dataset = dataset
        self.right = self.seen = 0

    def update(self, detections: Sequence[Detections], ids: Sequence[int | str]) -> None:
        for found, index in zip(detections, ids, strict=True):
            self.seen += 1
            self.right += found.labels.tolist() == self.dataset[int(index)][1]["labels"].tolist()

    def compute(self) -> dict[str, float]:
        return {"accuracy": float(self.right) / max(self.seen, 1)}
