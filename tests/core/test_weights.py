"""``weights`` of a component: files, prefixes, hashes, addresses, sources of plugins; nothing is loaded in silence."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from detcore import weights
from detcore.catalog import WEIGHT_SOURCE, Catalog, Component, Entry
from detcore.errors import CheckpointError, ConfigError, UserError
from torch import nn

WHERE = "a.toml: model.backbone.weights"
EMPTY = Catalog()


def source(name: str) -> dict[str, torch.Tensor]:
    """What the weight source of these tests gives: its tensors hold the length of the name."""
    if name == "gone":
        raise ConfigError("toy://gone", "there is no such thing")
    if name == "boom":
        raise KeyError("boom")
    return {"weight": torch.full((2, 3), float(len(name))), "bias": torch.zeros(2)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.pth"
    torch.save(
        {"state_dict": {"backbone.weight": torch.ones(2, 3), "backbone.bias": torch.ones(2), "head.w": torch.ones(1)}},
        path,
    )
    return path


def test_a_prefix_chooses_and_the_report_counts(file: Path) -> None:
    layer = nn.Linear(3, 2)
    report = weights.load(layer, {"from": str(file), "prefix": "backbone."}, WHERE, EMPTY)
    assert torch.equal(layer.weight, torch.ones(2, 3))
    assert report.complete
    assert report.percent == 100.0


def test_a_hash_is_checked(file: Path) -> None:
    right = hashlib.sha256(file.read_bytes()).hexdigest()
    weights.load(nn.Linear(3, 2), {"from": str(file), "prefix": "backbone.", "sha256": right}, WHERE, EMPTY)
    with pytest.raises(ConfigError, match=f"has the sha256 {right}. Wanted 0000."):
        weights.load(nn.Linear(3, 2), {"from": str(file), "sha256": "0000"}, WHERE, EMPTY)


def test_what_does_not_fit_at_all_is_an_error(file: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing in it fits Linear"):
        weights.load(nn.Linear(3, 2), str(file), WHERE, EMPTY)


def test_a_missing_file_says_where_to_put_it_and_its_hash(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone.pth does not exist. Put it at .*gone.pth \(sha256 ab\)."):
        weights.load(nn.Linear(3, 2), {"from": str(tmp_path / "gone.pth"), "sha256": "ab"}, WHERE, EMPTY)


@pytest.mark.parametrize("spec", [3, {}, {"from": "x", "prefx": "y"}, {"from": 3}, ["x"]])
def test_anything_else_is_refused(spec: object) -> None:
    with pytest.raises(UserError, match=f"{WHERE}: .*prefix"):
        weights.parse(spec, WHERE)


def test_a_plugins_source_is_asked_by_its_scheme() -> None:
    entry = Entry(Component(WEIGHT_SOURCE, "toy", f"{__name__}:source"), "toys", "1", "toys/toys")
    layer = nn.Linear(3, 2)
    weights.load(layer, "toy://abcde", WHERE, Catalog([entry]))
    assert torch.equal(layer.weight, torch.full((2, 3), 5.0))
    with pytest.raises(UserError, match='weight_source "nope"'):
        weights.load(layer, "nope://abcde", WHERE, Catalog([entry]))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("toy://gone", "toy://gone: there is no such thing"),
        ("toy://boom", "toy://boom: KeyError: 'boom'"),
        ("file", "file: is not a checkpoint"),
    ],
)
def test_what_fails_on_the_way_is_said_with_the_key(
    spec: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("no checkpoint")
    entry = Entry(Component(WEIGHT_SOURCE, "toy", f"{__name__}:source"), "toys", "1", "toys/toys")
    with pytest.raises(UserError) as caught:
        weights.load(nn.Linear(3, 2), spec, WHERE, Catalog([entry]))
    assert str(caught.value) == f"{WHERE}: {message}"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_an_address_is_fetched_once(server: str, file: Path) -> None:
    spec = {"from": f"{server}/x.pth", "prefix": "backbone."}
    weights.load(nn.Linear(3, 2), spec, WHERE, EMPTY)
    file.unlink()
    assert weights.load(nn.Linear(3, 2), spec, WHERE, EMPTY).complete


def test_an_address_that_fails_says_what_to_put_where(server: str) -> None:
    with pytest.raises(CheckpointError, match=r"gone.pth cannot be fetched: .* Put it at .*gone.pth \(sha256 ab\)."):
        weights.load(nn.Linear(3, 2), {"from": f"{server}/gone.pth", "sha256": "ab"}, WHERE, EMPTY)


def test_a_fetched_file_with_another_hash_is_not_kept(server: str, file: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be fetched: .*invalid hash value .expected .00., got "):
        weights.load(nn.Linear(3, 2), {"from": f"{server}/x.pth", "sha256": "00"}, WHERE, EMPTY)
    assert [path.name for path in (tmp_path / "cache").rglob("*x.pth*")] == []
