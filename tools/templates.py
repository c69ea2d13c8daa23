"""Writes into every template what all of them share, so that none of it is written twice by hand.

``python tools/templates.py --write``. A cookiecutter sees its own folder only, so each template has its copy of the
licence, the settings of tools, the workflow, the end of the README; they come from ``tools/shared`` and from the table
below. The template of a plugin with several components has those of the templates of one. A test holds that all is
fresh.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT / "tools" / "shared"
PROJECT = "{{cookiecutter.__slug}}"
PACKAGE = "{{cookiecutter.__package}}"
CLASS = "{{ cookiecutter.__class }}"
TAIL = "\n## Work on it\n"
TESTS = ["detcore[quickstart]", "mypy>=1.11", "pytest>=8", "ruff>=0.6"]


@attrs.frozen
class Template:
    """What is particular about a template.

    Attributes:
        name: Of the package that is made where none is given.
        about: Its description, likewise.
        components: Kind and class of each component, as the catalog has them.
        requires: What the package needs beside detcore and torch.
        tests: What its tests need beside detcore and the quickstart.
    """

    name: str
    about: str
    components: tuple[str, ...]
    requires: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()


SEVERAL = {"backbone": "Backbone", "neck": "Neck", "loss": "Loss"}
"""Whose components the template of a plugin has, and what their classes are called behind the plugin's name."""

TEMPLATES = {
    "backbone": Template("my-backbone", "A backbone for detcore", (f"backbone:{CLASS}",)),
    "neck": Template("my-neck", "A neck for detcore", (f"neck:{CLASS}",)),
    "dense-head": Template("my-head", "A dense head for detcore", (f"dense_head:{CLASS}",), ("torchvision>=0.23",)),
    "roi-head": Template(
        "my-roi-head", "A box head of second stages for detcore", (f"box_head:{CLASS}",), (), ("detcore-roi",)
    ),
    "loss": Template("my-loss", "A loss for detcore", (f"loss:{CLASS}",)),
    "dataset": Template(
        "my-dataset", "A data format for detcore", (f"dataset:{CLASS}",), ("detcore-records",), ("pillow>=10",)
    ),
    "transform": Template("my-transform", "A transform for detcore", (f"transform:{CLASS}",), ("torchvision>=0.23",)),
    "evaluator": Template("my-evaluator", "An evaluator for detcore", (f"evaluator:{CLASS}",), ("torchvision>=0.23",)),
    "callback": Template("my-callback", "A callback for detcore", (f"callback:{CLASS}",)),
    "plugin": Template(
        "my-plugin",
        "Parts of detectors for detcore",
        tuple(f"{kind}:{CLASS}{suffix}" for kind, suffix in SEVERAL.items()),
    ),
    "project": Template("my-project", "Experiments with detcore", ()),
}


def generate() -> dict[str, str]:
    """The text of every file that is written, by its path from the root."""
    files: dict[str, str] = {}
    for kind, template in TEMPLATES.items():
        folder = f"templates/{kind}"
        files[f"{folder}/cookiecutter.json"] = json.dumps(answers(template), indent=2) + "\n"
        files[f"{folder}/{PROJECT}/LICENSE"] = (ROOT / "LICENSE").read_text(encoding="utf-8")
        files |= {f"{folder}/{PROJECT}/{name}": text for name, text in shared(kind)}
    files |= {f"templates/plugin/{PROJECT}/{name}": text for name, text in several()}
    return files


def answers(template: Template) -> dict[str, object]:
    """``cookiecutter.json``: what is asked, and what is made of it."""
    return {
        "name": template.name,
        "description": template.about,
        "author": "Your Name",
        "__slug": "{{ cookiecutter.name|slugify }}",
        "__package": "{{ cookiecutter.__slug|replace('-', '_') }}",
        "__class": "{{ cookiecutter.__slug.removeprefix('detcore-')|replace('-', ' ')|title|replace(' ', '') }}",
        "__components": " ".join(template.components),
        "_requires": sorted(["detcore", "torch>=2.8", *template.requires]),
        "_tests": sorted([*TESTS, *template.tests]),
        "__prompts__": {
            "name": "Name, in small letters with hyphens",
            "description": "What it is, in a line",
            "author": "Who writes it",
        },
    }


def shared(kind: str) -> Iterator[tuple[str, str]]:
    """Files that all packages share; of a project, which is none, those that it has too."""
    own = ROOT / "templates" / kind / PROJECT
    for path in sorted(each for each in (SHARED / "plugin").rglob("*") if each.is_file()):
        name = path.relative_to(SHARED / "plugin").as_posix()
        if kind == "project" and not name.startswith(".git"):
            continue
        if kind == "dataset" and name == "tests/test_config.py":  # it makes the data first
            continue
        text = path.read_text(encoding="utf-8")
        if kind == "project":
            text = text.replace('-e ".[test]"', "-r requirements.txt")
        if name == "README.tail.md":
            head = (own / "README.md").read_text(encoding="utf-8").partition(TAIL)[0]
            name, text = "README.md", f"{head.rstrip()}\n\n{text}"
        yield name, text


def several() -> Iterator[tuple[str, str]]:
    """The modules and tests of single components, with the class's name made longer."""
    for kind, suffix in SEVERAL.items():
        for name in (f"src/{PACKAGE}/{kind}.py", f"tests/test_{kind}.py"):
            text = (ROOT / "templates" / kind / PROJECT / name).read_text(encoding="utf-8")
            yield name, text.replace(CLASS, f"{CLASS}{suffix}")


if __name__ == "__main__":
    for name, text in generate().items():
        if "--write" in sys.argv[1:]:
            (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / name).write_text(text, encoding="utf-8")
        elif not (ROOT / name).is_file() or (ROOT / name).read_text(encoding="utf-8") != text:
            print(f"{name} is not fresh: python tools/templates.py --write")
