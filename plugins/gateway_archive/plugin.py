"""The plugin: collects events in memory, writes them in batches, and makes them durable at each checkpoint."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from gateway import Context, Event, ExclusivePath, Selector, hookimpl
from gateway_archive.lines import Item, place_and_line
from gateway_archive.store import ArchiveError, Store

_MOST_IN_MEMORY = 4 * 1024 * 1024
_ROOM = 64 * 1024 * 1024
_COMPRESS_EVERY = 600.0


class _Batch:
    """The events since the last checkpoint: by place, those not written yet.

    `rollbacks` is the store's count at the batch's first write: a later rollback may have removed lines of it."""

    def __init__(self) -> None:
        self.items: dict[str, list[Item]] = {}
        self.suspects: set[str] = set()
        self.bytes = 0
        self.rollbacks: int | None = None

    def take(self) -> tuple[dict[str, list[Item]], set[str]]:
        taken = self.items, self.suspects
        self.items, self.suspects, self.bytes = {}, set(), 0
        return taken


def _now() -> datetime:
    return datetime.now(UTC)


class ArchivePlugin:
    """Every event as received, once, in `{directory}/{organisation}/{hook}/{YYYY-MM-DD}.jsonl`. Where several gateways
    share a journal, each has a folder of its name in `directory`, with the events that it delivered.

    A call that the gateway gave up may still run, or wait for a disk that hangs, while its events are delivered again.
    Therefore an event is added to the batch before anything can block, a checkpoint writes its own batch only, and
    fails once a later one has begun."""

    class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """`directory` holds the files. With `compress`, past days become `.jsonl.zst`."""

        directory: Annotated[ExclusivePath, msgspec.Meta(description="The folder of the files, for this plugin alone.")]
        compress: Annotated[bool, msgspec.Meta(description="Whether the files of past days become .jsonl.zst.")] = False

    def __init__(self, config: Config, clock: Callable[[], datetime] = _now) -> None:
        self._config = config
        self._clock = clock
        self._lock = threading.Lock()
        self._batch = _Batch()
        self._store: Store | None = None
        self._stop = threading.Event()
        self._compressing = threading.Lock()
        self._compressor: threading.Thread | None = None

    @hookimpl
    def check(self) -> None:
        directory = self._config.directory.absolute()
        existing = next(path for path in (directory, *directory.parents) if os.path.lexists(path))
        if not existing.is_dir():
            raise ArchiveError(f"directory: {existing} is not a directory")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise ArchiveError(f"directory: {existing} is not writable for this user")
        room = os.statvfs(existing)
        if room.f_bavail * room.f_frsize < _ROOM:
            raise ArchiveError(f"directory: the disk of {existing} has less than {_ROOM // 2**20} MiB free")

    @hookimpl
    def startup(self, context: Context) -> None:
        directory = self._config.directory
        self._store = Store(directory if context.node is None else directory / context.node, context.log)
        self._batch = _Batch()
        self._stop.clear()
        if self._config.compress:
            name = f"{context.name}-compress"
            self._compressor = threading.Thread(target=self._keep_compressing, name=name, daemon=True)
            self._compressor.start()

    @hookimpl
    def shutdown(self) -> None:
        self._stop.set()
        if self._compressor is not None:
            self._compressor.join()
            self._compressor = None
        with self._compressing:
            if self._store is not None:
                self._store.close()
                self._store = None

    @hookimpl
    def on_event(self, event: Event) -> None:
        place, line = place_and_line(event)
        with self._lock:
            batch = self._batch
            items = batch.items.get(place)
            if items is None:
                items = batch.items[place] = []
            items.append((event.id, line, event.redelivered))
            if event.redelivered:
                batch.suspects.add(place)
            batch.bytes += len(line)
            full = batch.bytes > _MOST_IN_MEMORY
        if full:
            store = self._started()
            with store.lock:
                if batch is self._batch:
                    self._write(store, batch)

    @hookimpl
    def checkpoint(self) -> None:
        with self._lock:
            batch, self._batch = self._batch, _Batch()
            next_batch = self._batch
        store = self._started()
        with store.lock:
            if self._batch is not next_batch:
                raise ArchiveError("this checkpoint took too long, and another has begun")
            self._write(store, batch)
            store.sync()

    @hookimpl
    def forget(self, selector: Selector) -> int:
        """Erase the lines of these events, in every file; returns how many those were."""
        with self._compressing:
            return self._started().forget(selector.matches)

    def compress(self) -> None:
        """Compress past days. With `compress = true` a thread calls this every 10 minutes."""
        with self._compressing:
            self._started().compress_days_before(self._clock(), self._stop.is_set)

    def _write(self, store: Store, batch: _Batch) -> None:
        """Write the batch's events. The caller holds the store's lock."""
        with self._lock:
            items, suspects = batch.take()
        if batch.rollbacks is None:
            batch.rollbacks = store.rollbacks
        if batch.rollbacks != store.rollbacks:
            raise ArchiveError("a write failed since the last checkpoint, and lines were removed")
        for place, lines in items.items():
            store.write(place, lines, place in suspects)

    def _keep_compressing(self) -> None:
        while True:
            self.compress()
            if self._stop.wait(_COMPRESS_EVERY):
                return

    def _started(self) -> Store:
        if self._store is None:
            raise ArchiveError("the archive is not open")
        return self._store
