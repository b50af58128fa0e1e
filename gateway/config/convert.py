"""A TOML table into a struct, with every fault of it at once.

msgspec stops at the first fault; this walks tables and arrays itself and collects one `Problem` each.
"""

from __future__ import annotations

import difflib
import json
import re
import types
import typing
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from gateway.config.field_types import OrganisationName, Secret, path_from, show

T = TypeVar("T")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,80}", re.ASCII)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_QUIET = re.compile(
    r".*(passw(or)?d|pwd|passphrase|secret|token|key|credential|auth|url|dsn)s?|authorization|bearer|cookie"
)
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "an array",
    "object": "a table",
    "datetime": "a date and time",
    "date": "a date",
    "time": "a time",
}


class Problem(msgspec.Struct, frozen=True):
    """One fault (or warning): the dotted path in the config, and a sentence."""

    path: str
    message: str


class ConfigError(Exception):
    """The configuration cannot be used; `problems` holds every fault found."""

    def __init__(self, source: Path, problems: list[Problem]) -> None:
        self.source = source
        self.problems = problems
        super().__init__("\n".join(f"{source}: {p.path}: {p.message}" for p in problems))


class TableReader:
    """Reads tables into structs. Every fault goes into `problems`; relative paths are relative to `directory`.
    Without `secrets`, those stay unread: see `Secret.unread`. Names of `organisations` are looked up there, if any."""

    def __init__(
        self,
        directory: Path,
        problems: list[Problem],
        *,
        secrets: bool = True,
        organisations: Collection[str] | None = None,
    ) -> None:
        self._directory = directory
        self._problems = problems
        self._secrets = secrets
        self._organisations = organisations

    def table(self, kind: type[T], table: Any, path: str, besides: Iterable[str] = ()) -> T | None:
        """Build `kind` (a msgspec struct) from `table`; None where that has a fault. What is read `besides`, by
        others, is named where a key is unknown."""
        before = len(self._problems)
        values = self.fields(kind, table, path, besides)
        if len(self._problems) > before:
            return None
        try:
            return kind(**values)
        except Exception as error:  # a plugin's own __post_init__ may raise anything
            self._fault(path, _sentence(error))
            return None

    def sound_part(self, kind: type[T], table: Any) -> T:
        """Build `kind`, which must require nothing, from what is sound in a table that has faults: the rest has its
        defaults, and of tables by name the unsound are left out. No fault is told again."""
        table = table if isinstance(table, dict) else {}
        values = TableReader(self._directory, [], secrets=self._secrets).fields(kind, table, "")
        sound = {}
        for field in msgspec.structs.fields(typing.cast(Any, kind)):
            value = values.get(field.name)
            if isinstance(value, dict):
                value = {key: inner for key, inner in value.items() if inner is not None}
            elif value is None and isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
                value = self.sound_part(field.type, table[field.encode_name])
            lacking = value is None or (isinstance(value, list | tuple) and None in value)
            sound[field.name] = self._default(field) if lacking else value
        return kind(**sound)

    def fields(self, kind: type, table: Any, path: str, besides: Iterable[str] = ()) -> dict[str, Any]:
        """The values of `kind`'s fields by name; None (also inside of tables and arrays) for each unsound one."""
        if not isinstance(table, dict):
            self._fault(path, f"expected a table, found {_show(path, table)}")
            return {}
        fields = {field.encode_name: field for field in msgspec.structs.fields(typing.cast(Any, kind))}
        for key in table:
            if key not in fields:
                self._fault(dotted(path, key), f"unknown key; {meant(key, [*fields, *besides])}")
        values: dict[str, Any] = {}
        for key, field in fields.items():
            where = dotted(path, key)
            if key in table:
                values[field.name] = self._value(field.type, table[key], where)
            elif field.required:
                self._fault(where, "is missing")
            else:
                values[field.name] = self._default(field)
        return values

    def _value(self, kind: Any, value: Any, path: str) -> Any:
        """Convert one value; tables and arrays are walked so that each of their faults has its own path."""
        kind = _without_none(kind)
        origin, args = typing.get_origin(kind), typing.get_args(kind)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self.table(kind, value, path)
        if origin is dict and args[0] in (str, OrganisationName) and isinstance(value, dict):
            places = {key: dotted(path, key) for key in value}
            return {self._value(args[0], k, places[k]): self._value(args[1], v, places[k]) for k, v in value.items()}
        if (origin is list or (origin is tuple and args[1:] == (...,))) and isinstance(value, list):
            return origin(self._value(args[0], v, f"{path}[{i}]") for i, v in enumerate(value))
        try:
            return msgspec.convert(value, kind, dec_hook=self._custom)
        except msgspec.ValidationError as error:
            message, place = _explain(error, kind, value, path)
            self._fault(path + place, message)
        except Exception as error:  # a type of a plugin's that msgspec knows no way with
            self._fault(path, _sentence(error))
        return None

    def _custom(self, kind: type[Any], value: Any) -> Any:
        if kind is Path:
            return path_from(value, self._directory)
        if kind is Secret and not self._secrets:
            return Secret.unread(value, self._directory)
        if kind is OrganisationName:
            return self._organisation(value)
        try:
            return kind.from_config(value, self._directory)
        except Exception as error:
            raise ValueError(_sentence(error)) from None

    def _organisation(self, value: Any) -> OrganisationName:
        known = self._organisations
        if not isinstance(value, str):
            raise ValueError(f"expected the name of an organisation, found {show(value)}")
        if known is not None and value not in known:
            raise ValueError(f"there is no organisation {show(value)}; {meant(value, known)}")
        return OrganisationName(value)

    def _default(self, field: msgspec.structs.FieldInfo) -> Any:
        default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
        return _resolved(default, self._directory)

    def _fault(self, path: str, message: str) -> None:
        self._problems.append(Problem(path, message))


def meant(name: str, known: Iterable[str], those: str = "known") -> str:
    """Which of the known names was probably meant, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(name[:80], known, 1)
    return f"did you mean {close[0]!r}?" if close else f"{those}: {', '.join(known) or 'none'}"


def dotted(path: str, key: str) -> str:
    """`path.key`, the key quoted where TOML asks for it."""
    if not _BARE_KEY.fullmatch(key):
        key = json.dumps(key if len(key) <= 80 else f"{key[:80]}…", ensure_ascii=not key.isprintable())
    return f"{path}.{key}" if path else key


def _resolved(value: Any, directory: Path) -> Any:
    """A default whose relative paths are relative to the config file, like written ones."""
    if isinstance(value, Path):
        return directory / value
    if isinstance(value, msgspec.Struct):
        return type(value)(**{name: _resolved(getattr(value, name), directory) for name in value.__struct_fields__})
    return value


def _without_none(kind: Any) -> Any:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        inner = [arg for arg in typing.get_args(kind) if arg is not type(None)]
        return inner[0] if len(inner) == 1 else kind
    return kind


def _explain(error: msgspec.ValidationError, kind: Any, value: Any, path: str) -> tuple[str, str]:
    """msgspec's message in the words of TOML, and the place below the value that it is about."""
    message, _, place = str(error).rpartition(" - at `$") if " - at `$" in str(error) else (str(error), "", "")
    place = place.rstrip("`")
    if isinstance(error.__cause__, ValueError):
        return str(error.__cause__), place
    if typing.get_origin(kind) is Literal:
        choices = ", ".join(json.dumps(arg) for arg in typing.get_args(kind))
        return f"expected one of {choices}, found {show(value)}", place  # what has a few values only is no secret
    expected, _, got = re.sub("^Invalid RFC3339 encoded (.*)", r"Expected `\1`", message).partition(", got ")
    words = re.sub(r"`([^`]*)`", lambda match: _in_words(match[1]), expected)
    if expected.startswith("Expected"):
        words += f", found {_in_words(got.strip('`')) if place else _show(path, value)}"
    return words[0].lower() + words[1:], place


def _in_words(names: str) -> str:
    return " or ".join(_WORDS.get(name, name) for name in names.split(" | "))


def _sentence(error: Exception) -> str:
    if isinstance(error, ValueError | TypeError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _show(path: str, value: Any) -> str:
    """What was found, without showing what might be a secret."""
    if isinstance(value, str) and any(_QUIET.fullmatch(word.lower()) for word in _WORD.findall(path)):
        return "a text"
    return show(value)
