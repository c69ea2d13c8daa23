"""Double-Head: two branches that look at different regions, from TOML and from MMDetection's tables."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from detcore.build import plan
from detcore.config import load
from detcore.errors import ConfigError, UserError
from detcore.foreign import Foreign, Log
from detcore.heads.roi import RoIStage
from detcore.interfaces import Flow
from detcore.layers import GN
from detcore.plugins import discover
from detcore.testing import check_box_head
from detcore_double_head.double_head import DoubleHead
from torch import Tensor

SMALL: dict[str, Any] = {"num_convs": 1, "num_fcs": 2, "conv_channels": 16, "fc_channels": 8}
FLOW: dict[str, Any] = {"in_channels": 8, "roi_size": 3, "class_channels": 3, "box_channels": 8}

STAGE = """
[stage]
type = "RoIStage"
extractor = { type = "SingleLevelRoIExtractor", roi_size = 5 }
box_head = { type = "DoubleHead", num_convs = 1, conv_channels = 16, fc_channels = 8 }
coder = { type = "DeltaXYWHCoder" }
assigner = { type = "MaxIoUAssigner", pos_iou = 0.5, neg_iou = 0.5 }
loss_cls = { type = "CrossEntropyLoss" }
loss_box = { type = "SmoothL1Loss" }
"""


def head(**options: Any) -> DoubleHead:
    torch.manual_seed(0)
    return DoubleHead(**SMALL | FLOW | options)


@pytest.mark.parametrize("options", [{}, {"norm": partial(GN, num_groups=4)}, {"num_convs": 0}])
def test_it_is_a_box_head(options: dict[str, Any]) -> None:
    check_box_head(DoubleHead, **SMALL | options)


def test_classes_are_read_from_the_region_and_boxes_from_a_larger_one() -> None:
    cut = {scale: torch.randn(5, 8, 3, 3, requires_grad=True) for scale in (1.0, 1.5)}
    logits, deltas = head(box_scale=1.5).eval()(lambda scale=1.0: cut[scale])
    of_logits = torch.autograd.grad(logits.sum(), [*cut.values()], retain_graph=True, allow_unused=True)
    of_deltas = torch.autograd.grad(deltas.sum(), [*cut.values()], allow_unused=True)
    assert [gradient is not None for gradient in of_logits] == [True, False]
    assert [gradient is not None for gradient in of_deltas] == [False, True]


def test_equals_the_formula_in_float64() -> None:
    """One widening block and one bottleneck whose norms do nothing, the mean over cells, then a layer."""
    module = head(num_convs=1).double().eval()
    state = {name: torch.randn_like(value) if value.dim() else value for name, value in module.state_dict().items()}
    ones = {name: torch.ones_like(value) for name, value in state.items() if name.endswith("running_var")}
    module.load_state_dict(state | ones)
    near, wide = torch.randn(2, 8, 3, 3).double(), torch.randn(2, 8, 3, 3).double()
    with torch.no_grad():
        logits, deltas = module(lambda scale=1.0: near if scale == 1.0 else wide)
    for region in range(2):
        hidden = near[region].flatten()
        for layer in ("fcs.0", "fcs.1"):
            hidden = (state[f"{layer}.weight"].double() @ hidden + state[f"{layer}.bias"].double()).clamp(min=0)
        wanted = state["cls.weight"].double() @ hidden + state["cls.bias"].double()
        torch.testing.assert_close(logits[region], wanted, rtol=1e-9, atol=1e-9)
        maps = (normed(state, "widen.conv2", normed(state, "widen.conv1", wide[region]).clamp(min=0))
                + normed(state, "widen.shortcut", wide[region])).clamp(min=0)  # fmt: skip
        out = maps
        for number in (1, 2, 3):
            names = (f"convs.0.conv{number}", f"convs.0.bn{number}")
            out = normed(state, "", out, names).clamp(min=0 if number < 3 else -torch.inf)
        mean = (maps + out).clamp(min=0).mean((1, 2))
        wanted = state["box.weight"].double() @ mean + state["box.bias"].double()
        torch.testing.assert_close(deltas[region], wanted, rtol=1e-9, atol=1e-9)


def normed(state: dict[str, Tensor], name: str, maps: Tensor, names: tuple[str, str] | None = None) -> Tensor:
    """A convolution, cell by cell and tap by tap, and its norm (of variance 1)."""
    conv, norm = names or (f"{name}.conv", f"{name}.norm")
    weight = state[f"{conv}.weight"].double()
    margin = weight.shape[-1] // 2
    padded = torch.nn.functional.pad(maps, [margin] * 4)
    out = torch.zeros(len(weight), *maps.shape[1:], dtype=torch.float64)
    for y in range(maps.shape[1]):
        for x in range(maps.shape[2]):
            patch = padded[:, y : y + weight.shape[-1], x : x + weight.shape[-1]]
            out[:, y, x] = (weight * patch).sum((1, 2, 3))
    mean, gain, shift = (state[f"{norm}.{each}"].double()[:, None, None] for each in ("running_mean", "weight", "bias"))
    return (out - mean) / (1 + 1e-5) ** 0.5 * gain + shift


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conv_channels": 18}, "conv_channels: 18 is no multiple of four. A bottleneck has a quarter."),
        ({"box_scale": 0.0}, "box_scale: 0.0 is not positive. 1 is the region itself."),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        head(**options)
    assert message in str(error.value)


# ------------------------------------------------------------------------------------------------------- from a config


@attrs.frozen(eq=False)
class Root:
    stage: RoIStage


def built(folder: Path, text: str = STAGE) -> Any:
    (folder / "a.toml").write_text(text)
    config = load(str(folder / "a.toml"), resolve_dist=lambda dist, path: Path(path))
    flow = Flow(channels=(8, 8, 8, 8), strides=(4, 8, 16, 32)).having("classes", num_classes=2)
    return plan(config, discover(), Root).build("stage", flow)


@pytest.mark.parametrize(("line", "deltas"), [("", 8), ("class_agnostic = true", 4)])
def test_nobody_writes_a_number_twice(tmp_path: Path, line: str, deltas: int) -> None:
    box_head = built(tmp_path, STAGE + line).box_head
    assert box_head.fcs[0].in_features == 8 * 5 * 5
    assert (box_head.cls.out_features, box_head.box.out_features) == (3, deltas)


def test_the_stage_cuts_out_both_regions(tmp_path: Path) -> None:
    """The maps hold the columns' numbers: with 1.3 times the width, the outer bins lie further out."""
    stage = built(tmp_path).eval()
    maps = [torch.arange(256 // stride).float().expand(1, 8, 256 // stride, -1) * stride for stride in (4, 8, 16, 32)]
    seen: dict[float, Tensor] = {}
    stage.box_head.register_forward_pre_hook(lambda _, inputs: seen.update({s: inputs[0](s) for s in (1.0, 1.3)}))
    stage(maps, torch.tensor([[0.0, 78.0, 78.0, 178.0, 178.0]]))
    spans = {scale: float(cut[0, 0, 0, 4] - cut[0, 0, 0, 0]) for scale, cut in seen.items()}
    assert spans == pytest.approx({1.0: 80.0, 1.3: 104.0})


def test_a_wrong_scale_is_refused_by_address(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        built(tmp_path, STAGE.replace("num_convs = 1", "box_scale = -1.0"))
    assert "a.toml: stage.box_head: box_head DoubleHead (detcore-double-head " in str(error.value)
    assert "box_scale: -1.0 is not positive" in str(error.value)


# ------------------------------------------------------------------------------------------------------ from MMDetection


def foreign(**keys: Any) -> Foreign:
    from detcore_mmdet.model import translations

    box = {"type": "DoubleConvFCBBoxHead", "num_convs": 4, "num_fcs": 2, "num_classes": 3, **keys}
    extractor = {"type": "SingleRoIExtractor", "featmap_strides": [4, 8, 16, 32], "roi_layer": {"type": "RoIAlign"}}
    values = {
        "type": "DoubleHeadRoIHead",
        "bbox_roi_extractor": extractor,
        "bbox_head": box,
        "reg_roi_scale_factor": 1.4,
    }
    return Foreign(values, "model.roi_head", Log(translations(discover())), "roi_head")


def test_the_factor_of_the_roi_head_there_is_the_box_heads_here() -> None:
    head = foreign(norm_cfg={"type": "GN", "num_groups": 16})
    part = head.translated(stages=[Foreign({"sampler": {"type": "PseudoSampler"}}, "rcnn", head.log)])
    (stage,) = part.plain["stages"]
    assert stage["box_head"] == {
        "type": "DoubleHead",
        "num_convs": 4,
        "num_fcs": 2,
        "box_scale": 1.4,
        "norm": {"type": "GN", "num_groups": 16},
    }
    ours = ("widen.conv1.norm.weight", "convs.3.bn2.bias", "convs.3.conv2.weight", "fcs.1.bias")
    theirs = ("res_block.conv1.gn.weight", "conv_branch.3.gn2.bias", "conv_branch.3.conv2.weight", "fc_branch.1.bias")
    found = [part.foreign_name(f"stages.0.box_head.{name}") for name in ours]
    assert found == [f"roi_head.bbox_head.{name}" for name in theirs]
    assert not head.log.lost
    assert not [*head.unread()]


def test_another_pooling_is_listed() -> None:
    head = foreign(with_avg_pool=False)
    head.translated(stages=[Foreign({}, "rcnn", head.log)])
    assert [each.path for each in head.log.lost] == ["model.roi_head.bbox_head.with_avg_pool"]
