"""Objects as points (Zhou, Wang and Kraehenbuehl 2019, Objects as Points), on one map.

In the order of the paper: the network (section 4), what it should say (section 3), the losses (equations 1 to 3), which
detections come out (section 4.1). Boxes are in pixels of the input, maps in cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from detcore.distributed import share_of
from detcore.errors import ConfigError
from detcore.interfaces import Channels, DenseHead, Features, NumClasses, Strides
from detcore.layers import ConvNormAct
from detcore.structures import Batch, Detections, Losses, clip_boxes
from torch import Tensor, nn
from torch.nn import functional as F

SPREAD = 0.54 / 6
"""Standard deviation of an object's peak, in sides of its box (Liu et al. 2020, TTFNet, section 3.2)."""


class Maps(NamedTuple):
    """What the network predicts.

    Attributes:
        heat: (B, C, H, W) logits of an object of a class being centred in a cell.
        offset: (B, 2, H, W) x and y of the centre, in cells from the cell's corner.
        size: (B, 2, H, W) width and height, in cells.
    """

    heat: Tensor
    offset: Tensor
    size: Tensor


class {{ cookiecutter.__class }}(DenseHead):
    """A heatmap whose peaks are the centres of objects, and at each of them an offset and a size.

    All maps that come in are brought to the size of the first and added. The three methods of a dense head are called
    with the maps, and with what ``forward`` gave; a head of other parts is composed in a config (``ComposedHead``).

    Args:
        in_channels: Of every map.
        strides: Of each map.
        num_classes: C.
        channels: Of the hidden layers.
        size_weight: Multiplies the loss of sizes.
        max_detections: The most that come out of an image.
        score_threshold: The least score that comes out.

    Raises:
        ConfigError: No detection could come out.
    """

    def __init__(
        self,
        *,
        in_channels: Channels[int],
        strides: Strides[Sequence[int]],
        num_classes: NumClasses,
        channels: int = 64,
        size_weight: float = 0.1,
        max_detections: int = 100,
        score_threshold: float = 0.05,
    ) -> None:
        super().__init__()
        if max_detections < 1:
            raise ConfigError("max_detections", f"{max_detections}", "Give 1 or more.")
        self.stride = strides[0]
        self.size_weight = size_weight
        self.max_detections = max_detections
        self.score_threshold = score_threshold

        def branch(values: int) -> nn.Sequential:
            return nn.Sequential(ConvNormAct(in_channels, channels, 3), nn.Conv2d(channels, values, 1))

        self.heat, self.offset, self.size = branch(num_classes), branch(2), branch(2)
        nn.init.constant_(self.heat.get_parameter("1.bias"), -2.19)  # a probability of 0.1, as in the paper's code

    def forward(self, features: Features, batch: Batch) -> Maps:
        """L maps (B, C, H_l, W_l) -> maps of the size of the first."""
        first, *others = features
        for each in others:
            first = first + F.interpolate(each, size=first.shape[-2:], mode="nearest")
        return Maps(self.heat(first).float(), self.offset(first).float(), self.size(first).float())

    def losses(self, predictions: Maps, batch: Batch) -> Losses:
        """``loss_heat``, ``loss_offset`` and ``loss_size``, each divided by the number of objects."""
        truth, (height, width) = batch.truth, predictions.heat.shape[-2:]
        centre = (truth.boxes[..., :2] + truth.boxes[..., 2:]) / 2 / self.stride
        size = (truth.boxes[..., 2:] - truth.boxes[..., :2]) / self.stride
        column = centre[..., 0].long().clamp(0, width - 1)
        row = centre[..., 1].long().clamp(0, height - 1)
        count = share_of(truth.valid.sum())
        valid = truth.valid[:, None].float()

        def there(maps: Tensor) -> Tensor:
            """(B, K, H, W) -> (B, K, G), where the objects are."""
            return maps.flatten(2).gather(2, (row * width + column)[:, None].expand(-1, maps.shape[1], -1))

        offset = centre - torch.stack([column, row], -1)
        wrong_offset = (there(predictions.offset) - offset.mT).abs() * valid
        wrong_size = (there(predictions.size) - size.mT).abs() * valid
        heat = peaks(torch.stack([column, row], -1), size, truth.labels, truth.valid, predictions.heat)
        return {
            "loss_heat": heat_loss(predictions.heat, heat) / count,
            "loss_offset": wrong_offset.sum() / count,
            "loss_size": self.size_weight * wrong_size.sum() / count,
        }

    def detections(self, predictions: Maps, batch: Batch, *, train: bool = False) -> list[Detections]:
        """Per image its peaks: cells that no neighbour of their class exceeds."""
        heat = predictions.heat.sigmoid()
        images, _, _, width = heat.shape
        heat = heat * (heat == F.max_pool2d(heat, 3, stride=1, padding=1))
        scores, index = heat.flatten(1).topk(min(self.max_detections, heat[0].numel()))
        cell = index % heat[0, 0].numel()

        def at(maps: Tensor) -> Tensor:
            """(B, 2, H, W) -> (B, K, 2), of the best cells."""
            return maps.flatten(2).gather(2, cell[:, None].expand(-1, 2, -1)).mT

        centre = torch.stack([cell % width, cell // width], -1) + at(predictions.offset)
        reach = at(predictions.size).relu() / 2
        boxes = torch.cat([centre - reach, centre + reach], -1) * self.stride
        labels = index // heat[0, 0].numel()
        found = []
        for image in range(images):
            keep = scores[image] > self.score_threshold
            inside = clip_boxes(boxes[image, keep], batch.sizes[image])
            found.append(Detections(inside, scores[image, keep], labels[image, keep]))
        return found


def peaks(cells: Tensor, size: Tensor, labels: Tensor, valid: Tensor, like: Tensor) -> Tensor:
    """What the heatmap should be: 1 in the cell of an object's centre, falling off around it; the highest counts.

    Args:
        cells: (B, G, 2) column and row of the centres.
        size: (B, G, 2) width and height of the boxes, in cells.
        labels: (B, G).
        valid: (B, G) which objects are to be found.
        like: (B, C, H, W) a map of the same shape.
    """
    height, width = like.shape[-2:]
    spread = 2 * (SPREAD * size).square().clamp(min=1e-6)
    across = (torch.arange(width, device=like.device) - cells[..., :1]).square() / spread[..., :1]
    down = (torch.arange(height, device=like.device) - cells[..., 1:]).square() / spread[..., 1:]
    heat = (-(across[:, :, None] + down[..., None])).exp() * valid[..., None, None]
    target = torch.zeros_like(like).flatten(2)
    which = labels[..., None].expand(-1, -1, target.shape[-1])
    return target.scatter_reduce(1, which, heat.flatten(2), "amax").view_as(like)


def heat_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss of a heatmap (equation 1), summed; cells near a centre count less as background."""
    probability = logits.sigmoid()
    found = -F.logsigmoid(logits) * (1 - probability) ** 2
    false = -F.logsigmoid(-logits) * probability**2 * (1 - target) ** 4
    return torch.where(target == 1, found, false).sum()
