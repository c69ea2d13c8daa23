"""The loss of class and box, and the head that it makes with the other parts."""

from __future__ import annotations

import importlib
import math

import attrs
import pytest
import torch
from detcore.heads.dense import ComposedHead
from detcore.interfaces import Assigner, BoxCoder, Decoder, DenseLoss, Geometry, HeadNetwork, Loss, Sampler
from detcore.structures import Batch, Matches, Predictions, Priors, Targets
from detcore_dense.anchors import Anchors
from detcore_dense.decoders import NMSDecoder, RPNDecoder
from detcore_dense.loss import DenseBoxLoss
from detcore_dense.max_iou import MaxIoUAssigner
from detcore_dense.plugin import detcore_components
from detcore_dense.points import Points
from detcore_dense.rpn import RPNConv
from detcore_dense.samplers import RandomSampler
from torch import Tensor

STRIDES = (8, 16)


class SumOfDifferences(Loss):
    """What the other plugin's losses do, in one line each, so that this plugin is tested alone."""

    def __init__(self, *, decoded: bool = False) -> None:
        super().__init__()
        self.decoded = decoded

    def forward(
        self, input: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        assert weight is not None
        assert avg_factor is not None
        return ((input - target).abs() * weight[:, None]).sum() / avg_factor


class SigmoidEntropy(Loss):
    def forward(
        self, input: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        assert weight is not None
        assert avg_factor is not None
        wanted = (target[:, None] == torch.arange(input.shape[1], device=target.device)).float()
        values = torch.nn.functional.binary_cross_entropy_with_logits(input.float(), wanted, reduction="none")
        return (values * weight[:, None]).sum() / avg_factor


def batch(objects: list[list[list[float]]], size: int = 64, device: str = "cpu") -> Batch:
    """Per image its objects; label 1 for all."""
    most = max(map(len, objects))
    boxes, valid = torch.zeros(len(objects), most, 4), torch.zeros(len(objects), most, dtype=torch.bool)
    for image, each in enumerate(objects):
        for row, box in enumerate(each):
            boxes[image, row], valid[image, row] = torch.tensor(box), True
    sizes = torch.full((len(objects), 2), float(size))
    targets = Targets(boxes, valid.long(), valid, torch.zeros_like(valid))
    some = Batch(torch.zeros(len(objects), 3, size, size), sizes, sizes, torch.ones_like(sizes), targets=targets)
    on = {key: getattr(some, key).to(device) for key in ("images", "sizes", "padded", "scale")}
    moved = {key: getattr(targets, key).to(device) for key in ("boxes", "labels", "valid", "crowd")}
    return attrs.evolve(some, **on, targets=Targets(**moved))


def predictions(vectors: Tensor, logits: Tensor, geometry: Geometry | None = None) -> Predictions:
    """(B, 4, 4) vectors and (B, 4, C) logits on a map of 2 x 2 cells of stride 8, anchors of side 8 at their corners."""
    geometry = Anchors(strides=(8,), scales=[1.0], ratios=[1.0]) if geometry is None else geometry
    cls, box = (value.transpose(1, 2).unflatten(2, (2, 2)) for value in (logits, vectors))
    priors = geometry.priors([cls], batch([[]] * len(logits), 16))
    return Predictions({"cls": [cls], "box": [box]}, priors, geometry.encode, geometry.decode, False, 1)


def test_components_are_what_they_say() -> None:
    kinds = {
        "geometry": Geometry, "box_coder": BoxCoder, "head_network": HeadNetwork, "assigner": Assigner,
        "sampler": Sampler, "dense_loss": DenseLoss, "decoder": Decoder,
    }  # fmt: skip
    for component in detcore_components():
        module, name = component.target.split(":")
        assert name == component.name
        assert issubclass(getattr(importlib.import_module(module), name), kinds[component.kind])


@pytest.mark.parametrize(("normaliser", "count"), [("positives", 2), ("sampled", 6)])
def test_by_hand(normaliser: str, count: int) -> None:
    loss = DenseBoxLoss(loss_cls=SigmoidEntropy(), loss_box=SumOfDifferences(), normaliser=normaliser)  # type: ignore[arg-type]
    given = predictions(torch.full((2, 4, 4), 0.25), torch.zeros(2, 4, 2))
    matches = Matches(torch.tensor([[0, -1, -2, -1], [-1, 1, -1, -2]]))
    some = batch([[[0, 0, 8, 8]], [[0, 0, 4, 4], [8, 0, 16, 8]]], 16)  # anchor 0 is -4..4, anchor 1 4..12 in x
    found = loss(given, matches, some)
    assert set(found) == {"loss_cls", "loss_box"}
    # six priors of two logits, each ln 2; deltas 0.5, 0.5, 0, 0 are wanted, 0.25 each is said
    assert float(found["loss_cls"]) == pytest.approx(12 * math.log(2) / count, rel=1e-5)
    assert float(found["loss_box"]) == pytest.approx(2 * 1.0 / count, rel=1e-5)


def test_a_decoded_loss_reads_pixels() -> None:
    loss = DenseBoxLoss(loss_cls=SigmoidEntropy(), loss_box=SumOfDifferences(decoded=True))
    vectors = torch.zeros(1, 4, 4, requires_grad=True)
    found = loss(
        predictions(vectors, torch.zeros(1, 4, 2)),
        Matches(torch.tensor([[0, -1, -1, -1]])),
        batch([[[0, 0, 8, 8]]], 16),
    )
    assert float(found["loss_box"].detach()) == pytest.approx(16)
    found["loss_box"].backward()
    assert vectors.grad is not None
    assert vectors.grad[0, 0, :2].abs().sum() > 0
    assert vectors.grad[0, 1:].abs().sum() == 0


def test_weights_of_matches_weigh_both_losses() -> None:
    loss = DenseBoxLoss(loss_cls=SigmoidEntropy(), loss_box=SumOfDifferences())
    given, some = predictions(torch.full((1, 4, 4), 0.25), torch.zeros(1, 4, 2)), batch([[[0, 0, 8, 8]]], 16)
    index, weight = torch.tensor([[0, -1, -2, -1]]), torch.tensor([[0.5, 2.0, 9.0, 0.0]])
    found = loss(given, Matches(index, weight=weight), some)
    assert float(found["loss_cls"]) == pytest.approx(2.5 * 2 * math.log(2), rel=1e-5)
    assert float(found["loss_box"]) == pytest.approx(0.5, rel=1e-5)


def test_a_loss_reads_one_level_at_a_time_where_it_is_told_to() -> None:
    """Five priors of two logits, each ln 2: four on the first level, one on the second."""

    class Squared(SigmoidEntropy):
        def forward(
            self, input: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
        ) -> Tensor:
            return super().forward(input, target, weight, avg_factor).square()

    geometry, some = Anchors(strides=STRIDES, scales=[1.0], ratios=[1.0]), batch([[[0, 0, 8, 8]]], 16)
    raw = {name: [torch.zeros(1, size, side, side) for side in (2, 1)] for name, size in (("cls", 2), ("box", 4))}
    given = Predictions(raw, geometry.priors(raw["cls"], some), geometry.encode, geometry.decode, False, 1)
    matches = Matches(torch.tensor([[0, -1, -1, -1, -1]]))
    for per_level, squares in ((False, 100), (True, 64 + 4)):
        loss = DenseBoxLoss(loss_cls=Squared(), loss_box=SumOfDifferences(), per_level=per_level)
        found = loss(given, matches, some)
        assert float(found["loss_cls"]) == pytest.approx(squares * math.log(2) ** 2, rel=1e-5)
        assert float(found["loss_box"]) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("geometry", [None, Points(strides=(8,))])
@pytest.mark.parametrize("decoded", [True, False])
def test_what_is_not_positive_does_not_reach_the_box_loss(geometry: Geometry | None, decoded: bool) -> None:
    """Even where it is no number."""
    vectors = torch.zeros(1, 4, 4)
    vectors[0, 1], vectors[0, 2] = float("inf"), float("nan")
    vectors.requires_grad_()
    given = predictions(vectors, torch.zeros(1, 4, 2), geometry)
    loss = DenseBoxLoss(loss_cls=SigmoidEntropy(), loss_box=SumOfDifferences(decoded=decoded))
    found = loss(given, Matches(torch.tensor([[0, -1, -2, -1]])), batch([[[0, 0, 8, 8]]], 16))
    found["loss_box"].backward()
    assert found["loss_box"].isfinite()
    assert vectors.grad is not None
    assert vectors.grad.isfinite().all()


def rpn_head(decoded: bool = False, in_channels: int = 6) -> ComposedHead:
    geometry = Anchors(strides=STRIDES, scales=[2.0])
    return ComposedHead(
        num_classes=1,
        loss=DenseBoxLoss(loss_cls=SigmoidEntropy(), loss_box=SumOfDifferences(decoded=decoded), normaliser="sampled"),
        geometry=geometry,
        network=RPNConv(
            in_channels=in_channels, class_channels=1, box_channels=4, priors_per_cell=3, feat_channels=8, num_convs=2
        ),
        assigner=MaxIoUAssigner(pos_iou=0.7, neg_iou=0.3, min_pos_iou=0.3, ignore_iof=0.5),
        sampler=RandomSampler(num=32),
        decoder=RPNDecoder(max_proposals=20),
    )


def features(images: int, device: str = "cpu") -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(images, 6, 64 // stride, 64 // stride, device=device) for stride in STRIDES]


@pytest.mark.parametrize("decoded", [True, False])
@pytest.mark.parametrize("objects", [[[], []], [[], [[5, 5, 40, 40]]], [[[x, x, x + 9, x + 9] for x in range(50)], []]])
def test_a_head_has_finite_losses_and_a_gradient_for_every_parameter(
    objects: list[list[list[float]]], decoded: bool
) -> None:
    head = rpn_head(decoded)
    some = batch(objects)
    losses = head.losses(head(features(2), some), some.with_one_class())
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert (float(losses["loss_box"].detach()) > 0) == any(objects)
    assert all(len(each) <= 20 for each in head.detections(head(features(2), some), some))


def test_a_head_runs_under_autocast_with_boxes_in_float32() -> None:
    head, some = rpn_head(), batch([[[5, 5, 40, 40]], []])
    torch.manual_seed(1)
    full = head.losses(head(features(2), some), some)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        predicted = head(features(2), some)
        half = head.losses(predicted, some)
        found = head.detections(predicted, some)[0]
    assert predicted.raw["cls"][0].dtype == torch.bfloat16
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    for name, value in full.items():
        assert half[name].dtype == torch.float32
        torch.testing.assert_close(half[name], value, rtol=0.05, atol=0.05)


def test_a_compiled_head_gives_the_same_losses() -> None:
    head, some = rpn_head(), batch([[[5, 5, 40, 40]], []])
    head.sampler = None

    def losses(levels: list[Tensor]) -> dict[str, Tensor]:
        return head.losses(head(levels, some), some)

    expected = losses(features(2))
    found = torch.compile(losses, backend="eager")(features(2))
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_the_networks_maps() -> None:
    network = RPNConv(in_channels=6, class_channels=2, box_channels=4, priors_per_cell=3, feat_channels=8)
    raw = network(features(2))
    assert [tuple(level.shape) for level in raw["cls"]] == [(2, 6, 8, 8), (2, 6, 4, 4)]
    assert [tuple(level.shape) for level in raw["box"]] == [(2, 12, 8, 8), (2, 12, 4, 4)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_training_does_not_wait_for_the_device() -> None:
    head = rpn_head().cuda()
    some, maps = batch([[[5, 5, 40, 40]], []], device="cuda"), features(2, "cuda")
    head.losses(head(maps, some), some)  # anchors are made at the first time
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses = head.losses(head(maps, some), some)
        torch.stack(list(losses.values())).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_records_for_the_tests_are_right() -> None:
    """The anchors that the comments above speak of."""
    priors: Priors = predictions(torch.zeros(1, 4, 4), torch.zeros(1, 4, 2)).priors
    assert priors.boxes[:2].tolist() == [[-4, -4, 4, 4], [4, -4, 12, 4]]
    assert NMSDecoder().quality is None
