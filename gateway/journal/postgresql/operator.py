"""What operators do with a journal in PostgreSQL, from any gateway; see `Operator`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from gateway.journal.erasing import Erased
from gateway.journal.interface import Filter, JournalError, Replay, Track
from gateway.journal.operator import Kind, PluginAnswers, StoredOperation, carry_out
from gateway.journal.postgresql import (
    claims,
    erasing,
    letters,
    notes,
    operations,
    retention,
    retries,
    shared_erasures,
    undelivered,
    unknown,
)
from gateway.journal.postgresql.database import KeptLocally
from gateway.journal.postgresql.failures import DatabaseLost
from gateway.journal.postgresql.leases import DEFAULT_TIMES
from gateway.journal.search import UnknownName

if TYPE_CHECKING:
    from uuid import UUID

    from gateway.config.tables import Config
    from gateway.decoding import Decoder
    from gateway.journal.postgresql.database import Database


class PostgresqlOperator:
    """The part of `PostgresqlJournal` that operators use."""

    config: Config
    database: Database
    decoder: Decoder
    identity: UUID
    clock: Callable[[], float]
    on_operations: list[Callable[[], None]]

    async def begin(self, kind: Kind, which: Filter, in_order: bool = False) -> StoredOperation:
        if which.names:
            while await self.database.operate(unknown.recognise, self.decoder, which.names):
                pass
        until = await self.database.query(operations.newest)
        if kind in ("retry", "discard"):
            matched = {0: await self.count_dead(which)}
        else:
            shards = 1 if which.plugin is None else await self.database.query(operations.shards_of, which.plugin)
            matched = await self.database.query(operations.count, which, until, shards)
        last = await self.database.query(operations.last)
        asked = (kind, which, in_order, until, matched, self.clock())
        try:
            number = await self.database.operate(operations.begin, *asked)
            return await self.database.query(operations.one, number)
        except (DatabaseLost, KeptLocally):  # it may be there all the same, and must not begin twice
            try:
                number = await self.database.operate(operations.begin_once, last, *asked)
                return await self.database.query(operations.one, number)
            except JournalError as error:
                raise JournalError(
                    f"{error}; the operation may have begun: look at `gateway operations` before you ask for it again"
                ) from error

    async def advance(self, number: int, plugins: Collection[str] | None = None) -> StoredOperation:
        return await self.database.operate(operations.advance, number, plugins, self.clock())

    async def claim(self, number: int) -> bool:
        return await self.database.operate(claims.claim, number, self.identity)

    async def operation(self, number: int) -> StoredOperation | None:
        return await self.database.query(operations.found, number)

    async def operations(self, limit: int, running: bool = False) -> list[StoredOperation]:
        return await self.database.query(operations.listed, limit, running)

    async def cancel(self, number: int) -> None:
        await self.database.operate(operations.cancel, number, self.clock())

    async def retried(self, number: int) -> dict[str, list[int]]:
        return await self.database.query(retries.retried, number)

    async def take_back(self, track: Track, number: int, seqs: Collection[int]) -> None:
        left = sorted(seqs)
        for start in range(0, len(left), letters.PAGE):
            some = left[start : start + letters.PAGE]
            await self.database.operate(retries.take_back, track, number, some, self.identity)

    async def forget(self, which: Filter, number: int | None = None) -> Erased:
        database, found = self.database, list[int]()
        until, after = await database.query(operations.newest), 0
        while True:
            page, more = await database.query(erasing.find, which, after, until)
            found += page
            if more is None:
                break
            after = more
        events = records = 0
        for start in range(0, len(found), erasing.STEP):
            events += await database.operate(erasing.erase, found[start : start + erasing.STEP], number)
        self.forget_read()
        while count := await database.operate(erasing.erase_records, which, number):
            records += count
        erased = Erased(events, records, found)
        await database.operate(erasing.end_replays, which, self.clock())
        await database.operate(erasing.end_operations, which, self.clock(), number)
        await database.operate(erasing.note, which, erased, self.clock())
        if number is None:  # else the end of the operation does that, once its own filter is cleared
            await self.wipe()
        return erased

    def forget_read(self) -> None:
        """Forget what was read ahead from the journal: events were erased."""

    async def share_erasure(self, number: int) -> None:
        await self.database.operate(shared_erasures.share, number)

    async def shared_erasures(self) -> list[StoredOperation]:
        numbers = await self.database.query(shared_erasures.numbers, self.identity)
        if numbers:
            self.forget_read()
        return [await self.database.query(operations.one, number) for number in numbers]

    async def answer_erasure(self, number: int, answers: PluginAnswers) -> None:
        await self.database.operate(shared_erasures.answer, number, self.identity, answers)

    async def answers_of_others(self, number: int) -> Mapping[str, PluginAnswers | None] | None:
        return await self.database.query(shared_erasures.answers, number, self.identity)

    async def tell_answers(self, number: int, answers: PluginAnswers) -> None:
        await self.database.operate(operations.tell_answers, number, answers)

    async def clear(self, number: int) -> None:
        await self.database.operate(operations.clear, number)

    async def end(self, number: int, error: str | None = None) -> None:
        await self.database.operate(operations.end, number, error, self.clock())

    async def wipe(self) -> None:
        await self.database.query(erasing.vacuum)

    async def count_dead(self, which: Filter) -> int:
        return await self.database.query(letters.count_dead, which)

    async def retry_dead(self, which: Filter, plugins: Collection[str] | None = None, in_order: bool = False) -> int:
        return (await carry_out(self, (await self.begin("retry", which, in_order)).number, plugins)).done

    async def discard_dead(self, which: Filter) -> int:
        return (await carry_out(self, (await self.begin("discard", which)).number)).done

    async def new_replay(self, which: Filter) -> Replay:
        return await self.database.query(operations.replay, (await self.begin("replay", which)).number)

    async def unknown_names(self) -> list[UnknownName]:
        return await self.database.query(unknown.unknown_names)

    async def oldest_undelivered(self) -> dict[str, float]:
        return await self.database.query(undelivered.oldest_undelivered)

    async def retire_cursors(self, keep: Collection[str]) -> None:
        await self.database.operate(retention.retire, keep, self.clock(), DEFAULT_TIMES.lasts)

    async def note(self, name: str) -> str | None:
        return await self.database.query(notes.note, name)

    async def keep_note(self, name: str, text: str) -> None:
        await self.database.operate(notes.keep_note, name, text)

    async def probe(self) -> None:
        value = self.clock()
        if await self.database.operate(notes.probe, value) != value:
            raise JournalError("the journal does not read back what was written")
