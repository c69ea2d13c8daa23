"""A recipe's model is that of MMDetection's config of the same name, as the importer translates it, number by number.

What the cases change for themselves is left out: how many regions are sampled and proposed, and of how many classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from detcore import assemble
from parity import golden
from torch import Tensor, nn

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = {
    "atss_r50": "atss/atss_r50_fpn_1x_coco",
    "retinanet_r50": "retinanet/retinanet_r50_fpn_1x_coco",
    "retinanet_r50_ghm": "retinanet/retinanet_r50_fpn_ghm_1x_coco",
    "fcos_r50_caffe_gn": "fcos/fcos_r50_caffe_fpn_gn_1x_coco",
    "faster_rcnn_r50": "faster_rcnn/faster_rcnn_r50_fpn_1x_coco",
    "faster_rcnn_r50_dcn": "faster_rcnn/faster_rcnn_r50_dconv_c3_c5_fpn_1x_coco",
    "faster_rcnn_r50_pafpn": "faster_rcnn/faster_rcnn_r50_pafpn_1x_coco",
    "faster_rcnn_hrnet_w18": "faster_rcnn/faster_rcnn_hrnetv2p_w18_1x_coco",
    "mask_rcnn_r50": "mask_rcnn/mask_rcnn_r50_fpn_1x_coco",
    "mask_rcnn_swin_t": "mask_rcnn/mask_rcnn_swin_t_p4_w7_fpn_1x_coco",
    "cascade_rcnn_r50": "cascade_rcnn/cascade_rcnn_r50_fpn_1x_coco",
    "double_head_r50": "double_head/dh_faster_rcnn_r50_fpn_1x_coco",
}
"""Golden case -> recipe."""
CHANGED = {"num", "neg_pos_ub", "nms_pre", "max_proposals", "train_nms_pre", "drop_path"}
"""Numbers that the cases do not leave as the config has them."""


def described(value: Any) -> Any:
    """What a part is made of: its class, its numbers and its parts', the shapes of its parameters."""
    if isinstance(value, nn.Parameter):
        return tuple(value.shape)
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): described(each) for key, each in value.items() if str(key) not in CHANGED}
    if isinstance(value, list | tuple):
        return [described(each) for each in value]
    if isinstance(value, nn.Module):
        own = {key: each for key, each in vars(value).items() if key not in ("_backward_hooks", "_forward_hooks")}
        return {"": type(value).__qualname__, **described({**own, "trained": trained(value)})}
    if attrs.has(type(value)):
        return {"": type(value).__qualname__, **described(attrs.asdict(value, recurse=False))}
    return value if value is None or isinstance(value, str | int | float | bool) else type(value).__qualname__


def trained(module: nn.Module) -> list[bool]:
    return [each.requires_grad for each in module.parameters(recurse=False)]


def ours_and_theirs(case: str, folder: Path, *sets: str) -> tuple[Any, Any]:
    theirs, found = golden.load(case).translated(folder)
    classes = golden.spell([f"class{number}" for number in range(found.num_classes or 0)])
    config, catalog = assemble.load(str(CONFIGS / f"{RECIPES[case]}.toml"), [f"classes={classes}", *sets])
    parts = assemble.build(config, catalog, "cpu", load_weights=False)
    return described(parts.model), described(theirs)


@pytest.mark.parametrize("case", RECIPES)
def test_a_recipe_is_the_config_of_its_name(case: str, tmp_path: Path) -> None:
    ours, theirs = ours_and_theirs(case, tmp_path)
    assert ours == theirs


@pytest.mark.parametrize(
    "change",
    [
        "model.roi_head.stages.1.coder.stds=[0.1, 0.1, 0.2, 0.2]",
        "model.roi_head.stages.2.weight=0.5",
        "model.roi_head.stages.0.assigner.pos_iou=0.51",
        "model.rpn_head.loss.loss_box.beta=0.1",
        "model.backbone.frozen_stages=2",
    ],
)
def test_another_number_is_noticed(change: str, tmp_path: Path) -> None:
    ours, theirs = ours_and_theirs("cascade_rcnn_r50", tmp_path, change)
    assert ours != theirs
