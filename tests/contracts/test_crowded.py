"""A batch without objects, and one of 500: every head's losses are finite, reach all that trains, and hold no more.

What is held at once must not grow with the objects of an image: assigners look at some pairs of prior and object at a
time. Nor may torch.compile make a program for each number of objects.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from detcore.heads.dense import ComposedHead
from detcore.interfaces import DenseHead, Loss
from detcore.structures import Batch, Targets, total_loss
from detcore_atss.atss import ATSSAssigner, ATSSTowers
from detcore_centripetalnet.centripetalnet import CentripetalHead
from detcore_cornernet.cornernet import CornerHead
from detcore_cornernet.losses import AssociativeEmbeddingLoss, GaussianFocalLoss
from detcore_dense import parts
from detcore_dense.anchors import Anchors
from detcore_dense.decoders import NMSDecoder
from detcore_dense.loss import DenseBoxLoss
from detcore_dense.max_iou import MaxIoUAssigner
from detcore_dense.points import Points
from detcore_fcos.fcos import FCOSAssigner, FCOSLoss, FCOSTowers
from detcore_losses.boxes import GIoULoss, IoULoss, L1Loss, MSELoss, SmoothL1Loss
from detcore_losses.classification import CrossEntropyLoss, FocalLoss
from detcore_losses.ghm import GHMC, GHMR
from detcore_retinanet.retinanet import RetinaTowers
from detcore_yolov3.yolov3 import GridAssigner, YOLOAnchors, YOLOV3Decoder, YOLOV3Loss, YOLOV3Towers
from detcore_yolox.yolox import PointsWH, SimOTAAssigner, YOLOXDecoder, YOLOXLoss, YOLOXTowers
from torch import Tensor, UntypedStorage
from torch._dynamo.testing import CompileCounter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

SIZE, PADDED = (800, 1333), (800, 1344)
SMALL = (64, 96)
CHANNELS = 4
CLASSES = 1
"""As few as there are, so that what the losses hold does not hide what the assigner holds."""
PYRAMID, THREE, ONE = (8, 16, 32, 64, 128), (8, 16, 32), (4,)


# --------------------------------------------------------------------------------------------------------- the heads


def retinanet(classes: int, loss_cls: Loss | None = None, loss_box: Loss | None = None) -> DenseHead:
    return ComposedHead(
        num_classes=classes,
        loss=DenseBoxLoss(loss_cls=loss_cls or FocalLoss(), loss_box=loss_box or L1Loss(), per_level=bool(loss_cls)),
        geometry=Anchors(strides=PYRAMID, octave_base_scale=4, scales_per_octave=3),
        network=RetinaTowers(
            in_channels=CHANNELS, class_channels=classes, box_channels=4, priors_per_cell=9, feat_channels=4
        ),
        assigner=MaxIoUAssigner(pos_iou=0.5, neg_iou=0.4),
        decoder=NMSDecoder(),
    )


def ghm(classes: int) -> DenseHead:
    return retinanet(classes, GHMC(bins=30, momentum=0.75), GHMR(momentum=0.7))


def fcos(classes: int) -> DenseHead:
    entropy = CrossEntropyLoss(use_sigmoid=True)
    return ComposedHead(
        num_classes=classes,
        loss=FCOSLoss(loss_cls=FocalLoss(), loss_box=IoULoss(), loss_centerness=entropy),
        geometry=Points(strides=PYRAMID),
        network=FCOSTowers(in_channels=CHANNELS, strides=PYRAMID, class_channels=classes, channels=4, norm=None),
        assigner=FCOSAssigner(radius=1.5),
        decoder=NMSDecoder(quality="centerness"),
    )


def atss(classes: int) -> DenseHead:
    return ComposedHead(
        num_classes=classes,
        loss=FCOSLoss(loss_cls=FocalLoss(), loss_box=GIoULoss(), loss_centerness=CrossEntropyLoss(use_sigmoid=True)),
        geometry=Anchors(strides=PYRAMID, scales=[8.0], ratios=[1.0], stds=[0.1, 0.1, 0.2, 0.2]),
        network=ATSSTowers(
            in_channels=CHANNELS,
            strides=PYRAMID,
            class_channels=classes,
            box_channels=4,
            priors_per_cell=1,
            channels=4,
            norm=None,
        ),
        assigner=ATSSAssigner(),
        decoder=NMSDecoder(quality="centerness"),
    )


def yolox(classes: int) -> DenseHead:
    entropy, box = CrossEntropyLoss(use_sigmoid=True), IoULoss(mode="square", eps=1e-16, loss_weight=5.0)
    return ComposedHead(
        num_classes=classes,
        loss=YOLOXLoss(loss_cls=entropy, loss_box=box, loss_obj=entropy, loss_l1=L1Loss(), l1_from=0.0),
        geometry=PointsWH(strides=THREE),
        network=YOLOXTowers(in_channels=CHANNELS, strides=THREE, class_channels=classes),
        assigner=SimOTAAssigner(),
        decoder=YOLOXDecoder(),
    )


def yolov3(classes: int) -> DenseHead:
    entropy, square = CrossEntropyLoss(use_sigmoid=True, reduction="sum"), MSELoss(reduction="sum")
    return ComposedHead(
        num_classes=classes,
        loss=YOLOV3Loss(loss_cls=entropy, loss_conf=entropy, loss_xy=entropy, loss_wh=square),
        geometry=YOLOAnchors(strides=THREE),
        network=YOLOV3Towers(in_channels=(CHANNELS,) * 3, strides=THREE, class_channels=classes, priors_per_cell=3),
        assigner=GridAssigner(),
        decoder=YOLOV3Decoder(),
    )


def cornernet(classes: int) -> DenseHead:
    return CornerHead(
        num_classes=classes,
        in_channels=(CHANNELS,),
        loss_heatmap=GaussianFocalLoss(),
        loss_embedding=AssociativeEmbeddingLoss(),
        loss_offset=SmoothL1Loss(),
    )


def centripetalnet(classes: int) -> DenseHead:
    return CentripetalHead(
        num_classes=classes,
        in_channels=(CHANNELS,),
        loss_heatmap=GaussianFocalLoss(),
        loss_offset=SmoothL1Loss(),
        loss_guiding=SmoothL1Loss(),
        loss_centripetal=SmoothL1Loss(),
    )


HEADS: Mapping[Callable[[int], DenseHead], Sequence[int]] = {
    retinanet: PYRAMID,
    ghm: PYRAMID,
    fcos: PYRAMID,
    atss: PYRAMID,
    yolox: THREE,
    yolov3: THREE,
    cornernet: ONE,
    centripetalnet: ONE,
}


@pytest.fixture(params=HEADS, ids=lambda make: make.__name__)
def make(request: pytest.FixtureRequest) -> Callable[[int], DenseHead]:
    torch.manual_seed(0)
    found: Callable[[int], DenseHead] = request.param
    return found


def maps(make: Callable[[int], DenseHead], size: tuple[int, int]) -> list[Tensor]:
    """What a backbone would give, some channels of it."""
    generator = torch.Generator().manual_seed(0)
    sides = [[-(-side // stride) for side in size] for stride in HEADS[make]]
    return [torch.randn(1, CHANNELS, *each, generator=generator) for each in sides]


def batch(objects: int, size: tuple[int, int] = SIZE, padded: tuple[int, int] = PADDED) -> Batch:
    """An image with so many objects, of 2 pixels to half of the image; without any, one padding row, as from a loader."""
    generator = torch.Generator().manual_seed(1)
    rows = max(1, objects)
    span = torch.tensor(size).flip(0).float()
    sides = 2 + torch.rand(1, rows, 2, generator=generator) ** 3 * (span / 2 - 2)
    corner = torch.rand(1, rows, 2, generator=generator) * (span - sides)
    valid = torch.full((1, rows), objects > 0)
    boxes = torch.cat([corner, corner + sides], -1) * valid[..., None]
    targets = Targets(boxes, torch.zeros(1, rows, dtype=torch.int64), valid, torch.zeros_like(valid))
    sizes = torch.tensor([size, padded], dtype=torch.float32)
    image = torch.zeros(1, 1, 1, 1).expand(1, 3, *padded)
    return Batch(image, sizes[:1], sizes[1:], torch.ones(1, 2), (0,), targets)


def losses_and_peak(head: DenseHead, features: Sequence[Tensor], given: Batch) -> tuple[Tensor, int]:
    predictions = head(features, given)
    gc.collect()
    with Peak() as memory:
        losses = head.losses(predictions, given)
    assert all(value.isfinite() for value in losses.values()), losses
    return total_loss(losses), memory.peak


def check_gradients(head: DenseHead, total: Tensor) -> None:
    """Every parameter has one that is finite."""
    head.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    unfit = [n for n, each in head.named_parameters() if each.grad is None or not each.grad.isfinite().all()]
    assert unfit == []


# ------------------------------------------------------------------------------------------------------------ memory


class Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most bytes that tensors made within it hold at once, on any device; the same in every run.

    What kernels hold while they run does not count, nor what was there before.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._living: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {id(each.untyped_storage()) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        out = func(*args, **(kwargs or {}))
        for each in tree_leaves(out):
            if isinstance(each, Tensor) and id(each.untyped_storage()) not in before | self._living:
                self._made(each.untyped_storage())
        return out

    def _made(self, storage: UntypedStorage) -> None:
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        self._living.add(id(storage))
        weakref.finalize(storage, self._gone, id(storage), storage.nbytes())

    def _gone(self, name: int, size: int) -> None:
        self._living.discard(name)
        self.now -= size


def test_the_most_that_is_held_at_once_by_hand() -> None:
    old = torch.zeros(1000)
    with Peak() as memory:
        old.add_(1).view(10, 100)  # nothing new
        kept = torch.zeros(250) + 1  # for a moment both are there: 2000 bytes
        assert (memory.now, memory.peak) == (1000, 2000)
        del kept
        torch.zeros(10)
    assert (memory.now, memory.peak) == (0, 2000)


# ------------------------------------------------------------------------------------------------------------- losses


def test_without_objects_losses_are_finite_and_tied_to_all_that_trains(make: Callable[[int], DenseHead]) -> None:
    head = make(CLASSES)
    check_gradients(head, losses_and_peak(head, maps(make, SMALL), batch(0, SMALL, SMALL))[0])


def test_500_objects_train_and_need_at_most_twice_the_memory_of_10(make: Callable[[int], DenseHead]) -> None:
    head, features = make(CLASSES), maps(make, PADDED)
    _, few = losses_and_peak(head, features, batch(10))
    total, many = losses_and_peak(head, features, batch(500))
    assert many <= 2 * few, f"{many / few:.2f}"
    check_gradients(head, total)


class AtOnce(MaxIoUAssigner):
    """A deliberate fault: all pairs in one part."""

    def _parts(self, boxes: Tensor, truth: Targets) -> list[slice]:
        return [slice(0, boxes.shape[1])]


def test_an_assigner_that_looks_at_all_pairs_at_once_would_be_noticed() -> None:
    torch.manual_seed(0)
    head, features = retinanet(CLASSES), maps(retinanet, PADDED)
    head.get_submodule("assigner").__class__ = AtOnce
    _, few = losses_and_peak(head, features, batch(10))
    _, many = losses_and_peak(head, features, batch(30))
    assert many > 2 * few


def test_compiled_losses_serve_any_number_of_objects_that_are_looked_at_in_as_many_parts(
    make: Callable[[int], DenseHead], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program for the first number, and one for all that follow."""
    monkeypatch.setattr(parts, "FEW", 1)
    torch._dynamo.reset()
    head, features, counter = make(CLASSES), maps(make, SMALL), CompileCounter()
    compiled, programs = torch.compile(head.losses, backend=counter), []
    for objects in (9, 10, 13):
        given = batch(objects, SMALL, SMALL)
        compiled(head(features, given), given)
        programs.append(counter.frame_count)
    assert programs[1:] == [programs[1]] * 2
