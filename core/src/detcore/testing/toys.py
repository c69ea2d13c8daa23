"""The smallest things of each kind: enough to train a detector without any plugin, in less than a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.ops import batched_nms, box_iou

from detcore.data import seeded
from detcore.detectors import OneStage
from detcore.distributed import share_of
from detcore.interfaces import Backbone, Channels, DenseHead, Evaluator, NumClasses, Strides
from detcore.polygons import PolygonPoints
from detcore.structures import Batch, Detections, Losses, clip_boxes
from detcore.testing.inputs import Size, filled

CLASSES = ("red", "green", "blue")
DARK, DIM, BRIGHT = 40, 170, 250
"""Grey levels: around objects, of an object, and of an object in the channel of its class."""


class TinyDataset:
    """Upright rectangles in the colour of their class on dark noise: at most four, which do not overlap.

    The outline of an object of class c is c + 1 stripes beside each other.

    Args:
        length: Images.
        size: Height and width of the first one; each further one is a pixel wider.
        empty: Numbers of images without an object.
        crowds: The class whose objects are crowds; None: there are none.
        seed: Of what is drawn.
    """

    classes: Sequence[str] = CLASSES

    def __init__(
        self,
        *,
        length: int = 6,
        size: Size = (64, 96),
        empty: Sequence[int] = (2,),
        crowds: int | None = None,
        seed: int = 0,
    ) -> None:
        self.length = length
        self.size = size
        self.empty = tuple(empty)
        self.crowds = crowds
        self.seed = seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        size = (self.size[0], self.size[1] + index)
        with seeded(self.seed, index):
            boxes = _rectangles(size)[: 0 if index in self.empty else 4]
            labels = torch.randint(len(CLASSES), (len(boxes),))
            image = torch.randint(DARK - 15, DARK + 15, (3, *size), dtype=torch.uint8)
        masks = filled(boxes, size)
        for label, mask in zip(labels.tolist(), masks.bool(), strict=True):
            image[:, mask] = DIM
            image[label, mask] = BRIGHT
        sides = boxes[:, 2:] - boxes[:, :2]
        return tv_tensors.Image(image), {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
            "labels": labels,
            "image_id": index,
            "area": sides.prod(1),
            "iscrowd": (labels == (-1 if self.crowds is None else self.crowds)).long(),
            "masks": tv_tensors.Mask(masks),
            **_outlines(boxes, labels, size),
        }


def _rectangles(size: Size) -> Tensor:
    """(4, 4): one in each quarter of an image, with corners between pixels."""
    height, width = (side // 2 for side in size)
    boxes = []
    for left, top in ((0, 0), (width, 0), (0, height), (width, height)):
        wide, high = (int(torch.randint(side // 3, side * 2 // 3, ())) for side in (width, height))
        x, y = left + int(torch.randint(1, width - wide, ())), top + int(torch.randint(1, height - high, ()))
        boxes.append([x, y, x + wide, y + high])
    return torch.tensor(boxes)[torch.randperm(4)].float()


def _outlines(boxes: Tensor, labels: Tensor, size: Size) -> dict[str, Any]:
    points, owner = [torch.zeros(0, 2)], []
    for row, (box, label) in enumerate(zip(boxes, labels.tolist(), strict=True)):
        edges = torch.linspace(float(box[0]), float(box[2]), label + 2)
        for left, right in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            top, bottom = float(box[1]), float(box[3])
            points.append(torch.tensor([[left, top], [right, top], [right, bottom], [left, bottom]]))
            owner.append(row)
    return {
        "polygons": PolygonPoints(torch.cat(points), canvas_size=size),
        "offsets": torch.arange(len(owner) + 1) * 4,
        "owner": torch.tensor(owner, dtype=torch.int64),
    }


class TinyBackbone(Backbone):
    """Two strided convolutions and a batch norm: one map of stride 8."""

    def __init__(self, *, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, 4, 2)
        self.norm = nn.BatchNorm2d(width)
        self.conv = nn.Conv2d(width, width, 3, 2, 1)
        self.out_channels: Sequence[int] = (width,)
        self.strides: Sequence[int] = (8,)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> one map (B, width, H / 8, W / 8), rounded up."""
        images = F.pad(images, (0, -images.shape[3] % 8, 0, -images.shape[2] % 8))
        stem = self.stem(images)[:, :, 1:, 1:]
        return [self.conv(self.norm(stem).relu()).relu()]


class TinyHead(DenseHead):
    """Each cell of the first map scores the classes and tells the distances to the sides of the box that it is in."""

    def __init__(
        self,
        *,
        in_channels: Channels[int],
        strides: Strides[Sequence[int]],
        num_classes: NumClasses,
        threshold: float = 0.05,
    ) -> None:
        super().__init__()
        self.cls = nn.Conv2d(in_channels, num_classes, 1)
        self.box = nn.Conv2d(in_channels, 4, 1)
        self.stride = strides[0]
        self.threshold = threshold

    def forward(self, features: Sequence[Tensor], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Class logits (B, P, C), boxes (B, P, 4) and the cells' centres (P, 2)."""
        first = features[0]
        logits, sides = (conv(first).flatten(2).transpose(1, 2).float() for conv in (self.cls, self.box))
        y, x = (self.stride * (torch.arange(side, device=first.device) + 0.5) for side in first.shape[-2:])
        centres = torch.stack([x.repeat(len(y)), y.repeat_interleave(len(x))], 1)
        away = 4 * self.stride * sides.sigmoid()
        return logits, torch.cat([centres - away[..., :2], centres + away[..., 2:]], -1), centres

    def losses(self, predictions: tuple[Tensor, Tensor, Tensor], batch: Batch) -> Losses:
        """Of the classes of all cells, of the boxes of those inside an object."""
        logits, boxes, centres = predictions
        truth = batch.truth
        inside = (centres[:, None] > truth.boxes[:, None, :, :2]) & (centres[:, None] < truth.boxes[:, None, :, 2:])
        inside = inside.all(-1) & truth.valid[:, None]  # (B, P, G)
        positive, index = inside.any(-1), inside.int().argmax(-1)
        count = share_of(positive.sum().float())
        goals = F.one_hot(truth.gather_labels(index), logits.shape[-1]) * positive[..., None]
        wrong = F.binary_cross_entropy_with_logits(logits, goals.float(), reduction="none").sum()
        apart = ((boxes - truth.gather_boxes(index)).abs().sum(-1) * positive).sum() / self.stride
        return {"loss_cls": wrong / count, "loss_box": apart / count}

    def detections(
        self, predictions: tuple[Tensor, Tensor, Tensor], batch: Batch, *, train: bool = False
    ) -> list[Detections]:
        """The best cells after NMS per class."""
        logits, boxes, _ = predictions
        found = []
        for its_logits, its_boxes, size in zip(logits, boxes, batch.sizes, strict=True):
            scores, labels = its_logits.sigmoid().max(-1)
            clipped = clip_boxes(its_boxes, size)
            kept = batched_nms(clipped, scores, labels, 0.5)[:20]
            kept = kept[scores[kept] >= self.threshold]
            found.append(Detections(clipped[kept], scores[kept], labels[kept]))
        return found


class TinyEvaluator(Evaluator):
    """The share of objects of which the best box of their class has an IoU of at least a half."""

    def __init__(self, dataset: Any) -> None:
        self.truth = {target["image_id"]: target for _, target in (dataset[index] for index in range(len(dataset)))}
        self.met = 0

    def update(self, detections: Sequence[Detections], ids: Sequence[int | str]) -> None:
        """See the class."""
        for found, id_ in zip(detections, ids, strict=True):
            boxes, labels = self.truth[id_]["boxes"].as_subclass(Tensor), self.truth[id_]["labels"]
            near = (box_iou(boxes, found.boxes) >= 0.5) & (labels[:, None] == found.labels)
            self.met += int(near.any(1).sum())

    def compute(self) -> dict[str, float]:
        """``recall``."""
        return {"recall": self.met / max(1, sum(len(each["labels"]) for each in self.truth.values()))}


def tiny_detector(*, classes: int = len(CLASSES), width: int = 8, seed: int = 0) -> OneStage:
    """A detector of one stage, its weights from ``seed``."""
    with seeded(seed):
        backbone = TinyBackbone(width=width)
        head = TinyHead(in_channels=width, strides=backbone.strides, num_classes=classes)
    return OneStage(backbone=backbone, head=head)
