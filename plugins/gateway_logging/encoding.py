"""Encodes values for a line, so that no text can end the line or control a terminal."""

from __future__ import annotations

import json
import re

_PLAIN = re.compile(r"[ !#-\[\]-~]*")
_BARE = re.compile(r"[A-Za-z0-9_.:+*@/-]+")


def quoted(text: str) -> str:
    """A JSON string. Characters that do not print are escaped, also line separators and marks of text direction."""
    if _PLAIN.fullmatch(text):
        return f'"{text}"'
    return json.dumps(text, ensure_ascii=not text.isprintable())


def bare(text: str) -> str:
    """The text unchanged where it is one plain word, else quoted."""
    return text if _BARE.fullmatch(text) else quoted(text)
