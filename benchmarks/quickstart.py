"""The quickstart recipe beside torchvision's FCOS of the same size and budget, in one run.

Both are trained by the same loop on the same images in the same order, with the same optimizer and schedule.
torchvision's model is `torchvision.models.detection.fcos.FCOS` on the same kind of backbone and pyramid, with as many
convolutions and channels in its head. Exits with 1 where training takes 5 minutes, AP50 is under 0.85, or 0.02 under
torchvision's.

    python benchmarks/quickstart.py [--set KEY=VALUE ...]
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import attrs
import torch
from detcore.assemble import Parts, build, load, prepare
from detcore.interfaces import Detector
from detcore.runner.train import train
from detcore.structures import Batch, Detections, Losses
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS, FCOSClassificationHead, FCOSHead, FCOSRegressionHead
from torchvision.models.detection.image_list import ImageList

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.toml"
LIMIT = 300.0
LEAST = 0.85


class Maps(nn.Module):
    """Our backbone and neck as torchvision wants them: a dict of maps."""

    def __init__(self, body: nn.Module, neck: nn.Module, channels: int) -> None:
        super().__init__()
        self.body, self.neck, self.out_channels = body, neck, channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {str(level): each for level, each in enumerate(self.neck(self.body(images)))}


class Peer(Detector):
    """torchvision's FCOS behind our interface; images come normalised and of one size."""

    def __init__(self, *, ours: Detector, num_classes: int, channels: int, convs: int, groups: int) -> None:
        super().__init__()
        backbone = Maps(ours.backbone, ours.neck, channels)
        strides = ours.neck.strides
        anchors = AnchorGenerator(tuple((stride,) for stride in strides), ((1.0,),) * len(strides))
        self.net = FCOS(backbone, num_classes, anchor_generator=anchors, nms_thresh=0.6, score_thresh=0.05)
        self.net.head = FCOSHead(channels, 1, num_classes, convs)
        norm = functools.partial(nn.GroupNorm, groups)
        self.net.head.classification_head = FCOSClassificationHead(channels, 1, num_classes, convs, norm_layer=norm)
        self.net.head.regression_head = FCOSRegressionHead(channels, 1, convs, norm_layer=norm)
        self.net.transform = nn.Identity()

    def outputs(self, batch: Batch) -> tuple[Mapping[str, Tensor], list[Tensor], ImageList]:
        features = list(self.net.backbone(batch.images).values())
        images = ImageList(batch.images, [tuple(batch.images.shape[-2:])] * len(batch))
        return self.net.head(features), self.net.anchor_generator(images, features), features

    def losses(self, batch: Batch) -> Losses:
        outputs, anchors, features = self.outputs(batch)
        truth = batch.truth
        targets = [
            {"boxes": boxes[valid], "labels": labels[valid]}
            for boxes, labels, valid in zip(truth.boxes, truth.labels, truth.valid, strict=True)
        ]
        sizes = [each.size(2) * each.size(3) for each in features]
        losses = self.net.compute_loss(targets, outputs, anchors, sizes)
        return {f"loss_{name}": value for name, value in losses.items()}

    def detections(self, batch: Batch) -> list[Detections]:
        outputs, anchors, features = self.outputs(batch)
        sizes = [each.size(2) * each.size(3) for each in features]
        split = {name: list(value.split(sizes, 1)) for name, value in outputs.items()}
        shapes = [tuple(batch.images.shape[-2:])] * len(batch)
        found = self.net.postprocess_detections(split, [list(each.split(sizes)) for each in anchors], shapes)
        return [Detections(each["boxes"], each["scores"], each["labels"]) for each in found]


def parts_of(sets: list[str]) -> Parts:
    config, catalog = load(str(CONFIG), sets)
    return build(config, catalog, wanted=("model", "train", "val", "optimizer"))


def peer_of(parts: Parts) -> Parts:
    """The same run with torchvision's head, assignment, losses and decoding."""
    head: nn.Module = parts.model.head.network
    torch.manual_seed(0)
    model = Peer(
        ours=parts.model,
        num_classes=len(parts.classes),
        channels=parts.model.neck.out_channels[0],
        convs=len(head.cls_convs),
        groups=head.cls_convs[0].norm.num_groups,
    )
    return attrs.evolve(parts, model=model)


def timed(parts: Parts, name: str) -> tuple[float, float, int]:
    """AP50, seconds of training (validation not counted) and trained parameters."""
    with tempfile.TemporaryDirectory() as folder:
        run = prepare(parts, Path(folder))
        validated = 0.0
        score = run.evaluate

        def evaluate(detector: nn.Module) -> Mapping[str, float]:
            nonlocal validated
            began = time.perf_counter()
            metrics = score(detector)
            validated += time.perf_counter() - began
            return metrics

        run.evaluate = evaluate
        print(f"--- {name}")
        began = time.perf_counter()
        metrics = train(run)
        seconds = time.perf_counter() - began - validated
    parameters = sum(each.numel() for each in parts.model.parameters() if each.requires_grad)
    return metrics["bbox_AP50"], seconds, parameters


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--set", action="append", default=[], dest="sets")
    sets = options.parse_args().sets
    ours = timed(parts_of(sets), "detcore")
    theirs = timed(peer_of(parts_of(sets)), "torchvision")
    print(f"\n{'':12} {'AP50':>7} {'training':>9} {'parameters':>11}")
    for name, (score, seconds, parameters) in {"detcore": ours, "torchvision": theirs}.items():
        print(f"{name:12} {score:7.4f} {seconds:7.1f} s {parameters:11,}")
    print(f"{'ratio':12} {ours[0] / max(theirs[0], 1e-9):7.3f} {ours[1] / theirs[1]:9.3f}")
    met = ours[0] >= LEAST and ours[0] >= theirs[0] - 0.02 and ours[1] < LIMIT
    print("met" if met else f"missed: AP50 >= {LEAST} and >= torchvision's - 0.02, under {LIMIT:.0f} s")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
