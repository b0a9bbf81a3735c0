"""Options as fields of a dataclass, for operators, samplers, methods and recipes."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from any2all_operators import UserError, valid_names

T = TypeVar("T")


def option_fields(cls: type[Any]) -> dict[str, tuple[Any, Any]]:
    """The options that a user can set: {name: (type, default)}.

    These are the dataclass fields with a default. Fields without one, such as coil maps or a mask,
    can only be set in Python.
    """
    hints = typing.get_type_hints(cls)
    return {
        field.name: (hints[field.name], field.default)
        for field in dataclasses.fields(cls)
        if field.init and field.default is not dataclasses.MISSING
    }


def option_meanings(cls: type[Any]) -> dict[str, str]:
    """The meaning and the valid values of options: {name: text}.

    The text stands in the type of a field, as in
    ``sigma: Annotated[float, "Width in pixels; above 0"]``. Options without a text are left out.
    """
    meanings = {}
    for name, kind in typing.get_type_hints(cls, include_extras=True).items():
        texts = [text for text in getattr(kind, "__metadata__", ()) if isinstance(text, str)]
        if texts:
            meanings[name] = texts[0]
    return meanings


def parse_options(
    cls: type[T], texts: Mapping[str, str], owner: str, command: str = ""
) -> dict[str, Any]:
    """Convert {name: text} to {name: value} by the types of the fields of ``cls``.

    Raises UserError that lists the valid options if a name does not fit, or says what is expected
    if a value does not. ``command`` is the command that explains all options, for the message.
    """
    if not dataclasses.is_dataclass(cls):
        raise UserError(
            f"{owner}: {cls!r} is not a dataclass, so it has no options; tell its author"
        )
    known = option_fields(cls)
    values: dict[str, Any] = {}
    for name, text in texts.items():
        if name not in known:
            raise UserError(
                f"{owner} has no option {name!r}"
                f"{valid_names(name, _listing(known), 'its options:', command)}"
            )
        try:
            values[name] = _convert(text, known[name][0])
        except ValueError:
            wanted = type_name(known[name][0])
            raise UserError(
                f"{owner}: {name}={text} is not of type {wanted}; its default is {known[name][1]}"
            ) from None
    return values


def type_name(kind: Any) -> str:
    """A type as shown to a user, such as ``int`` or ``a | b``."""
    if typing.get_origin(kind) is typing.Literal:
        return " | ".join(map(str, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        return "values joined by '+'"
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " | ".join(type_name(argument) for argument in typing.get_args(kind))
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _listing(known: Mapping[str, tuple[Any, Any]]) -> list[str]:
    return [f"{name}={default} ({type_name(kind)})" for name, (kind, default) in known.items()]


def _convert(text: str, kind: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        if text not in map(str, arguments):
            raise ValueError(text)
        return next(value for value in arguments if str(value) == text)
    if origin in (typing.Union, types.UnionType):
        if text.lower() == "none" and type(None) in arguments:
            return None
        for argument in arguments:
            try:
                return _convert(text, argument)
            except (ValueError, TypeError):
                continue
        raise ValueError(text)
    if origin is tuple:
        return tuple(_convert(part, arguments[0]) for part in text.split("+"))
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    return kind(text)
