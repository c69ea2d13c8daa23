"""The head keeps its contract; what it aims at and what it finds, by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from detcore.errors import ConfigError
from detcore.structures import Batch, Targets
from detcore.testing import check_dense_head

from {{ cookiecutter.__package }} import dense_head
from {{ cookiecutter.__package }}.dense_head import {{ cookiecutter.__class }}


def head(**options: Any) -> {{ cookiecutter.__class }}:
    torch.manual_seed(0)
    return {{ cookiecutter.__class }}(in_channels=4, strides=(8,), num_classes=2, **options)


def batch(boxes: list[list[float]], labels: list[int]) -> Batch:
    """An image of 64 x 48 (height, width) with these objects."""
    size, valid = torch.tensor([[64.0, 48.0]]), torch.ones(1, len(boxes), dtype=torch.bool)
    targets = Targets(torch.tensor([boxes]), torch.tensor([labels]), valid, ~valid)
    return Batch(torch.zeros(1, 3, 64, 48), size, size, torch.ones(1, 2), (1,), targets)


def test_it_is_a_dense_head() -> None:
    check_dense_head({{ cookiecutter.__class }}, channels=8, score_threshold=0.0)


def test_heat_is_1_at_the_centre_and_falls_off_by_the_box_s_size() -> None:
    """A box of 10 x 20 cells: a standard deviation is 0.9 and 1.8 cells."""
    cells, size = torch.tensor([[[3, 4]]]), torch.tensor([[[10.0, 20.0]]])
    heat = dense_head.peaks(cells, size, torch.tensor([[1]]), torch.tensor([[True]]), torch.zeros(1, 2, 8, 6))
    assert not heat[0, 0].any()
    assert heat[0, 1, 4, 3] == 1
    assert float(heat[0, 1, 4, 5]) == pytest.approx(math.exp(-4 / (2 * 0.9**2)))
    assert float(heat[0, 1, 7, 3]) == pytest.approx(math.exp(-9 / (2 * 1.8**2)))


def test_what_it_should_predict_costs_nothing_and_is_found() -> None:
    boxes, labels = [[4.0, 8.0, 24.0, 32.0], [20.0, 30.0, 44.0, 50.0]], [1, 0]
    maps = dense_head.Maps(torch.full((1, 2, 8, 6), -50.0), torch.zeros(1, 2, 8, 6), torch.zeros(1, 2, 8, 6))
    for (left, top, right, bottom), label in zip(boxes, labels, strict=True):
        x, y = (left + right) / 16, (top + bottom) / 16
        maps.heat[0, label, int(y), int(x)] = 50.0
        maps.offset[0, :, int(y), int(x)] = torch.tensor([x % 1, y % 1])
        maps.size[0, :, int(y), int(x)] = torch.tensor([(right - left) / 8, (bottom - top) / 8])
    losses = head().losses(maps, batch(boxes, labels))
    assert {name: round(float(value), 6) for name, value in losses.items()} == dict.fromkeys(losses, 0.0)
    (found,) = head().detections(maps, batch(boxes, labels))
    order = found.labels.argsort(descending=True)
    assert found.labels[order].tolist() == labels
    torch.testing.assert_close(found.boxes[order], torch.tensor(boxes))


def test_losses_by_hand() -> None:
    """One object of 16 x 8 pixels, centred in a cell's middle; logits of 0, no offset, no size."""
    maps = dense_head.Maps(*(torch.zeros(1, 2, 8, 6) for _ in range(3)))
    losses = head(size_weight=0.5).losses(maps, batch([[12.0, 16.0, 28.0, 24.0]], [0]))
    heat = dense_head.peaks(
        torch.tensor([[[2, 2]]]), torch.tensor([[[2.0, 1.0]]]), torch.tensor([[0]]), torch.tensor([[True]]), maps.heat
    )
    cells = sum((1 if value == 1 else (1 - value) ** 4) for value in heat.flatten().tolist())
    assert float(losses["loss_heat"]) == pytest.approx(cells * math.log(2) / 4)
    assert float(losses["loss_offset"]) == pytest.approx(0.5 + 0.5)
    assert float(losses["loss_size"]) == pytest.approx(0.5 * (2 + 1))


def test_a_head_that_finds_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"max_detections: 0. Give 1 or more"):
        head(max_detections=0)
