"""Faster and Mask R-CNN with ResNet-50 and FPN beside torchvision's, in one process on the CPU in float32.

The recipes of configs/torchvision have torchvision's conventions; both have the same weights, trained parameters,
frozen batch norms, images, objects and bitmaps, and that they detect the same is checked first. A training step with 2
images of 320 x 448 and the detection of one, under the rules of step.py: both layouts, turns, ratios of one run; and
how far each process's memory grows in three steps, in processes of their own.

100 masks with sides log-uniform in 40 to 800 pixels are put into an image of 4000 x 3000 as run lengths.

    python benchmarks/roi.py [--rounds 8] [--threads 2] [--of faster_rcnn mask_rcnn]
        [--only train infer memory paste] [--cpu-time]

`--cpu-time` counts what the processor works rather than the time on the wall, for a machine that others use.
Exits with 1 where a line says "missed".
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from _pairs import HEIGHT, OBJECTS, WIDTH, Ready, random_batch, random_norms
from _turns import Clock, Contender, Line, both_layouts, compare, contender, in_turns, report
from detcore.assemble import build, load
from detcore.interfaces import Detector
from detcore.results import to_rows
from detcore.structures import Batch, Detections, Targets
from detcore_torchvision_models.names import LAYOUTS, our_state
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

CONFIGS = Path(__file__).parents[1] / "configs" / "torchvision"
CLASSES = 90
RECIPES = {"faster_rcnn": "fasterrcnn_resnet50_fpn", "mask_rcnn": "maskrcnn_resnet50_fpn"}
MODELS: dict[str, Callable[..., Any]] = {"faster_rcnn": FasterRCNN, "mask_rcnn": MaskRCNN}
PASTED, PASTED_SECONDS, PASTED_MB = 100, 1.0, 300.0


# ------------------------------------------------------------------------------------------------------ the contenders


def torchvisions(name: str) -> nn.Module:
    """As torchvision's function with pretrained weights builds it, but with random ones."""
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3
    )
    random_norms(backbone)
    model = MODELS[name](backbone, CLASSES + 1)
    overwrite_eps(model, 0.0)
    model.transform = Ready()
    spread_scores(model)
    return model.train()


@torch.no_grad()
def spread_scores(model: Any, wanted: float = 2.0) -> None:
    """Scales class logits to spread so much, so that there are more detections than are kept."""
    layer, said = model.roi_heads.box_predictor.cls_score, []
    with layer.register_forward_hook(lambda _layer, _given, out: said.append(out)):
        model.eval()(torch.randn(1, 3, HEIGHT, WIDTH))
    layer.weight.mul_(wanted / (said[0] - said[0].mean(0)).std())


def ours(name: str, theirs: nn.Module) -> Detector:
    """The recipe's detector with torchvision's weights.

    Raises:
        SystemExit: Other parameters are trained.
    """
    recipe = RECIPES[name]
    classes = [f"class {number}" for number in range(CLASSES)]
    model = build(*load(str(CONFIGS / f"{recipe}.toml")), "cpu", known=classes, load_weights=False).model
    model.load_state_dict(our_state(recipe, theirs.state_dict(), "torchvision"))
    layout = LAYOUTS[recipe]
    trained = {layout.our_name(key) for key, each in theirs.named_parameters() if each.requires_grad}
    if trained != {key for key, each in model.named_parameters() if each.requires_grad}:
        raise SystemExit("other parameters are trained")
    return model.train()


def with_bitmaps(batch: Batch) -> Batch:
    """The batch, every object an ellipse."""
    rows, columns = torch.arange(HEIGHT)[:, None] + 0.5, torch.arange(WIDTH) + 0.5
    boxes = batch.truth.boxes[..., None, None]
    across = (2 * columns - boxes[:, :, 0] - boxes[:, :, 2]) / (boxes[:, :, 2] - boxes[:, :, 0])
    down = (2 * rows - boxes[:, :, 1] - boxes[:, :, 3]) / (boxes[:, :, 3] - boxes[:, :, 1])
    masks = (across.square() + down.square() <= 1).to(torch.uint8)
    return attrs.evolve(batch, targets=attrs.evolve(batch.truth, masks=list(masks)))


def batches(name: str) -> tuple[Batch, Batch]:
    """One to train on, and its first image."""
    batch = random_batch(OBJECTS, classes=CLASSES)
    truth = batch.truth
    first = Targets(*(each[:1] for each in (truth.boxes, truth.labels, truth.valid, truth.crowd)))
    one = Batch(batch.images[:1], batch.sizes[:1], batch.padded[:1], batch.scale[:1], [0], first)
    return with_bitmaps(batch) if name == "mask_rcnn" else batch, one


@torch.no_grad()
def same_detections(theirs: Any, ours: Detector, one: Batch) -> None:
    """Exits where scores, best first, or boxes differ.

    Raises:
        SystemExit: They do.
    """
    (wanted,), (found,) = theirs.eval()(one.images), ours.eval().detections(one)
    print(f"\n{len(found)} detections of ours, {len(wanted['scores'])} of torchvision's")
    if len(found) != len(wanted["scores"]):
        raise SystemExit("this would compare different work")
    alike = (found.boxes[:, None] - wanted["boxes"]).abs().amax(-1) < 1e-4 * WIDTH
    alike &= (found.scores[:, None] - wanted["scores"]).abs() < 1e-4
    alike &= found.labels[:, None] + 1 == wanted["labels"]
    if not (alike.any(0) & alike.any(1)).all():
        raise SystemExit("detections differ: this would compare different work")


# ------------------------------------------------------------------------------------------------------------- measures


@attrs.frozen
class Bench:
    """How to measure, and the lines of the report."""

    rounds: int
    threads: int
    only: Sequence[str]
    clock: Clock
    lines: list[Line] = attrs.field(factory=list)

    def beside(self, name: str) -> None:
        """A step, a detection and memory beside torchvision's."""
        torch.manual_seed(0)
        theirs = torchvisions(name)
        mine, (batch, one) = ours(name, theirs), batches(name)
        same_detections(theirs, mine, one)
        for title, part, given in (("training step", "train", batch), ("one image", "infer", one)):
            if part in self.only:
                four = both_layouts(theirs, mine, given, "cpu")
                runs = {key: getattr(each, part) for key, each in four.items()}
                found = compare(f"{name}, {title}", in_turns(runs, self.rounds, "cpu", self.clock))
                self.lines.append((f"{name}: {title} over torchvision's", found, 1.0))
        if "memory" in self.only:
            grown = {side: grown_in_own_process(name, side, self.threads) for side in ("torchvision", "detcore")}
            print(f"\n{name}, a step's memory: " + ", ".join(f"{side} {mb:.0f} MB" for side, mb in grown.items()))
            self.lines.append((f"{name}: memory over torchvision's", grown["detcore"] / grown["torchvision"], 1.0))

    def paste(self) -> None:
        """Masks as run lengths of a large image."""
        found = many_masks()
        to_rows(found.each(lambda rows: rows[:1]), 1, [1], (300, 400))
        before, times = at_rest(), []
        for _ in range(3):
            began = self.clock()
            to_rows(found, 1, [1], (3000, 4000))
            times.append(self.clock() - began)
        self.lines.append((f"{PASTED} masks into 4000 x 3000, seconds", min(times), PASTED_SECONDS))
        self.lines.append((f"{PASTED} masks into 4000 x 3000, MB above", peak() - before, PASTED_MB))


def many_masks() -> Detections:
    generator = torch.Generator().manual_seed(0)
    sides = 40 * 20 ** torch.rand(PASTED, 2, generator=generator)
    corners = torch.rand(PASTED, 2, generator=generator) * (torch.tensor([4000, 3000]) - sides)
    coarse = torch.randn(PASTED, 1, 7, 7, generator=generator)
    masks: Tensor = (4 * nn.functional.interpolate(coarse, size=28, mode="bicubic")[:, 0]).sigmoid()
    return Detections(
        torch.cat([corners, corners + sides], 1), torch.ones(PASTED), torch.zeros(PASTED, dtype=torch.int64), masks
    )


def peak() -> float:
    """The most memory that this process had since :func:`at_rest`, MB."""
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) / 2**10


def at_rest() -> float:
    """The memory that this process has, MB; what it had before no longer counts. Linux knows."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def grown_in_own_process(name: str, side: str, threads: int) -> float:
    """MB by which three steps raise the peak of a new process; the allocator gives back at once what is free."""
    command = [sys.executable, __file__, "--threads", str(threads), "--of", name, "--grow", side]
    told = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, capture_output=True, text=True, env=told, check=True)
    return float(done.stdout.split()[-1])


def grown(name: str, side: str) -> float:
    """MB by which three steps, channels_last, raise this process's peak."""
    torch.manual_seed(0)
    theirs = torchvisions(name)
    mine = ours(name, theirs)
    its: Contender = contender(theirs if side == "torchvision" else mine, batches(name)[0], "cpu", torch.channels_last)
    before = at_rest()
    for _ in range(3):
        its.train()
    return peak() - before


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=8)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--of", nargs="*", choices=tuple(RECIPES), default=tuple(RECIPES))
    parts = ("train", "infer", "memory", "paste")
    options.add_argument("--only", nargs="+", choices=parts, default=parts)
    options.add_argument("--cpu-time", action="store_true")
    options.add_argument("--grow", choices=("torchvision", "detcore"), help=argparse.SUPPRESS)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    if given.grow:
        print(grown(given.of[0], given.grow))
        return 0
    clock = time.process_time if given.cpu_time else time.perf_counter
    bench = Bench(given.rounds, given.threads, given.only, clock)
    if "paste" in given.only:
        bench.paste()
    for name in given.of:
        bench.beside(name)
    return 0 if report(bench.lines) else 1


if __name__ == "__main__":
    sys.exit(main())
