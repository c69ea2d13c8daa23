"""``[params]``, ``base_batch_size`` and optimizers from a config to what is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from core.test_run import config, exit_code, weights
from detcore import run
from detcore.errors import UserError

__all__ = ["config"]

RULES = """
[params.backbone]
match = "^backbone"
freeze = true
[params.biases]
kind = "bias"
lr = 2.0
weight_decay = 0.0
"""


@pytest.fixture
def ruled(config: str) -> str:
    Path("ruled.toml").write_text(f'_base_ = "{config}"\n{RULES}')
    return "ruled.toml"


def groups(path: str) -> list[dict[str, Any]]:
    content = torch.load(path, weights_only=True)
    found: list[dict[str, Any]] = content["optimizer"]["state"]["param_groups"]
    return found


def test_rules_reach_the_optimizer_and_the_table_of_what_is_trained(
    ruled: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run.train(ruled, sets=["optimizer.weight_decay=0.01"], work_dir="out")
    trained = groups("out/checkpoints/last.pt")
    assert [group["param_names"] for group in trained] == [
        ["head.cls.weight", "head.box.weight"],
        ["head.cls.bias", "head.box.bias"],
    ]
    assert [group["initial_lr"] for group in trained] == [0.1, 0.2]
    assert [group["weight_decay"] for group in trained] == [0.01, 0]
    lines = capsys.readouterr().out.splitlines()
    assert "backbone             0           224             0" in lines
    assert "all                 54           278             0" in lines


def test_what_is_frozen_stays_as_it_was(ruled: str) -> None:
    run.train(ruled, work_dir="a")
    run.train(ruled, sets=["train.epochs=1"], work_dir="b")
    a, b = weights(Path("a/checkpoints/last.pt")), weights(Path("b/checkpoints/last.pt"))
    assert torch.equal(a["backbone.conv.weight"], b["backbone.conv.weight"])
    assert not torch.equal(a["head.cls.weight"], b["head.cls.weight"])


def test_a_resumed_run_with_rules_is_the_run_that_was_never_stopped(ruled: str) -> None:
    momentum = "optimizer.momentum=0.9"
    run.train(ruled, sets=[momentum], work_dir="whole")
    run.train(ruled, sets=[momentum, "train.epochs=1"], work_dir="part")
    run.train(ruled, sets=[momentum], work_dir="part", resume="auto")
    whole, part = weights(Path("whole/checkpoints/last.pt")), weights(Path("part/checkpoints/last.pt"))
    assert all(torch.equal(whole[name], part[name]) for name in whole)


def test_a_run_is_not_resumed_with_other_groups(ruled: str) -> None:
    run.train(ruled, sets=["train.epochs=1"], work_dir="out")
    with pytest.raises(UserError) as caught:
        run.train(ruled, sets=["params.biases.kind=norm", 'params.biases.match=""'], work_dir="out", resume="auto")
    assert "params.biases: matches no parameter" in str(caught.value)
    with pytest.raises(UserError) as caught:
        run.train(ruled, sets=['params.biases.match="cls"'], work_dir="out", resume="auto")
    found = "is of another optimizer: its groups of parameters are others: [params] or what is frozen has changed"
    assert found in str(caught.value)


def test_a_config_deletes_a_rule_by_its_name(ruled: str) -> None:
    run.train(ruled, sets=["params.backbone={_delete_=true}", "train.epochs=1"], work_dir="out")
    assert "backbone.conv.bias" in groups("out/checkpoints/last.pt")[1]["param_names"]


@pytest.mark.parametrize(
    ("sets", "factor", "line"),
    [
        (["train.base_batch_size=16"], 0.25, "learning rates x 0.25: 4 images a step, base_batch_size 16"),
        (
            ["train.base_batch_size=16", "train.accumulate=8"],
            2,
            "learning rates x 2: 32 images a step, base_batch_size 16",
        ),
        ([], 1, ""),
    ],
)
def test_learning_rates_are_scaled_to_the_images_of_a_step(
    ruled: str, sets: list[str], factor: float, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run.train(ruled, sets=[*sets, "train.epochs=1"], work_dir="out")
    assert [group["initial_lr"] for group in groups("out/checkpoints/last.pt")] == pytest.approx(
        [0.1 * factor, 0.2 * factor]
    )
    assert [each for each in capsys.readouterr().out.splitlines() if "learning rates" in each] == [line] * bool(line)


MISTAKES = {
    "matches nothing": (
        ['params.x={match="^bakbone"}'],
        'params.x: matches no parameter. Did you mean "backbone"?',
    ),
    "no regular expression": (
        ['params.x={match="(head"}'],
        "params.x: match = '(head' is not a regular expression: missing ), unterminated subpattern at position 0",
    ),
    "a misspelt key": (
        ["params.x={weight_decy=0}"],
        'params.x.weight_decy: not a key of params.x. Did you mean "weight_decay"? '
        "It takes: match, kind, lr, weight_decay, layer_decay, freeze.",
    ),
    "a kind that is none": (['params.x={kind="nrom"}'], 'params.x.kind: found "nrom", wanted "norm" | "bias"'),
    "a negative factor": (["params.x={lr=-1}"], "params.x.lr: found -1, wanted float"),
    "a rule that is no table": (["params.x=1"], "params.x: found 1, wanted a table"),
    "no blocks": (['params.x={match="head", layer_decay=0.5}'], "params.x: layer_decay: all that it matches"),
}


@pytest.mark.parametrize(("sets", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_check_finds_a_mistake_of_a_rule(
    ruled: str, sets: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(["check", ruled, *(part for each in sets for part in ("--set", each))]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f": {message}" in line


def test_check_accepts_rules(ruled: str) -> None:
    assert run.check(ruled) == [f"{ruled}: no problem found"]


def test_a_schedule_that_contradicts_itself_is_said_with_its_address(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(["train", config, "--set", 'schedule=[{type="Cosine", begin=5, end=3}]']) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert ": schedule.0: schedule Cosine (detcore " in line
    assert line.endswith("): ends at 3, before it has begun at 5")


OPTIMIZERS = {
    "LBFGS": "optimizer: LBFGS computes the loss several times a step, which training does not offer",
    "SparseAdam": "optimizer SparseAdam: RuntimeError: SparseAdam does not support dense gradients",
    "Muon": "optimizer: optimizer Muon (detcore ",
}


@pytest.mark.parametrize(("name", "message"), OPTIMIZERS.items(), ids=OPTIMIZERS.keys())
def test_an_optimizer_that_cannot_train_a_detector_says_so_in_one_line(
    config: str, name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(["train", config, "--swap", f"optimizer={name}", "--device", "cpu"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_muon_says_which_parameter_it_cannot_take(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    exit_code(["train", config, "--swap", "optimizer=Muon"])
    assert "Muon only supports 2D parameters" in capsys.readouterr().err


def test_several_groups_are_too_many_for_lbfgs(ruled: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["train", ruled, "--swap", "optimizer=LBFGS"]) == 2
    assert "LBFGS doesn't support per-parameter options" in capsys.readouterr().err


def test_the_schema_knows_the_keys_of_a_rule() -> None:
    rule = run.schema()["properties"]["params"]["additionalProperties"]
    assert set(rule["properties"]) >= {"match", "kind", "lr", "weight_decay", "layer_decay", "freeze"}
