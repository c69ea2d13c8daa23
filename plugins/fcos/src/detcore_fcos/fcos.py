"""FCOS: Fully Convolutional One-Stage Object Detection (Tian, Shen, Chen and He, ICCV 2019; TPAMI 2022).

Each cell of a pyramid is a point that predicts a class, its distances to the four sides of the object it lies in, and
how central it lies there. In the order of the paper: the network (section 3.1 and 3.2), which point answers for which
object (3.1 and 3.2), centerness and the losses (3.3). Distances are left, top, right, bottom, always in input pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from detcore.distributed import reduce_mean, share_of
from detcore.errors import ConfigError
from detcore.interfaces import (
    Assigner,
    Channels,
    ClassChannels,
    Conv,
    DenseLoss,
    Factory,
    Features,
    HeadNetwork,
    Loss,
    Norm,
    PriorsPerCell,
    Strides,
)
from detcore.layers import GN, ConvNormAct
from detcore.structures import BACKGROUND, IGNORED, Batch, Losses, Matches, Predictions, Priors
from detcore_dense.parts import parts
from torch import Tensor, nn

RANGES = ((-1.0, 64.0), (64.0, 128.0), (128.0, 256.0), (256.0, 512.0), (512.0, math.inf))
"""Section 3.2, m_2 to m_7: the longest distance to a side, in pixels, that each level answers for."""
PAIRS_AT_ONCE = 2**23
"""About how many pairs of point and object the assigner looks at together at most; each takes some 60 bytes."""


# --------------------------------------------------------------------------------------------------------- the network


class FCOSTowers(HeadNetwork):
    """Two towers of 3x3 convolutions over every level, and what they predict (figure 2).

    Raw outputs: ``cls`` (B, class_channels, H, W) logits, ``box`` (B, 4, H, W) distances in pixels, ``centerness``
    (B, 1, H, W) logits.

    Args:
        in_channels: Of every map.
        strides: Of each map; one learnable scale per level.
        class_channels: Numbers per point that the class loss reads.
        priors_per_cell: Must be 1.
        channels: Of the towers.
        stacked_convs: Convolutions of each tower.
        norm: Builds the norms of the towers; None: none.
        conv: Builds the convolutions of the towers.
        last_conv: Builds the last convolution of each tower (deformable, for example); None: ``conv``.
        conv_bias: Whether the towers' convolutions have a bias; "auto": only without a norm.
        centerness_on_box: Centerness is predicted from the box tower rather than the class tower (2022, section 3.3).
        norm_on_box: Distances are learnt in strides, as ``relu(scale * x) * stride`` rather than ``exp(scale * x)``.
        prior_probability: Of an object, with which class logits start (focal loss).

    Raises:
        ConfigError: More than one prior per cell; another number of maps than of strides.
    """

    def __init__(
        self,
        *,
        in_channels: Channels[int],
        strides: Strides[Sequence[int]],
        class_channels: ClassChannels,
        priors_per_cell: PriorsPerCell = 1,
        channels: int = 256,
        stacked_convs: int = 4,
        norm: Factory[Norm] | None = GN,  # type: ignore[assignment]
        conv: Factory[Conv] = nn.Conv2d,  # type: ignore[assignment]
        last_conv: Factory[Conv] | None = None,
        conv_bias: bool | Literal["auto"] = "auto",
        centerness_on_box: bool = False,
        norm_on_box: bool = False,
        prior_probability: float = 0.01,
    ) -> None:
        super().__init__()
        if priors_per_cell != 1:
            fix = "Give a geometry of one point per cell (Points)."
            raise ConfigError("FCOSTowers", f"{priors_per_cell} priors per cell; it predicts for one", fix)
        self.strides = tuple(strides)
        self.centerness_on_box = centerness_on_box
        self.norm_on_box = norm_on_box

        def tower() -> nn.Sequential:
            convs = [conv] * (stacked_convs - 1) + [last_conv or conv]
            widths = [in_channels] + [channels] * stacked_convs
            bias = None if conv_bias == "auto" else conv_bias
            return nn.Sequential(
                *(
                    ConvNormAct(widths[index], channels, 3, norm=norm, conv=convs[index], bias=bias)
                    for index in range(stacked_convs)
                )
            )

        self.cls_convs = tower()
        self.reg_convs = tower()
        features = channels if stacked_convs else in_channels
        self.conv_cls = nn.Conv2d(features, class_channels, 3, padding=1)
        self.conv_reg = nn.Conv2d(features, 4, 3, padding=1)
        self.conv_centerness = nn.Conv2d(features, 1, 3, padding=1)
        self.scales = nn.ParameterList(torch.ones(()) for _ in self.strides)
        self._init_weights(prior_probability)

    def _init_weights(self, prior_probability: float) -> None:
        towers = [block.get_submodule("conv") for block in (*self.cls_convs, *self.reg_convs)]
        for layer in (*towers, self.conv_cls, self.conv_reg, self.conv_centerness):
            nn.init.normal_(layer.get_parameter("weight"), std=0.01)
            if isinstance(layer.bias, Tensor):
                nn.init.zeros_(layer.bias)
        nn.init.constant_(self.conv_cls.get_parameter("bias"), -math.log((1 - prior_probability) / prior_probability))

    def forward(self, features: Features) -> Mapping[str, Sequence[Tensor]]:
        """L maps (B, C, H, W) -> ``cls``, ``box``, ``centerness``, L maps each."""
        if len(features) != len(self.strides):
            found = f"{len(features)} maps for {len(self.strides)} strides"
            raise ConfigError("FCOSTowers: strides", found, "Give one stride per map.")
        raw: dict[str, list[Tensor]] = {"cls": [], "box": [], "centerness": []}
        for level, x in enumerate(features):
            class_map, box_map = self.cls_convs(x), self.reg_convs(x)
            raw["cls"].append(self.conv_cls(class_map))
            raw["box"].append(self._distances(level, self.conv_reg(box_map)))
            raw["centerness"].append(self.conv_centerness(box_map if self.centerness_on_box else class_map))
        return raw

    def _distances(self, level: int, x: Tensor) -> Tensor:
        x = self.scales[level] * x.float()
        return x.relu() * self.strides[level] if self.norm_on_box else x.exp()


# --------------------------------------------------------------------------------------------------------- assignment


class FCOSAssigner(Assigner):
    """A point answers for the smallest of the objects that it lies in and whose size is its level's.

    Size is the longest of the point's distances to the four sides (section 3.2). All other points are background, those
    inside crowds and in the padding too.

    Args:
        ranges: Per level the least and the largest size, both inclusive, in pixels.
        radius: Of the points inside an object only those answer for it that are nearer to its centre than so many
            strides, in x and y (centre sampling; 2022: 1.5). 0: all.

    Raises:
        ConfigError: A range whose end is not above its beginning, a negative radius; not as many ranges as levels.
    """

    ranges: Tensor

    def __init__(self, *, ranges: Sequence[tuple[float, float]] = RANGES, radius: float = 0.0) -> None:
        super().__init__()
        for low, high in ranges:
            if not low < high:
                fix = "Each range is the least and the largest size of a level."
                raise ConfigError("FCOSAssigner: ranges", f"{low} to {high} holds no size", fix)
        if not radius >= 0:
            raise ConfigError("FCOSAssigner: radius", f"{radius}", "Give strides, or 0 for no centre sampling.")
        self.register_buffer("ranges", torch.tensor(ranges, dtype=torch.float32).reshape(-1, 2), persistent=False)
        self.radius = radius

    def forward(self, predictions: Predictions, batch: Batch) -> Matches:
        """Priors of predictions, targets of the batch -> matches; of objects of one area the first is taken."""
        priors, truth = predictions.priors, batch.truth
        points, (low, high) = centres(priors), self._ranges(priors)
        images, objects = truth.valid.shape
        if objects == 0:
            return Matches(truth.labels.new_full((images, len(points)), BACKGROUND))
        area = (truth.boxes[..., 2:] - truth.boxes[..., :2]).prod(-1)[:, None]
        which = torch.arange(objects, device=points.device)
        index = []
        for some in parts(len(points), images * len(points), objects, PAIRS_AT_ONCE):
            size = distances(points[some, None], truth.boxes[:, None]).amax(-1)
            answers = self._inside(points[some], priors.stride[some], truth.boxes) & truth.valid[:, None]
            candidate = torch.where(answers & (size >= low[some]) & (size <= high[some]), area, math.inf)
            least = candidate.amin(-1, keepdim=True)
            first = torch.where(candidate == least, which, objects).amin(-1)
            index.append(torch.where(least[..., 0] < math.inf, first, BACKGROUND))
        return Matches(torch.cat(index, 1))

    def _ranges(self, priors: Priors) -> tuple[Tensor, Tensor]:
        """The least and the largest size (P, 1) that each point answers for."""
        levels = len(priors.per_level)
        if len(self.ranges) != levels:
            found = f"{len(self.ranges)} ranges for {levels} levels"
            raise ConfigError("FCOSAssigner: ranges", found, "Give one range per level, shallow to deep.")
        low, high = self.ranges[priors.level, :, None].unbind(1)
        return low, high

    def _inside(self, points: Tensor, stride: Tensor, boxes: Tensor) -> Tensor:
        """(P, 2) points, (P,) strides, (B, G, 4) boxes -> (B, P, G) bool, in the box or in the middle of it."""
        boxes = boxes[:, None]
        if self.radius:
            middle, reach = (boxes[..., :2] + boxes[..., 2:]) / 2, self.radius * stride[:, None, None]
            upper_left = torch.maximum(middle - reach, boxes[..., :2])
            boxes = torch.cat([upper_left, torch.minimum(middle + reach, boxes[..., 2:])], -1)
        return distances(points[:, None], boxes).amin(-1) > 0


def centres(priors: Priors) -> Tensor:
    """The points (P, 2) of priors; the centres of those that are boxes."""
    boxes = priors.boxes
    return boxes if boxes.shape[-1] == 2 else (boxes[..., :2] + boxes[..., 2:]) / 2


def distances(points: Tensor, boxes: Tensor) -> Tensor:
    """(..., 2) points, (..., 4) boxes -> (..., 4) from the point to the left, top, right and bottom side."""
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], -1)


# ----------------------------------------------------------------------------------------------------------- the losses


def centerness(sides: Tensor) -> Tensor:
    """How central a point lies in its box, 0 on a side to 1 in the middle (section 3.3, equation 3).

    Args:
        sides: (..., 4) distances to left, top, right and bottom, none negative.
    """
    nearer = torch.minimum(sides[..., :2], sides[..., 2:])
    farther = torch.maximum(sides[..., :2], sides[..., 2:])
    return (nearer / farther.clamp(min=torch.finfo(sides.dtype).tiny)).prod(-1).sqrt()


class FCOSLoss(DenseLoss):
    """``loss_cls``, ``loss_box`` and ``loss_centerness`` (section 3.1, equation 2, and 3.3).

    Class and centerness are divided by the number of points with an object; the box, which is weighted by centerness,
    by the sum of the weights. Both are averaged over the ranks of a distributed run.

    Args:
        loss_cls: Of class logits, over all points.
        loss_box: Of boxes in pixels, or of distances in strides where it is not ``decoded``; over points with objects.
        loss_centerness: Of centerness logits; over points with objects.
        least_weight: The least that the loss of boxes is divided by (ATSS: 1).

    Raises:
        ConfigError: ``loss_centerness`` is a softmax.
    """

    def __init__(self, *, loss_cls: Loss, loss_box: Loss, loss_centerness: Loss, least_weight: float = 1e-6) -> None:
        super().__init__()
        if loss_centerness.softmax:
            raise ConfigError("FCOSLoss: loss_centerness", "a softmax of one number", "Give it use_sigmoid = true.")
        self.loss_cls = loss_cls
        self.loss_box = loss_box
        self.loss_centerness = loss_centerness
        self.least_weight = least_weight
        self.softmax = loss_cls.softmax

    def forward(self, predictions: Predictions, matches: Matches, batch: Batch) -> Losses:
        """Named scalars, finite and tied to all predictions where there is no object at all."""
        positive, truth = matches.positive, batch.truth
        weight = (matches.index != IGNORED).float()
        if matches.weight is not None:
            weight = weight * matches.weight
        boxes = truth.gather_boxes(matches.index)
        sides = distances(centres(predictions.priors), boxes)
        central = torch.where(positive, centerness(sides.clamp(min=0)), 0)
        count = share_of(positive.sum())
        central_count = reduce_mean(central.sum()).clamp(min=self.least_weight)
        labels = truth.gather_labels(matches.index)
        return {
            "loss_cls": self.loss_cls(predictions.flat("cls"), labels, weight, count),
            "loss_box": self.loss_box(*self._boxes(predictions, positive, boxes), weight * central, central_count),
            "loss_centerness": self.loss_centerness(
                predictions.flat("centerness")[..., 0], central, weight * positive, count
            ),
        }

    def _boxes(self, predictions: Predictions, positive: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """What the box loss compares, (B, P, 4) each; the same box on both sides where there is no object."""
        if self.loss_box.decoded:
            found = predictions.boxes()
        else:
            priors = predictions.priors
            stride = priors.stride[:, None]
            found = predictions.flat("box") / stride
            boxes = predictions.encode(priors.boxes, priors.stride, boxes) / stride
        unit = torch.arange(4, device=boxes.device) // 2  # 0, 0, 1, 1
        positive = positive[..., None]
        return torch.where(positive, found, unit), torch.where(positive, boxes, unit)
