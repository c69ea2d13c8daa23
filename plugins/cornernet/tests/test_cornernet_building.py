"""CornerHead from TOML: flowing values, a section, and a kind that this plugin opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from detcore import components
from detcore.build import plan
from detcore.catalog import Catalog, Entry
from detcore.config import load
from detcore.errors import UserError
from detcore.interfaces import DenseHead, Flow
from detcore_cornernet import plugin
from detcore_cornernet.cornernet import CornerHead, Pairing

HEAD = """
[head]
type = "CornerHead"
loss_heatmap = {type = "GaussianFocalLoss", gamma = 3.0}
loss_embedding = {type = "AssociativeEmbeddingLoss", pull_weight = 0.1}
loss_offset = {type = "GaussianFocalLoss"}
norm = {type = "GN", num_groups = 4}
pairing = {corner_topk = 20}
"""


@attrs.frozen(eq=False)
class Root:
    head: DenseHead


@pytest.fixture
def built(tmp_path: Path) -> Any:
    own = [Entry(record, "detcore", "0", "detcore/core") for record in components.detcore_components()]
    ours = [Entry(record, "detcore-cornernet", "0", "detcore-cornernet/x") for record in plugin.detcore_components()]

    def build(text: str) -> Any:
        (tmp_path / "a.toml").write_text(text)
        config = load(str(tmp_path / "a.toml"), resolve_dist=lambda dist, path: Path(path))
        return plan(config, Catalog([*own, *ours]), Root).build("head", Flow(channels=(8, 16), num_classes=5))

    return build


def test_a_stack_per_flowing_map_and_everything_else_from_the_config(built: Any) -> None:
    head = built(HEAD)
    assert isinstance(head, CornerHead)
    assert [branch.heat[0].conv.in_channels for branch in head.top_left] == [8, 16]
    assert head.top_left[0].heat[1].out_channels == 5
    assert head.bottom_right[1].pooling.out.norm.num_groups == 4
    assert (head.loss_heatmap.gamma, head.loss_embedding.pull_weight) == (3.0, 0.1)
    assert head.pairing == Pairing(corner_topk=20)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"AssociativeEmbeddingLoss", pull_weight = 0.1',
            '"GaussianFocalLoss"',
            "is a loss .*, wanted: embedding_loss",
        ),
        ("corner_topk = 20", "corner_top = 20", r'head\.pairing\.corner_top: .* Did you mean "corner_topk"'),
        ("corner_topk = 20", "local_maximum_kernel = 2", r"head\.pairing: .*local_maximum_kernel = 2\. It is odd"),
    ],
)
def test_mistakes_are_named_by_address(built: Any, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        built(HEAD.replace(old, new))
