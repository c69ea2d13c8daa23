"""Transforms, data sets and metrics: each table of MMDetection, and what it becomes, written by hand."""

from __future__ import annotations

from typing import Any

import pytest
from detcore.plugins import discover
from detcore_mmdet.config import Imported, import_config
from mmdet_configs import new, old

CATALOG = discover()
LOAD: list[dict[str, Any]] = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations", "with_bbox": True}]
SANITIZE = {"type": "Sanitize"}
WIDE = [640, 480]


def imported(config: dict[str, Any]) -> Imported:
    return import_config(config, CATALOG)


def trained(*transforms: dict[str, Any]) -> Imported:
    """A config of 3.x that trains on these."""
    return imported(new(train_dataloader__dataset__pipeline=[*LOAD, *transforms]))


def older(*transforms: dict[str, Any]) -> Imported:
    """The same of 2.x."""
    return imported(old(data__train__pipeline=[*LOAD, *transforms]))


def resized(*sizes: list[int], **more: Any) -> dict[str, Any]:
    return {"type": "RandomChoiceResize", "sizes": [*sizes], **more, "antialias": False}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"type": "Resize", "scale": [480, 640], "keep_ratio": True}, [resized([480, 640])]),
        ({"type": "Resize", "scale": WIDE, "keep_ratio": False},
         [{"type": "Resize", "size": [480, 640], "antialias": False}]),
        ({"type": "RandomChoiceResize", "scales": [[1333, 480], [1333, 512]], "keep_ratio": True},
         [resized([480, 1333], [512, 1333])]),
        ({"type": "RandomChoiceResize", "scales": [WIDE, [320, 256]]}, [resized([480, 640], [256, 320], keep_ratio=False)]),
        ({"type": "RandomResize", "scale": [[1333, 800], [1333, 640]], "keep_ratio": True},
         [{"type": "RandomRangeResize", "least": [640, 1333], "most": [800, 1333], "antialias": False}]),
        ({"type": "RandomResize", "scale": [1024, 1024], "ratio_range": [0.1, 2.0], "keep_ratio": True},
         [{"type": "RandomRangeResize", "least": [1024, 1024], "ratio": [0.1, 2.0], "antialias": False}]),
        ({"type": "RandomFlip", "prob": 0.3, "direction": "vertical"}, [{"type": "RandomVerticalFlip", "p": 0.3}]),
        ({"type": "RandomFlip", "prob": [0.3, 0.2], "direction": ["horizontal", "vertical"]},
         [{"type": "RandomChoice", "p": [0.3, 0.2, 0.5], "transforms": [
             {"type": "RandomHorizontalFlip", "p": 1.0}, {"type": "RandomVerticalFlip", "p": 1.0}, {"type": "Identity"}]}]),
        ({"type": "RandomCrop", "crop_size": [384, 600], "crop_type": "absolute_range", "allow_negative_crop": True},
         [{"type": "RandomSizeCrop", "size": [384, 600], "kind": "absolute_range", "allow_empty": True}]),
        ({"type": "RandomCrop", "crop_size": WIDE}, [{"type": "RandomSizeCrop", "size": [480, 640]}]),
        ({"type": "MinIoURandomCrop", "min_ious": [0.4, 0.5], "min_crop_size": 0.3},
         [{"type": "MinIoURandomCrop", "min_ious": [0.4, 0.5], "min_crop_size": 0.3}]),
        ({"type": "Expand", "mean": [1, 2, 3], "to_rgb": False, "ratio_range": [1, 2]},
         [{"type": "RandomZoomOut", "fill": [3.0, 2.0, 1.0], "side_range": [1.0, 2.0]}]),
        ({"type": "PhotoMetricDistortion", "brightness_delta": 16}, [{"type": "PhotoMetricDistortion", "brightness_delta": 16}]),
        ({"type": "YOLOXHSVRandomAug"}, [{"type": "YOLOXHSVRandomAug"}]),
        ({"type": "RandomAffine", "scaling_ratio_range": [0.1, 2], "border": [-320, -240], "max_shear_degree": 0.0},
         [{"type": "YOLOXRandomAffine", "scale": [0.1, 2], "border": [-240, -320], "shear": 0.0}]),
        ({"type": "RandomChoice", "transforms": [[{"type": "Resize", "scale": [600, 400], "keep_ratio": True}],
                                                 [{"type": "RandomFlip", "prob": 0.5},
                                                  {"type": "Resize", "scale": [600, 400], "keep_ratio": True}]]},
         [{"type": "RandomChoice", "transforms": [
             resized([400, 600]),
             {"type": "Compose", "transforms": [{"type": "RandomHorizontalFlip"}, resized([400, 600])]}]}]),
        ({"type": "RandomCenterCropPad", "crop_size": [511, 500], "ratios": [0.6, 1.3], "border": 128, "test_mode": False,
          "test_pad_mode": None, "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "to_rgb": True},
         [{"type": "RandomCenterCropPad", "size": [500, 511], "ratios": [0.6, 1.3], "fill": [124, 116, 104], "border": 128}]),
    ],
)  # fmt: skip
def test_transforms(theirs: dict[str, Any], ours: list[dict[str, Any]]) -> None:
    found = trained(theirs)
    assert found.lost == []
    assert found.table["train"]["transforms"] == [*ours, SANITIZE]


@pytest.mark.parametrize(
    ("theirs", "newer"),
    [
        ({"type": "Resize", "img_scale": WIDE}, {"type": "Resize", "scale": WIDE, "keep_ratio": True}),
        ({"type": "Resize", "img_scale": [WIDE], "keep_ratio": True}, {"type": "Resize", "scale": WIDE, "keep_ratio": True}),
        ({"type": "Resize", "img_scale": [WIDE, [1333, 800]], "multiscale_mode": "value", "keep_ratio": True},
         {"type": "RandomChoiceResize", "scales": [WIDE, [1333, 800]], "keep_ratio": True}),
        ({"type": "Resize", "img_scale": [WIDE, [1333, 800]], "keep_ratio": True},
         {"type": "RandomResize", "scale": [WIDE, [1333, 800]], "keep_ratio": True}),
        ({"type": "Resize", "img_scale": WIDE, "ratio_range": [0.8, 1.2], "keep_ratio": True},
         {"type": "RandomResize", "scale": WIDE, "ratio_range": [0.8, 1.2], "keep_ratio": True}),
        ({"type": "RandomCrop", "crop_size": [480, 640]}, {"type": "RandomCrop", "crop_size": [640, 480]}),
        ({"type": "RandomCrop", "crop_size": [0.3, 0.7], "crop_type": "relative_range"},
         {"type": "RandomCrop", "crop_size": [0.3, 0.7], "crop_type": "relative_range"}),
        ({"type": "RandomFlip", "flip_ratio": 0.3}, {"type": "RandomFlip", "prob": 0.3}),
        ({"type": "AutoAugment", "policies": [[{"type": "Resize", "img_scale": WIDE}], [{"type": "RandomFlip", "flip_ratio": 1.0}]]},
         {"type": "RandomChoice", "transforms": [[{"type": "Resize", "scale": WIDE, "keep_ratio": True}],
                                                 [{"type": "RandomFlip", "prob": 1.0}]]}),
        ({"type": "RandomAffine", "border": [-240, -320]}, {"type": "RandomAffine", "border": [-320, -240]}),
    ],
)  # fmt: skip
def test_older_spellings_mean_newer_ones(theirs: dict[str, Any], newer: dict[str, Any]) -> None:
    assert older(theirs).table["train"]["transforms"] == trained(newer).table["train"]["transforms"]


def mixed(*transforms: dict[str, Any], inner: list[dict[str, Any]] | None = None) -> Imported:
    """A data set whose transforms see several images."""
    dataset = dict(new()["train_dataloader"]["dataset"], pipeline=inner or LOAD)
    wrapped = {"type": "MultiImageMixDataset", "dataset": dataset, "pipeline": [*transforms]}
    return imported(new(train_dataloader__dataset=wrapped))


def test_images_that_are_mixed() -> None:
    mosaic = {"type": "Mosaic", "img_scale": WIDE, "pad_val": 114.0, "prob": 0.7}
    mix = {"type": "MixUp", "img_scale": WIDE, "ratio_range": [0.8, 1.6], "pad_val": 0.0}
    found = mixed(mosaic, mix, {"type": "FilterAnnotations", "min_gt_bbox_wh": [1, 1], "keep_empty": False})
    assert found.lost == []
    assert found.table["train"]["dataset"]["type"] == "CocoDataset"
    assert found.table["train"]["transforms"] == [
        {"type": "Mosaic", "size": [480, 640], "p": 0.7},
        {"type": "MixUp", "size": [480, 640], "ratio": [0.8, 1.6], "fill": 0},
        SANITIZE,
    ]


def test_others_go_through_what_stands_inside() -> None:
    inner = [*LOAD, {"type": "Resize", "scale": WIDE, "keep_ratio": False}]
    small = {"type": "Resize", "size": [480, 640], "antialias": False}
    paste = {"type": "CopyPaste", "max_num_pasted": 5}
    found = mixed(paste, inner=[LOAD[0], {**LOAD[1], "with_mask": True}, inner[2]]).table["train"]
    assert found["transforms"] == [small, {"type": "CopyPaste", "most": 5, "transforms": [small]}, SANITIZE]
    assert found["dataset"]["segmentation"] == "masks"


def test_images_from_a_cache_are_others_behind_what_stands_before() -> None:
    found = trained(
        {"type": "CachedMosaic", "img_scale": [640, 640], "max_cached_images": 20, "random_pop": False},
        {"type": "CachedMixUp", "img_scale": [640, 640], "ratio_range": [1.0, 1.0], "max_cached_images": 10},
    )
    mosaic = {"type": "Mosaic", "size": [640, 640]}
    assert found.lost == []
    assert found.table["train"]["transforms"] == [
        mosaic,
        {"type": "MixUp", "size": [640, 640], "ratio": [1.0, 1.0], "transforms": [mosaic]},
        SANITIZE,
    ]
    assert sum("any of the data set" in str(each) for each in found.notes) == 2


def test_padding_of_yolox_is_preprocessing() -> None:
    pipeline = [
        LOAD[0],
        {"type": "Resize", "scale": [416, 416], "keep_ratio": True},
        {"type": "Pad", "pad_to_square": True, "pad_val": {"img": [114.0, 114.0, 114.0]}},
    ]
    config = new(val_dataloader__dataset__pipeline=pipeline, model__data_preprocessor={"pad_size_divisor": 32})
    found = imported(config)
    assert found.lost == []
    assert found.table["preprocess"] == {
        "mean": [0.0, 0.0, 0.0],
        "std": [1.0, 1.0, 1.0],
        "color": "bgr",
        "divisor": 32,
        "size": [416, 416],
        "pad_value": 114.0,
        "pad": "before",
    }


def test_images_of_training_that_are_normalised_or_padded_otherwise() -> None:
    pipeline = [*old()["data"]["train"]["pipeline"]]
    pipeline[4] = {**pipeline[4], "mean": [0.0, 0.0, 0.0]}
    found = imported(old(data__train__pipeline=pipeline))
    assert [each.why for each in found.lost] == ["images are normalised as those of validation"]
    assert found.lost[0].path == "data.train"
    padded = trained({"type": "Pad", "size": [1024, 1024]})
    assert padded.lost == []
    assert any("padded to their largest image" in str(each) for each in padded.notes)


def test_the_last_epochs_of_yolox() -> None:
    pipeline = [*LOAD, {"type": "Mosaic", "img_scale": [640, 640]}, {"type": "RandomFlip", "prob": 0.5}]
    hooks = [{"type": "YOLOXModeSwitchHook", "num_last_epochs": 3, "priority": 48}, {"type": "SyncNormHook"}]
    found = imported(new(custom_hooks=hooks, train_dataloader__dataset__pipeline=pipeline))
    assert found.lost == []
    assert found.table["callbacks"] == {
        "plain": {
            "type": "PipelineSwitch",
            "epoch": -3,
            "transforms": [{"type": "RandomHorizontalFlip"}, SANITIZE],
        }
    }


def test_batches_of_other_sizes_in_three_spellings() -> None:
    sizes = {"type": "BatchSyncRandomResize", "random_size_range": [320, 640]}
    augments = {
        **new()["model"]["data_preprocessor"],
        "batch_augments": [{**sizes, "interval": 10, "size_divisor": 32}],
    }
    newer = imported(new(model__data_preprocessor=augments))
    model = {**old()["model"], "random_size_range": [10, 20], "random_size_interval": 10, "input_size": [640, 640]}
    hook = {"type": "SyncRandomSizeHook", "ratio_range": [10, 20], "img_scale": [640, 640], "priority": 48}
    for found in (newer, imported(old(model=model)), imported(old(custom_hooks=[hook]))):
        assert found.lost == []
        assert found.table["callbacks"] == {"sizes": sizes}


def test_masks() -> None:
    pipeline = [LOAD[0], {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True, "poly2mask": False}]
    found = imported(new(train_dataloader__dataset__pipeline=pipeline, val_evaluator__metric=["bbox", "segm"]))
    assert found.lost == []
    assert found.table["train"]["dataset"]["segmentation"] == "polygons"
    assert found.table["val"]["dataset"]["segmentation"] == "polygons"
    assert found.table["val"]["evaluator"] == {"type": "CocoEvaluator", "metrics": ["bbox", "segm"]}


# ------------------------------------------------------------------------------------------------ data sets


def datasets(train: dict[str, Any], evaluator: Any = None, **val: Any) -> Imported:
    """A config with another data set in both splits; a key of it that differs in validation stands in ``val``."""
    both = {"data_root": "d/", "pipeline": [], **train}
    changes: dict[str, Any] = {"train_dataloader__dataset": both, "val_dataloader__dataset": {**both, **val}}
    return imported(new(**changes, **({"val_evaluator": evaluator} if evaluator else {})))


def test_repeated_concatenated_balanced() -> None:
    leaf = {"type": "CocoDataset", "data_root": "d", "metainfo": {"classes": ["a"]}, "pipeline": LOAD}
    first, second = {**leaf, "ann_file": "a.json"}, {**leaf, "ann_file": "b.json"}
    several = {"type": "ConcatDataset", "datasets": [first, second]}
    balanced = {"type": "ClassBalancedDataset", "oversample_thr": 1e-3, "dataset": several}
    wrapped = {"type": "RepeatDataset", "times": 3, "dataset": balanced}
    found = imported(new(train_dataloader__dataset=wrapped))
    assert found.lost == []
    part = {"type": "CocoDataset", "images": "d", "invalid": "skip"}  # classes of all stand at the top
    parts = {f"part{number}": {**part, "annotations": f"d/{name}.json"} for number, name in ((1, "a"), (2, "b"))}
    expected: dict[str, Any] = {"type": "ConcatDataset", "datasets": parts}
    expected = {"type": "ClassBalancedDataset", "oversample_thr": 1e-3, "dataset": expected}
    expected = {"type": "RepeatDataset", "times": 3, "dataset": expected}
    assert found.table["train"]["dataset"] == expected


def test_that_small_images_are_kept_is_noted_for_data_of_ones_own() -> None:
    leaf = {"type": "CocoDataset", "data_root": "d", "ann_file": "a.json", "pipeline": LOAD}
    leaf["filter_cfg"] = {"filter_empty_gt": True, "min_size": 32}
    mine = imported(new(train_dataloader__dataset={**leaf, "metainfo": {"classes": ["a"]}}))
    notes = {each.path: each.why for each in mine.notes}
    assert notes["train_dataloader.dataset.filter_cfg.min_size"] == "images with a side below it are kept"
    coco = imported(new(train_dataloader__dataset=leaf))
    assert not [each for each in coco.notes if "min_size" in each.path]


def test_files_of_2x_may_be_several() -> None:
    files = {"ann_file": ["d/a.json", "d/b.json"], "img_prefix": ["d/a/", "d/b/"]}
    found = imported(old(data__train={**old()["data"]["train"], **files})).table["train"]["dataset"]
    assert [*found["datasets"]] == ["part1", "part2"]
    assert found["datasets"]["part2"]["images"] == "d/b"


def test_pascal_voc() -> None:
    voc = {"type": "VOCDataset", "ann_file": "VOC2007/ImageSets/Main/trainval.txt",
           "data_prefix": {"sub_data_root": "VOC2007/"}, "filter_cfg": {"filter_empty_gt": True, "min_size": 32}}  # fmt: skip
    found = datasets(voc, {"type": "VOCMetric", "metric": "mAP", "eval_mode": "11points"}, test_mode=True)
    ours = {
        "type": "VOCDataset",
        "root": "d/VOC2007",
        "split": "ImageSets/Main/trainval.txt",
        "coordinates": "mmdetection",
        "invalid": "skip",
    }
    assert found.lost == []
    assert found.table["train"]["dataset"] == {**ours, "keep_empty": False}
    assert found.table["val"]["dataset"] == ours
    assert found.table["val"]["evaluator"] == {"type": "VOCEvaluator", "interpolation": "11-point"}
    older_voc = {"type": "VOCDataset", "ann_file": "d/VOC2007/ImageSets/Main/trainval.txt",
                 "img_prefix": "d/VOC2007/", "pipeline": []}  # fmt: skip
    older = imported(old(data__train=older_voc, data__val=older_voc, evaluation={"interval": 1, "metric": "mAP"}))
    assert older.lost == []
    assert older.table["val"]["evaluator"] == found.table["val"]["evaluator"]
    assert older.table["train"]["dataset"] == found.table["train"]["dataset"]


@pytest.mark.parametrize(
    ("theirs", "ours", "lost"),
    [
        ({"type": "LVISV1Dataset", "ann_file": "t.json", "data_prefix": {"img": ""}},
         {"type": "LVISDataset", "annotations": "d/t.json", "images": "d", "invalid": "skip"}, 0),
        ({"type": "CityscapesDataset", "ann_file": "t.json", "data_prefix": {"img": "x"}},
         {"type": "CocoDataset", "annotations": "d/t.json", "images": "d/x", "invalid": "skip"}, 0),
        ({"type": "CrowdHumanDataset", "ann_file": "annotation_train.odgt", "data_prefix": {"img": "Images/"}},
         {"type": "CrowdHumanDataset", "source": "d/annotation_train.odgt", "images": "d/Images", "invalid": "skip"}, 0),
        ({"type": "WIDERFaceDataset", "ann_file": "train.txt", "data_prefix": {"img": "WIDER_train"}},
         {"type": "WIDERFaceDataset", "source": "d/wider_face_split/wider_face_train_bbx_gt.txt",
          "images": "d/WIDER_train/images", "invalid": "skip"}, 0),
        ({"type": "OpenImagesDataset", "ann_file": "t.csv", "label_file": "names.csv", "hierarchy_file": "h.json",
          "meta_file": "m.pkl", "data_prefix": {"img": "x/"}},
         {"type": "OpenImagesDataset", "source": "d/t.csv", "images": "d/x", "descriptions": "d/names.csv",
          "invalid": "skip"}, 2),
    ],
)  # fmt: skip
def test_data_sets(theirs: dict[str, Any], ours: dict[str, Any], lost: int) -> None:
    found = datasets(theirs)
    assert found.table["train"]["dataset"] == ours
    assert len(found.lost) == lost


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"type": "CocoMetric", "metric": ["bbox", "proposal_fast"]},
         {"type": "CocoEvaluator", "metrics": ["bbox", "proposal"]}),
        ({"type": "VOCMetric", "eval_mode": "area", "iou_thrs": [0.6]}, {"type": "VOCEvaluator", "iou_threshold": 0.6}),
        ({"type": "LVISMetric", "metric": ["bbox", "segm"], "classwise": True},
         {"type": "LVISEvaluator", "metrics": ["bbox", "segm"], "per_class": True}),
        ([{"type": "CityScapesMetric"}, {"type": "CocoMetric"}], {"type": "CocoEvaluator"}),
        ({"type": "CrowdHumanMetric", "metric": ["AP", "MR"], "iou_thres": 0.6, "ann_file": "a.odgt"},
         {"type": "CrowdHumanEvaluator", "iou_threshold": 0.6}),
        ({"type": "OpenImagesMetric", "iou_thrs": 0.5, "use_group_of": True}, {"type": "VOCEvaluator"}),
    ],
)  # fmt: skip
def test_metrics(theirs: Any, ours: dict[str, Any]) -> None:
    assert imported(new(val_evaluator=theirs)).table["val"]["evaluator"] == ours


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"val_evaluator": {"type": "CocoMetric", "iou_thrs": [0.5]}}, "val_evaluator.iou_thrs = [0.5]: only None"),
        ({"val_evaluator": {"type": "CocoMetric", "metric": "keypoints"}}, 'only bbox, segm, proposal, proposal_fast have'),
        ({"val_evaluator": {"type": "LVISMetric", "metric": "proposal"}}, "only bbox and segm have a counterpart"),
        ({"val_evaluator": {"type": "VOCMetric", "iou_thrs": [0.5, 0.6]}}, "one threshold alone has a counterpart"),
        ({"train_dataloader__dataset__metainfo": {"classes": "names.txt"}}, "it is one text, a file of names there"),
        ({"train_dataloader__dataset__pipeline": [{"type": "LoadImageFromFile", "color_type": "grayscale"}]}, "in colour"),
        ({"train_dataloader__dataset__pipeline": [{"type": "Resize", "scale_factor": 2.0}]}, "factors have none"),
        ({"train_dataloader__dataset__pipeline": [{"type": "Resize", "scale": 640}]}, "two numbers were expected"),
        ({"train_dataloader__dataset__pipeline": [{"type": "RandomFlip", "prob": 0.5, "direction": "diagonal"}]},
         "no transform flips diagonal"),
        ({"train_dataloader__dataset__pipeline": [{"type": "RandomFlip", "prob": [0.5, 0.1]}]}, "2 numbers for 1 directions"),
        ({"train_dataloader__dataset__pipeline": [{"type": "RandomChoice", "transforms": [[{"type": "Fog"}]]}]},
         "one of the lists has no counterpart"),
        ({"train_dataloader__dataset__pipeline": [{"type": "Pad", "pad_val": [1, 2, 3]}]}, "padding is grey"),
        ({"train_dataloader__dataset__pipeline": [{"type": "FilterAnnotations", "by_box": False}]}, "by the size of their boxes"),
    ],
)  # fmt: skip
def test_what_is_lost_is_said(change: dict[str, Any], found: str) -> None:
    assert any(found in str(each) for each in imported(new(**change)).lost)
