"""Reads events for deliveries: from memory for plugins and shards that keep up, else from the database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

from gateway.journal.interface import Entry, Filter, Stretch
from gateway.journal.postgresql.columns import EVENT, restore
from gateway.journal.postgresql.queries import left_to_check, where
from gateway.journal.postgresql.tail import BucketEvent, Piece, SharedTail

if TYPE_CHECKING:
    from gateway.decoding import Decoder
    from gateway.journal.postgresql.connection import DatabaseConnection
    from gateway.journal.postgresql.database import Database

PAGE: Final = 256
"""Events that are read at once for the tail."""
PAGE_BYTES: Final = 4 * 2**20
"""About the most bytes of bodies that are read at once."""
SPAN: Final = 10_000
"""Positions that are looked at for one page of a shard, at most."""
_COLUMNS: Final = ", ".join(f"events.{name.strip()}" for name in EVENT.split(","))


class Follower:
    """`decoder` gives the one in force, and `newest` the newest position that is known."""

    def __init__(self, database: Database, decoder: Callable[[], Decoder], newest: Callable[[], int]) -> None:
        self._database = database
        self._decoder = decoder
        self._newest = newest
        self.tail = SharedTail(newest(), self._next)

    async def stretch(
        self, after: int, limit: int, buckets: Collection[int], floors: Sequence[int | None] | None
    ) -> Stretch:
        """The next events of these buckets, without those up to their floors."""
        wanted = frozenset(buckets)

        def has(row: BucketEvent) -> bool:
            return row.bucket in wanted and (floors is None or row.seq > (floors[row.bucket] or 0))

        if after >= self.tail.after:
            await self.tail.follow(after, self._newest())
        if after >= self.tail.after:  # it may have moved on meanwhile
            return Stretch(*self.tail.entries(after, limit, has))
        until = min(self._newest(), after + SPAN)
        piece = await self.piece(after, until, limit, buckets)
        return Stretch([Entry(row.seq, row.event) for row in piece.rows if has(row)], piece.through)

    async def _next(self, after: int) -> Piece:
        return await self.piece(after, self._newest(), PAGE)

    async def piece(
        self,
        after: int,
        until: int,
        limit: int,
        buckets: Collection[int] | None = None,
        which: Filter | None = None,
    ) -> Piece:
        """At most `limit` events after a position, up to another: those of these buckets that match, fewer where large.
        `until` must be committed."""
        return await self._database.query(_piece, self._decoder(), after, until, limit, buckets, which or Filter())

    async def entries(self, after: int, until: int, limit: int, which: Filter) -> list[Entry]:
        """The events of a `piece`, however many positions were looked at."""
        while True:
            piece = await self.piece(after, until, limit, None, which)
            if piece.rows or piece.through >= until:
                return [Entry(row.seq, row.event) for row in piece.rows]
            after = piece.through


async def _piece(
    connection: DatabaseConnection,
    decoder: Decoder,
    after: int,
    until: int,
    limit: int,
    buckets: Collection[int] | None,
    which: Filter,
) -> Piece:
    condition, values = where(which, 5)
    place = 5 + len(values)
    sql = (
        f"SELECT {_COLUMNS}, events.bucket FROM events WHERE events.seq > $1 AND events.seq <= $2 AND {condition}"
        f" AND (${place}::int[] IS NULL OR events.bucket = ANY(${place})) ORDER BY events.seq LIMIT $3"
    )
    sized = f"SELECT *, sum(octet_length(raw)) OVER (ORDER BY seq) - octet_length(raw) AS before FROM ({sql}) found"
    rows = await connection.fetch(
        f"SELECT * FROM ({sized}) s WHERE before < $4 ORDER BY seq",
        after, until, limit, PAGE_BYTES, *values, None if buckets is None else list(buckets),
    )  # fmt: skip
    has_words = left_to_check(which)
    found = [_row(decoder, row) for row in rows if has_words is None or has_words(row["raw"])]
    is_cut = len(rows) == limit or (rows and sum(len(row["raw"]) for row in rows) >= PAGE_BYTES)
    return Piece(found, rows[-1]["seq"] if is_cut else max(after, until))


def _row(decoder: Decoder, row: Any) -> BucketEvent:
    values = tuple(row.values())
    return BucketEvent(row["seq"], row["bucket"], restore(decoder, values[: len(EVENT.split(","))]))


async def fetched(connection: DatabaseConnection, decoder: Decoder, seqs: Sequence[int]) -> list[Entry]:
    """The events at these positions, as far as there are any."""
    rows = await connection.fetch(f"SELECT {EVENT} FROM events WHERE seq = ANY($1::bigint[]) ORDER BY seq", seqs)
    return [Entry(row["seq"], restore(decoder, row)) for row in rows]
