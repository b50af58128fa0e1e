"""An erasure asks the plugins of all gateways, since each may keep files of its own. The gateway that carries it out
writes a row for each that runs; the others ask their plugins and write the answers there. Its own row stays without an
answer, and tells the next one that it has died, if it has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from gateway.journal.operator import PluginAnswers
from gateway.journal.postgresql.claims import tell_gateways
from gateway.journal.postgresql.leases import DEFAULT_TIMES

if TYPE_CHECKING:
    from uuid import UUID

    from gateway.journal.postgresql.connection import DatabaseConnection

_RUNS: Final = "n.stopped_at IS NULL AND n.beat_at > clock_timestamp() - $2 * interval '1 second'"


async def share(connection: DatabaseConnection, number: int) -> None:
    """See `Operator.share_erasure`."""
    await connection.execute(
        f"INSERT INTO erasures (operation, node, node_name) SELECT $1, n.id, n.name FROM nodes n WHERE {_RUNS}"
        " ON CONFLICT DO NOTHING",
        number, DEFAULT_TIMES.lasts,
    )  # fmt: skip
    await tell_gateways(connection)


async def numbers(connection: DatabaseConnection, node: UUID) -> list[int]:
    """The erasures in which this gateway's plugins have still to be asked for another one."""
    rows = await connection.fetch(
        "SELECT e.operation FROM erasures e JOIN operations o ON o.number = e.operation WHERE e.node = $1"
        " AND e.told IS NULL AND o.state = 'running' AND o.runner IS DISTINCT FROM $1 ORDER BY 1",
        node,
    )
    return [row["operation"] for row in rows]


async def answer(connection: DatabaseConnection, number: int, node: UUID, answers: PluginAnswers) -> None:
    """See `Operator.answer_erasure`."""
    await connection.execute(
        "UPDATE erasures SET told = $3 WHERE operation = $1 AND node = $2",
        number, node, msgspec.json.encode(answers).decode(),
    )  # fmt: skip


async def answers(connection: DatabaseConnection, number: int, node: UUID) -> dict[str, PluginAnswers | None] | None:
    """See `Operator.answers_of_others`."""
    rows = await connection.fetch(
        f"SELECT e.node_name, e.told, EXISTS (SELECT 1 FROM nodes n WHERE n.id = e.node AND {_RUNS}) AS runs"
        " FROM erasures e WHERE e.operation = $1 AND NOT (e.node = $3 AND e.told IS NULL) ORDER BY e.node_name",
        number, DEFAULT_TIMES.lasts, node,
    )  # fmt: skip
    if any(row["told"] is None and row["runs"] for row in rows):
        return None
    told = {row["node_name"]: row["told"] for row in rows}
    return {name: text and msgspec.json.decode(text, type=PluginAnswers) for name, text in told.items()}
