"""``core-run``: the command line. Errors of the user are one line each and exit code 2; Ctrl-C is 130."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from detcore.cli.commands import group
from detcore.errors import Problems, UserError

__all__ = ["group", "main"]


def main(args: Sequence[str] | None = None) -> None:
    """Run ``core-run`` and exit: 0 done, 1 a difference or a broken plugin was found, 2 an error of the user."""
    try:
        code = group.main(args, prog_name="core-run", standalone_mode=False)
    except UserError as error:
        for each in error.errors if isinstance(error, Problems) else (error,):
            click.echo(str(each), err=True)
        code = 2
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
