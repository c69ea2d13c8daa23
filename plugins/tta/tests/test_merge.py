"""Fused boxes, scores and masks: by hand, against loops, and what never mixes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from detcore.structures import Detections
from detcore_tta.merge import Merger, NMSMerger, WeightedBoxFusion, moved_masks, together
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

Row = tuple[list[float], float, int]
"""Box, score, label."""


def view(*rows: Row, masks: Tensor | None = None) -> Detections:
    return Detections(
        torch.tensor([box for box, _, _ in rows], dtype=torch.float32).view(-1, 4),
        torch.tensor([score for _, score, _ in rows], dtype=torch.float32).view(-1),
        torch.tensor([label for _, _, label in rows], dtype=torch.int64),
        masks,
    )


# ------------------------------------------------------------------------------------------------- boxes and scores


def test_two_views_by_hand() -> None:
    first = view(([50, 50, 60, 60], 0.9, 0), ([0, 0, 10, 10], 0.8, 0))
    second = view(([1, 0, 11, 10], 0.4, 0))  # overlaps the second by 90 / 110
    fused = WeightedBoxFusion().merge([first, second])
    assert fused.scores.tolist() == pytest.approx([0.6, 0.45])  # the mean of both; half, as one of two views sees it
    third = 1 / 3
    assert fused.boxes.tolist() == [pytest.approx([third, 0, 10 + third, 10]), [50, 50, 60, 60]]
    assert fused.labels.tolist() == [0, 0]
    assert fused.masks is None


def test_a_cluster_with_more_boxes_than_views_is_not_worth_more() -> None:
    rows = [([0.0, 0, 10, 10], 0.9, 2), ([0.0, 0, 10, 10], 0.6, 2), ([0.0, 0, 10, 10], 0.3, 2)]
    fused = WeightedBoxFusion().merge([view(*rows[:2]), view(rows[2])])
    assert fused.scores.tolist() == pytest.approx([0.6])  # the mean; not times 3 / 2


def test_a_box_joins_the_fused_box_and_not_its_first_member() -> None:
    """The third overlaps the first by 3 / 7, the mean of the first two by more than half."""
    rows = [([0.0, 0, 10, 10], 0.9, 0), ([3.0, 0, 13, 10], 0.89, 0), ([4.0, 0, 14, 10], 0.1, 0)]
    assert len(WeightedBoxFusion(iou_threshold=0.5).merge([view(each) for each in rows])) == 1
    assert len(WeightedBoxFusion(iou_threshold=0.5).merge([view(rows[0]), view(rows[2])])) == 2


def test_an_overlap_of_the_threshold_is_none() -> None:
    one, other = view(([0.0, 0, 4, 4], 0.9, 0)), view(([0.0, 0, 4, 2], 0.8, 0))
    assert len(WeightedBoxFusion(iou_threshold=0.5).merge([one, other])) == 2
    assert len(WeightedBoxFusion(iou_threshold=0.49).merge([one, other])) == 1


def test_what_nothing_joins_comes_out_as_it_went_in() -> None:
    boxes = torch.rand(50, 4) * 5 + torch.arange(50)[:, None] * 20 + torch.tensor([0.0, 0, 6, 6])
    alone = Detections(boxes, torch.rand(50), torch.randint(3, (50,)))
    fused = WeightedBoxFusion().merge([alone])
    order = alone.scores.argsort(descending=True)
    for name in ("boxes", "scores", "labels"):
        assert torch.equal(getattr(fused, name), getattr(alone, name)[order])


@pytest.mark.parametrize("merger", [WeightedBoxFusion(), NMSMerger()])
def test_classes_never_mix(merger: Merger) -> None:
    rows = [([0.0, 0, 10, 10], 0.9, 0), ([0.0, 0, 10, 10], 0.8, 1), ([0.0, 0, 10, 10], 0.7, 1)]
    merged = merger.merge([view(*rows[:2]), view(rows[2])])
    assert sorted(merged.labels.tolist()) == [0, 1]


def test_low_scores_take_no_part() -> None:
    rows = [([0.0, 0, 10, 10], 0.5, 0), ([0.0, 0, 10, 10], 0.1, 0), ([50.0, 0, 60, 10], 0.2, 0)]
    fused = WeightedBoxFusion(score_threshold=0.2).merge([view(*rows)])
    assert fused.scores.tolist() == pytest.approx([0.5, 0.2])
    assert len(WeightedBoxFusion(score_threshold=0.6).merge([view(*rows)])) == 0


def test_scores_of_nothing_are_no_harm() -> None:
    fused = WeightedBoxFusion().merge([view(([0.0, 0, 10, 10], 0.0, 0)), view(([2.0, 0, 12, 10], 0.0, 0))])
    assert (fused.boxes.tolist(), fused.scores.tolist()) == ([[1, 0, 11, 10]], [0])


def test_of_boxes_that_overlap_nms_keeps_the_best_and_its_mask() -> None:
    masks = torch.rand(3, 4, 4)
    first = view(([0.0, 0, 10, 10], 0.3, 0), ([50.0, 50, 60, 60], 0.9, 0), masks=masks[:2])
    second = view(([1.0, 0, 11, 10], 0.8, 0), masks=masks[2:])
    merged = NMSMerger().merge([first, second])
    assert merged.boxes.tolist() == [[50, 50, 60, 60], [1, 0, 11, 10]]
    assert merged.scores.tolist() == pytest.approx([0.9, 0.8])
    assert torch.equal(merged.masks, masks[1:])  # type: ignore[arg-type]


@pytest.mark.parametrize("merger", [WeightedBoxFusion(), NMSMerger()])
@pytest.mark.parametrize("masks", [None, torch.zeros(0, 28, 28)])
def test_views_that_find_nothing(merger: Merger, masks: Tensor | None) -> None:
    nothing = view(masks=masks)
    merged = merger.merge([nothing, nothing])
    assert (merged.boxes.shape, merged.labels.dtype, len(merged)) == ((0, 4), torch.int64, 0)
    assert (merged.masks is None) == (masks is None)
    some = view(([0.0, 0, 10, 10], 0.8, 1), masks=None if masks is None else torch.ones(1, 28, 28))
    for views in ([nothing, some], [some, nothing]):
        merged = merger.merge(views)
        assert merged.boxes.tolist() == [[0, 0, 10, 10]]
        assert merged.scores.tolist() == pytest.approx([0.4 if isinstance(merger, WeightedBoxFusion) else 0.8])
        assert (merged.masks is None) == (masks is None)


def test_masks_are_there_only_where_none_lacks_one() -> None:
    row = ([0.0, 0, 10, 10], 0.8, 1)
    assert together([view(row), view(row, masks=torch.ones(1, 4, 4))]).masks is None


# ------------------------------------------------------------------------------------------ against a reference of loops


def reference(rows: Sequence[Row], views: int, threshold: float) -> list[Row]:
    """Section 3 of the paper, one box after the other."""
    clusters: list[list[Row]] = []
    for box, score, label in sorted(rows, key=lambda row: -row[1]):
        best, chosen = threshold, None
        for number, cluster in enumerate(clusters):
            overlap = overlap_of(box, mean(cluster)) if cluster[0][2] == label else 0.0
            assume(abs(overlap - best) > 1e-9)  # where rounding decides, either is right
            if overlap > best:
                best, chosen = overlap, number
        if chosen is None:
            clusters.append([(box, score, label)])
        else:
            clusters[chosen].append((box, score, label))
    fused = []
    for cluster in clusters:
        score = math.fsum(score for _, score, _ in cluster) / len(cluster)
        fused.append((mean(cluster), score * min(len(cluster), views) / views, cluster[0][2]))
    return sorted(fused, key=lambda row: -row[1])


def mean(cluster: Sequence[Row]) -> list[float]:
    total = math.fsum(score for _, score, _ in cluster)
    return [math.fsum(score * box[side] for box, score, _ in cluster) / total for side in range(4)]


def overlap_of(one: Sequence[float], other: Sequence[float]) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(wide, 0) * max(high, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


@st.composite
def detections(draw: st.DrawFn) -> list[list[Row]]:
    """Boxes of three classes around a few places, in up to three views; no two scores are equal."""
    count = draw(st.integers(0, 14))
    scores = draw(st.lists(st.integers(1, 999), min_size=count, max_size=count, unique=True))
    views: list[list[Row]] = [[] for _ in range(draw(st.integers(1, 3)))]
    for score in scores:
        x, y = draw(st.sampled_from([(10, 10), (18, 12), (60, 40)]))
        left, top = x + draw(st.integers(-40, 40)) / 8, y + draw(st.integers(-40, 40)) / 8
        wide, high = draw(st.integers(80, 240)) / 8, draw(st.integers(80, 240)) / 8
        row = ([left, top, left + wide, top + high], score / 1024, draw(st.integers(0, 2)))
        draw(st.sampled_from(views)).append(row)
    return views


@settings(max_examples=150, deadline=None)
@given(detections(), st.sampled_from([0.3, 0.55, 0.7]))
def test_fusion_is_that_of_plain_loops(views: list[list[Row]], threshold: float) -> None:
    fused = WeightedBoxFusion(iou_threshold=threshold).merge([view(*rows) for rows in views])
    expected = reference([row for rows in views for row in rows], len(views), threshold)
    assert len(fused) == len(expected)
    assert fused.scores.tolist() == pytest.approx([score for _, score, _ in expected], abs=1e-6)
    left = [(box, label) for box, _, label in expected]
    for box, label in zip(fused.boxes.tolist(), fused.labels.tolist(), strict=True):
        left.remove(next(each for each in left if each[1] == label and each[0] == pytest.approx(box, abs=1e-3)))


# ------------------------------------------------------------------------------------------------------------ masks


def test_masks_of_one_box_are_averaged_by_scores() -> None:
    masks = torch.rand(2, 5, 7)
    rows = [([3.0, 4, 13, 24], 0.75, 0), ([3.0, 4, 13, 24], 0.25, 0)]
    fused = WeightedBoxFusion().merge([view(rows[0], masks=masks[:1]), view(rows[1], masks=masks[1:])])
    torch.testing.assert_close(fused.masks, (0.75 * masks[0] + 0.25 * masks[1])[None])


def test_masks_follow_their_boxes_by_hand() -> None:
    """The fused box is 0 to 12: half of it is of the left box alone, which says 1, the rest of both or of the right."""
    left, right = ([0.0, 0, 8, 4], 0.5, 0), ([0.0, 0, 16, 4], 0.5, 0)
    masks = torch.ones(2, 1, 4)
    fused = WeightedBoxFusion(iou_threshold=0.4).merge([view(left, masks=masks[:1]), view(right, masks=masks[1:])])
    assert fused.boxes.tolist() == [[0, 0, 12, 4]]
    # Centres of the four cells: 1.5, 4.5, 7.5, 10.5. The left mask's cells are 2 wide, the last one's centre at 7; from
    # there it falls to 0 at 9. The right one's cells are 4 wide and its edges far; but at 1.5 it still rises from -2 to 2.
    left_values, right_values = [1, 1, 0.75, 0], [0.875, 1, 1, 1]
    expected = [(one + other) / 2 for one, other in zip(left_values, right_values, strict=True)]
    assert fused.masks is not None
    assert fused.masks[0, 0].tolist() == pytest.approx(expected)


def bilinear(mask: Tensor, row: float, column: float) -> float:
    """Between the centres of cells, which zeros surround; in cells."""
    value = 0.0
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            value += float(mask[i, j]) * max(0.0, 1 - abs(row - i - 0.5)) * max(0.0, 1 - abs(column - j - 0.5))
    return value


def test_moved_masks_are_those_of_plain_loops() -> None:
    torch.manual_seed(0)
    masks = torch.rand(4, 5, 3)
    corner = torch.rand(2, 4, 2) * 10
    boxes, into = (torch.cat([each, each + 4 + torch.rand(4, 2) * 10], 1) for each in corner)
    moved = moved_masks(masks, boxes, into)
    for mask, box, to, found in zip(masks, boxes.tolist(), into.tolist(), moved, strict=True):
        for i in range(5):
            for j in range(3):
                x, y = to[0] + (j + 0.5) / 3 * (to[2] - to[0]), to[1] + (i + 0.5) / 5 * (to[3] - to[1])
                column, row = (x - box[0]) / (box[2] - box[0]) * 3, (y - box[1]) / (box[3] - box[1]) * 5
                assert float(found[i, j]) == pytest.approx(bilinear(mask, row, column), abs=1e-4)
    torch.testing.assert_close(moved_masks(masks, boxes, boxes), masks, atol=1e-5, rtol=0)


def test_masks_stay_with_their_objects_when_scores_reorder_them() -> None:
    masks = torch.stack([torch.full((4, 4), 0.2), torch.full((4, 4), 0.6), torch.full((4, 4), 0.6)])
    first = view(([0.0, 0, 10, 10], 0.9, 0), ([50.0, 50, 60, 60], 0.8, 0), masks=masks[:2])
    second = view(([50.0, 50, 60, 60], 0.7, 0), masks=masks[2:])
    fused = WeightedBoxFusion().merge([first, second])
    assert fused.boxes[:, 0].tolist() == [50, 0]  # what both see is better now
    assert fused.masks is not None
    assert fused.masks.mean((1, 2)).tolist() == pytest.approx([0.6, 0.2])


@pytest.mark.parametrize("merger", [WeightedBoxFusion, NMSMerger])
def test_thresholds_are_shares(merger: type[Merger]) -> None:
    from detcore import signature

    read = signature.read(merger, lambda interface: None)
    with pytest.raises(signature.Mismatch):
        signature.convert(1.5, read.parameters["iou_threshold"].hint)
