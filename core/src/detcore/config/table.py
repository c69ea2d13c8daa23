"""The frozen table that a config becomes, and the nodes it is folded from; both know which file set what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from detcore.config.paths import KeyPath, format_path


@attrs.frozen
class Origin:
    """Who set a value: ``configs/a.toml`` (relative to the working folder where below it) or ``option --set a.b=1``."""

    file: str

    def at(self, path: KeyPath) -> str:
        """``configs/a.toml: model.neck``, as error messages begin."""
        return f"{self.file}: {format_path(path)}" if path else self.file


@attrs.frozen
class Setting:
    """One link in the chain of values of a key: the plain value as that file wrote it."""

    value: object
    origin: Origin


@attrs.frozen
class Node:
    """A key while configs are folded; never changed, so that layers may share it.

    Args:
        value: A scalar, None, a tuple of nodes or a dict of nodes.
        history: Every setting of this key, oldest first.
        folder: Folder of the file that wrote the value, for ``${here}``.
        gone: Removed by ``_delete_``; kept because its history is still asked for.
    """

    value: object
    history: tuple[Setting, ...]
    folder: str = ""
    gone: bool = False

    @property
    def origin(self) -> Origin:
        """The last file that touched this key; of a table with a ``type``, the one that last set the type."""
        kind = self.value.get("type") if isinstance(self.value, dict) else None
        return (self if kind is None or kind.gone else kind).history[-1].origin

    def child(self, segment: str | int) -> tuple[str | int, Node] | None:
        """The node below, gone or not, with its key: a str in a table, an index from 0 in a list."""
        if isinstance(self.value, dict):
            node = self.value.get(str(segment))
            return None if node is None else (str(segment), node)
        if isinstance(self.value, tuple) and isinstance(segment, int):
            size = len(self.value)
            return (segment % size, self.value[segment]) if -size <= segment < size else None
        return None

    def at(self, path: KeyPath) -> Node:
        """The node at a path that is known to be there."""
        node = self
        for segment in path:
            node = (node.child(segment) or ("", node))[1]
        return node

    def walk(self, path: KeyPath = ()) -> Iterator[KeyPath]:
        """The paths of this node and of all that are below it and not gone."""
        yield path
        children = self.value.items() if isinstance(self.value, dict) else ()
        items = enumerate(self.value) if isinstance(self.value, tuple) else children
        for key, node in items:
            if not node.gone:
                yield from node.walk((*path, key))


def live(node: Node | None) -> Node | None:
    """The node, unless it is gone."""
    return None if node is None or node.gone else node


@attrs.frozen(eq=False, repr=False)
class Table(Mapping[str, object]):
    """A folded and resolved table; values are scalars, None, tuples and Tables. Equal to any mapping of equal items.

    A table that a reference (``neck = "${vars.neck}"``) copied has the ``path`` of the copy; its keys keep the files
    that wrote them, and :meth:`where` adds where that was. The key that holds the reference belongs to the file that
    wrote the reference.
    """

    path: KeyPath
    _items: Mapping[str, object]
    _origins: Mapping[str, Origin]
    _origin: Origin
    _home: KeyPath  # where it was written; differs from `path` in a copy

    def __getitem__(self, key: str) -> object:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"Table({format_path(self.path)!r}, {self.plain()!r})"

    def origin(self, key: str) -> Origin:
        """The last file or option that set ``key``; for a table with a ``type``, the last that set its type."""
        return self._origins[key]

    def where(self, key: str | None = None) -> str:
        """``configs/a.toml: model.neck.num_outs``; a key that is not there is located by its table's file."""
        below: KeyPath = () if key is None else (key,)
        origin = self._origin if key is None else self._origins.get(key, self._origin)
        text = origin.at(self.path + below)
        return text if self._home == self.path else f"{text} (copied from {format_path(self._home + below)})"

    @property
    def home(self) -> str:
        """The dotted key where it was written; what is set there is set in all copies too."""
        return format_path(self._home)

    def plain(self) -> dict[str, object]:
        """A deep copy of dicts, lists, scalars and None."""
        return {key: plain(value) for key, value in self._items.items()}


def plain(value: object) -> object:
    """A value of a Table as dicts, lists, scalars and None."""
    if isinstance(value, Table):
        return value.plain()
    return [plain(item) for item in value] if isinstance(value, tuple) else value
