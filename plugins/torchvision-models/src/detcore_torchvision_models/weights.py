"""torchvision's checkpoints by name: ``weights = "torchvision://resnet50"``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torchvision
from detcore.errors import CheckpointError, ConfigError, did_you_mean
from torch import Tensor

from detcore_torchvision_models.backbone import one_line


def download(address: str) -> Mapping[str, Tensor]:
    """The state dict of ``resnet50`` (its default weights) or ``resnet50/IMAGENET1K_V1``, from torch's cache if there.

    Raises:
        ConfigError: torchvision has no such model, or no such weights of it.
        CheckpointError: The download fails.
    """
    model, _, wanted = address.partition("/")
    where = f"torchvision://{address}"
    names = torchvision.models.list_models()
    if model not in names:
        raise ConfigError(where, f'torchvision has no model "{model}"', did_you_mean(model, names))
    weights: Any = torchvision.models.get_model_weights(model)
    choices = list(weights.__members__)
    if (wanted or "DEFAULT") not in choices:
        found = f'torchvision\'s {model} has no weights "{wanted}"'
        raise ConfigError(where, found, f"It has: {', '.join(name for name in choices if name != 'DEFAULT')}.")
    try:
        state: Mapping[str, Tensor] = weights[wanted or "DEFAULT"].get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(where, f"cannot be downloaded: {one_line(error)}") from error
    return state
