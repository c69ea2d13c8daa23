"""A detector around a detector: every image is seen in several ways, and what was found there becomes one list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
from detcore.errors import ConfigError
from detcore.interfaces import Detector
from detcore.structures import Batch, Detections, Losses
from pydantic import PositiveFloat, PositiveInt
from torch import nn

from detcore_tta.merge import Merger, NMSMerger
from detcore_tta.views import Flip, PadValue, flipped, joined, scaled, taken_back

INNER = "detector."
"""What names of the wrapped detector's tensors begin with inside of torch; nobody else sees it."""


class TTA(Detector):
    """Test-time augmentation: a view for each scale and flip. Training goes to the wrapped detector as it is.

    The names of tensors and modules are those of the wrapped detector: its checkpoints are this one's, and rules of
    ``[params]`` need no change. A single view is not merged: what it finds is what comes out.

    Args:
        detector: What looks at the views.
        scales: Factors of the size that images have without; of the same pixels, so that larger ones add no detail.
        flips: ``none`` is the image as it is; ``both`` is turned by half a turn.
        merger: Makes one list of what the views found; by default :class:`NMSMerger`.
        most: Detections of an image that are kept at most, the best ones.
        together: Whether the flips of a scale are one batch, or batches one after the other, which takes less memory.
        divisor: As ``[preprocess]`` has it: height and width of scaled batches are multiples of it.
        pad_value: What stands in the padding of scaled batches, as the network reads it.

    Raises:
        ConfigError: There is no view, or one of them twice.
    """

    def __init__(
        self,
        *,
        detector: Detector,
        scales: Sequence[PositiveFloat] = (1.0,),
        flips: Sequence[Flip] = ("none", "horizontal"),
        merger: Merger | None = None,
        most: PositiveInt = 100,
        together: bool = True,
        divisor: PositiveInt = 32,
        pad_value: PadValue = 0.0,
    ) -> None:
        super().__init__()
        for name, values in (("scales", scales), ("flips", flips)):
            if not values or len({*values}) < len(values):
                found = f"{list(values)} names one twice" if values else "there is none"
                raise ConfigError(f"TTA: {name}", found, "Each is a view, seen once.")
        self.detector = detector
        self.scales = scales
        self.flips = flips
        self.merger = merger or NMSMerger()
        self.most = most
        self.together = together
        self.divisor = divisor
        self.pad_value = pad_value
        self.register_load_state_dict_pre_hook(_named_inside)  # type: ignore[no-untyped-call]

    def losses(self, batch: Batch) -> Losses:
        """Those of the wrapped detector."""
        losses: Losses = self.detector(batch, mode="losses")
        return losses

    def detections(self, batch: Batch) -> list[Detections]:
        """Per image what its views found, merged, in input pixels."""
        views = [*self._views(attrs.evolve(batch, targets=None))]
        if len(views) == 1:
            return views[0]
        merged = map(self.merger.merge, zip(*views, strict=True))
        return [found.each(lambda rows: rows[: self.most]) for found in merged]

    def _views(self, batch: Batch) -> Iterator[list[Detections]]:
        """View by view, what was found in each of the B images, in pixels of ``batch``."""
        for scale in self.scales:
            seen = batch if scale == 1 else scaled(batch, scale, self.divisor, self.pad_value)
            for flips in [self.flips] if self.together else [[flip] for flip in self.flips]:
                views = joined([flipped(seen, flip) for flip in flips])
                found = iter(self.detector(views, mode="detections"))
                for flip in flips:
                    yield [
                        taken_back(next(found), flip, size, None if scale == 1 else original)
                        for size, original in zip(seen.sizes, batch.sizes, strict=True)
                    ]

    # ------------------------------------------------------------------- the names of the wrapped detector's tensors

    def state_dict(self, *args: Any, **options: Any) -> Any:
        """The wrapped detector's."""
        return self.detector.state_dict(*args, **options)

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """This module, and all of the wrapped detector by their names in it."""
        memo = set() if memo is None else memo
        if self not in memo:
            memo.add(self)
            yield prefix, self
        yield from self.detector.named_modules(memo, prefix, remove_duplicate)

    def get_submodule(self, target: str) -> nn.Module:
        """By the name that :meth:`named_modules` gives it."""
        return self.detector.get_submodule(target) if target else self


def _named_inside(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Names of a state that is being loaded, as torch looks for them."""
    for name in [name for name in state if name.startswith(prefix)]:
        state[f"{prefix}{INNER}{name.removeprefix(prefix)}"] = state.pop(name)
