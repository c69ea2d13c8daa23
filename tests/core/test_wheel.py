"""What is installed from the wheel is what lies in the tree: recipes and templates included, as files."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

CORE = Path(__file__).parents[2] / "core"
IGNORED = {"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".DS_Store"}


def files(folder: Path) -> dict[str, bytes]:
    found = [file for file in folder.rglob("*") if file.is_file() and not IGNORED & set(file.parts)]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in found}


def test_the_wheel_built_from_the_sdist_holds_the_tree(tmp_path: Path) -> None:
    if not (CORE / "pyproject.toml").exists() or importlib.util.find_spec("hatchling") is None:
        pytest.skip("needs the repository and hatchling to build the wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path), "-t"]
    subprocess.run([*build, "sdist"], cwd=CORE, check=True, capture_output=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        assert not [member.name for member in archive.getmembers() if member.issym()]
        archive.extractall(tmp_path, filter="data")
    subprocess.run([*build, "wheel"], cwd=next(tmp_path.glob("detcore-*/")), check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        built = {name: wheel.read(name) for name in wheel.namelist()}
    source = CORE / "src" / "detcore"
    tree = {
        **files(source),
        **{f"_configs/{name}": content for name, content in files(CORE.parent / "configs").items()},
        **{f"_templates/{name}": content for name, content in files(CORE.parent / "templates").items()},
    }
    packaged = {name.partition("/")[2]: data for name, data in built.items() if name.startswith("detcore/")}
    assert packaged == tree
    assert any(name.endswith("licenses/LICENSE") for name in built)
