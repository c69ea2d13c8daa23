"""Mixed precision, gradients, and the update of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from detcore.errors import TrainingError, one_line
from detcore.structures import Losses

Amp = Literal["off", "bf16", "fp16"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, amp: Amp) -> AbstractContextManager[Any]:
    """Mixed precision, or none where ``amp`` is off."""
    return torch.autocast(device.type, dtype=DTYPES.get(amp), enabled=amp != "off")


@contextmanager
def within_memory(where: str, device: torch.device) -> Iterator[None]:
    """Says what can be done where the device's memory runs out.

    Raises:
        TrainingError: It did.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        fix = 'Use smaller batches, smaller images or amp = "bf16".'
        raise TrainingError(where, f"the memory of {device} ran out", fix) from error


def backward(scaler: torch.amp.GradScaler, loss: Tensor) -> None:
    """Add the gradients of ``loss``."""
    torch.autograd.backward(scaler.scale(loss))


def clip(optimizer: Optimizer, scaler: torch.amp.GradScaler, most: float | None) -> Losses:
    """Cut the gradients of a step where their norm is over ``most``.

    Returns:
        Their norm before, as ``grad_norm``, where it is known and must be finite (under fp16 it need not be).
    """
    if most is None:
        return {}
    scaler.unscale_(optimizer)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = nn.utils.clip_grad_norm_(parameters, most)
    return {} if scaler.is_enabled() else {"grad_norm": norm}


def update(optimizer: Optimizer, scaler: torch.amp.GradScaler, factor: float) -> None:
    """One step at ``factor`` times the initial learning rates.

    Raises:
        TrainingError: The optimizer cannot make it: of these gradients, on this device, in this memory.
    """
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    where = f"optimizer {type(optimizer).__name__}"
    try:
        with within_memory(where, optimizer.param_groups[0]["params"][0].device):
            scaler.step(optimizer)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise TrainingError(where, one_line(error)) from error
    scaler.update()
