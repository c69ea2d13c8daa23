"""Masks become bitmaps as bilinear sampling has them, and run lengths without a bitmap of the image."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import torch
from detcore.masks import cut, encode, paste
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F


def sampled(mask: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    """Probabilities (H, W) at the centres of all pixels of an image; zeros surround the mask."""
    height, width = size
    x = (torch.arange(width) + 0.5 - box[0]) / (box[2] - box[0]) * 2 - 1
    y = (torch.arange(height) + 0.5 - box[1]) / (box[3] - box[1]) * 2 - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
    return F.grid_sample(mask[None, None], grid, align_corners=False)[0, 0]


@given(st.integers(0, 2**31), st.integers(1, 28), st.integers(1, 28))
@settings(max_examples=100, deadline=None)
def test_pasting_is_bilinear_sampling_of_the_whole_image(seed: int, height: int, width: int) -> None:
    """Boxes lie inside, stand out over an edge, cover the image or are outside of it."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(height, width, generator=generator)
    corner = torch.rand(2, generator=generator) * 80 - 30
    box = torch.cat([corner, corner + 0.5 + torch.rand(2, generator=generator) * 90])
    wanted, found = sampled(mask, box, (40, 50)), paste(mask, box, (40, 50))
    unclear = (wanted - 0.5).abs() < 1e-4
    assert torch.equal(found | unclear, (wanted >= 0.5) | unclear)


def test_only_the_boxs_part_of_the_image_is_looked_at() -> None:
    part, corner = cut(torch.ones(28, 28), torch.tensor([10.2, 20.0, 19.6, 90.0]), (60, 3000))
    assert (part.shape, corner) == ((40, 10), (20, 10))
    assert part.all()
    nothing, _ = cut(torch.ones(28, 28), torch.tensor([-9.0, -9.0, -1.0, -1.0]), (60, 80))
    assert nothing.numel() == 0


def decoded(segmentation: dict[str, Any]) -> Tensor:
    """The bitmap of COCO's text, character by character."""
    runs: list[int] = []
    value = place = 0
    for character in segmentation["counts"]:
        bits = ord(character) - 48
        value |= (bits & 31) << place
        place += 5
        if not bits & 32:
            value -= (1 << place) if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = place = 0
    pixels = [number % 2 for number, run in enumerate(runs) for _ in range(run)]
    height, width = segmentation["size"]
    return torch.tensor(pixels, dtype=torch.bool).view(width, height).T


@given(st.integers(0, 2**31), st.tuples(st.integers(1, 9), st.integers(1, 9)), st.floats(0, 1), st.data())
@settings(max_examples=200, deadline=None)
def test_the_run_lengths_of_a_part_are_those_of_the_image(
    seed: int, size: tuple[int, int], share: float, data: st.DataObject
) -> None:
    top, left = (data.draw(st.integers(0, side)) for side in size)
    bottom, right = data.draw(st.integers(top, size[0])), data.draw(st.integers(left, size[1]))
    part = torch.rand(bottom - top, right - left, generator=torch.Generator().manual_seed(seed)) < share
    whole = torch.zeros(size, dtype=torch.bool)
    whole[top:bottom, left:right] = part
    encoded = encode(part, size, (top, left))
    assert encoded == encode(whole)
    assert torch.equal(decoded(encoded), whole)


COST = """
import resource, sys, time, torch
from detcore.results import to_rows
from detcore.structures import Detections

torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
sides = 40 * 20 ** torch.rand(100, 2, generator=generator)  # log-uniform in 40 to 800
corners = torch.rand(100, 2, generator=generator) * (torch.tensor([4000, 3000]) - sides)
smooth = torch.nn.functional.interpolate(torch.randn(100, 1, 7, 7, generator=generator), size=28, mode="bicubic")
masks = (4 * smooth[:, 0]).sigmoid()
found = Detections(torch.cat([corners, corners + sides], 1), torch.ones(100), torch.zeros(100).long(), masks)
to_rows(found.each(lambda rows: rows[:1]), 1, [1], (300, 400))
memory = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
before, began = memory(), time.process_time()
rows = to_rows(found, 1, [1], (3000, 4000))
print(time.process_time() - began, memory() - before)
assert sum(len(row["segmentation"]["counts"]) for row in rows) > 50000
"""


def test_a_hundred_masks_on_twelve_megapixels_cost_less_than_a_second_and_300_megabytes() -> None:
    done = subprocess.run([sys.executable, "-c", COST], capture_output=True, text=True, check=True)
    seconds, megabytes = map(float, done.stdout.split())
    assert seconds < 1
    assert megabytes < 300
