"""Rules of the house that matter enough to be tests: who may import whom, and what core must not know."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest
import tomli

ROOT = Path(__file__).parents[2]
CORE = ROOT / "core" / "src" / "detcore"
PLUGINS = sorted(ROOT.glob("plugins/*/pyproject.toml"))
LIGHT = ["errors", "hookspecs", "catalog", "config", "plugins", "points", "components", "foreign"]
GROUND = ["structures", "interfaces", "layers", "heads", "detectors", "distributed"]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("detcore", include_external_packages=True, cache_dir=None)


def reaches(graph: grimp.ImportGraph, importer: str, imported: str) -> list[str]:
    chain = graph.find_shortest_chain(f"detcore.{importer}", imported, as_packages=True)
    return list(chain or [])


@pytest.mark.parametrize("module", LIGHT)
@pytest.mark.parametrize("heavy", ["torch", "torchvision", "pydantic", "rich", "detcore.interfaces", "detcore.run"])
def test_what_finds_plugins_and_folds_configs_stays_light(graph: grimp.ImportGraph, module: str, heavy: str) -> None:
    if heavy in graph.modules:
        assert reaches(graph, module, heavy) == []


@pytest.mark.parametrize(
    ("below", "above"),
    [
        ("errors", ["catalog", "config", "hookspecs", "plugins"]),
        ("config", ["catalog", "plugins", "hookspecs", "build", "run"]),
        ("catalog", ["plugins", "config", "build"]),
        ("structures", ["interfaces", "layers", "heads", "detectors"]),
        ("interfaces", ["layers", "heads", "detectors", "build", "signature"]),
        ("layers", ["heads", "detectors"]),
        ("heads", ["detectors"]),
        ("runner", ["config", "build", "catalog", "plugins", "signature", "recipe", "run", "cli"]),
        ("build", ["runner", "run", "cli", "recipe"]),
        ("run", ["cli"]),
        *((module, ["config", "build", "catalog", "plugins", "runner", "run"]) for module in GROUND),
    ],
)
def test_imports_run_one_way(graph: grimp.ImportGraph, below: str, above: list[str]) -> None:
    for module in above:
        assert reaches(graph, below, f"detcore.{module}") == []


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("project", PLUGINS, ids=lambda path: path.parent.name)
def test_a_plugin_imports_cores_public_names_and_plugins_that_it_declares(project: Path) -> None:
    metadata = tomli.loads(project.read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[\s\[<>=!~;]", each)[0].replace("-", "_") for each in metadata["dependencies"]}
    own = metadata["name"].replace("-", "_")
    for path in project.parent.glob("src/**/*.py"):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "detcore" and len(parts) > 1:
                assert parts[1] not in ("build", "config", "runner", "run", "cli", "signature", "recipe"), (
                    f"{path}: {name}"
                )
            if parts[0].startswith("detcore_") and parts[0] != own:
                assert parts[0] in declared, f"{path} imports {name}, which {project} does not declare"
                assert not any(part.startswith("_") for part in parts), f"{path}: {name} is private"


@pytest.mark.parametrize("project", PLUGINS, ids=lambda path: path.parent.name)
def test_a_plugins_declaration_is_light(project: Path) -> None:
    metadata = tomli.loads(project.read_text(encoding="utf-8"))["project"]
    for module in metadata["entry-points"]["detcore"].values():
        code = f"import sys, {module}; print([m for m in ('torch', 'numpy', 'timm') if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.stdout.strip() == "[]", done.stderr


ARCHITECTURES = (
    r"resnet|resnext|regnet|mobilenet|shufflenet|efficientnet|convnext|swin|darknet|hourglass|hrnet|vgg|vit\b|fpn|"
    r"fcos|retina|yolo|ssd\b|detr\b|dino\b|atss|rcnn|r-cnn|cornernet|centripetal|carafe|sim_?ota|double.?head"
)


def test_core_knows_no_model() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted(CORE.rglob("*.py"))
        if not {"_configs", "_templates"} & set(path.parts)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(ARCHITECTURES, line, re.IGNORECASE)
    ]
    assert found == []


def code_lines(path: Path) -> int:
    """Lines that hold code: no blank line, comment or docstring."""
    text = path.read_text(encoding="utf-8")
    skipped: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            skipped.update(range(body[0].lineno, (body[0].end_lineno or body[0].lineno) + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(
        1 for number, line in lines if number not in skipped and line.strip() and not line.strip().startswith("#")
    )


LINES = 7210
"""docs/decisions/0005 says why it is more than 3,500. It may fall; what would raise it has to say why there."""


def test_core_stays_small() -> None:
    files = [path for path in CORE.rglob("*.py") if not {"_configs", "_templates", "testing"} & set(path.parts)]
    assert sum(map(code_lines, files)) <= LINES


def test_nothing_of_core_needs_the_conformance_kit(graph: grimp.ImportGraph) -> None:
    kit = {"detcore.testing", *graph.find_descendants("detcore.testing")}
    importers = {importer for module in kit for importer in graph.find_modules_that_directly_import(module)}
    assert importers - kit == set()


def test_requirements_list_core_and_every_plugin() -> None:
    folders = ["core", *(f"plugins/{project.parent.name}" for project in PLUGINS)]
    assert (ROOT / "requirements.txt").read_text().split("\n") == [*(f"-e ./{folder}" for folder in folders), ""]
