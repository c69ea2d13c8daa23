"""MobileNetV2 by its name in MMDetection."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from detcore.foreign import Foreign, Log, Part
from detcore.layers import GN
from detcore_mobilenet.mmdet import TRANSLATIONS
from detcore_mobilenet.v2 import ROWS, MobileNetV2

BN_TENSORS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def norm(table: Foreign) -> Part:
    table.get("requires_grad")
    return table.into(table.get("type"), **table.keep(num_groups="num_groups"))


def read(**keys: Any) -> tuple[Part, list[str]]:
    log = Log({**TRANSLATIONS, "BN": norm, "GN": norm})
    table = Foreign({"type": "MobileNetV2", **keys}, "model.backbone", log, "backbone")
    part = table.translated()
    return part, [str(each) for each in (*log.lost, *log.notes, *table.unread())]


def test_what_is_not_said_is_as_there() -> None:
    part, told = read(norm_cfg={"type": "BN", "requires_grad": True})
    assert (part.plain, told) == ({"type": "MobileNetV2"}, [])


def test_the_table() -> None:
    part, told = read(
        widen_factor=0.5,
        out_indices=[2, 4],
        frozen_stages=3,
        norm_eval=True,
        norm_cfg={"type": "GN", "num_groups": 8},
        act_cfg={"type": "ReLU6"},
        with_cp=True,
    )
    assert told == []
    assert part.plain == {
        "type": "MobileNetV2",
        "width": 0.5,
        "out_indices": [1, 2],
        "frozen_stages": 2,
        "norm_eval": True,
        "norm": {"type": "GN", "num_groups": 8},
    }


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"out_indices": [2, 4, 6]}, "out_indices = [2, 4, 6]: only [1, 2, 4, 7], the last map of each stride, have a"),
        ({"frozen_stages": 4}, "frozen_stages = 4: only [-1, 0, 2, 3, 5] have a counterpart"),
        ({"frozen_stages": 0}, "frozen_stages = 0: the statistics of the first convolution's norm do not move, either"),
        (
            {"act_cfg": {"type": "LeakyReLU"}},
            "act_cfg = {'type': 'LeakyReLU'}: only {'type': 'ReLU6'} has a counterpart",
        ),
        ({"conv_cfg": {"type": "DCN"}}, "conv_cfg = {'type': 'DCN'}: only None has a counterpart"),
        ({"widen_factor": 1.01}, "widen_factor = 1.01: all channels are multiples of 8"),
        ({"dilations": [1]}, "dilations = [1]: has no counterpart"),
    ],
)
def test_what_has_no_counterpart_is_listed(change: dict[str, Any], told: str) -> None:
    (line,) = read(**change)[1]
    assert line.startswith(f"model.backbone.{told}")


@pytest.mark.parametrize(
    ("kind", "tensors", "options"),
    [("BN", BN_TENSORS, {}), ("GN", BN_TENSORS[:2], {"norm": partial(GN, num_groups=8)})],
)
def test_tensors_have_their_names_there(kind: str, tensors: tuple[str, ...], options: dict[str, Any]) -> None:
    part, _ = read(norm_cfg={"type": kind})
    state = {part.foreign_name(name): value for name, value in MobileNetV2(**options).state_dict().items()}
    wide = {f"layer{layer}.{block}." for layer, row in enumerate(ROWS[1:], start=2) for block in range(row[2])}
    blocks = {"layer1.0.", *wide}
    convs = {"conv1", "conv2", *(f"{each}expand_conv" for each in wide)}
    convs |= {f"{each}{which}_conv" for each in blocks for which in ("depthwise", "linear")}
    inner = ["conv.weight", *(f"{kind.lower()}.{each}" for each in tensors)]
    assert {*state} == {f"backbone.{conv}.{each}" for conv in convs for each in inner}
    for block in blocks:
        assert state[f"backbone.{block}depthwise_conv.conv.weight"].shape[1:] == (1, 3, 3)
        out_channels, in_channels, *_ = state[f"backbone.{block}linear_conv.conv.weight"].shape
        assert out_channels < in_channels


@pytest.mark.parametrize(("outs", "ours"), [([1, 2], (0, 1)), ([4], (2,)), ([1, 7], (0, 3))])
def test_what_is_behind_the_last_map_is_dropped(outs: list[int], ours: tuple[int, ...]) -> None:
    part, _ = read(out_indices=outs)
    whole = [read()[0].foreign_name(name) for name in MobileNetV2().state_dict()]
    kept = [part.foreign_name(name) for name in MobileNetV2(out_indices=ours).state_dict()]
    assert [name for name in whole if not part.dropped(name)] == kept
