"""What a user did wrong, said in one line: where, what was found, what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """Something the user can mend. The command line prints it without a traceback and exits with 2.

    Args:
        where: File and key, e.g. ``configs/my.toml: model.head.assigner.radious``.
        found: What is there, e.g. ``not a parameter of assigner TinyAssigner``.
        fix: What would be right, e.g. ``Did you mean "radius"?``; may be empty.

    Attributes:
        located: ``where`` is a place in a config already, not only a component's own word for it.
        told: Another process of the run has said the same.
    """

    located = False
    told = False

    def __init__(self, where: str, found: str, fix: str = "") -> None:
        self.where = where
        self.found = found
        self.fix = fix
        super().__init__(where, found, fix)

    def __str__(self) -> str:
        line = f"{self.where}: {self.found}" if self.where else self.found
        return f"{_sentence(line)} {self.fix}".rstrip() if self.fix else line


class ConfigError(UserError):
    """A config file or an option says something that cannot be."""


class PluginError(UserError):
    """A plugin cannot be loaded, or two of them collide."""


class ComponentError(UserError):
    """A component's code breaks its contract: an interface not implemented, a hint that cannot be resolved."""


class DataError(UserError):
    """A dataset, an image or an annotation is not what it should be."""


class CheckpointError(UserError):
    """A checkpoint cannot be read, or belongs to something else."""


class TrainingError(UserError):
    """Training cannot go on: a loss that is not finite, for example."""


class Interrupted(UserError):
    """A run was told to end, by Ctrl-C or SIGTERM; what it had done is saved."""

    def __init__(self, where: str, found: str, fix: str = "", *, code: int = 1) -> None:
        super().__init__(where, found, fix)
        self.code = code


class Problems(UserError):
    """Several user errors, reported at once, one line each.

    Args:
        errors: At least one; nested groups are flattened, repeated lines are kept once.
    """

    located = True

    def __init__(self, errors: Iterable[UserError]) -> None:
        flat: dict[str, UserError] = {}
        for error in errors:
            for each in error.errors if isinstance(error, Problems) else (error,):
                flat.setdefault(str(each), each)
        self.errors: Sequence[UserError] = tuple(flat.values())
        super().__init__("", "\n".join(flat))

    def __reduce__(self) -> tuple[type[Problems], tuple[Sequence[UserError]]]:
        return type(self), (self.errors,)  # crosses process borders


def raise_all(errors: Sequence[UserError]) -> None:
    """Raise nothing, the one error, or all of them as :class:`Problems`."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise Problems(errors)


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """``Did you mean "radius"?`` for the nearest of ``candidates``, or the empty string."""
    names = {candidate.lower(): candidate for candidate in candidates}
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    return f'Did you mean "{names[near[0]]}"?' if near else ""


def one_line(error: BaseException) -> str:
    """``ImportError: no module named torch``, however many lines the exception has."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."
