"""CornerNet (Law and Deng 2018): an object is a pair of corners, peaks of two heatmaps that are paired by their tags.

Top to bottom: corner pooling, the head's network, its targets, its detections, the head that ties them together. It
reads the maps of stacked hourglasses, all of one stride; each stack has its own branches and losses, the last detects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import attrs
import torch
from detcore.distributed import share_of
from detcore.errors import ConfigError
from detcore.interfaces import Channels, DenseHead, Factory, Features, Loss, Norm, NumClasses, Section
from detcore.layers import BN, ConvNormAct
from detcore.structures import Batch, Detections, Losses, Targets
from detcore_dense.parts import parts
from torch import Tensor, nn

from detcore_cornernet.losses import EmbeddingLoss
from detcore_cornernet.soft_nms import soft_nms

NormFactory = Factory[Norm] | Callable[[int], nn.Module]

DRAW_LIMIT = 2**24
"""Values that are held at once while Gaussians are drawn: bounds memory, changes no result."""

# ----------------------------------------------------------------------------------- corner pooling (section 3.4)


def running_max(x: Tensor, dim: int, *, from_end: bool) -> Tensor:
    """The largest value of ``x`` from the start of ``dim`` up to each position, or from the end down to it."""
    if not from_end:
        return x.cummax(dim).values
    return x.flip(dim).cummax(dim).values.flip(dim)


class CornerPooling(nn.Module):
    """Corner pooling in its residual block: at an object's corner meet the maxima of both of its sides.

    A top-left corner looks right and down, a bottom-right one left and up.

    Args:
        channels: Of the maps in and out.
        top_left: Which corner.
        pool_channels: Of the two maps that are pooled.
        norm: Builds the norms.
    """

    def __init__(self, channels: int, *, top_left: bool, pool_channels: int = 128, norm: NormFactory = BN) -> None:
        super().__init__()
        self.top_left = top_left
        self.vertical = ConvNormAct(channels, pool_channels, 3, norm=norm)
        self.horizontal = ConvNormAct(channels, pool_channels, 3, norm=norm)
        self.pooled = ConvNormAct(pool_channels, channels, 3, norm=norm, act=None)
        self.shortcut = ConvNormAct(channels, channels, 1, norm=norm, act=None)
        self.out = ConvNormAct(channels, channels, 3, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        vertical = running_max(self.vertical(x), 2, from_end=self.top_left)
        horizontal = running_max(self.horizontal(x), 3, from_end=self.top_left)
        x = self.out((self.pooled(vertical + horizontal) + self.shortcut(x)).relu())
        return x


# -------------------------------------------------------------------------------------- the network (section 3.1)


class CornerMaps(NamedTuple):
    """What a stack says of one kind of corner.

    Attributes:
        heat: (B, C, H, W), logits: is there a corner of an object of this class?
        tag: (B, 1, H, W), close to that of the object's other corner.
        offset: (B, 2, H, W), where in the cell the corner is, x and y, in cells.
    """

    heat: Tensor
    tag: Tensor
    offset: Tensor


class CornerPair(NamedTuple):
    """The maps of both corners of one stack."""

    top_left: CornerMaps
    bottom_right: CornerMaps


class CornerBranch(nn.Module):
    """The maps of one kind of corner."""

    def __init__(self, channels: int, num_classes: int, *, top_left: bool, norm: NormFactory = BN) -> None:
        super().__init__()
        self.pooling = CornerPooling(channels, top_left=top_left, norm=norm)
        self.heat = prediction(channels, num_classes)
        self.tag = prediction(channels, 1)
        self.offset = prediction(channels, 2)
        nn.init.constant_(self.heat.get_parameter("1.bias"), math.log(0.1 / 0.9))  # cells begin at a probability of 0.1

    def forward(self, x: Tensor) -> CornerMaps:
        """(B, channels, H, W) -> the three maps."""
        x = self.pooling(x)
        return CornerMaps(self.heat(x), self.tag(x), self.offset(x))


def prediction(in_channels: int, out_channels: int) -> nn.Sequential:
    """A 3x3 convolution with ReLU and a 1x1 convolution, as all maps are predicted."""
    return nn.Sequential(ConvNormAct(in_channels, in_channels, 3), nn.Conv2d(in_channels, out_channels, 1))


# ------------------------------------------------------------------------------- targets (sections 3.2 and 3.3)


class CornerTargets(NamedTuple):
    """What a map of one kind of corner should say.

    Attributes:
        heat: (B, C, H, W) float32, a Gaussian around each corner, 1 in its cell.
        cell: (B, G) int64, the cell of each object's corner in the flattened map.
        offset: (B, G, 2) float32, where in its cell the corner is.
        weight: (B, G) float32, 1 for the last object of each cell, which alone is asked for its offset; else 0.
    """

    heat: Tensor
    cell: Tensor
    offset: Tensor
    weight: Tensor


def corner_targets(
    targets: Targets, image_size: Sequence[int], size: Sequence[int], min_overlap: float = 0.3
) -> tuple[CornerTargets, CornerTargets]:
    """The targets of the top-left and of the bottom-right corners.

    Args:
        targets: The objects.
        image_size: Height and width of the padded images, pixels.
        size: C, H, W of the heatmaps.
        min_overlap: IoU with its object that a box may still have whose corners are a Gaussian's radius off.
    """
    _, height, width = size
    scale = width / image_size[1], height / image_size[0]
    top_left, bottom_right = scaled(targets.boxes[..., :2], *scale), scaled(targets.boxes[..., 2:], *scale)
    radius = gaussian_radius((bottom_right - top_left).ceil(), min_overlap).floor().clamp(min=0)

    def of(corner: Tensor) -> CornerTargets:
        x, y = corner.unbind(-1)
        center = torch.stack([x.clamp(0, width - 1), y.clamp(0, height - 1)], -1).floor()
        heat = draw_gaussians(center, radius, targets.labels, targets.valid, size)
        cell = (center[..., 1] * width + center[..., 0]).long()
        return CornerTargets(heat, cell, corner - center, last_of_each(cell, targets.valid))

    return of(top_left), of(bottom_right)


def scaled(points: Tensor, x: float, y: float) -> Tensor:
    """Points (..., 2), columns times ``x`` and ``y``: a tensor made of these numbers would wait for the device."""
    return torch.stack([points[..., 0] * x, points[..., 1] * y], -1)


def gaussian_radius(size: Tensor, min_overlap: float) -> Tensor:
    """How far off both corners of a box may be for its IoU with the true box to be ``min_overlap``, cells.

    Of the three ways to be off (shifted, too small, too large) the one that allows least.

    Args:
        size: (..., 2), width and height of the boxes, cells.
        min_overlap: The IoU.
    """
    total, area = size.sum(-1), size.prod(-1)
    shifted = _root(1, -total, area * (1 - min_overlap) / (1 + min_overlap), -1)
    smaller = _root(4, -2 * total, (1 - min_overlap) * area, -1)
    larger = _root(4 * min_overlap, 2 * min_overlap * total, (min_overlap - 1) * area, 1)
    return torch.minimum(torch.minimum(shifted, smaller), larger)


def _root(a: float, b: Tensor, c: Tensor, sign: int) -> Tensor:
    """A root of ``a x^2 + b x + c``."""
    return (-b + sign * (b**2 - 4 * a * c).clamp(min=0).sqrt()) / (2 * a)


def draw_gaussians(center: Tensor, radius: Tensor, labels: Tensor, valid: Tensor, size: Sequence[int]) -> Tensor:
    """Heatmaps (B, C, H, W) of the objects; where Gaussians meet, the higher one counts.

    Args:
        center: (B, G, 2), the cell of each object, x and y.
        radius: (B, G), the Gaussian is cut off beyond; its standard deviation is a sixth of its diameter.
        labels: (B, G).
        valid: (B, G), which objects are drawn.
        size: C, H, W.
    """
    classes, height, width = size
    deviation = (2 * radius + 1) / 6
    rows = _bell(height, center[..., 1], radius, deviation) * valid[..., None]
    columns = _bell(width, center[..., 0], radius, deviation)
    labels = labels.clamp(min=0)[..., None].expand(-1, -1, height * width)
    heat = center.new_zeros(len(center), classes, height * width)
    objects = center.shape[1]
    for some in parts(objects, len(center) * height * width, objects, DRAW_LIMIT):
        drawn = (rows[:, some, :, None] * columns[:, some, None]).flatten(2)
        heat = heat.scatter_reduce(1, labels[:, some], drawn, "amax")
    return heat.reshape(len(center), classes, height, width)


def _bell(length: int, center: Tensor, radius: Tensor, deviation: Tensor) -> Tensor:
    """(B, G) -> (B, G, length): a Gaussian of height 1 along one axis, 0 beyond its radius."""
    distance = torch.arange(length, device=center.device) - center[..., None]
    bell = torch.exp(-(distance**2) / (2 * deviation[..., None] ** 2))
    return bell * (distance.abs() <= radius[..., None])


def last_of_each(cell: Tensor, valid: Tensor) -> Tensor:
    """(B, G) float32: 1 for the last valid object of each cell, 0 for the others."""
    same = (cell[:, :, None] == cell[:, None]) & valid[:, None]
    return (valid & ~same.triu(1).any(2)).float()


def at(maps: Tensor, cell: Tensor) -> Tensor:
    """The values (B, N, K) of maps (B, K, H, W) in the cells (B, N) of the flattened map, float32."""
    return maps.float().flatten(2).gather(2, cell[:, None].expand(-1, maps.shape[1], -1)).transpose(1, 2)


# --------------------------------------------------------------------------------------- detections (section 4.2)


@attrs.frozen
class Pairing:
    """How corners become detections.

    Attributes:
        corner_topk: Corners of each kind that are considered in an image.
        local_maximum_kernel: A corner is the highest of a square of so many cells.
        distance_threshold: Corners whose tags differ by more are not paired.
        num_pairs: Pairs that go into soft-NMS, the best ones.
        sigma: Width of soft-NMS's Gaussian.
        min_score: Detections that fall below it are dropped.
        max_per_image: Detections that are kept.
        clip: Whether corners beyond the image are moved to its edge; false leaves those beyond its right and bottom
            edge where they are, as the reference does.
    """

    corner_topk: int = 100
    local_maximum_kernel: int = 3
    distance_threshold: float = 0.5
    num_pairs: int = 1000
    sigma: float = 0.5
    min_score: float = 1e-3
    max_per_image: int = 100
    clip: bool = True

    def __attrs_post_init__(self) -> None:
        """Raises ConfigError where the square has no centre."""
        if self.local_maximum_kernel < 1 or self.local_maximum_kernel % 2 == 0:
            found = f"local_maximum_kernel = {self.local_maximum_kernel}"
            raise ConfigError("", found, "It is odd and at least 1: the corner is in the middle of the square.")


PAIRING = Pairing()


class Corners(NamedTuple):
    """The best corners of one kind, K per image.

    Attributes:
        points: (B, K, 2) float32, pixels.
        scores: (B, K) float32.
        labels: (B, K) int64.
        cell: (B, K) int64, in the flattened map.
    """

    points: Tensor
    scores: Tensor
    labels: Tensor
    cell: Tensor


def best_corners(heat: Tensor, offset: Tensor, batch: Batch, pairing: Pairing) -> Corners:
    """The peaks of heat logits (B, C, H, W), moved by the offsets (B, 2, H, W)."""
    height, width = heat.shape[2:]
    kernel = pairing.local_maximum_kernel
    heat = heat.float().sigmoid()
    highest = nn.functional.max_pool2d(heat, kernel, stride=1, padding=(kernel - 1) // 2)
    peaks = (heat * (heat == highest)).flatten(1)
    scores, index = peaks.topk(min(pairing.corner_topk, peaks.shape[1]), 1)
    cell = index % (height * width)
    points = torch.stack([cell % width, cell // width], -1) + at(offset, cell)
    points = scaled(points, batch.images.shape[3] / width, batch.images.shape[2] / height).clamp(min=0)
    if pairing.clip:
        points = torch.minimum(points, batch.sizes.flip(1)[:, None])
    return Corners(points, scores, index // (height * width), cell)


def pair_corners(top_left: Corners, bottom_right: Corners, apart: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes of all pairs that may be an object: one class, not ``apart``, the top-left corner above and to the left.

    Args:
        top_left: K corners per image.
        bottom_right: K corners per image.
        apart: (B, K, K) bool, pairs that do not belong together.
        limit: How many are returned at most, the best ones.

    Returns:
        Boxes (B, N, 4), scores (B, N), labels (B, N); a pair that cannot be an object has the score -1.
    """
    apart = apart | (top_left.labels[:, :, None] != bottom_right.labels[:, None])
    apart = apart | (top_left.points[:, :, None] >= bottom_right.points[:, None]).any(-1)
    scores = (top_left.scores[:, :, None] + bottom_right.scores[:, None]) / 2
    scores = scores.masked_fill(apart, -1).flatten(1)
    scores, pair = scores.topk(min(limit, scores.shape[1]), 1)
    first, second = pair // apart.shape[2], pair % apart.shape[2]
    corners = [_rows(top_left.points, first), _rows(bottom_right.points, second)]
    return torch.cat(corners, -1), scores, top_left.labels.gather(1, first)


def _rows(points: Tensor, index: Tensor) -> Tensor:
    return points.gather(1, index[..., None].expand(-1, -1, 2))


def suppressed(boxes: Tensor, scores: Tensor, labels: Tensor, pairing: Pairing) -> list[Detections]:
    """Per image what soft-NMS leaves of boxes (B, N, 4), scores (B, N), labels (B, N)."""
    index, scores = soft_nms(
        boxes,
        scores,
        labels,
        sigma=pairing.sigma,
        min_score=pairing.min_score,
        max_detections=pairing.max_per_image,
    )
    boxes, labels = boxes.gather(1, index[..., None].expand(-1, -1, 4)), labels.gather(1, index)
    return [
        Detections(boxes=boxes[image, keep], scores=scores[image, keep], labels=labels[image, keep])
        for image, keep in enumerate(scores >= 0)
    ]


# --------------------------------------------------------------------------------------------------------- the head


class CornerHead(DenseHead):
    """Pairs of corners.

    Args:
        num_classes: C.
        in_channels: One value per stack; each stack has its own branches.
        loss_heatmap: Of the heat logits; its mean is over the cells of corners, averaged over ranks.
        loss_embedding: Of the tags.
        loss_offset: Of the offsets in the cells of corners; its mean is over these cells, averaged over ranks.
        pairing: How corners become detections.
        norm: Builds the norms of corner pooling.
    """

    def __init__(
        self,
        *,
        num_classes: NumClasses,
        in_channels: Channels[Sequence[int]],
        loss_heatmap: Loss,
        loss_embedding: EmbeddingLoss,
        loss_offset: Loss,
        pairing: Section[Pairing] = PAIRING,
        norm: Factory[Norm] | Callable[[int], nn.Module] = BN,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.loss_heatmap = loss_heatmap
        self.loss_embedding = loss_embedding
        self.loss_offset = loss_offset
        self.pairing = pairing
        self.top_left = nn.ModuleList(CornerBranch(c, num_classes, top_left=True, norm=norm) for c in in_channels)
        self.bottom_right = nn.ModuleList(CornerBranch(c, num_classes, top_left=False, norm=norm) for c in in_channels)

    def forward(self, features: Features, batch: Batch) -> list[CornerPair]:
        """Per stack a map (B, C, H, W) -> per stack the maps of both corners."""
        branches = zip(self.top_left, self.bottom_right, features, strict=True)
        return [CornerPair(top_left(x), bottom_right(x)) for top_left, bottom_right, x in branches]

    def losses(self, predictions: list[CornerPair], batch: Batch) -> Losses:
        """``loss_heatmap``, ``loss_offset`` (means over both corners) and those of the tags, summed over the stacks."""
        targets = corner_targets(batch.truth, batch.images.shape[2:], predictions[0].top_left.heat.shape[1:])
        stacks = [self._stack_losses(pair, targets, batch.truth.valid) for pair in predictions]
        return {name: torch.stack([stack[name] for stack in stacks]).sum() for name in stacks[0]}

    def _stack_losses(self, pair: CornerPair, targets: tuple[CornerTargets, CornerTargets], valid: Tensor) -> Losses:
        heat = [self._heat_loss(maps, target) for maps, target in zip(pair, targets, strict=True)]
        offset = [self._offset_loss(maps, target) for maps, target in zip(pair, targets, strict=True)]
        tags = [at(maps.tag, target.cell)[..., 0] for maps, target in zip(pair, targets, strict=True)]
        tag_losses: Losses = self.loss_embedding(tags[0], tags[1], valid)
        return {"loss_heatmap": (heat[0] + heat[1]) / 2, "loss_offset": (offset[0] + offset[1]) / 2} | tag_losses

    def _heat_loss(self, maps: CornerMaps, target: CornerTargets) -> Tensor:
        count = share_of((target.heat == 1).sum())
        loss: Tensor = self.loss_heatmap(maps.heat, target.heat, avg_factor=count)
        return loss

    def _offset_loss(self, maps: CornerMaps, target: CornerTargets) -> Tensor:
        found, wanted = at(maps.offset, target.cell).flatten(0, 1), target.offset.flatten(0, 1)
        count = share_of(target.weight.sum())
        loss: Tensor = self.loss_offset(found, wanted, target.weight.flatten(), avg_factor=count)
        return loss

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # how many there are depends on values
    def detections(self, predictions: list[CornerPair], batch: Batch, *, train: bool = False) -> list[Detections]:
        """Those of the last stack; ``train`` makes no difference."""
        with torch.no_grad():
            pair = predictions[-1]
            corners = [best_corners(maps.heat, maps.offset, batch, self.pairing) for maps in pair]
            tags = [at(maps.tag, each.cell)[..., 0] for maps, each in zip(pair, corners, strict=True)]
            apart = (tags[0][:, :, None] - tags[1][:, None]).abs() > self.pairing.distance_threshold
            boxes, scores, labels = pair_corners(corners[0], corners[1], apart, self.pairing.num_pairs)
            return suppressed(boxes, scores, labels, self.pairing)
