"""FPN_CARAFE, and the names of norms in all necks, as MMDetection has them."""

from __future__ import annotations

from typing import Any

import pytest
from detcore.foreign import Foreign, Log, Part
from detcore_fpn.carafe import FPNCARAFE
from detcore_fpn.mmdet import TRANSLATIONS

NECK = {"type": "FPN_CARAFE", "in_channels": [8, 16, 32], "out_channels": 8, "num_outs": 4}


def named(table: Foreign) -> Part:
    return table.into(table.get("type"))


def read(**keys: Any) -> tuple[Part, list[str]]:
    log = Log({**TRANSLATIONS, "BN": named, "GN": named, "ReLU": named})
    table = Foreign({**NECK, **keys}, "model.neck", log, "neck")
    part = table.translated()
    return part, [str(each) for each in (*log.lost, *log.notes, *table.unread())]


def test_what_is_not_said_is_as_there() -> None:
    part, told = read()
    assert told == []
    kernels = {"up_kernel": 5, "up_groups": 1, "encoder_kernel": 3}
    assert part.plain == {"type": "FPN_CARAFE", "out_channels": 8, "num_outs": 4, **kernels}


def test_the_table() -> None:
    up = {"type": "carafe", "up_kernel": 3, "up_group": 2, "encoder_kernel": 1, "compressed_channels": 16}
    norms = {"norm_cfg": {"type": "BN"}, "act_cfg": {"type": "ReLU"}}
    order = ["conv", "norm", "act"]
    part, told = read(start_level=1, end_level=-1, upsample_cfg={**up, "encoder_dilation": 1}, order=order, **norms)
    assert told == []
    assert part.plain == {
        "type": "FPN_CARAFE",
        "out_channels": 8,
        "num_outs": 4,
        "start_level": 1,
        "end_level": -1,
        "up_kernel": 3,
        "up_groups": 2,
        "encoder_kernel": 1,
        "compressed_channels": 16,
        "norm": {"type": "BN"},
        "act": {"type": "ReLU"},
    }


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"order": ["act", "conv", "norm"]}, "order = ['act', 'conv', 'norm']: only ['conv', 'norm', 'act'] has a"),
        ({"upsample_cfg": {"type": "nearest"}}, "upsample_cfg.type = 'nearest': only 'carafe' has a counterpart"),
        ({"upsample_cfg": {"up_kernel": 5}}, "upsample_cfg.type = None: only 'carafe' has a counterpart"),
        (
            {"upsample_cfg": {"type": "carafe", "encoder_dilation": 2}},
            "upsample_cfg.encoder_dilation = 2: only 1 has a counterpart",
        ),
        (
            {"upsample_cfg": {"type": "carafe", "scale_factor": 4}},
            "upsample_cfg.scale_factor = 4: has no counterpart",
        ),
        ({"conv_cfg": {"type": "DCN"}}, "conv_cfg = {'type': 'DCN'}: has no counterpart"),
    ],
)
def test_what_has_no_counterpart_is_listed(change: dict[str, Any], told: str) -> None:
    (line,) = read(**change)[1]
    assert line.startswith(f"model.neck.{told}")


def test_carafe_has_its_names_there() -> None:
    part, _ = read()
    neck = FPNCARAFE(in_channels=(8, 16, 32), in_strides=(8, 16, 32), out_channels=8, num_outs=4)
    assert {part.foreign_name(name) for name in neck.state_dict()} == {
        f"neck.{tensor}.{each}"
        for each in ("weight", "bias")
        for tensor in (
            *(f"{way}_convs.{level}.conv" for way in ("lateral", "fpn") for level in range(4)),
            *(f"upsample_modules.{level}.channel_compressor" for level in range(3)),
            *(f"upsample_modules.{level}.content_encoder" for level in range(3)),
        )
    }


@pytest.mark.parametrize("neck", ["FPN", "PAFPN", "FPN_CARAFE"])
@pytest.mark.parametrize(("norm", "theirs"), [("BN", "bn"), ("GN", "gn")])
def test_norms_are_called_by_their_kind(neck: str, norm: str, theirs: str) -> None:
    part, told = read(type=neck, norm_cfg={"type": norm})
    assert told == []
    assert part.foreign_name("fpn_convs.0.norm.weight") == f"neck.fpn_convs.0.{theirs}.weight"
    assert part.foreign_name("lateral_convs.1.conv.weight") == "neck.lateral_convs.1.conv.weight"
