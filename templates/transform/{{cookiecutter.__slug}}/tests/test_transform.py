"""The transform moves all parts of a sample together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detcore.errors import ConfigError
from detcore.polygons import PolygonPoints
from detcore.testing import check_transform
from torch import Tensor
from torchvision import tv_tensors

from {{ cookiecutter.__package }}.transform import {{ cookiecutter.__class }}


def sample() -> tuple[Any, dict[str, Any]]:
    """An image of 3 x 5 (height, width) with an object in columns 1 to 3 of row 2."""
    mask = torch.zeros(1, 3, 5, dtype=torch.uint8)
    mask[0, 2, 1:4] = 1
    corners = torch.tensor([[1.0, 2.0], [4.0, 2.0], [4.0, 3.0], [1.0, 3.0]])
    target = {
        "boxes": tv_tensors.BoundingBoxes(torch.tensor([[1.0, 2.0, 4.0, 3.0]]), format="XYXY", canvas_size=(3, 5)),
        "labels": torch.tensor([2]),
        "masks": tv_tensors.Mask(mask),
        "polygons": PolygonPoints(corners, canvas_size=(3, 5)),
        "offsets": torch.tensor([0, 4]),
        "owner": torch.tensor([0]),
    }
    return tv_tensors.Image(torch.arange(45, dtype=torch.uint8).reshape(3, 3, 5)), target


def test_it_is_a_transform() -> None:
    check_transform({{ cookiecutter.__class }}())


def test_all_parts_move_together() -> None:
    image, target = sample()
    mirrored, moved = {{ cookiecutter.__class }}(p=1.0)(image, target)
    assert isinstance(mirrored, tv_tensors.Image)
    assert torch.equal(mirrored[:, 4, 1], image[:, 1, 4])
    assert moved["boxes"].tolist() == [[2, 1, 3, 4]]
    assert moved["boxes"].canvas_size == (5, 3)
    assert moved["masks"][0].nonzero().tolist() == [[1, 2], [2, 2], [3, 2]]
    assert moved["polygons"].tolist() == [[2, 1], [2, 4], [3, 4], [3, 1]]
    assert isinstance(moved["polygons"], PolygonPoints)
    assert moved["polygons"].canvas_size == (5, 3)
    assert torch.equal(moved["labels"], target["labels"])


def test_twice_is_as_before() -> None:
    mirror = {{ cookiecutter.__class }}(p=1.0)
    before = sample()
    after = mirror(*mirror(*before))
    assert torch.equal(after[0], before[0])
    for name, value in before[1].items():
        assert type(after[1][name]) is type(value)
        assert torch.equal(after[1][name].as_subclass(Tensor), value.as_subclass(Tensor))


def test_it_happens_as_often_as_it_says() -> None:
    torch.manual_seed(0)
    mirror = {{ cookiecutter.__class }}(p=0.25)
    done = sum(mirror(*sample())[0].shape[-2:] == (5, 3) for _ in range(400))
    assert 70 <= done <= 130  # 100, give or take 3.5 standard deviations


@pytest.mark.parametrize("p", [-0.1, 1.5])
def test_what_is_no_probability_is_refused(p: float) -> None:
    with pytest.raises(ConfigError, match=r"is no probability. It is from 0 to 1"):
        {{ cookiecutter.__class }}(p=p)
