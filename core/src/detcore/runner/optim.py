"""Which parameters are trained and how, mixed precision, and the update of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from detcore.errors import ConfigError, TrainingError, did_you_mean
from detcore.interfaces import Factory
from detcore.structures import Losses

Amp = Literal["off", "bf16", "fp16"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def build_optimizer(
    detector: nn.Module, factory: Factory[Optimizer], factors: Mapping[str, Mapping[str, float]] | None = None
) -> Optimizer:
    """An optimizer over all parameters that require gradients.

    Args:
        detector: Whose parameters.
        factory: Called with parameter groups.
        factors: For parameters whose name matches a pattern (``backbone.*``, ``*.bias``), factors of options of the
            optimizer: ``{"backbone.*": {"lr": 0.1, "weight_decay": 0.0}}``. Where several match, they multiply.

    Raises:
        ConfigError: Nothing can be trained, a pattern matches no parameter, or the optimizer has no such option.
    """
    factors = factors or {}
    named = [(name, parameter) for name, parameter in detector.named_parameters() if parameter.requires_grad]
    if not named:
        raise ConfigError("optimizer", "the detector has no parameter that requires a gradient")
    for pattern in factors:
        if not any(fnmatchcase(name, pattern) for name, _ in named):
            near = did_you_mean(pattern, [name for name, _ in named])
            raise ConfigError(f"optimizer: factors of {pattern!r}", "match no trained parameter", near)
    groups: dict[tuple[tuple[str, float], ...], list[nn.Parameter]] = {}
    for name, parameter in named:
        groups.setdefault(_factors_of(name, factors), []).append(parameter)
    optimizer = factory([{"params": parameters} for parameters in groups.values()])
    for group, options in zip(optimizer.param_groups, groups, strict=True):
        for option, factor in options:
            if option not in group:
                raise ConfigError(f"optimizer: factor of {option!r}", f"{type(optimizer).__name__} has no such option")
            group[option] *= factor
    return optimizer


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
    """One step at ``factor`` times the initial learning rates."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    scaler.step(optimizer)
    scaler.update()


def _factors_of(name: str, factors: Mapping[str, Mapping[str, float]]) -> tuple[tuple[str, float], ...]:
    product: dict[str, float] = {}
    for pattern, options in factors.items():
        if fnmatchcase(name, pattern):
            for option, factor in options.items():
                product[option] = product.get(option, 1.0) * factor
    return tuple(sorted(product.items()))
