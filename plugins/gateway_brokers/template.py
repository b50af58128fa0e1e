"""Where an event is sent, as a text with `{organisation}` and `{hook}` in it."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Final, Self

from gateway import Event

_PLACE: Final = re.compile(r"\{([^{}]*)\}")
_NAMES: Final = ("organisation", "hook")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]")


class Template:
    """Such as `webio.{organisation}.{hook}`. In the two names, which come from the config, each character but letters,
    digits, `_` and `-` becomes `_`: a name is one word of a subject, whatever its broker separates words with.

    A subclass says what its broker allows: `allowed` matches all of the text, `{organisation}` and `{hook}` replaced;
    `example` is such a text, and `longest` its length in characters."""

    allowed: ClassVar[re.Pattern[str]] = re.compile(r"[^\x00-\x20\x7f]+")
    example: ClassVar = "webio.{organisation}.{hook}"
    longest: ClassVar = 200

    def __init__(self, text: str) -> None:
        """`ValueError` with a sentence where `text` is not such a text."""
        for name in _PLACE.findall(text):
            if name not in _NAMES:
                raise ValueError(f"{{{name}}} is not known; {{organisation}} and {{hook}} are")
        filled = _PLACE.sub("x", text)
        if not self.allowed.fullmatch(filled) or "{" in filled or "}" in filled or len(text) > self.longest:
            raise ValueError(f'expected a text such as "{self.example}", of at most {self.longest} characters')
        self._text = text
        self._fill = lru_cache(maxsize=1024)(self._filled)

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        if not isinstance(value, str):
            raise ValueError(f'expected a text such as "{cls.example}"')
        return cls(value)

    @property
    def varies(self) -> bool:
        """Whether it is not the same for every event."""
        return _PLACE.search(self._text) is not None

    def of(self, event: Event) -> str:
        """The text for this event."""
        return self._fill(event.organisation, event.hook)

    def __str__(self) -> str:
        return self._text

    def pattern(self, wildcard: str) -> str:
        """The text with `wildcard` in place of each name."""
        return _PLACE.sub(lambda _: wildcard, self._text)

    def _filled(self, organisation: str, hook: str) -> str:
        names = {"organisation": organisation, "hook": hook}
        return _PLACE.sub(lambda found: _UNSAFE.sub("_", names[found[1]]), self._text)
