"""Models and checkpoints of MMDetection, in detcore's words and back."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detcore_mmdet.checkpoint import Checkpoint, from_mmdet, import_checkpoint, read_checkpoint, to_mmdet
    from detcore_mmdet.model import Translated, translate

__all__ = [
    "Checkpoint",
    "Translated",
    "from_mmdet",
    "import_checkpoint",
    "read_checkpoint",
    "to_mmdet",
    "translate",
]

_HOMES = {
    "Checkpoint": "checkpoint",
    "Translated": "model",
    "from_mmdet": "checkpoint",
    "import_checkpoint": "checkpoint",
    "read_checkpoint": "checkpoint",
    "to_mmdet": "checkpoint",
    "translate": "model",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'detcore_mmdet' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"detcore_mmdet.{_HOMES[name]}"), name)
    return value
