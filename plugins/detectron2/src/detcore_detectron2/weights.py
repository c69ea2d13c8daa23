"""Weights of Detectron2: ``weights = "detectron2://COCO-Detection/faster_rcnn_R_50_FPN_1x"``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from detcore.errors import ConfigError, did_you_mean
from detcore.loading import read_weights
from detcore.weights import Source, download
from torch import Tensor

from detcore_detectron2.names import our_state
from detcore_detectron2.pickles import read_arrays

ZOO = "https://dl.fbaipublicfiles.com/detectron2/"
MODELS = {
    "COCO-Detection/faster_rcnn_R_50_FPN_1x": "137257794/model_final_b275ba.pkl",
    "COCO-Detection/faster_rcnn_R_50_FPN_3x": "137849458/model_final_280758.pkl",
    "COCO-Detection/faster_rcnn_R_101_FPN_3x": "137851257/model_final_f6e8b1.pkl",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x": "137260431/model_final_a54504.pkl",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x": "137849600/model_final_f10217.pkl",
    "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x": "138205316/model_final_a3ec72.pkl",
}
"""Models of its zoo whose parts have a recipe here (101 layers: ``depth = 101``): where each lies below its name."""


def load(address: str) -> Mapping[str, Tensor]:
    """The state dict of a file, of a model of the zoo, or of any pickle of it by its path there, under our names.

    Args:
        address: ``my/model_final.pkl`` (or ``.pth``), ``COCO-Detection/faster_rcnn_R_50_FPN_1x``, or
            ``ImageNetPretrained/MSRA/R-50.pkl``, which goes to the backbone.

    Raises:
        ConfigError: There is no such file, nor such a model.
        CheckpointError: It cannot be fetched or read, or holds no weights.
    """
    path = _file(address)
    if path.suffix != ".pkl":
        return our_state(read_weights(path))
    return our_state({name: torch.tensor(value) for name, value in read_arrays(path).items()})


def _file(address: str) -> Path:
    where, path = f"detectron2://{address}", Path(address).expanduser()
    if path.is_file():
        return path
    if path.is_absolute() or address.startswith((".", "~")) or path.suffix not in ("", ".yaml", ".pkl"):
        raise ConfigError(where, f"{path} does not exist")
    name = address.removesuffix(".yaml")
    if name not in MODELS and path.suffix != ".pkl":
        fix = did_you_mean(name, MODELS) or f"It knows: {', '.join(MODELS)}; or give the path of a .pkl."
        raise ConfigError(where, f'neither a file nor a model of the zoo: "{name}"', fix)
    return download(Source(f"{ZOO}{name}/{MODELS[name]}" if name in MODELS else f"{ZOO}{name}"), where)
