"""The records that travel through a detector, and the letters of their shapes.

Every docstring and name of the project uses this legend:

    B  images of a batch          P  priors (anchors or points) of all levels of an image, shallow to deep
    L  levels of a pyramid        G  ground-truth objects, padded to the most that an image of the batch has
    C  classes                    R  regions of interest (RoIs)
    D  detections of an image     A  priors per cell

Boxes are always xyxy, float32, in pixels of the network input, until :func:`detcore.preprocess.to_original`
scales detections back. The class ``C`` of a softmax and label ``-1`` of nothing mean background.

A level of a pyramid is a map ``(B, A*K, H, W)``; flattened it gives ``(B, H*W*A, K)``, cells row by row and the A
priors of a cell side by side, so that prior ``p`` is the same in every tensor that has a P.

Records are not to be assigned to. They are not ``attrs.frozen`` because torch.compile cannot trace what that makes of
a constructor, and these are made inside the compiled step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs
import torch
from torch import Tensor, nn

from detcore.errors import ComponentError

BACKGROUND = -1
IGNORED = -2


@attrs.define(eq=False)
class Polygons:
    """The outlines of the objects of one image.

    Attributes:
        points: (K, 2) float32, x and y of all points, in pixels of the network input.
        offsets: (N + 1,) int64, where each of the N closed outlines begins in ``points``, and the end.
        owner: (N,) int64, which object (row of the image's boxes) an outline belongs to.
    """

    points: Tensor
    offsets: Tensor
    owner: Tensor


@attrs.define(eq=False)
class Targets:
    """The ground truth of a batch, padded to the same number of objects.

    Attributes:
        boxes: (B, G, 4) float32.
        labels: (B, G) int64, 0 to C - 1.
        valid: (B, G) bool, false for padding rows and for crowds: the objects to be found.
        crowd: (B, G) bool, regions in which detections count neither for nor against.
        masks: Per image (G, H, W) uint8 masks or :class:`Polygons`; None where the data has none.
    """

    boxes: Tensor
    labels: Tensor
    valid: Tensor
    crowd: Tensor
    masks: Sequence[Tensor | Polygons] | None = None

    def gather_boxes(self, index: Tensor) -> Tensor:
        """The boxes (B, P, 4) of the objects ``index`` (B, P); zeros where the index is negative."""
        padded = nn.functional.pad(self.boxes, (0, 0, 0, 1))
        return padded.gather(1, self._rows(index)[..., None].expand(-1, -1, 4))

    def gather_labels(self, index: Tensor) -> Tensor:
        """The labels (B, P) of the objects ``index`` (B, P); -1 where the index is negative."""
        padded = nn.functional.pad(self.labels, (0, 1), value=BACKGROUND)
        return padded.gather(1, self._rows(index))

    def _rows(self, index: Tensor) -> Tensor:
        """``index`` into a padded tensor, whose last row stands for no object (there may be none at all)."""
        return torch.where(index < 0, self.labels.shape[1], index)


@attrs.define(eq=False)
class Batch:
    """What a detector is given: images as the network reads them, and what is known about them.

    Attributes:
        images: (B, 3, H, W) float32, normalised, padded to one size at the bottom and right.
        sizes: (B, 2) float32, height and width of each image inside its padding; detections are clipped to it.
        padded: (B, 2) float32, height and width of each image padded to the size divisor, before it was padded further
            to the size of the batch; priors beyond it are not valid.
        scale: (B, 2) float32, factors of x and y from input pixels back to original pixels.
        ids: One identifier per image, as the dataset names it.
        targets: The ground truth; None at inference.
        progress: How far training is, 0 to 1 (losses that change over training read it); 0 outside training.
        proposals: Per image the regions that came with the data, best first, in input pixels; None where none did.
    """

    images: Tensor
    sizes: Tensor
    padded: Tensor
    scale: Tensor
    ids: Sequence[int | str] = ()
    targets: Targets | None = None
    progress: float = 0.0
    proposals: Sequence[Detections] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def with_one_class(self) -> Batch:
        """The same batch with every object of class 0, as a first stage sees it."""
        truth = self.truth
        return attrs.evolve(self, targets=attrs.evolve(truth, labels=torch.zeros_like(truth.labels)))

    @property
    def truth(self) -> Targets:
        """The ground truth; a programming error where there is none."""
        if self.targets is None:
            raise ValueError("this batch has no targets: losses need them")
        return self.targets


@attrs.define(eq=False)
class Priors:
    """Where predictions are made from.

    Attributes:
        boxes: (P, 2) points x, y, or (P, 4) boxes; (B, P, 4) where each image has its own (proposals).
        stride: (P,) float32, input pixels per cell.
        level: (P,) int64, 0 for the shallowest map.
        valid: (B, P) bool, inside the image's padded shape and border.
        per_level: How many priors each level has; they sum up to P.
    """

    boxes: Tensor
    stride: Tensor
    level: Tensor
    valid: Tensor
    per_level: Sequence[int]


@attrs.define(eq=False)
class Predictions:
    """The raw outputs of a composed dense head with what they mean.

    Attributes:
        raw: Per name (``cls``, ``box``, ``centerness``, ...) the L maps (B, A*K, H, W) of the network.
        priors: The priors of all levels.
        encode: The geometry's ``encode``: (..., 2|4) priors, (...) strides, (..., 4) boxes -> (..., K) vectors.
        decode: The geometry's ``decode``: (..., 2|4) priors, (...) strides, (..., K) vectors -> (..., 4) boxes.
        softmax: Whether ``cls`` is a softmax with background last; else independent sigmoids.
        priors_per_cell: A.
    """

    raw: Mapping[str, Sequence[Tensor]]
    priors: Priors
    encode: Callable[[Tensor, Tensor, Tensor], Tensor]
    decode: Callable[[Tensor, Tensor, Tensor], Tensor]
    softmax: bool
    priors_per_cell: int
    _flat: dict[str, Tensor] = attrs.field(factory=dict, init=False, repr=False)

    def flat(self, name: str) -> Tensor:
        """All levels of ``raw[name]``, as (B, P, K)."""
        if name not in self._flat:
            with torch.enable_grad():  # an assigner asks without gradient for what the loss asks for with it
                levels = self.raw[name]
                values = levels[0].shape[1] // self.priors_per_cell
                rows = [level.permute(0, 2, 3, 1).reshape(len(level), -1, values) for level in levels]
                self._flat[name] = torch.cat(rows, 1)
        return self._flat[name]

    def boxes(self, index: Tensor | None = None) -> Tensor:
        """Decoded boxes (B, P, 4), or those at ``index`` (B, K) only, as (B, K, 4); not clipped."""
        priors, stride, vectors = self.priors.boxes, self.priors.stride, self.flat("box")
        if index is None:
            return self.decode(priors, stride, vectors)
        vectors = vectors.gather(1, index[..., None].expand(-1, -1, vectors.shape[-1]))
        return self.decode(priors[index], stride[index], vectors)

    @property
    def scores(self) -> Tensor:
        """Class probabilities (B, P, C), background left out."""
        logits = self.flat("cls").float()
        return logits.softmax(-1)[..., :-1] if self.softmax else logits.sigmoid()


@attrs.define(eq=False)
class Matches:
    """Which prior answers for which object.

    Attributes:
        index: (B, P) int64, the object's row in the targets; -1 background, -2 ignored.
        quality: (B, P) float32 or None, how well the prior fits its object (IoU, for example).
        weight: (B, P) float32 or None, the weight of the prior's losses; None is 1.
        losses: (B, P) float32 or None, what each prior's class costs now, where a sampler asks for it.
    """

    index: Tensor
    quality: Tensor | None = None
    weight: Tensor | None = None
    losses: Tensor | None = None

    @property
    def positive(self) -> Tensor:
        """(B, P) bool: answers for an object."""
        return self.index >= 0


@attrs.define(eq=False)
class Detections:
    """What was found in one image, best first.

    Attributes:
        boxes: (D, 4) float32.
        scores: (D,) float32.
        labels: (D,) int64.
        masks: (D, h, w) mask probabilities inside the boxes, or None.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def each(self, change: Callable[[Tensor], Tensor]) -> Detections:
        """These with every tensor changed: ``found.each(Tensor.cpu)``, ``found.each(lambda rows: rows[:10])``."""
        fields = (self.boxes, self.scores, self.labels, self.masks)
        return Detections(*(None if value is None else change(value) for value in fields))  # type: ignore[arg-type]


@attrs.define(eq=False)
class RoISamples:
    """Regions of a batch with what they should become, as a stage trains on them.

    Attributes:
        rois: (R, 5) float32: image, x1, y1, x2, y2.
        index: (R,) int64, the object's row in its image's targets; -1 background.
        labels: (R,) int64, 0 to C - 1, or C for background.
        boxes: (R, 4) float32, the object's box; the region's own where it is background.
        given: (R,) bool, whether the region is a ground-truth box that was added to the proposals.
        weight: (R,) float32, of the region's losses.
    """

    rois: Tensor
    index: Tensor
    labels: Tensor
    boxes: Tensor
    given: Tensor
    weight: Tensor

    @property
    def positive(self) -> Tensor:
        """(R,) bool: answers for an object."""
        return self.index >= 0


@attrs.define(eq=False)
class Regions:
    """Proposals as an assigner sees them: priors of which each image has its own."""

    priors: Priors


Losses = dict[str, Tensor]
"""Named scalars; those whose name contains ``loss`` are summed and trained on, the others are only logged."""


def clip_boxes(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes (..., 4) cut at height and width ``sizes`` (..., 2)."""
    width_height = sizes.flip(-1)
    return torch.minimum(boxes.clamp(min=0), torch.cat([width_height, width_height], -1))


def total_loss(losses: Losses) -> Tensor:
    """The sum of the terms whose name contains ``loss``.

    Raises:
        ComponentError: There is none.
    """
    terms = [value for name, value in losses.items() if "loss" in name]
    if not terms:
        found = f"there is no loss among {', '.join(losses) or 'them'}"
        raise ComponentError("the detector's losses", found, "Terms whose name contains `loss` are trained on.")
    return torch.stack(terms).sum()
