"""Losses that are not finite: which module began it, and the batch to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from detcore.data import RawBatch
from detcore.errors import CheckpointError, one_line
from detcore.preprocess import Preprocess
from detcore.runner.checkpoint import restore_rng, rng_state, write_atomically
from detcore.runner.optim import Amp, autocast
from detcore.runner.state import Run
from detcore.runner.window import NotFinite
from detcore.structures import Polygons, Targets, total_loss

FORMAT = "batch-1"


@contextmanager
def diagnosed(run: Run, raw: RawBatch) -> Iterator[None]:
    """A NotFinite that is raised inside says what began it, and which file holds the batch.

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
            "batch": attrs.asdict(attrs.evolve(raw, flaws=())),
            "progress": run.progress.step / run.progress.steps,
            "amp": run.amp,
            "meta": dict(run.meta),
        }
        path = run.folder / "nonfinite" / f"step-{run.step}.pt"
        write_atomically(content, path)
        try:
            error.found += f"; {replay(run.detector, run.preprocess, content)}"
        except Exception as another:  # the first error is the one to show
            error.found += f"; computing it again raised {one_line(another)}"
        error.fix += f" The batch is saved: core-run replay {path}"
        raise


def replay(detector: nn.Module, preprocess: Preprocess, content: Mapping[str, Any]) -> str:
    """Compute the losses of a saved batch again, as training did; says where the first number that is not finite is.

    Args:
        detector: With the weights of ``content``, in training mode.
        preprocess: On the detector's device.
        content: What :func:`diagnosed` saved.
    """
    weights = [name for name, value in detector.state_dict().items() if not _is_finite(value)]
    if weights:
        return f"the weights were not finite before: {', '.join(weights[:3])}"
    amp: Amp = content["amp"]
    restore_rng(content["rng"], preprocess.device)
    detector.zero_grad(set_to_none=True)
    with _first_output(detector) as found:
        batch = preprocess(_unpacked(content["batch"]), progress=content["progress"])
        with autocast(preprocess.device, amp), torch.enable_grad():
            losses = detector(batch, mode="losses")
    bad = [f"{name} {float(value)}" for name, value in losses.items() if not _is_finite(value)]
    if found:
        return f"the first output that is not finite is that of {found[0]}"
    if bad:
        return f"every module's output is finite, but not {', '.join(bad)}"
    total_loss(losses).backward()  # type: ignore[no-untyped-call]
    named = reversed([*detector.named_parameters()])  # the last are nearest to the losses
    gradient = next((name for name, each in named if each.grad is not None and not _is_finite(each.grad)), None)
    return f"the first gradient that is not finite is that of {gradient}" if gradient else "all of it is finite now"


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
                found.append(f"{name or 'the detector'} ({type(module).__name__})")

        return hook

    handles = [module.register_forward_hook(hook_of(name)) for name, module in detector.named_modules()]
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
