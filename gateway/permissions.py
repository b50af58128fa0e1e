"""Files with secrets or customers' data that other users of the machine may read, and folders that they may write."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomli

from gateway.config.convert import Problem, dotted
from gateway.config.tables import Config


def exposed(config: Config) -> Iterator[Problem]:
    """A warning for each such file and folder. A link is followed; what does not exist is left out."""
    folders = {config.directory: "config"}
    document = tomli.loads(config.source.read_text(encoding="utf-8-sig"))
    for path, name in _file_references(document, ""):
        file = config.directory / name
        yield from _readable(path, file)
        folders.setdefault(file.parent, path)
    if config.server.tls is not None:
        yield from _readable("server.tls.key", config.server.tls.key)
        folders.setdefault(config.server.tls.key.parent, "server.tls.key")
    if config.journal.url is None:
        journal = config.journal.path
        for file in _files(journal):
            yield from _readable("journal.path", file)
        folders.setdefault(journal.parent, "journal.path")
    for folder, path in folders.items():
        yield from _writable(path, folder)


def _files(journal: Path) -> list[Path]:
    """The journal with its log, its lock and its copies: all files beside it whose names begin with its own."""
    try:
        return sorted(one for one in journal.parent.iterdir() if one.name.startswith(journal.name) and one.is_file())
    except OSError:
        return []


def _file_references(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every `{ file = "..." }` of the document, the way secrets are written, with its dotted path."""
    if isinstance(value, dict):
        if value.keys() == {"file"} and isinstance(value["file"], str):
            yield path, value["file"]
        for key, inner in value.items():
            if path == "plugins" and isinstance(inner, dict):  # its own `file` is code, which the loader checks
                inner = {name: one for name, one in inner.items() if name != "file"}
            yield from _file_references(inner, dotted(path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _file_references(inner, f"{path}[{index}]")


def _readable(path: str, file: Path) -> Iterator[Problem]:
    mode = _mode(file)
    if mode & 0o077:
        yield Problem(path, f"{file} can be read by others (mode {mode:04o}); `chmod 600` it")


def _writable(path: str, folder: Path) -> Iterator[Problem]:
    mode = _mode(folder)
    if mode & 0o022:
        message = f"others may put files into the folder {folder}, or replace those in it (mode {mode:04o})"
        yield Problem(path, f"{message}; `chmod go-w` it")


def _mode(place: Path) -> int:
    try:
        return stat.S_IMODE(place.stat().st_mode)
    except (OSError, ValueError):
        return 0  # an earlier level has reported that it cannot be read
