"""Masks personal values in a line."""

from __future__ import annotations

import re

# The shortest number that reaches a person has 7 digits. Separators are those that people write, and all dashes.
_BETWEEN = 5
_PHONE = re.compile(rf"\+?\d(?:[\s()\[\].\-\u2010-\u2015/]{{0,{_BETWEEN}}}\d){{6,}}")
# Ids may be numbers, too. One with as many digits as a phone number with a country code may be a phone number.
_ID = re.compile(r"[\w-]+")
_PHONE_AS_ID = re.compile(rf"\d(?:-{{0,{_BETWEEN}}}\d){{9,14}}")
_KEPT = 3
_HIDDEN = "***"


def mask_digits(text: str) -> str:
    """The text, with each phone number in it reduced to its last 3 digits."""
    if len(text) < 7:
        return text
    return _PHONE.sub(_last_digits, text)


def mask_address(address: str) -> str:
    """The last 3 digits of a phone number; `***` for any other address."""
    found = _PHONE.search(address)
    return _HIDDEN if found is None else _last_digits(found)


def mask_identifier(identifier: str) -> str:
    """The last 3 characters of an identifier with at least 8, else `***`."""
    return _HIDDEN + identifier[-_KEPT:] if len(identifier) >= 8 else _HIDDEN


def mask_phone_as_id(identifier: str) -> str:
    """An id, masked where it looks like a phone number."""
    if len(identifier) < 10:
        return identifier
    if _ID.fullmatch(identifier) is None:
        return mask_digits(identifier)
    found = _PHONE_AS_ID.fullmatch(identifier)
    return identifier if found is None else _last_digits(found)


def mask_message(text: str) -> str:
    """The length of a message."""
    return f"{len(text)} characters"


def _last_digits(found: re.Match[str]) -> str:
    tail = found[0][-_KEPT * (1 + _BETWEEN) :]
    return _HIDDEN + "".join(c for c in tail if c.isdigit())[-_KEPT:]
