"""The journal in memory, for tests and simulation: no thread, no file, everything in callbacks of the event loop.

It keeps neither attempts nor marks of cursors, which only searches need. What is durable is in a `Store`. A journal on
the same store, later or at the same time, is another gateway's. What a journal has not committed when it is abandoned
was never there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from gateway.config.tables import Config
from gateway.decoding import Decoded, Decoder
from gateway.events import UNKNOWN, Event
from gateway.journal.append import Appends, awaited
from gateway.journal.commits import Commits
from gateway.journal.erasing import Erased, Retention
from gateway.journal.interface import (
    EVERY_HOOK,
    RETRYING,
    WAITING,
    Changes,
    Done,
    Entry,
    Filter,
    JournalDamaged,
    JournalError,
    JournalFailed,
    JournalFull,
    Receipt,
    Replay,
    Settlement,
    Standing,
    Track,
)
from gateway.journal.memory_store import Store
from gateway.journal.one_gateway import OneGateway
from gateway.journal.one_shard import OneShard
from gateway.journal.operator import Kind, PluginAnswers, StoredOperation, carry_out
from gateway.journal.search import UnknownName, ValueRecord
from gateway.large_bodies import LARGE

T = TypeVar("T")
HOUSEKEEPING: Final = 0.5
"""Seconds between looks at retention and size."""


class MemoryJournal(OneShard, OneGateway):
    """See `Journal`. `latency` gives the seconds that the next commit or read takes; `seed` makes ids repeatable. While
    `full` is true nothing can be written."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Callable[[], float] = time.time,
        store: Store | None = None,
        latency: Callable[[], float] = lambda: 0.0,
        seed: int | None = None,
    ) -> None:
        self.store = store or Store()
        self.decoder = Decoder(config)
        self.on_commit: list[Callable[[], None]] = []
        self.on_turnover: list[Callable[[], None]] = []
        self.on_operations: list[Callable[[], None]] = []
        self.on_failure: Callable[[JournalFailed], None] = lambda error: None
        self.value_records_lost = 0
        self.commits = Commits()
        self.full = False
        self._config = config
        self._window = int(config.journal.dedupe_window * 1_000_000)
        self._clock = clock
        self._latency = latency
        self._appends = Appends(clock, seed)
        self._queue: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        self._commit_due: asyncio.TimerHandle | None = None
        self._housekeeping_due: asyncio.TimerHandle | None = None
        self._closed = False
        self._too_large: str | None = None
        self._failed: JournalFailed | None = None

    async def start(self) -> None:
        self._housekeeping()
        await self.probe()

    async def close(self) -> None:
        self._commit()
        self.abandon()

    def abandon(self) -> None:
        """End as a killed process does: what is not committed is lost, and no future is done any more."""
        for timer in (self._commit_due, self._housekeeping_due):
            if timer is not None:
                timer.cancel()
        self._queue, self._closed = [], True

    def fail(self) -> None:
        """Fail as a journal does when its disk breaks."""
        self._failed = JournalFailed("a commit to the journal failed; what became of it is unknown")
        self._commit()
        self.on_failure(self._failed)

    @property
    def newest(self) -> int:
        return self.store.newest

    @property
    def damaged(self) -> int:
        return len(self.store.damaged)

    def refusal(self) -> str | None:
        return self._too_large if (error := self._error()) is None else str(error)

    def _error(self) -> JournalError | None:
        if self._failed is not None:
            return self._failed
        if self._closed:
            return JournalFull("the journal is closed")
        return JournalFull("the journal cannot be written") if self.full else None

    def append(self, organisation: str, decoded: Decoded, raw: bytes) -> asyncio.Future[Receipt]:
        if (refusal := self.refusal()) is not None:
            raise self._failed or JournalFull(refusal)
        if len(raw) > LARGE and decoded.readable and decoded.hook != UNKNOWN:  # see `Decoder.decode_large`
            decoded = self.decoder.decode(organisation, raw, decoded.hook)
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        append = self._appends.make(organisation, decoded, raw, awaited(future))
        self._put(partial(self.store.insert, append, self._window), future)
        return future

    def append_then(self, organisation: str, decoded: Decoded, raw: bytes, done: Done) -> None:
        def settle(future: asyncio.Future[Receipt]) -> None:
            error = future.exception()
            done(error if isinstance(error, JournalError) else future.result())

        self.append(organisation, decoded, raw).add_done_callback(settle)

    def record_value_request(self, record: ValueRecord) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.add_done_callback(self._recorded)
        self._put(lambda: self.store.value_records.append(record), future)

    def _recorded(self, future: asyncio.Future[None]) -> None:
        self.value_records_lost += future.cancelled() or future.exception() is not None

    async def take_cursor(
        self, track: Track, from_start: bool, hooks: Collection[str] = (EVERY_HOOK,), shards: int = 1
    ) -> Standing:
        return await self._write(partial(self.store.take, track, 0 if from_start else self.newest, hooks))

    async def release_cursor(self, track: Track, epoch: int, clean: bool) -> None:
        await self._write(partial(self.store.release, track, epoch, clean))

    async def read(self, after: int, limit: int) -> Sequence[Entry]:
        return await self.scan(Filter(), after, self.newest, limit)

    async def fetch(self, seqs: Sequence[int]) -> dict[int, Event]:
        await asyncio.sleep(self._latency())
        if hurt := self.store.damaged.intersection(seqs):
            raise JournalDamaged(f"the event at position {min(hurt)} is damaged")
        return {seq: self.store.events[seq].event for seq in seqs if seq in self.store.events}

    async def scan(self, which: Filter, after: int, until: int, limit: int) -> Sequence[Entry]:
        await asyncio.sleep(self._latency())
        return self.store.entries(which, after, until, limit)

    async def settle(self, settlement: Settlement) -> None:
        await self._write(partial(self.store.settle, settlement))

    async def mark_running(self, track: Track, epoch: int, seq: int) -> None:
        await self._write(partial(self.store.mark_running, track, epoch, seq))

    async def mark_survived(self, track: Track, epoch: int, seq: int) -> None:
        await self._write(partial(self.store.mark_survived, track, epoch, seq))

    async def changes(self, track: Track) -> Changes:
        return await self._write(partial(self.store.changes, track))

    async def retire_cursors(self, keep: Collection[str]) -> None:
        await self._write(partial(self.store.retire, keep, self._clock()))

    async def begin(self, kind: Kind, which: Filter, in_order: bool = False) -> StoredOperation:
        if which.names:
            await self._write(partial(self.store.recognise, self.decoder, which.names))
        return await self._write(partial(self.store.operations.begin, kind, which, in_order, self._clock()))

    async def advance(self, number: int, plugins: Collection[str] | None = None) -> StoredOperation:
        return await self._write(partial(self.store.operations.advance, number, plugins, self._clock()))

    async def operation(self, number: int) -> StoredOperation | None:
        return self.store.operations.one(number) if number in self.store.operations.kept else None

    async def operations(self, limit: int, running: bool = False) -> list[StoredOperation]:
        return self.store.operations.listed(running)[:limit]

    async def cancel(self, number: int) -> None:
        await self._write(partial(self.store.operations.cancel, number, self._clock()))

    async def retried(self, number: int) -> dict[str, list[int]]:
        return await self._write(partial(self.store.operations.of_retry, number))

    async def take_back(self, track: Track, number: int, seqs: Collection[int]) -> None:
        await self._write(partial(self.store.operations.take_back, track, number, seqs))

    async def forget(self, which: Filter, number: int | None = None) -> Erased:
        return await self._write(partial(self.store.forget, which, number))

    async def tell_answers(self, number: int, answers: PluginAnswers) -> None:
        await self._write(partial(self.store.operations.tell_answers, number, answers))

    async def clear(self, number: int) -> None:
        await self._write(partial(self.store.operations.clear, number))

    async def end(self, number: int, error: str | None = None) -> None:
        await self._write(partial(self.store.operations.end, number, error, self._clock()))

    async def wipe(self) -> None:
        """There are no files."""

    async def count_dead(self, which: Filter) -> int:
        return len(list(self.store.dead(which)))

    async def retry_dead(self, which: Filter, plugins: Collection[str] | None = None, in_order: bool = False) -> int:
        return (await carry_out(self, (await self.begin("retry", which, in_order)).number, plugins)).done

    async def discard_dead(self, which: Filter) -> int:
        return (await carry_out(self, (await self.begin("discard", which)).number)).done

    async def new_replay(self, which: Filter) -> Replay:
        number = (await self.begin("replay", which)).number
        return msgspec.structs.replace(self.store.operations.replays[number])

    async def unknown_names(self) -> list[UnknownName]:
        return self.store.unknown_names()

    async def oldest_undelivered(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for seq, kept in self.store.events.items():
            left = [plugin for plugin, state in self.store.states(seq).items() if state in (RETRYING, WAITING)]
            found = dict.fromkeys(left, kept.micros / 1_000_000) | found
        return found

    async def note(self, name: str) -> str | None:
        return self.store.notes.get(name)

    async def keep_note(self, name: str, text: str) -> None:
        await self._write(partial(self.store.notes.__setitem__, name, text))

    async def probe(self) -> None:
        await self._write(lambda: None)

    async def _write(self, run: Callable[[], T]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._put(run, future)
        return await future

    def _put(self, run: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        if self._closed:
            future.set_exception(JournalFull("the journal is closed"))
            return
        self._queue.append((run, future))
        if self._commit_due is None:
            self._commit_due = asyncio.get_running_loop().call_later(self._latency(), self._commit)

    def _commit(self) -> None:
        queue, self._queue, self._commit_due = self._queue, [], None
        before, error = self.newest, self._error()
        for run, future in queue:
            result: Any = None
            try:
                if error is not None:
                    raise error
                result = run()
            except Exception as raised:
                if not future.done():
                    future.set_exception(raised)
            else:
                if not future.done():
                    future.set_result(result)
        if self.newest > before:
            self.commits.observe(self.newest - before, 0.0)
            for listener in self.on_commit:
                listener()

    def _housekeeping(self) -> None:
        self._housekeeping_due = asyncio.get_running_loop().call_later(HOUSEKEEPING, self._housekeeping)
        if self._failed is None:
            settings = self._config.journal
            self.store.prune(self._clock(), Retention.of(self._config), self._config.values.audit_retention)
            size = sum(len(kept.event.raw) for kept in self.store.events.values())
            over = f"the journal holds {size >> 20} MiB, more than journal.max_size"
            self._too_large = over if size > settings.max_size else None
