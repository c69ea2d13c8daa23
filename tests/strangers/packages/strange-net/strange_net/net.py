"""One convolution."""

from __future__ import annotations

from detcore.interfaces import Backbone
from torch import Tensor, nn


class StrangeNet(Backbone):
    """One map of stride 8."""

    def __init__(self, *, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 8, 8)
        self.out_channels, self.strides = (width,), (8,)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.conv(images).relu()]
