"""Rules of parameters: factors, depth, freezing; the groups that an optimizer gets, and those that it takes back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from core.runner.tiny import TinyDetector
from detcore.errors import ConfigError
from detcore.layers import BN, GN, LN
from detcore.runner.parameters import ParamRule, blocks_to_the_end, build_optimizer, factors, freeze, parameter_table
from torch import nn


def sgd(groups: Any) -> torch.optim.SGD:
    return torch.optim.SGD(groups, lr=2.0, weight_decay=0.5)


def rules(**tables: Any) -> dict[str, ParamRule]:
    return {f"a.toml: params.{name}": ParamRule(**table) for name, table in tables.items()}


class Block(nn.Module):
    def __init__(self, *, shortcut: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)
        self.norm = nn.BatchNorm2d(2)
        self.shortcut = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)) if shortcut else None


class Stage(nn.Module):
    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.downsample = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
        self.blocks = nn.Sequential(*(Block() for _ in range(blocks)))


class Net(nn.Module):
    """A stem, two stages of 2 and 1 blocks, a norm at the end: 3 blocks."""

    def __init__(self, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1))
        self.stem = nn.Conv2d(3, 2, 1)
        self.stages = nn.ModuleList(stages)
        self.norm = nn.LayerNorm(2)


class Both(TinyDetector):
    """A tiny detector with a backbone."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Net([Stage(2), Stage(1)])


# ------------------------------------------------------------------------------------------------- which, and how fast


def test_factors_of_all_rules_that_match_multiply() -> None:
    found = factors(TinyDetector(), rules(conv={"match": "^conv", "lr": 0.1}, bias={"match": "bias$", "lr": 0.5}))
    assert found == {
        "conv.weight": (0.1, 1),
        "conv.bias": pytest.approx((0.05, 1)),
        "norm.weight": (1, 1),
        "norm.bias": (0.5, 1),
    }


@pytest.mark.parametrize(
    ("kind", "matched"),
    [
        ("norm", {"norm.weight", "norm.bias"}),
        ("bias", {"conv.bias"}),
        (["norm", "bias"], {"norm.weight", "norm.bias", "conv.bias"}),
        ([], {"norm.weight", "norm.bias", "conv.bias", "conv.weight"}),
    ],
)
def test_biases_of_norms_are_norms(kind: Any, matched: set[str]) -> None:
    found = factors(TinyDetector(), rules(one={"kind": kind, "weight_decay": 0.0}))
    assert {name for name, (_, decay) in found.items() if decay == 0} == matched


NORMS = [
    BN(2),
    BN(2, frozen=True),
    GN(2, num_groups=1),
    LN(2),
    nn.SyncBatchNorm(2),
    nn.InstanceNorm2d(2, affine=True),
    nn.LayerNorm(2),
    nn.RMSNorm(2),
    type("Own", (nn.BatchNorm2d,), {})(2),
]


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: type(norm).__name__)
def test_all_layers_that_normalise_are_norms(norm: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 1), norm)
    found = factors(model, rules(norms={"kind": "norm", "lr": 3.0}))
    assert {name for name, (lr, _) in found.items() if lr == 3} == {f"1.{name}" for name, _ in norm.named_parameters()}


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ({"match": "^bakbone\\."}, 'a.toml: params.one: matches no parameter. Did you mean "backbone"?'),
        ({"match": "conv.wieght"}, 'a.toml: params.one: matches no parameter. Did you mean "conv.weight"?'),
        (
            {"match": "x", "lr": 0.1},
            "a.toml: params.one: matches no parameter. Its parts: conv, norm, backbone.",
        ),
        (
            {"match": "token", "kind": "norm"},
            'a.toml: params.one: matches no parameter. Did you mean "token"?',
        ),
    ],
)
def test_a_rule_that_matches_nothing_is_an_error(rule: Any, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        factors(Both(), rules(one=rule))
    assert str(caught.value) == line


def test_what_is_no_regular_expression_is_an_error() -> None:
    with pytest.raises(ConfigError) as caught:
        ParamRule(match="backbone(")
    assert str(caught.value) == (
        "match = 'backbone(' is not a regular expression: missing ), unterminated subpattern at position 8"
    )


# ------------------------------------------------------------------------------------------------------------- depth


def test_blocks_are_counted_from_the_end_and_what_is_between_them_belongs_to_the_one_before() -> None:
    model = Net([Stage(2), Stage(1)])
    left = blocks_to_the_end(model, [name for name, _ in model.named_parameters()])
    assert left["token"] == left["stem.weight"] == left["stages.0.downsample.1.bias"] == 4
    assert left["stages.0.blocks.0.conv.weight"] == left["stages.0.blocks.0.norm.bias"] == 3
    assert left["stages.0.blocks.1.conv.weight"] == left["stages.1.downsample.0.weight"] == 2
    assert left["stages.1.blocks.0.conv.weight"] == left["norm.weight"] == 1
    assert set(left.values()) == {1, 2, 3, 4}


def test_lists_within_blocks_are_no_blocks() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Sequential(Block(shortcut=True), Block()))
    left = blocks_to_the_end(model, [name for name, _ in model.named_parameters()])
    assert [left[name] for name in ("0.weight", "1.0.conv.bias", "1.0.shortcut.1.bias", "1.1.conv.bias")] == [
        3,
        2,
        2,
        1,
    ]


def test_layer_decay_multiplies_the_learning_rate_once_per_block_to_the_end() -> None:
    found = factors(Both(), rules(backbone={"match": "^backbone", "layer_decay": 0.5, "lr": 0.1}))
    assert found["backbone.token"] == pytest.approx((0.1 * 0.5**4, 1))
    assert found["backbone.stages.1.blocks.0.norm.weight"] == pytest.approx((0.1 * 0.5, 1))
    assert found["conv.weight"] == (1, 1)


def test_layer_decay_of_what_has_no_blocks_is_an_error() -> None:
    with pytest.raises(ConfigError) as caught:
        factors(TinyDetector(), rules(all={"layer_decay": 0.9}))
    assert str(caught.value) == (
        "a.toml: params.all: layer_decay: all that it matches is of one block. Give each part a rule with lr."
    )


# ------------------------------------------------------------------------------------------------------------ freezing


def test_what_is_frozen_is_not_trained_and_its_norms_keep_their_statistics() -> None:
    detector = Both()
    freeze(detector, rules(stages={"match": r"^backbone\.stages\.0\.", "freeze": True}))
    frozen = {name for name, parameter in detector.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in detector.named_parameters() if name.startswith("backbone.stages.0.")}
    for _ in range(2):
        modes = {name: module.training for name, module in detector.named_modules() if hasattr(module, "running_mean")}
        assert {name for name, training in modes.items() if not training} == {
            "backbone.stages.0.downsample.1",
            "backbone.stages.0.blocks.0.norm",
            "backbone.stages.0.blocks.1.norm",
        }
        detector.eval()
        detector.train()


def test_a_norm_of_which_not_all_is_frozen_goes_on_counting() -> None:
    detector = TinyDetector()
    freeze(detector, rules(bias={"match": r"norm\.bias", "freeze": True}))
    assert [detector.norm.bias.requires_grad, detector.norm.weight.requires_grad] == [False, True]
    assert detector.norm.training
    freeze(detector, rules(norm={"kind": "norm", "freeze": True}))
    assert not detector.norm.training


def test_a_norm_without_parameters_is_frozen_with_what_is_around_it() -> None:
    detector = TinyDetector()
    detector.norm = nn.BatchNorm2d(4, affine=False)
    freeze(detector, rules(all={"match": "conv", "freeze": True}))
    assert detector.norm.training
    freeze(detector, rules(all={"freeze": True}))
    assert not detector.norm.training


def test_without_rules_nothing_is_frozen_and_the_mode_stays() -> None:
    detector = TinyDetector().eval()
    freeze(detector, {})
    assert not detector.training
    assert all(parameter.requires_grad for parameter in detector.parameters())


def test_a_table_says_what_is_trained() -> None:
    detector = Both()
    freeze(detector, rules(stages={"match": r"^backbone\.stages\.0\.", "freeze": True}))
    assert parameter_table(detector.train()).splitlines() == [
        "               trained    parameters  frozen norms",
        "conv               112           112             0",
        "norm                 8             8             0",
        "backbone            33            63             3",
        "all                153           183             3",
    ]


# -------------------------------------------------------------------------------------------------------------- groups


def test_only_what_requires_a_gradient_is_trained() -> None:
    detector = TinyDetector()
    freeze(detector, rules(bias={"match": "conv.bias", "freeze": True}))
    (group,) = build_optimizer(detector, sgd).param_groups
    assert group["param_names"] == ["conv.weight", "norm.weight", "norm.bias"]
    assert [tuple(each.shape) for each in group["params"]] == [(4, 3, 3, 3), (4,), (4,)]


def test_equal_factors_share_a_group_in_the_order_of_their_first_parameters() -> None:
    chosen = rules(conv={"match": "^conv", "lr": 0.1}, bias={"kind": ["bias", "norm"], "lr": 0.5, "weight_decay": 0.0})
    groups = build_optimizer(TinyDetector(), sgd, chosen, scale=10.0).param_groups
    assert [group["lr"] for group in groups] == pytest.approx([2, 1, 10])
    assert [group["weight_decay"] for group in groups] == [0.5, 0, 0]
    assert [group["param_names"] for group in groups] == [["conv.weight"], ["conv.bias"], ["norm.weight", "norm.bias"]]


def test_a_state_of_equal_groups_is_taken_back_and_one_of_others_is_refused() -> None:
    def optimizer(name: str) -> torch.optim.Optimizer:
        detector = TinyDetector()
        made = build_optimizer(detector, sgd, rules(one={"match": f"{name}.bias", "lr": 0.5}))
        sum(parameter.sum() for parameter in detector.parameters()).backward()  # type: ignore[union-attr]
        made.step()
        return made

    state = optimizer("conv").state_dict()
    same, other = optimizer("conv"), optimizer("norm")
    same.load_state_dict(state)
    assert [group["lr"] for group in same.param_groups] == [2, 1]
    assert [len(group["params"]) for group in other.param_groups] == [len(g["params"]) for g in state["param_groups"]]
    with pytest.raises(ValueError, match=r"its groups of parameters are others: \[params\] or what is frozen"):
        other.load_state_dict(state)


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(ConfigError) as caught:
        build_optimizer(TinyDetector().requires_grad_(False), sgd)
    assert str(caught.value) == "optimizer: the detector has no parameter that requires a gradient"


def test_an_option_that_the_optimizer_lacks_is_an_error() -> None:
    def rprop(groups: Any) -> torch.optim.Rprop:
        return torch.optim.Rprop(groups)

    with pytest.raises(ConfigError) as caught:
        build_optimizer(TinyDetector(), rprop, rules(one={"lr": 0.1}, two={"weight_decay": 0.0}))
    assert str(caught.value) == "a.toml: params.two: optimizer Rprop has no weight_decay"


def test_an_optimizer_that_wants_the_loss_again_is_an_error() -> None:
    with pytest.raises(ConfigError) as caught:
        build_optimizer(TinyDetector(), torch.optim.LBFGS)
    line = "optimizer: LBFGS computes the loss several times a step, which training does not offer"
    assert str(caught.value) == line
