"""The detectors of the recipes, as narrow as they can be made, and batches for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from detcore import assemble
from detcore.build import plan
from detcore.data import seeded
from detcore.recipe import Recipe
from detcore.structures import Batch, Targets
from torch import Tensor

MODELS = Path(__file__).parents[2] / "configs" / "_base_" / "models"
CLASSES = ("circle", "star", "cross")

RESNET = """
backbone.depth = 18
backbone.width = 16
backbone.zero_init_residual = false
neck.out_channels = 32
"""
PRETRAINED = "backbone.weights = { _delete_ = true }\n"
ANY_SCORE = "head.decoder.score_threshold = 0.0\n"
HOURGLASS = """
backbone = { downsample_times = 1, num_stacks = 2, stage_channels = [16, 16], stage_blocks = [1, 1], stem_channels = 16 }
head.pairing = { distance_threshold = 9.0, corner_topk = 200, num_pairs = 200, max_per_image = 20 }
"""
RETINANET = RESNET + PRETRAINED + ANY_SCORE + "head.network.feat_channels = 32\nhead.network.stacked_convs = 1\n"
GHM = """
[model.head.loss]
per_level = true
loss_cls = { _delete_ = true, type = "GHMC", bins = 30, momentum = 0.75 }
loss_box = { _delete_ = true, type = "GHMR", momentum = 0.7, loss_weight = 10.0 }
"""
FASTER_RCNN = """
rpn_head.network.feat_channels = 16
roi_head.decoder.score_threshold = 0.0
[model.roi_head.stages.RoIStage]
extractor = { type = "SingleLevelRoIExtractor", _delete_ = true, roi_size = 3 }
box_head = { type = "Shared2FCBoxHead", _delete_ = true, fc_channels = 32 }
"""
MASK_RCNN = """
[model.roi_head.branches.mask]
extractor = { type = "SingleLevelRoIExtractor", _delete_ = true, roi_size = 4 }
mask_head = { type = "FCNMaskHead", _delete_ = true, num_convs = 1, conv_channels = 16 }
"""

DETECTORS = {
    "RetinaNet": ("retinanet_r50_fpn", RETINANET),
    "RetinaNet, GHM": ("retinanet_r50_fpn", RETINANET + GHM),
    "FCOS": (
        "fcos_r50_caffe_fpn_gn",
        RESNET + ANY_SCORE + "head.network.channels = 32\nhead.network.stacked_convs = 1\n",
    ),
    "ATSS": (
        "atss_r50_fpn",
        RESNET + PRETRAINED + ANY_SCORE + "head.network.channels = 32\nhead.network.stacked_convs = 1\n",
    ),
    "YOLOX": ("yolox_s", "backbone.widen_factor = 0.125\n" + ANY_SCORE),
    "YOLOv3": ("yolov3_d53", "backbone.width = 0.125\nhead.decoder.conf_threshold = 0.0\n" + ANY_SCORE),
    "CornerNet": ("cornernet_hourglass104", HOURGLASS),
    "CentripetalNet": ("centripetalnet_hourglass104", HOURGLASS),
    "Faster R-CNN": ("faster_rcnn_r50_fpn", RESNET + PRETRAINED + FASTER_RCNN),
    "Mask R-CNN": ("mask_rcnn_r50_fpn", RESNET + PRETRAINED + FASTER_RCNN + MASK_RCNN),
}
"""Per detector its fragment of a recipe, and what makes it narrow, and find something at once, beneath ``[model]``."""


def detector(name: str, folder: Path) -> Any:
    """The detector ``name``, the same each time; its head is not as it begins, so that what it finds differs.

    Args:
        name: Of :data:`DETECTORS`.
        folder: Where its config goes.
    """
    recipe, narrow = DETECTORS[name]
    path = folder / "tiny.toml"
    classes = ", ".join(f'"{each}"' for each in CLASSES)
    path.write_text(f'_base_ = "{(MODELS / recipe).as_posix()}.toml"\nclasses = [{classes}]\n[model]\n{narrow}')
    config, catalog = assemble.load(str(path))
    with seeded(1), torch.no_grad():
        built = plan(config, catalog, Recipe).build("model", assemble.class_flow(config, CLASSES))
        for key, parameter in built.named_parameters():
            if "head" in key:
                parameter.add_(0.03 * torch.randn_like(parameter))
    return built


def batch(height: int, width: int, *, objects: int = 3, images: int = 2, number: int = 0, masks: bool = False) -> Batch:
    """Noise with objects.

    Args:
        height: Of the images.
        width: Of the images.
        objects: G, of each image.
        images: B.
        number: Which of a run's batches it is; each has its own images, names and progress.
        masks: Objects have masks: their boxes.
    """
    generator = torch.Generator().manual_seed(number)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    limit = torch.tensor([width, height])
    corner = random(images, objects, 2) * limit * 0.6
    boxes = torch.cat([corner, torch.minimum(corner + 8 + random(images, objects, 2) * 64, limit)], -1)
    valid = torch.ones(images, objects, dtype=torch.bool)
    labels = torch.randint(len(CLASSES), (images, objects), generator=generator)
    sizes = torch.tensor([[height, width]] * images).float()
    bitmaps = [_filled(each, height, width) for each in boxes] if masks else None
    return Batch(
        images=torch.randn(images, 3, height, width, generator=generator),
        sizes=sizes,
        padded=sizes,
        scale=torch.ones_like(sizes),
        ids=[number * images + image for image in range(images)],
        targets=Targets(boxes, labels, valid, ~valid, bitmaps),
        progress=number / 100,
    )


def _filled(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes (G, 4) -> masks (G, H, W) uint8 of the pixels inside."""
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    rows, columns = (top <= y) & (y <= bottom), (left <= x) & (x <= right)
    return (rows[:, :, None] & columns[:, None]).to(torch.uint8)
