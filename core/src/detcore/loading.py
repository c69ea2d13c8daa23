"""Reading files of weights without running code, and what of them fits a module."""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from detcore.errors import CheckpointError
from detcore.points import apart

log = logging.getLogger("detcore.checkpoint")


@attrs.frozen
class LoadReport:
    """What of a file's weights fitted a module.

    Attributes:
        loaded: Names that fitted.
        missing: Names of the module that the file has not.
        unexpected: Names of the file that the module has not.
        mismatched: Names with other shapes: (in the file, in the module).
        percent: Of the numbers that make up the module, how many fitted.
    """

    loaded: Sequence[str]
    missing: Sequence[str]
    unexpected: Sequence[str]
    mismatched: Mapping[str, tuple[Sequence[int], Sequence[int]]]
    percent: float

    @property
    def complete(self) -> bool:
        """Whether file and module have the same names and shapes."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        shapes = [f"{name} {_shape(file)} for {_shape(own)}" for name, (file, own) in self.mismatched.items()]
        parts = [f"loaded {len(self.loaded)} tensors ({self.percent:.1f} % of the parameters)"]
        for title, names in (("missing", self.missing), ("unexpected", self.unexpected), ("mismatched", shapes)):
            if names:
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                parts.append(f"{len(names)} {title} ({', '.join(names[:3])}{more})")
        return ", ".join(parts)


def load_weights(module: nn.Module, path: Path, *, prefix: str = "") -> LoadReport:
    """Load what fits of a checkpoint, or of a bare state dict, into ``module``; the rest of it stays as it is.

    Args:
        module: Where to.
        path: The file.
        prefix: Only names that begin with it count, without it.

    Raises:
        CheckpointError: The file cannot be read, holds no weights, or nothing of it fits.
    """
    return load_state(module, read_weights(path), str(path), prefix=prefix)


def load_state(module: nn.Module, weights: Mapping[str, Tensor], where: str, *, prefix: str = "") -> LoadReport:
    """As :func:`load_weights`, of tensors at hand that come from ``where``."""
    weights = with_prefix(weights, prefix)
    report = compare(module, weights)
    if not report.loaded:
        raise CheckpointError(where, f"nothing in it fits {type(module).__name__}: {report}")
    module.load_state_dict({name: weights[name] for name in report.loaded}, strict=False)
    return report


def with_prefix(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose name begins with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def compare(module: nn.Module, weights: Mapping[str, Tensor]) -> LoadReport:
    """What of ``weights`` fits ``module``; changes nothing."""
    own = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    shared = {name: (tuple(weights[name].shape), tuple(value.shape)) for name, value in own.items() if name in weights}
    loaded = [name for name, (file, ours) in shared.items() if file == ours]
    total = sum(value.numel() for value in own.values())
    return LoadReport(
        loaded=loaded,
        missing=[name for name in own if name not in weights],
        unexpected=[name for name in weights if name not in own],
        mismatched={name: shapes for name, shapes in shared.items() if shapes[0] != shapes[1]},
        percent=100 * sum(own[name].numel() for name in loaded) / max(total, 1),
    )


def read(path: Path) -> dict[str, Any]:
    """A file's content on the CPU; code in it is never run.

    Raises:
        CheckpointError: There is no such file, it is cut short, holds code, or is something else.
    """
    where = str(path)
    if not path.is_file():
        raise CheckpointError(where, "is a folder, not a file" if path.is_dir() else "does not exist")
    try:
        with path.open("rb") as file:
            head = file.read(2)
    except OSError as error:
        raise CheckpointError(where, f"cannot be read: {error.strerror}") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        if isinstance(error, UnpicklingError) and (code or head.startswith(b"\x80")):
            found = f"holds code ({code[1] if code else 'a pickle'}), which is not run"
            raise CheckpointError(where, found, "Save model.state_dict() alone.") from error
        cut = head == b"PK" and not zipfile.is_zipfile(path)
        raise CheckpointError(where, "is cut short or damaged" if cut else "is not a checkpoint") from error
    if not isinstance(content, dict):
        raise CheckpointError(where, f"holds a {type(content).__name__}, not a checkpoint")
    return content


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a checkpoint, or of a bare state dict, by name; see :func:`read`."""
    return weights_in(read(path), str(path))


def weights_in(content: Mapping[str, Any], where: str) -> Mapping[str, Tensor]:
    """The tensors of what :func:`read` gave, by name. Raises CheckpointError where there is none."""
    for key in ("averaged", "model", "state_dict"):  # averaged weights are those that were evaluated
        if isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(where, "holds no weights")
    return tensors


def classes_in(content: Mapping[str, Any]) -> list[str] | None:
    """The names of the classes that what :func:`read` gave was trained on; None where it does not say."""
    meta = content.get("meta")
    names = meta.get("classes") if isinstance(meta, Mapping) else None
    return [*map(str, names)] if isinstance(names, list | tuple) and names else None


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def tell_versions(content: Mapping[str, Any], where: str) -> None:
    """Warn of plugins that a checkpoint was made with and that are not here, or in another version."""
    meta = content.get("meta")
    versions = meta.get("plugins") if isinstance(meta, Mapping) else None
    if isinstance(versions, Mapping) and (others := apart(versions)):
        log.warning("%s was made with %s", where, ", ".join(others))
