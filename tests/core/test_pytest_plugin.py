"""The fixtures that tests of plugins are given, in a test run of their own that finds them by the entry point."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import tomli

PROJECT = Path(__file__).parents[2] / "core" / "pyproject.toml"
POINTS = tomli.loads(PROJECT.read_text(encoding="utf-8"))["project"]["entry-points"]["pytest11"]


def outcome(folder: Path, test: str) -> str:
    """What pytest says of a file of tests, with the entry points that the project declares and no others."""
    info = folder / "site" / "kit-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kit\nVersion: 1.0\n")
    points = "".join(f"{name} = {module}\n" for name, module in POINTS.items())
    (info / "entry_points.txt").write_text(f"[pytest11]\n{points}")
    (folder / "test_it.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "test_it.py"]
    path = os.pathsep.join([str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_fixtures_are_small_things_to_test_with(tmp_path: Path) -> None:
    told = outcome(
        tmp_path,
        """
from detcore import Component, hookimpl
from detcore.errors import ConfigError
import pytest, sys


def test_a_dataset(tiny_dataset):
    image, target = tiny_dataset[0]
    assert image.shape == (3, 64, 96)
    assert {"boxes", "labels", "polygons", "masks"} <= set(target)
    assert [len(tiny_dataset[index][1]["boxes"]) for index in range(len(tiny_dataset))] == [4, 4, 0, 4, 4, 4]


def test_a_detector_learns(tiny_dataset, tiny_detector):
    import torch
    from detcore.data import collate
    from detcore.preprocess import Preprocess
    from detcore.structures import total_loss

    batch = Preprocess(divisor=8)(collate([tiny_dataset[0], tiny_dataset[1]]))
    optimizer = torch.optim.Adam(tiny_detector.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = total_loss(tiny_detector(batch))
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.7 * losses[0]
    found = tiny_detector.eval()(batch, mode="detections")
    assert len(found) == 2


@hookimpl
def detcore_components():
    return [Component("neck", "OfAModule", f"{__name__}:OfAModule")]


class Mine:
    pass


class OfAModule:
    pass


def test_a_catalog_of_core_and_what_is_given(isolated_catalog):
    catalog = isolated_catalog(sys.modules[__name__], Component("neck", "Mine", f"{__name__}:Mine"))
    assert catalog.find("neck", "Mine", "here").obj is Mine
    assert catalog.find("neck", "OfAModule", "here").obj is OfAModule
    assert catalog.find("detector", "OneStage", "here").name == "OneStage"
    assert {entry.distribution for entry in catalog.entries} == {"detcore", "isolated"}
    with pytest.raises(ConfigError, match="Mine"):
        isolated_catalog().find("neck", "Mine", "here")
    (row,) = isolated_catalog(Component("neck", "a/b", "x:Y")).broken
    assert "a name holds no slash" in row.error


def test_what_is_built_finds_the_same(isolated_catalog, tmp_path):
    from detcore.assemble import load

    isolated_catalog(Component("neck", "Mine", f"{__name__}:Mine"))
    (tmp_path / "a.toml").write_text("seed = 1")
    _, catalog = load(str(tmp_path / "a.toml"))
    assert {entry.distribution for entry in catalog.entries} == {"detcore", "isolated"}


def test_all_is_as_before():
    from detcore import plugins
    from detcore.points import installed

    assert plugins.installed is installed
""",
    )
    assert "5 passed" in told, told


def test_a_run_that_asks_for_none_of_them_imports_no_torch(tmp_path: Path) -> None:
    told = outcome(
        tmp_path,
        """
import sys


def test_it(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("detcore")
    assert "detcore.testing.pytest_plugin" in sys.modules
    assert "torch" not in sys.modules
""",
    )
    assert "1 passed" in told, told


def test_pytest_lists_them(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "--fixtures", "-q", "-p", POINTS["detcore"], "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    for fixture in ("tiny_dataset", "tiny_detector", "isolated_catalog"):
        assert f"\n{fixture} -- " in told
