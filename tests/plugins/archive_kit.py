"""What the archive's tests share: events, an archive to try, what stands in it, and a disk that fails or dies."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import zstandard
from gateway_archive import ArchivePlugin

from gateway import Context, Event

DAY = datetime(2026, 11, 22, 15, 54, 24, 123456, tzinfo=UTC)


def event(number: int, *, hook: str = "payment", day: int = 0, raw: bytes = b"", **fields: Any) -> Event:
    fields = {"organisation": "acme", "received_at": DAY + timedelta(days=day, milliseconds=number), **fields}
    raw = raw or b'{"type": "webioPayment", "number": %d}' % number
    return Event(id=f"01935498-0000-7000-8000-{number:012x}", hook=hook, payload=None, raw=raw, **fields)


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = DAY

    def __call__(self) -> datetime:
        return self.now


def new_archive(directory: Path, clock: Clock | None = None, **config: Any) -> ArchivePlugin:
    """An archive that has started."""
    plugin = ArchivePlugin(ArchivePlugin.Config(directory=directory, **config), clock or Clock())
    log = logging.getLogger("gateway.plugins.archive")
    plugin.startup(Context(name="archive", log=log, directory=directory.parent, organisations=("acme",)))
    return plugin


@contextmanager
def running(directory: Path, clock: Clock | None = None, **config: Any) -> Iterator[ArchivePlugin]:
    plugin = new_archive(directory, clock, **config)
    try:
        yield plugin
    finally:
        plugin.shutdown()


def deliver(plugin: ArchivePlugin, *events: Event) -> None:
    """One batch, as the gateway delivers it."""
    for one in events:
        plugin.on_event(one)
    plugin.checkpoint()


def text_of(path: Path) -> bytes:
    """The lines of a file of the archive, compressed or not."""
    data = path.read_bytes()
    if path.suffix == ".zst":
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read()
    return data


def files(directory: Path) -> dict[str, Path]:
    return {path.relative_to(directory).as_posix(): path for path in sorted(directory.glob("*/*/*"))}


def records(directory: Path, *, torn: bool = False) -> list[dict[str, Any]]:
    """Every line of the archive, after a look at whether each is one; `torn` last lines are no lines."""
    found = []
    for name, path in files(directory).items():
        if name.endswith((".jsonl", ".jsonl.zst")):
            text = text_of(path)
            assert torn or text.endswith(b"\n") or not text
            for line in text.splitlines(keepends=True):
                if line.endswith(b"\n"):
                    record = json.loads(line)
                    assert list(record) == ["id", "received_at", "organisation", "hook", "body"]
                    assert name.startswith(f"{record['organisation']}/{record['hook']}/{record['received_at'][:10]}.")
                    found.append(record)
    return found


def ids(directory: Path, *, torn: bool = False) -> Counter[str]:
    """How often each id stands in the archive."""
    return Counter(record["id"] for record in records(directory, torn=torn))


def each_once(*events: Event) -> Counter[str]:
    return Counter({one.id: 1 for one in events})


class Died(BaseException):
    """The process is gone: no code of it runs after this."""


class Disk:
    """Counts the calls that change the disk, and lets one of them go wrong.

    `fails_at=n`: that call (from 0) raises `error`, a write after half its bytes; later calls work again.
    `dies_at=n`: that call, and every later one, raises `Died`, a write after half its bytes."""

    CALLS = ("write", "fdatasync", "fsync", "ftruncate", "replace", "unlink", "mkdir")

    def __init__(self, *, fails_at: int = -1, dies_at: int = -1, error: int = errno.EIO, only: str = "") -> None:
        self.calls: list[str] = []
        self._fails_at = fails_at
        self._dies_at = dies_at
        self._error = error
        self._only = only
        self._real = {name: getattr(os, name) for name in self.CALLS}

    def __enter__(self) -> Disk:
        for name in self.CALLS:
            setattr(os, name, self._call(name))
        return self

    def __exit__(self, *_: object) -> None:
        for name, real in self._real.items():
            setattr(os, name, real)

    @property
    def happened(self) -> bool:
        """Whether the call that was to go wrong was made."""
        return len(self.calls) > max(self._fails_at, self._dies_at)

    def _call(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._only and name != self._only:
                return self._real[name](*args, **kwargs)
            number = len(self.calls)
            self.calls.append(name)
            failing, dead = number == self._fails_at, 0 <= self._dies_at <= number
            if (failing or number == self._dies_at) and name == "write":
                self._real["write"](args[0], bytes(args[1])[: len(args[1]) // 2])
            if dead:
                raise Died
            if failing:
                raise OSError(self._error, os.strerror(self._error))
            return self._real[name](*args, **kwargs)

        return call
