"""What models know about other ranks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detcore.distributed import reduce_mean, share_of
from detcore.layers import BN, SyncBN

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


NORM = """
import os, sys, torch
from torch import distributed
from detcore.layers import BN, SyncBN
rank, store, rows = int(sys.argv[1]), sys.argv[2], [int(each) for each in sys.argv[3].split(",")]
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
torch.manual_seed(0)
whole = torch.randn(sum(rows), 3, 4, 5, dtype=torch.float64) * 3 + 50
wanted = torch.randn_like(whole)
ours, theirs = SyncBN(3, momentum=0.3).double(), BN(3, momentum=0.3).double()
for norm in (ours, theirs):
    torch.nn.init.constant_(norm.weight, 1.5)
    torch.nn.init.constant_(norm.bias, 0.5)


def step(norm, x, goal):
    x = x.clone().requires_grad_()
    out = norm(x)
    (out - goal).square().sum().backward()
    return out.detach(), x.grad


mine = slice(0, rows[0]) if rank == 0 else slice(rows[0], None)
for _ in range(2):
    found, expected = step(ours, whole[mine], wanted[mine]), step(theirs, whole, wanted)
    for ours_, theirs_ in zip(found, expected):
        torch.testing.assert_close(ours_, theirs_[mine])
for (name, ours_), theirs_ in zip(ours.named_parameters(), theirs.parameters()):
    distributed.all_reduce(ours_.grad)
    torch.testing.assert_close(ours_.grad, theirs_.grad)
for (name, ours_), theirs_ in zip(ours.named_buffers(), theirs.buffers()):
    torch.testing.assert_close(ours_, theirs_)
assert [*ours.state_dict()] == [*theirs.state_dict()]
half = SyncBN(3)
with torch.autocast("cpu", torch.bfloat16):
    assert half(whole[mine].bfloat16()).dtype == torch.bfloat16
ours.eval(), theirs.eval()
torch.testing.assert_close(ours(whole[mine]), theirs(whole[mine]))
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), SyncBN(3)))
model(whole[mine].float()).square().sum().backward()
assert all(each.grad.isfinite().all() for each in model.parameters())
distributed.barrier()
del model  # it holds the group, whose threads must have ended before the process does
distributed.destroy_process_group()
os._exit(0)  # a thread of gloo that outlives its group would abort what is done
"""


@pytest.mark.parametrize("rows", ["3,1", "2,0"])
def test_a_norm_over_two_ranks_is_one_over_the_whole_batch(rows: str, tmp_path: Path) -> None:
    """Outputs, gradients, running statistics; ranks of unequal batches, and one that has nothing."""
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", NORM, str(rank), str(tmp_path / "store"), rows], stderr=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    errors = [rank.communicate(timeout=120)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], "".join(errors)


def test_a_norm_over_ranks_is_an_ordinary_one_where_there_is_one_rank() -> None:
    ours, theirs = SyncBN(3), BN(3)
    x = torch.randn(2, 3, 4, 5)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.get_buffer("running_var"), theirs.get_buffer("running_var"))
