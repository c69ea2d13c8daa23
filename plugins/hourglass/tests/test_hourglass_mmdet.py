"""HourglassNet by its name in MMDetection."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from detcore.foreign import Foreign, Log, Part
from detcore_hourglass.hourglass import Hourglass
from detcore_hourglass.mmdet import TRANSLATIONS

SMALL = {"downsample_times": 2, "stage_channels": [16, 24, 32], "stage_blocks": [1, 2, 1], "feat_channel": 16}


def norm(table: Foreign) -> Part:
    table.get("requires_grad")
    return table.into(table.get("type"))


def read(**keys: Any) -> tuple[Part, list[str]]:
    log = Log({**TRANSLATIONS, "BN": norm, "SyncBN": norm})
    table = Foreign({"type": "HourglassNet", **keys}, "model.backbone", log, "backbone")
    part = table.translated()
    return part, [str(each) for each in (*log.lost, *log.notes, *table.unread())]


def test_what_is_not_said_is_as_there() -> None:
    part, told = read(norm_cfg={"type": "BN", "requires_grad": True})
    assert told == []
    scales = {"stage_channels": [256, 256, 384, 384, 384, 512], "stage_blocks": [2, 2, 2, 2, 2, 4]}
    assert part.plain == {"type": "Hourglass", **scales}
    ours = inspect.signature(Hourglass).parameters
    assert [ours[name].default for name in ("downsample_times", "num_stacks", "stem_channels")] == [5, 2, 128]


def test_scales_that_no_hourglass_reaches_are_left_out() -> None:
    part, told = read(**SMALL | {"downsample_times": 1}, num_stacks=3)
    assert told == []
    assert part.plain == {
        "type": "Hourglass",
        "downsample_times": 1,
        "num_stacks": 3,
        "stage_channels": [16, 24],
        "stage_blocks": [1, 2],
        "stem_channels": 8,
    }
    assert read(downsample_times=2, stage_blocks=[1] * 6)[0].plain["stage_blocks"] == [1] * 3


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"feat_channel": 32},
            "feat_channel = 32: only that of the first scale, 16, has a counterpart; unsaid, it is 256",
        ),
        ({"feat_channel": None}, "feat_channel = None: only that of the first scale, 16, has a counterpart"),
        ({"norm_cfg": {"type": "SyncBN"}}, "norm_cfg = {'type': 'SyncBN'}: only BN has a counterpart: norms within"),
        ({"upsample_cfg": {"mode": "bilinear"}}, "upsample_cfg = {'mode': 'bilinear'}: has no counterpart"),
    ],
)
def test_what_has_no_counterpart_is_listed(change: dict[str, Any], told: str) -> None:
    (line,) = read(**SMALL | change)[1]
    assert line.startswith(f"model.backbone.{told}")


def test_tensors_have_their_names_there() -> None:
    part, _ = read(**SMALL)
    names = [part.foreign_name(name) for name in Hourglass(**_values(part)).state_dict()]
    assert len({*names}) == len(names)
    assert {
        "backbone.stem.0.conv.weight",
        "backbone.stem.0.bn.running_mean",
        "backbone.stem.1.0.conv1.weight",
        "backbone.stem.1.0.bn2.bias",
        "backbone.stem.1.0.downsample.0.weight",
        "backbone.stem.1.0.downsample.1.num_batches_tracked",
        "backbone.hourglass_modules.1.up1.0.conv1.weight",
        "backbone.hourglass_modules.0.low1.0.downsample.0.weight",
        "backbone.hourglass_modules.0.low2.low2.0.bn1.weight",
        "backbone.hourglass_modules.0.low2.low3.1.downsample.1.weight",
        "backbone.inters.0.conv2.weight",
        "backbone.conv1x1s.0.conv.weight",
        "backbone.remap_convs.0.bn.weight",
        "backbone.out_convs.1.conv.weight",
    } <= {*names}


def test_one_stack_drops_the_block_after_it() -> None:
    assert read(**SMALL, num_stacks=1)[0].dropped("backbone.inters.0.conv1.weight")
    assert not read(**SMALL)[0].dropped("backbone.inters.0.conv1.weight")


def _values(part: Part) -> dict[str, Any]:
    return {key: value for key, value in part.plain.items() if key != "type"}
