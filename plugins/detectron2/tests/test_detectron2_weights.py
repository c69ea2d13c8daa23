"""Which tensor of our recipes each tensor of Detectron2 is: all names both ways, and what its norms compute."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detcore import assemble, weights
from detcore.catalog import WEIGHT_SOURCE, Catalog, Component, Entry
from detcore.errors import CheckpointError, ConfigError
from detcore.loading import LoadReport
from detcore_detectron2.names import our_name
from detcore_detectron2.weights import MODELS, ZOO, load
from torch import Tensor, nn

CONFIGS = Path(__file__).parents[3] / "configs"
CATALOG = Catalog([Entry(Component(WEIGHT_SOURCE, "detectron2", "detcore_detectron2.weights:load"), "d", "1", "d/t")])
CLASSES = 80
Shapes = Iterator[tuple[str, tuple[int, ...]]]


# ------------------------------------------------------------------------------ Detectron2's names, as its files have them


def body_shapes(prefix: str) -> Shapes:
    """Of its ResNet-50."""
    yield f"{prefix}stem.conv1.weight", (64, 3, 7, 7)
    yield from norm_shapes(f"{prefix}stem.conv1.norm", 64)
    inner = 64
    for stage, blocks in zip((2, 3, 4, 5), (3, 4, 6, 3), strict=True):
        width = 2 ** (stage + 4)
        for block in range(blocks):
            at = f"{prefix}res{stage}.{block}"
            convs = [("conv1", inner, width, 1), ("conv2", width, width, 3), ("conv3", width, 4 * width, 1)]
            if block == 0:
                convs.append(("shortcut", inner, 4 * width, 1))
            for name, ins, outs, side in convs:
                yield f"{at}.{name}.weight", (outs, ins, side, side)
                yield from norm_shapes(f"{at}.{name}.norm", outs)
            inner = 4 * width


def norm_shapes(name: str, channels: int) -> Shapes:
    for each in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{each}", (channels,)


def layer_shapes(name: str, *shape: int, outs: int | None = None) -> Shapes:
    yield f"{name}.weight", shape
    yield f"{name}.bias", (outs or shape[0],)


def detector_shapes(masks: bool) -> Shapes:
    """Of its Faster and Mask R-CNN with ResNet-50 and FPN."""
    yield from body_shapes("backbone.bottom_up.")
    for level, channels in zip((2, 3, 4, 5), (256, 512, 1024, 2048), strict=True):
        yield from layer_shapes(f"backbone.fpn_lateral{level}", 256, channels, 1, 1)
        yield from layer_shapes(f"backbone.fpn_output{level}", 256, 256, 3, 3)
    rpn = "proposal_generator.rpn_head"
    yield from layer_shapes(f"{rpn}.conv", 256, 256, 3, 3)
    yield from layer_shapes(f"{rpn}.objectness_logits", 3, 256, 1, 1)
    yield from layer_shapes(f"{rpn}.anchor_deltas", 12, 256, 1, 1)
    yield from ((f"proposal_generator.anchor_generator.cell_anchors.{level}", (3, 4)) for level in range(5))
    yield from layer_shapes("roi_heads.box_head.fc1", 1024, 256 * 49)
    yield from layer_shapes("roi_heads.box_head.fc2", 1024, 1024)
    yield from layer_shapes("roi_heads.box_predictor.cls_score", CLASSES + 1, 1024)
    yield from layer_shapes("roi_heads.box_predictor.bbox_pred", 4 * CLASSES, 1024)
    if masks:
        for number in range(1, 5):
            yield from layer_shapes(f"roi_heads.mask_head.mask_fcn{number}", 256, 256, 3, 3)
        yield from layer_shapes("roi_heads.mask_head.deconv", 256, 256, 2, 2)
        yield from layer_shapes("roi_heads.mask_head.predictor", CLASSES, 256, 1, 1)
    yield from (("pixel_mean", (3, 1, 1)), ("pixel_std", (3, 1, 1)))


def arrays(shapes: Shapes) -> dict[str, Any]:
    """A number of its own for each tensor, with no memory to speak of."""
    return {name: np.broadcast_to(np.float32(number), shape) for number, (name, shape) in enumerate(shapes, start=1)}


@cache
def detector(recipe: str) -> nn.Module:
    """The recipe's, of COCO's number of classes."""
    names = ", ".join(f'"class{number}"' for number in range(CLASSES))
    config, catalog = assemble.load(str(CONFIGS / "detectron2" / recipe), [f"classes=[{names}]"])
    return assemble.build(config, catalog, "cpu", load_weights=False).model


def loaded(module: nn.Module, content: dict[str, Any], folder: Path) -> LoadReport:
    path = folder / "model_final.pkl"
    path.write_bytes(pickle.dumps(content))
    return weights.load(module, f"detectron2://{path}", "x.toml: model.weights", CATALOG)


RECIPES = {"faster_rcnn_R_50_FPN_1x.toml": False, "mask_rcnn_R_50_FPN_1x.toml": True}


@pytest.mark.parametrize(("recipe", "masks"), RECIPES.items())
def test_every_tensor_of_a_recipe_is_one_of_theirs_and_the_other_way_round(
    recipe: str, masks: bool, tmp_path: Path
) -> None:
    """No name is missing, none is left over, no two are one, and each has its numbers."""
    theirs = arrays(detector_shapes(masks))
    report = loaded(detector(recipe), {"model": theirs, "__author__": "Detectron2"}, tmp_path)
    assert report.complete, str(report)
    ours = detector(recipe).state_dict()
    numbers = {float(value.flatten()[0]) for name, value in ours.items() if "num_batches" not in name}
    constants = {name for name in theirs if name.startswith("pixel") or "anchor_generator" in name}
    assert numbers == {float(value.flat[0]) for name, value in theirs.items() if name not in constants}


@pytest.mark.parametrize("change", ["missing", "extra"])
def test_a_missing_or_an_extra_name_is_noticed(change: str, tmp_path: Path) -> None:
    """A deliberate fault, so that the test above is known to look."""
    theirs = arrays(detector_shapes(masks=False))
    if change == "missing":
        del theirs["backbone.fpn_output3.bias"]
    else:
        theirs["roi_heads.box_head.fc3.bias"] = np.zeros(1024)
    report = loaded(detector("faster_rcnn_R_50_FPN_1x.toml"), {"model": theirs}, tmp_path)
    assert [*report.missing] == (["neck.fpn_convs.1.conv.bias"] if change == "missing" else [])
    assert [*report.unexpected] == (["roi_heads.box_head.fc3.bias"] if change == "extra" else [])


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("backbone.fpn_output2.weight", "neck.fpn_convs.0.conv.weight"),
        ("backbone.fpn_output5.weight", "neck.fpn_convs.3.conv.weight"),
        ("backbone.fpn_output5.norm.weight", "neck.fpn_convs.3.norm.weight"),
        ("backbone.bottom_up.res4.5.conv2.norm.bias", "backbone.layer3.5.bn2.bias"),
        ("backbone.bottom_up.res2.0.shortcut.norm.running_var", "backbone.layer1.0.downsample.1.running_var"),
        ("res5.2.conv3.weight", "layer4.2.conv3.weight"),
        ("proposal_generator.rpn_head.conv.conv1.bias", "rpn_head.network.convs.1.conv.bias"),
        ("roi_heads.mask_head.mask_fcn4.weight", "roi_head.branches.mask.mask_head.convs.3.conv.weight"),
    ],
)
def test_tensors_of_one_shape_are_told_apart_by_name(theirs: str, ours: str) -> None:
    assert our_name(theirs) == ours


# ---------------------------------------------------------------------------------------------------------- backbones


def caffe2_names() -> Shapes:
    """Of Caffe2's ResNet-50: a norm is a scale (s) and a shift (b)."""
    yield from (("conv1_w", (64, 3, 7, 7)), ("conv1_b", (64,)), ("res_conv1_bn_s", (64,)), ("res_conv1_bn_b", (64,)))
    branches = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c", "shortcut": "branch1"}
    for name, shape in body_shapes(""):
        stage, block, conv, *rest = name.split(".")
        if stage == "stem" or rest[-1].startswith("running"):
            continue
        ending = "_w" if rest == ["weight"] else {"weight": "_bn_s", "bias": "_bn_b"}[rest[-1]]
        yield f"{stage}_{block}_{branches[conv]}{ending}", shape
    yield from (("pred_w", (1000, 2048)), ("pred_b", (1000,)), ("conv1_w_momentum", (64, 3, 7, 7)))


@pytest.mark.parametrize("key", ["blobs", None])
def test_caffe2s_norms_are_a_scale_and_a_shift(key: str | None, tmp_path: Path) -> None:
    theirs = arrays(caffe2_names())
    backbone = detector("faster_rcnn_R_50_FPN_1x.toml").get_submodule("backbone")
    report = loaded(backbone, {key: theirs} if key else theirs, tmp_path)
    assert report.complete, str(report)
    x = torch.linspace(-3, 3, 2 * 64 * 9).view(2, 64, 3, 3)
    scale, shift = (float(theirs[f"res_conv1_bn_{each}"].flat[0]) for each in "sb")
    norm = backbone.get_submodule("bn1").eval()
    torch.testing.assert_close(norm(x), scale * x + shift)


def test_a_backbone_under_detectron2s_names_goes_to_the_backbone(tmp_path: Path) -> None:
    theirs = arrays(body_shapes("")) | {"stem.fc.weight": np.zeros((1000, 2048)), "fc.bias": np.zeros(1000)}
    backbone = detector("faster_rcnn_R_50_FPN_1x.toml").get_submodule("backbone")
    assert loaded(backbone, {"model": theirs}, tmp_path).complete


def test_a_checkpoint_of_torch_has_the_same_names(tmp_path: Path) -> None:
    torch.save({"model": {"res2.0.conv1.weight": torch.ones(1)}, "iteration": 3}, tmp_path / "model_final.pth")
    found: dict[str, Tensor] = dict(load(str(tmp_path / "model_final.pth")))
    assert found == {"layer1.0.conv1.weight": torch.ones(1)}


# ----------------------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize("name", [*MODELS, "ImageNetPretrained/MSRA/R-50.pkl"])
def test_what_is_fetched_is_the_zoos_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(address: str, path: str, *rest: Any, **options: Any) -> None:
        asked.append(address)
        Path(path).write_bytes(pickle.dumps({"model": {"res2.0.conv1.weight": np.ones(1, np.float32)}}))

    monkeypatch.setattr(weights, "cache_folder", lambda name: tmp_path / name)
    monkeypatch.setattr(weights, "download_url_to_file", fetch)
    assert [*load(name)] == ["layer1.0.conv1.weight"]
    assert asked == [f"{ZOO}{name}/{MODELS[name]}" if name in MODELS else f"{ZOO}{name}"]


def test_what_cannot_be_fetched_says_where_it_would_be_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*rest: Any, **options: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(weights, "cache_folder", lambda name: tmp_path / name)
    monkeypatch.setattr(weights, "download_url_to_file", fetch)
    with pytest.raises(CheckpointError, match=r"R-50\.pkl cannot be fetched: .*no network\. Put it at .*R-50\.pkl\."):
        load("ImageNetPretrained/MSRA/R-50.pkl")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("/gone/model.pkl", r"^detectron2:///gone/model\.pkl: /gone/model\.pkl does not exist"),
        ("./model.pth", r"model\.pth does not exist"),
        ("COCO-Detection/faster_rcnn_R_50_FPN_2x", r'"COCO-Detection/faster_rcnn_R_50_FPN_2x"\. Did you mean'),
        ("nothing", r'neither a file nor a model of the zoo: "nothing"\. It knows: COCO-Detection/.*path of a \.pkl\.'),
    ],
)
def test_an_address_that_is_none_is_said(address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(address)
