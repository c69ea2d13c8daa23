"""Small configs of MMDetection, as tests write them: in the words of 3.x and of 2.x."""

from __future__ import annotations

import copy
from typing import Any

MEAN = [123.675, 116.28, 103.53]
STD = [58.395, 57.12, 57.375]
CLASSES = ["nut", "bolt"]

MODEL: dict[str, Any] = {
    "type": "RetinaNet",
    "backbone": {"type": "ResNet", "depth": 18, "frozen_stages": 1, "norm_cfg": {"type": "BN", "requires_grad": True}},
    "neck": {"type": "FPN", "in_channels": [64, 128, 256, 512], "out_channels": 256, "start_level": 1, "num_outs": 5,
             "add_extra_convs": "on_input"},
    "bbox_head": {
        "type": "RetinaHead",
        "num_classes": 2,
        "in_channels": 256,
        "anchor_generator": {"type": "AnchorGenerator", "octave_base_scale": 4, "scales_per_octave": 3,
                             "ratios": [0.5, 1.0, 2.0], "strides": [8, 16, 32, 64, 128]},
        "bbox_coder": {"type": "DeltaXYWHBBoxCoder"},
        "loss_cls": {"type": "FocalLoss", "use_sigmoid": True, "gamma": 2.0, "alpha": 0.25},
        "loss_bbox": {"type": "L1Loss"},
    },
    "train_cfg": {"assigner": {"type": "MaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.4, "min_pos_iou": 0}},
    "test_cfg": {"nms_pre": 1000, "score_thr": 0.05, "nms": {"type": "nms", "iou_threshold": 0.5}, "max_per_img": 100},
}  # fmt: skip

NEW: dict[str, Any] = {
    "model": {
        **MODEL,
        "data_preprocessor": {"type": "DetDataPreprocessor", "mean": MEAN, "std": STD, "bgr_to_rgb": True,
                              "pad_size_divisor": 32},
    },
    "dataset_type": "CocoDataset",
    "train_dataloader": {
        "batch_size": 2,
        "num_workers": 3,
        "persistent_workers": True,
        "sampler": {"type": "DefaultSampler", "shuffle": True},
        "batch_sampler": {"type": "AspectRatioBatchSampler"},
        "dataset": {
            "type": "CocoDataset",
            "data_root": "data/parts/",
            "metainfo": {"classes": CLASSES},
            "ann_file": "train.json",
            "data_prefix": {"img": "train/"},
            "filter_cfg": {"filter_empty_gt": True},
            "pipeline": [
                {"type": "LoadImageFromFile", "backend_args": None},
                {"type": "LoadAnnotations", "with_bbox": True},
                {"type": "Resize", "scale": [1333, 800], "keep_ratio": True},
                {"type": "RandomFlip", "prob": 0.5},
                {"type": "PackDetInputs"},
            ],
        },
    },
    "val_dataloader": {
        "batch_size": 1,
        "num_workers": 2,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "dataset": {
            "type": "CocoDataset",
            "data_root": "data/parts/",
            "metainfo": {"classes": CLASSES},
            "ann_file": "val.json",
            "data_prefix": {"img": "val/"},
            "test_mode": True,
            "pipeline": [
                {"type": "LoadImageFromFile"},
                {"type": "Resize", "scale": [1333, 800], "keep_ratio": True},
                {"type": "LoadAnnotations", "with_bbox": True},
                {"type": "PackDetInputs", "meta_keys": ["img_id"]},
            ],
        },
    },
    "val_evaluator": {"type": "CocoMetric", "ann_file": "data/parts/val.json", "metric": "bbox"},
    "train_cfg": {"type": "EpochBasedTrainLoop", "max_epochs": 12, "val_interval": 2},
    "val_cfg": {"type": "ValLoop"},
    "optim_wrapper": {
        "type": "OptimWrapper",
        "optimizer": {"type": "SGD", "lr": 0.02, "momentum": 0.9, "weight_decay": 1e-4},
        "clip_grad": {"max_norm": 35, "norm_type": 2},
    },
    "param_scheduler": [
        {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": 500},
        {"type": "MultiStepLR", "begin": 0, "end": 12, "by_epoch": True, "milestones": [8, 11], "gamma": 0.1},
    ],
    "default_hooks": {
        "timer": {"type": "IterTimerHook"},
        "logger": {"type": "LoggerHook", "interval": 20},
        "checkpoint": {"type": "CheckpointHook", "interval": 1, "max_keep_ckpts": 3, "save_best": "coco/bbox_mAP_50"},
    },
    "auto_scale_lr": {"enable": False, "base_batch_size": 16},
    "log_level": "INFO",
    "load_from": None,
    "resume": False,
}  # fmt: skip
"""RetinaNet of 3.x."""

OLD: dict[str, Any] = {
    "model": {**MODEL, "pretrained": "torchvision://resnet18"},
    "data": {
        "samples_per_gpu": 2,
        "workers_per_gpu": 3,
        "train": {
            "type": "CocoDataset",
            "classes": CLASSES,
            "ann_file": "data/parts/train.json",
            "img_prefix": "data/parts/train/",
            "pipeline": [
                {"type": "LoadImageFromFile"},
                {"type": "LoadAnnotations", "with_bbox": True},
                {"type": "Resize", "img_scale": [1333, 800], "keep_ratio": True},
                {"type": "RandomFlip", "flip_ratio": 0.5},
                {"type": "Normalize", "mean": MEAN, "std": STD, "to_rgb": True},
                {"type": "Pad", "size_divisor": 32},
                {"type": "DefaultFormatBundle"},
                {"type": "Collect", "keys": ["img", "gt_bboxes", "gt_labels"]},
            ],
        },
        "val": {
            "type": "CocoDataset",
            "classes": CLASSES,
            "ann_file": "data/parts/val.json",
            "img_prefix": "data/parts/val/",
            "pipeline": [
                {"type": "LoadImageFromFile"},
                {
                    "type": "MultiScaleFlipAug",
                    "img_scale": [1333, 800],
                    "flip": False,
                    "transforms": [
                        {"type": "Resize", "keep_ratio": True},
                        {"type": "RandomFlip"},
                        {"type": "Normalize", "mean": MEAN, "std": STD, "to_rgb": True},
                        {"type": "Pad", "size_divisor": 32},
                        {"type": "ImageToTensor", "keys": ["img"]},
                        {"type": "Collect", "keys": ["img"]},
                    ],
                },
            ],
        },
    },
    "evaluation": {"interval": 2, "metric": "bbox", "save_best": "bbox_mAP_50"},
    "optimizer": {"type": "SGD", "lr": 0.02, "momentum": 0.9, "weight_decay": 1e-4},
    "optimizer_config": {"grad_clip": {"max_norm": 35, "norm_type": 2}},
    "lr_config": {"policy": "step", "warmup": "linear", "warmup_iters": 500, "warmup_ratio": 0.001, "step": [8, 11]},
    "runner": {"type": "EpochBasedRunner", "max_epochs": 12},
    "checkpoint_config": {"interval": 1, "max_keep_ckpts": 3},
    "log_config": {"interval": 20, "hooks": [{"type": "TextLoggerHook"}]},
    "workflow": [["train", 1]],
    "dist_params": {"backend": "nccl"},
    "load_from": None,
    "resume_from": None,
    "auto_scale_lr": {"enable": False, "base_batch_size": 16},
}
"""The same of 2.x."""


def new(**changes: Any) -> dict[str, Any]:
    """A copy of :data:`NEW`; ``a__b=value`` changes the key ``b`` of the table ``a``."""
    return changed(NEW, changes)


def old(**changes: Any) -> dict[str, Any]:
    """A copy of :data:`OLD`; see :func:`new`."""
    return changed(OLD, changes)


def changed(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy with other values at some key paths."""
    found = copy.deepcopy(config)
    for path, value in changes.items():
        *tables, key = path.split("__")
        place = found
        for table in tables:
            place = place.setdefault(table, {})
        place[key] = value
    return found
