"""Detectors that take turns: what each is asked for, how long it takes, and how that compares."""

from __future__ import annotations

import copy
import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import torch
from detcore.interfaces import Detector
from detcore.structures import Batch, Predictions, Targets, total_loss
from torch import Tensor, nn

Clock = Callable[[], float]
LAYOUTS = {"": torch.contiguous_format, " channels_last": torch.channels_last}


# ---------------------------------------------------------------------------------------------------------- contenders


@attrs.frozen
class Contender:
    """A model with its optimizer on a device, and how it is asked for losses and detections."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    losses: Callable[[], Tensor]
    found: Callable[[], Sequence[Any]]
    device: str

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.device != "cpu")

    def train(self) -> None:
        self.model.train()
        with self.autocast():
            loss = self.losses()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def infer(self) -> None:
        self.model.eval()
        with torch.no_grad(), self.autocast():
            self.found()

    def kept(self) -> float:
        """MB of maps and weights made in the forward pass that are kept for the backward pass."""
        own = {each.data_ptr() for each in self.model.parameters()}
        seen: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        self.model.train()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), self.autocast():
            self.losses()
        return sum(seen.values()) / 1e6


def contender(
    model: nn.Module, batch: Batch, device: str, layout: torch.memory_format, *, compiled: bool = False
) -> Contender:
    """A copy of the model; ``batch`` in its own layout."""
    model = copy.deepcopy(model).to(device, memory_format=layout)
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-6, momentum=0.9, weight_decay=1e-4, foreach=True)
    batch = placed(batch, device, layout)
    call: Any = torch.compile(model) if compiled else model
    if isinstance(model, Detector):

        def losses() -> Tensor:
            return total_loss(call(batch, mode="losses"))

        return Contender(model, optimizer, losses, functools.partial(call, batch, mode="detections"), device)
    targets = torchvision_targets(batch, first_label=int(hasattr(model, "roi_heads")))

    def theirs() -> Tensor:
        return torch.stack(list(call(batch.images, targets).values())).sum()

    return Contender(model, optimizer, theirs, functools.partial(call, batch.images), device)


def torchvision_targets(batch: Batch, first_label: int) -> list[dict[str, Any]]:
    """What is known of each image as torchvision's detectors want it; all objects are valid."""
    truth = batch.truth
    rows = zip(truth.boxes, truth.labels, truth.masks or [None] * len(batch), strict=True)
    return [{"boxes": boxes, "labels": labels + first_label, "masks": masks} for boxes, labels, masks in rows]


def placed(batch: Batch, device: str, layout: torch.memory_format) -> Batch:
    truth = batch.truth
    tensors = (each.to(device) for each in (truth.boxes, truth.labels, truth.valid, truth.crowd))
    targets = Targets(*tensors, None if truth.masks is None else [each.to(device) for each in truth.masks])
    images = batch.images.to(device, memory_format=layout)
    return Batch(images, batch.sizes.to(device), batch.padded.to(device), batch.scale.to(device), batch.ids, targets)


def both_layouts(theirs: nn.Module, ours: nn.Module, batch: Batch, device: str) -> dict[str, Contender]:
    """The four that :func:`compare` reads."""
    return {
        name + suffix: contender(model, batch, device, layout)
        for name, model in {"torchvision": theirs, "detcore": ours}.items()
        for suffix, layout in LAYOUTS.items()
    }


# ------------------------------------------------------------------------------------------------------------- timing


def seconds(run: Callable[[], object], device: str, clock: Clock) -> float:
    def finish() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    finish()
    began = clock()
    run()
    finish()
    return clock() - began


def in_turns(
    runs: Mapping[str, Callable[[], object]], rounds: int, device: str, clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each run in each round; every second round goes backwards. Two rounds before do not count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 2):
        for name in list(runs)[:: -1 if number % 2 else 1]:
            took = seconds(runs[name], device, clock)
            if number >= 2:
                times[name].append(took)
    return times


def ratio(own: Sequence[float], other: Sequence[float]) -> float:
    """The median over rounds of one time over the other."""
    return statistics.median(mine / its for mine, its in zip(own, other, strict=True))


def compare(title: str, times: Mapping[str, list[float]]) -> float:
    """Prints a row per contender; the ratio of our faster layout to torchvision's."""
    faster = min(("torchvision", "torchvision channels_last"), key=lambda name: statistics.median(times[name]))
    print(f"\n{title:40} {'least':>9} {'median':>9} {'ratio':>7} {'of least':>9}   to {faster}")
    ratios = {}
    for name, own in times.items():
        ratios[name] = ratio(own, times[faster])
        least = min(own) / min(times[faster])
        middle = statistics.median(own) * 1e3
        print(f"{name:40} {min(own) * 1e3:6.1f} ms {middle:6.1f} ms {ratios[name]:7.3f} {least:9.3f}")
    return min(ratios["detcore"], ratios["detcore channels_last"])


Line = tuple[str, float, float]
"""What was measured, the figure, and the most that it may be."""


def report(lines: Sequence[Line]) -> bool:
    """Prints a line per target; whether all are met."""
    print()
    for text, found, most in lines:
        print(f"{text:52} {found:8.3f}   at most {most:7.3f}   {'met' if found <= most else 'missed'}")
    return all(found <= most for _, found, most in lines)


def parts_of_a_step(ours: Contender, batch: Batch, rounds: int, clock: Clock = time.perf_counter) -> dict[str, float]:
    """Prints a row per part of the head; each as a share of a step. Losses with their backward pass to the raw maps."""
    head: Any = ours.model.head
    ours.model.train()
    with torch.no_grad(), ours.autocast():
        predictions = head(ours.model.neck(ours.model.backbone(batch.images)), batch)

    def fresh() -> Predictions:
        raw = {name: [each.detach().requires_grad_() for each in maps] for name, maps in predictions.raw.items()}
        return attrs.evolve(predictions, raw=raw)

    with torch.no_grad():
        matches = head.assigner(predictions, batch)
    runs = {
        "assigner": lambda: head.assigner(fresh(), batch),
        "losses": lambda: total_loss(head.loss(fresh(), matches, batch)).backward(),
        "decoding": lambda: head.detections(fresh(), batch),
        "step": ours.train,
    }
    least = {name: min(values) for name, values in in_turns(runs, rounds, ours.device, clock).items()}
    shares = {name: least[name] / least["step"] for name in ("assigner", "losses", "decoding")}
    for name, part in shares.items():
        print(f"{name:40} {least[name] * 1e3:6.1f} ms {part:26.2%} of a step")
    return shares
