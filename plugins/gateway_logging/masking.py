"""What stays of a personal value in a line."""

from __future__ import annotations

import re

# Seven digits is the shortest number that reaches a person; separators as people write them, dashes of any length.
_BETWEEN = 5
_PHONE = re.compile(rf"\+?\d(?:[\s()\[\].\-\u2010-\u2015/]{{0,{_BETWEEN}}}\d){{6,}}")
# Ids are numbers too; those as long as a phone number with its country's code might be one.
_ID = re.compile(r"[\w-]+")
_PHONE_AS_ID = re.compile(rf"\d(?:-{{0,{_BETWEEN}}}\d){{9,14}}")
_KEPT = 3
_HIDDEN = "***"


def mask_digits(text: str) -> str:
    """The text with whatever looks like a phone number in it reduced to its last digits."""
    if len(text) < 7:
        return text
    return _PHONE.sub(_last_digits, text)


def mask_address(address: str) -> str:
    """The last digits of a phone number; of any other address nothing."""
    found = _PHONE.search(address)
    return _HIDDEN if found is None else _last_digits(found)


def mask_identifier(identifier: str) -> str:
    """The last characters of an identifier long enough to stay unguessable without them."""
    return _HIDDEN + identifier[-_KEPT:] if len(identifier) >= 8 else _HIDDEN


def mask_phone_as_id(identifier: str) -> str:
    """An id as it is, unless somebody took a phone number for one."""
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
