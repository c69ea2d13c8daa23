"""What show, diff and ``check --no-build`` print. Imports no torch, and no component."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from detcore.catalog import Catalog
from detcore.config import (
    Config,
    Setting,
    Table,
    diff,
    dump,
    fold_graph,
    format_path,
    load,
    parse_path,
    read_graph,
    with_origins,
)
from detcore.config.dump import leaves, spell
from detcore.config.paths import KeyPath
from detcore.errors import ConfigError, UserError, did_you_mean, raise_all
from detcore.plugins import discover, resolve_dist


def fold(source: str, sets: Sequence[str] = (), swaps: Sequence[str] = ()) -> Config:
    """Fold a config, its warnings printed to stderr. Discovers no plugin."""
    return _warned(load(source, sets=sets, swaps=swaps, resolve_dist=resolve_dist))


def table(config: Config, origin: bool) -> str:
    """The folded config as TOML; with ``origin``, one line per leaf with the file that set it."""
    return with_origins(config.table) if origin else dump(config.table)


def chain(config: Config, key: str) -> str:
    """The result of a key, then every value it had, oldest first, as each file wrote it.

    Raises:
        ConfigError: No file ever set such a key.
    """
    path = parse_path(key)
    history = config.history(path)
    if not history:
        paths = [path for path, _ in leaves(config.table)]
        keys = dict.fromkeys(format_path(path[:depth]) for path in paths for depth in range(1, len(path) + 1))
        raise ConfigError(config.graph.origin.file, f"no key {format_path(path)}", did_you_mean(key, keys))
    rows = [f"  {spell(each.value)}  # {each.origin.file}\n" for each in history]
    return "".join([f"{format_path(path)} = {_result(config.table, path)}\n", *rows])


def differences(left: str, right: str) -> list[str]:
    """One line per leaf that two configs fold to differently."""
    changes = diff(fold(left).table, fold(right).table)
    return [f"{format_path(each.path)}: {_side(each.left)} -> {_side(each.right)}" for each in changes]


def check_names(source: str, *, sets: Sequence[str] = (), swaps: Sequence[str] = ()) -> list[str]:
    """Syntax, folding, references and the names of components, without importing any; lines to print.

    Raises:
        UserError: Everything that is wrong, at once.
    """
    graph = read_graph(source, sets=sets, swaps=swaps, resolve_dist=resolve_dist)
    config = _warned(fold_graph(graph))
    catalog = discover(block=_strings(graph.plugins.get("block")))
    local = _strings(graph.plugins.get("local"))
    problems: list[UserError] = []
    lines: list[str] = []
    names = list(_typed(config.table))
    for name, where in names:
        try:
            sure = catalog.holds(name, where)
        except UserError as error:
            if not local or catalog.candidates(None, name).components:
                problems.append(error)
                continue
            sure = False
        if not sure:
            lines.append(f'{where}: "{name}" is not verified: {_possible(catalog, name, local)}')
    raise_all(problems)
    return [*lines, f"{source}: {len(names) - len(lines)} of {len(names)} names verified, nothing was built"]


def _warned(config: Config) -> Config:
    for warning in config.warnings:
        click.echo(f"warning: {warning}", err=True)
    return config


def _typed(value: object) -> Iterator[tuple[str, str]]:
    """(name, where) of every ``type = "name"``, at any depth."""
    if isinstance(value, Table):
        if isinstance(value.get("type"), str):
            yield str(value["type"]), value.where("type")
        for item in value.values():
            yield from _typed(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from _typed(item)


def _result(value: Any, path: KeyPath) -> str:
    try:
        for part in path:
            value = value[part]
    except (KeyError, IndexError, TypeError):
        return "(removed)"
    return spell(value)


def _side(setting: Setting | None) -> str:
    return "(absent)" if setting is None else f"{spell(setting.value)} ({setting.origin.file})"


def _strings(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, tuple) else ()


def _possible(catalog: Catalog, name: str, local: Sequence[str]) -> str:
    kinds = dict.fromkeys(entry.record.kind for entry in catalog.candidates(None, name).namespaces)
    spaces = [f"a namespace ({', '.join(kinds)})"] if kinds else []
    near = catalog.near(None, name)
    return f"only {' or '.join([*spaces, *local])} may have it{'; near names are ' if near else ''}{', '.join(near)}"
