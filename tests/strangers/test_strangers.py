"""Packages of people whom nobody here knows, built by their own tools: what they get wrong stops nobody else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from detcore import run
from detcore.catalog import Catalog
from detcore.cli import main
from detcore.errors import ConfigError, PluginError
from detcore.plugins import discover
from detcore.trained import load_detector

PACKAGES = Path(__file__).parent / "packages"
STRANGERS = sorted(path.parent.name for path in PACKAGES.glob("*/pyproject.toml"))
TOYS = "[detcore]\ntoys = toy_plugin\n"
NET = "strange-net::net.toml"

Install = Callable[..., None]


def build(source: Path, out: Path) -> Path:
    """A wheel, by the tool that the package names; whoever builds it has no network."""
    text = (source / "pyproject.toml").read_text()
    backend = re.search(r'build-backend = "([\w.]+)"', text)
    assert backend
    code = f"import sys, {backend[1]} as tool; tool.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(out)], cwd=source, capture_output=True, check=True)
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Of each package, by name and version; ``strange-net`` has a later one."""
    folder = tmp_path_factory.mktemp("strangers")
    found = {}
    for name, version in [*((name, "1.0") for name in STRANGERS), ("strange-net", "2.0")]:
        source = shutil.copytree(PACKAGES / name, folder / f"{name}-{version}")
        project = source / "pyproject.toml"
        project.write_text(project.read_text().replace('version = "1.0"', f'version = "{version}"'))
        (folder / f"out-{name}-{version}").mkdir()
        found[name, version] = build(source, folder / f"out-{name}-{version}")
    return found


@pytest.fixture
def install(wheels: dict[tuple[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """What pip does: it takes away what there is of a package, and unpacks another version of it, or none."""
    monkeypatch.chdir(tmp_path)
    site = tmp_path / "site-packages"
    info = site / "toys-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(TOYS)
    monkeypatch.syspath_prepend(site)

    def do(name: str, version: str | None = "1.0") -> None:
        stem = name.replace("-", "_")
        for there in [*site.glob(f"{stem}-*.dist-info"), site / stem]:
            shutil.rmtree(there, ignore_errors=True)
        if version:
            zipfile.ZipFile(wheels[name, version]).extractall(site)
        os.utime(site)  # importlib looks into a folder again when its time has changed
        for module in [each for each in sys.modules if each.partition(".")[0] == stem]:
            del sys.modules[module]  # a run is a process of its own

    yield do
    for name in STRANGERS:
        do(name, None)


def broken(catalog: Catalog) -> dict[str, str]:
    return {each.distribution: each.error for each in catalog.broken if each.distribution in STRANGERS}


def test_fifty_components_are_found_by_their_names(install: Install) -> None:
    install("strange-fifty")
    catalog = discover()
    names = {name for kind, name in catalog.components if kind == "loss" and name.startswith("Strange")}
    assert names == {f"Strange{number:02}" for number in range(50)}
    assert str(catalog.find("loss", "Strange49", "").entry) == "strange-fifty 1.0"


def test_those_that_fail_are_rows_beside_those_that_work(install: Install) -> None:
    for name in STRANGERS:
        install(name)
    catalog = discover()
    assert broken(catalog) == {
        "strange-failure": "ModuleNotFoundError: No module named 'a_library_that_nobody_has'",
        "strange-speller": broken(catalog)["strange-speller"],
        "strange-future": "is made for detcore >=9, this is 0.1.0",
        "strange-past": "is made for detcore <0.1,>=0.0.1, this is 0.1.0",
    }
    assert "detcore_componets" in broken(catalog)["strange-speller"]
    assert {"strange-fifty", "strange-collider", "strange-net"} <= {each.distribution for each in catalog.entries}
    assert catalog.find("backbone", "StrangeNet", "").obj.__name__ == "StrangeNet"


def test_what_fails_is_told_when_a_config_names_it(install: Install) -> None:
    install("strange-future")
    with pytest.raises(PluginError, match=r"strange-future 1\.0, which cannot be loaded: is made for detcore >=9"):
        discover().find("loss", "strange-future/NewLoss", "my.toml: loss")


def test_a_name_of_two_strangers_is_chosen_by_its_owner(install: Install) -> None:
    install("strange-fifty")
    install("strange-collider")
    catalog = discover()
    with pytest.raises(ConfigError, match=r"strange-collider/Strange07.*strange-fifty/Strange07"):
        catalog.find("loss", "Strange07", "my.toml: loss.type")
    assert str(catalog.find("loss", "strange-collider/Strange07", "").entry) == "strange-collider 1.0"
    assert str(catalog.find("loss", "Strange08", "").entry) == "strange-fifty 1.0"


def test_a_package_of_setuptools_ships_its_config_and_trains_with_a_local_file(install: Install) -> None:
    install("strange-net")
    Path("my.toml").write_text(
        f'_base_ = "{NET}"\n[plugins]\nlocal = ["{PACKAGES / "local_neck.py"}"]\n'
        '[model]\nneck = { type = "LocalNeck", width = 5 }\n'
    )
    run.train("my.toml", work_dir="out")
    meta = run_meta("out/checkpoints/last.pt")
    assert meta["plugins"] == {
        "detcore": meta["plugins"]["detcore"], "toys": "1.0", "strange-net": "1.0", "local": "local_neck.py"
    }  # fmt: skip


def run_meta(checkpoint: str) -> dict[str, dict[str, str]]:
    import torch

    meta: dict[str, dict[str, str]] = torch.load(checkpoint, weights_only=True)["meta"]
    return meta


def test_a_checkpoint_says_what_it_was_made_with(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install("strange-net", "2.0")
    run.train(NET, work_dir="out")
    checkpoint = "out/checkpoints/last.pt"

    caplog.clear()
    load_detector(checkpoint)
    assert not caplog.messages
    install("strange-net", "1.0")  # a downgrade
    load_detector(checkpoint)
    assert caplog.messages == [f"{checkpoint} was made with strange-net 2.0 (here 1.0)"]
    caplog.clear()
    run.train(NET, work_dir="out", resume=checkpoint, sets=["train.epochs=2"])
    assert f"{checkpoint} was made with strange-net 2.0 (here 1.0)" in caplog.messages

    install("strange-net", None)
    caplog.clear()
    with pytest.raises(ConfigError, match='no backbone "StrangeNet" is installed'):
        load_detector(checkpoint)
    assert caplog.messages == [f"{checkpoint} was made with strange-net 1.0 (not installed)"]


def call(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(args)
    return int(caught.value.code or 0)


def test_an_uninstalled_package_is_one_line(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("strange-net")
    assert call("check", "--no-build", NET) == 0
    install("strange-net", None)
    assert call("check", "--no-build", NET) == 2
    error = "strange-net::net.toml: strange-net is not installed. Install it: pip install strange-net."
    assert capsys.readouterr().err.splitlines()[-1] == error


def test_the_plugins_command_shows_every_stranger(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    for name in STRANGERS:
        install(name)
    assert call("plugins") == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0].partition("/")[0]: line for line in lines if line.startswith("strange-")}
    assert sorted(rows) == STRANGERS
    assert "is made for detcore >=9" in rows["strange-future"]
