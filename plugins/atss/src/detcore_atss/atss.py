"""ATSS: Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive Training Sample Selection.

Zhang, Chi, Yao, Lei and Li, CVPR 2020. Which anchors answer for an object follows from the overlaps of those near its
centre (section 4.1, algorithm 1), and the network is RetinaNet's with what FCOS added to it (section 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from detcore.errors import ConfigError
from detcore.interfaces import (
    Assigner,
    BoxChannels,
    Channels,
    ClassChannels,
    Conv,
    Factory,
    Features,
    HeadNetwork,
    Norm,
    PriorsPerCell,
    Strides,
)
from detcore.layers import GN, ConvNormAct
from detcore.structures import BACKGROUND, IGNORED, Batch, Matches, Predictions, Priors, Regions
from detcore_dense.boxes import full_precision, pairwise_iou
from detcore_dense.parts import parts
from torch import Tensor, nn

INSIDE = 0.01
"""Pixels: the centre of a positive anchor is farther than this from each side of its object."""
PAIRS_AT_ONCE = 2**23
"""About how many pairs of anchor and object the assigner looks at together at most; each takes some 20 bytes."""


# --------------------------------------------------------------------------------------------------------- assignment


class ATSSAssigner(Assigner):
    """An anchor answers for an object where it is near, overlaps it unusually well, and has its centre inside.

    Candidates of an object are the ``topk`` anchors of each level whose centres are nearest to its own. Those answer
    for it whose IoU reaches the mean of all candidates' plus their standard deviation, and whose centre lies in it. An
    anchor of several objects takes the one that it overlaps most, of equals the first. All others are background, also
    in crowds; anchors that are not valid are ignored and are nobody's candidates.

    ``quality`` of the matches is the IoU with the object, 0 where there is none.

    Args:
        topk: Candidates per level and object.

    Raises:
        ConfigError: ``topk`` is not positive; the geometry has points rather than anchors.
    """

    def __init__(self, *, topk: int = 9) -> None:
        super().__init__()
        if topk < 1:
            raise ConfigError("ATSSAssigner: topk", f"{topk} candidates per level", "Give one at least.")
        self.topk = topk

    @torch.no_grad()
    def forward(self, predictions: Predictions | Regions, batch: Batch) -> Matches:
        """Anchors (P, 4) or (B, P, 4) and the batch's objects -> matches (B, P)."""
        priors, truth = predictions.priors, batch.truth
        if priors.boxes.shape[-1] != 4:
            fix = "Give the head a geometry of boxes (Anchors)."
            raise ConfigError("ATSSAssigner", "the priors are points, whose overlap is not defined", fix)
        anchors = full_precision(priors.boxes).expand(len(truth.boxes), -1, 4)
        objects = full_precision(truth.boxes)
        index = torch.where(priors.valid, BACKGROUND, IGNORED)
        quality = torch.zeros_like(index, dtype=anchors.dtype)
        if index.numel() == 0 or objects.shape[1] == 0:
            return Matches(index, quality)
        candidates = self._candidates(anchors, priors, objects)
        answers, overlaps = _answers(anchors, candidates, priors.valid, objects)
        answers = answers & truth.valid[..., None]
        return _best_object(index, quality, candidates, answers, overlaps)

    def _candidates(self, anchors: Tensor, priors: Priors, objects: Tensor) -> Tensor:
        """(B, G, K) indices of the anchors nearest to each object, level by level; among them some that are not valid
        where a level has too few."""
        centres, wanted = _centres(anchors), _centres(objects)
        found = []
        for some in parts(wanted.shape[1], priors.valid.numel(), wanted.shape[1], PAIRS_AT_ONCE):
            start, levels = 0, []
            for size in priors.per_level:
                level = slice(start, start + size)
                distance = torch.linalg.vector_norm(centres[:, None, level] - wanted[:, some, None], dim=-1)
                distance = torch.where(priors.valid[:, None, level], distance, math.inf)
                levels.append(distance.topk(min(self.topk, size), largest=False).indices + start)
                start += size
            found.append(torch.cat(levels, 2))
        return torch.cat(found, 1)


def _answers(anchors: Tensor, candidates: Tensor, valid: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
    """Which of the candidates (B, G, K) answer for their object, and what they overlap of it."""
    shape = candidates.shape
    rows = candidates.flatten(1)
    boxes = anchors.gather(1, rows[..., None].expand(-1, -1, 4)).reshape(*shape, 4)
    counts = valid.gather(1, rows).reshape(shape)
    overlaps = pairwise_iou(boxes, objects[:, :, None])[..., 0]
    sides = torch.cat([_centres(boxes) - objects[:, :, None, :2], objects[:, :, None, 2:] - _centres(boxes)], -1)
    enough = overlaps >= _threshold(overlaps, counts)
    return enough & counts & (sides.amin(-1) > INSIDE), overlaps


def _threshold(overlaps: Tensor, counts: Tensor) -> Tensor:
    """(B, G, K) overlaps, and which of them count -> (B, G, 1) mean plus standard deviation (of a sample)."""
    number = counts.sum(-1, keepdim=True)
    mean = (overlaps * counts).sum(-1, keepdim=True) / number.clamp(min=1)
    squares = ((overlaps - mean).square() * counts).sum(-1, keepdim=True)
    return mean + (squares / (number - 1).clamp(min=1)).sqrt()


def _best_object(index: Tensor, quality: Tensor, candidates: Tensor, answers: Tensor, overlaps: Tensor) -> Matches:
    """(B, P) what an anchor is without an object, (B, G, K) candidates -> matches (B, P)."""
    rows, objects = candidates.flatten(1), candidates.shape[1]
    number = torch.arange(objects, device=index.device)[:, None].expand(candidates.shape[1:])
    overlaps = torch.where(answers, overlaps, -1).flatten(1)
    best = torch.full_like(quality, -1).scatter_reduce(1, rows, overlaps, "amax")
    reached = answers.flatten(1) & (overlaps == best.gather(1, rows))
    number = torch.where(reached, number.flatten(), objects)
    first = torch.full_like(index, objects).scatter_reduce(1, rows, number, "amin")
    return Matches(torch.where(first < objects, first, index), torch.where(first < objects, best, quality))


def _centres(boxes: Tensor) -> Tensor:
    return (boxes[..., :2] + boxes[..., 2:]) / 2


# --------------------------------------------------------------------------------------------------------- the network


class ATSSTowers(HeadNetwork):
    """Two towers of 3x3 convolutions over every level, and what they predict (section 3.1).

    Raw outputs: ``cls`` (B, A * class_channels, H, W) logits, ``box`` (B, A * box_channels, H, W) vectors times a
    learnable scale of the level, ``centerness`` (B, A, H, W) logits from the box tower.

    Args:
        in_channels: Of every map.
        strides: Of each map; one scale per level.
        class_channels: Numbers per anchor that the class loss reads.
        box_channels: Numbers per anchor that the geometry reads.
        priors_per_cell: A.
        channels: Of the towers.
        stacked_convs: Convolutions of each tower.
        norm: Builds the norms of the towers; None: none.
        conv: Builds the convolutions of the towers.
        prior_probability: Of an object, with which class logits start (focal loss).

    Raises:
        ConfigError: Another number of maps than of strides.
    """

    def __init__(
        self,
        *,
        in_channels: Channels[int],
        strides: Strides[Sequence[int]],
        class_channels: ClassChannels,
        box_channels: BoxChannels,
        priors_per_cell: PriorsPerCell,
        channels: int = 256,
        stacked_convs: int = 4,
        norm: Factory[Norm] | None = GN,  # type: ignore[assignment]
        conv: Factory[Conv] = nn.Conv2d,  # type: ignore[assignment]
        prior_probability: float = 0.01,
    ) -> None:
        super().__init__()
        widths = [in_channels, *[channels] * stacked_convs]

        def tower() -> nn.Sequential:
            return nn.Sequential(
                *(ConvNormAct(inner, outer, 3, norm=norm, conv=conv) for inner, outer in pairwise(widths))
            )

        self.cls_convs = tower()
        self.reg_convs = tower()
        self.conv_cls = nn.Conv2d(widths[-1], priors_per_cell * class_channels, 3, padding=1)
        self.conv_reg = nn.Conv2d(widths[-1], priors_per_cell * box_channels, 3, padding=1)
        self.conv_centerness = nn.Conv2d(widths[-1], priors_per_cell, 3, padding=1)
        self.scales = nn.ParameterList(torch.ones(()) for _ in strides)
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
        if len(features) != len(self.scales):
            found = f"{len(features)} maps for {len(self.scales)} strides"
            raise ConfigError("ATSSTowers: strides", found, "Give one stride per map.")
        raw: dict[str, list[Tensor]] = {"cls": [], "box": [], "centerness": []}
        for scale, x in zip(self.scales, features, strict=True):
            box_map = self.reg_convs(x)
            raw["cls"].append(self.conv_cls(self.cls_convs(x)))
            raw["box"].append(scale * self.conv_reg(box_map).float())
            raw["centerness"].append(self.conv_centerness(box_map))
        return raw
