"""The output of the lines: standard output, standard error, or a file."""

from __future__ import annotations

import errno
import os
import select
import sys
from pathlib import Path
from typing import Any, Self

_STANDARD = {"stdout": 1, "stderr": 2}


class Output:
    """`stdout`, `stderr`, or the path of a file (relative to the config file)."""

    def __init__(self, name: str, path: Path | None) -> None:
        self.name = name
        self.path = path

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        if not isinstance(value, str) or not value:
            raise ValueError(f'expected "stdout", "stderr" or a path, found {value!r}')
        return cls(value, None if value in _STANDARD else directory / value)

    def __str__(self) -> str:
        return self.name if self.path is None else str(self.path)


class Stream:
    """An open output without a buffer. Not thread-safe.

    A file is made with mode 0600 and appended to. Where it was moved away or deleted, a new one is made."""

    def __init__(self, output: Output) -> None:
        self._path = output.path
        self._fd = _duplicate(output.name) if output.path is None else _open(output.path)
        self._torn = False

    def write(self, data: bytes) -> None:
        """Write whole lines. An `OSError` may leave an incomplete line; the next write then begins on a new line."""
        if self._path is not None:
            self._follow(self._path)
        view = memoryview(b"\n" + data if self._torn else data)
        try:
            while view:
                try:
                    written = os.write(self._fd, view)
                except BlockingIOError:  # the other side made the pipe non-blocking, and it is full
                    select.select([], [self._fd], [])
                    continue
                self._torn = view[written - 1] != 0x0A
                view = view[written:]
        finally:
            view.release()

    def close(self) -> None:
        os.close(self._fd)

    def _follow(self, path: Path) -> None:
        opened = os.fstat(self._fd)
        try:
            there = path.stat(follow_symlinks=False)
            moved = (there.st_dev, there.st_ino) != (opened.st_dev, opened.st_ino)
        except FileNotFoundError:
            moved = True
        if moved:
            fd = _open(path)
            os.close(self._fd)
            self._fd, self._torn = fd, False


def _duplicate(name: str) -> int:
    """A copy of the descriptor; `OSError` where the process was started without it: then its number is another file."""
    if getattr(sys, f"__{name}__") is None:
        raise OSError(errno.EBADF, f"{name} is closed")
    return os.dup(_STANDARD[name])


def _open(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(error.errno, "is a symbolic link, which may lead to any file; remove it", str(path)) from None
