"""Pairs of prior and object, some at a time: what an assigner holds at once does not grow with the objects."""

from __future__ import annotations

OBJECTS_AT_ONCE = 8
"""As many pairs as all priors have with so many objects are looked at together."""
FEW = 2**18
"""So many are, in any case."""


def parts(length: int, priors: int, objects: int, most: int) -> list[slice]:
    """Slices of rows, be it priors or objects, of about equal length, so that each takes part in few pairs.

    How many slices there are is a power of two that is found by comparing, not by dividing: torch.compile then makes a
    program for each number of slices, and not for each number of objects.

    Args:
        length: How many rows.
        priors: P, of all images together.
        objects: G.
        most: About so many pairs of a slice at most.
    """
    if not length:
        return []
    budget = min(most, max(priors * OBJECTS_AT_ONCE, FEW))
    count = 1
    while priors * objects > count * budget and 2 * count <= length:
        count *= 2
    return [slice(part * length // count, (part + 1) * length // count) for part in range(count)]
