"""What holds for every module: how it is made, that it learns, and that nothing is lost of it on the way."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from detcore.build import broken_promise, flowing
from detcore.data import seeded
from detcore.errors import ConfigError
from detcore.interfaces import Flow
from detcore.signature import Parameter, read
from detcore.testing.compare import ConformanceError, different, during, tensors

TIED = "Every trainable parameter is part of every step, if with a zero gradient: distributed training waits for it."
ABSENT = "What an image lacks has weight 0, and sums are divided by 1 at least: finite, and tied to everything."
Runs = Callable[[Any, Any], Any]
"""What is done with a module and its inputs."""


class Maker:
    """Makes a component, filling its marked parameters from ``flow``, as the build does."""

    def __init__(self, make: Callable[..., Any], interface: type, flow: Flow, options: Mapping[str, Any]) -> None:
        target: Any = make
        given = {*options}
        while isinstance(target, functools.partial):
            target, given = target.func, {*target.keywords, *given}
        self.name = getattr(target, "__name__", type(target).__name__)
        self._make, self._interface = make, interface
        with during(self.name, "when its annotations are read"):
            parameters = read(target, lambda _: None).parameters.values()
        wanted = [each for each in parameters if each.flow and each.name not in given]
        self._values = {**{each.name: self._flowing(each, flow) for each in wanted}, **options}

    def __call__(self, seed: int = 0) -> Any:
        """A new one, its random numbers from ``seed``."""
        with seeded(seed), during(self.name, "when it is made"):
            built = self._make(**self._values)
        if problem := broken_promise(built, self._interface):
            raise ConformanceError(self.name, problem, f"See detcore.interfaces.{self._interface.__name__}.")
        self.name = type(built).__name__
        return built

    def _flowing(self, parameter: Parameter, flow: Flow) -> Any:
        try:
            value = flowing(parameter, flow)
        except ConfigError:
            found = f"{parameter.name} takes one value for all levels, but they have {flow.channels} channels"
            raise ConformanceError(self.name, found, "Give a flow of equal ones, or annotate a sequence.") from None
        if value is None and parameter.required:
            found = f"nothing gives {parameter.name} ({str(parameter.flow).replace('_', ' ')})"
            raise ConformanceError(self.name, found, f"Give the check {parameter.name}=..., or a flow that has it.")
        return parameter.default if value is None else value


def check_gradients(module: nn.Module, total: Any, when: str) -> None:
    """Every trainable parameter has a gradient of ``total``, a finite one."""
    module.zero_grad(set_to_none=True)
    if total.requires_grad:
        total.backward()
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and parameter.grad is None:
            raise ConformanceError(type(module).__name__, f"parameter {name} has no gradient {when}", TIED)
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            raise ConformanceError(type(module).__name__, f"the gradient of {name} is not finite {when}", ABSENT)


def check_state(make: Maker, run: Callable[[Any], Any]) -> None:
    """Two made from one seed are equal; one that takes another's state gives what it gives."""
    first, second, other = make(0), make(0), make(1)

    def outputs(module: nn.Module, training: bool) -> Any:
        with seeded(2), torch.no_grad(), during(make.name, f"in {_mode(training)} mode"):
            return run(module.train(training))

    for training in (True, False):
        if difference := different(outputs(first, training), outputs(second, training)):
            found = f"two made from one seed differ in {_mode(training)} mode: {difference}"
            raise ConformanceError(make.name, found, "Draw from torch's, numpy's or random's global generator only.")
    expected = outputs(first, False)
    if difference := different(expected, outputs(first, False)):
        raise ConformanceError(make.name, f"two runs in eval mode differ: {difference}", "Nothing changes there.")
    with during(make.name, "when it takes the state of another"):
        other.load_state_dict(first.state_dict())
    if difference := different(expected, outputs(other, False)):
        found = f"one that took the state of another gives something else: {difference}"
        raise ConformanceError(make.name, found, "What it learns or draws is a parameter or a persistent buffer.")


def check_pickled(module: nn.Module, run: Runs, inputs: Any) -> None:
    """What was pickled gives the same in both modes: copies and other processes are given it so."""
    name = type(module).__name__
    with during(name, "when it is pickled"):
        twin = pickle.loads(pickle.dumps(module))
    for training in (False, True):
        outputs = []
        for each in (module, twin):
            with seeded(2), torch.no_grad(), during(name, f"once it was pickled, in {_mode(training)} mode"):
                outputs.append(run(each.train(training), inputs))
        if difference := different(*outputs):
            found = f"one that was pickled gives something else in {_mode(training)} mode: {difference}"
            raise ConformanceError(name, found, "Copies and other processes are given all that it needs.")


def _mode(training: bool) -> str:
    return "training" if training else "eval"


def half(value: Any) -> Any:
    """A tree whose float32 tensors are bfloat16, as layers give them under autocast."""
    return tensors(value, lambda each: each.bfloat16() if each.dtype == torch.float32 else each)


def check_autocast(name: str, run: Callable[[], Any], expected: Any) -> None:
    """Under bf16 autocast it gives finite tensors of the shapes that it has without."""
    with seeded(1), torch.autocast("cpu", torch.bfloat16), during(name, "under bf16 autocast"):
        found = run()
    if (shapes := _shapes(found)) != (wanted := _shapes(expected)):
        raise ConformanceError(name, f"gives {shapes} under bf16 autocast, but {wanted} without", "Only types change.")
    if not _finite(found):
        fix = "What overflows or cancels is computed in float32: x.float()."
        raise ConformanceError(name, "a number is not finite under bf16 autocast", fix)


def check_compiled(name: str, run: Callable[..., Any], *inputs: Any, whole: bool = True) -> None:
    """``torch.compile`` captures it, and what it captured gives the same; no code is generated, so that it is quick.

    Args:
        name: The component's.
        run: What it does.
        inputs: Given to it.
        whole: As one graph, without a break.
    """
    torch.compiler.reset()
    with seeded(1):
        expected = run(*inputs)
    with seeded(1), during(name, "when torch.compile captures it"):
        found = torch.compile(run, backend="eager", fullgraph=whole)(*inputs)
    if difference := different(expected, found):
        raise ConformanceError(name, f"compiled, it gives something else: {difference}", "Graphs hold no Python state.")


def gpu() -> torch.device | None:
    """The one that checks use, too, where there is one."""
    return torch.device("cuda") if torch.cuda.is_available() else None


def check_on_gpu(module: nn.Module, run: Runs, inputs: Any) -> None:
    """On a GPU, where there is one, it gives finite tensors there, of the shapes that it has on the CPU."""
    device = gpu()
    if device is None:
        return
    name = type(module).__name__
    with seeded(1):
        expected = _shapes(run(module, inputs))
    with seeded(1), during(name, "on a GPU"):
        found = run(module.to(device), tensors(inputs, lambda each: each.to(device)))
        module.cpu()
    if away := [str(each.device) for each in _leaves(found) if each.device.type != device.type]:
        fix = "What it makes is where its input is."
        raise ConformanceError(name, f"on a GPU it gives a tensor on {away[0]}", fix)
    if (shapes := _shapes(found)) != expected:
        raise ConformanceError(name, f"gives {shapes} on a GPU, but {expected} on the CPU", "Only places change.")
    if not _finite(found):
        raise ConformanceError(name, "a number is not finite on a GPU", "It is on the CPU.")


def _leaves(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    tensors(value, lambda each: found.append(each) or each)  # type: ignore[func-returns-value]
    return found


def _shapes(value: Any) -> list[tuple[int, ...]]:
    return [tuple(each.shape) for each in _leaves(value)]


def _finite(value: Any) -> bool:
    return all(bool(each.isfinite().all()) for each in _leaves(value))
