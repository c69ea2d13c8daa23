"""Phase one: the ``_base_`` graph is walked, every file read once, and ``[plugins]`` folded; nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import attrs
import tomli

from detcore.config.fold import Layer, fold_layers
from detcore.config.options import option_layers
from detcore.config.paths import MAX_DEPTH, quote
from detcore.config.references import Resolver
from detcore.config.table import Origin, Table
from detcore.errors import ConfigError, UserError, did_you_mean, raise_all

ResolveDist = Callable[[str, str], Path]
_PLUGINS_FIRST = "[plugins] is read before the rest: only `${here}` and `${env:NAME}` can stand in it."


@attrs.frozen
class Graph:
    """The files of a config and what they say, not folded yet.

    Args:
        files: In folding order, the named file last.
        plugins: The folded ``[plugins]``, paths of ``local`` made absolute.
        layers: What the files, then the options say.
    """

    files: tuple[Path, ...]
    plugins: Table
    layers: tuple[Layer, ...] = attrs.field(repr=False)

    @property
    def origin(self) -> Origin:
        """The named file."""
        return self.layers[len(self.files) - 1].origin


def read_graph(source: str, *, sets: Sequence[str] = (), swaps: Sequence[str] = (), resolve_dist: ResolveDist) -> Graph:
    """Read a config and its bases.

    Args:
        source: A path or ``dist::path``.
        sets: Values of ``--set``, folded last.
        swaps: Values of ``--swap``, folded after the files and before ``sets``.
        resolve_dist: ``('detcore', 'quickstart.toml')`` -> path; may raise a UserError.

    Raises:
        ConfigError: A file cannot be found, read or parsed, the bases form a cycle, an option or ``[plugins]`` is
            wrong; several at once as Problems.
    """
    try:
        cwd = Path.cwd()
    except OSError:
        raise ConfigError(source, "the working folder no longer exists") from None
    walk = _Walk(cwd, resolve_dist)
    walk.try_visit(source, cwd, source, ())
    try:
        options = option_layers(sets, swaps, str(cwd))
    except UserError as error:
        walk.problems.append(error)
        options = ()
    raise_all(walk.problems)
    layers = (*walk.layers.values(), *options)
    return Graph(tuple(walk.layers), _plugins(layers), layers)


def text_graph(text: str, name: str, *, sets: Sequence[str] = (), swaps: Sequence[str] = ()) -> Graph:
    """The graph of a config that is no file: TOML as :func:`detcore.config.dump` writes it, without bases.

    Args:
        text: The TOML.
        name: What messages call it.
        sets: As in :func:`read_graph`.
        swaps: As in :func:`read_graph`.

    Raises:
        ConfigError: The text is not TOML, an option or ``[plugins]`` is wrong.
    """
    try:
        raw = tomli.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(name, f"not TOML: {error}") from None
    folder = str(Path.cwd())
    layers = (Layer(raw, Origin(name), folder), *option_layers(sets, swaps, folder))
    return Graph((Path(name),), _plugins(layers), layers)


@attrs.frozen
class _Walk:
    """Depth first; each file once, at its first place, after its own bases."""

    cwd: Path
    resolve_dist: ResolveDist
    layers: dict[Path, Layer] = attrs.field(factory=dict)
    seen: set[Path] = attrs.field(factory=set)
    problems: list[UserError] = attrs.field(factory=list)

    def try_visit(self, entry: str, folder: Path, asked: str, chain: tuple[Path, ...]) -> None:
        try:
            self._visit(entry, self._locate(entry, folder, asked, chain), asked, chain)
        except UserError as error:
            self.problems.append(error)

    def _visit(self, entry: str, path: Path, asked: str, chain: tuple[Path, ...]) -> None:
        same = [other for other in chain if other.resolve() == path.resolve()]
        if same:
            ring = [*chain[chain.index(same[0]) :], same[0]]
            found = f"a cycle of `_base_`: {' -> '.join(map(self._shown, ring))}"
            raise ConfigError(asked, found, "One of them has to go.")
        if len(chain) >= MAX_DEPTH:
            raise ConfigError(asked, f"more than {MAX_DEPTH} files lead from one `_base_` to the next")
        if path.resolve() in self.seen:
            return
        self.seen.add(path.resolve())
        raw = self._read(entry, path, asked if chain else "")
        where = f"{self._shown(path)}: _base_"
        for base in _bases(raw, where):
            self.try_visit(base, path.parent, where, (*chain, path))
        own = {key: value for key, value in raw.items() if key != "_base_"}
        self.layers[path] = Layer(own, Origin(self._shown(path)), str(path.parent))

    def _locate(self, entry: str, folder: Path, asked: str, chain: tuple[Path, ...]) -> Path:
        """The file, its folder free of links and ``..``; a link to the file itself stays, bases are relative to it."""
        dist, colons, inside = entry.partition("::")
        try:
            path = self.resolve_dist(dist, inside) if colons else folder / os.path.expanduser(entry)
            located = path.parent.resolve() / path.name
            located.resolve()
        except UserError as error:
            if not chain:
                raise
            raise ConfigError(asked, f"{quote(entry)} cannot be found: {error.found}", error.fix) from error
        except (OSError, RuntimeError, ValueError):  # a ring of links, a NUL
            raise ConfigError(asked, f"{quote(entry)} is no path") from None
        return located

    def _read(self, entry: str, path: Path, asked: str) -> Mapping[str, object]:
        shown = self._shown(path)
        where = asked or shown
        try:
            text = path.read_bytes().decode("utf-8-sig")
            return tomli.loads(text)
        except FileNotFoundError:
            found = f"{quote(entry)} leads to {shown}, which does not exist" if asked else "no such file"
            raise ConfigError(where, found, _near(path)) from None
        except IsADirectoryError:
            raise ConfigError(where, f"{shown} is a folder" if asked else "is a folder", "Name a TOML file.") from None
        except OSError as error:
            raise ConfigError(where, f"{shown} cannot be read ({error.strerror})") from None
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise ConfigError(f"{shown}:{line}", "not UTF-8", "Save the file in the encoding UTF-8.") from None
        except tomli.TOMLDecodeError as error:
            raise ConfigError(f"{shown}:{error.lineno}", f"not TOML: {error.msg} (column {error.colno})") from None
        except (ValueError, RecursionError) as error:  # an integer of thousands of digits, thousands of brackets
            found = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise ConfigError(shown, f"not TOML: {found}") from None

    def _shown(self, path: Path) -> str:
        shown = path.relative_to(self.cwd) if path.is_relative_to(self.cwd) else path
        return str(shown).encode(errors="replace").decode()


def _bases(raw: Mapping[str, object], where: str) -> list[str]:
    value = raw.get("_base_", [])
    entries = cast("list[str]", value if isinstance(value, list) else [value])
    for entry in entries:
        if not isinstance(entry, str) or not entry.strip():
            raise ConfigError(where, f"{entry!r} is no path", "`_base_` is a path or a list of paths.")
        if "${" in entry:
            raise ConfigError(where, f"a reference in {quote(entry)}", "`_base_` is read before they are resolved.")
    return entries


def _near(path: Path) -> str:
    try:
        near = did_you_mean(path.stem, sorted(other.stem for other in path.parent.glob("*.toml")))
    except OSError:
        return ""
    return near.replace('"?', '.toml"?')


def _plugins(layers: Sequence[Layer]) -> Table:
    only = [attrs.evolve(one, raw={k: one.raw[k] for k in ("_delete_", "plugins") if k in one.raw}) for one in layers]
    folded = fold_layers(only)
    raise_all(folded.problems)
    root = Resolver(folded.root, unknown=_PLUGINS_FIRST).resolve()
    origin = layers[0].origin
    plugins = root.get("plugins", Table(path=("plugins",), items={}, origins={}, origin=origin, home=("plugins",)))
    if not isinstance(plugins, Table):
        raise ConfigError(root.where("plugins"), "not a table", "Write a table [plugins] with `local` and `block`.")
    raise_all([problem for key in plugins for problem in _plugins_key(plugins, key)])
    return plugins


def _plugins_key(plugins: Table, key: str) -> list[UserError]:
    value = plugins[key]
    if key not in ("local", "block"):
        near = did_you_mean(key, ("local", "block"))
        return [ConfigError(plugins.where(key), "not a key of [plugins]", f"{near} It takes: local, block.".strip())]
    if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
        return [ConfigError(plugins.where(key), "not a list of strings", f'Write {key} = ["..."].')]
    return []
