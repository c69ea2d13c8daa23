"""The commands of core. Each imports what it needs when it runs, so that ``--help`` is instant."""

# ruff: noqa: PLC0415 (that is the point)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from detcore import __version__
from detcore.cli.group import Group

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

config = click.argument("config", metavar="CONFIG")
work_dir = click.option("--work-dir", metavar="DIR", help="Where checkpoints and logs go.")
device = click.option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, mps; by default the best there is.")


def overrides(command: FunctionT) -> FunctionT:
    """The options ``--set`` and ``--swap``, as tuples ``sets`` and ``swaps``."""
    swap = click.option(
        "--swap", "swaps", multiple=True, metavar="KEY=TYPE", help="Replace a component: model.backbone=TinyNet."
    )
    return swap(
        click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Set a key: optimizer.lr=0.02.")(command)
    )


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="detcore")
def group() -> None:
    """Train and evaluate object detectors that are wired by TOML.

    A CONFIG is a file, or a recipe of an installed package: detcore::quickstart.toml.
    Without a command, CONFIG is trained.

    Example: core-run detcore::quickstart.toml --set train.epochs=1
    """


@group.command()
@config
@overrides
@click.option("--resume", metavar="PATH|auto", help="Go on from a checkpoint; auto: from the newest in the work dir.")
@work_dir
@device
def train(**options: Any) -> None:
    """Check CONFIG, then train it.

    Example: core-run train my.toml --set optimizer.lr=0.02 --resume auto
    """
    from detcore import run

    run.train(options.pop("config"), **options)


@group.command(name="eval")
@config
@click.argument("checkpoint")
@overrides
@device
def evaluate(**options: Any) -> None:
    """Evaluate CHECKPOINT on the validation data of CONFIG.

    Example: core-run eval my.toml runs/my/checkpoints/last.pt --device cuda
    """
    from detcore import run

    run.evaluate(options.pop("config"), **options)


@group.command()
@config
@overrides
@click.option("--no-build", is_flag=True, help="Stop before imports: syntax, folding, references and names only.")
def check(config: str, sets: tuple[str, ...], swaps: tuple[str, ...], no_build: bool) -> None:
    """Report everything that is wrong with CONFIG, at once.

    Example: core-run check my.toml --swap model.backbone=TinyNet
    """
    if no_build:
        from detcore.cli import light

        lines = light.check_names(config, sets=sets, swaps=swaps)
    else:
        from detcore import run

        lines = run.check(config, sets=sets, swaps=swaps)
    for line in lines:
        click.echo(line)


@group.command()
@config
@click.argument("key", required=False)
@overrides
@click.option("--origin", is_flag=True, help="Say behind each value which file or option set it.")
def show(config: str, key: str | None, sets: tuple[str, ...], swaps: tuple[str, ...], origin: bool) -> None:
    """Print CONFIG with its bases folded in; or, for a KEY, the chain of values it had.

    Example: core-run show my.toml model.neck.num_outs
    """
    from detcore.cli import light

    folded = light.fold(config, sets, swaps)
    click.echo(light.chain(folded, key) if key else light.table(folded, origin), nl=False)


@group.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
def diff(a: str, b: str) -> None:
    """Compare what two configs fold to; exit with 1 if they differ.

    Example: core-run diff mine.toml theirs.toml
    """
    from detcore.cli import light

    lines = light.differences(a, b)
    for line in lines:
        click.echo(line)
    click.get_current_context().exit(1 if lines else 0)


@group.command()
@click.argument("name", required=False)
@click.option("--broken", is_flag=True, help="Only those that cannot be loaded; exit with 1 if there are any.")
def plugins(name: str | None, broken: bool) -> None:
    """List the installed plugins; or what the plugin NAME provides.

    Example: core-run plugins detcore-tiny
    """
    from detcore.cli import listing
    from detcore.plugins import discover

    catalog = discover()
    if name:
        click.echo(listing.plugin_page(catalog, name))
    else:
        click.echo(listing.plugin_table(catalog, broken))
    click.get_current_context().exit(1 if broken and catalog.broken else 0)


@group.command()
@click.option("--output", type=click.Path(path_type=Path), help="A file; by default the terminal.")
def schema(output: Path | None) -> None:
    """Write a JSON Schema of all that is installed, so that editors complete and check the TOML.

    Example: core-run schema --output detcore.schema.json
    """
    import json

    from detcore import run

    text = json.dumps(run.schema(), indent=2)
    if output:
        output.write_text(text + "\n", encoding="utf-8")
    else:
        click.echo(text)
