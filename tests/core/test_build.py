"""One row per sentence of the design's 'Building', one per message of the build."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Union

import build_parts
import pytest
import torch
from detcore import components, signature
from detcore.build import Plan, plan
from detcore.catalog import Catalog, Component, Entry
from detcore.config import load
from detcore.errors import ComponentError, ConfigError, Problems, UserError

KINDS = {
    "backbone": ["Back", "Shy", "NotABackbone"],
    "neck": ["Pyramid", "Widen", "Boom", "Greedy", "Numbers"],
    "loss": ["Sig"],
    "dense_loss": ["Both"],
    "geometry": ["Grid"],
    "head_network": ["Net"],
    "assigner": ["Assign"],
    "decoder": ["Decode"],
    "dense_head": ["Plainly"],
    "roi_head": ["Second"],
}


def catalog() -> Catalog:
    own = [Component(kind, name, f"build_parts:{name}") for kind, names in KINDS.items() for name in names]
    entries = [Entry(record, "detcore", "0.1.0", "detcore/core") for record in components.detcore_components()]
    return Catalog([*entries, *(Entry(record, "detcore-toys", "1.2", "detcore-toys/toys") for record in own)])


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def make(text: str, **files: str) -> Plan:
        for name, content in files.items():
            (tmp_path / f"{name}.toml").write_text(content)
        (tmp_path / "a.toml").write_text(text)
        config = load("a.toml", resolve_dist=lambda dist, path: Path(path))
        return plan(config, catalog(), build_parts.Root)

    return make


def built(plan: Plan, key: str = "model") -> Any:
    return plan.build(key, build_parts.FLOW)


COMPOSED = """
[model]
type = "OneStage"
backbone = { type = "Back" }
neck = { type = "Pyramid" }
[model.head]
type = "ComposedHead"
loss = { type = "Both", loss_cls = { type = "Sig", softmax = SOFTMAX } }
geometry = { type = "Grid", per_cell = 3, box_channels = 8 }
network = { type = "Net" }
assigner = { type = "Assign" }
decoder = { type = "Decode", radius = 1 }
"""


@pytest.mark.parametrize(("softmax", "class_channels"), [("false", 5), ("true", 6)])
def test_a_composed_head_builds_losses_and_geometry_first_then_network_then_assigner_and_decoder(
    planned: Any, softmax: str, class_channels: int
) -> None:
    head = built(planned(COMPOSED.replace("SOFTMAX", softmax))).head
    assert head.network.got == (24, class_channels, 8, 3, 5)
    assert head.assigner.strides == (4, 8, 16, 32, 64)
    assert head.geometry.grid == (4, 8, 16, 32, 64)
    assert head.decoder.num_classes == 5


def test_an_interface_gets_the_object_built_from_the_table_at_that_key(planned: Any) -> None:
    model = built(planned('[model]\ntype="OneStage"\nbackbone={type="Back"}\nhead={type="Plainly"}'))
    assert isinstance(model.backbone, build_parts.Back)


def test_without_a_neck_the_head_reads_the_backbone(planned: Any) -> None:
    model = built(planned('[model]\ntype="OneStage"\nbackbone={type="Back"}\nhead={type="Plainly"}'))
    assert model.head.in_channels == (8, 16, 32, 64)


def test_of_several_necks_each_reads_the_one_before_it(planned: Any) -> None:
    text = """[model]
    type="OneStage"
    backbone={type="Back"}
    neck=[{type="Pyramid"}, {type="Widen"}, {type="Widen"}]
    head={type="Plainly"}"""
    model = built(planned(text))
    assert [neck.seen for neck in list(model.neck)[1:]] == [24, 48]
    assert model.head.in_channels == (96,) * 5


def test_an_rpn_of_two_stages_has_one_class_and_the_roi_head_all(planned: Any) -> None:
    text = """[model]
    type="TwoStage"
    backbone={type="Back"}
    neck={type="Pyramid"}
    rpn_head={type="Plainly"}
    roi_head={type="Second"}"""
    model = built(planned(text))
    assert (model.rpn_head.num_classes, model.roi_head.num_classes) == (1, 5)
    assert model.roi_head.strides == (4, 8, 16, 32, 64)


def test_a_factory_binds_the_config_and_the_owner_gives_the_rest(planned: Any) -> None:
    text = '[model]\ntype="OneStage"\nbackbone={type="Back", norm={type="GN", num_groups=4}}\nhead={type="Plainly"}'
    norm = built(planned(text)).backbone.norm
    assert (norm.num_groups, norm.num_channels) == (4, 8)


def test_an_optimizer_factory_takes_the_parameters_from_its_owner(planned: Any) -> None:
    factory = built(planned('optimizer = {type="SGD", lr=1}'), "optimizer")
    optimizer = factory([torch.nn.Parameter(torch.zeros(1))])
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.defaults["lr"] == 1.0


def test_a_value_that_the_config_gives_and_the_flow_confirms_is_taken(planned: Any) -> None:
    text = '[model]\ntype="OneStage"\nbackbone={type="Back"}\nhead={type="Plainly", in_channels=[8, 16, 32, 64]}'
    assert built(planned(text)).head.in_channels == (8, 16, 32, 64)


def test_nothing_is_filled_by_the_name_of_a_parameter_alone(planned: Any) -> None:
    text = '[model]\ntype="OneStage"\nbackbone={type="Back"}\nhead={type="Plainly"}'
    assert built(planned(text)).head.channels == 7


def test_values_are_converted_as_json_is_and_no_laxer(planned: Any) -> None:
    neck = built(planned('neck = {type="Numbers", size=[2, 3], rate=1, maybe={_none_=true}}'), "neck")
    assert (neck.size, neck.rate, neck.maybe) == ((2, 3), 1.0, None)
    assert isinstance(neck.rate, float)


def test_children_come_as_sequences_and_mappings(planned: Any) -> None:
    text = """[settings]
    epochs = 2
    [settings.zoo]
    rows = [{type="Sig"}, {type="Sig", loss_weight=2}]
    named = {left={type="Sig", loss_weight=3}}"""
    settings = built(planned(text), "settings")
    assert [each.loss_weight for each in settings.zoo.rows] == [1.0, 2.0]
    assert settings.zoo.named["left"].loss_weight == 3.0


def test_keys_that_a_reference_reads_count_as_read(planned: Any) -> None:
    assert built(planned('width=3\nneck={type="Numbers", maybe="${width}"}\n[vars]\nx=1'), "neck").maybe == 3


def test_everything_absent_has_its_default(planned: Any) -> None:
    empty = planned("seed = 3")
    assert (empty.build("seed"), empty.build("model"), empty.build("classes")) == (3, None, None)


def test_named_sections_are_built_by_name_and_merged_as_any_table(planned: Any) -> None:
    base = '[rules]\na={match="x", rate=2}\nb={match="y"}'
    text = '_base_="base.toml"\n[rules]\na={rate=3}\nb={_delete_=true}\nc={_none_=true}\nd={match="w"}'
    rules = built(planned(text, base=base), "rules")
    assert {name: (rule.match, rule.rate) for name, rule in rules.items()} == {"a": ("x", 3), "d": ("w", 1)}


def refused(planned: Any, text: str, key: str = "model", **files: str) -> str:
    with pytest.raises(UserError) as raised:
        built(planned(text, **files), key)
    return str(raised.value)


MISTAKES = {
    "unknown key at the top": ("sed = 1", 'a.toml: sed: not a key of the config. Did you mean "seed"? It takes: '),
    "unknown key in a section": ('[settings]\nepochs=1\nepoch=2', 'a.toml: settings.epoch: not a key of settings. Did you mean "epochs"?'),
    "unknown key of a component": (
        'neck={type="Numbers", rat=1}',
        'a.toml: neck.rat: not a parameter of neck Numbers (detcore-toys 1.2). Did you mean "rate"? It takes: size, rate, maybe.',
    ),
    "unknown key of a factory": ('optimizer={type="SGD", lr=1, momentun=0.9}', 'a.toml: optimizer.momentun: not a parameter of optimizer SGD (detcore 0.1.0). Did you mean "momentum"?'),
    "missing key": ('[settings]\nzoo={}', 'a.toml: settings: "epochs" of settings is missing. It takes int.'),
    "missing component": ('[model]\ntype="OneStage"\nbackbone={type="Back"}', 'a.toml: model: "head" of detector OneStage (detcore 0.1.0) is missing. It takes DenseHead.'),
    "wrong type": ('neck={type="Numbers", rate="fast"}', 'a.toml: neck.rate: found "fast", wanted float'),
    "wrong type, none the less": ('neck={type="Numbers", rate=true}', "a.toml: neck.rate: found true, wanted float"),
    "a float where an int is wanted": ("seed = 1.5", "a.toml: seed: found 1.5, wanted int"),
    "wrong length": ('neck={type="Numbers", size=[1]}', "a.toml: neck.size.1: found"),
    "a date": ("seed = 2020-01-01", 'a.toml: seed: found "2020-01-01", wanted int'),
    "wrong literal": ('[settings]\nepochs=1\nzoo={rows=[{type="Sig", mode="c"}]}', 'a.toml: settings.zoo.rows.0.mode: found "c", wanted "a" | "b"'),
    "wrong kind": ('neck={type="Back"}', 'a.toml: neck.type: "Back" is a backbone (detcore-toys 1.2), wanted: neck'),
    "near name": ('neck={type="Pyramyd"}', "Pyramid (neck)"),
    "a name instead of a table": ('neck="Pyramid"', 'a.toml: neck: found "Pyramid", wanted a table with the `type` of a neck or {_none_ = true}. Write {type = "Pyramid"}.'),
    "a table without type": ("neck={width=3}", "a.toml: neck: found a table without `type`, wanted"),
    "a type that is no string": ("neck={type=3}", "a.toml: neck.type: found 3, wanted the name of a neck"),
    "a section that is no table": ("settings=3", "a.toml: settings: found 3, wanted a table"),
    "named sections that are no table": ("rules=3", "a.toml: rules: found 3, wanted a table"),
    "a named section that is no table": ("rules={one=3}", "a.toml: rules.one: found 3, wanted a table"),
    "unknown key in a named section": ('rules={one={match="a", rat=1}}', 'a.toml: rules.one.rat: not a key of rules.one. Did you mean "rate"? It takes: rate, match.'),
    "missing key in a named section": ("rules={one={}}", 'a.toml: rules.one: "match" of rules.one is missing. It takes str.'),
    "what a named section refuses": ('rules={one={match="a", rate=-1}}', "a.toml: rules.one: rate -1.0 is negative"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_said_by_file_and_key(planned: Any, text: str, message: str) -> None:
    key = next(word for word in ("settings", "rules", "neck", "optimizer", "model", "seed", "sed") if word in text)
    assert message in refused(planned, text, "seed" if key == "sed" else key)


def test_all_problems_are_reported_at_once(planned: Any) -> None:
    with pytest.raises(Problems) as raised:
        planned('sed=1\nneck={type="Numbers", rat=1, rate="x"}\nmodel={type="OneStag"}')
    assert len(str(raised.value).splitlines()) == 4
    assert all(line.startswith("a.toml: ") for line in str(raised.value).splitlines())


def test_a_leftover_inherited_key_is_explained(planned: Any) -> None:
    message = refused(planned, '_base_="b.toml"\nneck={type="Numbers"}', "neck", b='neck={type="Pyramid", width=3}')
    assert "b.toml: neck.width: not a parameter of neck Numbers" in message
    assert 'It comes from b.toml, written for "Pyramid"; add `_delete_ = true` where a.toml sets the type' in message


def test_contradicting_channels_name_both_components_both_values_both_files(planned: Any) -> None:
    message = refused(
        planned,
        '_base_="b.toml"\n[model]\nneck={type="Pyramid", in_channels=[1, 2]}\nhead={type="Plainly"}',
        b='[model]\ntype="OneStage"\nbackbone={type="Back"}',
    )
    assert message == (
        "a.toml: model.neck.in_channels: [1, 2] given to neck Pyramid (detcore-toys 1.2), but backbone Back "
        "(detcore-toys 1.2) (b.toml: model.backbone) gives [8, 16, 32, 64]. Remove the key: the build fills it."
    )


def test_contradicting_classes_name_where_the_classes_come_from(planned: Any) -> None:
    message = refused(planned, '[model]\ntype="OneStage"\nbackbone={type="Back"}\nhead={type="Plainly", num_classes=4}')
    assert "model.head.num_classes: 4 given to dense_head Plainly" in message
    assert "but classes (a.toml: classes) gives 5" in message


def test_one_channel_count_is_refused_where_levels_differ(planned: Any) -> None:
    message = refused(
        planned, '[model]\ntype="OneStage"\nbackbone={type="Back"}\nneck={type="Widen"}\nhead={type="Plainly"}'
    )
    assert (
        "model.neck.in_channels: takes the one value that all levels share, but gets [8, 16, 32, 64] from backbone Back"
        in message
    )


def test_a_value_that_nothing_gives_is_asked_for(planned: Any) -> None:
    assert "nothing before neck Greedy (detcore-toys 1.2) gives its per_cell (priors per cell). Write it." in refused(
        planned, 'neck={type="Greedy"}', "neck"
    )


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("Shy", "backbone Shy (detcore-toys 1.2) does not declare out_channels, strides, as a Backbone must"),
        ("NotABackbone", "backbone NotABackbone (detcore-toys 1.2) is a NotABackbone, not a Backbone"),
    ],
)
def test_a_component_that_breaks_its_interface_is_named(planned: Any, backbone: str, message: str) -> None:
    text = f'[model]\ntype="OneStage"\nbackbone={{type="{backbone}"}}\nhead={{type="Plainly"}}'
    with pytest.raises(ComponentError, match=r"model\.backbone"):
        built(planned(text))
    assert message in refused(planned, text)


def test_what_a_constructor_refuses_is_said_with_its_address(planned: Any) -> None:
    with pytest.raises(ConfigError, match=r"a\.toml: neck: neck Boom .*: how is not to my taste"):
        built(planned('neck={type="Boom"}'), "neck")
    with pytest.raises(ComponentError, match=r"a\.toml: neck: neck Boom .* raised KeyError: 'lost'"):
        built(planned('neck={type="Boom", how="key"}'), "neck")


@pytest.mark.parametrize(("how", "said"), [("whole", "not to my taste"), ("part", "how: not to my taste. Ask less.")])
def test_a_component_that_names_itself_is_named_once(planned: Any, how: str, said: str) -> None:
    message = refused(planned, f'neck={{type="Boom", how="{how}"}}', "neck")
    assert message == f"a.toml: neck: neck Boom (detcore-toys 1.2): {said}"


def test_a_factory_that_is_refused_is_said_with_its_own_address(planned: Any) -> None:
    text = '[model]\ntype="OneStage"\nbackbone={type="Back", norm={type="GN", num_groups=3}}\nhead={type="Plainly"}'
    assert "a.toml: model.backbone.norm: norm GN (detcore 0.1.0): num_channels" in refused(planned, text)


def test_a_hint_that_exists_only_for_the_checker_is_a_component_error(
    planned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(build_parts.Numbers.__init__.__annotations__, "rate", "Missing")
    with pytest.raises(
        ComponentError, match=r"a\.toml: neck\.type: neck Numbers: its annotations cannot be resolved: .*Missing"
    ):
        planned('neck={type="Numbers"}')


def test_a_subclass_of_an_attrs_class_has_the_hints_of_its_own_constructor() -> None:
    class Child(build_parts.Record):
        def __init__(self, *, width: int = 1) -> None:
            super().__init__(rate=0.5)

    assert signature.read(Child, catalog().kind_of).parameters["width"].hint is int
    assert signature.read(build_parts.Record, catalog().kind_of).parameters["rate"].hint is float


def test_numbers_of_any_kind_are_those_that_a_config_has() -> None:
    """torchvision annotates its transforms so: degrees, fill, ..."""
    hint = Union[numbers.Number, Sequence[float]]
    assert [signature.convert(value, hint) for value in (10, 0.5, [1, 2.5])] == [10, 0.5, [1, 2.5]]
    with pytest.raises(signature.Mismatch) as caught:
        signature.convert("ten", hint)
    assert caught.value.problems == [((), 'found "ten", wanted Number | Sequence[float]')]
