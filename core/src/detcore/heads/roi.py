"""The composed RoI head: stages, each refining the boxes of the one before it, and branches that look at the result.

One stage is the usual second stage (Ren et al. 2015); three with rising thresholds make a cascade (Cai and Vasconcelos
2018). Branches (masks) come after the last stage, or belong to stages: then each is trained on the regions of its own,
and the mean of all stages' masks is taken (Cai and Vasconcelos 2019, section 4.3).

In training a stage reads one number from the device, how many regions it samples; between stages it is the count of
each image. All else has fixed shapes: what takes no part has weight 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from detcore.distributed import share_of
from detcore.errors import ConfigError
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
from detcore.structures import IGNORED, Batch, Detections, Losses, Matches, Priors, Regions, RoISamples, clip_boxes


class RoIStage(Container, nn.Module):
    """One look at the regions: cut them out, classify them, refine their boxes.

    Args:
        num_classes: C.
        loss_cls: Of class logits (R, C + 1), a softmax with background last.
        loss_box: Of the deltas of regions that answer for an object, or of their decoded boxes (``loss_box.decoded``).
        extractor: Cuts (R, C, S, S) out of the pyramid.
        coder: Boxes relative to regions.
        box_head: The numbers of a region.
        assigner: Which proposal answers for which object.
        sampler: Which of the regions take part in the losses; None is all.
        class_agnostic: One box per region instead of one per class.
        num_levels: How many levels of the pyramid the extractor reads, from the shallowest.
        add_ground_truth: Train on the objects' own boxes beside the proposals; each answers for its object.
        weight: Of the stage's losses, those of its branches included.
        branches: What the stage predicts beside boxes, by name; those of the head read the last stage's regions only.

    Raises:
        ConfigError: ``loss_cls`` reads sigmoids.
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
        num_levels: PositiveInt = 4,
        add_ground_truth: bool = True,
        weight: float = 1.0,
        branches: Mapping[str, RoIBranch] | None = None,
    ) -> None:
        super().__init__()
        if not loss_cls.softmax:
            raise ConfigError("loss_cls", f"{type(loss_cls).__name__} reads sigmoids", "Give a loss of a softmax.")
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
        self.branches: Any = nn.ModuleDict(branches or {})

    @staticmethod
    def flow_to(child: str, built: Mapping[str, Any], flow: Flow) -> Flow:
        """The extractor reads the first ``num_levels`` levels; the box head what the extractor cuts out."""
        classes = built["num_classes"]
        flow = flow.having(flow.sources.get("num_classes"), num_classes=classes)
        if child == "extractor":
            return flow.first(built["num_levels"])
        if child == "box_head":
            extractor, coder = built["extractor"], built["coder"]
            boxes = coder.box_channels * (1 if built["class_agnostic"] else classes)
            flow = flow.having(extractor, channels=(extractor.out_channels,), roi_size=extractor.roi_size)
            return flow.having(built["loss_cls"], class_channels=classes + 1).having(coder, box_channels=boxes)
        return flow

    def forward(self, features: Features, rois: Tensor) -> tuple[Tensor, Tensor]:
        """L maps and RoIs (R, 5) -> class logits (R, C + 1), deltas (R, C * 4), or (R, 4) where class-agnostic."""
        levels = features[: self.num_levels]
        found: tuple[Tensor, Tensor] = self.box_head(lambda scale=1.0: self.extractor(levels, rois, scale))
        return found

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # how many there are depends on values
    @torch.no_grad()
    def sample(self, proposals: Sequence[Detections], batch: Batch, features: Features = ()) -> RoISamples:
        """The regions to train on, with what they should become; a sampler that reads losses needs the L maps."""
        boxes, valid = pad([each.boxes for each in proposals])
        count = boxes.shape[1]
        priors = Priors(boxes, boxes.new_ones(count), valid.new_zeros(count).long(), valid, (count,))
        matches = self.assigner(Regions(priors), batch)
        matches = attrs.evolve(matches, index=torch.where(valid, matches.index, IGNORED))
        given = torch.zeros_like(valid)
        if self.add_ground_truth:
            truth = batch.truth
            boxes, given = torch.cat([truth.boxes, boxes], 1), torch.cat([truth.valid, given], 1)
            matches = _with_objects(matches, truth.valid)
        if self.sampler is not None:
            if self.sampler.needs_losses:
                matches = attrs.evolve(matches, losses=self._class_losses(features, boxes, matches, batch))
            matches = self.sampler(matches)
        return self._taken(boxes, given, matches, batch)

    def losses(self, logits: Tensor, deltas: Tensor, samples: RoISamples) -> Losses:
        """``loss_cls``, ``loss_box`` and the accuracy ``acc`` in percent; each is divided by R."""
        taken = share_of(logits.new_full((), len(logits), dtype=torch.float32))
        loss_cls = self.loss_cls(logits, samples.labels, samples.weight, taken)
        loss_box = self.loss_box(*self._aligned(deltas, samples), samples.positive * samples.weight, taken)
        correct = (logits.argmax(1) == samples.labels).sum() * (100 / max(len(logits), 1))
        return {"loss_cls": loss_cls * self.weight, "loss_box": loss_box * self.weight, "acc": correct}

    def boxes(self, rois: Tensor, deltas: Tensor) -> Tensor:
        """The boxes that the deltas mean: (R, 4) where class-agnostic, else (R, C, 4)."""
        if self.class_agnostic:
            return self.coder.decode(rois[:, 1:], deltas)
        regions = rois[:, None, 1:].expand(-1, self.num_classes, -1)
        return self.coder.decode(regions, self._per_class(deltas))

    def refine(self, rois: Tensor, deltas: Tensor, labels: Tensor) -> Tensor:
        """RoIs (R, 5) moved by the deltas of their ``labels`` (R,), not clipped; what the next stage looks at."""
        return torch.cat([rois[:, :1], self.coder.decode(rois[:, 1:], self._own(deltas, labels))], 1)

    def _per_class(self, deltas: Tensor) -> Tensor:
        return deltas.reshape(-1, self.num_classes, self.coder.box_channels)

    def _own(self, deltas: Tensor, labels: Tensor) -> Tensor:
        """The deltas (R, 4) of the regions' own classes; of background, any."""
        if self.class_agnostic:
            return deltas
        rows = torch.arange(len(labels), device=labels.device)
        return self._per_class(deltas)[rows, labels.clamp(0, self.num_classes - 1)]  # ``gather`` would keep all of them

    def _aligned(self, deltas: Tensor, samples: RoISamples) -> tuple[Tensor, Tensor]:
        """What is predicted and what is wanted, (R, 4) deltas or boxes; harmless numbers where it is background."""
        regions = samples.rois[:, 1:]
        own = torch.where(samples.positive[:, None], self._own(deltas, samples.labels), 0)
        if self.loss_box.decoded:
            return self.coder.decode(regions, own), samples.boxes
        return own, self.coder.encode(regions, samples.boxes)

    def _class_losses(self, features: Features, boxes: Tensor, matches: Matches, batch: Batch) -> Tensor:
        """What the class of each of the regions (B, R, 4) costs, (B, R): how much it would add to the sum."""
        logits, _ = self(features, as_rois([*boxes]))
        labels = batch.truth.gather_labels(matches.index)
        labels = torch.where(labels < 0, self.num_classes, labels)
        weight = torch.ones_like(labels, dtype=torch.float32).flatten().requires_grad_()
        with torch.enable_grad():  # a loss is a sum of what rows cost, each times its weight
            total = self.loss_cls(logits, labels.flatten(), weight, 1.0)
        return torch.autograd.grad(total, weight)[0].view_as(labels)

    def _taken(self, boxes: Tensor, given: Tensor, matches: Matches, batch: Batch) -> RoISamples:
        taken = torch.nonzero(matches.index != IGNORED, as_tuple=True)
        index, positive = matches.index[taken], matches.positive[taken]
        rois = torch.cat([taken[0][:, None].to(boxes.dtype), boxes[taken]], 1)
        labels, goals = batch.truth.gather_labels(matches.index)[taken], batch.truth.gather_boxes(matches.index)[taken]
        weight = torch.ones_like(index, dtype=torch.float32) if matches.weight is None else matches.weight[taken]
        return RoISamples(
            rois=rois,
            index=index,
            labels=torch.where(positive, labels, self.num_classes),
            boxes=torch.where(positive[:, None], goals, rois[:, 1:]),
            given=given[taken],
            weight=weight,
        )


class ComposedRoIHead(Container, RoIHead):
    """Stages and branches.

    Args:
        num_classes: C.
        stages: At least one; each looks at the boxes that the one before it refined.
        decoder: Which regions become detections.
        branches: What is predicted beside boxes, in order, by name, after the branches of the stages; their losses are
            named ``<branch>_...``.

    Raises:
        ConfigError: There is no stage.
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
            raise ConfigError("stages", "is empty", "Give one, or several that refine each other's boxes.")
        self.num_classes = num_classes
        self.stages: Any = nn.ModuleList(stages)
        self.decoder = decoder
        self.branches: Any = nn.ModuleDict(branches or {})

    @staticmethod
    def flow_to(child: str, built: Mapping[str, Any], flow: Flow) -> Flow:
        """All parts know the same classes."""
        return flow.having(flow.sources.get("num_classes"), num_classes=built["num_classes"])

    def losses(self, features: Features, proposals: Sequence[Detections], batch: Batch) -> Losses:
        """The losses of all stages (named ``s0.loss_cls``, ... where there are several) and branches."""
        losses: Losses = {}
        for number, stage in enumerate(self.stages):
            samples = stage.sample(proposals, batch, features)
            logits, deltas = stage(features, samples.rois)
            prefix = f"s{number}." if len(self.stages) > 1 else ""
            terms = stage.losses(logits, deltas, samples)
            for name, value in branch_losses(stage.branches, features, samples, batch).items():
                terms[name] = value * stage.weight if "loss" in name else value
            losses |= {f"{prefix}{name}": value for name, value in terms.items()}
            if number + 1 < len(self.stages):
                proposals = _refined(stage, logits, deltas, samples, batch)
        return losses | branch_losses(self.branches, features, samples, batch)

    @torch.no_grad()
    def detections(self, features: Features, proposals: Sequence[Detections], batch: Batch) -> list[Detections]:
        """What the decoder makes of the regions and the branches of that; no gradient flows."""
        scores, boxes = self.regions(features, as_rois([each.boxes for each in proposals]), batch)
        counts = [each.boxes.shape[0] for each in proposals]
        of_images = zip(torch.split(boxes, counts), torch.split(scores, counts), batch.sizes, strict=True)
        found = [self.decoder(its_boxes, its_scores, size) for its_boxes, its_scores, size in of_images]
        seen = [with_branches(stage.branches, features, found, batch) for stage in self.stages if stage.branches]
        return with_branches(self.branches, features, mean_masks(seen) if seen else found, batch)

    def regions(self, features: Features, rois: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """RoIs (R, 5) -> class probabilities (R, C) and boxes (R, 4) or (R, C, 4) of the last stage, not clipped.

        The probabilities are the softmax of the mean of all stages' logits, background left out.
        """
        of_stages = []
        for number, stage in enumerate(self.stages):
            logits, deltas = stage(features, rois)
            of_stages.append(logits.float())
            if number + 1 < len(self.stages):
                rois = _clipped(stage.refine(rois, deltas, logits[:, :-1].argmax(1)), batch)
        return torch.stack(of_stages).mean(0).softmax(1)[:, :-1], self.stages[-1].boxes(rois, deltas)


# -------------------------------------------------------------------------------------------------- plain functions


def as_rois(boxes: Sequence[Tensor]) -> Tensor:
    """B x (R_b, 4) boxes -> RoIs (R, 5) of all images, one after the other."""
    return torch.cat([nn.functional.pad(each, (1, 0), value=image) for image, each in enumerate(boxes)])


def pad(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """B x (R_b, 4) -> (B, R, 4) filled with zeros, and (B, R) bool: the row holds a box."""
    there = [torch.ones_like(each[:, 0], dtype=torch.bool) for each in rows]
    padded = nn.utils.rnn.pad_sequence([*rows], batch_first=True)
    return padded, nn.utils.rnn.pad_sequence(there, batch_first=True)


Branches = Mapping[str, RoIBranch]


def branch_losses(branches: Branches, features: Features, samples: RoISamples, batch: Batch) -> Losses:
    """The losses of branches, each of which sees what those before it left; named ``<branch>_...``."""
    outputs: dict[str, Tensor] = {}
    losses: Losses = {}
    for name, branch in branches.items():
        terms = branch.losses(features, samples, outputs, batch)
        losses |= {f"{name}_{term}": value for term, value in terms.items()}
    return losses


def with_branches(branches: Branches, features: Features, found: list[Detections], batch: Batch) -> list[Detections]:
    """The detections with what the branches add to them, one after the other."""
    outputs: dict[str, Tensor] = {}
    for branch in branches.values():
        found = branch.detections(features, found, outputs, batch)
    return found


def mean_masks(of_stages: Sequence[Sequence[Detections]]) -> list[Detections]:
    """What the branches of several stages made of the same detections: the mean of their masks, else the last one's.

    Raises:
        ConfigError: The masks have different sizes.
    """
    return [attrs.evolve(of_image[-1], masks=_mean(of_image)) for of_image in zip(*of_stages, strict=True)]


def _mean(of_stages: Sequence[Detections]) -> Tensor | None:
    masks = [each.masks for each in of_stages if each.masks is not None]
    if sides := sorted({each.shape[-1] for each in masks})[1:]:
        found = f"their masks have sides of {masks[0].shape[-1]} and {sides[-1]} cells"
        raise ConfigError("stages", found, "Have them cut out maps of one size (roi_size), so that they have a mean.")
    return torch.stack(masks).mean(0) if masks else None


def _with_objects(matches: Matches, valid: Tensor) -> Matches:
    """The matches with a row for each object put before them, which answers for itself with quality and weight 1."""
    own = torch.where(valid, torch.arange(valid.shape[1], device=valid.device), IGNORED)
    perfect = valid.float()
    return Matches(
        torch.cat([own, matches.index], 1),
        None if matches.quality is None else torch.cat([perfect, matches.quality], 1),
        None if matches.weight is None else torch.cat([perfect, matches.weight], 1),
    )


@torch.no_grad()
def _refined(stage: RoIStage, logits: Tensor, deltas: Tensor, samples: RoISamples, batch: Batch) -> list[Detections]:
    """The sampled regions, moved, as proposals of the next stage; objects' own boxes are left out (it adds them)."""
    labels = torch.where(samples.positive, samples.labels, logits[:, :-1].argmax(1))
    rois = _clipped(stage.refine(samples.rois, deltas, labels), batch)[~samples.given]
    counts = torch.bincount(rois[:, 0].long(), minlength=len(batch)).tolist()
    return [
        Detections(boxes, torch.ones_like(boxes[:, 0]), torch.zeros_like(boxes[:, 0]).long())
        for boxes in torch.split(rois[:, 1:], counts)
    ]


def _clipped(rois: Tensor, batch: Batch) -> Tensor:
    return torch.cat([rois[:, :1], clip_boxes(rois[:, 1:], batch.sizes[rois[:, 0].long()])], 1)
