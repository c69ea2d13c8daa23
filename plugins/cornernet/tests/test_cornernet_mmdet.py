"""CornerHead, its losses and its test_cfg by their names in MMDetection."""

from __future__ import annotations

from typing import Any

import pytest
from detcore.foreign import Foreign, Log, Part
from detcore_cornernet.cornernet import CornerHead, Pairing
from detcore_cornernet.losses import AssociativeEmbeddingLoss, GaussianFocalLoss
from detcore_cornernet.mmdet import TRANSLATIONS

HEAD = {"type": "CornerHead", "num_classes": 3, "in_channels": 256, "num_feat_levels": 2}
SOFT = {"type": "soft_nms", "iou_threshold": 0.5, "method": "gaussian"}
TEST = {
    "corner_topk": 50,
    "local_maximum_kernel": 5,
    "distance_threshold": 0.3,
    "score_thr": 0.05,
    "max_per_img": 80,
    "nms": SOFT,
}


def smooth_l1(table: Foreign) -> Part:
    return table.into("SmoothL1Loss", **table.keep(beta="beta", loss_weight="loss_weight"))


def read(head: dict[str, Any], test: dict[str, Any]) -> tuple[Part, list[str]]:
    log = Log({**TRANSLATIONS, "SmoothL1Loss": smooth_l1})
    model = Foreign({"bbox_head": {**HEAD, **head}, "test_cfg": test}, "model", log)
    part = model.part("bbox_head", test_cfg=model.table("test_cfg"))
    assert log.classes == {3}
    return part, [str(each) for each in (*log.lost, *log.notes, *model.unread())]


def test_what_a_head_does_not_say_is_as_there() -> None:
    part, told = read({}, {})
    assert told == []
    assert part.plain == {
        "type": "CornerHead",
        "loss_heatmap": {"type": "GaussianFocalLoss", "alpha": 2.0, "gamma": 4.0, "loss_weight": 1},
        "loss_embedding": {"type": "AssociativeEmbeddingLoss", "pull_weight": 0.25, "push_weight": 0.25},
        "loss_offset": {"type": "SmoothL1Loss", "beta": 1.0, "loss_weight": 1},
        "pairing": {"clip": False},
    }


def test_losses_and_pairing_are_the_tables() -> None:
    losses = {
        "loss_heatmap": {"type": "GaussianFocalLoss", "gamma": 3.0, "reduction": "mean"},
        "loss_embedding": {"type": "AssociativeEmbeddingLoss", "pull_weight": 0.1},
        "loss_offset": {"type": "SmoothL1Loss", "beta": 0.5},
    }
    part, told = read(losses, {**TEST, "nms": {**SOFT, "sigma": 0.4, "min_score": 0.01}})
    assert told == []
    assert part.plain["loss_heatmap"] == {"type": "GaussianFocalLoss", "gamma": 3.0}
    assert part.plain["loss_embedding"] == {"type": "AssociativeEmbeddingLoss", "pull_weight": 0.1}
    assert part.plain["loss_offset"] == {"type": "SmoothL1Loss", "beta": 0.5}
    wanted: dict[str, Any] = {
        "corner_topk": 50,
        "local_maximum_kernel": 5,
        "distance_threshold": 0.3,
        "max_per_image": 80,
    }
    assert Pairing(**part.plain["pairing"]) == Pairing(**wanted, sigma=0.4, min_score=0.01, clip=False)


def test_no_limit_is_that_of_pairs_and_the_older_name_of_nms_is_read() -> None:
    part, told = read({}, {"max_per_img": -1, "nms_cfg": {**SOFT, "min_score": 0.02, "split_thr": 99}})
    assert told == []
    assert part.plain["pairing"] == {"max_per_image": Pairing().num_pairs, "min_score": 0.02, "clip": False}


@pytest.mark.parametrize(
    ("head", "test", "told"),
    [
        ({"corner_emb_channels": 2}, {}, "bbox_head.corner_emb_channels = 2: only 1 has a counterpart"),
        ({"in_channels": 128}, {}, "bbox_head.in_channels = 128: only 256 has a counterpart"),
        ({"widen": 2}, {}, "bbox_head.widen = 2: has no counterpart"),
        (
            {"loss_heatmap": {"type": "GaussianFocalLoss", "pos_weight": 2.0}},
            {},
            "bbox_head.loss_heatmap.pos_weight = 2.0: only 1.0 has a counterpart",
        ),
        (
            {"loss_heatmap": {"type": "GaussianFocalLoss", "reduction": "sum"}},
            {},
            "bbox_head.loss_heatmap.reduction = 'sum': only 'mean' has a counterpart",
        ),
        (
            {"loss_embedding": {"type": "AssociativeEmbeddingLoss", "margin": 2}},
            {},
            "bbox_head.loss_embedding.margin = 2: has no counterpart",
        ),
        ({}, {**TEST, "flip": True}, "test_cfg.flip = True: has no counterpart"),
        (
            {},
            {"nms": {"method": "gaussian"}},
            "test_cfg.nms.type = None: only 'soft_nms' has a counterpart; unsaid, it is 'nms'",
        ),
        (
            {},
            {"nms": {"type": "soft_nms"}},
            "test_cfg.nms.method = None: only 'gaussian' has a counterpart; unsaid, it is 'linear'",
        ),
        (
            {},
            {"nms": {**SOFT, "method": "linear"}},
            "test_cfg.nms.method = 'linear': only 'gaussian' has a counterpart; unsaid, it is 'linear'",
        ),
        (
            {},
            {"nms": {**SOFT, "class_agnostic": True}},
            "test_cfg.nms.class_agnostic = True: only False has a counterpart",
        ),
        ({}, {"nms": {**SOFT, "max_num": 9}}, "test_cfg.nms.max_num = 9: has no counterpart"),
    ],
)
def test_what_has_no_counterpart_is_listed(head: dict[str, Any], test: dict[str, Any], told: str) -> None:
    assert read(head, test)[1] == [f"model.{told}"]


def test_tensors_have_their_names_there() -> None:
    losses: dict[str, Any] = {"loss_heatmap": GaussianFocalLoss(), "loss_offset": GaussianFocalLoss()}
    head = CornerHead(num_classes=2, in_channels=(8, 8), loss_embedding=AssociativeEmbeddingLoss(), **losses)
    part, _ = read({}, {})
    names = {part.foreign_name(name) for name in head.state_dict()}
    convs = ("direction1_conv", "direction2_conv", "aftpool_conv", "conv1", "conv2")
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert names == {
        f"bbox_head.{tensor}"
        for corner in ("tl", "br")
        for stack in (0, 1)
        for tensor in (
            *(f"{corner}_pool.{stack}.{conv}.conv.weight" for conv in convs),
            *(f"{corner}_pool.{stack}.{conv}.bn.{each}" for conv in convs for each in norm),
            *(
                f"{corner}_{kind}.{stack}.{layer}.conv.{each}"
                for kind in ("heat", "emb", "off")
                for layer in (0, 1)
                for each in ("weight", "bias")
            ),
        )
    }
