"""Tensors under MMDetection's names, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from detcore.errors import CheckpointError
from detcore.foreign import Part
from torch import Tensor


def to_mmdet(state: Mapping[str, Tensor], part: Part) -> dict[str, Tensor]:
    """A detector's state dict under MMDetection's names.

    Raises:
        CheckpointError: Two tensors would have one name.
    """
    theirs = {part.foreign_name(name): value for name, value in state.items()}
    if len(theirs) != len(state):
        raise CheckpointError("state", "two tensors have one name in MMDetection")
    return theirs


def from_mmdet(state: Mapping[str, Tensor], names: Iterable[str], part: Part) -> dict[str, Tensor]:
    """MMDetection's state dict under the names of our detector.

    Args:
        state: Theirs.
        names: The tensors of our detector.
        part: As ``translate`` gave it.

    Raises:
        CheckpointError: Tensors of ours are missing there, or theirs are none of ours.
    """
    ours = {part.foreign_name(name): name for name in names}
    missing = [theirs for theirs in ours if theirs not in state]
    extra = [theirs for theirs in state if theirs not in ours and not part.dropped(theirs)]
    if missing or extra:
        parts = [
            f"{len(each)} {title} ({', '.join(each[:3])})"
            for title, each in (("missing", missing), ("extra", extra))
            if each
        ]
        raise CheckpointError("state", f"{' and '.join(parts)} tensors")
    return {name: state[theirs] for theirs, name in ours.items()}
