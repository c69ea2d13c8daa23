"""YOLOX: Exceeding YOLO Series in 2021 (Ge, Liu, Wang, Li and Sun, 2021).

In the order of the way through the detector: the neck and the decoupled head (section 2.1), what a predicted vector
means (anchor-free), which prior answers for which object (SimOTA), the losses, and which detections come out. The
backbone, CSPDarknet, is a plugin of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import attrs
import torch
from detcore.distributed import share_of
from detcore.errors import ConfigError
from detcore.interfaces import (
    Activation,
    Assigner,
    Channels,
    ClassChannels,
    Decoder,
    DenseLoss,
    Factory,
    Features,
    Geometry,
    HeadNetwork,
    Loss,
    Neck,
    Norm,
    PriorsPerCell,
    Strides,
)
from detcore.structures import (
    BACKGROUND,
    IGNORED,
    Batch,
    Detections,
    Losses,
    Matches,
    Predictions,
    Priors,
    Targets,
    clip_boxes,
)
from detcore_csp_darknet.csp_darknet import YOLO_BN, Blocks, CSPLayer
from detcore_dense.boxes import full_precision, pairwise_iou
from detcore_dense.decoders import Overrides, nms, overridden, suppression_places
from detcore_dense.parts import parts
from detcore_dense.points import Points
from torch import Tensor, nn
from torch.nn import functional as F

OBJECTNESS = "objectness"
"""Name of the raw output that says whether there is an object."""
PAIRS_AT_ONCE = 2**23
"""About how many pairs of prior and object the assigner looks at together at most; each takes some 60 bytes."""


# ----------------------------------------------------------------------------------------------------------- the neck


class YOLOXPAFPN(Neck):
    """Down the pyramid and up again (Liu et al. 2018, PANet), maps side by side rather than summed, CSP layers between.

    Args:
        in_channels: Of each map that comes in.
        in_strides: Of each map that comes in.
        out_channels: Of every map that goes out; None: as the shallowest map that comes in.
        num_csp_blocks: Bottlenecks of each CSP layer (YOLOX-Nano, -Tiny and -S: 1, M: 2, L: 3, X: 4).
        norm: Builds the norms.
        act: Builds the activations.
        depthwise: Convolutions larger than 1x1 are a depthwise one and a 1x1 one.
    """

    def __init__(
        self,
        *,
        in_channels: Channels[Sequence[int]],
        in_strides: Strides[Sequence[int]],
        out_channels: int | None = None,
        num_csp_blocks: int = 3,
        norm: Factory[Norm] = YOLO_BN,  # type: ignore[assignment]
        act: Factory[Activation] = nn.SiLU,  # type: ignore[assignment]
        depthwise: bool = False,
    ) -> None:
        super().__init__()
        blocks = Blocks(norm, act, depthwise)
        out_channels = out_channels or in_channels[0]

        def csp(inner: int, outer: int) -> CSPLayer:
            return CSPLayer(2 * inner, outer, num_blocks=num_csp_blocks, blocks=blocks, shortcut=False)

        steps = list(pairwise(in_channels))
        down = [(deep, shallow) for shallow, deep in reversed(steps)]
        self.reduce_layers = nn.ModuleList(blocks.conv(deep, shallow) for deep, shallow in down)
        self.top_down_blocks = nn.ModuleList(csp(shallow, shallow) for _, shallow in down)
        self.downsamples = nn.ModuleList(blocks.spatial(shallow, shallow, stride=2) for shallow, _ in steps)
        self.bottom_up_blocks = nn.ModuleList(csp(shallow, deep) for shallow, deep in steps)
        self.out_convs = nn.ModuleList(blocks.conv(channels, out_channels) for channels in in_channels)
        self.out_channels = (out_channels,) * len(in_channels)
        self.strides = tuple(in_strides)

    def forward(self, features: Features) -> Features:
        """L maps (B, C_l, H_l, W_l) -> L maps (B, out_channels, H_l, W_l)."""
        x, reduced = features[-1], []
        for reduce, block, lower in zip(self.reduce_layers, self.top_down_blocks, features[-2::-1], strict=True):
            reduced.append(reduce(x))
            larger = F.interpolate(reduced[-1], size=lower.shape[-2:], mode="nearest")
            x = block(torch.cat([larger, lower], 1))
        outs = [x]
        for downsample, block, upper in zip(self.downsamples, self.bottom_up_blocks, reduced[::-1], strict=True):
            outs.append(block(torch.cat([downsample(outs[-1]), upper], 1)))
        return [conv(out) for conv, out in zip(self.out_convs, outs, strict=True)]


# --------------------------------------------------------------------------------------------------------- the network


class YOLOXTowers(HeadNetwork):
    """The decoupled head (figure 2): on every level two towers of its own, and what they predict.

    Raw outputs: ``cls`` (B, class_channels, H, W) logits, ``box`` (B, 4, H, W) as :class:`PointsWH` reads them,
    ``objectness`` (B, 1, H, W) logits, made by the box tower.

    Args:
        in_channels: Of every map.
        strides: Of each map; every level has its own towers.
        class_channels: Numbers per prior that the class loss reads.
        priors_per_cell: Must be 1.
        channels: Of the towers; None: as the maps.
        stacked_convs: Convolutions of each tower.
        norm: Builds the norms.
        act: Builds the activations.
        depthwise: Convolutions larger than 1x1 are a depthwise one and a 1x1 one.
        prior_probability: Of an object and of its class, with which the logits start.

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
        channels: int | None = None,
        stacked_convs: int = 2,
        norm: Factory[Norm] = YOLO_BN,  # type: ignore[assignment]
        act: Factory[Activation] = nn.SiLU,  # type: ignore[assignment]
        depthwise: bool = False,
        prior_probability: float = 0.01,
    ) -> None:
        super().__init__()
        if priors_per_cell != 1:
            fix = "Give a geometry of one point per cell (PointsWH)."
            raise ConfigError("YOLOXTowers", f"{priors_per_cell} priors per cell; it predicts for one", fix)
        blocks = Blocks(norm, act, depthwise)
        widths = [in_channels] + [channels or in_channels] * stacked_convs
        levels = len(strides)

        def towers() -> nn.ModuleList:
            return nn.ModuleList(
                nn.Sequential(*(blocks.spatial(inner, outer) for inner, outer in pairwise(widths)))
                for _ in range(levels)
            )

        def last(outputs: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(widths[-1], outputs, 1) for _ in range(levels))

        self.cls_convs = towers()
        self.reg_convs = towers()
        self.conv_cls = last(class_channels)
        self.conv_reg = last(4)
        self.conv_obj = last(1)
        for layer in (*self.conv_cls, *self.conv_obj):
            nn.init.constant_(layer.get_parameter("bias"), math.log(prior_probability / (1 - prior_probability)))

    def forward(self, features: Features) -> Mapping[str, Sequence[Tensor]]:
        """L maps (B, C, H, W) -> ``cls``, ``box``, ``objectness``, L maps each."""
        if len(features) != len(self.conv_cls):
            found = f"{len(features)} maps for {len(self.conv_cls)} strides"
            raise ConfigError("YOLOXTowers: strides", found, "Give one stride per map.")
        class_maps = [tower(x) for tower, x in zip(self.cls_convs, features, strict=True)]
        box_maps = [tower(x) for tower, x in zip(self.reg_convs, features, strict=True)]
        return {
            "cls": [conv(x) for conv, x in zip(self.conv_cls, class_maps, strict=True)],
            "box": [conv(x) for conv, x in zip(self.conv_reg, box_maps, strict=True)],
            OBJECTNESS: [conv(x) for conv, x in zip(self.conv_obj, box_maps, strict=True)],
        }


# --------------------------------------------------------------------------------------------------------- geometry


class PointsWH(Geometry):
    """A point per cell, its upper left corner; a vector holds the box's centre and the logarithm of its size.

    The centre is relative to the point; centre and size are in strides.

    Args:
        strides: Input pixels per cell of each map.
    """

    priors_per_cell = 1
    most = 20.0
    """Logarithm of the largest size: e^20 strides; boxes nobody asked for then have areas and gradients."""
    least = 1e-8
    """Added to sizes in strides before their logarithm is taken."""

    def __init__(self, *, strides: Strides[Sequence[int]]) -> None:
        super().__init__()
        self.points = Points(strides=strides, offset=0.0)

    def priors(self, features: Features, batch: Batch) -> Priors:
        """The points (P, 2) of the maps; valid where their cell begins inside the image's padded shape."""
        return self.points.priors(features, batch)

    def encode(self, priors: Tensor, stride: Tensor, boxes: Tensor) -> Tensor:
        """(..., 2) points, (...) strides, (..., 4) boxes -> (..., 4) dx, dy, log w, log h."""
        boxes, stride = full_precision(boxes), stride[..., None]
        centre, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
        return torch.cat([(centre - priors) / stride, (size / stride + self.least).log()], -1)

    def decode(self, priors: Tensor, stride: Tensor, vectors: Tensor) -> Tensor:
        """(..., 2) points, (...) strides, (..., 4) vectors -> (..., 4) boxes, not clipped."""
        vectors, stride = full_precision(vectors), stride[..., None]
        centre = vectors[..., :2] * stride + priors
        half = vectors[..., 2:].clamp(max=self.most).exp() * stride / 2
        return torch.cat([centre - half, centre + half], -1)


# --------------------------------------------------------------------------------------------------------- assignment


@attrs.define(eq=False)
class Claims:
    """What is known of each prior, (B, P) each, after the objects that were looked at so far.

    Attributes:
        count: By how many objects it is claimed.
        claimant: By which, where it is one.
        cheapest: The object that costs it least, whether that claims it or not; the first of equals.
        least: That cost.
    """

    count: Tensor
    claimant: Tensor
    cheapest: Tensor
    least: Tensor

    def add(self, claims: Tensor, cost: Tensor, start: int) -> None:
        """(B, g, P) claims and costs of the objects from ``start`` on."""
        which = torch.arange(start, start + claims.shape[1], device=cost.device)[:, None]
        least = cost.amin(1)
        first = torch.where(cost == least[:, None], which, start + claims.shape[1]).amin(1)
        self.count = self.count + claims.sum(1)
        self.claimant = self.claimant + (claims * which).sum(1)
        self.cheapest = torch.where(least < self.least, first, self.cheapest)
        self.least = torch.minimum(least, self.least)

    def winner(self) -> Tensor:
        """(B, P) the object that each prior answers for, or -1."""
        one = torch.where(self.count == 1, self.claimant, BACKGROUND)
        return torch.where(self.count > 1, self.cheapest, one)


class SimOTAAssigner(Assigner):
    """Each object takes the k priors that cost it least (section 2.1, SimOTA; Ge et al. 2021, OTA).

    1. Candidates of an image are the cells whose centre lies in any of its objects, or near the centre of any.
    2. A candidate costs an object ``cls_weight`` times the binary cross entropy of its scores plus ``iou_weight`` times
       -log IoU of its box; 100,000 more where the cell is not both in the object and near its centre.
    3. k is the sum of the object's ``candidate_topk`` best IoUs, rounded down, at least 1.
    4. A prior that several objects take goes to the object that costs least of *all*, taking or not.

    Of equal costs the first prior and the first object are taken. Crowds take nothing. ``quality`` of the matches is
    the IoU of the predicted box with its object, 0 for background.

    Args:
        center_radius: Nearer to the centre than so many strides, in x and y.
        candidate_topk: So many of the best IoUs make up k.
        iou_weight: Of the IoU in the cost.
        cls_weight: Of the classes in the cost.
        offset: The centre of a cell is so many strides right of and below its point.
        quality: Raw output (objectness) whose sigmoid multiplies the class probabilities, of which then the square root
            is taken; None: the class probabilities are the scores.

    Raises:
        ConfigError: A radius or a count that is not positive; a geometry of boxes rather than points.
    """

    outside = 1e5
    """What it costs not to be both in the object and near its centre."""

    def __init__(
        self,
        *,
        center_radius: float = 2.5,
        candidate_topk: int = 10,
        iou_weight: float = 3.0,
        cls_weight: float = 1.0,
        offset: float = 0.5,
        quality: str | None = OBJECTNESS,
    ) -> None:
        super().__init__()
        if not center_radius > 0:
            raise ConfigError("SimOTAAssigner: center_radius", f"{center_radius}", "Give a positive number of strides.")
        if candidate_topk < 1:
            raise ConfigError("SimOTAAssigner: candidate_topk", f"{candidate_topk}", "Give at least 1.")
        self.center_radius = center_radius
        self.candidate_topk = candidate_topk
        self.iou_weight = iou_weight
        self.cls_weight = cls_weight
        self.offset = offset
        self.quality = quality

    @torch.no_grad()
    def forward(self, predictions: Predictions, batch: Batch) -> Matches:
        """Predictions and the batch's objects -> matches (B, P)."""
        truth, boxes = batch.truth, predictions.boxes()
        usable = torch.zeros(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
        for some in _slices(usable, truth):
            inside, near = self._whereabouts(predictions.priors, truth.boxes[:, some])
            usable = usable | ((inside | near) & truth.valid[:, some, None]).any(1)
        class_costs = _class_costs(self._scores(predictions)).transpose(1, 2)
        zeros = torch.zeros_like(usable, dtype=torch.int64)
        found = Claims(zeros, zeros, zeros, torch.full(usable.shape, math.inf, device=boxes.device))
        for some in _slices(usable, truth):
            counts = usable[:, None] & truth.valid[:, some, None]
            overlaps = torch.where(counts, pairwise_iou(truth.boxes[:, some], boxes), 0)
            labels = truth.labels[:, some, None].clamp(min=0).expand_as(overlaps)
            cost = self.cls_weight * class_costs.gather(1, labels) - self.iou_weight * (overlaps + 1e-7).log()
            inside, near = self._whereabouts(predictions.priors, truth.boxes[:, some])
            cost = torch.where(counts, cost + ~(inside & near) * self.outside, math.inf)
            count = dynamic_k(overlaps, self.candidate_topk)
            found.add(cheapest(cost, count, self.candidate_topk), cost, some.start)
        index = found.winner()
        overlap = pairwise_iou(boxes[:, :, None], truth.gather_boxes(index)[:, :, None])[..., 0, 0]
        return Matches(index, torch.where(index >= 0, overlap, 0))

    def _scores(self, predictions: Predictions) -> Tensor:
        """(B, P, C) probabilities in float32."""
        if self.quality is None:
            return predictions.scores
        return (predictions.scores * predictions.flat(self.quality).float().sigmoid()).sqrt()

    def _whereabouts(self, priors: Priors, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """(B, G, 4) boxes -> (B, G, P) bool twice: the cell's centre is in the box, is near its centre."""
        if priors.boxes.shape[-1] != 2:
            fix = "Give a geometry of points (PointsWH, Points)."
            raise ConfigError("SimOTAAssigner", "priors that are boxes; it looks at points", fix)
        cells = priors.boxes + self.offset * priors.stride[:, None]
        upper_left, lower_right = boxes[:, :, None, :2], boxes[:, :, None, 2:]
        centre, reach = (upper_left + lower_right) / 2, self.center_radius * priors.stride[:, None]
        inside = (cells > upper_left) & (cells < lower_right)
        near = (cells > centre - reach) & (cells < centre + reach)
        return inside.all(-1), near.all(-1)


def dynamic_k(overlaps: Tensor, topk: int) -> Tensor:
    """(B, G, P) IoUs -> (B, G) int64 how many priors each object takes: the sum of its ``topk`` best, 1 to ``topk``."""
    best = overlaps.topk(min(topk, overlaps.shape[-1])).values
    return best.sum(-1).long().clamp(1, best.shape[-1])


def cheapest(cost: Tensor, count: Tensor, most: int) -> Tensor:
    """(B, G, P) costs, (B, G) counts up to ``most`` -> (B, G, P) bool, so many least costs of each object.

    Of equal costs the first are taken, on every device; infinite costs are not taken.
    """
    lowest = cost.topk(min(most, cost.shape[-1]), largest=False).values
    limit = lowest.gather(-1, count[..., None] - 1)
    below, equal = cost < limit, cost == limit
    room = count[..., None] - below.sum(-1, keepdim=True)
    return (below | (equal & (equal.cumsum(-1) <= room))) & (cost < math.inf)


def _class_costs(scores: Tensor) -> Tensor:
    """(B, P, C) probabilities -> (B, P, C) binary cross entropy with each of the classes as the only one.

    Logarithms stop at -100, as torch's binary cross entropy does.
    """
    yes, no = -scores.log().clamp(min=-100), -(-scores).log1p().clamp(min=-100)
    return yes + (no.sum(-1, keepdim=True) - no)


def _slices(usable: Tensor, truth: Targets) -> list[slice]:
    """Objects, as many at a time as fit into memory with all priors."""
    objects = truth.valid.shape[1]
    return parts(objects, usable.numel(), objects, PAIRS_AT_ONCE)


# ----------------------------------------------------------------------------------------------------------- the losses


class YOLOXLoss(DenseLoss):
    """``loss_cls``, ``loss_box``, ``loss_obj`` and, late in training, ``loss_l1`` (section 2.1).

    Classes learn the IoU that the prior's box has with its object (``quality`` of the matches; 1 where there is none).
    All are divided by the number of priors with an object, averaged over the ranks of a distributed run.

    Args:
        loss_cls: Of class logits, sigmoids; over priors with objects.
        loss_box: Of boxes in pixels, or of encoded vectors where it is not ``decoded``; over priors with objects.
        loss_obj: Of objectness logits, over all priors.
        loss_l1: Of encoded vectors, over priors with objects; None: never.
        l1_from: The progress of training, 0 to 1, from which on ``loss_l1`` counts (the last 15 of 300 epochs).

    Raises:
        ConfigError: ``loss_cls`` or ``loss_obj`` is a softmax, ``loss_l1`` wants pixels.
    """

    def __init__(
        self, *, loss_cls: Loss, loss_box: Loss, loss_obj: Loss, loss_l1: Loss | None = None, l1_from: float = 0.95
    ) -> None:
        super().__init__()
        for name, loss in (("loss_cls", loss_cls), ("loss_obj", loss_obj)):
            if loss.softmax:
                raise ConfigError(f"YOLOXLoss: {name}", "a softmax", "Give it use_sigmoid = true.")
        if loss_l1 is not None and loss_l1.decoded:
            raise ConfigError("YOLOXLoss: loss_l1", "a loss of boxes in pixels", "Give a loss of vectors (L1Loss).")
        self.loss_cls = loss_cls
        self.loss_box = loss_box
        self.loss_obj = loss_obj
        self.loss_l1 = loss_l1
        self.l1_from = l1_from

    def forward(self, predictions: Predictions, matches: Matches, batch: Batch) -> Losses:
        """Named scalars, finite and tied to all predictions where there is no object at all."""
        positive, truth = matches.positive, batch.truth
        weight = (matches.index != IGNORED).float()
        if matches.weight is not None:
            weight = weight * matches.weight
        count = share_of(positive.sum())
        logits = predictions.flat("cls")
        labels = truth.gather_labels(matches.index)[..., None] == torch.arange(logits.shape[-1], device=logits.device)
        classes = labels.float() if matches.quality is None else labels * matches.quality[..., None]
        boxes = truth.gather_boxes(matches.index)
        objects = weight * positive
        losses = {
            "loss_cls": self.loss_cls(logits, classes, objects, count),
            "loss_box": self.loss_box(*_pairs(self.loss_box, predictions, positive, boxes), objects, count),
            "loss_obj": self.loss_obj(predictions.flat(OBJECTNESS)[..., 0], positive.float(), weight, count),
        }
        if self.loss_l1 is not None and batch.progress >= self.l1_from:
            losses["loss_l1"] = self.loss_l1(*_pairs(self.loss_l1, predictions, positive, boxes), objects, count)
        return losses


def _pairs(loss: Loss, predictions: Predictions, positive: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """What a box loss compares, (B, P, 4) each; the same box on both sides where there is no object."""
    if loss.decoded:
        found = predictions.boxes()
    else:
        found, priors = predictions.flat("box"), predictions.priors
        boxes = predictions.encode(priors.boxes, priors.stride, boxes)
    unit = torch.arange(4, device=boxes.device) // 2  # 0, 0, 1, 1
    return torch.where(positive[..., None], found, unit), torch.where(positive[..., None], boxes, unit)


# ------------------------------------------------------------------------------------------------------ detections


@attrs.frozen
class _Settings:
    score_threshold: float
    nms_iou: float
    max_detections: int | None


class YOLOXDecoder(Decoder):
    """Of each prior the best class, its probability times objectness; score threshold, NMS per class.

    Args:
        score_threshold: The product must reach it.
        nms_iou: A detection goes where its IoU with a better one of its class exceeds this.
        max_detections: At most so many per image; None is all.
        clip: Boxes are cut at the image's borders, after NMS. The reference does not: there, boxes may reach over.
        quality: Raw output whose sigmoid multiplies the class probabilities.
        train: Any of the first three, where proposals for training are asked for.

    Raises:
        ConfigError: ``train`` holds something else.
    """

    def __init__(
        self,
        *,
        score_threshold: float = 0.01,
        nms_iou: float = 0.65,
        max_detections: int | None = None,
        clip: bool = True,
        quality: str = OBJECTNESS,
        train: Overrides | None = None,
    ) -> None:
        super().__init__()
        self.clip = clip
        self.quality = quality
        self.settings = _Settings(score_threshold, nms_iou, max_detections)
        self.train_settings = overridden(self.settings, train, "train")

    def forward(self, predictions: Predictions, batch: Batch, *, train: bool = False) -> list[Detections]:
        """Per image the detections, in input pixels, best first."""
        settings = self.train_settings if train else self.settings
        probabilities, labels = predictions.scores.max(-1)
        scores = probabilities * predictions.flat(self.quality)[..., 0].float().sigmoid()
        boxes = predictions.boxes()
        places = suppression_places(boxes, max(batch.images.shape[-2:]))
        if self.clip:
            boxes = clip_boxes(boxes, batch.sizes[:, None])
        found = []
        for image, keep in enumerate(scores >= settings.score_threshold):
            each = [values[image, keep] for values in (boxes, scores, labels)]
            kept = nms(places[image, keep], each[1], each[2], settings.nms_iou, settings.max_detections)
            found.append(Detections(*(values[kept] for values in each)))
        return found
