"""Backbones and necks, translated, against the reference's pyramids."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import torch
from detcore import assemble
from detcore.build import plan
from detcore.config.dump import spell
from detcore.interfaces import Backbone, Flow, Neck
from detcore_mmdet import Translated, translate
from parity import golden
from torch import nn

CASES = (
    "fcos_r50_caffe_gn",
    "retinanet_r50",
    "faster_rcnn_r50",
    "faster_rcnn_r50_dcn",
    "faster_rcnn_r50_pafpn",
    "faster_rcnn_hrnet_w18",
    "mask_rcnn_swin_t",
)


@attrs.frozen(eq=False)
class Pyramid:
    """What a config of a backbone and a neck says."""

    backbone: Backbone
    neck: Neck


def built(found: Translated, path: Path) -> tuple[Backbone, Neck]:
    tables = (f"{key} = {spell(found.model[key], loadable=True)}\n" for key in ("backbone", "neck"))
    path.write_text("".join(tables))
    config, catalog = assemble.load(str(path))
    whole = plan(config, catalog, Pyramid)
    backbone = whole.build("backbone")
    return backbone, whole.build("neck", Flow().after(backbone))


def is_features(name: str) -> bool:
    return name.startswith(("backbone.", "neck."))


@pytest.mark.parametrize("name", CASES)
def test_the_pyramid_is_the_references(name: str, tmp_path: Path) -> None:
    case = golden.load(name)
    tensors = [row for row in case.info["state_dict"] if is_features(row[0])]
    case = attrs.evolve(case, info={**case.info, "state_dict": tensors})
    parts = {key: case.info["model"][key] for key in ("type", "backbone", "neck")}
    found = translate(parts)
    assert (found.lost, found.notes) == ([], [])
    backbone, neck = built(found, tmp_path / "pyramid.toml")
    model = nn.ModuleDict({"backbone": backbone, "neck": neck})

    case.fill_translated(model.eval(), found)
    with torch.no_grad():
        case.check_maps("feats", neck(backbone(case.batch().images)))
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trainable == [name for name in case.info["trainable"] if is_features(name)]
    assert not any(module.training for module in model.train().modules() if isinstance(module, nn.BatchNorm2d))
    assert len(neck(backbone(torch.zeros(1, 3, 64, 64)))) == len(neck.strides) == 5
