"""Any detector of torchvision, complete, behind the interface of a detector.

A batch holds images as the network reads them, so the detector's own transform is replaced by one that neither
resizes nor normalises: what it did (ImageNet's mean and std for most; 0.5 and 0.5 for SSDlite) is the data pipeline's
part. Each image goes in at its own size, without its padding.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
import torchvision
from detcore.errors import ConfigError, DataError, did_you_mean
from detcore.interfaces import Detector, NumClasses
from detcore.structures import Batch, Detections, Losses, Targets
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import detection
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD

from detcore_torchvision_models.backbone import one_line

NAMES = frozenset(name for name in torchvision.models.list_models(module=detection) if "keypoint" not in name)
RESERVED = {
    "weights": "pretrained = true beside options",
    "weights_backbone": "pretrained_backbone = true beside options",
    "num_classes": "num_classes beside options",
    **dict.fromkeys(("min_size", "max_size", "size"), "the size in the data's transforms"),
    **dict.fromkeys(("image_mean", "image_std"), "mean and std in the data's preprocessing"),
}
"""Options that stand elsewhere, and where."""


class TorchvisionDetector(Detector):
    """A detector of torchvision; :mod:`detcore_torchvision_models.detectors` has one subclass per function.

    Args:
        num_classes: C. Models with a softmax (Faster and Mask R-CNN, SSD) get one more, their 0 for background; labels
            are shifted on the way in and out.
        pretrained: Download torchvision's weights, of COCO; C must fit them.
        pretrained_backbone: Download torchvision's weights of the backbone.
        options: Further arguments of the function and of the class it makes, such as ``box_detections_per_img``.

    Raises:
        ConfigError: torchvision cannot make the detector so.
    """

    model_name: ClassVar[str]

    def __init__(
        self,
        *,
        num_classes: NumClasses,
        pretrained: bool = False,
        pretrained_backbone: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        factory = torchvision.models.get_model_builder(self.model_name)
        made = inspect.get_annotations(factory, eval_str=True)["return"]
        self.num_classes = num_classes
        self.first_label = 1 if issubclass(made, GeneralizedRCNN | SSD) else 0
        self.class_first = self.first_label  # these two say which rows of weights are of which class
        self.class_major = issubclass(made, GeneralizedRCNN)
        options = dict(options or {})
        self._check_options(options, {*inspect.signature(factory).parameters, *inspect.signature(made).parameters})
        if pretrained:
            self._check_classes()
        weights = {"weights": pretrained, "weights_backbone": pretrained_backbone}
        try:
            self.model = factory(
                num_classes=num_classes + self.first_label,
                **{name: "DEFAULT" if wanted else None for name, wanted in weights.items()},
                **options,
            )
        except Exception as error:
            raise ConfigError(
                "", f"torchvision {torchvision.__version__} cannot make {self.model_name}: {one_line(error)}"
            ) from error
        self.model.transform = PadOnly(self.model.transform.size_divisible)

    def losses(self, batch: Batch) -> Losses:
        """torchvision's losses, ``loss_`` before the names that do not have it; train and eval mode alike.

        Raises:
            DataError: A box without an area, masks that are missing or are polygons (Mask R-CNN).
        """
        targets = self._targets(batch)
        with self._answering(losses=True):
            losses = self.model(_cut(batch), targets)
        return {name if "loss" in name else f"loss_{name}": value for name, value in losses.items()}

    @torch.no_grad()
    def detections(self, batch: Batch) -> list[Detections]:
        """Per image the detections, in input pixels, best first; train and eval mode alike."""
        with self._answering(losses=False):
            found = self.model(_cut(batch))
        return [
            Detections(
                boxes=each["boxes"].float(),
                scores=each["scores"].float(),
                labels=each["labels"] - self.first_label,
                masks=each["masks"][:, 0] if "masks" in each else None,
            )
            for each in found
        ]

    @contextmanager
    def _answering(self, *, losses: bool) -> Iterator[None]:
        """torchvision chooses between losses and detections by a flag; set it, and leave all modules in their mode."""
        parts = [self.model, *(getattr(self.model, name) for name in ("rpn", "roi_heads") if hasattr(self.model, name))]
        before = [part.training for part in parts]
        try:
            for part in parts:
                part.training = losses
            yield
        finally:
            for part, training in zip(parts, before, strict=True):
                part.training = training

    def _targets(self, batch: Batch) -> list[dict[str, Tensor]]:
        truth = batch.truth
        ids = batch.ids or range(len(batch))
        targets = []
        for image, (valid, name) in enumerate(zip(truth.valid, ids, strict=True)):
            boxes = truth.boxes[image][valid]
            if (boxes[:, 2:] <= boxes[:, :2]).any():
                fix = "Let the transform Sanitize drop such boxes."
                raise DataError(f"image {name}", "has a box without an area", fix)
            target = {"boxes": boxes, "labels": truth.labels[image][valid] + self.first_label}
            if hasattr(self.model, "roi_heads") and self.model.roi_heads.has_mask():
                target["masks"] = _masks(truth, image, valid, name)
            targets.append(target)
        return targets

    def _check_options(self, options: Mapping[str, Any], known: set[str]) -> None:
        for name in options:
            if name in RESERVED:
                raise ConfigError("options", f"{name} cannot be given here", f"Give {RESERVED[name]}.")
            if name not in known - {"kwargs"}:
                raise ConfigError("options", f"{name} is not one of its arguments", did_you_mean(name, known))

    def _check_classes(self) -> None:
        weights: Any = torchvision.models.get_model_weights(self.model_name)
        fits = len(weights.DEFAULT.meta["categories"]) - self.first_label
        if self.num_classes != fits:
            found = f"pretrained weights of {fits} classes for {self.num_classes}"
            raise ConfigError("pretrained", found, "Give pretrained_backbone = true instead.")


class PadOnly(nn.Module):
    """In the place of a detector's transform: images become one tensor, padded with 0, and nothing else happens.

    Args:
        divisor: Sides of the tensor are multiples of it.
    """

    def __init__(self, divisor: int) -> None:
        super().__init__()
        self.divisor = divisor

    def forward(
        self, images: Sequence[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        """Images (3, h, w) of any sizes -> (B, 3, H, W) with their sizes; targets as they are."""
        sizes = [(image.shape[1], image.shape[2]) for image in images]
        height, width = (-(-max(side) // self.divisor) * self.divisor for side in zip(*sizes, strict=True))
        padded = [F.pad(image, (0, width - w, 0, height - h)) for image, (h, w) in zip(images, sizes, strict=True)]
        return ImageList(torch.stack(padded), sizes), targets

    def postprocess(
        self, result: list[dict[str, Tensor]], image_shapes: Any, original_image_sizes: Any
    ) -> list[dict[str, Tensor]]:
        """Detections are in pixels of the input, as they are."""
        return result


def _cut(batch: Batch) -> list[Tensor]:
    """Each image without its padding."""
    sizes = batch.sizes.round().int().tolist()
    return [image[:, :height, :width] for image, (height, width) in zip(batch.images, sizes, strict=True)]


def _masks(truth: Targets, image: int, valid: Tensor, name: int | str) -> Tensor:
    """The masks (G, H, W) of an image's valid objects."""
    masks = None if truth.masks is None else truth.masks[image]
    if not isinstance(masks, Tensor):
        found = "has no masks" if masks is None else "has polygons, torchvision's Mask R-CNN learns from masks"
        raise DataError(f"image {name}", found, "Let the dataset give masks.")
    return masks[valid[: len(masks)]]
