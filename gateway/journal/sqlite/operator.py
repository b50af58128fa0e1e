"""What operators do with a journal in SQLite; see `Operator`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from gateway.journal.erasing import Erased
from gateway.journal.interface import Filter, JournalError, Replay, Track
from gateway.journal.one_gateway import OneGateway
from gateway.journal.operator import Kind, PluginAnswers, StoredOperation, carry_out
from gateway.journal.search import UnknownName
from gateway.journal.sqlite import cursors, erasing, operations, summaries
from gateway.journal.sqlite.operations import STEP

if TYPE_CHECKING:
    import apsw

    from gateway.decoding import Decoder
    from gateway.journal.sqlite.indexer import Indexer
    from gateway.journal.sqlite.tail import Tail
    from gateway.journal.sqlite.writer import Writer

T = TypeVar("T")
P = ParamSpec("P")


class SqliteOperator(OneGateway):
    """The part of `SqliteJournal` that operators use."""

    decoder: Decoder
    on_operations: list[Callable[[], None]]
    _clock: Callable[[], float]
    _writer: Writer
    _indexer: Indexer
    _tail: Tail

    if TYPE_CHECKING:

        async def operate(
            self, run: Callable[Concatenate[apsw.Connection, P], T], *values: P.args, **named: P.kwargs
        ) -> T: ...

        async def query(
            self, run: Callable[Concatenate[apsw.Connection, P], T], *values: P.args, **named: P.kwargs
        ) -> T: ...

    async def begin(self, kind: Kind, which: Filter, in_order: bool = False) -> StoredOperation:
        if which.names:
            while await self.operate(operations.recognise, self.decoder, which.names):
                pass
        until = self._writer.last_seq
        if kind in ("retry", "discard"):
            matched = await self.count_dead(which)
        else:
            matched = await self.query(operations.count, which, until)
        number = await self.operate(operations.begin, kind, which, in_order, until, matched, self._clock())
        return await self.operate(operations.one, number)

    async def advance(self, number: int, plugins: Collection[str] | None = None) -> StoredOperation:
        return await self.operate(operations.advance, number, plugins, self._clock())

    async def operation(self, number: int) -> StoredOperation | None:
        return await self.query(operations.found, number)

    async def operations(self, limit: int, running: bool = False) -> list[StoredOperation]:
        return await self.query(operations.listed, limit, running)

    async def cancel(self, number: int) -> None:
        await self.operate(operations.cancel, number, self._clock())

    async def retried(self, number: int) -> dict[str, list[int]]:
        return await self.operate(operations.retried, number)  # not older than any settlement

    async def take_back(self, track: Track, number: int, seqs: Collection[int]) -> None:
        left = list(seqs)
        for start in range(0, len(left), STEP):
            await self.operate(operations.take_back, track, number, left[start : start + STEP])

    async def forget(self, which: Filter, number: int | None = None) -> Erased:
        return await erasing.forget(self, which, number, self._clock(), self._tail, self._indexer, self._writer)

    async def tell_answers(self, number: int, answers: PluginAnswers) -> None:
        await self.operate(operations.tell_answers, number, answers)

    async def clear(self, number: int) -> None:
        await self.operate(operations.clear, number)

    async def end(self, number: int, error: str | None = None) -> None:
        await self.operate(operations.end, number, error, self._clock())

    async def note(self, name: str) -> str | None:
        return await self.query(operations.note, name)

    async def keep_note(self, name: str, text: str) -> None:
        await self.operate(operations.keep_note, name, text)

    async def probe(self) -> None:
        value = self._clock()
        if await self.operate(operations.probe, value) != value:
            raise JournalError("the journal does not read back what was written")

    async def wipe(self) -> None:
        await self._writer.wipe()

    async def count_dead(self, which: Filter) -> int:
        return await self.query(operations.count_dead, which)

    async def retry_dead(self, which: Filter, plugins: Collection[str] | None = None, in_order: bool = False) -> int:
        return (await carry_out(self, (await self.begin("retry", which, in_order)).number, plugins)).done

    async def discard_dead(self, which: Filter) -> int:
        return (await carry_out(self, (await self.begin("discard", which)).number)).done

    async def new_replay(self, which: Filter) -> Replay:
        return await self.operate(operations.replay, (await self.begin("replay", which)).number)

    async def unknown_names(self) -> list[UnknownName]:
        return await self.query(summaries.unknown_names)

    async def oldest_undelivered(self) -> dict[str, float]:
        return await self.query(summaries.oldest_undelivered)

    async def retire_cursors(self, keep: Collection[str]) -> None:
        await self.operate(cursors.retire, keep, self._clock())
