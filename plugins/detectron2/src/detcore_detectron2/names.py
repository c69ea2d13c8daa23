"""Which tensor of our recipes each tensor of Detectron2 is; see ``configs/detectron2``.

Detectors have the names of the whole: ``backbone.bottom_up.res2.0.conv1.weight``. Backbones alone have them from the
stem on, ``res2.0.conv1.weight``, or those of Caffe2, ``res2_0_branch2a_w``, with norms that are a scale and a shift.
Background is the last class there and here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from detcore.foreign import Rule, renamed
from torch import Tensor

Names = Sequence[Rule]
"""Of their names, and what of ours replaces them."""

EPS = 1e-5
"""Of a frozen batch norm, here and there."""

CAFFE2: Names = (
    (r"^res_conv1_bn_", "stem.conv1.norm_"),
    (r"^conv1_", "stem.conv1_"),
    (r"^res(\d)_(\d+)_branch1_", r"res\1.\2.shortcut_"),
    *((rf"^res(\d)_(\d+)_branch2{letter}_", rf"res\1.\2.conv{index}_") for index, letter in enumerate("abc", 1)),
    (r"_bn_", ".norm_"),
    (r"_(w|s)$", ".weight"),
    (r"_b$", ".bias"),
)
"""To those of Detectron2."""

BODY: Names = (
    (r"^stem\.conv1\.norm\.", "bn1."),
    (r"^stem\.conv1\.", "conv1."),
    *((rf"^res{stage + 1}\.", f"layer{stage}.") for stage in range(1, 5)),
    (r"\.conv(\d)\.norm\.", r".bn\1."),
    (r"\.shortcut\.norm\.", ".downsample.1."),
    (r"\.shortcut\.", ".downsample.0."),
)
"""Of a ResNet."""

NECK: Names = tuple(
    rule
    for theirs, ours in (("lateral", "lateral_convs"), ("output", "fpn_convs"))
    for level in range(4)
    for rule in (
        (rf"^backbone\.fpn_{theirs}{level + 2}\.norm\.", f"neck.{ours}.{level}.norm."),
        (rf"^backbone\.fpn_{theirs}{level + 2}\.", f"neck.{ours}.{level}.conv."),
    )
)
STAGE = "roi_head.stages.0.box_head."
MASKS = "roi_head.branches.mask.mask_head."
HEADS: Names = (
    (r"^proposal_generator\.rpn_head\.conv\.conv(\d)\.", r"rpn_head.network.convs.\1.conv."),
    (r"^proposal_generator\.rpn_head\.conv\.", "rpn_head.network.convs.0.conv."),
    (r"^proposal_generator\.rpn_head\.objectness_logits\.", "rpn_head.network.cls."),
    (r"^proposal_generator\.rpn_head\.anchor_deltas\.", "rpn_head.network.box."),
    (r"^roi_heads\.box_head\.fc1\.", f"{STAGE}shared.1."),
    (r"^roi_heads\.box_head\.fc2\.", f"{STAGE}shared.3."),
    (r"^roi_heads\.box_predictor\.cls_score\.", f"{STAGE}cls."),
    (r"^roi_heads\.box_predictor\.bbox_pred\.", f"{STAGE}box."),
    *((rf"^roi_heads\.mask_head\.mask_fcn{index + 1}\.", f"{MASKS}convs.{index}.conv.") for index in range(4)),
    (r"^roi_heads\.mask_head\.deconv\.", f"{MASKS}upsample."),
    (r"^roi_heads\.mask_head\.predictor\.", f"{MASKS}logits."),
)
DROPPED = re.compile(
    r"pixel_mean|pixel_std|proposal_generator\.anchor_generator\..*|"  # constants
    r"(stem\.)?(fc|fc1000|linear|pred)\..*|"  # of ImageNet's classes
    r"stem\.conv1\.bias|.*_momentum"  # of Caffe2's files; a norm follows
)
"""Tensors of theirs that ours do without."""


def our_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of Detectron2 under the names of our recipes; a name that is none of theirs stays as it is."""
    if any(name.startswith("res_conv1_bn") or "_branch" in name for name in state):
        state = _from_caffe2(state)
    ours = {our_name(name): value for name, value in state.items() if not DROPPED.fullmatch(name)}
    counted = [name.removesuffix("running_mean") for name in ours if name.endswith(".running_mean")]
    return {**{f"{norm}num_batches_tracked": torch.tensor(0) for norm in counted}, **ours}


def our_name(name: str) -> str:
    """Ours of one of theirs."""
    body = re.match(r"(backbone\.)bottom_up\.|(?=stem\.|res\d\.)", name)
    if body:
        return (body[1] or "") + renamed(name[body.end() :], BODY)
    return renamed(name, (*NECK, *HEADS))


def _from_caffe2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Under Detectron2's names; norms get the statistics with which they are a scale and a shift."""
    found = {}
    for name, value in state.items():
        theirs = renamed(name, CAFFE2)
        found[theirs] = value
        if theirs.endswith(".norm.weight"):
            norm = theirs.removesuffix("weight")
            found |= {f"{norm}running_mean": torch.zeros_like(value)}
            found |= {f"{norm}running_var": torch.ones_like(value) - EPS}
    return found
