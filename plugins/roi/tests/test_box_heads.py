"""Box heads against plain loops in float64, the conformance kit, and what flows into them from TOML."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from detcore.build import plan
from detcore.config import load
from detcore.errors import ConfigError
from detcore.heads.roi import RoIStage
from detcore.interfaces import Flow
from detcore.layers import BN, GN
from detcore.plugins import discover
from detcore.testing import check_box_head
from detcore_roi.box_head import ConvFCBoxHead, Shared2FCBoxHead
from torch import Tensor

SMALL: dict[str, Any] = {"conv_channels": 4, "fc_channels": 6}
FLOW: dict[str, Any] = {"in_channels": 3, "roi_size": 3, "class_channels": 3, "box_channels": 8}

VARIANTS: dict[str, dict[str, Any]] = {
    "4conv1fc": {"norm": partial(GN, num_groups=2)},
    "as it is": {},
    "of their own": {"shared_convs": 1, "shared_fcs": 0, "cls_convs": 1, "cls_fcs": 2, "box_convs": 2},
    "layers of their own": {"shared_convs": 0, "shared_fcs": 1, "cls_fcs": 1, "box_fcs": 2},
    "batch norm": {"shared_convs": 1, "norm": BN},
    "pooled": {"shared_convs": 0, "shared_fcs": 0, "pool": True},
    "pooled after convolutions": {"shared_convs": 1, "shared_fcs": 0, "box_convs": 1, "box_fcs": 1, "pool": True},
    "pooled, then layers": {"shared_convs": 1, "shared_fcs": 2, "pool": True},
}


def head(**options: Any) -> ConvFCBoxHead:
    torch.manual_seed(0)
    return ConvFCBoxHead(**SMALL | FLOW | options)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_they_are_box_heads(options: dict[str, Any]) -> None:
    check_box_head(ConvFCBoxHead, **SMALL | options)


def test_the_head_of_two_layers_is_one_and_ends_where_the_other_does() -> None:
    check_box_head(Shared2FCBoxHead, fc_channels=6)
    torch.manual_seed(0)
    one, other = Shared2FCBoxHead(**FLOW, fc_channels=6), head(shared_convs=0, shared_fcs=2)
    other.load_state_dict(dict(zip(other.state_dict(), one.state_dict().values(), strict=True)))
    regions = torch.randn(4, 3, 3, 3)
    torch.testing.assert_close(other(lambda scale=1.0: regions), one(lambda scale=1.0: regions))


# --------------------------------------------------------------------------------------------------- a plain reference


def convolved(maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(C, S, S) -> (C', S, S), number by number; zeros around the map."""
    out = torch.zeros(len(weight), *maps.shape[1:], dtype=torch.float64)
    for channel in range(len(weight)):
        for y in range(maps.shape[1]):
            for x in range(maps.shape[2]):
                total = 0.0 if bias is None else float(bias[channel])
                for dy in (-1, 0, 1):
                    for dx in (-1, 0, 1):
                        if 0 <= y + dy < maps.shape[1] and 0 <= x + dx < maps.shape[2]:
                            total += float(weight[channel, :, dy + 1, dx + 1] @ maps[:, y + dy, x + dx])
                out[channel, y, x] = total
    return out


def normed(maps: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    """A group norm of two groups, or a batch norm by its running statistics; what has neither stays."""
    if f"{name}.weight" not in state:
        return maps
    if f"{name}.running_mean" in state:
        mean, variance = state[f"{name}.running_mean"][:, None, None], state[f"{name}.running_var"][:, None, None]
    else:
        groups = [each for each in maps.chunk(2) for _ in range(len(maps) // 2)]
        mean = torch.stack([each.mean() for each in groups])[:, None, None]
        variance = torch.stack([each.var(unbiased=False) for each in groups])[:, None, None]
    gain, shift = state[f"{name}.weight"][:, None, None], state[f"{name}.bias"][:, None, None]
    return (maps - mean) / (variance + 1e-5).sqrt() * gain + shift


def through(path: str, x: Tensor, state: dict[str, Tensor], pool: bool) -> Tensor:
    """One path: its convolutions, then its layers."""
    number = 0
    while f"{path}.convs.{number}.conv.weight" in state:
        name = f"{path}.convs.{number}"
        x = convolved(x, state[f"{name}.conv.weight"], state.get(f"{name}.conv.bias"))
        x = normed(x, state, f"{name}.norm").clamp(min=0)
        number += 1
    number = 0
    while f"{path}.fcs.{number}.weight" in state:
        x = state[f"{path}.fcs.{number}.weight"] @ rows(x, pool) + state[f"{path}.fcs.{number}.bias"]
        x = x.clamp(min=0)
        number += 1
    return x


def rows(x: Tensor, pool: bool) -> Tensor:
    return x.mean((1, 2)) if pool and x.dim() == 3 else x.flatten()


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_equals_a_plain_loop(options: dict[str, Any]) -> None:
    module = head(**options).double().eval()
    torch.manual_seed(1)
    state = {
        name: torch.rand_like(value) + 0.5 if name.endswith(("var", "norm.weight")) else torch.randn_like(value)
        for name, value in module.state_dict().items()
        if value.is_floating_point()
    }
    module.load_state_dict(state, strict=False)
    regions, pool = torch.randn(2, 3, 3, 3, dtype=torch.float64), options.get("pool", False)
    logits, deltas = module(lambda scale=1.0: regions)
    for region in range(2):
        shared = through("shared", regions[region], state, pool)
        for found, path, last in ((logits, "cls_path", "cls"), (deltas, "box_path", "box")):
            hidden = rows(through(path, shared, state, pool), pool)
            wanted = state[f"{last}.weight"] @ hidden + state[f"{last}.bias"]
            torch.testing.assert_close(found[region], wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_gradients_are_those_of_finite_differences(options: dict[str, Any]) -> None:
    module = head(**options).double().eval()
    regions = torch.randn(1, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: module(lambda scale=1.0: given), [regions])


# ------------------------------------------------------------------------------------------------------- from a config


def test_convolutions_behind_layers_are_refused() -> None:
    with pytest.raises(ConfigError) as error:
        head(box_convs=2)
    message = "cls_convs, box_convs: 0 and 2 after 1 shared layers. Convolutions read maps: give shared_fcs = 0."
    assert message in str(error.value)


@attrs.frozen(eq=False)
class Root:
    stage: RoIStage


@pytest.mark.parametrize(("line", "deltas"), [("", 8), ("class_agnostic = true", 4)])
def test_nobody_writes_a_number_twice(tmp_path: Path, line: str, deltas: int) -> None:
    (tmp_path / "a.toml").write_text(
        f"""
        [stage]
        type = "RoIStage"
        extractor = {{ type = "GenericRoIExtractor", roi_size = 5, aggregation = "concat" }}
        box_head = {{ type = "ConvFCBoxHead", conv_channels = 8, fc_channels = 16, norm = {{ type = "GN", num_groups = 4 }} }}
        coder = {{ type = "DeltaXYWHCoder" }}
        assigner = {{ type = "MaxIoUAssigner", pos_iou = 0.5, neg_iou = 0.5 }}
        loss_cls = {{ type = "CrossEntropyLoss" }}
        loss_box = {{ type = "SmoothL1Loss" }}
        {line}
        """
    )
    config = load(str(tmp_path / "a.toml"), resolve_dist=lambda dist, path: Path(path))
    flow = Flow(channels=(8, 8, 16, 16), strides=(4, 8, 16, 32)).having("classes", num_classes=2)
    box_head: Any = plan(config, discover(), Root).build("stage", flow).box_head
    assert box_head.shared.convs[0].conv.in_channels == 48
    assert box_head.shared.convs[0].conv.bias is None
    assert box_head.shared.fcs[0].in_features == 8 * 5 * 5
    assert (box_head.cls.out_features, box_head.box.out_features) == (3, deltas)
