"""The wrapper: what its views find together, what a wrapped detector is given, and whose tensors are called how."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch
from detcore.errors import ConfigError
from detcore.interfaces import Detector
from detcore.structures import Batch, Detections, Losses, Targets
from detcore_tta.merge import WeightedBoxFusion
from detcore_tta.tta import TTA
from detcore_tta.views import flip_found, flipped, stretch
from torch import Tensor, nn


class Blobs(Detector):
    """Finds the extent of what is bright in each of the three channels: an object of the channel's class."""

    def __init__(self, *, masks: bool = False, bias: float = 0.0) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 3)
        self.norm = nn.Sequential(nn.BatchNorm2d(2))
        self.own = nn.Parameter(torch.zeros(2))
        self.masks = masks
        self.bias = bias
        self.seen: list[Batch] = []

    def losses(self, batch: Batch) -> Losses:
        return {"loss": self.layer(batch.images).square().mean() + batch.truth.boxes.sum() * 0 + self.own.sum()}

    def detections(self, batch: Batch) -> list[Detections]:
        self.seen.append(batch)
        return [self.find(image, size) for image, size in zip(batch.images, batch.sizes.int().tolist(), strict=True)]

    def find(self, image: Tensor, size: list[int]) -> Detections:
        rows, masks = [], []
        for label, channel in enumerate(image[:, : size[0], : size[1]]):
            places = (channel > 0.5).nonzero()
            if len(places):
                (top, left), (bottom, right) = places.amin(0).tolist(), (places.amax(0) + 1).tolist()
                rows.append((label, 0.9 - 0.1 * label, [left + self.bias, top, right, bottom]))
                part = channel[None, None, top:bottom, left:right]
                masks.append(nn.functional.interpolate(part, (4, 6), mode="area")[0, 0])
        found = Detections(
            torch.tensor([box for _, _, box in rows], dtype=torch.float32).view(-1, 4),
            torch.tensor([score for _, score, _ in rows], dtype=torch.float32),
            torch.tensor([label for label, _, _ in rows], dtype=torch.int64),
        )
        return attrs.evolve(found, masks=torch.stack([*masks, torch.zeros(4, 6)])[:-1]) if self.masks else found


def batch() -> Batch:
    """Two objects in an image of 20 x 30, one in another of 32 x 16, nothing in a third; noise beyond them."""
    sizes = torch.tensor([[20.0, 30], [32, 16], [32, 32]])
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for image, (height, width) in zip(images, sizes.int().tolist(), strict=True):
        image[:, :height, :width] = 0
    images[0, 0, 2:10, 3:15] = 0.75
    images[0, 0, 2:4, 3:15] = 1.0
    images[0, 2, 12:20, 18:30] = 0.75
    images[1, 1, 24:28, 4:10] = 0.75
    images[1, 1, 24:26, 4:10] = 1.0
    return Batch(images, sizes, sizes, torch.ones(3, 2), [0, 1, 2])


def same(ours: list[Detections], theirs: list[Detections], exactly: bool = False) -> None:
    for one, other in zip(ours, theirs, strict=True):
        for name in ("boxes", "scores", "labels", "masks"):
            mine, its = getattr(one, name), getattr(other, name)
            near = 0.0 if exactly else 1e-5
            assert (mine is None) == (its is None)
            if mine is not None:
                torch.testing.assert_close(mine, its, rtol=near, atol=near)


# ------------------------------------------------------------------------------------------------------- what is found


@pytest.mark.parametrize("flip", ["none", "horizontal", "vertical", "both"])
def test_a_single_view_finds_what_the_detector_finds(flip: Any) -> None:
    bare = Blobs(masks=True)
    found = bare.detections(batch())
    assert [len(each) for each in found] == [2, 1, 0]
    same(TTA(detector=bare, flips=[flip]).detections(batch()), found, exactly=flip == "none")


def test_the_view_of_the_image_as_it_is_changes_no_bit_and_merges_nothing() -> None:
    class Overlapping(Blobs):
        def detections(self, batch: Batch) -> list[Detections]:
            found = Detections(torch.rand(40, 4).cumsum(1) * 9, torch.rand(40), torch.randint(2, (40,)))
            return [found for _ in range(len(batch))]

    torch.manual_seed(0)
    expected = Overlapping().detections(batch())
    torch.manual_seed(0)
    same(TTA(detector=Overlapping(), flips=["none"], most=5)(batch(), mode="detections"), expected, exactly=True)


@pytest.mark.parametrize("merger", [None, WeightedBoxFusion()])
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("masks", [True, False])
def test_flips_of_a_symmetrical_detector_find_the_same(merger: Any, together: bool, masks: bool) -> None:
    bare = Blobs(masks=masks)
    found = bare.detections(batch())
    flips = ["none", "horizontal", "vertical", "both"]
    wrapped = TTA(detector=bare, flips=flips, merger=merger, together=together)  # type: ignore[arg-type]
    same(wrapped.detections(batch()), found)
    assert [len(each) for each in bare.seen[1:]] == ([12] if together else [3] * 4)


@pytest.mark.parametrize("flip", ["horizontal", "vertical"])
def test_a_mirrored_image_gives_mirrored_detections(flip: Any) -> None:
    """Of a detector whose boxes begin a pixel too far right, as its views are the same."""
    wrapped = TTA(detector=Blobs(masks=True, bias=1.0), flips=["none", flip], merger=WeightedBoxFusion())
    there = wrapped.detections(flipped(batch(), flip))
    found = wrapped.detections(batch())
    same([flip_found(each, size, flip) for each, size in zip(there, batch().sizes, strict=True)], found)
    if flip == "horizontal":
        assert found[0].boxes[0].tolist() == [3.5, 2, 14.5, 10]  # in the other view they end a pixel too early


class Known(Detector):
    """Knows where objects are in the original image, and says where that is in the image it is given."""

    def __init__(self, boxes: Tensor) -> None:
        super().__init__()
        self.boxes = boxes
        self.shapes: list[tuple[int, ...]] = []

    def losses(self, batch: Batch) -> Losses:
        raise NotImplementedError

    def detections(self, batch: Batch) -> list[Detections]:
        self.shapes.append(tuple(batch.images.shape))
        scores, labels = torch.tensor([0.9, 0.5]), torch.tensor([1, 0])
        originals = [Detections(self.boxes, scores, labels)] * len(batch)
        return [stretch(each, 1 / scale.flip(0)) for each, scale in zip(originals, batch.scale, strict=True)]


def test_every_scale_gives_the_same_boxes() -> None:
    boxes = torch.tensor([[4.0, 6, 20, 26], [30, 2, 60, 40]])
    sizes = torch.tensor([[20.0, 30], [27, 31]])
    given = Batch(torch.zeros(2, 3, 32, 32), sizes, sizes, torch.full((2, 2), 2.0), [0, 1])
    bare = Known(boxes)
    wrapped = TTA(detector=bare, scales=[0.5, 1.0, 1.7], flips=["none"], divisor=8)
    for found in wrapped.detections(given):
        torch.testing.assert_close(found.boxes, boxes / 2)
        assert found.scores.tolist() == pytest.approx([0.9, 0.5])
    assert bare.shapes == [(2, 3, 16, 16), (2, 3, 32, 32), (2, 3, 48, 56)]


def test_scales_and_flips_of_images() -> None:
    """Bilinear edges of objects twice as large are where they were."""
    bare = Blobs()
    wrapped = TTA(detector=bare, scales=[1.0, 2.0], flips=["none", "horizontal"])
    same(wrapped.detections(batch()), bare.detections(batch()))


def test_what_few_views_find_scores_less() -> None:
    class OnTheLeft(Blobs):
        def find(self, image: Tensor, size: list[int]) -> Detections:
            found = super().find(image, size)
            return found.each(lambda rows: rows[found.boxes[:, 0] < size[1] / 4])

    found = TTA(detector=OnTheLeft(masks=True), merger=WeightedBoxFusion()).detections(batch())[0]
    assert found.boxes.tolist() == [[3, 2, 15, 10], [18, 12, 30, 20]]
    assert found.scores.tolist() == pytest.approx([0.45, 0.35])
    assert found.masks is not None
    torch.testing.assert_close(found.masks[1], torch.full((4, 6), 0.75))


def test_no_detections_at_all() -> None:
    dark = attrs.evolve(batch(), images=torch.zeros(3, 3, 32, 32))
    assert [len(each) for each in TTA(detector=Blobs(masks=True)).detections(dark)] == [0, 0, 0]


def test_the_best_are_kept() -> None:
    found = TTA(detector=Blobs(), most=1).detections(batch())
    assert [each.labels.tolist() for each in found] == [[0], [1], []]


# --------------------------------------------------------------------------------------------- training and the names


def test_training_goes_to_the_wrapped_detector() -> None:
    bare = Blobs()
    truth = Targets(torch.zeros(3, 1, 4), torch.zeros(3, 1).long(), torch.ones(3, 1).bool(), torch.zeros(3, 1).bool())
    given = attrs.evolve(batch(), targets=truth)
    wrapped = TTA(detector=bare)
    assert torch.equal(wrapped(given)["loss"], bare(given)["loss"])
    wrapped.detections(given)
    assert [each.targets for each in bare.seen] == [None]
    assert not any(module.training for module in wrapped.eval().modules())
    assert all(module.training for module in wrapped.train().modules())
    wrapped.frozen = [bare.norm]
    assert (wrapped.train().training, bare.training, bare.norm.training) == (True, True, False)


def test_a_step_of_training_is_one_graph() -> None:
    truth = Targets(torch.zeros(3, 1, 4), torch.zeros(3, 1).long(), torch.ones(3, 1).bool(), torch.zeros(3, 1).bool())
    given, wrapped = attrs.evolve(batch(), targets=truth), TTA(detector=Blobs())
    found = torch.compile(wrapped, backend="eager", fullgraph=True)(given, mode="losses")
    torch.testing.assert_close(found["loss"], wrapped(given)["loss"])


def test_tensors_and_modules_have_the_names_of_the_wrapped_detector() -> None:
    bare = Blobs()
    wrapped = TTA(detector=bare)
    assert [*wrapped.state_dict()] == [*bare.state_dict()]
    for names in ("named_parameters", "named_buffers"):
        assert [*getattr(wrapped, names)()] == [*getattr(bare, names)()]
    modules = {name: module for name, module in wrapped.named_modules() if name}
    assert modules == {name: module for name, module in bare.named_modules() if name}
    assert {*wrapped.modules()} == {wrapped, *bare.modules()}
    assert wrapped.get_submodule("norm.0") is bare.norm[0]
    assert wrapped.get_parameter("layer.bias") is bare.layer.bias
    assert wrapped.get_submodule("") is wrapped


def loaded(source: nn.Module, into: nn.Module) -> None:
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.normal_()
    into.load_state_dict(source.state_dict())
    for mine, its in zip(into.state_dict().values(), source.state_dict().values(), strict=True):
        assert torch.equal(mine, its)


WRAPS: list[Callable[[], nn.Module]] = [
    Blobs,
    lambda: TTA(detector=Blobs()),
    lambda: TTA(detector=TTA(detector=Blobs())),
]


@pytest.mark.parametrize("source", WRAPS)
@pytest.mark.parametrize("into", WRAPS)
def test_checkpoints_fit_with_and_without(source: Callable[[], nn.Module], into: Callable[[], nn.Module]) -> None:
    loaded(source(), into())
    loaded(nn.Sequential(source()), nn.Sequential(into()))  # as distributed training wraps it
    loaded(source(), copy.deepcopy(into()))


def test_what_is_missing_is_said() -> None:
    state = Blobs().state_dict()
    del state["own"]
    with pytest.raises(RuntimeError, match="own"):
        TTA(detector=Blobs()).load_state_dict({**state, "more": torch.zeros(1)})
    report = TTA(detector=Blobs()).load_state_dict({**state, "more": torch.zeros(1)}, strict=False)
    assert ([name.removeprefix("detector.") for name in report.missing_keys], len(report.unexpected_keys)) == (
        ["own"],
        1,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flips": []}, "TTA: flips: there is none. Each is a view, seen once."),
        ({"scales": [1.0, 1.0]}, "TTA: scales: [1.0, 1.0] names one twice. Each is a view, seen once."),
    ],
)
def test_views_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        TTA(detector=Blobs(), **options)
    assert str(error.value) == message
