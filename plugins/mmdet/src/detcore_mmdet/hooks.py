"""Hooks, logs and how long training is, by their names in MMEngine and MMDetection 3.x.

A translation gives a table of what else is said: ``callbacks``, ``train``, ``val``, ``loss`` (keys of the head's).
"""

from __future__ import annotations

from typing import Any

from detcore.foreign import Foreign

from detcore_mmdet.transforms import chain, closed

THEIRS = {"Mosaic": "Mosaic", "RandomAffine": "YOLOXRandomAffine", "MixUp": "MixUp"}
"""What YOLOX leaves out at the end: name there -> here."""
NEEDLESS = (
    "IterTimerHook", "ParamSchedulerHook", "DistSamplerSeedHook", "DetVisualizationHook", "RuntimeInfoHook",
    "SyncNormHook", "SyncBuffersHook", "CheckInvalidLossHook", "NumClassCheckHook",
    "EmptyCacheHook", "SetEpochInfoHook", "TextLoggerHook", "MemoryProfilerHook",
)  # fmt: skip
"""Hooks that do what happens here anyhow, or that there is no need for."""


def checkpoint(table: Foreign) -> dict[str, Any]:
    """CheckpointHook: here the last and the best are kept, and those of the last epochs that ``keep`` says."""
    for key in ("out_dir", "save_last", "save_optimizer", "save_param_scheduler", "published_keys", "filename_tmpl"):
        table.get(key)
    for key in ("greater_keys", "less_keys", "file_client_args", "backend_args", "save_begin", "rule"):
        table.get(key)
    train: dict[str, Any] = {}
    if not table.get("by_epoch", True) and table.get("interval", -1) > 0:
        train["save_every"] = table.get("interval")
    table.get("interval")
    most = table.get("max_keep_ckpts", -1)
    if most > 0:
        train["keep"] = most
    best = table.get("save_best")
    if isinstance(best, str) and best != "auto":
        train["best_metric"] = metric_name(best)
    return {"train": train}


def metric_name(theirs: str) -> str:
    """A metric by its name here: ``coco/bbox_mAP_50`` is ``bbox_AP50``."""
    name = theirs.rpartition("/")[2]
    return name if name == "mAP" else name.replace("mAP_", "AP").replace("mAP", "AP")


def log(table: Foreign) -> dict[str, Any]:
    """LoggerHook."""
    for key in ("by_epoch", "ignore_last", "interval_exp_name", "out_dir", "out_suffix", "keep_local"):
        table.get(key)
    for key in ("file_client_args", "backend_args", "log_metric_by_epoch", "reset_flag"):
        table.get(key)
    interval = table.get("interval", 10)
    return {"train": {"report_every": interval}}


def ema(table: Foreign) -> dict[str, Any]:
    """EMAHook."""
    for key in ("priority", "strict_load", "evaluate_on_ema", "evaluate_on_origin"):
        table.get(key)
    table.only(begin_iter=0, begin_epoch=0)
    kind = table.get("ema_type", "ExponentialMovingAverage")
    if kind not in ("ExponentialMovingAverage", "ExpMomentumEMA"):
        table.lose("ema_type", "only ExponentialMovingAverage and ExpMomentumEMA have a counterpart")
        return {}
    ours = {"type": "EMA", "momentum": table.get("momentum", 0.0002)}
    if kind == "ExpMomentumEMA":
        ours["warmup"] = "exponential"
        if (gamma := table.get("gamma", 2000)) != 2000:
            ours["gamma"] = gamma
    if (every := table.get("interval", 1)) != 1:
        ours["every"] = every
    if table.get("update_buffers", False):
        ours["buffers"] = "average"
    return {"callbacks": {"ema": ours}}


def mode_switch(table: Foreign) -> dict[str, Any]:
    """YOLOXModeSwitchHook: the last epochs without mosaics, and with one loss more."""
    table.get("priority")
    last, skipped = table.get("num_last_epochs", 15), table.get("skip_type_keys", [*THEIRS])
    before, epochs = table.get("before", []), table.get("epochs")
    if table.get("new_train_pipeline") is not None:
        table.lose("new_train_pipeline", "the transforms without those that it skips are taken")
    names = {THEIRS.get(name, name) for name in skipped}
    plain = [each for each in before if each["type"] not in names]
    found: dict[str, Any] = {"callbacks": {"plain": {"type": "PipelineSwitch", "epoch": -last, "transforms": plain}}}
    if epochs:
        found["loss"] = {"l1_from": max(0.0, round(1 - last / epochs, 12))}
    return found


def switch(table: Foreign) -> dict[str, Any]:
    """PipelineSwitchHook."""
    table.get("priority")
    transforms = closed(chain(table.tables("switch_pipeline")).transforms)
    return {
        "callbacks": {"plain": {"type": "PipelineSwitch", "epoch": table.get("switch_epoch"), "transforms": transforms}}
    }


def stop(table: Foreign) -> dict[str, Any]:
    """EarlyStoppingHook."""
    for key in ("priority", "strict", "check_finite", "stopping_threshold"):
        table.get(key)
    ours: dict[str, Any] = {"type": "EarlyStopping", "metric": metric_name(str(table.get("monitor")))}
    ours |= table.keep(patience="patience", min_delta="min_delta")
    if table.get("rule") == "less":
        ours["mode"] = "min"
    return {"callbacks": {"stop": ours}}


def nothing(table: Foreign) -> None:
    """Nothing to do."""
    table.read |= {*table.values}


TRANSLATIONS = {
    "CheckpointHook": checkpoint,
    "LoggerHook": log,
    "EMAHook": ema,
    "YOLOXModeSwitchHook": mode_switch,
    "PipelineSwitchHook": switch,
    "EarlyStoppingHook": stop,
    **dict.fromkeys(NEEDLESS, nothing),
}
