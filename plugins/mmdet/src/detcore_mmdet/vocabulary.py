"""Configs of MMDetection 2.x in the words of 3.x, so that the rest reads one vocabulary.

Numbers mean what they meant: a warmup of N steps ends a step later than one of 3.x, for example. Where an order of
(height, width) became (width, height) it is turned. What is left as it was, is left in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Table = dict[str, Any]

PATHS = (
    ("train_dataloader.dataset", "data.train"),
    ("val_dataloader.dataset", "data.val"),
    ("test_dataloader.dataset", "data.test"),
    ("train_dataloader", "data.train_dataloader"),
    ("val_dataloader", "data.val_dataloader"),
    ("val_evaluator", "evaluation"),
    ("optim_wrapper.optimizer", "optimizer"),
    ("optim_wrapper.paramwise_cfg", "optimizer.paramwise_cfg"),
    ("optim_wrapper", "optimizer_config"),
    ("param_scheduler", "lr_config"),
    ("default_hooks.checkpoint", "checkpoint_config"),
    ("default_hooks.logger", "log_config"),
)
"""Beginnings of key paths: in 3.x, in 2.x."""
TURNED = {
    "Mosaic": ("img_scale",),
    "MixUp": ("img_scale",),
    "RandomAffine": ("border",),
    "RandomCrop": ("crop_size",),
    "RandomCenterCropPad": ("crop_size",),
    "Pad": ("size",),
}
"""Transforms and their keys that were (height, width)."""
EVALUATORS = {
    "VOCDataset": "VOCMetric",
    "XMLDataset": "VOCMetric",
    "WIDERFaceDataset": "VOCMetric",
    "LVISDataset": "LVISMetric",
    "LVISV1Dataset": "LVISMetric",
    "LVISV05Dataset": "LVISMetric",
    "OpenImagesDataset": "OpenImagesMetric",
}
"""What scores a data set, where it is not COCO's."""
LOOP = ("interval", "start", "save_best", "rule", "greater_keys", "less_keys", "dynamic_intervals", "gpu_collect")
GONE = ("DefaultFormatBundle", "Collect", "ImageToTensor")
WARMUP_KEYS = ("warmup", "warmup_iters", "warmup_ratio", "warmup_by_epoch", "by_epoch", "policy")


def is_older(config: Mapping[str, Any]) -> bool:
    """Whether a config is of 2.x."""
    newer = ("train_dataloader", "optim_wrapper", "param_scheduler", "default_hooks")
    older = ("data", "lr_config", "optimizer_config", "checkpoint_config", "log_config", "runner", "total_epochs")
    return any(key in config for key in older) and not any(key in config for key in newer)


def modern(config: Mapping[str, Any]) -> Table:
    """A config of 2.x in the words of 3.x."""
    rest = dict(config)
    found: Table = {}
    data = dict(rest.pop("data", None) or {})
    evaluation = dict(rest.pop("evaluation", None) or {})
    for split in ("train", "val", "test"):
        if data.get(split):
            found[f"{split}_dataloader"] = _loader(data, split)
    if found.get("val_dataloader"):
        found["val_evaluator"] = _evaluator(found["val_dataloader"]["dataset"], evaluation)
    left = [each for each in data if each not in {"train", "val", "test", "samples_per_gpu", "workers_per_gpu"}]
    found["data"] = {key: data[key] for key in left if not key.endswith("_dataloader") and key != "persistent_workers"}
    found |= _runner(rest, evaluation)
    found["default_hooks"] = _hooks(rest, evaluation)
    found["optim_wrapper"] = _optimizer(rest)
    found["param_scheduler"] = _schedule(
        rest.pop("lr_config", None), found["train_cfg"], rest.pop("momentum_config", None)
    )
    found["custom_hooks"] = [_hook(each) for each in rest.pop("custom_hooks", None) or []]
    if rest.get("model"):
        found["model"] = _model(rest.pop("model"), rest)
    if rest.get("seed") is not None:
        found["randomness"] = {"seed": rest.pop("seed")}
    return {**rest, **{key: value for key, value in found.items() if value not in (None, {})}}


def old_path(path: str) -> str:
    """The key path of 2.x for one of 3.x."""
    for new, old in PATHS:
        if path == new or path.startswith(f"{new}."):
            return f"{old}{path[len(new) :]}"
    return path


# ------------------------------------------------------------------------------------------------ data


def _loader(data: Table, split: str) -> Table:
    own = dict(data.get(f"{split}_dataloader") or {})
    batch = data.get("samples_per_gpu", 1) if split == "train" else 1
    loader = {
        "batch_size": own.pop("samples_per_gpu", batch),
        "num_workers": own.pop("workers_per_gpu", data.get("workers_per_gpu", 0)),
        "dataset": _dataset(data[split], test=split != "train"),
    }
    if split == "train":
        loader["batch_sampler"] = {"type": "AspectRatioBatchSampler"}  # GroupSampler, which was taken unasked
    return {**own, **loader}


def _dataset(value: Any, test: bool) -> Table:
    if isinstance(value, list):
        return {"type": "ConcatDataset", "datasets": [_dataset(each, test) for each in value]}
    table: Table = dict(value)
    if isinstance(table.get("dataset"), Mapping):
        table["dataset"] = _dataset(table["dataset"], test)
    if isinstance(table.get("datasets"), list):
        table["datasets"] = [_dataset(each, test) for each in table["datasets"]]
    if "pipeline" in table:
        table["pipeline"] = _pipeline(table["pipeline"])
    if "dataset" in table or "datasets" in table:
        return table
    if isinstance(table.get("ann_file"), list):
        files = table["ann_file"]
        folders = table.get("img_prefix")
        folders = folders if isinstance(folders, list) else [folders] * len(files)
        parts = [{**table, "ann_file": file, "img_prefix": at} for file, at in zip(files, folders, strict=False)]
        return {"type": "ConcatDataset", "datasets": [_dataset(each, test) for each in parts]}
    return _leaf(table, test)


def _leaf(table: Table, test: bool) -> Table:
    folder = table.pop("img_prefix", None)
    if folder is not None:
        key = "sub_data_root" if table.get("type") in ("VOCDataset", "XMLDataset") else "img"
        table["data_prefix"] = {key: folder}
    if "classes" in table:
        classes = table.pop("classes")
        table["metainfo"] = {} if classes is None else {"classes": classes}
    filters = {"filter_empty_gt": table.pop("filter_empty_gt", True)}
    if "min_size" in table:  # of objects, in VOC's files
        filters["bbox_min_size"] = table.pop("min_size")
    return {**table, "filter_cfg": filters} if not test else {**table, "test_mode": True}


def _pipeline(steps: Any) -> list[Table]:
    found: list[Table] = []
    for step in steps or []:
        if isinstance(step, Mapping) and step.get("type") == "MultiScaleFlipAug":
            found += _test_pipeline(dict(step))
        else:
            found.append(_transform(step))
    return found


def _test_pipeline(table: Table) -> list[Table]:
    """What one view goes through, of those that ``MultiScaleFlipAug`` makes; of further ones its table stays."""
    scale, inner = table.get("img_scale"), table.get("transforms", [])
    scales = scale if isinstance(scale, list) and scale and isinstance(scale[0], list) else [scale]
    found = []
    for step in inner:
        if step.get("type") == "Resize" and scales[0] and not {"img_scale", "ratio_range"} & step.keys():
            step = {**step, "img_scale": scales[0]}  # noqa: PLW2901
        if step.get("type") != "RandomFlip":
            found.append(_transform(step))
    if table.get("flip") or len(scales) > 1 or table.get("scale_factor"):
        found.append({"type": "MultiScaleFlipAug", "img_scale": scale, "flip": table.get("flip", False)})
    return found


def _transform(step: Any) -> Any:
    if not isinstance(step, Mapping):
        return step
    table = dict(step)
    kind = table.get("type")
    for key in TURNED.get(str(kind), ()):
        absolute = table.get("crop_type", "absolute") == "absolute"
        if isinstance(table.get(key), list) and (key != "crop_size" or absolute):
            table[key] = table[key][::-1]
    if kind == "Resize":
        return _resize(table)
    if kind == "RandomFlip":
        return {("prob" if key == "flip_ratio" else key): value for key, value in table.items()}
    if kind == "AutoAugment":
        lists = [[_transform(each) for each in policy] for policy in table.get("policies", [])]
        return {"type": "RandomChoice", "transforms": lists}
    if kind == "FilterAnnotations" and "min_gt_bbox_wh" not in table:
        table["min_gt_bbox_wh"] = [1.0, 1.0]
    return table


def _resize(table: Table) -> Table:
    """``Resize`` chose among sizes itself."""
    table.pop("override", None)
    scale, mode, ratio = (
        table.pop("img_scale", None),
        table.pop("multiscale_mode", "range"),
        table.pop("ratio_range", None),
    )
    table["keep_ratio"] = table.get("keep_ratio", True)
    several = isinstance(scale, list) and scale and isinstance(scale[0], list)
    if several and len(scale) == 1:
        scale, several = scale[0], False
    if ratio is not None:
        return {**table, "type": "RandomResize", "scale": scale, "ratio_range": ratio}
    if not several:
        return {**table, "scale": scale} if scale is not None else table
    if mode == "value" or len(scale) > 2:
        return {**table, "type": "RandomChoiceResize", "scales": scale}
    return {**table, "type": "RandomResize", "scale": scale}


def _evaluator(dataset: Table, evaluation: Table) -> Table:
    leaf = dataset
    while "dataset" in leaf or "datasets" in leaf:
        leaf = leaf["dataset"] if "dataset" in leaf else leaf["datasets"][0]
    kind = EVALUATORS.get(str(leaf.get("type")), "CocoMetric")
    keys = {key: value for key, value in evaluation.items() if key not in LOOP}
    if kind == "VOCMetric":
        older = "VOC2007" in str(leaf.get("data_prefix"))
        keys = {"metric": "mAP", "eval_mode": "11points" if older else "area", **keys}
        if "iou_thr" in keys:
            keys["iou_thrs"] = keys.pop("iou_thr")
    if kind == "OpenImagesMetric":
        keys.pop("metric", None)
    return {"type": kind, **keys}


# ------------------------------------------------------------------------------------------------ training


def _runner(rest: Table, evaluation: Table) -> Table:
    runner = dict(rest.pop("runner", None) or {})
    epochs, steps = runner.get("max_epochs", rest.pop("total_epochs", None)), runner.get("max_iters")
    rest.pop("total_epochs", None)
    length = {"type": "IterBasedTrainLoop", "max_iters": steps} if steps else {"max_epochs": epochs}
    when = {"dynamic_intervals": evaluation["dynamic_intervals"]} if "dynamic_intervals" in evaluation else {}
    return {"train_cfg": {**length, "val_interval": evaluation.get("interval", 1), **when}}


def _hooks(rest: Table, evaluation: Table) -> Table:
    checkpoint = dict(rest.pop("checkpoint_config", None) or {})
    if "save_best" in evaluation:
        checkpoint["save_best"] = evaluation["save_best"]
    log = dict(rest.pop("log_config", None) or {})
    rest["vis_backends"] = [{"type": each.get("type")} for each in log.get("hooks", []) if isinstance(each, Mapping)]
    return {
        "checkpoint": {"type": "CheckpointHook", **checkpoint},
        "logger": {"type": "LoggerHook", "interval": log.get("interval", 10)},
    }


def _optimizer(rest: Table) -> Table | None:
    optimizer = dict(rest.pop("optimizer", None) or {})
    settings = dict(rest.pop("optimizer_config", None) or {})
    if not optimizer:
        return None
    wrapper: Table = {"type": "OptimWrapper", "paramwise_cfg": optimizer.pop("paramwise_cfg", None)}
    if "constructor" in optimizer:
        wrapper["constructor"] = optimizer.pop("constructor")
    wrapper["optimizer"] = optimizer
    clip = settings.pop("grad_clip", None)
    if clip:
        wrapper["clip_grad"] = clip
    if "cumulative_iters" in settings:
        wrapper["accumulative_counts"] = settings.pop("cumulative_iters")
    settings.pop("type", None)
    if rest.pop("fp16", None) is not None:
        wrapper["type"] = "AmpOptimWrapper"
    return {**settings, **wrapper}


def _schedule(table: Any, loop: Table, momentum: Any) -> list[Table]:
    """``lr_config``: a policy, and a warmup that it is multiplied by."""
    if not table:
        return []
    epochs, steps = loop.get("max_epochs"), loop.get("max_iters")
    by_epoch = table.get("by_epoch", steps is None)
    whole = epochs if by_epoch else steps
    policy = _yolox(table, epochs) if table.get("policy") == "YOLOX" else _policy(table, by_epoch, whole)
    found = [*_warmup(table), *policy]
    return [*found, {"type": "momentum_config", "momentum": momentum}] if momentum else found


def _warmup(table: Table) -> list[Table]:
    kind = table.get("warmup")
    if not kind or table.get("policy") == "YOLOX":
        return []
    count, epochs = table.get("warmup_iters", 0), table.get("warmup_by_epoch", False)
    span: Table = {"begin": 0, "end": count if epochs else count + 1, "by_epoch": epochs}
    span |= {"convert_to_iter_based": True} if epochs else {}
    ratio = table.get("warmup_ratio", 0.1)
    if kind == "constant":
        return [{"type": "ConstantLR", "factor": ratio, **span}]
    if kind == "exp":
        return [{"type": "exponential warmup", "warmup_ratio": ratio, **span}]
    return [{"type": "LinearLR", "start_factor": ratio, **span}]


def _policy(table: Table, by_epoch: bool, whole: Any) -> list[Table]:
    policy = str(table.get("policy", "fixed"))
    keys = {key: value for key, value in table.items() if key not in WARMUP_KEYS}
    common = {"by_epoch": by_epoch}
    floor = {"eta_min": keys.pop("min_lr", None), "eta_min_ratio": keys.pop("min_lr_ratio", None)}
    if policy == "step":
        marks, gamma = keys.pop("step", []), keys.pop("gamma", 0.1)
        if isinstance(marks, list):
            return [{"type": "MultiStepLR", "milestones": marks, "gamma": gamma, **common, **keys}]
        return [{"type": "StepLR", "step_size": marks, "gamma": gamma, **common, **keys}]
    if policy in ("CosineAnnealing", "CosineAnnealingLrUpdaterHook", "cosine"):
        return [{"type": "CosineAnnealingLR", "begin": 0, "end": whole, **floor, **common, **keys}]
    if policy == "FlatCosineAnnealing":
        begin = round((whole or 0) * keys.pop("start_percent", 0.75))
        return [{"type": "CosineAnnealingLR", "begin": begin, "end": whole, **floor, **common, **keys}]
    if policy == "poly":
        return [{"type": "PolyLR", "begin": 0, "end": whole, **floor, **common, **keys}]
    return [] if policy == "fixed" else [{"type": policy, **keys}]


def _yolox(table: Table, epochs: Any) -> list[Table]:
    """A parabola, half a cosine, a line; all of them step by step."""
    begin, last = table.get("warmup_iters", 5), table.get("num_last_epochs", 15)
    known = (*WARMUP_KEYS, "num_last_epochs", "min_lr_ratio")
    keys = {key: value for key, value in table.items() if key not in known}
    floor = {"eta_min_ratio": table.get("min_lr_ratio")}
    steps = {"by_epoch": True, "convert_to_iter_based": True}
    return [
        {"type": "QuadraticWarmupLR", "begin": 0, "end": begin, **steps},
        {"type": "CosineAnnealingLR", "begin": begin, "end": (epochs or 0) - last, **floor, **steps, **keys},
    ]


def _hook(hook: Any) -> Any:
    table = dict(hook) if isinstance(hook, Mapping) else hook
    if not isinstance(table, dict):
        return table
    kind = table.get("type")
    if kind in ("ExpMomentumEMAHook", "EMAHook"):
        table.pop("resume_from", None)
        table["update_buffers"] = not table.pop("skip_buffers", False)
        if kind == "EMAHook":
            table.pop("warm_up", None)
            return table
        table["gamma"] = table.pop("total_iter", 2000)
        return {**table, "type": "EMAHook", "ema_type": "ExpMomentumEMA"}
    if kind == "SyncRandomSizeHook":
        least, most = table.pop("ratio_range", [14, 26])
        table.pop("img_scale", None)
        table.pop("priority", None)
        return {**table, "type": "BatchSyncRandomResize", "random_size_range": [32 * least, 32 * most]}
    return table


def _model(model: Mapping[str, Any], rest: Table) -> Table:
    table = dict(model)
    for key in ("train_cfg", "test_cfg"):  # 2.x before 2.6
        if rest.get(key) is not None and table.get(key) is None:
            table[key] = rest.pop(key)
    sizes = table.pop("random_size_range", None)
    every, _ = table.pop("random_size_interval", 10), table.pop("input_size", None)
    divisor = table.pop("size_multiplier", 32)
    if sizes:
        resize = {"type": "BatchSyncRandomResize", "random_size_range": [divisor * side for side in sizes]}
        table["data_preprocessor"] = {"batch_augments": [{**resize, "interval": every, "size_divisor": divisor}]}
    return table
