"""The README's config is a YOLOX-S whose parts get their channels, strides and classes from each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from detcore import components
from detcore.build import plan
from detcore.catalog import Catalog, Entry
from detcore.config import load
from detcore.errors import UserError
from detcore.interfaces import Detector, Flow
from detcore.structures import Batch, Targets, total_loss
from detcore_csp_darknet import plugin as csp_darknet
from detcore_losses import plugin as losses
from detcore_yolox import plugin as yolox

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@attrs.frozen(eq=False)
class Root:
    model: Detector


@pytest.fixture
def config() -> str:
    found = re.search(r"```toml\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def built(tmp_path: Path) -> Any:
    plugins = {
        "detcore": components,
        "detcore-csp-darknet": csp_darknet,
        "detcore-losses": losses,
        "detcore-yolox": yolox,
    }
    entries = [Entry(record, name, "0", name) for name, each in plugins.items() for record in each.detcore_components()]

    def build(text: str) -> Any:
        (tmp_path / "a.toml").write_text(text)
        config = load(str(tmp_path / "a.toml"), resolve_dist=lambda dist, path: Path(path))
        return plan(config, Catalog(entries), Root).build("model", Flow(num_classes=5))

    return build


def test_channels_strides_and_classes_flow(built: Any, config: str) -> None:
    model = built(config)
    assert model.backbone.out_channels == (128, 256, 512)
    assert (model.neck.out_channels, model.neck.strides) == ((128,) * 3, (8, 16, 32))
    assert [conv.out_channels for conv in model.head.network.conv_cls] == [5, 5, 5]
    assert model.head.geometry.points.strides == (8, 16, 32)
    norms = [each for each in model.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    assert {(each.eps, each.momentum) for each in norms} == {(1e-3, 0.03)}


def test_a_crowd_an_object_and_an_empty_image_train_together(built: Any, config: str) -> None:
    model = built(config.replace("0.5}", "0.125}"))
    boxes = torch.tensor([[[8.0, 8, 40, 40], [0, 0, 60, 60]], [[0.0] * 4] * 2])
    valid = torch.tensor([[True, False], [False, False]])
    crowd = torch.tensor([[False, True], [False, False]])
    targets = Targets(boxes, torch.zeros(2, 2, dtype=torch.int64), valid, crowd)
    sizes = torch.full((2, 2), 64.0)
    batch = Batch(torch.rand(2, 3, 64, 64) * 255, sizes, sizes, torch.ones(2, 2), targets=targets, progress=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.losses(batch)
    assert set(found) == {"loss_cls", "loss_box", "loss_obj", "loss_l1"}
    total_loss(found).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert len(model.eval().detections(batch)) == 2


def test_another_act_and_norm_by_name(built: Any, config: str) -> None:
    text = config.replace("num_csp_blocks = 1", 'num_csp_blocks = 2, act = {type = "ReLU"}, norm = {type = "GN"}')
    kinds = {type(each) for each in built(text).neck.modules()}
    assert {torch.nn.ReLU, torch.nn.GroupNorm} <= kinds
    assert torch.nn.SiLU not in kinds


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("loss_l1 = {", "loss_li = {", r'model\.head\.loss\.loss_li: .*Did you mean "loss_l1"'),
        ("deepen_factor", "deepenfactor", r'model\.backbone\.deepenfactor: .*Did you mean "deepen_factor"'),
        ("use_sigmoid = true", "use_sigmoid = false", r"model\.head\.loss.*a softmax"),
    ],
)
def test_mistakes_are_named_by_address(built: Any, config: str, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        built(config.replace(old, new))
