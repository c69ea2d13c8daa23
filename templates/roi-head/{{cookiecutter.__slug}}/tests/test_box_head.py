"""The box head keeps its contract, and looks where it says."""

from __future__ import annotations

import pytest
import torch
from detcore.errors import ConfigError
from detcore.testing import check_box_head
from torch import Tensor

from {{ cookiecutter.__package }}.box_head import {{ cookiecutter.__class }}


def head(context: float = 1.5) -> {{ cookiecutter.__class }}:
    torch.manual_seed(0)
    sizes = {"in_channels": 4, "roi_size": 3, "class_channels": 3, "box_channels": 8, "channels": 6}
    return {{ cookiecutter.__class }}(context=context, **sizes)


def test_it_is_a_box_head() -> None:
    check_box_head({{ cookiecutter.__class }}, channels=16)


def test_classes_look_at_both_regions_and_boxes_at_the_inner_one() -> None:
    cut = {scale: torch.randn(5, 4, 3, 3, requires_grad=True) for scale in (1.0, 2.0)}

    def extract(scale: float = 1.0) -> Tensor:
        return cut[scale]

    logits, deltas = head(context=2.0)(extract)
    of_logits = torch.autograd.grad(logits.sum(), [*cut.values()], retain_graph=True, allow_unused=True)
    of_deltas = torch.autograd.grad(deltas.sum(), [*cut.values()], allow_unused=True)
    assert [gradient is not None for gradient in of_logits] == [True, True]
    assert [gradient is not None for gradient in of_deltas] == [True, False]


def test_it_begins_with_no_deltas_to_speak_of() -> None:
    logits, deltas = head()(lambda scale=1.0: torch.randn(7, 4, 3, 3))
    assert logits.shape == (7, 3)
    assert deltas.shape == (7, 8)
    assert float(deltas.detach().abs().max()) < 0.05


def test_a_context_that_is_no_larger_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"context: 1.0 is not above 1"):
        head(context=1.0)
