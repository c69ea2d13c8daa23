"""Checkpoints: tensors and plain values only, written at once or not at all, resumed exactly."""

from __future__ import annotations

import math
import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from detcore import distributed
from detcore.classes import agree
from detcore.errors import CheckpointError, ComponentError, ConfigError, TrainingError
from detcore.files import replacing
from detcore.loading import compare, read, tell_versions
from detcore.runner.state import Run, call

FORMAT = 1
AT = ("epoch", "position", "step", "stop", "best", "validated")
"""Attributes of a run that say how far it is."""
PLAIN = (Tensor, nn.Parameter, type(None), bool, int, float, str, bytes)


def save(run: Run, path: Path) -> None:
    """Write all that resuming needs; the file is either the old one or the new one, never half of one.

    Every rank calls it, the first one writes.

    Raises:
        TrainingError: A weight is not finite; nothing is written.
        ComponentError: A callback's state, or ``run.meta``, holds what is not plain.
        CheckpointError: The file cannot be written.
    """
    generators = distributed.gather(rng_state(run.device))
    if not generators:
        return
    weights = run.detector.state_dict()
    _require_finite(weights, f"step {run.step}")
    checkpoint = {
        "format": FORMAT,
        "model": weights,
        "averaged": None if run.averaged is None else run.averaged.state_dict(),
        "optimizer": {"type": type(run.optimizer).__name__, "state": run.optimizer.state_dict()},
        "callbacks": {name: call(run, name, "state_dict") for name in run.callbacks},
        "scaler": run.scaler.state_dict(),
        "rng": generators,
        "at": {name: getattr(run, name) for name in AT},
        "same": _must_be_same(run),
        "metrics": {name: float(value) for name, value in run.metrics.items()},
        "preprocess": run.preprocess.settings,
        "meta": dict(run.meta),
    }
    _require_plain(checkpoint, "checkpoint")
    write_atomically(checkpoint, path)


def resume(run: Run, path: Path) -> None:
    """Put a run that was built alike where the checkpoint's run was; a run that does not fit is left as it is.

    Raises:
        CheckpointError: The file cannot be read, or is of another architecture, optimizer, data or seed.
        ComponentError: A callback does not take its state back; the run is then half resumed.
    """
    checkpoint = _read(path)
    if checkpoint.get("format") != FORMAT:
        raise CheckpointError(str(path), "holds weights, but not the state of a run", "Load it as weights instead.")
    tell_versions(checkpoint, str(path))
    known = {"train.dataset": run.loader.dataset, "checkpoint": checkpoint["same"]["classes"]}
    agree(str(path), known, "A run is resumed with what it began with.", CheckpointError)
    for name, ours in _must_be_same(run).items():
        if checkpoint["same"][name] != ours:
            found = f"is of a run with {name.replace('_', ' ')} {_short(checkpoint['same'][name])}, not {_short(ours)}"
            raise CheckpointError(str(path), found, "A run is resumed with what it began with.")
    fit = compare(run.detector, checkpoint["model"])
    if not fit.complete:
        raise CheckpointError(str(path), f"is of another architecture: {fit}")
    saved, ours = checkpoint["optimizer"], type(run.optimizer).__name__
    try:
        if saved["type"] != ours:
            raise ValueError(f"{saved['type']}, not {ours}")
        run.optimizer.load_state_dict(saved["state"])
    except ValueError as error:
        raise CheckpointError(str(path), f"is of another optimizer: {error}") from error
    run.detector.load_state_dict(checkpoint["model"])
    for name, state in checkpoint["callbacks"].items():
        if name in run.callbacks:
            call(run, name, "load_state_dict", state)
    if run.scaler.is_enabled() and checkpoint["scaler"]:
        run.scaler.load_state_dict(checkpoint["scaler"])
    for name in AT:
        setattr(run, name, checkpoint["at"][name])
    run.metrics, run.averaged_weights = checkpoint["metrics"], checkpoint["averaged"]
    generators = checkpoint["rng"]
    if len(generators) == distributed.world_size():
        run.rng = generators[distributed.rank()]
    elif distributed.rank() == 0:
        print(f"{path}: was written by {len(generators)} processes: what is random in the model begins anew")


def _read(path: Path) -> dict[str, Any]:
    try:
        return read(path)
    except CheckpointError as error:
        beside = sorted(each.name for each in path.parent.glob("*.pt") if each != path)
        error.fix = f"Beside it is {', '.join(beside)}: resume from one of these." if beside else error.fix
        raise


def write_atomically(content: Any, path: Path) -> None:
    """``torch.save`` to a file beside, which then takes the place of ``path``.

    Raises:
        CheckpointError: The system does not let it, or the disk is full.
    """
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        fix = "The one from before is whole." if path.is_file() else ""
        why = error.__context__ if isinstance(error.__context__, OSError) else error  # torch hides it
        raise CheckpointError(str(path), f"cannot be written: {why}", fix) from error


def keep_best(run: Run) -> None:
    """Write ``checkpoints/best.pt`` where the last validation is the best so far; every rank calls it.

    Raises:
        ConfigError: There is no metric of the name.
    """
    name = run.best_metric or next(iter(run.metrics), None)
    if name is None:
        return
    if name not in run.metrics:
        known = ", ".join(run.metrics)
        raise ConfigError("train.best_metric", f'there is no metric "{name}"', f"The evaluator gives {known}.")
    if run.metrics[name] > (-math.inf if run.best is None else run.best):
        run.best = run.metrics[name]
        save(run, run.folder / "checkpoints" / "best.pt")


def keep_epoch(run: Run) -> None:
    """Keep ``last.pt`` as that of its epoch, and remove those that are over the number to keep."""
    if not run.keep or distributed.rank() > 0:
        return
    folder = run.folder / "checkpoints"
    kept = folder / f"epoch-{run.epoch:04d}.pt"
    try:
        with replacing(kept) as temporary:
            temporary.unlink(missing_ok=True)
            try:
                temporary.hardlink_to(folder / "last.pt")  # it is replaced, never written to
            except OSError:  # a file system without links
                shutil.copyfile(folder / "last.pt", temporary)
        for old in sorted(folder.glob("epoch-*.pt"))[: -run.keep]:
            old.unlink()
    except OSError as error:
        raise CheckpointError(str(kept), f"cannot be written: {error.strerror}") from error


def seed_everything(seed: int) -> None:
    """Seed torch (all devices), numpy and random."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def rng_state(device: torch.device) -> dict[str, Any]:
    """The states of all random generators, in tensors and plain values."""
    kind, keys, *rest = cast("tuple[Any, ...]", np.random.get_state(legacy=True))
    state = {"torch": torch.get_rng_state(), "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), *rest]}
    if device.type != "cpu":
        state[device.type] = torch.get_device_module(device).get_rng_state()
    return {**state, "random": random.getstate()}


def restore_rng(state: Mapping[str, Any], device: torch.device) -> None:
    """Put all random generators where they were; those of a device where the run was on one of that type."""
    torch.set_rng_state(state["torch"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy(), *rest))
    random.setstate(state["random"])
    if device.type in state:
        torch.get_device_module(device).set_rng_state(state[device.type])


def _must_be_same(run: Run) -> dict[str, Any]:
    """What a resumed run must share with the one that wrote the checkpoint."""
    return {
        "classes": list(run.loader.dataset.classes),
        "steps_per_epoch": len(run.loader),
        "batch_size": run.loader.batch_size,
        "seed": run.seed,
    }


def _require_finite(weights: Mapping[str, Any], where: str) -> None:
    finite = {name: value.isfinite().all() for name, value in weights.items() if isinstance(value, Tensor)}
    bad = [name for name, good in zip(finite, torch.stack([*finite.values()]).tolist(), strict=True) if not good]
    if bad:
        raise TrainingError(where, f"weights are not finite: {', '.join(bad[:3])}", "No checkpoint was written.")


def _require_plain(value: Any, where: str) -> None:
    """Tensors, plain values, and lists, tuples and mappings of them: what loads without running code."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _require_plain(key, f"{where}: key {key!r}")
            _require_plain(item, f"{where}.{key}")
    elif type(value) in (list, tuple):
        for number, item in enumerate(value):
            _require_plain(item, f"{where}[{number}]")
    elif type(value) not in PLAIN:
        found = f"{type(value).__module__}.{type(value).__qualname__} is neither a tensor nor a plain value"
        raise ComponentError(where, found)


def _short(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    return f"{', '.join(map(str, value[:3]))}{', ...' if len(value) > 3 else ''} ({len(value)})"
