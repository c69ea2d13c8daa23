"""What models know about other ranks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from detcore.distributed import reduce_mean, share_of

RANK = """
import sys, torch
from torch import distributed
from detcore.distributed import apart, reduce_mean, share_of
rank, store = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
value = torch.tensor([3.0, 8.0][rank], requires_grad=True)
mean = reduce_mean(value)
shares = [share_of(torch.tensor(count)).item() for count in (rank, 4 * rank, 0)]
with apart():
    own = [share_of(torch.tensor(4 * rank)).item(), reduce_mean(value).item()]
distributed.destroy_process_group()
assert not mean.requires_grad
assert shares == [0.5, 2, 0.5], shares
assert own == [[1, 3], [4, 8]][rank], own
print(float(value.detach()), float(mean))
"""


def test_one_rank_is_its_own_mean() -> None:
    value = torch.tensor(3.0)
    assert reduce_mean(value) is value
    assert [float(share_of(torch.tensor(count))) for count in (0, 1, 5)] == [1, 1, 5]


def test_two_ranks_give_the_mean_to_both(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RANK]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    assert [rank.communicate(timeout=120)[0].split()[-2:] for rank in ranks] == [["3.0", "5.5"], ["8.0", "5.5"]]
