"""CornerNet and CentripetalNet on HourglassNet-104, translated, compute what the reference computes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from detcore.structures import total_loss
from detcore_centripetalnet.centripetalnet import CentripetalMaps, CentripetalPair
from detcore_cornernet.cornernet import CornerMaps, CornerPair
from detcore_mmdet import Translated
from parity import golden
from torch import Tensor

HEAT = {"loss_heatmap": "det_loss", "loss_offset": "off_loss"}
TAGS = {"loss_pull": "pull_loss", "loss_push": "push_loss"}
SHIFTS = {"loss_guiding": "guiding_loss", "loss_centripetal": "centripetal_loss"}

SMALL = {"type": "HourglassNet", "downsample_times": 1, "stage_channels": [256, 8], "stage_blocks": [1, 1]}
"""A backbone for a head that is given its maps."""


@attrs.frozen(eq=False)
class Corners:
    """A case, its detector, and what the reference calls losses and maps."""

    case: golden.Case
    detector: Any
    found: Translated
    losses: Mapping[str, str]
    pair: Any
    maps: Any

    def in_reference_order(self, stacks: list[Any]) -> list[list[Tensor]]:
        """Per kind of map (top left before bottom right) its stacks."""
        return [
            [getattr(getattr(stack, corner), kind) for stack in stacks]
            for kind in self.maps._fields
            for corner in self.pair._fields
        ]


KINDS = {
    "cornernet_hourglass104": (HEAT | TAGS, CornerPair, CornerMaps),
    "centripetalnet_hourglass104": (HEAT | SHIFTS, CentripetalPair, CentripetalMaps),
}


@pytest.fixture(scope="module", params=KINDS)
def corners(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Corners:
    case = golden.load(request.param)
    detector, found = case.translated(tmp_path_factory.mktemp("corners"))
    return Corners(case, detector, found, *KINDS[request.param])


def test_features_raw_maps_and_detections_are_those_of_the_reference(corners: Corners) -> None:
    case, detector = corners.case, corners.detector
    case.fill_translated(detector, corners.found)
    detector.eval()
    batch = case.batch()
    with torch.no_grad():
        features = detector.backbone(batch.images)
        predictions = detector.head(features, batch)
    case.check_maps("feats", list(features))
    case.check_maps("raw", corners.in_reference_order(predictions))
    case.check_detections(detector.head.detections(predictions, batch))


def test_losses_and_gradients_are_those_of_the_reference(corners: Corners) -> None:
    """With two threads of one machine all gradients agree to 4e-7. Yet the order of sums decides which cells are the
    maxima of corner pooling: with one thread their norm is off by 8e-4, without oneDNN by 9e-4, in float64 by 2e-4."""
    case, detector = corners.case, corners.detector
    names = case.fill_translated(detector, corners.found)
    losses = detector.train().losses(case.batch())
    case.check_losses(losses, corners.losses)
    detector.zero_grad()
    total_loss(losses).backward()
    case.check_gradients(detector, names, tolerance=3e-3)


@pytest.mark.slow
@pytest.mark.parametrize("corners", ["cornernet_hourglass104"], indirect=True)
def test_three_steps_are_those_of_the_reference(corners: Corners) -> None:
    """Three of its six: then rounding rules. In float64 the third is off by 1.7e-3, and noise of 1e-6 on the images
    moves the fourth by 2e-3, the tolerance: batch norms over eight cells, and maxima of corner pooling that switch."""
    case = corners.case
    case.fill_translated(corners.detector, corners.found)
    first = attrs.evolve(case, arrays={**case.arrays, "curve": case.arrays["curve"][:3]})
    first.check_curve(corners.detector.train(), case.batch())


def check_decoding(name: str, folder: Path, **nms: float) -> None:
    """The head alone, on constructed maps, by the decode case's ``test_cfg`` with ``nms`` changed."""
    decode, whole = golden.load(f"decode_{name}"), golden.load(name)
    test = {**decode.info, "nms": {**decode.info["nms"], **nms}}
    model = {**whole.info["model"], "backbone": SMALL, "test_cfg": test}
    detector, _ = attrs.evolve(decode, info={"model": model}).translated(folder)
    _, pair, kinds = KINDS[name]
    maps = [stacks[-1] for stacks in decode.given()]
    given = pair(kinds(*maps[::2]), kinds(*maps[1::2]))
    decode.check_detections(detector.head.detections([given], decode.batch()))


@pytest.mark.parametrize("name", KINDS)
def test_detections_of_constructed_maps_are_those_of_the_reference(name: str, tmp_path: Path) -> None:
    check_decoding(name, tmp_path)


def test_the_case_would_notice_another_soft_nms(tmp_path: Path) -> None:
    """A deliberate fault, so that the tests above are known to look."""
    with pytest.raises(AssertionError, match="has no partner"):
        check_decoding("cornernet_hourglass104", tmp_path, sigma=0.3)
