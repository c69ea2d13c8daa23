"""A box head that looks twice: at a region, and at a larger one around it.

What is around an object helps to say what it is (Gidaris and Komodakis 2015, Object Detection via a Multi-Region and
Semantic Segmentation-Aware CNN Model, section 3.1), and says nothing of where it ends.
"""

from __future__ import annotations

import torch
from detcore.errors import ConfigError
from detcore.interfaces import BoxChannels, BoxHead, Channels, ClassChannels, Extract, RoISize
from torch import Tensor, nn


class {{ cookiecutter.__class }}(BoxHead):
    """A hidden layer reads the region, another what is around it; classes come from both, deltas from the first.

    A stage hands its box head a callable: ``extract()`` cuts out the maps of the regions, ``extract(1.5)`` those of
    regions with sides 1.5 times as long.

    Args:
        in_channels: Of the maps of regions.
        roi_size: Their side S.
        class_channels: Logits of a region, C + 1.
        box_channels: Deltas of a region, C * 4, or 4 where class-agnostic.
        channels: Of each hidden layer.
        context: Sides of the larger region, in sides of the region.

    Raises:
        ConfigError: The larger region is not larger.
    """

    def __init__(
        self,
        *,
        in_channels: Channels[int],
        roi_size: RoISize,
        class_channels: ClassChannels,
        box_channels: BoxChannels,
        channels: int = 256,
        context: float = 1.5,
    ) -> None:
        super().__init__()
        if context <= 1:
            raise ConfigError("context", f"{context} is not above 1", "The larger region is larger.")
        self.context = context
        self.inside = nn.Linear(in_channels * roi_size**2, channels)
        self.around = nn.Linear(in_channels * roi_size**2, channels)
        self.cls = nn.Linear(2 * channels, class_channels)
        self.box = nn.Linear(channels, box_channels)
        nn.init.normal_(self.cls.weight, std=0.01)
        nn.init.normal_(self.box.weight, std=0.001)
        nn.init.zeros_(self.cls.bias)
        nn.init.zeros_(self.box.bias)

    def forward(self, extract: Extract) -> tuple[Tensor, Tensor]:
        """-> class logits (R, C + 1), background last, and deltas (R, C * 4), or (R, 4) where class-agnostic."""
        inside = self.inside(extract().flatten(1)).relu()
        around = self.around(extract(self.context).flatten(1)).relu()
        return self.cls(torch.cat([inside, around], 1)), self.box(inside)
