"""Two processes train real detectors as one does with the whole batch, also where one of them sees no object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from core.runner.server import Server, server
from detcore.loading import read

ROOT = Path(__file__).parents[2]
SPARSE = '''
from detcore import Component, hookimpl
from detcore_shapes.shapes import ShapesDataset


@hookimpl
def detcore_components():
    return [Component("dataset", "SparseShapes", f"{__name__}:SparseShapes")]


class SparseShapes(ShapesDataset):
    """Three of four images have no object."""

    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        rows = slice(None if index % 4 == 0 else 0)
        counts = {"polygons": 0, "offsets": 1, "owner": 0} if index % 4 and self.polygons else {}
        some = {name: target[name][rows] for name in ("boxes", "labels", "area", "iscrowd")}
        return image, {**target, **some, **{name: target[name][:count] for name, count in counts.items()}}
'''
FCOS = f"""
_base_ = "{(ROOT / "configs" / "quickstart.toml").as_posix()}"
[plugins]
local = ["sparse.py"]
[model.backbone]
width = 8
norm = {{ type = "GN", num_groups = 4 }}
[model.neck]
out_channels = 16
[model.head.network]
channels = 16
stacked_convs = 1
norm = {{ type = "GN", num_groups = 4 }}
[train]
epochs = {{ _delete_ = true }}
steps = 10
batch_size = 4
report_every = 1
[train.dataset]
_delete_ = true
type = "SparseShapes"
length = 24
size = [64, 96]
smallest = 16
[val.dataset]
length = 5
size = [64, 96]
[val]
batch_size = 2
[optimizer]
_delete_ = true
type = "SGD"
lr = 0.01
momentum = 0.9
"""
RETINANET = (
    FCOS.replace('norm = { type = "GN", num_groups = 4 }\n[model.neck]', "norm_eval = true\n[model.neck]").partition(
        "[model.head.network]"
    )[0]
    + """
[model.head]
_delete_ = true
type = "ComposedHead"
geometry = { type = "Anchors", octave_base_scale = 4, scales_per_octave = 3, ratios = [0.5, 1.0, 2.0] }
network = { type = "RetinaTowers", feat_channels = 16, stacked_convs = 1 }
assigner = { type = "MaxIoUAssigner", pos_iou = 0.5, neg_iou = 0.4, min_pos_iou = 0.0 }
decoder = { type = "NMSDecoder", score_threshold = 0.01, nms_iou = 0.5, nms_pre = 300, max_detections = 100 }
[model.head.loss]
type = "DenseBoxLoss"
loss_cls = { type = "FocalLoss" }
loss_box = { type = "L1Loss" }
[train]
"""
    + FCOS.partition("[train]\n")[2]
)
MASK_RCNN = (
    RETINANET.partition("[model.head]")[0]
    + """
[model]
type = "TwoStage"
head = { _delete_ = true }

[model.rpn_head]
type = "ComposedHead"
geometry = { type = "Anchors", scales = [4] }
network = { type = "RPNConv", feat_channels = 16 }
assigner = { type = "MaxIoUAssigner", pos_iou = 0.7, neg_iou = 0.3, min_pos_iou = 0.3 }
decoder = { type = "RPNDecoder", nms_pre = 100, max_proposals = 30 }

[model.rpn_head.loss]
type = "DenseBoxLoss"
loss_cls = { type = "FocalLoss" }
loss_box = { type = "L1Loss" }

[model.roi_head]
type = "ComposedRoIHead"
decoder = { type = "RoINMSDecoder", score_threshold = 0.05 }

[[model.roi_head.stages]]
type = "RoIStage"
extractor = { type = "SingleLevelRoIExtractor", roi_size = 5 }
box_head = { type = "Shared2FCBoxHead", fc_channels = 32 }
coder = { type = "DeltaXYWHCoder", stds = [0.1, 0.1, 0.2, 0.2] }
assigner = { type = "MaxIoUAssigner", pos_iou = 0.5, neg_iou = 0.5, match_low_quality = false }
loss_cls = { type = "CrossEntropyLoss" }
loss_box = { type = "L1Loss" }

[model.roi_head.branches.mask]
type = "MaskBranch"
extractor = { type = "SingleLevelRoIExtractor", roi_size = 7 }
mask_head = { type = "FCNMaskHead", conv_channels = 8 }
loss_mask = { type = "CrossEntropyLoss", use_sigmoid = true }
[train]
"""
    + FCOS.partition("[train]\n")[2].replace("size = [64, 96]\nsmallest", "size = [64, 96]\npolygons = true\nsmallest")
)
"""Without samplers, which would draw other regions in each process."""


@pytest.fixture(
    scope="module",
    params=[FCOS, RETINANET, MASK_RCNN],
    ids=["FCOS with group norm", "RetinaNet with frozen norms", "Mask R-CNN without samplers"],
)
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """The folders of a run by one process, and by two."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "sparse.py").write_text(SPARSE)
    (folder / "sparse.toml").write_text(request.param)
    config = str(folder / "sparse.toml")
    with server(config) as serve:
        yield [trained(serve, config, folder, ranks) for ranks in (1, 2)]


def trained(serve: Server, config: str, folder: Path, ranks: int) -> Path:
    log, runs = folder / f"log-{ranks}", folder / f"run-{ranks}"
    options = ("--work-dir", str(runs), "--device", "cpu")
    assert serve.ranks(ranks, config, *options, log=log) == [0] * ranks, log.read_text()
    return runs


def rows(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


def test_losses_gradients_and_weights_are_the_same(folders: list[Path]) -> None:
    one, two = (rows(folder, "train") for folder in folders)
    assert len(one) == 10
    for name in {name for name in one[0] if "loss" in name}:
        assert [row[name] for row in two] == pytest.approx([row[name] for row in one], rel=1e-6, abs=1e-5), name
    left, right = (read(folder / "checkpoints" / "last.pt")["model"] for folder in folders)
    assert max((left[name] - right[name]).abs().max() for name in left if left[name].is_floating_point()) < 1e-5


def test_scores_are_the_same(folders: list[Path]) -> None:
    one, two = (rows(folder, "validation") for folder in folders)
    names = one[-1].keys() - {"seconds"}
    assert {name: two[-1][name] for name in names} == pytest.approx({name: one[-1][name] for name in names}, abs=1e-5)
