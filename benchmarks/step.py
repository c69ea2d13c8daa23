"""A training step and inference of FCOS, ResNet-50 and FPN beside torchvision's, in one process.

Both have the same weights, trained parameters, frozen batch norms, images and objects; that they compute the same raw
maps is checked first. They take turns, in torch's layout and in channels_last, so that a busy machine slows all; a
ratio is the median over rounds of the time over that of torchvision in its faster layout. On the CPU in float32 with 2
threads; where there is a CUDA device, there too, under bf16 autocast.

    python benchmarks/step.py [--rounds 8] [--threads 2] [--only train infer compile parts]

Exits with 1 where ours in its faster layout takes longer than torchvision in its own, in a step or in inference, or
where assigner, losses and decoding take more than 3 % of a step. Beside it, for information: ours with the frozen
norms folded into the convolutions, both compiled, and what each keeps for the backward pass.
"""

from __future__ import annotations

import argparse
import copy
import functools
import logging
import re
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import torch
from detcore.detectors import OneStage
from detcore.heads.dense import ComposedHead
from detcore.layers import BN
from detcore.structures import Batch, Predictions, Targets, total_loss
from detcore_dense.decoders import NMSDecoder
from detcore_dense.points import Points
from detcore_fcos.fcos import FCOSAssigner, FCOSLoss, FCOSTowers
from detcore_fpn.fpn import FPN
from detcore_losses.boxes import GIoULoss
from detcore_losses.classification import CrossEntropyLoss, FocalLoss
from detcore_resnet.resnet import ResNet
from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

IMAGES, HEIGHT, WIDTH, CLASSES, OBJECTS = 2, 320, 448, 91, 10
SHARE = 0.03
OUR_NAMES = (
    (r"^backbone\.body\.", "backbone."),
    (r"^backbone\.fpn\.inner_blocks\.(\d)\.0\.", r"neck.lateral_convs.\1.conv."),
    (r"^backbone\.fpn\.layer_blocks\.(\d)\.0\.", r"neck.fpn_convs.\1.conv."),
    (r"^backbone\.fpn\.extra_blocks\.p6\.", "neck.fpn_convs.3.conv."),
    (r"^backbone\.fpn\.extra_blocks\.p7\.", "neck.fpn_convs.4.conv."),
    (r"^head\.classification_head\.cls_logits\.", "head.network.conv_cls."),
    (r"^head\.regression_head\.bbox_reg\.", "head.network.conv_reg."),
    (r"^head\.regression_head\.bbox_ctrness\.", "head.network.conv_centerness."),
)


# ---------------------------------------------------------------------------------------------------- the two models


class Ready(nn.Module):
    """In place of torchvision's transform: images come normalised and of one size."""

    def forward(self, images: Tensor, targets: Any = None) -> tuple[ImageList, Any]:
        return ImageList(images, [tuple(images.shape[-2:])] * len(images)), targets

    def postprocess(self, result: Any, image_shapes: Any, original_image_sizes: Any) -> Any:
        return result


def torchvision_fcos() -> FCOS:
    """As `fcos_resnet50_fpn` with pretrained weights builds it, but with random ones."""
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=FrozenBatchNorm2d,
        trainable_layers=3,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    model = FCOS(backbone, CLASSES)
    model.transform = Ready()
    return model


def enliven(model: FCOS) -> None:
    """Statistics as trained ones are, and scores of which a few hundred exceed the threshold."""
    for name, module in model.named_modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.weight.uniform_(0.5, 1.5).mul_(0.3 if name.endswith("bn3") else 1.0)
            module.running_var.uniform_(0.5, 1.5)
            module.running_mean.normal_(std=0.1)
            module.bias.normal_(std=0.1)
    model.head.classification_head.cls_logits.weight.data.mul_(2)


def detcore_fcos(*, folded: bool = False) -> OneStage:
    """FCOS with torchvision's conventions."""
    norm = functools.partial(BN, frozen=True, folded=folded)
    backbone = ResNet(depth=50, out_indices=(1, 2, 3), frozen_stages=1, norm=norm)
    neck = FPN(
        in_channels=backbone.out_channels,
        in_strides=backbone.strides,
        num_outs=5,
        extra="on_output",
        relu_before_extra=True,
    )
    network = FCOSTowers(
        in_channels=256,
        strides=neck.strides,
        class_channels=CLASSES,
        conv_bias=True,
        centerness_on_box=True,
        norm_on_box=True,
    )
    network.scales.requires_grad_(False)  # torchvision has no scales
    head = ComposedHead(
        num_classes=CLASSES,
        loss=FCOSLoss(loss_cls=FocalLoss(), loss_box=GIoULoss(), loss_centerness=CrossEntropyLoss(use_sigmoid=True)),
        geometry=Points(strides=neck.strides, offset=0.0),
        network=network,
        assigner=FCOSAssigner(radius=1.5),
        decoder=NMSDecoder(score_threshold=0.08, nms_iou=0.6, quality="centerness"),
    )
    return OneStage(backbone=backbone, neck=neck, head=head)


def our_name(name: str) -> str:
    for pattern, replacement in OUR_NAMES:
        name = re.sub(pattern, replacement, name)
    tower = re.fullmatch(r"head\.(cl|re)[a-z]+_head\.conv\.(\d+)\.(\w+)", name)
    if tower is None:
        return name
    convs = "cls_convs" if tower[1] == "cl" else "reg_convs"
    index, part = divmod(int(tower[2]), 3)
    return f"head.network.{convs}.{index}.{('conv', 'norm')[part]}.{tower[3]}"


def with_weights_of(theirs: FCOS, ours: OneStage) -> OneStage:
    """Ours with torchvision's weights, one to one."""
    state = {our_name(name): value for name, value in theirs.state_dict().items()}
    report = ours.load_state_dict(state, strict=False)
    missing = [name for name in report.missing_keys if not name.endswith("tracked") and "scales" not in name]
    if missing or report.unexpected_keys:
        raise SystemExit(f"weights differ: missing {missing}, unexpected {report.unexpected_keys}")
    return ours


# ------------------------------------------------------------------------------------------------- what both are given


def random_batch() -> Batch:
    """Noise with objects of all sizes."""
    limit = torch.tensor([WIDTH, HEIGHT])
    corner = torch.rand(IMAGES, OBJECTS, 2) * limit * 0.8
    end = torch.minimum(corner + 16 * 12 ** torch.rand(IMAGES, OBJECTS, 2), limit)
    valid = torch.ones(IMAGES, OBJECTS, dtype=torch.bool)
    targets = Targets(torch.cat([corner, end], -1), torch.randint(CLASSES, valid.shape), valid, ~valid)
    sizes = torch.tensor([[HEIGHT, WIDTH]] * IMAGES).float()
    return Batch(torch.randn(IMAGES, 3, HEIGHT, WIDTH), sizes, sizes, torch.ones_like(sizes), range(IMAGES), targets)


def placed(batch: Batch, device: str, layout: torch.memory_format) -> Batch:
    truth = batch.truth
    targets = Targets(*(each.to(device) for each in (truth.boxes, truth.labels, truth.valid, truth.crowd)))
    images = batch.images.to(device, memory_format=layout)
    return Batch(images, batch.sizes.to(device), batch.padded.to(device), batch.scale.to(device), batch.ids, targets)


def same_outputs(theirs: FCOS, ours: OneStage, batch: Batch) -> None:
    """Exits where raw maps differ by more than 1e-4 of their largest value, or other parameters are trained."""
    trained = {our_name(name) for name, each in theirs.named_parameters() if each.requires_grad}
    if trained != {name for name, each in ours.named_parameters() if each.requires_grad}:
        raise SystemExit("other parameters are trained")
    with torch.no_grad():
        outputs = theirs.head(list(theirs.backbone(batch.images).values()))
        found = ours.head(ours.neck(ours.backbone(batch.images)), batch)
    stride = found.priors.stride[:, None]
    pairs = {
        "cls": (found.flat("cls"), outputs["cls_logits"]),
        "box": (found.flat("box") / stride, outputs["bbox_regression"]),
        "centerness": (found.flat("centerness"), outputs["bbox_ctrness"]),
    }
    for name, (value, expected) in pairs.items():
        error = float((value - expected).abs().max() / expected.abs().max())
        print(f"raw {name:12} {tuple(value.shape)} differs by {error:.1e} of its largest value")
        if not error <= 1e-4:
            raise SystemExit(f"{name} differs: this would compare different work")


# ---------------------------------------------------------------------------------------------------------- contenders


@attrs.frozen
class Contender:
    """A model with its optimizer on a device, and how it is asked for losses and detections."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    losses: Callable[[], Tensor]
    found: Callable[[], Sequence[Any]]
    device: str

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.device != "cpu")

    def train(self) -> None:
        self.model.train()
        with self.autocast():
            loss = self.losses()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def infer(self) -> None:
        self.model.eval()
        with torch.no_grad(), self.autocast():
            self.found()

    def kept(self) -> float:
        """MB of maps and weights made in the forward pass that are kept for the backward pass."""
        own = {each.data_ptr() for each in self.model.parameters()}
        seen: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        self.model.train()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), self.autocast():
            self.losses()
        return sum(seen.values()) / 1e6


def contender(model: nn.Module, batch: Batch, device: str, layout: torch.memory_format, compiled: bool) -> Contender:
    """A copy of the model; ``batch`` in its own layout."""
    model = copy.deepcopy(model).to(device, memory_format=layout)
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-6, momentum=0.9, weight_decay=1e-4, foreach=True)
    batch = placed(batch, device, layout)
    call: Any = torch.compile(model) if compiled else model
    if isinstance(model, FCOS):
        truth = batch.truth
        targets = [{"boxes": boxes, "labels": labels} for boxes, labels in zip(truth.boxes, truth.labels, strict=True)]
        losses = lambda: torch.stack(list(call(batch.images, targets).values())).sum()  # noqa: E731
        found = functools.partial(call, batch.images)
    else:
        losses = lambda: total_loss(call(batch, mode="losses"))  # noqa: E731
        found = functools.partial(call, batch, mode="detections")
    return Contender(model, optimizer, losses, found, device)


def contenders(theirs: FCOS, ours: OneStage, batch: Batch, device: str, *, compiled: bool) -> dict[str, Contender]:
    folded = with_weights_of(theirs, detcore_fcos(folded=True))
    plain, last = torch.contiguous_format, torch.channels_last
    table = {
        "torchvision": (theirs, plain, False),
        "torchvision channels_last": (theirs, last, False),
        "detcore": (ours, plain, False),
        "detcore channels_last": (ours, last, False),
        "  detcore folded, channels_last": (folded, last, False),
    }
    if compiled:
        table["  torchvision compiled, channels_last"] = (theirs, last, True)
        table["  detcore folded, compiled, channels_last"] = (folded, last, True)
    return {
        name: contender(model, batch, device, layout, compile_) for name, (model, layout, compile_) in table.items()
    }


# ------------------------------------------------------------------------------------------------------------- timing


def seconds(run: Callable[[], object], device: str) -> float:
    def finish() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    finish()
    began = time.perf_counter()
    run()
    finish()
    return time.perf_counter() - began


def in_turns(runs: Mapping[str, Callable[[], object]], rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of each run in each round; every second round goes backwards. Two rounds before do not count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 2):
        for name in list(runs)[:: -1 if number % 2 else 1]:
            took = seconds(runs[name], device)
            if number >= 2:
                times[name].append(took)
    return times


def compare(title: str, times: Mapping[str, list[float]]) -> float:
    """Prints a row per contender; the ratio of our faster layout to torchvision's."""
    faster = min(("torchvision", "torchvision channels_last"), key=lambda name: statistics.median(times[name]))
    print(f"\n{title:40} {'least':>9} {'median':>9} {'ratio':>7} {'of least':>9}   to {faster}")
    ratios = {}
    for name, own in times.items():
        ratios[name] = statistics.median(mine / its for mine, its in zip(own, times[faster], strict=True))
        least = min(own) / min(times[faster])
        middle = statistics.median(own) * 1e3
        print(f"{name:40} {min(own) * 1e3:6.1f} ms {middle:6.1f} ms {ratios[name]:7.3f} {least:9.3f}")
    return min(ratios["detcore"], ratios["detcore channels_last"])


def share(ours: Contender, batch: Batch, rounds: int) -> float:
    """Assigner, losses (with their backward pass down to the raw maps) and decoding, as a share of a step."""
    head: Any = ours.model.head
    ours.model.train()
    with torch.no_grad(), ours.autocast():
        predictions = head(ours.model.neck(ours.model.backbone(batch.images)), batch)

    def fresh() -> Predictions:
        raw = {name: [each.detach().requires_grad_() for each in maps] for name, maps in predictions.raw.items()}
        return attrs.evolve(predictions, raw=raw)

    with torch.no_grad():
        matches = head.assigner(predictions, batch)
    runs = {
        "assigner": lambda: head.assigner(predictions, batch),
        "losses": lambda: total_loss(head.loss(fresh(), matches, batch)).backward(),
        "decoding": lambda: head.detections(fresh(), batch),
        "step": ours.train,
    }
    least = {name: min(values) for name, values in in_turns(runs, rounds, ours.device).items()}
    for name in ("assigner", "losses", "decoding"):
        print(f"{name:40} {least[name] * 1e3:6.1f} ms {least[name] / least['step']:26.2%} of a step")
    return (sum(least.values()) - least["step"]) / least["step"]


def measure(device: str, rounds: int, only: Sequence[str]) -> bool:
    """Whether the targets are met on ``device``."""
    torch.manual_seed(0)
    theirs = torchvision_fcos().train()
    enliven(theirs)
    ours = with_weights_of(theirs, detcore_fcos()).train()
    batch = random_batch()
    same_outputs(theirs, ours, batch)
    all_of_them = contenders(theirs, ours, batch, device, compiled="compile" in only)
    met = True
    for title, part in {"training step": "train", "inference": "infer"}.items():
        if part in only:
            runs = {name: getattr(each, part) for name, each in all_of_them.items()}
            met &= compare(f"{title}, {device}", in_turns(runs, rounds, device)) <= 1
    if "parts" in only:
        print()
        for name in ("torchvision", "detcore", "  detcore folded, channels_last"):
            print(f"{name:40} {all_of_them[name].kept():6.0f} MB kept for the backward pass")
        layout = torch.channels_last
        part = share(all_of_them["detcore channels_last"], placed(batch, device, layout), rounds)
        print(f"{'assigner, losses and decoding':40} {part:36.2%} of a step")
        met &= part <= SHARE
    return met


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=8)
    parts = ("train", "infer", "compile", "parts")
    options.add_argument("--only", nargs="+", choices=parts, default=parts)
    options.add_argument("--threads", type=int, default=2)
    given = options.parse_args()
    warnings.simplefilter("ignore")  # what torch.compile says of torchvision's losses and NMS
    torch._logging.set_logs(all=logging.ERROR)
    torch.set_num_threads(given.threads)
    met = measure("cpu", given.rounds, given.only)
    if torch.cuda.is_available():
        met &= measure("cuda", given.rounds, given.only)
    else:
        print("\nno CUDA device: bf16 on it is left out")
    print("met" if met else f"missed: a ratio of ours to torchvision's is above 1, or the parts above {SHARE:.0%}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
