"""docs/one-step.md says where a training step really goes: the step is traced."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from detcore import run

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "one-step.md"
TINY = [
    "model.backbone.width=8",
    "train.dataset.length=2",
    "train.batch_size=2",
    "train.epochs=1",
    "val={_delete_=true}",
]


def way_to_the_loss(folder: Path) -> list[tuple[str, str]]:
    """(file, function) of every frame of this repository between the command and the loss, in order."""
    ways: list[list[tuple[str, str]]] = []

    def trace(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_qualname == "FCOSLoss.forward":
            way = []
            caller: FrameType | None = frame
            while caller is not None and caller.f_code.co_name != "way_to_the_loss":
                way.append((caller.f_code.co_filename, caller.f_code.co_qualname))
                caller = caller.f_back
            ways.append(way[::-1])

    sys.setprofile(trace)
    try:
        run.train(str(ROOT / "configs" / "quickstart.toml"), sets=TINY, work_dir=str(folder))
    finally:
        sys.setprofile(None)
    inside = [(Path(file).resolve(), function) for file, function in ways[0]]
    ours = [ROOT / "core", ROOT / "plugins"]  # an environment may lie in the repository, torch in it
    return [(path.relative_to(ROOT).as_posix(), name) for path, name in inside if any(map(path.is_relative_to, ours))]


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    return way_to_the_loss(tmp_path_factory.mktemp("run"))


def test_the_page_follows_the_step(way: list[tuple[str, str]]) -> None:
    headings = re.findall(r"^## \d\. `(.+?)`: (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    told = [(file, function) for file, functions in headings for function in re.findall(r"`(.+?)`", functions)]
    assert told == way


def test_the_way_is_short(way: list[tuple[str, str]]) -> None:
    files = dict.fromkeys(file for file, _ in way)
    assert len(files) <= 5
    assert sum(len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in files) <= 750
