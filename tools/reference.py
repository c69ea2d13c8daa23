"""Write docs/reference/: what a config may say, read from the components that are installed; packages and recipes.

    python tools/reference.py [FOLDER]

The site is built of these pages (``nox -s docs``); they are not kept in the repository. A component's parameters come
from its signature, their meaning from the ``Args`` of its docstring.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import tomli
from detcore import signature
from detcore.catalog import Catalog, Component, Entry, Namespace, resolve
from detcore.config.dump import spell
from detcore.errors import ConfigError
from detcore.plugins import discover
from detcore.preprocess import Preprocess
from detcore.recipe import Recipe, TrainSettings, ValSettings
from detcore.runner.parameters import ParamRule
from detcore.signature import Parameter, Signature

ROOT = Path(__file__).parents[1]

PAGES: Mapping[str, tuple[str, Sequence[str]]] = {
    "detectors": ("Detectors", ("detector",)),
    "networks": ("Networks", ("backbone", "neck", "norm", "conv", "activation")),
    "first-stage": (
        "First stage",
        ("dense_head", "head_network", "geometry", "assigner", "sampler", "dense_loss", "decoder"),
    ),
    "second-stage": (
        "Second stage",
        ("roi_head", "roi_stage", "roi_extractor", "box_head", "box_coder", "roi_branch", "roi_decoder"),
    ),
    "losses": ("Losses", ("loss",)),
    "data": ("Data", ("dataset", "order", "transform", "evaluator")),
    "training": ("Training", ("optimizer", "schedule", "callback")),
}
"""Page -> its title and kinds of core's; those that plugins open are on the page ``others``."""

SECTIONS: Sequence[tuple[str, str, type]] = (
    ("Top level", "Keys that stand above the first table.", Recipe),
    ("[train]", "The data and the loop.", TrainSettings),
    ("[val]", "The data and the scores.", ValSettings),
    ("[preprocess]", "How images are normalised and padded; a checkpoint carries it.", Preprocess),
    ("[params.NAME]", "What is different for some parameters.", ParamRule),
)


def write(folder: Path, catalog: Catalog) -> None:
    """All pages, into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for page, (title, kinds) in pages(catalog).items():
        (folder / f"{page}.md").write_text(kinds_page(catalog, title, kinds), encoding="utf-8")
    (folder / "index.md").write_text(sections_page(catalog), encoding="utf-8")
    navigation = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    (folder / "decisions.md").write_text(decisions_page(ROOT / "docs", navigation), encoding="utf-8")
    (folder / "recipes.md").write_text(copied(ROOT / "configs" / "README.md"), encoding="utf-8")
    (folder / "packages.md").write_text(packages_page(), encoding="utf-8")
    (folder / "packages").mkdir(exist_ok=True)
    for readme in ROOT.glob("plugins/*/README.md"):
        (folder / "packages" / f"{readme.parent.name}.md").write_text(copied(readme), encoding="utf-8")


def pages(catalog: Catalog) -> dict[str, tuple[str, Sequence[str]]]:
    """The pages with the kinds that are installed, each kind on one."""
    core = {kind for _, kinds in PAGES.values() for kind in kinds}
    others = [kind for kind in catalog.kinds if kind not in core]
    mine = {page: (title, [each for each in kinds if each in catalog.kinds]) for page, (title, kinds) in PAGES.items()}
    return {**mine, "others": ("Kinds that plugins open", others)}


def sections_page(catalog: Catalog) -> str:
    """The sections of a config, and where each kind of component is."""
    lines = [
        "# Config reference",
        "",
        "What a config may say, read from the packages that are installed where this page was made. `core-run schema`",
        "writes the same as a JSON Schema, for editors; `core-run plugins NAME` lists what a package provides.",
        "",
        "Where the type is a kind, the value is a table whose `type` names a component of that kind. *From the build*",
        "means that the value comes from the parts before it; one that is written is compared with it.",
        "",
        "## Kinds",
        "",
        "| kind | what it is | page |",
        "|---|---|---|",
    ]
    for page, (title, kinds) in pages(catalog).items():
        for kind in kinds:
            lines.append(
                f"| `{kind}` | {cell(catalog.kinds[kind].record.summary)} | [{title}]({page}.md#{anchor(kind)}) |"
            )
    for title, text, section in SECTIONS:
        lines += ["", f"## {title}", "", text, "", *table(signature.read(section, catalog.kind_of), section, catalog)]
    return "\n".join(lines) + "\n"


def kinds_page(catalog: Catalog, title: str, kinds: Iterable[str]) -> str:
    """All components of some kinds."""
    lines = [f"# {title}"]
    listed = list(kinds)
    if not listed:
        lines += ["", "No package that is installed opens a kind of its own."]
    for kind in listed:
        entry = catalog.kinds[kind]
        supplies = " Its owner gives the leading arguments." if entry.record.supplies else ""
        lines += ["", f"## {kind} {{ #{anchor(kind)} }}", ""]
        lines += [f"{sentence(entry.record.summary)}{supplies} Interface: `{entry.record.interface}`."]
        for space in catalog.namespaces.get(kind, ()):
            lines += ["", library(space)]
        for name in sorted(name for its_kind, name in catalog.components if its_kind == kind):
            for each in catalog.components[kind, name]:
                lines += ["", *component(catalog, each)]
    return "\n".join(lines) + "\n"


def library(entry: Entry[Namespace]) -> str:
    """A library whose names are components: which they are, where it lists them."""
    space = entry.record
    text = f"Also any public name of `{space.module}`"
    if not space.base:
        return f"{text} ({entry.distribution})."
    base = resolve(space.base, "", space.kind)
    members = vars(importlib.import_module(space.module)).items()
    names = sorted(name for name, it in members if isinstance(it, type) and issubclass(it, base) and it is not base)
    listed = ", ".join(f"`{name}`" for name in names if not name.startswith("_"))
    return f"{text} that derives from `{space.base}` ({entry.distribution}){listed and f': {listed}'}."


def component(catalog: Catalog, entry: Entry[Component]) -> list[str]:
    """One component: its line, where it comes from, its parameters."""
    record = entry.record
    target = catalog.find(record.kind, f"{entry.distribution}/{record.name}", "").obj
    read = signature.read(target, catalog.kind_of, skip=catalog.kinds[record.kind].record.supplies)
    text = sentence(record.summary or first_sentence(target))
    head = [
        f"### {record.name} {{ #{anchor(record.kind, record.name)} }}",
        "",
        f"{text} Source: `{entry.distribution}`.",
    ]
    return [*head, "", *table(read, target, catalog)]


def table(read: Signature, target: Any, catalog: Catalog) -> list[str]:
    """The parameters of a signature as a table of Markdown."""
    texts = meanings(target)
    rows = [
        f"| `{each.name}` | {code(type_of(each, catalog))} | {default(each)} | {cell(texts.get(each.name, ''))} |"
        for each in read.parameters.values()
    ]
    lines = ["| parameter | type | default | meaning |", "|---|---|---|---|", *rows] if rows else ["No parameters."]
    return [*lines, *(["", "Any other key is passed on."] if read.open else [])]


def type_of(parameter: Parameter, catalog: Catalog) -> str:
    """A parameter's type as a reader writes it; kinds by their names."""
    if parameter.section is not None:
        return "tables by name" if parameter.named else "table"
    if parameter.child is None:
        return signature.hint_name(parameter.hint)
    kind = str(catalog.kind_of(parameter.child.interface))
    shapes = {"one": kind, "many": f"list of {kind}", "named": f"tables of {kind} by name", "none": "None"}
    return " | ".join(text for shape, text in shapes.items() if shape in parameter.child.shapes)


def default(parameter: Parameter) -> str:
    """What stands in the column of defaults."""
    if parameter.flow is not None and parameter.default in (inspect.Parameter.empty, None):
        return "*from the build*"
    if parameter.required:
        return "*required*"
    value = parameter.default
    if isinstance(value, attrs.Factory):  # type: ignore[arg-type]  # a class, which its stub calls a function
        value = value.factory()
    return code(toml(value))


def toml(value: Any) -> str:
    """A default as TOML spells it; what it cannot spell by its name."""
    if value is None:
        return "None"
    if isinstance(value, tuple):
        value = list(value)
    if callable(value):
        return str(getattr(value, "__name__", "") or getattr(getattr(value, "func", None), "__name__", ""))
    try:
        return spell(value)
    except (ConfigError, TypeError):
        return str(value)


def meanings(target: Any) -> dict[str, str]:
    """Parameter -> text, from the ``Args`` (or ``Attributes``) of docstrings: its own before those of its bases."""
    found: dict[str, str] = {}
    for each in target.__mro__ if isinstance(target, type) else (target,):
        for doc in filter(None, (vars(each).get("__doc__"), getattr(vars(each).get("__init__"), "__doc__", None))):
            found = {**told(inspect.cleandoc(doc)), **found}
    return found


def told(doc: str) -> dict[str, str]:
    """Name -> text, of one docstring."""
    found: dict[str, str] = {}
    for block in re.findall(r"^(?:Args|Attributes):\n((?:(?: +.*)?\n?)+)", doc, re.MULTILINE):
        for name, text in re.findall(r"^    (\w+)(?: \([^)]*\))?: (.*(?:\n(?:     +.*)?)*)", block, re.MULTILINE):
            found.setdefault(name, " ".join(text.split()))
    return found


def decisions_page(docs: Path, navigation: str) -> str:
    """The decisions, and pages that are not in the navigation, by their titles."""
    lines = [
        "# Decisions",
        "",
        "Why something is not as a reader would expect.",
        "",
        *links(docs.glob("decisions/*.md")),
    ]
    others = links(path for path in docs.glob("*.md") if f'"{path.name}"' not in navigation)
    return "\n".join([*lines, *(["", "## Other pages", "", *others] if others else [])]) + "\n"


def links(files: Iterable[Path]) -> list[str]:
    """A list of pages by their titles."""
    titles = {file: re.search(r"^# (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE) for file in sorted(files)}
    docs = ROOT / "docs"
    return [
        f"- [{title[1] if title else file.stem}](../{file.relative_to(docs).as_posix()})"
        for file, title in titles.items()
    ]


def packages_page() -> str:
    """The packages of this repository, by what their pyproject.toml says of them."""
    lines = ["# Packages", "", "The plugins of this repository; `core-run plugins` lists those that are installed.", ""]
    lines += ["| package | what it is |", "|---|---|"]
    for file in sorted(ROOT.glob("plugins/*/pyproject.toml")):
        project = tomli.loads(file.read_text(encoding="utf-8"))["project"]
        name = f"[{project['name']}](packages/{file.parent.name}.md)"
        lines.append(f"| {name} | {cell(project.get('description', ''))} |")
    return "\n".join(lines) + "\n"


def copied(readme: Path) -> str:
    """A README as a page: links to other plugins lead to their pages, those to other files are plain text."""
    text = readme.read_text(encoding="utf-8")
    text = re.sub(r"\]\(\.\./([\w-]+)/README\.md\)", r"](\1.md)", text)
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#|[\w-]+\.md)[^)]*\)", r"\1", text)


def anchor(*names: str) -> str:
    """The address of a heading, the same whatever else is on its page."""
    return "-".join(re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") for name in names)


def first_sentence(target: Any) -> str:
    """Of a docstring, in one line."""
    paragraph = " ".join((inspect.getdoc(target) or "").split("\n\n")[0].split())
    return plain(re.split(r"(?<=[.!?]) ", paragraph)[0])


def sentence(text: str) -> str:
    """With a capital and a full stop; nothing stays nothing."""
    text = plain(text)
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def plain(text: str) -> str:
    """Docstrings' markup as Markdown."""
    text = re.sub(r":\w+:`[~!]?([^`]+)`", r"`\1`", text)
    return text.replace("``", "`")


def cell(text: str) -> str:
    """Text that may stand in a table."""
    parts = re.split(r"(`[^`]*`)", plain(text))
    return "".join(part if part.startswith("`") else escaped(part) for part in parts)


def escaped(text: str) -> str:
    """Text without what Markdown reads as markup."""
    return re.sub(r"([*_|])", r"\\\1", text.replace("<", "&lt;"))


def code(text: str) -> str:
    """As code, in a table."""
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "reference", discover())
