"""A checkpoint of ours under MMDetection's names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detcore.errors import CheckpointError, ConfigError, one_line
from detcore.files import replacing
from detcore.foreign import Part
from detcore.loading import classes_in, read, weights_in
from detcore.trained import load_carried

from detcore_mmdet.checkpoint import to_mmdet
from detcore_mmdet.model import Translated, translate

META = "mmdet"
"""The key of a checkpoint's ``meta`` at which an import leaves the table it came from: ``{"model": its JSON}``."""


def export(checkpoint: Path, output: Path, *, config: Path | None = None, force: bool = False) -> list[str]:
    """Write a checkpoint's weights as MMDetection loads them, and say so.

    Args:
        checkpoint: Ours; it carries its config, whose model must be the one of ``config``.
        output: The file.
        config: MMDetection's config of the model; by default the table that an import left in the checkpoint.
        force: Replace the file where it is there.

    Raises:
        CheckpointError: The checkpoint cannot be read, says nothing of a model there, is of another model, or the file
            cannot be written.
        ConfigError: The config cannot be read or has no model.
    """
    where = str(checkpoint)
    content = read(checkpoint)
    weights, classes = weights_in(content, where), classes_in(content)
    if output.exists() and not force:
        raise CheckpointError(str(output), "is there already", "Name another file, or give --force.")
    found = translate(_left_in(content, where) if config is None else _model_of(config))
    _require_same(found, load_carried(content, where)[0].table["model"], weights, where)
    if classes and found.num_classes not in (None, len(classes)):
        raise CheckpointError(where, f"has {len(classes)} classes, the model in MMDetection {found.num_classes}")
    theirs = {name: value.contiguous() for name, value in to_mmdet(weights, found.part).items()}
    _write({"state_dict": theirs, "meta": _meta(classes)}, output)
    which = " averaged" if content.get("averaged") else ""
    return [f"{output}: {len(theirs)}{which} tensors under MMDetection's names"]


def _left_in(content: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The table that an import left."""
    meta = content.get("meta")
    left = meta.get(META) if isinstance(meta, Mapping) else None
    if not isinstance(left, Mapping):
        found = "does not say what it is called in MMDetection: import-mmdet has not written it"
        raise CheckpointError(where, found, "Give MMDetection's config of the model: --config CONFIG.py.")
    try:
        model = json.loads(left["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(where, f"meta.{META}.model is no JSON: {one_line(error)}") from error
    return _require_model(model, f"{where}: meta.{META}.model")


def _model_of(config: Path) -> Mapping[str, Any]:
    from detcore_mmdet.reading import read_config  # noqa: PLC0415 (its parser is not needed without)

    return _require_model(read_config(config).get("model"), f"{config}: model")


def _require_model(model: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(model, Mapping):
        raise ConfigError(where, "is no table of a model")
    return model


def _require_same(found: Translated, ours: Any, weights: Mapping[str, Any], where: str) -> None:
    """Raise CheckpointError where a part that has weights is another one in the model that was trained."""
    for path, part in _parts(found.part, ""):
        trained = _at(ours, path.split("."))
        name = str(trained.get("type")).rpartition("/")[2] if isinstance(trained, Mapping) else None
        if name != part.table.get("type") and any(each.startswith(f"{path}.") for each in weights):
            raise CheckpointError(
                where,
                f"its model.{path} is {name or 'missing'}, that of the config is {part.table.get('type')}",
                "Give the config of MMDetection that says the same model.",
            )


def _parts(part: Part, path: str) -> Iterator[tuple[str, Part]]:
    for key, inner in part.parts():
        below = f"{path}.{key}" if path else key
        yield below, inner
        yield from _parts(inner, below)


def _at(table: Any, path: Sequence[str]) -> Any:
    """The value at a path of keys and numbers; None where there is none."""
    for key in path:
        if isinstance(table, Mapping):
            table = table.get(key)
        elif isinstance(table, Sequence) and key.isdigit() and int(key) < len(table):
            table = table[int(key)]
        else:
            return None
    return table


def _meta(classes: Sequence[str] | None) -> dict[str, Any]:
    """Names of classes where 3.x and where 2.x look for them."""
    return {"dataset_meta": {"classes": [*classes]}, "CLASSES": [*classes]} if classes else {}


def _write(content: Mapping[str, Any], path: Path) -> None:
    try:
        with replacing(path) as temporary:
            torch.save(content, temporary)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(str(path), f"cannot be written: {one_line(error)}") from error
