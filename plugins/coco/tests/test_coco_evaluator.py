from __future__ import annotations

import gc
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from detcore.errors import ConfigError, DataError
from detcore.masks import encode, paste
from detcore.structures import Detections
from detcore_coco.dataset import CocoDataset
from detcore_coco.evaluator import ENGINES, NAMES, PROPOSALS, CocoEvaluator, evaluate, evaluate_files
from detcore_coco.truth import ground_truth
from PIL import Image
from pycocotools import mask as coco_mask
from torchvision import tv_tensors

DATA = Path(os.environ.get("DETCORE_TEST_DATA", Path(__file__).parents[3] / "../shared/data"))
API = DATA / "cocoapi"
TRUTH = API / "instances_val2014_100.json"
RESULTS = {metric: API / f"instances_val2014_fake{metric}100_results.json" for metric in ("bbox", "segm")}
needs_api = pytest.mark.skipif(not API.is_dir(), reason=f"no example of COCO's API at {API}")

PUBLISHED = {
    "bbox": (
        *(0.5045806987249628, 0.6969727247299577, 0.5729816669904824, 0.5856257209410443, 0.5193996948036719),
        *(0.5013978986347466, 0.38681277964578054, 0.5936795762842003, 0.595352982877607, 0.6398109626113442),
        *(0.5664205978994309, 0.5642905982905982),
    ),
    "segm": (
        *(0.3195452758576433, 0.5622883972521636, 0.29892653412086784, 0.3873740315997838, 0.31018272403369485),
        *(0.3269339071005138, 0.2682297225711534, 0.41544868114906375, 0.4168394992198818, 0.4694498622754236),
        *(0.37675922666197265, 0.3814715099715099),
    ),
}


class Boxes:
    """A dataset of three images named by letters: plain tensors, no accessor."""

    classes = ("dog", "cat")
    rows = ([[0, 0, 50, 50], [100, 100, 200, 220]], [[10, 10, 150, 150]], [])
    labels = ([0, 1], [1], [])

    def __len__(self):
        return 3

    def __getitem__(self, index):
        boxes = torch.tensor(self.rows[index], dtype=torch.float32).reshape(-1, 4)
        boxes = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(240, 320))
        target = {
            "boxes": boxes,
            "labels": torch.tensor(self.labels[index], dtype=torch.int64),
            "image_id": "abc"[index],
        }
        return torch.zeros(3, 240, 320, dtype=torch.uint8), target


class Crowded(Boxes):
    """The same, numbered, with masks, and the second object of the first image a crowd."""

    def annotations(self, index):
        target = Boxes.__getitem__(self, index)[1]
        masks = torch.zeros(len(target["boxes"]), 240, 320, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, target["boxes"].int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = 1
        crowd = torch.tensor([0, 1][: len(masks)], dtype=torch.int64)
        return {**target, "image_id": 10 + index, "masks": tv_tensors.Mask(masks), "iscrowd": crowd}

    def __getitem__(self, index):
        raise AssertionError("no image is needed")


def detections(target, score=0.9, masks=False):
    boxes = target["boxes"].as_subclass(torch.Tensor)
    square = torch.ones(len(boxes), 28, 28) if masks else None
    return Detections(boxes=boxes, scores=torch.full((len(boxes),), score), labels=target["labels"], masks=square)


def nothing():
    return Detections(boxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.int64))


@needs_api
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("metric", PUBLISHED)
def test_files_give_cocos_published_figures(metric, engine, capfd):
    scores = evaluate_files(str(TRUTH), str(RESULTS[metric]), metric, engine)
    assert [*scores.figures] == [*NAMES]
    assert np.abs(np.subtract([*scores.figures.values()], PUBLISHED[metric])).max() < 1e-12
    assert capfd.readouterr() == ("", "")
    defined = [value for value in scores.per_class.values() if value > -1]
    assert len(scores.per_class) == 80
    assert np.mean(defined) == pytest.approx(PUBLISHED[metric][0], abs=1e-12)  # AP is the mean of the classes'


@needs_api
def test_a_classs_figure_is_that_of_the_class_alone(tmp_path):
    scores = evaluate_files(str(TRUTH), str(RESULTS["bbox"]))
    truth, rows = json.loads(TRUTH.read_text()), json.loads(RESULTS["bbox"].read_text())
    for id_ in (1, 3, 62):
        alone = {
            **truth,
            "annotations": [row for row in truth["annotations"] if row["category_id"] == id_],
            "categories": [row for row in truth["categories"] if row["id"] == id_],
        }
        (tmp_path / "truth.json").write_text(json.dumps(alone))
        (tmp_path / "rows.json").write_text(json.dumps([row for row in rows if row["category_id"] == id_]))
        found = evaluate_files(str(tmp_path / "truth.json"), str(tmp_path / "rows.json"), engine="pycocotools")
        assert scores.per_class[id_] == pytest.approx(found.figures["AP"], abs=1e-12)


@needs_api
def test_engines_agree_on_proposals():
    faster, own = (evaluate_files(str(TRUTH), str(RESULTS["bbox"]), "proposal", engine) for engine in ENGINES)
    assert [*faster.figures] == [*PROPOSALS]
    assert faster.figures == pytest.approx(own.figures, abs=1e-12)
    assert 0.5 < faster.figures["AR100"] < 1
    assert faster.per_class == {}


@pytest.mark.parametrize("engine", ENGINES)
def test_proposals_count_whatever_their_class(engine):
    """150 boxes: of three objects one comes first, one as the 120th, one not at all."""
    dataset = Boxes()
    evaluator = CocoEvaluator(dataset, engine=engine, metrics=["proposal"])
    boxes = torch.tensor([[300.0, 200, 310, 210]]).repeat(150, 1)
    boxes[0], boxes[119] = torch.tensor([[0.0, 0, 50, 50], [100, 100, 200, 220]])
    found = Detections(boxes, torch.linspace(1, 0.5, 150), torch.ones(150, dtype=torch.int64))
    evaluator.update([found, nothing(), nothing()], ["a", "b", "c"])
    figures = evaluator.compute()
    assert figures["proposal_AR100"] == pytest.approx(1 / 3)
    assert figures["proposal_AR300"] == figures["proposal_AR1000"] == pytest.approx(2 / 3)
    assert (figures["proposal_ARs"], figures["proposal_ARm"]) == (-1, 1)
    assert figures["proposal_ARl"] == pytest.approx(1 / 2)


@needs_api
@pytest.mark.parametrize(("metric", "engine"), [("bbox", "faster"), ("bbox", "pycocotools"), ("segm", "faster")])
def test_detections_give_cocos_published_figures(metric, engine, tmp_path):
    """The example's results as detections, over a CocoDataset of its ground truth."""
    torch.set_num_threads(1)
    dataset = example(tmp_path, segmentation="none" if metric == "bbox" else "masks")
    evaluator = CocoEvaluator(dataset, engine=engine, metrics=[metric])
    rows = json.loads(RESULTS[metric].read_text())
    for id_ in dataset.image_ids.tolist():
        of_image = [row for row in rows if row["image_id"] == id_]
        evaluator.update([as_detections(of_image, dataset, metric)], [id_])
    figures = evaluator.compute()
    assert [*figures][:12] == [f"{metric}_{name}" for name in NAMES]
    assert [*figures][12:] == [f"{metric}_AP/{name}" for name in dataset.classes]
    assert np.abs(np.subtract([*figures.values()][:12], PUBLISHED[metric])).max() < 1e-12
    assert {row["category_id"] for row in evaluator.results()} == {row["category_id"] for row in rows}
    assert len(evaluator.results()) == len(rows)


def example(folder, **options):
    """The example's ground truth as a dataset; only the sizes of its images matter."""
    for image in json.loads(TRUTH.read_text())["images"]:
        Image.new("1", (image["width"], image["height"])).save(folder / image["file_name"], "PNG")
    return CocoDataset(annotations=str(TRUTH), images=str(folder), **options)


def as_detections(rows, dataset, metric):
    masks = None
    if metric == "segm":  # a mask over the whole image, so that pasting gives it back
        bitmaps = [coco_mask.decode(row["segmentation"]) for row in rows]
        corners = [[0.0, 0, bitmap.shape[1], bitmap.shape[0]] for bitmap in bitmaps]
        masks = torch.tensor(np.array(bitmaps), dtype=torch.float32) if rows else None
    else:
        corners = [[x, y, x + w, y + h] for x, y, w, h in (row["bbox"] for row in rows)]
    return Detections(
        boxes=torch.tensor(corners, dtype=torch.float64).reshape(-1, 4),
        scores=torch.tensor([row["score"] for row in rows], dtype=torch.float64),
        labels=torch.tensor([dataset.category_ids.index(row["category_id"]) for row in rows], dtype=torch.int64),
        masks=masks,
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_perfect_detections_score_one(engine, capfd):
    dataset = Boxes()
    evaluator = CocoEvaluator(dataset, engine=engine)
    evaluator.update([detections(dataset[index][1]) for index in range(3)], ["a", "b", "c"])
    figures = evaluator.compute()
    assert figures["bbox_AP"] == pytest.approx(1, abs=1e-12)
    assert figures["bbox_AR100"] == 1
    assert figures["bbox_APs"] == -1  # there is no small object
    assert figures["bbox_APl"] == pytest.approx(1, abs=1e-12)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("engine", ENGINES)
def test_half_of_the_objects_score_what_the_hand_says(engine):
    """Dog: found. Cat: one of two, at precision 1, so AP is 51 of 101 recall points. AP = (1 + 51/101) / 2."""
    dataset = Boxes()
    evaluator = CocoEvaluator(dataset, engine=engine)
    evaluator.update([detections(dataset[0][1])], ["a"])
    figures = evaluator.compute()
    assert figures["bbox_AP"] == pytest.approx((1 + 51 / 101) / 2, abs=1e-12)
    assert figures["bbox_AR100"] == pytest.approx(0.75, abs=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_shifted_box_counts_below_its_iou_only(engine):
    """A box of 140 x 140 shifted by 35 has an IoU of 105/175 = 0.6: 3 of 10 thresholds (0.5, 0.55, 0.6)."""
    dataset = Boxes()
    evaluator = CocoEvaluator(dataset, engine=engine)
    shifted = Detections(
        boxes=torch.tensor([[45.0, 10, 185, 150]]), scores=torch.tensor([0.5]), labels=torch.tensor([1])
    )
    evaluator.update([shifted], ["b"])
    figures = evaluator.compute()
    assert figures["bbox_AP50"] == pytest.approx(51 / 101 / 2, abs=1e-12)
    assert figures["bbox_AP"] == pytest.approx(0.3 * 51 / 101 / 2, abs=1e-12)
    assert figures["bbox_AP75"] == 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("updated", [0, 3])
def test_no_detections_score_zero(engine, updated, capfd):
    evaluator = CocoEvaluator(Crowded(), engine=engine, metrics=["bbox", "segm"])
    evaluator.update([nothing()] * updated, [10, 11, 12][:updated])
    classes = [f"AP/{name}" for name in Crowded.classes]
    assert evaluator.compute() == {
        f"{metric}_{name}": 0.0 for metric in ("bbox", "segm") for name in (*NAMES, *classes)
    }
    assert evaluator.results() == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("engine", ENGINES)
def test_what_hits_a_crowd_counts_neither_way(engine):
    dataset = Crowded()
    evaluator = CocoEvaluator(dataset, engine=engine, metrics=["bbox", "segm"])
    evaluator.update([detections(dataset.annotations(i), masks=True) for i in range(3)], [10, 11, 12])
    with_crowd = evaluator.compute()
    assert with_crowd["bbox_AP"] == pytest.approx(1, abs=1e-12)
    assert with_crowd["segm_AP"] == pytest.approx(1, abs=1e-12)
    alone = detections({key: value[:1] for key, value in dataset.annotations(0).items() if key in ("boxes", "labels")})
    bbox = CocoEvaluator(dataset, engine=engine)
    bbox.update([alone, detections(dataset.annotations(1))], [10, 11])
    assert bbox.compute()["bbox_AP"] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_size_of_a_mask_is_its_own_and_not_its_boxs(engine):
    """A small mask in a large box is a small detection: it must not count as a false one among the large."""
    dataset = Crowded()
    evaluator = CocoEvaluator(dataset, engine=engine, metrics=["segm"])
    right = detections(dataset.annotations(1), score=0.5, masks=True)
    dot = torch.zeros(1, 28, 28)
    dot[0, 13:15, 13:15] = 1
    wrong = Detections(
        boxes=torch.tensor([[0.0, 0, 200, 200]]), scores=torch.tensor([0.9]), labels=right.labels, masks=dot
    )
    evaluator.update([wrong, right], [12, 11])
    figures = evaluator.compute()
    assert figures["segm_APl"] == pytest.approx(1, abs=1e-12)
    assert figures["segm_AP"] == pytest.approx(0.25, abs=1e-12)  # dogs: not found; cats: precision 1/2 at every recall


def test_an_image_that_comes_twice_counts_once():
    dataset = Boxes()
    evaluator = CocoEvaluator(dataset)
    for _ in range(2):
        evaluator.update([detections(dataset[index][1]) for index in range(3)], ["a", "b", "c"])
    assert len(evaluator.results()) == 3
    assert evaluator.compute()["bbox_AP"] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("was", [True, False])
def test_the_search_for_cycles_is_as_it_was_afterwards(was):
    dataset, wrong = Boxes(), [{"image_id": 12345, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1.0}]
    (gc.enable if was else gc.disable)()
    try:
        with pytest.raises(AssertionError):  # the engine's own, of an image that there is not
            evaluate(ground_truth(dataset, outlines=False).content, wrong, "bbox", "faster")
        assert gc.isenabled() == was
    finally:
        gc.enable()


def test_results_have_the_datasets_ids_and_are_json():
    dataset = Boxes()
    evaluator = CocoEvaluator(dataset)
    evaluator.update([detections(dataset[0][1], score=0.25)], ["a"])
    assert json.loads(json.dumps(evaluator.results()))[1] == {
        "image_id": "a",
        "category_id": 2,
        "bbox": [100.0, 100.0, 100.0, 120.0],
        "score": 0.25,
    }


def test_polygons_of_targets_are_ground_truth():
    class Outlined(Boxes):
        def annotations(self, index):
            target = Boxes.__getitem__(self, index)[1]
            corners = [[[x1, y1], [x2, y1], [x2, y2], [x1, y2]] for x1, y1, x2, y2 in target["boxes"].tolist()]
            points = torch.tensor(corners).reshape(-1, 2)
            count = len(corners)
            outlines = {"offsets": torch.arange(count + 1) * 4, "owner": torch.arange(count)}
            return {**target, "polygons": tv_tensors.KeyPoints(points, canvas_size=(240, 320)), **outlines}

    evaluator = CocoEvaluator(Outlined(), metrics=["segm"])
    evaluator.update([detections(Boxes()[index][1], masks=True) for index in range(3)], ["a", "b", "c"])
    assert evaluator.compute()["segm_AP"] == pytest.approx(1, abs=1e-12)
    assert evaluator.truth.content["annotations"][0]["segmentation"] == [[0, 0, 50, 0, 50, 50, 0, 50]]


def test_annotations_are_numbered_from_one():
    rows = ground_truth(Boxes(), outlines=False).content["annotations"]
    assert [(row["id"], row["image_id"], row["category_id"]) for row in rows] == [(1, 1, 1), (2, 1, 2), (3, 2, 2)]


def test_wrong_arguments_and_data_are_named():
    dataset = Boxes()
    with pytest.raises(ConfigError, match=r'^CocoEvaluator: engine: "slow"\. Engines: faster, pycocotools\.$'):
        CocoEvaluator(dataset, engine="slow")
    with pytest.raises(
        ConfigError, match=r"^CocoEvaluator: metrics: \['mask'\]\. It lists one or more of: bbox, segm, proposal\.$"
    ):
        CocoEvaluator(dataset, metrics=["mask"])
    with pytest.raises(DataError, match=r"^CocoEvaluator: the dataset has no image 'z'$"):
        CocoEvaluator(dataset).update([nothing()], ["z"])
    with pytest.raises(
        DataError, match=r'^CocoEvaluator: metrics: the dataset has no outlines or masks for "segm"\. Have'
    ):
        CocoEvaluator(dataset, metrics=["segm"]).update([nothing()], ["a"])
    found = detections(Boxes()[0][1])
    with pytest.raises(DataError, match=r'^CocoEvaluator: metrics: the detector gives no masks\. Leave out "segm"\.$'):
        CocoEvaluator(Crowded(), metrics=["segm"]).update([found], [10])


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_of_a_file_score_what_their_detections_did(engine):
    dataset = Crowded()
    first, again = (CocoEvaluator(dataset, engine=engine, metrics=["bbox", "segm"]) for _ in range(2))
    found = [detections(dataset.annotations(index), masks=True) for index in range(3)]
    found[1].boxes[:, 2:] -= 3
    first.update(found, [10, 11, 12])
    rows = json.loads(json.dumps(first.results()))
    assert again.update_rows(rows, "r.json")
    assert again.compute() == first.compute()
    assert again.results() == rows
    assert not CocoEvaluator(dataset, engine=engine).update_rows(rows, "r.json")  # boxes come as detections


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (
            None,
            r'has no mask as run lengths\. Masks are {"size": \[height, width\], "counts": text}; or leave out "segm"',
        ),
        ([[0, 0, 9, 0, 9, 9]], "has no mask as run lengths"),
        ({"size": [240, 320], "counts": [3, 4]}, "has no mask as run lengths"),
        (
            {"size": [320, 240], "counts": "0"},
            r"the mask is for an image of \[height, width\] \[320, 240\], this one has",
        ),
    ],
)
def test_rows_without_a_mask_of_their_image_are_named(mask, message):
    row = {"image_id": 11, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5, "segmentation": mask}
    good = {**row, "segmentation": {"size": [240, 320], "counts": "PdT2"}}
    with pytest.raises(DataError, match=rf"^r\.json: \[1\]: {message}"):
        CocoEvaluator(Crowded(), metrics=["segm"]).update_rows([good, row], "r.json")


def test_two_images_with_one_id_are_named():
    class Twins(Boxes):
        def annotations(self, index):
            return {**Boxes.__getitem__(self, index)[1], "image_id": "a"}

    with pytest.raises(DataError, match=r"^Twins: image 1: an image before it has the id 'a' too$"):
        CocoEvaluator(Twins()).compute()


def test_files_that_do_not_belong_together_are_named(tmp_path):
    truth, results = tmp_path / "truth.json", tmp_path / "results.json"
    truth.write_text('{"images": [{"id": 1}], "annotations": []}')
    results.write_text('[{"image_id": 2}]')
    with pytest.raises(DataError, match=r"truth\.json: there is no categories\. COCO's format has"):
        evaluate_files(str(truth), str(results))
    truth.write_text('{"images": [{"id": 1}], "annotations": [], "categories": []}')
    with pytest.raises(
        DataError, match=r"results\.json: \[0\]: .*truth\.json has no image 2\. Do the two files belong together\?$"
    ):
        evaluate_files(str(truth), str(results))
    results.write_text("[]")
    assert evaluate_files(str(truth), str(results)).figures == dict.fromkeys(NAMES, 0.0)


def test_a_pasted_mask_fills_its_box_and_nothing_else():
    whole = paste(torch.ones(28, 28), torch.tensor([10.0, 20, 30, 50]), (60, 80))
    assert whole.sum() == 20 * 30
    assert whole[20:50, 10:30].all()
    half = torch.zeros(28, 28)
    half[:, 14:] = 1
    right = paste(half, torch.tensor([10.0, 20, 30, 50]), (60, 80))
    assert right[20:50, 20:30].all()
    assert right.sum() == 10 * 30
    outside = paste(torch.ones(28, 28), torch.tensor([-10.0, -5, 5, 100]), (60, 80))
    assert outside.sum() == 5 * 60
    assert paste(torch.ones(28, 28), torch.tensor([90.0, 0, 95, 5]), (60, 80)).sum() == 0
    assert np.array_equal(coco_mask.decode(encode(right)), right.numpy())


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (480, 640)])
def test_run_lengths_are_cocos_own(size, share):
    bitmap = torch.rand(size, generator=torch.Generator().manual_seed(0)) < share
    bitmap[: size[0] // 2, : size[1] // 3] = True
    runs = coco_mask.encode(np.asfortranarray(bitmap.numpy().astype(np.uint8)))
    assert encode(bitmap) == {"size": [*size], "counts": runs["counts"].decode("ascii")}
