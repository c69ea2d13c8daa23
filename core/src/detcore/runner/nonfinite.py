"""Losses that are not finite: which module began it, and the batch to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from detcore import distributed
from detcore.data import RawBatch
from detcore.errors import CheckpointError, one_line
from detcore.preprocess import Preprocess
from detcore.runner.checkpoint import restore_rng, rng_state, write_atomically
from detcore.runner.optim import Amp, autocast
from detcore.runner.state import Run
from detcore.runner.window import NotFinite
from detcore.structures import Polygons, Targets, total_loss

FORMAT = "step-1"


@contextmanager
def diagnosed(run: Run, batches: Sequence[RawBatch]) -> Iterator[None]:
    """A NotFinite that is raised inside says what began it, and which file holds the batches of the step.

    Raises:
        NotFinite: As it was raised inside, telling more.
    """
    if not run.window.watches(run.device):
        yield
        return
    rng = rng_state(run.device)
    try:
        yield
    except NotFinite as error:
        content = {
            "format": FORMAT,
            "model": run.detector.state_dict(),
            "rng": rng,
            "batches": [attrs.asdict(attrs.evolve(raw, flaws=())) for raw in batches],
            "progress": run.progress.step / run.progress.steps,
            "place": [run.seed, run.step],
            "amp": run.amp,
            "preprocess": run.preprocess.settings,
            "meta": dict(run.meta),
        }
        process = f"-process-{distributed.rank()}" if distributed.is_parallel() else ""
        path = run.folder / "nonfinite" / f"step-{run.step}{process}.pt"
        write_atomically(content, path)
        distributed.leave()  # the others do not compute this again
        try:
            error.found += f"; {replay(run.detector, run.preprocess, content) or 'computed again, all of it is finite'}"
        except Exception as another:  # the first error is the one to show
            error.found += f"; computing it again raised {one_line(another)}"
        error.fix += f" The batch is saved: core-run replay {path}"
        raise


def replay(detector: nn.Module, preprocess: Preprocess, content: Mapping[str, Any]) -> str:
    """Compute the losses and gradients of a step again, as training did.

    Args:
        detector: With the weights of ``content``, in training mode; left with the step's gradients.
        preprocess: On the detector's device.
        content: What :func:`diagnosed` saved.

    Returns:
        Where the first number that is not finite is; empty if there is none.
    """
    named = [*detector.named_parameters()]  # not the buffers: statistics are already those of after
    weights = [name for name, value in named if not _is_finite(value)]
    if weights:
        return f"the weights were not finite before: {', '.join(weights[:3])}"
    amp: Amp = content["amp"]
    restore_rng(content["rng"], preprocess.device)
    detector.zero_grad(set_to_none=True)
    for saved in content["batches"]:
        with _first_output(detector) as found:
            batch = preprocess(_unpacked(saved), progress=content["progress"])
            with autocast(preprocess.device, amp), torch.enable_grad():
                losses = detector(batch, mode="losses")
        bad = [f"{name} {float(value.detach())}" for name, value in losses.items() if not _is_finite(value)]
        if found:
            return f"the first output that is not finite is that of {found[0]}"
        if bad:
            return f"every module's output is finite, but not {', '.join(bad)}"
        torch.autograd.backward(total_loss(losses) / len(content["batches"]))
        for name, each in reversed(named):  # the last are nearest to the losses
            if each.grad is not None and not _is_finite(each.grad):
                return f"the first gradient that is not finite is that of {name}"
    return ""


def check_saved(content: Mapping[str, Any], path: Path) -> None:
    """Raises CheckpointError where a file is not what :func:`diagnosed` writes."""
    if content.get("format") != FORMAT:
        fix = "A run that meets a loss that is not finite saves one in its folder nonfinite/."
        raise CheckpointError(str(path), "holds no batch to replay", fix)


@contextmanager
def _first_output(detector: nn.Module) -> Iterator[list[str]]:
    """Collects the names of modules whose output is not finite, in the order in which they were through."""
    found: list[str] = []

    def hook_of(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not all(map(_is_finite, _tensors(output))):
                found.append(f"{name} ({type(module).__name__})")

        return hook

    inner = [(name, module) for name, module in detector.named_modules() if name]
    handles = [module.register_forward_hook(hook_of(name)) for name, module in inner]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)


def _is_finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(value.isfinite().all())


def _unpacked(batch: Mapping[str, Any]) -> RawBatch:
    targets = batch["targets"]
    if targets is not None:
        masks = [Polygons(**each) if isinstance(each, dict) else each for each in targets["masks"] or ()]
        targets = Targets(**{**targets, "masks": masks or None})
    return RawBatch(**{**batch, "targets": targets})
