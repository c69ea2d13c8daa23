"""Every transform keeps the contract of transforms, and the callback that of callbacks."""

from __future__ import annotations

from typing import Any

import pytest
from detcore.testing import check_callback, check_transform
from detcore_transforms.affine import YOLOXRandomAffine
from detcore_transforms.batches import BatchSyncRandomResize
from detcore_transforms.colors import PhotoMetricDistortion, YOLOXHSVRandomAug
from detcore_transforms.copy_paste import CopyPaste
from detcore_transforms.crops import CenterPad, MinIoURandomCrop, RandomCenterCropPad, RandomSizeCrop
from detcore_transforms.mosaic import MixUp, Mosaic
from detcore_transforms.sizes import FilterBoxes, LargeScaleJitter, RandomChoiceResize


@pytest.mark.parametrize(
    "transform",
    [
        Mosaic(size=(48, 64)),
        MixUp(size=(64, 80)),
        YOLOXRandomAffine(),
        YOLOXRandomAffine(degrees=30, shear=10, scale=(0.8, 1.2), border=(-8, -8)),
        YOLOXHSVRandomAug(),
        PhotoMetricDistortion(),
        MinIoURandomCrop(),
        RandomSizeCrop(size=(40, 50)),
        RandomSizeCrop(size=(0.5, 0.7), kind="relative_range", allow_empty=True),
        RandomCenterCropPad(size=(63, 63), border=16),
        CenterPad(bits=31),
        RandomChoiceResize(sizes=[(40, 60), (80, 100)]),
        RandomChoiceResize(sizes=[(40, 60), (80, 100)], keep_ratio=False),
        LargeScaleJitter(size=(80, 80), ratio=(0.5, 2.0)),
        FilterBoxes(min_width=16),
    ],
    ids=lambda each: type(each).__name__,
)
def test_it_is_a_transform(transform: Any) -> None:
    check_transform(transform)


def test_what_pastes_moves_all_but_outlines() -> None:
    check_transform(CopyPaste(), without=("polygons",))


def test_the_callback_is_a_callback() -> None:
    check_callback(BatchSyncRandomResize, random_size_range=(16, 48), interval=1, size_divisor=8)
