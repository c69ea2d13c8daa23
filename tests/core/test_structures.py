"""The records that travel through a detector."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detcore.errors import ComponentError
from detcore.structures import Predictions, Priors, Targets, clip_boxes, total_loss
from torch import Tensor


def predictions(**raw: list[Tensor]) -> Predictions:
    priors: Any = Priors(torch.zeros(6, 2), torch.ones(6), torch.zeros(6).long(), torch.ones(1, 6) > 0, (4, 2))
    keep: Any = None
    return Predictions(raw=raw, priors=priors, encode=keep, decode=keep, softmax=False, priors_per_cell=2)


def test_flat_goes_cell_by_cell_with_the_priors_of_a_cell_side_by_side() -> None:
    level = torch.tensor([[[[0, 1]], [[10, 11]], [[20, 21]], [[30, 31]]]])  # (B, A*K, H, W) of A = K = 2
    assert predictions(cls=[level, level[..., :1] + 100]).flat("cls").tolist() == [
        [[0, 10], [20, 30], [1, 11], [21, 31], [100, 110], [120, 130]]
    ]


def test_flat_is_made_once_and_has_a_gradient_although_it_was_first_asked_for_without() -> None:
    levels = [torch.ones(1, 4, 1, size, requires_grad=True) for size in (2, 1)]
    made = predictions(cls=levels)
    with torch.no_grad():
        first = made.flat("cls")
    assert made.flat("cls") is first
    first.sum().backward()
    for level in levels:
        assert level.grad is not None
        assert torch.equal(level.grad, torch.ones_like(level))


def test_gathering_gives_zeros_and_background_where_there_is_no_object() -> None:
    boxes = torch.tensor([[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]])
    valid = torch.ones(1, 2) > 0
    targets = Targets(boxes, torch.tensor([[3, 4]]), valid, ~valid)
    index = torch.tensor([[1, -1, 0, -2]])
    assert targets.gather_boxes(index).tolist() == [[[5, 6, 7, 8], [0] * 4, [1, 2, 3, 4], [0] * 4]]
    assert targets.gather_labels(index).tolist() == [[4, -1, 3, -1]]
    nothing = Targets(boxes[:, :0], targets.labels[:, :0], valid[:, :0], valid[:, :0])
    assert nothing.gather_boxes(index.clamp(max=-1)).tolist() == [[[0] * 4] * 4]
    assert nothing.gather_labels(index.clamp(max=-1)).tolist() == [[-1] * 4]


def test_clipping_is_at_height_and_width() -> None:
    box, size = torch.tensor([[-5.0, 3.0, 70.0, 70.0]]), torch.tensor([50.0, 60.0])
    assert clip_boxes(box, size).tolist() == [[0.0, 3.0, 60.0, 50.0]]
    assert clip_boxes(box[None], size[None, None]).tolist() == [[[0.0, 3.0, 60.0, 50.0]]]


def test_the_total_is_of_what_is_called_a_loss() -> None:
    one = torch.tensor(1.0)
    assert total_loss({"loss_cls": one, "mask_loss": one * 2, "acc": one * 50}) == 3


@pytest.mark.parametrize(("names", "said"), [(["acc", "seen"], "acc, seen"), ([], "them")])
def test_a_detector_without_a_loss_is_named(names: list[str], said: str) -> None:
    with pytest.raises(ComponentError) as caught:
        total_loss(dict.fromkeys(names, torch.tensor(1.0)))
    line = f"the detector's losses: there is no loss among {said}. Terms whose name contains `loss` are trained on."
    assert str(caught.value) == line
