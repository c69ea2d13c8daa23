"""A detector of one convolution, a data set in memory, and a run of both."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detcore.data import Loader
from detcore.interfaces import Detector
from detcore.preprocess import Preprocess
from detcore.runner.state import Run
from detcore.structures import Batch, Detections, Losses
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms.v2 import Transform


class TinyDetector(Detector):
    """One convolution, batch norm (so that buffers count) and dropout (so that the generators count)."""

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(dropout)

    def _mean(self, batch: Batch) -> Tensor:
        return self.dropout(self.norm(self.conv(batch.images))).mean((-2, -1))

    def losses(self, batch: Batch) -> Losses:
        target = batch.truth.boxes.mean(1) / 32 + np.random.rand() + random.random()
        difference = self._mean(batch) - target
        return {"loss_box": difference.square().mean(), "loss_l1": difference.abs().mean(), "seen": target.mean()}

    def detections(self, batch: Batch) -> list[Detections]:
        mean = self._mean(batch)
        boxes = torch.tensor([[0.0, 0.0, 8.0, 4.0]], device=mean.device)
        return [Detections(boxes, row[:1].sigmoid(), torch.zeros(1, dtype=torch.long)) for row in mean]


class TinyDataset:
    """Random images; image i has i % 3 objects."""

    def __init__(self, length: int = 12, *, classes: tuple[str, ...] = ("cat", "dog")) -> None:
        self.classes = classes
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(0, 256, (3, 16, 20), dtype=torch.uint8, generator=generator)
        corners = torch.rand(index % 3, 2, 2, generator=generator) * 8
        boxes = torch.cat([corners[:, 0], corners[:, 1] + 8], 1)
        return tv_tensors.Image(image), {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(16, 20)),
            "labels": torch.full((index % 3,), index % 2),
            "iscrowd": torch.zeros(index % 3, dtype=torch.long),
            "image_id": index + 100,
        }


class Noise(Transform):
    """Adds noise from all three CPU generators."""

    def forward(self, image: Tensor, target: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        grey = torch.randint(0, 50, (1,)) + np.random.randint(50) + random.randrange(50)
        return (image // 2 + grey.to(torch.uint8)).to(torch.uint8), target


def tiny_run(folder: Path, *, workers: int = 0, batch_size: int = 2, length: int = 12, **more: Any) -> Run:
    """Six steps per epoch, two epochs, if nothing else is said; the same start each time."""
    torch.manual_seed(7)
    detector = more.pop("detector") if "detector" in more else TinyDetector()
    dataset = more.pop("dataset", TinyDataset(length))
    seed = more.get("seed", 3)
    loader = Loader(dataset, [Noise()], batch_size=batch_size, workers=workers, shuffle=True, seed=seed)
    optimizer = more.pop("optimizer", None) or torch.optim.SGD(detector.parameters(), lr=0.01, momentum=0.9)
    settings = {"detector": detector, "loader": loader, "optimizer": optimizer, "epochs": 2, "seed": seed, **more}
    return Run(preprocess=Preprocess(divisor=8), folder=folder, **settings)
