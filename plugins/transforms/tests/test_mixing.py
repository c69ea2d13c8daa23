"""Mosaics, mixed and pasted images: by hand, by property, and the same whatever the workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from core.runner.tiny import TinyDetector, tiny_run
from core.test_polygons import SIZE, disagreement, extents, outlines_of, sample
from detcore.callbacks.switch import PipelineSwitch
from detcore.data import Loader, Mixing, RawBatch, Samples, seeded
from detcore.errors import ConfigError, DataError
from detcore.runner.train import train
from detcore.structures import Batch, Losses, Polygons, clip_boxes
from detcore_transforms.copy_paste import CopyPaste
from detcore_transforms.copy_paste import extents as mask_extents
from detcore_transforms.mosaic import MixUp, Mosaic
from detcore_transforms.targets import fitting, joined
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from torchvision.transforms import v2


def plain(value: int, boxes: Any, size: tuple[int, int] = (4, 4), **more: Any) -> Any:
    """An image of one value, and its objects, of class ``value % 2``."""
    rows = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return tv_tensors.Image(torch.full((3, *size), value, dtype=torch.uint8)), {
        "boxes": tv_tensors.BoundingBoxes(rows, format="XYXY", canvas_size=size),
        "labels": torch.full((len(rows),), value % 2),
        "image_id": value,
        **more,
    }


class Given:
    """A dataset of given samples."""

    classes = ("cat", "dog")

    def __init__(self, *samples: Any) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        image, target = self.samples[index]
        return image, dict(target)


class Blobs:
    """Images of three objects with outlines and masks; the pixels of an object have its colour, one of its own."""

    classes = ("blob",) * 3

    def __init__(self, length: int = 9) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        image, target = sample(index)
        for row in range(3):
            image[:, target["masks"][row].bool()] = 10 * index + row + 1
        return image, {**target, "image_id": index, "iscrowd": torch.zeros(3), "area": torch.full((3,), 500.0)}


# --------------------------------------------------------------------------------------------------------- mosaics


def test_a_mosaic_by_hand() -> None:
    """The point is at y 3, x 5 of a canvas of 8: the first loses its top row; the second is cut at the right."""
    samples = [
        plain(10, [[0, 0, 2, 2]]),
        plain(11, [[0, 0, 4, 4]]),
        plain(12, [[1, 0, 3, 4]]),
        plain(13, [[3, 3, 4, 4]]),
    ]
    image, target = Mosaic(size=(4, 4)).around([3, 5], samples)
    expected = torch.full((8, 8), 114)
    expected[0:3, 1:5], expected[0:3, 5:8], expected[3:7, 1:5], expected[3:7, 5:8] = 10, 11, 12, 13
    assert torch.equal(image.as_subclass(Tensor), expected.expand(3, 8, 8).to(torch.uint8))
    assert target["boxes"].tolist() == [[1, 0, 3, 1], [5, 0, 8, 3], [2, 3, 4, 7], [8, 6, 8, 7]]
    assert target["boxes"].canvas_size == (8, 8)
    assert target["labels"].tolist() == [0, 1, 0, 1]
    assert target["image_id"] == 10


def test_images_of_a_mosaic_are_as_large_as_fits_and_touch_the_point() -> None:
    wide, tall = plain(10, [[0, 0, 8, 2]], (2, 8)), plain(11, [[0, 0, 2, 2]], (8, 2))
    image, target = Mosaic(size=(4, 4), fill=0).around([4, 4], [wide, tall, tall, wide])
    seen = (image[0] > 0).nonzero()
    assert (image[0, :4, :4] > 0).nonzero().amin(0).tolist() == [3, 0]  # 8 x 2 is 4 x 1
    assert target["boxes"].tolist() == [[0, 3, 4, 4], [4, 0, 5, 1], [3, 4, 4, 5], [4, 4, 8, 5]]
    assert len(seen) == 4 * 4


@pytest.mark.parametrize(
    ("size", "into", "expected"),
    [
        ((480, 640), (640, 640), [480, 640]),
        ((640, 480), (320, 320), [320, 240]),
        ((3, 7), (640, 640), [274, 640]),
        ((1, 5000), (100, 100), [1, 100]),
        ((49, 49), (640, 480), [480, 480]),
    ],
)
def test_the_largest_size_of_a_ratio(size: Any, into: Any, expected: Any) -> None:
    assert fitting(size, into) == expected


def mosaic_of_blobs(seed: int) -> Any:
    with seeded(seed):
        return Samples(Blobs()).through(seed % 9, [Mosaic(size=SIZE)])


@given(st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_pixels_masks_outlines_and_boxes_of_a_mosaic_belong_together(seed: int) -> None:
    """No image is resized here, so that pixels stay pixels."""
    image, target = mosaic_of_blobs(seed)
    assert len(target["boxes"]) == len(target["masks"]) == len(target["area"]) == len(target["iscrowd"]) == 12
    assert target["offsets"].tolist()[-1] == len(target["polygons"])
    assert image.shape[-2:] == target["masks"].shape[-2:] == (180, 240)
    for row in range(12):
        assert disagreement(target, row, 0) <= 2
        around = clip_boxes(extents(torch.cat(outlines_of(target, row))), torch.tensor([180, 240]))
        torch.testing.assert_close(target["boxes"][row].as_subclass(Tensor), around, atol=1e-3, rtol=0)
        later = target["masks"][row - row % 3 : row - row % 3 + 3][row % 3 + 1 :].bool().any(0)
        shown = target["masks"][row].bool() & ~later
        assert {int(value) % 10 for value in image[0][shown].unique()} <= {row % 3 + 1}


def test_a_mosaic_is_a_function_of_its_seed_and_draws_from_all_samples() -> None:
    one, again = mosaic_of_blobs(3), mosaic_of_blobs(3)
    assert torch.equal(one[0], again[0])
    assert all(torch.equal(one[1][name], again[1][name]) for name in ("boxes", "masks", "polygons"))
    partners = {int(value) // 10 for seed in range(20) for value in mosaic_of_blobs(9 * seed)[0].unique()}
    assert partners - {11} == set(range(9))  # 114 is no image's


def test_the_point_is_within_its_range() -> None:
    """The bottom right image begins at it."""
    corners = []
    for seed in range(40):
        with seeded(seed):
            image, _ = Samples(Given(plain(1, []))).through(0, [Mosaic(size=(40, 40), centre=(0.5, 1.5))])
        seen = (image[0] == 1).nonzero()
        corners.append((seen.amin(0), seen.amax(0)))
    lows = torch.stack([low for low, _ in corners])
    assert lows.max() < 20  # the point is below 60, and the first image ends there
    assert lows.min() == 0


def test_what_was_dropped_before_is_counted_together() -> None:
    target = joined([plain(1, [], dropped=2)[1], plain(2, [])[1], plain(3, [], dropped=1)[1]])
    assert target["dropped"] == 3
    assert "dropped" not in joined([plain(1, [])[1]] * 2)


def test_rows_that_one_lacks_are_left_out_and_so_are_outlines() -> None:
    rich, poor = Blobs()[0][1], plain(1, [[0, 0, 1, 1]])[1]
    target = joined([rich, poor])
    assert len(target["boxes"]) == len(target["labels"]) == 4
    assert not {"masks", "area", "iscrowd", "polygons", "offsets", "owner"} & set(target)


def test_a_transform_that_is_not_applied_changes_nothing() -> None:
    for transform in (Mosaic(p=0), MixUp(p=0), CopyPaste(p=0)):
        image, target = Samples(Blobs()).through(2, [transform])
        assert torch.equal(image, Blobs()[2][0])
        assert len(target["boxes"]) == 3


# ---------------------------------------------------------------------------------------------------- mixed images


def mixed(transform: MixUp, *samples: Any) -> Any:
    with seeded(0):
        return Samples(Given(*samples)).through(0, [transform])


def test_mixed_images_by_hand() -> None:
    """A partner of 4 x 2 fills the left half of a canvas of 4 x 4, grey the right one."""
    one, other = plain(101, [[0, 0, 1, 1]]), plain(50, [[0, 2, 2, 4]], (4, 2))
    transform = MixUp(size=(4, 4), ratio=(1, 1), flip=0, transforms=[Always(other)])
    image, target = mixed(transform, one)
    assert image[0].tolist() == [[75, 75, 107, 107]] * 4  # (101 + 50) // 2, (101 + 114) // 2
    assert target["boxes"].tolist() == [[0, 0, 1, 1], [0, 2, 2, 4]]
    assert target["labels"].tolist() == [1, 0]


def test_a_flipped_partner_lies_at_the_right() -> None:
    one, other = plain(100, []), plain(50, [[0, 2, 1, 4]], (4, 2))
    image, target = mixed(MixUp(size=(4, 4), ratio=(1, 1), flip=1, transforms=[Always(other)]), one)
    assert image[0].tolist() == [[107, 107, 75, 75]] * 4
    assert target["boxes"].tolist() == [[3, 2, 4, 4]]


def test_a_reduced_partner_lies_at_the_top_left() -> None:
    one, other = plain(100, []), plain(50, [[0, 0, 4, 4]])
    image, target = mixed(MixUp(size=(4, 4), ratio=(0.5, 0.5), flip=0, transforms=[Always(other)]), one)
    expected = torch.full((4, 4), 107)
    expected[:2, :2] = 75
    assert torch.equal(image[0].long(), expected)
    assert target["boxes"].tolist() == [[0, 0, 2, 2]]


@given(st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_of_an_enlarged_partner_a_part_is_taken_with_its_objects(seed: int) -> None:
    with seeded(seed):
        image, target = Samples(Blobs()).through(0, [MixUp(size=SIZE, ratio=(1.2, 1.9))])
    assert image.shape[-2:] == SIZE == target["boxes"].canvas_size
    assert len(target["boxes"]) == len(target["masks"]) == 6
    boxes = target["boxes"].as_subclass(Tensor)
    assert boxes.min() >= 0
    assert (boxes[:, 2:] <= torch.tensor([SIZE[1], SIZE[0]])).all()
    assert max(disagreement(target, row, 3) for row in range(6)) <= 12


def test_a_partner_without_objects_is_drawn_again_up_to_a_limit() -> None:
    empty, full = plain(2, []), plain(60, [[0, 0, 4, 4]])
    first = plain(100, [[0, 0, 1, 1]])
    for seed in range(10):
        with seeded(seed):
            _, target = Samples(Given(empty, full)).through(0, [MixUp(size=(4, 4), tries=50)])
        assert len(target["boxes"]) == 1
    image, target = mixed(MixUp(size=(4, 4), tries=3, transforms=[Always(empty)]), first)
    assert len(target["boxes"]) == 1
    assert torch.equal(image, first[0])


class Always(v2.Transform):
    """A transform that gives what it was told to."""

    def __init__(self, given: Any) -> None:
        super().__init__()
        self.given = given

    def forward(self, image: Any, target: Any) -> Any:
        return self.given


# --------------------------------------------------------------------------------------------------- pasted images


def masked(value: int, *boxes: tuple[int, int, int, int], crowd: Any = None) -> Any:
    """Objects that fill their boxes, on an image of 40 x 40."""
    masks = torch.zeros(len(boxes), 40, 40, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    area = torch.tensor([float((right - left) * (bottom - top)) for left, top, right, bottom in boxes])
    iscrowd = torch.tensor(crowd or [0] * len(boxes))
    return plain(value, boxes, (40, 40), masks=tv_tensors.Mask(masks), area=area, iscrowd=iscrowd)


def pasted(one: Any, other: Any, **more: Any) -> Any:
    return CopyPaste(**more).paste(*one, *other)


def test_pasted_objects_hide_what_is_behind_them() -> None:
    """Of four objects one is hidden on its right, one wholly, one not at all, and one in its middle."""
    one = masked(100, (0, 0, 20, 20), (12, 2, 18, 6), (30, 30, 40, 40), (8, 0, 28, 18))
    image, target = pasted(one, masked(7, (12, 0, 22, 20)), box_threshold=8)
    expected = torch.full((40, 40), 100)
    expected[:20, 12:22] = 7
    assert torch.equal(image[0].long(), expected)
    assert target["boxes"].tolist() == [[0, 0, 12, 20], [30, 30, 40, 40], [8, 0, 28, 18], [12, 0, 22, 20]]
    assert target["area"].tolist() == [240, 100, 180, 200]
    assert target["masks"].flatten(1).sum(1).tolist() == [240, 100, 180, 200]
    assert target["labels"].tolist() == [0, 0, 0, 1]
    assert target["dropped"] == 1


@pytest.mark.parametrize(
    ("box_threshold", "mask_threshold", "stays"), [(8, 1e9, 1), (7, 1e9, 0), (0, 239, 1), (0, 240, 0)]
)
def test_hidden_objects_stay_by_how_much_their_box_moved_or_by_what_is_left(
    box_threshold: float, mask_threshold: float, stays: int
) -> None:
    """240 of its 400 pixels are left, and its right side moves by 8."""
    one, other = masked(100, (0, 0, 20, 20)), masked(7, (12, 0, 22, 20))
    _, target = pasted(one, other, box_threshold=box_threshold, mask_threshold=mask_threshold)
    assert len(target["boxes"]) == 1 + stays
    assert target.get("dropped", 0) == 1 - stays


def test_what_is_not_pasted_is_not_counted_as_dropped() -> None:
    """An image is its own partner: what is pasted lies over itself, and takes its place."""
    dataset = Samples(Given(masked(7, (0, 0, 5, 5), (10, 10, 15, 15), (20, 20, 25, 25))))
    counts = set()
    for seed in range(30):
        with seeded(seed):
            _, target = dataset.through(0, [CopyPaste()])
        assert len(target["boxes"]) == 3
        counts.add(target.get("dropped", 0))
    assert counts == {0, 1, 2, 3}


def test_crowds_and_objects_without_pixels_are_not_pasted_and_not_more_than_the_most() -> None:
    _, source = masked(7, (0, 0, 5, 5), (10, 10, 15, 15), (20, 20, 20, 25), (30, 0, 35, 5), crowd=[0, 1, 0, 0])
    chosen = set()
    for seed in range(40):
        torch.manual_seed(seed)
        chosen.add(tuple(CopyPaste().choose(source).nonzero()[:, 0].tolist()))
    assert chosen == {(), (0,), (3,), (0, 3)}
    torch.manual_seed(0)
    assert max(int(CopyPaste(most=1).choose(source).sum()) for _ in range(20)) == 1


@given(st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_boxes_are_the_extents_of_visible_masks(seed: int) -> None:
    with seeded(seed):
        image, target = Samples(Blobs()).through(seed % 9, [CopyPaste()])
    assert "polygons" not in target
    assert image.shape[-2:] == target["masks"].shape[-2:]
    masks = target["masks"].as_subclass(Tensor)
    boxes, tight = target["boxes"].as_subclass(Tensor), mask_extents(masks).float()
    assert ((boxes - tight).abs() < 1).all()  # what is not hidden keeps its box, which pixels surround
    for row, mask in enumerate(masks.bool()):
        assert {int(value) % 10 for value in image[0][mask & ~masks[row + 1 :].bool().any(0)].unique()} <= {1, 2, 3}


def test_extents_of_masks_are_torchvisions_with_the_last_pixel() -> None:
    masks = Blobs()[1][1]["masks"].as_subclass(Tensor)
    expected = masks_to_boxes(masks).long() + torch.tensor([0, 0, 1, 1])
    assert torch.equal(mask_extents(masks), expected)
    assert mask_extents(torch.zeros(2, 4, 4)).tolist() == [[0] * 4] * 2
    assert mask_extents(torch.zeros(0, 4, 4)).shape == (0, 4)


def test_a_partner_of_another_size_is_cut_and_surrounded() -> None:
    small = v2.Resize((30, 50))
    with seeded(1):
        image, target = Samples(Given(masked(9, (0, 0, 40, 40)))).through(0, [CopyPaste(transforms=[small])])
    assert image.shape[-2:] == target["masks"].shape[-2:] == (40, 40)


# ---------------------------------------------------------------------------------------------------------- loading


def pipeline() -> list[v2.Transform]:
    return [
        Mosaic(size=(60, 80)),
        v2.RandomCrop((90, 110)),
        MixUp(size=(60, 80), transforms=[v2.RandomHorizontalFlip(), Mosaic(size=(40, 40), p=0.5)]),
    ]


def batches(workers: int, dataset: Any = None, transforms: Any = None) -> list[RawBatch]:
    loader = Loader(dataset or Blobs(), transforms or pipeline(), batch_size=3, shuffle=True, seed=2, workers=workers)
    return [batch for epoch in (0, 1) for batch in loader.epoch(epoch)]


def outline(batch: RawBatch) -> list[Tensor]:
    assert batch.targets is not None
    assert batch.targets.masks is not None
    return [each.points if isinstance(each, Polygons) else each for each in batch.targets.masks]


def assert_same(first: list[RawBatch], second: list[RawBatch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert list(one.ids) == list(other.ids)
        assert all(torch.equal(*pair) for pair in zip(one.images, other.images, strict=True))
        assert one.targets is not None
        assert other.targets is not None
        assert torch.equal(one.targets.boxes, other.targets.boxes)
        assert torch.equal(one.targets.labels, other.targets.labels)
        assert all(torch.equal(*pair) for pair in zip(outline(one), outline(other), strict=True))


@pytest.mark.parametrize("workers", [2, 4])
def test_mixed_batches_do_not_depend_on_workers(workers: int) -> None:
    assert_same(batches(0), batches(workers))


def test_a_mixed_epoch_begun_in_the_middle_has_the_batches_of_a_whole_one() -> None:
    loader = Loader(Blobs(), pipeline(), batch_size=3, shuffle=True, seed=2)
    assert_same([*loader.epoch(4)][1:], [*loader.epoch(4, start=1)])


# ----------------------------------------------------------------------------------------------------------- errors


def told(call: Callable[[], Any], kind: type = DataError) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def test_a_mixing_transform_inside_of_another_or_called_by_itself_says_so() -> None:
    line = (
        "looks at other samples of the dataset, and nobody gives it any. "
        "Name it in [train].transforms itself, not inside of a transform."
    )
    assert told(lambda: Mosaic()(*plain(1, []))) == f"Mosaic: {line}"
    inside = v2.RandomApply([MixUp()], p=1)
    assert told(lambda: Samples(Blobs()).through(0, [inside])) == f"MixUp (image 0 (id 0)): {line}"


def test_a_mixing_transform_mixes() -> None:
    with pytest.raises(NotImplementedError):
        Mixing().mix(None, {}, Samples(Blobs()))


def test_pasting_without_masks_says_what_to_set() -> None:
    line = told(lambda: Samples(Given(plain(1, []))).through(0, [CopyPaste()]))
    assert line == 'CopyPaste (image 0 (id 1)): there are no masks. Set segmentation = "masks" of the dataset.'


def test_a_partner_that_cannot_be_read_is_named_with_the_image_that_it_is_for() -> None:
    class Broken(Given):
        def __getitem__(self, index: int) -> Any:
            if index == 1:
                raise DataError("cat.jpg", "cannot be read")
            return super().__getitem__(index)

    with seeded(1):
        line = told(lambda: Samples(Broken(plain(1, []), None)).through(0, [Mosaic(size=(4, 4))]))
    assert line == "cat.jpg (image 1) (image 0 (id 1)): cannot be read"


def test_a_partner_that_is_not_what_it_should_be_is_an_error() -> None:
    grey = tv_tensors.Image(torch.zeros(1, 4, 4, dtype=torch.uint8)), plain(5, [])[1]
    with seeded(1):
        line = told(lambda: Samples(Given(plain(1, []), grey)).through(0, [Mosaic(size=(4, 4))]))
    assert (
        line
        == "image 1 (id 5) (image 0 (id 1)): the image must be a tensor (3, H, W) uint8, found (1, 4, 4) torch.uint8"
    )


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (
            lambda: Mosaic(size=(0, 640)),
            "Mosaic: size: [0, 640]. It is a height and a width, each at least 1.",
        ),
        (
            lambda: Mosaic(centre=(1.5, 0.5)),
            "Mosaic: centre: [1.5, 0.5]. It is a lower and an upper bound, both above 0.",
        ),
        (lambda: Mosaic(p=1.5), "Mosaic: p: 1.5. It is a share, from 0 to 1."),
        (lambda: MixUp(flip=-1), "MixUp: flip: -1. It is a share, from 0 to 1."),
        (
            lambda: MixUp(ratio=(0, 1)),
            "MixUp: ratio: [0, 1]. It is a lower and an upper bound, both above 0.",
        ),
        (lambda: MixUp(tries=0), "MixUp: tries: 0. It is at least 1."),
        (lambda: CopyPaste(most=0), "CopyPaste: most: 0. It is at least 1."),
        (lambda: CopyPaste(mask_threshold=-1), "CopyPaste: mask_threshold: -1. It is a number of pixels."),
    ],
)
def test_values_that_cannot_be(make: Callable[[], Any], line: str) -> None:
    assert told(make, ConfigError) == line


def test_mosaics_end_with_the_epoch_that_a_switch_names(tmp_path: Path) -> None:
    """Two epochs of three steps, on images of 16 x 20; a mosaic of them is twice as large."""
    seen = []

    class Seeing(TinyDetector):
        def losses(self, batch: Batch) -> Losses:
            seen.append(tuple(batch.images.shape[-2:]))
            return super().losses(batch)

    run = tiny_run(tmp_path, detector=Seeing(), length=6, callbacks={"plain": PipelineSwitch(epoch=-1, transforms=[])})
    run.loader = attrs.evolve(run.loader, transforms=[Mosaic(size=(16, 20))])
    train(run)
    assert seen == [(32, 40)] * 3 + [(16, 24)] * 3
