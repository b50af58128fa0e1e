"""The engines that the conformance suite runs over, each with a journal in a folder of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import msgspec
from journal_kit import ACME, WAIT, Clock, FaultyFiles, broken, config_of, full, message
from schemas import Schema

from gateway.config.field_types import Duration
from gateway.config.tables import Config, HookSettings
from gateway.events import Event
from gateway.journal.interface import (
    EVERY_HOOK,
    Filter,
    Journal,
    Parked,
    Receipt,
    ReplayProgress,
    Settlement,
    Standing,
    Track,
)
from gateway.journal.memory import MemoryJournal
from gateway.journal.memory_store import Store
from gateway.journal.operator import StoredOperation
from gateway.journal.postgresql.journal import PostgresqlJournal
from gateway.journal.sqlite.journal import SqliteJournal


class Engine:
    """One engine and one journal's storage. `open` starts a gateway's journal on it; the clock is moved by hand."""

    limits_size = True
    """Whether `journal.max_size` applies."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self._directory = directory
        self._config: Config | None = None
        self._open: list[Journal] = []

    def configure(self, **settings: str) -> None:
        """Settings of the [journal] table, before the first `open`."""
        self._config = config_of(self._directory, **settings)

    def know(self, hook: str, *types: str) -> None:
        """From the next `open` on, the config has further spellings of `type` for a hook."""
        self._config = msgspec.structs.replace(self.config, hooks={hook: HookSettings(types=types)})

    def keep(self, **retention: float) -> None:
        """From the next `open` on, the events of these hooks (with `_` for `-`) are kept for so many seconds."""
        hooks = {name.replace("_", "-"): HookSettings(retention=Duration(value)) for name, value in retention.items()}
        self._config = msgspec.structs.replace(self.config, hooks=hooks)

    @property
    def config(self) -> Config:
        self._config = self._config or config_of(self._directory)
        return self._config

    async def open(self) -> Journal:
        """A started journal; closed at the end of the test unless it was closed before."""
        journal = self._make()
        await journal.start()
        self._open.append(journal)
        return journal

    async def close(self, journal: Journal) -> None:
        self._open.remove(journal)
        await journal.close()

    async def close_all(self) -> None:
        for journal in list(self._open):
            await self.close(journal)

    def _make(self) -> Journal:
        raise NotImplementedError

    async def fill_disk(self) -> None:
        """Leave no room for a write."""
        raise NotImplementedError

    async def make_room(self) -> None:
        """Undo `fill_disk`."""
        raise NotImplementedError

    async def break_disk(self, journal: Journal) -> None:
        """Have a commit of this journal fail, with an outcome that is unknown."""
        raise NotImplementedError


class SqliteEngine(Engine):
    """SQLite on a file system that fails where it is told to."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._files = FaultyFiles()

    def _make(self) -> Journal:
        return SqliteJournal(self.config, clock=self.clock, vfs=self._files.name)

    async def fill_disk(self) -> None:
        self._files.failing["write", "-wal"] = full()

    async def make_room(self) -> None:
        self._files.failing.clear()

    async def break_disk(self, journal: Journal) -> None:
        self._files.failing["sync", "-wal"] = broken()
        await asyncio.gather(put(journal, message()), return_exceptions=True)
        self._files.failing.clear()


class MemoryEngine(Engine):
    """The journal in memory."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._store = Store()
        self._made: list[MemoryJournal] = []

    def _make(self) -> Journal:
        journal = MemoryJournal(self.config, clock=self.clock, store=self._store)
        self._made.append(journal)
        return journal

    async def fill_disk(self) -> None:
        for journal in self._made:
            journal.full = True

    async def make_room(self) -> None:
        for journal in self._made:
            journal.full = False

    async def break_disk(self, journal: Journal) -> None:
        assert isinstance(journal, MemoryJournal)
        journal.fail()


class PostgresqlEngine(Engine):
    """A schema of its own in the machine's PostgreSQL, where an operator watches the size."""

    limits_size = False

    def __init__(self, directory: Path, server: str | None = None) -> None:
        super().__init__(directory)
        self._schema = Schema(server)

    def configure(self, **settings: str) -> None:
        super().configure(url=self._schema.url, **settings)

    @property
    def config(self) -> Config:
        if self._config is None:
            self.configure()
        return super().config

    async def close_all(self) -> None:
        await super().close_all()
        self._schema.drop()

    @property
    def schema(self) -> str:
        """The schema's name."""
        return self._schema.name

    async def execute(self, *statements: str) -> None:
        """Run statements in the database."""
        await self._schema.change(*statements)

    def _make(self) -> Journal:
        return PostgresqlJournal(self.config, clock=self.clock)

    async def fill_disk(self) -> None:
        await self._schema.fill()

    async def make_room(self) -> None:
        await self._schema.make_room()

    async def break_disk(self, journal: Journal) -> None:
        async with self._schema.holding_appends() as held:
            appended = put(journal, message())
            [(made,)] = await held.connection.fetch("SELECT journal FROM gateway_journal")
            await held.connection.execute("UPDATE gateway_journal SET journal = gen_random_uuid()")
            await held.end()
        await asyncio.gather(appended, return_exceptions=True)
        await self._schema.change(f"UPDATE gateway_journal SET journal = '{made}'")


ENGINES = {"sqlite": SqliteEngine, "memory": MemoryEngine, "postgresql": PostgresqlEngine}


def put(journal: Journal, raw: bytes, organisation: str = ACME, hook: str | None = None) -> asyncio.Future[Receipt]:
    """Decode a body and append it, as the receiver does."""
    return journal.append(organisation, journal.decoder.decode(organisation, raw, hook), raw)


async def fill(journal: Journal, count: int, **fields: str) -> list[str]:
    """Append new events; their ids."""
    return [receipt.id for receipt in await asyncio.gather(*(put(journal, message(**fields)) for _ in range(count)))]


async def events_in(journal: Journal, which: Filter | None = None) -> list[Event]:
    """All events that a filter matches, in order."""
    return [event for _, event in await journal.scan(which or Filter(), 0, journal.newest, 10**6)]


async def ids_in(journal: Journal, which: Filter | None = None) -> list[str]:
    return [event.id for event in await events_in(journal, which)]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what a journal does by itself."""
    async with asyncio.timeout(WAIT):
        while not condition():
            await asyncio.sleep(0.005)


async def until_left(journal: Journal, count: int) -> list[str]:
    """Wait until at most this many events are in the journal; their ids."""
    async with asyncio.timeout(WAIT):
        while len(left := await ids_in(journal)) > count:
            await asyncio.sleep(0.005)
    return left


class Owner:
    """The owner of a plugin's cursor."""

    def __init__(self, journal: Journal, track: Track, standing: Standing) -> None:
        self.journal = journal
        self.track = track
        self.standing = standing

    async def settle(
        self,
        cursor: int | None = None,
        park: list[Parked] | None = None,
        release: list[int] | None = None,
        replay: ReplayProgress | None = None,
        replayed: list[int] | None = None,
    ) -> None:
        changed: dict[str, Any] = {"cursor": cursor, "park": park or [], "release": release or [], "replay": replay}
        changed["replayed"] = replayed or []
        await self.journal.settle(Settlement(track=self.track, epoch=self.standing.epoch, **changed))

    async def mark_running(self, seq: int) -> None:
        await self.journal.mark_running(self.track, self.standing.epoch, seq)

    async def mark_survived(self, seq: int) -> None:
        await self.journal.mark_survived(self.track, self.standing.epoch, seq)

    async def release(self, clean: bool = True) -> None:
        await self.journal.release_cursor(self.track, self.standing.epoch, clean)

    async def parked(self) -> list[Parked]:
        return (await self.journal.changes(self.track)).parked


async def take(
    journal: Journal, plugin: str = "crm", from_start: bool = True, hooks: Collection[str] = (EVERY_HOOK,)
) -> Owner:
    """Become the owner of a plugin's cursor."""
    standing = await journal.take_cursor(Track(plugin), from_start, hooks)
    assert isinstance(standing, Standing)
    return Owner(journal, Track(plugin), standing)


async def operation_of(journal: Journal, number: int) -> StoredOperation:
    """An operation that there is."""
    found = await journal.operation(number)
    assert found is not None
    return found
