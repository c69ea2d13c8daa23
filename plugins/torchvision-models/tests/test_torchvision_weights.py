"""Weights of torchvision's detectors under the names of our recipes: every address, old files, which rows are whose."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from detcore import weights
from detcore.catalog import WEIGHT_SOURCE, Catalog, Component, Entry
from detcore.errors import CheckpointError, ConfigError
from detcore.loading import classes_in, weights_in
from detcore_torchvision_models.names import LAYOUTS, our_state
from detcore_torchvision_models.weights import download
from torch import Tensor
from torchvision.models._api import WeightsEnum

MASKS = "maskrcnn_resnet50_fpn"
STAGE = "roi_head.stages.0.box_head."
SOURCE = "detcore_torchvision_models.weights:download"
CATALOG = Catalog([Entry(Component(WEIGHT_SOURCE, "torchvision", SOURCE), "d", "1", "d/t")])
CATEGORIES = torchvision.models.get_weight("MaskRCNN_ResNet50_FPN_Weights.COCO_V1").meta["categories"]
KEPT = [entry for entry, name in enumerate(CATEGORIES) if name not in ("__background__", "N/A")]


@cache
def state_of(name: str, classes: int = 91) -> dict[str, Tensor]:
    """Every tensor holds the numbers of its rows."""
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=classes)
    return {each: numbered(value) for each, value in model.state_dict().items()}


def numbered(like: Tensor) -> Tensor:
    rows = torch.arange(max(like.shape[:1], default=0)).view(-1, *[1] * (like.dim() - 1))
    return rows.expand(like.shape).to(like.dtype) if like.dim() else torch.zeros((), dtype=like.dtype)


@pytest.fixture
def coco(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_state_dict(given: Any, **options: Any) -> dict[str, Tensor]:
        assert options == {"progress": False, "check_hash": True}
        return dict(state_of(str(given).partition("_Weights")[0].lower()))

    monkeypatch.setattr(WeightsEnum, "get_state_dict", get_state_dict)


def fetched(address: str) -> dict[str, Any]:
    return dict(weights.fetch(weights.Source(f"torchvision://{address}"), "x.toml: model.weights", CATALOG))


@pytest.mark.usefixtures("coco")
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_address_of_a_detector_gives_its_recipes_names_and_cocos_classes(name: str) -> None:
    first, *others = (fetched(address) for address in (name, f"{name}/COCO_V1", f"{name}_coco"))
    assert classes_in(first) == [CATEGORIES[entry] for entry in KEPT]
    assert len(KEPT) == 80
    tensors = weights_in(first, "")
    assert {each.partition(".")[0] for each in tensors} <= {"backbone", "neck", "head", "rpn_head", "roi_head"}
    for other in others:
        assert weights_in(other, "").keys() == tensors.keys()
        assert classes_in(other) == classes_in(first)


@pytest.mark.usefixtures("coco")
def test_background_comes_last_and_boxes_and_masks_have_none() -> None:
    tensors = weights_in(fetched(MASKS), "")
    assert tensors[f"{STAGE}cls.bias"].tolist() == [*KEPT, 0]
    assert tensors[f"{STAGE}cls.weight"][:, 7].tolist() == [*KEPT, 0]
    assert tensors[f"{STAGE}box.bias"].tolist() == [4 * entry + side for entry in KEPT for side in range(4)]
    assert tensors["roi_head.branches.mask.mask_head.logits.weight"][:, 3, 0, 0].tolist() == KEPT
    assert tensors[f"{STAGE}shared.1.weight"].shape == (1024, 256 * 49)


@pytest.mark.usefixtures("coco")
def test_a_dense_heads_entries_stand_together_prior_by_prior() -> None:
    bias = weights_in(fetched("retinanet_resnet50_fpn"), "")["head.network.cls.bias"]
    assert bias.tolist() == [91 * prior + entry for prior in range(9) for entry in KEPT]
    tensors = weights_in(fetched("fcos_resnet50_fpn"), "")
    assert tensors["head.network.conv_cls.bias"].tolist() == KEPT
    assert [tensors[f"head.network.scales.{level}"].item() for level in range(5)] == [1.0] * 5


def old(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As files were written when torchvision's layers had no blocks of convolution and norm."""
    rules = [
        (r"(inner_blocks|layer_blocks)\.(\d)\.0\.", r"\1.\2."),
        (r"rpn\.head\.conv\.0\.0\.", "rpn.head.conv."),
    ]
    if name == MASKS:
        rules += [(rf"mask_head\.{index}\.0\.", f"mask_head.mask_fcn{index + 1}.") for index in range(4)]
    if name == "retinanet_resnet50_fpn":
        rules += [(rf"_head\.conv\.{index}\.0\.", f"_head.conv.{2 * index}.") for index in reversed(range(4))]

    def name_of(key: str) -> str:
        first = next((rule for rule in rules if re.search(rule[0], key)), ("$^", ""))
        return re.sub(*first, key)

    return {name_of(key): value for key, value in state.items() if not key.endswith("tracked")}  # frozen: not counted


@pytest.mark.parametrize("name", [MASKS, "retinanet_resnet50_fpn"])
def test_files_of_old_names_give_the_same(name: str) -> None:
    state = state_of(name)
    before = old(name, state)
    assert len(before.keys() - state.keys()) >= 10
    ours, theirs = our_state(name, before, ""), our_state(name, state, "")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[each], theirs[each]) for each in ours)


def test_a_file_of_ones_own_keeps_all_its_classes(tmp_path: Path) -> None:
    torch.save({"model": state_of("fasterrcnn_resnet50_fpn", 4), "epoch": 3}, tmp_path / "mine.pth")
    tensors = fetched(f"fasterrcnn_resnet50_fpn/{tmp_path}/mine.pth")
    assert tensors[f"{STAGE}cls.bias"].tolist() == [1, 2, 3, 0]
    assert tensors[f"{STAGE}box.bias"].tolist() == list(range(4, 16))


def test_what_is_no_such_model_is_said(tmp_path: Path) -> None:
    torch.save(state_of("fasterrcnn_resnet50_fpn", 4), tmp_path / "mine.pth")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    for model, file, why in (
        (MASKS, "mine.pth", "RuntimeError: .*Missing key"),
        ("fcos_resnet50_fpn", "other.pth", "LookupError: it has no logits of classes"),
    ):
        address = f"{model}/{tmp_path}/{file}"
        message = f"^{re.escape(f'torchvision://{address}')}: is not a state dict of {model}: {why}"
        with pytest.raises(CheckpointError, match=message):
            download(address)
    with pytest.raises(CheckpointError, match=r"gone\.pth: does not exist$"):
        download(f"{MASKS}/{tmp_path}/gone.pth")
    with pytest.raises(ConfigError, match=r'has no weights "COCO_V2"\. It has: COCO_V1\.$'):
        download(f"{MASKS}/COCO_V2")
    with pytest.raises(ConfigError, match='torchvision has no model "maskrcnn_coco"'):
        download("maskrcnn_coco")


def test_without_network_it_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    with pytest.raises(CheckpointError) as caught:
        fetched("fasterrcnn_resnet50_fpn_coco")
    file = "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"
    assert str(caught.value) == (
        "x.toml: model.weights: torchvision://fasterrcnn_resnet50_fpn_coco: "
        f"https://download.pytorch.org/models/{file} cannot be downloaded: OSError: no network. "
        f"Put it at {tmp_path}/checkpoints/{file}."
    )
    torch.save(state_of("fasterrcnn_resnet50_fpn"), tmp_path / "checkpoints" / file)
    assert classes_in(fetched("fasterrcnn_resnet50_fpn_coco")) is not None
