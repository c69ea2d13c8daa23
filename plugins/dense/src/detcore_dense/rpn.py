"""The network of a region proposal network (Ren et al. 2015, Faster R-CNN, section 3.1)."""

from __future__ import annotations

from itertools import pairwise

from detcore.interfaces import BoxChannels, Channels, ClassChannels, Features, HeadNetwork, PriorsPerCell
from detcore.layers import ConvNormAct
from torch import Tensor, nn


class RPNConv(HeadNetwork):
    """3x3 convolutions with ReLU, then objectness and box by 1x1 convolutions, shared by all levels.

    Args:
        in_channels: Of every map.
        class_channels: Objectness logits per prior: 1, or 2 for a softmax.
        box_channels: Numbers of a box per prior.
        priors_per_cell: A.
        feat_channels: Channels of the 3x3 convolutions.
        num_convs: How many of them.
    """

    def __init__(
        self,
        *,
        in_channels: Channels[int],
        class_channels: ClassChannels,
        box_channels: BoxChannels,
        priors_per_cell: PriorsPerCell,
        feat_channels: int = 256,
        num_convs: int = 1,
    ) -> None:
        super().__init__()
        channels = [in_channels, *[feat_channels] * num_convs]
        pairs = pairwise(channels)
        self.convs = nn.Sequential(*(ConvNormAct(inner, outer, 3) for inner, outer in pairs))
        self.cls = nn.Conv2d(channels[-1], priors_per_cell * class_channels, 1)
        self.box = nn.Conv2d(channels[-1], priors_per_cell * box_channels, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, features: Features) -> dict[str, list[Tensor]]:
        """L maps (B, C, H, W) -> ``cls`` (B, A * class channels, H, W) and ``box`` (B, A * box channels, H, W) each."""
        hidden = [self.convs(level) for level in features]
        return {"cls": [self.cls(level) for level in hidden], "box": [self.box(level) for level in hidden]}
