"""NMSDecoder and RPNDecoder on predictions made by hand: each prior is a box, each vector the shift of nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from detcore.errors import ConfigError
from detcore.structures import Batch, Detections, Predictions, Priors
from detcore_dense.decoders import BLOCK, NMSDecoder, RPNDecoder, best_per_level, nms
from detcore_dense.deltas import delta_decode, delta_encode
from torch import Tensor


def logit(probability: Tensor) -> Tensor:
    return torch.logit(probability.double(), eps=1e-12).float()


def predictions(
    boxes: Sequence[Sequence[float]],
    scores: Sequence[Sequence[Sequence[float]]],
    per_level: Sequence[int] | None = None,
    *,
    softmax: bool = False,
    logits: Tensor | None = None,
    **more: Sequence[Sequence[float]],
) -> Predictions:
    """(P, 4) boxes and (B, P, C) class probabilities; ``more``: other probabilities (B, P)."""
    prior_boxes, probabilities = torch.tensor(boxes, dtype=torch.float32), torch.tensor(scores)
    per_level = [len(boxes)] if per_level is None else per_level
    images = len(probabilities)

    def levels(values: Tensor) -> list[Tensor]:
        """(B, P, K) -> per level (B, K, 1, P_l)."""
        return [level.transpose(1, 2)[:, :, None] for level in values.split(list(per_level), 1)]

    if logits is None:
        logits = probabilities.log() if softmax else logit(probabilities)
    level = torch.cat([torch.full((count,), number) for number, count in enumerate(per_level)])
    raw = {"cls": levels(logits), "box": levels(torch.zeros(images, len(boxes), 4))}
    raw |= {name: levels(logit(torch.tensor(values))[..., None]) for name, values in more.items()}
    return Predictions(
        raw=raw,
        priors=Priors(prior_boxes, torch.ones(len(boxes)), level, torch.ones(images, len(boxes)) > 0, per_level),
        encode=lambda priors, stride, targets: delta_encode(priors, targets),
        decode=lambda priors, stride, vectors: delta_decode(priors, vectors),
        softmax=softmax,
        priors_per_cell=1,
    )


def batch(images: int = 1, size: tuple[float, float] = (1000.0, 1000.0)) -> Batch:
    sizes = torch.tensor([size] * images)
    return Batch(torch.zeros(images, 3, 8, 8), sizes, sizes, torch.ones(images, 2))


def square(x: float, side: float = 10.0) -> list[float]:
    return [x, 0.0, x + side, side]


def rows(found: Detections) -> list[tuple[float, int, float]]:
    """Left side, label and score of each detection."""
    return [
        (round(box[0], 2), label, round(score, 4))
        for box, label, score in zip(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True)
    ]


APART = [square(100.0 * place) for place in range(6)]


# ----------------------------------------------------------------------------------------------------- NMSDecoder


def test_the_threshold_is_to_be_exceeded_and_a_prior_may_give_several_classes() -> None:
    given = predictions(APART[:2], [[[0.6, 0.3], [0.1, 0.25]]])
    assert rows(NMSDecoder(score_threshold=0.2)(given, batch())[0]) == [(0, 0, 0.6), (0, 1, 0.3), (100, 1, 0.25)]
    half = predictions(APART[:1], [[[0.5, 0.75]]])  # a sigmoid of 0 is 0.5 exactly
    assert rows(NMSDecoder(score_threshold=0.5)(half, batch())[0]) == [(0, 1, 0.75)]


def test_nms_is_per_class_unless_class_agnostic() -> None:
    boxes = [square(0), square(1), square(2)]  # IoUs with the first: 9/11, 2/3
    given = predictions(boxes, [[[0.9, 0.0], [0.0, 0.8], [0.7, 0.6]]])
    assert rows(NMSDecoder(nms_iou=0.5)(given, batch())[0]) == [(0, 0, 0.9), (1, 1, 0.8)]
    assert rows(NMSDecoder(nms_iou=0.7)(given, batch())[0]) == [(0, 0, 0.9), (1, 1, 0.8), (2, 0, 0.7)]
    assert rows(NMSDecoder(nms_iou=0.5, class_agnostic=True)(given, batch())[0]) == [(0, 0, 0.9)]


@pytest.mark.parametrize("count", [0, 1, 2, 50, 3000])
def test_graphs_suppress_the_same(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They move groups apart however many boxes there are, and put two boxes first, which are not kept."""
    generator = torch.Generator().manual_seed(count)
    corner, size = torch.rand(2, count, 2, generator=generator) * torch.tensor([[[300.0]], [[80.0]]])
    scores, groups = torch.rand(count, generator=generator), torch.arange(count) % 4
    given = torch.cat([corner, corner + size], 1), scores, groups, 0.5, None
    wanted = nms(*given)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch.equal(nms(*given), wanted)
    assert (len(wanted) < count) == (count >= 50)  # some do go


def test_of_equal_scores_the_first_prior_wins_and_comes_first() -> None:
    boxes = [square(1), square(0), square(2), *APART[1:]]
    given = predictions(boxes, [[[0.5]] * 8], [3, 5])
    decoder = NMSDecoder(nms_iou=0.5)
    assert [row[0] for row in rows(decoder(given, batch())[0])] == [1, 100, 200, 300, 400, 500]
    assert [row[0] for row in rows(NMSDecoder(max_detections=2)(given, batch())[0])] == [1, 100]


def test_many_boxes_of_equal_scores_keep_their_order() -> None:
    """Above 1,000 boxes torchvision takes another way through its NMS."""
    boxes = [square(20.0 * place) for place in range(3000)]
    given = predictions(boxes, [[[0.5]] * 3000])
    found = NMSDecoder(nms_pre=None, max_detections=None)(given, batch(size=(100.0, 1e6)))[0]
    assert [row[0] for row in rows(found)] == [20.0 * place for place in range(3000)]


def test_the_best_pairs_of_each_level_remain() -> None:
    given = predictions(APART, [[[0.9, 0.8], [0.7, 0.1], [0.95, 0.1], [0.3, 0.2], [0.4, 0.1], [0.1, 0.1]]], [3, 3])
    found = rows(NMSDecoder(nms_pre=2, score_threshold=0.0)(given, batch())[0])
    assert found == [(200, 0, 0.95), (0, 0, 0.9), (400, 0, 0.4), (300, 0, 0.3)]
    assert len(NMSDecoder(nms_pre=None, score_threshold=0.0)(given, batch())[0]) == 12


@pytest.mark.parametrize("count", [1, 7, 300, None])
def test_the_best_of_many_are_those_of_sorting_all(count: int | None) -> None:
    per_level = [1000 * BLOCK + 5, 2 * 300 * BLOCK, 14 * BLOCK - 1, 40, 3]
    scores = torch.stack([torch.randperm(sum(per_level)), torch.arange(sum(per_level))]).float()
    found = best_per_level(scores, per_level, count).split([min(count or size, size) for size in per_level], 1)
    for own, level, start in zip(
        found, scores.split(per_level, 1), [0, *torch.tensor(per_level).cumsum(0)], strict=False
    ):
        best = level.argsort(1, descending=True)[:, :count] + start
        assert torch.equal(own, best.sort().values)


def test_the_quality_multiplies_after_threshold_and_top_k() -> None:
    scores, quality = [[[0.9], [0.8], [0.2]]], [[0.1, 0.5, 1.0]]
    given = predictions(APART[:3], scores, centerness=quality)
    decoder = NMSDecoder(score_threshold=0.15, nms_pre=2, quality="centerness")
    assert rows(decoder(given, batch())[0]) == [(100, 0, 0.4), (0, 0, 0.09)]


def test_the_geometric_mean_with_the_quality_comes_before_threshold_and_top_k() -> None:
    scores, quality = [[[0.9, 0.16], [0.8, 0.1], [0.2, 0.05]]], [[0.1, 0.5, 1.0]]
    given = predictions(APART[:3], scores, centerness=quality)
    decoder = NMSDecoder(score_threshold=0.25, nms_pre=3, quality="centerness", geometric=True)
    assert rows(decoder(given, batch())[0]) == [(100, 0, 0.6325), (200, 0, 0.4472), (0, 0, 0.3)]
    strict = NMSDecoder(score_threshold=0.3001, nms_pre=2, quality="centerness", geometric=True)
    assert rows(strict(given, batch())[0]) == [(100, 0, 0.6325), (200, 0, 0.4472)]
    with pytest.raises(ConfigError, match=r"^geometric: there is no quality that scores are a mean with\. Give it"):
        NMSDecoder(geometric=True)


def test_boxes_are_clipped_to_their_image_and_small_ones_go() -> None:
    given = predictions([[-5, -5, 20, 10], [40, 40, 60, 60], [2, 2, 6, 30]], [[[0.9], [0.8], [0.7]]] * 2)
    some = batch(2)
    some.sizes[0, 0], some.sizes[0, 1], some.sizes[1, 0], some.sizes[1, 1] = 30, 15, 45, 41
    first, second = NMSDecoder()(given, some)
    assert first.boxes.tolist() == [[0, 0, 15, 10], [2, 2, 6, 30]]  # the second box would have no width
    assert second.boxes.tolist() == [[0, 0, 20, 10], [40, 40, 41, 45], [2, 2, 6, 30]]
    assert len(NMSDecoder(min_size=1.0)(given, some)[1]) == 2  # to be exceeded
    assert len(NMSDecoder(min_size=4.0)(given, some)[1]) == 1


def test_a_softmax_leaves_out_background() -> None:
    given = predictions(APART[:2], [[[0.7, 0.1, 0.2], [0.04, 0.06, 0.9]]], softmax=True)
    assert rows(NMSDecoder(score_threshold=0.05)(given, batch())[0]) == [(0, 0, 0.7), (0, 1, 0.1), (100, 1, 0.06)]


def test_images_of_a_batch_do_not_meet() -> None:
    given = predictions(APART[:2], [[[0.9], [0.8]], [[0.01], [0.7]], [[0.01], [0.01]]])
    found = NMSDecoder()(given, batch(3))
    assert [rows(each) for each in found] == [[(0, 0, 0.9), (100, 0, 0.8)], [(100, 0, 0.7)], []]
    assert found[2].boxes.shape == (0, 4)
    assert found[2].labels.dtype == torch.int64


@pytest.mark.parametrize("decoder", [NMSDecoder(), RPNDecoder()])
def test_scores_that_are_not_numbers_give_no_error(decoder: Any) -> None:
    given = predictions(APART[:2], [[[0.9], [float("nan")]]])
    assert len(decoder(given, batch())) == 1


def test_proposals_for_training_have_their_own_settings() -> None:
    given = predictions(APART, [[[0.9], [0.8], [0.7], [0.6], [0.5], [0.01]]])
    decoder = NMSDecoder(max_detections=2, train={"max_detections": None, "score_threshold": 0.0})
    assert len(decoder(given, batch())[0]) == 2
    assert len(decoder(given, batch(), train=True)[0]) == 6
    decoder.train()
    assert len(decoder(given, batch())[0]) == 2  # the caller says, not the mode


@pytest.mark.parametrize(
    ("make", "train", "message"),
    [
        (NMSDecoder, {"nms_per": 3}, 'train.nms_per: not a setting of this decoder. Did you mean "nms_pre"?'),
        (RPNDecoder, {"quality": 3}, "It takes: nms_pre, nms_iou, max_proposals, min_size."),
    ],
)
def test_settings_that_are_not_there_are_errors(make: Any, train: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make(train=train)
    assert message in str(error.value)


# ------------------------------------------------------------------------------------------------------ RPNDecoder


def test_proposals_suppress_each_other_within_their_level() -> None:
    boxes = [square(0), square(1), square(0), square(1)]
    given = predictions(boxes, [[[0.6], [0.9], [0.8], [0.01]]], [2, 2])
    found = RPNDecoder(nms_iou=0.7)(given, batch())[0]
    assert rows(found) == [(1, 0, 0.9), (0, 0, 0.8)]
    assert len(RPNDecoder(nms_iou=0.9)(given, batch())[0]) == 4  # no threshold of scores


def test_the_best_of_each_level_and_then_of_the_image() -> None:
    given = predictions(APART, [[[0.9], [0.8], [0.7], [0.1], [0.2], [0.3]]], [3, 3])
    decoder = RPNDecoder(nms_pre=2, max_proposals=3, train={"nms_pre": 3, "max_proposals": 5})
    assert rows(decoder(given, batch())[0]) == [(0, 0, 0.9), (100, 0, 0.8), (500, 0, 0.3)]
    assert [row[0] for row in rows(decoder(given, batch(), train=True)[0])] == [0, 100, 200, 500, 400]


def test_scores_that_a_sigmoid_rounds_to_one_are_told_apart() -> None:
    boxes = [square(0), square(1), square(100)]
    logits = torch.tensor([[[30.0], [40.0], [50.0]]])
    given = predictions(boxes, [[[0.0]] * 3], logits=logits)
    found = RPNDecoder()(given, batch())[0]
    assert rows(found) == [(100, 0, 1), (1, 0, 1)]
    assert [row[0] for row in rows(RPNDecoder(nms_pre=1)(given, batch())[0])] == [100]


def test_an_objectness_of_two_logits_is_a_softmax() -> None:
    given = predictions(APART[:2], [[[0.3, 0.7], [0.6, 0.4]]], softmax=True)
    assert rows(RPNDecoder()(given, batch())[0]) == [(100, 0, 0.6), (0, 0, 0.3)]


def test_proposals_are_clipped_and_empty_ones_go() -> None:
    given = predictions([[-5, -5, 20, 10], [40, 40, 60, 60]], [[[0.9], [0.8]]])
    assert RPNDecoder()(given, batch(size=(50.0, 40.0)))[0].boxes.tolist() == [[0, 0, 20, 10]]
