"""Datasets of datasets, and orders: by hand, by conformance, and exactly resumed."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detcore import run
from detcore.assemble import build, load, prepare
from detcore.data import Loader
from detcore.errors import ConfigError, DataError
from detcore.interfaces import Dataset
from detcore.report import Flaw
from detcore.results import image_ids, targets
from detcore.structures import Detections
from detcore.testing import check_dataset, check_evaluator
from detcore_coco.evaluator import CocoEvaluator
from detcore_datasets.concat import ConcatDataset, PerDatasetEvaluator
from detcore_datasets.orders import AspectRatioOrder, ClassAwareOrder, WeightedOrder
from detcore_datasets.wrappers import CachedDataset, ClassBalancedDataset, RepeatDataset, SubsetDataset, repeats
from detcore_shapes.shapes import ShapesDataset
from detcore_transforms.mosaic import MixUp, Mosaic
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors


class Labelled:
    """Images with given labels and sizes; ``read`` counts how often each was read."""

    def __init__(self, *labels: list[int], classes: Any = ("cat", "dog", "emu"), sizes: Any = None) -> None:
        self.labels = labels
        self.classes = classes
        self.sizes = sizes or [(8, 8)] * len(labels)
        self.read: Counter[int] = Counter()
        self.report: list[Flaw] = []

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        self.read[index] += 1
        noise = torch.randint(0, 9, ())
        return tv_tensors.Image(
            torch.full((3, *self.sizes[index]), index, dtype=torch.uint8) + noise
        ), self.annotations(index)

    def annotations(self, index: int) -> dict[str, Any]:
        labels = torch.tensor(self.labels[index], dtype=torch.int64)
        boxes = torch.tensor([[0.0, 0, 4, 4]]).repeat(len(labels), 1)
        boxes = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=self.sizes[index])
        return {"boxes": boxes, "labels": labels, "image_id": 10 * index}


def ids(dataset: Dataset) -> list[int | str]:
    return [dataset[index][1]["image_id"] for index in range(len(dataset))]


SHAPES = {"length": 6, "size": (70, 80), "polygons": True}


@pytest.mark.parametrize(
    "dataset",
    [
        SubsetDataset(dataset=ShapesDataset(**SHAPES), first=4),
        CachedDataset(dataset=ShapesDataset(**SHAPES), samples=2),
        ConcatDataset(datasets={"a": ShapesDataset(**SHAPES), "b": ShapesDataset(**SHAPES, split="val")}),
    ],
    ids=lambda each: type(each).__name__,
)
def test_datasets_of_datasets_are_datasets(dataset: Dataset) -> None:
    check_dataset(dataset)
    assert image_ids(dataset) == ids(dataset)
    assert [target["image_id"] for target in targets(dataset)] == ids(dataset)
    check_evaluator(CocoEvaluator, dataset)


def test_a_dataset_is_repeated() -> None:
    dataset = RepeatDataset(dataset=Labelled([0], [1]), times=3)
    assert ids(dataset) == [0, 10] * 3
    assert dataset.classes == ("cat", "dog", "emu")
    with pytest.raises(IndexError, match="image 6 of 6"):
        dataset[6]


def test_some_images_are_taken() -> None:
    five = Labelled(*[[0]] * 5)
    assert ids(SubsetDataset(dataset=five, indices=[3, 1])) == [30, 10]
    assert ids(SubsetDataset(dataset=five, first=2)) == [0, 10]
    assert ids(SubsetDataset(dataset=five, first=9)) == [0, 10, 20, 30, 40]
    shares = {tuple(ids(SubsetDataset(dataset=five, fraction=0.4, seed=seed))) for seed in range(20)}
    assert len(shares) > 4
    assert all(len(each) == 2 and sorted(each) == list(each) for each in shares)
    assert ids(SubsetDataset(dataset=five, fraction=0.4)) == ids(SubsetDataset(dataset=five, fraction=0.4))
    assert len(SubsetDataset(dataset=five, fraction=0.01)) == 1


def test_the_file_of_an_image_is_that_of_the_sample() -> None:
    class Filed(Labelled):
        def path(self, index: int) -> Path:
            return Path(f"{index}.png")

    dataset: Any = SubsetDataset(dataset=Filed([0], [0], [0]), indices=[2, 0])
    assert [dataset.path(index).name for index in range(2)] == ["2.png", "0.png"]


def test_repeat_factors_by_hand() -> None:
    """Of eight images all have class 0, two class 1 (a share of 1/4), one class 2 (1/8)."""
    labels = [{0}, {0}, {0}, {0}, {0}, {0, 1}, {0, 1, 2}, set()]
    assert repeats(labels, 0.5) == [1, 1, 1, 1, 1, 2, 2, 1]  # sqrt(0.5 / 0.25) = 1.4, sqrt(0.5 / 0.125) = 2
    assert repeats(labels, 0.9) == [2, 2, 2, 2, 2, 2, 3, 1]  # sqrt(0.9 / 0.875) = 1.01, 1.9, 2.7
    assert repeats(labels, 0.1) == [1] * 8


def test_images_of_rare_classes_come_several_times() -> None:
    data = Labelled([0], [0], [0], [0, 1])
    dataset = ClassBalancedDataset(dataset=data, oversample_thr=1.0)
    assert not data.read
    assert ids(dataset) == [0, 10, 20, 30, 30]


def test_what_is_remembered_is_bounded_and_is_a_copy() -> None:
    data = Labelled([0], [1], [2])
    cached = CachedDataset(dataset=data, samples=2)
    for index in (0, 1, 0, 2, 0, 1):
        cached[index][0].zero_()
        cached[index][1]["labels"].fill_(7)
        cached[index][1].clear()
    assert data.read == {0: 1, 1: 2, 2: 1}  # 1 was forgotten for 2: 0 had been asked for after it
    assert cached[1][1]["labels"].tolist() == [1]
    assert len(pickle.loads(pickle.dumps(cached))._read) == 0


def test_it_is_not_seen_in_the_random_numbers_whether_a_sample_was_remembered() -> None:
    cached = CachedDataset(dataset=Labelled([0]))
    torch.manual_seed(0)
    first, one = cached[0][0], torch.rand(())
    torch.manual_seed(0)
    second, two = cached[0][0], torch.rand(())
    assert torch.equal(first, second)
    assert one == two


def batches(dataset: Any, workers: int) -> list[Any]:
    transforms = [Mosaic(size=(40, 40)), MixUp(size=(40, 40))]
    loader = Loader(dataset, transforms, batch_size=2, shuffle=True, seed=4, workers=workers, persistent=True)
    return [batch for epoch in (0, 1) for batch in loader.epoch(epoch)]


@pytest.mark.parametrize("workers", [0, 2, 4])
@pytest.mark.parametrize("samples", [1, 3, 100])
def test_mixed_batches_of_what_is_remembered_are_those_of_what_is_read(samples: int, workers: int) -> None:
    plain = ShapesDataset(length=6, size=(64, 64), polygons=True)
    expected, found = batches(plain, 0), batches(CachedDataset(dataset=plain, samples=samples), workers)
    assert len(expected) == len(found) == 6
    for one, other in zip(expected, found, strict=True):
        assert all(torch.equal(*pair) for pair in zip(one.images, other.images, strict=True))
        assert torch.equal(one.targets.boxes, other.targets.boxes)
        for mine, theirs in zip(one.targets.masks, other.targets.masks, strict=True):
            assert torch.equal(mine.points, theirs.points)


# ---------------------------------------------------------------------------------------------------------- several


def test_several_datasets_one_after_the_other() -> None:
    first, second = Labelled([0], [1]), Labelled([2])
    dataset = ConcatDataset(datasets={"a": first, "b": second})
    assert ids(dataset) == ["a/0", "a/10", "b/0"]
    assert [target["labels"].tolist() for target in targets(dataset)] == [[0], [1], [2]]
    for index in (-1, 3):
        with pytest.raises(IndexError):
            dataset[index]


def test_flaws_of_all_parts_are_noted_in_one_list_also_in_a_copy() -> None:
    parts = {"a": Labelled([0]), "b": SubsetDataset(dataset=Labelled([0], [1]), first=1)}
    parts["a"].report.append(Flaw("a.json", "odd", "kept", "odd"))
    whole = ConcatDataset(datasets=parts)
    for dataset in (pickle.loads(pickle.dumps(whole)), whole):
        before = len(dataset.report)
        dataset.parts["b"].dataset.report.append(Flaw("b.json", "odd", "kept", "odd"))
        assert dataset.parts["a"].report is dataset.parts["b"].report is dataset.report
        assert len(dataset.report) == before + 1


def test_metrics_of_each_part_and_their_mean() -> None:
    parts = {"a": Labelled([0], [1]), "b": Labelled([2])}
    dataset = ConcatDataset(datasets=parts)
    evaluator = PerDatasetEvaluator(dataset, evaluator=CocoEvaluator)
    box = torch.tensor([[0.0, 0, 4, 4]])
    for name, label in (("a/0", 0), ("a/10", 0), ("b/0", 2)):  # the second is wrong
        evaluator.update([Detections(box, torch.ones(1), torch.tensor([label]))], [name])
    metrics = evaluator.compute()
    assert next(iter(metrics)) == "mean_bbox_AP"
    assert metrics["b/bbox_AP"] == pytest.approx(1)
    assert 0 < metrics["a/bbox_AP"] < 1
    assert metrics["mean_bbox_AP"] == pytest.approx((1 + metrics["a/bbox_AP"]) / 2)
    assert [row["image_id"] for row in evaluator.results() or ()] == ["a/0", "a/10", "b/0"]
    with pytest.raises(DataError, match="the dataset has no image 'c/0'"):
        evaluator.update([Detections(box, torch.ones(1), torch.tensor([0]))], ["c/0"])


def test_parts_without_rows_make_none() -> None:
    class Silent(CocoEvaluator):
        def results(self) -> Any:
            return None

    assert PerDatasetEvaluator(ConcatDataset(datasets={"a": Labelled([0])}), evaluator=Silent).results() is None


# ----------------------------------------------------------------------------------------------------------- orders

WIDE, TALL = (8, 12), (12, 8)


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 5), st.integers(0, 99), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_batches_have_one_aspect_until_what_is_left_over(wide: list[bool], size: int, seed: int, epoch: int) -> None:
    data = Labelled(*[[0]] * len(wide), sizes=[WIDE if each else TALL for each in wide])
    order = AspectRatioOrder(data, size)
    indices = order(seed, epoch)
    assert sorted(indices) == [*range(len(wide))]
    assert len(order) == len(wide)
    whole = sum(wide) // size + (len(wide) - sum(wide)) // size
    for batch in range(whole):
        assert len({wide[index] for index in indices[batch * size : (batch + 1) * size]}) == 1
    assert not data.read


def test_sizes_are_asked_of_the_dataset_where_it_knows_them() -> None:
    class Sized(Labelled):
        def size(self, index: int) -> tuple[int, int]:
            return WIDE

        def annotations(self, index: int) -> Any:
            raise AssertionError

    assert AspectRatioOrder(Sized([0], [0]), 2).wide == [True, True]


def counts(order: Any, epochs: int = 60) -> Counter[int]:
    return Counter(index for epoch in range(epochs) for index in order(1, epoch))


def test_classes_are_drawn_alike() -> None:
    """Class 0 has three images, class 1 one; two images have none."""
    order = ClassAwareOrder(Labelled([0], [0, 0], [0], [1], [], []), 2)
    drawn = counts(order)
    assert order.weights.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1, 0, 0])
    assert drawn[4] == drawn[5] == 0
    assert 140 < drawn[3] < 220  # half of 360
    assert len(order) == len(order(0, 0)) == 6


def test_images_are_drawn_by_the_weights_of_their_classes() -> None:
    order = WeightedOrder(Labelled([0], [0, 1], [2], []), 2, weights={"dog": 4.0, "emu": 0.0})
    assert order.weights.tolist() == [1, 4, 0, 1]
    assert counts(order)[2] == 0


@pytest.mark.parametrize("kind", ["AspectRatioOrder", "ClassAwareOrder", "WeightedOrder"])
def test_an_order_is_a_pure_function_and_an_epoch_goes_on_where_it_stopped(kind: str) -> None:
    more: Any = {"weights": {"dog": 3.0}} if kind == "WeightedOrder" else {}
    data = Labelled(*[[index % 3] for index in range(11)], sizes=[WIDE, TALL, WIDE, TALL, TALL] * 2 + [WIDE])
    order = globals()[kind](data, 3, **more)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert order(5, 2) == order(5, 2)
    assert torch.equal(before, torch.get_rng_state())
    assert len({tuple(order(seed, epoch)) for seed in range(2) for epoch in range(3)}) == 6
    loaders = [Loader(data, batch_size=3, shuffle=True, seed=5, order=order, rank=rank, world=2) for rank in (0, 1)]
    whole = [[*one, *other] for one, other in zip(*(loader.places(2) for loader in loaders), strict=True)]
    assert [index for batch in whole for _, _, index in batch] == [*order(5, 2)]
    assert loaders[0].places(2, start=2) == loaders[0].places(2)[2:]


RECIPE = """
_base_ = "{quickstart}"
[train]
batch_size = 2
[train.order]
type = "WeightedOrder"
weights = {{ circle = 5.0 }}
[train.dataset]
_delete_ = true
type = "ConcatDataset"
datasets.a = {{ type = "RepeatDataset", times = 2, dataset = {{ type = "ShapesDataset", length = 3 }} }}
datasets.b = {{ type = "CachedDataset", dataset = {{ type = "ShapesDataset", length = 2, seed = 1 }} }}
[val]
evaluator = {{ _delete_ = true, type = "PerDatasetEvaluator", evaluator = {{ type = "CocoEvaluator" }} }}
[val.dataset]
_delete_ = true
type = "ConcatDataset"
datasets.a = {{ type = "SubsetDataset", fraction = 0.5, dataset = {{ type = "ShapesDataset", length = 4, split = "val" }} }}
"""


def test_a_config_wires_them(tmp_path: Path) -> None:
    quickstart = Path(__file__).parents[3] / "configs" / "quickstart.toml"
    (tmp_path / "my.toml").write_text(RECIPE.format(quickstart=quickstart.as_posix()))
    assert run.check(str(tmp_path / "my.toml"))[-1].endswith("no problem found")
    parts = build(*load(str(tmp_path / "my.toml")), "cpu", wanted=("model", "train", "optimizer"))
    loader = prepare(parts, tmp_path / "run").loader
    assert len(loader) == 4
    assert isinstance(loader.order, WeightedOrder)
    assert {str(name)[:2] for batch in loader.epoch(0) for name in batch.ids} <= {"a/", "b/"}


# ----------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: RepeatDataset(dataset=Labelled([0]), times=0), "RepeatDataset: times: 0. It is at least 1."),
        (
            lambda: SubsetDataset(dataset=Labelled([0])),
            "SubsetDataset: takes one of indices, first, fraction, found none",
        ),
        (
            lambda: SubsetDataset(dataset=Labelled([0]), first=1, fraction=0.5),
            "SubsetDataset: takes one of indices, first, fraction, found first and fraction",
        ),
        (
            lambda: SubsetDataset(dataset=Labelled([0]), indices=[0, 1]),
            "SubsetDataset: indices: 1. The dataset has images 0 to 0.",
        ),
        (lambda: SubsetDataset(dataset=Labelled([0]), first=0), "SubsetDataset: first: 0. It is at least 1."),
        (
            lambda: SubsetDataset(dataset=Labelled([0]), fraction=1.5),
            "SubsetDataset: fraction: 1.5. It is a share above 0, up to 1.",
        ),
        (
            lambda: ClassBalancedDataset(dataset=Labelled([0]), oversample_thr=0),
            "ClassBalancedDataset: oversample_thr: 0. It is a share above 0, up to 1.",
        ),
        (lambda: CachedDataset(dataset=Labelled([0]), samples=0), "CachedDataset: samples: 0. It is at least 1."),
        (lambda: ConcatDataset(datasets={}), "ConcatDataset: datasets: there are none. Name at least one."),
        (
            lambda: ConcatDataset(datasets={"a/b": Labelled([0])}),
            "ConcatDataset: datasets: a name has a slash. It stands between name and id.",
        ),
        (
            lambda: ConcatDataset(
                datasets={"a": Labelled([0]), "b": Labelled([0], classes=("cat", "emu", "dog", "fox"))}
            ),
            "ConcatDataset: datasets: labels mean different classes: 1 is dog (a), emu (b); 2 is emu (a), dog (b); "
            '3 is - (a), fox (b). Name the classes at the top of the config: classes = ["...", ...].',
        ),
        (
            lambda: PerDatasetEvaluator(Labelled([0]), evaluator=CocoEvaluator),
            "PerDatasetEvaluator: the dataset is a Labelled. It is for a ConcatDataset.",
        ),
        (
            lambda: ClassAwareOrder(Labelled([], []), 1),
            "ClassAwareOrder: no image has an object: no class can be drawn",
        ),
        (
            lambda: WeightedOrder(Labelled([0]), 1, weights={"cats": 1}),
            'WeightedOrder: weights: the data has no class "cats". Did you mean "cat"?',
        ),
        (
            lambda: WeightedOrder(Labelled([0]), 1, weights={"cat": -1}),
            "WeightedOrder: weights: cat: -1. A weight is at least 0.",
        ),
        (
            lambda: WeightedOrder(Labelled([0]), 1, weights={"cat": 0}),
            "WeightedOrder: weights: no image has a weight above 0. Give one to a class.",
        ),
    ],
)
def test_what_cannot_be_is_one_line(make: Callable[[], Any], line: str) -> None:
    with pytest.raises((ConfigError, DataError)) as caught:
        make()
    assert str(caught.value) == line
