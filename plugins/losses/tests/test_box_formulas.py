"""Losses of boxes and numbers against their definitions, one pair at a time in float64, and CIoU's own gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from detcore.interfaces import Loss
from detcore_losses.boxes import CIoULoss, DIoULoss, GIoULoss, IoULoss, L1Loss, MSELoss, SmoothL1Loss
from torch import Tensor

Box = Sequence[float]


def area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def common(a: Box, b: Box) -> Box:
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def hull(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def iou(a: Box, b: Box) -> float:
    inside = area(common(a, b))
    return inside / (area(a) + area(b) - inside)


def giou(a: Box, b: Box) -> float:
    """Rezatofighi et al. 2019, algorithm 1."""
    whole, union = area(hull(a, b)), area(a) + area(b) - area(common(a, b))
    return iou(a, b) - (whole - union) / whole


def diou(a: Box, b: Box) -> float:
    """Zheng et al. 2020, equation 7."""
    apart = math.dist(((a[0] + a[2]) / 2, (a[1] + a[3]) / 2), ((b[0] + b[2]) / 2, (b[1] + b[3]) / 2))
    outer = hull(a, b)
    return iou(a, b) - apart**2 / math.dist(outer[:2], outer[2:]) ** 2


def shape(a: Box, b: Box) -> float:
    """Zheng et al. 2020, equation 9."""
    angles = [math.atan((box[2] - box[0]) / (box[3] - box[1])) for box in (a, b)]
    return 4 / math.pi**2 * (angles[0] - angles[1]) ** 2


def tradeoff(a: Box, b: Box) -> float:
    """Zheng et al. 2021, equation 11: from half an overlap on."""
    return shape(a, b) / (1 - iou(a, b) + shape(a, b)) if iou(a, b) > 0.5 else 0.0


def ciou(a: Box, b: Box, alpha: float | None = None) -> float:
    """Zheng et al. 2021, equation 10."""
    return diou(a, b) - (tradeoff(a, b) if alpha is None else alpha) * shape(a, b)


BOXES: dict[str, tuple[Loss, Callable[[Box, Box], float]]] = {
    "log": (IoULoss(reduction="none"), lambda a, b: -math.log(max(iou(a, b), 1e-6))),
    "linear": (IoULoss(mode="linear", reduction="none"), lambda a, b: 1 - max(iou(a, b), 1e-6)),
    "square": (IoULoss(mode="square", reduction="none"), lambda a, b: 1 - max(iou(a, b), 1e-6) ** 2),
    "giou": (GIoULoss(reduction="none"), lambda a, b: 1 - giou(a, b)),
    "diou": (DIoULoss(reduction="none"), lambda a, b: 1 - diou(a, b)),
    "ciou": (CIoULoss(reduction="none"), lambda a, b: 1 - ciou(a, b)),
}
NUMBERS: dict[str, tuple[Loss, Callable[[float], float]]] = {
    "l1": (L1Loss(reduction="none"), abs),
    "mse": (MSELoss(reduction="none"), lambda x: x**2),
    "smooth l1": (
        SmoothL1Loss(beta=0.5, reduction="none"),
        lambda x: x**2 if abs(x) < 0.5 else abs(x) - 0.25,
    ),
}


def pairs(count: int = 60) -> tuple[Tensor, Tensor]:
    """(N, 4) boxes twice: apart, overlapping, and nearly equal."""
    generator = torch.Generator().manual_seed(0)

    def random(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator, dtype=torch.float64)

    corner = random(count, 2) * 50
    first = torch.cat([corner, corner + 5 + random(count, 2) * 40], 1)
    far = torch.linspace(0.1, 60, count, dtype=torch.float64)[:, None]
    shift = (random(count, 4) - 0.5) * far / 4
    second = first + shift + far * torch.tensor([0.5, 0, 0.5, 0], dtype=torch.float64)
    return first, torch.cat([second[:, :2], torch.maximum(second[:, 2:], second[:, :2] + 1)], 1)


@pytest.mark.parametrize("name", BOXES)
def test_losses_of_boxes_are_their_definitions(name: str) -> None:
    loss, definition = BOXES[name]
    first, second = pairs()
    expected = [definition(a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    assert loss(first, second).tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    overlaps = [iou(a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    assert min(overlaps) == 0 < sum(each > 0.5 for each in overlaps) < len(overlaps)


@pytest.mark.parametrize("name", NUMBERS)
def test_losses_of_numbers_are_their_definitions(name: str) -> None:
    loss, definition = NUMBERS[name]
    first, second = pairs()
    expected = [[definition(x) for x in row] for row in ((first - second) / 10).tolist()]
    found: Any = loss(first / 10, second / 10)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_the_gradient_of_ciou_takes_its_trade_off_as_a_constant() -> None:
    """Finite differences of each side, where boxes overlap by half and the trade-off therefore counts."""
    first, second = (each[5:20] for each in pairs())
    overlapping = [row for row in range(15) if tradeoff(first[row].tolist(), second[row].tolist()) > 1e-4]
    assert len(overlapping) > 5
    first, second = first[overlapping].requires_grad_(), second[overlapping]
    CIoULoss(reduction="sum")(first, second).backward()
    assert first.grad is not None
    for a, b, gradient in zip(first.tolist(), second.tolist(), first.grad.tolist(), strict=True):
        alpha, step = tradeoff(a, b), 1e-5
        for side in range(4):
            more, less = ([x + sign * step * (i == side) for i, x in enumerate(a)] for sign in (1, -1))
            slope = (ciou(less, b, alpha) - ciou(more, b, alpha)) / (2 * step)
            assert gradient[side] == pytest.approx(slope, rel=1e-3, abs=1e-7)
