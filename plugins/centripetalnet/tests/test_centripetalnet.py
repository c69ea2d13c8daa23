"""CentripetalNet's parts by hand; that all of it computes the reference's is held by tests/parity."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from detcore import components
from detcore.build import plan
from detcore.catalog import Catalog, Entry
from detcore.config import load
from detcore.errors import UserError
from detcore.interfaces import Detector, Flow
from detcore.structures import Batch, Targets, total_loss
from detcore.testing import check_dense_head
from detcore_centripetalnet import plugin
from detcore_centripetalnet.centripetalnet import (
    CentripetalHead,
    CentripetalMaps,
    CentripetalPair,
    CrossStarConv,
    apart,
    shift_targets,
)
from detcore_cornernet import plugin as cornernet
from detcore_cornernet.cornernet import Pairing
from detcore_cornernet.losses import GaussianFocalLoss
from detcore_hourglass import plugin as hourglass
from detcore_losses import plugin as losses
from detcore_losses.boxes import SmoothL1Loss

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SIZE = (64, 96)  # of the images; the maps are 16 x 24
STACKS = Flow(channels=(8, 8), strides=(4, 4), num_classes=3)
LOSSES = {
    "loss_heatmap": GaussianFocalLoss(),
    "loss_offset": SmoothL1Loss(),
    "loss_guiding": SmoothL1Loss(loss_weight=0.05),
    "loss_centripetal": SmoothL1Loss(),
}


def head(pairing: Pairing | None = None) -> CentripetalHead:
    return CentripetalHead(num_classes=3, in_channels=(8, 8), pairing=pairing or Pairing(), **LOSSES)


def batch_of(boxes: list[list[float]]) -> Batch:
    """One image with these objects, all of class 1."""
    rows = torch.tensor(boxes).reshape(1, -1, 4)
    valid = torch.ones(rows.shape[:2], dtype=torch.bool)
    sizes = torch.tensor([[50.0, 70.0]])
    padded = torch.tensor([[64.0, 96.0]])
    targets = Targets(rows, valid.long(), valid, ~valid)
    return Batch(torch.zeros(1, 3, *SIZE), sizes, padded, torch.ones(1, 2), targets=targets)


def test_it_is_a_dense_head() -> None:
    """No object, crowds alone and 300 objects: finite losses, tied to every parameter."""
    check_dense_head(CentripetalHead, flow=STACKS, size=(64, 96), pairing=Pairing(distance_threshold=1e6), **LOSSES)


# ------------------------------------------------------------------------------------------------------- the network


def test_without_shifts_the_adaption_is_a_plain_convolution() -> None:
    layer, x = CrossStarConv(4), torch.randn(2, 4, 5, 6)
    plain = torch.nn.functional.conv2d(x, layer.weight, padding=1)
    torch.testing.assert_close(layer(x, torch.zeros(2, 2, 5, 6)), plain)


def test_the_adaption_looks_where_the_shift_says_and_gives_it_no_gradient() -> None:
    """The middle point reads two columns to the right: of the 18 numbers 8 and 9 are its row and column."""
    layer = CrossStarConv(1)
    layer.weight.data.zero_()[0, 0, 1, 1] = 1
    layer.points.weight.data.zero_()[9, 0] = 1
    shift = torch.zeros(1, 2, 1, 4, requires_grad=True)
    shift.data[:, 0] = 2
    out = layer(torch.tensor([[[[1.0, 2, 3, 4]]]]), shift)
    assert out.flatten().tolist() == [3, 4, 0, 0]
    out.sum().backward()
    assert shift.grad is None
    assert layer.points.weight.grad is not None


def test_the_adaption_computes_in_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        out = CrossStarConv(4)(torch.randn(1, 4, 5, 5).bfloat16(), torch.zeros(1, 2, 5, 5).bfloat16())
    assert out.dtype == torch.float32


# ----------------------------------------------------------------------------------------------------------- targets


def test_shifts_point_from_cells_and_corners_to_the_centre() -> None:
    """A box of 9 x 10 cells from (1.5, 1) to (10.5, 11): its centre is (6, 6), its cells are (1, 1) and (10, 11)."""
    given = batch_of([[6.0, 4, 42, 44]])
    top_left, bottom_right = shift_targets(given.truth, SIZE, (3, 16, 24))
    assert top_left.guiding.tolist() == [[[5, 5]]]
    assert bottom_right.guiding.tolist() == [[[4, 5]]]
    for target in (top_left, bottom_right):
        assert target.centripetal.flatten().tolist() == pytest.approx([math.log(4.5), math.log(5)])


def test_a_box_without_size_has_finite_targets() -> None:
    top_left, _ = shift_targets(batch_of([[6.0, 4, 6, 4]]).truth, SIZE, (3, 16, 24))
    assert top_left.centripetal.isfinite().all()


@pytest.mark.parametrize("objects", [[], [[6.0, 4, 42, 44], [10, 10, 20, 20]]])
def test_training_runs_under_bfloat16_autocast_in_float32_losses(objects: list[list[float]]) -> None:
    module, given = head(), batch_of(objects)
    with torch.autocast("cpu", torch.bfloat16):
        found = module.losses(module([torch.randn(1, 8, 16, 24)] * 2, given), given)
    assert {each.dtype for each in found.values()} == {torch.float32}
    total_loss(found).backward()
    assert all(each.grad is not None and torch.isfinite(each.grad).all() for each in module.parameters())


# ----------------------------------------------------------------------------------------------------------- pairing


@pytest.mark.parametrize(
    ("first", "second", "strangers"),
    [
        ((12, 12), (12, 12), False),
        ((9, 9), (15, 15), False),  # 36 of the region's 100 square pixels
        ((8, 8), (16, 16), True),  # 64
        ((6, 12), (12, 12), True),  # not in the region, which is 7 to 17
        ((12, 12), (12, 17.5), True),
        ((7, 12), (12, 12), True),  # on its edge
    ],
)
def test_corners_belong_together_where_their_centres_are_near_that_of_the_box(
    first: tuple[float, float], second: tuple[float, float], strangers: bool
) -> None:
    """A box of 24 x 24 pixels, whose central region is 10 x 10."""
    box, points = torch.tensor([0.0, 0, 24, 24]), [torch.tensor(each, dtype=torch.float32) for each in (first, second)]
    assert bool(apart(box, *points, threshold=0.5)) is strangers


@pytest.mark.parametrize(("side", "strangers"), [(59.0, True), (60.0, False)])
def test_the_central_region_of_a_large_box_is_larger(side: float, strangers: bool) -> None:
    """59 x 59 pixels are few, 60 x 60 many: a point 0.22 of the side off the centre is in a region of 1/2.1 of it."""
    point = torch.tensor([side / 2, side * 0.72])
    assert bool(apart(torch.tensor([0.0, 0, side, side]), point, point, 0.5)) is strangers


def maps_of(corners: list[tuple[int, int, float, float]]) -> CentripetalMaps:
    """Maps with peaks at (row, column, probability, shift in cells)."""
    heat, shift = torch.full((1, 3, 16, 24), -20.0), torch.zeros(1, 2, 16, 24)
    for row, column, probability, cells in corners:
        heat[:, 1, row, column] = math.log(probability / (1 - probability))
        shift[:, :, row, column] = math.log(cells)
    nothing = torch.zeros(1, 2, 16, 24)
    return CentripetalMaps(heat, nothing, nothing, shift)


def detect(top_left: CentripetalMaps, bottom_right: CentripetalMaps) -> list[tuple[list[float], float]]:
    settings = Pairing(corner_topk=10, min_score=0.6, sigma=1e6)  # no suppression
    (found,) = head(settings).detections([CentripetalPair(top_left, bottom_right)], batch_of([]))
    return [(box, round(score, 4)) for box, score in zip(found.boxes.tolist(), found.scores.tolist(), strict=True)]


def test_corners_that_point_to_one_centre_make_a_box() -> None:
    """Corners (2, 2) and (10, 10) are 4 cells from their common centre; (4, 4) and (8, 8) are 2."""
    top_left = maps_of([(2, 2, 0.9, 4), (4, 4, 0.8, 2)])
    bottom_right = maps_of([(10, 10, 0.7, 4), (8, 8, 0.6, 2)])
    found = detect(top_left, bottom_right)
    assert ([8, 8, 40, 40], 0.8) in found
    assert ([16, 16, 32, 32], 0.7) in found


def test_corners_that_point_elsewhere_make_none() -> None:
    assert detect(maps_of([(2, 2, 0.9, 4)]), maps_of([(10, 10, 0.9, 1)])) == []
    assert detect(maps_of([(2, 2, 0.9, 8)]), maps_of([(10, 10, 0.9, 4)])) == []


# ---------------------------------------------------------------------------------------------------------- building


@attrs.frozen(eq=False)
class Root:
    model: Detector


@pytest.fixture
def built(tmp_path: Path) -> Any:
    plugins = {"detcore": components, "hourglass": hourglass, "cornernet": cornernet, "losses": losses, "own": plugin}
    entries = [Entry(record, name, "0", name) for name, each in plugins.items() for record in each.detcore_components()]

    def build(text: str) -> Any:
        (tmp_path / "a.toml").write_text(text)
        config = load(str(tmp_path / "a.toml"), resolve_dist=lambda dist, path: Path(path))
        return plan(config, Catalog(entries), Root).build("model", Flow(num_classes=5))

    return build


@pytest.fixture
def config() -> str:
    found = re.search(r"```toml\n(.*?)```", README, re.DOTALL)
    assert found is not None
    small = "stage_channels = [8, 8], stage_blocks = [1, 1], downsample_times = 1"
    return found[1].replace('"Hourglass"', f'"Hourglass", {small}')


def test_the_readme_s_head_reads_the_stacks(built: Any, config: str) -> None:
    model = built(config)
    assert len(model.head.top_left) == 2
    assert model.head.bottom_right[1].heat[1].out_channels == 5
    assert model.head.loss_guiding.reduce.factor == 0.05
    found = model.losses(batch_of([[6.0, 4, 42, 44]]))
    assert all(each.isfinite() for each in found.values())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("loss_guiding", "loss_guide", r'model\.head\.loss_guide: .*Did you mean "loss_guiding"'),
        ("local_maximum_kernel = 3", "local_maximum_kernel = 2", r"model\.head\.pairing: .*It is odd"),
    ],
)
def test_mistakes_are_named_by_address(built: Any, config: str, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        built(config.replace(old, new))
