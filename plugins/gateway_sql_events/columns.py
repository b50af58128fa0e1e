"""Further columns of the table, whose values are fields of the payload."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Self

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_NUMBER: Final = re.compile(r"[+-]?\d{1,100}(\.\d{1,100})?", re.ASCII)
_TYPES: Final = ("text", "integer", "decimal", "boolean")
_LARGEST: Final = 2**63
_WORDS: Final = {str: "text", bool: "true or false", dict: "an object", list: "an array"}


class DoesNotFit(Exception):
    """A value cannot be that of its column. The message does not have the value."""


def is_identifier(name: str) -> bool:
    """Whether this may be the name of a column."""
    return _IDENTIFIER.fullmatch(name) is not None


class TableName(str):
    """The name of a table, after its schema where it is not the default one."""

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        parts = value.split(".") if isinstance(value, str) else []
        if not 1 <= len(parts) <= 2 or not all(map(_IDENTIFIER.fullmatch, parts)):
            raise ValueError('expected the name of a table, such as "webio_events" or "crm.webio_events"')
        return cls(value)

    @property
    def schema(self) -> str | None:
        return self.rpartition(".")[0] or None

    @property
    def table(self) -> str:
        return self.rpartition(".")[2]


class PayloadField:
    """A field of the payload by Webio's own name, such as `"payload.amount"`, and the type of its column: text, or
    what follows, as in `"payload.amount decimal"`. Fields of objects in it follow after further dots."""

    def __init__(self, path: tuple[str, ...], type: str) -> None:
        self.path = path
        self.type = type

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        example = f'expected a field and a type of {", ".join(_TYPES)}, such as "payload.amount decimal"'
        if not isinstance(value, str):
            raise ValueError(example)
        field, _, type_ = value.strip().partition(" ")
        start, *path = field.split(".")
        type_ = type_.strip() or "text"
        if start != "payload" or not path or not all(path) or type_ not in _TYPES:
            raise ValueError(example)
        return cls(tuple(path), type_)

    def __str__(self) -> str:
        return ".".join(("payload", *self.path))

    def of(self, fields: dict[str, Any]) -> Any:
        """The value in a body; None where it has none. `DoesNotFit` where it has another type."""
        value: Any = fields
        for name in self.path:
            value = value.get(name) if isinstance(value, dict) else None
        if value is None:
            return None
        found = getattr(self, f"_{self.type}")(value)
        if found is None:
            raise DoesNotFit(f"{self}: expected {self.type}, found {_WORDS.get(type(value), 'a number')}")
        return found

    def _text(self, value: Any) -> str | None:
        if isinstance(value, bool):
            return "true" if value else "false"
        return None if isinstance(value, dict | list) else str(value)

    def _decimal(self, value: Any) -> Decimal | None:
        if isinstance(value, str):
            return Decimal(value) if _NUMBER.fullmatch(value) else None
        return Decimal(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else None

    def _integer(self, value: Any) -> int | None:
        number = self._decimal(value)
        if number is None or number != number.to_integral_value() or not -_LARGEST <= number < _LARGEST:
            return None
        return int(number)

    def _boolean(self, value: Any) -> bool | None:
        return value if isinstance(value, bool) else {"true": True, "false": False}.get(value)
