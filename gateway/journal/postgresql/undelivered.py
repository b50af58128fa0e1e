"""How old the oldest event is that a plugin has not taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.journal.postgresql.queries import HAD, HAD_HOOK

if TYPE_CHECKING:
    from gateway.journal.postgresql.connection import DatabaseConnection

AHEAD: Final = 1000
"""Events past a cursor that are looked at."""


async def oldest_undelivered(connection: DatabaseConnection) -> dict[str, float]:
    """See `Operator.oldest_undelivered`. Past a cursor only the next `AHEAD` events are looked at."""
    parked = "SELECT min(k.seq) FROM parked k WHERE k.plugin = p.plugin AND k.state = '{}'"
    ahead = (
        "SELECT seq, received_at, organisation, hook, readable, name, bucket FROM events WHERE seq > c.seq"
        f" ORDER BY seq LIMIT {AHEAD}"
    )
    first = (
        f"SELECT min(events.received_at) FROM cursors c CROSS JOIN LATERAL ({ahead}) AS events"
        " WHERE c.plugin = p.plugin AND c.shard = events.bucket % p.shards"
        f" AND {HAD} < events.seq AND {HAD_HOOK}"
    )
    rows = await connection.fetch(
        "SELECT p.plugin, least((SELECT min(e.received_at) FROM events e WHERE e.seq IN"
        f" (({parked.format('retrying')}), ({parked.format('waiting')}))), ({first})) AS oldest"
        " FROM plugins p WHERE p.removed_at IS NULL"
    )
    return {row["plugin"]: row["oldest"].timestamp() for row in rows if row["oldest"] is not None}
