"""What the documentation's site is made of: pages written from the catalog, links that are held to their word."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from types import ModuleType

import pytest
import tomli
from attrs import frozen
from detcore.catalog import Catalog, Component, Entry, Kind
from detcore.plugins import discover

ROOT = Path(__file__).parents[2]


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = tool("reference")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    folder = tmp_path_factory.mktemp("reference")
    reference.write(folder, discover())
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}


def test_every_component_that_is_installed_is_on_a_page(pages: Mapping[str, str]) -> None:
    anchors = re.findall(r"^### (\S+) \{ #(\S+) \}$", "".join(pages.values()), re.MULTILINE)
    catalog = discover()
    wanted = [(name, reference.anchor(kind, name)) for kind, name in catalog.components if kind in catalog.kinds]
    assert sorted(anchors) == sorted(wanted)


def test_links_between_pages_lead_to_their_headings(pages: Mapping[str, str]) -> None:
    links = re.findall(r"\]\((\S+)\.md#(\S+)\)", pages["index"])
    assert len(links) == len(discover().kinds)
    for page, anchor in links:
        assert f"{{ #{anchor} }}" in pages[page]


def test_every_page_is_in_the_navigation(pages: Mapping[str, str]) -> None:
    text = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    assert {f"reference/{page}.md" for page in pages} == set(re.findall(r'"(reference/.*?)"', text))


def test_every_public_module_has_a_place_on_the_pages_of_code() -> None:
    shown = set(
        re.findall(r"^::: (\S+)$", "".join(path.read_text() for path in ROOT.glob("docs/api/*.md")), re.MULTILINE)
    )
    public = re.findall(r"^detcore(?:\.[a-z_]+)+", (ROOT / "docs" / "public.txt").read_text(), re.MULTILINE)
    modules = {name for each in public for name in accumulated(each) if is_module(name)}
    assert modules - shown - {"detcore.heads", "detcore.callbacks"} == set()


def accumulated(name: str) -> Iterator[str]:
    """``detcore.a.b`` -> ``detcore.a``, ``detcore.a.b``."""
    first, *rest = name.split(".")
    yield from accumulate(rest, "{}.{}".format, initial=first)


def is_module(name: str) -> bool:
    path = ROOT.joinpath("core", "src", *name.split("."))
    return name != "detcore" and (path.with_suffix(".py").is_file() or path.is_dir())


def test_links_of_a_readme_lead_to_pages(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(
        "[one](../coco/README.md) [two](src/code.py) [three](https://example.org) [four](#here) `a[0](1)`"
    )
    copied = reference.copied(tmp_path / "README.md")
    assert copied.startswith("[one](coco.md) two [three](https://example.org) [four](#here)")


def test_a_library_is_listed_by_the_names_that_are_components(pages: Mapping[str, str]) -> None:
    (line,) = re.findall(r"^Also any public name of `torch.optim`.*$", pages["training"], re.MULTILINE)
    assert "`AdamW`, " in line
    assert "`Optimizer`" not in line


def test_every_page_of_the_navigation_is_there() -> None:
    text = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    tomli.loads(text)
    named = re.findall(r'" = "([^"]*\.md)"', text)
    assert len(named) > 20
    assert [name for name in named if not name.startswith("reference/") and not (ROOT / "docs" / name).is_file()] == []


@frozen
class Size:
    """A size.

    Args:
        width: Of it, `a|b`
            in all.
        factor: Multiplies
        it.
    """

    width: int | None = None
    factor: float = 1.5


def test_a_row_has_name_type_default_and_meaning() -> None:
    catalog = Catalog(
        [
            Entry(Kind("size", f"{__name__}:Size", summary="how large"), "core", "1", "core/core"),
            Entry(Component("size", "Size", "collections:OrderedDict"), "mine", "1", "mine/mine"),
        ]
    )
    lines = reference.table(reference.signature.read(Size, catalog.kind_of), Size, catalog)
    assert lines[2] == "| `width` | `int | None` | `None` | Of it, `a|b` in all. |"
    assert lines[3].startswith("| `factor` | `float` | `1.5` | Multiplies")


def test_required_values_and_values_of_the_build_say_so(pages: Mapping[str, str]) -> None:
    fpn = pages["networks"].split("### FPN ")[1].split("###")[0]
    assert re.search(r"\| `in_channels` \| `Sequence\[int\]` \| \*from the build\* \| Of each map", fpn)
    assert "Source: `detcore-fpn`." in fpn
    assert re.search(r"\| `dataset` \| `dataset` \| \*required\* \|", pages["index"])


PAGE = '<a href="b.html#there">b</a><a href="https://example.org">e</a><h1 id="top"></h1><a href="#top">t</a>'


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        (PAGE, None),
        ('<a href="c.html">c</a>', "a.html: c.html leads nowhere"),
        ('<img src="no.svg">', "a.html: no.svg leads nowhere"),
        ('<a href="b.html#gone">b</a>', "a.html: b.html#gone: the page has no such place"),
        ('<a href="#gone">a</a>', "a.html: #gone: the page has no such place"),
        ('<script src="https://example.org/x.js"></script>', "a.html: fetches https://example.org/x.js"),
        ('<link rel="stylesheet" href="//example.org/x.css">', "a.html: fetches //example.org/x.css"),
    ],
)
def test_links_of_a_site_are_followed(page: str, fault: str | None, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<a href="a.html">a</a><a href="b.html">b</a>')
    (tmp_path / "a.html").write_text(page)
    (tmp_path / "b.html").write_text('<p id="there">')
    assert list(tool("links").faults(tmp_path)) == ([fault] if fault else [])


def test_a_site_with_a_fault_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<a href="#content">to it</a><p id="content">')
    (tmp_path / "a.html").write_text('<a href="a.html">itself</a>')
    ended = subprocess.run(
        [sys.executable, ROOT / "tools" / "links.py", tmp_path], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, "a.html: no page leads to it\n")
