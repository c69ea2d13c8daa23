"""The conformance kit: one line in a plugin's tests holds a component to its interface.

    check_backbone(MyBackbone, depth=18)
    check_neck(MyNeck, out_channels=32)              # channels and strides are filled in, as the build fills them
    check_dense_head(my_head)                        # a class, or a function whose parameters have markers
    check_box_head(MyBoxHead)
    check_loss(MyLoss(), reads="boxes")
    check_dataset(MyDataset(root=folder))
    check_evaluator(MyEvaluator, MyDataset(root=folder))

Each returns nothing, or raises :class:`ConformanceError`. All runs on the CPU, on small inputs from fixed seeds; the
caller's random generators stay as they were. A check makes its component several times: let it be a small one.
"""

from __future__ import annotations

import copy
import functools
import math
import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import attrs
import torch
from torch import Tensor, nn
from torchvision import tv_tensors

from detcore.build import broken_promise, flowing
from detcore.data import sample_problem, seeded
from detcore.errors import ConfigError
from detcore.interfaces import Backbone, BoxHead, Dataset, DenseHead, Evaluator, Flow, Loss, Neck
from detcore.polygons import PolygonPoints
from detcore.signature import Parameter, read
from detcore.structures import BACKGROUND, Batch, Detections, Targets, total_loss

Size = tuple[int, int]
Reads = Literal["classes", "probabilities", "numbers", "boxes"]

SIZES: Sequence[Size] = ((64, 96), (97, 131), (71, 64))
"""Heights and widths of images; odd ones, too."""
MAPS = Flow(channels=(8, 16, 24, 32), strides=(4, 8, 16, 32))
"""What flows into a neck."""
HEAD_MAPS = Flow(channels=(16,) * 5, strides=(8, 16, 32, 64, 128), num_classes=3)
"""What flows into a dense head."""
REGIONS = Flow(channels=(16,), roi_size=7, class_channels=4, box_channels=12)
"""What flows into a box head: the maps of regions, and how many logits and deltas are wanted."""

_TIED = "Every trainable parameter is part of every step, if with a zero gradient: distributed training waits for it."
_ABSENT = "What an image lacks has weight 0, and sums are divided by 1 at least: finite, and tied to everything."
_FIRST = "one object in each image"
_CASES: Mapping[str, tuple[Size, bool]] = {  # objects of the two images, and whether all are crowds
    _FIRST: ((1, 1), False),
    "no object": ((0, 0), False),
    "no object in one of the images": ((3, 0), False),
    "300 objects": ((300, 2), False),
    "nothing but crowds": ((2, 1), True),
}


class ConformanceError(AssertionError):
    """A component breaks a contract.

    Args:
        component: Its name.
        found: Which contract it breaks, and how.
        fix: What would be right.
    """

    def __init__(self, component: str, found: str, fix: str = "") -> None:
        super().__init__(f"{component}: {found}. {fix}" if fix else f"{component}: {found}")


# --------------------------------------------------------------------------------------------- backbones and necks


def check_backbone(make: Callable[..., Backbone], *, sizes: Sequence[Size] = SIZES, **options: Any) -> None:
    """Declared channels and strides against the maps; gradients; equal outputs of equal seeds; state.

    Args:
        make: The class, or anything that makes one.
        sizes: Heights and widths of images that it must read.
        options: Given to ``make``.

    Raises:
        ConformanceError: A contract is broken.
    """
    _check_pyramid(_Maker(make, Backbone, Flow(), options), sizes, lambda size: _noise(2, 3, *size))


def check_neck(make: Callable[..., Neck], *, flow: Flow = MAPS, sizes: Sequence[Size] = SIZES, **options: Any) -> None:
    """As :func:`check_backbone`; nor may it change the maps it reads.

    Args:
        make: The class, or a function that makes one; parameters with a marker are filled from ``flow``.
        flow: Channels and strides of the maps it reads; ``Channels[int]`` needs equal channels.
        sizes: Heights and widths of the images.
        options: Given to ``make``; they override ``flow``.

    Raises:
        ConformanceError: A contract is broken.
    """
    _check_pyramid(_Maker(make, Neck, flow, options), sizes, lambda size: _maps(flow, size))


def _check_pyramid(make: _Maker, sizes: Sequence[Size], inputs: Callable[[Size], Any]) -> None:
    module = make()
    for size in sizes:
        given, when = inputs(size), f"on images of {size[0]} x {size[1]}"
        with seeded(1), _unchanged(make.name, "what it reads", given), _during(make.name, when):
            maps = module(given)
        _check_maps(module, maps, size)
    _check_gradients(module, sum(each.sum() for each in maps), when)
    given = inputs(sizes[0])
    _check_state(make, lambda module: list(module(given)))


def _check_maps(module: Any, maps: Sequence[Tensor], size: Size) -> None:
    name, of = type(module).__name__, f"of images of {size[0]} x {size[1]}"
    if not len(module.out_channels) == len(module.strides) == len(maps):
        declared = f"{len(module.out_channels)} out_channels and {len(module.strides)} strides"
        raise ConformanceError(name, f"declares {declared}, but returns {len(maps)} maps", "One of each per map.")
    for level, (each, channels, stride) in enumerate(zip(maps, module.out_channels, module.strides, strict=True)):
        wanted = (2, channels, -(-size[0] // stride), -(-size[1] // stride))
        if tuple(each.shape) != wanted:
            found = f"map {level} {of} has the shape {tuple(each.shape)}, declared is {wanted}"
            raise ConformanceError(name, found, "It is (B, out_channels, H / stride and W / stride, rounded up).")
        if each.dtype != torch.float32 or not each.isfinite().all():
            what = each.dtype if each.dtype != torch.float32 else "not finite"
            raise ConformanceError(name, f"map {level} {of} is {what}", "Float32 images give finite float32 maps.")


# ----------------------------------------------------------------------------------------------------- dense heads


def check_dense_head(
    make: Callable[..., DenseHead], *, flow: Flow = HEAD_MAPS, size: Size = (128, 160), **options: Any
) -> None:
    """Losses of none, some and many objects and of crowds; gradients; seeds; state; the detections.

    Args:
        make: The class, or a function that makes one; parameters with a marker (``in_channels: Channels[int]``,
            ``strides: Strides[Sequence[int]]``, ``num_classes: NumClasses``) are filled from ``flow``.
        flow: Channels and strides of the maps, and the number of classes.
        size: Height and width of the batch; its second image is smaller.
        options: Given to ``make``; they override ``flow``.

    Raises:
        ConformanceError: A contract is broken.
    """
    make_head, maps, classes = _Maker(make, DenseHead, flow, options), _maps(flow, size), flow.num_classes or 1
    head, batches = make_head(), {what: _batch(*case, size, classes) for what, case in _CASES.items()}
    first = _check_losses(head, maps, batches[_FIRST], _FIRST)
    for what, batch in batches.items():
        found = _check_losses(head, maps, batch, what)
        for subject, now, before in zip(("the losses are", "gradients reach maps"), found, first, strict=True):
            if now != before:
                change = f"{subject} {', '.join(now) or 'none'} with {what}, but {', '.join(before)} with {_FIRST}"
                raise ConformanceError(make_head.name, change, _ABSENT)
    some = batches[_FIRST]
    _check_state(make_head, lambda head: (head.losses(head(maps, some), some), _found(head, maps, some)))
    _check_detections(head.eval(), maps, some, classes)


def _check_losses(head: Any, maps: Sequence[Tensor], batch: Batch, what: str) -> tuple[list[str], list[str]]:
    """Names of the losses, and numbers of the maps that gradients reach."""
    name, when = type(head).__name__, f"with {what}"
    leaves = [each.clone().requires_grad_() for each in maps]
    given = [each * 1 for each in leaves]  # else autograd refuses changes in place, which are to be found
    with seeded(1), _unchanged(name, "its maps or its batch", given, batch), _during(name, f"in losses() {when}"):
        losses = head.losses(head(given, batch), batch)
    for term, value in losses.items():
        if not isinstance(value, Tensor) or value.dim() != 0:
            found = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise ConformanceError(name, f"{term} is {found} {when}", "Losses are tensors of no dimension.")
        if not value.isfinite():
            raise ConformanceError(name, f"{term} is {value.item()} {when}", _ABSENT)
    if not any("loss" in term for term in losses):
        raise ConformanceError(name, f"no name of {[*losses]} contains `loss`", "What is trained on does, alone.")
    _check_gradients(head, total_loss(losses), when)
    reached = [str(level) for level, leaf in enumerate(leaves) if leaf.grad is not None]
    if not reached:
        raise ConformanceError(name, f"no gradient reaches its maps {when}", "The backbone learns through them.")
    return sorted(losses), reached


def _check_detections(head: Any, maps: Sequence[Tensor], batch: Batch, classes: int) -> None:
    name = type(head).__name__
    for noise in (0.0, 0.01, 0.03, 0.1, 0.3):  # a fresh head may rightly find nothing
        with seeded(3), torch.no_grad():
            for parameter in head.parameters():
                parameter.add_(noise * torch.randn_like(parameter))
        for train in (True, False):
            found = _found(head, maps, batch, train=train)
            _check_found(name, found, batch, classes)
        if any(map(len, found)):
            break
    else:
        found_nothing = "finds nothing in eval mode, even with random weights, so its detections cannot be checked"
        raise ConformanceError(name, found_nothing, "Give it a lower score threshold in this test.")
    blind = _found(head, maps, attrs.evolve(batch, targets=None))
    if difference := _difference(found, blind):
        raise ConformanceError(name, f"detections depend on the targets: {difference}", "At inference there are none.")


def _found(head: Any, maps: Sequence[Tensor], batch: Batch, *, train: bool = False) -> Any:
    with seeded(2), torch.no_grad(), _during(type(head).__name__, f"in detections(train={train})"):
        return head.detections(head(maps, batch), batch, train=train)


def _check_found(name: str, found: Sequence[Detections], batch: Batch, classes: int) -> None:
    if len(found) != len(batch):
        raise ConformanceError(name, f"{len(found)} detections of {len(batch)} images", "One record per image.")
    for image, (each, size) in enumerate(zip(found, batch.sizes, strict=True)):
        if problem := _detection_problem(each, size, classes):
            raise ConformanceError(name, f"detections of image {image}: {problem[0]}", problem[1])


def _detection_problem(found: Detections, size: Tensor, classes: int) -> tuple[str, str] | None:
    boxes, scores, labels = found.boxes, found.scores, found.labels
    shapes = f"boxes {_kind(boxes)}, scores {_kind(scores)}, labels {_kind(labels)}"
    count = len(scores)
    if shapes != f"boxes ({count}, 4) float32, scores ({count},) float32, labels ({count},) int64":
        return shapes, "They are boxes (D, 4) float32, scores (D,) float32, labels (D,) int64."
    if not (boxes.isfinite().all() and scores.isfinite().all()):
        return "a number is not finite", "Clip what is decoded."
    if (scores.diff() > 0).any():
        return "scores are not sorted", "The best is first."
    if count and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        return f"labels are {int(labels.min())} to {int(labels.max())}", f"They are 0 to {classes - 1}."
    height, width = size.tolist()
    if (boxes < 0).any() or (boxes > torch.tensor([width, height, width, height])).any():
        return f"a box is outside the image of {height:g} x {width:g}", "Clip them to batch.sizes."
    if (boxes[:, 2:] < boxes[:, :2]).any():
        return "a box ends before it begins", "They are x1, y1, x2, y2."
    return None


# ------------------------------------------------------------------------------------------------------- box heads


def check_box_head(make: Callable[..., BoxHead], *, flow: Flow = REGIONS, **options: Any) -> None:
    """Logits and deltas of many regions, one and none; gradients; each region by itself in eval mode; seeds; state.

    Args:
        make: The class, or a function that makes one; parameters with a marker are filled from ``flow``.
        flow: Channels and side of the maps of regions, numbers of logits and deltas.
        options: Given to ``make``; they override ``flow``.

    Raises:
        ConformanceError: A contract is broken.
    """
    make_head = _Maker(make, BoxHead, flow, options)
    head, name = make_head(), make_head.name
    (channels,), side = flow.channels or (1,), flow.roi_size or 1
    maps = _noise(32, channels, side, side)
    for count in (len(maps), 1, 0):
        leaf, when = maps[:count].clone().requires_grad_(), f"for {count} regions"
        with seeded(1), _during(name, when):
            found = head(_extract(leaf))
        _check_rows(name, found, (count, flow.class_channels), (count, flow.box_channels), when)
        _check_gradients(head, found[0].sum() + found[1].sum(), when)
        if leaf.grad is None:
            raise ConformanceError(name, f"no gradient reaches its regions {when}", "The backbone learns through them.")
    _check_state(make_head, lambda head: list(head(_extract(maps))))
    with torch.no_grad():
        some, all_of_them = (list(head.eval()(_extract(each))) for each in (maps[:5], maps))
    if difference := _difference(some, [each[:5] for each in all_of_them]):
        found = f"a region depends on the others in eval mode: {difference}"
        raise ConformanceError(name, found, "How many proposals there are changes no detection.")


def _extract(maps: Tensor) -> Callable[..., Tensor]:
    """Cuts out these maps; with another scale, other ones."""
    return lambda scale=1.0: maps * scale


def _check_rows(name: str, found: Any, logits: Any, deltas: Any, when: str) -> None:
    shapes = [_kind(each) for each in found] if isinstance(found, tuple) else type(found).__name__
    wanted = [f"{shape} float32" for shape in (logits, deltas)]
    if shapes != wanted:
        raise ConformanceError(name, f"gives {shapes} {when}, wanted is {wanted}", "They are class logits and deltas.")
    if not all(each.isfinite().all() for each in found):
        raise ConformanceError(name, f"a number is not finite {when}")


# ---------------------------------------------------------------------------------------------------------- losses


@attrs.frozen(eq=False)
class _Example:
    input: Tensor
    target: Tensor
    perfect: tuple[Tensor, Tensor]  # an input, and the target that it meets
    hard: Mapping[str, Tensor]  # inputs at which naive formulas overflow or divide by zero


def check_loss(loss: Loss, *, reads: Reads, zero: bool = True) -> None:
    """Finite scalars and gradients, of extreme inputs and none; what weights and ``avg_factor`` mean; perfection.

    Args:
        loss: With its mean reduction.
        reads: ``classes``: logits (N, C) (C + 1 of a softmax) and int64 classes (N,), background -1 or C;
            ``probabilities``: logits and targets from 0 to 1 (N, C); ``numbers``: any (N, 4) and (N, 4);
            ``boxes``: (N, 4) and (N, 4) in pixels.
        zero: Whether a perfect prediction costs nothing.

    Raises:
        ConformanceError: A contract is broken.
    """
    name = type(loss).__name__
    if loss.decoded != (reads == "boxes"):
        found = f"reads {reads}, but decoded is {loss.decoded}"
        raise ConformanceError(name, found, "`decoded = True` asks for boxes in pixels rather than vectors.")
    with seeded(0):
        example = _EXAMPLES[reads](loss.softmax)
    _check_reduction(loss, example)
    for what, values in example.hard.items():
        _value(loss, f"of {what}", values, example.target, avg_factor=4.0)
    _value(loss, "of float16 numbers", example.input.half(), example.target, avg_factor=4.0)
    for options in ({}, {"avg_factor": 1.0}):
        nothing, _ = _value(loss, "of no rows", example.input[:0], example.target[:0], **options)
        _same(name, "no rows cost nothing", nothing, 0.0)
    (wrong, gradient), (perfect, _) = (
        _value(loss, what, values, example.perfect[1], avg_factor=4.0)
        for what, values in (("of a wrong prediction", example.input), ("of a perfect prediction", example.perfect[0]))
    )
    if perfect > wrong or (zero and abs(perfect) > 1e-4):
        found = f"a perfect prediction costs {perfect:.4g}, a wrong one {wrong:.4g}"
        raise ConformanceError(name, found, "The perfect one costs nothing." if zero else "The perfect one costs less.")
    if not gradient.any():
        raise ConformanceError(name, "a wrong prediction has no gradient", "Something must pull it to the target.")


def _check_reduction(loss: Loss, example: _Example) -> None:
    name, given, goal = type(loss).__name__, example.input, example.target
    rows = len(given)
    one, first_left_out = torch.ones(rows), (torch.arange(rows) > 0).float()

    def cost(what: str, input: Tensor = given, target: Tensor = goal, **options: Any) -> float:
        return _value(loss, what, input, target, **{"avg_factor": 4.0, **options})[0]

    whole, twice = cost("with an avg_factor"), (torch.cat([given, given]), torch.cat([goal, goal]))
    mean = cost("without avg_factor", avg_factor=None)
    facts = [
        ("twice the avg_factor halves it", cost("with an avg_factor", avg_factor=8.0), whole / 2),
        ("avg_factor may be a tensor", cost("with a tensor avg_factor", avg_factor=torch.tensor(4.0)), whole),
        ("the same rows twice double it", cost("of more rows", *twice), 2 * whole),
        ("without avg_factor it is a mean", cost("without avg_factor", *twice, avg_factor=None), mean),
        ("weights of 2 double it", cost("with weights", weight=2 * one), 2 * whole),
        ("weights of 0 leave nothing", cost("with weights of 0", weight=0 * one), 0.0),
        ("a row of weight 0 is left out", cost("with weights", weight=first_left_out), cost("", given[1:], goal[1:])),
    ]
    if not loss.softmax:
        full = first_left_out[:, None].expand_as(given)
        of_rows = cost("with weights", weight=first_left_out)
        facts.append(("weights may have the input's shape", cost("with weights of its shape", weight=full), of_rows))
    if not goal.is_floating_point():
        other = torch.where(goal == BACKGROUND, given.shape[1] - loss.softmax, goal)
        facts.append(("background is -1 or C", cost("with background C", target=other), whole))
    for fact, found, wanted in facts:
        _same(name, fact, found, wanted)


def _value(loss: Loss, what: str, input: Tensor, target: Tensor, **options: Any) -> tuple[float, Tensor]:
    """A loss and its gradient, both finite."""
    name, leaf = type(loss).__name__, input.clone().requires_grad_()
    with seeded(1), _unchanged(name, "its target", target), _during(name, what):
        value = loss(leaf, target, **options)
    if not isinstance(value, Tensor) or value.dim() != 0:
        found = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise ConformanceError(name, f"the loss {what} is {found}", "With its mean reduction it is a scalar.")
    if not value.isfinite():
        raise ConformanceError(name, f"the loss {what} is {value.item()}", _ABSENT if not len(input) else "")
    gradient = torch.autograd.grad(value, leaf, allow_unused=True)[0] if value.requires_grad else None
    if gradient is None or not gradient.isfinite().all():
        found = "no gradient" if gradient is None else "a gradient that is not finite"
        raise ConformanceError(name, f"the loss {what} has {found}", "It is finite and tied to the input, always.")
    return value.item(), gradient


def _same(name: str, fact: str, found: float, wanted: float) -> None:
    if not math.isclose(found, wanted, rel_tol=1e-3, abs_tol=1e-5):
        fix = "weight multiplies the loss of each row; avg_factor divides the sum, else their number does."
        raise ConformanceError(name, f"{fact}, but it is {found:.4g}, not {wanted:.4g}", fix)


def _classes(softmax: bool) -> _Example:
    input, target = torch.randn(8, 4 + softmax), torch.tensor([0, 1, 2, 3, 0, 1, BACKGROUND, BACKGROUND])
    met = torch.where(target[:, None] % 5 == torch.arange(4 + softmax), 50.0, -50.0)
    return _Example(input, target, (met, target), {"large logits": 1e4 * input, "sure and wrong logits": -100 * met})


def _probabilities(softmax: bool) -> _Example:
    input, target = torch.randn(8, 4), torch.rand(8, 4).where(torch.arange(8)[:, None] > 1, 1.0)
    certain = target.round()
    met = 100 * certain - 50
    return _Example(input, target, (met, certain), {"large logits": 1e4 * input, "sure and wrong logits": -100 * met})


def _numbers(softmax: bool) -> _Example:
    input, target = torch.randn(8, 4), torch.randn(8, 4)
    return _Example(input, target, (target, target), {"large numbers": 1e4 * input})


def _boxes(softmax: bool) -> _Example:
    target = _random_boxes(8, 600, 800)
    input = target + 4 * torch.randn(8, 4)
    hard = {
        "boxes without area": target[:, [0, 1, 0, 1]],
        "boxes that end before they begin": target[:, [2, 3, 0, 1]],
        "boxes far from their targets": target + 1e5,
    }
    return _Example(input, target, (target, target), hard)


_EXAMPLES: Mapping[str, Callable[[bool], _Example]] = {
    "classes": _classes,
    "probabilities": _probabilities,
    "numbers": _numbers,
    "boxes": _boxes,
}


# ------------------------------------------------------------------------------------------ datasets and evaluators


def check_dataset(dataset: Dataset, *, samples: int = 20) -> None:
    """Classes; the convention of :class:`detcore.interfaces.Dataset`; unique ids; equal reads; copies for workers.

    Args:
        dataset: Before any transform.
        samples: How many images are read, evenly spread.

    Raises:
        ConformanceError: A contract is broken.
    """
    name = type(dataset).__name__
    if not isinstance(dataset, Dataset):
        raise ConformanceError(name, "is no Dataset", "It has classes, __len__ and __getitem__.")
    classes, length = dataset.classes, len(dataset)
    if isinstance(classes, str) or not classes or len(set(classes)) < len(classes):
        raise ConformanceError(name, f"classes are {classes!r}", "They are names, at least one, each once.")
    if not length:
        raise ConformanceError(name, "has no images", "An empty dataset is a DataError where it is made.")
    with _during(name, "when it is pickled, as workers need it"):
        twin = pickle.loads(pickle.dumps(dataset))
    ids: Counter[int | str] = Counter()
    for index in range(0, length, -(-length // samples)):
        with _during(name, f"in [{index}]"):
            first, again, of_twin = dataset[index], dataset[index], twin[index]
        if problem := _sample_problem(first, len(classes)):
            raise ConformanceError(name, f"[{index}]: {problem}", "See detcore.interfaces.Dataset.")
        for other, what in ((again, "read again"), (of_twin, "read from a copy")):
            if difference := _difference(first, other):
                raise ConformanceError(name, f"[{index}] is another when {what}: {difference}", "Chance: transforms.")
        ids[first[1]["image_id"]] += 1
    twice = [each for each, count in ids.items() if count > 1]
    if twice:
        raise ConformanceError(name, f"image_id {twice[0]!r} is that of two images", "Each image has its own.")


def _sample_problem(sample: Any, classes: int) -> str:
    """What is wrong with a sample of a dataset, or the empty string."""
    if not (isinstance(sample, tuple) and len(sample) == 2 and isinstance(sample[1], dict)):
        return "it must be a tuple (image, target) with a dict as target"
    image, target = sample
    kinds = {"boxes": tv_tensors.BoundingBoxes, "labels": Tensor, "image_id": (int, str)}
    for key, kind in {**kinds, "masks": tv_tensors.Mask, "polygons": PolygonPoints}.items():
        if key not in target and key in kinds:
            return f"the target has no {key}"
        if key in target and not isinstance(target[key], kind):
            wanted = "int or str" if isinstance(kind, tuple) else kind.__name__
            return f"{key} must be {wanted}, found {type(target[key]).__name__}"
    if not isinstance(image, tv_tensors.Image):
        return f"the image must be a tv_tensors.Image, found a {type(image).__name__}"
    boxes, labels = target["boxes"], target["labels"]
    if problem := sample_problem(image, target, classes):
        return problem
    if boxes.dtype != torch.float32 or labels.dtype != torch.int64:
        return f"boxes must be float32 and labels int64, found {boxes.dtype} and {labels.dtype}"
    height, width = image.shape[-2:]
    if boxes.canvas_size != (height, width):
        return f"boxes lie on a canvas of {boxes.canvas_size}, but the image is {(height, width)} (height, width)"
    corners = boxes.as_subclass(Tensor)
    if not (corners[:, 2:] > corners[:, :2]).all():
        return "a box has no area"
    if (corners < -1).any() or (corners > torch.tensor([width, height, width, height]) + 1).any():  # 1: rounded ones
        return f"a box is outside the image of {height} x {width}"
    return _outline_problem(target, len(boxes), (height, width))


def _outline_problem(target: Mapping[str, Any], objects: int, size: Size) -> str:
    if "masks" in target and tuple(target["masks"].shape) != (objects, *size):
        return f"masks must be {(objects, *size)}, found {tuple(target['masks'].shape)}"
    if "polygons" not in target:
        return ""
    if not {"offsets", "owner"} <= set(target):
        return "polygons come with offsets and owner"
    points, offsets, owner = (target[key].tolist() for key in ("polygons", "offsets", "owner"))
    if offsets[0] != 0 or offsets[-1] != len(points) or offsets != sorted(offsets) or len(offsets) != len(owner) + 1:
        return f"offsets must rise from 0 to the {len(points)} points, one more than outlines"
    return "" if all(0 <= each < objects for each in owner) else "an outline is of an object that is not there"


def check_evaluator(make: Callable[..., Evaluator], dataset: Dataset, **options: Any) -> None:
    """No detections score 0, the ground truth scores more, in whatever order and portions it comes.

    Args:
        make: The class, or anything that takes a dataset; of boxes, not masks.
        dataset: A small one, in which something is to be found.
        options: Given to ``make``.

    Raises:
        ConformanceError: A contract is broken.
    """
    name = getattr(make, "__name__", type(make).__name__)
    truth = [_as_detections(dataset[index][1]) for index in range(len(dataset))]
    nothing = _metrics(name, "nothing", make(dataset, **options), [])
    whole = _metrics(name, "the ground truth", make(dataset, **options), [truth])
    backwards = _metrics(name, "the ground truth", make(dataset, **options), [[each] for each in truth[::-1]])
    if set(nothing) != set(whole):
        raise ConformanceError(name, f"its metrics are {[*nothing]} or {[*whole]}", "They are always the same ones.")
    if max(nothing.values()) > 0:
        raise ConformanceError(name, f"no detections at all score {nothing}", "They score 0.")
    if max(whole.values()) <= 0:
        raise ConformanceError(name, f"the ground truth as detections scores {whole}", "It is the best there can be.")
    if difference := _difference(whole, backwards):
        raise ConformanceError(name, f"metrics depend on the order of images: {difference}", "They are of the whole.")


def _as_detections(target: Mapping[str, Any]) -> tuple[Detections, int | str]:
    real = ~target["iscrowd"].bool() if "iscrowd" in target else slice(None)
    boxes, labels = target["boxes"].as_subclass(Tensor)[real], target["labels"][real]
    return Detections(boxes, torch.ones(len(boxes)), labels), target["image_id"]


def _metrics(
    name: str, what: str, evaluator: Evaluator, portions: Sequence[Sequence[tuple[Detections, int | str]]]
) -> dict[str, float]:
    with _during(name, f"of {what}"):
        for portion in portions:
            evaluator.update(*map(list, zip(*portion, strict=True)))
        metrics = evaluator.compute()
    if not metrics or not all(type(value) is float for value in metrics.values()):
        raise ConformanceError(name, f"computes {metrics!r} of {what}", "It is a dict of names and plain floats.")
    return metrics


# ------------------------------------------------------------------------------------------------ what they share


class _Maker:
    """Makes a component, filling its marked parameters from ``flow``, as the build does."""

    def __init__(self, make: Callable[..., Any], interface: type, flow: Flow, options: Mapping[str, Any]) -> None:
        target: Any = make
        given = {*options}
        while isinstance(target, functools.partial):
            target, given = target.func, {*target.keywords, *given}
        self.name = getattr(target, "__name__", type(target).__name__)
        self._make, self._interface = make, interface
        with _during(self.name, "when its annotations are read"):
            parameters = read(target, lambda _: None).parameters.values()
        wanted = [each for each in parameters if each.flow and each.name not in given]
        self._values = {**{each.name: self._flowing(each, flow) for each in wanted}, **options}

    def __call__(self, seed: int = 0) -> Any:
        with seeded(seed), _during(self.name, "when it is made"):
            built = self._make(**self._values)
        if problem := broken_promise(built, self._interface):
            raise ConformanceError(self.name, problem, f"See detcore.interfaces.{self._interface.__name__}.")
        self.name = type(built).__name__
        return built

    def _flowing(self, parameter: Parameter, flow: Flow) -> Any:
        try:
            value = flowing(parameter, flow)
        except ConfigError:
            found = f"{parameter.name} takes one value for all levels, but they have {flow.channels} channels"
            raise ConformanceError(self.name, found, "Give a flow of equal ones, or annotate a sequence.") from None
        if value is None and parameter.required:
            found = f"nothing gives {parameter.name} ({str(parameter.flow).replace('_', ' ')})"
            raise ConformanceError(self.name, found, f"Give the check {parameter.name}=..., or a flow that has it.")
        return parameter.default if value is None else value


def _check_gradients(module: nn.Module, total: Any, when: str) -> None:
    module.zero_grad(set_to_none=True)
    if total.requires_grad:
        total.backward()
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and parameter.grad is None:
            raise ConformanceError(type(module).__name__, f"parameter {name} has no gradient {when}", _TIED)
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            raise ConformanceError(type(module).__name__, f"the gradient of {name} is not finite {when}", _ABSENT)


def _check_state(make: _Maker, run: Callable[[Any], Any]) -> None:
    """Two made from one seed are equal; one that takes another's state gives what it gives."""
    first, second, other = make(0), make(0), make(1)

    def outputs(module: nn.Module, training: bool) -> Any:
        with seeded(2), torch.no_grad(), _during(make.name, f"in {'training' if training else 'eval'} mode"):
            return run(module.train(training))

    for training in (True, False):
        if difference := _difference(outputs(first, training), outputs(second, training)):
            found = f"two made from one seed differ in {'training' if training else 'eval'} mode: {difference}"
            raise ConformanceError(make.name, found, "Draw from torch's, numpy's or random's global generator only.")
    if difference := _difference(outputs(first, False), outputs(first, False)):
        raise ConformanceError(make.name, f"two runs in eval mode differ: {difference}", "Nothing changes there.")
    with _during(make.name, "when it takes the state of another"):
        other.load_state_dict(first.state_dict())
    if difference := _difference(outputs(first, False), outputs(other, False)):
        found = f"one that took the state of another gives something else: {difference}"
        raise ConformanceError(make.name, found, "What it learns or draws is a parameter or a persistent buffer.")


@contextmanager
def _during(name: str, what: str) -> Iterator[None]:
    """Whatever is raised inside breaks the contract."""
    try:
        yield
    except ConformanceError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise ConformanceError(name, f"raises {type(error).__name__} {what}: {text}") from error


@contextmanager
def _unchanged(name: str, what: str, *values: Any) -> Iterator[None]:
    with torch.no_grad():
        before = _copied(values)
    yield
    if difference := _difference(before, values):
        raise ConformanceError(name, f"changes {what} in place: {difference}", "Others read it, too.")


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    return [_copied(each) for each in value] if isinstance(value, Sequence) else copy.deepcopy(value)


def _difference(one: Any, other: Any, where: str = "") -> str:
    """Where two trees of records and tensors differ beyond rounding; the empty string where they do not."""
    place = where or "it"
    if attrs.has(type(one)) and type(one) is type(other):
        fields = [each.name for each in attrs.fields(type(one)) if each.init]
        one, other = ({name: getattr(each, name) for name in fields} for each in (one, other))
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if _kind(one) != _kind(other):
            return f"{place} is {_kind(one)}, then {_kind(other)}"
        a, b = (each.detach().as_subclass(Tensor) for each in (one, other))
        close = torch.allclose(a, b, 1e-4, 1e-5, equal_nan=True) if a.is_floating_point() else torch.equal(a, b)
        return "" if close else f"{place} has other values"
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if one.keys() != other.keys():
            return f"{place} has {[*one]}, then {[*other]}"
        pairs = [(f"{where}.{key}".strip("."), one[key], other[key]) for key in one]
    elif isinstance(one, Sequence) and isinstance(other, Sequence) and not isinstance(one, str):
        if len(one) != len(other):
            return f"{place} has {len(one)} elements, then {len(other)}"
        pairs = [(f"{where}[{number}]", *each) for number, each in enumerate(zip(one, other, strict=True))]
    else:
        return "" if one == other else f"{place} is {one!r}, then {other!r}"
    return next(filter(None, (_difference(a, b, at) for at, a, b in pairs)), "")


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _noise(*shape: int) -> Tensor:
    with seeded(0):
        return torch.randn(shape)


def _maps(flow: Flow, size: Size) -> list[Tensor]:
    channels, strides = flow.channels or (), flow.strides or ()
    sides = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in strides]
    return [_noise(2, each, *side) for each, side in zip(channels, sides, strict=True)]


def _random_boxes(count: int, height: int, width: int) -> Tensor:
    """(N, 4) inside, with sides of a tenth to half of the image's."""
    span = torch.tensor([width, height])
    sides = span * (0.1 + 0.4 * torch.rand(count, 2))
    corner = torch.rand(count, 2) * (span - sides)
    return torch.cat([corner, corner + sides], 1)


def _batch(counts: Size, crowd: bool, size: Size, classes: int) -> Batch:
    """Two images, the second smaller, with so many objects, or crowds."""
    sizes = torch.tensor([size, (size[0] * 3 // 4, size[1] * 2 // 3)])
    real = torch.arange(max(*counts, 1)) < torch.tensor(counts)[:, None]
    with seeded(4):
        boxes = torch.stack([_random_boxes(real.shape[1], *each) for each in sizes.tolist()]) * real[..., None]
        labels = torch.randint(classes, real.shape) * real
    targets = Targets(boxes, labels, valid=real & (not crowd), crowd=real & crowd)
    padded = -(-sizes // 32) * 32
    return Batch(_noise(2, 3, *size), sizes.float(), padded.float(), torch.ones(2, 2), (7, 8), targets)
