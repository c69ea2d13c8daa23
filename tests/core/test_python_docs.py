"""What docs/python.md shows runs, from its first block to its last."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from installed_toys import CHECKPOINT, enter, train_toys
from PIL import Image

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    train_toys(tmp_path)
    enter(tmp_path, monkeypatch)
    shutil.copy("toy.toml", "my.toml")
    shutil.copy(CHECKPOINT, "best.pt")
    Path("photos").mkdir()
    for name in "ab":
        Image.new("RGB", (48, 32), (250, 0, 0)).save(f"photos/{name}.jpg")
    capsys.readouterr()
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)  # the page is ours
    said = capsys.readouterr().out
    assert "photos/a.jpg (32, 48) 1" in said
    assert said.rstrip().endswith("0.02")
    with Image.open("a.png") as drawn:
        assert drawn.size[0] / drawn.size[1] == pytest.approx(48 / 32, rel=0.01)
    assert names["maps"]["student"][0].requires_grad
    assert not names["maps"]["teacher"][0].requires_grad
    assert names["student"].backbone.conv.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in names["teacher"].parameters())
