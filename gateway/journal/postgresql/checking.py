"""What `gateway check` says of the database, without changing anything."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from gateway.journal.agreement import disagreements
from gateway.journal.interface import JournalError
from gateway.journal.postgresql.connection import connect
from gateway.journal.postgresql.durability import faults, identity_fault, system_identifier
from gateway.journal.postgresql.failures import translated
from gateway.journal.postgresql.layout import LAYOUT, marker_of
from gateway.journal.postgresql.peers import live_peers
from gateway.journal.search import DatabaseFindings

if TYPE_CHECKING:
    from gateway.config.tables import Config

_RIGHTS: Final = """
SELECT current_schema() AS schema, current_user AS name,
    has_schema_privilege(current_schema(), 'CREATE') AS makes
"""


def check(config: Config) -> DatabaseFindings:
    """See `gateway.journal.check_database`."""
    try:
        return asyncio.run(_check(config))
    except JournalError as error:
        return DatabaseFindings(errors=[str(error)])


async def _check(config: Config) -> DatabaseFindings:
    connection = await connect(config, "check")
    found = DatabaseFindings()
    try:
        with translated():
            found.errors += await faults(connection, config)
            marker = await marker_of(connection)
            if marker is None:
                row: Any = await connection.fetchrow(_RIGHTS)
                if not row["makes"]:
                    found.errors.append(
                        f"the user {row['name']} may not make tables in the schema {row['schema']}: GRANT CREATE ON"
                        f" SCHEMA {row['schema']} TO {row['name']}, until the first start has made them"
                    )
                return found
            if marker.layout < LAYOUT:
                found.warnings.append(
                    f"the journal is of layout {marker.layout}; `gateway run` brings it to layout {LAYOUT}"
                )
            found.warnings += [one.sentence for one in disagreements(await live_peers(connection))]
            identifier = await system_identifier(connection)
            if (fault := identity_fault(marker, identifier)) is not None:
                found.errors.append(fault)
            if identifier is None:
                found.warnings.append(
                    "this user may not see whether the database is still the same (system_identifier): GRANT EXECUTE ON"
                    " FUNCTION pg_control_system()"
                )
    finally:
        connection.terminate()
    return found
