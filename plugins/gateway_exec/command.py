"""The command of the settings: a program and its arguments, without a shell."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Self


class Command:
    """A program and its arguments. A program with a slash in it is relative to the folder of the config file; any other
    is looked for on the PATH."""

    __slots__ = ("directory", "words")

    def __init__(self, words: tuple[str, ...], directory: Path) -> None:
        self.words = (str(directory / words[0]) if "/" in words[0] else words[0], *words[1:])
        self.directory = directory

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        whole = isinstance(value, list) and all(isinstance(word, str) and "\0" not in word for word in value)
        if not whole or not value or not value[0]:
            raise ValueError('expected a program and its arguments such as ["python3", "take.py"]')
        return cls(tuple(value), directory.absolute())

    def fault(self, path: str) -> str | None:
        """Why the program cannot be run with this PATH, or None."""
        program = self.words[0]
        if shutil.which(program, path=path) is not None:
            return None
        if "/" not in program:
            return f"there is no program {program} on the PATH ({path})"
        if not os.path.lexists(program):
            return f"{program} does not exist"
        return f"{program} is not a program that this user may run"

    def __repr__(self) -> str:
        return f"Command({list(self.words)!r})"
