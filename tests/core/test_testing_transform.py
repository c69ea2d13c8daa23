"""The conformance kit lets sound transforms pass, and names the fault of each that is not."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from detcore.data import Mixing, Sample, Samples, Sanitize, keep_rows
from detcore.testing import ConformanceError, check_transform
from detcore.testing.transform import Scenes, rasterised
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import Transform
from torchvision.transforms.v2 import functional as F


class Changed(Transform):  # type: ignore[misc]
    """Flips, soundly; ``change`` of the sample then may spoil it."""

    def __init__(self, change: Callable[[Any, dict[str, Any], Any], Any] | None = None) -> None:
        super().__init__()
        self.change = change

    def forward(self, image: Any, target: dict[str, Any]) -> Any:
        flipped = v2.RandomHorizontalFlip(1.0)(image, target)
        return flipped if self.change is None else self.change(*flipped, image)


def with_(**changes: Callable[[Any], Any]) -> Callable[..., Any]:
    """A change of entries of the target."""

    def change(image: Any, target: dict[str, Any], before: Any) -> Any:
        return image, {key: changes[key](value) if key in changes else value for key, value in target.items()}

    return change


def like(compute: Callable[[Tensor], Tensor]) -> Callable[[Any], Any]:
    return lambda value: tv_tensors.wrap(compute(value.as_subclass(Tensor)), like=value)


def grown(by: float) -> Callable[[Any], Any]:
    return like(lambda boxes: boxes + torch.tensor([-by, -by, by, by]))


def plain(value: Any) -> Any:
    return value.as_subclass(Tensor)


def without(key: str) -> Callable[..., Any]:
    return lambda image, target, before: (image, {name: each for name, each in target.items() if name != key})


def drops(image: Any, target: dict[str, Any], before: Any) -> Any:
    """As ``keep_rows``, but tells nobody."""
    kept = keep_rows(target, torch.arange(len(target["boxes"])) > 0)
    return image, {name: each for name, each in kept.items() if name != "dropped"}


def drops_boxes(image: Any, target: dict[str, Any], before: Any) -> Any:
    return image, {**target, "boxes": tv_tensors.wrap(target["boxes"][1:], like=target["boxes"])}


def fails_without_objects(image: Any, target: dict[str, Any], before: Any) -> Any:
    target["boxes"][0]
    return image, target


def needs_area(image: Any, target: dict[str, Any], before: Any) -> Any:
    target["area"]
    return image, target


def own_chance(image: Any, target: dict[str, Any], before: Any) -> Any:
    return tv_tensors.Image((image // 2) + random.SystemRandom().randint(0, 100)), target


def of_the_process(image: Any, target: dict[str, Any], before: Any) -> Any:
    return tv_tensors.Image((image // 2) + os.getpid() % 100), target


CALLS = iter(range(10**6))


def counts(image: Any, target: dict[str, Any], before: Any) -> Any:
    return tv_tensors.Image((image // 2) + next(CALLS) % 100), target


FAULTS: dict[str, tuple[Callable[..., Any], str]] = {
    "list": (
        lambda image, target, before: [image, target],
        r"of an image with 4 objects gives a list\. It is a tuple \(image, target\) with a dict as target\.",
    ),
    "plain image": (
        lambda image, target, before: (plain(image), target),
        r".* gives an image that is a Tensor\. It stays a tv_tensors\.Image: .*",
    ),
    "float image": (
        lambda image, target, before: (F.to_dtype(image, torch.float32, scale=True), target),
        r".* gives a sample of which the image must be a tensor \(3, H, W\) uint8, found .*float32\. See .*",
    ),
    "plain boxes": (
        with_(boxes=plain),
        r".* makes Tensor of boxes, which was BoundingBoxes\. Wrap what is computed: .*",
    ),
    "plain outlines": (with_(polygons=plain), r".* makes Tensor of polygons, which was PolygonPoints\. Wrap .*"),
    "plain masks": (with_(masks=plain), r".* makes Tensor of masks, which was Mask\. Wrap .*"),
    "loses": (without("caption"), r".* gives a target without caption\. What it does not know goes through as it is\."),
    "canvas": (
        with_(boxes=lambda boxes: tv_tensors.wrap(boxes, like=boxes, canvas_size=(9, 9))),
        r".* gives boxes on a canvas of \(9, 9\) with an image of \(64, 96\)\. Both are \(height, width\), .*",
    ),
    "masks of another size": (
        with_(masks=like(lambda masks: masks[:, 1:])),
        r".* gives masks or outlines that are wrong: masks must be \(4, 64, 96\), found \(4, 63, 96\)\. Rows go, .*",
    ),
    "boxes alone dropped": (drops_boxes, r".* gives a sample of which 3 boxes, but 4 rows of labels\. See .*"),
    "labels alone": (
        with_(labels=lambda labels: labels.flip(0)),
        r".* gives labels and iscrowd that are not in step\. Rows go, stay and change places together: .*",
    ),
    "labels and crowds": (
        with_(labels=lambda labels: labels.flip(0), iscrowd=lambda crowds: crowds.flip(0)),
        r".* gives labels and outlines that are not in step\. Rows go, stay and .*",
    ),
    "area alone": (
        with_(area=lambda area: area.flip(0)),
        r".* gives areas that are not in step with labels\. Rows go, stay and .*",
    ),
    "scores of proposals": (
        with_(proposal_scores=lambda scores: scores[1:]),
        r".* gives 6 proposals with 5 scores\. Rows go, stay and .*",
    ),
    "silent": (drops, r".* drops 1 objects, but adds 0 to target\['dropped'\]\. Nothing goes in silence: .*"),
    "boxes alone": (
        with_(boxes=like(lambda boxes: boxes.flip(0))),
        r".* gives a box of object 0 that is [\d.]+ pixels too small for its outline\. Boxes are what surrounds .*",
    ),
    "small boxes": (with_(boxes=grown(-3)), r".* gives a box of object 0 that is 3\.0 pixels too small for its outline\. .*"),
    "large boxes": (with_(boxes=grown(3)), r".* gives a box of object 0 that is 3\.0 pixels larger than its outline\. .*"),
    "masks alone": (
        with_(masks=like(lambda masks: masks.flip(2))),
        r".* gives a mask of object 0 more than 2 pixels beside its outline\. Both are moved alike\.",
    ),
    "proposals left": (
        with_(proposals=like(lambda boxes: torch.cat([boxes[-2:], boxes[-2:], boxes[-2:]]))),
        r".* moves the box of object 0, but not the proposal that was the same\. Proposals are boxes, too\.",
    ),
    "image left": (
        lambda image, target, before: (before, target),
        r".* does not move the image as it moves the boxes\. Objects are where their boxes are\.",
    ),
    "no objects": (fails_without_objects, r"raises IndexError of an image with 0 objects: .*"),
    "few entries": (needs_area, r"raises KeyError of an image with 4 objects, given no more than boxes, labels and .*"),
    "own chance": (own_chance, r"gives another sample a second time, of the same seed: \[0\] has other values\. Draw .*"),
    "state": (counts, r"gives another sample a second time, of the same seed: \[0\] has other values\. Draw .*"),
    "lambda": (lambda image, target, before: (image, target), r"raises \w+ when it is pickled, as workers need it: .*"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_a_transform_is_named(change: Callable[..., Any], expected: str) -> None:
    with pytest.raises(ConformanceError) as caught:
        check_transform(Changed(change))
    assert re.fullmatch(f"Changed: {expected}", str(caught.value)), caught.value


class InPlace(Changed):
    def forward(self, image: Any, target: dict[str, Any]) -> Any:
        image.as_subclass(Tensor)[:, 0] = 0
        return super().forward(image, target)


class NamesIt(Changed):
    def forward(self, image: Any, target: dict[str, Any]) -> Any:
        target["caption"] = "seen"
        return super().forward(image, target)


class Shrinks(Changed):
    """What a copy of it has is not all that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 40

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "size": 48}

    def forward(self, image: Any, target: dict[str, Any]) -> Any:
        return v2.Resize([self.size, self.size])(image, target)


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (v2.Identity, r"type: is no Transform\. It derives from torchvision\.transforms\.v2\.Transform\."),
        (InPlace(), r"InPlace: changes its image or its target in place: \[0\] has other values\. Others read it, too\."),
        (NamesIt(), r"NamesIt: changes its image or its target in place: \[1\]\.caption is 'rectangles', then 'seen'\. .*"),
        (Shrinks(), r"Shrinks: gives another sample by a copy, of the same seed: .*"),
        (Changed(of_the_process), r"Changed: gives another sample in a fresh process, of the same seed: .*"),
    ],
    ids=lambda each: type(each).__name__,
)  # fmt: skip
def test_a_fault_of_its_kind_or_place_is_named(broken: Any, expected: str) -> None:
    with pytest.raises(ConformanceError) as caught:
        check_transform(broken)
    assert re.fullmatch(expected, str(caught.value)), caught.value


class Beside(Mixing):
    """Sound: another image beside this one, with the objects of both; no outlines."""

    def mix(self, image: Any, target: dict[str, Any], others: Samples) -> Sample:
        other, theirs = others.draw()
        width, more = image.shape[2], other.shape[2]
        left, right = ([0, 0, more, 0], [width, 0, 0, 0])
        one, two = (
            {name: self.padded(each, pad) for name, each in of.items()} for of, pad in ((target, left), (theirs, right))
        )
        rows = {
            name: tv_tensors.wrap(torch.cat([one[name], two[name]]), like=one[name])
            for name in ("boxes", "labels", "area", "iscrowd", "masks")
            if name in one
        }
        return tv_tensors.Image(torch.cat([image, other], 2)), {**one, **rows}

    def padded(self, value: Any, sides: list[int]) -> Any:
        return F.pad(value, sides) if isinstance(value, tv_tensors.TVTensor) else value


class Forgets(Beside):
    """Masks of the other one stay where they were."""

    def padded(self, value: Any, sides: list[int]) -> Any:
        wide = isinstance(value, tv_tensors.Mask) and sides[0]
        return F.pad(value, [0, 0, sides[0], 0]) if wide else super().padded(value, sides)


def test_a_sound_mixing_transform_passes_and_a_fault_is_named() -> None:
    check_transform(Beside(), without=("polygons",))
    with pytest.raises(ConformanceError) as caught:
        check_transform(Forgets(), without=("polygons",), workers=False)
    fault = r"Forgets: of an image with \d objects gives a box of object \d that does not hold its mask\. Boxes and .*"
    assert re.fullmatch(fault, str(caught.value)), caught.value


@pytest.mark.parametrize(
    "transform",
    [
        Changed(),
        Sanitize(),
        Sanitize(min_size=20),
        v2.RandomHorizontalFlip(1.0),
        v2.RandomVerticalFlip(1.0),
        v2.Resize([40, 90]),
        v2.RandomAffine(15),
        v2.RandomCrop(48),
        v2.RandomZoomOut(),
        v2.RandomPhotometricDistort(),
        v2.Compose([v2.RandomHorizontalFlip(), v2.RandomShortestSize(40, 80), Sanitize()]),
    ],
    ids=lambda each: type(each).__name__,
)
def test_sound_transforms_pass_and_chance_is_as_before(transform: Transform) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    check_transform(transform, workers=isinstance(transform, Changed))
    assert torch.equal(torch.rand(3), expected)


def test_what_hides_objects_may_say_so() -> None:
    covers = v2.Lambda(lambda image: tv_tensors.wrap(image * 0, like=image), tv_tensors.Image)
    with pytest.raises(ConformanceError, match=r"Lambda: .* does not move the image as it moves the boxes"):
        check_transform(covers, workers=False)
    check_transform(v2.Lambda(black, tv_tensors.Image), pixels=False)


def black(image: Any) -> Any:
    return tv_tensors.wrap(image * 0, like=image)


def test_a_drawn_outline_has_the_pixels_of_its_mask() -> None:
    for index in range(len(Scenes())):
        image, target = Scenes()[index]
        for row, mask in enumerate(target["masks"]):
            assert torch.equal(rasterised(target, row, tuple(image.shape[-2:])), mask.bool())
