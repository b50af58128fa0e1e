"""What is kept under a name, and the value that shows that the journal can be written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.journal.postgresql.columns import storable

if TYPE_CHECKING:
    from gateway.journal.postgresql.connection import DatabaseConnection


async def probe(connection: DatabaseConnection, value: float) -> float:
    """Write a value and read it back."""
    await _keep(connection, "probe", repr(value))
    return float(await connection.fetchval("SELECT value FROM notes WHERE name = 'probe'"))


async def note(connection: DatabaseConnection, name: str) -> str | None:
    """See `Operator.note`."""
    text: str | None = await connection.fetchval("SELECT value FROM notes WHERE name = $1", storable(f"note {name}"))
    return text


async def keep_note(connection: DatabaseConnection, name: str, text: str) -> None:
    """See `Operator.keep_note`."""
    await _keep(connection, storable(f"note {name}"), storable(text))


async def _keep(connection: DatabaseConnection, name: str, value: str) -> None:
    await connection.execute(
        "INSERT INTO notes (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        name, value,
    )  # fmt: skip
