"""JSON text as Webio sends it: decoded exactly, or brought onto one line without a change to any token."""

from __future__ import annotations

import codecs
import re
from decimal import Decimal
from typing import Any, Final

import msgspec

BOM: Final = codecs.BOM_UTF8
"""A byte order mark. A body may begin with it; it is not part of the JSON text."""
MAX_DEPTH: Final = 500
"""How deep a body may nest: less than any interpreter's stack, so that what was accepted stays readable everywhere."""
_TOO_DEEP: Final = f"the body is nested deeper than {MAX_DEPTH} levels"


def _number(text: str) -> Decimal:
    """Read a JSON number exactly; `ValueError` for one outside the range of a float (1e999), as other parsers do."""
    value = Decimal(text)
    if float(text) in (float("inf"), float("-inf")):
        raise ValueError("number out of range")
    return value


# a whole pair, a half of one, or any other escape (which may be a backslash before the letter u)
_ESCAPE = re.compile(
    rb"\\(?:u([dD][89abAB][0-9a-fA-F]{2})(?:\\u([dD][c-fC-F][0-9a-fA-F]{2}))?|u([dD][c-fC-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_any_decoder = msgspec.json.Decoder(float_hook=_number)


def parse_object(raw: bytes) -> dict[str, Any]:
    """Decode a JSON object; `ValueError` with a sentence for anything else."""
    text = raw.removeprefix(BOM)
    try:
        value = _decode(text)
    except ValueError:
        whole = whole_characters(text)
        if whole == text:
            raise
        value = _decode(whole)
    if type(value) is not dict:
        raise ValueError("the body is valid JSON, but not an object")
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and deeper_than(value, MAX_DEPTH):
        raise ValueError(_TOO_DEEP)
    return value


def _decode(text: bytes) -> Any:
    try:
        return _any_decoder.decode(text)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    except (msgspec.ValidationError, ArithmeticError) as error:
        raise ValueError("the body contains a number outside the range of a float") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise ValueError("the body is not valid JSON") from error


def whole_characters(text: bytes) -> bytes:
    """JSON text with U+FFFD for each half of a surrogate pair. Senders that cut an emoji in two make such halves. The
    text is valid JSON, but msgspec does not decode it; the event keeps the text as received."""
    return _ESCAPE.sub(_whole_character, text)


def _whole_character(match: re.Match[bytes]) -> bytes:
    high, low, single = match.groups()
    if high is not None and low is not None:
        return match[0]
    return match[0] if high is None and single is None else b"\\ufffd"


def deeper_than(value: Any, levels: int) -> bool:
    """Whether decoded JSON has more than this many objects and arrays inside one another."""
    layer = [value]
    for _ in range(levels + 1):
        containers = [item for item in layer if type(item) is dict or type(item) is list]
        if not containers:
            return False
        layer = [inner for outer in containers for inner in (outer.values() if type(outer) is dict else outer)]
    return True


def one_line(raw: bytes) -> bytes:
    """Bring JSON text onto one line. A raw line break in valid JSON can only stand between tokens."""
    raw = raw.removeprefix(BOM)
    if b"\n" in raw or b"\r" in raw:
        raw = raw.replace(b"\r", b" ").replace(b"\n", b" ")
    return raw.strip()
