"""How a gateway becomes the owner of a cursor."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from gateway.journal.interface import (
    EVERY_HOOK,
    UNORDERED,
    Changes,
    Filter,
    Parked,
    Replay,
    Standing,
    Track,
)
from gateway.journal.postgresql.columns import BUCKETS
from gateway.journal.postgresql.sharding import change_shards, make_cursors

if TYPE_CHECKING:
    from uuid import UUID

    from gateway.journal.postgresql.connection import DatabaseConnection
    from gateway.journal.postgresql.leases import Leases

_LEFT: Final = (
    "CASE WHEN owner <> $2 THEN extract(epoch FROM lease_until - clock_timestamp())::float8 END AS seconds_left"
)
_CURSORS: Final = f"SELECT *, {_LEFT} FROM cursors WHERE plugin = $1 ORDER BY shard"
_LOOK: Final = (
    f"SELECT p.shards, c.owner_name, c.lease_until, {_LEFT} FROM plugins p"
    " JOIN cursors c ON c.plugin = p.plugin AND c.shard = $3 WHERE p.plugin = $1"
)
_OWN: Final = (
    "UPDATE cursors SET epoch = epoch + 1, clean = false, owner = $3, owner_name = $4,"
    " lease_until = clock_timestamp() + $5 * interval '1 second',"
    " floors = CASE WHEN seq <= (SELECT max(f) FROM unnest(floors) f) THEN floors END"
    " WHERE plugin = $1 AND shard = $2 RETURNING seq, epoch, floors"
)
_CRASHED: Final = (
    "UPDATE suspects SET crashes = crashes + $4::bool::int, running = false"
    " WHERE plugin = $1 AND running AND bucket % $3::int = $2"
)
"""A gateway that takes a cursor from itself has not crashed: it had lost the database."""
_PARKED: Final = "seq, state, attempts, next_at, error, since, conversation, replayed, asked"
_MINE: Final = "plugin = $1 AND bucket % (SELECT shards FROM plugins WHERE plugin = $1) = $2"
_LIVE: Final = f"SELECT {_PARKED} FROM parked WHERE {_MINE} AND state IN ('retrying', 'waiting')"


class Owner(NamedTuple):
    """A gateway: its identity, its name for people, and its leases."""

    identity: UUID
    name: str
    leases: Leases


class Taken(NamedTuple):
    """What `take` found: the standing, up to where each bucket is settled (None: up to the cursor), and the newest
    position, which the last owner may have got to."""

    standing: Standing
    floors: list[int | None] | None
    newest: int


class Held(NamedTuple):
    """Another gateway has a lease, which lasts for so many seconds unless it is renewed."""

    name: str
    seconds: float


async def look(connection: DatabaseConnection, track: Track, shards: int, owner: Owner) -> Held | None:
    """The gateway that owns a cursor, or None where `take` has to tell. Locks nothing."""
    row = await connection.fetchrow(_LOOK, track.plugin, owner.identity, track.shard)
    return None if row is None or row["shards"] != shards else _held(track, row, owner)


def _held(track: Track, row: Any, owner: Owner) -> Held | None:
    """The lease of another gateway in a row, or None."""
    if row["seconds_left"] is None:
        return None
    left = owner.leases.left(track, row["lease_until"], row["seconds_left"])
    return Held(row["owner_name"], left) if left > 0 else None


async def take(
    connection: DatabaseConnection, track: Track, from_start: bool, hooks: Collection[str], shards: int, owner: Owner
) -> Taken | Held:
    """See `Cursors.take_cursor`; within a transaction."""
    plugin = track.plugin
    await connection.execute(
        "INSERT INTO plugins (plugin, begins, shards) SELECT $1, CASE WHEN $2 THEN 0 ELSE seq END, $3 FROM head"
        " ON CONFLICT (plugin) DO NOTHING",
        plugin, from_start, shards,
    )  # fmt: skip
    known: Any = await connection.fetchrow("SELECT begins, shards FROM plugins WHERE plugin = $1 FOR UPDATE", plugin)
    rows = await connection.fetch(f"{_CURSORS} FOR NO KEY UPDATE", plugin, owner.identity)
    leased = {row["shard"]: _held(Track(plugin, row["shard"]), row, owner) for row in rows}
    held = {shard: one for shard, one in leased.items() if one is not None}
    if not rows:
        await make_cursors(connection, plugin, known["shards"], known["begins"])
    if known["shards"] != shards:
        if held:
            return max(held.values(), key=lambda one: one.seconds)
        rows = rows or await connection.fetch(_CURSORS, plugin, owner.identity)
        await change_shards(connection, plugin, shards, rows)
    elif track.shard in held:
        return held[track.shard]
    return await _own(connection, track, hooks, shards, owner)


async def _own(
    connection: DatabaseConnection, track: Track, hooks: Collection[str], shards: int, owner: Owner
) -> Taken:
    plugin = track.plugin
    before: Any = await connection.fetchrow("SELECT clean, owner FROM cursors WHERE plugin = $1 AND shard = $2", *track)
    clean = before["clean"]
    row: Any = await connection.fetchrow(_OWN, *track, owner.identity, owner.name, owner.leases.times.lasts)
    cursor, epoch, floors = row
    await connection.execute("UPDATE plugins SET removed_at = NULL WHERE plugin = $1", plugin)
    await _note_hooks(connection, plugin, cursor, hooks)
    await connection.execute(_CRASHED, *track, shards, before["owner"] != owner.identity)
    dead = await connection.fetch(
        f"SELECT seq FROM parked WHERE {_MINE} AND seq > $3 AND state IN ('dead', 'discarded')", *track, cursor
    )
    crashes = await connection.fetch(f"SELECT seq, crashes FROM suspects WHERE {_MINE} AND crashes > 0", *track)
    parked, replays = await changes(connection, track)
    standing = Standing(
        epoch=epoch,
        cursor=cursor,
        clean=clean,
        parked=parked,
        dead_ahead=[row["seq"] for row in dead],
        replays=replays,
        crashes={row["seq"]: row["crashes"] for row in crashes},
        owners=1 if clean or floors is None else BUCKETS,
    )
    return Taken(standing, floors, int(await connection.fetchval("SELECT seq FROM head")))


async def _note_hooks(connection: DatabaseConnection, plugin: str, cursor: int, hooks: Collection[str]) -> None:
    """Keep from which position on a plugin has which hooks, where they have changed."""
    noted = EVERY_HOOK if EVERY_HOOK in hooks else f",{','.join(sorted(hooks))},"
    last = await connection.fetchval("SELECT hooks FROM takes WHERE plugin = $1 ORDER BY position DESC LIMIT 1", plugin)
    if last != noted:
        await connection.execute(
            "INSERT INTO takes (plugin, position, hooks) VALUES ($1, $2, $3)"
            " ON CONFLICT (plugin, position) DO UPDATE SET hooks = excluded.hooks",
            plugin, cursor, noted,
        )  # fmt: skip


async def changes(connection: DatabaseConnection, track: Track) -> Changes:
    """See `Cursors.changes`: events of conversations in order, then the first `UNORDERED` others."""
    ordered = await connection.fetch(f"{_LIVE} AND conversation IS NOT NULL ORDER BY seq", *track)
    unordered = await connection.fetch(f"{_LIVE} AND conversation IS NULL ORDER BY seq LIMIT {UNORDERED}", *track)
    replays = await connection.fetch(
        "SELECT number, plugin, filter, position, until, matched, done FROM replays"
        " WHERE plugin = $1 AND shard = $2 AND finished_at IS NULL ORDER BY number",
        *track,
    )
    return Changes(
        [Parked(**dict(row)) for row in (*ordered, *unordered)],
        [Replay(**{**dict(row), "filter": msgspec.json.decode(row["filter"], type=Filter)}) for row in replays],
    )
