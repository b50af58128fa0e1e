"""How many shards a plugin has, and what becomes of its cursors when that changes.

An event is in one of 64 buckets by its conversation, and shard `n` of `shards` has the buckets for which `bucket %
shards` is `n`. After a change, a new shard may have buckets of which others were settled further. Its cursor then
begins at the least of them, and `floors` says for each bucket up to where its events are settled already, so that
no event comes again behind a later one of its conversation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.journal.postgresql.columns import BUCKETS

if TYPE_CHECKING:
    from gateway.journal.postgresql.connection import DatabaseConnection

_INSERT: Final = (
    "INSERT INTO cursors (plugin, shard, seq, floors, epoch, clean) VALUES ($1, $2, $3, $4::bigint[], $5, $6)"
)
_REPLAYS: Final = (
    "SELECT number, min(filter) AS filter, min(position) AS position, max(until) AS until,"
    " sum(matched)::bigint AS matched, sum(done)::bigint AS done FROM replays WHERE plugin = $1"
    " GROUP BY number HAVING bool_or(finished_at IS NULL)"
)


class CursorPlace(NamedTuple):
    """A cursor: all events of its shard up to `seq` are settled, and in each bucket those up to the bucket's floor."""

    seq: int
    floors: Sequence[int | None] | None = None

    def settled(self, bucket: int) -> int:
        """Up to which position the events of a bucket are settled."""
        floor = None if self.floors is None else self.floors[bucket]
        return max(self.seq, floor or 0)


def buckets_of(shard: int, shards: int) -> range:
    """The buckets of a shard."""
    return range(shard, BUCKETS, shards)


def spread(places: Sequence[CursorPlace], shards: int) -> list[CursorPlace]:
    """The cursors of so many shards, where the plugin is at these, of which there is one for each shard until now."""
    settled = [places[bucket % len(places)].settled(bucket) for bucket in range(BUCKETS)]
    found: list[CursorPlace] = []
    for shard in range(shards):
        buckets = buckets_of(shard, shards)
        seq = min(settled[bucket] for bucket in buckets)
        floors = [settled[bucket] if bucket in buckets and settled[bucket] > seq else None for bucket in range(BUCKETS)]
        found.append(CursorPlace(seq, floors if any(floors) else None))
    return found


def _level(seq: int, shard: int, shards: int) -> list[int | None]:
    """Floors of a shard that are all at its cursor."""
    return [seq if bucket in buckets_of(shard, shards) else None for bucket in range(BUCKETS)]


async def make_cursors(connection: DatabaseConnection, plugin: str, shards: int, begins: int) -> None:
    """The cursors of a new plugin. An operator may have asked for replays to it before."""
    await connection.executemany(_INSERT, [(plugin, shard, begins, None, 0, True) for shard in range(shards)])
    if shards > 1:
        await _spread_replays(connection, plugin, shards)


async def change_shards(
    connection: DatabaseConnection, plugin: str, shards: int, cursors: Sequence[Mapping[str, Any]]
) -> None:
    """Give a plugin another number of shards; no gateway owns one of its `cursors`, the locked rows in order. All get
    a later epoch, so that whoever owned one before has lost it. After an unclean end each has `floors`, even if no
    bucket is ahead: they tell that several owners may have got further."""
    places = [CursorPlace(row["seq"], row["floors"]) for row in cursors]
    epoch = max(row["epoch"] for row in cursors) + 1
    clean = all(row["clean"] for row in cursors)
    new = spread(places, shards)
    if not clean:
        new = [CursorPlace(one.seq, one.floors or _level(one.seq, shard, shards)) for shard, one in enumerate(new)]
    await connection.execute("DELETE FROM cursors WHERE plugin = $1", plugin)
    await connection.executemany(
        _INSERT,
        [(plugin, shard, *place, epoch, clean) for shard, place in enumerate(new)],
    )
    await connection.execute("UPDATE plugins SET shards = $2 WHERE plugin = $1", plugin, shards)
    await connection.execute("DELETE FROM marks WHERE plugin = $1", plugin)  # they are of other shards
    await _spread_replays(connection, plugin, shards)


async def _spread_replays(connection: DatabaseConnection, plugin: str, shards: int) -> None:
    """Every new shard goes on where the replay had got in all shards; what it counted stays with the first."""
    for row in await connection.fetch(_REPLAYS, plugin):
        await connection.execute("DELETE FROM replays WHERE number = $1", row["number"])
        await connection.executemany(
            "INSERT INTO replays (number, shard, plugin, filter, position, until, matched, done)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            [
                (
                    row["number"], shard, plugin, row["filter"], row["position"], row["until"],
                    0 if shard else row["matched"], 0 if shard else row["done"],
                )
                for shard in range(shards)
            ],
        )  # fmt: skip
