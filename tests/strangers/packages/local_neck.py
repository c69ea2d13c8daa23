"""A neck in a file of its own, no package."""

from __future__ import annotations

from detcore import Component, hookimpl
from detcore.interfaces import Channels, Features, Neck, Strides
from torch import Tensor, nn


@hookimpl
def detcore_components() -> list[Component]:
    return [Component("neck", "LocalNeck", f"{__name__}:LocalNeck")]


class LocalNeck(Neck):
    """A 1x1 convolution of the only map."""

    def __init__(self, *, in_channels: Channels[int], in_strides: Strides[int], width: int = 6) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 1)
        self.out_channels, self.strides = (width,), (in_strides,)

    def forward(self, features: Features) -> list[Tensor]:
        return [self.conv(level) for level in features]
