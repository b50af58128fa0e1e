"""What operators do with a journal in PostgreSQL; see `Operator`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from gateway.journal.erasing import Erased
from gateway.journal.interface import Filter, Replay, Track
from gateway.journal.operator import Kind, PluginAnswers, StoredOperation, carry_out
from gateway.journal.search import UnknownName

if TYPE_CHECKING:
    from gateway.config.tables import Config
    from gateway.decoding import Decoder
    from gateway.journal.postgresql.database import Database


class PostgresqlOperator:
    """The part of `PostgresqlJournal` that operators use."""

    config: Config
    database: Database
    decoder: Decoder
    identity: uuid.UUID
    clock: Callable[[], float]

    async def begin(self, kind: Kind, which: Filter, in_order: bool = False) -> StoredOperation:
        raise NotImplementedError

    async def advance(self, number: int, plugins: Collection[str] | None = None) -> StoredOperation:
        raise NotImplementedError

    async def operation(self, number: int) -> StoredOperation | None:
        raise NotImplementedError

    async def operations(self, limit: int, running: bool = False) -> list[StoredOperation]:
        raise NotImplementedError

    async def cancel(self, number: int) -> None:
        raise NotImplementedError

    async def retried(self, number: int) -> dict[str, list[int]]:
        raise NotImplementedError

    async def take_back(self, track: Track, number: int, seqs: Collection[int]) -> None:
        raise NotImplementedError

    async def forget(self, which: Filter, number: int | None = None) -> Erased:
        raise NotImplementedError

    async def tell_answers(self, number: int, answers: PluginAnswers) -> None:
        raise NotImplementedError

    async def clear(self, number: int) -> None:
        raise NotImplementedError

    async def end(self, number: int, error: str | None = None) -> None:
        raise NotImplementedError

    async def wipe(self) -> None:
        raise NotImplementedError

    async def count_dead(self, which: Filter) -> int:
        raise NotImplementedError

    async def retry_dead(self, which: Filter, plugins: Collection[str] | None = None, in_order: bool = False) -> int:
        return (await carry_out(self, (await self.begin("retry", which, in_order)).number, plugins)).done

    async def discard_dead(self, which: Filter) -> int:
        return (await carry_out(self, (await self.begin("discard", which)).number)).done

    async def new_replay(self, which: Filter) -> Replay:
        raise NotImplementedError

    async def unknown_names(self) -> list[UnknownName]:
        raise NotImplementedError

    async def oldest_undelivered(self) -> dict[str, float]:
        raise NotImplementedError

    async def retire_cursors(self, keep: Collection[str]) -> None:
        raise NotImplementedError

    async def note(self, name: str) -> str | None:
        raise NotImplementedError

    async def keep_note(self, name: str, text: str) -> None:
        raise NotImplementedError

    async def probe(self) -> None:
        raise NotImplementedError
