"""Words for people: numbers with their noun, errors, and text that a terminal or a log can show."""

from __future__ import annotations

import re

_DIGITS = re.compile(r"\d{6,}")


def counted(number: int, noun: str) -> str:
    """`1 line`, `3 lines`; `no lines` for 0."""
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def lasting(seconds: float) -> str:
    """A duration in its two largest units: `1.5 s`, `45 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for name, unit, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // part} {smaller}"
    return f"{whole} s"


def printable(text: str) -> str:
    """`text` on one line, with U+FFFD for each character that does not print, such as those that control a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def describe(error: BaseException, most: int | None = 200) -> str:
    """An error's type and message for the operator, of at most `most` characters, with long runs of digits (phone
    numbers) taken out."""
    name = type(error).__name__
    try:
        text = str(error).encode(errors="replace").decode()
    except BaseException:  # a plugin's exception may raise here, too
        return name
    text = _DIGITS.sub("…", " ".join(text.split()))
    return f"{name}: {text[:most]}" if text else name
