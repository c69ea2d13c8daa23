"""The conformance kit lets sound box heads pass, and names the fault of each that is not."""

from __future__ import annotations

import re
from typing import Any

import pytest
from detcore.interfaces import BoxChannels, BoxHead, Channels, ClassChannels, Extract, Flow, RoISize
from detcore.testing import ConformanceError, check_box_head
from torch import Tensor, nn


class OneLayer(BoxHead):
    """Sound: a layer each, of what is cut out once and once more with a margin."""

    def __init__(
        self,
        *,
        in_channels: Channels[int],
        roi_size: RoISize,
        class_channels: ClassChannels,
        box_channels: BoxChannels,
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.cls = nn.Linear(in_channels * roi_size**2, class_channels)
        self.box = nn.Linear(in_channels * roi_size**2, box_channels)

    def forward(self, extract: Extract) -> tuple[Tensor, Tensor]:
        return self.cls(extract().flatten(1)), self.box(self.norm(extract(1.5)).flatten(1))


class Swapped(OneLayer):
    def forward(self, extract: Extract) -> tuple[Tensor, Tensor]:
        logits, deltas = super().forward(extract)
        return deltas, logits


class Listed(OneLayer):
    def forward(self, extract: Extract) -> Any:
        return [*super().forward(extract)]


class Infinite(OneLayer):
    def forward(self, extract: Extract) -> tuple[Tensor, Tensor]:
        logits, deltas = super().forward(extract)
        return logits, deltas / 0


class Untied(OneLayer):
    """Skips a layer where there is nothing to do."""

    def forward(self, extract: Extract) -> tuple[Tensor, Tensor]:
        logits, deltas = super().forward(extract)
        return logits, deltas if len(deltas) else deltas.detach()


class Deaf(OneLayer):
    def forward(self, extract: Extract) -> tuple[Tensor, Tensor]:
        maps = extract().detach()
        return super().forward(lambda scale=1.0: maps)


class Centred(OneLayer):
    def forward(self, extract: Extract) -> tuple[Tensor, Tensor]:
        logits, deltas = super().forward(extract)
        return logits, deltas - deltas.mean(0) if len(deltas) else deltas


def test_a_sound_box_head_passes() -> None:
    check_box_head(OneLayer)
    check_box_head(OneLayer, flow=Flow(channels=(8,), roi_size=3, class_channels=2, box_channels=4))


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (Swapped, r"gives \['\(32, 12\) float32', '\(32, 4\) float32'\] for 32 regions, wanted is \['\(32, 4\) float32', '\(32, 12\) float32'\]\. They are class logits and deltas\."),
        (Listed, r"gives list for 32 regions, wanted is \[.*\]\. They are class logits and deltas\."),
        (Infinite, r"a number is not finite for 32 regions"),
        (Untied, r"parameter norm\.weight has no gradient for 0 regions\. Every trainable .*"),
        (Deaf, r"no gradient reaches its regions for 32 regions\. The backbone learns through them\."),
        (Centred, r"a region depends on the others in eval mode: \[1\] has other values\. How many proposals .*"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_a_fault_of_a_box_head_is_named(broken: type[BoxHead], expected: str) -> None:
    with pytest.raises(ConformanceError) as caught:
        check_box_head(broken)
    assert re.fullmatch(f"{broken.__name__}: ({expected})", str(caught.value)), caught.value
