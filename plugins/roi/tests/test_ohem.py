"""A stage whose sampler wants the hardest regions, held against one region at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from detcore.heads.roi import ComposedRoIHead, RoIStage
from detcore.interfaces import Sampler
from detcore.structures import Batch, Detections, Targets, total_loss
from detcore_dense.deltas import DeltaXYWHCoder
from detcore_dense.max_iou import MaxIoUAssigner
from detcore_dense.samplers import OHEMSampler, RandomSampler
from detcore_losses.boxes import L1Loss
from detcore_losses.classification import CrossEntropyLoss
from detcore_roi.box_head import Shared2FCBoxHead
from detcore_roi.decoder import RoINMSDecoder
from detcore_roi.extractor import SingleLevelRoIExtractor
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

CLASSES, SIDE = 3, 128


def stage(sampler: Sampler, **options: Any) -> RoIStage:
    torch.manual_seed(0)
    extractor = SingleLevelRoIExtractor(in_channels=4, strides=(4, 8), roi_size=3)
    head = Shared2FCBoxHead(
        in_channels=4, roi_size=3, class_channels=CLASSES + 1, box_channels=4 * CLASSES, fc_channels=8
    )
    for each in head.parameters():
        torch.nn.init.normal_(each, std=0.5)
    return RoIStage(
        num_classes=CLASSES,
        loss_cls=CrossEntropyLoss(loss_weight=2.0, **options),
        loss_box=L1Loss(),
        extractor=extractor,
        coder=DeltaXYWHCoder(),
        box_head=head,
        assigner=MaxIoUAssigner(pos_iou=0.5, neg_iou=0.5, match_low_quality=False, ignore_iof=0.5),
        sampler=sampler,
        num_levels=2,
    )


def boxes(count: int, generator: torch.Generator) -> Tensor:
    corner = torch.rand(count, 2, generator=generator) * SIDE * 0.6
    return torch.cat([corner, corner + 6 + torch.rand(count, 2, generator=generator) * SIDE * 0.3], 1)


def given(counts: tuple[int, int] = (40, 25), objects: int = 6) -> tuple[list[Tensor], list[Detections], Batch]:
    """Maps, proposals (some of them near objects) and a batch whose last object is a crowd."""
    generator = torch.Generator().manual_seed(1)
    truth = torch.stack([boxes(objects, generator) for _ in counts])
    valid = torch.ones(2, objects, dtype=torch.bool)
    valid[:, -1:] = False
    found = []
    for image, count in enumerate(counts):
        near = truth[image].repeat(2, 1)[:count] + torch.randn(min(2 * objects, count), 4, generator=generator)
        rows = torch.cat([near, boxes(count - len(near), generator)])
        found.append(Detections(rows, torch.ones(count), torch.zeros(count, dtype=torch.int64)))
    labels = torch.randint(CLASSES, (2, objects), generator=generator)
    size = torch.full((2, 2), float(SIDE))
    targets = Targets(truth, labels, valid, ~valid)
    maps = [torch.randn(2, 4, SIDE // s, SIDE // s, generator=generator) for s in (4, 8)]
    return maps, found, Batch(torch.zeros(2, 3, SIDE, SIDE), size, size, torch.ones(2, 2), (0, 1), targets)


class Everything(Sampler):
    def forward(self, matches: Any) -> Any:
        return matches


def rows(rois: Tensor) -> list[tuple[float, ...]]:
    return sorted(tuple(row) for row in rois.tolist())


@pytest.mark.parametrize("options", [{}, {"class_weight": [1.0, 4.0, 0.2, 2.0]}])
def test_the_hardest_regions_are_those_of_a_loop(options: Any) -> None:
    maps, proposals, batch = given()
    all_of_it = stage(Everything(), **options)
    samples = all_of_it.sample(proposals, batch)
    hard: list[Tensor] = []
    for image in (0, 1):
        costs: dict[bool, list[tuple[float, int]]] = {True: [], False: []}
        for row in range(len(samples.rois)):
            if int(samples.rois[row, 0]) == image:
                with torch.no_grad():
                    logits, _ = all_of_it(maps, samples.rois[row : row + 1])
                weight = torch.tensor(options.get("class_weight", [1.0] * 4))
                cost = F.cross_entropy(logits, samples.labels[row : row + 1], weight, reduction="sum")
                costs[bool(samples.positive[row])].append((float(cost), row))
        positives = sorted(costs[True], reverse=True)[:3]
        negatives = sorted(costs[False], reverse=True)[: 12 - len(positives)]
        assert len(costs[True]) > 3
        hard += [samples.rois[row] for _, row in (*positives, *negatives)]
    found = stage(OHEMSampler(num=12, pos_fraction=0.25), **options).sample(proposals, batch, maps)
    assert rows(found.rois) == rows(torch.stack(hard))


class Waits(TorchDispatchMode):
    """Operators that make an accelerator's host wait: their result's size or value depends on values."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name()
        by_mask = name == "aten::index.Tensor" and any(
            each is not None and each.dtype == torch.bool for each in args[1]
        )
        if by_mask or name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2"):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def waits(sampler: Sampler) -> list[str]:
    maps, proposals, batch = given()
    module = stage(sampler)
    found = Waits()
    with found:
        module.sample(proposals, batch, maps)
    return found.names


def test_the_device_is_waited_for_as_often_as_with_any_sampler() -> None:
    """Cutting out is left aside: the extractor's way of it is the same for few and many regions."""
    cut = waits_of_the_extractor()
    assert "aten::nonzero" in waits(RandomSampler(num=12))
    assert sorted(waits(OHEMSampler(num=12))) == sorted([*waits(RandomSampler(num=12)), *cut])


def waits_of_the_extractor() -> list[str]:
    maps, proposals, _ = given()
    rois = torch.cat([torch.zeros(40, 1), proposals[0].boxes], 1)
    found = Waits()
    with found, torch.no_grad():
        stage(Everything()).extractor(maps, rois)
    return found.names


def test_choosing_leaves_no_gradient_and_training_reaches_every_parameter() -> None:
    maps, proposals, batch = given()
    head = ComposedRoIHead(num_classes=CLASSES, stages=[stage(OHEMSampler(num=12))], decoder=RoINMSDecoder())
    maps = [each.requires_grad_() for each in maps]
    assert not head.stages[0].sample(proposals, batch, maps).rois.requires_grad
    assert all(each.grad is None for each in (*maps, *head.parameters()))
    total_loss(head.losses(maps, proposals, batch)).backward()  # type: ignore[no-untyped-call]
    assert all(each.grad is not None and each.grad.isfinite().all() for each in (*maps, *head.parameters()))


@pytest.mark.parametrize("counts", [(0, 0), (0, 5)])
def test_without_regions_or_objects_losses_are_finite(counts: tuple[int, int]) -> None:
    maps, proposals, batch = given(counts, objects=1)  # a crowd
    head = ComposedRoIHead(num_classes=CLASSES, stages=[stage(OHEMSampler(num=12))], decoder=RoINMSDecoder())
    total = total_loss(head.losses(maps, proposals, batch))
    assert total.isfinite()
    total.backward()  # type: ignore[no-untyped-call]
    assert all(each.grad is not None for each in head.parameters())


RANK = """
import sys, torch
from torch import distributed, nn
sys.path.insert(0, sys.argv[3])
from test_ohem import given, stage
from detcore.heads.roi import ComposedRoIHead
from detcore.structures import total_loss
from detcore_dense.samplers import OHEMSampler
from detcore_roi.decoder import RoINMSDecoder
rank, store = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = ComposedRoIHead(num_classes=3, stages=[stage(OHEMSampler(num=12))], decoder=RoINMSDecoder())

    def forward(self, *given):
        return self.head.losses(*given)


model = nn.parallel.DistributedDataParallel(Model())
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for _ in range(3):
    optimizer.zero_grad()
    total_loss(model(*given((40, 25), 6) if rank else given((0, 0), 1))).backward()
    optimizer.step()
print(sum(each.double().sum().item() for each in model.parameters()))
distributed.destroy_process_group()
"""


def test_two_ranks_of_which_one_has_no_region_stay_equal(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RANK]
    last = [str(tmp_path / "store"), str(Path(__file__).parent)]
    ranks = [subprocess.Popen([*command, str(rank), *last], stdout=subprocess.PIPE, text=True) for rank in (0, 1)]
    found = [rank.communicate(timeout=120)[0].strip() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    assert found[0] == found[1] != "nan"
