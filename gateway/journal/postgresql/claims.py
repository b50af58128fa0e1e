"""Which gateway carries an operation out: the one whose claim on it lasts, by the database's clock. A gateway prolongs
its claims; those of one that has died are over after `CLAIM` seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from uuid import UUID

    from gateway.journal.postgresql.connection import DatabaseConnection

OPERATIONS: Final = "operations"
"""What is notified where operators have changed something."""
CLAIM: Final = 10.0
"""Seconds that an operation stays with a gateway which does not prolong its claim."""


async def claim(connection: DatabaseConnection, number: int, node: UUID) -> bool:
    """See `Operator.claim`."""
    claimed = await connection.fetchval(
        "UPDATE operations SET runner = $2, runner_until = clock_timestamp() + $3 * interval '1 second'"
        " WHERE number = $1 AND (runner IS NULL OR runner = $2 OR runner_until < clock_timestamp()) RETURNING number",
        number, node, CLAIM,
    )  # fmt: skip
    return claimed is not None


async def keep_claims(connection: DatabaseConnection, node: UUID) -> bool:
    """Prolong the claims of a gateway; returns whether there are operations that no other gateway has claimed, or
    cancelled ones that are to have events back."""
    await connection.execute(
        "UPDATE operations SET runner_until = clock_timestamp() + $2 * interval '1 second'"
        " WHERE runner = $1 AND state = 'running'",
        node, CLAIM,
    )  # fmt: skip
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT 1 FROM operations o WHERE (o.state = 'running' AND o.kind <> 'replay' AND"
            " (o.runner IS NULL OR o.runner = $1 OR o.runner_until < clock_timestamp()))"
            " OR (o.state = 'cancelled' AND EXISTS (SELECT 1 FROM retried t WHERE t.operation = o.number)))",
            node,
        )
    )


async def give_up_claims(connection: DatabaseConnection, node: UUID) -> None:
    """A gateway stops: others go on with its operations at once."""
    sql = "UPDATE operations SET runner = NULL WHERE runner = $1 AND state = 'running'"
    if await connection.execute(sql, node) != "UPDATE 0":
        await tell_gateways(connection)


async def tell_gateways(connection: DatabaseConnection) -> None:
    """Have all gateways look at operations, replays and retried events once this transaction is committed."""
    channel = "'gateway_' || replace(journal::text, '-', '')"
    await connection.execute(f"SELECT pg_notify({channel}, '{OPERATIONS}') FROM gateway_journal")
