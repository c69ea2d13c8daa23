"""Small components that the build tests name; each declares one sentence's worth of needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs
import torch
from detcore.errors import ConfigError
from detcore.interfaces import (
    Assigner,
    Backbone,
    BoxChannels,
    Channels,
    ClassChannels,
    Container,
    Decoder,
    DenseHead,
    DenseLoss,
    Detector,
    Factory,
    Flow,
    Geometry,
    HeadNetwork,
    Loss,
    Neck,
    Norm,
    NumClasses,
    PriorsPerCell,
    RoIHead,
    Section,
    Strides,
)
from torch import nn


class Back(Backbone):
    def __init__(self, *, channels: Sequence[int] = (8, 16, 32, 64), norm: Factory[Norm] | None = None) -> None:
        super().__init__()
        self.out_channels = tuple(channels)
        self.strides = tuple(4 * 2**level for level in range(len(channels)))
        self.norm = norm(channels[0]) if norm else None

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [images.new_zeros(len(images), c, 8, 8) for c in self.out_channels]


class Shy(Backbone):
    """Declares nothing."""

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return []


class NotABackbone(nn.Module):
    out_channels = (1,)
    strides = (1,)


class Pyramid(Neck):
    def __init__(
        self,
        *,
        in_channels: Channels[Sequence[int]],
        in_strides: Strides[Sequence[int]],
        width: int = 24,
        num_outs: int = 5,
    ) -> None:
        super().__init__()
        self.in_channels = tuple(in_channels)
        self.out_channels = (width,) * num_outs
        self.strides = tuple(in_strides[0] * 2**level for level in range(num_outs))

    def forward(self, features: Any) -> Any:
        return features


class Widen(Neck):
    def __init__(self, *, in_channels: Channels[int], strides: Strides[Sequence[int]]) -> None:
        super().__init__()
        self.seen = in_channels
        self.out_channels = (in_channels * 2,) * len(strides)
        self.strides = tuple(strides)

    def forward(self, features: Any) -> Any:
        return features


class Sig(Loss):
    def __init__(self, *, softmax: bool = False, loss_weight: float = 1.0, mode: Literal["a", "b"] = "a") -> None:
        super().__init__()
        self.softmax = softmax
        self.loss_weight = loss_weight

    def forward(self, input: Any, target: Any, weight: Any = None, avg_factor: Any = None) -> torch.Tensor:
        return input.sum()


class Both(DenseLoss):
    def __init__(self, *, loss_cls: Loss) -> None:
        super().__init__()
        self.loss_cls = loss_cls
        self.softmax = loss_cls.softmax

    def forward(self, predictions: Any, matches: Any, batch: Any) -> dict[str, torch.Tensor]:
        return {}


class Grid(Geometry):
    box_channels = 4

    def __init__(self, *, strides: Strides[Sequence[int]], per_cell: int = 3, box_channels: int = 4) -> None:
        super().__init__()
        self.grid = tuple(strides)
        self.priors_per_cell = per_cell
        self.box_channels = box_channels

    def priors(self, features: Any, batch: Any) -> Any:
        return None

    def encode(self, priors: Any, stride: Any, boxes: Any) -> Any:
        return boxes

    def decode(self, priors: Any, stride: Any, vectors: Any) -> Any:
        return vectors


class Net(HeadNetwork):
    def __init__(
        self,
        *,
        in_channels: Channels[int],
        class_channels: ClassChannels,
        box_channels: BoxChannels,
        priors_per_cell: PriorsPerCell,
        num_classes: NumClasses,
    ) -> None:
        super().__init__()
        self.got = (in_channels, class_channels, box_channels, priors_per_cell, num_classes)

    def forward(self, features: Any) -> Any:
        return {}


class Assign(Assigner):
    def __init__(self, *, strides: Strides[Sequence[int]], ranges: tuple[float, float] = (0.0, 1.0)) -> None:
        super().__init__()
        self.strides, self.ranges = tuple(strides), ranges

    def forward(self, predictions: Any, batch: Any) -> Any:
        return None


class Decode(Decoder):
    def __init__(self, *, radius: float, num_classes: NumClasses) -> None:
        super().__init__()
        self.num_classes = num_classes

    def forward(self, predictions: Any, batch: Any, *, train: bool = False) -> Any:
        return []


class Plainly(DenseHead):
    def __init__(self, *, num_classes: NumClasses, in_channels: Channels[Sequence[int]], channels: int = 7) -> None:
        super().__init__()
        self.num_classes, self.in_channels, self.channels = num_classes, tuple(in_channels), channels

    def forward(self, features: Any, batch: Any) -> Any:
        return None

    def losses(self, predictions: Any, batch: Any) -> Any:
        return {}

    def detections(self, predictions: Any, batch: Any, *, train: bool = False) -> Any:
        return []


class Second(RoIHead):
    def __init__(self, *, num_classes: NumClasses, strides: Strides[Sequence[int]]) -> None:
        super().__init__()
        self.num_classes, self.strides = num_classes, tuple(strides)

    def losses(self, features: Any, proposals: Any, batch: Any) -> Any:
        return {}

    def detections(self, features: Any, proposals: Any, batch: Any) -> Any:
        return []


class Zoo(Container, nn.Module):
    """Takes children in every shape."""

    def __init__(self, *, named: Mapping[str, Loss] | None = None, rows: Sequence[Loss] = ()) -> None:
        super().__init__()
        self.named, self.rows = named, rows


class Boom(Neck):
    def __init__(self, *, how: str = "value") -> None:
        super().__init__()
        refusals = {
            "value": ValueError("how is not to my taste"),
            "key": KeyError("lost"),
            "whole": ConfigError("Boom", "not to my taste"),
            "part": ConfigError("Boom: how", "not to my taste", "Ask less."),
        }
        raise refusals[how]

    def forward(self, features: Any) -> Any:
        return features


class Greedy(Neck):
    """Wants a thing that nothing gives it."""

    out_channels = (1,)
    strides = (1,)

    def __init__(self, *, per_cell: PriorsPerCell) -> None:
        super().__init__()

    def forward(self, features: Any) -> Any:
        return features


class Numbers(Neck):
    out_channels = (1,)
    strides = (1,)

    def __init__(self, *, size: tuple[int, int] = (1, 1), rate: float = 0.0, maybe: int | None = 3) -> None:
        super().__init__()
        self.size, self.rate, self.maybe = size, rate, maybe

    def forward(self, features: Any) -> Any:
        return features


class Settings:
    def __init__(self, *, epochs: int, zoo: Section[Zoo] | None = None) -> None:
        self.epochs, self.zoo = epochs, zoo


class Rule:
    def __init__(self, *, rate: float = 1.0, match: str) -> None:
        if rate < 0:
            raise ConfigError("", f"rate {rate} is negative")
        self.rate, self.match = rate, match


class Root:
    """The whole config of these tests."""

    def __init__(
        self,
        *,
        model: Detector | None = None,
        neck: Neck | None = None,
        settings: Section[Settings] | None = None,
        rules: Mapping[str, Section[Rule]] | None = None,
        optimizer: Factory[torch.optim.Optimizer] | None = None,
        transforms: Sequence[Any] = (),
        classes: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None: ...


FLOW = Flow().having("classes (a.toml: classes)", num_classes=5)


@attrs.frozen(kw_only=True)
class Record:
    """An attrs class, whose hints stand on the class."""

    rate: float
