"""torchvision's checkpoints by name: ``weights = "torchvision://resnet50"``.

Of a detector that has a recipe here the tensors have the names of that recipe, so that ``weights =
"torchvision://fasterrcnn_resnet50_fpn/COCO_V1"`` stands at the detector; see :mod:`detcore_torchvision_models.names`.
Its classes are COCO's 80, in COCO's order: torchvision keeps the gaps between the numbers of COCO's categories as
classes of their own, which no object has.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from detcore.errors import CheckpointError, ConfigError, did_you_mean
from detcore.loading import read_weights

from detcore_torchvision_models.backbone import one_line
from detcore_torchvision_models.names import LAYOUTS, our_state

SHORT = "_coco"
"""What stands behind the name of a detector, in the names of torchvision's files, for ``/COCO_V1``."""
NO_CLASSES = ("__background__", "N/A")
"""Entries of torchvision's categories that are none."""


def download(address: str) -> Mapping[str, Any]:
    """The state dict of ``resnet50`` (its default weights) or ``resnet50/IMAGENET1K_V1``, from torch's cache if there.

    A detector with a recipe here may be ``fasterrcnn_resnet50_fpn``, ``fasterrcnn_resnet50_fpn/COCO_V1`` or
    ``fasterrcnn_resnet50_fpn_coco``, and a file of its own, ``fasterrcnn_resnet50_fpn/my.pth``. Its ``state_dict`` has
    the recipe's names then, and its ``meta`` the ``classes``, where they are known.

    Raises:
        ConfigError: torchvision has no such model, or no such weights of it.
        CheckpointError: The download fails, or a file is none of such a model.
    """
    where = f"torchvision://{address}"
    model, _, wanted = address.partition("/")
    names = torchvision.models.list_models()
    if model.removesuffix(SHORT) in LAYOUTS and not wanted:
        model, wanted = model.removesuffix(SHORT), "COCO_V1" if model.endswith(SHORT) else ""
    if model not in names:
        raise ConfigError(where, f'torchvision has no model "{model}"', did_you_mean(model, names))
    if model in LAYOUTS and Path(wanted).suffix:
        return our_state(model, read_weights(Path(wanted).expanduser()), where)
    chosen = _choice(model, wanted, where)
    state = _state(chosen, where)
    if model not in LAYOUTS:
        return state
    categories = chosen.meta["categories"]
    kept = [entry for entry, name in enumerate(categories) if name not in NO_CLASSES]
    classes = [categories[entry] for entry in kept]
    return {"state_dict": our_state(model, state, where, kept), "meta": {"classes": classes}}


def _choice(model: str, wanted: str, where: str) -> Any:
    """The member of torchvision's enumeration of a model's weights."""
    weights: Any = torchvision.models.get_model_weights(model)
    choices = list(weights.__members__)
    if (wanted or "DEFAULT") not in choices:
        found = f'torchvision\'s {model} has no weights "{wanted}"'
        raise ConfigError(where, found, f"It has: {', '.join(name for name in choices if name != 'DEFAULT')}.")
    return weights[wanted or "DEFAULT"]


def _state(chosen: Any, where: str) -> Mapping[str, Any]:
    try:
        state: Mapping[str, Any] = chosen.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        path = Path(torch.hub.get_dir()) / "checkpoints" / chosen.url.rpartition("/")[2]
        found = f"{chosen.url} cannot be downloaded: {one_line(error)}"
        raise CheckpointError(where, found, f"Put it at {path}.") from error
    return state
