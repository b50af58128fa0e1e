"""The types of `format` and `pattern` in the config: how a custom value is written, and what it must look like.

A format has one number placeholder or the plain directives of strftime. It cannot use the rest of Python's format
language, which reaches attributes and items of the value.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, tzinfo
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, Self

from gateway.config.field_types import show
from gateway.config.regex import Regex

_AROUND = r"((?:[^{}%]|%(?![A-Za-z-]))*)"  # any text that is not half a date format
_NUMBER = re.compile(_AROUND + r"\{:(,?)(?:\.(\d{1,2})f|(d))\}" + _AROUND)
_DIRECTIVE = re.compile(r"%(-?.)", re.DOTALL)
_DATE: Final = frozenset("YymdBbAaj%") | {"-d", "-m"}
_TIME: Final = frozenset("HIMSp") | {"-H", "-I"}
_PLAIN_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)", re.ASCII)
_DIGITS: Final = 64
_MOST_PLACES: Final = 30
_EXAMPLES: Final = 'expected a number format such as "{:.2f}" or "{:,.2f}", or a date format such as "%d/%m/%Y"'


class Format:
    """`"{:.2f}"`, `"{:,.2f}"` or `"{:,d}"` with text around it, for numbers; strftime's `"%d/%m/%Y"`, for dates."""

    __slots__ = ("_number", "_timed", "source")

    def __init__(self, source: str) -> None:
        """`ValueError` with a sentence for any other format."""
        self.source = source
        self._number = _NUMBER.fullmatch(source)
        self._timed = False
        if self._number is not None and int(self._number[3] or 0) > _MOST_PLACES:
            raise ValueError(f"expected at most {_MOST_PLACES} digits after the point, found {show(source)}")
        if self._number is None:
            directives = _DIRECTIVE.findall(source)
            if "{" in source or "}" in source or not directives or "%" in _DIRECTIVE.sub("", source):
                raise ValueError(f"{_EXAMPLES}, found {show(source)}")
            unknown = sorted(set(directives) - _DATE - _TIME)
            if unknown:
                raise ValueError(f"%{unknown[0]} is not a date directive that a format may use; {_EXAMPLES}")
            self._timed = not _TIME.isdisjoint(directives)

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        if not isinstance(value, str):
            raise ValueError(f"{_EXAMPLES}, found {show(value)}")
        return cls(value)

    def write(self, value: object, zone: tzinfo) -> str:
        """`value` (a number or a date, or a string of one) in this format. `ValueError` for any other value. A time in
        UTC is written in `zone`; a time with another offset is written as it is."""
        return self._as_date(value, zone) if self._number is None else self._as_number(value, self._number)

    def _as_number(self, value: object, parts: re.Match[str]) -> str:
        before, comma, places, _, after = parts.groups()
        number = _number(value)
        try:
            exact = number.quantize(Decimal(1).scaleb(-int(places or 0)), context=_ROUNDING)
        except InvalidOperation:
            raise ValueError("the number has too many digits") from None
        return f"{before}{without_negative_zero(exact):{comma}f}{after}"

    def _as_date(self, value: object, zone: tzinfo) -> str:
        if isinstance(value, str):
            value = datetime.fromisoformat(value) if len(value) > 10 else date.fromisoformat(value)
        if not isinstance(value, date) or (self._timed and not isinstance(value, datetime)):
            raise ValueError("the value is not a date, or has no time of day")
        if isinstance(value, datetime) and value.utcoffset() == timedelta(0):
            value = value.astimezone(zone)
        return value.strftime(self.source)

    def __repr__(self) -> str:
        return f"Format({self.source!r})"


_ROUNDING = Context(prec=_DIGITS, rounding=ROUND_HALF_UP)


def without_negative_zero(number: Decimal) -> Decimal:
    """The number; 0 with the same number of decimal places for -0."""
    return number or number.copy_abs()


def _number(value: object) -> Decimal:
    if isinstance(value, str):
        if len(value) <= _DIGITS and _PLAIN_NUMBER.fullmatch(value):
            return Decimal(value)
    elif isinstance(value, Decimal):
        if value.is_finite():
            return value
    elif isinstance(value, float):
        return _number(Decimal(repr(value)))
    elif isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    raise ValueError("the value is not a number")


class Pattern:
    """A regular expression that the whole value must match; see `Regex`."""

    __slots__ = ("_regex", "source")

    def __init__(self, source: str) -> None:
        """`ValueError` with a sentence where `source` cannot be used."""
        self.source = source
        self._regex = Regex(source)

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        if not isinstance(value, str) or not value:
            raise ValueError(f'expected a regular expression such as "[0-9]+", found {show(value)}')
        return cls(value)

    def matches(self, text: str) -> bool:
        """Whether the whole value matches. `ValueError` with a sentence where that would take too long."""
        return self._regex.matches(text)

    def __repr__(self) -> str:
        return f"Pattern({self.source!r})"
