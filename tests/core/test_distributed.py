"""What models know about other ranks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from detcore.distributed import reduce_mean

RANK = """
import sys, torch
from torch import distributed
from detcore.distributed import reduce_mean
rank, store = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
value = torch.tensor([3.0, 8.0][rank], requires_grad=True)
mean = reduce_mean(value)
distributed.destroy_process_group()
assert not mean.requires_grad
print(float(value.detach()), float(mean))
"""


def test_one_rank_is_its_own_mean() -> None:
    value = torch.tensor(3.0)
    assert reduce_mean(value) is value


def test_two_ranks_give_the_mean_to_both(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RANK]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    assert [rank.communicate(timeout=120)[0].split()[-2:] for rank in ranks] == [["3.0", "5.5"], ["8.0", "5.5"]]
