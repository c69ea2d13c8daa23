"""Parts of this project's detectors, and the names by which its configs call them."""

from __future__ import annotations

from collections.abc import Sequence

from detcore import Component, hookimpl
from detcore.errors import ConfigError
from detcore.interfaces import Channels, Features, Neck, Strides
from torch import Tensor, nn


@hookimpl
def detcore_components() -> list[Component]:
    """Called when a config that lists this file is read."""
    name = "{{ cookiecutter.__class }}Neck"
    return [Component("neck", name, f"{__name__}:{name}", "maps whose channels are gated")]


class Gate(nn.Module):
    """Squeeze and excitation (Hu et al. 2018, section 3): each channel is weighted by what all of them are on average.

    Args:
        channels: C.
        reduction: The hidden layer has so many times fewer.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, max(channels // reduction, 1))
        self.excite = nn.Linear(max(channels // reduction, 1), channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        weight: Tensor = self.excite(self.squeeze(x.mean((2, 3))).relu()).sigmoid()
        return x * weight[:, :, None, None]


class {{ cookiecutter.__class }}Neck(Neck):
    """A 1x1 convolution and a gate on each map.

    Args:
        in_channels: Of each map that comes in; the build knows them.
        strides: Of each map that comes in, and goes out.
        out_channels: Of every map that goes out.
        reduction: Of the gates.

    Raises:
        ConfigError: A number below 1.
    """

    def __init__(
        self,
        *,
        in_channels: Channels[Sequence[int]],
        strides: Strides[Sequence[int]],
        out_channels: int = 64,
        reduction: int = 4,
    ) -> None:
        super().__init__()
        if out_channels < 1 or reduction < 1:
            raise ConfigError("out_channels, reduction", f"{out_channels} and {reduction}", "Give 1 or more.")
        self.lateral = nn.ModuleList(nn.Conv2d(channels, out_channels, 1) for channels in in_channels)
        self.gates = nn.ModuleList(Gate(out_channels, reduction) for _ in in_channels)
        self.out_channels = (out_channels,) * len(in_channels)
        self.strides = tuple(strides)

    def forward(self, features: Features) -> Features:
        """L maps (B, C_l, H_l, W_l) -> L maps (B, out_channels, H_l, W_l)."""
        return [gate(lateral(each)) for gate, lateral, each in zip(self.gates, self.lateral, features, strict=True)]
