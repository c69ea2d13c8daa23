"""Box heads: two shared layers (Lin et al. 2017, Feature Pyramid Networks, section 4.2), or convolutions and layers."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from detcore.errors import ConfigError
from detcore.interfaces import (
    BoxChannels,
    BoxHead,
    Channels,
    ClassChannels,
    Conv,
    Extract,
    Factory,
    Norm,
    RoISize,
)
from detcore.layers import ConvNormAct
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
        initialise((first, second), self.cls, self.box)

    def forward(self, extract: Extract) -> tuple[Tensor, Tensor]:
        """-> class logits (R, C + 1), background last, and deltas (R, C * 4), or (R, 4) where class-agnostic."""
        hidden = self.shared(extract())
        return self.cls(hidden), self.box(hidden)


class ConvFCBoxHead(BoxHead):
    """3x3 convolutions, then fully connected layers, each with ReLU: shared by class and box, or for one of them alone.

    As it is, four convolutions and one layer that are shared (Wu and He 2018, Group Normalization, section 4.2).
    Without any, and with ``pool``, logits and deltas are read from the mean over cells (He et al. 2016, Deep Residual
    Learning, appendix A).

    Args:
        in_channels: Of the maps of regions.
        roi_size: Their side S.
        class_channels: Logits of a region, C + 1.
        box_channels: Deltas of a region, C * 4, or 4 where class-agnostic.
        shared_convs: Convolutions that both read from.
        shared_fcs: Layers after them that both read from.
        cls_convs: Convolutions of the class alone; none after shared layers.
        cls_fcs: Layers of the class alone.
        box_convs: Convolutions of the box alone; none after shared layers.
        box_fcs: Layers of the box alone.
        conv_channels: Of each convolution.
        fc_channels: Of each layer.
        pool: The first layer reads the mean over cells instead of every cell.
        norm: Builds the norms of the convolutions.
        conv: Builds the convolutions.

    Raises:
        ConfigError: Convolutions of one alone come after shared layers.
    """

    def __init__(
        self,
        *,
        in_channels: Channels[int],
        roi_size: RoISize,
        class_channels: ClassChannels,
        box_channels: BoxChannels,
        shared_convs: int = 4,
        shared_fcs: int = 1,
        cls_convs: int = 0,
        cls_fcs: int = 0,
        box_convs: int = 0,
        box_fcs: int = 0,
        conv_channels: int = 256,
        fc_channels: int = 1024,
        pool: bool = False,
        norm: Factory[Norm] | None = None,
        conv: Factory[Conv] = nn.Conv2d,  # type: ignore[assignment]
    ) -> None:
        super().__init__()
        if shared_fcs and (cls_convs or box_convs):
            found = f"{cls_convs} and {box_convs} after {shared_fcs} shared layers"
            raise ConfigError("cls_convs, box_convs", found, "Convolutions read maps: give shared_fcs = 0.")
        cells = 1 if pool else roi_size**2
        options: dict[str, Any] = {"conv_channels": conv_channels, "fc_channels": fc_channels, "pool": pool}
        options |= {"norm": norm, "conv": conv}
        self.shared = ConvFC(in_channels, cells, shared_convs, shared_fcs, **options)
        reached, cells = self.shared.out_channels, 1 if shared_fcs else cells
        self.cls_path = ConvFC(reached, cells, cls_convs, cls_fcs, **options)
        self.box_path = ConvFC(reached, cells, box_convs, box_fcs, **options)
        self.cls = nn.Linear(self.cls_path.out_size, class_channels)
        self.box = nn.Linear(self.box_path.out_size, box_channels)
        self.pool = pool
        initialise((layer for layer in self.modules() if isinstance(layer, nn.Linear)), self.cls, self.box)

    def forward(self, extract: Extract) -> tuple[Tensor, Tensor]:
        """-> class logits (R, C + 1), background last, and deltas (R, C * 4), or (R, 4) where class-agnostic."""
        hidden = self.shared(extract())
        of_cls, of_box = (flat(path(hidden), self.pool) for path in (self.cls_path, self.box_path))
        return self.cls(of_cls), self.box(of_box)


class ConvFC(nn.Module):
    """Some convolutions, then some layers, each with ReLU; perhaps none of either.

    Args:
        in_channels: Of the maps (R, C, S, S) or numbers (R, C) that come in.
        cells: How many numbers of a channel a layer reads.
        convs: How many convolutions.
        fcs: How many layers.
        conv_channels: Of each convolution.
        fc_channels: Of each layer.
        pool: The first layer reads the mean over cells.
        norm: Builds the norms.
        conv: Builds the convolutions.

    Attributes:
        out_channels: Of the maps or numbers that go out.
        out_size: How many numbers of a region that is, once flat.
    """

    def __init__(
        self,
        in_channels: int,
        cells: int,
        convs: int,
        fcs: int,
        *,
        conv_channels: int,
        fc_channels: int,
        pool: bool,
        norm: Factory[Norm] | None,
        conv: Factory[Conv],
    ) -> None:
        super().__init__()
        channels = [in_channels, *[conv_channels] * convs]
        sizes = [channels[-1] * cells, *[fc_channels] * fcs]
        self.convs = nn.Sequential(*(ConvNormAct(*pair, 3, norm=norm, conv=conv) for pair in pairwise(channels)))
        self.fcs = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.pool = pool
        self.out_channels = fc_channels if fcs else channels[-1]
        self.out_size = sizes[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Maps (R, C, S, S), or numbers (R, N), -> the same without layers, else numbers."""
        x = self.convs(x)
        if len(self.fcs):
            x = flat(x, self.pool)
        for layer in self.fcs:
            x = layer(x).relu()
        return x


def flat(x: Tensor, pool: bool) -> Tensor:
    """Maps (R, C, S, S) -> all their numbers (R, N), or with ``pool`` their means (R, C); numbers stay as they are."""
    return x.mean((2, 3)) if pool and x.dim() == 4 else x.flatten(1)


def initialise(hidden: Iterable[nn.Linear], cls: nn.Linear, box: nn.Linear) -> None:
    """Layers keep the variance; the last ones start near zero, so that regions do at first what proposals did."""
    for layer in hidden:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    for layer, std in ((cls, 0.01), (box, 0.001)):
        nn.init.normal_(layer.weight, std=std)
        nn.init.zeros_(layer.bias)
