"""The assigner against loops over the paper's algorithm 1 in float64; the towers."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
import torch
from detcore.errors import ConfigError
from detcore.interfaces import Assigner, HeadNetwork
from detcore.layers import GN
from detcore.structures import BACKGROUND, IGNORED, Batch, Matches, Priors, Regions, Targets
from detcore_atss import atss
from detcore_atss.atss import ATSSAssigner, ATSSTowers
from detcore_atss.plugin import detcore_components
from detcore_dense.anchors import Anchors
from torch import Tensor

STRIDES = (8, 16, 32)


def batch(objects: list[Tensor], size: float = 96, padded: float | None = None) -> Batch:
    """Per image its objects (G, 4)."""
    most = max(map(len, objects))
    boxes, valid = torch.zeros(len(objects), most, 4), torch.zeros(len(objects), most, dtype=torch.bool)
    for image, each in enumerate(objects):
        boxes[image, : len(each)], valid[image, : len(each)] = each, True
    sizes = torch.full((len(objects), 2), size)
    inside = sizes if padded is None else torch.full_like(sizes, padded)
    targets = Targets(boxes, valid.long(), valid, torch.zeros_like(valid))
    return Batch(torch.zeros(len(objects), 3, 1, 1), sizes, inside, torch.ones_like(sizes), targets=targets)


def anchors(given: Batch, ratios: tuple[float, ...] = (1.0,), border: float | None = None, size: int = 96) -> Priors:
    geometry = Anchors(strides=STRIDES, scales=[4.0], ratios=ratios, border=border)
    maps = [torch.zeros(1, 1, size // stride, size // stride) for stride in STRIDES]
    return geometry.priors(maps, given)


def flat_priors(boxes: list[list[float]]) -> Priors:
    """Priors of one level."""
    count = len(boxes)
    level, valid = torch.zeros(count, dtype=torch.int64), torch.ones(1, count, dtype=torch.bool)
    return Priors(torch.tensor(boxes, dtype=torch.float32), torch.full((count,), 8.0), level, valid, (count,))


def assign(priors: Priors, given: Batch, topk: int = 9) -> Matches:
    return ATSSAssigner(topk=topk)(Regions(priors), given)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inside = max(width, 0.0) * max(height, 0.0)
    return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)


def middle(box: np.ndarray) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def algorithm_1(priors: Priors, boxes: np.ndarray, valid: np.ndarray, topk: int) -> tuple[list[int], list[float]]:
    """One image, line by line."""
    rows = priors.boxes.double().numpy()
    index = [BACKGROUND if each else IGNORED for each in valid]
    quality = [0.0] * len(rows)
    for number, box in enumerate(boxes):
        candidates: list[int] = []
        start = 0
        for size in priors.per_level:
            level = [row for row in range(start, start + size) if valid[row]]
            candidates += sorted(level, key=lambda row: math.dist(middle(rows[row]), middle(box)))[:topk]
            start += size
        if not candidates:
            continue
        overlaps = [overlap(rows[row], box) for row in candidates]
        threshold = np.mean(overlaps) + (np.std(overlaps, ddof=1) if len(overlaps) > 1 else 0.0)
        for row, iou in zip(candidates, overlaps, strict=True):
            x, y = middle(rows[row])
            within = min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 0.01
            if iou >= threshold and within and (index[row] < 0 or iou > quality[row]):
                index[row], quality[row] = number, iou
    return index, quality


def random_objects(count: int, seed: int) -> Tensor:
    """Away from the grid's symmetries, so that no two anchors are equally far."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 60
    return torch.cat([corner, corner + 4 + torch.rand(count, 2, generator=generator) * 60], 1)


# ---------------------------------------------------------------------------------------------------------- assignment


@pytest.mark.parametrize("padded", [96.0, 64.0, 8.0])
@pytest.mark.parametrize(("topk", "ratios", "border"), [(9, (1.0,), None), (4, (0.5, 1.3), None), (3, (1.0,), 4.0)])
def test_it_is_the_papers_algorithm(topk: int, ratios: tuple[float, ...], border: float | None, padded: float) -> None:
    given = batch([random_objects(12, 0), random_objects(1, 1), random_objects(5, 2)], padded=padded)
    priors = anchors(given, ratios, border)
    found = assign(priors, given, topk)
    assert found.quality is not None
    for image, (boxes, valid) in enumerate(zip(given.truth.boxes, given.truth.valid, strict=True)):
        usable = priors.valid[image].numpy()
        index, quality = algorithm_1(priors, boxes[valid].double().numpy(), usable, topk)
        assert found.index[image].tolist() == index
        np.testing.assert_allclose(found.quality[image].numpy(), quality, atol=1e-5)
    if padded > 8:
        assert found.positive.any()


def test_the_threshold_is_mean_plus_deviation_by_hand() -> None:
    """Overlaps 1, 0.5, 0.25 and 0: mean 0.4375, deviation 0.427; only the first reaches 0.864."""
    priors = flat_priors([[0, 0, 8, 8], [0, 0, 8, 16], [0, 0, 16, 16], [40, 0, 48, 8]])
    found = assign(priors, batch([torch.tensor([[0.0, 0, 8, 8]])]))
    assert found.index.tolist() == [[0, -1, -1, -1]]
    assert found.quality is not None
    assert found.quality.tolist() == [[1, 0, 0, 0]]


def test_the_centre_lies_inside_its_object() -> None:
    """The anchor's centre (4, 4) is on the object's edge, a hundredth inside, or clearly inside."""
    priors = flat_priors([[0, 0, 8, 8]])
    for left, expected in ((4.0, -1), (3.995, -1), (3.9, 0)):
        found = assign(priors, batch([torch.tensor([[left, 0.0, 14.0, 8.0]])]))
        assert found.index.tolist() == [[expected]]


def test_an_anchor_of_several_objects_takes_the_one_it_overlaps_most_then_the_first() -> None:
    priors = flat_priors([[0, 0, 8, 8]])
    objects = torch.tensor([[0.0, 0, 8, 12], [0, 0, 8, 9], [0, 0, 9, 8]])
    found = assign(priors, batch([objects]))
    assert found.index.tolist() == [[1]]
    assert found.quality is not None
    assert found.quality.item() == pytest.approx(8 / 9)


def test_without_objects_all_valid_anchors_are_background() -> None:
    nothing = torch.zeros(0, 4)
    for given in (batch([nothing, nothing], padded=64), batch([nothing, random_objects(2, 0)], padded=64)):
        priors = anchors(given)
        index = assign(priors, given).index
        assert torch.equal(index[0], torch.where(priors.valid[0], BACKGROUND, IGNORED))


def test_crowds_and_padding_rows_get_no_anchor() -> None:
    given = batch([random_objects(3, 5), random_objects(3, 6)])
    given.truth.valid[0, 1] = False
    index = assign(anchors(given), given).index
    assert set(index[0].tolist()) == {-1, 0, 2}
    assert set(index[1].tolist()) == {-1, 0, 1, 2}


def test_no_anchors_at_all() -> None:
    found = assign(Priors(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), torch.zeros(1, 0, dtype=torch.bool), (0,)),
                   batch([random_objects(2, 0)]))  # fmt: skip
    assert found.index.shape == (1, 0)


def test_anchors_of_their_own_for_each_image() -> None:
    given = batch([random_objects(4, 7), random_objects(4, 8)])
    shared = anchors(given)
    own = Priors(shared.boxes.expand(2, -1, 4), shared.stride, shared.level, shared.valid, shared.per_level)
    assert torch.equal(assign(own, given).index, assign(shared, given).index)


def test_objects_are_looked_at_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    given = batch([random_objects(7, 9), random_objects(6, 10)])
    priors = anchors(given)
    whole = assign(priors, given)
    monkeypatch.setattr(atss, "PAIRS_AT_ONCE", priors.valid.numel() * 3)
    assert torch.equal(assign(priors, given).index, whole.index)


def test_a_compiled_assigner_gives_the_same_matches() -> None:
    given = batch([random_objects(5, 12), random_objects(2, 13)])
    priors, assigner = anchors(given), ATSSAssigner()

    def matches(boxes: Tensor) -> Matches:
        return assigner(Regions(Priors(boxes, priors.stride, priors.level, priors.valid, priors.per_level)), given)

    expected = matches(priors.boxes)
    found = torch.compile(matches, backend="eager", fullgraph=True)(priors.boxes)
    assert torch.equal(found.index, expected.index)
    assert found.quality is not None
    torch.testing.assert_close(found.quality, expected.quality)


def test_half_precision_anchors_are_measured_in_full() -> None:
    given = batch([random_objects(5, 11)])
    priors = anchors(given)
    half = Priors(priors.boxes.half(), priors.stride, priors.level, priors.valid, priors.per_level)
    found = assign(half, given)
    assert found.quality is not None
    assert found.quality.dtype == torch.float32
    assert torch.equal(found.index, assign(priors, given).index)


def test_points_and_no_candidates_are_errors() -> None:
    given = batch([random_objects(1, 0)])
    points = Priors(torch.zeros(4, 2), torch.ones(4), torch.zeros(4), torch.ones(1, 4, dtype=torch.bool), (4,))
    with pytest.raises(ConfigError, match=r"ATSSAssigner: the priors are points.*geometry of boxes \(Anchors\)"):
        assign(points, given)
    with pytest.raises(ConfigError, match=r"ATSSAssigner: topk: 0 candidates per level.*one at least"):
        ATSSAssigner(topk=0)


# ---------------------------------------------------------------------------------------------------------- the network


def towers(**options: object) -> ATSSTowers:
    shapes = {
        "in_channels": 6, "strides": (8, 16), "class_channels": 5, "box_channels": 4, "priors_per_cell": 3,
        "channels": 32,
    }  # fmt: skip
    return ATSSTowers(**(shapes | options))  # type: ignore[arg-type]


def test_components_are_what_they_say() -> None:
    kinds = {"assigner": Assigner, "head_network": HeadNetwork}
    for component in detcore_components():
        module, name = component.target.split(":")
        assert issubclass(getattr(importlib.import_module(module), name), kinds[component.kind])


def test_maps_of_every_level() -> None:
    raw = towers()([torch.randn(2, 6, 8, 7), torch.randn(2, 6, 1, 1)])
    for name, channels in (("cls", 15), ("box", 12), ("centerness", 3)):
        assert [tuple(level.shape) for level in raw[name]] == [(2, channels, 8, 7), (2, channels, 1, 1)]


def test_a_scale_of_its_own_per_level_multiplies_the_boxes() -> None:
    network = towers()
    maps = [torch.randn(1, 6, 4, 4)] * 2
    before = network(maps)
    with torch.no_grad():
        network.scales[1].fill_(3.0)
    after = network(maps)
    torch.testing.assert_close(after["box"][1], 3 * before["box"][1])
    assert torch.equal(after["box"][0], before["box"][0])
    assert torch.equal(after["centerness"][1], before["centerness"][1])


def test_centerness_is_from_the_box_tower() -> None:
    network = towers()
    network([torch.randn(1, 6, 4, 4)] * 2)["centerness"][0].sum().backward()
    reached = {name.split(".")[0] for name, value in network.named_parameters() if value.grad is not None}
    assert reached == {"reg_convs", "conv_centerness"}


def test_classes_start_at_the_prior_probability_and_convolutions_have_a_bias_without_norm() -> None:
    network = towers(norm=None, stacked_convs=1)
    logits = network([torch.zeros(1, 6, 4, 4)] * 2)["cls"][0]
    torch.testing.assert_close(logits.sigmoid(), torch.full((1, 15, 4, 4), 0.01))
    assert "cls_convs.0.conv.bias" in network.state_dict()
    assert "cls_convs.0.conv.bias" not in towers(norm=lambda channels: GN(channels, num_groups=2)).state_dict()


def test_another_number_of_maps_than_of_strides_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"ATSSTowers: strides: 1 maps for 2 strides.*one stride per map"):
        towers()([torch.zeros(1, 6, 4, 4)])
