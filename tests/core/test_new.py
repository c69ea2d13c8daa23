"""``core-run new``: from a name to a package, without a question and without the network; bad names write nothing."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli
import yaml
from detcore.cli import main
from detcore.cli.commands import TEMPLATES
from detcore.cli.new import LONGEST
from detcore.cli.new import TEMPLATES as FOLDER

New = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder; nobody answers, and there is no network. What a user's cookiecutter is told is not read."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("asked a question, or the network")

    home = tmp_path / "home"
    home.mkdir()
    (home / ".cookiecutterrc").write_text("default_context: {author: Somebody Else}\nreplay_dir: [no path\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("COOKIECUTTER_CONFIG", str(home / ".cookiecutterrc"))
    monkeypatch.setattr("builtins.input", refuse)
    monkeypatch.setattr(socket, "socket", refuse)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def new(capsys: pytest.CaptureFixture[str]) -> New:
    def run(*args: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main(["new", *args])
        captured = capsys.readouterr()
        assert isinstance(exit_.value.code, int)
        return exit_.value.code, captured.out, captured.err

    return run


def files(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): file.read_text(encoding="utf-8")
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_the_templates_are_the_folders() -> None:
    assert sorted(TEMPLATES) == sorted(path.parent.name for path in FOLDER.glob("*/cookiecutter.json"))
    assert not [*FOLDER.glob("*/hooks")]


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_package_of_every_kind_is_made(kind: str, new: New, here: Path) -> None:
    name = "detcore-odd-one"
    code, out, err = new(kind, name, "--set", 'author=Ada "A" Example', "--set", "description=It's odd & even")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == f"made ./{name}"
    made = files(here / name)
    assert {"LICENSE", "README.md", "pyproject.toml", ".gitignore", ".github/workflows/test.yml"} <= set(made)
    for file, text in made.items():
        assert "cookiecutter" not in text, file
        assert not re.search(r"(?<!\$)\{\{|\{%", text), file
        assert file.endswith("py.typed") or (text and text.endswith("\n") and not text.endswith("\n\n")), file
        if file.endswith(".toml"):
            tomli.loads(text)
    assert "pass\n" not in "".join(text for file, text in made.items() if file.endswith(".py"))
    workflow = yaml.safe_load(made[".github/workflows/test.yml"])
    (job,) = workflow["jobs"].values()
    assert {"ruff check . && ruff format --check .", "mypy", "pytest"} <= {each.get("run") for each in job["steps"]}
    assert job["steps"][1]["with"]["python-version"] == "${{ matrix.python }}"
    assert "It's odd & even" in made["README.md"]


def test_a_package_says_what_it_is(new: New, here: Path) -> None:
    """``detcore-`` is no part of a class's name."""
    code, out, _ = new("loss", "detcore-odd-loss", "--set", "author=Ada Example", "--output", "deep/er")
    assert code == 0
    assert out.splitlines() == [
        "made ./deep/er/detcore-odd-loss",
        "python -m pip install -e ./deep/er/detcore-odd-loss",
        "core-run detcore-odd-loss::quickstart.toml",
    ]
    made = files(here / "deep" / "er" / "detcore-odd-loss")
    project = tomli.loads(made["pyproject.toml"])["project"]
    assert project["name"] == "detcore-odd-loss"
    assert project["authors"] == [{"name": "Ada Example"}]
    assert project["license"] == "Apache-2.0"
    assert project["entry-points"] == {"detcore": {"detcore-odd-loss": "detcore_odd_loss.plugin"}}
    assert "class OddLoss(Loss):" in made["src/detcore_odd_loss/loss.py"]
    config = tomli.loads(made["src/detcore_odd_loss/configs/quickstart.toml"])
    assert config["_base_"] == "detcore::quickstart.toml"
    assert config["model"]["head"]["loss"]["loss_box"]["type"] == "OddLoss"


def test_what_a_package_declares_is_there(new: New, here: Path) -> None:
    """Its module is read without torch, as discovery reads it; what that names, with the class of the interface."""
    interfaces = {"backbone": "Backbone", "neck": "Neck", "dense-head": "DenseHead", "roi-head": "BoxHead"}
    interfaces |= {"loss": "Loss", "evaluator": "Evaluator", "callback": "Callback", "plugin": "Neck"}
    for kind in interfaces:
        assert new(kind, f"odd-{kind}")[0] == 0
    code = f"""
        import importlib, sys
        from detcore.catalog import resolve
        found = {{}}
        for kind in {[*interfaces]}:
            sys.path.insert(0, f"odd-{{kind}}/src")
            module = importlib.import_module(f"odd_{{kind}}.plugin".replace("-", "_"))
            found[kind] = module.detcore_components()
        assert "torch" not in sys.modules and "numpy" not in sys.modules
        from detcore import interfaces
        for kind, interface in {interfaces}.items():
            targets = [resolve(each.target, "", each.name) for each in found[kind]]
            assert [each.__name__ for each in targets] == [each.name for each in found[kind]]
            assert any(issubclass(each, getattr(interfaces, interface)) for each in targets), kind
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, cwd=here)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["OddLoss"], 'the name "OddLoss" is not of small letters, digits and single hyphens, a letter first. '
         "For example: odd-loss."),
        (["odd_loss"], "For example: odd-loss."),
        (["odd--loss"], "For example: odd-loss."),
        (["3d-loss"], "For example: my-loss."),
        (["../loss"], "For example: loss."),
        (["a" * (LONGEST + 1)], "has 41 characters. Give 40 at most."),
        (["class"], 'the name "class" is a word of Python.'),
        (["none"], 'the name "none" is a word of Python.'),
        (["json"], 'would hide the module "json", which is installed. Choose another.'),
        (["torch"], 'would hide the module "torch", which is installed.'),
        (["detcore"], "is the name of a package of detcore's own."),
        (["detcore-fpn"], "is the name of a package of detcore's own."),
        (["focal-loss"], "gives loss FocalLoss, which detcore-losses has. Choose another."),
        (["giou-loss"], "gives loss GiouLoss, which detcore-losses has."),
        (["taken"], "./taken: is there already. Choose another name, or another --output."),
        (["odd-loss", "--output", "taken/file"], "cannot be made: "),
        (["odd-loss", "--set", "auhtor=me"], '--set auhtor=me: is no answer that is asked for. Did you mean "author"? '
         "There are: description, author."),
        (["odd-loss", "--set", "__class=Other"], "is no answer that is asked for."),
        (["odd-loss", "--set", "name=other"], "is no answer that is asked for."),
        (["odd-loss", "--set", "author"], "--set author: is not of the form KEY=VALUE."),
        (["odd-loss", "--set", "author={{ 1 }}"], "has a line break or a brace. Write plain words."),
        (["odd-loss", "--set", "description=a\nb"], "has a line break or a brace. Write plain words."),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_and_writes_nothing(args: list[str], said: str, new: New, here: Path) -> None:
    (here / "taken").mkdir()
    (here / "taken" / "file").touch()
    before = sorted(here.rglob("*"))
    code, out, err = new("loss", *args)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err
    assert sorted(here.rglob("*")) == before


def test_an_unknown_kind_lists_those_that_there_are(new: New, here: Path) -> None:
    code, _, err = new("los", "odd-loss")
    assert code == 2
    assert "'los' is not one of 'backbone', 'neck'" in err
    assert not [*here.iterdir()]


def test_another_kind_may_have_the_name(new: New) -> None:
    """A name is that of a component of a kind: a neck may be called as a loss is."""
    assert new("neck", "focal-loss")[0] == 0


def test_a_project_names_its_config(new: New, here: Path) -> None:
    code, out, _ = new("project", "odd-work")
    assert (code, out.splitlines()) == (0, ["made ./odd-work", "core-run ./odd-work/configs/gated.toml"])
    assert not (here / "odd-work" / "src").exists()
    assert (here / "odd-work" / "configs" / "gated.toml").is_file()
    assert "class OddWorkNeck(Neck):" in (here / "odd-work" / "parts.py").read_text()
