"""Whole configs: what each section becomes, in both vocabularies, by tables that are written by hand."""

from __future__ import annotations

from typing import Any

import pytest
from detcore.interfaces import Progress
from detcore.plugins import discover
from detcore_mmdet.config import Imported, import_config
from mmdet_configs import CLASSES, MEAN, STD, new, old

CATALOG = discover()


def imported(config: dict[str, Any], **options: Any) -> Imported:
    return import_config(config, CATALOG, **options)


PREPROCESS = {"mean": MEAN, "std": STD, "divisor": 32, "color": "rgb", "pad_value": 0.0, "pad": "after"}
RESIZE = {"type": "RandomChoiceResize", "sizes": [[800, 1333]], "antialias": False}
TRAIN = {
    "dataset": {
        "type": "CocoDataset",
        "annotations": "data/parts/train.json",
        "images": "data/parts/train",
        "keep_empty": False,
        "invalid": "skip",
    },
    "transforms": [
        RESIZE,
        {"type": "RandomHorizontalFlip"},
        {"type": "Sanitize"},
    ],
    "batch_size": 16,
    "base_batch_size": 16,
    "workers": 3,
    "order": {"type": "AspectRatioOrder"},
    "epochs": 12,
    "clip_grad": 35.0,
    "report_every": 20,
    "keep": 3,
    "best_metric": "bbox_AP50",
}
VAL = {
    "dataset": {
        "type": "CocoDataset",
        "annotations": "data/parts/val.json",
        "images": "data/parts/val",
        "invalid": "skip",
    },
    "transforms": [RESIZE],
    "batch_size": 1,
    "workers": 2,
    "evaluator": {"type": "CocoEvaluator"},
    "every": 2,
}
OPTIMIZER = {"type": "SGD", "lr": 0.02, "momentum": 0.9, "weight_decay": 1e-4}


def test_a_config_of_3x() -> None:
    found = imported(new())
    assert found.lost == []
    assert [*map(str, found.notes)] == [
        "auto_scale_lr.base_batch_size = 16: 16 images a step, as the rate is meant for (there 2 for each process); "
        "it follows others"
    ]
    table = dict(found.table)
    assert table.pop("model")["type"] == "OneStage"
    assert table == {
        "classes": CLASSES,
        "preprocess": PREPROCESS,
        "train": TRAIN,
        "val": VAL,
        "optimizer": OPTIMIZER,
        "schedule": [
            {"type": "LinearWarmup", "steps": 499, "start_factor": 0.001},
            {"type": "MultiStep", "epochs": [8, 11]},
        ],
    }
    assert {each.path for each in found.dropped} == {"val_cfg", "log_level"}


def test_a_config_of_2x_is_the_same_but_for_the_end_of_its_warmup() -> None:
    found, newer = imported(old()), imported(new()).table
    assert found.lost == []
    assert found.table["model"]["backbone"].pop("weights") == "torchvision://resnet18/IMAGENET1K_V1"
    assert found.table["val"].pop("workers") == 3
    assert newer["val"].pop("workers") == 2
    assert found.table.pop("schedule") == [
        {"type": "LinearWarmup", "steps": 500, "start_factor": 0.001},
        {"type": "MultiStep", "epochs": [8, 11]},
    ]
    newer.pop("schedule")
    assert found.table == newer


def test_how_many_images_a_step_has() -> None:
    one = imported(new(), processes=1).table["train"]
    assert (one["batch_size"], one.get("base_batch_size")) == (2, None)
    scaled = imported(new(auto_scale_lr__enable=True), processes=4).table["train"]
    assert (scaled["batch_size"], scaled["base_batch_size"]) == (8, 16)
    unsaid = imported(new(auto_scale_lr={}))
    assert (unsaid.table["train"]["batch_size"], len(unsaid.notes)) == (2, 1)
    assert "the images of one process" in str(unsaid.notes[0])


# ------------------------------------------------------------------------------------------------ learning rates


def rates(found: Imported, steps: int, per_epoch: int) -> list[float]:
    """Our factors of the learning rate at each step."""
    from detcore import schedules

    made = []
    for table in found.table.get("schedule", []):
        keys = {key: value for key, value in table.items() if key != "type"}
        made.append(getattr(schedules, table["type"])(**keys))
    places = [Progress(step=step, steps=steps, steps_per_epoch=per_epoch) for step in range(steps)]
    return [schedules.learning_rate_factor(made, place) for place in places]


def test_a_warmup_of_3x_has_its_last_factor_at_its_last_step() -> None:
    scheduler = [{"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 10}]
    factors = rates(imported(new(param_scheduler=scheduler)), 20, 5)
    theirs = [0.1 + 0.9 * min(step, 9) / 9 for step in range(20)]
    assert factors == pytest.approx(theirs)


def test_a_constant_factor_of_3x() -> None:
    scheduler = [{"type": "ConstantLR", "factor": 0.25, "by_epoch": False, "begin": 0, "end": 10}]
    assert rates(imported(new(param_scheduler=scheduler)), 12, 4) == [0.25] * 9 + [1.0] * 3


def test_a_warmup_of_2x() -> None:
    for kind, theirs in (
        ("linear", [1 - (1 - step / 10) * 0.9 if step < 10 else 1.0 for step in range(15)]),
        ("constant", [0.1] * 10 + [1.0] * 5),
    ):
        config = {"policy": "fixed", "warmup": kind, "warmup_iters": 10, "warmup_ratio": 0.1}
        assert rates(imported(old(lr_config=config)), 15, 5) == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("scheduler", "ours"),
    [
        ({"type": "MultiStepLR", "milestones": [3, 9], "begin": 2, "end": 10, "by_epoch": True, "gamma": 0.5},
         [{"type": "MultiStep", "epochs": [5], "gamma": 0.5}]),
        ({"type": "MultiStepLR", "milestones": [300], "by_epoch": False}, [{"type": "MultiStep", "steps": [300]}]),
        ({"type": "StepLR", "step_size": 5, "by_epoch": True}, [{"type": "MultiStep", "epochs": [5, 10]}]),
        ({"type": "CosineAnnealingLR", "eta_min": 0.001, "begin": 2, "end": 12, "T_max": 10, "by_epoch": True,
          "convert_to_iter_based": True}, [{"type": "Cosine", "begin": 2, "end_factor": 0.05}]),
        ({"type": "CosineAnnealingLR", "eta_min_ratio": 0.1, "begin": 100, "end": 900, "by_epoch": False},
         [{"type": "Cosine", "begin": 100, "end": 900, "unit": "steps", "end_factor": 0.1}]),
        ({"type": "PolyLR", "power": 0.9, "eta_min": 0.0002, "begin": 0, "end": 12, "by_epoch": True,
          "convert_to_iter_based": True}, [{"type": "Poly", "power": 0.9, "end_factor": 0.01}]),
        ({"type": "LinearLR", "start_factor": 1.0, "end_factor": 0.01, "begin": 6, "end": 12, "by_epoch": True,
          "convert_to_iter_based": True}, [{"type": "Poly", "end_factor": 0.01, "begin": 6, "end": 12}]),
        ({"type": "QuadraticWarmupLR", "begin": 0, "end": 5, "by_epoch": True, "convert_to_iter_based": True},
         [{"type": "LinearWarmup", "epochs": 5, "start_factor": 0.0}] * 2),
        ({"type": "ConstantLR", "factor": 1, "begin": 10, "end": 12, "by_epoch": True}, []),
        ({"type": "OneCycleLR", "eta_max": 0.02, "total_steps": 900, "pct_start": 0.2, "by_epoch": False},
         [{"type": "OneCycle", "pct_start": 0.2}]),
    ],
)  # fmt: skip
def test_schedules(scheduler: dict[str, Any], ours: list[dict[str, Any]]) -> None:
    found = imported(new(param_scheduler=[scheduler]))
    assert found.lost == []
    assert found.table.get("schedule", []) == ours


def test_a_parabola_in_steps_is_exact() -> None:
    scheduler = [{"type": "QuadraticWarmupLR", "begin": 0, "end": 8, "by_epoch": False}]
    theirs = [min((step + 1) / 8, 1) ** 2 for step in range(12)]
    assert rates(imported(new(param_scheduler=scheduler)), 12, 4) == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("scheduler", "noted", "lost"),
    [
        ({"type": "CosineAnnealingLR", "T_max": 285, "begin": 5, "end": 285, "convert_to_iter_based": True},
         "ends at 285 epochs there, and here at 290", ""),
        ({"type": "CosineAnnealingLR", "begin": 0, "end": 12}, "with every step here", ""),
        ({"type": "OneCycleLR", "eta_max": 0.1, "by_epoch": False}, "set optimizer.lr = 0.1", ""),
        ({"type": "LinearLR", "start_factor": 0.5, "end_factor": 0.8, "end": 5}, "", "begins with training"),
        ({"type": "QuadraticWarmupLR", "begin": 2, "end": 5}, "", "a warmup begins with training"),
        ({"type": "ReduceOnPlateauLR"}, "", "no installed plugin translates it"),
    ],
)  # fmt: skip
def test_what_of_schedules_is_otherwise_or_lost(scheduler: dict[str, Any], noted: str, lost: str) -> None:
    found = imported(new(param_scheduler=[scheduler], auto_scale_lr={}))
    assert any(noted in str(each) for each in found.notes)
    assert any(lost in str(each) for each in found.lost) == bool(lost)


# ------------------------------------------------------------------------------------------------ optimizers


def test_precision_accumulation_and_their_steps() -> None:
    wrapper = {
        "type": "AmpOptimWrapper",
        "dtype": "bfloat16",
        "accumulative_counts": 4,
        "optimizer": {"type": "AdamW", "lr": 1e-4},
    }
    scheduler = [{"type": "LinearLR", "by_epoch": False, "begin": 0, "end": 1001, "start_factor": 0.5}]
    found = imported(new(optim_wrapper=wrapper, param_scheduler=scheduler)).table
    assert (found["train"]["amp"], found["train"]["accumulate"]) == ("bf16", 4)
    assert "clip_grad" not in found["train"]
    assert found["schedule"] == [{"type": "LinearWarmup", "steps": 250, "start_factor": 0.5}]


@pytest.mark.parametrize(
    ("paramwise", "rules"),
    [
        ({"norm_decay_mult": 0.0, "bias_decay_mult": 0.0, "bypass_duplicate": True},
         {"plain": {"kind": ["norm", "bias"], "weight_decay": 0.0}}),
        ({"bias_lr_mult": 2.0, "bias_decay_mult": 0.0},
         {"norm_bias": {"match": "bias$", "kind": "norm", "weight_decay": 0.0},
          "bias": {"kind": "bias", "lr": 2.0, "weight_decay": 0.0}}),
        ({"norm_decay_mult": 0.0}, {"norm": {"kind": "norm", "weight_decay": 0.0}}),
        ({"custom_keys": {"backbone": {"lr_mult": 0.1, "decay_mult": 1.0}}},
         {"backbone": {"match": "^backbone\\.", "lr": 0.1}}),
        ({"custom_keys": {"bbox_head": {"lr_mult": 10.0}}, "norm_decay_mult": 0.5},
         {"bbox_head": {"match": "^head\\.", "lr": 10.0},
          "norm": {"match": "^(?!.*(bbox_head))", "kind": "norm", "weight_decay": 0.5}}),
        ({"custom_keys": {"backbone": {"lr_mult": 0.1}, "backbone.norm": {"decay_mult": 0.0}}},
         {"backbone_norm": {"match": "^backbone\\.norm", "weight_decay": 0.0},
          "backbone": {"match": "^(?!.*(backbone\\.norm)).*^backbone\\.", "lr": 0.1}}),
    ],
)  # fmt: skip
def test_what_is_different_for_some_parameters(paramwise: dict[str, Any], rules: dict[str, Any]) -> None:
    found = imported(new(optim_wrapper__paramwise_cfg=paramwise))
    assert found.lost == []
    assert found.table["params"] == rules


def test_an_optimizer_that_torch_does_not_have_is_listed() -> None:
    (lost,) = imported(new(optim_wrapper__optimizer={"type": "LAMB", "lr": 1.0})).lost
    assert str(lost) == "optim_wrapper.optimizer.type = 'LAMB': torch.optim has no such optimizer"


# ------------------------------------------------------------------------------------------------ hooks and the rest


def test_an_average_of_the_weights() -> None:
    hook = {"type": "EMAHook", "ema_type": "mmdet.ExpMomentumEMA", "momentum": 1e-4, "update_buffers": True}
    newer = imported(new(custom_hooks=[{**hook, "ema_type": "ExpMomentumEMA"}])).table["callbacks"]
    older = {"type": "ExpMomentumEMAHook", "momentum": 1e-4, "resume_from": None, "priority": 49}
    assert newer == imported(old(custom_hooks=[older])).table["callbacks"]
    assert newer == {"ema": {"type": "EMA", "momentum": 1e-4, "warmup": "exponential", "buffers": "average"}}


def test_other_transforms_and_an_early_end() -> None:
    pipeline = [{"type": "Resize", "scale": [640, 480], "keep_ratio": False}]
    hooks = [
        {"type": "PipelineSwitchHook", "switch_epoch": 10, "switch_pipeline": pipeline},
        {"type": "EarlyStoppingHook", "monitor": "coco/segm_mAP", "patience": 5},
    ]
    assert imported(new(custom_hooks=hooks)).table["callbacks"] == {
        "plain": {
            "type": "PipelineSwitch",
            "epoch": 10,
            "transforms": [{"type": "Resize", "size": [480, 640], "antialias": False}, {"type": "Sanitize"}],
        },
        "stop": {"type": "EarlyStopping", "metric": "segm_AP", "patience": 5},
    }


def test_training_by_steps() -> None:
    loop = {"type": "IterBasedTrainLoop", "max_iters": 9000, "val_interval": 500}
    newer = imported(new(train_cfg=loop))
    older = imported(old(runner={"type": "IterBasedRunner", "max_iters": 9000}, evaluation={"interval": 500}))
    for found in (newer, older):
        assert (found.table["train"]["steps"], found.table["val"]["every_steps"]) == (9000, 500)
        assert "epochs" not in found.table["train"]


def test_what_has_no_counterpart_is_listed_by_its_key_in_the_file() -> None:
    loop = {"type": "TeacherStudentValLoop", "max_epochs": 3, "val_interval": 1}
    lost = imported(new(train_cfg=loop, tta_model={"type": "DetTTAModel"}, custom_hooks=[{"type": "MeanTeacherHook"}]))
    assert [each.path for each in lost.lost] == [
        "train_cfg.type",
        "custom_hooks.0",
        "tta_model",
    ]
    older = imported(old(lr_config={"policy": "Exp", "gamma": 0.9}, data__val__pipeline=[{"type": "Fog"}]))
    assert [each.path for each in older.lost] == ["data.val.pipeline.0", "lr_config.0"]


def test_classes_that_do_not_agree_with_the_heads_are_not_written() -> None:
    found = imported(new(train_dataloader__dataset__metainfo={}, val_dataloader__dataset__metainfo={}))
    assert "classes" not in found.table
    assert "heads have 2 classes, the data set 80" in "\n".join(map(str, found.notes))


def test_scopes_of_names_do_not_matter() -> None:
    config = new(train_dataloader__dataset__type="mmdet.CocoDataset", val_evaluator__type="mmdet.evaluation.CocoMetric")
    assert imported(config).table == imported(new()).table


def test_a_constructor_of_other_rates_is_listed() -> None:
    layerwise = imported(new(optim_wrapper__constructor="LearningRateDecayOptimizerConstructor"))
    assert [each.path for each in layerwise.lost] == ["optim_wrapper.constructor"]
    assert imported(new(optim_wrapper__constructor="DefaultOptimWrapperConstructor")).lost == []
