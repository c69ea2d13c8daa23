"""A name in a config becomes the right object, or one line that says what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from detcore import catalog as module_under_test
from detcore.catalog import BrokenPlugin, Catalog, Component, Entry, Kind, Namespace, Record, split
from detcore.errors import ComponentError, ConfigError, PluginError, UserError
from detcore.points import canonical

MakeModule = Callable[..., ModuleType]
WHERE = "a.toml: model.neck"
KNOWN = {"plugin": {"fcos": "detcore-fcos", "timm": "detcore-timm"}, "assigner": {"FCOSAssigner": "detcore-fcos"}}


class Base:
    """What members of the test's namespaces derive from."""


class Member(Base):
    pass


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> MakeModule:
    def make_module(name: str, **attributes: Any) -> ModuleType:
        module = ModuleType(name)
        module.__dict__.update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return make_module


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_under_test, "known", lambda: KNOWN)


def entry(record: Record, plugin: str = "detcore-fpn/fpn") -> Entry[Record]:
    return Entry(record, plugin.partition("/")[0], "0.1.0", plugin)


def message(catalog: Catalog, kind: str, name: str, error: type[UserError] = ConfigError) -> str:
    with pytest.raises(error) as caught:
        catalog.find(kind, name, WHERE)
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_component_is_imported_when_it_is_asked_for(make: MakeModule) -> None:
    catalog = Catalog([entry(Component("neck", "FPN", "fake_fpn:Outer.FPN"))])
    make("fake_fpn", Outer=type("Outer", (), {"FPN": Member}))
    target = catalog.find("neck", "FPN", WHERE)
    assert (target.obj, target.name, target.kind) == (Member, "FPN", "neck")
    assert str(target) == "neck FPN (detcore-fpn 0.1.0)"


def test_a_component_wins_over_a_namespace(make: MakeModule) -> None:
    make("fake_listed", Net=Member)
    make("fake_space", Net=Base)
    catalog = Catalog(
        [
            entry(Namespace("backbone", "fake_space"), "a/a"),
            entry(Component("backbone", "Net", "fake_listed:Net"), "b/b"),
        ]
    )
    assert catalog.find("backbone", "Net", WHERE).obj is Member
    assert catalog.find("backbone", "a/Net", WHERE).obj is Base


def test_a_namespace_serves_its_kind_only(make: MakeModule) -> None:
    make("fake_space", Net=Member)
    catalog = Catalog([entry(Namespace("backbone", "fake_space"))])
    assert catalog.find("backbone", "Net", WHERE).entry.version == "0.1.0"
    assert message(catalog, "neck", "Net") == f'{WHERE}: no neck "Net" is installed'


def test_a_namespace_may_be_made_up_by_a_module_getattr(make: MakeModule) -> None:
    def getattribute(name: str) -> Any:
        if name == "resnet18":
            return Member
        if name == "broken18":
            raise RuntimeError("two\nlines")
        raise AttributeError(name)

    make("fake_timm", __getattr__=getattribute, __dir__=lambda: ["resnet18"])
    catalog = Catalog([entry(Namespace("backbone", "fake_timm"), "detcore-timm/timm")])
    assert catalog.find("backbone", "timm/resnet18", WHERE).obj is Member
    assert message(catalog, "backbone", "resnet81").endswith("Near names are resnet18 (backbone).")
    assert message(catalog, "backbone", "timm/broken18", PluginError) == (
        f"{WHERE}: namespace fake_timm (detcore-timm 0.1.0): broken18 cannot be imported: RuntimeError: two lines"
    )


@pytest.mark.parametrize("name", ["_Private", "Base", "helper", "NUMBER", "Missing"])
def test_private_names_and_strangers_to_the_base_do_not_count(make: MakeModule, name: str) -> None:
    make("fake_space", _Private=Member, Base=Base, helper=lambda: 1, NUMBER=3, Net=Member)
    make("fake_base", Base=Base)
    catalog = Catalog([entry(Namespace("optimizer", "fake_space", "fake_base:Base"))])
    assert catalog.find("optimizer", "Net", WHERE).obj is Member
    assert f'no optimizer "{name}" is installed' in message(catalog, "optimizer", name)


@pytest.mark.parametrize("prefix", ["acme-nets", "Acme_Nets", "nets", "fake_space"])
def test_a_prefix_is_a_distribution_an_entry_point_or_a_module(make: MakeModule, prefix: str) -> None:
    make("fake_space", Net=Member)
    catalog = Catalog([entry(Namespace("backbone", "fake_space"), "acme-nets/nets")])
    assert catalog.find("backbone", f"{prefix}/Net", WHERE).obj is Member


def test_two_namespaces_with_the_name_are_an_error_that_says_how_to_choose(make: MakeModule) -> None:
    make("fake_a", Net=Member)
    make("fake_b", Net=Base)
    catalog = Catalog([entry(Namespace("backbone", "fake_a"), "p/p"), entry(Namespace("backbone", "fake_b"), "p/p")])
    assert message(catalog, "backbone", "Net") == (
        f'{WHERE}: backbone "Net" is in p 0.1.0 and p 0.1.0. Choose type = "fake_a/Net" or type = "fake_b/Net".'
    )
    assert catalog.find("backbone", "fake_b/Net", WHERE).obj is Base


def test_a_name_of_two_distributions_is_an_error_when_bare(make: MakeModule) -> None:
    make("fake_a", Net=Member)
    record = Component("backbone", "Net", "fake_a:Net")
    catalog = Catalog([entry(record, "acme/nets"), entry(record, "other/nets")])
    assert message(catalog, "backbone", "Net") == (
        f'{WHERE}: backbone "Net" is in acme 0.1.0 and other 0.1.0. Choose type = "acme/Net" or type = "other/Net".'
    )
    assert catalog.find("backbone", "other/Net", WHERE).entry.distribution == "other"
    assert "acme/Net" in message(catalog, "backbone", "nets/Net")  # the entry point is of both


def test_two_plugins_of_one_distribution_are_told_apart_by_entry_point() -> None:
    record = Component("backbone", "Net", "fake_a:Net")
    catalog = Catalog([entry(record, "acme/one"), entry(record, "acme/two")])
    assert 'Choose type = "one/Net" or type = "two/Net".' in message(catalog, "backbone", "Net")


def test_a_name_of_another_kind_says_so() -> None:
    catalog = Catalog([entry(Component("neck", "FPN", "x:FPN")), entry(Component("assigner", "FPN", "x:A"), "b/b")])
    assert message(catalog, "backbone", "FPN") == (
        f'{WHERE}: "FPN" is an assigner (b 0.1.0) and a neck (detcore-fpn 0.1.0), wanted: backbone'
    )


def test_an_unknown_name_lists_near_names_of_all_kinds() -> None:
    catalog = Catalog([entry(Component("neck", "FPN2", "x:FPN")), entry(Component("loss", "FPN3", "x:FPN"))])
    text = message(catalog, "neck", "FPN1")
    assert text.startswith(f'{WHERE}: no neck "FPN1" is installed. Near names are ')
    assert "FPN2 (neck)" in text
    assert "FPN3 (loss)" in text


def test_a_known_plugin_is_named_for_an_unknown_name() -> None:
    assert message(Catalog(), "assigner", "FCOSAssigner") == (
        f'{WHERE}: no assigner "FCOSAssigner" is installed. Install it: pip install detcore-fcos.'
    )
    assert "Near names are FCOSAssigner (assigner: pip install detcore-fcos)." in message(
        Catalog(), "assigner", "FCOSAsigner"
    )
    assert message(Catalog(), "backbone", "timm/resnet18") == (
        f'{WHERE}: no plugin or namespace "timm" for backbone "timm/resnet18" is installed. '
        "Install it: pip install detcore-timm."
    )


def test_a_known_plugin_that_is_blocked_or_of_another_version_is_not_to_be_installed() -> None:
    blocked = Catalog(blocked=["detcore-fcos/fcos"])
    assert message(blocked, "assigner", "FCOSAssigner").endswith("Plugin detcore-fcos/fcos has it and is blocked.")
    old = Catalog([entry(Component("neck", "X", "x:X"), "detcore-fcos/fcos")])
    assert message(old, "assigner", "FCOSAssigner").endswith(
        "Another version of detcore-fcos has it, detcore-fcos 0.1.0 is installed."
    )


@pytest.mark.parametrize("name", ["FCOSAssigner", "fcos/Anything", "detcore-fcos/Anything"])
def test_a_broken_plugin_shows_its_exception_when_only_it_could_have_the_name(name: str) -> None:
    broken = Catalog(broken=[BrokenPlugin("detcore-fcos", "0.2.0", "detcore-fcos/fcos", "ImportError: no numpy")])
    assert message(broken, "assigner", name, PluginError) == (
        f'{WHERE}: assigner "{name}" is in detcore-fcos 0.2.0, which cannot be loaded: ImportError: no numpy'
    )


def test_other_unknown_names_mention_broken_plugins() -> None:
    broken = Catalog(broken=[BrokenPlugin("acme", "1", "acme/nets", "ImportError: no numpy")])
    assert message(broken, "neck", "FPN").endswith("Plugins that cannot be loaded: acme/nets (ImportError: no numpy).")


def test_a_namespace_that_cannot_be_imported_hides_no_other(make: MakeModule) -> None:
    make("fake_space", Net=Member)
    spaces = [Namespace("backbone", "fake_absent_library"), Namespace("backbone", "fake_space")]
    catalog = Catalog([entry(space) for space in spaces])
    assert catalog.find("backbone", "Net", WHERE).obj is Member
    assert "cannot be imported: ModuleNotFoundError: No module named 'fake_absent_library'" in message(
        catalog, "backbone", "Other"
    )
    assert "No module named" in message(catalog, "backbone", "fake_absent_library/Net", PluginError)


def test_a_target_that_cannot_be_imported_is_one_line(make: MakeModule) -> None:
    catalog = Catalog([entry(Component("neck", "A", "fake_absent:A")), entry(Component("neck", "B", "fake_b:B.c"))])
    make("fake_b", B=Member)
    assert message(catalog, "neck", "A", PluginError) == (
        f"{WHERE}: neck A (detcore-fpn 0.1.0) cannot be imported: ModuleNotFoundError: No module named 'fake_absent'"
    )
    assert message(catalog, "neck", "B", ComponentError) == (
        f"{WHERE}: neck B (detcore-fpn 0.1.0): module fake_b has no B.c"
    )


def test_candidates_import_nothing() -> None:
    listed, space = Component("neck", "FPN", "absent:FPN"), Namespace("neck", "absent.too")
    catalog = Catalog([entry(listed), entry(space, "b/b"), entry(Namespace("loss", "absent.three"))])
    found = catalog.candidates("neck", "FPN")
    assert [each.record for each in found.components] == [listed]
    assert [each.record for each in found.namespaces] == [space]
    assert len(catalog.candidates(None, "FPN").namespaces) == 2
    assert not catalog.candidates("neck", "b/FPN").components
    assert not catalog.candidates("neck", "_FPN").namespaces


def test_holds_tells_what_is_certain_without_an_import() -> None:
    net = Component("backbone", "Net", "absent:Net")
    spaces = [entry(Namespace("backbone", "absent.too"), "timm/timm")]
    catalog = Catalog([entry(net), *spaces])
    assert catalog.holds("Net", WHERE)
    assert not catalog.holds("Other", WHERE)
    assert not catalog.holds("timm/Net", WHERE)
    for name, found in {"_Private": "no component", "absent/Net": "no plugin", "FCOSAssigner": "pip install"}.items():
        with pytest.raises(ConfigError, match=found):  # no namespace of assigners: only a plugin could have it
            catalog.holds(name, WHERE)
    assert not Catalog([entry(Namespace("assigner", "absent"))]).holds("FCOSAssigner", WHERE)
    neck = entry(Component("neck", "WidePyramid", "absent:W"))
    with pytest.raises(
        ConfigError, match=r'no component "WidePyramd" is installed. Near names are WidePyramid \(neck\)'
    ):
        Catalog([neck, *spaces]).holds("WidePyramd", WHERE)  # no namespace of necks: it is misspelt
    assert not Catalog([neck, entry(Namespace("neck", "absent"))]).holds("WidePyramd", WHERE)
    twice = [entry(net, "a/a"), entry(net, "b/b")]
    with pytest.raises(ConfigError, match='Choose type = "a/Net" or type = "b/Net"'):
        Catalog(twice).holds("Net", WHERE)
    assert Catalog([*twice, entry(Component("neck", "Net", "absent:Neck"))]).holds("Net", WHERE)


def test_kind_of_knows_an_interface_by_its_address_and_by_a_reexport(make: MakeModule) -> None:
    make("fake_api", Exported=Base)
    here = Kind("member", f"{Member.__module__}:Member")
    catalog = Catalog(
        [entry(here), entry(Kind("absent", "fake_absent:X")), entry(Kind("base", "fake_api:Exported", 1))]
    )
    assert catalog.kind_of(Member) == "member"
    assert catalog.kind_of(Base) == "base"
    assert catalog.kind_of(int) is None
    assert catalog.kinds["base"].record.supplies == 1


def test_kind_of_imports_no_library_that_is_not_there_yet() -> None:
    assert "fractions_not" not in sys.modules
    sys.modules.pop("this", None)
    assert Catalog([entry(Kind("zen", "this:s"))]).kind_of(int) is None
    assert "this" not in sys.modules


def test_names() -> None:
    assert split("hf-hub:a/b") == ("hf-hub:a", "b")
    assert split("FPN") == ("", "FPN")
    assert canonical("Detcore_.fcos") == "detcore-fcos"
