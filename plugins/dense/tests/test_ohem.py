"""The hardest candidates, as by a plain loop."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import torch
from detcore.errors import ConfigError
from detcore.foreign import Foreign, Log
from detcore.structures import Matches
from detcore_dense.mmdet import TRANSLATIONS
from detcore_dense.samplers import CombinedSampler, OHEMSampler, RandomSampler
from torch import Tensor


def matches(seed: int, positives: float, images: int = 3, regions: int = 60) -> Matches:
    """Some of which are ignored; costs of which many are equal."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.rand(images, regions, generator=generator)
    index = torch.where(kind < positives, torch.randint(0, 4, kind.shape, generator=generator), -1)
    losses = torch.randint(0, 12, kind.shape, generator=generator) / 4
    return Matches(torch.where(kind > 0.9, -2, index), losses=losses)


def by_loop(index: list[int], losses: list[float], num: int, fraction: float, limit: float | None) -> list[int]:
    """One image: positives first, each time the hardest that is left."""
    left, chosen = [*range(len(index))], set()

    def take(most: int, kind: bool) -> int:
        taken = 0
        while taken < most:
            rows = [row for row in left if index[row] != -2 and (index[row] >= 0) == kind]
            if not rows:
                break
            hardest = max(rows, key=lambda row: (losses[row], -row))
            left.remove(hardest)
            chosen.add(hardest)
            taken += 1
        return taken

    found = take(int(num * fraction), True)
    rest = num - found
    take(rest if limit is None else min(rest, int(limit * max(1, found))), False)
    return [value if row in chosen else -2 for row, value in enumerate(index)]


@pytest.mark.parametrize("positives", [0.0, 0.1, 0.7])
@pytest.mark.parametrize(
    ("num", "fraction", "limit"), [(16, 0.25, None), (40, 0.5, 1.5), (1000, 0.5, None), (12, 1.0, 3)]
)
def test_the_hardest_are_those_of_a_loop(positives: float, num: int, fraction: float, limit: float | None) -> None:
    given = matches(int(10 * positives) + num, positives)
    found = OHEMSampler(num=num, pos_fraction=fraction, neg_pos_ub=limit)(given)
    assert given.losses is not None
    for image in range(3):
        row = given.index[image].tolist(), given.losses[image].tolist()
        assert found.index[image].tolist() == by_loop(*row, num, fraction, limit)


def test_nothing_is_drawn_at_random() -> None:
    given = matches(0, 0.5)
    state = torch.random.get_rng_state()
    OHEMSampler(num=8)(given)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("parts", [(OHEMSampler, RandomSampler), (RandomSampler, OHEMSampler)])
def test_it_can_choose_only_one_kind(parts: Any) -> None:
    pos, neg = (make(num=20, pos_fraction=0.5) for make in parts)
    sampler, given = CombinedSampler(pos=pos, neg=neg), matches(5, 0.5)
    assert sampler.needs_losses
    assert not CombinedSampler(pos=RandomSampler(num=2), neg=RandomSampler(num=2)).needs_losses
    found, whole = sampler(given).index, OHEMSampler(num=20, pos_fraction=0.5)(given).index

    def of_kind(index: Tensor) -> Tensor:
        return (index >= 0) if parts[0] is OHEMSampler else (index == -1)

    assert torch.equal(of_kind(found), of_kind(whole))
    assert (found != -2).sum(1).tolist() == [20] * 3


def test_where_nobody_says_what_classes_cost_it_is_said_where_it_belongs() -> None:
    message = r"OHEMSampler: nobody says what the candidates' classes cost\. It belongs in a stage of a RoI head"
    with pytest.raises(ConfigError, match=message):
        OHEMSampler(num=8)(attrs.evolve(matches(0, 0.5), losses=None))


def test_mmdetection_calls_it_the_same() -> None:
    log = Log({"OHEMSampler": TRANSLATIONS["OHEMSampler"]})
    table = {"type": "OHEMSampler", "num": 512, "pos_fraction": 0.25, "neg_pos_ub": 3, "add_gt_as_proposals": True}
    part = Foreign(table, "sampler", log).translated()
    assert part.plain == {"type": "OHEMSampler", "num": 512, "pos_fraction": 0.25, "neg_pos_ub": 3}
    assert log.lost == []
    Foreign({**table, "loss_key": "loss_bbox"}, "sampler", log).translated()
    assert [str(each) for each in log.lost] == ["sampler.loss_key = 'loss_bbox': only 'loss_cls' has a counterpart"]
