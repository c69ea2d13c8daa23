"""YOLOv3: An Incremental Improvement (Redmon and Farhadi 2018).

In the order of the way through the detector: the neck and what predicts on its three scales (section 2.3), what a
predicted vector means (section 2.1), which anchor answers for which object, the losses, and which detections come out.
The backbone, Darknet-53, is a plugin of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import attrs
import torch
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
from detcore.layers import BN, ConvNormAct
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
from detcore_darknet.darknet import LEAKY
from detcore_dense.boxes import full_precision, larger_than, pairwise_iou
from detcore_dense.decoders import Overrides, best_per_level, nms, overridden, suppression_places
from detcore_dense.grid import grid, map_sizes
from detcore_dense.loss import aligned_boxes
from detcore_dense.parts import parts
from torch import Tensor, nn
from torch.nn import functional as F

OBJECTNESS = "objectness"
"""Name of the raw output that says whether there is an object."""
BASE_SIZES = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
"""Widths and heights of the paper's anchors on strides 8, 16 and 32: clusters of COCO's boxes."""
PAIRS_AT_ONCE = 2**23
"""About how many pairs of prior and object the assigner looks at together at most; each takes some 40 bytes."""

NormFactory = Factory[Norm] | Callable[[int], nn.Module]
ActFactory = Factory[Activation] | Callable[[], nn.Module]


# ----------------------------------------------------------------------------------------------------------- the neck


class DetectionBlock(nn.Sequential):
    """Five convolutions, 1x1 and 3x3 in turn; the 3x3 ones have twice the channels."""

    def __init__(self, in_channels: int, out_channels: int, *, norm: NormFactory = BN, act: ActFactory = LEAKY) -> None:
        wide = 2 * out_channels
        sizes = [(in_channels, out_channels), (out_channels, wide), (wide, out_channels)]
        sizes += [(out_channels, wide), (wide, out_channels)]
        kernels = (1, 3, 1, 3, 1)
        super().__init__(
            *(ConvNormAct(*size, kernel, norm=norm, act=act) for size, kernel in zip(sizes, kernels, strict=True))
        )


class YOLOV3Neck(Neck):
    """From the deepest map down: each is joined, side by side, by what was made of the one before it.

    Args:
        in_channels: Of each map that comes in.
        in_strides: Of each map that comes in.
        out_channels: Of each map that goes out, shallow to deep; None: half of what comes in.
        norm: Builds the norms.
        act: Builds the activations.

    Raises:
        ConfigError: Another number of ``out_channels`` than of maps.
    """

    def __init__(
        self,
        *,
        in_channels: Channels[Sequence[int]],
        in_strides: Strides[Sequence[int]],
        out_channels: Sequence[int] | None = None,
        norm: Factory[Norm] = BN,  # type: ignore[assignment]
        act: Factory[Activation] = LEAKY,  # type: ignore[assignment]
    ) -> None:
        super().__init__()
        outs = [channels // 2 for channels in in_channels] if out_channels is None else list(out_channels)
        if len(outs) != len(in_channels):
            raise ConfigError("out_channels", f"{len(outs)} for {len(in_channels)} maps", "Give one per map.")
        widths = list(zip(in_channels, outs, strict=True))[::-1]
        joined = [0, *(out for _, out in widths[1:])]
        self.detect = nn.ModuleList(
            DetectionBlock(inner + more, out, norm=norm, act=act)
            for (inner, out), more in zip(widths, joined, strict=True)
        )
        self.reduce = nn.ModuleList(
            ConvNormAct(deep, shallow, 1, norm=norm, act=act) for (_, deep), (_, shallow) in pairwise(widths)
        )
        self.out_channels = tuple(outs)
        self.strides = tuple(in_strides)

    def forward(self, features: Features) -> Features:
        """L maps (B, C_l, H_l, W_l) -> L maps (B, out_channels_l, H_l, W_l)."""
        outs = [self.detect[0](features[-1])]
        for reduce, detect, lower in zip(self.reduce, self.detect[1:], features[-2::-1], strict=True):
            larger = F.interpolate(reduce(outs[-1]), size=lower.shape[-2:], mode="nearest")
            outs.append(detect(torch.cat([larger, lower], 1)))
        return outs[::-1]


# --------------------------------------------------------------------------------------------------------- the network


class YOLOV3Towers(HeadNetwork):
    """Per level a 3x3 convolution to twice the channels and a 1x1 one that predicts.

    Raw outputs: ``box`` (B, A * 4, H, W) as :class:`YOLOAnchors` reads them, ``objectness`` (B, A, H, W) and ``cls``
    (B, A * class_channels, H, W) logits. One convolution makes them, per anchor in this order, as in published weights.

    Args:
        in_channels: Of each map; every level has its own layers.
        strides: Of each map.
        class_channels: Numbers per prior that the class loss reads.
        priors_per_cell: A.
        norm: Builds the norms.
        act: Builds the activations.

    Raises:
        ConfigError: Another number of maps than of strides.
    """

    def __init__(
        self,
        *,
        in_channels: Channels[Sequence[int]],
        strides: Strides[Sequence[int]],
        class_channels: ClassChannels,
        priors_per_cell: PriorsPerCell,
        norm: Factory[Norm] = BN,  # type: ignore[assignment]
        act: Factory[Activation] = LEAKY,  # type: ignore[assignment]
    ) -> None:
        super().__init__()
        self.numbers = [4, 1, class_channels]
        outputs = priors_per_cell * sum(self.numbers)
        self.bridge = nn.ModuleList(ConvNormAct(width, 2 * width, 3, norm=norm, act=act) for width in in_channels)
        self.predict = nn.ModuleList(nn.Conv2d(2 * width, outputs, 1) for width in in_channels)
        for layer, stride in zip(self.predict, strides, strict=True):
            _start(layer.get_parameter("weight"), layer.get_parameter("bias").view(priors_per_cell, -1), stride)

    def forward(self, features: Features) -> Mapping[str, Sequence[Tensor]]:
        """L maps (B, C_l, H_l, W_l) -> ``box``, ``objectness``, ``cls``, L maps each."""
        if len(features) != len(self.predict):
            found = f"{len(features)} maps for {len(self.predict)} strides"
            raise ConfigError("YOLOV3Towers: strides", found, "Give one stride per map.")
        layers = zip(self.bridge, self.predict, features, strict=True)
        levels = [self._split(predict(bridge(x))) for bridge, predict, x in layers]
        return {name: [level[part] for level in levels] for part, name in enumerate(("box", OBJECTNESS, "cls"))}

    def _split(self, joined: Tensor) -> list[Tensor]:
        """(B, A * (4 + 1 + C), H, W) -> (B, A * 4, H, W), (B, A, H, W), (B, A * C, H, W)."""
        images, _, height, width = joined.shape
        anchors = joined.reshape(images, -1, sum(self.numbers), height, width)
        return [part.flatten(1, 2) for part in torch.split(anchors, self.numbers, 2)]


def _start(weight: Tensor, bias: Tensor, stride: int) -> None:
    """Logits that say: 8 objects on a map of 608 x 608 pixels, each class with a probability of 0.01."""
    nn.init.normal_(weight, std=0.01)
    nn.init.zeros_(bias)
    for rows, probability in ((slice(4, 5), min(0.5, 8 / (608 / stride) ** 2)), (slice(5, None), 0.01)):
        bias.data[:, rows] = math.log(probability / (1 - probability))


# --------------------------------------------------------------------------------------------------------- geometry


class YOLOAnchors(Geometry):
    """A anchors around the centre of each cell; a vector holds logits of the centre and logarithms of the size.

    The sigmoids of the first two numbers say where in its cell the centre is, 0 to 1 from its upper left corner; the
    others are the logarithms of width and height in those of the anchor (section 2.1).

    Args:
        strides: Input pixels per cell of each map.
        base_sizes: Per level, shallow to deep, width and height of its anchors, input pixels.

    Raises:
        ConfigError: Not one list of sizes per map, lists of different length, sizes that are not positive.
    """

    most = 20.0
    """Logarithm of the largest size, so that boxes nobody asked for are finite."""
    least = 1e-6
    """Centres are so far from the edges of their cell, and sizes so large beside the anchor's, when encoded."""
    sizes: Tensor

    def __init__(
        self,
        *,
        strides: Strides[Sequence[int]],
        base_sizes: Sequence[Sequence[tuple[float, float]]] = BASE_SIZES,
    ) -> None:
        super().__init__()
        counts = {len(level) for level in base_sizes}
        if len(base_sizes) != len(strides) or len(counts) != 1:
            found = f"{[len(level) for level in base_sizes]} for {len(strides)} maps"
            raise ConfigError("base_sizes", found, "Give each map as many, shallow to deep.")
        if counts == {0} or min(side for level in base_sizes for size in level for side in size) <= 0:
            raise ConfigError("base_sizes", "not all are positive numbers", "An anchor needs an area.")
        self.strides = tuple(strides)
        self.priors_per_cell = counts.pop()
        self.register_buffer("sizes", torch.tensor(base_sizes, dtype=torch.float32), persistent=False)

    def priors(self, features: Features, batch: Batch) -> Priors:
        """The anchors (P, 4) of the maps; valid where their cell begins inside the image's padded shape."""
        cells = grid(map_sizes(features, self.strides), self.strides, self.priors_per_cell, features[0].device)
        levels = zip(self.sizes.float(), cells.per_level, strict=True)
        half = torch.cat([sizes.repeat(count // self.priors_per_cell, 1) for sizes, count in levels]) / 2
        centre = cells.corner + cells.stride[:, None] / 2
        boxes = torch.cat([centre - half, centre + half], -1)
        return Priors(boxes, cells.stride, cells.level, cells.inside(batch.padded), cells.per_level)

    def encode(self, priors: Tensor, stride: Tensor, boxes: Tensor) -> Tensor:
        """(..., 4) anchors, (...) strides, (..., 4) boxes -> (..., 4) logits of x and y, logarithms of w and h."""
        (centre, size), (middle, base) = _centre_size(full_precision(boxes)), _centre_size(priors)
        place = ((centre - middle) / stride[..., None] + 0.5).clamp(self.least, 1 - self.least)
        return torch.cat([place.logit(), (size / base).clamp(min=self.least).log()], -1)

    def decode(self, priors: Tensor, stride: Tensor, vectors: Tensor) -> Tensor:
        """(..., 4) anchors, (...) strides, (..., 4) vectors -> (..., 4) boxes, not clipped."""
        vectors, (middle, base) = full_precision(vectors), _centre_size(priors)
        centre = middle + (vectors[..., :2].sigmoid() - 0.5) * stride[..., None]
        half = base / 2 * vectors[..., 2:].clamp(max=self.most).exp()
        return torch.cat([centre - half, centre + half], -1)


def _centre_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """(..., 4) -> (..., 2) centres, (..., 2) widths and heights."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]


# --------------------------------------------------------------------------------------------------------- assignment


class GridAssigner(Assigner):
    """An object is answered for by anchors of the cells, one per level, in which its centre is.

    In this order, later rules win:

    1. an anchor whose best IoU is in the negative range, or whose image has no object, is background; others are
       ignored;
    2. an anchor of a responsible cell whose best IoU exceeds ``pos_iou`` answers for that object, the first of equals,
       be it another than the one whose centre is there;
    3. an object's best anchor(s) in responsible cells answer for it where their IoU exceeds ``min_pos_iou``; later
       objects overwrite earlier ones.

    Crowds take nothing. Anchors beyond an image's padding are background as others are: detections look there, too.
    ``quality`` of the matches is each prior's best IoU.

    Args:
        pos_iou: Of a positive by rule 2.
        neg_iou: A negative's IoU is at most this; or, of two numbers, above the first and at most the second.
        min_pos_iou: Of a positive by rule 3.

    Raises:
        ConfigError: ``neg_iou`` is neither one nor two numbers in order; ``min_pos_iou`` is negative.
    """

    def __init__(
        self, *, pos_iou: float = 0.5, neg_iou: float | Sequence[float] = 0.5, min_pos_iou: float = 0.0
    ) -> None:
        super().__init__()
        bounds = (-math.inf, neg_iou) if isinstance(neg_iou, float | int) else tuple(neg_iou)
        if len(bounds) != 2 or bounds[0] > bounds[1]:
            raise ConfigError("neg_iou", f"{neg_iou}", "Give one number or two, in order.")
        if min_pos_iou < 0:
            raise ConfigError("min_pos_iou", f"{min_pos_iou}", "Give at least 0.")
        self.pos_iou = pos_iou
        self.neg_iou = bounds
        self.min_pos_iou = min_pos_iou

    @torch.no_grad()
    def forward(self, predictions: Predictions, batch: Batch) -> Matches:
        """Priors (P, 4) and the batch's objects -> matches (B, P)."""
        priors, truth = predictions.priors, batch.truth
        if truth.boxes.shape[1] == 0:
            return Matches(torch.full_like(priors.valid, BACKGROUND, dtype=torch.int64), priors.valid.float() * 0)
        iou, own_iou, own_object, object_iou = self._best(priors, truth)
        negative = (iou > self.neg_iou[0]) & (iou <= self.neg_iou[1])
        index = torch.where(negative | ~truth.valid.any(1, keepdim=True), BACKGROUND, IGNORED)
        index = torch.where(own_iou > self.pos_iou, own_object, index)
        last = self._takers(priors, truth, object_iou)
        return Matches(torch.where(last >= 0, last, index), iou.clamp(min=0))

    def _best(self, priors: Priors, truth: Targets) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, P) best IoU of each prior; that of a responsible one, else -1, and its object; (B, G) of each object."""
        iou, own_iou, own_object, object_iou = [], [], [], []
        for overlaps, own in _overlaps(priors, truth):
            of_prior = own.max(2)
            iou.append(overlaps.amax(2))
            own_iou.append(of_prior.values)
            own_object.append(of_prior.indices)
            object_iou.append(own.amax(1))
        return torch.cat(iou, 1), torch.cat(own_iou, 1), torch.cat(own_object, 1), torch.stack(object_iou).amax(0)

    def _takers(self, priors: Priors, truth: Targets, object_iou: Tensor) -> Tensor:
        """Rule 3: (B, P) the last object whose best IoU a prior reaches, or -1."""
        number = torch.arange(truth.boxes.shape[1], device=object_iou.device) + 1
        number = torch.where(object_iou > self.min_pos_iou, number, 0)[:, None]
        reached = [((own == object_iou[:, None]) * number).amax(2) for _, own in _overlaps(priors, truth)]
        return torch.cat(reached, 1) - 1


def _overlaps(priors: Priors, truth: Targets) -> Iterator[tuple[Tensor, Tensor]]:
    """IoU (B, p, G) of some priors at a time, -1 where there is no object; the same, -1 for cells without a centre."""
    objects = full_precision(truth.boxes)
    centre, middle = _centre_size(objects)[0][:, None], _centre_size(priors.boxes)[0]
    for some in parts(len(middle), len(objects) * len(middle), objects.shape[1], PAIRS_AT_ONCE):
        overlaps = torch.where(truth.valid[:, None], pairwise_iou(priors.boxes[some], objects), -1)
        stride = priors.stride[some, None, None]
        here = (centre / stride).floor() == (middle[some, None] / stride).floor()
        responsible = (here.all(-1) & truth.valid[:, None]).any(2, keepdim=True)
        yield overlaps, torch.where(responsible, overlaps, -1)


# ----------------------------------------------------------------------------------------------------------- the losses


class YOLOV3Loss(DenseLoss):
    """``loss_cls``, ``loss_conf``, ``loss_xy``, ``loss_wh`` (section 2.1).

    None has a normaliser: the reference adds up all of a batch, by ``reduction = "sum"``.

    Args:
        loss_cls: Of class logits, sigmoids; over positive priors.
        loss_conf: Of objectness logits; over positive and negative priors.
        loss_xy: Of logits of the centre in its cell, against numbers from 0 to 1; over positive priors.
        loss_wh: Of logarithms of the size; over positive priors.

    Raises:
        ConfigError: A loss of logits is a softmax, or ``loss_wh`` wants pixels.
    """

    def __init__(self, *, loss_cls: Loss, loss_conf: Loss, loss_xy: Loss, loss_wh: Loss) -> None:
        super().__init__()
        for name, loss in (("loss_cls", loss_cls), ("loss_conf", loss_conf), ("loss_xy", loss_xy)):
            if loss.softmax:
                raise ConfigError(f"YOLOV3Loss: {name}", "a softmax", "Give it use_sigmoid = true.")
        if loss_wh.decoded:
            raise ConfigError("YOLOV3Loss: loss_wh", "a loss of boxes in pixels", "Give a loss of vectors (MSELoss).")
        self.loss_cls = loss_cls
        self.loss_conf = loss_conf
        self.loss_xy = loss_xy
        self.loss_wh = loss_wh

    def forward(self, predictions: Predictions, matches: Matches, batch: Batch) -> Losses:
        """Named scalars, finite and tied to all predictions where there is no object at all."""
        weight = (matches.index != IGNORED).float()
        if matches.weight is not None:
            weight = weight * matches.weight
        objects = weight * matches.positive
        logits, labels = predictions.flat("cls"), batch.truth.gather_labels(matches.index)
        classes = labels[..., None] == torch.arange(logits.shape[-1], device=logits.device)
        vectors, targets = aligned_boxes(predictions, matches, batch, decoded=False)
        rows = objects.view(vectors.shape[:-1])
        return {
            "loss_cls": self.loss_cls(logits, classes.float(), objects),
            "loss_conf": self.loss_conf(predictions.flat(OBJECTNESS)[..., 0], matches.positive.float(), weight),
            "loss_xy": self.loss_xy(vectors[..., :2], targets[..., :2].sigmoid(), rows),
            "loss_wh": self.loss_wh(vectors[..., 2:], targets[..., 2:], rows),
        }


# ------------------------------------------------------------------------------------------------------ detections


@attrs.frozen
class _Settings:
    conf_threshold: float
    score_threshold: float
    nms_pre: int | None
    nms_iou: float
    max_detections: int | None


class YOLOV3Decoder(Decoder):
    """Priors by objectness, their classes by probability, the best of the image; NMS per class on the product.

    A prior may give a detection of each class.

    Args:
        conf_threshold: Objectness must reach it.
        score_threshold: A class probability must exceed it.
        nms_pre: At most so many pairs of prior and class per image, by probability; None is all.
        nms_iou: A detection goes where its IoU with a better one of its class exceeds this.
        max_detections: At most so many per image; None is all.
        clip: Boxes are cut at the image's borders, after NMS, and what lies beyond is dropped. The reference does not:
            there, boxes may reach over.
        train: Any of the first five, where proposals for training are asked for.

    Raises:
        ConfigError: ``train`` holds something else.
    """

    def __init__(
        self,
        *,
        conf_threshold: float = 0.005,
        score_threshold: float = 0.05,
        nms_pre: int | None = 1000,
        nms_iou: float = 0.45,
        max_detections: int | None = 100,
        clip: bool = True,
        train: Overrides | None = None,
    ) -> None:
        super().__init__()
        self.clip = clip
        self.settings = _Settings(conf_threshold, score_threshold, nms_pre, nms_iou, max_detections)
        self.train_settings = overridden(self.settings, train, "train")

    def forward(self, predictions: Predictions, batch: Batch, *, train: bool = False) -> list[Detections]:
        """Per image the detections, in input pixels, best first."""
        settings = self.train_settings if train else self.settings
        objectness = predictions.flat(OBJECTNESS)[..., 0].float().sigmoid()
        probabilities = predictions.scores
        classes = probabilities.shape[-1]
        seen = (objectness >= settings.conf_threshold)[..., None]
        scores = torch.where(seen, probabilities, -1).flatten(1)
        chosen = best_per_level(scores, [scores.shape[1]], settings.nms_pre)
        index, labels = chosen // classes, chosen % classes
        keep = scores.gather(1, chosen) > settings.score_threshold
        scores = scores.gather(1, chosen) * objectness.gather(1, index)
        boxes = predictions.boxes(index)
        places = suppression_places(boxes, max(batch.images.shape[-2:]))
        if self.clip:
            boxes = clip_boxes(boxes, batch.sizes[:, None])
        keep = keep & larger_than(boxes, 0)
        return [
            _suppressed([values[image, kept] for values in (places, boxes, scores, labels)], settings)
            for image, kept in enumerate(keep)
        ]


def _suppressed(candidates: Sequence[Tensor], settings: _Settings) -> Detections:
    """Of places, boxes, scores and labels (N, ...) of an image those that NMS leaves."""
    places, *found = candidates
    kept = nms(places, found[1], found[2], settings.nms_iou, settings.max_detections)
    return Detections(*(values[kept] for values in found))
