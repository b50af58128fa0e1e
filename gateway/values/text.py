"""A provider's value as the text that the bot gets."""

from __future__ import annotations

import math
import re
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from gateway.config.formats import without_negative_zero

MAX_TEXT: Final = 4096
"""Characters of one value; a longer one is a failure of its provider."""
_ZERO_DATE = re.compile(r"0000-00-00(?:[ T]00:00:00(?:\.0+)?)?")
_INFINITE: Final = frozenset({date.min, date.max, datetime.min, datetime.max})


class BadValue(Exception):
    """A provider returned something that is not a value. The message never contains it."""


def as_text(value: object) -> str:
    """The text of a provider's value (not None): decimals plain and exact, dates ISO 8601. Raises `BadValue`, also for
    what drivers return where a column holds no date: the earliest or latest date for infinity, a text for zero."""
    if type(value) is str:
        text = value
    elif isinstance(value, str):
        text = str.__str__(value)
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, Decimal):
        text = _plain(value)
    elif isinstance(value, int):
        if value.bit_length() > MAX_TEXT * 3:
            raise BadValue("a number that is too long")
        text = int.__repr__(value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise BadValue("a number that is not finite")
        text = _plain(Decimal(float.__repr__(value)))
    elif isinstance(value, date):
        if (value.replace(tzinfo=None) if isinstance(value, datetime) else value) in _INFINITE:
            raise BadValue("a date that is not finite")
        text = value.isoformat()
    else:
        raise BadValue(f"a value of type {type(value).__name__}")
    if len(text) > MAX_TEXT:
        raise BadValue(f"a value longer than {MAX_TEXT} characters")
    if text.startswith("0000-00-00") and _ZERO_DATE.fullmatch(text):
        raise BadValue("a zero date")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadValue("a text that is not valid Unicode") from None
    return text


def _plain(value: Decimal) -> str:
    if not value.is_finite():
        raise BadValue("a number that is not finite")
    exponent = value.as_tuple().exponent
    if abs(value.adjusted()) > MAX_TEXT or (isinstance(exponent, int) and abs(exponent) > MAX_TEXT):
        raise BadValue("a number that is too long")
    return format(without_negative_zero(value), "f")
