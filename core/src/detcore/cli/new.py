"""``core-run new``: a package or project from a template that ships with core. Imports no torch."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cookiecutter.generate import generate_context, generate_files
from cookiecutter.prompt import prompt_for_config

from detcore.catalog import PLUGIN, Component, known
from detcore.errors import ConfigError, did_you_mean
from detcore.plugins import discover

TEMPLATES = Path(__file__).parents[1] / "_templates"
LONGEST = 40
"""Characters of a name; lines that hold it stay within what ruff lets pass."""


def new(kind: str, name: str, output: Path, sets: Sequence[str]) -> list[str]:
    """Make it; returns what to do next, line by line.

    Args:
        kind: The template's folder.
        name: Of the package, in small letters with hyphens.
        output: The folder that it is made in.
        sets: ``author=...``, ``description=...``.

    Raises:
        ConfigError: The name, an answer or the folder cannot be; nothing is written then.
    """
    folder = TEMPLATES / kind
    _check_spelling(name)
    context = generate_context(str(folder / "cookiecutter.json"))
    context["cookiecutter"] |= _answers(sets, context["cookiecutter"]) | {"name": name}
    values = context["cookiecutter"] = prompt_for_config(context, no_input=True)
    _check_names(name, values)
    made = output / values["__slug"]
    shown = made.as_posix() if made.is_absolute() else f"./{made.as_posix()}"
    if made.exists():
        raise ConfigError(shown, "is there already", "Choose another name, or another --output.")
    try:
        generate_files(folder, context, output, accept_hooks=False)
    except OSError as error:  # cookiecutter removes what it had begun
        raise ConfigError(shown, f"cannot be made: {error}") from error
    if kind == "project":
        return [f"made {shown}", f"core-run {shown}/configs/gated.toml"]
    return [f"made {shown}", f"python -m pip install -e {shown}", f"core-run {values['__slug']}::quickstart.toml"]


def _check_spelling(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        near = re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()).strip("-")
        fix = f"For example: {near}." if re.match("[a-z]", near) else "For example: my-loss."
        raise _refused(name, "is not of small letters, digits and single hyphens, a letter first", fix)
    if len(name) > LONGEST:
        raise _refused(name, f"has {len(name)} characters", f"Give {LONGEST} at most.")


def _check_names(name: str, values: Mapping[str, Any]) -> None:
    """That nothing else is called as the package or its components will be."""
    package = values["__package"]
    if name in {"detcore", *known()[PLUGIN].values()}:
        raise _refused(name, "is the name of a package of detcore's own", "Choose another.")
    if keyword.iskeyword(package) or keyword.iskeyword(values["__class"]):
        raise _refused(name, "is a word of Python", "Choose another.")
    found = importlib.util.find_spec(package)
    if package in sys.stdlib_module_names or (found and found.origin):
        raise _refused(name, f'would hide the module "{package}", which is installed', "Choose another.")
    owners = {(kind, each.lower()): by for kind, names in known().items() for each, by in names.items()}
    for entry in discover().entries:
        if isinstance(entry.record, Component):
            owners[entry.record.kind, entry.record.name.lower()] = entry.distribution
    for kind, _, component in (each.partition(":") for each in values["__components"].split()):
        if owner := owners.get((kind, component.lower())):
            raise _refused(name, f"gives {kind} {component}, which {owner} has", "Choose another.")


def _answers(sets: Sequence[str], known: Mapping[str, Any]) -> dict[str, str]:
    """Values by name, as text that no template language reads."""
    asked = [each for each in known if not each.startswith("_") and each != "name"]
    answers: dict[str, str] = {}
    for each in sets:
        key, equals, value = each.partition("=")
        if not equals or key not in asked:
            found = "is no answer that is asked for" if equals else "is not of the form KEY=VALUE"
            raise ConfigError(
                f"--set {each}", found, f"{did_you_mean(key, asked)} There are: {', '.join(asked)}.".strip()
            )
        if not value.isprintable() or "{" in value:
            raise ConfigError(f"--set {each}", "has a line break or a brace", "Write plain words.")
        answers[key] = value
    return answers


def _refused(name: str, found: str, fix: str) -> ConfigError:
    return ConfigError("core-run new", f'the name "{name}" {found}', fix)
