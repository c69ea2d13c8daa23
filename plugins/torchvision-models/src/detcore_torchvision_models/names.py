"""Which tensor of our recipes each tensor of torchvision's detectors is, and which of its rows are of which class.

The recipes are those of ``configs/torchvision``. torchvision's softmax has background first, ours last; its boxes and
masks have rows of background, which nothing reads and ours have not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import torch
import torchvision
from detcore.errors import CheckpointError
from detcore.foreign import Rule, renamed
from torch import Tensor

from detcore_torchvision_models.backbone import one_line

Names = Sequence[Rule]
"""Of torchvision's names, and what of ours replaces them."""

STAGE = "roi_head.stages.0.box_head."
MASKS = "roi_head.branches.mask.mask_head."
PYRAMID: Names = (
    (r"^backbone\.body\.", "backbone."),
    (r"^backbone\.fpn\.inner_blocks\.(\d)\.0\.", r"neck.lateral_convs.\1.conv."),
    (r"^backbone\.fpn\.inner_blocks\.(\d)\.1\.", r"neck.lateral_convs.\1.norm."),
    (r"^backbone\.fpn\.layer_blocks\.(\d)\.0\.", r"neck.fpn_convs.\1.conv."),
    (r"^backbone\.fpn\.layer_blocks\.(\d)\.1\.", r"neck.fpn_convs.\1.norm."),
    (r"^backbone\.fpn\.extra_blocks\.p6\.", "neck.fpn_convs.3.conv."),
    (r"^backbone\.fpn\.extra_blocks\.p7\.", "neck.fpn_convs.4.conv."),
)
TWO_STAGES: Names = (
    *PYRAMID,
    (r"^rpn\.head\.conv\.(\d)\.0\.", r"rpn_head.network.convs.\1.conv."),
    (r"^rpn\.head\.cls_logits\.", "rpn_head.network.cls."),
    (r"^rpn\.head\.bbox_pred\.", "rpn_head.network.box."),
    (r"^roi_heads\.box_head\.fc6\.", f"{STAGE}shared.1."),
    (r"^roi_heads\.box_head\.fc7\.", f"{STAGE}shared.3."),
    (r"^roi_heads\.box_head\.(\d)\.0\.", rf"{STAGE}shared.convs.\1.conv."),
    (r"^roi_heads\.box_head\.(\d)\.1\.", rf"{STAGE}shared.convs.\1.norm."),
    (r"^roi_heads\.box_head\.5\.", f"{STAGE}shared.fcs.0."),
    (r"^roi_heads\.box_predictor\.cls_score\.", f"{STAGE}cls."),
    (r"^roi_heads\.box_predictor\.bbox_pred\.", f"{STAGE}box."),
    (r"^roi_heads\.mask_head\.(\d)\.0\.", rf"{MASKS}convs.\1.conv."),
    (r"^roi_heads\.mask_head\.(\d)\.1\.", rf"{MASKS}convs.\1.norm."),
    (r"^roi_heads\.mask_predictor\.conv5_mask\.", f"{MASKS}upsample."),
    (r"^roi_heads\.mask_predictor\.mask_fcn_logits\.", f"{MASKS}logits."),
)
RETINANET: Names = (
    *PYRAMID,
    *(
        (rf"^head\.{theirs}_head\.conv\.(\d)\.{part}\.", rf"head.network.{ours}_convs.\1.{layer}.")
        for theirs, ours in (("classification", "cls"), ("regression", "box"))
        for part, layer in enumerate(("conv", "norm"))
    ),
    (r"^head\.classification_head\.cls_logits\.", "head.network.cls."),
    (r"^head\.regression_head\.bbox_reg\.", "head.network.box."),
)
FCOS: Names = (
    *PYRAMID,
    *(
        (rf"^head\.{theirs}_head\.conv\.{3 * index + part}\.", f"head.network.{ours}_convs.{index}.{layer}.")
        for theirs, ours in (("classification", "cls"), ("regression", "reg"))
        for index in range(4)
        for part, layer in enumerate(("conv", "norm"))
    ),
    (r"^head\.classification_head\.cls_logits\.", "head.network.conv_cls."),
    (r"^head\.regression_head\.bbox_reg\.", "head.network.conv_reg."),
    (r"^head\.regression_head\.bbox_ctrness\.", "head.network.conv_centerness."),
)
FCOS_SCALES = [f"head.network.scales.{level}" for level in range(5)]


@attrs.frozen
class Layout:
    """What the tensors of a detector are called, and how those of classes are made up.

    Attributes:
        names: Theirs and ours.
        logits: Our layer with the logits of classes.
        per_class: Our layers that have rows for each entry (classes and background), and how many; the rows of an entry
            stand together, except those of logits with several priors per cell.
        background: An entry of background comes before the classes; here it is the last of the logits and nowhere else.
        ones: Our tensors that torchvision's detector has not: scalars, 1.
    """

    names: Names
    logits: str
    per_class: Mapping[str, int]
    background: bool = False
    ones: Sequence[str] = ()

    def our_name(self, name: str) -> str:
        """Ours of one of theirs."""
        return renamed(name, self.names)

    def entries(self, state: Mapping[str, Tensor]) -> int:
        """How many entries there are, of a state dict of their names. Raises LookupError: nothing says so."""
        for name, value in state.items():
            if self.our_name(name) == f"{self.logits}.bias":
                return len(value) // self.per_class[self.logits]
        raise LookupError("it has no logits of classes")

    def our_rows(self, name: str, tensor: Tensor, kept: Sequence[int]) -> Tensor:
        """Of one of our tensors that has still their rows, those of the entries ``kept``."""
        layer = name.rpartition(".")[0]
        if layer not in self.per_class:
            return tensor
        kept = [*kept, 0] if self.background and layer == self.logits else kept
        each, size = self.per_class[layer], tensor.shape[1:]
        if layer == self.logits:  # prior by prior
            return tensor.reshape(each, -1, *size)[:, kept].flatten(0, 1)
        return tensor.reshape(-1, each, *size)[kept].flatten(0, 1)


_SECOND_STAGE = Layout(TWO_STAGES, f"{STAGE}cls", {f"{STAGE}cls": 1, f"{STAGE}box": 4, f"{MASKS}logits": 1}, True)
_RETINANET = Layout(RETINANET, "head.network.cls", {"head.network.cls": 9})
_FCOS = Layout(FCOS, "head.network.conv_cls", {"head.network.conv_cls": 1}, ones=FCOS_SCALES)
LAYOUTS: Mapping[str, Layout] = {
    "fasterrcnn_resnet50_fpn": _SECOND_STAGE,
    "fasterrcnn_resnet50_fpn_v2": _SECOND_STAGE,
    "maskrcnn_resnet50_fpn": _SECOND_STAGE,
    "maskrcnn_resnet50_fpn_v2": _SECOND_STAGE,
    "retinanet_resnet50_fpn": _RETINANET,
    "retinanet_resnet50_fpn_v2": _RETINANET,
    "fcos_resnet50_fpn": _FCOS,
}
"""The detectors of torchvision that have a recipe here."""


def our_state(
    model: str, state: Mapping[str, Tensor], where: str, kept: Sequence[int] | None = None
) -> dict[str, Tensor]:
    """The state dict of a detector of torchvision, old or new, under the names of our recipe for it.

    Args:
        model: One of :data:`LAYOUTS`.
        state: As a file of it has it.
        where: For messages.
        kept: The entries of torchvision's classes that ours are; None: all but background.

    Raises:
        CheckpointError: These are not the tensors of such a model.
    """
    layout = LAYOUTS[model]
    state = _upgraded(model, state, layout, where)
    kept = range(1 if layout.background else 0, layout.entries(state)) if kept is None else kept
    ours = {layout.our_name(name): value for name, value in state.items()}
    return {
        **{name: layout.our_rows(name, value, kept) for name, value in ours.items()},
        **{name: torch.ones(()) for name in layout.ones},
    }


def _upgraded(model: str, state: Mapping[str, Tensor], layout: Layout, where: str) -> Mapping[str, Tensor]:
    """The state dict under the names that torchvision uses today, by way of a model without memory of its own.

    Raises:
        CheckpointError: It does not fit.
    """
    try:
        with torch.device("meta"):
            entries = layout.entries(state)
            made = torchvision.models.get_model(model, weights=None, weights_backbone=None, num_classes=entries)
        made.load_state_dict(state, assign=True)
    except (LookupError, RuntimeError) as error:
        raise CheckpointError(where, f"is not a state dict of {model}: {one_line(error)}") from error
    upgraded: Mapping[str, Tensor] = made.state_dict()
    return upgraded
