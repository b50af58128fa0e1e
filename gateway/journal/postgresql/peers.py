"""The gateways that run on a journal, by their rows."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec

from gateway.config.tables import Config
from gateway.journal.agreement import Peer
from gateway.journal.nodes import Node, Owned
from gateway.journal.postgresql.leases import DEFAULT_TIMES
from gateway.journal.postgresql.reading import Reading

if TYPE_CHECKING:
    from gateway.journal.postgresql.connection import DatabaseConnection

_LIVE: Final = (
    "SELECT id, name, version, layout, started_at, beat_at, about,"
    " greatest(0, extract(epoch FROM clock_timestamp() - beat_at))::float8 AS age FROM nodes"
    " WHERE stopped_at IS NULL AND beat_at > clock_timestamp() - $1 * interval '1 second'"
    " AND beat_at <= clock_timestamp() + $1 * interval '1 second' ORDER BY started_at, id"
)
"""A beat far ahead of the clock was made by that of a former primary, and the gateway has not beaten since."""
_OWNED: Final = (
    "SELECT c.owner, c.plugin, c.shard, p.shards, greatest(0, h.seq - c.seq) AS behind"
    " FROM cursors c JOIN plugins p USING (plugin) CROSS JOIN head h"
    " WHERE c.owner IS NOT NULL AND c.lease_until > clock_timestamp() ORDER BY c.plugin, c.shard"
)


async def live_peers(connection: DatabaseConnection, lasts: float = DEFAULT_TIMES.lasts) -> list[Peer]:
    """Those whose last beat is at most `lasts` seconds ago, the one that runs longest first."""
    rows = await connection.fetch(_LIVE, lasts)
    return [
        Peer(
            identity=row["id"],
            name=row["name"],
            version=row["version"],
            layout=row["layout"],
            started_at=row["started_at"],
            beat_at=row["beat_at"],
            about=msgspec.json.decode(row["about"]),
            age=row["age"],
        )
        for row in rows
    ]


def list_nodes(config: Config) -> list[Node]:
    """See `gateway.journal.journal_nodes`."""
    with closing(Reading(config, "nodes")) as reading:
        peers = reading.run(live_peers(reading.connection))
        owned: dict[UUID, list[Owned]] = {}
        for row in reading.rows(_OWNED):
            one = Owned(plugin=row["plugin"], shard=row["shard"], shards=row["shards"], behind=row["behind"])
            owned.setdefault(row["owner"], []).append(one)
    return [
        Node(
            name=peer.name,
            version=peer.version,
            started_at=peer.started_at,
            seen_at=peer.beat_at,
            owns=owned.get(peer.identity, []),
            layout=peer.layout,
        )
        for peer in peers
    ]
