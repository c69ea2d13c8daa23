"""Every plugin with components ships a recipe that uses one, and names what has to be installed for it."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import tomli
import torch
from detcore import load_config, plugins, run
from detcore.catalog import IMPORTER, WEIGHT_SOURCE, Component, Kind
from detcore.cli.light import check_names
from detcore.errors import ConfigError, UserError
from detcore.points import installed
from detcore_shapes.shapes import ShapesDataset
from torchvision.io import write_jpeg

ROOT = Path(__file__).parents[2]
NAMES = ("circle", "rectangle", "triangle", "star")


def tool() -> Any:
    """``tools/extras.py``, which knows where recipes lie and sees what they need."""
    spec = importlib.util.spec_from_file_location("extras", ROOT / "tools" / "extras.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


extras = tool()
PLUGINS: list[Path] = extras.plugins()
RECIPES = [plugin for plugin in PLUGINS if extras.recipe(plugin).is_file()]
named = pytest.mark.parametrize("plugin", RECIPES, ids=lambda plugin: plugin.name)


@pytest.fixture(scope="module")
def providers() -> set[str]:
    """The distributions that have something which a config can name as a part."""
    return {
        entry.distribution
        for entry in plugins.discover().entries
        if not (isinstance(entry.record, Component) and entry.record.kind in (IMPORTER, WEIGHT_SOURCE))
        and not isinstance(entry.record, Kind)
    }


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_what_has_components_has_a_recipe_and_nothing_else_does(plugin: Path, providers: set[str]) -> None:
    has = f"detcore-{plugin.name}" in providers
    assert extras.recipe(plugin).is_file() == has
    assert ("recipe" in extras.metadata(plugin).get("optional-dependencies", {})) == has


@named
def test_a_recipe_has_no_problem_and_its_extra_names_what_it_needs(plugin: Path) -> None:
    """Its extra has no more and no less than what its parts come from, beside what the plugin itself depends on."""
    project = extras.metadata(plugin)
    found = extras.used(f"{project['name']}::quickstart.toml")
    assert project["name"] in found
    needed = found - {"detcore", project["name"], *extras.ours(project["dependencies"])}
    assert project["optional-dependencies"]["recipe"] == sorted(needed), "run: python tools/extras.py --write"


def test_cores_extras_name_what_the_quickstart_needs_and_every_plugin() -> None:
    told = extras.metadata(extras.CORE)["optional-dependencies"]
    for name, needed in extras.extras_of_core().items():
        assert told[name] == needed, "run: python tools/extras.py --write"


def test_extras_are_written_where_they_were_or_before_the_entry_points() -> None:
    text = '[project]\nname = "detcore-x"\n\n[project.entry-points.detcore]\nx = "detcore_x.plugin"\n'
    once = extras.written(text, {"recipe": ["detcore-y"]})
    assert tomli.loads(once)["project"] == {
        "name": "detcore-x",
        "optional-dependencies": {"recipe": ["detcore-y"]},
        "entry-points": {"detcore": {"x": "detcore_x.plugin"}},
    }
    other = once.replace("recipe = [", 'video = ["av>=12"]\nrecipe = [')
    twice = extras.written(other, {"recipe": ["detcore-z"]})
    assert tomli.loads(twice)["project"]["optional-dependencies"] == {"video": ["av>=12"], "recipe": ["detcore-z"]}
    assert extras.written(twice, {"recipe": ["detcore-z"]}) == twice


@named
def test_a_recipe_is_short_and_says_what_it_is(plugin: Path) -> None:
    lines = extras.recipe(plugin).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert any('"detcore::' in line for line in lines)
    assert len([line for line in lines if line and not line.startswith("#")]) <= 25


# ------------------------------------------------------------------------------------------------ what is not installed


@named
def test_without_a_plugin_each_line_of_the_error_names_the_package_to_install(
    plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an environment of just what the recipe needs: without the plugin itself, then without each of the others."""
    metadata = extras.metadata(plugin)
    named = {metadata["name"], *metadata["optional-dependencies"]["recipe"]}
    needed = named | extras.ours(metadata["dependencies"])
    here = [each for each in installed("detcore") if each.distribution in {"detcore", *needed}]
    for gone in sorted(named):
        left = [each for each in here if each.distribution != gone]
        monkeypatch.setattr(plugins, "installed", lambda group, left=left: left)
        lines = complaints(str(extras.recipe(plugin)))
        assert lines, gone
        assert [line for line in lines if not line.endswith(f"Install it: pip install {gone}.")] == []
        assert all(re.match(r"\S+\.toml: [\w.]+: ", line) for line in lines)


def complaints(source: str) -> list[str]:
    """The lines of what is wrong with a config: found by names alone, or where libraries may hold them by asking."""
    try:
        check_names(source)
        run.check(source)
    except UserError as error:
        return str(error).splitlines()
    return []


def test_a_recipe_of_a_plugin_that_is_not_installed_names_the_package_to_install() -> None:
    with pytest.raises(ConfigError, match=r"^detcore-none::quickstart.toml: .* pip install detcore-none\.$"):
        run.check("detcore-none::quickstart.toml")


# ------------------------------------------------------------------------------------------------- a folder is deleted


@pytest.fixture(scope="module")
def components() -> dict[str, set[str]]:
    """The names that each distribution adds to configs."""
    names: dict[str, set[str]] = {}
    for entry in plugins.discover().entries:
        if isinstance(entry.record, Component) and entry.record.kind != IMPORTER:
            names.setdefault(entry.distribution, set()).add(entry.record.name)
    return names


TYPE = re.compile(r"""\btype\W{1,6}["'](?:[\w-]+/)?(\w+)["']""")
"""``type = "FPN"``, ``"type": "FPN"``, ``type = \\"FPN\\"``: a name in a config, wherever it stands."""


def imported(file: Path) -> set[str]:
    """The distributions whose packages a module imports, at its top or anywhere else."""
    nodes = [*ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {each.partition(".")[0].replace("_", "-") for each in modules if each.startswith("detcore_")}


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_what_a_plugins_package_names_it_declares(plugin: Path, components: dict[str, set[str]]) -> None:
    """Whoever deletes the folder of another breaks only what declares that other: code by import, TOML by names.

    What translates another toolbox's configs names parts of all plugins, and loads none.
    """
    metadata = extras.metadata(plugin)
    declared = {metadata["name"], *extras.ours(metadata["dependencies"])}
    in_recipes = declared | {*metadata.get("optional-dependencies", {}).get("recipe", ())}
    owners = {name: distribution for distribution, names in components.items() for name in names}
    for file in plugin.glob("src/**/*.py"):
        names = {*TYPE.findall(file.read_text(encoding="utf-8"))} if not translates(file) else set()
        assert imported(file) | {owners[name] for name in names & {*owners}} <= {"detcore", *declared}, file
    for file in plugin.glob("src/**/*.toml"):
        names = {*TYPE.findall(file.read_text(encoding="utf-8"))}
        assert {owners[name] for name in names & {*owners}} <= {"detcore", *in_recipes}, file


def translates(file: Path) -> bool:
    return file.name == "mmdet.py" or "detcore_mmdet" in file.parts


# --------------------------------------------------------------------------------------------------------- what is built


@pytest.mark.parametrize("name", ["fcos", "torchvision-models", "yolo"])
def test_a_plugins_wheel_built_from_its_sdist_holds_the_package_and_its_recipe(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("needs hatchling to build the wheel")
    plugin = ROOT / "plugins" / name
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path), "-t"]
    subprocess.run([*build, "sdist"], cwd=plugin, check=True, capture_output=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    subprocess.run([*build, "wheel"], cwd=next(tmp_path.glob("detcore_*/")), check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        files = {each: wheel.read(each) for each in wheel.namelist()}
    built = {each: content for each, content in files.items() if ".dist-info/" not in each}
    licence = (ROOT / "LICENSE").read_bytes()
    assert [content for each, content in files.items() if each.endswith("licenses/LICENSE")] == [licence]
    source = plugin / "src"
    tree = {
        file.relative_to(source).as_posix(): file.read_bytes()
        for file in source.rglob("*")
        if file.is_file() and not {"__pycache__", ".mypy_cache", ".ruff_cache"} & {*file.parts}
    }
    assert built == tree
    assert f"detcore_{name.replace('-', '_')}/configs/quickstart.toml" in built


def test_every_package_has_the_licence() -> None:
    licence = (ROOT / "LICENSE").read_bytes()
    assert [folder.name for folder in [extras.CORE, *PLUGINS] if (folder / "LICENSE").read_bytes() != licence] == []


# ------------------------------------------------------------------------------------------------------- what is trained


def tables(value: object, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every table of a config with its key path."""
    if isinstance(value, Mapping):
        yield path, value
        for key, each in value.items():
            yield from tables(each, f"{path}.{key}" if path else key)


def few_shapes(source: str) -> list[str]:
    """Options for two steps of two images, of whatever data is drawn."""
    table: Any = load_config(source).table
    drawn = [path for path, each in tables(table) if each.get("type") == "ShapesDataset"]
    cut = [path for path, each in tables(table) if each.get("type") == "SubsetDataset"]
    return [*(f"{path}.length=4" for path in drawn), *(f"{path}.first=2" for path in cut)]


def write_data(folder: Path) -> None:
    """Four images with all that the recipes for data in files want: CSV, YOLO's text, LVIS's JSON, and three names."""
    shapes = ShapesDataset(length=4, size=(96, 96), classes=NAMES, empty=0.0, smallest=16)
    rows: list[str] = []
    boxes: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    for split in ("train", "val"):
        for kind in ("images", "labels", "coco"):
            (folder / kind / f"{split}2017").mkdir(parents=True)
    for index, (image, target) in enumerate(shapes[row] for row in range(4)):
        file = f"train2017/{index}.jpg"
        for place in (folder / "images" / file, folder / "coco" / file, folder / f"{'abcd'[index]}.jpg"):
            write_jpeg(image, str(place), quality=95)
        lines = []
        for box, label in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True):
            left, top, right, bottom = box
            rows.append(f"{file},{left},{top},{right},{bottom},{NAMES[label]}")
            middle = [(left + right) / 192, (top + bottom) / 192, (right - left) / 96, (bottom - top) / 96]
            lines.append(f"{label} {' '.join(map(str, middle))}")
            its = {"id": len(boxes) + 1, "image_id": index, "category_id": label + 1, "iscrowd": 0, "segmentation": []}
            size = [right - left, bottom - top]
            boxes.append({**its, "bbox": [left, top, *size], "area": size[0] * size[1]})
        (folder / "labels" / "train2017" / f"{index}.txt").write_text("\n".join(lines))
        url = f"http://images.cocodataset.org/{file}"
        said: dict[str, Any] = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
        images.append({"id": index, "width": 96, "height": 96, "coco_url": url, **said})
    categories = [
        {"id": number, "name": name, "frequency": "f", "image_count": 9, "instance_count": 9, "synset": f"{name}.n.01"}
        for number, name in enumerate(NAMES, 1)
    ]
    for split in ("train", "val"):
        (folder / f"{split}.csv").write_text("\n".join(["image,xmin,ymin,xmax,ymax,label", *rows]))
        lvis = {"images": images, "annotations": boxes, "categories": categories}
        (folder / f"lvis_v1_{split}.json").write_text(json.dumps(lvis))
    paths = "path: .\ntrain: images/train2017\nval: images/train2017\n"
    (folder / "data.yaml").write_text(f"{paths}names: [{', '.join(NAMES)}]\n")


@pytest.mark.slow
@named
def test_a_recipe_trains_two_steps_and_is_scored(plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = f"detcore-{plugin.name}::quickstart.toml"
    options = [*few_shapes(source), "train.batch_size=2", "train.epochs=1", "train.report_every=1", "schedule=[]"]
    if "data_root" in load_config(source).table:
        write_data(tmp_path)
        options.append(f"data_root={json.dumps(tmp_path.as_posix())}")
    metrics = run.train(source, sets=options, work_dir=str(tmp_path / "run"), device="cpu")
    assert metrics
    assert all(value >= -1 for value in metrics.values())
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses
    assert torch.tensor(losses).isfinite().all()
    assert (tmp_path / "run" / "checkpoints" / "last.pt").is_file()
