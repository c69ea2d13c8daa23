"""The box head of Lin et al. 2017 (Feature Pyramid Networks, section 4.2): two layers that class and box share."""

from __future__ import annotations

from detcore.interfaces import BoxChannels, BoxHead, Channels, ClassChannels, Extract, RoISize
from torch import Tensor, nn


class Shared2FCBoxHead(BoxHead):
    """Two fully connected layers with ReLU, then class logits and deltas by a layer each.

    Args:
        in_channels: Of the maps of regions.
        roi_size: Their side S.
        class_channels: Logits of a region, C + 1.
        box_channels: Deltas of a region, C * 4, or 4 where class-agnostic.
        fc_channels: Of the shared layers.
    """

    def __init__(
        self,
        *,
        in_channels: Channels[int],
        roi_size: RoISize,
        class_channels: ClassChannels,
        box_channels: BoxChannels,
        fc_channels: int = 1024,
    ) -> None:
        super().__init__()
        first = nn.Linear(in_channels * roi_size**2, fc_channels)
        second = nn.Linear(fc_channels, fc_channels)
        self.shared = nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU())
        self.cls = nn.Linear(fc_channels, class_channels)
        self.box = nn.Linear(fc_channels, box_channels)
        for layer in (first, second):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.normal_(self.cls.weight, std=0.01)
        nn.init.normal_(self.box.weight, std=0.001)
        for layer in (first, second, self.cls, self.box):
            nn.init.zeros_(layer.bias)

    def forward(self, extract: Extract) -> tuple[Tensor, Tensor]:
        """-> class logits (R, C + 1), background last, and deltas (R, C * 4), or (R, 4) where class-agnostic."""
        hidden = self.shared(extract())
        return self.cls(hidden), self.box(hidden)
