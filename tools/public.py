"""Lists the public names of core with what they take, as ``docs/public.txt`` keeps them: what plugins may rely on.

``python tools/public.py --write``. The code is read, not imported (griffe). docs/stability.md says what is promised. A
test holds that the list is fresh, so that no name goes or changes without somebody's seeing it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import griffe

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "core" / "src"
LIST = ROOT / "docs" / "public.txt"
MODULES = (
    "callbacks.logger", "catalog", "data", "distributed", "errors", "files", "foreign", "heads", "hookspecs", "images",
    "index", "interfaces", "layers", "loading", "masks", "polygons", "report", "results", "scripts", "structures",
    "testing",
)  # fmt: skip
"""What plugins and scripts import, beside the names of ``detcore`` itself. The other modules are core's own."""


def names(package: str = "detcore", source: Path = SOURCE, modules: Sequence[str] = MODULES) -> list[str]:
    """A line for each public name of a package and its public modules, in order."""
    root = griffe.load(package, search_paths=[source], allow_inspection=False, resolve_aliases=False)
    assert isinstance(root, griffe.Module)
    chosen = [root[name] for name in modules]
    return sorted(line for module in (root, *chosen) for line in _of_module(module, root))


def _of_module(module: griffe.Module, root: griffe.Module) -> Iterator[str]:
    """What ``__all__`` names, wherever it is from; without ``__all__``, what the module and those below it define."""
    if module.exports is not None:
        for name in map(str, module.exports):
            member = module.members[name]
            home = member.target_path if isinstance(member, griffe.Alias) else member.path
            yield from (f"{module.path}.{name}{line[len(home) :]}" for line in _of_member(_found(home, root)))
        return
    for name, member in module.members.items():
        if isinstance(member, griffe.Module) and _is_public(name):
            yield from _of_module(member, root)
        elif isinstance(member, griffe.Object) and _is_public(name):
            yield from _of_member(member)


def _found(path: str, root: griffe.Module) -> griffe.Object:
    """What is defined at a path, behind one import or two."""
    member = root[path.partition(".")[2]]
    return _found(member.target_path, root) if isinstance(member, griffe.Alias) else member


def _of_member(member: griffe.Object) -> Iterator[str]:
    if isinstance(member, griffe.Function):
        yield f"{member.path}{_signature(member)}"
    elif isinstance(member, griffe.Attribute):
        value = f" = {member.value}" if member.value is not None and isinstance(member.parent, griffe.Class) else ""
        yield f"{member.path}: {member.annotation}{value}" if member.annotation else member.path
    elif isinstance(member, griffe.Class):
        yield f"{member.path}({', '.join(map(str, member.bases))})"
        for name, own in member.members.items():
            if isinstance(own, griffe.Object) and (_is_public(name) or name in ("__init__", "__call__")):
                yield from _of_member(own)


def _signature(function: griffe.Function) -> str:
    parameters: list[str] = []
    kinds = [each.kind for each in function.parameters]
    for place, each in enumerate(function.parameters):
        keyword = each.kind is griffe.ParameterKind.keyword_only
        if keyword and griffe.ParameterKind.var_positional not in kinds and keyword not in _before(kinds, place):
            parameters.append("*")
        stars = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(each.kind, "")
        hint = f": {each.annotation}" if each.annotation else ""
        default = f" = {each.default}" if each.default is not None and not stars else ""
        parameters.append(f"{stars}{each.name}{hint}{default}")
    return f"({', '.join(parameters)}) -> {function.returns}"


def _before(kinds: list[griffe.ParameterKind | None], place: int) -> list[bool]:
    return [kind is griffe.ParameterKind.keyword_only for kind in kinds[:place] if kind is not None][-1:]


def _is_public(name: str) -> bool:
    return not name.startswith("_")


if __name__ == "__main__":
    text = "\n".join(names()) + "\n"
    if "--write" in sys.argv:
        LIST.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
