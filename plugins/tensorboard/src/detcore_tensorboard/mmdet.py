"""TensorBoard's log by its names in MMDetection."""

from __future__ import annotations

from typing import Any

from detcore.foreign import Foreign


def log(table: Foreign) -> dict[str, Any]:
    """A back end of 3.x, a hook of 2.x: where it writes, and as what, is said anew."""
    for key in [key for key in table.values if key != "type"]:
        table.note(key, "it is not taken over")
    return {"callbacks": {"tensorboard": {"type": "TensorBoardLog"}}}


TRANSLATIONS = dict.fromkeys(("TensorboardVisBackend", "TensorboardLoggerHook"), log)
