"""Masks of detections: He, Gkioxari, Dollár and Girshick 2017, Mask R-CNN, section 3 and figure 4 (right)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import attrs
import torch
from detcore.distributed import share_of
from detcore.errors import ConfigError, DataError
from detcore.heads.roi import as_rois
from detcore.interfaces import (
    Channels,
    ClassChannels,
    Extract,
    Factory,
    Features,
    Flow,
    Loss,
    Norm,
    NumClasses,
    RoIBranch,
    RoIExtractor,
)
from detcore.layers import ConvNormAct
from detcore.structures import Batch, Detections, Losses, RoISamples
from torch import Tensor, nn

from detcore_roi.mask_targets import mask_targets


class MaskHead(nn.Module, ABC):
    """The mask of a region, for each class."""

    @abstractmethod
    def forward(self, extract: Extract) -> Tensor:
        """-> logits (R, K, M, M) of the cells inside the region; K is C, or 1 where class-agnostic."""


class FCNMaskHead(MaskHead):
    """Convolutions, one that doubles the side, and logits by a 1x1 convolution (figure 4, right).

    Args:
        in_channels: Of the maps of regions.
        class_channels: Masks of a region, K.
        num_convs: 3x3 convolutions.
        conv_channels: Of these and of what doubles the side.
        norm: Behind each 3x3 convolution.
    """

    def __init__(
        self,
        *,
        in_channels: Channels[int],
        class_channels: ClassChannels,
        num_convs: int = 4,
        conv_channels: int = 256,
        norm: Factory[Norm] | None = None,
    ) -> None:
        super().__init__()
        channels = [in_channels, *[conv_channels] * num_convs]
        self.convs = nn.Sequential(*(ConvNormAct(inner, outer, 3, norm=norm) for inner, outer in pairwise(channels)))
        self.upsample = nn.ConvTranspose2d(channels[-1], conv_channels, 2, stride=2)
        self.logits = nn.Conv2d(conv_channels, class_channels, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, extract: Extract) -> Tensor:
        """-> logits (R, K, 2 * S, 2 * S) for maps (R, C, S, S)."""
        hidden = self.upsample(self.convs(extract())).relu_()
        logits: Tensor = self.logits(hidden)
        return logits


class MaskBranch(RoIBranch):
    """A mask for each detection, that of its class; trained on the regions that answer for an object.

    What it leaves for later branches: ``mask``, the logits (R, M, M) of the regions' own classes, in training of those
    that answer for an object; and then ``mask_targets``.

    Args:
        num_classes: C.
        extractor: Cuts (R, C, S, S) out of the pyramid.
        mask_head: Logits of masks.
        loss_mask: Of logits (R, M, M) and zeros and ones; each region counts the same.
        class_agnostic: One mask per region instead of one per class.
        num_levels: How many levels of the pyramid the extractor reads, from the shallowest.

    Raises:
        ConfigError: ``loss_mask`` reads a softmax.
    """

    def __init__(
        self,
        *,
        num_classes: NumClasses,
        extractor: RoIExtractor,
        mask_head: MaskHead,
        loss_mask: Loss,
        class_agnostic: bool = False,
        num_levels: int = 4,
    ) -> None:
        super().__init__()
        if loss_mask.softmax:
            fix = "Give a loss of sigmoids (CrossEntropyLoss: use_sigmoid = true)."
            raise ConfigError("loss_mask", f"{type(loss_mask).__name__} reads a softmax", fix)
        self.num_classes = num_classes
        self.extractor = extractor
        self.mask_head = mask_head
        self.loss_mask = loss_mask
        self.class_agnostic = class_agnostic
        self.num_levels = num_levels

    @staticmethod
    def flow_to(child: str, built: Mapping[str, Any], flow: Flow) -> Flow:
        """The extractor reads the first ``num_levels`` levels; the mask head what the extractor cuts out."""
        if child == "extractor":
            return flow.first(built["num_levels"])
        if child == "mask_head":
            extractor, masks = built["extractor"], 1 if built["class_agnostic"] else built["num_classes"]
            flow = flow.having(extractor, channels=(extractor.out_channels,), roi_size=extractor.roi_size)
            return flow.having(flow.sources.get("num_classes"), class_channels=masks)
        return flow

    def forward(self, features: Features, rois: Tensor) -> Tensor:
        """L maps and RoIs (R, 5) -> logits (R, K, M, M)."""
        levels = features[: self.num_levels]
        logits: Tensor = self.mask_head(lambda scale=1.0: self.extractor(levels, rois, scale))
        return logits

    def losses(self, features: Features, samples: RoISamples, outputs: dict[str, Tensor], batch: Batch) -> Losses:
        """``loss``; it waits for the device to say how many regions there are, and with outlines how many points."""
        if batch.truth.masks is None:
            fix = 'Have the dataset give them (CocoDataset: segmentation = "polygons").'
            raise DataError("mask branch", "the data has neither outlines nor masks", fix)
        taken = torch.nonzero(samples.positive)[:, 0]
        rois, weight = samples.rois[taken], samples.weight[taken]
        logits = self._own(self(features, rois), samples.labels[taken])
        targets = mask_targets(rois, samples.index[taken], batch.truth, logits.shape[-1])
        outputs |= {"mask": logits, "mask_targets": targets}
        share = len(taken) / share_of(rois.new_full((), len(taken)))
        return {"loss": self.loss_mask(logits, targets, weight[:, None, None].expand_as(targets)) * share}

    def detections(
        self, features: Features, found: Sequence[Detections], outputs: dict[str, Tensor], batch: Batch
    ) -> list[Detections]:
        """The detections with ``masks``, probabilities (D, M, M) inside their boxes."""
        logits = self(features, as_rois([each.boxes for each in found]))
        outputs["mask"] = self._own(logits, torch.cat([each.labels for each in found]))
        masks = torch.split(outputs["mask"].float().sigmoid(), [each.boxes.shape[0] for each in found])
        return [attrs.evolve(each, masks=its) for each, its in zip(found, masks, strict=True)]

    def _own(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The masks (R, M, M) of the regions' own classes."""
        rows = torch.arange(labels.shape[0], device=labels.device)
        return logits[:, 0] if self.class_agnostic else logits[rows, labels]
