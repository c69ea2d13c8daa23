"""Checkpoints as MMDetection writes them: classes of modules that are not installed, made up for the time of writing."""

from __future__ import annotations

import contextlib
import sys
import types
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor


class HistoryBuffer:
    """As MMEngine's: it writes its functions along, which protocol 2 spells ``getattr(HistoryBuffer, "mean")``."""

    def __init__(self) -> None:
        self._log_history, self._count_history = np.array([2.5, 1.25]), np.array([1, 1])
        self.statistics_methods = {"mean": HistoryBuffer.mean}

    def mean(self) -> float:
        return float(self._log_history.mean())


class ConfigDict(dict[str, Any]):
    """As mmcv's, which is addict's: made of pairs, with itself as its state."""

    def __getnewargs__(self) -> Any:
        return tuple(self.items())

    def __getstate__(self) -> Any:
        return self


HOMES = {HistoryBuffer: "mmengine.logging.history_buffer", ConfigDict: "mmcv.utils.config"}


def save(content: Any, path: Path, *, zipped: bool = True, protocol: int = 2) -> None:
    """``torch.save`` under the names of MMEngine and mmcv."""
    modules = {}
    for kind, home in HOMES.items():
        module = types.ModuleType(home)
        setattr(module, kind.__name__, kind)
        modules[home] = module
        modules |= {home.rsplit(".", cut)[0]: types.ModuleType("parent") for cut in range(1, home.count(".") + 1)}
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(sys.modules, modules))
        for named, home in [*HOMES.items(), (HistoryBuffer.mean, HOMES[HistoryBuffer])]:
            stack.enter_context(mock.patch.object(named, "__module__", home))
        torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)


def of_3x(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What MMDetection 3.x writes."""
    return {
        "meta": {
            "cfg": "model = dict(type='RetinaNet')",
            "epoch": 12,
            "iter": 87960,
            "seed": 1,
            "mmengine_version": "0.10.3",
            "dataset_meta": ConfigDict(classes=("a", "b", "c"), palette=[(1, 2, 3)]),
        },
        "state_dict": OrderedDict(state),
        "message_hub": {
            "log_scalars": OrderedDict(loss=HistoryBuffer()),
            "runtime_info": OrderedDict(best=np.float64(0.5), where={"a", "b"}),
            "resumed_keys": OrderedDict(loss=True),
        },
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    }


def of_2x(state: Mapping[str, Tensor], version: str = "2.28.0") -> dict[str, Any]:
    """What MMDetection 2.x writes."""
    meta = {"mmdet_version": version, "config": "model = dict()", "CLASSES": ("a", "b", "c"), "epoch": 3, "iter": 9}
    return {"meta": meta, "state_dict": OrderedDict(state)}
