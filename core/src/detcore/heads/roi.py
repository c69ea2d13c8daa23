"""The composed RoI head: stages, each refining the boxes of the one before it, and branches that look at the result.

One stage is Faster R-CNN's second stage (Ren et al. 2015); three with rising thresholds are Cascade R-CNN's (Cai and
Vasconcelos 2018). Branches (masks) come after the last stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from detcore.interfaces import (
    Assigner,
    BoxCoder,
    BoxHead,
    Container,
    Features,
    Flow,
    Loss,
    NumClasses,
    RoIBranch,
    RoIDecoder,
    RoIExtractor,
    RoIHead,
    Sampler,
)
from detcore.structures import IGNORED, Batch, Detections, Losses, Matches, Priors, Regions, RoISamples


class RoIStage(Container, nn.Module):
    """One look at the regions: cut them out, classify them, refine their boxes.

    Args:
        num_classes: C.
        loss_cls: Of class logits (R, C + 1), background last.
        loss_box: Of the deltas of regions that answer for an object, or of their decoded boxes (``loss_box.decoded``).
        extractor: Cuts (R, C, S, S) out of the pyramid.
        coder: Boxes relative to regions.
        box_head: The numbers of a region.
        assigner: Which region answers for which object.
        sampler: Which of the regions take part in the losses; None is all.
        class_agnostic: One box per region instead of one per class.
        num_levels: How many levels of the pyramid the extractor reads, from the shallowest.
        add_ground_truth: Train on the objects' own boxes beside the proposals.
        weight: Of the stage's losses.
    """

    def __init__(
        self,
        *,
        num_classes: NumClasses,
        loss_cls: Loss,
        loss_box: Loss,
        extractor: RoIExtractor,
        coder: BoxCoder,
        box_head: BoxHead,
        assigner: Assigner,
        sampler: Sampler | None = None,
        class_agnostic: bool = False,
        num_levels: int = 4,
        add_ground_truth: bool = True,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.loss_cls = loss_cls
        self.loss_box = loss_box
        self.extractor = extractor
        self.coder = coder
        self.box_head = box_head
        self.assigner = assigner
        self.sampler = sampler
        self.class_agnostic = class_agnostic
        self.num_levels = num_levels
        self.add_ground_truth = add_ground_truth
        self.weight = weight

    @staticmethod
    def flow_to(child: str, built: Mapping[str, Any], flow: Flow) -> Flow:
        """The extractor reads the first ``num_levels`` levels; the box head what the extractor cuts out."""
        if child == "extractor":
            levels = built["num_levels"]
            return flow.having(
                flow.sources.get("channels"),
                channels=flow.channels and tuple(flow.channels)[:levels],
                strides=flow.strides and tuple(flow.strides)[:levels],
            )
        if child == "box_head":
            extractor, classes = built["extractor"], built["num_classes"]
            boxes = built["coder"].box_channels * (1 if built["class_agnostic"] else classes)
            flow = flow.having(extractor, channels=(extractor.out_channels,), roi_size=extractor.roi_size)
            flow = flow.having(built["loss_cls"], class_channels=classes + 1)
            return flow.having(built["coder"], box_channels=boxes)
        return flow

    def forward(self, features: Features, rois: Tensor) -> tuple[Tensor, Tensor]:
        """L maps and RoIs (R, 5) -> class logits (R, C + 1), deltas (R, 4 * C), or (R, 4) where class-agnostic."""
        levels = features[: self.num_levels]
        logits, deltas = self.box_head(lambda scale=1.0: self.extractor(levels, scale_rois(rois, scale)))
        return logits, deltas

    def sample(self, proposals: Sequence[Detections], batch: Batch) -> RoISamples:
        """The regions to train on, with what they should become. No gradient flows."""
        boxes, valid, given = self._candidates(proposals, batch)
        matches = self.assigner(Regions(_as_priors(boxes, valid)), batch)
        if self.sampler is not None:
            matches = self.sampler(matches)
        return self._taken(boxes, valid, given, matches, batch)

    def losses(self, logits: Tensor, deltas: Tensor, samples: RoISamples) -> Losses:
        """``loss_cls``, ``loss_box`` and the accuracy ``acc`` in percent; both losses are divided by R."""
        taken = max(len(samples.rois), 1)
        positive = samples.positive
        loss_cls = self.loss_cls(logits, samples.labels, avg_factor=taken) if len(logits) else logits.sum() * 0
        regions, goals, own = samples.rois[positive, 1:], samples.boxes[positive], self._own(deltas, samples.labels)
        if self.loss_box.decoded:
            loss_box = self.loss_box(self.coder.decode(regions, own[positive]), goals, avg_factor=taken)
        else:
            loss_box = self.loss_box(own[positive], self.coder.encode(regions, goals), avg_factor=taken)
        accuracy = (logits.argmax(1) == samples.labels).float().sum() * (100 / taken)
        loss_box = loss_box + deltas.sum() * 0  # tied to all parameters where no region answers for an object
        return {"loss_cls": loss_cls * self.weight, "loss_box": loss_box * self.weight, "acc": accuracy.detach()}

    def boxes(self, rois: Tensor, deltas: Tensor) -> Tensor:
        """The boxes that the deltas mean: (R, 4) where class-agnostic, else (R, C, 4)."""
        if self.class_agnostic:
            return self.coder.decode(rois[:, 1:], deltas)
        deltas = deltas.view(len(deltas), self.num_classes, -1)
        return self.coder.decode(rois[:, None, 1:].expand(-1, self.num_classes, -1), deltas)

    def refine(self, rois: Tensor, deltas: Tensor, labels: Tensor) -> Tensor:
        """RoIs (R, 5) moved by the deltas of their ``labels`` (R,), not clipped; what the next stage looks at."""
        return torch.cat([rois[:, :1], self.coder.decode(rois[:, 1:], self._own(deltas, labels))], 1)

    def _own(self, deltas: Tensor, labels: Tensor) -> Tensor:
        if self.class_agnostic:
            return deltas
        deltas = deltas.view(len(deltas), self.num_classes, -1)
        index = labels.clamp(0, self.num_classes - 1)[:, None, None].expand(-1, 1, deltas.shape[-1])
        return deltas.gather(1, index)[:, 0]

    def _candidates(self, proposals: Sequence[Detections], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Padded boxes (B, R, 4), whether a row holds one, and whether it is an object's own box."""
        boxes, counts = pad([each.boxes for each in proposals])
        valid = torch.arange(boxes.shape[1], device=boxes.device) < counts[:, None]
        given = torch.zeros_like(valid)
        if self.add_ground_truth:
            truth = batch.truth
            boxes = torch.cat([truth.boxes, boxes], 1)
            valid = torch.cat([truth.valid, valid], 1)
            given = torch.cat([truth.valid, given], 1)
        return boxes, valid, given

    def _taken(self, boxes: Tensor, valid: Tensor, given: Tensor, matches: Matches, batch: Batch) -> RoISamples:
        image, row = torch.nonzero((matches.index != IGNORED) & valid, as_tuple=True)
        index = matches.index[image, row]
        rois = torch.cat([image[:, None].to(boxes.dtype), boxes[image, row]], 1)
        labels = batch.truth.gather_labels(matches.index)[image, row]
        labels = torch.where(index >= 0, labels, self.num_classes)
        goals = torch.where((index >= 0)[:, None], batch.truth.gather_boxes(matches.index)[image, row], rois[:, 1:])
        return RoISamples(rois, index, labels, goals, given[image, row])


class ComposedRoIHead(Container, RoIHead):
    """Stages and branches.

    Args:
        num_classes: C.
        stages: At least one; each looks at the boxes that the one before it refined.
        decoder: Which regions become detections.
        branches: What is predicted beside boxes, in order, by name; their losses are named ``<branch>_...``.
    """

    def __init__(
        self,
        *,
        num_classes: NumClasses,
        stages: Sequence[RoIStage],
        decoder: RoIDecoder,
        branches: Mapping[str, RoIBranch] | None = None,
    ) -> None:
        super().__init__()
        if not stages:
            raise ValueError("stages is empty: a RoI head has at least one")
        self.num_classes = num_classes
        self.stages: Any = nn.ModuleList(stages)
        self.decoder = decoder
        self.branches: Any = nn.ModuleDict(branches or {})

    def losses(self, features: Features, proposals: Sequence[Detections], batch: Batch) -> Losses:
        """The losses of all stages (named ``s0.loss_cls``, ... where there are several) and branches."""
        losses: Losses = {}
        samples = None
        for number, stage in enumerate(self.stages):
            with torch.no_grad():
                samples = stage.sample(proposals, batch)
            logits, deltas = stage(features, samples.rois)
            prefix = f"s{number}." if len(self.stages) > 1 else ""
            losses |= {f"{prefix}{name}": value for name, value in stage.losses(logits, deltas, samples).items()}
            if number + 1 < len(self.stages):
                proposals = _refined(stage, logits.detach(), deltas.detach(), samples, batch)
        outputs: dict[str, Tensor] = {}
        for name, branch in self.branches.items():
            terms = branch.losses(features, samples, outputs, batch)
            losses |= {f"{name}_{term}": value for term, value in terms.items()}
        return losses

    def detections(self, features: Features, proposals: Sequence[Detections], batch: Batch) -> list[Detections]:
        """Class probabilities are the mean of all stages, boxes those of the last."""
        with torch.no_grad():
            rois, counts = as_rois([each.boxes for each in proposals])
            scores = []
            for number, stage in enumerate(self.stages):
                logits, deltas = stage(features, rois)
                scores.append(logits.float().softmax(1))
                if number + 1 < len(self.stages):
                    rois = stage.refine(rois, deltas, logits[:, :-1].argmax(1))
                    rois = torch.cat([rois[:, :1], clip(rois[:, 1:], batch.sizes[rois[:, 0].long()])], 1)
            boxes, mean = stage.boxes(rois, deltas), torch.stack(scores).mean(0)[:, :-1]
            found = [
                self.decoder(of_image, its_scores, size)
                for of_image, its_scores, size in zip(
                    torch.split(boxes, counts), torch.split(mean, counts), batch.sizes, strict=True
                )
            ]
            outputs: dict[str, Tensor] = {}
            for branch in self.branches.values():
                found = branch.detections(features, found, outputs, batch)
            return found


def _refined(stage: RoIStage, logits: Tensor, deltas: Tensor, samples: RoISamples, batch: Batch) -> list[Detections]:
    """The sampled regions, moved, as proposals of the next stage; ground-truth boxes are left out (it adds its own)."""
    labels = torch.where(samples.labels == stage.num_classes, logits[:, :-1].argmax(1), samples.labels)
    rois = stage.refine(samples.rois, deltas, labels)[~samples.given]
    boxes = clip(rois[:, 1:], batch.sizes[rois[:, 0].long()])
    of_image = [boxes[rois[:, 0] == image] for image in range(len(batch))]
    return [Detections(each, each.new_ones(len(each)), each.new_zeros(len(each)).long()) for each in of_image]


def as_rois(boxes: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
    """B x (R_b, 4) boxes -> RoIs (R, 5) of all images one after the other, and how many each image has."""
    counts = [len(each) for each in boxes]
    images = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    flat = torch.cat(list(boxes))
    return torch.cat([images.to(flat)[:, None], flat], 1), counts


def scale_rois(rois: Tensor, scale: float) -> Tensor:
    """RoIs (R, 5) with width and height multiplied by ``scale`` about their centre."""
    if scale == 1.0:
        return rois
    centre = (rois[:, 1:3] + rois[:, 3:5]) / 2
    half = (rois[:, 3:5] - rois[:, 1:3]) * (scale / 2)
    return torch.cat([rois[:, :1], centre - half, centre + half], 1)


def clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes (..., 4) cut at height and width ``sizes`` (..., 2)."""
    width_height = sizes.flip(-1)
    return torch.minimum(boxes.clamp(min=0), torch.cat([width_height, width_height], -1))


def pad(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """B x (R_b, 4) -> (B, R, 4) filled with zeros, and (B,) how many rows each has."""
    counts = torch.tensor([len(each) for each in rows], device=rows[0].device)
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True), counts


def _as_priors(boxes: Tensor, valid: Tensor) -> Priors:
    count = boxes.shape[1]
    return Priors(boxes, boxes.new_ones(count), boxes.new_zeros(count).long(), valid, (count,))
