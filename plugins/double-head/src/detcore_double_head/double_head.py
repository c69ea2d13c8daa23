"""Rethinking Classification and Localization for Object Detection (Wu et al., CVPR 2020), section 4."""

from __future__ import annotations

from itertools import pairwise

from detcore.errors import ConfigError
from detcore.interfaces import BoxChannels, BoxHead, Channels, ClassChannels, Extract, Factory, Norm, RoISize
from detcore.layers import BN, ConvNormAct
from detcore_resnet.resnet import Bottleneck
from torch import Tensor, nn


class Widening(nn.Module):
    """A 3x3 and a 1x1 convolution beside a 1x1 convolution: more channels (figure 5a).

    Args:
        in_channels: Of the maps that come in.
        out_channels: Of the maps that go out.
        norm: Builds the norms.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: Factory[Norm]) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(in_channels, in_channels, 3, norm=norm)
        self.conv2 = ConvNormAct(in_channels, out_channels, 1, norm=norm, act=None)
        self.shortcut = ConvNormAct(in_channels, out_channels, 1, norm=norm, act=None)

    def forward(self, x: Tensor) -> Tensor:
        """(R, in_channels, S, S) -> (R, out_channels, S, S)."""
        out: Tensor = (self.conv2(self.conv1(x)) + self.shortcut(x)).relu()
        return out


class DoubleHead(BoxHead):
    """Fully connected layers say the class of a region, residual blocks its box.

    The blocks look at a larger region than the layers do: what is around an object tells where it ends.

    Args:
        in_channels: Of the maps of regions.
        roi_size: Their side S.
        class_channels: Logits of a region, C + 1.
        box_channels: Deltas of a region, C * 4, or 4 where class-agnostic.
        num_convs: Bottlenecks after the block that widens.
        num_fcs: Fully connected layers before the logits.
        conv_channels: Of the residual blocks, a multiple of four.
        fc_channels: Of the fully connected layers.
        box_scale: Sides of the regions that the box is read from, in sides of the region.
        norm: Builds the norms of the residual blocks.

    Raises:
        ConfigError: ``conv_channels`` is no multiple of four, or ``box_scale`` not positive.
    """

    def __init__(
        self,
        *,
        in_channels: Channels[int],
        roi_size: RoISize,
        class_channels: ClassChannels,
        box_channels: BoxChannels,
        num_convs: int = 4,
        num_fcs: int = 2,
        conv_channels: int = 1024,
        fc_channels: int = 1024,
        box_scale: float = 1.3,
        norm: Factory[Norm] = BN,  # type: ignore[assignment]
    ) -> None:
        super().__init__()
        if conv_channels % Bottleneck.expansion:
            raise ConfigError("conv_channels", f"{conv_channels} is no multiple of four", "A bottleneck has a quarter.")
        if box_scale <= 0:
            raise ConfigError("box_scale", f"{box_scale} is not positive", "1 is the region itself.")
        width = conv_channels // Bottleneck.expansion
        self.box_scale = box_scale
        self.widen = Widening(in_channels, conv_channels, norm)
        self.convs = nn.Sequential(*(Bottleneck(conv_channels, width, norm=norm) for _ in range(num_convs)))
        sizes = [in_channels * roi_size**2, *[fc_channels] * num_fcs]
        self.fcs = nn.ModuleList(nn.Linear(inner, outer) for inner, outer in pairwise(sizes))
        self.cls = nn.Linear(sizes[-1], class_channels)
        self.box = nn.Linear(conv_channels, box_channels)
        self._initialise()

    def forward(self, extract: Extract) -> tuple[Tensor, Tensor]:
        """-> class logits (R, C + 1), background last, and deltas (R, C * 4), or (R, 4) where class-agnostic."""
        hidden = extract().flatten(1)
        for layer in self.fcs:
            hidden = layer(hidden).relu()
        maps = self.convs(self.widen(extract(self.box_scale)))
        return self.cls(hidden), self.box(maps.mean((2, 3)))

    def _initialise(self) -> None:
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(layer, nn.Linear):
                if name.startswith("fcs."):
                    nn.init.xavier_uniform_(layer.weight)
                else:
                    nn.init.normal_(layer.weight, std=0.01 if name == "cls" else 0.001)
                nn.init.zeros_(layer.bias)
