"""LVIS's figures: equal to a slow reference that was written from the rules, by hand for each rule, never a crash."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detcore.errors import ConfigError, DataError
from detcore.structures import Detections
from detcore.testing import check_evaluator
from detcore_lvis.dataset import LVISDataset
from detcore_lvis.evaluator import MOST, NAMES, LVISEvaluator, best
from PIL import Image
from pycocotools import mask as coco_mask

SIZE = (240, 200)
"""Width and height of images; large enough for objects of all three sizes."""
CATEGORIES = [(2, "acorn", "r"), (5, "cat", "f"), (9, "zoo", "c"), (4, "dog", "f"), (7, "egg", "r")]
"""Not in the order of their numbers."""
IDS = [id_ for id_, _, _ in CATEGORIES]
SIZES = ((0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10))


def rectangle(box: Sequence[float]) -> list[float]:
    x, y, width, height = box
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def annotation(image: int, category: int, box: Sequence[float]) -> dict[str, Any]:
    area = float(box[2] * box[3])
    return {
        "image_id": image, "category_id": category, "bbox": [*box], "area": area, "segmentation": [rectangle(box)]
    }  # fmt: skip


class Case:
    """A file, and an evaluator of it."""

    def __init__(
        self, root: Path, objects: Sequence[Any], absent: Any = (), partial: Any = (), images: int = 6
    ) -> None:
        self.root = root
        self.content = {
            "images": [
                {
                    **{"id": id_, "file_name": f"val2017/{id_}.png", "width": SIZE[0], "height": SIZE[1]},
                    "neg_category_ids": [category for image, category in absent if image == id_],
                    "not_exhaustive_category_ids": [category for image, category in partial if image == id_],
                }
                for id_ in (image * 7 % 31 for image in range(1, images + 1))
            ],
            "annotations": [{**annotation(*each), "id": 100 + number} for number, each in enumerate(objects)],
            "categories": [{"id": id_, "name": name, "frequency": often} for id_, name, often in CATEGORIES],
        }

    def dataset(self, **options: Any) -> LVISDataset:
        (self.root / "val2017").mkdir(exist_ok=True)
        for each in self.content["images"]:
            Image.new("1", SIZE).save(self.root / each["file_name"])
        (self.root / "lvis.json").write_text(json.dumps(self.content))
        return LVISDataset(annotations=f"{self.root}/lvis.json", images=str(self.root), **options)

    def figures(self, found: Sequence[Any], metric: Any = "bbox", **options: Any) -> dict[str, float]:
        segmentation = "polygons" if metric == "segm" else "none"
        evaluator = LVISEvaluator(self.dataset(segmentation=segmentation), metrics=[metric], **options)
        self.update(evaluator, found)
        self.rows = evaluator.results()
        return {name.removeprefix(f"{metric}_"): value for name, value in evaluator.compute().items()}

    def update(self, evaluator: LVISEvaluator, found: Sequence[Any]) -> None:
        """Of (image, category, box, score); a mask fills the left part of its box."""
        for image in {image for image, *_ in found}:
            own = [(category, box, score) for id_, category, box, score in found if id_ == image]
            boxes = torch.tensor([box for _, box, _ in own], dtype=torch.float32)
            boxes[:, 2:] += boxes[:, :2]
            masks = torch.ones(len(own), 28, 28)
            masks[:, :, 24:] = 0
            labels = torch.tensor([IDS.index(category) for category, _, _ in own])
            scores = torch.tensor([score for *_, score in own])
            evaluator.update([Detections(boxes, scores, labels, masks)], [image])


# ---------------------------------------------------------------------------------------------------- the reference


def reference(content: Any, rows: Sequence[Any], segm: bool = False) -> dict[str, float]:
    """LVIS's figures in plain loops, from the rules of its paper and code."""
    rows = [row for image in content["images"] for row in best_of(image["id"], rows)]
    shapes = {id(row): shape(row, segm) for row in [*rows, *content["annotations"]]}
    precision: dict[tuple[int, int, int], list[float]] = {}
    recall: dict[tuple[int, int, int], float] = {}
    for category in IDS:
        for size, limits in enumerate(SIZES):
            for step in range(10):
                judged: list[tuple[float, bool, bool]] = []
                objects = 0
                for image in sorted(content["images"], key=lambda each: each["id"]):
                    truth, found = (
                        [row for row in table if (row["image_id"], row["category_id"]) == (image["id"], category)]
                        for table in (content["annotations"], rows)
                    )
                    least = min(0.5 + 0.05 * step, 1 - 1e-10)
                    here, seen = judge(image, category, truth, found, limits, least, shapes)
                    objects += here
                    judged += seen
                if objects:
                    key = (step, category, size)
                    precision[key], recall[key] = curve(judged, objects)
    of = {often: [id_ for id_, _, each in CATEGORIES if each == often] for often in "rcf"}

    def ap(steps: Sequence[int] = range(10), ids: Sequence[int] = IDS, size: int = 0) -> float:
        values = [
            value
            for key in precision
            if key[0] in steps and key[1] in ids and key[2] == size
            for value in precision[key]
        ]
        return sum(values) / len(values) if values else -1.0

    def ar(size: int) -> float:
        values = [value for key, value in recall.items() if key[2] == size]
        return sum(values) / len(values) if values else -1.0

    figures = [ap(), ap([0]), ap([5]), *(ap(size=size) for size in (1, 2, 3)), *(ap(ids=of[often]) for often in "rcf")]
    return dict(zip(NAMES, [*figures, *map(ar, range(4))], strict=True))


def best_of(image: int, rows: Sequence[Any]) -> list[Any]:
    return sorted((row for row in rows if row["image_id"] == image), key=lambda row: row["score"], reverse=True)[:300]


def shape(row: Any, segm: bool) -> Any:
    """A box, or a bitmap."""
    if not segm:
        return row["bbox"]
    segmentation = row["segmentation"]
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, SIZE[1], SIZE[0]))
    return coco_mask.decode(segmentation).astype(bool)


def area(row: Any, drawn: Any) -> float:
    if "area" in row:
        return float(row["area"])
    return float(drawn.sum()) if isinstance(drawn, np.ndarray) else drawn[2] * drawn[3]


def overlap(one: Any, other: Any) -> float:
    if isinstance(one, np.ndarray):
        return float((one & other).sum() / (one | other).sum())
    wide = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    high = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    both = max(wide, 0) * max(high, 0)
    return float(both / (one[2] * one[3] + other[2] * other[3] - both))


def judge(
    image: Any, category: int, truth: Any, found: Any, limits: tuple[float, float], least: float, shapes: Any
) -> tuple[int, list[tuple[float, bool, bool]]]:
    """Objects that count; and of each detection its score, whether it is right, and whether it counts."""
    if not truth and category not in image["neg_category_ids"]:
        return 0, []
    ignored = [not limits[0] <= each["area"] <= limits[1] for each in truth]
    order = [at for want in (False, True) for at, ignore in enumerate(ignored) if ignore == want]
    taken: set[int] = set()
    judged = []
    for row in sorted(found, key=lambda row: row["score"], reverse=True):
        most, which = least, -1
        for at in order:
            if at in taken:
                continue
            if which >= 0 and not ignored[which] and ignored[at]:
                break
            value = overlap(shapes[id(row)], shapes[id(truth[at])])
            if value >= most:
                most, which = value, at
        if which >= 0:
            taken.add(which)
            judged.append((row["score"], True, not ignored[which]))
        else:
            inside = limits[0] <= area(row, shapes[id(row)]) <= limits[1]
            judged.append((row["score"], False, inside and category not in image["not_exhaustive_category_ids"]))
    return ignored.count(False), judged


def curve(judged: list[tuple[float, bool, bool]], objects: int) -> tuple[list[float], float]:
    """The best precision at each of 101 recalls or more, and the last recall."""
    points: list[tuple[float, float]] = []
    right = wrong = 0
    for _, hit, counts in sorted(judged, key=lambda each: -each[0]):
        right += hit and counts
        wrong += counts and not hit
        points.append((right / objects, right / (right + wrong + np.spacing(1))))
    at = [max((p for r, p in points if r >= each), default=0.0) for each in np.linspace(0, 1, 101)]
    return at, points[-1][0] if points else 0.0


# ------------------------------------------------------------------------------------------------ equal to reference


def made_up(seed: int, images: int = 6) -> tuple[dict[str, Any], list[Any]]:
    """Objects of all sizes in some of the images, lists of classes, and detections good, bad and of equal score."""
    random = np.random.default_rng(seed)
    names = [image * 7 % 31 for image in range(1, images + 1)]

    def box(side: int) -> list[int]:
        wide, high = (int(each) for each in random.integers(side // 2, side, 2))
        return [int(random.integers(0, SIZE[0] - wide)), int(random.integers(0, SIZE[1] - high)), wide, high]

    objects = [
        (int(random.choice(names[:-1])), int(random.choice(IDS[:-1])), box(int(random.choice([20, 60, 190]))))
        for _ in range(30)
    ]  # the last image has none, nor has the last class
    found = [
        (image, category if random.random() < 0.85 else int(random.choice(IDS)), shifted(own, random), grade(random))
        for image, category, own in objects
        for _ in range(int(random.integers(0, 3)))
    ]
    found += [(int(random.choice(names)), int(random.choice(IDS)), box(60), grade(random)) for _ in range(40)]
    pairs = [(image, category) for image in names for category in IDS]
    lists = {
        name: [pair for pair in pairs if random.random() < share] for name, share in (("absent", 0.4), ("partial", 0.2))
    }
    return {"objects": objects, "images": images, **lists}, found


def shifted(box: Sequence[int], random: Any) -> list[int]:
    left, top = (max(0, at + int(random.integers(-4, 5))) for at in box[:2])
    return [left, top, min(box[2], SIZE[0] - left), min(box[3], SIZE[1] - top)]


def grade(random: Any) -> float:
    return float(random.integers(1, 9)) / 8


@pytest.mark.parametrize("metric", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(4))
def test_figures_are_the_references(tmp_path: Path, seed: int, metric: str) -> None:
    made, found = made_up(seed)
    case = Case(tmp_path, **made)
    figures = case.figures(found, metric)
    expected = reference(case.content, case.rows, metric == "segm")
    assert [*figures] == [*NAMES]
    assert figures == pytest.approx(expected, abs=1e-9, rel=0)
    assert 0 < figures["AP"] < 1
    assert len({*figures.values()}) > 8  # the data tell the figures apart


def test_classes_are_scored_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, found = made_up(1)
    whole = Case(tmp_path, **made).figures(found, per_class=True)
    for pairs in (1, 12):  # one, two classes of six images
        monkeypatch.setattr("detcore_lvis.evaluator.PAIRS", pairs)
        assert Case(tmp_path, **made).figures(found, per_class=True) == whole


def test_the_reference_sees_each_rule(tmp_path: Path) -> None:
    """Where a list is lost, figures change: the data of the test above show it."""
    made, found = made_up(0)
    without: list[dict[str, Any]] = [{}, {"absent": []}, {"partial": []}]
    figures = [Case(tmp_path, **{**made, **lost}).figures(found)["AP"] for lost in without]
    assert len({*figures}) == 3


# ----------------------------------------------------------------------------------------------------------- by hand

BOX = [10, 10, 100, 100]
FAR = [130, 90, 100, 100]


def test_a_wrong_detection_counts_only_where_its_class_was_looked_for(tmp_path: Path) -> None:
    objects, right = [(7, 5, BOX)], (7, 5, BOX, 0.5)
    nobody = Case(tmp_path, objects).figures([right, (14, 5, BOX, 0.9)])
    assert nobody["AP"] == 1  # image 14 was not looked through for cats
    absent = Case(tmp_path, objects, absent=[(14, 5)]).figures([right, (14, 5, BOX, 0.9)])
    assert absent["AP"] == pytest.approx(0.5)  # it was: one of two is right, at every recall
    other = Case(tmp_path, objects).figures([right, (7, 5, FAR, 0.9)])
    assert other["AP"] == pytest.approx(0.5)  # a second cat where all cats are annotated
    partial = Case(tmp_path, objects, partial=[(7, 5)]).figures([right, (7, 5, FAR, 0.9)])
    assert partial["AP"] == 1  # not all cats of the image are annotated


def test_means_are_over_classes_that_have_objects(tmp_path: Path) -> None:
    figures = Case(tmp_path, [(7, 5, BOX), (7, 4, FAR), (14, 9, BOX)]).figures([(7, 5, BOX, 0.9)], per_class=True)
    assert (figures["APr"], figures["APc"], figures["APf"]) == (-1, 0, 0.5)
    assert figures["AP"] == pytest.approx(1 / 3)
    assert [figures[name] for name in ("AR300", "ARl300", "ARs300")] == pytest.approx([1 / 3, 1 / 3, -1])
    each = {name: value for name, value in figures.items() if "/" in name}
    assert each == {"AP/acorn": -1, "AP/cat": 1, "AP/zoo": 0, "AP/dog": 0, "AP/egg": -1}


def test_300_detections_of_an_image_count_whatever_their_class(tmp_path: Path) -> None:
    case = Case(tmp_path, [(7, 5, BOX)])
    crowd = [(7, 9, FAR, 0.9) for _ in range(MOST - 1)]  # zoos, that nobody looked for
    assert case.figures([*crowd, (7, 5, BOX, 0.5)])["AP"] == 1
    assert case.figures([*crowd, (7, 9, FAR, 0.9), (7, 5, BOX, 0.5)])["AP"] == 0
    assert case.figures([*crowd, (14, 9, FAR, 0.9), (7, 5, BOX, 0.5)])["AP"] == 1  # of another image
    rows = [{"image_id": image, "score": score} for image in (1, 2) for score in [0.1, *[0.5] * MOST]]
    assert [row["score"] for row in best(rows)] == [0.5] * (2 * MOST)


@pytest.mark.parametrize("metric", ["bbox", "segm"])
def test_nothing_found_is_zero_everywhere(tmp_path: Path, metric: str) -> None:
    case = Case(tmp_path, [(7, 5, BOX)])
    assert case.figures([], metric) == dict.fromkeys(NAMES, 0.0)
    evaluator = LVISEvaluator(case.dataset(segmentation="polygons"), metrics=["segm", "bbox"], per_class=True)
    evaluator.update([Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))], [7])
    assert {*evaluator.compute().values()} == {0.0}


def test_nothing_that_counts_found_is_no_crash(tmp_path: Path) -> None:
    figures = Case(tmp_path, [(7, 5, BOX)]).figures([(14, 9, BOX, 0.9)])
    assert (figures["AP"], figures["AR300"], figures["APr"]) == (0, 0, -1)


def test_without_any_object_figures_are_undefined(tmp_path: Path) -> None:
    figures = Case(tmp_path, [], absent=[(7, 5)]).figures([(7, 5, BOX, 0.9)])
    assert {*figures.values()} == {-1}


def test_chosen_classes_are_scored_alone(tmp_path: Path) -> None:
    case = Case(tmp_path, [(7, 5, BOX), (7, 9, FAR)], absent=[(14, 5), (14, 9)])
    evaluator = LVISEvaluator(case.dataset(classes=["zoo", "cat"]), per_class=True)
    boxes = torch.tensor([[10.0, 10, 110, 110]])
    evaluator.update([Detections(boxes, torch.ones(1), torch.tensor([1]))], [7])
    figures = evaluator.compute()
    assert (figures["bbox_AP/zoo"], figures["bbox_AP/cat"], figures["bbox_APc"], figures["bbox_APf"]) == (0, 1, 0, 1)
    assert evaluator.dataset.frequencies == ("c", "f")  # type: ignore[attr-defined]


def test_a_part_of_a_dataset_is_scored(tmp_path: Path) -> None:
    wrappers = pytest.importorskip("detcore_datasets.wrappers", reason="detcore-datasets is not installed")
    case = Case(tmp_path, [(7, 5, BOX), (14, 5, FAR)], absent=[(21, 5)])
    evaluator = LVISEvaluator(wrappers.SubsetDataset(dataset=case.dataset(), first=1))
    case.update(evaluator, [(7, 5, BOX, 0.9)])
    assert evaluator.compute()["bbox_AP"] == 1


# --------------------------------------------------------------------------------------------------- contract, errors


def test_it_is_an_evaluator(tmp_path: Path) -> None:
    check_evaluator(LVISEvaluator, Case(tmp_path, [(7, 5, BOX), (14, 9, FAR)]).dataset())


@pytest.mark.parametrize("metrics", [[], ["proposal"], ["bbox", "box"]])
def test_a_metric_that_there_is_not(tmp_path: Path, metrics: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        LVISEvaluator(Case(tmp_path, [(7, 5, BOX)]).dataset(), metrics=metrics)
    assert str(caught.value) == f"LVISEvaluator: metrics: {metrics}. It lists one or more of: bbox, segm."


def test_data_that_does_not_say_what_was_looked_for(tmp_path: Path) -> None:
    class Plain:
        classes: Sequence[str] = ("cat",)

        def __len__(self) -> int:
            return 0

        def __getitem__(self, index: int) -> Any:
            raise AssertionError(index)

    with pytest.raises(DataError) as caught:
        _ = LVISEvaluator(Plain()).truth
    assert str(caught.value) == (
        "LVISEvaluator: Plain does not say which classes were looked for in an image. "
        "It scores an LVISDataset; others have CocoEvaluator."
    )


@pytest.mark.parametrize(
    ("frequency", "what"),
    [({}, "Object missing required field `frequency`"), ({"frequency": "x"}, "Invalid enum value 'x'")],
)
def test_a_class_without_its_frequency_is_named(tmp_path: Path, frequency: dict[str, str], what: str) -> None:
    case = Case(tmp_path, [(7, 5, BOX)])
    case.content["categories"][1] = {"id": 5, "name": "cat", **frequency}
    with pytest.raises(DataError) as caught:
        case.figures([(7, 5, BOX, 0.9)])
    assert "lvis.json: categories[1]" in str(caught.value)
    assert what in str(caught.value)


def test_an_image_or_masks_that_there_are_not(tmp_path: Path) -> None:
    dataset = Case(tmp_path, [(7, 5, BOX)]).dataset(segmentation="polygons")
    found = Detections(torch.ones(1, 4), torch.ones(1), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(DataError, match=r"^LVISEvaluator: the dataset has no image 8$"):
        LVISEvaluator(dataset).update([found], [8])
    with pytest.raises(DataError, match=r'^LVISEvaluator: metrics: the detector gives no masks\. Leave out "segm"\.$'):
        LVISEvaluator(dataset, metrics=["segm"]).update([found], [7])
