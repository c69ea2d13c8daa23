"""Normalising, padding, scaling back: by hand, and against the reference's pipelines."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from core.runner.tiny import TinyDataset
from detcore.data import RawBatch, collate
from detcore.preprocess import Preprocess, to_original
from detcore.structures import Batch, Detections, Polygons, Targets
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2 import functional as F

SHARED = Path(__file__).parents[3].parent / "shared"
GOLDEN = Path(os.environ.get("DETCORE_TEST_GOLDEN", SHARED / "golden"))
DATA = Path(os.environ.get("DETCORE_TEST_DATA", SHARED / "data"))


def raw(
    *sizes: tuple[int, int], originals: Any = None, value: tuple[int, int, int] = (10, 20, 30), **more: Any
) -> RawBatch:
    images = [torch.tensor(value, dtype=torch.uint8)[:, None, None].repeat(1, *size) for size in sizes]
    return RawBatch(images, torch.tensor(originals or sizes, dtype=torch.float32), [*range(len(sizes))], **more)


def test_values_are_normalised_and_then_padded() -> None:
    batch = Preprocess(mean=(1, 2, 3), std=(1, 2, 4), divisor=4, pad_value=0.5)(raw((3, 2), (1, 5)))
    assert batch.images.shape == (2, 3, 4, 8)
    assert batch.images[0, :, 2, 1].tolist() == [9, 9, 6.75]
    assert (batch.images[0, :, :3, :2] == torch.tensor([9, 9, 6.75])[:, None, None]).all()
    assert (batch.images[0, :, 3:] == 0.5).all()
    assert (batch.images[0, :, :, 2:] == 0.5).all()
    assert (batch.images[1, :, 1:] == 0.5).all()
    assert batch.images[1, 0, 0].tolist() == [9] * 5 + [0.5] * 3
    assert batch.sizes.tolist() == [[3, 2], [1, 5]]
    assert batch.padded.tolist() == [[4, 4], [4, 8]]
    assert batch.images.dtype == torch.float32


def test_padding_before_normalising_is_normalised() -> None:
    batch = Preprocess(mean=(4, 4, 4), std=(2, 2, 2), divisor=4, pad_value=114.0, pad="before")(raw((4, 3)))
    assert batch.images[0, :, 0, 3].tolist() == [55] * 3
    assert batch.images[0, :, 0, 2].tolist() == [3, 8, 13]


def test_bgr_turns_channels_and_mean_is_in_that_order() -> None:
    batch = Preprocess(mean=(3, 2, 1), std=(1, 1, 1), color="bgr", divisor=1)(raw((1, 1)))
    assert batch.images.flatten().tolist() == [27, 18, 9]


def test_images_are_padded_to_a_size_at_least() -> None:
    batch = Preprocess(divisor=4, size=(6, 5))(raw((2, 11), (3, 3)))
    assert batch.images.shape[-2:] == (8, 12)
    assert batch.padded.tolist() == [[8, 12], [8, 8]]


@pytest.mark.parametrize(
    ("image", "batch"),
    [
        ((3, 3), (8, 8)),
        ((5, 9), (8, 16)),
        ((9, 5), (16, 12)),
        ((13, 3), (16, 12)),
        ((14, 14), (16, 16)),
        ((17, 3), (20, 4)),
    ],
)
def test_batches_are_padded_to_the_smallest_bucket_that_holds_them(
    image: tuple[int, int], batch: tuple[int, int]
) -> None:
    made = Preprocess(divisor=4, buckets=[(8, 8), (16, 16), (8, 16), (16, 12)])(raw(image, (1, 1)))
    assert made.images.shape[-2:] == batch
    assert made.padded.tolist() == [[-(-side // 4) * 4 for side in image], [4, 4]]


def test_detections_go_back_to_original_pixels_and_are_clipped() -> None:
    batch = Preprocess()(raw((50, 100), (30, 30), originals=[(101, 205), (10, 30)]))
    assert torch.allclose(batch.scale, torch.tensor([[2.05, 2.02], [1, 1 / 3]]))
    boxes = torch.tensor([[10, 10, 20, 25], [-3, 5, 100.5, 60]])
    found = [Detections(boxes, torch.ones(2), torch.zeros(2)), Detections(boxes[:0], torch.ones(0), torch.zeros(0))]
    first, second = to_original(found, batch)
    expected = torch.tensor([[20.5, 20.2, 41, 50.5], [0, 10.1, 205, 101]])
    assert torch.allclose(first.boxes, expected)
    assert first.scores is found[0].scores
    assert second.boxes.shape == (0, 4)


def test_targets_move_with_the_images() -> None:
    samples = [(image, {**target, "original": (16, 20)}) for image, target in (TinyDataset()[1], TinyDataset()[2])]
    batch = Preprocess()(collate(samples), progress=0.25)
    assert isinstance(batch, Batch)
    assert batch.progress == 0.25
    assert batch.ids == [101, 102]
    assert batch.truth.valid.tolist() == [[True, False], [True, True]]
    assert Preprocess()(raw((2, 2))).targets is None


@pytest.mark.parametrize(
    "mask",
    [torch.ones(1, 2, 2), Polygons(torch.ones(3, 2), torch.tensor([0, 3]), torch.tensor([0]))],
    ids=["mask", "outline"],
)
def test_masks_move_too(mask: Any) -> None:
    targets = Targets(torch.ones(1, 1, 4), torch.zeros(1, 1), torch.ones(1, 1) > 0, torch.zeros(1, 1) > 0, [mask])
    (moved,) = Preprocess()(raw((2, 2), targets=targets)).truth.masks or ()
    assert type(moved) is type(mask)


def test_settings_build_the_same_again_and_weights_hold_nothing() -> None:
    first = Preprocess(mean=(1, 2, 3), std=(4, 5, 6), color="bgr", divisor=8, size=(2, 3), pad_value=1.0, pad="before")
    first.buckets = [(8, 16)]
    assert json.loads(json.dumps(first.settings)) == Preprocess(**first.settings).settings
    assert first.settings["mean"] == [1, 2, 3]
    assert not first.state_dict()


CASES = {
    "rgb": Preprocess(),
    "caffe_bgr": Preprocess(mean=(102.9801, 115.9465, 122.7717), std=(1, 1, 1), color="bgr"),
    "yolox": Preprocess(mean=(0, 0, 0), std=(1, 1, 1), color="bgr", pad_value=114.0, pad="before", size=(320, 320)),
}


@pytest.mark.skipif(not GOLDEN.is_dir() or not DATA.is_dir(), reason="the golden pipelines or their images are absent")
@pytest.mark.parametrize("name", CASES)
def test_inputs_are_those_of_the_reference(name: str) -> None:
    about = json.loads((GOLDEN / f"pipeline_{name}.json").read_text())
    reference = torch.from_numpy(np.load(GOLDEN / f"pipeline_{name}.npz")["input"]).float()
    images, originals = [], []
    for image in about["images"]:
        (path,) = (DATA / "coco128" / "images").rglob(image["file"])
        pixels = decode_image(str(path), mode=ImageReadMode.RGB)
        originals.append(image["ori_shape"])
        height, width = image["ori_shape"]
        across, down = image["scale_factor"]
        images.append(F.resize(pixels, [round(height * down), round(width * across)], antialias=False))
    batch = CASES[name](RawBatch(images, torch.tensor(originals, dtype=torch.float32), [0, 1, 2]))
    assert batch.images.shape == reference.shape
    grey = ((batch.images - reference) * CASES[name].std).abs()
    assert grey.mean() <= 0.5
    assert grey.flatten().kthvalue(int(grey.numel() * 0.999)).values <= 1.5
    factors = torch.tensor([image["scale_factor"] for image in about["images"]])
    assert torch.allclose(1 / batch.scale, factors)
