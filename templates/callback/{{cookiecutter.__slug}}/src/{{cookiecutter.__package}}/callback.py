"""A callback: what happens beside training. A config names it in a table ``[callbacks.NAME]``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from detcore.errors import ConfigError
from detcore.interfaces import Callback
from torch import nn


class {{ cookiecutter.__class }}(Callback):
    """Writes the norms of gradients, part by part, into the run's folder: which part of a detector learns how much.

    One line of JSON at every report, ``{"step": 50, "backbone": 0.7, "neck": 0.2, "head": 1.9}``; norms are L2, after
    clipping. The largest of each part are kept from one resume to the next.

    Args:
        file: Its name in the run's folder.

    Raises:
        ConfigError: The name has no end that says what it is.
    """

    stage: ClassVar[str] = "report"

    def __init__(self, *, file: str = "gradients.jsonl") -> None:
        if not file.endswith(".jsonl"):
            raise ConfigError("file", f'"{file}"', "It is a file of JSON lines: its name ends in .jsonl.")
        self.file = file
        self.largest: dict[str, float] = {}

    def reported(self, run: Any, values: Mapping[str, float]) -> None:
        """Called every ``run.report_every`` steps: here it is no loss to wait for the device."""
        norms = {name: gradient_norm(part) for name, part in run.detector.named_children()}
        self.largest |= {name: max(norm, self.largest.get(name, 0.0)) for name, norm in norms.items()}
        with (run.folder / self.file).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": run.step, **norms}) + "\n")

    def state_dict(self) -> dict[str, Any]:
        """Part of every checkpoint."""
        return {"largest": dict(self.largest)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Called where a run is resumed."""
        self.largest = dict(state["largest"])


def gradient_norm(part: nn.Module) -> float:
    """The L2 norm of all gradients of a module; 0 where it has none."""
    squares = [float(each.grad.square().sum()) for each in part.parameters() if each.grad is not None]
    return float(sum(squares) ** 0.5)
