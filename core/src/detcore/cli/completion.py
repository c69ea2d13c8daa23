"""What the shell completes: configs, recipes, plugins. Imports no torch."""

# ruff: noqa: PLC0415 (nothing is imported that the word to complete does not need)

from __future__ import annotations

import glob
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

VARIABLE = "_CORE_RUN_COMPLETE"
"""Set by the scripts; click reads it."""
SHELLS = ("bash", "zsh", "fish")


def script(shell: str) -> str:
    """What a shell has to run so that it completes ``core-run``."""
    from detcore.cli.commands import group

    maker = get_completion_class(shell)
    assert maker is not None, "one of SHELLS"
    source = maker(group, {}, "core-run", VARIABLE).source()
    # Bash ends a word at a colon, and would complete no detcore::quickstart.toml.
    return f"COMP_WORDBREAKS=${{COMP_WORDBREAKS//:}}\n{source}" if shell == "bash" else source


def configs(ctx: click.Context, parameter: click.Parameter | None, incomplete: str) -> list[CompletionItem]:
    """Configs below the folder that is begun, and recipes of installed packages."""
    from detcore.plugins import recipes

    begun = glob.escape(str(Path(incomplete).expanduser()) + "/" * incomplete.endswith("/") if incomplete else "")
    files = [name for pattern in ("*", "*/*") for name in glob.glob(begun + pattern) if name.endswith(".toml")]
    folders = [f"{name}/" for name in glob.glob(f"{begun}*") if Path(name).is_dir()]
    named = [name for name in recipes() if name.startswith(incomplete)]
    return [CompletionItem(name) for name in [*(sorted(files) or sorted(folders)), *named]]


def plugins(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Distributions of plugins."""
    from detcore import points

    names = {each.distribution: each.version for each in points.installed(points.PLUGINS)}
    return [CompletionItem(name, help=names[name]) for name in sorted(names) if name.startswith(incomplete)]
