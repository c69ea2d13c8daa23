"""A training step and inference of FCOS, ResNet-50 and FPN beside torchvision's, in one process.

Both have the same weights, trained parameters, frozen batch norms, images and objects; that they compute the same raw
maps is checked first. They take turns, in torch's layout and in channels_last, so that a busy machine slows all; a
ratio is the median over rounds of the time over that of torchvision in its faster layout. On the CPU in float32 with 2
threads; where there is a CUDA device, there too, under bf16 autocast.

    python benchmarks/step.py [--rounds 8] [--threads 2] [--only train infer compile parts]

Exits with 1 where ours in its faster layout takes longer than torchvision in its own, in a step or in inference, or
where assigner, losses and decoding take more than 3 % of a step. Beside it, for information: ours with the frozen
norms folded into the convolutions, both compiled, and what each keeps for the backward pass.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Sequence

import torch
from _pairs import Pair, fcos, random_batch
from _turns import Contender, both_layouts, compare, contender, in_turns, parts_of_a_step, placed
from detcore.detectors import OneStage
from detcore.structures import Batch

SHARE = 0.03


def contenders(pair: Pair, ours: OneStage, batch: Batch, device: str, *, compiled: bool) -> dict[str, Contender]:
    folded, last = pair.build(folded=True), torch.channels_last
    table = both_layouts(pair.theirs, ours, batch, device)
    table["  detcore folded, channels_last"] = contender(folded, batch, device, last)
    if compiled:
        for name, model in {"torchvision": pair.theirs, "detcore folded": folded}.items():
            table[f"  {name}, compiled, channels_last"] = contender(model, batch, device, last, compiled=True)
    return table


def measure(device: str, rounds: int, only: Sequence[str]) -> bool:
    """Whether the targets are met on ``device``."""
    torch.manual_seed(0)
    pair = fcos()
    ours, batch = pair.build(), random_batch()
    pair.same_outputs(ours, batch)
    all_of_them = contenders(pair, ours, batch, device, compiled="compile" in only)
    met = True
    for title, part in {"training step": "train", "inference": "infer"}.items():
        if part in only:
            runs = {name: getattr(each, part) for name, each in all_of_them.items()}
            met &= compare(f"{title}, {device}", in_turns(runs, rounds, device)) <= 1
    if "parts" in only:
        print()
        for name in ("torchvision", "detcore", "  detcore folded, channels_last"):
            print(f"{name:40} {all_of_them[name].kept():6.0f} MB kept for the backward pass")
        there = placed(batch, device, torch.channels_last)
        share = sum(parts_of_a_step(all_of_them["detcore channels_last"], there, rounds).values())
        print(f"{'assigner, losses and decoding':40} {share:36.2%} of a step")
        met &= share <= SHARE
    return met


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=8)
    parts = ("train", "infer", "compile", "parts")
    options.add_argument("--only", nargs="+", choices=parts, default=parts)
    options.add_argument("--threads", type=int, default=2)
    given = options.parse_args()
    warnings.simplefilter("ignore")  # what torch.compile says of torchvision's losses and NMS
    torch._logging.set_logs(all=logging.ERROR)
    torch.set_num_threads(given.threads)
    met = measure("cpu", given.rounds, given.only)
    if torch.cuda.is_available():
        met &= measure("cuda", given.rounds, given.only)
    else:
        print("\nno CUDA device: bf16 on it is left out")
    print("met" if met else f"missed: a ratio of ours to torchvision's is above 1, or the parts above {SHARE:.0%}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
