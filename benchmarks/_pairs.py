"""Detectors of torchvision and ours that compute the same: same layers, weights, trained parameters, frozen norms."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import torch
from detcore.detectors import OneStage
from detcore.foreign import renamed
from detcore.heads.dense import ComposedHead
from detcore.layers import BN
from detcore.structures import Batch, Predictions, Targets
from detcore_dense.anchors import Anchors
from detcore_dense.decoders import NMSDecoder
from detcore_dense.loss import DenseBoxLoss
from detcore_dense.max_iou import MaxIoUAssigner
from detcore_dense.points import Points
from detcore_fcos.fcos import FCOSAssigner, FCOSLoss, FCOSTowers
from detcore_fpn.fpn import FPN
from detcore_losses.boxes import GIoULoss, L1Loss
from detcore_losses.classification import CrossEntropyLoss, FocalLoss
from detcore_resnet.resnet import ResNet
from detcore_retinanet.retinanet import RetinaTowers
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.backbone_utils import BackboneWithFPN, resnet_fpn_backbone
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

IMAGES, HEIGHT, WIDTH, CLASSES, OBJECTS = 2, 320, 448, 91, 10
Names = Sequence[tuple[str, str]]
PYRAMID: Names = (
    (r"^backbone\.body\.", "backbone."),
    (r"^backbone\.fpn\.inner_blocks\.(\d)\.0\.", r"neck.lateral_convs.\1.conv."),
    (r"^backbone\.fpn\.layer_blocks\.(\d)\.0\.", r"neck.fpn_convs.\1.conv."),
    (r"^backbone\.fpn\.extra_blocks\.p6\.", "neck.fpn_convs.3.conv."),
    (r"^backbone\.fpn\.extra_blocks\.p7\.", "neck.fpn_convs.4.conv."),
)


@attrs.frozen
class Pair:
    """Two detectors with the same weights.

    Attributes:
        name: Of both.
        theirs: Torchvision's.
        ours: Builds ours, its frozen norms ``folded`` or not.
        names: Their parameters' names as ours, by regular expressions.
        outputs: Of what their head puts out, the name of our raw maps.
        unit: What their vectors of boxes are multiplied by to be ours (B, P, 4), or 1.
    """

    name: str
    theirs: nn.Module
    ours: Callable[..., OneStage]
    names: Names
    outputs: Mapping[str, str]
    unit: Callable[[Predictions], Any] = lambda _: 1

    def our_name(self, name: str) -> str:
        return renamed(name, (*PYRAMID, *self.names))

    def build(self, **options: bool) -> OneStage:
        """Ours with torchvision's weights, one to one.

        Raises:
            SystemExit: There are weights that the other has not, or other parameters are trained.
        """
        ours = self.ours(**options)
        state = {self.our_name(name): value for name, value in self.theirs.state_dict().items()}
        report = ours.load_state_dict(state, strict=False)
        missing = [name for name in report.missing_keys if not name.endswith("tracked") and "scales" not in name]
        if missing or report.unexpected_keys:
            raise SystemExit(f"weights differ: missing {missing}, unexpected {report.unexpected_keys}")
        trained = {self.our_name(name) for name, each in self.theirs.named_parameters() if each.requires_grad}
        if trained != {name for name, each in ours.named_parameters() if each.requires_grad}:
            raise SystemExit("other parameters are trained")
        return ours.train()

    def same_outputs(self, ours: OneStage, batch: Batch) -> None:
        """Prints how far raw maps differ; exits where by more than 1e-5 of their largest value."""
        theirs: Any = self.theirs
        with torch.no_grad():
            outputs = theirs.head(list(theirs.backbone(batch.images).values()))
            found = ours.head(ours.neck(ours.backbone(batch.images)), batch)
        for name, own in self.outputs.items():
            value = found.flat(own)
            expected = outputs[name] * self.unit(found) if own == "box" else outputs[name]
            error = float((value - expected).abs().max() / expected.abs().max())
            print(f"{self.name}: raw {own:12} {tuple(value.shape)} differs by {error:.1e} of its largest value")
            if not error <= 1e-5:
                raise SystemExit(f"{own} differs: this would compare different work")


# ------------------------------------------------------------------------------------------------ what both are made of


class Ready(nn.Module):
    """In place of torchvision's transform: images come normalised and of one size."""

    def forward(self, images: Tensor, targets: Any = None) -> tuple[ImageList, Any]:
        return ImageList(images, [tuple(images.shape[-2:])] * len(images)), targets

    def postprocess(self, result: Any, image_shapes: Any, original_image_sizes: Any) -> Any:
        return result


def torchvision_pyramid() -> BackboneWithFPN:
    """As `fcos_resnet50_fpn` and `retinanet_resnet50_fpn` with pretrained weights build it, but with random ones.

    The frozen norms have statistics as trained ones have.
    """
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=FrozenBatchNorm2d,
        trainable_layers=3,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    random_norms(backbone)
    return backbone


def random_norms(backbone: nn.Module) -> None:
    """Statistics of frozen norms as trained ones have them."""
    for name, module in backbone.named_modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.weight.uniform_(0.5, 1.5).mul_(0.3 if name.endswith("bn3") else 1.0)
            module.running_var.uniform_(0.5, 1.5)
            module.running_mean.normal_(std=0.1)
            module.bias.normal_(std=0.1)


def pyramid(*, folded: bool = False) -> tuple[ResNet, FPN]:
    """The same of ours."""
    norm = functools.partial(BN, frozen=True, folded=folded)
    backbone = ResNet(depth=50, out_indices=(1, 2, 3), frozen_stages=1, norm=norm)
    neck = FPN(
        in_channels=backbone.out_channels,
        in_strides=backbone.strides,
        num_outs=5,
        extra="on_output",
        relu_before_extra=True,
    )
    return backbone, neck


def random_batch(objects: int = OBJECTS, classes: int = CLASSES) -> Batch:
    """Noise with objects of all sizes."""
    limit = torch.tensor([WIDTH, HEIGHT])
    corner = torch.rand(IMAGES, objects, 2) * limit * 0.8
    end = torch.minimum(corner + 16 * 12 ** torch.rand(IMAGES, objects, 2), limit)
    valid = torch.ones(IMAGES, objects, dtype=torch.bool)
    targets = Targets(torch.cat([corner, end], -1), torch.randint(classes, valid.shape), valid, ~valid)
    sizes = torch.tensor([[HEIGHT, WIDTH]] * IMAGES).float()
    return Batch(torch.randn(IMAGES, 3, HEIGHT, WIDTH), sizes, sizes, torch.ones_like(sizes), range(IMAGES), targets)


# ---------------------------------------------------------------------------------------------------------------- FCOS


def fcos() -> Pair:
    model = FCOS(torchvision_pyramid(), CLASSES).train()
    model.transform = Ready()
    model.head.classification_head.cls_logits.weight.data.mul_(2)  # a few hundred scores exceed the threshold
    return Pair(
        name="FCOS",
        theirs=model,
        ours=detcore_fcos,
        names=(
            *(
                (rf"^head\.{head}_head\.conv\.{3 * index + part}\.", f"head.network.{ours}_convs.{index}.{layer}.")
                for head, ours in {"classification": "cls", "regression": "reg"}.items()
                for index in range(4)
                for part, layer in enumerate(("conv", "norm"))
            ),
            (r"^head\.classification_head\.cls_logits\.", "head.network.conv_cls."),
            (r"^head\.regression_head\.bbox_reg\.", "head.network.conv_reg."),
            (r"^head\.regression_head\.bbox_ctrness\.", "head.network.conv_centerness."),
        ),
        outputs={"cls_logits": "cls", "bbox_regression": "box", "bbox_ctrness": "centerness"},
        unit=lambda found: found.priors.stride[:, None],
    )


def detcore_fcos(*, folded: bool = False) -> OneStage:
    """FCOS with torchvision's conventions."""
    backbone, neck = pyramid(folded=folded)
    network = FCOSTowers(
        in_channels=256,
        strides=neck.strides,
        class_channels=CLASSES,
        conv_bias=True,
        centerness_on_box=True,
        norm_on_box=True,
    )
    network.scales.requires_grad_(False)  # torchvision has no scales
    head = ComposedHead(
        num_classes=CLASSES,
        loss=FCOSLoss(loss_cls=FocalLoss(), loss_box=GIoULoss(), loss_centerness=CrossEntropyLoss(use_sigmoid=True)),
        geometry=Points(strides=neck.strides, offset=0.0),
        network=network,
        assigner=FCOSAssigner(radius=1.5),
        decoder=NMSDecoder(score_threshold=0.08, nms_iou=0.6, quality="centerness"),
    )
    return OneStage(backbone=backbone, neck=neck, head=head)


# ----------------------------------------------------------------------------------------------------------- RetinaNet


def retinanet() -> Pair:
    model = RetinaNet(torchvision_pyramid(), CLASSES).train()
    model.transform = Ready()
    spread_scores(model)
    shapes = tuple(tuple(map(tuple, cell.tolist())) for cell in model.anchor_generator.cell_anchors)
    towers = {"classification": "cls", "regression": "box"}
    return Pair(
        name="RetinaNet",
        theirs=model,
        ours=functools.partial(detcore_retinanet, shapes),
        names=(
            *(
                (rf"^head\.{head}_head\.conv\.(\d)\.0\.", rf"head.network.{ours}_convs.\1.conv.")
                for head, ours in towers.items()
            ),
            (r"^head\.classification_head\.cls_logits\.", "head.network.cls."),
            (r"^head\.regression_head\.bbox_reg\.", "head.network.box."),
        ),
        outputs={"cls_logits": "cls", "bbox_regression": "box"},
    )


def spread_scores(model: RetinaNet, images: int = IMAGES, above: int = 500) -> None:
    """Scales the class logits so that of noise about so many scores of an image exceed the threshold."""
    final = model.head.classification_head.cls_logits
    with torch.no_grad():
        features = list(model.backbone(torch.randn(images, 3, HEIGHT, WIDTH)).values())
        logits = model.head(features)["cls_logits"].flatten()
        bias = final.bias[0]
        needed = torch.logit(torch.tensor(model.score_thresh)) - bias
        final.weight.mul_(needed / (logits.topk(images * above).values[-1] - bias))


def detcore_retinanet(shapes: Any, *, folded: bool = False) -> OneStage:
    """RetinaNet with torchvision's conventions; its sides of anchors are cut to whole pixels."""
    backbone, neck = pyramid(folded=folded)
    geometry = Anchors(strides=neck.strides, octave_base_scale=4, scales_per_octave=3)
    geometry.shapes = shapes
    head = ComposedHead(
        num_classes=CLASSES,
        loss=DenseBoxLoss(loss_cls=FocalLoss(), loss_box=L1Loss()),
        geometry=geometry,
        network=RetinaTowers(in_channels=256, class_channels=CLASSES, box_channels=4, priors_per_cell=9),
        assigner=MaxIoUAssigner(pos_iou=0.5, neg_iou=0.4),
        decoder=NMSDecoder(score_threshold=0.05, nms_iou=0.5, max_detections=300),
    )
    return OneStage(backbone=backbone, neck=neck, head=head)
