"""What models need to know about other ranks; without a process group there is one rank."""

from __future__ import annotations

from torch import Tensor, distributed


def reduce_mean(value: Tensor) -> Tensor:
    """The mean of ``value`` over all ranks, without gradient; losses divide by counts averaged so.

    Args:
        value: A tensor of the same shape on every rank; it is not changed.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    value = value.detach() / distributed.get_world_size()
    distributed.all_reduce(value)
    return value
