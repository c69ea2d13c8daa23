"""Any model of timm that gives a pyramid, as a backbone (Wightman, PyTorch Image Models)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import timm
import torch
from detcore.errors import ConfigError
from detcore.interfaces import Backbone, Features
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

SMALLEST_STRIDE = 4
"""Maps of smaller strides are returned only when ``out_indices`` asks for them."""


class TimmBackbone(Backbone):
    """A model of timm with ``features_only``; :mod:`detcore_timm.models` has one subclass per model.

    Images whose sides are no multiples of the deepest stride are padded at the bottom and right, and maps cut back to
    the sides of the image divided by the stride, rounded up, so that every model keeps to one rule. Layers that timm
    keeps although no returned map needs them do not train: distributed training would wait for their gradients.

    Args:
        out_indices: Which of the model's maps are returned, by timm's numbers, rising; None: all of stride 4 and more.
        pretrained: Download timm's weights (or take them from its cache); nothing is downloaded without it.
        frozen: Nothing of the model trains.
        norm_eval: Batch normalisation keeps its running statistics while training.
        options: Further arguments of ``timm.create_model``, such as ``drop_path_rate`` or ``img_size`` (of models that
            are made for one size of images).

    Raises:
        ConfigError: timm cannot make the model so, or its maps are no pyramid that lies on the image.
    """

    model_name: ClassVar[str]

    def __init__(
        self,
        *,
        out_indices: Sequence[int] | None = None,
        pretrained: bool = False,
        frozen: bool = False,
        norm_eval: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.frozen = frozen
        self.norm_eval = norm_eval
        options = dict(options or {})
        self.model = self._create(out_indices, pretrained, options)
        info = self.model.feature_info
        channels, strides = list(info.channels()), list(info.reduction())
        self._check_pyramid(strides)
        self.kept = [i for i, stride in enumerate(strides) if out_indices is not None or stride >= SMALLEST_STRIDE]
        self.out_channels = tuple(channels[index] for index in self.kept)
        self.strides = tuple(strides[index] for index in self.kept)
        self.divisor = max(each["reduction"] for each in info.info)
        self.channels_last = str(getattr(self.model, "output_fmt", "")).endswith("NHWC")
        self._try(options.get("img_size"))
        self.train()

    def forward(self, images: Tensor) -> Features:
        """(B, 3, H, W) -> L maps (B, C_l, H_l, W_l), sides divided by the stride, rounded up."""
        height, width = images.shape[-2:]
        if height % self.divisor or width % self.divisor:
            images = F.pad(images, (0, -width % self.divisor, 0, -height % self.divisor))
        maps = self.model(images)
        maps = [maps[index] for index in self.kept]
        if self.channels_last:
            maps = [each.permute(0, 3, 1, 2) for each in maps]
        return [
            each[:, :, : -(-height // stride), : -(-width // stride)]
            for each, stride in zip(maps, self.strides, strict=True)
        ]

    def train(self, mode: bool = True) -> TimmBackbone:
        """As any module, except that what is frozen and, with ``norm_eval``, statistics stay as they are."""
        super().train(mode and not self.frozen)
        if self.frozen:
            self.requires_grad_(False)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _create(self, out_indices: Sequence[int] | None, pretrained: bool, options: Mapping[str, Any]) -> Any:
        reserved = sorted({"in_chans", "features_only", "out_indices", "pretrained"} & set(options))
        if reserved:
            fix = "Images have 3 channels; out_indices and pretrained stand beside options."
            raise ConfigError("options", f"{', '.join(reserved)} cannot be given here", fix)
        given = dict(options) if out_indices is None else {**options, "out_indices": tuple(out_indices)}
        try:
            return _any_size(self.model_name, pretrained=pretrained, features_only=True, **given)
        except Exception as error:
            raise ConfigError(
                "", f"timm {timm.__version__} cannot make {self.model_name}: {_one_line(error)}"
            ) from error

    def _check_pyramid(self, strides: Sequence[int]) -> None:
        if any(deeper <= shallower for shallower, deeper in pairwise(strides)):
            found = f"its maps have the strides {', '.join(map(str, strides))}: no pyramid"
            fix = "Choose a convolutional or hierarchical model, or one map with out_indices."
            raise ConfigError("out_indices", found, fix)

    def _try(self, size: int | Sequence[int] | None) -> None:
        """One small image: what cannot work, and maps that do not lie on the image, come to light before training."""
        size = (2 * self.divisor, 3 * self.divisor) if size is None else size
        height, width = (size, size) if isinstance(size, int) else size
        parameter = next(self.model.parameters())
        self.model.eval()
        try:
            maps = self(parameter.new_zeros(1, 3, height, width))
        except Exception as error:
            found = f"an image of {height}x{width} pixels does not pass: {_one_line(error)}"
            fix = "If it is made for one size, give that: options = {img_size = [640, 640]}."
            raise ConfigError("options", found, fix) from error
        found_shapes = [tuple(each.shape[1:]) for each in maps]
        right = [(c, height // s, width // s) for c, s in zip(self.out_channels, self.strides, strict=True)]
        if found_shapes != right:
            found = f"an image of {height}x{width} pixels gives maps of {found_shapes}, not {right}"
            raise ConfigError("", found, "Its maps do not lie on the image: choose another model.")
        _freeze_unused(self.model, maps)


def _freeze_unused(model: nn.Module, maps: Features) -> None:
    parameters = [each for each in model.parameters() if each.requires_grad]
    total = torch.stack([each.sum() for each in maps]).sum()
    for each, gradient in zip(parameters, torch.autograd.grad(total, parameters, allow_unused=True), strict=True):
        each.requires_grad_(gradient is not None)


def _any_size(name: str, **options: Any) -> nn.Module:
    """The model, freed of its fixed size of images where it has such a switch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return timm.create_model(name, **{"strict_img_size": False, **options})
        except TypeError as error:
            if "strict_img_size" not in str(error):
                raise
        return timm.create_model(name, **options)


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
