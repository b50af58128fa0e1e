"""Values as they stand in a line: whatever a text holds, it can neither end the line nor steer a terminal."""

from __future__ import annotations

import json
import re

_PLAIN = re.compile(r"[ !#-\[\]-~]*")
_BARE = re.compile(r"[A-Za-z0-9_.:+*@/-]+")


def quoted(text: str) -> str:
    """A JSON string; escaped in it is all that does not print, line separators and text direction marks included."""
    if _PLAIN.fullmatch(text):
        return f'"{text}"'
    return json.dumps(text, ensure_ascii=not text.isprintable())


def bare(text: str) -> str:
    """The text as it is where it is one harmless word, else quoted."""
    return text if _BARE.fullmatch(text) else quoted(text)
