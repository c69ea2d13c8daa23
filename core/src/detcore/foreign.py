"""Tables of another toolbox's config, read key by key, so that nothing of them is lost in silence. Imports no torch.

A plugin that knows how another toolbox calls its components says so in a module of functions, one for each name there::

    def tiny_head(head: Foreign) -> Part:
        train = head.table("train_cfg")
        return head.into(
            "ComposedHead",
            geometry=head.part("anchor_generator"),
            network=head.into("TinyTowers", ("^cls\\.", "tiny_cls."), **head.keep(feat_channels="feat_channels")),
            assigner=train.part("assigner"),
            ...,
        )

    TRANSLATIONS = {"TinyHead": tiny_head}

and names it in the hook ``detcore_importers``. Keys that no function read, values that have no counterpart here and
names that nobody translates are listed with their key path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

Rule = tuple[str, str]
"""A regular expression and what replaces it, where it occurs."""

Translate = Callable[["Foreign"], "Part | Mapping[str, Any] | None"]
"""A table of a type that we have a counterpart for -> our table; None: it has none."""

NONE: Mapping[str, bool] = {"_none_": True}
"""A value of our tables that is None; a key that is None is left out."""


@attrs.frozen
class Part:
    """A table of ours and how its tensors are called in the other toolbox.

    Attributes:
        table: Ours; values may be parts.
        home: The module of the other toolbox that its tensors lie in, e.g. ``bbox_head``.
        rules: Our name of a tensor, below the part -> the other, below ``home``; one after the other.
        absent: Regular expressions of the other toolbox's tensors, below ``home``, that we do not keep: constants.
    """

    table: Mapping[str, Any]
    home: str
    rules: Sequence[Rule] = ()
    absent: Sequence[str] = ()

    @property
    def plain(self) -> dict[str, Any]:
        """The table, its parts' tables within it."""
        return {key: _plain(value) for key, value in self.table.items()}

    def foreign_name(self, ours: str) -> str:
        """How the other toolbox calls the tensor of this name below the part: the innermost part's rules count."""
        inner = max((path for path, _ in self.parts() if f"{ours}.".startswith(f"{path}.")), key=len, default=None)
        if inner is not None:
            return dict(self.parts())[inner].foreign_name(ours[len(inner) + 1 :])
        return ".".join(filter(None, (self.home, renamed(ours, self.rules))))

    def dropped(self, theirs: str) -> bool:
        """Whether the other toolbox's tensor of this name is one that we do not keep."""
        below = theirs.removeprefix(f"{self.home}.") if self.home else theirs
        return any(re.fullmatch(each, below) for each in self.absent) or any(
            part.dropped(theirs) for _, part in self.parts()
        )

    def parts(self) -> Iterator[tuple[str, Part]]:
        """The parts right within it, by our path below it."""
        for key, value in self.table.items():
            yield from _parts(value, key)


def renamed(name: str, rules: Iterable[Rule]) -> str:
    """The name with each rule applied, one after the other."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _plain(value: Any) -> Any:
    if isinstance(value, Part):
        return value.plain
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _parts(value: Any, path: str) -> Iterator[tuple[str, Part]]:
    if isinstance(value, Part):
        yield path, value
    elif isinstance(value, Mapping | list | tuple):
        for key, each in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _parts(each, f"{path}.{key}")


@attrs.frozen
class Remark:
    """What became of a foreign key otherwise than as it was: its path, its value, and why or how."""

    path: str
    value: Any
    why: str

    def __str__(self) -> str:
        return f"{self.path} = {self.value!r}: {self.why}"


@attrs.frozen
class Log:
    """What a translation could not do (``lost``) or did its own way (``notes``), and the numbers of classes it met."""

    translations: Mapping[str, Translate]
    lost: list[Remark] = attrs.field(factory=list)
    notes: list[Remark] = attrs.field(factory=list)
    classes: set[int] = attrs.field(factory=set)


class Foreign:
    """One table of the other toolbox. Each key is to be read once at least; :meth:`unread` lists what was not.

    Args:
        values: Its keys.
        path: Of the table, e.g. ``model.bbox_head``.
        log: Where remarks go.
        home: The module that this table makes; see :class:`Part`.
    """

    def __init__(self, values: Mapping[str, Any], path: str, log: Log, home: str = "") -> None:
        self.values, self.path, self.log, self.home = dict(values), path, log, home
        self.read: set[str] = set()
        self._tables: dict[str, Foreign] = {}

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key."""
        self.read.add(key)
        return self.values.get(key, default)

    def keep(self, **names: str) -> dict[str, Any]:
        """The keys that mean the same here, those the table has: our name = the other toolbox's."""
        return {ours: self.get(theirs) for ours, theirs in names.items() if theirs in self.values}

    def wired(self, *keys: str) -> None:
        """Keys that nobody types here, as the build knows them: channels, strides, classes."""
        for key in keys:
            value = self.get(key)
            if key == "num_classes" and isinstance(value, int):
                self.log.classes.add(value)

    def only(self, **expected: Any) -> None:
        """Keys of which we have one value's behaviour; another one is listed. Their absence means that value."""
        for key, value in expected.items():
            if self.get(key, value) != value:
                self.lose(key, f"only {value!r} has a counterpart")

    def lose(self, key: str, why: str) -> None:
        """The value of a key has no counterpart."""
        self.log.lost.append(Remark(self._at(key), self.get(key), why))

    def note(self, key: str, how: str) -> None:
        """The value of a key was taken over otherwise than as it is."""
        self.log.notes.append(Remark(self._at(key), self.get(key), how))

    def table(self, key: str) -> Foreign:
        """The table at a key, the same each time; empty where there is none."""
        if key not in self._tables:
            value = self.get(key)
            if isinstance(value, Foreign):
                self._tables[key] = value
            else:
                home = f"{self.home}.{key}" if self.home else key
                self._tables[key] = Foreign(value if isinstance(value, Mapping) else {}, self._at(key), self.log, home)
                if value is not None and not isinstance(value, Mapping):
                    self.lose(key, "a table was expected")
        return self._tables[key]

    def tables(self, key: str) -> list[Foreign]:
        """The tables of the list at a key; one table alone is a list of it."""
        value = self.get(key)
        if not isinstance(value, list | tuple):
            return [self.table(key)] if value is not None else []
        self.values.update({f"{key}.{index}": each for index, each in enumerate(value)})
        return [self.table(f"{key}.{index}") for index in range(len(value))]

    def part(self, key: str, default: Mapping[str, Any] | None = None, *, name: str = "", **given: Any) -> Any:
        """Our counterpart of the component at a key; None where there is none.

        Args:
            key: The key.
            default: The table that the other toolbox takes where the key is absent.
            name: What stands for its ``type`` where it has none.
            given: Values that the other toolbox hands down to it.
        """
        if self.get(key) is None:
            if default is None:
                return None
            self.values[key] = default
            self._tables.pop(key, None)
        return self.table(key).translated(name, **given)

    def translated(self, name: str = "", **given: Any) -> Any:
        """Our counterpart of this table, whose ``type`` (else ``name``) somebody translates; see :meth:`part`."""
        self.values.update({key: value for key, value in given.items() if value is not None})
        name = str(self.get("type", name))
        translate = self.log.translations.get(name)
        if translate is None:
            self.read |= {*self.values}
            self.log.lost.append(Remark(self.path, name, "no installed plugin translates it"))
            return None
        try:
            return translate(self)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            self.log.lost.append(Remark(self.path, name, f"cannot be read: {error!r}"))
            return None

    def into(self, type: str, *rules: Rule, absent: Sequence[str] = (), **table: Any) -> Part:
        """Our table of this type, of values that are not None, with its tensors' names; see :class:`Part`."""
        kept = {key: value for key, value in table.items() if value is not None}
        return Part({"type": type, **kept}, self.home, rules, absent)

    def unread(self) -> Iterator[Remark]:
        """The keys that nobody read, of this table and those within it."""
        for key, value in self.values.items():
            if key not in self.read and not isinstance(value, Foreign):
                yield Remark(self._at(key), value, "has no counterpart")
        for key, table in self._tables.items():
            if self.values.get(key) is not table:
                yield from table.unread()

    def _at(self, key: str) -> str:
        return f"{self.path}.{key}"
