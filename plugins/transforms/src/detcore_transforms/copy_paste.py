"""Objects of another image pasted into this one (Ghiasi et al. 2021, Simple Copy-Paste, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detcore.data import Mixing, Sample, Samples, keep_rows
from detcore.errors import DataError
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import Transform
from torchvision.transforms.v2 import functional as F

from detcore_transforms.targets import OUTLINES, check_count, check_share, joined, moved, refused


class CopyPaste(Mixing):
    """Some objects of another image are pasted over this one, pixel by pixel of their masks, where they were.

    What they hide goes out of the masks of this image's objects, whose boxes and areas shrink with it. An object that
    is hidden in part stays where no side of its box moved by more than ``box_threshold`` pixels, or more than
    ``mask_threshold`` pixels of it are left; the others are dropped and counted. Targets need masks; outlines, which
    cannot be cut, go. Crowds are not pasted.

    Args:
        most: How many objects are pasted at most: a random number of them, random ones.
        box_threshold: In pixels.
        mask_threshold: In pixels.
        p: How probable it is that anything is pasted.
        transforms: What the other image goes through before; the same as this one has gone through, as a rule.
    """

    def __init__(
        self,
        *,
        most: int = 100,
        box_threshold: float = 10.0,
        mask_threshold: float = 300.0,
        p: float = 1.0,
        transforms: Sequence[Transform] = (),
    ) -> None:
        super().__init__()
        check_count(self, "most", most)
        check_share(self, "p", p)
        for name, value in (("box_threshold", box_threshold), ("mask_threshold", mask_threshold)):
            if value < 0:
                raise refused(self, name, value, "It is a number of pixels.")
        self.most = most
        self.box_threshold = box_threshold
        self.mask_threshold = mask_threshold
        self.p = p
        self.transforms = transforms

    def mix(self, image: Any, target: dict[str, Any], others: Samples) -> Sample:
        """See the class. Raises DataError where there are no masks."""
        if torch.rand(()) >= self.p:
            return image, target
        height, width = F.get_size(image)
        other, source = others.draw(self.transforms)
        if "masks" not in target or "masks" not in source:
            raise DataError("CopyPaste", "there are no masks", 'Set segmentation = "masks" of the dataset.')
        other, source = moved(other, source, lambda each: F.crop(each, 0, 0, height, width))
        chosen = self.choose(source)
        return self.paste(image, target, other, {**keep_rows(source, chosen), "dropped": source.get("dropped", 0)})

    def choose(self, source: dict[str, Any]) -> Tensor:
        """(G,) bool: the objects to paste."""
        objects = source["masks"].as_subclass(Tensor).bool().flatten(1).any(1)
        if "iscrowd" in source:
            objects &= ~source["iscrowd"].bool()
        rows = objects.nonzero()[:, 0]
        count = int(torch.randint(min(len(rows), self.most) + 1, ()))
        chosen = torch.zeros_like(objects)
        chosen[rows[torch.randperm(len(rows))[:count]]] = True
        return chosen

    def paste(self, image: Any, target: dict[str, Any], other: Any, source: dict[str, Any]) -> Sample:
        """All objects of ``source``, which lies on the same canvas as ``target``, over it."""
        pasted = source["masks"].as_subclass(Tensor).bool().any(0)
        pixels = torch.where(pasted, other.as_subclass(Tensor), image.as_subclass(Tensor))
        mine, theirs = (
            {name: value for name, value in each.items() if name not in OUTLINES} for each in (target, source)
        )
        return tv_tensors.Image(pixels), joined([self.behind(mine, pasted), theirs])

    def behind(self, target: dict[str, Any], pasted: Tensor) -> dict[str, Any]:
        """A target of which the pixels ``pasted`` (H, W) cannot be seen."""
        before = target["masks"].as_subclass(Tensor)
        masks = before * ~pasted
        counts, left = (each.flatten(1).sum(1) for each in (before, masks))
        hidden = left < counts
        old = target["boxes"].as_subclass(Tensor)
        boxes = torch.where(hidden[:, None], extents(masks).to(old.dtype), old)
        still = ((boxes - old).abs() <= self.box_threshold).all(1) | (left > self.mask_threshold)
        changed = {
            "boxes": tv_tensors.wrap(boxes, like=target["boxes"]),
            "masks": tv_tensors.wrap(masks, like=target["masks"]),
        }
        if "area" in target:
            changed["area"] = torch.where(hidden, target["area"] * left / counts.clamp(min=1), target["area"])
        return keep_rows({**target, **changed}, ~hidden | (still & (left > 0)))


def extents(masks: Tensor) -> Tensor:
    """(G, 4) int64, the boxes around the pixels of masks (G, H, W); zeros where there is none."""
    boxes = torch.zeros(len(masks), 4, dtype=torch.int64)
    for axis in (0, 1):
        lines = masks.bool().any(1 + axis)  # columns give x, rows y
        some = lines.any(1).long()
        boxes[:, axis] = lines.int().argmax(1)
        boxes[:, axis + 2] = some * (lines.shape[1] - lines.flip(1).int().argmax(1))
    return boxes
