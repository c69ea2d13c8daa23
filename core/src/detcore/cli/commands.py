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

TEMPLATES = (
    *("backbone", "neck", "dense-head", "roi-head", "loss", "dataset", "transform", "evaluator", "callback"),
    *("plugin", "project"),
)
"""Folders of ``_templates``."""


def complete_configs(*asked: Any) -> Any:
    """Configs and recipes."""
    from detcore.cli import completion

    return completion.configs(*asked)


def complete_plugins(*asked: Any) -> Any:
    """Plugins."""
    from detcore.cli import completion

    return completion.plugins(*asked)


config = click.argument("config", metavar="CONFIG", shell_complete=complete_configs)
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
    """Train and evaluate object detectors that are wired by TOML, and find objects with them.

    A CONFIG is a file, or a recipe of an installed package: detcore::quickstart.toml.
    Without a command, CONFIG is trained.

    Exit codes: 0 done; 1 done, but a difference, a broken plugin or a file that could not be read was found;
    2 an error that you can mend, said in a line; 130 and 143 ended by Ctrl-C and by SIGTERM.

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
@click.argument("checkpoint", required=False, type=click.Path())
@click.option("--predictions", type=click.Path(), metavar="FILE", help="Score COCO's results JSON; needs no model.")
@click.option("--output", type=click.Path(), metavar="FILE", help="Write the detections as COCO's results JSON.")
@click.option("--draw", type=click.Path(), metavar="DIR", help="Draw all images, annotations beside detections.")
@click.option("--score", type=click.FloatRange(0, 1), default=0.3, show_default=True, help="The least that is drawn.")
@overrides
@device
def evaluate(**options: Any) -> None:
    """Evaluate CHECKPOINT, or results in a file, on the validation data of CONFIG.

    Where no image has an object (a test set), the detections are only written.

    \b
    Example: core-run eval my.toml runs/my/checkpoints/last.pt --draw pictures
             core-run eval my.toml --predictions results.json
    """
    from detcore import run

    run.evaluate(options.pop("config"), options.pop("checkpoint"), **options)


@group.command()
@click.argument("words", nargs=-1, required=True, type=click.Path(), metavar="CONFIG|CHECKPOINT [CHECKPOINT] INPUT...")
@click.option("--output", type=click.Path(), default="predictions", show_default=True, metavar="DIR", help="Where to.")
@click.option("--score", type=click.FloatRange(0, 1), default=0.3, show_default=True, help="The least that counts.")
@click.option("--batch-size", type=click.IntRange(1), metavar="N", help="Images at once; by default as in [val].")
@click.option("--draw/--no-draw", default=True, help="Whether pictures are drawn.")
@overrides
@device
def predict(words: tuple[str, ...], **options: Any) -> None:
    """Find objects in INPUTs: images, folders, quoted globs and videos.

    A CHECKPOINT carries the config that it was trained with; behind a CONFIG (.toml) it ends in .pt or .pth.

    Writes pictures/, predictions.json (COCO's results) and images.json (the images that they name; videos frame by
    frame). A file that cannot be read is named and left out; the exit code is then 1.

    Example: core-run predict runs/my/checkpoints/best.pt photos "more/*.jpg" --output found
    """
    source, *inputs = words
    is_config = source.endswith(".toml") or "::" in source
    checkpoint = inputs.pop(0) if is_config and inputs and inputs[0].endswith((".pt", ".pth")) else None
    if not inputs:
        raise click.UsageError("an INPUT is missing: an image, a folder, a quoted glob or a video")
    from detcore import prediction

    unread = prediction.predict(source, inputs, checkpoint=checkpoint, **options)
    for error in unread:
        click.echo(str(error), err=True)
    click.get_current_context().exit(1 if unread else 0)


@group.command()
@click.argument("words", nargs=-1, required=True, type=click.Path(), metavar="[CONFIG] FILE")
@device
def replay(words: tuple[str, ...], device: str | None) -> None:
    """Compute a step again whose loss was not finite; FILE is what its run saved in the folder nonfinite.

    Says where the first number is that is not finite; where all are finite this time, the exit code is 1. The file
    carries the config of its run; name one before it where that wants local modules.

    Example: core-run replay runs/my/nonfinite/step-120.pt
    """
    *source, file = words
    if len(source) > 1:
        raise click.UsageError("only a CONFIG and a FILE can be named")
    from detcore.replay import replay

    found = replay(file, *source, device=device)
    click.echo(f"{file}: {found or 'all of it is finite'}")
    click.get_current_context().exit(0 if found else 1)


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
@click.argument("a", metavar="A", shell_complete=complete_configs)
@click.argument("b", metavar="B", shell_complete=complete_configs)
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
@click.argument("name", required=False, shell_complete=complete_plugins)
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


@group.command()
@click.argument("kind", type=click.Choice(TEMPLATES), metavar="KIND")
@click.argument("name")
@click.option("--output", type=click.Path(path_type=Path), default=".", metavar="DIR", help="Where the folder is made.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="author or description; nothing is asked.")
def new(kind: str, name: str, output: Path, sets: tuple[str, ...]) -> None:
    """Begin a package (or a project without one) from a template: a part that works, a config, tests.

    KIND is backbone, neck, dense-head, roi-head, loss, dataset, transform, evaluator, callback; plugin for several
    parts; project for configs and a local module. NAME is that of the package: small letters, digits and hyphens.

    Example: core-run new loss my-loss --set author="Ada Example"
    """
    from detcore.cli.new import new

    for line in new(kind, name, output, sets):
        click.echo(line)


@group.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that makes SHELL complete commands, options, configs and plugins.

    \b
    Example: core-run completion bash >> ~/.bashrc
             core-run completion zsh >> ~/.zshrc
             core-run completion fish > ~/.config/fish/completions/core-run.fish
    """
    from detcore.cli import completion

    click.echo(completion.script(shell))
