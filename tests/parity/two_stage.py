"""Holds a detector of two stages against a golden case, in eval mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detcore.detectors import TwoStage
from detcore.structures import Detections
from parity.golden import Case
from torch import Tensor

LOSSES = {
    "rpn_loss_cls": "loss_rpn_cls",
    "rpn_loss_box": "loss_rpn_bbox",
    "loss_cls": "loss_cls",
    "loss_box": "loss_bbox",
    "acc": "acc",
}
"""Our name of a loss -> the reference's; those of a cascade's stages are in :func:`cascade_losses`."""


def cascade_losses(stages: int) -> dict[str, str]:
    """The names of the losses where there are several stages."""
    own = {name: LOSSES[name] for name in ("loss_cls", "loss_box", "acc")}
    rpn = {ours: theirs for ours, theirs in LOSSES.items() if ours not in own}
    return rpn | {f"s{stage}.{ours}": f"s{stage}.{theirs}" for stage in range(stages) for ours, theirs in own.items()}


def check_boxes(case: Case, detector: TwoStage) -> None:
    """Features, raw outputs of the box heads and detections.

    One stage is stored for both images together; of several, the class logits' mean and the last deltas image by image.
    """
    batch = case.batch()
    detector.eval()
    with torch.no_grad():
        features = detector.neck(detector.backbone(batch.images))
        case.check_maps("feats", list(features))
        proposals = detector.rpn_head.detections(detector.rpn_head(features, batch), batch)
        logits, deltas, found = _outputs(detector.roi_head, lambda head: head.detections(features, proposals, batch))
    scores = [each.scores for each in proposals]
    if len(detector.roi_head.stages) == 1:  # type: ignore[arg-type]
        order = case.order({"raw.0.0": logits, "raw.0.1": deltas}, scores)
        case.check_maps("raw", [[logits[order], deltas[order]]])
    else:
        counts = [len(each) for each in proposals]
        case.check_maps("raw", [_by_image(case, torch.split(logits, counts), torch.split(deltas, counts), scores)])
    case.check_detections(found)


def _by_image(
    case: Case, logits: Sequence[Tensor], deltas: Sequence[Tensor], scores: Sequence[Tensor]
) -> list[list[Tensor]]:
    found: list[list[Tensor]] = [[], []]
    for image, (its_logits, its_deltas, its_scores) in enumerate(zip(logits, deltas, scores, strict=True)):
        order = case.order({f"raw.0.0.{image}": its_logits, f"raw.0.1.{image}": its_deltas}, [its_scores])
        found[0].append(its_logits[order])
        found[1].append(its_deltas[order])
    return found


def _outputs(roi_head: Any, run: Any) -> tuple[Tensor, Tensor, list[Detections]]:
    """What :func:`run` gives, and on the way to it the mean of all stages' class logits and the last one's deltas."""
    of_stages: list[tuple[Tensor, Tensor]] = []
    hooks = [stage.register_forward_hook(lambda _, __, out: of_stages.append(out)) for stage in roi_head.stages]
    found = run(roi_head)
    for hook in hooks:
        hook.remove()
    return torch.stack([logits for logits, _ in of_stages]).mean(0), of_stages[-1][1], found
