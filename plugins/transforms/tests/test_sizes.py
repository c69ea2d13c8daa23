"""A size between two, a size times a factor."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detcore.errors import ConfigError
from detcore_transforms.sizes import RandomRangeResize
from torchvision import tv_tensors


def sizes(transform: RandomRangeResize, shape: tuple[int, int], times: int = 60) -> set[tuple[int, int]]:
    """What comes out of an image of this height and width."""
    image = tv_tensors.Image(torch.zeros(3, *shape, dtype=torch.uint8))
    return {tuple(transform(image).shape[-2:]) for _ in range(times)}


def test_both_numbers_are_between_two() -> None:
    torch.manual_seed(0)
    found = sizes(RandomRangeResize(least=(20, 30), most=(24, 30), keep_ratio=False), (10, 10), 200)
    assert found == {(height, 30) for height in range(20, 25)}
    kept = sizes(RandomRangeResize(least=(20, 30), most=(24, 30)), (10, 12), 200)
    assert {min(size) for size in kept} == {20, 21, 22, 23, 24}
    assert all(width == int(12 * height / 10 + 0.5) for height, width in kept)


def test_one_size_times_a_factor() -> None:
    torch.manual_seed(0)
    assert sizes(RandomRangeResize(least=(40, 40), ratio=(0.5, 0.5)), (10, 20)) == {(10, 20)}
    found = sizes(RandomRangeResize(least=(40, 40), ratio=(0.5, 2.0)), (10, 20))
    assert all(20 <= width <= 80 and abs(height - width / 2) <= 0.5 for height, width in found)
    assert len(found) > 20


def test_boxes_move_along() -> None:
    image = tv_tensors.Image(torch.zeros(3, 10, 20, dtype=torch.uint8))
    boxes = tv_tensors.BoundingBoxes(torch.tensor([[1.0, 2, 3, 4]]), format="XYXY", canvas_size=(10, 20))
    _, target = RandomRangeResize(least=(20, 40), most=(20, 40))(image, {"boxes": boxes})
    assert target["boxes"].tolist() == [[2, 4, 6, 8]]


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({"least": (10, 20)}, "RandomRangeResize: most: None. It takes either most or ratio."),
        ({"least": (10, 20), "most": (9, 20)}, r"most: \[9, 20\]. Neither is below that of least, \[10, 20\]."),
        ({"least": (10, 20), "ratio": (2.0, 1.0)}, "ratio: .* a lower and an upper bound"),
        ({"least": (0, 20), "most": (9, 20)}, "least: .* each at least 1"),
    ],
)
def test_sizes_that_are_none(keys: dict[str, Any], found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        RandomRangeResize(**keys)
