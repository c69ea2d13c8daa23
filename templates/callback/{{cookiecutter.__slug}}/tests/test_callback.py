"""The callback writes what it says, and goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from detcore.errors import ConfigError
from detcore.testing import check_callback
from torch import nn

from {{ cookiecutter.__package }}.callback import {{ cookiecutter.__class }}


class Parts(nn.Module):
    """Two parts whose gradients are 3, 4 and none."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 1)
        self.frozen = nn.Linear(1, 1).requires_grad_(False)
        self.head.weight.grad, self.head.bias.grad = torch.tensor([[3.0]]), torch.tensor([4.0])


def test_it_is_a_callback() -> None:
    check_callback({{ cookiecutter.__class }})


def test_norms_by_hand(tmp_path: Path) -> None:
    callback = {{ cookiecutter.__class }}()
    run = SimpleNamespace(detector=Parts(), folder=tmp_path, step=50)
    callback.reported(run, {})
    run.detector.head.bias.grad, run.step = torch.tensor([0.0]), 100
    callback.reported(run, {})
    lines = [json.loads(line) for line in (tmp_path / "gradients.jsonl").read_text().splitlines()]
    assert lines == [{"step": 50, "head": 5.0, "frozen": 0.0}, {"step": 100, "head": 3.0, "frozen": 0.0}]
    assert callback.largest == {"head": 5.0, "frozen": 0.0}


def test_what_a_checkpoint_holds_is_what_it_goes_on_with(tmp_path: Path) -> None:
    first, second = {{ cookiecutter.__class }}(), {{ cookiecutter.__class }}()
    first.reported(SimpleNamespace(detector=Parts(), folder=tmp_path, step=1), {})
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == {"largest": {"head": 5.0, "frozen": 0.0}}


def test_a_name_that_says_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"its name ends in .jsonl"):
        {{ cookiecutter.__class }}(file="gradients")
