"""The query string of a custom value request: which fields, of which customer."""

from __future__ import annotations

import re
from operator import itemgetter
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

MAX_PARAMS: Final = 64
MAX_NAME: Final = 128
MAX_KEY: Final = 256
MAX_QUERY: Final = 32 * 1024
"""Bounds: how many `paramN`, characters of a field's name, of a customer UID or address, bytes of the query."""

_PARAM = re.compile(rb"param([0-9]{0,9})")
_NUMBERS = {f"param{number}".encode(): number for number in range(1, MAX_PARAMS + 1)}
_by_number = itemgetter(0)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNESCAPED_PLUS = re.compile(r" [0-9][0-9 ()./-]*")


class Malformed(Exception):
    """The query string cannot be read; the message is a sentence that holds nothing of it."""


class Asked(NamedTuple):
    """What Webio asks: the fields' names as written, each once, in the order of their numbers."""

    names: tuple[str, ...]
    customer_uid: str | None
    address: str | None


def parse_query(query: bytes) -> Asked:
    """Read a query string; `Malformed` where it says nothing sure."""
    if len(query) > MAX_QUERY:
        raise Malformed(f"the query is longer than {MAX_QUERY} bytes")
    escaped = b"%" in query or b"+" in query
    params: list[tuple[int, str]] = []
    customer_uid = address = None
    for pair in query.split(b"&"):
        key, _, value = pair.partition(b"=")
        if escaped:
            key, value = _unescaped(key), _unescaped(value)
        key = key.lower()
        if key == b"customeruid":
            customer_uid = _same(customer_uid, _identity(value, "customerUID"), "customerUID")
        elif key == b"outboundchanneladdress":
            found = _identity(value, "outboundChannelAddress")
            if found is not None and _UNESCAPED_PLUS.fullmatch(found):
                found = f"+{found[1:]}"
            address = _same(address, found, "outboundChannelAddress")
        elif value and (number := _NUMBERS[key] if key in _NUMBERS else _number(key)) >= 0:
            params.append((number, _field(value)))
            if len(params) > MAX_PARAMS:
                raise Malformed(f"more than {MAX_PARAMS} params")
    if len(params) > 1:
        params.sort(key=_by_number)
    return Asked(tuple(dict.fromkeys([name for _, name in params])), customer_uid, address)


def _unescaped(raw: bytes) -> bytes:
    return unquote_to_bytes(raw.replace(b"+", b" "))


def _number(key: bytes) -> int:
    """The number of a `paramN`; -1 for any other key."""
    match = _PARAM.fullmatch(key)
    return -1 if match is None else int(match[1] or 0)


def _field(value: bytes) -> str:
    name = _text(value, "a param")
    if len(name) > MAX_NAME:
        raise Malformed(f"a param is longer than {MAX_NAME} characters")
    return name


def _text(value: bytes, what: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Malformed(f"{what} is not UTF-8") from None


def _identity(raw: bytes, what: str) -> str | None:
    """A customer UID or an address; absent, empty and `null` are all none."""
    value = _text(raw, what)
    bare = value.strip()
    if not bare or bare.lower() == "null":
        return None
    if len(value) > MAX_KEY:
        raise Malformed(f"{what} is longer than {MAX_KEY} characters")
    if not value.isprintable() and _CONTROL.search(value):
        raise Malformed(f"{what} holds a control character")
    return value


def _same(known: str | None, found: str | None, what: str) -> str | None:
    if known is None or found is None or known == found:
        return found if known is None else known
    raise Malformed(f"more than one {what}")
