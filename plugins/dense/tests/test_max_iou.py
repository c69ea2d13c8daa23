"""The IoU assigner against hand-made cases and a plain loop, and the sampler."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import torch
from detcore.errors import ConfigError
from detcore.structures import Batch, Matches, Priors, Targets
from detcore_dense.max_iou import MaxIoUAssigner
from detcore_dense.samplers import RandomSampler
from torch import Tensor
from torchvision.ops import box_iou


@attrs.frozen
class Given:
    priors: Priors


def given(boxes: Tensor, images: int, valid: Tensor | None = None) -> Given:
    count = boxes.shape[-2]
    valid = torch.ones(images, count, dtype=torch.bool) if valid is None else valid
    return Given(Priors(boxes, torch.ones(count), torch.zeros(count, dtype=torch.int64), valid, (count,)))


def batch(boxes: Tensor, valid: Tensor | None = None, crowd: Tensor | None = None) -> Batch:
    """(B, G, 4) objects; whatever is not a crowd is valid, unless ``valid`` says otherwise."""
    crowd = torch.zeros(boxes.shape[:2], dtype=torch.bool) if crowd is None else crowd
    valid = ~crowd if valid is None else valid
    size = torch.full((len(boxes), 2), 100.0)
    targets = Targets(boxes, torch.zeros(boxes.shape[:2], dtype=torch.int64), valid, crowd)
    return Batch(torch.zeros(len(boxes), 3, 8, 8), size, size, torch.ones_like(size), targets=targets)


def assign(assigner: MaxIoUAssigner, boxes: list[list[float]], objects: list[list[float]], **more: Any) -> list[int]:
    truth = batch(torch.tensor(objects, dtype=torch.float32).reshape(1, -1, 4), **more)
    return assigner(given(torch.tensor(boxes, dtype=torch.float32), 1), truth).index[0].tolist()


def square(x: float, side: float = 10.0) -> list[float]:
    return [x, 0, x + side, side]


# IoU of square(0) with square(x): (10 - x) / (10 + x); 0: 1, 1: 9/11, 2: 2/3, 3: 7/13, 4: 3/7, 5: 1/3, 6: 1/4


def test_thresholds() -> None:
    assigner = MaxIoUAssigner(pos_iou=7 / 13 - 1e-6, neg_iou=3 / 7 - 1e-6, match_low_quality=False)
    assert assign(assigner, [square(x) for x in (1, 3, 4, 5, 60)], [square(0)]) == [0, 0, -2, -1, -1]
    assigner = MaxIoUAssigner(pos_iou=0.5, neg_iou=[0.1, 0.4], match_low_quality=False)
    assert assign(assigner, [square(x) for x in (3, 4, 5, 9, 60)], [square(0)]) == [0, -2, -1, -2, -2]


def test_quality_is_the_best_iou() -> None:
    matches = MaxIoUAssigner(pos_iou=0.5, neg_iou=0.4)(
        given(torch.tensor([square(2), square(60)]), 1), batch(torch.tensor([[square(0), square(1)]]))
    )
    assert matches.quality is not None
    torch.testing.assert_close(matches.quality, torch.tensor([[9 / 11, 0]]))


def test_of_equal_objects_the_first_is_a_priors_best() -> None:
    assigner = MaxIoUAssigner(pos_iou=0.5, neg_iou=0.4, match_low_quality=False)
    assert assign(assigner, [square(0)], [square(1), square(-1), square(1)]) == [0]


def test_low_quality_matches_give_an_object_all_priors_that_reach_its_best() -> None:
    priors, objects = [square(5), square(-5), square(6)], [square(0)]
    assert assign(MaxIoUAssigner(pos_iou=0.7, neg_iou=0.3, min_pos_iou=0.3), priors, objects) == [0, 0, -1]
    one = MaxIoUAssigner(pos_iou=0.7, neg_iou=0.3, min_pos_iou=0.3, gt_max_assign_all=False)
    assert assign(one, priors, objects) == [0, -2, -1]
    assert assign(MaxIoUAssigner(pos_iou=0.7, neg_iou=0.3, min_pos_iou=0.4), priors, objects) == [-2, -2, -1]


def test_later_objects_overwrite_earlier_ones_in_low_quality_matching() -> None:
    # prior 0 fits object 0 best (9/11), yet object 1 has no better prior than it (2/3): the later object takes it
    assigner = MaxIoUAssigner(pos_iou=0.5, neg_iou=0.4, min_pos_iou=0.0)
    assert assign(assigner, [square(0), square(50)], [square(1), square(-2)]) == [1, -1]
    assert assign(assigner, [square(0), square(50)], [square(-2), square(1)]) == [1, -1]


def test_an_object_that_no_prior_overlaps_takes_nothing() -> None:
    assert assign(MaxIoUAssigner(pos_iou=0.5, neg_iou=0.4), [square(0), square(5)], [square(60)]) == [-1, -1]


def test_priors_in_crowds_are_ignored_and_nobodys_best() -> None:
    priors = [square(0), square(20), square(26)]
    objects = [square(0), [20.0, 0, 40, 10], [20.0, 0, 31, 10]]
    crowd = torch.tensor([[False, True, False]])
    assigner = MaxIoUAssigner(pos_iou=0.7, neg_iou=0.3, min_pos_iou=0.3, ignore_iof=0.5)
    assert assign(assigner, priors, objects, crowd=crowd) == [0, -2, -2]
    blind = MaxIoUAssigner(pos_iou=0.7, neg_iou=0.3, min_pos_iou=0.3)
    assert assign(blind, priors, objects, crowd=crowd) == [0, 2, -2]  # 5 of 16 units of union: between the bounds
    of_region = MaxIoUAssigner(pos_iou=0.7, neg_iou=0.3, ignore_iof=0.6, ignore_wrt_candidates=False)
    assert assign(of_region, priors, objects, crowd=crowd) == [0, 2, -2]  # each prior covers half of the region


def test_an_image_of_crowds_alone_has_no_positives() -> None:
    assigner = MaxIoUAssigner(pos_iou=0.5, neg_iou=[0.1, 0.4], ignore_iof=0.5)
    crowd = torch.tensor([[True]])
    assert assign(assigner, [square(0), square(50)], [square(0)], crowd=crowd) == [-2, -1]


def test_priors_that_are_not_valid_are_ignored_and_nobodys_best() -> None:
    valid = torch.tensor([[False, True], [True, True]])
    truth = batch(torch.tensor([[square(0)], [square(0)]]))
    assigner = MaxIoUAssigner(pos_iou=0.7, neg_iou=0.3, min_pos_iou=0.3)
    found = assigner(given(torch.tensor([square(0), square(5)]), 2, valid), truth)
    assert found.index.tolist() == [[-2, 0], [0, -2]]


def test_images_without_objects_are_all_background() -> None:
    assigner = MaxIoUAssigner(pos_iou=0.5, neg_iou=[0.1, 0.4])
    truth = batch(torch.tensor([[square(0)], [square(0)]]), valid=torch.tensor([[False], [True]]))
    found = assigner(given(torch.tensor([square(0), square(5)]), 2), truth)
    assert found.index.tolist() == [[-1, -1], [0, -1]]
    nobody = assigner(given(torch.tensor([square(0)]), 2, torch.tensor([[True], [False]])), batch(torch.zeros(2, 0, 4)))
    assert nobody.index.tolist() == [[-1], [-2]]
    assert nobody.quality is not None
    assert assigner(given(torch.zeros(0, 4), 1), batch(torch.tensor([[square(0)]]))).index.shape == (1, 0)


def plain_loop(assigner: MaxIoUAssigner, overlaps: Tensor, valid: Tensor) -> list[int]:
    """The rules, prior by prior and object by object: (G, P) IoUs of one image."""
    index = []
    for prior, column in enumerate(overlaps.T.tolist()):
        best = max(column)
        low, high = assigner.neg_iou
        kind = -1 if low <= best < high else -2
        index.append(column.index(best) if best >= assigner.pos_iou else kind)
        if not valid[prior]:
            index[prior] = -2
    for object, row in enumerate(overlaps.tolist()):
        best = max(iou for iou, fits in zip(row, valid.tolist(), strict=True) if fits)
        if assigner.match_low_quality and best >= assigner.min_pos_iou and best > 0:
            takers = [prior for prior, iou in enumerate(row) if iou == best and valid[prior]]
            for prior in takers if assigner.gt_max_assign_all else takers[:1]:
                index[prior] = object
    return index


@pytest.mark.parametrize("every", [True, False])
@pytest.mark.parametrize("max_pairs", [2**24, 900])
@pytest.mark.parametrize("own", [True, False])
def test_a_batch_of_many_objects_is_as_a_plain_loop_says(every: bool, max_pairs: int, own: bool) -> None:
    """Coarse coordinates, so that many IoUs are equal; images of 300, 1 and 40 objects."""
    generator = torch.Generator().manual_seed(int(every))

    def boxes(*shape: int) -> Tensor:
        corner = torch.randint(0, 20, (*shape, 2), generator=generator) * 4.0
        return torch.cat([corner, corner + torch.randint(1, 6, (*shape, 2), generator=generator) * 4.0], -1)

    objects, counts = boxes(3, 300), [300, 1, 40]
    priors = boxes(3, 500) if own else boxes(500)
    valid = torch.rand(3, 500, generator=generator) > 0.1
    truth = batch(objects, torch.arange(300) < torch.tensor(counts)[:, None])
    assigner = MaxIoUAssigner(pos_iou=0.5, neg_iou=0.4, min_pos_iou=0.2, gt_max_assign_all=every, max_pairs=max_pairs)
    found = assigner(given(priors, 3, valid), truth).index
    for image, count in enumerate(counts):
        overlaps = box_iou(objects[image, :count], priors[image] if own else priors)
        assert found[image].tolist() == plain_loop(assigner, overlaps, valid[image])


@pytest.mark.parametrize(("pos", "neg"), [(0.5, 0.6), (0.5, [0.3, 0.2]), (0.5, [0.1, 0.2, 0.3]), (0.0, 0.0)])
def test_thresholds_that_cannot_be_are_errors(pos: float, neg: Any) -> None:
    with pytest.raises(ConfigError, match=r"neg_iou: .* beside pos_iou = .*\. Give one number or two, in order"):
        MaxIoUAssigner(pos_iou=pos, neg_iou=neg)


# ---------------------------------------------------------------------------------------------------------- sampler


def matches(*rows: list[int]) -> Matches:
    return Matches(torch.tensor(rows), torch.rand(len(rows), len(rows[0])))


def counts(index: Tensor) -> list[tuple[int, int]]:
    return [(int((row >= 0).sum()), int((row == -1).sum())) for row in index]


def test_the_sampler_takes_a_share_of_positives_and_fills_with_negatives() -> None:
    before = matches([3] * 50 + [-1] * 100 + [-2] * 50, [1] * 2 + [-1] * 198, [-1] * 5 + [-2] * 195, [0] * 200)
    after = RandomSampler(num=40, pos_fraction=0.25)(before)
    assert counts(after.index) == [(10, 30), (2, 38), (0, 5), (10, 0)]
    assert after.quality is before.quality
    assert bool(((after.index == before.index) | (after.index == -2)).all())


def test_negatives_per_positive_are_bounded() -> None:
    before = matches([0] * 4 + [-1] * 96, [-1] * 100)
    assert counts(RandomSampler(num=64, neg_pos_ub=3.0)(before).index) == [(4, 12), (0, 3)]
    assert counts(RandomSampler(num=64, neg_pos_ub=0.0)(before).index) == [(4, 0), (0, 0)]


def test_a_sampler_of_more_than_there_are_takes_all() -> None:
    before = matches([0] * 4 + [-1] * 90 + [-2] * 6)
    assert torch.equal(RandomSampler(num=1_000_000)(before).index, before.index)


def test_sampling_is_random_and_fair_and_repeats_with_its_seed() -> None:
    before = matches(*[[0] * 10 + [-1] * 30] * 2000)
    sampler = RandomSampler(num=8, pos_fraction=0.5)
    torch.manual_seed(3)
    after = sampler(before).index
    torch.manual_seed(3)
    assert torch.equal(sampler(before).index, after)
    taken = (after != -2).float().mean(0)
    assert (taken[:10] - 0.4).abs().max() < 0.05
    assert (taken[10:] - 4 / 30).abs().max() < 0.05
