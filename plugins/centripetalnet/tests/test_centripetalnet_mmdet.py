"""CentripetalHead by its name in MMDetection; what it shares with CornerHead is tested there."""

from __future__ import annotations

from typing import Any

import pytest
from detcore.foreign import Foreign, Log, Part
from detcore_centripetalnet.centripetalnet import CentripetalBranch
from detcore_centripetalnet.mmdet import TRANSLATIONS
from detcore_cornernet import mmdet as cornernet

HEAD = {"type": "CentripetalHead", "num_classes": 3, "in_channels": 256, "corner_emb_channels": 0}


def smooth_l1(table: Foreign) -> Part:
    return table.into("SmoothL1Loss", **table.keep(beta="beta", loss_weight="loss_weight"))


def read(head: dict[str, Any]) -> tuple[Part, list[str]]:
    log = Log({**cornernet.TRANSLATIONS, **TRANSLATIONS, "SmoothL1Loss": smooth_l1})
    table = Foreign(head, "model.bbox_head", log, "bbox_head")
    part = table.translated()
    return part, [str(each) for each in (*log.lost, *log.notes, *table.unread())]


def test_what_a_head_does_not_say_is_as_there() -> None:
    part, told = read(HEAD)
    assert told == []
    assert part.plain == {
        "type": "CentripetalHead",
        "loss_heatmap": {"type": "GaussianFocalLoss", "alpha": 2.0, "gamma": 4.0, "loss_weight": 1},
        "loss_offset": {"type": "SmoothL1Loss", "beta": 1.0, "loss_weight": 1},
        "loss_guiding": {"type": "SmoothL1Loss", "beta": 1.0, "loss_weight": 0.05},
        "loss_centripetal": {"type": "SmoothL1Loss", "beta": 1.0, "loss_weight": 1},
        "pairing": {"clip": False},
    }


def test_losses_of_shifts_and_the_test_cfg_are_the_tables() -> None:
    losses = {
        "loss_guiding_shift": {"type": "SmoothL1Loss", "beta": 0.5},
        "loss_centripetal_shift": {"type": "SmoothL1Loss", "loss_weight": 2.0},
    }
    part, told = read({**HEAD, **losses, "test_cfg": {"corner_topk": 50, "distance_threshold": 0.4}})
    assert told == []
    assert part.plain["loss_guiding"] == {"type": "SmoothL1Loss", "beta": 0.5}
    assert part.plain["loss_centripetal"] == {"type": "SmoothL1Loss", "loss_weight": 2.0}
    assert part.plain["pairing"] == {"corner_topk": 50, "distance_threshold": 0.4, "clip": False}


@pytest.mark.parametrize("head", [{}, {"corner_emb_channels": 4}])
def test_tags_that_nothing_reads_are_left_out_and_told(head: dict[str, Any]) -> None:
    """Where a head does not say, it makes them."""
    unsaid = {key: value for key, value in HEAD.items() if key != "corner_emb_channels"}
    part, (told,) = read({**unsaid, **head, "loss_embedding": {"type": "AssociativeEmbeddingLoss"}})
    channels = head.get("corner_emb_channels")
    assert told.startswith(f"model.bbox_head.corner_emb_channels = {channels}: tags of corners, which nothing reads")
    assert part.dropped("bbox_head.tl_emb.0.1.conv.weight")
    assert not part.dropped("bbox_head.tl_heat.0.1.conv.weight")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"feat_adaption_conv_kernel": 5}, "feat_adaption_conv_kernel = 5: only 3 has a counterpart"),
        ({"centripetal_shift_channels": 4}, "centripetal_shift_channels = 4: only 2 has a counterpart"),
        ({"in_channels": 128}, "in_channels = 128: only 256 has a counterpart"),
        ({"mystery": 1}, "mystery = 1: has no counterpart"),
    ],
)
def test_what_has_no_counterpart_is_listed(change: dict[str, Any], told: str) -> None:
    assert read({**HEAD, **change})[1] == [f"model.bbox_head.{told}"]


@pytest.mark.parametrize(("ours", "theirs"), [("top_left", "tl"), ("bottom_right", "br")])
def test_tensors_have_their_names_there(ours: str, theirs: str) -> None:
    part, _ = read(HEAD)
    names = [part.foreign_name(f"{ours}.1.{name}") for name in CentripetalBranch(8, 2, top_left=True).state_dict()]
    maps = ("heat", "off", "guiding_shift", "centripetal_shift")
    assert {name for name in names if "_pool." not in name} == {
        f"bbox_head.{theirs}_feat_adaption.1.weight",
        f"bbox_head.{theirs}_dcn_offset.1.conv.weight",
        *(
            f"bbox_head.{theirs}_{kind}.1.{layer}.conv.{each}"
            for kind in maps
            for layer in (0, 1)
            for each in ("weight", "bias")
        ),
    }
    assert f"bbox_head.{theirs}_pool.1.direction2_conv.bn.weight" in names
    assert len({*names}) == len(names)
