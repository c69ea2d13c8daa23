"""timm's checkpoints by name: ``weights = "timm://mobilenetv2_100"``."""

from __future__ import annotations

from collections.abc import Mapping

import timm
from detcore.errors import CheckpointError, ConfigError, did_you_mean, one_line
from torch import Tensor


def download(address: str) -> Mapping[str, Tensor]:
    """timm's weights of ``mobilenetv2_100``, or those of a tag, ``mobilenetv2_100.ra_in1k``, from its cache if there.

    Names are those of :class:`detcore_timm.backbone.TimmBackbone`; layers after the last map are left out.

    Raises:
        ConfigError: timm has no such model.
        CheckpointError: It has no such weights, or the download fails.
    """
    where = f"timm://{address}"
    if not timm.is_model(address):
        found = f'timm {timm.__version__} has no model "{address}"'
        raise ConfigError(where, found, did_you_mean(address, timm.list_models()))
    try:
        model = timm.create_model(address, pretrained=True, features_only=True)
    except Exception as error:  # of timm, of the hub, or of the network
        raise CheckpointError(where, f"cannot be had: {one_line(error)}") from error
    return {f"model.{name}": value for name, value in model.state_dict().items()}
