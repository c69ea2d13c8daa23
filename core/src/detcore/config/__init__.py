"""TOML -> one frozen table that knows where each key came from.

``read_graph`` walks the ``_base_`` graph and folds ``[plugins]``; discovery may happen then; ``fold_graph`` folds the
rest and resolves references; ``load`` does both. Nothing here imports torch or a plugin.
"""

from __future__ import annotations

from detcore.config.dump import diff, dump, with_origins
from detcore.config.graph import read_graph, text_graph
from detcore.config.paths import format_path, parse_path
from detcore.config.result import Config, fold_graph, load
from detcore.config.table import Origin, Setting, Table, plain

__all__ = [
    "Config",
    "Origin",
    "Setting",
    "Table",
    "diff",
    "dump",
    "fold_graph",
    "format_path",
    "load",
    "parse_path",
    "plain",
    "read_graph",
    "text_graph",
    "with_origins",
]
