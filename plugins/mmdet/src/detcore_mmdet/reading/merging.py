"""A config over what it inherits, and a table over a table, as MMEngine merges them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detcore_mmdet.reading.limits import DEPTH, Budget, Refused, short
from detcore_mmdet.reading.values import DELETE, kind

_ABSENT = object()


class Unmergeable(Refused):
    """A table over what is no table; ``path`` are the keys that lead there."""

    def __init__(self, path: tuple[Any, ...], inherited: Any) -> None:
        self.path = path
        found = f"`{short('.'.join(map(str, path)))}` is a table here, but inherits {kind(inherited)}"
        super().__init__(found, f"Add `{DELETE}=True` to replace what is inherited.")


def merged(
    child: Mapping[Any, Any], base: Mapping[Any, Any], budget: Budget, path: tuple[Any, ...] = ()
) -> dict[Any, Any]:
    """The base's keys, and the child's over them; neither is changed.

    A table over a table merges, one with ``_delete_=True`` replaces what is there; anything else replaces.

    Raises:
        Unmergeable: A table stands over what is no table.
    """
    if len(path) > DEPTH:
        raise Refused(f"values are nested more than {DEPTH} levels deep")
    budget.spend(len(base) + len(child))
    result = dict(base)
    for key, value in child.items():
        if not isinstance(value, dict) or key not in base:
            result[key] = value
            continue
        inner = {each: value[each] for each in value if each != DELETE}
        if not value.get(DELETE):
            if not isinstance(base[key], dict):
                raise Unmergeable((*path, key), base[key])
            inner = merged(inner, base[key], budget, (*path, key))
        result[key] = inner
    return result


def merge_tables(new: Any, old: Any, budget: Budget, depth: int = 0) -> Any:
    """What ``table.merge(other)`` makes of a value: a table over what is no table replaces it there."""
    if depth > DEPTH:
        raise Refused(f"values are nested more than {DEPTH} levels deep")
    if not isinstance(new, dict):
        return old if new is _ABSENT else new
    inner = {key: new[key] for key in new if key != DELETE}
    if not isinstance(old, dict):
        return inner
    below: Mapping[Any, Any] = {} if new.get(DELETE) else old
    budget.spend(len(below) + len(inner))
    return {
        key: merge_tables(inner.get(key, _ABSENT), below.get(key, _ABSENT), budget, depth + 1)
        for key in dict.fromkeys((*below, *inner))
        if key != DELETE
    }
