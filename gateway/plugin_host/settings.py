"""A plugin's settings in words, from its `Config`: key, type, default and meaning."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from gateway.config.annotations import bare, description_of, notes_of
from gateway.config.field_types import Duration, OrganisationName, Secret, Size

_WORDS: Final = {bool: "true or false", int: "integer", float: "number", str: "text", Path: "path", Any: "any value"}
_BASES: Final = {Duration: "duration", Size: "size", Secret: "secret", OrganisationName: "organisation"}
_DURATIONS: Final = {86400: "d", 3600: "h", 60: "m", 1: "s"}
_SIZES: Final = {2**40: "TiB", 2**30: "GiB", 2**20: "MiB", 2**10: "KiB", 1: "B"}
_CAPITAL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One key. Inside tables the key is dotted: `queries[].sql` in an array of tables, `values.NAME` under any name.
    `default` is as in TOML; None where there is none. `meaning` is None where the plugin does not describe the key."""

    key: str
    type: str
    required: bool
    default: str | None
    meaning: str | None


def settings_of(config: type[msgspec.Struct], prefix: str = "") -> Iterator[Setting]:
    """Every key of a `Config`, those of the tables in it after the key of the table."""
    for field in msgspec.structs.fields(config):
        key = f"{prefix}{field.encode_name}"
        yield Setting(
            key=key,
            type=_in_words(field.type),
            required=field.required,
            default=None if field.required else _in_toml(_default(field)),
            meaning=description_of(field.type),
        )
        inner, place = _table_in(field.type, key)
        if inner is not None:
            yield from settings_of(inner, f"{place}.")


def _table_in(kind: Any, key: str) -> tuple[type[msgspec.Struct] | None, str]:
    """The struct in a type, if there is one, and the key of its table."""
    kind = bare(kind)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind, key
    if origin is dict:
        return _table_in(args[1], f"{key}.NAME")
    return _table_in(args[0], f"{key}[]") if origin in (list, tuple) else (None, key)


def _in_words(kind: Any) -> str:
    limits = [note for note in notes_of(kind) if note.ge is not None or note.le is not None]
    kind = bare(kind)
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return " or ".join(map(json.dumps, args))
    if origin is dict:
        return f"table of {_in_words(args[1])}"
    if origin in (list, tuple):
        return f"array of {_in_words(args[0])}"
    if args:
        return " or ".join(map(_in_words, args))
    word = _word(kind)
    for note in limits:
        for name, limit in (("from", note.ge), ("to", note.le)):
            word += "" if limit is None else f" {name} {limit}"
    return word


def _word(kind: Any) -> str:
    if kind in _WORDS:
        return _WORDS[kind]
    name = str(getattr(kind, "__name__", kind))
    if isinstance(kind, type):
        if issubclass(kind, msgspec.Struct):
            return "table"
        for base, word in _BASES.items():
            if issubclass(kind, base):
                return word
    return _CAPITAL.sub(" ", name).lower()


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


def _in_toml(value: Any) -> str | None:
    match value:
        case None:
            return None
        case bool():
            return str(value).lower()
        case Duration():
            return f'"{_amount(value, _DURATIONS)}"' if value.is_integer() else f'"{value * 1000:g}ms"'
        case Size():
            return f'"{_amount(value, _SIZES, " ")}"'
        case int() | float():
            return f"{value}"
        case list() | tuple():
            return f"[{', '.join(str(_in_toml(one)) for one in value)}]"
        case dict():
            pairs = ", ".join(f"{key} = {_in_toml(one)}" for key, one in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case msgspec.Struct():
            return "{}"
    return json.dumps(str(value), ensure_ascii=False)


def _amount(value: float, units: dict[int, str], space: str = "") -> str:
    """A whole amount in the largest unit that it is a multiple of."""
    unit = next(unit for unit in units if value % unit == 0 and (value or unit == 1))
    return f"{int(value // unit)}{space}{units[unit]}"
