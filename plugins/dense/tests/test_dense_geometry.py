"""Anchors, points and deltas: where the priors are and what the vectors mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from detcore.errors import ConfigError
from detcore.interfaces import Geometry
from detcore.structures import Batch
from detcore_dense.anchors import Anchors
from detcore_dense.boxes import pairwise_iou
from detcore_dense.deltas import DeltaXYWHCoder, delta_decode, delta_encode
from detcore_dense.points import Points
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor


def batch(sizes: Sequence[tuple[float, float]], padded: Sequence[tuple[float, float]]) -> Batch:
    count = len(sizes)
    return Batch(torch.zeros(count, 3, 8, 8), torch.tensor(sizes), torch.tensor(padded), torch.ones(count, 2))


def maps(*sizes: tuple[int, int]) -> list[Tensor]:
    return [torch.zeros(1, 1, *size) for size in sizes]


# ---------------------------------------------------------------------------------------------------------- anchors


def test_anchors_by_hand() -> None:
    geometry = Anchors(strides=(4, 8), scales=[2.0, 4.0], ratios=[1.0, 0.25])
    priors = geometry.priors(maps((2, 2), (1, 1)), batch([(8, 8)], [(8, 8)]))
    assert geometry.priors_per_cell == 4
    assert priors.per_level == (16, 4)
    assert priors.boxes[:4].tolist() == [[-4, -4, 4, 4], [-8, -8, 8, 8], [-8, -2, 8, 2], [-16, -4, 16, 4]]
    assert priors.boxes[4:12:4].tolist() == [[0, -4, 8, 4], [-4, 0, 4, 8]]  # along a row first, then down
    assert priors.boxes[16].tolist() == [-8, -8, 8, 8]
    assert priors.stride.tolist() == [4.0] * 16 + [8.0] * 4
    assert priors.level.tolist() == [0] * 16 + [1] * 4
    assert priors.boxes.dtype == priors.stride.dtype == torch.float32


def test_octave_scales_base_sizes_and_centre() -> None:
    geometry = Anchors(
        strides=(8,), octave_base_scale=4.0, scales_per_octave=2, ratios=[1.0], base_sizes=[10.0], center_offset=0.5
    )
    boxes = geometry.priors(maps((1, 1)), batch([(8, 8)], [(8, 8)])).boxes
    half = torch.tensor([20.0, 20 * 2**0.5])
    torch.testing.assert_close(boxes, torch.stack([5 - half, 5 - half, 5 + half, 5 + half], 1))


def test_sizes_of_each_map_and_rounded_corners() -> None:
    geometry = Anchors(strides=(4, 8), sizes=[[6.0, 9.0], [16.0, 21.0]], ratios=[1.0, 2.0])
    boxes = geometry.priors(maps((1, 1), (1, 1)), batch([(8, 8)], [(8, 8)])).boxes
    root = 2**0.5
    sides = [(6, 6), (9, 9), (6 / root, 6 * root), (9 / root, 9 * root)]
    torch.testing.assert_close(boxes[:4, 2:] * 2, torch.tensor(sides))
    torch.testing.assert_close(boxes[4:6, 2:] * 2, torch.tensor([[16.0, 16.0], [21.0, 21.0]]))
    rounded = Anchors(strides=(4, 8), sizes=[[6.0, 9.0], [16.0, 21.0]], ratios=[1.0, 2.0], rounded=True)
    boxes = rounded.priors(maps((1, 1), (1, 1)), batch([(8, 8)], [(8, 8)])).boxes
    # 4.5 and 10.5 to the even neighbour; 2.12 and 4.24, 3.18 and 6.36
    assert boxes[:6, 2:].tolist() == [[3, 3], [4, 4], [2, 4], [3, 6], [8, 8], [10, 10]]
    assert boxes[:, :2].tolist() == (-boxes[:, 2:]).tolist()


@pytest.mark.parametrize("kind", [Anchors, Points])
def test_cells_are_spread_over_the_batch(kind: Any) -> None:
    """A batch of 25 x 40 pixels: cells of 3 x 4 are 8 and 10 apart, those of 2 x 2 12 and 20; strides stay."""
    options = {"sizes": [[2.0], [2.0]], "ratios": [1.0]} if kind is Anchors else {"offset": 0.0}
    geometry = kind(strides=(10, 20), spread=True, **options)
    some = Batch(torch.zeros(1, 3, 25, 40), *(torch.tensor([[25.0, 40.0]]) for _ in range(2)), torch.ones(1, 2))
    priors = geometry.priors(maps((3, 4), (2, 2)), some)
    corners = priors.boxes[:, :2] + (1 if kind is Anchors else 0)
    assert corners[:5].tolist() == [[0, 0], [10, 0], [20, 0], [30, 0], [0, 8]]
    assert corners[12:].tolist() == [[0, 0], [20, 0], [0, 12], [20, 12]]
    assert priors.stride.unique().tolist() == [10, 20]
    usual = kind(strides=(10, 20), **options).priors(maps((3, 4), (2, 2)), some)
    assert (usual.boxes[4, 1] - usual.boxes[0, 1]).item() == 10


def test_an_anchor_is_valid_inside_the_padded_shape_and_its_border() -> None:
    features = maps((3, 3))
    some = batch([(12, 12), (5, 9)], [(12, 12), (8, 12)])
    free = Anchors(strides=(4,), scales=[1.0], ratios=[1.0])
    assert free.priors(features, some).valid.tolist() == [[True] * 9, [True] * 6 + [False] * 3]
    strict = Anchors(strides=(4,), scales=[1.0], ratios=[1.0], border=0.0, center_offset=0.5)
    # the last row and column reach exactly to 12: the upper limit is open; the second image ends at 5, 9
    assert strict.priors(features, some).valid[0].tolist() == [True, True, False, True, True, False] + [False] * 3
    assert strict.priors(features, some).valid[1].tolist() == [True, True, False] + [False] * 6
    wide = Anchors(strides=(4,), scales=[1.0], ratios=[1.0], border=1.0, center_offset=0.5)
    assert wide.priors(features, some).valid[0].all()


def test_anchors_are_made_once_per_sizes() -> None:
    geometry = Anchors(strides=(4,), scales=[1.0])
    some = batch([(8, 8)], [(8, 8)])
    first = geometry.priors(maps((2, 3)), some).boxes
    assert geometry.priors(maps((2, 3)), some).boxes is first
    assert geometry.priors(maps((3, 2)), some).boxes is not first


@pytest.mark.parametrize("geometry", [Anchors(strides=(4,), scales=[1.7]), Points(strides=(4,), offset=0.3)])
def test_priors_made_in_inference_mode_serve_training(geometry: Geometry) -> None:
    some = batch([(8, 8)], [(8, 8)])
    with torch.inference_mode():
        geometry.priors(maps((5, 7)), some)
    priors = geometry.priors(maps((5, 7)), some)
    vectors = torch.zeros(len(priors.boxes), 4, requires_grad=True)
    geometry.decode(priors.boxes, priors.stride, vectors).sum().backward()
    assert vectors.grad is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {},
            "scales: not given in exactly one way. Give scales, or octave_base_scale and scales_per_octave, or sizes.",
        ),
        ({"scales": [1.0], "sizes": [[4.0], [8.0]]}, "scales: not given in exactly one way"),
        ({"sizes": [[4.0]]}, "sizes: 1 lists for 2 maps, or lists of different lengths. Give a list for each map"),
        ({"sizes": [[4.0], [8.0, 9.0]]}, "sizes: 2 lists for 2 maps, or lists of different lengths"),
        ({"scales": [1.0], "octave_base_scale": 4.0}, "scales: not given in exactly one way"),
        ({"octave_base_scale": 4.0}, "scales: not given in exactly one way"),
        ({"scales": [1.0], "base_sizes": [4.0]}, "base_sizes: 1 for 2 maps. Give one per map."),
        ({"scales": [1.0], "ratios": [0.0]}, "not all are lists of positive numbers"),
        ({"scales": []}, "not all are lists of positive numbers"),
        ({"scales": [1.0], "stds": [1.0, 0.0, 1.0, 1.0]}, "stds: 0.0 divides deltas. Give positive numbers."),
        ({"scales": [1.0], "means": [0.0]}, "means: 1 numbers. Give four: of dx, dy, log dw and log dh."),
        ({"scales": [1.0], "wh_ratio_clip": 0.0}, "wh_ratio_clip: 0.0 as the least change of a size"),
    ],
)
def test_anchors_that_cannot_be_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Anchors(strides=(4, 8), **options)
    assert message in str(error.value)


@pytest.mark.parametrize("geometry", [Anchors(strides=(4, 8), scales=[1.0]), Points(strides=(4, 8))])
def test_more_maps_than_strides_are_an_error(geometry: Geometry) -> None:
    with pytest.raises(ConfigError, match=r"strides: 2 strides for 3 maps\. Give one"):
        geometry.priors(maps((4, 4), (2, 2), (1, 1)), batch([(8, 8)], [(8, 8)]))


# ----------------------------------------------------------------------------------------------------------- points


def test_points_by_hand() -> None:
    geometry = Points(strides=(4, 8))
    priors = geometry.priors(maps((2, 3), (1, 2)), batch([(8, 12), (4, 5)], [(8, 12), (4, 8)]))
    assert priors.boxes.tolist() == [[2, 2], [6, 2], [10, 2], [2, 6], [6, 6], [10, 6], [4, 4], [12, 4]]
    assert priors.valid.tolist() == [[True] * 8, [True, True, False, False, False, False, True, False]]
    assert priors.per_level == (6, 2)
    corner = Points(strides=(4,), offset=0.0).priors(maps((2, 2)), batch([(8, 8)], [(8, 8)]))
    assert corner.boxes.tolist() == [[0, 0], [4, 0], [0, 4], [4, 4]]


def test_distances_by_hand() -> None:
    point, stride, box = torch.tensor([10.0, 20.0]), torch.tensor(4.0), torch.tensor([4.0, 12.0, 12.0, 36.0])
    assert Points(strides=(4,)).encode(point, stride, box).tolist() == [6, 8, 2, 16]
    assert Points(strides=(4,), normalise=True).encode(point, stride, box).tolist() == [1.5, 2, 0.5, 4]
    for geometry in (Points(strides=(4,)), Points(strides=(4,), normalise=True)):
        vector = geometry.encode(point, stride, box)
        assert geometry.decode(point, stride, vector).tolist() == box.tolist()
        batched = geometry.decode(point.expand(3, 2), stride.expand(3), vector.expand(2, 3, 4))
        assert batched.shape == (2, 3, 4)


# ----------------------------------------------------------------------------------------------------------- deltas


def test_deltas_by_hand() -> None:
    box, target = torch.tensor([0.0, 0.0, 10.0, 20.0]), torch.tensor([5.0, 5.0, 25.0, 15.0])
    expected = torch.tensor([1.0, 0.0, 2.0, 0.5]).where(torch.tensor([True, True, False, False]), torch.tensor(0.0))
    expected[2:] = torch.tensor([2.0, 0.5]).log()
    torch.testing.assert_close(delta_encode(box, target), expected)
    torch.testing.assert_close(delta_decode(box, expected), target)
    coder = DeltaXYWHCoder(means=[0.5, 0.0, 0.0, 0.0], stds=[0.1, 0.1, 0.2, 0.2])
    torch.testing.assert_close(coder.encode(box, target)[:2], torch.tensor([5.0, 0.0]))
    torch.testing.assert_close(coder.decode(box, coder.encode(box, target)), target)
    assert not coder.state_dict()


def test_decoding_clips_sizes_and_where_asked_centres() -> None:
    box = torch.tensor([0.0, 0.0, 10.0, 10.0])
    wild = torch.tensor([3.0, -9.0, 50.0, -50.0])
    found = delta_decode(box, wild)
    assert (found[2] - found[0]).item() == pytest.approx(625, rel=1e-4)
    assert (found[3] - found[1]).item() == pytest.approx(0.16, rel=1e-3)
    assert ((found[:2] + found[2:]) / 2).tolist() == pytest.approx([35, -85])
    found = delta_decode(box, wild, ctr_clamp=32.0)
    assert ((found[:2] + found[2:]) / 2).tolist() == pytest.approx([35, -27])
    assert (found[3] - found[1]).item() < 1e-6


def test_deltas_per_class_broadcast() -> None:
    boxes, deltas = torch.rand(5, 1, 4).cumsum(-1), torch.randn(5, 3, 4)
    found = DeltaXYWHCoder().decode(boxes, deltas)
    torch.testing.assert_close(found[:, 1], DeltaXYWHCoder().decode(boxes[:, 0], deltas[:, 1]))


def test_boxes_without_size_have_finite_deltas() -> None:
    flat = torch.tensor([[3.0, 3.0, 3.0, 3.0], [0.0, 0.0, 4.0, 4.0]])
    assert delta_encode(flat, flat.flip(0)).isfinite().all()


side = st.floats(0.5, 300)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50), side, side), min_size=2, max_size=2))
def test_encoding_is_the_inverse_of_decoding(rows: list[tuple[float, float, float, float]]) -> None:
    corner_and_size = torch.tensor(rows, dtype=torch.float64)
    box, target = torch.cat([corner_and_size[:, :2], corner_and_size[:, :2] + corner_and_size[:, 2:]], 1)
    shrunk = (target[2:] - target[:2]) / (box[2:] - box[:2])
    if float(shrunk.min()) > 1 / 62 and float(shrunk.max()) < 62:
        torch.testing.assert_close(delta_decode(box, delta_encode(box, target)), target, atol=1e-6, rtol=1e-6)


def test_deltas_have_the_gradients_of_finite_differences() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 20], [5, 5, 25, 15]], dtype=torch.float64, requires_grad=True)
    deltas = torch.tensor([[0.1, -0.2, 0.3, 0.4]], dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(delta_decode, (boxes, deltas))
    torch.autograd.gradcheck(delta_encode, (boxes, boxes.detach().flip(0) + 1))


def test_half_precision_vectors_are_decoded_in_float32() -> None:
    anchors, stride = torch.tensor([[1000.0, 1000.0, 1003.0, 1003.0]]), torch.tensor([8.0])
    vectors = torch.tensor([[0.1, 0.1, 0.2, 0.2]]).bfloat16()
    assert Anchors(strides=(8,), scales=[1.0]).decode(anchors, stride, vectors).dtype == torch.float32
    assert Points(strides=(8,)).decode(anchors[:, :2], stride, vectors).dtype == torch.float32


def test_pairwise_iou_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 0, 0]])
    others = torch.tensor([[2.0, 0, 6, 4], [9, 9, 12, 12], [0, 0, 4, 4]])
    torch.testing.assert_close(pairwise_iou(boxes, others), torch.tensor([[1 / 3, 0, 1], [0, 0, 0]]))
    assert pairwise_iou(boxes.expand(2, 2, 4), others.expand(2, 3, 4)).shape == (2, 2, 3)
