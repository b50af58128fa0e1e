"""Appends a group of events in one call, and looks up what became of a group whose answer was lost."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

from gateway.journal.append import Append
from gateway.journal.interface import Receipt
from gateway.journal.postgresql.columns import values_of
from gateway.journal.postgresql.connection import DatabaseConnection

_APPEND: Final = f"SELECT * FROM gateway_append({', '.join(f'${number}' for number in range(1, 20))})"
_KEPT: Final = "SELECT gateway_kept($1::uuid[])"


class Appending(NamedTuple):
    """What all groups of a gateway have in common. `window` is the dedupe window in microseconds."""

    node: str
    window: int
    channel: str
    need_standby: bool


async def insert(connection: DatabaseConnection, appends: Sequence[Append], common: Appending) -> int:
    """Append a group and return the newest position.

    Sets each one's `seq`; a duplicate keeps its `seq` of 0 and its receipt names the first event. An event that an
    earlier call with a lost answer has appended has the `seq` 0, and is not a duplicate. One round trip, which ends
    once the group is durable: never cancel it."""
    columns: list[Any] = list(zip(*map(values_of, appends), strict=True))
    found: Any = await connection.fetchrow(_APPEND, *columns, _earlier(appends), *common)
    before, newest, repeated, ids, hooks, readables = found
    for seq, append in enumerate(appends, before + 1):
        append.seq, append.duplicate_of = seq, None
    for place, event_id, hook, readable in zip(repeated or (), ids or (), hooks or (), readables or (), strict=True):
        append = appends[place - 1]
        append.seq = 0
        if str(event_id) != append.event.id:
            append.duplicate_of = Receipt(str(event_id), hook, True, readable)
    return int(newest)


async def kept_of(connection: DatabaseConnection, appends: Sequence[Append]) -> Collection[str]:
    """The ids of those events of a group that are in the journal, once they are durable. Waits for a call of `insert`
    that the database still carries out."""
    return {str(one) for one in await connection.fetchval(_KEPT, [append.event.id for append in appends])}


def _earlier(appends: Sequence[Append]) -> list[bytes | None]:
    """For each event the digest of the group's first event with its natural key, unless it is the first."""
    owners: dict[str, bytes | None] = {}
    earlier: list[bytes | None] = []
    for append in appends:
        key = append.natural_key
        if key is None or key not in owners:
            earlier.append(None)
            if key is not None:
                owners[key] = append.digest
        else:
            earlier.append(owners[key])
    return earlier
