"""What searches compare of a body: the customer's address, and the words of a message. Both are looked for in the body
as received, so that a body that does not fit its hook is found, too. And what errors of one cause have in common."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any, Final

from gateway.json_text import parse_object
from gateway.plugin_host.place import without_message
from gateway.selector import address_key, body_address

_WORD: Final = re.compile(r"[^\W_]+")
_DIFFERS: Final = re.compile(r"""'[^']*'|"[^"]*"|(?<![\w…-])[\w…-]*[\d…][\w….,:-]*""")


def words(text: str) -> tuple[str, ...]:
    """The words of a text: its runs of letters and digits, without regard to case, accents and width."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text)
        text = "".join(character for character in text if not unicodedata.combining(character))
    return tuple(_WORD.findall(text.casefold()))


@lru_cache(16)
def wanted_words(text: str) -> tuple[tuple[str, bool], ...]:
    """The words that a search looks for, all of them. True marks the beginning of a word, which is written with `*` at
    its end."""
    return tuple(
        (word, index == len(found) - 1 and part.endswith("*"))
        for part in text.split()
        for found in (words(part),)
        for index, word in enumerate(found)
    )


@lru_cache(1024)
def error_key(error: str) -> str:
    """What errors of one cause have in common: the type and the place as they are, and the message with "…" for each
    word with a digit in it, such as a number or an identifier, and for each quoted text."""
    head = without_message(error)
    return head + _DIFFERS.sub("…", error[len(head) :])


def body_words(body: dict[str, Any]) -> tuple[str, ...]:
    """The words of the message in a decoded body."""
    text = body.get("body")
    return words(text) if type(text) is str else ()


def has_address(raw: bytes, address: str) -> bool:
    """Whether a body is of a message to or from this address of a customer."""
    key = address_key(address)
    return bool(key) and body_address(_parsed(raw)) == key


def has_words(raw: bytes, text: str) -> bool:
    """Whether the message of a body has all the words of `text`; false where that has no word."""
    wanted = wanted_words(text)
    if not wanted:
        return False
    found = set(body_words(_parsed(raw)))
    return all(
        any(word.startswith(looked_for) for word in found) if begins else looked_for in found
        for looked_for, begins in wanted
    )


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        return parse_object(raw)
    except ValueError:
        return {}
