"""The command group: ``core-run CONFIG`` trains, and plugins add commands. Lists those without loading them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from detcore.errors import PluginError, did_you_mean, one_line

if TYPE_CHECKING:
    from detcore.points import Point

DEFAULT = "train"


class Group(click.Group):
    """Core's commands, then those of the entry-point group ``detcore.commands``, read by name when they are needed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """``core-run --set a=1 CONFIG`` is ``core-run train --set a=1 CONFIG``."""
        own = [option for parameter in self.get_params(ctx) for option in parameter.opts]
        return super().parse_args(
            ctx, [DEFAULT, *args] if args and args[0][0:1] == "-" and args[0] not in own else args
        )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A command of core, else a config, which is trained, else a command of a plugin."""
        name = args[0]
        if name in self.commands:
            return name, self.commands[name], args[1:]
        if name.endswith(".toml") or "::" in name or Path(name).is_file():
            return DEFAULT, self.commands[DEFAULT], args
        if ctx.resilient_parsing:  # the shell asks what could follow: of an unknown command nothing
            return None, None, []
        return name, _load(name, sorted(self.commands)), args[1:]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands of core and of plugins, options, and configs, which are trained."""
        from detcore.cli.completion import configs  # noqa: PLC0415 (nothing else needs it)

        found = [*super().shell_complete(ctx, incomplete), *configs(ctx, None, incomplete)]
        others = {each.point.name: each.distribution for each in _installed()}
        return [*found, *(CompletionItem(n, help=by) for n, by in sorted(others.items()) if n.startswith(incomplete))]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Core's commands with their help; those of plugins with their distribution only: they are not loaded."""
        super().format_commands(ctx, formatter)
        rows: dict[str, list[str]] = {}
        for each in _installed():
            if each.point.name not in self.commands:
                rows.setdefault(each.point.name, []).append(each.distribution)
        if rows:
            with formatter.section("Commands of plugins"):
                formatter.write_dl([(name, ", ".join(owners)) for name, owners in sorted(rows.items())])


def _installed() -> list[Point]:
    """Every plugin's commands, but for those that are blocked."""
    from detcore import points  # noqa: PLC0415 (only help and unknown names need it)

    blocks = points.blocked_by_environment()
    return [each for each in points.installed(points.COMMANDS) if not each.is_blocked(blocks)]


def _load(name: str, own: Sequence[str]) -> click.Command:
    found = _installed()
    owners = [each for each in found if each.point.name == name]
    if not owners:
        near = did_you_mean(name, [*own, *(each.point.name for each in found)])
        raise click.UsageError(f'"{name}" is neither a command nor a config file. {near}'.rstrip())
    if len(owners) > 1:
        both = " and ".join(f"{each.distribution} {each.version}" for each in owners)
        raise PluginError(f"core-run {name}", f"is a command of {both}", "Leave one out with DETCORE_BLOCK_PLUGINS.")
    it = f"{owners[0].distribution} {owners[0].version}"
    try:
        command = owners[0].point.load()
    except (Exception, SystemExit) as error:
        raise PluginError(f"core-run {name}", f"the command of {it} cannot be loaded: {one_line(error)}") from error
    if not isinstance(command, click.Command):
        raise PluginError(f"core-run {name}", f"{it} gives {type(command).__name__}, not a click command")
    return command
