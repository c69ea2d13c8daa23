"""torchvision's detectors in our parts: the recipes of configs/torchvision detect what torchvision's own models detect.

The weights are random, so scaled that there are detections, and come in the way that real ones would: torchvision's
function loads them as its own of COCO, and the recipe through its key ``weights``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from detcore import assemble
from detcore.interfaces import Detector
from detcore.structures import Batch, Detections
from detcore_torchvision_models.detector import PadOnly
from torch import Tensor, nn
from torchvision.models._api import WeightsEnum

CONFIGS = Path(__file__).parents[2] / "configs" / "torchvision"
CATEGORIES = torchvision.models.get_weight("FasterRCNN_ResNet50_FPN_Weights.COCO_V1").meta["categories"]
CLASSES = [name for name in CATEGORIES if name not in ("__background__", "N/A")]
UNUSED = [entry for entry, name in enumerate(CATEGORIES) if name == "N/A"]

TWO_STAGES = [path.stem for path in sorted(CONFIGS.glob("*rcnn*.toml"))]
ONE_STAGE = [path.stem for path in sorted(CONFIGS.glob("*.toml")) if "rcnn" not in path.stem]

HEIGHT, WIDTH = 96, 160
"""Neither is a multiple of 64: anchors of torchvision's last levels are nearer to each other than a stride."""
PROPOSALS = 60
"""So many, so that the test takes seconds."""

SPREAD = {
    "rpn.head.cls_logits": 1.0,
    "rpn.head.bbox_pred": 0.3,
    "roi_heads.box_predictor.cls_score": 1.5,
    "roi_heads.box_predictor.bbox_pred": 1.0,
    "roi_heads.mask_predictor.mask_fcn_logits": 0.25,
    "head.classification_head.cls_logits": 1.0,
    "head.regression_head.bbox_reg": 0.5,
    "head.regression_head.bbox_ctrness": 1.0,
}
"""Standard deviation of what a layer says."""
LOGITS = {"roi_heads.box_predictor.cls_score", "head.classification_head.cls_logits"}


def images() -> Tensor:
    return torch.randn(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))


def theirs(name: str, **options: Any) -> Any:
    """torchvision's model in eval mode, without its transform."""
    if name in TWO_STAGES:
        options["rpn_post_nms_top_n_test"] = PROPOSALS
    model = torchvision.models.get_model(name, **options)
    model.transform = PadOnly(32)
    return model.eval()


@torch.no_grad()
def random_state(name: str) -> dict[str, Tensor]:
    """Of 91 entries, of which those that are no category never win."""
    torch.manual_seed(0)
    model = theirs(name, weights=None, weights_backbone=None)
    for path, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.5, 1.5).mul_(0.3 if path.endswith("bn3") else 1.0)
            nn.init.normal_(module.bias, std=0.1)
    model.backbone.train()(images())
    layers = {path: module for path, module in model.named_modules() if path in SPREAD}
    for path, module in layers.items():
        module.register_forward_hook(spreading(SPREAD[path]))
    model.eval()(list(images()))
    for path in LOGITS & {*layers}:
        never(layers[path], UNUSED if name in TWO_STAGES else [0, *UNUSED])
    return model.state_dict()


def never(layer: Any, entries: list[int]) -> None:
    """Gives these of the 91 entries of each prior a logit that never wins."""
    priors = len(layer.bias) // 91
    layer.weight.unflatten(0, (priors, 91))[:, entries] = 0
    layer.bias.unflatten(0, (priors, 91))[:, entries] = -50


def spreading(wanted: float) -> Any:
    """A hook that scales a layer's weights once, so that what it says in a channel spreads so much about its bias."""
    done = []

    def hook(layer: Any, given: Any, said: Tensor) -> Tensor | None:
        if done:
            return None
        done.append(True)
        others = [dim for dim in range(said.dim()) if dim != 1]
        mean, bias = said.mean(others), layer.bias.clone()
        factor = wanted / (said - said.mean(others, keepdim=True)).std()
        layer.weight.mul_(factor)
        layer.bias.sub_(mean).mul_(factor).add_(bias)
        return layer.forward(*given)

    return hook


def ours(name: str) -> Detector:
    """The recipe's detector, with the weights that it names."""
    sets = ["channels_last=false"]  # sums in torchvision's order
    if name in TWO_STAGES:
        sets.append(f"model.rpn_head.decoder.max_proposals={PROPOSALS}")
    parts = assemble.build(*assemble.load(str(CONFIGS / f"{name}.toml"), sets=sets), "cpu", known=CLASSES)
    return parts.model.eval()


@pytest.mark.parametrize("name", [*TWO_STAGES, *ONE_STAGE])
def test_detections_are_torchvisions(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    state = random_state(name)
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda weights, **_: dict(state))
    detector = ours(name)
    assert "(100.0 % of the parameters)\n" in capsys.readouterr().out  # nothing is missing, unexpected or mismatched
    size = torch.tensor([[HEIGHT, WIDTH]]).float()
    with torch.no_grad():
        (expected,) = theirs(name, weights="COCO_V1")(list(images()))
        (found,) = detector.detections(Batch(images(), size, size, torch.ones(1, 2)))
    assert len(found.labels.unique()) > 10
    check_same(found, expected)


def check_same(found: Detections, expected: Mapping[str, Tensor]) -> None:
    """Each has a partner: the next best score may be within the tolerance."""
    assert len(found) == len(expected["scores"]) >= 50
    labels = torch.tensor([CATEGORIES.index(CLASSES[label]) for label in found.labels])
    alike = (found.scores[:, None] - expected["scores"]).abs() < 1e-4
    alike &= (found.boxes[:, None] - expected["boxes"]).abs().amax(-1) < 1e-4 * WIDTH
    alike &= labels[:, None] == expected["labels"]
    assert (alike.any(0) & alike.any(1)).all()
    if found.masks is not None:
        partner = alike.int().argmax(1)
        torch.testing.assert_close(found.masks, expected["masks"][partner, 0], rtol=0, atol=1e-4)
