"""RoINMSDecoder on boxes made by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detcore.structures import Detections
from detcore_roi.decoder import RoINMSDecoder

SIZE = torch.tensor([50.0, 80.0])


def square(x: float, side: float = 10.0) -> list[float]:
    return [x, 0.0, x + side, side]


def decode(boxes: Any, scores: Any, **options: Any) -> Detections:
    return RoINMSDecoder(**options)(torch.tensor(boxes), torch.tensor(scores), SIZE)


def rows(found: Detections) -> list[tuple[float, float, int]]:
    """Left side, score, label."""
    values = zip(found.boxes[:, 0].tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    return [(x, round(score, 4), label) for x, score, label in values]


def test_per_class_and_class_agnostic_suppression_where_labels_differ() -> None:
    """IoU of square(0) with square(2): 2/3; with square(4): 3/7."""
    boxes, scores = [square(0), square(2), square(4)], [[0.9, 0.0], [0.8, 0.0], [0.0, 0.7]]
    assert rows(decode(boxes, scores)) == [(0, 0.9, 0), (4, 0.7, 1)]
    boxes = [square(0), square(2), square(2)]
    assert rows(decode(boxes, scores)) == [(0, 0.9, 0), (2, 0.7, 1)]
    assert rows(decode(boxes, scores, class_agnostic=True)) == [(0, 0.9, 0)]


def test_where_all_labels_agree_both_kinds_of_suppression_do() -> None:
    boxes, scores = [square(0), square(2), square(4)], [[0.9], [0.8], [0.7]]
    assert rows(decode(boxes, scores)) == rows(decode(boxes, scores, class_agnostic=True)) == [(0, 0.9, 0), (4, 0.7, 0)]
    assert rows(decode(boxes, scores, nms_iou=0.4)) == [(0, 0.9, 0)]


def test_a_region_may_be_of_several_classes_and_has_a_box_for_each() -> None:
    boxes, scores = [[square(0), square(30)], [square(60), square(40)]], [[0.6, 0.9], [0.04, 0.5]]
    assert rows(decode(boxes, scores)) == [(30, 0.9, 1), (0, 0.6, 0), (40, 0.5, 1)]
    shared = [square(0), square(60)]
    assert rows(decode(shared, scores)) == [(0, 0.9, 1), (0, 0.6, 0), (60, 0.5, 1)]


def test_the_threshold_must_be_exceeded() -> None:
    assert rows(decode([square(0), square(20)], [[0.5], [0.5001]], score_threshold=0.5)) == [(20, 0.5001, 0)]


def test_boxes_are_clipped_to_height_and_width_before_suppression() -> None:
    boxes = [[-10.0, -10.0, 5.0, 5.0], [-90.0, -90.0, 5.0, 5.0], [70.0, 45.0, 99.0, 99.0]]
    found = decode(boxes, [[0.9], [0.8], [0.7]])
    assert found.boxes.tolist() == [[0.0, 0.0, 5.0, 5.0], [70.0, 45.0, 80.0, 50.0]]


def test_boxes_that_are_too_small_when_clipped_go_before_suppression() -> None:
    boxes = [[10.0, 0.0, 10.01, 40.0], [79.0, 0.0, 99.0, 20.0], [10.0, 0.0, 11.5, 40.0], [90.0, 0.0, 99.0, 20.0]]
    scores = [[0.9], [0.8], [0.7], [0.6]]
    assert rows(decode(boxes, scores, min_size=1.0)) == [(10, 0.7, 0)]
    assert rows(decode(boxes, scores, min_size=0.0)) == [(10, 0.9, 0), (79, 0.8, 0), (10, 0.7, 0)]
    assert len(decode(boxes, scores)) == 4


def test_of_equal_scores_the_first_region_then_the_first_class_wins() -> None:
    boxes = [square(0), square(2), square(40), square(60)]
    scores = [[0.5, 0.0], [0.5, 0.0], [0.5, 0.5], [0.5, 0.0]]
    expected = [(0, 0.5, 0), (40, 0.5, 0), (40, 0.5, 1), (60, 0.5, 0)]
    assert rows(decode(boxes, scores)) == expected
    assert rows(decode(boxes, scores, max_detections=2)) == expected[:2]
    many = [square(7.0 * index, 6) for index in range(10)]
    assert rows(decode(many, [[0.5]] * 10, max_detections=None)) == [(7.0 * index, 0.5, 0) for index in range(10)]


def test_the_best_of_the_image_are_kept() -> None:
    boxes, scores = [square(20 * index) for index in range(4)], [[0.1], [0.4], [0.3], [0.2]]
    assert rows(decode(boxes, scores, max_detections=2)) == [(20, 0.4, 0), (40, 0.3, 0)]
    assert len(decode(boxes, scores, max_detections=None)) == 4


@pytest.mark.parametrize("boxes", [torch.zeros(0, 4), torch.zeros(0, 3, 4), torch.zeros(5, 3, 4)])
def test_nothing_found(boxes: torch.Tensor) -> None:
    found = RoINMSDecoder()(boxes, torch.zeros(len(boxes), 3), SIZE)
    assert (found.boxes.shape, found.scores.shape, found.labels.shape) == ((0, 4), (0,), (0,))
    assert found.labels.dtype == torch.int64
