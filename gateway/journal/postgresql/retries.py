"""What a retry or a discard does to dead letters, and how a cancelled retry has them back."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from gateway.journal.interface import DEAD, DISCARDED, Track
from gateway.journal.postgresql.letters import Letter

if TYPE_CHECKING:
    from uuid import UUID

    from gateway.journal.postgresql.connection import DatabaseConnection

_LIVE: Final = "state IN ('retrying', 'waiting')"
_BEFORE: Final = (
    "SELECT true FROM parked e WHERE e.plugin = k.plugin AND left(e.conversation, 256) = left(k.conversation, 256)"
    f" AND e.conversation = k.conversation AND e.seq < k.seq AND e.{_LIVE} LIMIT 1"
)
"""Whether an earlier event of the conversation is parked. It is not a join, so that the index is used."""
_OF_LETTERS: Final = (
    "FROM unnest($1::text[], $2::bigint[]) AS l(plugin, seq) WHERE k.plugin = l.plugin AND k.seq = l.seq"
)


async def discard(connection: DatabaseConnection, letters: list[Letter]) -> None:
    """Make these dead letters discarded ones."""
    await connection.execute(f"UPDATE parked k SET state = '{DISCARDED}' {_OF_LETTERS}", *_columns(letters))


async def retry(connection: DatabaseConnection, number: int, letters: list[Letter], in_order: bool) -> None:
    """Make these dead letters due again, by the retry with this number."""
    columns = _columns(letters)
    await connection.execute(
        "INSERT INTO retried (plugin, seq, operation, attempts) SELECT k.plugin, k.seq, $3::bigint, k.attempts"
        " FROM parked k, unnest($1::text[], $2::bigint[]) AS l(plugin, seq) WHERE k.plugin = l.plugin"
        " AND k.seq = l.seq ON CONFLICT (plugin, seq) DO UPDATE SET operation = excluded.operation,"
        " attempts = excluded.attempts",
        *columns, number,
    )  # fmt: skip
    conversation = "NULL"
    if in_order:
        conversation = "(SELECT e.organisation || '/' || e.conversation_id FROM events e WHERE e.seq = k.seq)"
    await connection.execute(
        "UPDATE parked k SET state = 'retrying', attempts = 0, next_at = 0, conversation ="
        f" {conversation} {_OF_LETTERS}",
        *columns,
    )
    if in_order:
        await connection.execute(
            f"UPDATE parked k SET state = 'waiting' {_OF_LETTERS} AND ({_BEFORE})",
            *columns,
        )


def _columns(letters: list[Letter]) -> tuple[list[str], list[int]]:
    return [letter.plugin for letter in letters], [letter.seq for letter in letters]


async def retried(connection: DatabaseConnection, number: int) -> dict[str, list[int]]:
    """See `Operator.retried`."""
    seqs: dict[str, list[int]] = {}
    for row in await connection.fetch("SELECT plugin, seq FROM retried WHERE operation = $1 ORDER BY seq", number):
        seqs.setdefault(row["plugin"], []).append(row["seq"])
    return seqs


async def take_back(
    connection: DatabaseConnection, track: Track, number: int, seqs: Collection[int], node: UUID
) -> None:
    """See `Operator.take_back`; in one transaction. Events of a cursor that a gateway owns are left to it: this one
    takes those of the track back, and those that no gateway delivers."""
    await connection.execute("SELECT FROM operations WHERE number = $1 FOR UPDATE", number)
    gone = await connection.fetch(
        "DELETE FROM retried t WHERE t.plugin = $1 AND t.seq = ANY($2) AND t.operation = $3 AND NOT EXISTS ("
        "SELECT 1 FROM events e JOIN plugins p ON p.plugin = t.plugin JOIN cursors c ON c.plugin = t.plugin"
        " AND c.shard = e.bucket % p.shards WHERE e.seq = t.seq AND c.lease_until > clock_timestamp()"
        " AND NOT (c.owner = $4 AND c.shard = $5)) RETURNING t.seq, t.attempts",
        track.plugin, seqs, number, node, track.shard,
    )  # fmt: skip
    back = await connection.fetch(
        f"UPDATE parked k SET state = '{DEAD}', next_at = 0, attempts = l.attempts"
        " FROM unnest($2::bigint[], $3::int[]) AS l(seq, attempts)"
        f" WHERE k.plugin = $1 AND k.seq = l.seq AND k.{_LIVE} RETURNING k.seq",
        track.plugin, [row["seq"] for row in gone], [row["attempts"] for row in gone],
    )  # fmt: skip
    await connection.execute("UPDATE operations SET done = done - $2 WHERE number = $1", number, len(back))
