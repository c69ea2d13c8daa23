"""Builds core and every plugin as sdist, and as wheel made from that sdist, and holds the files against the tree.

``python tools/wheels.py FOLDER``; needs hatchling. The folder then holds them and ``ours.txt``, which says of
each that it is taken from there: ``uv pip install --constraint FOLDER/ours.txt "detcore-fcos[recipe]"``.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from hatchling.build import build_sdist, build_wheel

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = [ROOT / "core", *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]
IGNORED = {"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".DS_Store"}
Files = dict[str, bytes]


def tree(folder: Path) -> Files:
    """What lies in a folder and behind its links, by path."""
    found = {
        Path(where, name).relative_to(folder): Path(where, name)
        for where, _, names in os.walk(folder, followlinks=True)
        for name in names
    }
    return {path.as_posix(): file.read_bytes() for path, file in found.items() if not IGNORED & {*path.parts}}


def in_sdist(archive: Path) -> Files:
    """What an sdist holds below its only folder; no links."""
    files: Files = {}
    with tarfile.open(archive) as opened:
        for member in opened.getmembers():
            content = opened.extractfile(member)
            if content is None or not member.isfile():
                raise SystemExit(f"{archive.name}: {member.name} is no plain file")
            files[str(PurePosixPath(*PurePosixPath(member.name).parts[1:]))] = content.read()
    return files


def in_wheel(archive: Path) -> Files:
    """What a wheel holds."""
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def differences(package: Path, sdist: Files, wheel: Files) -> list[str]:
    """What of a distribution is not as in the tree: files that lack, are too many or differ."""
    here, source = tree(package), tree(package / "src")
    installed = {name: content for name, content in wheel.items() if ".dist-info/" not in name}
    licences = [content for name, content in wheel.items() if name.endswith(".dist-info/licenses/LICENSE")]
    wanted = {name: content for name, content in here.items() if name.startswith("src/")}
    wanted |= {name: here.get(name, b"") for name in ("LICENSE", "README.md", "pyproject.toml")}
    found = [f"wheel: {name}" for name in sorted({*source, *installed}) if source.get(name) != installed.get(name)]
    found += [f"sdist: {name}" for name in sorted(wanted) if sdist.get(name) != wanted[name]]
    found += [f"sdist: {name}" for name in sorted({*sdist} - {*here, "PKG-INFO", ".gitignore"})]
    if licences != [(ROOT / "LICENSE").read_bytes()]:
        found.append("wheel: the licence")
    if not any(name.endswith("/py.typed") for name in installed):
        found.append("wheel: py.typed")
    return found


def build(package: Path, folder: Path) -> tuple[Path, Path]:
    """The sdist of a package and the wheel made of it, in ``folder``."""
    os.chdir(package)
    sdist = folder / build_sdist(str(folder))
    with tempfile.TemporaryDirectory() as place:
        with tarfile.open(sdist) as archive:
            archive.extractall(place, filter="data")
        os.chdir(next(Path(place).iterdir()))
        wheel = folder / build_wheel(str(folder))
        os.chdir(folder)
    return sdist, wheel


def main() -> None:
    """Build all; one line for each file that is not as in the tree."""
    folder = Path(sys.argv[1]).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    problems, ours = [], []
    for package in PACKAGES:
        sdist, wheel = build(package, folder)
        found = differences(package, in_sdist(sdist), in_wheel(wheel))
        problems += [f"{package.relative_to(ROOT)}: {each}" for each in found]
        ours.append(f"{wheel.name.partition('-')[0].replace('_', '-')} @ {wheel.as_uri()}\n")
    (folder / "ours.txt").write_text("".join(ours), encoding="utf-8")
    if problems:
        raise SystemExit("\n".join(["not as in the tree:", *problems]))
    print(f"{len(PACKAGES)} sdists and {len(PACKAGES)} wheels hold what the tree holds: {folder}")


if __name__ == "__main__":
    main()
