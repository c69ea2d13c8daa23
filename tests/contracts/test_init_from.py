"""Real detectors that begin with the weights of others: what they know of a class they know in its new place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detcore.assemble import build, load
from detcore.heads.roi import as_rois
from detcore.initial import init_from
from detcore.structures import Batch
from torch import Tensor
from torch.testing import assert_close

OLD, NEW = ["a", "b", "c"], ["c", "x", "a", "y"]
BACKBONE = 'backbone = { type = "ResNet", depth = 18, width = 8 }'
PYRAMID = BACKBONE + '\nneck = { type = "FPN", out_channels = 16, num_outs = 5, start_level = 1, extra = "on_output" }'
DENSE = f"""
[model]
type = "OneStage"
{PYRAMID}
[model.head]
type = "ComposedHead"
"""
ANCHORS = """
geometry = { type = "Anchors", octave_base_scale = 4, scales_per_octave = 3 }
network = { type = "RetinaTowers", stacked_convs = 1, feat_channels = 16 }
assigner = { type = "MaxIoUAssigner", pos_iou = 0.5, neg_iou = 0.4 }
decoder = { type = "NMSDecoder" }
"""
BOX = 'loss_box = { type = "L1Loss" }'
MODELS = {
    "RetinaNet": f'{DENSE}{ANCHORS}loss = {{ type = "DenseBoxLoss", loss_cls = {{ type = "FocalLoss" }}, {BOX} }}',
    "RetinaNet with a softmax": (
        f'{DENSE}{ANCHORS}loss = {{ type = "DenseBoxLoss", loss_cls = {{ type = "CrossEntropyLoss" }}, {BOX} }}'
    ),
    "FCOS": f"""{DENSE}
geometry = {{ type = "Points" }}
network = {{ type = "FCOSTowers", channels = 16, stacked_convs = 1, norm = {{ type = "BN" }} }}
assigner = {{ type = "FCOSAssigner" }}
decoder = {{ type = "NMSDecoder", quality = "centerness" }}
[model.head.loss]
type = "FCOSLoss"
loss_cls = {{ type = "FocalLoss" }}
loss_box = {{ type = "GIoULoss" }}
loss_centerness = {{ type = "CrossEntropyLoss", use_sigmoid = true }}
""",
    "YOLOX": """
[model]
type = "OneStage"
backbone = { type = "CSPDarknet", deepen_factor = 0.33, widen_factor = 0.125 }
neck = { type = "YOLOXPAFPN", num_csp_blocks = 1 }
[model.head]
type = "ComposedHead"
geometry = { type = "PointsWH" }
network = { type = "YOLOXTowers" }
assigner = { type = "SimOTAAssigner" }
decoder = { type = "YOLOXDecoder" }
[model.head.loss]
type = "YOLOXLoss"
loss_cls = { type = "CrossEntropyLoss", use_sigmoid = true }
loss_box = { type = "IoULoss", mode = "square" }
loss_obj = { type = "CrossEntropyLoss", use_sigmoid = true }
""",
}
FASTER_RCNN = f"""
[model]
type = "TwoStage"
{BACKBONE}
neck = {{ type = "FPN", out_channels = 16, num_outs = 5, extra = "max_pool" }}
[model.rpn_head]
type = "ComposedHead"
geometry = {{ type = "Anchors", scales = [8] }}
network = {{ type = "RPNConv", feat_channels = 16 }}
assigner = {{ type = "MaxIoUAssigner", pos_iou = 0.7, neg_iou = 0.3 }}
decoder = {{ type = "RPNDecoder" }}
loss = {{ type = "DenseBoxLoss", loss_cls = {{ type = "CrossEntropyLoss", use_sigmoid = true }}, {BOX} }}
[model.roi_head]
type = "ComposedRoIHead"
decoder = {{ type = "RoINMSDecoder" }}
[[model.roi_head.stages]]
type = "RoIStage"
extractor = {{ type = "SingleLevelRoIExtractor", roi_size = 5 }}
box_head = {{ type = "Shared2FCBoxHead", fc_channels = 32 }}
coder = {{ type = "DeltaXYWHCoder" }}
assigner = {{ type = "MaxIoUAssigner", pos_iou = 0.5, neg_iou = 0.5 }}
loss_cls = {{ type = "CrossEntropyLoss" }}
{BOX}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("configs")


@pytest.fixture(autouse=True)
def _here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def trained(model: str) -> Any:
    """A model of the classes a, b and c without two equal weights, whose checkpoint is ``old.pt``."""
    Path("old.toml").write_text(f"classes = {OLD}\n{model}")
    parts = build(*load("old.toml"), "cpu")
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in parts.model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    torch.save({"model": parts.model.state_dict(), "meta": {"classes": OLD}}, "old.pt")
    return parts.model


def begun(model: str) -> Any:
    """A model of other classes that begins with ``old.pt``."""
    Path("new.toml").write_text(f'classes = {NEW}\ninit_from = "old.pt"\n{model}')
    config, catalog = load("new.toml")
    parts = build(config, catalog, "cpu")
    assert init_from(parts, config, catalog)[1:] == [
        "init_from old.pt: classes transferred: c, a",
        "init_from old.pt: new classes, fresh: x, y",
        "init_from old.pt: classes left behind: b",
    ]
    return parts.model.eval()


def batch() -> Batch:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    size = torch.full((2, 2), 64.0)
    return Batch(images=images, sizes=size, padded=size, scale=torch.ones(2, 2))


def require_same(old: Tensor, new: Tensor, first: int = 0) -> None:
    """(..., C) numbers of classes, background among them: those of a and c are equal, each in its place."""
    a, c = OLD.index("a") + first, OLD.index("c") + first
    assert_close(new[..., [NEW.index("c") + first, NEW.index("a") + first]], old[..., [c, a]])
    assert not torch.isclose(new[..., NEW.index("x") + first], old[..., OLD.index("b") + first]).all()


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
@torch.no_grad()
def test_a_dense_head(model: str) -> None:
    old, new = (
        detector.head(detector.neck(detector.backbone(batch().images)), batch())
        for detector in (trained(model).eval(), begun(model))
    )
    require_same(old.flat("cls"), new.flat("cls"))
    for name in old.raw.keys() - {"cls"}:
        assert_close(old.flat(name), new.flat(name))
    assert_close(old.flat("cls")[..., len(OLD) :], new.flat("cls")[..., len(NEW) :])  # background of a softmax


@torch.no_grad()
def test_a_second_stage_with_boxes_of_each_class() -> None:
    rois = as_rois([torch.tensor([[4.0, 4, 40, 30], [10, 20, 50, 60]])] * 2)
    found = []
    for detector in (trained(FASTER_RCNN).eval(), begun(FASTER_RCNN)):
        stage: Any = detector.roi_head.stages[0]
        logits, deltas = stage(detector.neck(detector.backbone(batch().images)), rois)
        found.append((logits, stage.boxes(rois, deltas)))
    (old, boxes), (new, new_boxes) = found
    require_same(old, new)
    assert_close(old[:, -1], new[:, -1])
    require_same(boxes.movedim(1, -1), new_boxes.movedim(1, -1))


def ssd(model: Any) -> list[Tensor]:
    features = [*model.model.backbone(batch().images).values()]
    return [model.model.head(features)["cls_logits"]]


def fasterrcnn(model: Any) -> list[Tensor]:
    hidden = torch.rand(3, 1024, generator=torch.Generator().manual_seed(0))
    logits, deltas = model.model.roi_heads.box_predictor(hidden)
    return [logits, deltas.unflatten(1, (-1, 4)).movedim(1, -1)]


def retinanet(model: Any) -> list[Tensor]:
    features = [torch.rand(1, 256, 4, 4, generator=torch.Generator().manual_seed(0))]
    return [model.model.head(features)["cls_logits"]]


TORCHVISION: dict[str, tuple[Callable[[Any], list[Tensor]], int]] = {
    "ssdlite320_mobilenet_v3_large": (ssd, 1),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (fasterrcnn, 1),
    "retinanet_resnet50_fpn": (retinanet, 0),
}


@pytest.mark.parametrize("name", TORCHVISION)
@torch.no_grad()
def test_a_detector_of_torchvision(name: str) -> None:
    outputs, first = TORCHVISION[name]
    model = f'[model]\ntype = "{name}"\n'
    for old, new in zip(outputs(trained(model).eval()), outputs(begun(model)), strict=True):
        require_same(old, new, first)
        assert_close(old[..., :first], new[..., :first])
