"""Scoring a detector on a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from detcore.data import Loader
from detcore.interfaces import Evaluator
from detcore.preprocess import Preprocess, to_original
from detcore.runner.optim import Amp, autocast, within_memory


def evaluate(
    *, detector: nn.Module, preprocess: Preprocess, loader: Loader, evaluator: Evaluator, amp: Amp = "off"
) -> dict[str, float]:
    """All metrics of ``evaluator`` over one pass through ``loader``; the detector's modes are restored.

    Args:
        detector: A :class:`detcore.interfaces.Detector`, bare or wrapped.
        preprocess: On the device of the detector.
        loader: The data; not shuffled, nothing left out.
        evaluator: Fresh, made for the loader's dataset.
        amp: Mixed precision.

    Raises:
        UserError: Of data, or memory that ran out.
    """
    with evaluation_mode(detector):
        for raw in loader.epoch(0):
            with within_memory("evaluation", preprocess.device):
                batch = preprocess(raw)
                with autocast(preprocess.device, amp):
                    detections = detector(batch, mode="detections")
            evaluator.update(to_original(detections, batch), batch.ids)
    return evaluator.compute()


@contextmanager
def evaluation_mode(detector: nn.Module) -> Iterator[None]:
    """All modules in evaluation mode and no gradients; afterwards each module is in the mode that it had.

    Not ``inference_mode``: a tensor that a module then keeps (priors of a size) could not take part in training.
    """
    modes = {module: module.training for module in detector.modules()}
    detector.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training
