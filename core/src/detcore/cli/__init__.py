"""``core-run``: the command line. Errors of the user are one line each and exit code 2; Ctrl-C is 130."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from detcore.cli.commands import group
from detcore.errors import Interrupted, Problems, UserError

__all__ = ["group", "main"]


def main(args: Sequence[str] | None = None) -> None:
    """Run ``core-run`` and exit: 0 done, 1 a difference or a broken plugin was found, 2 an error of the user.

    A run that a signal ended exits as shells have it: 130 after Ctrl-C, 143 after SIGTERM; its state is saved.
    """
    try:
        code = group.main(args, prog_name="core-run", standalone_mode=False)
    except UserError as error:
        process = f"process {os.environ['RANK']}: " if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""
        for each in () if error.told else error.errors if isinstance(error, Problems) else (error,):
            click.echo(f"{process}{each}", err=True)
        code = error.code if isinstance(error, Interrupted) else 2
    except OSError as error:  # a folder that cannot be made, a file that cannot be written
        if error.filename is None:
            raise
        click.echo(f"{error.filename}: {error.strerror}", err=True)
        code = 2
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130
    sys.exit(code if isinstance(code, int) else 0)
