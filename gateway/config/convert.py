"""Converts a TOML table into a struct and finds all of its faults at once.

msgspec stops at the first fault. This walks tables and arrays itself and collects a `Problem` for each fault.
"""

from __future__ import annotations

import difflib
import json
import re
import typing
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from gateway.config.annotations import bare
from gateway.config.field_types import OrganisationName, Secret, path_from, show

T = TypeVar("T")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,80}", re.ASCII)
_KEY = re.compile(r"(([A-Za-z0-9_-]+)(?:\[\d+\]|\.[A-Za-z0-9_-]+|\.\"[^\"]*\")*): ")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_QUIET = re.compile(
    r".*(passw(or)?d|pwd|passphrase|secret|token|key|credential|auth|url|dsn)s?|authorization|bearer|cookie"
)
_WORDS = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "array": "an array",
    "object": "a table",
    "datetime": "a date and time",
    "date": "a date",
    "time": "a time",
}


class Problem(msgspec.Struct, frozen=True):
    """A fault or a warning: the dotted path in the config, and a sentence."""

    path: str
    message: str


class ConfigError(Exception):
    """The configuration cannot be used. `problems` has every fault that was found."""

    def __init__(self, source: Path, problems: list[Problem]) -> None:
        self.source = source
        self.problems = problems
        super().__init__("\n".join(f"{source}: {p.path}: {p.message}" for p in problems))


class TableReader:
    """Reads tables into structs, and appends every fault to `problems`. Relative paths are relative to `directory`.
    With `secrets=False` secrets stay unread (`Secret.unread`). An `OrganisationName` must be one of `organisations`,
    unless that is None."""

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
        """Build `kind` (a msgspec struct) from `table`; None where the table has a fault. `besides` are further keys
        for the message about an unknown key."""
        before = len(self._problems)
        values = self.fields(kind, table, path, besides)
        if len(self._problems) > before:
            return None
        try:
            return kind(**values)
        except Exception as error:  # a plugin's own __post_init__ may raise anything
            for one in each(error):
                self._problems.append(placed(path, _sentence(one), kind))
            return None

    def sound_part(self, kind: type[T], table: Any) -> T:
        """Build `kind`, in which every field must have a default, from a table with faults: a field with a fault gets
        its default, and a table of named tables loses those with a fault. No fault is reported again."""
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
        """The values of `kind`'s fields by name. A value with a fault is None, inside tables and arrays too."""
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
        """Convert one value. Tables and arrays are walked, so that each fault in them has its own path."""
        kind = bare(kind)
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
        except Exception as error:  # msgspec cannot convert to a type that a plugin uses
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
            raise ValueError(f"unknown organisation {show(value)}; {meant(value, known)}")
        return OrganisationName(value)

    def _default(self, field: msgspec.structs.FieldInfo) -> Any:
        default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
        return _resolved(default, self._directory)

    def _fault(self, path: str, message: str) -> None:
        self._problems.append(Problem(path, message))


def each(error: Exception) -> Iterator[Exception]:
    """The exceptions of a group, or the one exception."""
    if isinstance(error, ExceptionGroup):
        for inner in error.exceptions:
            yield from each(inner)
    else:
        yield error


def placed(path: str, sentence: str, kind: Any) -> Problem:
    """A problem of the table at `path`, which is a `kind` (a msgspec struct). A sentence that begins with one of its
    keys and a colon, such as `queries[0].sql: ...`, is a problem of that key."""
    found = _KEY.match(sentence)
    if found is not None and found[2] in {field.encode_name for field in msgspec.structs.fields(kind)}:
        return Problem(f"{path}.{found[1]}" if path else found[1], sentence[found.end() :])
    return Problem(path, sentence)


def meant(name: str, known: Iterable[str], what: str = "known") -> str:
    """A hint for a wrong name: the known name that is close to it, else all of them, which are `what`."""
    known = list(known)
    close = difflib.get_close_matches(name[:80], known, 1)
    return f"did you mean {show(close[0])}?" if close else f"{what}: {', '.join(known) or 'none'}"


def dotted(path: str, key: str) -> str:
    """`path.key`, with the key in quotes where TOML needs them."""
    if not _BARE_KEY.fullmatch(key):
        key = json.dumps(key if len(key) <= 80 else f"{key[:80]}…", ensure_ascii=not key.isprintable())
    return f"{path}.{key}" if path else key


def _resolved(value: Any, directory: Path) -> Any:
    """A default. Its relative paths are relative to the config file, as those in the file are."""
    if isinstance(value, Path):
        return directory / value
    if isinstance(value, msgspec.Struct):
        return type(value)(**{name: _resolved(getattr(value, name), directory) for name in value.__struct_fields__})
    return value


def _explain(error: msgspec.ValidationError, kind: Any, value: Any, path: str) -> tuple[str, str]:
    """msgspec's message in TOML's words, and where in the value the fault is, such as `[1]`."""
    message, _, place = str(error).rpartition(" - at `$") if " - at `$" in str(error) else (str(error), "", "")
    place = place.rstrip("`")
    if isinstance(error.__cause__, ValueError):
        return str(error.__cause__), place
    if typing.get_origin(kind) is Literal:
        choices = ", ".join(json.dumps(arg) for arg in typing.get_args(kind))
        return f"expected one of {choices}, found {show(value)}", place  # never a secret, so it may be shown
    expected, _, got = re.sub("^Invalid RFC3339 encoded (.*)", r"Expected `\1`", message).partition(", got ")
    words = re.sub(r"`([^`]*)`", lambda match: _in_words(match[1]), expected)
    if expected.startswith("Expected"):
        found = _in_words(got.strip("`")) if place else _show(path, value)
        words += f", found {found if got else found.removesuffix(' (a number)')}"  # without `got` the type is right
    return words[0].lower() + words[1:].replace("timezone component", "time zone"), place


def _in_words(names: str) -> str:
    return " or ".join(_WORDS.get(name, name) for name in names.split(" | "))


def _sentence(error: Exception) -> str:
    if isinstance(error, ValueError | TypeError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _show(path: str, value: Any) -> str:
    """The value for a message, or only its kind where the path says that it may be a secret."""
    if isinstance(value, str) and any(_QUIET.fullmatch(word.lower()) for word in _WORD.findall(path)):
        return "a string"
    return show(value)
