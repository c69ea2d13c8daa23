"""Checkpoints of MMDetection, and tensors under its names or ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
import torch
from detcore.errors import CheckpointError
from detcore.foreign import Part
from torch import Tensor

from detcore_mmdet.older import CONSTANTS, current, require_current, unaveraged
from detcore_mmdet.saved import Saved, open_saved
from detcore_mmdet.unpickle import Strided

T = TypeVar("T")

COUNTER = "num_batches_tracked"
"""Of batch norms: none in files of before torch 0.4.1, nor in those that come from Caffe."""


@attrs.frozen
class Checkpoint:
    """What a checkpoint of MMDetection says, 2.x or 3.x.

    Attributes:
        state: Its tensors by their names there. Where weights were averaged (EMA), these are the averages.
        classes: Their names; None where it does not say.
        epoch: Finished ones; None where it does not say.
        iteration: Finished ones, likewise.
        version: Of MMDetection; None where it does not say.
        config: The text of the config that it was trained with; None where there is none.
        ignored: What else it holds and is not read: the optimizer, the log, weights before averaging.
    """

    state: Mapping[str, Tensor]
    classes: Sequence[str] | None
    epoch: int | None
    iteration: int | None
    version: str | None
    config: str | None
    ignored: Sequence[str]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, or a bare state dict, of either format of torch; nothing that it names is run.

    Raises:
        CheckpointError: There is no such file, it names what is not read, it is damaged, or holds no weights.
    """
    saved = open_saved(path)
    content = saved.content if isinstance(saved.content, dict) else {}
    bare = not isinstance(content.get("state_dict"), dict)
    meta = {} if bare else _table(content.get("meta"))
    data = _table(meta.get("dataset_meta"))
    return Checkpoint(
        state=_tensors(saved, content if bare else content["state_dict"]),
        classes=_names(data.get("classes", data.get("CLASSES", meta.get("CLASSES")))),
        epoch=_as(int, meta.get("epoch")),
        iteration=_as(int, meta.get("iter")),
        version=_as(str, meta.get("mmdet_version")),
        config=_as(str, meta.get("cfg", meta.get("config"))),
        ignored=() if bare else [str(key) for key in content if key not in ("state_dict", "meta")],
    )


def import_checkpoint(path: Path, part: Part, names: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a checkpoint of MMDetection for a detector of ours.

    Args:
        path: The file.
        part: The detector, as ``translate`` gave it.
        names: Its state dict: each tensor gets one of the same shape, in its own type of numbers.

    Returns:
        Our state dict, complete, and lines for a report: what was renamed, left out or made up.

    Raises:
        CheckpointError: As of :func:`read_checkpoint`; or the detector is not the one that was trained.
    """
    checkpoint, where = read_checkpoint(path), str(path)
    require_current(checkpoint.version, checkpoint.state, where)
    theirs, lines = fitting(checkpoint.state, part, names)
    _require_shapes(theirs, part, names, where)
    try:
        ours = from_mmdet(theirs, names, part)
    except CheckpointError as error:
        raise CheckpointError(where, error.found, "Is this the config that it was trained with?") from error
    if checkpoint.ignored:
        lines.append(f"not read: {', '.join(checkpoint.ignored)}")
    other = [name for name, value in ours.items() if value.dtype != names[name].dtype]
    lines += _line("turned into the detector's type of numbers", other)
    return {name: value.to(names[name].dtype) for name, value in ours.items()}, lines


def fitting(
    state: Mapping[str, Tensor], part: Part, names: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Their tensors under today's names, without those that nobody needs, and lines of what was done.

    Args:
        state: Theirs.
        part: As ``translate`` gave it.
        names: Our state dict.
    """
    wanted = {part.foreign_name(name): value for name, value in names.items()}
    copies = unaveraged(state)
    kept: dict[str, Tensor] = {}
    renamed, dropped = [], []
    for name, value in state.items():
        new = current(name, wanted)
        if name in copies:
            continue
        if new is None and (part.dropped(name) or re.fullmatch(CONSTANTS, name)):
            dropped.append(name)
        elif new in (None, name) or new in state or new in kept:  # as it is: who asks for it, or that it is too many
            kept[name] = value
        else:
            kept[new] = value
            renamed.append(f"{name} -> {new}")
    counters = [name for name in wanted if name.endswith(COUNTER) and name not in kept]
    kept.update({name: torch.zeros_like(wanted[name]) for name in counters})
    lines = [
        *_line("renamed", renamed),
        *_line("left out, as they are no weights of ours", dropped),
        *_line("left out, as they are copies from before averaging", sorted(copies)),
        *_line("not there, and begun at 0", counters),
    ]
    return kept, lines


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


def _require_shapes(theirs: Mapping[str, Tensor], part: Part, names: Mapping[str, Tensor], where: str) -> None:
    """Raise CheckpointError, naming the first few, where shapes are other than ours."""
    pairs = {part.foreign_name(name): value for name, value in names.items()}
    other = [
        f"{name} {tuple(theirs[name].shape)} for {tuple(ours.shape)}"
        for name, ours in pairs.items()
        if name in theirs and theirs[name].shape != ours.shape
    ]
    if other:
        found = f"{len(other)} tensors have another shape: {_few(other)}"
        raise CheckpointError(where, found, "Is this the config, and the number of classes, that it was trained with?")


def _tensors(saved: Saved, content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The tensors of a state dict by name; what else stands in one is no weight."""
    places = {name: each for name, each in content.items() if isinstance(name, str) and isinstance(each, Strided)}
    if not places:
        raise CheckpointError(saved.where, "holds no weights")
    return {name: saved.tensor(place, name) for name, place in places.items()}


def _table(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, dict) else {}


def _names(value: Any) -> list[str] | None:
    """Names of classes: of one class, old files may have it bare."""
    names = [value] if isinstance(value, str) else value
    fine = isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names)
    return [*names] if fine else None


def _as(kind: type[T], value: Any) -> T | None:
    return value if isinstance(value, kind) else None


def _line(title: str, names: Sequence[str]) -> list[str]:
    return [f"{len(names)} {title}: {_few(names)}"] if names else []


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
