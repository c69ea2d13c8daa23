"""CentripetalNet (Dong et al. 2020): corners of one object point to one centre, and are paired by it.

Top to bottom: the network of a corner, its targets, which corners are apart, the head. Corner pooling, heatmaps,
their targets and soft-NMS are CornerNet's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from detcore.distributed import share_of
from detcore.interfaces import Channels, DenseHead, Factory, Features, Loss, Norm, NumClasses, Section
from detcore.layers import BN
from detcore.structures import Batch, Detections, Losses, Targets
from detcore_cornernet.cornernet import (
    PAIRING,
    CornerPooling,
    Corners,
    CornerTargets,
    Pairing,
    at,
    best_corners,
    corner_targets,
    pair_corners,
    prediction,
    scaled,
    suppressed,
)
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

NormFactory = Factory[Norm] | Callable[[int], nn.Module]

LARGE = 3500.0
"""Square pixels beyond which a box is large (section 3.2)."""
MU, MU_LARGE = 1 / 2.4, 1 / 2.1
"""Side of the central region over that of the box, and that of large boxes."""
LEAST_SHIFT = 1e-6
"""Cells; the logarithm of a smaller shift is not asked for."""


# ------------------------------------------------------------------------------------- the network (section 3.3)


class CentripetalMaps(NamedTuple):
    """What a stack says of one kind of corner.

    Attributes:
        heat: (B, C, H, W), logits: is there a corner of an object of this class?
        offset: (B, 2, H, W), where in the cell the corner is, x and y, in cells.
        guiding: (B, 2, H, W), from the cell to the object's centre, inwards, in cells.
        centripetal: (B, 2, H, W), logarithms of the way from the corner to the object's centre, inwards, in cells.
    """

    heat: Tensor
    offset: Tensor
    guiding: Tensor
    centripetal: Tensor


class CentripetalPair(NamedTuple):
    """The maps of both corners of one stack."""

    top_left: CentripetalMaps
    bottom_right: CentripetalMaps


class CrossStarConv(nn.Module):
    """Feature adaption: a 3x3 convolution whose points are moved as the guiding shift of their cell says (figure 4).

    Args:
        channels: Of the maps in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        nn.init.normal_(self.weight, std=0.01)
        self.points = nn.Conv2d(2, 2 * 9, 1, bias=False)
        nn.init.normal_(self.points.weight, std=0.1)

    def forward(self, x: Tensor, shift: Tensor) -> Tensor:
        """(B, C, H, W) and shifts (B, 2, H, W), which get no gradient -> (B, C, H, W) float32."""
        with torch.autocast(x.device.type, enabled=False):  # torchvision's operator knows no half precision everywhere
            offset = self.points(shift.detach().float())
            out: Tensor = deform_conv2d(x.float(), offset, self.weight, padding=1)
        return out


class CentripetalBranch(nn.Module):
    """The maps of one kind of corner."""

    def __init__(self, channels: int, num_classes: int, *, top_left: bool, norm: NormFactory = BN) -> None:
        super().__init__()
        self.pooling = CornerPooling(channels, top_left=top_left, norm=norm)
        self.heat = prediction(channels, num_classes)
        self.offset = prediction(channels, 2)
        self.guiding = prediction(channels, 2)
        self.adaption = CrossStarConv(channels)
        self.centripetal = prediction(channels, 2)
        nn.init.constant_(self.heat.get_parameter("1.bias"), math.log(0.1 / 0.9))  # cells begin at a probability of 0.1

    def forward(self, x: Tensor) -> CentripetalMaps:
        """(B, channels, H, W) -> the four maps."""
        x = self.pooling(x)
        guiding = self.guiding(x)
        centripetal = self.centripetal(self.adaption(x, guiding))
        return CentripetalMaps(self.heat(x), self.offset(x), guiding, centripetal)


# --------------------------------------------------------------------------------------- targets (section 3.2)


class ShiftTargets(NamedTuple):
    """What the shifts of one kind of corner should say, (B, G, 2) float32 each, beside the targets of its heat."""

    corner: CornerTargets
    guiding: Tensor
    centripetal: Tensor


def shift_targets(
    targets: Targets, image_size: Sequence[int], size: Sequence[int]
) -> tuple[ShiftTargets, ShiftTargets]:
    """The targets of the top-left and of the bottom-right corners.

    Args:
        targets: The objects.
        image_size: Height and width of the padded images, pixels.
        size: C, H, W of the heatmaps.
    """
    _, height, width = size
    scale = width / image_size[1], height / image_size[0]
    first, last = scaled(targets.boxes[..., :2], *scale), scaled(targets.boxes[..., 2:], *scale)
    centre, half = (first + last) / 2, (last - first) / 2
    centripetal = half.clamp(min=LEAST_SHIFT).log()
    top_left, bottom_right = corner_targets(targets, image_size, size)
    return (
        ShiftTargets(top_left, centre - cells(top_left.cell, width), centripetal),
        ShiftTargets(bottom_right, cells(bottom_right.cell, width) - centre, centripetal),
    )


def cells(cell: Tensor, width: int) -> Tensor:
    """(...) cells of flattened maps -> (..., 2) their columns and rows."""
    return torch.stack([cell % width, cell // width], -1)


# -------------------------------------------------------------------------------------- pairing (section 3.2)


def centres(maps: CentripetalMaps, corners: Corners, image_size: Sequence[int], sign: int) -> Tensor:
    """Where corners point to, (B, K, 2) pixels, not left of or above the image.

    Args:
        maps: Of this kind of corner.
        corners: K per image.
        image_size: Height and width of the padded images, pixels.
        sign: 1 where the centre is right of and below the corner, else -1.
    """
    height, width = maps.heat.shape[2:]
    points = cells(corners.cell, width) + at(maps.offset, corners.cell)
    points = points + sign * at(maps.centripetal, corners.cell).exp()
    return scaled(points, image_size[1] / width, image_size[0] / height).clamp(min=0)


def apart(boxes: Tensor, first: Tensor, second: Tensor, threshold: float) -> Tensor:
    """(..., 4) boxes, (..., 2) centres twice -> (...) bool: the corners of the box do not belong together.

    They do where both centres lie in its central region, and the box between them has at most ``threshold`` of the
    region's area (equations 4 to 6).
    """
    centre, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    side = size * torch.where(size.prod(-1, keepdim=True).abs() > LARGE, MU_LARGE, MU)
    low, high = centre - side / 2, centre + side / 2
    outside = [((point <= low) | (point >= high)).any(-1) for point in (first, second)]
    share = (second - first).prod(-1).abs() / side.prod(-1).abs()
    return outside[0] | outside[1] | (share > threshold)


# --------------------------------------------------------------------------------------------------------- the head


class CentripetalHead(DenseHead):
    """Pairs of corners that point to one centre.

    All means are over the cells of corners, averaged over ranks, and over both kinds of corners.

    Args:
        num_classes: C.
        in_channels: One value per stack; each stack has its own branches.
        loss_heatmap: Of the heat logits.
        loss_offset: Of the offsets in the cells of corners.
        loss_guiding: Of the guiding shifts in the cells of corners.
        loss_centripetal: Of the logarithms of the centripetal shifts in the cells of corners.
        pairing: How corners become detections; its ``distance_threshold`` is a share of areas, see :func:`apart`.
        norm: Builds the norms of corner pooling.
    """

    def __init__(
        self,
        *,
        num_classes: NumClasses,
        in_channels: Channels[Sequence[int]],
        loss_heatmap: Loss,
        loss_offset: Loss,
        loss_guiding: Loss,
        loss_centripetal: Loss,
        pairing: Section[Pairing] = PAIRING,
        norm: Factory[Norm] | Callable[[int], nn.Module] = BN,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.loss_heatmap = loss_heatmap
        self.loss_offset = loss_offset
        self.loss_guiding = loss_guiding
        self.loss_centripetal = loss_centripetal
        self.pairing = pairing

        def branches(top_left: bool) -> nn.ModuleList:
            return nn.ModuleList(CentripetalBranch(c, num_classes, top_left=top_left, norm=norm) for c in in_channels)

        self.top_left = branches(True)
        self.bottom_right = branches(False)

    def forward(self, features: Features, batch: Batch) -> list[CentripetalPair]:
        """Per stack a map (B, C, H, W) -> per stack the maps of both corners."""
        branches = zip(self.top_left, self.bottom_right, features, strict=True)
        return [CentripetalPair(top_left(x), bottom_right(x)) for top_left, bottom_right, x in branches]

    def losses(self, predictions: list[CentripetalPair], batch: Batch) -> Losses:
        """``loss_heatmap``, ``loss_offset``, ``loss_guiding``, ``loss_centripetal``, summed over the stacks."""
        targets = shift_targets(batch.truth, batch.images.shape[2:], predictions[0].top_left.heat.shape[1:])
        each = [
            self._corner_losses(maps, target)
            for pair in predictions
            for maps, target in zip(pair, targets, strict=True)
        ]
        return {name: torch.stack([losses[name] for losses in each]).sum() / 2 for name in each[0]}

    def _corner_losses(self, maps: CentripetalMaps, target: ShiftTargets) -> Losses:
        corner = target.corner
        peaks = share_of((corner.heat == 1).sum())
        count = share_of(corner.weight.sum())

        def in_cells(loss: Loss, found: Tensor, wanted: Tensor) -> Tensor:
            value: Tensor = loss(
                at(found, corner.cell).flatten(0, 1), wanted.flatten(0, 1), corner.weight.flatten(), avg_factor=count
            )
            return value

        return {
            "loss_heatmap": self.loss_heatmap(maps.heat, corner.heat, avg_factor=peaks),
            "loss_offset": in_cells(self.loss_offset, maps.offset, corner.offset),
            "loss_guiding": in_cells(self.loss_guiding, maps.guiding, target.guiding),
            "loss_centripetal": in_cells(self.loss_centripetal, maps.centripetal, target.centripetal),
        }

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # how many there are depends on values
    def detections(self, predictions: list[CentripetalPair], batch: Batch, *, train: bool = False) -> list[Detections]:
        """Those of the last stack; ``train`` makes no difference."""
        with torch.no_grad():
            pair, size = predictions[-1], batch.images.shape[2:]
            top_left, bottom_right = (best_corners(maps.heat, maps.offset, batch, self.pairing) for maps in pair)
            first = centres(pair.top_left, top_left, size, 1)[:, :, None]
            second = centres(pair.bottom_right, bottom_right, size, -1)[:, None]
            corners = top_left.points[:, :, None], bottom_right.points[:, None]
            every = torch.cat([corners[0].expand_as(first + second), corners[1].expand_as(first + second)], -1)
            strangers = apart(every, first, second, self.pairing.distance_threshold)
            boxes, scores, labels = pair_corners(top_left, bottom_right, strangers, self.pairing.num_pairs)
            return suppressed(boxes, scores, labels, self.pairing)
