from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from detcore.config import Config, load
from detcore.errors import PluginError, UserError

Loader = Callable[..., Config]


@pytest.fixture
def loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loader:
    """Writes files into an empty working folder and loads the last of them, or ``source``."""
    monkeypatch.chdir(tmp_path)

    def resolve_dist(dist: str, path: str) -> Path:
        if dist != "detcore-x":
            raise PluginError(f"{dist}::{path}", f"no distribution {dist} is installed", "Install it.")
        return tmp_path / "dist" / path

    def write_and_load(files: dict[str, str], *sets: str, swaps: tuple[str, ...] = (), source: str = "") -> Config:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(source or list(files)[-1], sets=sets, swaps=swaps, resolve_dist=resolve_dist)

    return write_and_load


@pytest.fixture
def fault(loader: Loader) -> Callable[..., list[str]]:
    """The lines of the error that loading raises; a RecursionError or the like fails the test."""

    def lines(files: dict[str, str], *sets: str, swaps: tuple[str, ...] = (), source: str = "") -> list[str]:
        with pytest.raises(UserError) as caught:
            loader(files, *sets, swaps=swaps, source=source)
        return str(caught.value).splitlines()

    return lines
