from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from detcore.errors import ConfigError, DataError
from detcore.structures import Detections
from detcore_voc.evaluator import VOCEvaluator, average_precision
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors


class Objects:
    """A dataset of nothing but targets: per image rows of (box, label, iscrowd)."""

    def __init__(self, images, classes=("a", "b"), ids=None) -> None:
        self.classes = classes
        self.images = images
        self.ids = ids or [*range(len(images))]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index):
        raise AssertionError("no image is to be read")

    def annotations(self, index):
        rows = self.images[index]
        boxes = torch.tensor([row[0] for row in rows], dtype=torch.float32).reshape(-1, 4)
        return {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(100, 100)),
            "labels": torch.tensor([row[1] for row in rows], dtype=torch.int64),
            "iscrowd": torch.tensor([row[2] for row in rows], dtype=torch.int64),
            "image_id": self.ids[index],
        }


def found(rows) -> Detections:
    """Rows of (box, label, score)."""
    return Detections(
        torch.tensor([row[0] for row in rows], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([row[2] for row in rows], dtype=torch.float32),
        torch.tensor([row[1] for row in rows], dtype=torch.int64),
    )


def score(images, detections, **options) -> dict[str, float]:
    evaluator = VOCEvaluator(Objects(images), **options)
    evaluator.update([found(rows) for rows in detections], [*range(len(detections))])
    return evaluator.compute()


BOX, FAR = [10, 10, 20, 20], [50, 50, 60, 60]


def test_average_precision_by_hand():
    right = np.array([True, False, True, False])  # precision 1, 1/2, 2/3, 1/2 at a recall of 1/4, 1/4, 2/4, 2/4
    assert average_precision(right, 4, "area") == pytest.approx((1 + 2 / 3) / 4)
    # 0, 0.1, 0.2: 1; 0.3, 0.4, 0.5: 2/3; beyond: 0
    assert average_precision(right, 4, "11-point") == pytest.approx((3 * 1 + 3 * 2 / 3) / 11)
    # 3 of 10 reaches a recall of 0.3, whatever 0.1 + 0.2 is
    assert average_precision(np.array([True] * 3), 10, "11-point") == pytest.approx(4 / 11)
    assert average_precision(np.array([], np.bool_), 10, "11-point") == 0
    assert average_precision(np.array([True]), 1, "11-point") == 1


def test_the_mean_comes_first_then_each_class():
    images = [[(BOX, 0, 0), (FAR, 1, 0)], [(FAR, 1, 0)]]
    figures = score(images, [[(BOX, 0, 0.5), (FAR, 1, 0.9)], []])
    assert [*figures] == ["mAP", "AP_a", "AP_b"]
    assert figures == {"mAP": 0.75, "AP_a": 1.0, "AP_b": 0.5}


def test_a_second_detection_of_an_object_is_wrong():
    one = score([[(BOX, 0, 0), (FAR, 0, 0)]], [[(BOX, 0, 0.9), (BOX, 0, 0.8), (FAR, 0, 0.7)]])
    assert one["AP_a"] == pytest.approx((1 + 2 / 3) / 2)


def test_a_detection_belongs_to_the_object_it_overlaps_most_even_where_that_is_taken():
    near = [10, 10, 20, 22]
    rows = [(BOX, 0, 0.9), (BOX, 0, 0.8)]  # COCO would give the second one to the object beside
    assert score([[(BOX, 0, 0), (near, 0, 0)]], [rows])["AP_a"] == 0.5


def test_ignored_objects_count_neither_for_nor_against():
    hard = [(BOX, 0, 0), (FAR, 0, 1)]
    assert score([hard], [[(FAR, 0, 0.9), (FAR, 0, 0.8), (BOX, 0, 0.7)]])["AP_a"] == 1
    assert score([[(FAR, 0, 1)]], [[(FAR, 0, 0.9)]]) == {"mAP": -1, "AP_a": -1, "AP_b": -1}


def test_a_class_without_objects_is_left_out_of_the_mean():
    assert score([[(BOX, 0, 0)]], [[(BOX, 0, 0.9), (FAR, 1, 0.9)]]) == {"mAP": 1, "AP_a": 1, "AP_b": -1}


def test_another_class_is_no_hit():
    assert score([[(BOX, 0, 0), (FAR, 1, 0)]], [[(BOX, 1, 0.9)]])["mAP"] == 0


@pytest.mark.parametrize(("threshold", "value"), [(0.5, 1.0), (0.51, 0.0)])
def test_the_threshold_itself_is_enough(threshold, value):
    half = [10, 10, 20, 15]
    assert score([[(BOX, 0, 0)]], [[(half, 0, 0.9)]], iou_threshold=threshold)["AP_a"] == value


def test_nothing_found_scores_zero():
    evaluator = VOCEvaluator(Objects([[(BOX, 0, 0)], []]))
    assert evaluator.compute() == {"mAP": 0.0, "AP_a": 0.0, "AP_b": -1.0}
    evaluator.update([found([])], [1])
    assert evaluator.compute()["mAP"] == 0


def test_of_an_image_that_comes_again_the_last_detections_count():
    evaluator = VOCEvaluator(Objects([[(BOX, 0, 0)]]))
    evaluator.update([found([(FAR, 0, 0.9)])], [0])
    evaluator.update([found([(BOX, 0, 0.9)])], [0])
    assert evaluator.compute()["mAP"] == 1


def test_samples_serve_where_there_are_no_annotations():
    class Samples:
        classes = ("a", "b")

        def __len__(self):
            return 1

        def __getitem__(self, index):
            target = Objects([[(BOX, 0, 0)]]).annotations(index)
            return None, {key: target[key] for key in ("boxes", "labels")}

    evaluator = VOCEvaluator(Samples())
    evaluator.update([found([(BOX, 0, 0.9)])], [0])
    assert evaluator.compute()["mAP"] == 1


def test_an_image_that_the_dataset_does_not_have_is_an_error():
    with pytest.raises(DataError, match=r"^VOCEvaluator: the dataset has no image 'x'$"):
        VOCEvaluator(Objects([[(BOX, 0, 0)]])).update([found([])], ["x"])


def test_two_images_of_one_id_are_an_error():
    with pytest.raises(DataError, match=r"^Objects: image 1: an image before it has the id 'x' too$"):
        VOCEvaluator(Objects([[], []], ids=["x", "x"])).compute()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interpolation": "101"}, 'VOCEvaluator: interpolation: "101". It is "area" or "11-point".'),
        ({"iou_threshold": 0.0}, "VOCEvaluator: iou_threshold: 0.0. It is above 0 and at most 1."),
    ],
)
def test_options_that_cannot_be_are_errors(options, message):
    with pytest.raises(ConfigError) as caught:
        VOCEvaluator(Objects([[]]), **options)
    assert str(caught.value) == message


# ------------------------------------------------------------------------------- against the development kit's loops


def iou(one, other) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - both)


def by_loops(images, detections, label, interpolation, threshold):
    """VOCevaldet.m and VOCap.m, line by line."""
    there = sum(1 for rows in images for _, of, ignored in rows if of == label and not ignored)
    if not there:
        return -1.0
    every = [(-s, image, place, box) for image, rows in enumerate(detections)
             for place, (box, of, s) in enumerate(rows) if of == label]  # fmt: skip
    taken, right, wrong = set(), [], []
    for _, image, _, box in sorted(every, key=lambda each: each[:3]):
        most, which = -1.0, None
        for number, (truth, of, ignored) in enumerate(images[image]):
            if of == label and iou(box, truth) > most:
                most, which = iou(box, truth), (image, number, ignored)
        if most >= threshold and which is not None:
            if which[2]:
                right.append(0), wrong.append(0)
            elif which in taken:
                right.append(0), wrong.append(1)
            else:
                taken.add(which)
                right.append(1), wrong.append(0)
        else:
            right.append(0), wrong.append(1)
    hits, misses = np.cumsum(right), np.cumsum(wrong)
    pairs = [(h, h / (h + m)) for h, m in zip(hits, misses, strict=True) if h + m]
    if interpolation == "11-point":
        return sum(max((p for h, p in pairs if 10 * h >= k * there), default=0.0) for k in range(11)) / 11
    recall = [0.0, *(h / there for h, _ in pairs), 1.0]
    precision = [0.0, *(p for _, p in pairs), 0.0]
    for place in range(len(precision) - 2, -1, -1):
        precision[place] = max(precision[place], precision[place + 1])
    return sum((recall[k] - recall[k - 1]) * precision[k] for k in range(1, len(recall)))


corner, side = st.integers(0, 6), st.integers(1, 4)
boxes = st.tuples(corner, corner, side, side).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])
objects = st.lists(st.tuples(boxes, st.integers(0, 1), st.sampled_from([0, 0, 0, 1])), max_size=5)
detections = st.lists(st.tuples(boxes, st.integers(0, 1), st.sampled_from([0.25, 0.5, 0.75, 0.875])), max_size=8)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(objects, detections), min_size=1, max_size=4), st.sampled_from(["area", "11-point"]))
def test_figures_are_those_of_the_loops(pairs, interpolation):
    images, finds = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    figures = score(images, finds, interpolation=interpolation)
    for label, name in enumerate("ab"):
        expected = by_loops(images, finds, label, interpolation, 0.5)
        assert figures[f"AP_{name}"] == pytest.approx(expected, abs=1e-12)


def test_objects_apart_score_as_cocos_code_scores_them():
    """With a recall threshold for each object, and objects that share no detection, COCO's AP is VOC's area."""
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed: nothing to compare with")
    from pycocotools.cocoeval import COCOeval

    generator = torch.Generator().manual_seed(0)
    images, finds = [], []
    for _ in range(30):
        cells = torch.randperm(25, generator=generator)[:6]
        rows = [([20 * (c % 5), 20 * (c // 5), 20 * (c % 5) + 16, 20 * (c // 5) + 16], 0, 0) for c in cells.tolist()]
        noise = torch.randint(-5, 6, (6, 4), generator=generator).tolist()
        scores = torch.rand(6, generator=generator).tolist()
        images.append(rows)
        finds.append([([a + b for a, b in zip(row[0], shift, strict=True)], 0, s)
                      for row, shift, s in zip(rows, noise, scores, strict=True)])  # fmt: skip

    def xywh(box):
        return [box[0], box[1], box[2] - box[0], box[3] - box[1]]

    truth = coco.COCO()
    rows = [(number, xywh(box)) for number, image in enumerate(images) for box, _, _ in image]
    truth.dataset = {
        "info": {},
        "images": [{"id": number} for number in range(30)],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {"id": n, "image_id": i, "category_id": 1, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
            for n, (i, b) in enumerate(rows, 1)
        ],
    }
    truth.createIndex()
    results = [
        {"image_id": i, "category_id": 1, "bbox": xywh(b), "score": s} for i, r in enumerate(finds) for b, _, s in r
    ]
    evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
    evaluation.params.iouThrs = np.array([0.5])
    evaluation.params.recThrs = np.arange(1, len(rows) + 1) / len(rows)
    evaluation.evaluate()
    evaluation.accumulate()
    expected = float(evaluation.eval["precision"][0, :, 0, 0, -1].mean())
    assert 0.1 < expected < 0.9
    assert score(images, finds)["AP_a"] == pytest.approx(expected, abs=1e-9)


def test_many_images_take_seconds():
    generator = np.random.default_rng(0)

    def random_boxes(count):
        low = generator.uniform(0, 400, (count, 2))
        return np.concatenate([low, low + generator.uniform(20, 200, (count, 2))], 1)

    def random_labels(count):
        return generator.integers(0, 2, count)

    def detections():
        scores = torch.from_numpy(generator.random(100))
        return Detections(torch.from_numpy(random_boxes(100)).float(), scores, torch.from_numpy(random_labels(100)))

    images = [[*zip(random_boxes(7).tolist(), random_labels(7), [0] * 7, strict=True)] for _ in range(500)]
    finds = [detections() for _ in range(500)]
    evaluator = VOCEvaluator(Objects(images))
    start = time.process_time()
    evaluator.update(finds, [*range(500)])
    assert 0 < evaluator.compute()["mAP"] < 1
    assert time.process_time() - start < 5  # a tenth of a second or two; loops would take a minute
