"""Soft-NMS against a loop, and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from detcore_cornernet.soft_nms import iou, soft_nms
from torch import Tensor
from torchvision.ops import box_iou


def looped(boxes: Tensor, scores: Tensor, labels: Tensor, sigma: float, min_score: float) -> list[tuple[int, float]]:
    left = {row: score for row, score in enumerate(scores.tolist()) if score >= min_score}
    overlaps = box_iou(boxes, boxes)
    taken = []
    while left:
        best = max(left, key=lambda row: left[row])
        taken.append((best, left.pop(best)))
        for row in list(left):
            if labels[row] == labels[best]:
                left[row] *= math.exp(-(float(overlaps[best, row]) ** 2) / sigma)
            if left[row] < min_score:
                del left[row]
    return taken


@pytest.mark.parametrize("sigma", [0.1, 0.5])
def test_all_images_at_once_are_each_as_a_loop_has_them(sigma: float) -> None:
    torch.manual_seed(0)
    boxes = torch.rand(3, 40, 2, 2).sort(2).values.flatten(2) * 30
    scores, labels = torch.rand(3, 40), torch.randint(0, 2, (3, 40))
    index, kept = soft_nms(boxes, scores, labels, sigma=sigma, min_score=0.05, max_detections=40)
    for image in range(3):
        expected = looped(boxes[image], scores[image], labels[image], sigma, 0.05)
        there = kept[image] >= 0
        assert index[image, there].tolist() == [row for row, _ in expected]
        torch.testing.assert_close(kept[image, there], torch.tensor([score for _, score in expected]))
    first = soft_nms(boxes, scores, labels, sigma=sigma, min_score=0.05, max_detections=7)
    assert torch.equal(first[0], index[:, :7])
    assert torch.equal(first[1], kept[:, :7])


def test_a_box_of_the_class_falls_by_the_gaussian_of_its_overlap_and_others_do_not() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 5]]])
    _, scores = soft_nms(boxes, torch.tensor([[0.9, 0.8, 0.7]]), torch.tensor([[1, 1, 2]]), sigma=0.5)
    assert scores[0].tolist() == pytest.approx([0.9, 0.7, 0.8 * math.exp(-0.5)])


def test_rows_that_are_no_candidates_are_never_taken() -> None:
    boxes, labels = torch.zeros(1, 3, 4), torch.zeros(1, 3, dtype=torch.int64)
    _, scores = soft_nms(boxes, torch.tensor([[-1.0, 0.5, -1.0]]), labels, min_score=0.0, sigma=1e-9)
    assert scores[0].tolist() == [0.5, -1, -1]


def test_no_boxes_give_nothing() -> None:
    index, scores = soft_nms(torch.zeros(2, 0, 4), torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.int64))
    assert index.shape == scores.shape == (2, 0)


def test_the_overlap_is_torchvision_s_and_of_empty_boxes_zero() -> None:
    boxes = torch.rand(20, 2, 2).sort(1).values.flatten(1)
    torch.testing.assert_close(iou(boxes[:, None], boxes), box_iou(boxes, boxes))
    assert float(iou(torch.zeros(4), torch.zeros(4))) == 0
