"""Second stages, their extractors and box heads by their names in MMDetection.

There a box head holds coder and losses, here its stage does: a translation of a box head says what network it is, and
:func:`stage` reads the rest from the same table. ``test_cfg`` has no type there.
"""

from __future__ import annotations

from typing import Any

import attrs
from detcore.foreign import Foreign, Part, Rule
from detcore_dense.mmdet import UNLIMITED, nms_iou

LEVELS = 4
"""How many levels a stage reads where nothing is said."""

CODER = {"type": "DeltaXYWHBBoxCoder", "target_stds": [0.1, 0.1, 0.2, 0.2]}
"""What a box head reads boxes with where it does not say, there; in the same way its losses:"""
LOSS_CLS = {"type": "CrossEntropyLoss"}
LOSS_BOX = {"type": "SmoothL1Loss"}
LOSS_MASK = {"type": "CrossEntropyLoss", "use_mask": True}

IOU_LOSSES = ("IoULoss", "GIoULoss", "DIoULoss", "CIoULoss")
"""Losses that read boxes in pixels, which ``reg_decoded_bbox`` asks for there."""

OUTPUTS: tuple[Rule, ...] = ((r"^cls\.", "fc_cls."), (r"^box\.", "fc_reg."))
"""Names of the last layers of a box head."""


# ---------------------------------------------------------------------------------------------------------- RoI heads


def standard(head: Foreign) -> Part:
    """StandardRoIHead: one stage. ``stages`` are tables of ``train_cfg``, ``test_cfg`` is its own."""
    return _composed(head, [1.0])


def cascade(head: Foreign) -> Part:
    """CascadeRoIHead: stages that share an extractor or have their own, each with its box head and loss weight."""
    count = int(head.get("num_stages", 3))
    for key in ("bbox_head", "bbox_roi_extractor"):
        if key in head and not isinstance(head.values[key], list):
            head.values[key] = [head.values[key]] * count
    return _composed(head, list(head.get("stage_loss_weights", [1.0] * count)))


def _composed(head: Foreign, weights: list[float]) -> Part:
    head.only(init_cfg=None)
    extractors, boxes, trains = head.tables("bbox_roi_extractor"), head.tables("bbox_head"), head.get("stages", [])
    if not len(extractors) == len(boxes) == len(trains) == len(weights):
        counts = f"{len(extractors)}, {len(boxes)}, {len(weights)} and {len(trains)}"
        head.lose("type", f"extractors, box heads, loss weights and tables of train_cfg.rcnn are {counts}")
    stages = [stage(*each) for each in zip(extractors, boxes, trains, weights, strict=False)]
    if "shared_head" in head:
        stages = [behind(head.part("shared_head"), each) for each in stages]
    masks = mask_branches(head, len(stages))
    if len(stages) == 1:
        return head.into("ComposedRoIHead", stages=stages, decoder=decoder(head), branches=masks[0] if masks else None)
    stages = [{**each, "branches": its} for each, its in zip(stages, masks, strict=True)] if masks else stages
    return head.into("ComposedRoIHead", stages=stages, decoder=decoder(head))


def stage(extractor: Foreign, box: Foreign, train: Foreign, weight: float) -> dict[str, Any]:
    """A RoIStage of an extractor, a box head, a table of ``train_cfg`` and the weight of its losses."""
    box.wired("in_channels", "roi_feat_size", "num_classes")
    box.only(predict_box_type="box", custom_activation=None, init_cfg=None)
    train.only(pos_weight=-1, debug=False)
    levels, sampler = len(extractor.get("featmap_strides", [])), train.table("sampler")
    loss_box = box.part("loss_bbox", LOSS_BOX)
    name, decoded = box.table("loss_bbox").get("type"), bool(box.get("reg_decoded_bbox", False))
    if decoded != (name in IOU_LOSSES):
        box.lose("reg_decoded_bbox", f"{name} reads {'boxes' if name in IOU_LOSSES else 'deltas'} here")
    given = sampler.get("type") != "PseudoSampler" and sampler.get("add_gt_as_proposals", True)
    table = {
        "type": "RoIStage",
        "extractor": extractor.translated(),
        "box_head": box.translated(),
        "coder": box.part("bbox_coder", CODER),
        "assigner": train.part("assigner"),
        "sampler": train.part("sampler"),
        "loss_cls": box.part("loss_cls", LOSS_CLS),
        "loss_box": loss_box,
        "num_levels": None if levels == LEVELS else levels,
        "class_agnostic": box.get("reg_class_agnostic") or None,
        "add_ground_truth": None if given else False,
        "weight": None if weight == 1 else float(weight),
    }
    return {key: value for key, value in table.items() if value is not None}


def behind(shared: Part | None, stage: dict[str, Any]) -> dict[str, Any]:
    """The stage with ``shared_head`` between extractor and box head: here it is an extractor itself."""
    if shared is None:
        return stage
    return {**stage, "extractor": attrs.evolve(shared, table={**shared.table, "extractor": stage["extractor"]})}


def mask_branches(head: Foreign, count: int) -> list[dict[str, Any]] | None:
    """What each of ``count`` stages predicts beside boxes: masks. ``train_cfg`` and ``test_cfg`` know their size."""
    if "mask_head" not in head:
        return None
    if head.get("mask_roi_extractor") is None:
        head.lose("mask_roi_extractor", "masks have an extractor of their own here")
        return None
    if count > 1:
        for key in ("mask_head", "mask_roi_extractor"):
            if not isinstance(head.values[key], list):
                head.values[key] = [head.values[key]] * count
    extractors, masks, trains = head.tables("mask_roi_extractor"), head.tables("mask_head"), head.tables("stages")
    if not len(extractors) == len(masks) == count:
        head.lose("mask_head", f"mask heads, extractors and stages are {len(masks)}, {len(extractors)} and {count}")
        return None
    head.table("test_cfg").only(mask_thr_binary=0.5)
    return [mask_branch(*each) for each in zip(extractors, masks, trains, strict=False)]


def mask_branch(extractor: Foreign, mask: Foreign, train: Foreign) -> dict[str, Any]:
    """The branch of one stage."""
    levels, part = len(extractor.get("featmap_strides", [])), extractor.translated()
    train.only(mask_size=2 * part.table.get("roi_size", 7))
    table = {
        "type": "MaskBranch",
        "extractor": part,
        "mask_head": mask.translated(),
        "loss_mask": mask.part("loss_mask", LOSS_MASK),
        "class_agnostic": mask.get("class_agnostic") or None,
        "num_levels": None if levels == LEVELS else levels,
    }
    return {"mask": {key: value for key, value in table.items() if value is not None}}


def decoder(head: Foreign) -> Part:
    """``test_cfg`` of a second stage."""
    test = head.table("test_cfg")
    nms, most = test.table("nms"), test.get("max_per_img", UNLIMITED)
    part = head.into(
        "RoINMSDecoder",
        score_threshold=test.get("score_thr", 0.0),
        nms_iou=nms_iou(nms),
        class_agnostic=nms.get("class_agnostic") or None,
    )
    return attrs.evolve(part, table={**part.table, "max_detections": None if most == UNLIMITED else most})


# --------------------------------------------------------------------------------------------------------- extractors


def single_level(table: Foreign) -> Part:
    """SingleRoIExtractor of RoIAlign."""
    table.wired("out_channels", "featmap_strides")
    table.only(init_cfg=None)
    return table.into("SingleLevelRoIExtractor", **roi_align(table), **table.keep(finest_scale="finest_scale"))


def generic(table: Foreign) -> Part:
    """GenericRoIExtractor of RoIAlign, without modules before and after the sum."""
    table.wired("out_channels", "featmap_strides")
    table.only(init_cfg=None, pre_cfg=None, post_cfg=None)
    return table.into("GenericRoIExtractor", **roi_align(table), **table.keep(aggregation="aggregation"))


def roi_align(table: Foreign) -> dict[str, Any]:
    """``roi_layer``: what is cut out of a map."""
    layer = table.table("roi_layer")
    layer.only(type="RoIAlign", pool_mode="avg")
    layer.get("use_torchvision")  # the same numbers
    size = layer.get("output_size", 7)
    if isinstance(size, list):
        if len({*size}) != 1:
            layer.lose("output_size", "only squares have a counterpart")
        size = size[0]
    ratio, aligned = layer.get("sampling_ratio", 0), layer.get("aligned", True)
    return {"roi_size": size, **({"sampling_ratio": ratio} if ratio else {}), **({} if aligned else {"aligned": False})}


# ---------------------------------------------------------------------------------------------------------- box heads


def shared_2fc(table: Foreign) -> Part:
    """Shared2FCBBoxHead."""
    plain_outputs(table)
    table.only(with_avg_pool=False, conv_cfg=None, norm_cfg=None)
    table.get("conv_out_channels")  # it has no convolution
    rules = ((r"^shared\.1\.", "shared_fcs.0."), (r"^shared\.3\.", "shared_fcs.1."), *OUTPUTS)
    return table.into("Shared2FCBoxHead", *rules, **table.keep(fc_channels="fc_out_channels"))


def pooled(table: Foreign) -> Part:
    """BBoxHead: the last layers alone, behind a mean over cells or not."""
    plain_outputs(table)
    return table.into("ConvFCBoxHead", *OUTPUTS, shared_convs=0, shared_fcs=0, pool=table.get("with_avg_pool") or None)


def conv_fc(table: Foreign) -> Part:
    """ConvFCBBoxHead."""
    names = ("shared_convs", "shared_fcs", "cls_convs", "cls_fcs", "box_convs", "box_fcs")
    return _conv_fc(table, {name: table.get(f"num_{name.replace('box', 'reg')}", 0) for name in names})


def shared_4conv_1fc(table: Foreign) -> Part:
    """Shared4Conv1FCBBoxHead, which is what ConvFCBoxHead is where nothing is said."""
    return _conv_fc(table, {})


def _conv_fc(table: Foreign, counts: dict[str, Any]) -> Part:
    plain_outputs(table)
    norm = "gn" if table.table("norm_cfg").get("type") == "GN" else "bn"
    return table.into(
        "ConvFCBoxHead",
        (r"^(shared|cls|box)(?:_path)?\.(convs|fcs)\.", r"\1_\2."),
        *OUTPUTS,
        (r"^box_", "reg_"),
        (r"_convs\.(\d+)\.norm\.", rf"_convs.\1.{norm}."),
        **counts,
        **table.keep(conv_channels="conv_out_channels", fc_channels="fc_out_channels"),
        pool=table.get("with_avg_pool") or None,
        norm=table.part("norm_cfg"),
        conv=table.part("conv_cfg"),
    )


def plain_outputs(table: Foreign) -> None:
    """Linear layers give classes and boxes; other kinds have no counterpart."""
    linear = {"type": "Linear"}
    table.only(with_cls=True, with_reg=True, cls_predictor_cfg=linear, reg_predictor_cfg=linear)


# ---------------------------------------------------------------------------------------------------------- mask heads


def fcn_mask_head(table: Foreign) -> Part:
    """FCNMaskHead; its loss, and whether it knows classes, are for the branch to say."""
    table.wired("in_channels", "num_classes", "roi_feat_size")
    table.only(conv_kernel_size=3, conv_cfg=None, predictor_cfg={"type": "Conv"}, init_cfg=None)
    table.only(upsample_cfg={"type": "deconv", "scale_factor": 2})
    return table.into(
        "FCNMaskHead",
        (r"^convs\.(\d+)\.norm\.", r"convs.\1.gn." if table.table("norm_cfg").get("type") == "GN" else r"convs.\1.bn."),
        (r"^logits\.", "conv_logits."),
        **table.keep(num_convs="num_convs", conv_channels="conv_out_channels"),
        norm=table.part("norm_cfg"),
    )


TRANSLATIONS = {
    "StandardRoIHead": standard,
    "CascadeRoIHead": cascade,
    "SingleRoIExtractor": single_level,
    "GenericRoIExtractor": generic,
    "BBoxHead": pooled,
    "ConvFCBBoxHead": conv_fc,
    "Shared2FCBBoxHead": shared_2fc,
    "Shared4Conv1FCBBoxHead": shared_4conv_1fc,
    "FCNMaskHead": fcn_mask_head,
}
