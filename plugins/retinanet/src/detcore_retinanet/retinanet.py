"""RetinaNet (Lin et al. 2017, Focal Loss for Dense Object Detection, section 4): the two towers of its head."""

from __future__ import annotations

import math
from itertools import pairwise

from detcore.interfaces import BoxChannels, Channels, ClassChannels, Factory, Features, HeadNetwork, Norm, PriorsPerCell
from detcore.layers import ConvNormAct
from torch import Tensor, nn


class RetinaTowers(HeadNetwork):
    """Two towers of 3x3 convolutions, one for classes, one for boxes, shared by all levels.

    Args:
        in_channels: Of every map.
        class_channels: Class logits per prior.
        box_channels: Numbers of a box per prior.
        priors_per_cell: A.
        stacked_convs: Convolutions in each tower.
        feat_channels: Their channels.
        norm: Normalisation behind each of them; the paper has none.
        prior_probability: What each class logit says at the start (section 4.1, initialisation).
    """

    def __init__(
        self,
        *,
        in_channels: Channels[int],
        class_channels: ClassChannels,
        box_channels: BoxChannels,
        priors_per_cell: PriorsPerCell,
        stacked_convs: int = 4,
        feat_channels: int = 256,
        norm: Factory[Norm] | None = None,
        prior_probability: float = 0.01,
    ) -> None:
        super().__init__()
        channels = [in_channels, *[feat_channels] * stacked_convs]
        self.cls_convs = _tower(channels, norm)
        self.box_convs = _tower(channels, norm)
        self.cls = nn.Conv2d(channels[-1], priors_per_cell * class_channels, 3, padding=1)
        self.box = nn.Conv2d(channels[-1], priors_per_cell * box_channels, 3, padding=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.constant_(self.cls.bias, -math.log((1 - prior_probability) / prior_probability))  # type: ignore[arg-type]

    def forward(self, features: Features) -> dict[str, list[Tensor]]:
        """L maps (B, C, H, W) -> ``cls`` (B, A * class channels, H, W) and ``box`` (B, A * box channels, H, W) each."""
        return {
            "cls": [self.cls(self.cls_convs(level)) for level in features],
            "box": [self.box(self.box_convs(level)) for level in features],
        }


def _tower(channels: list[int], norm: Factory[Norm] | None) -> nn.Sequential:
    return nn.Sequential(*(ConvNormAct(inner, outer, 3, norm=norm) for inner, outer in pairwise(channels)))
