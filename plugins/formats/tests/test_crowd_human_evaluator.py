"""CrowdHuman's figures: by hand for tiny cases, and equal to a plain reference in loops on made-up crowds."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detcore.errors import ConfigError, DataError
from detcore.structures import Detections
from detcore.testing import check_evaluator
from detcore_formats.crowd_human import CrowdHumanDataset
from detcore_formats.crowd_human_evaluator import CrowdHumanEvaluator
from PIL import Image
from torchvision import tv_tensors

SIZE = (400, 300)
Box = Sequence[float]


class Crowd:
    """People and ignored regions (x, y, width, height) of images called ``0,a``, ``1,a``, ..."""

    def __init__(self, root: Path, *images: tuple[Sequence[Box], Sequence[Box]]) -> None:
        lines = []
        for number, (people, ignored) in enumerate(images):
            Image.new("1", SIZE).save(root / f"{number},a.jpg")
            rows: list[dict[str, Any]] = [
                {"tag": "person", "fbox": [*box], "vbox": [0, 0, 9, 9], "hbox": [0, 0, 5, 5]} for box in people
            ]
            rows += [
                {"tag": "mask" if row % 2 else "person", "fbox": [*box], "vbox": [0, 0, 9, 9], "extra": {"ignore": 1}}
                for row, box in enumerate(ignored)
            ]
            lines.append(json.dumps({"ID": f"{number},a", "gtboxes": rows}))
        (root / "val.odgt").write_text("\n".join(lines))
        self.dataset = CrowdHumanDataset(source=f"{root}/val.odgt", images=str(root))

    def figures(self, *images: Sequence[tuple[Box, float]], **options: Any) -> dict[str, float]:
        """Of what was found in each image."""
        evaluator = CrowdHumanEvaluator(self.dataset, **options)
        for number, found in enumerate(images):
            evaluator.update([detections(found)], [f"{number},a"])
        return evaluator.compute()


def detections(found: Sequence[tuple[Box, float]]) -> Detections:
    boxes = torch.tensor([[x, y, x + w, y + h] for (x, y, w, h), _ in found], dtype=torch.float32).reshape(-1, 4)
    scores = torch.tensor([score for _, score in found])
    return Detections(boxes, scores, torch.zeros(len(found), dtype=torch.int64))


ONE, TWO, FAR = [10, 10, 50, 100], [100, 10, 50, 100], [300, 150, 50, 100]

# ----------------------------------------------------------------------------------------------------------- by hand


def test_nothing_found(tmp_path: Path) -> None:
    nothing = {"AP": 0.0, "MR": 1.0, "JI": 0.0}
    crowd = Crowd(tmp_path, ([ONE, TWO], []), ([], [FAR]))
    assert crowd.figures() == crowd.figures([], []) == nothing
    assert crowd.figures([], [(FAR, 0.9)]) == nothing  # in an ignored region
    assert Crowd(tmp_path, ([], [])).figures([]) == nothing


def test_two_of_two_and_one_that_is_not_there(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path, ([ONE, TWO], []))
    whole = crowd.figures([(ONE, 0.9), (TWO, 0.8)])
    assert whole["AP"] == 0.5  # from recall 0.5 to 1; left of the first detection there is no area
    assert whole["MR"] == 0
    assert whole["JI"] == pytest.approx(1, abs=1e-6)
    more = crowd.figures([(ONE, 0.9), (FAR, 0.8), (TWO, 0.7)])
    assert more["AP"] == pytest.approx(0.5 * (1 / 2 + 2 / 3) / 2)
    assert more["MR"] == pytest.approx(0.5)  # at the first false positive, one an image, half of the people are missed
    assert more["JI"] == pytest.approx(2 / 3, abs=1e-6)  # of all: 2 in both, 3 in either; of the best alone 1 / 2


def test_miss_rates_are_averaged_in_logarithm(tmp_path: Path) -> None:
    """Ten images: the first false positive is 0.1 an image, the second 0.2."""
    crowd = Crowd(tmp_path, ([ONE, TWO, [200, 10, 50, 100], [10, 150, 50, 100]], []), *[([], [])] * 9)
    found = [(ONE, 0.9), (FAR, 0.8), (TWO, 0.7), ([200, 150, 50, 100], 0.6), ([200, 10, 50, 100], 0.5)]
    # below 0.1: at the first false positive, 3 / 4 missed, as at 0.1; 0.1778 at the second, 2 / 4; from 0.3162 on the
    # last detection, 1 / 4
    expected = (5 * math.log(3 / 4) + math.log(2 / 4) + 3 * math.log(1 / 4)) / 9
    assert crowd.figures(found)["MR"] == pytest.approx(math.exp(expected))


def test_ignored_regions_take_what_is_inside_and_nobody_takes(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path, ([ONE, TWO], [[0, 0, 70, 200]]))
    plain = crowd.figures([(ONE, 0.9), (TWO, 0.8)])
    for x in (5, 30):  # a second detection on a person in the region, and one beside: neither for nor against
        assert crowd.figures([(ONE, 0.9), ([x, 60, 30, 60], 0.85), (TWO, 0.8)]) == plain
    outside = crowd.figures([(ONE, 0.9), ([56, 60, 30, 60], 0.85), (TWO, 0.8)])  # less than half of it is inside
    assert outside["AP"] < plain["AP"]


def test_a_person_in_an_ignored_region_is_missed_by_ap_and_not_by_ji(tmp_path: Path) -> None:
    figures = Crowd(tmp_path, ([ONE, TWO], [[0, 0, 70, 200]])).figures([(TWO, 0.8)])
    assert figures["JI"] == pytest.approx(1, abs=1e-6)
    assert figures["MR"] == 0.5


def test_each_person_is_taken_once_and_by_the_best(tmp_path: Path) -> None:
    near = [12, 10, 50, 100]
    figures = Crowd(tmp_path, ([ONE, FAR], [])).figures([(ONE, 0.9), (near, 0.8), (FAR, 0.7)])
    assert figures["AP"] == pytest.approx(0.5 * (1 / 2 + 2 / 3) / 2)


def test_ji_matches_as_many_as_can_be(tmp_path: Path) -> None:
    """The first detection is nearer to the first person; the second one can have only that person."""
    people = [[10, 10, 100, 100], [50, 10, 100, 100]]
    found = [([28, 10, 100, 100], 0.9), ([0, 10, 100, 100], 0.8)]
    figures = Crowd(tmp_path, (people, [])).figures(found, iou_threshold=0.5)
    assert figures["JI"] == pytest.approx(1, abs=1e-6)
    assert figures["MR"] == pytest.approx(0.5)  # to which Caltech's rule, best first, is blind


def test_ji_is_the_best_of_ten_scores(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path, ([ONE, TWO], []))
    wrong = [([200 + 3 * step, 20, 40, 40], 0.05 + step / 100) for step in range(5)]
    assert crowd.figures([(ONE, 0.95), (TWO, 0.55), *wrong])["JI"] == pytest.approx(1, abs=1e-6)
    assert crowd.figures([(ONE, 0.95), (TWO, 0.0)])["JI"] == pytest.approx(1 / 2, abs=1e-6)  # 0 is not more than 0


def test_where_nobody_is_to_be_found(tmp_path: Path) -> None:
    figures = Crowd(tmp_path, ([], [TWO])).figures([(ONE, 0.9)])
    assert figures == {"AP": -1, "MR": -1, "JI": 0}


def test_boxes_are_cut_at_the_image(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path, ([[-40, 0, 100, 100], ONE], []))
    assert crowd.figures([([-200, 0, 260, 100], 0.9), (ONE, 0.8)])["AP"] == 0.5


# ------------------------------------------------------------------------------------------------------ the reference


def iou(one: Box, other: Box) -> float:
    both = shared(one, other)
    return both / (one[2] * one[3] + other[2] * other[3] - both)


def shared(one: Box, other: Box) -> float:
    wide = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    high = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return max(wide, 0) * max(high, 0)


def covered(box: Box, regions: Sequence[Box]) -> bool:
    return any(shared(box, region) / (box[2] * box[3]) > 0.5 for region in regions)


def reference(images: Sequence[Any], found: Sequence[Any]) -> dict[str, float]:
    """The rules, one detection after the other."""
    outcomes: list[tuple[float, bool]] = []
    for (people, ignored), rows in zip(images, found, strict=True):
        free = [*range(len(people))]
        for box, score in sorted(rows, key=lambda row: row[1], reverse=True):
            most, which = 0.5, None
            for person in free:
                if iou(box, people[person]) > most:
                    most, which = iou(box, people[person]), person
            if which is not None:
                free.remove(which)
                outcomes.append((score, True))
            elif not covered(box, ignored):
                outcomes.append((score, False))
    outcomes.sort(key=lambda each: each[0], reverse=True)
    everybody = sum(len(people) for people, _ in images)
    points, right, wrong = [], 0, 0
    for _, good in outcomes:
        right, wrong = right + good, wrong + (not good)
        points.append((right / everybody, right / (right + wrong), wrong / len(images)))
    area = 0.0
    for (recall, precision, _), (later, then, _) in pairwise(points):
        area += (later - recall) * (precision + then) / 2
    logs = []
    for rate in (0.01, 0.0178, 0.0316, 0.0562, 0.1, 0.1778, 0.3162, 0.5623, 1.0):
        at = next((recall for recall, _, wrongs in points if wrongs >= rate), points[-1][0])
        logs.append(math.log(1 - at))
    jaccard = max(mean_jaccard(images, found, step / 10) for step in range(10))
    return {"AP": area, "MR": math.exp(sum(logs) / 9), "JI": jaccard}


def mean_jaccard(images: Sequence[Any], found: Sequence[Any], least: float) -> float:
    total, counted = 0.0, 0
    for (people, ignored), rows in zip(images, found, strict=True):
        boxes = [box for box, score in sorted(rows, key=lambda row: row[1], reverse=True) if score > least]
        pairs = largest_matching(boxes, people)
        left = [box for row, box in enumerate(boxes) if row not in pairs.values()]
        missed = [box for person, box in enumerate(people) if person not in pairs]
        there = len(people) - sum(covered(box, ignored) for box in missed)
        seen = len(boxes) - sum(covered(box, ignored) for box in left)
        counted += there > 0 or seen > 0
        total += len(pairs) / (there + seen - len(pairs) + 1e-6)
    return total / counted


def largest_matching(boxes: Sequence[Box], people: Sequence[Box]) -> dict[int, int]:
    """Person -> box: from each box in turn a path that changes who belongs to whom."""
    pairs: dict[int, int] = {}
    for start in range(len(boxes)):
        seen: set[int] = set()

        def reach(box: int) -> bool:
            for person in range(len(people)):
                if person in seen or iou(boxes[box], people[person]) < 0.5:  # noqa: B023 (called in this turn alone)
                    continue
                seen.add(person)  # noqa: B023
                if person not in pairs or reach(pairs[person]):
                    pairs[person] = box
                    return True
            return False

        reach(start)
    return pairs


def made_up(seed: int, ignored: bool = True) -> tuple[list[Any], list[Any]]:
    """Dense crowds, detections that are near, doubled or wrong, scores that are often equal; in whole pixels."""
    random = np.random.default_rng(seed)

    def box() -> list[int]:
        wide, high = int(random.integers(20, 60)), int(random.integers(50, 120))
        return [int(random.integers(0, SIZE[0] - wide)), int(random.integers(0, SIZE[1] - high)), wide, high]

    images, found = [], []
    for _ in range(8):
        people = [box() for _ in range(int(random.integers(0, 25)))]
        people += [[x, y, w, max(20, h - 25)] for x, y, w, h in people[::3]]
        regions = [[x, y, w * 2, h] for x, y, w, h in (box() for _ in range(3)) if x + w * 2 < SIZE[0]] * ignored
        rows = [
            ([*np.add(near[:2], random.integers(0, 6, 2)).tolist(), near[2] - 8, near[3] - 8], grade(random))
            for near in people
            for _ in range(int(random.integers(0, 3)))
        ]
        images.append((people, regions))
        found.append([*rows, *((box(), grade(random)) for _ in range(10))])
    return images, found


def grade(random: Any) -> float:
    return float(random.integers(1, 33)) / 32


@pytest.mark.parametrize("seed", range(8))
def test_figures_are_the_references(tmp_path: Path, seed: int) -> None:
    images, found = made_up(seed)
    figures = Crowd(tmp_path, *images).figures(*found)
    expected = reference(images, found)
    assert figures == pytest.approx(expected, abs=1e-9, rel=0)
    assert all(0.02 < value < 0.98 for value in figures.values()), figures


@pytest.mark.parametrize("seed", range(4))
def test_ji_is_that_of_another_matching_where_nothing_is_ignored(tmp_path: Path, seed: int) -> None:
    """The number of pairs of a largest matching is one and the same, whoever finds it; so is then the index."""
    matching = pytest.importorskip("scipy.sparse.csgraph", reason="scipy is not installed").maximum_bipartite_matching
    sparse = pytest.importorskip("scipy.sparse", reason="scipy is not installed").csr_matrix
    images, found = made_up(seed, ignored=False)
    best = 0.0
    for step in range(10):
        total = []
        for (people, _), rows in zip(images, found, strict=True):
            boxes = [box for box, score in rows if score > step / 10]
            near = np.array([[iou(box, person) >= 0.5 for person in people] for box in boxes]).reshape(
                len(boxes), len(people)
            )
            pairs = int((matching(sparse(near)) >= 0).sum()) if near.size else 0
            if boxes or people:
                total.append(pairs / (len(boxes) + len(people) - pairs + 1e-6))
        best = max(best, sum(total) / len(total))
    assert Crowd(tmp_path, *images).figures(*found)["JI"] == pytest.approx(best, abs=1e-9)


def test_the_order_of_images_and_portions_does_not_matter(tmp_path: Path) -> None:
    images, found = made_up(3)
    crowd = Crowd(tmp_path, *images)
    evaluator = CrowdHumanEvaluator(crowd.dataset)
    for number in reversed(range(len(images))):
        evaluator.update([detections([])], [f"{number},a"])  # comes again
        evaluator.update([detections(found[number])], [f"{number},a"])
    assert evaluator.compute() == crowd.figures(*found)


# --------------------------------------------------------------------------------------------------- contract, errors


def test_it_is_an_evaluator(tmp_path: Path) -> None:
    dataset = Crowd(tmp_path, ([ONE, TWO], [FAR]), ([TWO], [])).dataset
    check_evaluator(CrowdHumanEvaluator, dataset, best=2 / 3, lower_is_better=["MR"])  # of three people: see AP


@pytest.mark.parametrize("threshold", [0, 1, -0.5])
def test_a_threshold_that_cannot_be(tmp_path: Path, threshold: float) -> None:
    with pytest.raises(ConfigError) as caught:
        CrowdHumanEvaluator(Crowd(tmp_path, ([ONE], [])).dataset, iou_threshold=threshold)
    assert str(caught.value) == f"CrowdHumanEvaluator: iou_threshold: {threshold}. It is above 0 and below 1."


class Two:
    """Two classes, two images of one name."""

    classes: Sequence[str] = ("person", "dog")
    image_ids = (4, 4)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        boxes = tv_tensors.BoundingBoxes(torch.zeros(0, 4), format="XYXY", canvas_size=SIZE)
        return Image.new("1", SIZE), {"boxes": boxes, "labels": torch.zeros(0, dtype=torch.int64), "image_id": 4}


def test_data_of_several_classes() -> None:
    with pytest.raises(DataError) as caught:
        CrowdHumanEvaluator(Two())
    assert str(caught.value) == "CrowdHumanEvaluator: the dataset has 2 classes. It scores one: name it in classes."


def test_images_that_are_unknown_or_of_one_name(tmp_path: Path) -> None:
    evaluator = CrowdHumanEvaluator(Crowd(tmp_path, ([ONE], [])).dataset)
    with pytest.raises(DataError, match=r"^CrowdHumanEvaluator: the dataset has no image 'x'$"):
        evaluator.update([detections([])], ["x"])
    twice: Any = Two()
    twice.classes = ("person",)
    with pytest.raises(DataError, match=r"^Two: two images have the id 4$"):
        CrowdHumanEvaluator(twice).compute()
