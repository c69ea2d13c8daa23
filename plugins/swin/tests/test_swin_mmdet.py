"""SwinTransformer by its name in MMDetection."""

from __future__ import annotations

from typing import Any

import pytest
from detcore.foreign import Foreign, Log, Part
from detcore_swin.mmdet import TRANSLATIONS
from detcore_swin.swin import SwinTransformer


def layer_norm(table: Foreign) -> Part:
    table.get("requires_grad")
    return table.into("LN", eps=table.get("eps", 1e-5))


def read(**keys: Any) -> tuple[Part, list[str]]:
    log = Log({**TRANSLATIONS, "LN": layer_norm})
    table = Foreign({"type": "SwinTransformer", **keys}, "model.backbone", log, "backbone")
    part = table.translated()
    return part, [str(each) for each in (*log.lost, *log.notes, *table.unread())]


def test_what_is_not_said_is_as_there() -> None:
    part, told = read()
    assert (part.plain, told) == ({"type": "SwinTransformer", "drop_path": 0.1}, [])


def test_the_table_of_swin_b() -> None:
    part, told = read(
        embed_dims=128,
        depths=[2, 2, 18, 2],
        num_heads=[4, 8, 16, 32],
        window_size=12,
        mlp_ratio=4,
        drop_path_rate=0.3,
        out_indices=[1, 2, 3],
        frozen_stages=1,
        norm_cfg={"type": "LN", "requires_grad": True},
        pretrain_img_size=384,
        convert_weights=True,
        with_cp=False,
    )
    assert told == []
    assert part.plain == {
        "type": "SwinTransformer",
        "channels": 128,
        "depths": [2, 2, 18, 2],
        "window": 12,
        "mlp_ratio": 4,
        "drop_path": 0.3,
        "out_indices": [1, 2, 3],
        "frozen_stages": 1,
    }


def test_a_head_is_as_wide_as_the_table_makes_it() -> None:
    part, told = read(embed_dims=64, depths=[1, 1], num_heads=[4, 8, 16], strides=[4, 2], out_indices=[1, 0])
    assert told == []
    assert (part.plain["head_channels"], part.plain["out_indices"]) == (16, [0, 1])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"num_heads": [3, 6, 6, 12]}, "num_heads = [3, 6, 6, 12]: only heads that are equally wide in all stages"),
        ({"embed_dims": 128}, "num_heads = None: only heads that are equally wide in all stages"),
        ({"strides": [4, 2, 2, 1]}, "strides = [4, 2, 2, 1]: only [4, 2, 2, 2] have a counterpart"),
        (
            {"norm_cfg": {"type": "LN", "eps": 1e-6}},
            "norm_cfg = {'type': 'LN', 'eps': 1e-06}: only LN has a counterpart",
        ),
        ({"act_cfg": {"type": "ReLU"}}, "act_cfg = {'type': 'ReLU'}: only {'type': 'GELU'} has a counterpart"),
        ({"use_abs_pos_embed": True}, "use_abs_pos_embed = True: only False has a counterpart"),
        ({"drop_rate": 0.1}, "drop_rate = 0.1: only 0.0 has a counterpart"),
        ({"qkv_bias": False}, "qkv_bias = False: only True has a counterpart"),
        ({"semantic_weight": 1.0}, "semantic_weight = 1.0: has no counterpart"),
    ],
)
def test_what_has_no_counterpart_is_listed(change: dict[str, Any], told: str) -> None:
    (line,) = read(**change)[1]
    assert line.startswith(f"model.backbone.{told}")


def test_weights_of_the_papers_own_code_are_listed_where_there_are_any() -> None:
    weights = {"type": "Pretrained", "checkpoint": "https://example.com/swin.pth"}
    (line, _) = read(convert_weights=True, init_cfg=weights)[1]  # init_cfg is read with the whole model
    assert line.startswith("model.backbone.convert_weights = True: weights with the names of the paper's own code")


def test_tensors_have_one_name_and_those_behind_the_last_map_are_dropped() -> None:
    part, _ = read(depths=[1, 1, 1, 1], out_indices=[0, 1])
    whole, kept = (
        [*SwinTransformer(depths=(1,) * 4, out_indices=outs).state_dict()] for outs in ((0, 1, 2, 3), (0, 1))
    )
    theirs = [name for name in whole if name not in ("norm2.weight", "norm2.bias", "norm3.weight", "norm3.bias")]
    assert [part.foreign_name(name) for name in kept] == [f"backbone.{name}" for name in kept]
    assert [name for name in theirs if not part.dropped(f"backbone.{name}")] == kept
    assert not any(read()[0].dropped(f"backbone.{name}") for name in whole)
