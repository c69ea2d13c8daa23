"""Discovery: one plugin at a time, a broken one is a row, nothing imports torch."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from detcore import Component, Kind, Namespace, hookimpl
from detcore.catalog import KNOWN, PLUGIN, Catalog
from detcore.errors import ConfigError, PluginError
from detcore.plugins import discover, resolve_dist
from fake_points import Dist, Point


def plugin(*records: Any, name: str = "nets", dist: str = "acme", **hooks: Callable[[], Any]) -> Point:
    """A plugin module with these records; hooks replace or add to ``detcore_components``."""
    module = ModuleType(f"{dist}_{name}")
    functions = {"detcore_components": lambda: list(records), **hooks}
    module.__dict__.update({each: hookimpl(function) for each, function in functions.items()})
    return Point(name, Dist(dist), lambda: module)


def fails(error: BaseException) -> Point:
    def load() -> Any:
        raise error

    return Point("bad", Dist("bad-dist", "2.0"), load)


FPN = Component("neck", "FPN", "x:FPN")


def broken_rows(catalog: Catalog) -> list[tuple[str, str, str]]:
    return [(each.plugin, each.version, each.error) for each in catalog.broken]


def test_records_know_their_plugin() -> None:
    catalog = discover([plugin(FPN, Kind("neck", "x:Neck"), Namespace("neck", "x"), dist="Acme_Nets")])
    (entry,) = catalog.components["neck", "FPN"]
    assert (entry.distribution, entry.version, entry.plugin) == ("acme-nets", "1.0", "acme-nets/nets")
    assert list(catalog.kinds) == ["neck"]
    assert list(catalog.namespaces) == ["neck"]


def test_entry_points_are_sorted_core_first() -> None:
    catalog = discover([plugin(FPN, dist="b"), plugin(FPN, dist="a"), plugin(FPN, dist="detcore")])
    assert [entry.distribution for entry in catalog.entries] == ["detcore", "a", "b"]


@pytest.mark.parametrize(
    ("point", "error"),
    [
        (fails(ImportError("no\nnumpy")), "ImportError: no numpy"),
        (fails(SystemExit(3)), "SystemExit: 3"),
        (plugin(dist="bad-dist", name="bad", detcore_componets=lambda: []), "detcore_componets"),
        (plugin(dist="bad-dist", name="bad", detcore_components=lambda: 1 // 0), "ZeroDivisionError"),
        (plugin("FPN", dist="bad-dist", name="bad"), "neither Component nor Namespace nor Kind"),
        (plugin(FPN, FPN, dist="bad-dist", name="bad"), "ValueError: neck FPN is registered twice"),
        (plugin(Component("neck", "a/b", "x:F"), dist="bad-dist", name="bad"), "a name holds no slash"),
        (plugin(Component("neck", "FPN", "x.FPN"), dist="bad-dist", name="bad"), 'a target is "package.module:Name"'),
        (plugin(Kind("neck", "y:N"), dist="bad-dist", name="bad"), "kind neck is taken: its interface is x:Neck"),
    ],
)
def test_a_broken_plugin_is_a_row_and_stops_no_other(point: Point, error: str) -> None:
    before, after = plugin(Kind("neck", "x:Neck"), dist="a"), plugin(FPN, dist="z")
    catalog = discover([before, point, after])
    ((name, _, text),) = broken_rows(catalog)
    assert name == "bad-dist/bad"
    assert error in text
    assert [entry.distribution for entry in catalog.entries] == ["a", "z"]


def test_keyboard_interrupt_passes() -> None:
    with pytest.raises(KeyboardInterrupt):
        discover([fails(KeyboardInterrupt())])


def test_the_same_distribution_twice_registers_once() -> None:
    catalog = discover(
        [plugin(FPN, dist="acme.nets"), plugin(FPN, dist="acme-nets"), fails(OSError()), fails(OSError())]
    )
    assert len(catalog.entries) == 1
    assert len(catalog.broken) == 1


@pytest.mark.parametrize("block", ["acme-nets", "Acme_Nets", "nets", "acme-nets/nets", "Acme.Nets/nets"])
@pytest.mark.parametrize("by_environment", [False, True])
def test_plugins_are_left_out_by_distribution_entry_point_or_both(
    block: str, by_environment: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_environment:
        monkeypatch.setenv("DETCORE_BLOCK_PLUGINS", f" {block}, other")
    source = [plugin(FPN, dist="acme-nets"), plugin(FPN, dist="kept", name="kept")]
    catalog = discover(source, block=() if by_environment else [block])
    assert catalog.blocked == ("acme-nets/nets",)
    assert [entry.distribution for entry in catalog.entries] == ["kept"]


def test_weight_sources_are_found_by_scheme() -> None:
    source = plugin(detcore_weight_sources=lambda: {"torchvision": "os.path:join"})
    assert discover([source]).find("weight_source", "torchvision", "").obj is os.path.join


LOCAL = """
    from detcore import Component, hookimpl

    class MyHead:
        pass

    @hookimpl
    def detcore_components():
        return [Component("dense_head", "MyHead", f"{__name__}:MyHead")]
"""


def local(folder: Path, text: str = LOCAL, name: str = "my_head.py") -> str:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(textwrap.dedent(text))
    return str(folder / name)


def test_a_local_module_registers_and_its_targets_resolve(tmp_path: Path) -> None:
    path = local(tmp_path)
    target = discover([], local=[path, path]).find("dense_head", "MyHead", "a.toml: model.head")
    assert target.obj.__name__ == "MyHead"
    assert str(target) == "dense_head MyHead (local my_head.py)"
    assert discover([], local=[path]).find("dense_head", "local/MyHead", "").obj is target.obj


def test_a_changed_local_module_is_imported_anew(tmp_path: Path) -> None:
    path = local(tmp_path)
    first = discover([], local=[path]).find("dense_head", "MyHead", "").obj
    os.utime(path, ns=(1, 1))
    assert discover([], local=[path]).find("dense_head", "MyHead", "").obj is not first


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("1 / 0", "cannot be loaded: ZeroDivisionError: division by zero"),
        ("def f(:", "cannot be loaded: SyntaxError"),
        (LOCAL.replace("components", "componets"), "cannot be loaded: PluginValidationError"),
    ],
)
def test_a_local_module_with_an_error_is_an_error_at_once(tmp_path: Path, text: str, error: str) -> None:
    path = local(tmp_path, text, "bad_head.py")
    for _ in range(2):
        with pytest.raises(PluginError) as caught:
            discover([], local=[path])
        assert str(caught.value).startswith(f"{path}: {error}")


def test_a_local_module_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"none\.py: no such Python file\. It is named in \[plugins\] local\."):
        discover([], local=[str(tmp_path / "none.py")])


def test_two_local_modules_of_one_name(tmp_path: Path) -> None:
    paths = [local(tmp_path / "a"), local(tmp_path / "b")]
    with pytest.raises(PluginError, match=r"two local modules are called my_head\. Rename one of them\."):
        discover([], local=paths)


def install(folder: Path, name: str, files: dict[str, str], entry_points: str = "") -> None:
    """A distribution in a folder of sys.path, as pip would leave it."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n\nVersion: no\n")
    (info / "entry_points.txt").write_text(textwrap.dedent(entry_points))
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(textwrap.dedent(text))


def test_installed_plugins_are_found_once_though_installed_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = "[detcore]\ntwice = twice_net.plugin\n"
    for folder in ("one", "two"):
        install(tmp_path / folder, "twice-net", {"twice_net/__init__.py": "", "twice_net/plugin.py": LOCAL}, points)
        monkeypatch.syspath_prepend(tmp_path / folder)
    catalog = discover()
    (entry,) = catalog.components["dense_head", "MyHead"]
    assert (str(entry), entry.plugin) == ("twice-net 1.0", "twice-net/twice")


def test_resolve_dist_finds_configs_without_importing_the_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"full_net/__init__.py": "raise RuntimeError", "full_net/configs/_base_/tiny.toml": ""}
    install(tmp_path, "full-net", files, "[detcore]\nx = full_net.plugin\n")
    install(tmp_path, "empty-net", {"empty_net/__init__.py": ""}, "[detcore]\nx = empty_net.plugin\n")
    install(tmp_path, "no-plugin", {})
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve_dist("full-net", "_base_/tiny.toml") == tmp_path / "full_net/configs/_base_/tiny.toml"
    for dist, path, message in [
        ("full-net", "_base_/tny.toml", 'full-net has no such config. Did you mean "_base_/tiny.toml"?'),
        ("empty-net", "a.toml", "empty-net has no configs"),
        ("no-plugin", "a.toml", "no-plugin has no configs"),
        ("detcore-absent", "a.toml", "detcore-absent is not installed. Install it: pip install detcore-absent."),
    ]:
        with pytest.raises(ConfigError) as caught:
            resolve_dist(dist, path)
        assert str(caught.value) == f"{dist}::{path}: {message}"


def test_resolve_dist_knows_the_recipes_of_core() -> None:
    with pytest.raises(ConfigError, match=r"^detcore::no/such\.toml: detcore has no such config"):
        resolve_dist("detcore", "no/such.toml")


def test_discovery_imports_no_torch_pydantic_or_rich() -> None:
    code = (
        "import sys, detcore.plugins; detcore.plugins.discover();"
        "print(sorted({'torch', 'pydantic', 'rich', 'numpy', 'torchvision'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_importing_detcore_imports_next_to_nothing() -> None:
    code = "import sys, detcore; print(sorted(m for m in sys.modules if m.startswith(('detcore', 'attr', 'pluggy'))))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "['detcore']"


def test_an_absent_name_of_the_package_is_an_attribute_error() -> None:
    import detcore

    with pytest.raises(AttributeError, match="module 'detcore' has no attribute 'Nothing'"):
        _ = detcore.Nothing
    assert "hookimpl" in dir(detcore)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool that writes known.json; it is no part of core."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "tools")
    return importlib.import_module("known")


def project(folder: Path, name: str, text: str) -> None:
    package = folder / "one" / "src" / name
    package.mkdir(parents=True)
    (folder / "one" / "pyproject.toml").write_text(
        f'[project]\nname = "detcore-one"\n[project.entry-points.detcore]\none = "{name}.plugin"\n'
    )
    (package / "__init__.py").write_text("")
    (package / "plugin.py").write_text(textwrap.dedent(text))


def test_known_lists_the_plugins_of_a_repository(known: ModuleType, tmp_path: Path) -> None:
    project(tmp_path, "known_good", LOCAL)
    assert known.generate(tmp_path) == {"dense_head": {"MyHead": "detcore-one"}, PLUGIN: {"one": "detcore-one"}}


def test_known_refuses_a_plugin_that_cannot_be_loaded(known: ModuleType, tmp_path: Path) -> None:
    project(tmp_path, "known_bad", "import no_such_thing")
    with pytest.raises(PluginError, match=r"^detcore-one/one: ModuleNotFoundError: No module named 'no_such_thing'$"):
        known.generate(tmp_path)


def test_known_json_is_fresh(known: ModuleType) -> None:
    fresh = KNOWN.read_text() == known.text(known.generate(known.PLUGINS))
    assert fresh, "run: python tools/known.py --write"
