"""JSON pointers (RFC 6901): the place of a field in a document."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, Self

MISSING: Final = object()
_VALID = re.compile(r"(/([^~]|~[01])*)?", re.DOTALL)
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


class Pointer:
    """`"/account/balance"`, `"/phones/0"`; `""` is the whole document; `~1` is a slash in a key, `~0` a tilde."""

    __slots__ = ("_steps",)

    def __init__(self, source: str) -> None:
        """`ValueError` with a sentence where `source` is not a JSON pointer."""
        if not _VALID.fullmatch(source):
            raise ValueError('expected a JSON pointer such as "/account/balance"')
        self._steps = [step.replace("~1", "/").replace("~0", "~") for step in source.split("/")[1:]]

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        if not isinstance(value, str):
            raise ValueError('expected a JSON pointer such as "/account/balance"')
        return cls(value)

    def find(self, document: Any) -> Any:
        """The value at this place, or `MISSING`."""
        for step in self._steps:
            if isinstance(document, dict):
                document = document.get(step, MISSING)
            elif isinstance(document, list) and _INDEX.fullmatch(step) and int(step) < len(document):
                document = document[int(step)]
            else:
                return MISSING
        return document
