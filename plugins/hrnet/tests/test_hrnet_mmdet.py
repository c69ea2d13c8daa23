"""HRNet and HRFPN by their names in MMDetection."""

from __future__ import annotations

from typing import Any

import pytest
from detcore.foreign import Foreign, Log, Part
from detcore_hrnet.hrnet import HRNet
from detcore_hrnet.mmdet import TRANSLATIONS


def norm(table: Foreign) -> Part:
    table.get("requires_grad")
    return table.into(table.get("type"), **table.keep(num_groups="num_groups"))


def read(**keys: Any) -> tuple[Part, list[str]]:
    log = Log({**TRANSLATIONS, "BN": norm, "SyncBN": norm, "GN": norm, "DCN": norm})
    table = Foreign(keys, "model.part", log, "part")
    part = table.translated()
    return part, [str(each) for each in (*log.lost, *log.notes, *table.unread())]


def extra(width: int, blocks: int = 4, **changes: dict[str, Any]) -> dict[str, Any]:
    stages = {"stage1": stage(1, 1, [64], blocks, block="BOTTLENECK")} | {
        f"stage{number}": stage(number, modules, [width * 2**branch for branch in range(number)], blocks)
        for number, modules in ((2, 1), (3, 4), (4, 3))
    }
    return {name: values | changes.get(name, {}) for name, values in stages.items()}


def stage(branches: int, modules: int, channels: list[int], blocks: int, block: str = "BASIC") -> dict[str, Any]:
    return {
        "num_modules": modules,
        "num_branches": branches,
        "block": block,
        "num_blocks": [blocks] * branches,
        "num_channels": channels,
    }


def hrnet(**keys: Any) -> tuple[Part, list[str]]:
    return read(**{"type": "HRNet", "extra": extra(32), **keys})


def test_stages_become_a_width_exchanges_and_blocks() -> None:
    part, told = hrnet(norm_cfg={"type": "BN", "requires_grad": True}, with_cp=True)
    assert told == []
    assert part.plain == {"type": "HRNet", "width": 32, "modules": [1, 4, 3], "blocks": 4}
    part, told = hrnet(extra=extra(18, 2, stage3={"num_modules": 2}), norm_cfg={"type": "SyncBN"}, norm_eval=False)
    assert told == []
    assert part.plain == {
        "type": "HRNet",
        "width": 18,
        "modules": [1, 2, 3],
        "blocks": 2,
        "norm": {"type": "SyncBN"},
        "norm_eval": False,
    }


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"multiscale_output": False}, "multiscale_output = False: only True has a counterpart"),
        ({"zero_init_residual": True}, "zero_init_residual = True: only False has a counterpart"),
        ({"conv_cfg": {"type": "DCN"}}, "conv_cfg = {'type': 'DCN'}: only None has a counterpart"),
        ({"frozen_stages": 1}, "frozen_stages = 1: has no counterpart"),
        ({"extra": extra(32, stage5={}) | {"upsample": 1}}, "extra.upsample = 1: has no counterpart"),
        (
            {"extra": extra(32, stage1={"num_channels": [32]})},
            "extra.stage1.num_channels = [32]: only [64] has a counterpart",
        ),
        (
            {"extra": extra(32, stage2={"block": "BOTTLENECK"})},
            "extra.stage2.block = 'BOTTLENECK': only 'BASIC' has a counterpart",
        ),
        (
            {"extra": extra(32, stage3={"num_blocks": [4, 4, 2]})},
            "extra.stage3.num_blocks = [4, 4, 2]: only [4, 4, 4] has a counterpart",
        ),
        (
            {"extra": extra(32, stage4={"num_channels": [32, 64, 128, 128]})},
            "extra.stage4.num_channels = [32, 64, 128, 128]: only [32, 64, 128, 256] has a counterpart",
        ),
    ],
)
def test_what_has_no_counterpart_is_listed(change: dict[str, Any], told: str) -> None:
    assert hrnet(**change)[1] == [f"model.part.{told}"]


def test_tensors_have_one_name_but_for_group_norms() -> None:
    names = [*HRNet(width=4, modules=(1, 1, 1), blocks=1).state_dict()]
    assert [hrnet()[0].foreign_name(name) for name in names] == [f"part.{name}" for name in names]
    grouped, told = hrnet(norm_cfg={"type": "GN", "num_groups": 8})
    assert told == []
    assert grouped.plain["norm"] == {"type": "GN", "num_groups": 8}
    assert grouped.foreign_name("bn1.weight") == "part.gn1.weight"
    assert grouped.foreign_name("stage2.0.branches.1.0.bn2.bias") == "part.stage2.0.branches.1.0.gn2.bias"
    assert grouped.foreign_name("layer1.0.downsample.1.weight") == "part.layer1.0.downsample.1.weight"


def test_the_neck() -> None:
    neck = {"type": "HRFPN", "in_channels": [18, 36], "out_channels": 256}
    part, told = read(**neck)
    assert (part.plain, told) == ({"type": "HRFPN", "out_channels": 256}, [])
    part, told = read(**neck, num_outs=3, stride=2, pooling_type="MAX", conv_cfg={"type": "DCN"}, with_cp=True)
    assert told == []
    wanted = {"out_channels": 256, "num_outs": 3, "stride": 2, "pooling": "max", "conv": {"type": "DCN"}}
    assert part.plain == {"type": "HRFPN", **wanted}
    assert part.foreign_name("fpn_convs.0.conv.weight") == "part.fpn_convs.0.conv.weight"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"norm_cfg": {"type": "BN"}}, "norm_cfg = {'type': 'BN'}: has no effect there, and is left out"),
        ({"act_cfg": {"type": "ReLU"}}, "act_cfg = {'type': 'ReLU'}: has no counterpart"),
    ],
)
def test_what_the_neck_does_not_do_is_listed(change: dict[str, Any], told: str) -> None:
    part, lines = read(type="HRFPN", in_channels=[18], out_channels=8, **change)
    assert lines == [f"model.part.{told}"]
    assert part.plain == {"type": "HRFPN", "out_channels": 8}
