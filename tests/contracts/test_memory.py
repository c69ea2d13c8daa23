"""Reading data keeps no memory, and what measures that would see it if it did (`benchmarks/memory.py`)."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from detcore.data import Loader

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "memory.py"
DATA = Path(os.environ.get("DETCORE_TEST_DATA", ROOT / "../shared/data"), "coco128")

on_linux = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="no PSS on this system")


@pytest.fixture(scope="module")
def memory() -> Any:
    spec = importlib.util.spec_from_file_location("memory", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Noise:
    """Images of 200 kB; those that were made are kept, if it is told to."""

    classes = ("thing",)

    def __init__(self, keeps: bool) -> None:
        self.kept: list[Any] | None = [] if keeps else None

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Any:
        image = torch.full((3, 256, 256), index, dtype=torch.uint8)
        if self.kept is not None:
            self.kept.append(image.clone())
        return image, {"boxes": torch.ones(1, 4), "labels": torch.zeros(1, dtype=torch.int64), "image_id": index}


@on_linux
@pytest.mark.slow  # a process that has run other tests has memory to spare, in which a leak is not seen
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("keeps", [False, True])
def test_what_is_kept_is_seen(memory: Any, keeps: bool, workers: int) -> None:
    loader = Loader(Noise(keeps), batch_size=8, workers=workers, persistent=True)
    found = [own + others for own, others in memory.by_epoch(loader, 8)]
    grown = memory.growth(found, warm_up=2, first=2)
    if keeps:  # 12.6 MB an epoch; the medians are three epochs apart
        assert grown > 3 * 64 * 3 * 256 * 256 / 1e6 * 0.8
    else:
        assert grown < memory.LEAST


def test_growth_by_hand(memory: Any) -> None:
    assert memory.growth([500, 700, 100, 110, 120, 130, 140, 150], warm_up=2, first=2) == 30  # 135 above 105
    assert memory.growth([100.0] * 10 + [90.0] * 10) == -10
    assert (memory.allowed([100.0]), memory.allowed([1000.0])) == (8, 20)


@on_linux
@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="no coco128 in DETCORE_TEST_DATA or ../shared/data")
def test_reading_images_twenty_times_keeps_nothing() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--data", DATA], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
