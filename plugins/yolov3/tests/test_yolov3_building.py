"""The README's config is a YOLOv3 whose parts get their channels, strides and classes from each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import pytest
from detcore import components
from detcore.build import plan
from detcore.catalog import Catalog, Entry
from detcore.config import load
from detcore.errors import UserError
from detcore.interfaces import Detector, Flow
from detcore_darknet import plugin as darknet
from detcore_losses import plugin as losses
from detcore_yolov3 import plugin as yolov3

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
        "detcore-darknet": darknet,
        "detcore-losses": losses,
        "detcore-yolov3": yolov3,
    }
    entries = [Entry(record, name, "0", name) for name, each in plugins.items() for record in each.detcore_components()]

    def build(text: str) -> Any:
        (tmp_path / "a.toml").write_text(text)
        config = load(str(tmp_path / "a.toml"), resolve_dist=lambda dist, path: Path(path))
        return plan(config, Catalog(entries), Root).build("model", Flow(num_classes=5))

    return build


def test_channels_strides_classes_and_anchors_flow(built: Any, config: str) -> None:
    model = built(config)
    assert model.backbone.out_channels == (256, 512, 1024)
    assert (model.neck.out_channels, model.neck.strides) == ((128, 256, 512), (8, 16, 32))
    assert [layer.out_channels for layer in model.head.network.predict] == [3 * (4 + 1 + 5)] * 3
    assert model.head.geometry.sizes[2, 2].tolist() == [373, 326]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("loss_conf = {", "loss_cnof = {", r'model\.head\.loss\.loss_cnof: .*Did you mean "loss_conf"'),
        ("[[10, 13], ", "[", r"model\.head\.geometry: .*base_sizes: \[2, 3, 3\] for 3 maps"),
    ],
)
def test_mistakes_are_named_by_address(built: Any, config: str, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        built(config.replace(old, new))
