"""Dense detectors beside torchvision's, and what assigners and losses cost, in one process on the CPU in float32.

RetinaNet and FCOS with ResNet-50 and FPN: a training step and inference, 2 images of 320 x 448, under the rules of
step.py: the same raw maps from the same weights, which is checked first, both layouts, turns, ratios of one run. Of
torchvision's RetinaNet ours has the anchors (but those of the deepest level, whose stride it rounds down), thresholds
and numbers of candidates and detections.

RetinaNet, FCOS, ATSS, YOLOX-S and YOLOv3: assigner and losses (with their backward pass down to the raw maps) as a
share of a step with 10 objects an image, and a step with 100 objects over one with 10.

    python benchmarks/dense.py [--rounds 8] [--threads 2] [--of retinanet fcos atss yolox yolov3]
        [--only train infer parts objects] [--cpu-time]

`--cpu-time` counts what the processor works rather than the time on the wall, for a machine that others use.
Exits with 1 where a line says "missed".
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import attrs
import torch
from _pairs import CLASSES, Pair, fcos, pyramid, random_batch, retinanet
from _turns import Clock, Line, both_layouts, compare, contender, in_turns, parts_of_a_step, placed, ratio, report
from detcore.detectors import OneStage
from detcore.heads.dense import ComposedHead
from detcore_atss.atss import ATSSAssigner, ATSSTowers
from detcore_csp_darknet.csp_darknet import CSPDarknet
from detcore_darknet.darknet import Darknet
from detcore_dense.anchors import Anchors
from detcore_dense.decoders import NMSDecoder
from detcore_fcos.fcos import FCOSLoss
from detcore_losses.boxes import GIoULoss, IoULoss, L1Loss, MSELoss
from detcore_losses.classification import CrossEntropyLoss, FocalLoss
from detcore_yolov3.yolov3 import GridAssigner, YOLOAnchors, YOLOV3Decoder, YOLOV3Loss, YOLOV3Neck, YOLOV3Towers
from detcore_yolox.yolox import YOLOXPAFPN, PointsWH, SimOTAAssigner, YOLOXDecoder, YOLOXLoss, YOLOXTowers

MORE_OBJECTS, LONGER = 100, 1.2
SHARES = {"retinanet": 0.03, "fcos": 0.03, "atss": 0.03, "yolox": 0.05, "yolov3": 0.03}
BESIDE = {"train": "training step", "infer": "inference"}
PAIRS: Mapping[str, Callable[[], Pair]] = {"retinanet": retinanet, "fcos": fcos}


# ------------------------------------------------------------------------------------------- those without a companion


def atss() -> OneStage:
    backbone, neck = pyramid()
    loss = FCOSLoss(
        loss_cls=FocalLoss(),
        loss_box=GIoULoss(loss_weight=2.0),
        loss_centerness=CrossEntropyLoss(use_sigmoid=True),
        least_weight=1.0,
    )
    head = ComposedHead(
        num_classes=CLASSES,
        loss=loss,
        geometry=Anchors(strides=neck.strides, ratios=[1.0], scales=[8.0], stds=[0.1, 0.1, 0.2, 0.2]),
        network=ATSSTowers(
            in_channels=256, strides=neck.strides, class_channels=CLASSES, box_channels=4, priors_per_cell=1
        ),
        assigner=ATSSAssigner(),
        decoder=NMSDecoder(nms_iou=0.6, quality="centerness"),
    )
    return OneStage(backbone=backbone, neck=neck, head=head)


def yolox() -> OneStage:
    """YOLOX-S as in its last epochs, with the L1 loss."""
    backbone = CSPDarknet(deepen_factor=0.33, widen_factor=0.5)
    neck = YOLOXPAFPN(in_channels=backbone.out_channels, in_strides=backbone.strides, num_csp_blocks=1)
    loss = YOLOXLoss(
        loss_cls=CrossEntropyLoss(use_sigmoid=True),
        loss_box=IoULoss(mode="square", eps=1e-16, loss_weight=5.0),
        loss_obj=CrossEntropyLoss(use_sigmoid=True),
        loss_l1=L1Loss(),
        l1_from=0.0,
    )
    head = ComposedHead(
        num_classes=CLASSES,
        loss=loss,
        geometry=PointsWH(strides=neck.strides),
        network=YOLOXTowers(in_channels=128, strides=neck.strides, class_channels=CLASSES),
        assigner=SimOTAAssigner(),
        decoder=YOLOXDecoder(),
    )
    return OneStage(backbone=backbone, neck=neck, head=head)


def yolov3() -> OneStage:
    backbone = Darknet()
    neck = YOLOV3Neck(in_channels=backbone.out_channels, in_strides=backbone.strides)
    entropy = functools.partial(CrossEntropyLoss, use_sigmoid=True, reduction="sum")
    size = MSELoss(reduction="sum", loss_weight=2.0)
    network = YOLOV3Towers(
        in_channels=neck.out_channels, strides=neck.strides, class_channels=CLASSES, priors_per_cell=3
    )
    head = ComposedHead(
        num_classes=CLASSES,
        loss=YOLOV3Loss(loss_cls=entropy(), loss_conf=entropy(), loss_xy=entropy(loss_weight=2.0), loss_wh=size),
        geometry=YOLOAnchors(strides=neck.strides),
        network=network,
        assigner=GridAssigner(),
        decoder=YOLOV3Decoder(),
    )
    return OneStage(backbone=backbone, neck=neck, head=head)


ALONE: Mapping[str, Callable[[], OneStage]] = {"atss": atss, "yolox": yolox, "yolov3": yolov3}


# ------------------------------------------------------------------------------------------------------------- measures


@attrs.frozen
class Bench:
    """How to measure, and the lines of the report."""

    rounds: int
    only: Sequence[str]
    clock: Clock
    lines: list[Line] = attrs.field(factory=list)

    def beside(self, pair: Pair, ours: OneStage) -> None:
        """A step and inference beside torchvision's."""
        batch = random_batch()
        pair.same_outputs(ours, batch)
        asked = {title: part for part, title in BESIDE.items() if part in self.only}
        four = both_layouts(pair.theirs, ours, batch, "cpu") if asked else {}
        for title, part in asked.items():
            runs = {name: getattr(each, part) for name, each in four.items()}
            found = compare(f"{pair.name}, {title}", in_turns(runs, self.rounds, "cpu", self.clock))
            self.lines.append((f"{pair.name}: {title} over torchvision's", found, 1.0))

    def alone(self, name: str, ours: OneStage) -> None:
        """Shares of a step, and a step with more objects."""
        layout = torch.channels_last
        few, many = (contender(ours, batch, "cpu", layout) for batch in (random_batch(), random_batch(MORE_OBJECTS)))
        if "parts" in self.only:
            print(f"\n{name}")
            parts = parts_of_a_step(few, placed(random_batch(), "cpu", layout), self.rounds, self.clock)
            self.lines.append(
                (f"{name}: assigner and losses of a step", parts["assigner"] + parts["losses"], SHARES[name])
            )
        if "objects" in self.only:
            times = in_turns({"few": few.train, "many": many.train}, self.rounds, "cpu", self.clock)
            self.lines.append((f"{name}: {MORE_OBJECTS} objects over 10", ratio(times["many"], times["few"]), LONGER))


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=8)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--of", nargs="+", choices=tuple(SHARES), default=tuple(SHARES))
    parts = ("train", "infer", "parts", "objects")
    options.add_argument("--only", nargs="+", choices=parts, default=parts)
    options.add_argument("--cpu-time", action="store_true")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    bench = Bench(given.rounds, given.only, time.process_time if given.cpu_time else time.perf_counter)
    for name in given.of:
        torch.manual_seed(0)
        if name in PAIRS:
            pair = PAIRS[name]()
            ours = pair.build()
            bench.beside(pair, ours)
        else:
            ours = ALONE[name]()
        bench.alone(name, ours)
    return 0 if report(bench.lines) else 1


if __name__ == "__main__":
    sys.exit(main())
