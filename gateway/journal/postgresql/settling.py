"""What a plugin's delivery writes. The functions do what the methods of `Cursors` state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gateway.events import UNKNOWN
from gateway.journal.attempts import MOST
from gateway.journal.interface import DELIVERED, LeaseLost, Settlement, Track
from gateway.journal.postgresql.columns import storable
from gateway.journal.postgresql.connection import DatabaseConnection
from gateway.journal.postgresql.queries import HAD_HOOK

CURSORS: Final = "cursors"
"""The payload of the notification that a cursor has come free, or that a gateway has come, changed or gone."""
_SETTLE: Final = f"SELECT gateway_settle({', '.join(f'${number}' for number in range(1, 13))})"
_REPLAYED: Final = (
    "INSERT INTO parked (plugin, seq, bucket, state, attempts, next_at, error, since, conversation, replayed, asked)"
    f" SELECT p.plugin, events.seq, events.bucket, '{DELIVERED}', 0, 0, '', 0, NULL, true, false"
    " FROM events JOIN plugins p ON p.plugin = $1 WHERE events.seq = ANY($2::bigint[])"
    f" AND ((events.name IS NOT NULL AND events.hook <> '{UNKNOWN}') OR NOT {HAD_HOOK})"
    " ON CONFLICT (plugin, seq) DO NOTHING"
)
"""Keeps that a plugin has events after all: it had no hook for them when they came, or got them as unknown."""
_OWNED: Final = (
    "WITH owned AS (SELECT FROM cursors WHERE plugin = $1 AND shard = $2 AND epoch = $3"
    " AND set_config('synchronous_commit', 'off', true) = 'off' FOR NO KEY UPDATE)"
)
"""What is marked has to outlive the gateway, not the database: after a crash thousands of events are marked one by one,
and no commit of these waits for a disk or a standby."""
_RUNNING: Final = (
    f"{_OWNED} INSERT INTO suspects (plugin, seq, bucket, crashes, running)"
    " SELECT $1::text, $4::bigint, coalesce((SELECT bucket FROM events WHERE seq = $4), 0), 0, true FROM owned"
    " ON CONFLICT (plugin, seq) DO UPDATE SET running = true RETURNING true"
)
_SURVIVED: Final = (
    f"{_OWNED}, survived AS (DELETE FROM suspects USING owned WHERE plugin = $1 AND seq = $4) SELECT true FROM owned"
)
_RELEASE: Final = (
    "UPDATE cursors SET clean = $4, owner = NULL, owner_name = NULL, lease_until = NULL"
    " WHERE plugin = $1 AND shard = $2 AND epoch = $3 RETURNING true"
)


def lost(track: Track) -> LeaseLost:
    """The error of a gateway that has been replaced."""
    return LeaseLost(f"the cursor of plugin {track.plugin} has been taken again")


def is_move(settlement: Settlement) -> bool:
    """Whether only the cursor moves."""
    rest = settlement.park, settlement.release, settlement.replay, settlement.replayed, settlement.attempts
    return settlement.cursor is not None and not any(rest)


async def settle(connection: DatabaseConnection, settlement: Settlement, now: float) -> None:
    """Settle anything, in one statement unless plugins have taken replays; `now` is in seconds since 1970."""
    track, replay = settlement.track, settlement.replay
    park = [
        msgspec.structs.replace(one, error=storable(one.error), conversation=storable(one.conversation))
        for one in settlement.park
    ]
    tried = [msgspec.structs.replace(one, error=storable(one.error)) for one in settlement.attempts]
    owned = await connection.fetchval(
        _SETTLE,
        *track,
        settlement.epoch,
        settlement.cursor,
        _json(park),
        settlement.release or None,
        _json(tried),
        MOST,
        *(replay or (None, None, None)),
        now,
    )
    if not owned:
        raise lost(track)
    if settlement.replayed:
        await connection.execute(_REPLAYED, track.plugin, settlement.replayed)


def _json(rows: Sequence[Any]) -> str | None:
    return msgspec.json.encode(rows).decode() if rows else None


async def mark_running(connection: DatabaseConnection, track: Track, epoch: int, seq: int) -> None:
    """See `Cursors.mark_running`; one statement that is a transaction of its own, as there are two for an event."""
    if await connection.fetchval(_RUNNING, *track, epoch, seq) is None:
        raise lost(track)


async def mark_survived(connection: DatabaseConnection, track: Track, epoch: int, seq: int) -> None:
    """See `Cursors.mark_survived`; as `mark_running`."""
    if await connection.fetchval(_SURVIVED, *track, epoch, seq) is None:
        raise lost(track)


async def release(connection: DatabaseConnection, track: Track, epoch: int, clean: bool, channel: str) -> None:
    """See `Cursors.release_cursor`."""
    if await connection.fetchval(_RELEASE, *track, epoch, clean) is None:
        raise lost(track)
    await connection.execute(
        "UPDATE suspects SET running = false WHERE plugin = $1 AND running"
        " AND bucket % (SELECT shards FROM plugins WHERE plugin = $1) = $2",
        *track,
    )
    await connection.execute("SELECT pg_notify($1, $2)", channel, CURSORS)
