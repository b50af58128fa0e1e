"""JSON text as Webio sends it: decoded exactly, or brought onto one line without a change to any token."""

from __future__ import annotations

import codecs
import re
from decimal import Decimal
from typing import Any, Final

import msgspec

from gateway.large_bodies import LARGE, decode_in_pieces, no_collections

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


# half of a surrogate pair, in text without escaped backslashes
_HALF = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F][0-9a-fA-F]{2})"
)
_STRIDE: Final = 2**16
_PAIR: Final = len(rb"\ud83d\ude00")
_any_decoder = msgspec.json.Decoder(float_hook=_number)


def parse_object(raw: bytes) -> dict[str, Any]:
    """Decode a JSON object; `ValueError` with a sentence for anything else."""
    if len(raw) <= LARGE:
        return _object(raw)
    with no_collections():
        return _object(raw)


def _object(raw: bytes) -> dict[str, Any]:
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
        if len(text) <= LARGE:
            return _any_decoder.decode(text)
        return decode_in_pieces(text, _any_decoder.decode)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    except (msgspec.ValidationError, ArithmeticError) as error:
        raise ValueError("the body contains a number outside the range of a float") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise ValueError("the body is not valid JSON") from error


def whole_characters(text: bytes) -> bytes:
    """JSON text with U+FFFD for each half of a surrogate pair. Senders that cut an emoji in two make such halves. The
    text is valid JSON, but msgspec does not decode it; the event keeps the text as received."""
    if b"\\u" not in text or b"\0" in text:  # JSON text holds no NUL
        return text
    masked = text.replace(b"\\\\", b"\0\0")
    whole = bytearray(masked)
    for start in range(0, len(masked), _STRIDE):  # one search of the whole text would keep the interpreter's lock
        for half in _HALF.finditer(masked, start, start + _STRIDE + _PAIR):
            if half.start() < start + _STRIDE:
                whole[half.start() : half.start() + 6] = b"\\ufffd"
    return bytes(whole.replace(b"\0\0", b"\\\\"))


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
