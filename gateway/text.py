"""Words for people: numbers with their noun, and text that a terminal or a log can show."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """`1 line`, `3 lines`; `no lines` for 0."""
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """`text` on one line, with U+FFFD for each character that does not print, such as those that control a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
