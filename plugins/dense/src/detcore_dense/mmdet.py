"""Anchors, coders, assigners, samplers, RPN and decoding by their names in MMDetection.

``test_cfg`` and ``nms`` have no type there: they are translated as ``dense test_cfg``.
"""

from __future__ import annotations

from typing import Any

from detcore.foreign import NONE, Foreign, Part

UNLIMITED = -1
"""What stands there for "no limit"."""


def _limit(value: Any) -> Any:
    return None if value == UNLIMITED else value


def _count(value: Any) -> Any:
    """As :func:`_limit`, of a key that has a limit here where nothing is said."""
    return NONE if value == UNLIMITED else value


def anchors(table: Foreign) -> Part:
    """AnchorGenerator, with what the head hands it: ``coder``, the table of deltas, and ``border``."""
    table.wired("strides")
    table.only(scale_major=True, centers=None, use_box_type=False)
    scales = ("scales", "octave_base_scale", "scales_per_octave", "ratios", "center_offset", "base_sizes")
    border = _limit(table.get("border", UNLIMITED))
    deltas = _deltas(table.table("coder"))
    kept = table.keep(**{name: name for name in scales})
    return table.into("Anchors", **_shorter(kept), border=border, **deltas)


def _shorter(keys: dict[str, Any]) -> dict[str, Any]:
    """One scale per octave is that scale, which every config here writes so."""
    if keys.get("scales_per_octave") == 1:
        scale = keys.pop("octave_base_scale")
        del keys["scales_per_octave"]
        return {**keys, "scales": [scale]}
    return keys


def _deltas(coder: Foreign) -> dict[str, Any]:
    """What DeltaXYWHBBoxCoder says that is not what it is without being said."""
    coder.only(type="DeltaXYWHBBoxCoder", clip_border=True, use_box_type=False)
    means, stds = coder.get("target_means", [0.0] * 4), coder.get("target_stds", [1.0] * 4)
    deltas: dict[str, Any] = {}
    if list(means) != [0.0] * 4:
        deltas["means"] = means
    if list(stds) != [1.0] * 4:
        deltas["stds"] = stds
    clamp = coder.get("ctr_clamp", 32)
    if coder.get("add_ctr_clamp", False):
        deltas["ctr_clamp"] = float(clamp)
    return deltas


def coder(table: Foreign) -> Part:
    """DeltaXYWHBBoxCoder of a second stage."""
    return table.into("DeltaXYWHCoder", **_deltas(table))


def max_iou(table: Foreign) -> Part:
    """MaxIoUAssigner. ``gpu_assign_thr`` saves memory there; here pairs are taken in chunks."""
    table.get("gpu_assign_thr")
    table.only(iou_calculator={"type": "BboxOverlaps2D"}, perm_repeat_gt_cfg=None)
    keys = table.keep(
        pos_iou="pos_iou_thr",
        neg_iou="neg_iou_thr",
        min_pos_iou="min_pos_iou",
        match_low_quality="match_low_quality",
        gt_max_assign_all="gt_max_assign_all",
    )
    ignore = _limit(table.get("ignore_iof_thr", UNLIMITED))
    candidates = table.get("ignore_wrt_candidates", True)
    return table.into(
        "MaxIoUAssigner",
        **keys,
        ignore_iof=ignore,
        ignore_wrt_candidates=None if candidates or ignore is None else False,
    )


def random_sampler(table: Foreign) -> Part:
    """RandomSampler. Whether objects are proposals (``add_gt_as_proposals``) is for the stage to say."""
    table.get("add_gt_as_proposals")
    limit = _limit(table.get("neg_pos_ub", UNLIMITED))
    return table.into("RandomSampler", **table.keep(num="num", pos_fraction="pos_fraction"), neg_pos_ub=limit)


def instance_balanced(table: Foreign) -> Part:
    """InstanceBalancedPosSampler."""
    table.get("add_gt_as_proposals")
    limit = _limit(table.get("neg_pos_ub", UNLIMITED))
    keys = table.keep(num="num", pos_fraction="pos_fraction")
    return table.into("InstanceBalancedPosSampler", **keys, neg_pos_ub=limit)


def iou_balanced(table: Foreign) -> Part:
    """IoUBalancedNegSampler."""
    table.get("add_gt_as_proposals")
    limit = _limit(table.get("neg_pos_ub", UNLIMITED))
    names = ("num", "pos_fraction", "floor_thr", "floor_fraction", "num_bins")
    return table.into("IoUBalancedNegSampler", **table.keep(**{name: name for name in names}), neg_pos_ub=limit)


def ohem_sampler(table: Foreign) -> Part:
    """OHEMSampler."""
    table.get("add_gt_as_proposals")
    table.only(loss_key="loss_cls")
    limit = _limit(table.get("neg_pos_ub", UNLIMITED))
    return table.into("OHEMSampler", **table.keep(num="num", pos_fraction="pos_fraction"), neg_pos_ub=limit)


def pseudo_sampler(table: Foreign) -> None:
    """PseudoSampler takes everything, as no sampler does here."""
    table.get("add_gt_as_proposals")


def nms_decoder(table: Foreign) -> Part:
    """``test_cfg`` of a dense head."""
    size = table.get("min_bbox_size", 0)
    return table.into(
        "NMSDecoder",
        score_threshold=table.get("score_thr", 0.0),
        nms_pre=_count(table.get("nms_pre", UNLIMITED)),
        nms_iou=nms_iou(table.table("nms")),
        max_detections=_count(table.get("max_per_img")),
        min_size=max(float(size), 0.0) or None,
        class_agnostic=table.table("nms").get("class_agnostic") or None,
        quality=table.get("quality"),
    )


def nms_iou(nms: Foreign) -> Any:
    """The threshold of ``nms``, the only kind that NMSDecoder has."""
    nms.only(type="nms", offset=0, max_num=-1)
    nms.get("split_thr")  # above so many boxes it goes class by class there: the same boxes
    nms.get("class_agnostic")
    return nms.get("iou_threshold", nms.get("iou_thr"))


def rpn_head(head: Foreign) -> Part:
    """RPNHead. ``train_cfg``, ``proposal`` and ``test_cfg`` are its own here."""
    head.wired("in_channels")
    head.only(num_classes=1, init_cfg=None)
    train, proposal, test = head.table("train_cfg"), head.table("proposal"), head.table("test_cfg")
    train.only(pos_weight=-1, debug=False)
    loss = {"type": "DenseBoxLoss", "loss_cls": head.part("loss_cls"), "loss_box": head.part("loss_bbox")}
    if "sampler" in train and train.table("sampler").get("type") != "PseudoSampler":
        loss["normaliser"] = "sampled"
    border = train.get("allowed_border", UNLIMITED)
    return head.into(
        "ComposedHead",
        geometry=head.part("anchor_generator", coder=head.table("bbox_coder"), border=border),
        network=head.into(
            "RPNConv",
            (r"^convs\.0\.conv\.", "rpn_conv." if head.get("num_convs", 1) == 1 else "rpn_conv.0.conv."),
            (r"^convs\.(\d+)\.conv\.", r"rpn_conv.\1.conv."),
            (r"^(cls|box)\.", r"rpn_\1."),
            (r"^rpn_box\.", "rpn_reg."),
            **head.keep(feat_channels="feat_channels", num_convs="num_convs"),
        ),
        assigner=train.part("assigner"),
        sampler=train.part("sampler"),
        loss=loss,
        decoder=_rpn_decoder(head, proposal, test),
    )


def _rpn_decoder(head: Foreign, proposal: Foreign, test: Foreign) -> Part:
    ours, train = _rpn_settings(test), _rpn_settings(proposal) if proposal.values else {}
    return head.into(
        "RPNDecoder", **ours, train={key: value for key, value in train.items() if ours.get(key) != value} or None
    )


def _rpn_settings(table: Foreign) -> dict[str, Any]:
    if "nms" not in table and "nms_thr" in table:  # 2.x before 2.5
        table.only(nms_across_levels=False)
        table.get("nms_post")
        threshold, most = table.get("nms_thr"), table.get("max_num")
    else:
        threshold, most = nms_iou(table.table("nms")), _count(table.get("max_per_img"))
    size = max(float(table.get("min_bbox_size", 0)), 0.0)
    settings = {"nms_pre": _count(table.get("nms_pre", UNLIMITED)), "nms_iou": threshold, "max_proposals": most}
    return settings | ({"min_size": size} if size else {})


TRANSLATIONS = {
    "AnchorGenerator": anchors,
    "DeltaXYWHBBoxCoder": coder,
    "MaxIoUAssigner": max_iou,
    "RandomSampler": random_sampler,
    "InstanceBalancedPosSampler": instance_balanced,
    "IoUBalancedNegSampler": iou_balanced,
    "OHEMSampler": ohem_sampler,
    "PseudoSampler": pseudo_sampler,
    "dense test_cfg": nms_decoder,
    "RPNHead": rpn_head,
}
