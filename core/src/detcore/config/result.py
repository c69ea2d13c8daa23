"""Phase two: fold the layers, resolve the references; and what can be asked of the result."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import attrs

from detcore.config.fold import fold_layers
from detcore.config.graph import Graph, ResolveDist, read_graph
from detcore.config.paths import KeyPath
from detcore.config.references import Resolver, whole_reference
from detcore.config.table import Node, Setting, Table
from detcore.errors import raise_all


@attrs.frozen
class Config:
    """A config, folded and resolved.

    Args:
        table: The result.
        graph: The files and options it came from.
        read: Keys that a reference reads, with all above and below them, and all of ``vars``: not reported as unread.
        warnings: A ``_delete_`` with nothing to delete, by file and key.
    """

    table: Table
    graph: Graph
    read: frozenset[KeyPath]
    warnings: tuple[str, ...]
    _root: Node = attrs.field(repr=False)
    _copies: Mapping[KeyPath, KeyPath] = attrs.field(repr=False)

    def history(self, path: KeyPath) -> tuple[Setting, ...]:
        """All values of a key, oldest first, each as its file wrote it; ``{"_delete_": True}`` where one removed it.

        Of a key that no file ever set: nothing.
        """
        node, at = self._root, KeyPath()
        for segment in path:
            while whole_reference(node) is not None and at in self._copies:
                at = self._copies[at]
                node = self._root.at(at)
            below = node.child(segment)
            if below is None:
                return ()
            at, node = (*at, below[0]), below[1]
        return tuple(attrs.evolve(setting, value=copy.deepcopy(setting.value)) for setting in node.history)


def load(source: str, *, sets: Sequence[str] = (), swaps: Sequence[str] = (), resolve_dist: ResolveDist) -> Config:
    """Both phases; see :func:`read_graph` and :func:`fold_graph`."""
    return fold_graph(read_graph(source, sets=sets, swaps=swaps, resolve_dist=resolve_dist))


def fold_graph(graph: Graph) -> Config:
    """Fold a graph's files and options and resolve the references.

    Raises:
        ConfigError: Layers do not fit together, or a reference names nothing; several at once as Problems.
    """
    folded = fold_layers(graph.layers)
    raise_all(folded.problems)
    resolver = Resolver(folded.root)
    table = attrs.evolve(resolver.resolve(), origin=graph.origin)  # what lacks at the top lacks in the named file
    variables = folded.root.child("vars")
    read = resolver.read.union(variables[1].walk(("vars",)) if variables else ())
    return Config(table, graph, frozenset(read), folded.warnings, folded.root, resolver.copies)
