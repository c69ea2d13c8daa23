"""What a callable's annotations ask of the build: children, flowing values, sections, plain values."""

from __future__ import annotations

import collections.abc
import inspect
import json
import numbers
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

import attrs
import pydantic

from detcore.errors import ComponentError
from detcore.interfaces import Factory, Marker

_SEQUENCES = (collections.abc.Sequence, list, tuple)
_MAPPINGS = (collections.abc.Mapping, dict)


@attrs.frozen
class Child:
    """A parameter that takes built components.

    Attributes:
        interface: What each must implement.
        factory: Whether it is given as something that builds, not built.
        shapes: Which of ``one``, ``many``, ``named`` and ``none`` the annotation allows.
    """

    interface: type
    factory: bool
    shapes: frozenset[str]


@attrs.frozen
class Parameter:
    """One parameter of a component.

    Attributes:
        name: As in the signature and in the config.
        hint: Its annotation, markers stripped; ``Any`` where it has none.
        default: Its default; ``inspect.Parameter.empty`` where it has none.
        child: What it takes where it takes components.
        flow: Name of the flowing value it wants, where it is marked.
        section: The class that its table is, where it is a section.
        named: It is a table of such tables, by name.
    """

    name: str
    hint: Any
    default: Any
    child: Child | None = None
    flow: str | None = None
    section: type | None = None
    named: bool = False

    @property
    def required(self) -> bool:
        """It has no default."""
        return self.default is inspect.Parameter.empty


@attrs.frozen
class Signature:
    """The parameters that a config may set.

    Attributes:
        parameters: By name.
        open: Any other key is taken too (``**kwargs``).
        foreign: Code that knows nothing of detcore.
    """

    parameters: Mapping[str, Parameter]
    open: bool
    foreign: bool = False


def read(
    target: Callable[..., Any], kind_of: Callable[[type], str | None], *, skip: int = 0, foreign: bool = False
) -> Signature:
    """The signature of ``target``.

    Args:
        target: A class or function.
        kind_of: The kind whose interface a class is, or None.
        skip: Leading positional parameters that the owner gives, not the config.
        foreign: Code that knows nothing of detcore: hints that cannot be resolved count as absent.

    Raises:
        ComponentError: A hint cannot be resolved; ``where`` is left empty.
    """
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):  # C functions without a signature
        return Signature({}, open=True, foreign=foreign)
    hints = _hints(target, foreign)
    named = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)][skip:]
    open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters)
    return Signature({each.name: _parameter(each, hints, kind_of) for each in named}, open_ended, foreign)


def _hints(target: Callable[..., Any], foreign: bool) -> dict[str, Any]:
    annotated: Any = target
    if not (isinstance(target, type) and "__attrs_attrs__" in vars(target)):  # attrs keeps them on the class
        annotated = inspect.unwrap(target.__init__ if isinstance(target, type) else target)  # type: ignore[misc]
    try:
        return typing.get_type_hints(annotated, include_extras=True)
    except Exception as error:  # whatever evaluating an annotation may raise
        if foreign:
            return {}
        raise ComponentError(
            "",
            f"its annotations cannot be resolved: {error}",
            "Import at run time what they name, not only for checking.",
        ) from error


def _parameter(
    parameter: inspect.Parameter, hints: Mapping[str, Any], kind_of: Callable[[type], str | None]
) -> Parameter:
    hint = hints.get(parameter.name, Any)
    alternatives = list(members(hint))
    for member in alternatives:
        named = get_origin(member) in _MAPPINGS
        one = get_args(member)[-1] if named else member
        marker = _marker(one)
        if marker == "section":
            return Parameter(parameter.name, hint, parameter.default, section=get_args(one)[0], named=named)
        if marker:
            plain: Any = Union[tuple(_stripped(each) for each in alternatives)]
            return Parameter(parameter.name, plain, parameter.default, flow=marker)
    return Parameter(parameter.name, _stripped(hint), parameter.default, child=_child(alternatives, kind_of))


def _child(alternatives: list[Any], kind_of: Callable[[type], str | None]) -> Child | None:
    found: list[tuple[type, bool, str]] = []
    for member in alternatives:
        origin, arguments = get_origin(member), get_args(member)
        if (one := _component(member, kind_of)) is not None:
            found.append((*one, "one"))
        elif origin in _SEQUENCES and arguments and (one := _component(arguments[0], kind_of)) is not None:
            found.append((*one, "many"))
        elif origin in _MAPPINGS and arguments and (one := _component(arguments[1], kind_of)) is not None:
            found.append((*one, "named"))
    if not found:
        return None
    shapes = {shape for *_, shape in found} | ({"none"} if type(None) in alternatives else set())
    return Child(found[0][0], found[0][1], frozenset(shapes))


def _component(hint: Any, kind_of: Callable[[type], str | None]) -> tuple[type, bool] | None:
    factory = get_origin(hint) is Factory
    interface = get_args(hint)[0] if factory else hint
    if isinstance(interface, type) and get_origin(interface) is None and kind_of(interface) is not None:
        return interface, factory
    return None


def members(hint: Any) -> Iterator[Any]:
    """The alternatives of a union; a hint that is none is its own only one."""
    if get_origin(hint) in (Union, types.UnionType):
        yield from get_args(hint)
    else:
        yield hint


def _marker(hint: Any) -> str | None:
    metadata = getattr(hint, "__metadata__", ())
    return next((each.name for each in metadata if isinstance(each, Marker)), None)


def _stripped(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated and _marker(hint) else hint


# ------------------------------------------------------------------------------------------------- values and hints


class Mismatch(Exception):
    """A value does not fit a hint: ``problems`` are (key path below the value, what is wrong)."""

    def __init__(self, problems: list[tuple[tuple[str | int, ...], str]]) -> None:
        super().__init__(problems)
        self.problems = problems


def convert(value: Any, hint: Any) -> Any:
    """``value`` (plain TOML: dict, list, scalar, None) as ``hint`` wants it: list to tuple, int to float, no laxer.

    Raises:
        Mismatch: It does not fit.
    """
    adapter = _adapter(hint)
    if adapter is None:
        return value
    try:
        text = json.dumps(value)
    except TypeError as error:  # a date or time: no parameter takes one
        raise Mismatch([((), f"found {shown(value)}, wanted {hint_name(hint)}")]) from error
    try:
        return adapter.validate_json(text, strict=True)
    except pydantic.ValidationError as error:
        raise Mismatch(_problems(error, value, hint)) from error


def _problems(error: pydantic.ValidationError, value: Any, hint: Any) -> list[tuple[tuple[str | int, ...], str]]:
    details = error.errors(include_url=False)
    unions = get_origin(hint) in (Union, types.UnionType)
    if unions or len(details) > 3:
        return [((), f"found {shown(value)}, wanted {hint_name(hint)}")]
    return [
        (tuple(each["loc"]), f"found {shown(each['input'])}, wanted {hint_name(hint)} ({each['msg'].lower()})")
        for each in details
    ]


def _adapter(hint: Any) -> pydantic.TypeAdapter[Any] | None:
    if hint is Any:
        return None
    try:
        return pydantic.TypeAdapter(_with_numbers(hint))
    except pydantic.errors.PydanticUserError:  # a hint of which no JSON can be made, such as a tensor
        usable = [each for each in members(hint) if each is not hint and _adapter(each) is not None]
        return _adapter(Union[tuple(usable)]) if usable else None


def _with_numbers(hint: Any) -> Any:
    """``numbers.Number``, as torchvision's transforms have it, is no type of JSON's: an int or a float."""
    found = [*members(hint)]
    if numbers.Number not in found:
        return hint
    return Union[tuple(int | float if each is numbers.Number else each for each in found)]


def json_schema(hint: Any) -> dict[str, Any]:
    """The JSON Schema of a plain hint; empty (anything) where it has none."""
    adapter = _adapter(hint)
    try:
        return {} if adapter is None else adapter.json_schema()
    except pydantic.errors.PydanticInvalidForJsonSchema:
        return {}


def hint_name(hint: Any) -> str:
    """A hint as a reader writes it: ``int | None``, ``Sequence[float]``."""
    if hint is None or hint is type(None):
        return "None"
    if isinstance(hint, type) and get_origin(hint) is None:
        return hint.__name__
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " | ".join(hint_name(each) for each in arguments)
    if origin is typing.Literal:
        return " | ".join(json.dumps(each) for each in arguments)
    if origin is Annotated:
        return hint_name(arguments[0])
    if origin is not None:
        return f"{getattr(origin, '__name__', origin)}[{', '.join(hint_name(each) for each in arguments)}]"
    return "..." if hint is Ellipsis else str(hint).removeprefix("typing.")


def shown(value: Any) -> str:
    """A value in an error message: TOML-like, short."""
    if isinstance(value, Mapping):
        return "a table"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
