"""Fast R-CNN: regions that come with the data take the place of an RPN's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from detcore.build import plan
from detcore.config import load
from detcore.errors import DataError
from detcore.interfaces import Detector, Flow
from detcore.plugins import discover
from detcore.structures import Batch, Detections, Targets, total_loss
from detcore_mmdet import translate
from detcore_roi.given import GivenProposals

CONFIGS = Path(__file__).parents[3] / "configs"
NARROW = """
[model]
backbone = { depth = 18, width = 8, weights = { _delete_ = true } }
neck = { out_channels = 16 }
roi_head = { decoder = { score_threshold = 0.0 }, stages = { 0 = { sampler = { num = 1000 } } } }
"""


@attrs.frozen(eq=False)
class Root:
    model: Detector


def built(folder: Path, more: str = "") -> Any:
    """The recipe's model, narrow, always with the same weights where they are called the same."""
    base = (CONFIGS / "_base_" / "models" / "faster_rcnn_r50_fpn.toml").as_posix()
    (folder / "a.toml").write_text(f'_base_ = "{base}"\n{NARROW}{more}')
    config = load(str(folder / "a.toml"), resolve_dist=lambda dist, path: Path(path))
    return plan(config, discover(), Root).build("model", Flow().having("classes", num_classes=3))


def batch(proposals: list[Detections] | None = None) -> Batch:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[[4.0, 4, 60, 50], [40, 40, 100, 120]], [[10, 20, 90, 60], [50, 5, 120, 70]]])
    valid = torch.ones(2, 2, dtype=torch.bool)
    size = torch.full((2, 2), 128.0)
    targets = Targets(boxes, torch.tensor([[0, 1], [2, 0]]), valid, ~valid)
    images = torch.randn(2, 3, 128, 128, generator=generator)
    return Batch(images, size, size, torch.ones_like(size), [0, 1], targets, proposals=proposals)


def test_with_an_rpns_regions_it_is_faster_r_cnn(tmp_path: Path) -> None:
    faster = built(tmp_path)
    fast = built(tmp_path, 'rpn_head = { _delete_ = true, type = "GivenProposals" }\n')
    state = {key: value for key, value in faster.state_dict().items() if not key.startswith("rpn_head")}
    fast.load_state_dict(state)
    features = faster.neck(faster.backbone(batch().images))
    predictions = faster.rpn_head(features, batch())
    train, test = (faster.rpn_head.detections(predictions, batch(), train=each) for each in (True, False))
    losses, wanted = fast.losses(batch(train)), faster.losses(batch())
    assert losses.keys() == {key for key in wanted if not key.startswith("rpn_")}
    torch.testing.assert_close(losses, {key: wanted[key] for key in losses})
    total_loss(losses).backward()
    assert all(each.grad is not None for each in fast.parameters() if each.requires_grad)
    for found, its in zip(fast.eval().detections(batch(test)), faster.eval().detections(batch()), strict=True):
        assert len(found) == len(its) > 5
        torch.testing.assert_close((found.boxes, found.scores), (its.boxes, its.scores))


def test_regions_are_clipped_and_the_first_are_taken() -> None:
    boxes = torch.tensor([[-5.0, 3, 200, 40], [1, 2, 3, 4], [0, 0, 9, 9]])
    given = Detections(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.int64))
    none = given.each(lambda rows: rows[:0])
    found = GivenProposals(max_proposals=2).detections(None, batch([given, none]))
    assert found[0].boxes.tolist() == [[0, 3, 128, 40], [1, 2, 3, 4]]
    assert [len(each) for each in found] == [2, 0]


def test_data_without_regions_is_named() -> None:
    with pytest.raises(DataError) as error:
        GivenProposals().detections(None, batch())
    assert str(error.value) == (
        "GivenProposals: the data has no proposals. Give the dataset some: ProposalsDataset reads them from a file."
    )


def test_mmdetections_fast_r_cnn_is_translated() -> None:
    """The model of its Fast R-CNN has a second stage and no first."""
    extractor = {"type": "SingleRoIExtractor", "out_channels": 256, "featmap_strides": [4, 8, 16, 32]}
    layer = {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 0}
    head = {
        "type": "StandardRoIHead",
        "bbox_roi_extractor": {**extractor, "roi_layer": layer},
        "bbox_head": {"type": "Shared2FCBBoxHead", "num_classes": 80},
    }
    rcnn = {
        "assigner": {"type": "MaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.5, "match_low_quality": False},
        "sampler": {"type": "RandomSampler", "num": 512, "pos_fraction": 0.25},
    }
    test = {"score_thr": 0.05, "nms": {"type": "nms", "iou_threshold": 0.5}, "max_per_img": 100}
    backbone = {"type": "ResNet", "depth": 50, "num_stages": 4, "out_indices": [0, 1, 2, 3]}
    found = translate(
        {
            "type": "FastRCNN",
            "backbone": backbone,
            "neck": {"type": "FPN", "in_channels": [256, 512, 1024, 2048], "out_channels": 256, "num_outs": 5},
            "roi_head": head,
            "train_cfg": {"rcnn": rcnn},
            "test_cfg": {"rcnn": test},
        }
    )
    assert found.lost == []
    assert found.model["type"] == "TwoStage"
    assert found.model["rpn_head"] == {"type": "GivenProposals"}
    assert found.model["roi_head"]["type"] == "ComposedRoIHead"
