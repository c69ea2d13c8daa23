"""Several processes, one run: who this one is, and what they tell each other. Without a process group there is one.

Processes are started by ``torchrun``; its environment variables are read here and nowhere else.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from detcore.errors import TrainingError, UserError, one_line

T = TypeVar("T")

GRACE = 10.0
"""Seconds that a process has to end by itself after another one failed, before it is ended."""


_apart = False


def is_parallel() -> bool:
    """There is more than one process."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if is_parallel() else 0


def world_size() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if is_parallel() else 1


def local_rank() -> int:
    """The number of this process on its machine: that of its accelerator."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def reduce_mean(value: Tensor) -> Tensor:
    """The mean of ``value`` over all ranks, without gradient; losses divide by counts averaged so.

    Args:
        value: A tensor of the same shape on every rank; it is not changed.
    """
    if not is_parallel() or _apart:
        return value
    value = value.detach() / distributed.get_world_size()
    distributed.all_reduce(value)
    return value


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        value = value.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradient)


def sum_over_ranks(value: Tensor) -> Tensor:
    """The sum of ``value`` over all ranks; its gradient is the sum of the ranks' gradients, so all take it together."""
    total: Tensor = _Sum.apply(value) if is_parallel() else value
    return total


def share_of(count: Tensor) -> Tensor:
    """What losses divide by: the count of all ranks together, at least 1, over the number of ranks.

    The mean of the ranks' losses is then the loss of the whole batch.
    """
    return reduce_mean(count.float()).clamp(min=1 if _apart else 1 / world_size())


@contextmanager
def apart() -> Iterator[None]:
    """Within it :func:`reduce_mean` is this rank's own value: what is scored does not depend on who does it."""
    global _apart  # noqa: PLW0603 (losses know it by no other way)
    _apart = True
    try:
        yield
    finally:
        _apart = False


def gather(value: T) -> list[T]:
    """The values of all ranks in their order, on the first; an empty list on the others."""
    if not is_parallel():
        return [value]
    values: list[Any] = [None] * world_size()
    distributed.gather_object(value, values if rank() == 0 else None)
    return values if rank() == 0 else []


def broadcast(value: T) -> T:
    """The first rank's value, on every rank."""
    if not is_parallel():
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def most(value: int) -> int:
    """The largest value of any rank, on every rank."""
    if not is_parallel():
        return value
    tensor = torch.tensor(value)  # on the CPU: no accelerator is waited for
    distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
    return int(tensor)


def leave() -> None:
    """Be alone from here on, as the one that fails has to be who is to compute something; the others fail for it."""
    if distributed.is_available() and distributed.is_initialized():
        with suppress(RuntimeError):  # its other ends may be gone
            distributed.destroy_process_group()


@contextmanager
def processes() -> Iterator[None]:
    """Join the processes that ``torchrun`` started, if it did; only the first one prints. An error of one ends all.

    Raises:
        UserError: This process's own; or a TrainingError that says which other process failed, and of what.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or is_parallel():
        yield
        return
    shared, number, count = next(rendezvous("env://"))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank())
    distributed.init_process_group(backend, store=PrefixStore("group", shared), rank=number, world_size=count)
    news = PrefixStore("news", shared)
    ended = threading.Event()
    threading.Thread(target=_watch, args=(news.clone(), number, ended), daemon=True).start()
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere if number else sys.stdout):
            yield
    except UserError as error:
        error.told = _tell(news, number, str(error))
        raise
    except RuntimeError as error:
        if not (isinstance(error, distributed.DistError) or "gloo" in str(error)):
            _tell(news, number, one_line(error))
            raise
        stopped = TrainingError("", _heard(news, number, seconds=GRACE) or f"stopped: {one_line(error)}")
        stopped.told = _tell(news, number, str(stopped)) or local_rank() > 0
        raise stopped from error
    except BaseException as error:
        _tell(news, number, one_line(error))
        raise
    finally:
        ended.set()
        leave()


def _tell(news: Store, number: int, text: str) -> bool:
    """Say why this process ends; what was said first stays. Returns whether another process had said the same."""
    with suppress(RuntimeError):
        who, _, first = news.compare_set("failed", "", f"{number}: {text}").decode().partition(": ")
        return int(who) != number and first == text
    return False


def _heard(news: Store, number: int, seconds: float) -> str:
    """What another process said, waiting for it as long as told; empty if none said anything."""
    with suppress(RuntimeError):
        news.wait(["failed"], timedelta(seconds=seconds))
        who, _, text = news.get("failed").decode().partition(": ")
        return "" if int(who) == number else f"stopped, as process {who} did: {text}"
    return ""


def _watch(news: Store, number: int, ended: threading.Event) -> None:
    """End a process that waits for an accelerator which waits for a process that failed."""
    while not ended.wait(2.0):
        try:
            failed = news.check(["failed"])
        except RuntimeError:  # the store is gone, and with it the process that failed
            return
        if failed and (found := _heard(news, number, seconds=1.0)) and not ended.wait(GRACE):
            print(f"process {number}: {found}", file=sys.stderr, flush=True)
            os._exit(2)
