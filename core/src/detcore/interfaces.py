"""What a component of each kind must offer, and the annotations that say what the build passes in.

A constructor takes built objects and plain values, keyword-only. The annotation of a parameter decides what it gets:

* an interface of this page (``backbone: Backbone``): the object built from the config's table at that key; also as
  ``X | None``, ``Sequence[X]`` and ``Mapping[str, X]``;
* ``Factory[X]``: a callable that builds an X; the config gives its keys, the owner the leading positional arguments;
* a marker (``in_channels: Channels[int]``): the value that flows from the components before it;
* anything else: the config's value, held against the annotation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Protocol, Self, TypeVar, runtime_checkable

import attrs
from torch import Tensor, nn

from detcore.structures import Batch, Detections, Losses, Matches, Predictions, Priors, RoISamples

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Features = Sequence[Tensor]
"""L maps (B, C_l, H_l, W_l), shallow to deep."""


# ------------------------------------------------------------------------------------------------------- what flows


@attrs.frozen
class Marker:
    """Says in an annotation which flowing value a parameter wants."""

    name: str


Channels = Annotated[T, Marker("channels")]
"""Channels of the maps that the component reads: ``Channels[int]`` (the one value that all levels share) or
``Channels[Sequence[int]]`` (one per level, shallow to deep)."""
Strides = Annotated[T, Marker("strides")]
"""Strides of these maps, input pixels per cell; ``Strides[int]`` or ``Strides[Sequence[int]]``."""
ClassNames = Annotated[Sequence[str], Marker("classes")]
"""Names of the classes, in order, where the config's top level gives them; a dataset takes ``ClassNames | None``."""
NumClasses = Annotated[int, Marker("num_classes")]
"""C: the number of classes that the component tells apart, background not counted."""
ClassChannels = Annotated[int, Marker("class_channels")]
"""Numbers per prior that the loss reads as classes: C for sigmoids, C + 1 for a softmax."""
BoxChannels = Annotated[int, Marker("box_channels")]
"""Numbers per prior that describe a box, as the geometry or coder reads them."""
PriorsPerCell = Annotated[int, Marker("priors_per_cell")]
"""A: priors per cell of a map."""
Section = Annotated[T, Marker("section")]
"""A table without ``type``: the class T itself, built from the table's keys."""
RoISize = Annotated[int, Marker("roi_size")]
"""Side of the square map that an extractor cuts out for a region."""


@attrs.frozen
class Flow:
    """The values that flow into a component, and the object each came from (for messages).

    ``channels`` and ``strides`` hold one value per level, shallow to deep; None is "not known here".
    """

    channels: Sequence[int] | None = None
    strides: Sequence[int] | None = None
    classes: Sequence[str] | None = None
    num_classes: int | None = None
    class_channels: int | None = None
    box_channels: int | None = None
    priors_per_cell: int | None = None
    roi_size: int | None = None
    sources: Mapping[str, object] = attrs.field(factory=dict)

    def having(self, source: object, **values: Any) -> Flow:
        """This flow with ``values`` replaced, each coming from ``source``."""
        return attrs.evolve(self, **values, sources={**self.sources, **dict.fromkeys(values, source)})

    def after(self, source: Backbone | Neck) -> Flow:
        """This flow behind a backbone or neck: its channels and strides."""
        return self.having(source, channels=tuple(source.out_channels), strides=tuple(source.strides))

    def first(self, levels: int) -> Flow:
        """This flow with the channels and strides of the first ``levels`` levels only, the shallowest."""
        channels, strides = self.channels, self.strides
        return attrs.evolve(self, channels=channels and channels[:levels], strides=strides and strides[:levels])


class Container:
    """A component that passes something on to its children. Children are built in the order of the constructor."""

    @staticmethod
    def flow_to(child: str, built: Mapping[str, Any], flow: Flow) -> Flow:
        """What the child at parameter ``child`` receives.

        Args:
            child: The parameter's name.
            built: The parameters whose values are known by now, children and plain values alike, by name; of a sequence
                that is being built, the elements before this one.
            flow: What the container itself received.
        """
        return flow


class Factory(Protocol[T_co]):
    """Builds a T: the config's keys are bound; the owner gives the leading arguments (channels, parameters, ...)."""

    def __call__(self, *args: Any, **kwargs: Any) -> T_co:
        """Build it."""


# ---------------------------------------------------------------------------------------------------- the network


class Norm(nn.Module):
    """Kind of normalisation layers; owners call ``norm(channels)``. Components need not derive from it."""


class Conv(nn.Module):
    """Kind of convolutions; owners call ``conv(in_channels, out_channels, kernel_size, *, stride, padding, dilation,
    groups, bias)``. Components need not derive from it; the layer has ``weight``, ``bias`` and ``out_channels``."""


class Activation(nn.Module):
    """Kind of activations; owners call ``act()``. Components need not derive from it."""


class Backbone(nn.Module, ABC):
    """Images to a pyramid of maps.

    Attributes:
        out_channels: Channels of each map that :meth:`forward` returns, shallow to deep.
        strides: Input pixels per cell of each of these maps.
    """

    out_channels: Sequence[int]
    strides: Sequence[int]

    @abstractmethod
    def forward(self, images: Tensor) -> Features:
        """(B, 3, H, W) -> L maps (B, C_l, H_l, W_l) with H_l = ceil(H / stride_l)."""


class Neck(nn.Module, ABC):
    """A pyramid to a pyramid; declares ``out_channels`` and ``strides`` of what it returns, as a backbone does."""

    out_channels: Sequence[int]
    strides: Sequence[int]

    @abstractmethod
    def forward(self, features: Features) -> Features:
        """L maps (B, C_l, H_l, W_l) -> L' maps."""


class DenseHead(nn.Module, ABC):
    """Maps to losses and detections. Most heads are a ``ComposedHead``; others implement these three methods."""

    @abstractmethod
    def forward(self, features: Features, batch: Batch) -> Any:
        """The predictions: opaque to the detector, computed once per step, given to the two methods below."""

    @abstractmethod
    def losses(self, predictions: Any, batch: Batch) -> Losses:
        """Named scalars, tied to every parameter of the head even where no image has an object."""

    @abstractmethod
    def detections(self, predictions: Any, batch: Batch, *, train: bool = False) -> list[Detections]:
        """Per image what was found, in input pixels. ``train`` asks for the proposals that a second stage trains on."""


# ------------------------------------------------------------------------------------------ parts of a dense head


class Geometry(nn.Module, ABC):
    """Where the priors are, and what a predicted vector means in pixels.

    Attributes:
        priors_per_cell: A.
        box_channels: Numbers per prior that :meth:`decode` reads.
    """

    priors_per_cell: int
    box_channels: int = 4

    @abstractmethod
    def priors(self, features: Features, batch: Batch) -> Priors:
        """The priors of the L maps, level by level, cell by cell (rows first), A side by side."""

    @abstractmethod
    def encode(self, priors: Tensor, stride: Tensor, boxes: Tensor) -> Tensor:
        """(..., 2|4) priors, (...) strides, (..., 4) boxes -> (..., K) vectors, the inverse of :meth:`decode`."""

    @abstractmethod
    def decode(self, priors: Tensor, stride: Tensor, vectors: Tensor) -> Tensor:
        """(..., 2|4) priors, (...) strides, (..., K) vectors -> (..., 4) boxes, not clipped."""


class HeadNetwork(nn.Module, ABC):
    """Which numbers per prior."""

    @abstractmethod
    def forward(self, features: Features) -> Mapping[str, Sequence[Tensor]]:
        """L maps -> per name L maps: ``cls`` (B, A*class_channels, H, W), ``box`` (B, A*box_channels, H, W), others."""


class Assigner(nn.Module, ABC):
    """Which prior answers for which object."""

    @abstractmethod
    def forward(self, predictions: Any, batch: Batch) -> Matches:
        """Predictions of a composed head, or :class:`Regions` of a RoI stage, and a batch with targets -> matches.

        No gradient flows. An assigner that reads no more than ``predictions.priors`` serves both.
        """


class Sampler(nn.Module, ABC):
    """Which of the matched priors take part in the losses.

    Attributes:
        needs_losses: Whether it reads ``matches.losses``; a RoI stage then classifies all regions before it is asked.
    """

    needs_losses: bool = False

    @abstractmethod
    def forward(self, matches: Matches) -> Matches:
        """The same matches with -2 (ignored) where a prior is left out."""


class Loss(nn.Module, ABC):
    """How wrong numbers are: focal, GIoU, L1, ...

    Attributes:
        softmax: Whether it reads class logits as a softmax with background last (class losses only).
        decoded: Whether it reads boxes in pixels rather than encoded vectors (box losses only).
    """

    softmax: bool = False
    decoded: bool = False

    @abstractmethod
    def forward(
        self, input: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """How wrong ``input`` is, as a scalar.

        Args:
            input: (..., C) class logits, or (..., K) boxes or vectors.
            target: (...) labels, C or -1 for background; or the input's shape.
            weight: (...) or, except of a softmax, the input's shape; multiplied before reduction.
            avg_factor: Divides the sum where the reduction is the mean; None divides by the number of elements.
        """


class DenseLoss(Container, nn.Module, ABC):
    """The losses of a composed dense head, made of :class:`Loss` parts.

    Attributes:
        softmax: Whether class logits are a softmax with background last; decides the class channels.
    """

    softmax: bool = False

    @abstractmethod
    def forward(self, predictions: Predictions, matches: Matches, batch: Batch) -> Losses:
        """Named scalars: ``loss_cls``, ``loss_box``, ..."""

    def class_channels(self, num_classes: int) -> int:
        """Numbers per prior that the class loss reads."""
        return num_classes + 1 if self.softmax else num_classes


class Decoder(nn.Module, ABC):
    """Which detections come out."""

    @abstractmethod
    def forward(self, predictions: Predictions, batch: Batch, *, train: bool = False) -> list[Detections]:
        """Per image the detections in input pixels, best first, clipped to the image unless the decoder is told not to.

        ``train`` asks for the proposals that a second stage trains on.
        """


# --------------------------------------------------------------------------------------------- parts of a RoI head


class RoIHead(nn.Module, ABC):
    """A second stage: proposals to losses and detections.

    Attributes:
        class_major: Where a tensor has several rows per class they stand together; see :mod:`detcore.transfer`.
    """

    class_major: ClassVar[bool] = True

    @abstractmethod
    def losses(self, features: Features, proposals: Sequence[Detections], batch: Batch) -> Losses:
        """Named scalars, tied to every parameter of the head even where there is no proposal and no object."""

    @abstractmethod
    def detections(self, features: Features, proposals: Sequence[Detections], batch: Batch) -> list[Detections]:
        """Per image what was found, in input pixels."""


class RoIExtractor(nn.Module, ABC):
    """Cuts the maps of regions out of a pyramid.

    Attributes:
        out_channels: Channels of what comes out.
        roi_size: Side of the square map that comes out.
    """

    out_channels: int
    roi_size: int

    @abstractmethod
    def forward(self, features: Features, rois: Tensor, scale: float = 1.0) -> Tensor:
        """L maps and RoIs (R, 5: image, x1, y1, x2, y2) -> (R, C, S, S).

        ``scale`` multiplies the sides of what is cut out, about the centre; which level a region is cut from depends on
        the region itself.
        """


class Extract(Protocol):
    """Gives a box head or branch the maps (R, C, S, S) of its regions, their sides scaled about the centre."""

    def __call__(self, scale: float = 1.0) -> Tensor:
        """Cut them out."""


class BoxHead(nn.Module, ABC):
    """The numbers of a region."""

    @abstractmethod
    def forward(self, extract: Extract) -> tuple[Tensor, Tensor]:
        """-> class logits (R, C + 1), background last, and deltas (R, C * 4), or (R, 4) where class-agnostic."""


class BoxCoder(nn.Module, ABC):
    """Boxes relative to boxes."""

    box_channels: int = 4

    @abstractmethod
    def encode(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """(..., 4) boxes, (..., 4) targets -> (..., 4) deltas, the inverse of :meth:`decode`."""

    @abstractmethod
    def decode(self, boxes: Tensor, deltas: Tensor) -> Tensor:
        """(..., 4) boxes, (..., 4) deltas -> (..., 4) boxes, not clipped."""


class RoIBranch(Container, nn.Module, ABC):
    """What a second stage predicts beside boxes: masks, mask scores, keypoints."""

    @abstractmethod
    def losses(self, features: Features, samples: RoISamples, outputs: dict[str, Tensor], batch: Batch) -> Losses:
        """Named scalars of the sampled regions. ``outputs`` holds what earlier branches left for later ones by name;
        a branch adds its own."""

    @abstractmethod
    def detections(
        self, features: Features, found: Sequence[Detections], outputs: dict[str, Tensor], batch: Batch
    ) -> list[Detections]:
        """The detections with what the branch adds to them (``masks``, changed scores)."""


class RoIDecoder(nn.Module, ABC):
    """Which regions become detections."""

    @abstractmethod
    def forward(self, boxes: Tensor, scores: Tensor, size: Tensor) -> Detections:
        """What becomes of the regions of one image: clipped, best first.

        Args:
            boxes: (R, 4), or (R, C, 4) with one for each class.
            scores: (R, C) class probabilities, background left out.
            size: (2,) the image's height and width.
        """


# -------------------------------------------------------------------------------------------- detectors and their run


class Detector(Container, nn.Module, ABC):
    """Images to losses or detections. A batch holds normalised images; see :class:`detcore.structures.Batch`.

    Attributes:
        frozen: Layers of it that stay in evaluation mode while it trains.
    """

    frozen: Sequence[nn.Module] = ()

    def train(self, mode: bool = True) -> Self:
        """As any module, except for what is frozen."""
        super().train(mode)
        for layer in self.frozen:
            layer.eval()
        return self

    @abstractmethod
    def losses(self, batch: Batch) -> Losses:
        """Named scalars of one training step, in one forward pass."""

    @abstractmethod
    def detections(self, batch: Batch) -> list[Detections]:
        """Per image the detections, in input pixels."""

    def forward(self, batch: Batch, mode: str = "losses") -> Any:
        """:meth:`losses` or :meth:`detections`, by name, so that wrappers (DDP, compile) see one call."""
        return self.losses(batch) if mode == "losses" else self.detections(batch)


@runtime_checkable
class Dataset(Protocol):
    """Images with objects, by number.

    ``dataset[i]`` is what torchvision's detection convention yields: ``(tv_tensors.Image, {"boxes":
    tv_tensors.BoundingBoxes (XYXY), "labels": (G,) int64 from 0, "image_id": int or str, "iscrowd": (G,), "area": (G,),
    ...})``.
    """

    classes: Sequence[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]: ...


class Order(ABC):
    """In which order an epoch goes through a dataset; owners call ``order(dataset, batch_size)``."""

    @abstractmethod
    def __len__(self) -> int:
        """Samples of an epoch: the same number in all."""

    @abstractmethod
    def __call__(self, seed: int, epoch: int) -> Sequence[int]:
        """Indices, any of them as often as it likes; a pure function, so that a run can be resumed anywhere.

        Batches, of all ranks together, are cut from the front.
        """


class Evaluator(ABC):
    """Scores detections; owners call ``evaluator(dataset)``."""

    @abstractmethod
    def update(self, detections: Sequence[Detections], ids: Sequence[int | str]) -> None:
        """Take the detections of some images, in original pixels."""

    def update_rows(self, rows: Sequence[Mapping[str, Any]], where: str) -> bool:
        """Take all rows of COCO's results JSON as they are, masks included; False: it wants :meth:`update` instead.

        Args:
            rows: Of the dataset's images and categories.
            where: The file, for messages.
        """
        return False

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """All metrics by name, the main one first; what is higher-is-better is a fraction, 0 without any detection."""

    def results(self) -> list[dict[str, Any]] | None:
        """What was found so far as rows of COCO's results JSON, where it has made them; else None."""
        return None


@attrs.frozen
class Progress:
    """Where a run is.

    Attributes:
        step: Optimizer steps done.
        steps: Optimizer steps of the whole run.
        steps_per_epoch: Of one pass over the data.
    """

    step: int
    steps: int
    steps_per_epoch: int


class Schedule(ABC):
    """A factor of the learning rate as a pure function of progress; several multiply."""

    @abstractmethod
    def __call__(self, progress: Progress) -> float:
        """The factor for the step that is about to be made (``progress.step`` steps are done)."""


class Callback:
    """Something that happens beside training. Each method is called with the run; by default it does nothing.

    Attributes:
        stage: When it is called among the others: ``update``, ``evaluate``, ``report``, ``save``, in this order. Where
            several processes train, those of the first two stages are called in each, the others in the first one.
    """

    stage: ClassVar[str] = "report"

    def run_started(self, run: Any) -> None:
        """Before the first step, after a resume."""

    def epoch_started(self, run: Any) -> None:
        """Before the first step of an epoch, and where one is resumed within."""

    def step_done(self, run: Any, losses: Losses) -> None:
        """After each optimizer step; ``losses`` are on the device: reading one waits for it."""

    def reported(self, run: Any, values: Mapping[str, float]) -> None:
        """Every ``run.report_every`` steps: the learning rate, and means since the last report."""

    def evaluation_progress(self, run: Any, done: int, total: int) -> None:
        """After each batch of an evaluation."""

    def evaluated(self, run: Any, metrics: Mapping[str, float]) -> None:
        """After each evaluation; ``run.evaluation`` holds what was found."""

    def checkpoint_saved(self, run: Any, path: Any) -> None:
        """After each checkpoint."""

    def run_ended(self, run: Any) -> None:
        """After the last step."""

    def run_failed(self, run: Any, error: BaseException) -> None:
        """An error or a signal ends the run; it goes on to the user after this."""

    def step_replayed(self, detector: Any, seed: int, step: int) -> None:
        """Before a saved step is computed again, by a fresh detector: what :meth:`run_started` does to the run's."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs; tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
