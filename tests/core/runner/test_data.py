"""Loading: the same batches whatever the workers, errors that name the image, rows dropped with all they have."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from core.runner.tiny import Noise, TinyDataset
from detcore.data import Loader, RawBatch, Sanitize, _mix, collate, epoch_order, pad_targets, seeded
from detcore.errors import ConfigError, DataError, Problems, UserError
from detcore.structures import Polygons
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2


def loader(dataset: Any = None, transforms: Any = (), **more: Any) -> Loader:
    return Loader(dataset or TinyDataset(), transforms, **{"batch_size": 4, "shuffle": True, "seed": 5, **more})


def same(first: RawBatch, second: RawBatch) -> bool:
    return list(first.ids) == list(second.ids) and all(
        torch.equal(one, two) for one, two in zip(first.images, second.images, strict=True)
    )


@pytest.mark.parametrize("workers", [2, 4])
def test_batches_do_not_depend_on_workers(workers: int) -> None:
    here = list(loader(transforms=[Noise()]).epoch(1))
    there = list(loader(transforms=[Noise()], workers=workers).epoch(1))
    assert len(here) == len(there) == 3
    assert all(same(one, two) for one, two in zip(here, there, strict=True))


def test_an_epoch_begun_in_the_middle_has_the_batches_of_a_whole_one() -> None:
    whole = list(loader(transforms=[Noise()]).epoch(2))
    assert [same(*pair) for pair in zip(whole[1:], loader(transforms=[Noise()]).epoch(2, start=1), strict=True)] == [
        True
    ] * 2


def test_noise_differs_between_positions_epochs_and_seeds() -> None:
    class Grey(TinyDataset):
        def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
            _, target = super().__getitem__(index)
            return tv_tensors.Image(torch.zeros(3, 4, 4, dtype=torch.uint8)), target

    def greys(seed: int, epoch: int) -> list[int]:
        batches = loader(Grey(), [Noise()], seed=seed).epoch(epoch)
        return [int(image[0, 0, 0]) for batch in batches for image in batch.images]

    assert len(set(greys(0, 0))) > 6
    assert greys(0, 0) == greys(0, 0)
    assert greys(0, 0) != greys(0, 1)
    assert greys(0, 0) != greys(1, 0)


@given(st.integers(0, 60), st.integers(-5, 2**63), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_an_order_is_a_permutation_and_a_pure_function(samples: int, seed: int, epoch: int) -> None:
    order = epoch_order(samples, seed, epoch)
    assert sorted(order) == list(range(samples))
    assert order == epoch_order(samples, seed, epoch)


def test_orders_of_epochs_differ_and_numbers_mix_by_place() -> None:
    assert epoch_order(50, 0, 0) != epoch_order(50, 0, 1) != epoch_order(50, 1, 0)
    assert len({_mix(1, 2), _mix(2, 1), _mix(1, 2, 0), _mix(-1, 2)}) == 4


def test_seeding_leaves_the_generators_as_they_were() -> None:
    def draw() -> tuple[float, float, float]:
        return torch.rand(()).item(), float(np.random.rand()), random.random()

    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    expected = draw()
    torch.manual_seed(0), np.random.seed(0), random.seed(0)

    def fail() -> None:
        with seeded(1, 2):
            inside.append(draw())
            raise ZeroDivisionError

    inside: list[tuple[float, float, float]] = []
    with pytest.raises(ZeroDivisionError):
        fail()
    assert draw() == expected
    with seeded(1, 2):
        assert [draw()] == inside


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_draws_nothing_from_the_global_generators(workers: int) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(loader(transforms=[Noise()], workers=workers).epoch(0))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("samples", "drop_last", "lengths"), [(10, False, [4, 4, 2]), (10, True, [4, 4]), (3, True, [])]
)
def test_the_last_batch(samples: int, drop_last: bool, lengths: list[int]) -> None:
    batches = loader(TinyDataset(samples), drop_last=drop_last)
    assert [len(batch) for batch in batches.epoch(0)] == lengths
    assert len(batches) == len(lengths)


def test_without_shuffling_the_order_is_the_datasets() -> None:
    assert [id for batch in loader(shuffle=False).epoch(3) for id in batch.ids] == list(range(100, 112))


def test_targets_are_padded_and_crowds_are_not_valid() -> None:
    targets = pad_targets(
        [
            {
                "boxes": torch.tensor([[0, 0, 2, 2], [1, 1, 3, 3.0]]),
                "labels": torch.tensor([4, 5]),
                "iscrowd": torch.tensor([0, 1]),
            },
            {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
            {"boxes": torch.tensor([[5, 5, 6, 6.0]]), "labels": torch.tensor([7])},
        ]
    )
    assert targets.boxes.tolist() == [[[0, 0, 2, 2], [1, 1, 3, 3]], [[0] * 4] * 2, [[5, 5, 6, 6], [0] * 4]]
    assert targets.labels.tolist() == [[4, 5], [0, 0], [7, 0]]
    assert targets.valid.tolist() == [[True, False], [False, False], [True, False]]
    assert targets.crowd.tolist() == [[False, True], [False, False], [False, False]]
    assert targets.masks is None
    assert (targets.boxes.dtype, targets.labels.dtype) == (torch.float32, torch.int64)


def test_a_batch_without_objects_has_one_padding_row() -> None:
    targets = pad_targets([{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}] * 2)
    assert targets.boxes.shape == (2, 1, 4)
    assert not targets.valid.any()


def test_original_sizes_are_those_before_the_transforms() -> None:
    batch = next(loader(transforms=[v2.Resize((8, 40))]).epoch(0))
    assert [tuple(image.shape) for image in batch.images] == [(3, 8, 40)] * 4
    assert batch.originals.tolist() == [[16, 20]] * 4
    assert all(type(image) is Tensor for image in batch.images)


def test_samples_without_boxes_and_pil_images_are_taken() -> None:
    class Pictures:
        classes = ("cat",)

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
            return Image.new("RGB", (5, 4), (1, 2, 3)), {}

    (batch,) = loader(Pictures()).epoch(0)
    assert batch.targets is None
    assert batch.ids == [0]
    assert batch.images[0].shape == (3, 4, 5)
    assert batch.images[0][:, 0, 0].tolist() == [1, 2, 3]


def sample(**target: Any) -> tuple[Tensor, dict[str, Any]]:
    boxes = tv_tensors.BoundingBoxes(
        [[0, 0, 4, 4], [2, 2, 2.5, 9], [-5, 0, 0.5, 5], [4, 4, 8, 8]], format="XYXY", canvas_size=(9, 9)
    )  # type: ignore[call-overload]
    whole = {
        "boxes": boxes,
        "labels": torch.arange(4),
        "image_id": 1,
        "area": torch.arange(4) * 10,
        "iscrowd": torch.zeros(4),
    }
    return tv_tensors.Image(torch.zeros(3, 9, 9, dtype=torch.uint8)), whole | target


def test_sanitize_drops_degenerate_objects_with_all_they_have_and_counts() -> None:
    masks = tv_tensors.Mask(torch.arange(4)[:, None, None].expand(4, 9, 9))
    polygons = {
        "polygons": torch.arange(28.0).view(14, 2),
        "offsets": torch.tensor([0, 3, 6, 9, 14]),
        "owner": torch.tensor([0, 1, 3, 0]),
    }
    image, target = Sanitize()(*sample(masks=masks, dropped=2, **polygons))
    assert target["labels"].tolist() == [0, 3]
    assert target["area"].tolist() == [0, 30]
    assert len(target["iscrowd"]) == 2
    assert target["masks"][:, 0, 0].tolist() == [0, 3]
    assert isinstance(target["boxes"], tv_tensors.BoundingBoxes)
    assert target["dropped"] == 4
    assert target["offsets"].tolist() == [0, 3, 6, 11]
    assert target["owner"].tolist() == [0, 1, 0]
    assert target["polygons"][:, 0].tolist() == [0, 2, 4, 12, 14, 16, 18, 20, 22, 24, 26]
    batch = collate([(image, target)])
    assert batch.dropped == 4
    assert batch.targets is not None
    assert batch.targets.masks is not None
    assert isinstance(batch.targets.masks[0], Polygons)


def test_sanitize_keeps_what_is_large_enough() -> None:
    assert Sanitize(min_size=0.5)(*sample())[1]["labels"].tolist() == [0, 1, 2, 3]
    assert "dropped" not in Sanitize(min_size=0.5)(*sample())[1]
    assert Sanitize(min_size=5)(*sample())[1]["boxes"].shape == (0, 4)


class Broken(TinyDataset):
    def __init__(self, error: Exception) -> None:
        super().__init__(4)
        self.error = error

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        if index == 2:
            raise copy.copy(self.error)
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("error", "kind", "line"),
    [
        (
            DataError("cat.jpg", "cannot be read", "Remove it."),
            DataError,
            "cat.jpg (image 2): cannot be read. Remove it.",
        ),
        (ConfigError("", "no root"), ConfigError, "image 2: no root"),
        (ValueError("no\n such box"), DataError, "image 2: Broken raised ValueError: no such box"),
    ],
)
def test_errors_of_a_dataset_surface_as_they_are(workers: int, error: Exception, kind: type, line: str) -> None:
    with pytest.raises(UserError) as caught:
        list(loader(Broken(error), workers=workers, shuffle=False, batch_size=2).epoch(0))
    assert type(caught.value) is kind
    assert str(caught.value) == line


def test_errors_of_several_problems_cross_process_borders() -> None:
    several = Problems([DataError("a", "x"), ConfigError("b", "y")])
    assert str(pickle.loads(pickle.dumps(several))) == "a: x\nb: y"


class Fails(v2.Transform):
    def forward(self, *sample: Any) -> Any:
        raise ValueError("crop is larger than the image")


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_a_transform_name_it_and_the_image(workers: int) -> None:
    with pytest.raises(DataError) as caught:
        list(loader(transforms=[Fails()], shuffle=False, workers=workers).epoch(0))
    assert str(caught.value) == "image 0 (id 100): Fails raised ValueError: crop is larger than the image"
    assert "Traceback" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda image, target: (image.float(), target),
            "the image must be a tensor (3, H, W) uint8, found (3, 16, 20) torch.float32",
        ),
        (
            lambda image, target: (image[:1], target),
            "the image must be a tensor (3, H, W) uint8, found (1, 16, 20) torch.uint8",
        ),
        (lambda image, target: ("x", target), "the image must be a tensor (3, H, W) uint8, found str"),
        (
            lambda image, target: (image, {**target, "boxes": torch.zeros(2, 5)}),
            "boxes must be (G, 4) XYXY, found (2, 5) XYXY",
        ),
        (
            v2.ConvertBoundingBoxFormat("XYWH"),
            "boxes must be (G, 4) XYXY, found (0, 4) XYWH",
        ),
        (
            lambda image, target: (image, {**target, "boxes": torch.full((1, 4), torch.nan), "labels": torch.zeros(1)}),
            "a box has a coordinate that is not finite",
        ),
        (lambda image, target: (image, {**target, "labels": torch.zeros(3)}), "0 boxes, but 3 rows of labels"),
        (lambda image, target: (image, {"boxes": torch.zeros(1, 4)}), "1 boxes, but 0 rows of labels"),
        (
            lambda image, target: (image, {"boxes": torch.zeros(2, 4), "labels": torch.tensor([0, 2])}),
            "labels must be 0 to 1, found 0 to 2",
        ),
    ],
)
def test_samples_that_are_not_what_they_should_be(change: Any, line: str) -> None:
    with pytest.raises(DataError) as caught:
        list(loader(transforms=[change], shuffle=False).epoch(0))
    assert str(caught.value) == f"image 0 (id 100): {line}"


class Dies(TinyDataset):
    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        import os

        os._exit(1)


def test_a_worker_that_dies_is_one_line() -> None:
    with pytest.raises(DataError) as caught:
        list(loader(Dies(), workers=1).epoch(0))
    line = "data loader: a worker process died. Use fewer workers or smaller batches if memory ran out."
    assert str(caught.value) == line


@pytest.fixture
def unhandled() -> Iterator[None]:
    """No handler of ended processes, such as torch leaves behind where another test used its loader."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.usefixtures("unhandled")
def test_the_death_of_a_worker_is_told_where_its_batch_is_waited_for() -> None:
    batches = Loader(TinyDataset(12), batch_size=1, workers=2).epoch(0)
    next(batches)
    for worker in multiprocessing.active_children():
        os.kill(worker.pid or 0, signal.SIGKILL)
    for _ in range(10):
        time.sleep(0.05)  # torch would raise here
    with pytest.raises(DataError, match="a worker process died"):
        list(batches)


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="the system does not tell who sent a signal")
def test_workers_leave_signals_of_others_to_the_main_process() -> None:
    batches = Loader(TinyDataset(12), batch_size=1, workers=2, prefetch=1).epoch(0)
    next(batches), next(batches)  # one of each: both have begun
    workers = [str(worker.pid) for worker in multiprocessing.active_children()]
    for name in ("TERM", "INT"):
        subprocess.run(["kill", f"-{name}", *workers], check=True)
    time.sleep(0.3)
    assert len(list(batches)) == 10
